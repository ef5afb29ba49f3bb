//! Making true what a look found to be different: the current value once more, and no new one.

use std::collections::{BTreeMap, BTreeSet};

use reseal_vault::{SecretName, VaultBatch};

use super::action::{Action, Which};
use super::claim::Claim;
use super::connector::Values;
use super::finding::{Finding, Subject, Truth};
use super::outside::Outside;
use super::proposal::digest;
use super::record::{Act, Rotation, Start, Step};
use crate::error::RotateError;
use crate::plan::{Plan, Strategy};

/// What a sync would do.
#[derive(Debug)]
pub struct Sync {
    start: Start,
    secret: SecretName,
    from: u64,
    to: u64,
    values: Values,
}

impl Sync {
    /// What would make the claim true: files that hold something else, applications that read those or have something else,
    /// their checks, and every command of the plan that stores the value. `None` where nothing of that is to be done.
    ///
    /// # Errors
    ///
    /// [`RotateError::Rehearsal`] where the service does not let the current value in: then it is not the one to write
    /// anywhere.
    pub async fn draft(
        plan: &Plan,
        mut claim: Claim,
        outside: &mut Outside<'_>,
    ) -> Result<(Option<Self>, Vec<Finding>), RotateError> {
        let found = claim.look_at_steps(outside).await;
        refuse_unproved(&claim, &found)?;
        let all: Vec<Finding> = found.iter().flatten().cloned().collect();
        let needed = needed(&claim.steps, &found, outside);
        let (steps, left): (Vec<_>, Vec<_>) =
            claim.steps.into_iter().zip(needed).partition(|(_, is_needed)| *is_needed);
        let steps: Vec<Step> = steps.into_iter().map(|(step, _)| step).collect();
        if !steps.iter().any(|step| !step.action.is_proof()) {
            return Ok((None, all));
        }
        let stands = left.into_iter().map(|(step, _)| step.action).filter(Action::is_write).collect();
        let start = Start {
            secret: claim.secret.to_string(),
            name: claim.name.clone(),
            strategy: plan.secret(&claim.name)?.strategy.unwrap_or(Strategy::InPlace),
            reason: None,
            is_sync: true,
            stands,
            emergency: false,
            overlap: 0,
            plan_digest: digest(plan)?,
            steps,
            baselines: BTreeMap::new(),
        };
        let Claim { secret, from, to, values, .. } = claim;
        // It brings out what is current; what else lets in is for a rotation to end.
        let values = values.with_left(Vec::new());
        Ok((Some(Self { start, secret, from, to, values }), all))
    }

    /// Shows that every step would work, and changes nothing.
    ///
    /// # Errors
    ///
    /// [`RotateError::Rehearsal`] with the first step that something stands in the way of.
    pub async fn rehearse(&mut self, outside: &mut Outside<'_>) -> Result<(), RotateError> {
        outside.mending();
        for step in &self.start.steps {
            let rehearsed = outside.rehearse(&step.action, &self.values).await;
            rehearsed.map_err(|why| self.start.not_rehearsed(&step.action, why))?;
        }
        self.start.baselines.clone_from(outside.baselines());
        Ok(())
    }

    /// The secret, by its name in the plan.
    pub fn name(&self) -> &str {
        &self.start.name
    }

    /// The secret, by its name in the vault.
    pub fn secret(&self) -> &SecretName {
        &self.secret
    }

    /// The version that it brings out once more.
    pub fn version(&self) -> u64 {
        self.to
    }

    /// The steps that it would take.
    pub fn steps(&self) -> &[Step] {
        &self.start.steps
    }

    /// Freezes it as part of a transaction, together with those of other secrets; returns what it writes too.
    pub(super) fn freeze(
        mut self,
        batch: &mut VaultBatch<'_, '_>,
        together: &[String],
        reason: Option<&str>,
    ) -> Result<(Rotation, Values), RotateError> {
        self.start.reason = reason.map(str::to_owned);
        if batch.labels(&self.secret)?.current != Some(self.to) {
            return Err(RotateError::Overtaken { secret: self.secret.to_string() });
        }
        let mut rotation = Rotation::begin(self.start, 0, (self.from, self.to), batch.now());
        rotation.set_together(together);
        rotation.store(batch)?;
        Ok((rotation, self.values))
    }
}

/// A value that does not let in, or lets in like any other, is written nowhere.
fn refuse_unproved(claim: &Claim, found: &[Vec<Finding>]) -> Result<(), RotateError> {
    for (step, found) in claim.steps.iter().zip(found) {
        let unproved = found.iter().find(|one| one.subject == Subject::Login && one.truth != Truth::Holds);
        if let Some(finding) = unproved {
            let why = match finding.truth {
                Truth::Differs => format!(
                    "{}; store the value that the server has with `reseal put {} --vault-only`, then sync",
                    finding.saw, claim.secret
                ),
                _ => finding.saw.clone(),
            };
            return Err(RotateError::Rehearsal {
                secret: claim.name.clone(),
                step: step.action.to_string(),
                why,
                hint: None,
            });
        }
    }
    Ok(())
}

/// Which steps there is a need for.
fn needed(steps: &[Step], found: &[Vec<Finding>], outside: &Outside<'_>) -> Vec<bool> {
    let differs = |found: &[Finding]| found.iter().any(|finding| finding.truth != Truth::Holds);
    let is_written = |step: &Step, found: &[Finding]| step.action.is_write() && differs(found);
    let mut apps: BTreeSet<&str> = BTreeSet::new();
    for (step, found) in steps.iter().zip(found) {
        match &step.action {
            Action::CheckApp { app } => {
                let has_other = found.iter().any(|finding| finding.truth == Truth::Differs);
                if has_other {
                    apps.insert(app);
                }
            }
            Action::EditFile { file, .. } | Action::FillFile { file, .. } if is_written(step, found) => {
                let readers = steps.iter().filter_map(|step| match &step.action {
                    Action::BringOver { app } => Some(app.as_str()),
                    _ => None,
                });
                apps.extend(readers.filter(|app| outside.is_read_by(file, app)));
            }
            _ => {}
        }
    }
    let is_needed = |(step, found): (&Step, &Vec<Finding>)| match &step.action {
        Action::TestLogin { value, .. } => *value == Which::New,
        Action::BringOver { app } | Action::CheckApp { app } => apps.contains(app.as_str()),
        Action::CheckSecret { .. } => step.act == Act::Change,
        action => action.is_write() && differs(found),
    };
    steps.iter().zip(found).map(is_needed).collect()
}
