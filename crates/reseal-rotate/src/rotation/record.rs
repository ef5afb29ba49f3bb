//! What the vault remembers of a rotation: the frozen steps, and how far each of them came.

use std::collections::BTreeMap;
use std::fmt;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD_NO_PAD;
use reseal_crypto::SecretBytes;
use reseal_vault::{Event, Timestamp, Vault, VaultBatch};
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use zeroize::Zeroizing;

use super::action::{Action, TakesTurns};
use crate::checks::Baseline;
use crate::error::RotateError;
use crate::plan::Strategy;

/// The kind of these records in the vault's journal.
const KIND: &str = "rotation";

/// Which half of a rotation a step belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Act {
    /// Up to the new value everywhere.
    Change,
    /// The end of the old value.
    Retire,
}

/// What a step is part of, as people are told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Phase {
    /// What the plan wants done first.
    Before,
    /// Applications stop.
    Stop,
    /// The service learns the new value.
    Set,
    /// The service lets the new value in, and no wrong one.
    Test,
    /// Columns come under the new key.
    Reencrypt,
    /// The places that applications read.
    Write,
    /// Applications start again.
    Start,
    /// Applications take it.
    BringOver,
    /// They work with it.
    Check,
    /// What the plan wants done last.
    After,
    /// The old value ends.
    Retire,
}

impl Phase {
    /// The word in reports.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Before => "before",
            Self::Stop => "stop",
            Self::Set => "set",
            Self::Test => "test",
            Self::Reencrypt => "re-encrypt",
            Self::Write => "write",
            Self::Start => "start",
            Self::BringOver => "bring over",
            Self::Check => "check",
            Self::After => "after",
            Self::Retire => "retire",
        }
    }
}

/// How far a step came.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum StepState {
    /// Not begun.
    Todo,
    /// Announced; the world says whether it happened.
    Doing,
    /// Done.
    Done,
    /// Taken back.
    Undone,
}

impl StepState {
    /// The word in reports.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Todo => "todo",
            Self::Doing => "doing",
            Self::Done => "done",
            Self::Undone => "undone",
        }
    }
}

/// A frozen step.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Step {
    /// Which half it belongs to.
    pub act: Act,
    /// What it is part of.
    pub phase: Phase,
    /// Its place among applications that are brought over in turn, from 0.
    pub turn: usize,
    /// What it does.
    pub action: Action,
    /// Whether it cannot be taken back: what fails once it is begun waits for a person.
    #[serde(default)]
    pub no_return: bool,
    /// How far it came.
    pub state: StepState,
    /// What was there before; sealed in the vault like everything here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    kept: Option<Kept>,
}

impl Step {
    /// A step that is not begun. Commands that the plan wants run last cannot be taken back: what they do rests on the new
    /// value being in use, and may end what only the old one had.
    pub fn new(act: Act, phase: Phase, turn: usize, action: Action) -> Self {
        let no_return = phase == Phase::After && matches!(action, Action::RunCommand { .. });
        Self { act, phase, turn, action, no_return, state: StepState::Todo, kept: None }
    }

    /// Whether it may have changed the world and was not taken back.
    pub fn is_begun(&self) -> bool {
        matches!(self.state, StepState::Doing | StepState::Done)
    }

    /// What is told of a failure that this step keeps from being taken back.
    pub(super) fn stands_behind(&self, why: &str) -> String {
        format!("{why}; {} cannot be taken back", self.action)
    }

    pub(super) fn kept(&self) -> SecretBytes {
        self.kept.as_ref().map(|kept| kept.0.clone()).unwrap_or_default()
    }

    pub(super) fn begin(&mut self, kept: SecretBytes) {
        self.state = StepState::Doing;
        self.kept = Some(Kept(kept));
    }
}

/// Bytes of a file or of a service's own state, wiped and not printed.
#[derive(Clone)]
struct Kept(SecretBytes);

impl fmt::Debug for Kept {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Kept")
    }
}

impl Serialize for Kept {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        // EXPOSE: sealed into the vault's journal.
        let text = Zeroizing::new(BASE64_STANDARD_NO_PAD.encode(self.0.expose()));
        serializer.serialize_str(&text)
    }
}

impl<'de> Deserialize<'de> for Kept {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = Zeroizing::new(String::deserialize(deserializer)?);
        let bytes = BASE64_STANDARD_NO_PAD.decode(text.as_bytes());
        bytes.map(|bytes| Self(SecretBytes::new(bytes))).map_err(|_| D::Error::custom("not base64"))
    }
}

/// The two roles that take turns, where the steps are about such.
pub(super) fn turn(steps: &[Step]) -> Option<&TakesTurns> {
    steps.iter().filter_map(|step| step.action.login()).find_map(|at| at.turn.as_ref())
}

/// Where a rotation stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum State {
    /// On the way to the new value everywhere.
    Changing,
    /// On the way back to the old value everywhere.
    Undoing,
    /// The new value is everywhere; the old one still works.
    Overlap,
    /// The old value is being ended.
    Retiring,
    /// Ending the old value failed and is being taken back.
    Unretiring,
    /// The new value, and only that.
    Done,
    /// The old value, and only that.
    RolledBack,
    /// Given up between the two values by a person, who put the world right by hand.
    Abandoned,
}

impl State {
    /// The word in reports.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Changing => "changing",
            Self::Undoing => "undoing",
            Self::Overlap => "overlap",
            Self::Retiring => "retiring",
            Self::Unretiring => "unretiring",
            Self::Done => "done",
            Self::RolledBack => "rolled-back",
            Self::Abandoned => "abandoned",
        }
    }
}

/// A rotation as the vault keeps it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Rotation {
    /// Counts the rotations of this secret, from 1.
    pub number: u64,
    /// The secret, by its name in the vault.
    pub secret: String,
    /// The secret, by its name in the plan.
    pub name: String,
    /// How it changes.
    pub strategy: Strategy,
    /// The version that was current.
    pub from: u64,
    /// The version that it brings out.
    pub to: u64,
    /// Where it stands.
    pub state: State,
    /// Why a person is needed: neither forward nor back worked.
    #[serde(default)]
    pub attention: Option<String>,
    /// What went wrong last.
    #[serde(default)]
    pub failure: Option<String>,
    /// Why it was done, in the operator's words.
    #[serde(default)]
    pub reason: Option<String>,
    /// Whether it is a sync: the current value is brought out once more, and no new one.
    #[serde(default)]
    pub is_sync: bool,
    /// What a sync finds written already.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    stands: Vec<Action>,
    /// The syncs that begin and end as one with it, itself included, by the names of their secrets in the vault, in order;
    /// nothing where it goes alone.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    together: Vec<String>,
    /// Whether the old value was to end at once, with all that it opened.
    #[serde(default)]
    pub emergency: bool,
    /// When it was frozen.
    pub begun_at: Timestamp,
    /// When the new value became the current one.
    #[serde(default)]
    pub finished_at: Option<Timestamp>,
    /// When it was over.
    #[serde(default)]
    pub ended_at: Option<Timestamp>,
    /// How long the old value stays valid after that, in seconds.
    pub overlap: u64,
    /// SHA-256 of the plan file that it was frozen from.
    pub plan_digest: String,
    /// The steps, in order.
    pub steps: Vec<Step>,
    /// What the checks of applications saw before anything changed, by application.
    #[serde(default)]
    baselines: BTreeMap<String, Baseline>,
    /// Counts the changes of this record: whoever writes must have read the last one.
    epoch: u64,
}

/// What a rotation begins with.
#[derive(Debug)]
pub(super) struct Start {
    pub(super) secret: String,
    pub(super) name: String,
    pub(super) strategy: Strategy,
    pub(super) reason: Option<String>,
    /// Brings the current value out once more instead of a new one.
    pub(super) is_sync: bool,
    /// What a sync finds written already.
    pub(super) stands: Vec<Action>,
    pub(super) emergency: bool,
    pub(super) overlap: u64,
    pub(super) plan_digest: String,
    pub(super) steps: Vec<Step>,
    pub(super) baselines: BTreeMap<String, Baseline>,
}

impl Rotation {
    /// A rotation that begins now.
    pub(super) fn begin(start: Start, number: u64, (from, to): (u64, u64), now: Timestamp) -> Self {
        let Start { secret, name, strategy, reason, is_sync, stands, emergency, overlap, .. } = start;
        let Start { plan_digest, steps, baselines, .. } = start;
        Self {
            number,
            secret,
            name,
            strategy,
            from,
            to,
            state: State::Changing,
            attention: None,
            failure: None,
            reason,
            is_sync,
            stands,
            together: Vec::new(),
            emergency,
            begun_at: now,
            finished_at: None,
            ended_at: None,
            overlap,
            plan_digest,
            steps,
            baselines,
            epoch: 0,
        }
    }

    /// Whether the state machine was left in the middle: the next command has to go on.
    pub fn is_unfinished(&self) -> bool {
        matches!(self.state, State::Changing | State::Undoing | State::Retiring | State::Unretiring)
            || self.attention.is_some()
    }

    /// Whether anything of it is left to do, the end of the old value included.
    pub fn is_open(&self) -> bool {
        self.is_unfinished() || self.state == State::Overlap
    }

    /// A step of this half that was begun and cannot be taken back.
    pub(super) fn past_return(&self, act: Act) -> Option<&Step> {
        self.steps.iter().find(|step| step.act == act && step.no_return && step.is_begun())
    }

    /// When the old value is to end; `None` once it has, or before the new one is everywhere.
    pub fn retire_due(&self) -> Option<Timestamp> {
        let is_waiting = matches!(self.state, State::Overlap | State::Retiring | State::Unretiring);
        let finished = self.finished_at.filter(|_| is_waiting)?;
        Some(Timestamp(finished.0.saturating_add(i64::try_from(self.overlap).unwrap_or(i64::MAX))))
    }

    /// Whether it ends with a step that ends the old value.
    pub(super) fn retires(&self) -> bool {
        self.steps.iter().any(|step| step.act == Act::Retire)
    }

    /// What the checks of applications saw before anything changed.
    pub(super) fn baselines(&self) -> &BTreeMap<String, Baseline> {
        &self.baselines
    }

    pub(super) fn set_baselines(&mut self, baselines: &BTreeMap<String, Baseline>) {
        self.baselines.clone_from(baselines);
    }

    /// Forgets what stood in files and services before: nothing is taken back any more.
    pub(super) fn forget_kept(&mut self) {
        self.steps.iter_mut().for_each(|step| step.kept = None);
    }

    /// An event about it.
    pub(super) fn event(&self, event: Event) -> Event {
        event.of(&self.secret).version(self.to).run(self.id())
    }

    pub(super) fn id(&self) -> String {
        if self.is_sync {
            return format!("{}#sync", self.secret);
        }
        format!("{}#{}", self.secret, self.number)
    }

    /// What a sync found written already: running processes are held to that too.
    pub(super) fn stands(&self) -> &[Action] {
        &self.stands
    }

    /// The secrets whose syncs begin and end as one with it, its own included, by their names in the vault, in the order in
    /// which they write; nothing where it goes alone.
    pub fn together(&self) -> &[String] {
        &self.together
    }

    pub(super) fn set_together(&mut self, secrets: &[String]) {
        secrets.clone_into(&mut self.together);
    }

    pub(super) fn sync_overtaken(&self) -> RotateError {
        RotateError::SyncOvertaken { name: self.name.clone(), version: self.to }
    }

    pub(super) fn interrupted(&self) -> RotateError {
        let next = if self.is_sync { "sync" } else { "rotate resume" };
        RotateError::Interrupted { secret: self.secret.clone(), name: self.name.clone(), next }
    }

    /// What it does, as the audit log has it.
    pub(super) fn doing(&self) -> &'static str {
        if self.is_sync { "sync" } else { "rotate" }
    }

    /// Ends a sync as part of a transaction, and returns the event of that: the labels stay, the secret is as its last
    /// rotation left it, and what is known of the sync is what the audit log says.
    pub(super) fn end_sync(
        &mut self,
        batch: &mut VaultBatch<'_, '_>,
        state: State,
    ) -> Result<Event, RotateError> {
        if state == State::Done && batch.labels(&self.secret.parse()?)?.current != Some(self.to) {
            return Err(self.sync_overtaken());
        }
        self.forget(batch)?;
        self.state = state;
        self.attention = None;
        self.ended_at = Some(batch.now());
        self.forget_kept();
        Ok(Event::done(if state == State::Done { "sync" } else { "rollback" }))
    }

    /// Forgets a sync that is over.
    pub(super) fn forget(&self, batch: &mut VaultBatch<'_, '_>) -> Result<(), RotateError> {
        self.check_epoch(batch)?;
        batch.journal_remove(KIND, &self.id())?;
        Ok(())
    }

    fn check_epoch(&self, batch: &mut VaultBatch<'_, '_>) -> Result<(), RotateError> {
        let id = self.id();
        let stored = batch.journal_get(KIND, &id)?;
        let epoch = stored.map(|bytes| parse(&id, &bytes)).transpose()?.map(|rotation| rotation.epoch);
        if epoch.unwrap_or(0) == self.epoch {
            return Ok(());
        }
        Err(RotateError::Overtaken { secret: self.secret.clone() })
    }

    /// Stores it as part of a transaction, in the place of what this process read or stored last.
    pub(super) fn store(&mut self, batch: &mut VaultBatch<'_, '_>) -> Result<(), RotateError> {
        self.check_epoch(batch)?;
        let id = self.id();
        self.epoch += 1;
        let json = serde_json::to_vec(self).map_err(|_| RotateError::Record { run: id.clone() })?;
        Ok(batch.journal_put(KIND, &id, &SecretBytes::new(json))?)
    }
}

fn parse(id: &str, bytes: &SecretBytes) -> Result<Rotation, RotateError> {
    // EXPOSE: parsed into types that wipe themselves.
    serde_json::from_slice(bytes.expose()).map_err(|_| RotateError::Record { run: id.to_owned() })
}

/// Every rotation that the vault remembers, by secret, the oldest first; a sync that is not over comes last.
///
/// # Errors
///
/// [`RotateError::Vault`]; [`RotateError::Record`] if one cannot be read.
pub fn rotations(vault: &mut Vault) -> Result<Vec<Rotation>, RotateError> {
    let mut rotations = Vec::new();
    for kept in vault.journal_list(KIND)? {
        rotations.push(parse(&kept.id, &kept.bytes)?);
    }
    rotations.sort_by(|a, b| (&a.secret, a.is_sync, a.number).cmp(&(&b.secret, b.is_sync, b.number)));
    Ok(rotations)
}

/// Those of one secret, by its name in the vault.
pub(super) fn rotations_of(vault: &mut Vault, secret: &str) -> Result<Vec<Rotation>, RotateError> {
    let mut rotations = rotations(vault)?;
    rotations.retain(|rotation| rotation.secret == secret);
    Ok(rotations)
}

/// The newest rotation of a secret, by its name in the vault, or a sync of it that is not over.
///
/// # Errors
///
/// Those of [`rotations`].
pub fn latest(vault: &mut Vault, secret: &str) -> Result<Option<Rotation>, RotateError> {
    Ok(rotations_of(vault, secret)?.pop())
}
