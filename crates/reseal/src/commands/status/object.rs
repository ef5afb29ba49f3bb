//! The status for programs.

use reseal_rotate::plan::Plan;
use reseal_rotate::schedule::{Condition, KeptOutput, Overview, Stands};
use reseal_vault::Timestamp;
use serde_json::{Value, json};

use crate::when;

/// Everything, the secrets by their names in the vault.
pub(super) fn of(plan: Option<&Plan>, overview: &Overview) -> Value {
    json!({
        "plan": plan.map(|plan| plan.path.display().to_string()),
        "secrets": overview.secrets.iter().map(secret).collect::<Vec<_>>(),
        "snapshots": overview.kept.iter().map(kept).collect::<Vec<_>>(),
    })
}

fn secret(stands: &Stands) -> Value {
    let settings = &stands.settings;
    let attention = stands.last.as_ref().and_then(|last| last.attention.as_ref());
    json!({
        "name": stands.name,
        "secret": stands.secret.as_str(),
        "state": stands.condition().name(),
        "version": stands.labels.current,
        "pending_version": stands.labels.pending,
        "every": stands.every.map(|every| every.to_string()),
        "last_rotated_at": stands.changed_at.map(when::show),
        "rotation_due_at": stands.due_at.map(when::show),
        "days_until_rotation": stands.days_until_rotation(),
        "is_rotation_due": stands.is_rotation_due(),
        "is_expired": stands.is_expired(),
        "has_unknown_age": stands.condition() == Condition::UnknownAge,
        "owed_reason": stands.owed.as_ref().map(|owed| &owed.reason),
        "owed_since": stands.owed.as_ref().map(|owed| when::show(owed.since)),
        "overlap_ends_at": stands.overlap_ends_at().map(when::show),
        "attention": attention,
        "next_command": stands.next_command(),
        "window": settings.window.map(|window| window.to_string()),
        "strategy": settings.strategy,
        "owner": stands.owner,
        "risk": settings.risk,
        "impact": settings.impact,
        "purpose": settings.purpose,
        "places": stands.places(),
    })
}

/// What a `before` command keeps.
pub(crate) fn kept(kept: &KeptOutput) -> Value {
    json!({
        "name": kept.name,
        "secrets": kept.secrets,
        "taken_at": kept.taken_at.map(when::show),
        "bytes": kept.taken_at.map(|_| kept.len),
        "age_days": kept.taken_at.map(|Timestamp(taken)| (now() - taken).div_euclid(86_400)),
    })
}

fn now() -> i64 {
    jiff::Timestamp::now().as_second()
}
