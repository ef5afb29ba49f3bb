//! What the plan and the vault say is true of a secret between rotations, and a look at whether it is.

use reseal_crypto::OsRandom;
use reseal_vault::{Label, SecretName, Timestamp, Vault, VaultError, VersionSelector};

use super::action::{Action, LoginAt, Which};
use super::connector::{StepError, Values};
use super::finding::{Finding, Subject, Truth};
use super::freeze::{self, Former};
use super::left::left_over;
use super::outside::Outside;
use super::record::{Rotation, State, Step, rotations_of, turn};
use crate::columns::is_kept;
use crate::error::RotateError;
use crate::plan::Plan;
use crate::services::wrong_value;

/// What is to be true of a secret now.
#[derive(Debug)]
pub struct Claim {
    pub(super) name: String,
    pub(super) secret: SecretName,
    /// The version before the current one, or the current one where there is none.
    pub(super) from: u64,
    /// The current version.
    pub(super) to: u64,
    /// What would make it true; the current value is the new one.
    pub(super) steps: Vec<Step>,
    pub(super) values: Values,
    /// The versions of what abandoned rotations left, as `values` has them.
    left: Vec<u64>,
    /// When the overlap was over, if nobody ended the old value since.
    overdue: Option<Timestamp>,
    /// Whether the last rotation has not ended the value before yet, though it may be overdue or another current since.
    is_overlap: bool,
    /// Whether the value before is still to let in.
    overlaps: bool,
}

impl Claim {
    /// What is to be true of `name`, by its name in the plan, where no rotation of it is in the middle. Releases the current
    /// value, the one before it and what abandoned rotations left.
    ///
    /// From `now` on an old value whose overlap is over must not work; without it that is left open, as long as nobody
    /// ended it.
    ///
    /// # Errors
    ///
    /// [`RotateError::UnknownSecret`], [`RotateError::NoCurrentValue`], [`RotateError::Open`] in the middle of a rotation,
    /// [`RotateError::NotRotated`].
    pub fn of(
        plan: &Plan,
        vault: &mut Vault,
        name: &str,
        now: Option<Timestamp>,
    ) -> Result<Self, RotateError> {
        let settings = plan.secret(name)?;
        let full_name = plan.secret_name(name);
        let secret: SecretName = full_name.parse()?;
        let rotations = rotations_of(vault, &full_name)?;
        let last = rotations.last();
        if let Some(open) = last.filter(|last| last.is_unfinished()) {
            return Err(RotateError::open(open));
        }
        let missing = || RotateError::NoCurrentValue { secret: secret.to_string() };
        let info = match vault.show(&secret) {
            Err(VaultError::NotFound { .. }) => return Err(missing()),
            other => other?,
        };
        let to = info.labels.get(Label::Current).ok_or_else(missing)?;
        // A value that came by another way says nothing about the rotation before it.
        let brought = last.filter(|last| last.to == to && last.state != State::RolledBack);
        let overdue = brought.and_then(Rotation::retire_due).filter(|due| now.is_some_and(|now| *due <= now));
        let is_overlap = last.is_some_and(|last| last.state == State::Overlap);
        let former = former(brought, overdue.is_some());
        let mut steps = freeze::standing(plan, name, &settings, former)?;
        let is_new_role = brought.and_then(|last| turn(&last.steps)).map(|turn| &turn.idle);
        if let (Some(role), Some(turn)) = (is_new_role, turn(&steps))
            && *role != turn.idle
        {
            steps.iter_mut().for_each(|step| step.action.swap_turn());
        }

        let new = vault.get(&secret, VersionSelector::Number(to))?.value;
        let from = brought.map(|last| last.from).or(info.labels.get(Label::Previous));
        let mut old = None;
        if let Some(from) = from
            && is_kept(vault, &secret, from)?
        {
            let value = vault.get(&secret, VersionSelector::Number(from))?.value;
            old = Some((from, value)).filter(|(_, value)| *value != new);
        }
        // Where a person put another value in its place, both values of an overlap are let in all the same.
        let mut overlapping = Vec::new();
        if let Some(last) = last.filter(|_| is_overlap) {
            for version in [last.from, last.to] {
                if is_kept(vault, &secret, version)? {
                    overlapping.push(vault.get(&secret, VersionSelector::Number(version))?.value);
                }
            }
        }
        let in_use: Vec<_> = overlapping.iter().chain([&new]).collect();
        let left = left_over(vault, &secret, &rotations, &in_use)?;
        // What an abandoned rotation left is told of as that.
        if old.as_ref().is_none_or(|(_, old)| left.iter().any(|left| left.value == *old)) {
            steps.retain(|step| !matches!(step.action, Action::TestLogin { value: Which::Old, .. }));
        }
        let (from, old) = match old {
            Some(old) => old,
            None => (to, wrong_value(&OsRandom)?),
        };
        let versions = left.iter().map(|left| left.version).collect();
        let values = Values::new(old, new).with_left(left).of_turn(turn(&steps));
        let overlaps = former.works;
        Ok(Self {
            name: name.to_owned(),
            secret,
            from,
            to,
            steps,
            values,
            left: versions,
            overdue,
            is_overlap,
            overlaps,
        })
    }

    /// The steps that would make it true.
    pub fn steps(&self) -> &[Step] {
        &self.steps
    }

    /// Both values, as [`Outside`] takes them.
    pub fn values(&self) -> &Values {
        &self.values
    }

    /// The applications that read it.
    pub fn apps(&self) -> impl Iterator<Item = &str> {
        self.steps.iter().filter_map(|step| match &step.action {
            Action::CheckApp { app } => Some(app.as_str()),
            _ => None,
        })
    }

    /// Looks at everything: one finding for each thing. Changes nothing.
    pub async fn look(&mut self, outside: &mut Outside<'_>) -> Vec<Finding> {
        self.look_at_steps(outside).await.into_iter().flatten().collect()
    }

    /// The same, step by step.
    pub(super) async fn look_at_steps(&mut self, outside: &mut Outside<'_>) -> Vec<Vec<Finding>> {
        let mut all = Vec::new();
        if let Err((at, why)) = self.find_turn(outside).await {
            // Which of two roles is to stand in files and to be changed next is not known.
            all.resize(self.steps.len(), Vec::new());
            let login = self.steps.iter().position(|step| matches!(step.action, Action::TestLogin { .. }));
            all[login.unwrap_or(0)].push(Finding::new(Subject::Login, at, Truth::Unknown, why.to_string()));
            return all;
        }
        for step in &self.steps {
            let mut action = step.action.clone();
            if let Action::AddLogin(at) = &action
                && at.turn.is_some()
            {
                if self.overlaps {
                    // The other role is in use too: it is nobody's turn yet.
                    all.push(Vec::new());
                    continue;
                }
                // The next turn goes from the role that is in use now.
                action.swap_turn();
            }
            let mut found = outside.look(&action, &self.values).await;
            found.iter_mut().for_each(|finding| self.tell_of_overlap(finding));
            if let Action::TestLogin { at, value: Which::New, .. } = &action {
                let lets_in = found.iter().all(|finding| finding.truth != Truth::Differs);
                found.extend(self.look_at_left(at, lets_in, outside).await);
            }
            all.push(found);
        }
        all
    }

    /// Whether what abandoned rotations left still lets in: nobody is to get in with it, unless the current value does not.
    async fn look_at_left(
        &self,
        at: &LoginAt,
        current_lets_in: bool,
        outside: &mut Outside<'_>,
    ) -> Vec<Finding> {
        let mut all = Vec::new();
        for (version, value) in self.left.iter().zip(self.values.left()) {
            let values = Values::new(value.clone(), self.values.new.clone());
            for at in at.everyone() {
                let refused = Action::TestLogin { at, value: Which::Old, accepted: false };
                let mut found = outside.look(&refused, &values).await;
                for finding in &mut found {
                    finding.target.push_str(&format!(", version {version}"));
                    if finding.lingers {
                        finding.saw.push_str(&format!(
                            ", left by an abandoned rotation; {}",
                            self.way_out_of_left(*version, current_lets_in)
                        ));
                    }
                }
                all.extend(found);
            }
        }
        all
    }

    fn way_out_of_left(&self, version: u64, current_lets_in: bool) -> String {
        let Self { name, secret, .. } = self;
        match (current_lets_in, self.is_overlap) {
            (false, _) => format!(
                "`reseal revert {secret} --to {version} --vault-only` and `reseal sync {name}` go on with it"
            ),
            (true, true) => format!("`reseal rotate retire {name}` ends it"),
            (true, false) => "the next rotation ends it".to_owned(),
        }
    }

    fn tell_of_overlap(&self, finding: &mut Finding) {
        if self.overdue.is_some() && finding.lingers {
            finding.saw.push_str(&format!("; its overlap is over: `reseal rotate retire {}`", self.name));
        }
    }

    /// Which of two roles that take turns is in use, only the server knows.
    async fn find_turn(&mut self, outside: &mut Outside<'_>) -> Result<(), (String, StepError)> {
        let found = self.steps.iter().find(|step| step.action.login().is_some_and(|at| at.turn.is_some()));
        let Some(at) = found.and_then(|step| step.action.login()) else { return Ok(()) };
        let is_turned = outside.is_turned(at, Which::New, &self.values.new).await;
        // Where neither is let in, the look at the login says so.
        if is_turned.map_err(|why| (at.to_string(), why))? == Some(true) {
            self.steps.iter_mut().for_each(|step| step.action.swap_turn());
            self.values = self.values.clone().of_turn(turn(&self.steps));
        }
        Ok(())
    }
}

/// What holds the value before the current one, after the rotation that brought the current one out.
fn former(brought: Option<&Rotation>, is_overdue: bool) -> Former {
    match brought {
        None => Former { works: false, place: None },
        Some(last) if last.state == State::Overlap && !is_overdue => {
            Former { works: true, place: Some(Which::Old) }
        }
        Some(last) if last.retires() => Former { works: false, place: Some(Which::Nothing) },
        // It had no place by the plan of that time: what stands in one now is nobody's to judge, least of all to fill.
        Some(_) => Former { works: false, place: None },
    }
}
