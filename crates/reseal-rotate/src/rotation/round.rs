//! Several syncs as one round, for applications that need all of their values: every place is written first, then each
//! application is brought over once, then it is checked. They begin in one transaction of the vault and end in one. If one
//! of them fails, all are taken back; if that fails too, all of them wait for a person.

use std::collections::BTreeSet;

use reseal_engine::CancelToken;
use reseal_vault::{Event, Vault, VaultBatch};

use super::action::Action;
use super::connector::Values;
use super::machine::{Ended, Machine, Told, Watch, failed};
use super::outside::Outside;
use super::record::{Rotation, State, Step, StepState};
use super::sync::Sync;
use crate::error::RotateError;
use crate::vault_cell::VaultCell;

/// Syncs that go together.
#[derive(Debug)]
pub struct Round<'a> {
    members: Vec<Member<'a>>,
    /// Results that the next transaction takes along, whosever it is.
    results: Vec<Event>,
}

#[derive(Debug)]
struct Member<'a> {
    rotation: Rotation,
    outside: Outside<'a>,
    values: Values,
}

/// Whose step failed, and why.
struct Stuck {
    secret: String,
    why: String,
}

/// Is told of every step, with the name of its secret in the plan.
pub type NamedWatch<'a> = dyn FnMut(&str, &Step, Told<'_>) + 'a;

/// The syncs among these that go together with one of them, itself included, in the order in which they write.
pub fn round_of(all: &[Rotation], of: &Rotation) -> Vec<Rotation> {
    if of.together().is_empty() {
        return vec![of.clone()];
    }
    let is_member = |one: &&Rotation| one.is_sync && one.together() == of.together();
    let mut members: Vec<_> = all.iter().filter(is_member).cloned().collect();
    members.sort_by_key(|one| of.together().iter().position(|secret| *secret == one.secret));
    members
}

impl<'a> Round<'a> {
    /// Freezes syncs: what all of them are to do becomes durable in one transaction, and nothing outside has changed yet.
    ///
    /// # Errors
    ///
    /// [`RotateError::Overtaken`] if one of the secrets changed meanwhile, or another process began something with it: then
    /// none of them is begun.
    pub fn begin(
        vault: &mut Vault,
        syncs: Vec<(Sync, Outside<'a>)>,
        reason: Option<&str>,
    ) -> Result<Self, RotateError> {
        let mut together: Vec<_> = syncs.iter().map(|(sync, _)| sync.secret().to_string()).collect();
        if together.len() == 1 {
            together.clear();
        }
        let members = vault.batch(|batch| {
            let (mut members, mut events) = (Vec::new(), Vec::new());
            for (sync, outside) in syncs {
                let (rotation, values) = sync.freeze(batch, &together, reason)?;
                events.push(rotation.event(Event::intent("sync")));
                members.push(Member { rotation, outside, values });
            }
            Ok::<_, RotateError>((members, audit_but_last(batch, events)?))
        })?;
        Ok(Self { members, results: Vec::new() })
    }

    /// Goes on with all syncs of a round, as [`round_of`] finds them. Releases what they write.
    ///
    /// # Errors
    ///
    /// [`RotateError::Vault`].
    pub fn of(vault: &mut Vault, syncs: Vec<(Rotation, Outside<'a>)>) -> Result<Self, RotateError> {
        let mut members = Vec::new();
        for (rotation, mut outside) in syncs {
            outside.remember(&rotation);
            let values = rotation.values(vault)?;
            members.push(Member { rotation, outside, values });
        }
        Ok(Self { members, results: Vec::new() })
    }

    /// The syncs as they stand.
    pub fn rotations(&self) -> impl Iterator<Item = &Rotation> {
        self.members.iter().map(|member| &member.rotation)
    }

    /// What they write.
    pub fn values(&self) -> impl Iterator<Item = &Values> {
        self.members.iter().map(|member| &member.values)
    }

    /// Brings the syncs to their end in the direction that they have, all of them or none; says of each how it ended.
    ///
    /// # Errors
    ///
    /// [`RotateError::Interrupted`], [`RotateError::SyncOvertaken`] where one could not come to its end any more, and those
    /// of [`Machine::go_on`]: the state of each is kept, and the same call goes on.
    pub async fn go_on(
        &mut self,
        vault: &mut Vault,
        cancel: &CancelToken,
        watch: &mut NamedWatch<'_>,
    ) -> Result<Vec<Ended>, RotateError> {
        let ended = self.onward(vault, cancel, watch).await;
        self.kept(vault, ended)
    }

    /// Takes all of them back to what they found.
    ///
    /// # Errors
    ///
    /// Those of [`go_on`](Self::go_on).
    pub async fn roll_back(
        &mut self,
        vault: &mut Vault,
        cancel: &CancelToken,
        watch: &mut NamedWatch<'_>,
    ) -> Result<Vec<Ended>, RotateError> {
        let ended = match self.turn_around(vault, None) {
            Ok(()) => self.back(vault, cancel, watch).await,
            Err(error) => Err(error),
        };
        self.kept(vault, ended)
    }

    /// Who was driven when a signal came has been saved; the others are now.
    fn kept<T>(&mut self, vault: &mut Vault, ended: Result<T, RotateError>) -> Result<T, RotateError> {
        if let Err(RotateError::Interrupted { secret, .. }) = &ended {
            let is_other = |one: &Rotation| one.secret != *secret;
            self.transact(vault, is_other, |rotation, batch| {
                rotation.store(batch)?;
                Ok(failed(rotation.doing(), "interrupted"))
            })?;
        }
        ended
    }

    async fn onward(
        &mut self,
        vault: &mut Vault,
        cancel: &CancelToken,
        watch: &mut NamedWatch<'_>,
    ) -> Result<Vec<Ended>, RotateError> {
        let mut stuck = None;
        if self.rotations().all(|one| one.state == State::Changing) {
            self.check_current(vault)?;
            stuck = self.forward(vault, cancel, watch).await?;
            if stuck.is_none() {
                return self.end(vault, State::Done);
            }
        }
        self.turn_around(vault, stuck.as_ref())?;
        self.back(vault, cancel, watch).await
    }

    /// A value that is not the current one any more is brought nowhere else.
    fn check_current(&self, vault: &mut Vault) -> Result<(), RotateError> {
        for rotation in self.rotations() {
            if vault.show(&rotation.secret.parse()?)?.labels.current != Some(rotation.to) {
                return Err(rotation.sync_overtaken());
            }
        }
        Ok(())
    }

    /// Does every step of all of them, or says who could not.
    async fn forward(
        &mut self,
        vault: &mut Vault,
        cancel: &CancelToken,
        watch: &mut NamedWatch<'_>,
    ) -> Result<Option<Stuck>, RotateError> {
        let waves: BTreeSet<Wave> = self.rotations().flat_map(|one| &one.steps).map(wave).collect();
        let mut brought = BTreeSet::new();
        for now in waves {
            for at in 0..self.members.len() {
                self.members[at].follow(&brought, StepState::Done);
                let before = self.members[at].apps(StepState::Done);
                let part = async |one: &mut Machine<'_, '_>| one.advance(|step| wave(step) == now).await;
                if let Some(stuck) = self.drive(at, vault, cancel, watch, part).await? {
                    return Ok(Some(stuck));
                }
                brought.extend(self.members[at].apps(StepState::Done).difference(&before).cloned());
            }
        }
        Ok(None)
    }

    /// From here on all of them go back; `stuck` is who made it so.
    fn turn_around(&mut self, vault: &mut Vault, stuck: Option<&Stuck>) -> Result<(), RotateError> {
        let is_forward = |one: &Rotation| one.state != State::Undoing;
        self.transact(vault, is_forward, |rotation, batch| {
            rotation.state = State::Undoing;
            rotation.attention = None;
            let why = stuck.filter(|stuck| stuck.secret == rotation.secret).map(|stuck| stuck.why.clone());
            let event = match &why {
                Some(why) => failed(rotation.doing(), why),
                None => Event::intent("rollback"),
            };
            rotation.failure = why.or_else(|| rotation.failure.take());
            rotation.store(batch)?;
            Ok(event)
        })
    }

    /// Takes all of them back, the last one first: what each found is what those before it had written.
    async fn back(
        &mut self,
        vault: &mut Vault,
        cancel: &CancelToken,
        watch: &mut NamedWatch<'_>,
    ) -> Result<Vec<Ended>, RotateError> {
        // No application is brought back while a place holds what another one does not.
        for writes_only in [true, false] {
            let mut brought = BTreeSet::new();
            for at in (0..self.members.len()).rev() {
                self.members[at].follow(&brought, StepState::Undone);
                let before = self.members[at].apps(StepState::Undone);
                let is_meant = |step: &Step| !writes_only || wave(step) == WRITES;
                let part = async |one: &mut Machine<'_, '_>| one.retreat(is_meant).await;
                if let Some(stuck) = self.drive(at, vault, cancel, watch, part).await? {
                    return self.park(vault, stuck);
                }
                brought.extend(self.members[at].apps(StepState::Undone).difference(&before).cloned());
            }
        }
        self.end(vault, State::RolledBack)
    }

    /// Lets the state machine do a part of a member, or says that it could not.
    async fn drive(
        &mut self,
        at: usize,
        vault: &mut Vault,
        cancel: &CancelToken,
        watch: &mut NamedWatch<'_>,
        part: impl AsyncFnOnce(&mut Machine<'_, '_>) -> Result<Option<String>, RotateError>,
    ) -> Result<Option<Stuck>, RotateError> {
        let Self { members, results } = self;
        let Member { rotation, outside, values } = &mut members[at];
        let name = rotation.name.clone();
        let mut told = |step: &Step, told: Told<'_>| watch(&name, step, told);
        let watch: &mut Watch<'_> = &mut told;
        let vault = VaultCell::new(vault);
        let mut machine =
            Machine::new(&vault, outside, rotation.clone(), values.clone(), cancel.clone(), watch);
        machine.results.append(results);
        let done = part(&mut machine).await;
        results.append(&mut machine.results);
        *rotation = machine.rotation().clone();
        let secret = rotation.secret.clone();
        Ok(done?.map(|why| Stuck { secret, why }))
    }

    /// Where one goes neither forward nor back, all of them wait for a person.
    fn park(&mut self, vault: &mut Vault, stuck: Stuck) -> Result<Vec<Ended>, RotateError> {
        let Stuck { secret, why } = stuck;
        let whose = self.rotations().find(|one| one.secret == secret).map(|one| one.name.clone());
        let of_others = format!("{}: {why}", whose.unwrap_or_default());
        self.transact(
            vault,
            |_| true,
            |rotation, batch| {
                let why = if rotation.secret == secret { &why } else { &of_others };
                rotation.attention = Some(why.clone());
                rotation.store(batch)?;
                Ok(failed("needs attention", why))
            },
        )?;
        let ended = |one: &Rotation| Ended::NeedsAttention { why: one.attention.clone().unwrap_or_default() };
        Ok(self.rotations().map(ended).collect())
    }

    fn end(&mut self, vault: &mut Vault, state: State) -> Result<Vec<Ended>, RotateError> {
        self.transact(vault, |_| true, |rotation, batch| rotation.end_sync(batch, state))?;
        let ended = |one: &Rotation| match state {
            State::Done => Ended::Done,
            _ => Ended::RolledBack { why: one.failure.clone(), by_policy: false },
        };
        Ok(self.rotations().map(ended).collect())
    }

    /// One transaction over those that are meant.
    fn transact(
        &mut self,
        vault: &mut Vault,
        is_meant: impl Fn(&Rotation) -> bool,
        mut part: impl FnMut(&mut Rotation, &mut VaultBatch<'_, '_>) -> Result<Event, RotateError>,
    ) -> Result<(), RotateError> {
        let Self { members, results } = self;
        let mut meant: Vec<_> =
            members.iter_mut().map(|member| &mut member.rotation).filter(|one| is_meant(one)).collect();
        if meant.is_empty() {
            return Ok(());
        }
        let mut events = std::mem::take(results);
        vault.batch(|batch| {
            for rotation in &mut meant {
                let event = part(rotation, batch)?;
                events.push(rotation.event(event));
            }
            Ok(((), audit_but_last(batch, events)?))
        })
    }
}

impl Member<'_> {
    /// Takes applications as brought over, or brought back, that another member has seen to.
    fn follow(&mut self, apps: &BTreeSet<String>, state: StepState) {
        for step in &mut self.rotation.steps {
            let is_seen_to = brought_over(step).is_some_and(|app| apps.contains(app));
            if is_seen_to && (state == StepState::Done || step.is_begun()) {
                step.state = state;
            }
        }
    }

    fn apps(&self, state: StepState) -> BTreeSet<String> {
        let steps = self.rotation.steps.iter().filter(|step| step.state == state);
        steps.filter_map(brought_over).map(str::to_owned).collect()
    }
}

fn brought_over(step: &Step) -> Option<&str> {
    match &step.action {
        Action::BringOver { app } => Some(app),
        _ => None,
    }
}

/// Audits all but the last of these events, which its transaction ends with.
fn audit_but_last(batch: &mut VaultBatch<'_, '_>, mut events: Vec<Event>) -> Result<Event, RotateError> {
    let last = events.pop().unwrap_or_else(|| Event::intent("sync"));
    events.into_iter().try_for_each(|event| batch.audit(event))?;
    Ok(last)
}

/// When a step is done: every member comes as far before the next goes on. The writes; then turn by turn the bringing over, and
/// the checks.
type Wave = (usize, bool);

const WRITES: Wave = (0, false);

fn wave(step: &Step) -> Wave {
    match step.action {
        Action::BringOver { .. } => (1 + step.turn, false),
        Action::CheckApp { .. } | Action::CheckSecret { .. } => (1 + step.turn, true),
        _ => WRITES,
    }
}
