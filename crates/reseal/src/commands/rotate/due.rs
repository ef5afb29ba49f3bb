//! `rotate --due`: what is due or owed, where its hours allow it.

use reseal_rotate::plan::{Plan, Strategy};
use reseal_rotate::schedule::{Condition, Overview, Stands};
use reseal_vault::{Clock, SystemClock, Vault};

use super::Work;
use crate::commands::status::zone_of;
use crate::exit::Exit;
use crate::failure::{Failure, Outcome};

/// What `--due` finds.
#[derive(Debug, Default)]
pub(super) struct DueNow {
    /// To be rotated now, by their names in the plan.
    pub(super) names: Vec<String>,
    /// Due as well, but not by this command now; why was told.
    pub(super) left: usize,
    /// Stuck between two values: the next command is for a person.
    pub(super) stuck: Vec<(String, Failure)>,
}

impl Work<'_> {
    /// The secrets that are due or owed. Those that reseal cannot change alone, and those outside their hours, are told
    /// and left.
    pub(super) fn due_now(&self, vault: &mut Vault) -> Outcome<DueNow> {
        let now = SystemClock.now();
        let zone = zone_of(Some(self.plan));
        let mut found = DueNow::default();
        for stands in Overview::of(Some(self.plan), vault, now)?.secrets {
            let Some(name) = stands.name.clone() else { continue };
            if stands.condition() <= Condition::Interrupted {
                found.stuck.push((name.clone(), stuck(&stands, &name)));
                continue;
            }
            if !stands.is_rotation_due() {
                continue;
            }
            let closed = stands.settings.window.filter(|window| !window.contains(now, &zone));
            let why = match closed {
                Some(window) => Some(format!("its hours are {window}{}", of_zone(self.plan))),
                None => why_not_alone(&stands, &name),
            };
            match why {
                None => found.names.push(name),
                Some(why) => {
                    self.app.ui.note(format!("{name} is due and left: {why}"));
                    found.left += 1;
                }
            }
        }
        Ok(found)
    }
}

fn of_zone(plan: &Plan) -> String {
    let name = plan.file.timezone.as_ref().and_then(|zone| zone.get().iana_name().map(str::to_owned));
    name.map(|name| format!(" in {name}")).unwrap_or_default()
}

fn why_not_alone(stands: &Stands, name: &str) -> Option<String> {
    match stands.settings.strategy {
        _ if stands.overlap_ends_at().is_some() => {
            Some(format!("its old value still works; end it with `reseal rotate retire {name}`"))
        }
        Some(Strategy::Paste) if stands.labels.pending.is_none() => {
            Some(format!("a person brings its value: `reseal rotate {name}`"))
        }
        Some(Strategy::Issue) => Some("the service makes its value".into()),
        Some(Strategy::Columns) => {
            Some(format!("columns are re-encrypted by name only: `reseal rotate {name}`"))
        }
        _ => None,
    }
}

fn stuck(stands: &Stands, name: &str) -> Failure {
    let why = stands.last.as_ref().and_then(|last| last.attention.clone());
    Failure::new(Exit::NeedsAttention, format!("the last rotation of `{name}` is not over"))
        .because(why)
        .hint(format!("`reseal rotate resume {name}`, or `reseal rotate rollback {name}`"))
}
