//! One connection: dispatches the seam's methods to the parts of this store.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use async_trait::async_trait;
use tokio_postgres::Client;
use tokio_postgres::types::Type;

use super::leaf::{LEAVES, Leaf};
use super::own::{Origin, Own, OwnTransactions};
use super::prepared::Statements;
use super::sql::{BEGIN_READ, not_new, quoted, reduce};
use crate::batch::{Batch, Position};
use crate::error::{DatabaseError, EngineError};
use crate::finding::Refusal;
use crate::ledger::{RunState, ScanRange, SealedSpan};
use crate::observer::Observer;
use crate::plan::Job;
use crate::store::{
    Claim, Filter, Horizon, QuarantineRecord, ReadLimits, Session, SnapshotId, Standing, WriteOutcome,
};
use crate::survey::TableFacts;
use crate::verified::{ByReason, Lease, Reason, VerifiedBatch};

/// A connection of one worker to Postgres.
pub struct PostgresSession {
    pub(super) client: Client,
    pub(super) job: Arc<Job>,
    /// The test for rows that may not be new, if the formats allow one.
    pub(super) not_new: Option<String>,
    /// Milliseconds that a statement of a batch may take.
    pub(super) statement_ms: u64,
    pub(super) in_snapshot: bool,
    /// Bytes of a row in the last read, from which the next one knows how much room it needs.
    pub(super) row_bytes: usize,
    /// Batches in a row that met a lock.
    pub(super) lock_streak: u32,
    /// Until when the table is written past locked rows at once.
    pub(super) skip_locked_until: Option<Instant>,
    /// Those that every batch runs.
    pub(super) statements: Statements,
    /// What this process wrote; `None` where a pooler may lead to another server at any time.
    pub(super) own: Option<Own>,
    leaves: BTreeMap<String, Leaf>,
}

impl PostgresSession {
    pub(super) async fn new(
        client: Client,
        job: Arc<Job>,
        own: &OwnTransactions,
    ) -> Result<Self, EngineError> {
        let statements = Statements::of(&client).await.map_err(reading)?;
        let mut session = Self {
            client,
            not_new: not_new(&job),
            job,
            statement_ms: 0,
            in_snapshot: false,
            row_bytes: 0,
            lock_streak: 0,
            skip_locked_until: None,
            statements,
            own: None,
            leaves: BTreeMap::new(),
        };
        let (deadlock_ms, server_started) =
            session.in_read_transaction(async |session| session.settings().await).await?;
        session.statement_ms = (deadlock_ms / 2).clamp(10, 400);
        let origin = Origin { run: session.job.plan.run, server_started };
        session.own = session.statements.are_direct().then(|| own.of(origin));
        Ok(session)
    }

    /// `deadlock_timeout` in milliseconds, and when the server was started.
    async fn settings(&self) -> Result<(u64, i64), EngineError> {
        let settings =
            "SELECT setting::int8, (extract(epoch FROM pg_postmaster_start_time()) * 1000000)::int8
                          FROM pg_settings WHERE name = 'deadlock_timeout'";
        let row = self.client.query_typed_one(settings, &[]).await;
        let row = row.map_err(|error| reduce("read the server's settings", error))?;
        Ok((u64::try_from(row.get::<_, i64>(0)).unwrap_or(1000), row.get(1)))
    }

    /// Runs `work` in the snapshot if one is open, else in a transaction that reads. Outside of a transaction of ours,
    /// the role's own search path says which functions a query means, and whoever may make one in `public` decides
    /// what runs with our rights.
    pub(super) async fn in_read_transaction<T>(
        &mut self,
        work: impl AsyncFnOnce(&mut Self) -> Result<T, EngineError>,
    ) -> Result<T, EngineError> {
        if self.in_snapshot {
            return work(self).await;
        }
        self.client.batch_execute(BEGIN_READ).await.map_err(reading)?;
        let result = work(self).await;
        let end = if result.is_ok() { "COMMIT" } else { "ROLLBACK" };
        let ended = self.client.batch_execute(end).await.map_err(reading);
        // The first error is the one to tell.
        let result = result?;
        ended?;
        Ok(result)
    }

    /// The table as text that `regclass` reads.
    pub(super) fn table(&self) -> String {
        format!("{}.{}", quoted(&self.job.plan.table.schema), quoted(&self.job.plan.table.name))
    }

    /// A leaf by name; looked up once per session.
    pub(super) async fn leaf(&mut self, relation: &str) -> Result<Leaf, EngineError> {
        if !self.leaves.contains_key(relation) {
            self.in_read_transaction(async |session| session.load_leaves().await).await?;
        }
        let gone = || DatabaseError::protocol("read rows", format!("table {relation} is gone"));
        Ok(self.leaves.get(relation).cloned().ok_or_else(gone)?)
    }

    /// All leaves as they are now; inside a transaction of ours.
    ///
    /// # Errors
    ///
    /// [`EngineError::Refused`] if there is no such table, or part of it is read in another way: what is not read must
    /// not be taken for empty.
    pub(super) async fn load_leaves(&mut self) -> Result<Vec<Leaf>, EngineError> {
        let columns: Vec<&str> = self.job.column_names().collect();
        let rows = self
            .client
            .query_typed(LEAVES, &[(&self.table(), Type::TEXT), (&columns, Type::TEXT_ARRAY)])
            .await
            .map_err(|error| reduce("find the tables that hold rows", error))?;
        if rows.is_empty() {
            return Err(EngineError::Refused(vec![Refusal::NoTable(self.table())]));
        }
        let mut leaves = Vec::with_capacity(rows.len());
        for row in &rows {
            match row.get(5) {
                "r" => leaves.push(Leaf::from_row(row)),
                // A partitioned table holds no rows itself.
                "p" => {}
                _ => {
                    let found = "no plain table".into();
                    return Err(EngineError::Refused(vec![Refusal::Kind { relation: row.get(0), found }]));
                }
            }
        }
        self.leaves = leaves.iter().map(|leaf| (leaf.name.clone(), leaf.clone())).collect();
        Ok(leaves)
    }
}

fn reading(error: tokio_postgres::Error) -> DatabaseError {
    reduce("begin or end a transaction that reads", error)
}

impl std::fmt::Debug for PostgresSession {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PostgresSession").finish_non_exhaustive()
    }
}

#[async_trait]
impl Session for PostgresSession {
    async fn survey(&mut self) -> Result<(TableFacts, Batch), EngineError> {
        self.survey_table().await
    }

    async fn enter(&mut self) -> Result<Standing, EngineError> {
        self.in_state_transaction(async |session| session.enter_run().await).await
    }

    async fn standing(&mut self) -> Result<Option<Standing>, EngineError> {
        self.in_read_transaction(async |session| session.find_standing().await).await
    }

    async fn ranges(&mut self, workers: usize, filter: Filter) -> Result<Vec<ScanRange>, EngineError> {
        self.in_read_transaction(async |session| session.block_ranges(workers, filter).await).await
    }

    async fn lay_out(&mut self, pass: u32, spans: Vec<SealedSpan>) -> Result<(), EngineError> {
        self.in_state_transaction(async |session| session.insert_spans(pass, &spans).await).await
    }

    async fn claim(&mut self, pass: u32) -> Result<Claim, EngineError> {
        self.in_state_transaction(async |session| session.claim_span(pass).await).await
    }

    async fn release(&mut self, lease: Lease) -> Result<(), EngineError> {
        self.in_state_transaction(async |session| session.release_span(&lease).await).await
    }

    async fn read(
        &mut self,
        range: &ScanRange,
        from: &Position,
        limits: ReadLimits,
        filter: Filter,
    ) -> Result<Batch, EngineError> {
        self.read_rows(range, from, limits, filter).await
    }

    async fn write(
        &mut self,
        lease: &Lease,
        batch: &VerifiedBatch,
        observer: &dyn Observer,
    ) -> Result<WriteOutcome, EngineError> {
        self.write_batch(lease, batch, observer).await
    }

    async fn quarantine(&mut self, records: Vec<QuarantineRecord>) -> Result<u64, EngineError> {
        self.in_state_transaction(async |session| session.insert_quarantine(&records).await).await
    }

    async fn spans(&mut self) -> Result<Vec<SealedSpan>, EngineError> {
        self.in_read_transaction(async |session| session.find_spans().await).await
    }

    async fn quarantine_counts(&mut self) -> Result<ByReason, EngineError> {
        self.in_read_transaction(async |session| session.count_quarantine().await).await
    }

    async fn quarantined(
        &mut self,
        reason: Option<Reason>,
        limit: u64,
    ) -> Result<Vec<QuarantineRecord>, EngineError> {
        self.in_read_transaction(async |session| session.find_quarantine(reason, limit).await).await
    }

    async fn horizon(&mut self) -> Result<Horizon, EngineError> {
        self.current_horizon().await
    }

    async fn holders(&mut self, horizon: &Horizon) -> Result<Vec<String>, EngineError> {
        self.find_holders(horizon).await
    }

    async fn open_snapshot(&mut self) -> Result<SnapshotId, EngineError> {
        self.export_snapshot().await
    }

    async fn join_snapshot(&mut self, snapshot: &SnapshotId) -> Result<(), EngineError> {
        self.import_snapshot(snapshot).await
    }

    async fn close_snapshot(&mut self) -> Result<(), EngineError> {
        self.end_snapshot().await
    }

    async fn set_state(&mut self, state: RunState) -> Result<(), EngineError> {
        self.in_state_transaction(async |session| session.record_state(state).await).await
    }
}
