//! The run's own records in schema `reseal` of the target database.

use tokio_postgres::Row;
use tokio_postgres::types::Type;

use reseal_crypto::canonical::Canonical;
use reseal_crypto::hash::equal;
use reseal_crypto::random::{OsRandom, Random};

use super::schema::DDL;
use super::session::PostgresSession;
use super::sql::{BEGIN_STATE, reduce};
use crate::batch::Position;
use crate::error::{DatabaseError, EngineError};
use crate::ledger::{Digest, RunState, SealedSpan, SpanRecord, Tally};
use crate::store::{Claim, QuarantineRecord, Standing};
use crate::verified::{ByReason, Lease, Reason};

const RECORDING: &str = "keep the record of the run";
/// How long a worker keeps a span without a sign of life.
const LEASE: &str = "30 seconds";

const SPAN_FIELDS: &str = "pass, number, relation, incarnation, lo, hi, next, seq, tallies, digest, mac";

impl PostgresSession {
    /// Runs `work` in one transaction on the run's records.
    pub(super) async fn in_state_transaction<T>(
        &mut self,
        work: impl AsyncFnOnce(&mut Self) -> Result<T, EngineError>,
    ) -> Result<T, EngineError> {
        self.client.batch_execute(BEGIN_STATE).await.map_err(recording)?;
        match work(self).await {
            Ok(result) => {
                self.client.batch_execute("COMMIT").await.map_err(recording)?;
                Ok(result)
            }
            Err(error) => {
                // The first error is the one to tell; without a connection there is nothing to roll back.
                let _ = self.client.batch_execute("ROLLBACK").await;
                Err(error)
            }
        }
    }

    pub(super) async fn enter_run(&mut self) -> Result<Standing, EngineError> {
        if !self.has_schema().await? {
            self.client.batch_execute(DDL).await.map_err(recording)?;
        }
        if let Some(forward) = self.job.plan.supersedes {
            let done = RunState::RolledBack.name();
            self.execute(
                "UPDATE reseal.run SET state = $2 WHERE run_id = $1",
                &[(&forward.0.as_slice(), Type::BYTEA), (&done, Type::TEXT)],
            )
            .await?;
            // Waits for the batches in flight. A fence that waits for this finds its lease gone; every later one
            // finds the state.
            self.execute(
                "UPDATE reseal.span SET lease = NULL, lease_until = NULL WHERE run_id = $1 AND next < hi",
                &[(&forward.0.as_slice(), Type::BYTEA)],
            )
            .await?;
        }
        self.record_columns().await?;
        let Some(found) = self.find_run(" FOR UPDATE").await? else { return self.insert_run().await };
        let identity = self.identity().await?;
        if found.standing.state != RunState::RolledBack && found.identity != identity {
            // A dump of another database: its account says nothing about these rows.
            self.execute("DELETE FROM reseal.span WHERE run_id = $1", &[(&self.run_id(), Type::BYTEA)])
                .await?;
            let standing = Standing { state: RunState::Active, pass: 0 };
            self.set_run(standing, &identity).await?;
            return Ok(standing);
        }
        self.execute(
            "UPDATE reseal.span SET lease = NULL, lease_until = NULL WHERE run_id = $1 AND lease IS NOT NULL",
            &[(&self.run_id(), Type::BYTEA)],
        )
        .await?;
        Ok(found.standing)
    }

    pub(super) async fn find_standing(&mut self) -> Result<Option<Standing>, EngineError> {
        if !self.has_schema().await? {
            return Ok(None);
        }
        Ok(self.find_run("").await?.map(|found| found.standing))
    }

    pub(super) async fn insert_spans(&mut self, pass: u32, spans: &[SealedSpan]) -> Result<(), EngineError> {
        let found = self.find_run(" FOR UPDATE").await?.ok_or(EngineError::Damaged("the run is gone"))?;
        if found.standing.pass >= pass {
            return Ok(());
        }
        if found.standing.state != RunState::Active {
            return Err(self.ended(found.standing.state));
        }
        for span in spans {
            let record = span.record();
            self.execute(
                "INSERT INTO reseal.span (run_id, pass, number, relation, incarnation, lo, hi, next, seq, tallies,
                 digest, mac) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)",
                &[
                    (&self.run_id(), Type::BYTEA),
                    (&i64::from(record.pass), Type::INT8),
                    (&signed(record.number), Type::INT8),
                    (&record.relation, Type::TEXT),
                    (&signed(record.incarnation), Type::INT8),
                    (&record.lo.0, Type::BYTEA),
                    (&record.hi.0, Type::BYTEA),
                    (&record.next.0, Type::BYTEA),
                    (&signed(record.seq), Type::INT8),
                    (&flat(&record.tallies), Type::INT8_ARRAY),
                    (&record.digest.0.as_slice(), Type::BYTEA),
                    (&span.mac().as_slice(), Type::BYTEA),
                ],
            )
            .await?;
        }
        self.set_run(Standing { pass, ..found.standing }, &found.identity).await
    }

    pub(super) async fn claim_span(&mut self, pass: u32) -> Result<Claim, EngineError> {
        let mut token = [0; 16];
        OsRandom.fill(&mut token)?;
        let statement = format!(
            "WITH free AS (
                 SELECT number FROM reseal.span WHERE run_id = $1 AND pass = $2 AND next < hi
                    AND (lease_until IS NULL OR lease_until < clock_timestamp())
                    AND EXISTS (SELECT FROM reseal.run WHERE run_id = $1 AND state = 'active')
                  ORDER BY number FOR UPDATE SKIP LOCKED LIMIT 1)
             UPDATE reseal.span AS s SET lease = $3, lease_until = clock_timestamp() + interval '{LEASE}'
               FROM free WHERE s.run_id = $1 AND s.pass = $2 AND s.number = free.number
             RETURNING s.pass, s.number, s.relation, s.incarnation, s.lo, s.hi, s.next, s.seq, s.tallies, s.digest,
                       s.mac, s.incarnation = coalesce(pg_relation_filenode(to_regclass(s.relation)), 0)"
        );
        let parameters: Parameters<'_> = &[
            (&self.run_id(), Type::BYTEA),
            (&i64::from(pass), Type::INT8),
            (&token.as_slice(), Type::BYTEA),
        ];
        let claimed = self.client.query_typed_opt(&statement, parameters).await.map_err(recording)?;
        if let Some(row) = claimed {
            let span = read_span(&row)?.open(self.job.plan.run, &self.job.keys)?;
            return Ok(if row.get(11) { Claim::Leased(Lease { span, token }) } else { Claim::Stale });
        }
        let left = self
            .client
            .query_typed_opt(
                "SELECT EXISTS (SELECT FROM reseal.span WHERE run_id = $1 AND pass = $2 AND next < hi), state
                   FROM reseal.run WHERE run_id = $1",
                &parameters[..2],
            )
            .await
            .map_err(recording)?
            .ok_or(EngineError::Damaged("the run is gone"))?;
        match (left.get(0), read_state(left.get(1))?) {
            (true, RunState::Active) => Ok(Claim::Busy),
            (false, RunState::Active | RunState::Proved) => Ok(Claim::Done),
            (_, state) => Err(self.ended(state)),
        }
    }

    pub(super) async fn release_span(&mut self, lease: &Lease) -> Result<(), EngineError> {
        self.execute(
            "UPDATE reseal.span SET lease = NULL, lease_until = NULL
              WHERE run_id = $1 AND pass = $2 AND number = $3 AND lease = $4",
            &[
                (&self.run_id(), Type::BYTEA),
                (&i64::from(lease.span.pass), Type::INT8),
                (&signed(lease.span.number), Type::INT8),
                (&lease.token.as_slice(), Type::BYTEA),
            ],
        )
        .await
        .map(drop)
    }

    /// Locks the span's row if the run is active, and the lease, the sequence number and the table are what they were;
    /// inside a batch.
    pub(super) async fn fence(&self, lease: &Lease) -> Result<bool, tokio_postgres::Error> {
        let rows = self
            .statements
            .rows(
                &self.client,
                "SELECT 1 FROM reseal.span WHERE run_id = $1 AND pass = $2 AND number = $3 AND lease = $4 AND seq = $5
                    AND incarnation = coalesce(pg_relation_filenode(to_regclass(relation)), 0)
                    AND EXISTS (SELECT FROM reseal.run WHERE run_id = $1 AND state = 'active') FOR UPDATE",
                &[
                    (&self.run_id(), Type::BYTEA),
                    (&i64::from(lease.span.pass), Type::INT8),
                    (&signed(lease.span.number), Type::INT8),
                    (&lease.token.as_slice(), Type::BYTEA),
                    (&signed(lease.span.seq), Type::INT8),
                ],
            )
            .await?;
        Ok(!rows.is_empty())
    }

    /// Moves the span on: the checkpoint, in the transaction of the rows it accounts for. `false` if the lease is lost.
    pub(super) async fn checkpoint(
        &self,
        lease: &Lease,
        span: &SealedSpan,
    ) -> Result<bool, tokio_postgres::Error> {
        let record = span.record();
        let statement = format!(
            "UPDATE reseal.span SET next = $6, seq = $7, tallies = $8, digest = $9, mac = $10,
                    lease_until = clock_timestamp() + interval '{LEASE}'
              WHERE run_id = $1 AND pass = $2 AND number = $3 AND lease = $4 AND seq = $5
          RETURNING 1"
        );
        let moved = self
            .statements
            .rows(
                &self.client,
                &statement,
                &[
                    (&self.run_id(), Type::BYTEA),
                    (&i64::from(record.pass), Type::INT8),
                    (&signed(record.number), Type::INT8),
                    (&lease.token.as_slice(), Type::BYTEA),
                    (&signed(lease.span.seq), Type::INT8),
                    (&record.next.0, Type::BYTEA),
                    (&signed(record.seq), Type::INT8),
                    (&flat(&record.tallies), Type::INT8_ARRAY),
                    (&record.digest.0.as_slice(), Type::BYTEA),
                    (&span.mac().as_slice(), Type::BYTEA),
                ],
            )
            .await?;
        Ok(moved.len() == 1)
    }

    pub(super) async fn find_spans(&mut self) -> Result<Vec<SealedSpan>, EngineError> {
        let statement =
            format!("SELECT {SPAN_FIELDS} FROM reseal.span WHERE run_id = $1 ORDER BY pass, number");
        let rows =
            self.client.query_typed(&statement, &[(&self.run_id(), Type::BYTEA)]).await.map_err(recording)?;
        rows.iter().map(read_span).collect()
    }

    /// Adds values to the quarantine, and says how many were not in it before.
    pub(super) async fn insert_quarantine(&self, records: &[QuarantineRecord]) -> Result<u64, EngineError> {
        if records.is_empty() {
            return Ok(0);
        }
        let relations: Vec<&str> = records.iter().map(|record| record.relation.as_str()).collect();
        let columns: Vec<&str> = records.iter().map(|record| record.column.as_str()).collect();
        let keys: Vec<&[u8]> = records.iter().map(|record| record.row_key.as_slice()).collect();
        let macs: Vec<&[u8]> = records.iter().map(|record| record.value_mac.as_slice()).collect();
        let reasons: Vec<&str> = records.iter().map(|record| record.reason.code()).collect();
        self.execute(
            "INSERT INTO reseal.quarantine (run_id, relation, column_name, row_key, value_mac, reason)
             SELECT $1, u.* FROM unnest($2::text[], $3::text[], $4::bytea[], $5::bytea[], $6::text[]) AS u
             ON CONFLICT DO NOTHING",
            &[
                (&self.run_id(), Type::BYTEA),
                (&relations, Type::TEXT_ARRAY),
                (&columns, Type::TEXT_ARRAY),
                (&keys, Type::BYTEA_ARRAY),
                (&macs, Type::BYTEA_ARRAY),
                (&reasons, Type::TEXT_ARRAY),
            ],
        )
        .await
    }

    pub(super) async fn count_quarantine(&self) -> Result<ByReason, EngineError> {
        let statement = "SELECT reason, count(*) FROM reseal.quarantine WHERE run_id = $1 GROUP BY reason";
        let rows =
            self.client.query_typed(statement, &[(&self.run_id(), Type::BYTEA)]).await.map_err(recording)?;
        let mut counts = ByReason::default();
        for row in &rows {
            counts.add(read_reason(row.get(0))?, row.get::<_, i64>(1).cast_unsigned());
        }
        Ok(counts)
    }

    pub(super) async fn find_quarantine(
        &self,
        reason: Option<Reason>,
        limit: u64,
    ) -> Result<Vec<QuarantineRecord>, EngineError> {
        let rows = self
            .client
            .query_typed(
                "SELECT relation, column_name, row_key, reason, value_mac FROM reseal.quarantine
                  WHERE run_id = $1 AND reason = coalesce($2, reason) ORDER BY reason = 'empty', relation, column_name, row_key LIMIT $3",
                &[
                    (&self.run_id(), Type::BYTEA),
                    (&reason.map(Reason::code), Type::TEXT),
                    (&i64::try_from(limit).unwrap_or(i64::MAX), Type::INT8),
                ],
            )
            .await
            .map_err(recording)?;
        let record = |row: &Row| {
            Ok(QuarantineRecord {
                relation: row.get(0),
                column: row.get(1),
                row_key: row.get(2),
                reason: read_reason(row.get(3))?,
                value_mac: array(row.get(4))?,
            })
        };
        rows.iter().map(record).collect()
    }

    pub(super) async fn record_state(&mut self, state: RunState) -> Result<(), EngineError> {
        let found = self.find_run(" FOR UPDATE").await?.ok_or(EngineError::Damaged("the run is gone"))?;
        if found.standing.state == RunState::RolledBack {
            return Err(self.ended(RunState::RolledBack));
        }
        self.set_run(Standing { state, ..found.standing }, &found.identity).await
    }

    /// Another engine ended the run that this one works on.
    fn ended(&self, state: RunState) -> EngineError {
        EngineError::Conflict(format!("run {} is {} by now", self.job.plan.run, state.name()))
    }

    async fn insert_run(&mut self) -> Result<Standing, EngineError> {
        let identity = self.identity().await?;
        let plan = &self.job.plan;
        let standing = Standing { state: RunState::Active, pass: 0 };
        let inserted = self
            .client
            .execute_typed(
                "INSERT INTO reseal.run (run_id, relation, direction, system_identifier, database_oid, state, pass, mac)
                 VALUES ($1, $2, $3, $4, $5, 'active', 0, $6) ON CONFLICT DO NOTHING",
                &[
                    (&self.run_id(), Type::BYTEA),
                    (&self.table(), Type::TEXT),
                    (&plan.direction.name(), Type::TEXT),
                    (&identity.system, Type::TEXT),
                    (&identity.database, Type::INT8),
                    (&self.run_mac(standing, &identity).as_slice(), Type::BYTEA),
                ],
            )
            .await
            .map_err(recording)?;
        if inserted == 0 {
            return Err(self.overtaken());
        }
        Ok(standing)
    }

    async fn find_run(&self, suffix: &str) -> Result<Option<FoundRun>, EngineError> {
        let statement = format!(
            "SELECT relation, direction, system_identifier, database_oid, state, pass, mac
               FROM reseal.run WHERE run_id = $1{suffix}"
        );
        let row = self
            .client
            .query_typed_opt(&statement, &[(&self.run_id(), Type::BYTEA)])
            .await
            .map_err(recording)?;
        let Some(row) = row else { return Ok(None) };
        let identity = Identity { system: row.get(2), database: row.get(3) };
        let pass =
            u32::try_from(row.get::<_, i64>(5)).map_err(|_| EngineError::Damaged("a negative pass"))?;
        let same_plan =
            row.get::<_, &str>(0) == self.table() && row.get::<_, &str>(1) == self.job.plan.direction.name();
        let state = read_state(row.get(4))?;
        // A rollback has a key of its own: it changes the word, and leaves the MAC of the state before.
        let sealed_as: &[RunState] = match state {
            RunState::RolledBack => &[RunState::Active, RunState::Proved],
            _ => &[state],
        };
        let carries = |state| equal(row.get(6), &self.run_mac(Standing { state, pass }, &identity));
        if !same_plan || !sealed_as.iter().copied().any(carries) {
            return Err(EngineError::Damaged("the run does not carry its MAC"));
        }
        Ok(Some(FoundRun { standing: Standing { state, pass }, identity }))
    }

    async fn set_run(&self, standing: Standing, identity: &Identity) -> Result<(), EngineError> {
        let set = self
            .execute(
                "UPDATE reseal.run SET pass = $2, system_identifier = $3, database_oid = $4, mac = $5, state = $6
                  WHERE run_id = $1",
                &[
                    (&self.run_id(), Type::BYTEA),
                    (&i64::from(standing.pass), Type::INT8),
                    (&identity.system, Type::TEXT),
                    (&identity.database, Type::INT8),
                    (&self.run_mac(standing, identity).as_slice(), Type::BYTEA),
                    (&standing.state.name(), Type::TEXT),
                ],
            )
            .await;
        match set {
            // One run per table is active: the unique index says so.
            Err(EngineError::Database(error)) if error.has_code("23505") => Err(self.overtaken()),
            set => set.map(drop),
        }
    }

    fn overtaken(&self) -> EngineError {
        EngineError::Conflict(format!("another run became active on {}", self.job.plan.table))
    }

    /// Which server and database this is. A role without the right to ask sees an empty system identifier.
    async fn identity(&self) -> Result<Identity, EngineError> {
        let row = self
            .client
            .query_typed_one(
                "SELECT CASE WHEN has_function_privilege('pg_control_system()', 'EXECUTE')
                             THEN (SELECT system_identifier::text FROM pg_control_system()) ELSE '' END,
                        (SELECT oid::int8 FROM pg_database WHERE datname = current_database())",
                &[],
            )
            .await
            .map_err(recording)?;
        Ok(Identity { system: row.get(0), database: row.get(1) })
    }

    async fn record_columns(&self) -> Result<(), EngineError> {
        for column in &self.job.plan.columns {
            let id = column.id.0.as_slice();
            let replaced = column.replaces.map(|id| id.0.to_vec());
            let row = self
                .client
                .query_typed_opt(
                    "INSERT INTO reseal.column AS c (relation, column_name, column_id) VALUES ($1, $2, $3)
                     ON CONFLICT (relation, column_name) DO UPDATE
                     SET column_id = CASE WHEN c.column_id = $4 THEN $3 ELSE c.column_id END RETURNING column_id",
                    &[
                        (&self.table(), Type::TEXT),
                        (&column.name, Type::TEXT),
                        (&id, Type::BYTEA),
                        (&replaced, Type::BYTEA),
                    ],
                )
                .await
                .map_err(recording)?;
            if row.is_none_or(|row| row.get::<_, &[u8]>(0) != id) {
                return Err(EngineError::Conflict(format!(
                    "the database knows column `{}` by another column id than the plan",
                    column.name
                )));
            }
        }
        Ok(())
    }

    async fn execute(&self, statement: &str, parameters: Parameters<'_>) -> Result<u64, EngineError> {
        Ok(self.client.execute_typed(statement, parameters).await.map_err(recording)?)
    }

    fn run_id(&self) -> Vec<u8> {
        self.job.plan.run.0.to_vec()
    }

    fn run_mac(&self, standing: Standing, identity: &Identity) -> [u8; 32] {
        let record = Canonical::new("reseal/v1/run")
            .bytes(&self.job.plan.run.0)
            .text(&self.table())
            .text(self.job.plan.direction.name())
            .text(&identity.system)
            .i64(identity.database)
            .text(standing.state.name())
            .u64(standing.pass.into());
        self.job.keys.record_mac(&record)
    }
}

type Parameters<'a> = &'a [(&'a (dyn tokio_postgres::types::ToSql + Sync), Type)];

struct FoundRun {
    standing: Standing,
    identity: Identity,
}

/// Which database a run's account belongs to.
#[derive(PartialEq, Eq)]
struct Identity {
    system: String,
    database: i64,
}

fn recording(error: tokio_postgres::Error) -> DatabaseError {
    reduce(RECORDING, error)
}

fn read_span(row: &Row) -> Result<SealedSpan, EngineError> {
    let count = |index: usize| {
        u64::try_from(row.get::<_, i64>(index))
            .map_err(|_| EngineError::Damaged("a negative number in a span"))
    };
    let record = SpanRecord {
        pass: u32::try_from(count(0)?).map_err(|_| EngineError::Damaged("a pass out of range"))?,
        number: count(1)?,
        relation: row.get(2),
        incarnation: count(3)?,
        lo: Position(row.get(4)),
        hi: Position(row.get(5)),
        next: Position(row.get(6)),
        seq: count(7)?,
        tallies: unflat(row.get(8))?,
        digest: Digest(array(row.get(9))?),
    };
    Ok(SealedSpan::stored(record, array(row.get(10))?))
}

fn read_state(name: &str) -> Result<RunState, EngineError> {
    RunState::from_name(name).ok_or(EngineError::Damaged("an unknown state"))
}

fn read_reason(code: &str) -> Result<Reason, EngineError> {
    Reason::from_code(code).ok_or(EngineError::Damaged("an unknown reason in the quarantine"))
}

fn array(bytes: &[u8]) -> Result<[u8; 32], EngineError> {
    bytes.try_into().map_err(|_| EngineError::Damaged("a field of another length"))
}

fn signed(number: u64) -> i64 {
    // Numbers of spans, batches and file nodes stay far below 2^63; a wrapped one would fail its MAC.
    number as i64
}

fn flat(tallies: &[Tally]) -> Vec<i64> {
    tallies.iter().flat_map(|tally| tally.to_array()).map(signed).collect()
}

fn unflat(counts: Vec<i64>) -> Result<Vec<Tally>, EngineError> {
    let damaged = EngineError::Damaged("counts that make no sense");
    let counts: Option<Vec<u64>> = counts.into_iter().map(|count| u64::try_from(count).ok()).collect();
    let Some(counts) = counts.filter(|counts| counts.len() % 6 == 0) else { return Err(damaged) };
    let tally = |counts: &[u64]| Tally::from_array(std::array::from_fn(|index| counts[index]));
    Ok(counts.chunks_exact(6).map(tally).collect())
}
