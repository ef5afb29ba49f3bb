//! The state machine: drives a rotation forward, back, and to its end.
//!
//! ```text
//! changing --all done--> [labels move] overlap --due--> retiring --> done
//!    |  failed              |   |           ^              | failed
//!    v                      |   `-- no retire: done    unretiring
//! undoing <--- rollback ----'
//!    |                                              a step back that fails parks it: "needs attention"
//!    v                                                 |
//! rolled back [pending version discarded]              `-- a person gives it up: abandoned
//! ```
//!
//! Every step is announced in the vault before it is done and reported after; the report of one and the announcement of
//! the next are one transaction. After a crash the world is probed: the journal may be one step behind it.

mod order;
mod saved;
mod vaulted;

use reseal_crypto::SecretBytes;
use reseal_engine::CancelToken;
use reseal_vault::{Event, Outcome, SecretName, Timestamp, VaultBatch, VaultError};

use order::{proofs_of_old, undo_order};

use super::action::Action;
use super::connector::{Connector, Standing, StepError, Values};
use super::owed;
use super::record::{Act, Rotation, State, Step, StepState};
use crate::columns::Settlement;
use crate::error::RotateError;
use crate::vault_cell::VaultCell;

/// How a rotation stands when a command ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ended {
    /// The new value is everywhere, and nothing of the old one is left to end.
    Done,
    /// The new value is everywhere; the old one works until then.
    Overlap {
        /// When it is due to end.
        until: Timestamp,
    },
    /// It failed, and everything is as it was before.
    RolledBack {
        /// What failed; `None` if the operator asked for it.
        why: Option<String>,
        /// Whether the service refused the value by a rule of its own, so that another value may do.
        by_policy: bool,
    },
    /// The old value was not to end yet: nothing was changed, and both values work.
    Refused {
        /// What is in the way.
        why: String,
    },
    /// Neither forward nor back.
    NeedsAttention {
        /// What stands in the way.
        why: String,
    },
}

/// What is told of a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Told<'a> {
    /// It is about to be done.
    Begun,
    /// It is done.
    Done,
    /// It is taken back.
    Undone,
    /// It failed.
    Failed(&'a str),
}

/// Is told of every step.
pub type Watch<'a> = dyn FnMut(&Step, Told<'_>) + 'a;

/// A rotation, the vault that remembers it, and the world that it changes.
pub struct Machine<'a, 'v> {
    vault: &'a VaultCell<'v>,
    world: &'a mut dyn Connector,
    rotation: Rotation,
    values: Values,
    cancel: CancelToken,
    watch: &'a mut Watch<'a>,
    /// Results that the next transaction takes along.
    pub(super) results: Vec<Event>,
    by_policy: bool,
}

impl std::fmt::Debug for Machine<'_, '_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Machine").field("rotation", &self.rotation).finish_non_exhaustive()
    }
}

/// Why a half did not come to its end.
enum Halt {
    /// The world said no.
    Step(String),
    /// Anything that ends the command and leaves the state as it is.
    Command(RotateError),
}

impl From<RotateError> for Halt {
    fn from(error: RotateError) -> Self {
        Self::Command(error)
    }
}

impl<'a, 'v> Machine<'a, 'v> {
    /// Over a rotation that is stored in `vault`; `cancel` stops it between steps.
    pub fn new(
        vault: &'a VaultCell<'v>,
        world: &'a mut dyn Connector,
        rotation: Rotation,
        values: Values,
        cancel: CancelToken,
        watch: &'a mut Watch<'a>,
    ) -> Self {
        Self { vault, world, rotation, values, cancel, watch, results: Vec::new(), by_policy: false }
    }

    /// Goes on in the direction that the rotation has, to where nothing is left to do now.
    ///
    /// # Errors
    ///
    /// [`RotateError::Interrupted`]; [`RotateError::Vault`] and [`RotateError::Overtaken`] if the vault cannot say what
    /// happens. The state is kept, and the same call goes on.
    pub async fn go_on(&mut self) -> Result<Ended, RotateError> {
        loop {
            match self.rotation.state {
                State::Changing => match self.forward(Act::Change, |_| true).await {
                    Ok(()) => self.finish()?,
                    Err(halt) => self.turn_back(halt, State::Undoing)?,
                },
                State::Retiring => match self.forward(Act::Retire, |_| true).await {
                    Ok(()) => self.retired()?,
                    Err(halt) => self.turn_back(halt, State::Unretiring)?,
                },
                State::Undoing => {
                    if let Err(halt) = self.back(&[Act::Retire, Act::Change], |_| true).await {
                        return self.park(halt);
                    }
                    self.rolled_back()?;
                }
                State::Unretiring => {
                    if let Err(halt) = self.back(&[Act::Retire], |_| true).await {
                        return self.park(halt);
                    }
                    return self.unretired();
                }
                State::Overlap => {
                    let until = self.rotation.retire_due().unwrap_or(self.rotation.begun_at);
                    return Ok(Ended::Overlap { until });
                }
                State::Done => return Ok(Ended::Done),
                State::Abandoned => {
                    return Err(RotateError::Abandoned { secret: self.rotation.secret.clone() });
                }
                State::RolledBack => {
                    let why = self.rotation.failure.clone();
                    return Ok(Ended::RolledBack { why, by_policy: self.by_policy });
                }
            }
            if let Some(why) = self.rotation.attention.clone() {
                return Ok(Ended::NeedsAttention { why });
            }
        }
    }

    /// Takes it back: files, service and labels, as far as it came. What cannot be taken back stays: whoever asks for this
    /// knows of it.
    ///
    /// # Errors
    ///
    /// [`RotateError::NothingToRollBack`] once the old value has ended, and those of [`go_on`](Self::go_on).
    pub async fn roll_back(&mut self) -> Result<Ended, RotateError> {
        let has_ended = self.rotation.state == State::Done && self.rotation.retires();
        if has_ended || matches!(self.rotation.state, State::RolledBack | State::Abandoned) {
            return Err(RotateError::NothingToRollBack { secret: self.rotation.secret.clone() });
        }
        if self.rotation.state != State::Undoing {
            self.rotation.state = State::Undoing;
            self.rotation.attention = None;
            self.save(Event::intent("rollback"))?;
        }
        self.go_on().await
    }

    /// Ends the old value.
    ///
    /// # Errors
    ///
    /// [`RotateError::NothingToRetire`] unless both values work; [`RotateError::NotCurrent`] if the new one is not the
    /// current one any more; those of [`go_on`](Self::go_on).
    pub async fn retire(&mut self) -> Result<Ended, RotateError> {
        match self.rotation.state {
            State::Retiring | State::Unretiring => {}
            State::Overlap => {
                for step in self.rotation.steps.iter_mut().filter(|step| step.act == Act::Retire) {
                    step.state = StepState::Todo;
                }
                self.rotation.state = State::Retiring;
                self.rotation.failure = None;
                let name: SecretName = self.rotation.secret.parse()?;
                let current = self.vault.with(|vault| self.rotation.check_current(vault, &self.values))?;
                self.commit(|rotation, batch| {
                    if batch.labels(&name)?.current != Some(current) {
                        return Err(RotateError::Overtaken { secret: rotation.secret.clone() });
                    }
                    rotation.store(batch)?;
                    Ok(rotation.event(Event::intent("retire old value")))
                })?;
            }
            _ => return Err(RotateError::NothingToRetire { secret: self.rotation.secret.clone() }),
        }
        self.go_on().await
    }

    /// The rotation as it stands.
    pub fn rotation(&self) -> &Rotation {
        &self.rotation
    }

    /// Does the steps of the change that are meant, and none of the others; why one failed, if that was so. What is next is
    /// for the caller to say.
    pub(super) async fn advance(
        &mut self,
        is_meant: impl Fn(&Step) -> bool,
    ) -> Result<Option<String>, RotateError> {
        stuck(self.forward(Act::Change, is_meant).await)
    }

    /// Takes the steps of the change back that are meant, and none of the others; why that failed, if it did.
    pub(super) async fn retreat(
        &mut self,
        is_meant: impl Fn(&Step) -> bool,
    ) -> Result<Option<String>, RotateError> {
        stuck(self.back(&[Act::Change], is_meant).await)
    }

    async fn forward(&mut self, act: Act, is_meant: impl Fn(&Step) -> bool) -> Result<(), Halt> {
        for index in 0..self.rotation.steps.len() {
            let step = &self.rotation.steps[index];
            if step.act != act || step.state == StepState::Done || !is_meant(step) {
                continue;
            }
            self.check_cancelled()?;
            (self.watch)(&self.rotation.steps[index], Told::Begun);
            match self.do_step(index).await {
                Ok(()) => (self.watch)(&self.rotation.steps[index], Told::Done),
                Err(halt) => return Err(self.told_halt(index, halt)),
            }
        }
        Ok(())
    }

    async fn do_step(&mut self, index: usize) -> Result<(), Halt> {
        let action = self.rotation.steps[index].action.clone();
        if action.is_proof() {
            self.prove(&action).await?;
        } else {
            self.change(index, &action).await?;
        }
        self.rotation.steps[index].state = StepState::Done;
        self.results.push(self.rotation.event(Event::done(action.to_string())));
        Ok(())
    }

    /// Announces a step and does it; one that was announced before a crash is done unless the world says that it is.
    async fn change(&mut self, index: usize, action: &Action) -> Result<(), Halt> {
        let is_resumed = self.rotation.steps[index].state == StepState::Doing;
        if is_resumed {
            // What was captured before the crash stays: by now the world may be changed already.
            let kept = self.rotation.steps[index].kept();
            let standing = self.world.probe(action, &self.values, &kept).await;
            if standing.map_err(|error| self.said(error))? == Standing::Done {
                return Ok(());
            }
        } else {
            let kept = self.world.capture(action, &self.values).await.map_err(|error| self.said(error))?;
            self.rotation.steps[index].begin(kept);
            self.save(Event::intent(action.to_string()))?;
        }
        match action {
            Action::SaveOutput { name, .. } => return self.save_output(action, name).await,
            Action::BackUp { file } => return self.back_up(file, is_resumed),
            Action::Reencrypt { columns, stopped } => return self.reencrypt(columns, stopped).await,
            _ => {}
        }
        let kept = self.rotation.steps[index].kept();
        self.world.apply(action, &self.values, &kept).await.map_err(|error| self.said(error))
    }

    /// Proofs change nothing, so a signal may break them off.
    async fn prove(&mut self, action: &Action) -> Result<(), Halt> {
        if let Action::ProveColumns { columns } = action {
            return self.prove_columns(columns).await;
        }
        let (cancel, nothing) = (self.cancel.clone(), SecretBytes::default());
        let proved = tokio::select! {
            proved = self.world.apply(action, &self.values, &nothing) => proved,
            () = cancel.cancelled() => return Err(self.interrupted().into()),
        };
        proved.map_err(|error| self.said(error))
    }

    async fn back(&mut self, acts: &[Act], is_meant: impl Fn(&Step) -> bool) -> Result<(), Halt> {
        for index in undo_order(&self.rotation.steps, acts) {
            if !is_meant(&self.rotation.steps[index]) {
                continue;
            }
            self.check_cancelled()?;
            match self.undo_step(index).await {
                Ok(()) => (self.watch)(&self.rotation.steps[index], Told::Undone),
                Err(halt) => return Err(self.told_halt(index, halt)),
            }
        }
        // What a sync was to mend may be as broken as it was.
        let proofs =
            if self.rotation.is_sync { Vec::new() } else { proofs_of_old(&self.rotation.steps, acts) };
        for proof in proofs {
            self.check_cancelled()?;
            self.prove(&proof).await.map_err(|halt| match halt {
                Halt::Step(why) => Halt::Step(format!("everything is back, but {proof}: {why}")),
                command @ Halt::Command(_) => command,
            })?;
        }
        Ok(())
    }

    async fn undo_step(&mut self, index: usize) -> Result<(), Halt> {
        let step = &self.rotation.steps[index];
        let (action, kept) = (step.action.clone(), step.kept());
        self.save(Event::intent(format!("undo: {action}")))?;
        if let Some((columns, stopped)) = self.taken_back(&action) {
            self.take_back(&columns, &stopped).await?;
        } else if !(self.rotation.is_sync && matches!(action, Action::FeedCommand { .. })) {
            // A command that was fed the value that is current anyway keeps it.
            let undone = if action.follows_files() {
                self.world.apply(&action, &self.values, &kept).await
            } else {
                self.world.undo(&action, &self.values, &kept).await
            };
            undone.map_err(|error| self.said(error))?;
        }
        self.rotation.steps[index].state = StepState::Undone;
        self.results.push(self.rotation.event(Event::done(format!("undo: {action}"))));
        Ok(())
    }

    /// The labels move, and the rotation is over or waits for the end of the old value.
    fn finish(&mut self) -> Result<(), RotateError> {
        if self.rotation.is_sync {
            return self.end_sync(State::Done);
        }
        let name: SecretName = self.rotation.secret.parse()?;
        let runs = self.vault.with(|vault| Settlement::of(vault, &self.rotation.id(), false))?;
        let rotation = &mut self.rotation;
        rotation.state = if rotation.retires() { State::Overlap } else { State::Done };
        (rotation.attention, rotation.failure) = (None, None);
        self.commit(|rotation, batch| {
            if batch.labels(&name)?.pending != Some(rotation.to) {
                return Err(RotateError::Overtaken { secret: rotation.secret.clone() });
            }
            batch.promote(&name)?;
            owed::settle(batch, &rotation.secret)?;
            rotation.finished_at = Some(batch.now());
            if rotation.state == State::Done {
                rotation.ended_at = Some(batch.now());
            }
            runs.put(batch)?;
            rotation.store(batch)?;
            Ok(rotation.event(Event::done("rotate")))
        })
    }

    fn retired(&mut self) -> Result<(), RotateError> {
        let name: SecretName = self.rotation.secret.parse()?;
        let rotation = &mut self.rotation;
        (rotation.attention, rotation.failure) = (None, None);
        rotation.state = State::Done;
        rotation.forget_kept();
        self.commit(|rotation, batch| {
            match batch.retire(&name, rotation.from) {
                // In use again, or destroyed: then nothing is left to retire.
                Ok(()) | Err(VaultError::Refused(_)) => {}
                Err(error) => return Err(error.into()),
            }
            rotation.ended_at = Some(batch.now());
            rotation.store(batch)?;
            Ok(rotation.event(Event::done("retire old value")))
        })
    }

    fn rolled_back(&mut self) -> Result<(), RotateError> {
        if self.rotation.is_sync {
            return self.end_sync(State::RolledBack);
        }
        let name: SecretName = self.rotation.secret.parse()?;
        let runs = self.vault.with(|vault| Settlement::of(vault, &self.rotation.id(), true))?;
        let new = self.vault.with(|vault| self.rotation.promoted(vault, &self.values))?;
        let rotation = &mut self.rotation;
        rotation.attention = None;
        rotation.state = State::RolledBack;
        rotation.forget_kept();
        self.commit(|rotation, batch| {
            let labels = batch.labels(&name)?;
            if labels.pending == Some(rotation.to) {
                batch.discard_pending(&name)?;
            } else if new.is_some() && labels.current == new {
                batch.revert(&name, rotation.from)?;
            }
            runs.put(batch)?;
            rotation.ended_at = Some(batch.now());
            rotation.store(batch)?;
            Ok(rotation.event(Event::done("rollback")))
        })
    }

    fn end_sync(&mut self, state: State) -> Result<(), RotateError> {
        self.commit(|rotation, batch| {
            let event = rotation.end_sync(batch, state)?;
            Ok(rotation.event(event))
        })
    }

    fn unretired(&mut self) -> Result<Ended, RotateError> {
        self.rotation.state = State::Overlap;
        self.rotation.attention = None;
        self.save(Event::done("undo: retire old value"))?;
        let why = self.rotation.failure.clone();
        let is_undone = |step: &Step| step.act == Act::Retire && step.state == StepState::Undone;
        if self.rotation.steps.iter().any(is_undone) {
            return Ok(Ended::RolledBack { why, by_policy: false });
        }
        Ok(Ended::Refused { why: why.unwrap_or_default() })
    }

    /// A half that failed is taken back, unless a step of it cannot be: then it waits for a person.
    fn turn_back(&mut self, halt: Halt, to: State) -> Result<(), RotateError> {
        let why = match halt {
            Halt::Step(why) => why,
            Halt::Command(error) => return Err(error),
        };
        let act = if to == State::Unretiring { Act::Retire } else { Act::Change };
        self.rotation.failure = Some(why.clone());
        self.rotation.attention = self.rotation.past_return(act).map(|step| step.stands_behind(&why));
        if self.rotation.attention.is_none() {
            self.rotation.state = to;
        }
        self.save(failed(self.rotation.doing(), why))
    }

    fn park(&mut self, halt: Halt) -> Result<Ended, RotateError> {
        let why = match halt {
            Halt::Step(why) => why,
            Halt::Command(error) => return Err(error),
        };
        self.rotation.attention = Some(why.clone());
        self.save(failed("needs attention", why.clone()))?;
        Ok(Ended::NeedsAttention { why })
    }

    /// Makes the state and every result so far durable, together with this event.
    fn save(&mut self, event: Event) -> Result<(), RotateError> {
        self.commit(|rotation, batch| {
            rotation.store(batch)?;
            Ok(rotation.event(event))
        })
    }

    /// One transaction of the vault, which takes along every result so far and ends with the event that `work` returns.
    fn commit(
        &mut self,
        work: impl FnOnce(&mut Rotation, &mut VaultBatch<'_, '_>) -> Result<Event, RotateError>,
    ) -> Result<(), RotateError> {
        let results = std::mem::take(&mut self.results);
        let rotation = &mut self.rotation;
        self.vault.with(|vault| {
            vault.batch(|batch| {
                results.into_iter().try_for_each(|event| batch.audit(event))?;
                Ok(((), work(rotation, batch)?))
            })
        })
    }

    fn check_cancelled(&mut self) -> Result<(), RotateError> {
        if self.cancel.is_cancelled() { Err(self.interrupted()) } else { Ok(()) }
    }

    /// What is known is made durable: the next command need not find it out.
    fn interrupted(&mut self) -> RotateError {
        match self.save(failed(self.rotation.doing(), "interrupted")) {
            Ok(()) => self.rotation.interrupted(),
            Err(error) => error,
        }
    }

    fn said(&mut self, error: StepError) -> Halt {
        self.by_policy |= error.wants_another_value();
        Halt::Step(error.to_string())
    }

    fn told_halt(&mut self, index: usize, halt: Halt) -> Halt {
        let Halt::Step(why) = halt else { return halt };
        let step = &self.rotation.steps[index];
        (self.watch)(step, Told::Failed(&why));
        Halt::Step(format!("{}: {why}", step.action))
    }
}

/// Why steps did not come to their end, unless the command ends with it.
fn stuck(done: Result<(), Halt>) -> Result<Option<String>, RotateError> {
    match done {
        Ok(()) => Ok(None),
        Err(Halt::Step(why)) => Ok(Some(why)),
        Err(Halt::Command(error)) => Err(error),
    }
}

/// The event of something that did not succeed.
pub(super) fn failed(action: &str, why: impl Into<String>) -> Event {
    Event { outcome: Outcome::Failed, ..Event::done(action) }.detail(why)
}
