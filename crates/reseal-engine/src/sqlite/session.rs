//! One connection to the file: the engine's calls, each a statement or a transaction.

use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use rusqlite::Connection;

use super::connection::{
    Doing, begin_immediate, blocking, commit, connect, in_transaction, is_busy, roll_back,
};
use super::pace::Pace;
use super::table::{Table, schema_version};
use super::{quarantine, read, run, span, survey, write};
use crate::batch::{Batch, Position};
use crate::error::{DatabaseError, EngineError};
use crate::finding::Refusal;
use crate::ledger::{RunState, ScanRange, SealedSpan};
use crate::observer::{BatchInfo, Moment, Observer};
use crate::plan::Job;
use crate::store::{
    Claim, Committed, Filter, Horizon, Missed, QuarantineRecord, ReadLimits, Session, SnapshotId, Standing,
    WriteOutcome,
};
use crate::survey::TableFacts;
use crate::verified::{ByReason, Lease, Reason, VerifiedBatch};

/// How long book-keeping waits for the file.
const PATIENCE: Duration = Duration::from_secs(30);
/// Between two attempts, so that a cancelled call ends and other tasks run.
const RETRY: Duration = Duration::from_millis(20);

/// One connection to a SQLite file.
pub struct SqliteSession {
    connection: Connection,
    /// Device and inode.
    file: (u64, u64),
    job: Arc<Job>,
    /// As of the schema version that it was read under.
    table: Option<Arc<Table>>,
    pace: Pace,
    in_snapshot: bool,
}

impl SqliteSession {
    pub(super) fn open(path: &Path, job: Arc<Job>) -> Result<Self, EngineError> {
        let file = std::fs::metadata(path)
            .map_err(|error| DatabaseError::protocol("open the database file", error.to_string()))?;
        let connection = blocking(|| connect(path))?;
        let file = (file.dev(), file.ino());
        Ok(Self { connection, file, job, table: None, pace: Pace::new(), in_snapshot: false })
    }

    /// Tries again while other connections are in the way.
    async fn patiently<T>(
        &mut self,
        mut attempt: impl FnMut(&mut Self) -> Result<T, EngineError> + Send,
    ) -> Result<T, EngineError> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            match blocking(|| attempt(self.tidy())) {
                Err(error) if is_busy(&error) && Instant::now() < deadline => tokio::time::sleep(RETRY).await,
                result => return result,
            }
        }
    }

    /// Runs one transaction, trying again while other connections are in the way.
    async fn transact<T>(
        &mut self,
        mut work: impl FnMut(&Connection, &Job) -> Result<T, EngineError> + Send,
    ) -> Result<T, EngineError> {
        self.patiently(|session| {
            in_transaction(&session.connection, |connection| work(connection, &session.job))
        })
        .await
    }

    /// Ends a transaction that a cancelled call left open.
    fn tidy(&mut self) -> &mut Self {
        if !self.in_snapshot {
            roll_back(&self.connection);
        }
        self
    }

    /// The table as the schema has it now.
    fn table(&mut self) -> Result<Arc<Table>, EngineError> {
        let version = schema_version(&self.connection).doing("read the schema")?;
        if let Some(table) = self.table.as_ref().filter(|table| table.schema_version == version) {
            return Ok(table.clone());
        }
        let name = &self.job.plan.table;
        let table = Table::load(&self.connection, name)?
            .ok_or_else(|| EngineError::Refused(vec![Refusal::NoTable(name.to_string())]))?;
        let table = Arc::new(table);
        self.table = Some(table.clone());
        Ok(table)
    }

    /// Writes a batch inside a transaction that stays open; `None` if the lease is gone.
    fn write_in_transaction(
        &mut self,
        lease: &Lease,
        batch: &VerifiedBatch,
    ) -> Result<Option<Committed>, EngineError> {
        let table = self.table()?;
        if !run::is_active(&self.connection, &self.job)?
            || !span::holds(&self.connection, &self.job, lease)?
            || table.incarnation(self.file) != lease.span.incarnation
        {
            return Ok(None);
        }
        let missed = write::changes(&self.connection, &self.job, &table, batch)?;
        let indices: Vec<u32> = missed.iter().map(|Missed { change, .. }| *change).collect();
        let span = lease.settle(batch, &indices, self.job.plan.run, &self.job.keys)?;
        let records = QuarantineRecord::of_batch(&self.job, &lease.span.relation, batch);
        let quarantined = quarantine::insert(&self.connection, &self.job, records)?;
        span::advance(&self.connection, &self.job, lease, &span)?;
        let span = span.open(self.job.plan.run, &self.job.keys)?;
        Ok(Some(Committed { span, missed, quarantined }))
    }
}

#[async_trait]
impl Session for SqliteSession {
    async fn survey(&mut self) -> Result<(TableFacts, Batch), EngineError> {
        self.patiently(|session| survey::survey(&session.connection, &session.job)).await
    }

    async fn enter(&mut self) -> Result<Standing, EngineError> {
        let relation = self.patiently(Self::table).await?.relation();
        self.transact(|connection, job| {
            let standing = run::enter(connection, job, &relation)?;
            span::take_over(connection, job)?;
            Ok(standing)
        })
        .await
    }

    async fn standing(&mut self) -> Result<Option<Standing>, EngineError> {
        self.patiently(|session| run::standing(&session.connection, &session.job)).await
    }

    async fn ranges(&mut self, _workers: usize, _filter: Filter) -> Result<Vec<ScanRange>, EngineError> {
        self.patiently(|session| {
            let table = session.table()?;
            read::ranges(&session.connection, &table, table.incarnation(session.file))
        })
        .await
    }

    async fn lay_out(&mut self, pass: u32, spans: Vec<SealedSpan>) -> Result<(), EngineError> {
        self.transact(|connection, job| {
            if run::standing(connection, job)?.is_some_and(|standing| standing.pass >= pass) {
                return Ok(());
            }
            run::check_active(connection, job)?;
            span::insert(connection, job, &spans)?;
            run::set_pass(connection, job, pass)
        })
        .await
    }

    async fn claim(&mut self, pass: u32) -> Result<Claim, EngineError> {
        self.patiently(|session| {
            let incarnation = session.table()?.incarnation(session.file);
            in_transaction(&session.connection, |connection| {
                let claim = span::claim(connection, &session.job, pass, incarnation)?;
                if !matches!(claim, Claim::Done) {
                    run::check_active(connection, &session.job)?;
                }
                Ok(claim)
            })
        })
        .await
    }

    async fn release(&mut self, lease: Lease) -> Result<(), EngineError> {
        self.transact(|connection, job| span::release(connection, job, &lease)).await
    }

    async fn read(
        &mut self,
        range: &ScanRange,
        from: &Position,
        limits: ReadLimits,
        filter: Filter,
    ) -> Result<Batch, EngineError> {
        let rows = if self.in_snapshot { limits.rows } else { limits.rows.min(self.pace.rows()) };
        let limits = ReadLimits { rows, ..limits };
        self.patiently(|session| {
            let table = session.table()?;
            read::rows(&session.connection, &session.job, &table, (from, &range.hi), limits, filter)
        })
        .await
    }

    async fn write(
        &mut self,
        lease: &Lease,
        batch: &VerifiedBatch,
        observer: &dyn Observer,
    ) -> Result<WriteOutcome, EngineError> {
        self.pace.rest().await;
        self.tidy();
        if let Err(error) = blocking(|| begin_immediate(&self.connection)) {
            return busy_or(error);
        }
        let begun = Instant::now();
        let committed = match blocking(|| self.write_in_transaction(lease, batch)) {
            Ok(Some(committed)) => committed,
            Ok(None) => {
                self.tidy();
                return Ok(WriteOutcome::LeaseLost);
            }
            Err(error) => {
                self.tidy();
                return busy_or(error);
            }
        };
        observer.at(Moment::Written, BatchInfo { span: &lease.span, batch: batch.batch() }).await;
        let result = blocking(|| commit(&self.connection));
        self.pace.held(batch.batch().len(), batch.changes().len(), begun.elapsed());
        match result {
            Ok(()) => Ok(WriteOutcome::Committed(Box::new(committed))),
            Err(error) => busy_or(error),
        }
    }

    async fn quarantine(&mut self, records: Vec<QuarantineRecord>) -> Result<u64, EngineError> {
        self.transact(|connection, job| quarantine::insert(connection, job, records.iter().cloned())).await
    }

    async fn spans(&mut self) -> Result<Vec<SealedSpan>, EngineError> {
        self.patiently(|session| span::all(&session.connection, &session.job)).await
    }

    async fn quarantine_counts(&mut self) -> Result<ByReason, EngineError> {
        self.patiently(|session| quarantine::counts(&session.connection, &session.job)).await
    }

    async fn quarantined(
        &mut self,
        reason: Option<Reason>,
        limit: u64,
    ) -> Result<Vec<QuarantineRecord>, EngineError> {
        self.patiently(|session| quarantine::records(&session.connection, &session.job, reason, limit)).await
    }

    async fn horizon(&mut self) -> Result<Horizon, EngineError> {
        // `holders` ends every older transaction by itself, so the point needs no name.
        Ok(Horizon::default())
    }

    async fn holders(&mut self, _horizon: &Horizon) -> Result<Vec<String>, EngineError> {
        let passed = blocking(|| {
            let session = self.tidy();
            in_transaction(&session.connection, |connection| run::pass_barrier(connection, &session.job))
        });
        match passed {
            Ok(()) => Ok(Vec::new()),
            Err(error) if is_busy(&error) => Ok(vec!["another connection to the database file".into()]),
            Err(error) => Err(error),
        }
    }

    async fn open_snapshot(&mut self) -> Result<SnapshotId, EngineError> {
        self.patiently(|session| {
            let begin = "BEGIN; SELECT 1 FROM sqlite_schema LIMIT 1";
            session.connection.execute_batch(begin).doing("open a snapshot")?;
            session.in_snapshot = true;
            Ok(SnapshotId("sqlite".into()))
        })
        .await
    }

    async fn join_snapshot(&mut self, _snapshot: &SnapshotId) -> Result<(), EngineError> {
        Err(EngineError::Internal("connections to a SQLite file do not share snapshots".into()))
    }

    async fn close_snapshot(&mut self) -> Result<(), EngineError> {
        self.in_snapshot = false;
        self.tidy();
        Ok(())
    }

    async fn set_state(&mut self, state: RunState) -> Result<(), EngineError> {
        self.transact(|connection, job| run::set_state(connection, job, state)).await
    }
}

impl std::fmt::Debug for SqliteSession {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SqliteSession").field("run", &self.job.plan.run).finish_non_exhaustive()
    }
}

/// Another connection in the way is an outcome; everything else is an error.
fn busy_or(error: EngineError) -> Result<WriteOutcome, EngineError> {
    if is_busy(&error) { Ok(WriteOutcome::Busy) } else { Err(error) }
}
