//! Values that were left as they were, by row key and reason; never their bytes.

use rusqlite::{Connection, params};

use super::connection::Doing;
use crate::error::EngineError;
use crate::plan::Job;
use crate::store::QuarantineRecord;
use crate::verified::{ByReason, Reason};

const READING: &str = "read the quarantine";

/// Adds values, and says how many were not there before.
pub(super) fn insert(
    connection: &Connection,
    job: &Job,
    records: impl IntoIterator<Item = QuarantineRecord>,
) -> Result<u64, EngineError> {
    let sql = "INSERT INTO reseal_quarantine (run_id, relation, column_name, row_key, reason, value_mac) \
         VALUES (?1, ?2, ?3, ?4, ?5, ?6) ON CONFLICT DO NOTHING";
    let mut statement = connection.prepare_cached(sql).doing("record the quarantine")?;
    let mut added = 0;
    for QuarantineRecord { relation, column, row_key, reason, value_mac } in records {
        let fields = params![job.plan.run.0, relation, column, row_key, reason.code(), value_mac];
        added += statement.execute(fields).doing("record the quarantine")? as u64;
    }
    Ok(added)
}

/// How many values are quarantined.
pub(super) fn counts(connection: &Connection, job: &Job) -> Result<ByReason, EngineError> {
    let sql = "SELECT reason, count(*) FROM reseal_quarantine WHERE run_id = ?1 GROUP BY reason";
    let mut statement = connection.prepare(sql).doing(READING)?;
    let rows =
        statement.query_map([job.plan.run.0], |row| Ok((row.get::<_, String>(0)?, row.get::<_, i64>(1)?)));
    let mut counts = ByReason::default();
    for row in rows.doing(READING)? {
        let (code, values) = row.doing(READING)?;
        counts.add(read_reason(&code)?, values.cast_unsigned());
    }
    Ok(counts)
}

/// Quarantined values of the run: for one reason, or for any.
pub(super) fn records(
    connection: &Connection,
    job: &Job,
    reason: Option<Reason>,
    limit: u64,
) -> Result<Vec<QuarantineRecord>, EngineError> {
    let sql = "SELECT relation, column_name, row_key, reason, value_mac FROM reseal_quarantine \
         WHERE run_id = ?1 AND reason = coalesce(?2, reason) ORDER BY reason = 'empty', relation, row_key, column_name LIMIT ?3";
    let mut statement = connection.prepare(sql).doing(READING)?;
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    let mut rows =
        statement.query(params![job.plan.run.0, reason.map(Reason::code), limit]).doing(READING)?;
    let mut found = Vec::new();
    while let Some(row) = rows.next().doing(READING)? {
        let code: String = row.get(3).doing(READING)?;
        found.push(QuarantineRecord {
            relation: row.get(0).doing(READING)?,
            column: row.get(1).doing(READING)?,
            row_key: row.get(2).doing(READING)?,
            reason: read_reason(&code)?,
            value_mac: row.get(4).doing(READING)?,
        });
    }
    Ok(found)
}

fn read_reason(code: &str) -> Result<Reason, EngineError> {
    Reason::from_code(code).ok_or(EngineError::Damaged("a quarantined value has an unknown reason"))
}
