//! The proof's view: one snapshot for all readers, and the wait for transactions that are older than the switch.

use tokio_postgres::types::Type;

use super::copy::block_start;
use super::session::PostgresSession;
use super::sql::{BEGIN_SNAPSHOT, SNAPSHOT_SETTINGS, reduce};
use crate::error::{DatabaseError, EngineError};
use crate::ledger::ScanRange;
use crate::store::{Horizon, SnapshotId};

/// Spans per worker: enough that none waits long for the last ones.
const SPANS_PER_WORKER: u64 = 16;
const PROVING: &str = "read the table under one snapshot";

/// Most blocks of a span: 64 MiB of rows.
const SPAN_BLOCKS: u64 = 8192;
/// Fewest blocks of a span: below this, claiming costs more than the rows.
const SPAN_BLOCKS_MIN: u64 = 16;

impl PostgresSession {
    pub(super) async fn export_snapshot(&mut self) -> Result<SnapshotId, EngineError> {
        let begin = format!("{BEGIN_SNAPSHOT}; {SNAPSHOT_SETTINGS}");
        self.client.batch_execute(&begin).await.map_err(|error| reduce(PROVING, error))?;
        self.in_snapshot = true;
        let row = self
            .client
            .query_typed_one("SELECT pg_export_snapshot()", &[])
            .await
            .map_err(|error| reduce(PROVING, error))?;
        Ok(SnapshotId(row.get(0)))
    }

    pub(super) async fn import_snapshot(&mut self, snapshot: &SnapshotId) -> Result<(), EngineError> {
        // The server made the name; nothing else may stand inside the quotes.
        if !snapshot.0.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-') {
            return Err(DatabaseError::protocol(PROVING, "the server named a strange snapshot").into());
        }
        let begin =
            format!("{BEGIN_SNAPSHOT}; SET TRANSACTION SNAPSHOT '{}'; {SNAPSHOT_SETTINGS}", snapshot.0);
        self.client.batch_execute(&begin).await.map_err(|error| reduce(PROVING, error))?;
        self.in_snapshot = true;
        Ok(())
    }

    pub(super) async fn end_snapshot(&mut self) -> Result<(), EngineError> {
        self.in_snapshot = false;
        Ok(self.client.batch_execute("COMMIT").await.map_err(|error| reduce(PROVING, error))?)
    }

    /// Block ranges of every leaf, small enough that the workers end together.
    pub(super) async fn block_ranges(&mut self, workers: usize) -> Result<Vec<ScanRange>, EngineError> {
        let leaves = self.load_leaves().await?;
        let blocks: u64 = leaves.iter().map(|leaf| leaf.blocks).sum();
        let size = (blocks / (workers as u64 * SPANS_PER_WORKER)).clamp(SPAN_BLOCKS_MIN, SPAN_BLOCKS);
        let mut ranges = Vec::new();
        for leaf in &leaves {
            let starts = (0..leaf.blocks).step_by(usize::try_from(size).unwrap_or(usize::MAX));
            ranges.extend(starts.map(|start| ScanRange {
                relation: leaf.name.clone(),
                incarnation: leaf.filenode,
                lo: block_start(start),
                hi: block_start((start + size).min(leaf.blocks)),
            }));
        }
        Ok(ranges)
    }

    pub(super) async fn current_horizon(&mut self) -> Result<Horizon, EngineError> {
        let row = self
            .client
            .query_typed_one(
                "SELECT pg_catalog.pg_snapshot_xmax(pg_catalog.pg_current_snapshot())::text::int8",
                &[],
            )
            .await
            .map_err(|error| reduce(PROVING, error))?;
        Ok(Horizon(u64::try_from(row.get::<_, i64>(0)).unwrap_or(0)))
    }

    /// Who runs from before the horizon. A session whose details are hidden from this role is named by its pid.
    pub(super) async fn find_holders(&mut self, horizon: Horizon) -> Result<Vec<String>, EngineError> {
        let horizon = i64::try_from(horizon.0).unwrap_or(i64::MAX);
        let rows = self
            .client
            .query_typed(HOLDERS, &[(&horizon, Type::INT8)])
            .await
            .map_err(|error| reduce(PROVING, error))?;
        Ok(rows.iter().map(|row| row.get(0)).collect())
    }
}

const HOLDERS: &str = "
    SELECT who FROM (
        SELECT format('session %s (user %s, application %s, %s since %s)', pid, coalesce(usename, '?'),
                      coalesce(nullif(application_name, ''), '?'), coalesce(state, '?'),
                      coalesce(to_char(xact_start, 'HH24:MI:SS'), '?')) AS who, xact_start AS since
          FROM pg_catalog.pg_stat_activity WHERE backend_xid IS NOT NULL AND pid <> pg_catalog.pg_backend_pid()
        UNION ALL
        SELECT format('prepared transaction %s of %s', quote_literal(gid), owner), prepared
          FROM pg_catalog.pg_prepared_xacts
        UNION ALL
        SELECT 'a transaction that this role may not see', NULL) AS holders
     WHERE pg_catalog.pg_snapshot_xmin(pg_catalog.pg_current_snapshot())::text::int8 < $1
     ORDER BY since NULLS LAST LIMIT 5";
