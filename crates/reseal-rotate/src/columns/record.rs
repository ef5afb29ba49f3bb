//! What the vault remembers of a run: the frozen plan, the run's own key, and how far it came.

use std::fmt;

use reseal_crypto::SecretBytes;
use reseal_engine::{Direction, EngineError, RunKey, RunPlan};
use reseal_formats::FormatSpec;
use reseal_vault::{Clock, Event, SystemClock, Timestamp, Vault, VaultBatch};
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use zeroize::Zeroizing;

use super::Purpose;
use crate::error::RotateError;
use crate::plan::{Columns, Plan};

/// The kind of these records in the vault's journal.
const KIND: &str = "column-run";

/// How far a run came, as the vault knows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RecordState {
    /// Frozen, perhaps begun, not proved.
    Active,
    /// Proved: one snapshot held nothing old. The labels may still have to move.
    Proved,
    /// Proved, and the labels moved.
    Settled,
    /// Taken back by a rollback.
    RolledBack,
}

impl RecordState {
    /// The word in reports.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Proved => "proved",
            Self::Settled => "done",
            Self::RolledBack => "rolled-back",
        }
    }
}

/// A run as the vault keeps it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct RunRecord {
    /// Counts the runs by this name, from 1.
    pub number: u64,
    /// The columns, by their name in the plan.
    pub columns: String,
    /// The server, by its name in the plan.
    pub server: String,
    /// What is written, frozen.
    pub plan: RunPlan,
    /// How far it came.
    pub state: RecordState,
    /// When it was frozen.
    pub begun_at: Timestamp,
    /// When it was proved or taken back.
    pub ended_at: Option<Timestamp>,
    /// The rotation of the key that it is part of: that one takes it on, back, and to its end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rotation: Option<String>,
    run_key: KeptKey,
}

/// The run's own key. It is stored with the run, not derived: it survives a change of the vault key.
#[derive(Clone)]
struct KeptKey(RunKey);

impl fmt::Debug for KeptKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("KeptKey")
    }
}

impl Serialize for KeptKey {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        // EXPOSE: sealed into the vault's journal.
        serializer.serialize_str(&reseal_crypto::text::encode_key(self.0.expose()))
    }
}

impl<'de> Deserialize<'de> for KeptKey {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = Zeroizing::new(String::deserialize(deserializer)?);
        let key = reseal_crypto::text::decode_key(text.as_bytes());
        key.map(|key| Self(RunKey::from_bytes(&key))).ok_or_else(|| D::Error::custom("not a run key"))
    }
}

impl RunRecord {
    /// A run that begins now.
    pub(super) fn new(number: u64, columns: &str, server: &str, plan: RunPlan, run_key: RunKey) -> Self {
        Self {
            number,
            columns: columns.to_owned(),
            server: server.to_owned(),
            plan,
            state: RecordState::Active,
            begun_at: SystemClock.now(),
            ended_at: None,
            rotation: None,
            run_key: KeptKey(run_key),
        }
    }

    /// The run's own key.
    pub(super) fn run_key(&self) -> &RunKey {
        &self.run_key.0
    }

    /// The word for its direction.
    pub fn kind(&self) -> &'static str {
        match self.plan.direction {
            Direction::Forward => "run",
            Direction::Rollback => "rollback",
        }
    }

    /// The secret whose versions are the keys, and the versions of the old and the new one.
    pub fn keys(&self) -> Option<(&str, u64, u64)> {
        let column = self.plan.columns.first()?;
        Some((&column.from.key.secret, column.from.key.version, column.to.key.version))
    }

    /// Whether it is about what a plan means by this name. Another plan may keep its keys in the same vault and give the
    /// name to columns of its own.
    pub fn is_of(&self, plan: &Plan, name: &str) -> bool {
        let is_meant = |columns: &Columns| {
            columns.is_in(&self.plan.table)
                && self.keys().is_none_or(|(secret, ..)| secret == plan.secret_name(&columns.key))
        };
        self.columns == name && plan.columns(name).is_none_or(is_meant)
    }

    /// What values look like where it leads.
    pub(super) fn lands_in(&self) -> Option<&FormatSpec> {
        self.plan.columns.first().map(|column| &column.to.spec)
    }

    /// Whether another run is about the same columns.
    pub(super) fn is_beside(&self, other: &Self) -> bool {
        let secret = |record: &Self| record.keys().map(|(secret, ..)| secret.to_owned());
        self.columns == other.columns && self.plan.table == other.plan.table && secret(self) == secret(other)
    }

    /// Whether something is left to do for it: its proof, or the labels.
    pub fn is_unfinished(&self) -> bool {
        matches!(self.state, RecordState::Active | RecordState::Proved)
    }

    /// Whether [`ColumnRun::prepare`](super::ColumnRun::prepare) takes it up for this purpose.
    pub fn is_open(&self, purpose: Purpose) -> bool {
        match purpose {
            Purpose::Rollback => self.plan.direction == Direction::Forward || self.is_unfinished(),
            Purpose::Verify => true,
            Purpose::Look | Purpose::Run => self.is_unfinished(),
            // Once the application writes under the new key, somebody may still have written under the old one.
            Purpose::Resume => {
                self.is_unfinished() || (self.state == RecordState::Settled && self.rotation.is_some())
            }
            Purpose::Supersede(_) => false,
        }
    }

    /// Stores it, together with an audit entry.
    pub(super) fn store(&self, vault: &mut Vault, event: Event) -> Result<(), RotateError> {
        let (id, json) = self.to_bytes()?;
        Ok(vault.journal_put(KIND, &id, &json, event)?)
    }

    /// Stores it, together with an audit entry, as part of a transaction.
    pub(super) fn put(&self, batch: &mut VaultBatch<'_, '_>, event: Event) -> Result<(), RotateError> {
        let (id, json) = self.to_bytes()?;
        batch.journal_put(KIND, &id, &json)?;
        Ok(batch.audit(event)?)
    }

    fn to_bytes(&self) -> Result<(String, SecretBytes), RotateError> {
        let id = self.plan.run.to_string();
        let json = serde_json::to_vec(self).map_err(|_| RotateError::Record { run: id.clone() })?;
        Ok((id, SecretBytes::new(json)))
    }

    /// The run as the vault has it now: another process may have ended it, or taken it back.
    pub(super) fn reload(&mut self, vault: &mut Vault) -> Result<(), RotateError> {
        match records(vault)?.into_iter().rfind(|other| self.is_beside(other)) {
            Some(now) if now.plan.run == self.plan.run && now.state != RecordState::RolledBack => {
                *self = now;
                Ok(())
            }
            _ => {
                let what =
                    format!("run {} is not the last one of `{}` any more", self.plan.run, self.columns);
                Err(EngineError::Conflict(what).into())
            }
        }
    }

    /// Stores that it ended.
    pub(super) fn end(
        &mut self,
        vault: &mut Vault,
        state: RecordState,
        event: Event,
    ) -> Result<(), RotateError> {
        self.state = state;
        self.ended_at.get_or_insert_with(|| SystemClock.now());
        self.store(vault, event)
    }

    /// An event about it.
    pub(super) fn event(&self, make: fn(&'static str) -> Event, action: &'static str) -> Event {
        let event = make(action).of(&self.columns).run(self.plan.run.to_string());
        match self.keys() {
            Some((secret, old, new)) => event.detail(format!("{secret} version {old} to {new}")),
            None => event,
        }
    }
}

/// Every run that the vault remembers, by columns, the oldest first.
///
/// # Errors
///
/// [`RotateError::Vault`]; [`RotateError::Record`] if one cannot be read.
pub fn records(vault: &mut Vault) -> Result<Vec<RunRecord>, RotateError> {
    let mut records = Vec::new();
    for kept in vault.journal_list(KIND)? {
        // EXPOSE: parsed into types that wipe themselves.
        let record: RunRecord =
            serde_json::from_slice(kept.bytes.expose()).map_err(|_| RotateError::Record { run: kept.id })?;
        records.push(record);
    }
    records.sort_by(|a, b| (&a.columns, a.number).cmp(&(&b.columns, b.number)));
    Ok(records)
}

/// The newest run of what a plan means by this name.
///
/// # Errors
///
/// [`RotateError::OtherColumns`] if one by this name that is not over is about something else: it must not get out of sight.
pub(super) fn latest(vault: &mut Vault, plan: &Plan, name: &str) -> Result<Option<RunRecord>, RotateError> {
    let (own, other): (Vec<_>, Vec<_>) = records(vault)?
        .into_iter()
        .filter(|record| record.columns == name)
        .partition(|record| record.is_of(plan, name));
    match other.iter().rfind(|other| other.is_unfinished()) {
        Some(other) => Err(RotateError::OtherColumns {
            columns: name.to_owned(),
            table: other.plan.table.to_string(),
            key: other.keys().map(|(secret, ..)| secret.to_owned()).unwrap_or_default(),
        }),
        None => Ok(own.into_iter().next_back()),
    }
}

/// The number of the next run by this name.
pub(super) fn next_number(vault: &mut Vault, name: &str) -> Result<u64, RotateError> {
    let last = records(vault)?.into_iter().rfind(|record| record.columns == name);
    Ok(last.map_or(0, |last| last.number) + 1)
}
