//! What the processes of an application have to have of what its files hold.

use std::path::Path;
use std::time::SystemTime;

use super::{Outside, failed, of_app};
use crate::apps::{Brought, Expected};
use crate::destinations::env_file::{EnvFile, EnvValue};
use crate::rotation::action::{Action, Which};
use crate::rotation::connector::{StepError, Values};

/// What a running process is held to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Measure {
    /// What its files hold now: in the middle of a rotation either value.
    Files,
    /// What the plan says.
    Plan,
}

impl Outside<'_> {
    /// Whether the processes of an application have the values of its files; `None` if it reads none.
    pub(super) async fn brought(
        &mut self,
        name: &str,
        values: &Values,
        measure: Measure,
    ) -> Result<Option<Brought>, StepError> {
        let (expected, Some(edited)) = self.expected(name, values, measure)? else { return Ok(None) };
        let app = self.app(name, values).await?;
        app.runs_with(&expected, edited, &self.fingerprints).await.map(Some).map_err(of_app)
    }

    /// The variables that a process of this application has to have, and when the last of its files was written.
    fn expected(
        &self,
        app: &str,
        values: &Values,
        measure: Measure,
    ) -> Result<(Vec<Expected>, Option<SystemTime>), StepError> {
        let (mut expected, mut written) = (Vec::new(), None);
        for action in &self.writes {
            let (Action::EditFile { file, .. } | Action::FillFile { file, .. }) = action else { continue };
            if !self.is_read_by(file, app) {
                continue;
            }
            match file.metadata().and_then(|metadata| metadata.modified()) {
                Ok(modified) => written = written.max(Some(modified)),
                // A look at the files themselves tells that it is gone.
                Err(_) if measure == Measure::Plan => {}
                Err(error) => return Err(failed(error)),
            }
            let Action::EditFile { readers, edits, .. } = action else { continue };
            let env = EnvFile::new(file, readers)?;
            let now = if measure == Measure::Files { Some(env.read()?) } else { None };
            for edit in edits {
                let before = (edit.value == Which::New).then_some(Which::Old);
                for which in [Some(edit.value), before].into_iter().flatten() {
                    let value = values.field(which, edit.field);
                    let wanted = EnvValue { var: &edit.var, spot: &edit.spot, value: value.clone() };
                    // A value that cannot stand in that place does not.
                    if now.as_ref().is_none_or(|now| env.reads(now, &wanted).is_ok_and(|reads| reads)) {
                        let (variable, spot) = (edit.var.clone(), edit.spot.clone());
                        expected.push(Expected { variable, spot, value });
                        break;
                    }
                }
            }
        }
        Ok((expected, written))
    }

    pub(in crate::rotation) fn is_read_by(&self, file: &Path, app: &str) -> bool {
        let base = self.plan.directory();
        let is_this = |name: &str| base.canonicalize().is_ok_and(|base| base.join(name) == file);
        let mut entries = self.plan.file.files.iter().filter(|(name, _)| is_this(name));
        entries.any(|(_, entry)| entry.get_ref().used_by.iter().any(|reader| reader == app))
    }
}
