//! `audit`: the log, and its proof.

use reseal_vault::{AuditorKey, LogEntry, Outcome as Happened};
use serde_json::{Value, json};

use crate::app::App;
use crate::args::{AuditCommand, AuditLogArgs};
use crate::exit::Exit;
use crate::failure::{Failure, Outcome};
use crate::input;
use crate::ui::Table;
use crate::{units, when};

/// `audit`: prints or proves the log.
///
/// # Errors
///
/// The vault does not open, or the log is not what was written.
pub(crate) fn run(app: &App, command: &AuditCommand) -> Outcome {
    match command {
        AuditCommand::Log(args) => log(app, args),
        AuditCommand::Verify { auditor_key } => verify(app, auditor_key.as_deref()),
    }
}

fn log(app: &App, args: &AuditLogArgs) -> Outcome {
    let since = args.since.as_deref().map(when::parse_or_ago).transpose()?;
    let until = args.until.as_deref().map(when::parse_or_ago).transpose()?;
    let entries = app.vault()?.audit_log(since, until)?;
    app.ui.result(json!({ "entries": entries.iter().map(entry_object).collect::<Vec<_>>() }), || {
        let mut table = Table::new(&["#", "when", "who", "what", "about", "result"]);
        for entry in &entries {
            table.row([
                entry.number.to_string(),
                when::show(entry.stamp.time),
                who(entry),
                entry.event.action.clone(),
                about(entry),
                result(entry),
            ]);
        }
        table.to_string()
    })?;
    Ok(Exit::Done)
}

fn verify(app: &App, auditor_key: Option<&std::path::Path>) -> Outcome {
    let auditor = auditor_key.map(read_auditor_key).transpose()?;
    let report = app.vault()?.audit_verify(auditor.as_ref())?;
    let object = json!({
        "verified": true,
        "entries": report.entries,
        "records": report.records,
        "macs_verified": report.macs_verified,
        "anchors": report.anchors,
    });
    app.ui.result(object, || {
        let macs =
            if report.macs_verified { "every MAC computed again" } else { "MACs need the auditor's key" };
        format!(
            "{} entries without gaps, {macs}\n{} records, all of them open\n{} anchors found in the log",
            units::count(report.entries),
            units::count(report.records),
            report.anchors,
        )
    })?;
    Ok(Exit::Done)
}

fn read_auditor_key(path: &std::path::Path) -> Outcome<AuditorKey> {
    let bytes = input::read_file(path)?;
    // EXPOSE: decoded into a type that wipes itself.
    let text = bytes.expose();
    AuditorKey::from_text(text.strip_suffix(b"\n").unwrap_or(text))
        .ok_or_else(|| Failure::new(Exit::Usage, format!("{} holds no auditor's key", path.display())))
}

fn who(entry: &LogEntry) -> String {
    let stamp = &entry.stamp;
    let sudo = stamp.sudo_user.as_ref().map(|user| format!(" (sudo by {user})")).unwrap_or_default();
    format!("{}{sudo}, slot {}", stamp.user, stamp.slot)
}

fn about(entry: &LogEntry) -> String {
    let event = &entry.event;
    let version = event.version.map(|number| format!(" version {number}")).unwrap_or_default();
    let run = event.run.as_ref().map(|run| format!(" run {run}")).unwrap_or_default();
    format!("{}{version}{run}", event.object.as_deref().unwrap_or_default()).trim_start().to_owned()
}

fn result(entry: &LogEntry) -> String {
    let outcome = outcome_name(entry);
    let said = [entry.event.detail.as_deref(), entry.stamp.reason.as_deref()];
    said.into_iter().flatten().fold(outcome.to_owned(), |words, more| format!("{words}: {more}"))
}

fn outcome_name(entry: &LogEntry) -> &'static str {
    match entry.event.outcome {
        Happened::Intent => "intent",
        Happened::Done => "done",
        Happened::Failed => "failed",
        _ => "other",
    }
}

fn entry_object(entry: &LogEntry) -> Value {
    json!({
        "number": entry.number,
        "time": when::show(entry.stamp.time),
        "user": entry.stamp.user,
        "sudo_user": entry.stamp.sudo_user,
        "slot": entry.stamp.slot,
        "reason": entry.stamp.reason,
        "action": entry.event.action,
        "object": entry.event.object,
        "version": entry.event.version,
        "outcome": outcome_name(entry),
        "run": entry.event.run,
        "detail": entry.event.detail,
    })
}
