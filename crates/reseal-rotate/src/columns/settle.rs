//! The labels of a key after a run: they move once, when all columns under the key are where the run leads.

use reseal_engine::Direction;
use reseal_vault::{Event, SecretName, Vault};

use super::record::{RecordState, RunRecord, latest, records};
use super::run::{ColumnRun, DriveOptions, Purpose};
use crate::error::RotateError;
use crate::plan::Plan;
use crate::vault_cell::VaultCell;

/// Where the labels of a key stand after a run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Labels {
    /// Where the run leads: the key that the values are under now is the current one.
    Moved,
    /// Where they were: these columns share the key and are not there yet.
    WaitFor(Vec<String>),
}

impl ColumnRun {
    /// Moves the labels of the key: pending is current, or after a rollback the old version is. They stay while other
    /// columns of `plan` are under the other key, and move for all of them with the last. The proofs of the others may be
    /// old by then, so each is made again, the way that `options` says.
    ///
    /// # Errors
    ///
    /// [`RotateError::Vault`]; [`RotateError::Engine`] if the others cannot be proved again.
    pub async fn settle(
        &mut self,
        plan: &Plan,
        vault: &VaultCell<'_>,
        options: impl Fn() -> DriveOptions,
    ) -> Result<Labels, RotateError> {
        vault.with(|vault| self.record_mut().reload(vault))?;
        let waits_for = vault.with(|vault| self.waits_for(plan, vault))?;
        if !waits_for.is_empty() {
            return Ok(Labels::WaitFor(waits_for));
        }
        if let Some((name, to)) = vault.with(|vault| self.move_left(vault))? {
            for sharer in self.sharers(plan) {
                Self::prepare(plan, vault, &sharer, Purpose::Verify).await?.drive(vault, options()).await?;
            }
            vault.with(|vault| move_to(vault, &name, to))?;
        }
        vault.with(|vault| self.mark_all(plan, vault))?;
        Ok(Labels::Moved)
    }

    /// Records of every run that led here that the labels moved.
    fn mark_all(&mut self, plan: &Plan, vault: &mut Vault) -> Result<(), RotateError> {
        for sharer in self.sharers(plan) {
            if let Some(mut other) = latest(vault, plan, &sharer)?.filter(|other| self.leads_where(other)) {
                mark(&mut other, vault)?;
            }
        }
        mark(self.record_mut(), vault)
    }

    /// The other columns of the plan without which the labels cannot move: they share the key and are not proved to be
    /// where this run leads.
    ///
    /// # Errors
    ///
    /// [`RotateError::Vault`].
    pub fn waits_for(&self, plan: &Plan, vault: &mut Vault) -> Result<Vec<String>, RotateError> {
        if self.move_left(vault)?.is_none() {
            return Ok(Vec::new());
        }
        let mut behind = Vec::new();
        for sharer in self.sharers(plan) {
            if !latest(vault, plan, &sharer)?.is_some_and(|other| self.leads_where(&other)) {
                behind.push(sharer);
            }
        }
        Ok(behind)
    }

    /// The key and the version that has to become its current one; `None` if the labels stand where the run leads.
    fn move_left(&self, vault: &mut Vault) -> Result<Option<(SecretName, u64)>, RotateError> {
        let Some((secret, from, to)) = self.record().keys() else { return Ok(None) };
        let name: SecretName = secret.parse()?;
        let current = vault.show(&name)?.labels.current;
        let is_left = match self.record().plan.direction {
            Direction::Forward => current != Some(to),
            // Where the labels never moved, the key that a rollback leads to is current still.
            Direction::Rollback => current == Some(from),
        };
        Ok(is_left.then_some((name, to)))
    }

    /// The other columns of the plan under this key.
    fn sharers(&self, plan: &Plan) -> Vec<String> {
        let record = self.record();
        let Some((secret, ..)) = record.keys() else { return Vec::new() };
        let shares = |name: &&str| {
            *name != record.columns
                && plan.columns(name).is_some_and(|columns| plan.secret_name(&columns.key) == secret)
        };
        plan.column_names().filter(shares).map(str::to_owned).collect()
    }

    /// Whether another run is proved and left its values under the same key as this one.
    fn leads_where(&self, other: &RunRecord) -> bool {
        let key = |record: &RunRecord| record.keys().map(|(secret, _, to)| (secret.to_owned(), to));
        matches!(other.state, RecordState::Proved | RecordState::Settled) && key(other) == key(self.record())
    }
}

/// Makes a version the current one, as a pending one or again.
fn move_to(vault: &mut Vault, name: &SecretName, to: u64) -> Result<(), RotateError> {
    if vault.show(name)?.labels.pending == Some(to) {
        vault.promote(name)?;
    } else {
        vault.revert(name, to)?;
    }
    Ok(())
}

/// Records that the labels stand where a proved run leads, and that the run it took back is taken back.
fn mark(record: &mut RunRecord, vault: &mut Vault) -> Result<(), RotateError> {
    if let Some(run) = record.plan.supersedes {
        let undone = |other: &RunRecord| other.plan.run == run && other.state != RecordState::RolledBack;
        if let Some(mut forward) = records(vault)?.into_iter().find(undone) {
            let event = forward.event(Event::done, "reencrypt undone");
            forward.end(vault, RecordState::RolledBack, event)?;
        }
    }
    if record.state == RecordState::Proved {
        let event = record.event(Event::done, "labels moved");
        record.end(vault, RecordState::Settled, event)?;
    }
    Ok(())
}
