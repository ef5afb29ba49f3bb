//! The record of a run in the file of its rows, and the tables that hold the account.

use reseal_crypto::ColumnId;
use reseal_crypto::canonical::Canonical;
use reseal_crypto::hash::equal;
use rusqlite::{Connection, OptionalExtension, params};

use super::connection::Doing;
use crate::error::EngineError;
use crate::ledger::{RunId, RunState};
use crate::plan::Job;
use crate::store::Standing;

/// The version of these tables.
const VERSION: i64 = 1;

/// Not STRICT, and nothing newer than SQLite 3.8: the application's own SQLite must still open the file.
const TABLES: &str = "
    CREATE TABLE IF NOT EXISTS reseal_version (version INTEGER NOT NULL);
    CREATE TABLE IF NOT EXISTS reseal_run (
        run_id BLOB NOT NULL PRIMARY KEY, relation TEXT NOT NULL, direction TEXT NOT NULL, supersedes BLOB,
        state TEXT NOT NULL, pass INTEGER NOT NULL, mac BLOB NOT NULL, barrier INTEGER NOT NULL DEFAULT 0
    ) WITHOUT ROWID;
    CREATE TABLE IF NOT EXISTS reseal_span (
        run_id BLOB NOT NULL, pass INTEGER NOT NULL, number INTEGER NOT NULL, relation TEXT NOT NULL,
        incarnation INTEGER NOT NULL, lo BLOB NOT NULL, hi BLOB NOT NULL, next BLOB NOT NULL, seq INTEGER NOT NULL,
        counters TEXT NOT NULL, digest BLOB NOT NULL, mac BLOB NOT NULL, lease BLOB, lease_until INTEGER,
        PRIMARY KEY (run_id, pass, number)
    ) WITHOUT ROWID;
    CREATE TABLE IF NOT EXISTS reseal_quarantine (
        run_id BLOB NOT NULL, relation TEXT NOT NULL, column_name TEXT NOT NULL, row_key BLOB NOT NULL,
        reason TEXT NOT NULL, value_mac BLOB NOT NULL,
        PRIMARY KEY (run_id, relation, column_name, row_key, value_mac)
    ) WITHOUT ROWID;
    CREATE TABLE IF NOT EXISTS reseal_column (
        relation TEXT NOT NULL, column_name TEXT NOT NULL, column_id BLOB NOT NULL,
        PRIMARY KEY (relation, column_name)
    ) WITHOUT ROWID;";

/// A run as the file keeps it.
struct RunRow {
    relation: String,
    state: RunState,
    pass: u32,
}

impl RunRow {
    fn mac(&self, job: &Job) -> [u8; 32] {
        let supersedes = job.plan.supersedes.map(|run| run.0);
        let record = Canonical::new("reseal/v1/run")
            .bytes(&job.plan.run.0)
            .text(&self.relation)
            .text(job.plan.direction.name())
            .bytes(supersedes.as_ref().map_or(&[], |run| run.as_slice()))
            .text(self.state.name())
            .u64(self.pass.into());
        job.keys.record_mac(&record)
    }

    fn store(&self, connection: &Connection, job: &Job) -> Result<(), EngineError> {
        let sql = "INSERT INTO reseal_run (run_id, relation, direction, supersedes, state, pass, mac) \
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7) \
             ON CONFLICT (run_id) DO UPDATE SET state = excluded.state, pass = excluded.pass, mac = excluded.mac";
        let supersedes = job.plan.supersedes.map(|run| run.0);
        let fields = params![
            job.plan.run.0,
            self.relation,
            job.plan.direction.name(),
            supersedes,
            self.state.name(),
            self.pass,
            self.mac(job),
        ];
        connection.execute(sql, fields).doing("record the run").map(drop)
    }
}

/// Makes the run's record, or finds it.
pub(super) fn enter(connection: &Connection, job: &Job, relation: &str) -> Result<Standing, EngineError> {
    make_tables(connection)?;
    record_columns(connection, job, relation)?;
    if let Some(row) = find(connection, job)? {
        if row.relation != relation {
            return Err(EngineError::Conflict(format!("run {} belongs to {}", job.plan.run, row.relation)));
        }
        let standing = standing_of(connection, job, &row)?;
        if standing.state == RunState::Active {
            refuse_other_runs(connection, job, relation)?;
        }
        return Ok(standing);
    }
    refuse_other_runs(connection, job, relation)?;
    let row = RunRow { relation: relation.into(), state: RunState::Active, pass: 0 };
    row.store(connection, job)?;
    Ok(Standing { state: row.state, pass: row.pass })
}

/// Finds the run's record without making anything.
pub(super) fn standing(connection: &Connection, job: &Job) -> Result<Option<Standing>, EngineError> {
    if !has_tables(connection)? {
        return Ok(None);
    }
    find(connection, job)?.map(|row| standing_of(connection, job, &row)).transpose()
}

/// Records the pass that was laid out last.
pub(super) fn set_pass(connection: &Connection, job: &Job, pass: u32) -> Result<(), EngineError> {
    let row = known(connection, job)?;
    RunRow { pass, ..row }.store(connection, job)
}

/// Records that the run is proved, or that it is active again.
pub(super) fn set_state(connection: &Connection, job: &Job, state: RunState) -> Result<(), EngineError> {
    let row = known(connection, job)?;
    if standing_of(connection, job, &row)?.state == RunState::RolledBack {
        return Err(ended(job, RunState::RolledBack));
    }
    if state == RunState::Active {
        refuse_other_runs(connection, job, &row.relation)?;
    }
    RunRow { state, ..row }.store(connection, job)
}

/// Whether rows may be written for the run.
pub(super) fn is_active(connection: &Connection, job: &Job) -> Result<bool, EngineError> {
    Ok(standing_of(connection, job, &known(connection, job)?)?.state == RunState::Active)
}

/// Refuses to go on with a run that another engine ended.
pub(super) fn check_active(connection: &Connection, job: &Job) -> Result<(), EngineError> {
    match standing_of(connection, job, &known(connection, job)?)?.state {
        RunState::Active => Ok(()),
        state => Err(ended(job, state)),
    }
}

/// Changes the file, so that every transaction that began before this one commits has ended or can only read.
///
/// With a rollback journal, this commits only once every reader has left. With a write-ahead log, a transaction that
/// read an older state may not write any more (SQLITE_BUSY_SNAPSHOT). And every writer has ended, since there is one.
pub(super) fn pass_barrier(connection: &Connection, job: &Job) -> Result<(), EngineError> {
    let sql = "UPDATE reseal_run SET barrier = barrier + 1 WHERE run_id = ?1";
    match connection.execute(sql, [job.plan.run.0]).doing("wait for old transactions")? {
        1 => Ok(()),
        _ => Err(unknown_run(job)),
    }
}

/// The id under which an earlier run recorded a column.
pub(super) fn column_id(
    connection: &Connection,
    relation: &str,
    column: &str,
) -> Result<Option<ColumnId>, EngineError> {
    if !has_tables(connection)? {
        return Ok(None);
    }
    let sql = "SELECT column_id FROM reseal_column WHERE relation = ?1 AND column_name = ?2";
    let found = connection.query_row(sql, [relation, column], |row| row.get(0)).optional();
    Ok(found.doing("look for earlier runs")?.map(ColumnId))
}

/// Whether the tables of the account are there.
pub(super) fn has_tables(connection: &Connection) -> Result<bool, EngineError> {
    let sql = "SELECT EXISTS (SELECT 1 FROM sqlite_schema WHERE type = 'table' AND name = 'reseal_version')";
    if !connection.query_row(sql, [], |row| row.get(0)).doing("look for earlier runs")? {
        return Ok(false);
    }
    check_version(connection).map(|()| true)
}

fn make_tables(connection: &Connection) -> Result<(), EngineError> {
    if has_tables(connection)? {
        return Ok(());
    }
    connection.execute_batch(TABLES).doing("make the tables of the account")?;
    connection
        .execute("INSERT INTO reseal_version (version) VALUES (?1)", [VERSION])
        .doing("make the tables of the account")
        .map(drop)
}

/// Keeps the ids of the columns beside them: values of a column are bound to one id for ever.
fn record_columns(connection: &Connection, job: &Job, relation: &str) -> Result<(), EngineError> {
    let sql = "INSERT INTO reseal_column (relation, column_name, column_id) VALUES (?1, ?2, ?3) \
         ON CONFLICT DO UPDATE SET column_id = iif(column_id = ?4, ?3, column_id) RETURNING column_id = ?3";
    for column in &job.plan.columns {
        let fields = params![relation, column.name, column.id.0, column.replaces.map(|id| id.0)];
        let same: bool = connection.query_row(sql, fields, |row| row.get(0)).doing("record the columns")?;
        if !same {
            return Err(EngineError::Conflict(format!(
                "the file knows column `{}` by another column id than the plan",
                column.name
            )));
        }
    }
    Ok(())
}

fn check_version(connection: &Connection) -> Result<(), EngineError> {
    let sql = "SELECT version FROM reseal_version";
    let found = connection.query_row(sql, [], |row| row.get(0)).optional().doing("look for earlier runs")?;
    match found {
        Some(VERSION) => Ok(()),
        _ => Err(EngineError::Conflict(
            "another version of reseal made the tables reseal_… of this file".into(),
        )),
    }
}

fn known(connection: &Connection, job: &Job) -> Result<RunRow, EngineError> {
    find(connection, job)?.ok_or_else(|| unknown_run(job))
}

fn ended(job: &Job, state: RunState) -> EngineError {
    EngineError::Conflict(format!("run {} is {} by now", job.plan.run, state.name()))
}

fn unknown_run(job: &Job) -> EngineError {
    EngineError::Conflict(format!("the file does not know run {}", job.plan.run))
}

fn find(connection: &Connection, job: &Job) -> Result<Option<RunRow>, EngineError> {
    let sql = "SELECT relation, state, pass, mac FROM reseal_run WHERE run_id = ?1";
    let found = connection
        .query_row(sql, [job.plan.run.0], |row| {
            Ok((row.get(0)?, row.get::<_, String>(1)?, row.get(2)?, row.get::<_, Vec<u8>>(3)?))
        })
        .optional()
        .doing("read the run's record")?;
    let Some((relation, state, pass, mac)) = found else { return Ok(None) };
    let state = RunState::from_name(&state).ok_or(EngineError::Damaged("its state is no known word"))?;
    let row = RunRow { relation, state, pass };
    if !equal(&row.mac(job), &mac) {
        return Err(EngineError::Damaged("the run's record does not carry its MAC"));
    }
    Ok(Some(row))
}

/// A run that another run takes back is rolled back, whatever its own record says: only its own key could change that.
fn standing_of(connection: &Connection, job: &Job, row: &RunRow) -> Result<Standing, EngineError> {
    let sql = "SELECT EXISTS (SELECT 1 FROM reseal_run WHERE supersedes = ?1)";
    let taken_back: bool =
        connection.query_row(sql, [job.plan.run.0], |row| row.get(0)).doing("read the run's record")?;
    let state = if taken_back { RunState::RolledBack } else { row.state };
    Ok(Standing { state, pass: row.pass })
}

/// The run that is active on the table, if it is neither this one nor taken back by it or another.
pub(super) fn other_run(
    connection: &Connection,
    job: &Job,
    relation: &str,
) -> Result<Option<RunId>, EngineError> {
    if !has_tables(connection)? {
        return Ok(None);
    }
    let sql = "SELECT run_id FROM reseal_run AS other \
         WHERE relation = ?1 AND run_id <> ?2 AND run_id IS NOT ?3 AND state = ?4 \
         AND NOT EXISTS (SELECT 1 FROM reseal_run AS back WHERE back.supersedes = other.run_id)";
    let supersedes = job.plan.supersedes.map(|run| run.0);
    let fields = params![relation, job.plan.run.0, supersedes, RunState::Active.name()];
    let other =
        connection.query_row(sql, fields, |row| row.get(0)).optional().doing("look for other runs")?;
    Ok(other.map(RunId))
}

/// One run per table: others must have ended, or be taken back by this one or another.
fn refuse_other_runs(connection: &Connection, job: &Job, relation: &str) -> Result<(), EngineError> {
    match other_run(connection, job, relation)? {
        None => Ok(()),
        Some(run) => Err(EngineError::Conflict(format!("run {run} is active on {relation}"))),
    }
}
