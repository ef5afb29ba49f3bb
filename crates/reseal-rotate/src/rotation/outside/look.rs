//! A look at what a step of a rotation would make true: whether it is that already. Changes nothing.

use std::io;
use std::path::Path;

use reseal_env::FileError;

use super::brought::Measure;
use super::{Outside, put};
use crate::apps::Brought;
use crate::checks::Seen;
use crate::destinations::DestinationError;
use crate::destinations::env_file::EnvFile;
use crate::destinations::plain_file::PlainFile;
use crate::rotation::action::{Action, EnvEdit, Which};
use crate::rotation::connector::Values;
use crate::rotation::finding::{Finding, Subject, Truth};

impl Outside<'_> {
    /// Whether what a step is to make true is true now: one finding for each thing. The checks of an application are not
    /// part of it, but what its processes have.
    pub(in crate::rotation) async fn look(&mut self, action: &Action, values: &Values) -> Vec<Finding> {
        match action {
            Action::TestLogin { at, .. } | Action::SetLogin(at) | Action::AddLogin(at) => {
                match self.way_to(at).await {
                    Ok(compose) => self.logins.look(action, values, compose.as_ref()).await,
                    Err(error) => {
                        vec![Finding::new(Subject::Login, at.to_string(), Truth::Unknown, error.to_string())]
                    }
                }
            }
            Action::EditFile { file, readers, edits } => self.look_at_variables(file, readers, edits, values),
            Action::FillFile { file, value } => vec![self.look_at_file(file, *value, values)],
            Action::FeedCommand { command, .. } => {
                let program = command.first().map_or("", String::as_str);
                let saw = "what it stores cannot be seen from here";
                vec![Finding::new(Subject::Command, format!("`{program}`"), Truth::Unseen, saw)]
            }
            Action::CheckApp { app } => self.look_at_process(app, values).await.into_iter().collect(),
            Action::CheckSecret { old_works } => match self.attempt_secret(*old_works, values).await {
                Ok(seen) => seen.into_iter().map(checked).collect(),
                Err(error) => {
                    vec![Finding::new(Subject::Check, "of the secret", Truth::Unknown, error.to_string())]
                }
            },
            _ => Vec::new(),
        }
    }

    /// What the checks of an application see now, each once.
    pub async fn look_at_checks(&mut self, app: &str, values: &Values) -> Vec<Finding> {
        match self.baseline_of(app, values).await {
            Ok((first, baseline)) => {
                let mut seen = first;
                seen.extend(baseline.seen);
                seen.dedup_by(|a, b| a.check == b.check);
                seen.into_iter().map(checked).collect()
            }
            Err(error) => vec![Finding::new(Subject::Check, app, Truth::Unknown, error.to_string())],
        }
    }

    fn look_at_variables(
        &self,
        file: &Path,
        readers: &[String],
        edits: &[EnvEdit],
        values: &Values,
    ) -> Vec<Finding> {
        let env = EnvFile::new(file, readers).and_then(|env| Ok((env.read()?, env)));
        let look = |edit: &EnvEdit| {
            let part = edit.spot.to_string();
            let part = if part.is_empty() { part } else { format!(" ({part})") };
            let target = format!("{}: {}{part}", self.shown(file), edit.var);
            let (now, env) = match &env {
                Ok(read) => read,
                Err(error) => return Finding::new(Subject::File, target, truth_of(error), error.to_string()),
            };
            let holds = |which| env.check_holds(now, &[put(edit, which, values)]);
            match holds(edit.value) {
                Ok(()) => Finding::new(Subject::File, target, Truth::Holds, ""),
                Err(DestinationError::Drifted { .. }) => {
                    let is_old = edit.value != Which::Old && holds(Which::Old).is_ok();
                    other_than(edit.value, is_old, target)
                }
                Err(error) => Finding::new(Subject::File, target, Truth::Differs, error.to_string()),
            }
        };
        edits.iter().map(look).collect()
    }

    fn look_at_file(&self, file: &Path, value: Which, values: &Values) -> Finding {
        let plain = PlainFile::new(file);
        let target = self.shown(file);
        match plain.read() {
            Err(error) => Finding::new(Subject::File, target, truth_of(&error), error.to_string()),
            Ok(now) if plain.check_holds(&now, values.get(value)).is_ok() => {
                Finding::new(Subject::File, target, Truth::Holds, "")
            }
            Ok(now) => {
                let is_old = value != Which::Old && plain.check_holds(&now, &values.old).is_ok();
                other_than(value, is_old, target)
            }
        }
    }

    /// What the processes of an application have of its files; nothing if it reads none.
    async fn look_at_process(&mut self, name: &str, values: &Values) -> Option<Finding> {
        let seen = match self.brought(name, values, Measure::Plan).await {
            Ok(seen) => seen?,
            Err(error) => {
                return Some(Finding::new(Subject::Process, name, Truth::Unknown, error.to_string()));
            }
        };
        let (truth, saw) = match seen {
            Brought::Yes => (Truth::Holds, String::new()),
            Brought::No(why) => (Truth::Differs, why),
            Brought::Unseen(why) => (Truth::Unseen, why),
        };
        Some(Finding::new(Subject::Process, name, truth, saw))
    }

    /// A path as the plan has it.
    fn shown(&self, file: &Path) -> String {
        let base = self.plan.directory().canonicalize().unwrap_or_default();
        file.strip_prefix(base).unwrap_or(file).display().to_string()
    }
}

/// A place that does not hold what it should.
fn other_than(wanted: Which, holds_old: bool, target: String) -> Finding {
    let saw = match (wanted, holds_old) {
        (Which::New, true) => "it holds the value before the current one",
        (Which::New, false) => "it does not hold the current value",
        (Which::Old, _) => "it does not hold the value before the current one, which still works",
        (Which::Nothing, true) => "it still holds the old value, which should have ended",
        (Which::Nothing, false) => "it is not empty",
    };
    let finding = Finding::new(Subject::File, target, Truth::Differs, saw);
    if (wanted, holds_old) == (Which::Nothing, true) { finding.lingering() } else { finding }
}

/// A file that is not there holds no value; one that cannot be read may.
fn truth_of(error: &DestinationError) -> Truth {
    match error {
        DestinationError::File { source: FileError::Io { source, .. }, .. }
            if source.kind() != io::ErrorKind::NotFound =>
        {
            Truth::Unknown
        }
        _ => Truth::Differs,
    }
}

fn checked(seen: Seen) -> Finding {
    let truth = if seen.passed { Truth::Holds } else { Truth::Differs };
    let saw = if seen.passed { String::new() } else { seen.saw };
    Finding::new(Subject::Check, seen.check, truth, saw)
}
