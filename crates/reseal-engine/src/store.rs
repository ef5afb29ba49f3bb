//! The seam between the engine and the databases it works on.
//!
//! ```text
//! engine:  claim -> read -> (rayon: open, seal, reopen) -> write -> claim …     one session per worker
//! store:   span     Batch                     VerifiedBatch -> rows + span in one transaction
//! ```
//!
//! A store decides how rows are found and written; the engine decides what is written and keeps the account. Every
//! session works alone: nothing is shared between two sessions but the database.

use std::sync::Arc;

use async_trait::async_trait;

use crate::batch::{Batch, Position, key_fields};
use crate::error::EngineError;
use crate::ledger::{RunState, ScanRange, SealedSpan, SpanRecord};
use crate::observer::Observer;
use crate::plan::Job;
use crate::survey::TableFacts;
use crate::verified::{ByReason, Lease, Quarantined, Reason, VerifiedBatch};

/// A database that holds the columns of a run.
#[async_trait]
pub trait Store: Send + Sync + 'static {
    /// How many workers it can use at most.
    fn workers_max(&self) -> usize;

    /// Connects, for one worker.
    ///
    /// # Errors
    ///
    /// [`EngineError::Database`] if the database cannot be reached or does not let us in.
    async fn session(&self, job: Arc<Job>) -> Result<Box<dyn Session>, EngineError>;
}

/// How much one read may return. At least one row is returned where there is one, whatever its size.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReadLimits {
    /// Rows.
    pub rows: usize,
    /// Bytes of all cells and keys.
    pub bytes: usize,
}

/// Which rows a read returns.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Filter {
    /// Every row.
    All,
    /// Rows that may hold a value not under the new key. Without a format that names its key: every row, but for those
    /// of which the store knows who wrote them.
    NotNew,
}

/// Where a run stands when the engine enters it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Standing {
    /// Its state.
    pub state: RunState,
    /// The pass that was laid out last; 0 before the first.
    pub pass: u32,
}

/// The answer to a claim.
#[derive(Debug)]
pub enum Claim {
    /// A span to work on.
    Leased(Lease),
    /// Every span that is left belongs to another worker.
    Busy,
    /// The table was rewritten as a whole: the spans of this pass mean nothing any more.
    Stale,
    /// The pass is done.
    Done,
}

/// What became of a batch.
#[derive(Debug)]
pub enum WriteOutcome {
    /// The rows and the span's new record are committed.
    Committed(Box<Committed>),
    /// Nothing was written: the database asked to try again (lock, deadlock, serialization).
    Busy,
    /// Nothing was written: the lease belongs to someone else, the run is not active any more, or the table was
    /// rewritten as a whole.
    LeaseLost,
}

/// A batch that was committed.
#[derive(Debug)]
pub struct Committed {
    /// The span's record as it stands now.
    pub span: SpanRecord,
    /// The changes that did not match any more or were locked.
    pub missed: Vec<Missed>,
    /// Values that entered the quarantine with it and were not in it before.
    pub quarantined: u64,
}

/// A change that was not written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Missed {
    /// Index into the changes of the batch.
    pub change: u32,
    /// Why, as far as the store can tell.
    pub cause: MissCause,
}

/// Why a change was not written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum MissCause {
    /// The row changed, moved or went between our read and our write.
    Changed,
    /// Another transaction held the row.
    Locked,
    /// The row stands as it was read, and yet the database did not write it: a trigger suppressed the write.
    Suppressed,
}

/// A point in the order of transactions: everything that ran when it was taken is before it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Horizon {
    /// The transaction id that comes next: whatever writes already is below it.
    pub next: u64,
    /// The transactions that ran and may write later, by the database's own names for them.
    pub running: Vec<String>,
}

/// Names a snapshot that other sessions can join.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SnapshotId(pub String);

/// A quarantined value as the database keeps it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QuarantineRecord {
    /// The leaf table.
    pub relation: String,
    /// The column.
    pub column: String,
    /// The canonical row key.
    pub row_key: Vec<u8>,
    /// Why.
    pub reason: Reason,
    /// Recognises the bytes of the value.
    pub value_mac: [u8; 32],
}

impl QuarantineRecord {
    /// The record of one value of a batch.
    pub(crate) fn new(job: &Job, relation: &str, batch: &Batch, value: &Quarantined) -> Self {
        Self {
            relation: relation.into(),
            column: job.plan.columns[usize::from(value.column)].name.clone(),
            row_key: batch.record_key(value.row as usize),
            reason: value.reason,
            value_mac: value.value_mac,
        }
    }

    /// The row for a person who asked for it: `id = 7`, with texts in quotes; a place where the table has no key, and
    /// nothing where rows do not keep theirs.
    pub fn row_words<'n>(&self, key: impl Iterator<Item = &'n str>) -> String {
        let fields = key_fields(&self.row_key).unwrap_or_default();
        let names = key.chain(std::iter::once("rowid"));
        names.zip(fields).map(|(name, field)| format!("{name} = {field}")).collect::<Vec<_>>().join(", ")
    }

    /// The records of what a batch leaves as it is.
    pub fn of_batch<'a>(
        job: &'a Job,
        relation: &'a str,
        batch: &'a VerifiedBatch,
    ) -> impl Iterator<Item = Self> + 'a {
        batch.quarantine().iter().map(move |value| Self::new(job, relation, batch.batch(), value))
    }
}

/// One connection to a store.
///
/// Every method may be called again after it failed with a connection error, on a new session.
#[async_trait]
pub trait Session: Send + 'static {
    /// Looks at the table and reads a sample of its rows. Writes nothing.
    async fn survey(&mut self) -> Result<(TableFacts, Batch), EngineError>;

    /// Makes the run's record, or finds it, and takes over every lease of it.
    ///
    /// # Errors
    ///
    /// [`EngineError::Conflict`] if another run is active on the table, [`EngineError::Damaged`] if the record does
    /// not carry the run's MAC.
    async fn enter(&mut self) -> Result<Standing, EngineError>;

    /// Finds the run's record without making or changing anything.
    async fn standing(&mut self) -> Result<Option<Standing>, EngineError>;

    /// The table as it is now, in ranges that `workers` workers can share well, in the order in which they are to be
    /// read with `filter`. Every row is in one of them.
    async fn ranges(&mut self, workers: usize, filter: Filter) -> Result<Vec<ScanRange>, EngineError>;

    /// Records the spans of a pass and makes it the run's current one. Does nothing if the run has that pass already.
    async fn lay_out(&mut self, pass: u32, spans: Vec<SealedSpan>) -> Result<(), EngineError>;

    /// Leases a span of a pass that is neither done nor leased.
    ///
    /// # Errors
    ///
    /// [`EngineError::Conflict`] if the run is not active any more.
    async fn claim(&mut self, pass: u32) -> Result<Claim, EngineError>;

    /// Gives a lease back before its span is done.
    async fn release(&mut self, lease: Lease) -> Result<(), EngineError>;

    /// Reads rows of `range` from `from` on, in order of position.
    async fn read(
        &mut self,
        range: &ScanRange,
        from: &Position,
        limits: ReadLimits,
        filter: Filter,
    ) -> Result<Batch, EngineError>;

    /// Writes a batch and the span's new record in one transaction.
    ///
    /// A row changes only where the version of it that was read stands, with its whole key; stores that know no
    /// versions compare every column that is set, byte for byte. What the database then holds is compared with what
    /// was sent before the transaction commits.
    ///
    /// # Errors
    ///
    /// [`EngineError::NotStored`] if the database holds other bytes than were sent; nothing is committed then.
    async fn write(
        &mut self,
        lease: &Lease,
        batch: &VerifiedBatch,
        observer: &dyn Observer,
    ) -> Result<WriteOutcome, EngineError>;

    /// Adds values to the quarantine that only show over several passes, and says how many were not in it before.
    async fn quarantine(&mut self, records: Vec<QuarantineRecord>) -> Result<u64, EngineError>;

    /// Every span of the run, in order.
    async fn spans(&mut self) -> Result<Vec<SealedSpan>, EngineError>;

    /// How many values are in the quarantine of the run.
    async fn quarantine_counts(&mut self) -> Result<ByReason, EngineError>;

    /// Quarantined values of the run: for one reason, or for any; `limit` at most.
    async fn quarantined(
        &mut self,
        reason: Option<Reason>,
        limit: u64,
    ) -> Result<Vec<QuarantineRecord>, EngineError>;

    /// The point after every transaction that runs now.
    async fn horizon(&mut self) -> Result<Horizon, EngineError>;

    /// Who still runs from before `horizon`, as sentences; empty once all have ended.
    async fn holders(&mut self, horizon: &Horizon) -> Result<Vec<String>, EngineError>;

    /// Opens a read-only snapshot; every read of this session sees it until it is closed.
    async fn open_snapshot(&mut self) -> Result<SnapshotId, EngineError>;

    /// Joins a snapshot that another session holds open.
    async fn join_snapshot(&mut self, snapshot: &SnapshotId) -> Result<(), EngineError>;

    /// Closes the snapshot.
    async fn close_snapshot(&mut self) -> Result<(), EngineError>;

    /// Records that the run is proved, or that it is active again.
    ///
    /// # Errors
    ///
    /// [`EngineError::Conflict`] if the run was taken back, or if another is active on the table.
    async fn set_state(&mut self, state: RunState) -> Result<(), EngineError>;
}
