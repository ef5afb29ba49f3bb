//! What becomes of secrets and versions, in the vault alone: `revert`, `discard`, `delete`, `undelete`, `destroy`.

use reseal_vault::{Label, SecretKind, SecretName, Vault, VersionInfo, VersionSelector, VersionState};
use serde_json::json;

use crate::app::App;
use crate::args::{DeleteArgs, DestroyArgs, ReasonArgs, RevertArgs};
use crate::exit::Exit;
use crate::failure::{Failure, Outcome};
use crate::managed::{guard_left, guard_run};

/// `revert`: an old version, copied forward.
///
/// # Errors
///
/// There is no such version, the plan manages the secret, or the vault does not open.
pub(crate) fn revert(app: &App, args: &RevertArgs) -> Outcome {
    let name: SecretName = args.name.parse()?;
    let mut vault = app.vault()?;
    app.guard_managed(&mut vault, &name, args.vault_only)?;
    let number = vault.revert(&name, args.to)?;
    app.ui.result(json!({ "name": name.as_str(), "version": number, "copied_from": args.to }), || {
        format!("{name} is version {number}, a copy of version {}", args.to)
    })?;
    Ok(Exit::Done)
}

/// `discard`: the pending version waits no longer.
///
/// # Errors
///
/// Nothing is pending, an unfinished run needs it, or the vault does not open.
pub(crate) fn discard(app: &App, args: &ReasonArgs) -> Outcome {
    let (name, mut vault) = opened(app, args)?;
    if let Some(pending) = vault.show(&name)?.labels.pending {
        guard_run(&mut vault, &name, pending)?;
    }
    let number = vault.discard_pending(&name)?;
    app.ui.result(json!({ "name": name.as_str(), "version": number, "label": null }), || {
        format!("{name} version {number} is no longer pending; it stays in the history")
    })?;
    Ok(Exit::Done)
}

/// `delete`: a secret out of sight; nothing is lost.
///
/// # Errors
///
/// There is no such secret, the plan manages it, an unfinished run needs it, or the vault does not open.
pub(crate) fn delete(app: &App, args: &DeleteArgs) -> Outcome {
    let (name, mut vault) = opened(app, &args.secret)?;
    app.guard_managed(&mut vault, &name, args.vault_only)?;
    let labels = vault.show(&name)?.labels;
    for version in Label::ALL.into_iter().filter_map(|label| labels.get(label)) {
        guard_run(&mut vault, &name, version)?;
    }
    vault.delete(&name)?;
    app.ui.result(json!({ "name": name.as_str(), "deleted": true }), || {
        format!("{name} is deleted; `reseal undelete {name}` brings it back")
    })?;
    Ok(Exit::Done)
}

/// `undelete`: a deleted secret as it was.
///
/// # Errors
///
/// There is no such secret, it is not deleted, or the vault does not open.
pub(crate) fn undelete(app: &App, args: &ReasonArgs) -> Outcome {
    let (name, mut vault) = opened(app, args)?;
    vault.undelete(&name)?;
    app.ui.result(json!({ "name": name.as_str(), "deleted": false }), || format!("{name} is back"))?;
    Ok(Exit::Done)
}

/// `destroy`: a value gone for good.
///
/// # Errors
///
/// There is no such version, it is in use, it is a column key and nothing is said to show that nobody needs it, it is
/// not confirmed, or the vault does not open.
pub(crate) fn destroy(app: &App, args: &DestroyArgs) -> Outcome {
    let (name, mut vault) = opened(app, &args.secret)?;
    let version = vault.version(&name, VersionSelector::Number(args.version))?;
    check_unused(&mut vault, &name, &version)?;
    guard_left(app, &mut vault, &name, args.version)?;
    let reason = args.secret.reason.as_deref();
    let is_column_key = version.kind == SecretKind::Key
        || app.managed(&vault, &name)?.is_some_and(|managed| managed.is_column_key());
    if is_column_key && reason.is_none() {
        return Err(Failure::new(Exit::Refused, format!("`{name}` version {} is a column key", args.version))
            .because(["values in backups, replicas and archives of the database may still be under it".to_owned()])
            .hint("say with --reason what shows that none of them is needed any more, such as the sweep and the oldest backup"));
    }
    app.asker().confirm(&format!("destroy {name} version {} for good?", args.version))?;
    // A key seals nothing any more before it goes; should the process end in between, it still opens.
    if version.kind == SecretKind::Key && version.state == VersionState::Live {
        vault.retire(&name, args.version)?;
    }
    vault.destroy(&name, args.version, reason)?;
    let object = json!({ "name": name.as_str(), "version": args.version, "state": "destroyed" });
    app.ui.result(object, || {
        format!("{name} version {} is destroyed; older backups of the vault still hold it", args.version)
    })?;
    Ok(Exit::Done)
}

/// Refuses what the vault would refuse, before anyone is asked.
fn check_unused(vault: &mut Vault, name: &SecretName, version: &VersionInfo) -> Outcome<()> {
    let VersionInfo { number, state, .. } = *version;
    if state == VersionState::Destroyed {
        return Err(Failure::new(Exit::Refused, format!("`{name}` version {number} is destroyed already")));
    }
    guard_run(vault, name, number)?;
    let is_deleted = vault.show(name)?.deleted_at.is_some();
    let in_use = version.labels.iter().find(|label| **label != Label::Previous);
    match in_use {
        Some(label) if !is_deleted => {
            let hint = match label {
                Label::Pending => format!("`reseal discard {name}` first"),
                _ => format!("store another value first, or `reseal delete {name}`"),
            };
            Err(Failure::new(Exit::Refused, format!("`{name}` version {number} is {label}")).hint(hint))
        }
        _ => Ok(()),
    }
}

/// The vault, told why.
fn opened(app: &App, args: &ReasonArgs) -> Outcome<(SecretName, Vault)> {
    let name: SecretName = args.name.parse()?;
    let mut vault = app.vault()?;
    vault.set_reason(args.reason.clone());
    Ok((name, vault))
}
