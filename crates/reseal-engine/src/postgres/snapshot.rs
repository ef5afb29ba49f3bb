//! The proof's view: one snapshot for all readers, and the wait for transactions that are older than the switch.

use tokio_postgres::types::{ToSql, Type};

use super::leaf::Leaf;
use super::position::{evenness, striped_ranges, whole_ranges};
use super::session::PostgresSession;
use super::sql::{BEGIN_SNAPSHOT, SNAPSHOT_SETTINGS, reduce};
use crate::error::{DatabaseError, EngineError};
use crate::ledger::ScanRange;
use crate::store::{Filter, Horizon, SnapshotId};

/// How often the leaves are listed and locked before it is said that they keep changing.
const LOCK_TRIES: u32 = 10;
const PROVING: &str = "read the table under one snapshot";

impl PostgresSession {
    pub(super) async fn export_snapshot(&mut self) -> Result<SnapshotId, EngineError> {
        self.lock_leaves().await?;
        let row = self
            .client
            .query_typed_one("SELECT pg_export_snapshot()", &[])
            .await
            .map_err(|error| reduce(PROVING, error))?;
        Ok(SnapshotId(row.get(0)))
    }

    /// Opens the snapshot with every leaf locked before it is taken: to a snapshot, a table that is rewritten as a whole
    /// later looks empty.
    async fn lock_leaves(&mut self) -> Result<(), EngineError> {
        for _ in 0..LOCK_TRIES {
            let leaves = self.in_read_transaction(async |session| session.load_leaves().await).await?;
            let names: Vec<&str> = leaves.iter().map(|leaf| leaf.name.as_str()).collect();
            let lock = match names.is_empty() {
                true => String::new(),
                false => format!("; LOCK TABLE ONLY {} IN ACCESS SHARE MODE", names.join(", ONLY ")),
            };
            let begin = format!("{BEGIN_SNAPSHOT}; {SNAPSHOT_SETTINGS}{lock}");
            let begun = self.client.batch_execute(&begin).await.map_err(|error| reduce(PROVING, error));
            self.in_snapshot = true;
            let locked = match &begun {
                Ok(()) => self.load_leaves().await?,
                Err(_) => Vec::new(),
            };
            let file = |leaf: &Leaf| (leaf.name.clone(), leaf.filenode);
            if begun.is_ok() && locked.iter().map(file).eq(leaves.iter().map(file)) {
                return Ok(());
            }
            self.end_snapshot().await?;
            // 42P01: a leaf that was listed is gone.
            if let Some(error) = begun.err().filter(|error| !error.has_code("42P01")) {
                return Err(error.into());
            }
        }
        let what = "the tables that hold rows keep changing: partitions come and go, or are rewritten";
        Err(EngineError::NeedsAttention(what.into()))
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

    /// Block ranges of every leaf, as they are to be read with `filter`.
    pub(super) async fn block_ranges(
        &mut self,
        workers: usize,
        filter: Filter,
    ) -> Result<Vec<ScanRange>, EngineError> {
        let mut leaves = self.load_leaves().await?;
        self.forget_old_transactions().await?;
        if filter == Filter::NotNew || self.in_snapshot {
            return Ok(whole_ranges(&leaves, workers));
        }
        for leaf in &mut leaves {
            if let Some(question) = evenness(&self.job, leaf) {
                let ask = async |session: &mut Self| session.rows(&question, &[]).await;
                leaf.even_keys = self.in_read_transaction(ask).await?.first().is_some_and(|row| row.get(0));
            }
        }
        Ok(striped_ranges(&self.job, &leaves, workers))
    }

    async fn forget_old_transactions(&self) -> Result<(), EngineError> {
        let Some(own) = &self.own else { return Ok(()) };
        let next = "SELECT pg_snapshot_xmax(pg_current_snapshot())::text::int8";
        let row = self.client.query_typed_one(next, &[]).await.map_err(|error| reduce(PROVING, error))?;
        own.forget_before(u64::try_from(row.get::<_, i64>(0)).unwrap_or(u64::MAX));
        Ok(())
    }

    pub(super) async fn current_horizon(&mut self) -> Result<Horizon, EngineError> {
        let row = self
            .in_read_transaction(async |session| {
                let row = session.client.query_typed_one(HORIZON, &[]).await;
                Ok(row.map_err(|error| reduce(PROVING, error))?)
            })
            .await?;
        Ok(Horizon { next: u64::try_from(row.get::<_, i64>(0)).unwrap_or(0), running: row.get(1) })
    }

    /// Who runs from before the horizon. A session whose details are hidden from this role is named by its pid.
    pub(super) async fn find_holders(&mut self, horizon: &Horizon) -> Result<Vec<String>, EngineError> {
        let next = i64::try_from(horizon.next).unwrap_or(i64::MAX);
        let rows = self
            .in_read_transaction(async |session| {
                let parameters: &[(&(dyn ToSql + Sync), Type)] =
                    &[(&next, Type::INT8), (&horizon.running, Type::TEXT_ARRAY)];
                let rows = session.client.query_typed(HOLDERS, parameters).await;
                Ok(rows.map_err(|error| reduce(PROVING, error))?)
            })
            .await?;
        Ok(rows.iter().map(|row| row.get(0)).collect())
    }
}

/// A transaction has an id only once it has written; before that it is known by the lock on its virtual id, as
/// CREATE INDEX CONCURRENTLY waits for it. Those of other databases, of the server's own processes, which have no user,
/// and of senders of the log write nothing here.
const HORIZON: &str = "
    SELECT pg_snapshot_xmax(pg_current_snapshot())::text::int8,
           ARRAY(SELECT l.virtualxid FROM pg_locks l JOIN pg_stat_activity a ON a.pid = l.pid
                  WHERE l.locktype = 'virtualxid' AND l.granted AND l.pid <> pg_backend_pid()
                    AND a.datid = (SELECT oid FROM pg_database WHERE datname = current_database())
                    AND a.usesysid IS NOT NULL AND a.backend_type IS DISTINCT FROM 'walsender')";

const HOLDERS: &str = "
    WITH old AS (
        SELECT pg_snapshot_xmin(pg_current_snapshot())::text::int8 < $1 AS writing,
               ARRAY(SELECT pid FROM pg_locks WHERE locktype = 'virtualxid' AND granted
                        AND virtualxid = ANY ($2::text[]) AND cardinality($2::text[]) > 0) AS running)
    SELECT who FROM (
        SELECT format('session %s (user %s, application %s, %s since %s)', pid, coalesce(usename, '?'),
                      coalesce(nullif(application_name, ''), '?'), coalesce(state, '?'),
                      coalesce(to_char(xact_start, 'HH24:MI:SS'), '?')) AS who, xact_start AS since
          FROM pg_stat_activity, old
         WHERE pid <> pg_backend_pid() AND (pid = ANY (running) OR writing AND backend_xid IS NOT NULL)
        UNION ALL
        SELECT format('prepared transaction %s of %s', quote_literal(gid), owner), prepared
          FROM pg_prepared_xacts, old WHERE writing
        UNION ALL
        SELECT 'a transaction that this role may not see', NULL FROM old WHERE writing) AS holders
     ORDER BY since NULLS LAST LIMIT 5";
