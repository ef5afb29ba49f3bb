//! The runs of a key that rotates: each is a step of the rotation, which takes it on, back and to its end.

use reseal_engine::Direction;
use reseal_vault::{Clock, Event, SystemClock, Vault, VaultBatch};

use super::record::{RecordState, RunRecord, records};
use super::run::{ColumnRun, DriveOptions, Purpose};
use crate::error::RotateError;
use crate::plan::Plan;
use crate::vault_cell::VaultCell;

/// Puts every value under the new key, and proves it.
///
/// # Errors
///
/// [`RotateError::Engine`]; [`RotateError::OldValues`] if the database does not take new values in the place of some.
pub(crate) async fn reencrypt(
    plan: &Plan,
    vault: &VaultCell<'_>,
    name: &str,
    options: DriveOptions,
) -> Result<(), RotateError> {
    let mut run = ColumnRun::prepare(plan, vault, name, Purpose::Resume).await?;
    let outcome = run.drive(vault, options).await?;
    match outcome.proof.suppressed() {
        0 => Ok(()),
        count => Err(RotateError::OldValues { count, at: place_of(&run, &outcome.proof) }),
    }
}

/// Puts every value under the old key again, and proves it; a run that the database never heard of changed nothing there.
///
/// # Errors
///
/// [`RotateError::Engine`].
pub(crate) async fn take_back(
    plan: &Plan,
    vault: &VaultCell<'_>,
    name: &str,
    rotation: &str,
    options: DriveOptions,
) -> Result<(), RotateError> {
    let last = begun(plan, vault, name).await?;
    if last.record().plan.direction == Direction::Forward && last.status().await?.is_none() {
        return Ok(());
    }
    let mut back = ColumnRun::prepare(plan, vault, name, Purpose::Rollback).await?;
    if !back.is_begun() {
        back.record_mut().rotation = Some(rotation.to_owned());
        vault.with(|vault| back.begin(vault, None))?;
    }
    back.drive(vault, options).await.map(drop)
}

/// Shows that no value is under the old key, by opening every one.
///
/// # Errors
///
/// [`RotateError::OldValues`] with one of them; [`RotateError::Engine`].
pub(crate) async fn prove(
    plan: &Plan,
    vault: &VaultCell<'_>,
    name: &str,
    options: DriveOptions,
) -> Result<(), RotateError> {
    let run = begun(plan, vault, name).await?;
    let census = run.verify(options).await?.census;
    match census.old() + census.suppressed() {
        0 => Ok(()),
        count => Err(RotateError::OldValues { count, at: place_of(&run, &census) }),
    }
}

/// The last run, which the rotation froze when it began.
async fn begun(plan: &Plan, vault: &VaultCell<'_>, name: &str) -> Result<ColumnRun, RotateError> {
    let run = ColumnRun::prepare(plan, vault, name, Purpose::Verify).await?;
    match run.is_begun() {
        true => Ok(run),
        false => {
            Err(RotateError::NoRun { columns: name.to_owned(), what: "run on this table under this key" })
        }
    }
}

/// Where one of the old values stands.
fn place_of(run: &ColumnRun, census: &reseal_engine::Census) -> String {
    let plan = &run.record().plan;
    let Some(at) = &census.old_at else { return plan.table.to_string() };
    let column = plan.columns.get(at.column).map_or("", |column| column.name.as_str());
    match at.row.as_str() {
        "" => format!("{}.{column}", plan.table),
        row => format!("{}.{column} where {row}", plan.table),
    }
}

/// How the runs of a rotation end together with it.
#[derive(Debug)]
pub(crate) struct Settlement(Vec<(RunRecord, Event)>);

impl Settlement {
    /// The runs of a rotation whose new key is everywhere, or nowhere any more.
    pub(crate) fn of(vault: &mut Vault, rotation: &str, is_back: bool) -> Result<Self, RotateError> {
        let mut ends = Vec::new();
        let of_rotation = |record: &RunRecord| record.rotation.as_deref() == Some(rotation);
        for mut record in records(vault)?.into_iter().filter(of_rotation) {
            let (state, action) = match (record.plan.direction, is_back) {
                (Direction::Forward, true) => (RecordState::RolledBack, "reencrypt undone"),
                (Direction::Forward, false) | (Direction::Rollback, _) => {
                    (RecordState::Settled, "labels moved")
                }
            };
            if record.state != state && record.state != RecordState::RolledBack {
                record.state = state;
                record.ended_at.get_or_insert_with(|| SystemClock.now());
                let event = record.event(Event::done, action);
                ends.push((record, event));
            }
        }
        Ok(Self(ends))
    }

    /// Stores it as part of the transaction that ends the rotation.
    pub(crate) fn put(self, batch: &mut VaultBatch<'_, '_>) -> Result<(), RotateError> {
        self.0.into_iter().try_for_each(|(record, event)| record.put(batch, event))
    }
}
