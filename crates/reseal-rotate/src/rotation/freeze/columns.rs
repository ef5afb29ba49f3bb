//! The steps that a data key takes: its columns come under it between two states in which applications read everything.
//!
//! ```text
//! online = false   stop -> re-encrypt -> write -> start -> check
//! online = true    announce the new key -> write it in the place of the old one -> re-encrypt   ...   retire the old one
//! ```
//!
//! Applications that know both keys change over to the new one before the columns do: from then on nobody writes under the
//! old one, so one proof that nothing is under it holds.

use super::{Draft, Wave, columns_under};
use crate::error::RotateError;
use crate::rotation::action::Action;
use crate::rotation::record::{Act, Phase};

impl Draft<'_> {
    pub(super) fn columns(&mut self) -> Result<(), RotateError> {
        let columns = columns_under(self.plan, self.name);
        if columns.is_empty() {
            return Err(self.not_done("the key of columns that are not in it"));
        }
        if self.secret.write.is_empty() {
            return Err(
                self.not_done("a key that is written nowhere: `reseal reencrypt` brings out a new one")
            );
        }
        let online = columns.iter().any(|name| self.plan.columns(name).is_some_and(|columns| columns.online));
        self.before();
        if online { self.online(&columns) } else { self.offline(&columns) }
    }

    fn offline(&mut self, columns: &[String]) -> Result<(), RotateError> {
        let (mut writes, mut apps) = (Vec::new(), Vec::new());
        for (_, turn) in self.written(Wave::Change)? {
            writes.extend(turn.writes);
            apps.extend(turn.apps);
        }
        for app in &apps {
            self.push(Act::Change, Phase::Stop, 0, Action::StopApp { app: app.clone() });
        }
        for name in columns {
            let action = Action::Reencrypt { columns: name.clone(), stopped: apps.clone() };
            self.push(Act::Change, Phase::Reencrypt, 1, action);
        }
        for action in writes {
            self.push(Act::Change, Phase::Write, 2, action);
        }
        for app in &apps {
            self.push(Act::Change, Phase::Start, 3, Action::StartApp { app: app.clone() });
        }
        for app in apps {
            self.push(Act::Change, Phase::Check, 3, Action::CheckApp { app });
        }
        self.after(3, false);
        Ok(())
    }

    fn online(&mut self, columns: &[String]) -> Result<(), RotateError> {
        let announced = self.turns(Wave::Announce, 0)?;
        for name in columns {
            let action = Action::AdmitKey { columns: name.clone() };
            self.push(Act::Change, Phase::Reencrypt, announced + 1, action);
        }
        let changed = self.turns(Wave::Change, announced + 2)?;
        for name in columns {
            let action = Action::Reencrypt { columns: name.clone(), stopped: Vec::new() };
            self.push(Act::Change, Phase::Reencrypt, changed, action);
        }
        self.after(changed, true);
        for name in columns {
            self.push(Act::Retire, Phase::Check, 0, Action::ProveColumns { columns: name.clone() });
        }
        let retired = self.turns(Wave::Retire, 0)?;
        if !self.secret.check.is_empty() {
            self.push(Act::Retire, Phase::Check, retired, Action::CheckSecret { old_works: false });
        }
        Ok(())
    }
}
