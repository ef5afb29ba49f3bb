//! What is told of rotations.

use std::time::Duration;

use reseal_rotate::plan::Interval;
use reseal_rotate::rotation::{Action, Ended, Owed, Proposal, Rotation, Step, Sync};
use reseal_rotate::schedule::KeptOutput;
use reseal_vault::Timestamp;
use serde_json::{Value, json};

use crate::commands::status;
use crate::ui::Table;
use crate::when;

/// A rotation that would be possible, for programs.
pub(super) fn proposal_object(proposal: &Proposal, kept: &[&KeptOutput]) -> Value {
    json!({
        "name": proposal.name(),
        "secret": proposal.secret().as_str(),
        "from": proposal.from(),
        "overlap_seconds": proposal.overlap(),
        "needs_key_copy": proposal.needs_key_copy(),
        "steps": proposal.steps().iter().map(step_object).collect::<Vec<_>>(),
        "snapshots": kept.iter().map(|kept| status::kept_object(kept)).collect::<Vec<_>>(),
    })
}

/// A rotation that would be possible, for people.
pub(super) fn proposal_words(proposal: &Proposal, kept: &[&KeptOutput]) -> String {
    let mut words = format!("{}: version {} can be rotated\n", proposal.name(), proposal.from());
    proposal.steps().iter().for_each(|step| words.push_str(&step_words(step)));
    if proposal.needs_key_copy() {
        words.push_str("  the new key has to exist twice first: --backup FILE, or --no-backup REASON\n");
    }
    if proposal.overlap() > 0 {
        let span = span(Duration::from_secs(proposal.overlap()));
        words.push_str(&format!("  the old value works for another {span}\n"));
    }
    kept.iter().for_each(|kept| words.push_str(&format!("  {}\n", status::kept_words(kept))));
    words
}

/// A rotation, for programs.
pub(super) fn rotation_object(rotation: &Rotation) -> Value {
    json!({
        "name": rotation.name,
        "secret": rotation.secret,
        "number": rotation.number,
        "from": rotation.from,
        "to": rotation.to,
        "state": rotation.state.name(),
        "attention": rotation.attention,
        "failure": rotation.failure,
        "reason": rotation.reason,
        "emergency": rotation.emergency,
        "is_sync": rotation.is_sync,
        "together": rotation.together(),
        "begun_at": when::show(rotation.begun_at),
        "finished_at": rotation.finished_at.map(when::show),
        "ended_at": rotation.ended_at.map(when::show),
        "overlap_ends_at": rotation.retire_due().map(when::show),
        "steps": rotation.steps.iter().map(step_object).collect::<Vec<_>>(),
    })
}

/// How a rotation stands at the end of a command, for people.
pub(super) fn ended_words(rotation: &Rotation, ended: &Ended) -> String {
    let Rotation { name, from, to, .. } = rotation;
    if rotation.is_sync {
        return sync_words(name, *to, ended);
    }
    match ended {
        Ended::Done => format!("{name}: version {to} is in use everywhere, and version {from} nowhere"),
        Ended::Overlap { until } => format!(
            "{name}: version {to} is in use everywhere; version {from} works until it is retired, due {}",
            when::show(*until)
        ),
        Ended::RolledBack { why, .. } => {
            let mut words = match why {
                None => format!("{name}: taken back; everything is as it was with version {from}"),
                Some(why) => format!("{name}: failed and taken back; everything is as it was\n  {why}"),
            };
            stays(rotation).iter().for_each(|stays| words.push_str(&format!("\n  {stays}")));
            words
        }
        Ended::Refused { why } => format!("{name}: version {from} cannot end yet; both values work\n  {why}"),
        Ended::NeedsAttention { why } => format!(
            "{name}: needs attention, between version {from} and version {to}\n  {why}\n  \
             when that is mended: `reseal rotate resume {name}`, or `reseal rotate rollback {name}`\n  {}",
            last_way(name)
        ),
    }
}

/// What a rotation that was given up leaves to do; `current` is the version that the vault gives out from here on.
pub(super) fn abandoned_words(rotation: &Rotation, current: Option<u64>) -> String {
    let Rotation { name, secret, from, to, .. } = rotation;
    let mut words = match rotation.is_sync {
        true => format!("{name}: abandoned; version {to} is in some places only"),
        false => format!("{name}: abandoned between version {from} and version {to}"),
    };
    if let Some(current) = current {
        words.push_str(&format!("; version {current} is the current one"));
    }
    words.push_str(&format!(
        "\n  next: `reseal check {name}` says what stands where. If another value than the current one is in use, \
         `reseal revert {secret} --to VERSION --vault-only`, or `reseal put {secret} --vault-only`; then `reseal sync {name}`"
    ));
    let may_let_both_in = |step: &Step| step.is_begun() && matches!(step.action, Action::AddLogin(_));
    if rotation.steps.iter().any(may_let_both_in) {
        words.push_str(
            "\n  its server may let both values in: the next rotation ends the other one together with its own old value",
        );
    }
    words
}

/// The way out where neither forward nor back works.
fn last_way(name: &str) -> String {
    format!("if it cannot be mended: `reseal rotate abandon {name} --reason WHY`")
}

/// What was not taken back with the rest.
pub(super) fn stays(rotation: &Rotation) -> Vec<String> {
    let stays = rotation.steps.iter().filter(|step| step.no_return && step.is_begun());
    stays.map(|step| format!("not taken back: {}", step.action)).collect()
}

/// What is asked before these are taken back.
pub(super) fn rollback_question(meant: &[Rotation]) -> String {
    let names: Vec<_> = meant.iter().map(|rotation| rotation.name.as_str()).collect();
    let stays: String = meant.iter().flat_map(stays).map(|stays| format!("{stays}\n")).collect();
    format!("{stays}Take the last rotation of {} back?", names.join(", "))
}

fn sync_words(name: &str, version: u64, ended: &Ended) -> String {
    match ended {
        Ended::Done | Ended::Overlap { .. } => {
            format!("{name}: version {version} is where the plan wants it")
        }
        Ended::RolledBack { why: None, .. } => format!("{name}: taken back; everything is as it was found"),
        Ended::RolledBack { why: Some(why), .. } | Ended::Refused { why } => {
            format!("{name}: failed and taken back; everything is as it was found\n  {why}")
        }
        Ended::NeedsAttention { why } => format!(
            "{name}: needs attention; version {version} is in some places only\n  {why}\n  \
             when that is mended: `reseal sync {name}`, or `reseal rotate rollback {name}`\n  {}",
            last_way(name)
        ),
    }
}

/// A sync that would be possible, for programs.
pub(super) fn sync_object(sync: &Sync) -> Value {
    json!({
        "name": sync.name(),
        "secret": sync.secret().as_str(),
        "version": sync.version(),
        "steps": sync.steps().iter().map(step_object).collect::<Vec<_>>(),
    })
}

/// A sync that would be possible, for people.
pub(super) fn sync_steps(sync: &Sync) -> String {
    let mut words =
        format!("{}: version {} can be brought to where it is not\n", sync.name(), sync.version());
    sync.steps().iter().for_each(|step| words.push_str(&step_words(step)));
    words
}

/// How a secret stands.
#[derive(Debug)]
pub(super) struct Stands<'a> {
    pub(super) name: &'a str,
    pub(super) every: Option<Interval>,
    /// When it is to change by that; unknown for a value of unknown age.
    pub(super) due: Option<Timestamp>,
    pub(super) last: Option<&'a Rotation>,
    pub(super) owed: Option<&'a Owed>,
}

/// The head of the table of rotations.
pub(super) fn status_table() -> Table {
    Table::new(&["name", "every", "due", "version", "state", "since", "old value ends", "owed"])
}

/// A row of it.
pub(super) fn status_row(table: &mut Table, stands: &Stands<'_>) {
    let none = || "-".to_owned();
    let owed = stands.owed.map(|owed| owed.reason.clone()).unwrap_or_default();
    let every = stands.every.map_or_else(none, |every| every.to_string());
    let due = stands.due.map_or_else(none, when::show);
    let (versions, state, since, ends) = match stands.last {
        None => (none(), "never rotated", none(), none()),
        Some(last) => (
            format!("{} to {}", last.from, last.to),
            if last.attention.is_some() { "needs attention" } else { last.state.name() },
            when::show(last.ended_at.or(last.finished_at).unwrap_or(last.begun_at)),
            last.retire_due().map_or_else(none, when::show),
        ),
    };
    let [every, due, versions] = [&every, &due, &versions].map(String::as_str);
    let [since, ends, owed] = [&since, &ends, &owed].map(String::as_str);
    table.row([stands.name, every, due, versions, state, since, ends, owed]);
}

/// Why a rotation waits for somebody, and what is next; nothing of one that does not.
pub(super) fn stuck_words(rotation: &Rotation) -> Option<String> {
    let name = &rotation.name;
    if !rotation.is_unfinished() {
        return None;
    }
    let (what, again) = if rotation.is_sync { ("sync", "sync") } else { ("rotation", "rotate resume") };
    let why = rotation.attention.as_ref().or(rotation.failure.as_ref());
    let why = why.map_or_else(|| format!("the {what} was interrupted"), Clone::clone);
    let others: Vec<_> =
        rotation.together().iter().filter(|secret| **secret != rotation.secret).map(String::as_str).collect();
    let together = if others.is_empty() {
        String::new()
    } else {
        format!("; it goes together with {}", others.join(", "))
    };
    let mut words = format!(
        "{name}: {why}{together}\n  then: `reseal {again} {name}`, or `reseal rotate rollback {name}`"
    );
    if rotation.attention.is_some() {
        words += &format!("\n  {}", last_way(name));
    }
    Some(words)
}

/// The same for programs.
pub(super) fn status_object(stands: &Stands<'_>) -> Value {
    json!({
        "name": stands.name,
        "every": stands.every.map(|every| every.to_string()),
        "due_at": stands.due.map(when::show),
        "rotation": stands.last.map(rotation_object),
        "owed_reason": stands.owed.map(|owed| &owed.reason),
        "owed_since": stands.owed.map(|owed| when::show(owed.since)),
    })
}

/// A span of time in its largest whole units.
pub(super) fn span(time: Duration) -> String {
    let seconds = time.as_secs();
    let units = [(86_400, "d"), (3_600, "h"), (60, "m"), (1, "s")];
    let (size, unit) = units.into_iter().find(|(size, _)| seconds >= 2 * size).unwrap_or((1, "s"));
    format!("{}{unit}", seconds / size)
}

fn step_words(step: &Step) -> String {
    let mark = if step.no_return { ", which cannot be taken back" } else { "" };
    format!("  {:<10}  {}{mark}\n", step.phase.name(), step.action)
}

fn step_object(step: &Step) -> Value {
    json!({
        "phase": step.phase.name(),
        "action": step.action.to_string(),
        "state": step.state.name(),
        "no_return": step.no_return,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_are_told_in_fitting_units() {
        let told: Vec<_> =
            [0, 90, 7_200, 86_400, 1_209_600].map(|seconds| span(Duration::from_secs(seconds))).into();
        assert_eq!(told, ["0s", "90s", "2h", "24h", "14d"]);
    }
}
