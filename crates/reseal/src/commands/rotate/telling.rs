//! The notices of a rotation: before it, after it, when it failed, and that it is an emergency.
//!
//! What programs and servers said stays on this machine: a log line may hold the value of any other secret.

use reseal_rotate::notices::Notice;
use reseal_rotate::plan::{Occasion, Plan};
use reseal_rotate::rotation::{Ended, Rotation};

use super::report;
use crate::failure::Failure;
use crate::when;

/// A rotation is about to begin.
pub(super) fn before(plan: &Plan, name: &str, reason: Option<&str>) -> Notice {
    let mut lines = about(plan, name);
    lines.extend(reason.map(|reason| format!("Reason: {reason}")));
    notice(Occasion::Before, name, format!("{name}: a rotation begins"), lines)
}

/// A value is in other hands, and is about to end.
pub(super) fn incident(plan: &Plan, name: &str, reason: Option<&str>) -> Notice {
    let mut lines = about(plan, name);
    lines.extend(reason.map(|reason| format!("Reason: {reason}")));
    lines.push("A new value goes everywhere, and the old one ends at once.".to_owned());
    notice(Occasion::Incident, name, format!("EMERGENCY: {name} has to change now"), lines)
}

/// A sync has come to an end of its own; nobody is told of one that did what it was for.
fn synced(plan: &Plan, rotation: &Rotation, ended: &Ended) -> Option<Notice> {
    let (name, version) = (&rotation.name, rotation.to);
    let (heading, stands, why) = match ended {
        Ended::RolledBack { why: Some(why), .. } => (
            format!("{name}: the sync failed and was taken back"),
            "Everything is as it was found.".to_owned(),
            why,
        ),
        Ended::NeedsAttention { why } => (
            format!("{name}: the sync needs attention"),
            format!("Version {version} is in some places only."),
            why,
        ),
        _ => return None,
    };
    let mut lines = vec![stands, failed_at(rotation, why), IN_FULL.to_owned()];
    lines.extend(about(plan, name));
    lines.extend(rotation.reason.iter().map(|reason| format!("Reason: {reason}")));
    Some(notice(Occasion::Failed, name, heading, lines))
}

/// A rotation, its end or its way back has come to an end of its own; or a sync has.
pub(super) fn ended(plan: &Plan, rotation: &Rotation, ended: &Ended) -> Option<Notice> {
    if rotation.is_sync {
        return synced(plan, rotation, ended);
    }
    let Rotation { name, from, to, .. } = rotation;
    let (occasion, heading, mut lines) = match ended {
        Ended::Done => (
            Occasion::After,
            format!("{name}: rotated"),
            vec![format!("Version {to} is in use everywhere, and version {from} nowhere.")],
        ),
        Ended::Overlap { until } => (
            Occasion::After,
            format!("{name}: rotated"),
            vec![format!(
                "Version {to} is in use everywhere; version {from} works until it is retired, due {}.",
                when::show(*until)
            )],
        ),
        Ended::RolledBack { why: None, .. } => (
            Occasion::After,
            format!("{name}: taken back"),
            vec![format!("Everything is as it was with version {from}.")],
        ),
        Ended::RolledBack { why: Some(why), .. } => (
            Occasion::Failed,
            format!("{name}: the rotation failed and was taken back"),
            vec!["Everything is as it was.".to_owned(), failed_at(rotation, why), IN_FULL.to_owned()],
        ),
        Ended::Refused { why } => (
            Occasion::Failed,
            format!("{name}: the old value cannot end yet"),
            vec![
                format!("Version {from} and version {to} both work."),
                failed_at(rotation, why),
                IN_FULL.to_owned(),
            ],
        ),
        Ended::NeedsAttention { why } => (
            Occasion::Failed,
            format!("{name}: the rotation needs attention"),
            vec![
                format!("It stands between version {from} and version {to}."),
                failed_at(rotation, why),
                IN_FULL.to_owned(),
                format!("When that is mended: reseal rotate resume {name}, or reseal rotate rollback {name}"),
            ],
        ),
    };
    if matches!(ended, Ended::RolledBack { .. }) {
        lines.extend(report::stays(rotation));
    }
    lines.extend(about(plan, name));
    lines.extend(rotation.reason.iter().map(|reason| format!("Reason: {reason}")));
    Some(notice(occasion, name, heading, lines))
}

/// A rotation did not come to an end of its own, or did not begin.
pub(super) fn failed(plan: &Plan, name: &str, failure: &Failure) -> Notice {
    let mut lines = failure.own_words();
    lines.push(IN_FULL.to_owned());
    lines.extend(about(plan, name));
    notice(Occasion::Failed, name, format!("{name}: the rotation failed"), lines)
}

/// A value was seen where it should not be.
pub(super) fn owed(plan: &Plan, name: &str, reason: &str) -> Notice {
    let mut lines = vec![format!("Reason: {reason}"), format!("Next: reseal rotate {name}")];
    lines.extend(about(plan, name));
    notice(Occasion::Owed, name, format!("{name}: has to change at once"), lines)
}

/// Where to read on.
const IN_FULL: &str = "In full: `reseal status` and `reseal audit log` on the machine of the vault.";

/// The step that failed, without what anyone said about it.
fn failed_at(rotation: &Rotation, why: &str) -> String {
    let steps = rotation.steps.iter().map(|step| step.action.to_string());
    match steps.filter(|step| why.contains(step.as_str())).max_by_key(String::len) {
        Some(step) => format!("Failed at: {step}"),
        None => "A step failed.".to_owned(),
    }
}

/// What the plan says about a secret.
fn about(plan: &Plan, name: &str) -> Vec<String> {
    let Ok(secret) = plan.secret(name) else { return Vec::new() };
    let said = [
        ("Purpose", secret.purpose),
        ("Impact", secret.impact),
        ("Risk", secret.risk),
        ("Owner", secret.owner),
    ];
    said.into_iter().filter_map(|(what, words)| Some(format!("{what}: {}", words?))).collect()
}

fn notice(occasion: Occasion, name: &str, heading: String, lines: Vec<String>) -> Notice {
    Notice { occasion, secrets: vec![name.to_owned()], heading, lines }
}
