//! `backup`: copies of the vault itself.

use std::path::Path;

use reseal_vault::{BackupReport, LockedVault, RestoreOptions, restore};
use serde_json::{Value, json};

use crate::app::App;
use crate::args::BackupCommand;
use crate::exit::Exit;
use crate::failure::Outcome;
use crate::open::make_parent;
use crate::units;

/// `backup`: makes, verifies or restores a copy.
///
/// # Errors
///
/// Neither vault nor backup opens, or a record of them does not.
pub(crate) fn run(app: &App, command: &BackupCommand) -> Outcome {
    match command {
        BackupCommand::Create { to } => create(app, to),
        BackupCommand::Verify { file } => verify(app, file),
        BackupCommand::Restore { from, accept_older } => put_back(app, from, *accept_older),
    }
}

fn create(app: &App, to: &Path) -> Outcome {
    let report = app.vault()?.backup_create(to)?;
    app.ui.result(report_object(&report), || {
        format!("{} written, all {} records of it open", report.path.display(), units::count(report.records))
    })?;
    Ok(Exit::Done)
}

fn verify(app: &App, file: &Path) -> Outcome {
    let locked = LockedVault::find_backup(file, app.open_options()?)?;
    let key = app.key_of(&locked, file)?;
    let report = locked.verify(&key)?;
    app.ui.result(report_object(&report), || {
        format!(
            "{}: all {} records open, audit log up to entry {}",
            report.path.display(),
            units::count(report.records),
            report.anchor.index
        )
    })?;
    Ok(Exit::Done)
}

fn put_back(app: &App, from: &Path, accept_older: bool) -> Outcome {
    let to = app.vault_path()?;
    make_parent(&to)?;
    let options = app.open_options()?;
    let locked = LockedVault::find_backup(from, options.clone())?;
    let id = locked.id();
    let opener = app.opener_for(&locked, from)?;
    if to.exists() {
        app.asker().confirm(&format!("replace {} by {}?", to.display(), from.display()))?;
    }
    app.end_agent_or_warn(id);
    let restored =
        restore(from, &to, &opener, options, RestoreOptions { accept_older, ..RestoreOptions::default() })?;
    let kept = restored.kept.as_ref().map(|path| path.display().to_string());
    let object = json!({ "vault": to, "restored_from_entry": restored.from.index, "kept": kept });
    app.ui.result(object, || {
        let kept = kept.map(|path| format!("\nwhat it replaced is kept as {path}")).unwrap_or_default();
        format!("{} restored, audit log up to entry {}{kept}", to.display(), restored.from.index)
    })?;
    Ok(Exit::Done)
}

fn report_object(report: &BackupReport) -> Value {
    json!({
        "backup": report.path,
        "records": report.records,
        "audit_entry": report.anchor.index,
        "verified": true,
    })
}
