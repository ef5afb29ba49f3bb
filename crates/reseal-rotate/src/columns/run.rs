//! One `[columns.NAME]` joined with its run: looked at, begun, driven, settled.

use std::sync::Arc;

use reseal_crypto::random::OsRandom;
use reseal_crypto::{KeyMaterial, KeyRef, Keyring};
use reseal_engine::{
    CancelToken, ColumnPlan, Direction, EngineError, Job, Observer, Outcome, QuarantineRecord, Refusal,
    RunId, RunKey, RunOptions, RunPlan, Side, Silent, Status, Survey, Verification,
};
use reseal_formats::FormatSpec;
use reseal_vault::{Event, SecretName, Vault, VaultBatch};

use super::ids::Place;
use super::keys;
use super::record::{RecordState, RunRecord, latest, next_number, records};
use super::second_copy::{SecondCopy, find_second_copy, waiver};
use super::target::Target;
use crate::error::{RotateError, UNDONE};
use crate::plan::{Columns, Plan};
use crate::vault_cell::VaultCell;

/// What a run is prepared for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// To look: at the unfinished run, else at what a new one would do, with or without a new key.
    Look,
    /// To re-encrypt: goes on with an unfinished run, else freezes a new one.
    Run,
    /// To re-encrypt in the place of a run that is active in the database and that this vault does not know: it was
    /// restored from an older backup, or the vault that began the run is lost.
    Supersede(RunId),
    /// To go on with whatever is unfinished.
    Resume,
    /// To take the last run back: goes on with an unfinished rollback, else freezes one.
    Rollback,
    /// To check what stands there: the last run, or the current key where there was none.
    Verify,
}

/// How the engine goes about it.
pub struct DriveOptions {
    /// Options of the engine.
    pub run: RunOptions,
    /// Who watches.
    pub observer: Arc<dyn Observer>,
    /// Is given the token that stops the run after the batches in flight.
    pub on_start: Box<dyn FnOnce(CancelToken) + Send>,
}

impl std::fmt::Debug for DriveOptions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("DriveOptions").field("run", &self.run).finish_non_exhaustive()
    }
}

/// Columns of the plan with the run that concerns them.
#[derive(Debug)]
pub struct ColumnRun {
    record: RunRecord,
    is_stored: bool,
    has_new_key: bool,
    keyring: Keyring,
    target: Target,
}

impl ColumnRun {
    /// Finds or drafts the run of `name` and releases its keys. Changes nothing but the audit log, and draws the ids of
    /// columns that have none.
    ///
    /// # Errors
    ///
    /// [`RotateError::UnknownColumns`], [`RotateError::NoCurrentKey`], [`RotateError::NoPendingKey`],
    /// [`RotateError::WrongKind`],
    /// [`RotateError::NoRun`], [`RotateError::Unfinished`], [`RotateError::KnownRun`],
    /// [`RotateError::OtherColumns`], [`RotateError::ColumnId`], and those
    /// of vault and database.
    pub async fn prepare(
        plan: &Plan,
        vault: &VaultCell<'_>,
        name: &str,
        purpose: Purpose,
    ) -> Result<Self, RotateError> {
        let columns = described(plan, name)?;
        let last = vault.with(|vault| latest(vault, plan, name))?;
        let number = vault.with(|vault| next_number(vault, name))?;
        match (purpose, last) {
            (Purpose::Rollback, Some(last)) if last.plan.direction == Direction::Forward => {
                vault.with(|vault| Self::draft_rollback(plan, vault, &last, number))
            }
            (Purpose::Run, Some(last))
                if last.is_unfinished() && last.plan.direction == Direction::Rollback =>
            {
                Err(RotateError::Unfinished { columns: name.to_owned(), unfinished: "rollback" })
            }
            (Purpose::Supersede(run), _) => {
                if let Some(known) = vault.with(records)?.into_iter().find(|record| record.plan.run == run) {
                    return Err(RotateError::KnownRun { run, columns: known.columns });
                }
                Self::draft(plan, vault, (name, columns), number, Purpose::Run, Some(run)).await
            }
            // What ended may need a version that is destroyed since; the current key is the one to look with then.
            (Purpose::Verify, Some(last))
                if !last.is_unfinished() && !vault.with(|vault| keys::are_kept(vault, &last.plan))? =>
            {
                let columns =
                    Columns { from: last.lands_in().unwrap_or(&columns.from).clone(), ..columns.clone() };
                Self::draft(plan, vault, (name, &columns), number, purpose, None).await
            }
            (_, Some(last)) if last.is_open(purpose) => vault.with(|vault| Self::stored(plan, vault, last)),
            (Purpose::Resume, _) => {
                Err(RotateError::NoRun { columns: name.to_owned(), what: "unfinished run" })
            }
            (Purpose::Rollback, Some(_)) => {
                Err(RotateError::NoRun { columns: name.to_owned(), what: UNDONE })
            }
            (Purpose::Rollback, None) => {
                Err(RotateError::NoRun { columns: name.to_owned(), what: "run to take back" })
            }
            (Purpose::Look | Purpose::Run | Purpose::Verify, _) => {
                Self::draft(plan, vault, (name, columns), number, purpose, None).await
            }
        }
    }

    /// The run, frozen or about to be.
    pub fn record(&self) -> &RunRecord {
        &self.record
    }

    pub(super) fn record_mut(&mut self) -> &mut RunRecord {
        &mut self.record
    }

    /// Whether the run is frozen already.
    pub fn is_begun(&self) -> bool {
        self.is_stored
    }

    /// Whether there is a new key; a plan can be looked at without.
    pub fn has_new_key(&self) -> bool {
        self.has_new_key
    }

    /// Looks at the target and opens a sample of it. Writes nothing.
    ///
    /// # Errors
    ///
    /// [`RotateError::Engine`].
    pub async fn survey(&self) -> Result<Survey, RotateError> {
        let engine = self.target.engine(self.job()?, RunOptions::default(), Arc::new(Silent));
        Ok(engine.survey().await?)
    }

    /// Refuses where another run is active on the table, and says which command is next.
    ///
    /// # Errors
    ///
    /// [`RotateError::OtherRun`].
    pub fn check_other_run(&self, survey: &Survey, vault: &mut Vault) -> Result<(), RotateError> {
        let other = survey.refusals().iter().find_map(|refusal| match refusal {
            Refusal::OtherRun { run, .. } => Some(*run),
            _ => None,
        });
        let Some(run) = other else { return Ok(()) };
        let known = records(vault)?.into_iter().find(|record| record.plan.run == run);
        Err(RotateError::OtherRun {
            run,
            table: self.record.plan.table.to_string(),
            known_as: known.map(|record| record.columns),
            columns: self.record.columns.clone(),
        })
    }

    /// Where the second copy of the new key is; `None` if there is none.
    ///
    /// # Errors
    ///
    /// [`RotateError::Vault`].
    pub fn second_copy(&self, vault: &mut Vault) -> Result<Option<SecondCopy>, RotateError> {
        match self.record.keys() {
            Some((secret, _, new)) => find_second_copy(vault, secret, new),
            None => Ok(None),
        }
    }

    /// Refuses a run whose new key exists once only, unless `waived` gives a reason.
    ///
    /// # Errors
    ///
    /// [`RotateError::NoSecondCopy`].
    pub fn check_second_copy(&self, vault: &mut Vault, waived: Option<&str>) -> Result<(), RotateError> {
        match self.version_at_risk(vault)? {
            Some((secret, version)) if waived.is_none() => Err(RotateError::NoSecondCopy { secret, version }),
            _ => Ok(()),
        }
    }

    /// Freezes the run in the vault: durable when it returns, and the database has not heard of it yet.
    ///
    /// # Errors
    ///
    /// [`RotateError::NoSecondCopy`] if the new key is in no backup and `waived` gives no reason.
    pub fn begin(&mut self, vault: &mut Vault, waived: Option<&str>) -> Result<(), RotateError> {
        if self.is_stored {
            return Ok(());
        }
        self.check_second_copy(vault, waived)?;
        if let (Some((secret, version)), Some(reason)) = (self.version_at_risk(vault)?, waived) {
            vault.record_event(waiver(&secret, version, reason))?;
        }
        let event = self.record.event(Event::intent, self.action());
        self.record.store(vault, event)?;
        self.is_stored = true;
        if self.record.plan.direction == Direction::Forward && self.record.plan.supersedes.is_some() {
            self.end_predecessors(vault)?;
        }
        Ok(())
    }

    /// Freezes the run as part of the transaction that begins a rotation of its key.
    pub(crate) fn begin_with(
        mut self,
        batch: &mut VaultBatch<'_, '_>,
        rotation: &str,
    ) -> Result<(), RotateError> {
        self.record.rotation = Some(rotation.to_owned());
        let event = self.record.event(Event::intent, self.action());
        self.record.put(batch, event)
    }

    /// Runs the engine until the proof, or goes on with it, and records how it ended.
    ///
    /// # Errors
    ///
    /// [`RotateError::Engine`]; whatever it is, the same call goes on.
    pub async fn drive(
        &mut self,
        vault: &VaultCell<'_>,
        options: DriveOptions,
    ) -> Result<Outcome, RotateError> {
        let engine = self.target.engine(self.job()?, options.run, options.observer);
        (options.on_start)(engine.cancel_token());
        match engine.run().await {
            Ok(outcome) if outcome.proof.old() != 0 => {
                let what = format!("the proof found {} old values", outcome.proof.old());
                Err(EngineError::NeedsAttention(what).into())
            }
            Ok(outcome) => {
                vault.with(|vault| self.proved(vault))?;
                Ok(outcome)
            }
            Err(error) => {
                vault.with(|vault| vault.record_event(failed(&self.record, self.action(), &error)))?;
                Err(error.into())
            }
        }
    }

    fn proved(&mut self, vault: &mut Vault) -> Result<(), RotateError> {
        self.record.reload(vault)?;
        if self.record.state != RecordState::Active {
            return Ok(());
        }
        let event = self.record.event(Event::done, self.action());
        self.record.end(vault, RecordState::Proved, event)
    }

    /// Opens every value under one snapshot.
    ///
    /// # Errors
    ///
    /// [`RotateError::Engine`].
    pub async fn verify(&self, options: DriveOptions) -> Result<Verification, RotateError> {
        let engine = self.target.engine(self.job()?, options.run, options.observer);
        (options.on_start)(engine.cancel_token());
        Ok(engine.verify().await?)
    }

    /// Where the run stands by its own account; `None` if the database does not know it.
    ///
    /// # Errors
    ///
    /// [`RotateError::Engine`].
    pub async fn status(&self) -> Result<Option<Status>, RotateError> {
        let engine = self.target.engine(self.job()?, RunOptions::default(), Arc::new(Silent));
        Ok(engine.status().await?)
    }

    /// Values that some pass left as they were: `limit` of them at most.
    ///
    /// # Errors
    ///
    /// [`RotateError::Engine`].
    pub async fn quarantined(&self, limit: u64) -> Result<Vec<QuarantineRecord>, RotateError> {
        let engine = self.target.engine(self.job()?, RunOptions::default(), Arc::new(Silent));
        Ok(engine.quarantined(limit).await?)
    }

    /// Ends what the vault holds to be unfinished of these columns: the database went on without it.
    fn end_predecessors(&self, vault: &mut Vault) -> Result<(), RotateError> {
        let is_open = |other: &RunRecord| {
            other.is_beside(&self.record) && other.plan.run != self.record.plan.run && other.is_unfinished()
        };
        for mut other in records(vault)?.into_iter().filter(is_open) {
            let event = other.event(Event::done, "reencrypt superseded");
            other.end(vault, RecordState::RolledBack, event)?;
        }
        Ok(())
    }

    /// The version that values will be under and that exists once only.
    fn version_at_risk(&self, vault: &mut Vault) -> Result<Option<(String, u64)>, RotateError> {
        let is_forward = self.record.plan.direction == Direction::Forward;
        let Some((secret, _, version)) = self.record.keys().filter(|_| is_forward) else { return Ok(None) };
        let copy = find_second_copy(vault, secret, version)?;
        Ok(copy.is_none().then(|| (secret.to_owned(), version)))
    }

    fn job(&self) -> Result<Job, EngineError> {
        Job::new(self.record.plan.clone(), &self.keyring, self.record.run_key())
    }

    fn action(&self) -> &'static str {
        match self.record.plan.direction {
            Direction::Forward => "reencrypt",
            Direction::Rollback => "reencrypt rollback",
        }
    }

    fn stored(plan: &Plan, vault: &mut Vault, record: RunRecord) -> Result<Self, RotateError> {
        let target = Target::of(plan, &record.server, vault)?;
        let keyring = keys::release(vault, &record.plan)?;
        Ok(Self { record, is_stored: true, has_new_key: true, keyring, target })
    }

    fn draft_rollback(
        plan: &Plan,
        vault: &mut Vault,
        forward: &RunRecord,
        number: u64,
    ) -> Result<Self, RotateError> {
        let reversed = forward.plan.reversed(RunId::generate(&OsRandom)?);
        let run_key = RunKey::generate(&OsRandom)?;
        let record = RunRecord::new(number, &forward.columns, &forward.server, reversed, run_key);
        Ok(Self { is_stored: false, ..Self::stored(plan, vault, record)? })
    }

    async fn draft(
        plan: &Plan,
        vault: &VaultCell<'_>,
        (name, columns): (&str, &Columns),
        number: u64,
        purpose: Purpose,
        supersedes: Option<RunId>,
    ) -> Result<Self, RotateError> {
        let secret: SecretName = plan.secret_name(&columns.key).parse()?;
        let (old, new) =
            match (vault.with(|vault| keys::labelled(vault, &secret, &columns.target())), purpose) {
                (Ok(pair), Purpose::Run | Purpose::Look) => (pair.old, Some(pair.new)),
                (Err(error @ RotateError::WrongKind { .. }), Purpose::Look) | (Err(error), Purpose::Run) => {
                    return Err(error);
                }
                (Err(RotateError::NoPendingKey { .. } | RotateError::WrongKind { .. }) | Ok(_), _) => {
                    (vault.with(|vault| keys::current(vault, &secret))?, None)
                }
                (Err(error), _) => return Err(error),
            };
        let has_new_key = new.is_some();
        // Without a run, values are what they were, under the key that they were under.
        let to = if purpose == Purpose::Verify { columns.from.clone() } else { columns.target() };
        let (new, keyring) = match (new, purpose) {
            (Some(new), _) => {
                let keyring = vault.with(|vault| keys::release_all(vault, [&old, &new]))?;
                (new, keyring)
            }
            (None, Purpose::Verify) => (old.clone(), vault.with(|vault| keys::release_all(vault, [&old]))?),
            (None, _) => {
                let new =
                    KeyRef { version: vault.with(|vault| vault.show(&secret))?.latest + 1, ..old.clone() };
                let mut keyring = vault.with(|vault| keys::release_all(vault, [&old]))?;
                let stand_in = keyring.get(&old).map(|old| keys::stand_in(&to, old)).transpose()?;
                stand_in.map(|key| keyring.insert(new.clone(), key)).transpose()?;
                (new, keyring)
            }
        };
        let sides = Sides { old, new, to, keyring, supersedes };
        let run = Self::draft_with(plan, vault, (name, columns), number, sides).await?;
        Ok(Self { has_new_key, ..run })
    }

    /// Drafts the run that a rotation makes: from one version of the key to another that need not be in the vault yet.
    pub(crate) async fn draft_rotation(
        plan: &Plan,
        vault: &VaultCell<'_>,
        name: &str,
        old: KeyRef,
        (new, material): (KeyRef, KeyMaterial),
    ) -> Result<Self, RotateError> {
        let columns = described(plan, name)?;
        let last = vault.with(|vault| latest(vault, plan, name))?;
        if let Some(last) = last.filter(RunRecord::is_unfinished) {
            return Err(RotateError::Unfinished { columns: name.to_owned(), unfinished: last.kind() });
        }
        let mut keyring = vault.with(|vault| keys::release_all(vault, [&old]))?;
        keyring.insert(new.clone(), material)?;
        let number = vault.with(|vault| next_number(vault, name))?;
        let sides = Sides { old, new, to: columns.target(), keyring, supersedes: None };
        Self::draft_with(plan, vault, (name, columns), number, sides).await
    }

    async fn draft_with(
        plan: &Plan,
        vault: &VaultCell<'_>,
        (name, columns): (&str, &Columns),
        number: u64,
        Sides { old, new, to, keyring, supersedes }: Sides,
    ) -> Result<Self, RotateError> {
        let target = vault.with(|vault| Target::of(plan, &columns.server, vault))?;
        let shape = target.describe(columns).await?;
        let mut planned = Vec::with_capacity(columns.columns.len());
        let mut doubtful = Vec::new();
        let place = Place { server: &columns.server, table: &shape.table };
        let found = columns.columns.iter().zip(shape.columns).zip(shape.ids);
        for (index, ((column, column_type), in_database)) in found.enumerate() {
            let (id, in_doubt) = vault.with(|vault| place.candidate(vault, column, in_database))?;
            doubtful.extend(in_doubt.then_some(index));
            planned.push(ColumnPlan {
                name: column.clone(),
                column_type,
                id,
                replaces: None,
                from: Side { spec: columns.from.clone(), key: old.clone() },
                to: Side { spec: to.clone(), key: new.clone() },
            });
        }
        let mut frozen = RunPlan {
            run: RunId::generate(&OsRandom)?,
            direction: Direction::Forward,
            supersedes,
            table: shape.table.clone(),
            key: shape.key,
            columns: planned,
        };
        let run_key = RunKey::generate(&OsRandom)?;
        if !doubtful.is_empty() {
            let job = Job::new(frozen.clone(), &keyring, &run_key)?;
            let read = target.engine(job, RunOptions::default(), Arc::new(Silent)).verify().await?;
            for index in doubtful {
                let column = &mut frozen.columns[index];
                vault.with(|vault| place.settle(vault, column, &read.census, index))?;
            }
        }
        let record = RunRecord::new(number, name, &columns.server, frozen, run_key);
        Ok(Self { record, is_stored: false, has_new_key: true, keyring, target })
    }
}

/// Both keys of a run, and what values become.
struct Sides {
    old: KeyRef,
    new: KeyRef,
    to: FormatSpec,
    keyring: Keyring,
    supersedes: Option<RunId>,
}

/// The columns of this name, with nothing in their description that would be passed over.
fn described<'a>(plan: &'a Plan, name: &str) -> Result<&'a Columns, RotateError> {
    let Some(columns) = plan.columns(name) else {
        let known = plan.column_names().map(str::to_owned).collect();
        return Err(RotateError::UnknownColumns { name: name.to_owned(), known });
    };
    refuse_what_is_not_done(name, columns)?;
    Ok(columns)
}

/// Refuses fields that would be broken by being passed over: companions would keep values under the old key, and
/// formats that need a declared plaintext are not read.
fn refuse_what_is_not_done(name: &str, columns: &Columns) -> Result<(), RotateError> {
    let asked = [("companions", !columns.companions.is_empty()), ("plaintext", columns.plaintext.is_some())];
    match asked.into_iter().find(|(_, is_asked)| *is_asked) {
        Some((field, _)) => Err(RotateError::NotDone { columns: name.to_owned(), field }),
        None => Ok(()),
    }
}

fn failed(record: &RunRecord, action: &'static str, error: &EngineError) -> Event {
    let event = record.event(Event::done, action);
    // The engine's errors name rows and columns, never values.
    Event { outcome: reseal_vault::Outcome::Failed, ..event }.detail(error.to_string())
}
