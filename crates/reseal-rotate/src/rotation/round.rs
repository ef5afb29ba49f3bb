//! Several syncs at once, for applications that need all of their values: every place is written first, then each
//! application is brought over once, then it is checked. If one of them fails, all are taken back.

use std::collections::BTreeSet;

use reseal_engine::CancelToken;
use reseal_vault::{Event, Vault};

use super::action::Action;
use super::connector::Values;
use super::machine::{Ended, Machine, Told, Watch};
use super::outside::Outside;
use super::record::{Rotation, State, Step, StepState};
use crate::error::RotateError;

/// A sync that goes together with others.
#[derive(Debug)]
pub struct Member<'a> {
    rotation: Rotation,
    outside: Outside<'a>,
    values: Values,
    /// Results that its next transaction takes along.
    results: Vec<Event>,
}

/// Is told of every step, with the name of its secret in the plan.
type NamedWatch<'a> = dyn FnMut(&str, &Step, Told<'_>) + 'a;

impl<'a> Member<'a> {
    /// A sync that has begun. Releases what it writes.
    ///
    /// # Errors
    ///
    /// [`RotateError::Vault`]; [`RotateError::SyncOvertaken`] where it could not come to its end any more.
    pub fn new(vault: &mut Vault, rotation: Rotation, outside: Outside<'a>) -> Result<Self, RotateError> {
        let current = vault.show(&rotation.secret.parse()?)?.labels.current;
        if rotation.state == State::Changing && current != Some(rotation.to) {
            return Err(rotation.sync_overtaken());
        }
        let values = rotation.values(vault)?;
        Ok(Self { rotation, outside, values, results: Vec::new() })
    }

    /// The sync as it stands.
    pub fn rotation(&self) -> &Rotation {
        &self.rotation
    }

    /// What it writes.
    pub fn values(&self) -> &Values {
        &self.values
    }

    /// Lets the state machine do a part of it.
    async fn drive<T>(
        &mut self,
        vault: &mut Vault,
        cancel: &CancelToken,
        watch: &mut NamedWatch<'_>,
        part: impl AsyncFnOnce(&mut Machine<'_>) -> Result<T, RotateError>,
    ) -> Result<T, RotateError> {
        let name = self.rotation.name.clone();
        let mut told = |step: &Step, told: Told<'_>| watch(&name, step, told);
        let watch: &mut Watch<'_> = &mut told;
        let (rotation, values) = (self.rotation.clone(), self.values.clone());
        let mut machine = Machine::new(vault, &mut self.outside, rotation, values, cancel.clone(), watch);
        machine.results = std::mem::take(&mut self.results);
        let done = part(&mut machine).await;
        self.results = std::mem::take(&mut machine.results);
        self.rotation = machine.rotation().clone();
        done
    }

    /// Takes applications as brought over, or brought back, that another member has seen to.
    fn follow(&mut self, apps: &BTreeSet<String>, state: StepState) {
        let of_apps = |step: &&mut Step| brought_over(step).is_some_and(|app| apps.contains(app));
        self.rotation.steps.iter_mut().filter(of_apps).for_each(|step| step.state = state);
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

/// Brings syncs to their end, all of them or none; says of each how it ended.
///
/// # Errors
///
/// Those of [`Machine::go_on`]: the state of each is kept, and the same call goes on.
pub async fn go_together(
    vault: &mut Vault,
    members: &mut [Member<'_>],
    cancel: &CancelToken,
    watch: &mut NamedWatch<'_>,
) -> Result<Vec<Ended>, RotateError> {
    if !forward(vault, members, cancel, watch).await? {
        return back(vault, members, cancel, watch).await;
    }
    let mut ended = Vec::new();
    for member in members {
        ended.push(member.drive(vault, cancel, watch, async |machine| machine.go_on().await).await?);
    }
    Ok(ended)
}

/// Whether every step of all of them is done.
async fn forward(
    vault: &mut Vault,
    members: &mut [Member<'_>],
    cancel: &CancelToken,
    watch: &mut NamedWatch<'_>,
) -> Result<bool, RotateError> {
    let is_changing =
        |members: &[Member<'_>]| members.iter().all(|member| member.rotation.state == State::Changing);
    let waves: BTreeSet<Wave> = members.iter().flat_map(|member| &member.rotation.steps).map(wave).collect();
    let mut brought = BTreeSet::new();
    let mut is_announced = members.len() == 1;
    for now in waves {
        if now != WRITES && !is_announced && is_changing(members) {
            for member in &mut *members {
                member.drive(vault, cancel, watch, async |one| one.announce_bringing_over()).await?;
            }
            is_announced = true;
        }
        for at in 0..members.len() {
            if !is_changing(members) {
                return Ok(false);
            }
            let member = &mut members[at];
            member.follow(&brought, StepState::Done);
            let before = member.apps(StepState::Done);
            member
                .drive(vault, cancel, watch, async |one| one.advance(|step| wave(step) == now).await)
                .await?;
            brought.extend(member.apps(StepState::Done).difference(&before).cloned());
        }
    }
    Ok(is_changing(members))
}

/// Takes all of them back, the last one first: what each found is what those before it had written.
async fn back(
    vault: &mut Vault,
    members: &mut [Member<'_>],
    cancel: &CancelToken,
    watch: &mut NamedWatch<'_>,
) -> Result<Vec<Ended>, RotateError> {
    let mut parked = Vec::new();
    for member in members.iter_mut().rev() {
        let written = async |one: &mut Machine<'_>| one.retreat(|step| wave(step) == WRITES).await;
        parked.push(member.drive(vault, cancel, watch, written).await?);
    }
    let (mut brought, mut ended) = (BTreeSet::new(), Vec::new());
    for (member, parked) in members.iter_mut().rev().zip(parked) {
        if let Some(parked) = parked {
            ended.push(parked);
            continue;
        }
        member.follow(&brought, StepState::Undone);
        let before = member.apps(StepState::Undone);
        ended.push(member.drive(vault, cancel, watch, async |one| one.go_on().await).await?);
        brought.extend(member.apps(StepState::Undone).difference(&before).cloned());
    }
    ended.reverse();
    Ok(ended)
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
