//! A world in memory: services that accept values, files, applications that read them when they are brought over.
//!
//! It dies before or after the n-th call, as a process does: the call never returns.

use std::collections::{BTreeMap, BTreeSet};
use std::future::pending;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;
use reseal_crypto::SecretBytes;
use reseal_engine::CancelToken;
use reseal_rotate::VaultCell;
use reseal_rotate::rotation::{
    Action, ColumnWork, Connector, EnvEdit, LoginAt, Standing, StepError, Values, Which,
};
use tokio::sync::Notify;

type Variables = BTreeMap<String, String>;

/// When the process dies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Death {
    pub(crate) call: usize,
    pub(crate) after: bool,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Outside {
    /// What each login accepts.
    pub(crate) accepted: BTreeMap<String, BTreeSet<String>>,
    pub(crate) files: BTreeMap<PathBuf, Variables>,
    /// What each application runs with: the files as they were when it was brought over.
    pub(crate) running: BTreeMap<String, BTreeMap<PathBuf, Variables>>,
    /// The last value that each command was handed.
    pub(crate) fed: BTreeMap<String, String>,
}

#[derive(Debug, Default)]
pub(crate) struct World {
    pub(crate) outside: Outside,
    pub(crate) reads: BTreeMap<String, Vec<PathBuf>>,
    /// Whether one value at a time is valid.
    pub(crate) holds_one: bool,
    pub(crate) calls: usize,
    pub(crate) death: Option<Death>,
    pub(crate) died: Arc<Notify>,
    /// Actions that fail from now on, by the beginning of their words.
    pub(crate) broken: Vec<String>,
    /// The side effects that happened, in order.
    pub(crate) effects: Vec<String>,
    /// What was wrong at some moment.
    pub(crate) outages: Vec<String>,
}

impl World {
    async fn dies(&mut self, after: bool) {
        if self.death == Some(Death { call: self.calls, after }) {
            self.death = None;
            self.died.notify_one();
            pending::<()>().await;
        }
        self.calls += usize::from(after);
    }

    fn check_broken(&self, what: &str) -> Result<(), StepError> {
        if self.broken.iter().any(|broken| what.starts_with(broken)) {
            return Err(StepError::Failed(format!("`{what}` is broken")));
        }
        Ok(())
    }

    fn happened(&mut self, what: String) {
        self.effects.push(what);
        self.look_for_outages();
    }

    /// Where two values are valid at a time, every application works at every moment.
    fn look_for_outages(&mut self) {
        if self.holds_one {
            return;
        }
        for (app, files) in &self.outside.running {
            for value in files.values().filter_map(|variables| variables.get("KEY")) {
                if self.outside.accepted.values().any(|accepted| !accepted.contains(value)) {
                    self.outages.push(format!("{app} cannot log in after {:?}", self.effects.last()));
                }
            }
        }
        // Whoever has KEY_OLD verifies what the others sign with KEY.
        let keys = |variables: &Variables| {
            ["KEY", "KEY_OLD"].iter().filter_map(|name| variables.get(*name).cloned()).collect::<Vec<_>>()
        };
        let running =
            || self.outside.running.iter().flat_map(|(app, files)| files.values().map(move |v| (app, v)));
        for (verifier, known) in running().filter(|(_, variables)| variables.contains_key("KEY_OLD")) {
            for (signer, signs) in running().filter(|(_, variables)| !variables.contains_key("KEY_OLD")) {
                if !signs.get("KEY").is_none_or(|key| keys(known).contains(key)) {
                    self.outages.push(format!("{verifier} refuses {signer} after {:?}", self.effects.last()));
                }
            }
        }
    }

    fn accepted(&mut self, at: &LoginAt) -> &mut BTreeSet<String> {
        self.outside.accepted.entry(at.to_string()).or_default()
    }

    fn put(&mut self, file: &Path, edits: &[EnvEdit], values: &Values) {
        let variables = self.outside.files.entry(file.to_owned()).or_default();
        for edit in edits {
            variables.insert(edit.var.clone(), text(values.get(edit.value)));
        }
    }

    fn do_it(&mut self, action: &Action, values: &Values) -> Result<(), StepError> {
        let new = text(&values.new);
        match action {
            Action::SetLogin(at) => *self.accepted(at) = BTreeSet::from([new]),
            Action::AddLogin(at) => drop(self.accepted(at).insert(new)),
            Action::RemoveLogin(at) => self.accepted(at).retain(|value| !ended(values).contains(value)),
            Action::EditFile { file, edits, .. } => self.put(file, edits, values),
            Action::FeedCommand { command, value } => {
                self.outside.fed.insert(command.join(" "), text(values.get(*value)));
            }
            Action::BringOver { app } => {
                let files = self.reads[app].iter();
                let read = files.map(|file| (file.clone(), self.outside.files[file].clone())).collect();
                self.outside.running.insert(app.clone(), read);
            }
            Action::TestLogin { at, value, accepted } => {
                let value = text(values.get(*value));
                let is_left = !accepted && !self.accepted(at).is_disjoint(&ended(values));
                if is_left || self.accepted(at).contains(&value) != *accepted {
                    return Err(StepError::Failed("the login test".into()));
                }
            }
            Action::CheckApp { app } => {
                let now = self.reads[app]
                    .iter()
                    .all(|file| self.outside.running[app].get(file) == self.outside.files.get(file));
                if !now {
                    return Err(StepError::Failed(format!(
                        "{app} runs with other values than its files hold"
                    )));
                }
            }
            // It is among the effects.
            Action::RunCommand { .. } => {}
            other => panic!("no scenario has {other:?}"),
        }
        Ok(())
    }
}

fn text(value: &SecretBytes) -> String {
    value.expose_str().unwrap().to_owned()
}

/// What lets in no longer once the old value has ended.
fn ended(values: &Values) -> BTreeSet<String> {
    values.left().iter().chain([&values.old]).map(text).collect()
}

#[async_trait(?Send)]
impl Connector for World {
    async fn capture(&mut self, action: &Action, _: &Values) -> Result<SecretBytes, StepError> {
        self.dies(false).await;
        let kept = match action {
            Action::EditFile { file, .. } => serde_json::to_vec(&self.outside.files[file]).unwrap(),
            Action::SetLogin(at) | Action::AddLogin(at) | Action::RemoveLogin(at) => {
                serde_json::to_vec(self.accepted(at)).unwrap()
            }
            _ => Vec::new(),
        };
        self.dies(true).await;
        Ok(SecretBytes::new(kept))
    }

    async fn probe(
        &mut self,
        action: &Action,
        values: &Values,
        _: &SecretBytes,
    ) -> Result<Standing, StepError> {
        self.dies(false).await;
        let new = text(&values.new);
        let is_done = match action {
            Action::EditFile { file, edits, .. } => {
                let variables = &self.outside.files[file];
                edits.iter().all(|edit| variables[&edit.var] == text(values.get(edit.value)))
            }
            Action::SetLogin(at) => *self.accepted(at) == BTreeSet::from([new]),
            // As Redis: what is in memory may not be in its file yet.
            Action::AddLogin(at) if self.accepted(at).contains(&new) => return Ok(Standing::Unknown),
            Action::AddLogin(_) => false,
            Action::RemoveLogin(at) => self.accepted(at).is_disjoint(&ended(values)),
            _ => return Ok(Standing::Unknown),
        };
        self.dies(true).await;
        Ok(if is_done { Standing::Done } else { Standing::NotDone })
    }

    async fn apply(&mut self, action: &Action, values: &Values, _: &SecretBytes) -> Result<(), StepError> {
        self.dies(false).await;
        self.check_broken(&action.to_string())?;
        self.do_it(action, values)?;
        if !action.is_proof() {
            self.happened(action.to_string());
        }
        self.dies(true).await;
        Ok(())
    }

    async fn columns(
        &mut self,
        _: &VaultCell<'_>,
        work: ColumnWork<'_>,
        _: &CancelToken,
    ) -> Result<(), StepError> {
        panic!("no scenario has {work:?}")
    }

    async fn output(&mut self, action: &Action, _: &Values) -> Result<Box<dyn Read>, StepError> {
        panic!("no scenario has {action:?}")
    }

    async fn undo(&mut self, action: &Action, values: &Values, kept: &SecretBytes) -> Result<(), StepError> {
        self.dies(false).await;
        self.check_broken(&format!("undo {action}"))?;
        match action {
            Action::EditFile { file, .. } => {
                self.outside.files.insert(file.clone(), serde_json::from_slice(kept.expose()).unwrap());
            }
            Action::SetLogin(at) | Action::AddLogin(at) | Action::RemoveLogin(at) => {
                *self.accepted(at) = serde_json::from_slice(kept.expose()).unwrap();
            }
            Action::FeedCommand { command, .. } => {
                self.outside.fed.insert(command.join(" "), text(values.get(Which::Old)));
            }
            other => panic!("{other:?} is not undone"),
        }
        self.happened(format!("undo {action}"));
        self.dies(true).await;
        Ok(())
    }
}
