//! Values that were left as they are, by row key and reason; never their bytes.

use reseal_crypto::RowKey;
use rusqlite::{Connection, params};

use super::connection::Doing;
use crate::batch::Batch;
use crate::error::EngineError;
use crate::plan::Job;
use crate::store::QuarantineRecord;
use crate::verified::{Quarantined, Reason, VerifiedBatch};

/// Adds values; one that is there already gets its new reason and bytes.
pub(super) fn insert(
    connection: &Connection,
    job: &Job,
    records: impl IntoIterator<Item = QuarantineRecord>,
) -> Result<(), EngineError> {
    let sql = "INSERT OR REPLACE INTO reseal_quarantine (run_id, relation, column_name, row_key, reason, value_mac) \
         VALUES (?1, ?2, ?3, ?4, ?5, ?6)";
    let mut statement = connection.prepare_cached(sql).doing("record the quarantine")?;
    for QuarantineRecord { relation, column, row_key, reason, value_mac } in records {
        let fields = params![job.plan.run.0, relation, column, row_key, reason.code(), value_mac];
        statement.execute(fields).doing("record the quarantine")?;
    }
    Ok(())
}

/// Every quarantined value of the run.
pub(super) fn all(connection: &Connection, job: &Job) -> Result<Vec<QuarantineRecord>, EngineError> {
    const DOING: &str = "read the quarantine";
    let sql = "SELECT relation, column_name, row_key, reason, value_mac FROM reseal_quarantine \
         WHERE run_id = ?1 ORDER BY relation, row_key, column_name";
    let mut statement = connection.prepare(sql).doing(DOING)?;
    let rows = statement.query_map([job.plan.run.0], |row| {
        let reason: String = row.get(3)?;
        let (relation, column, row_key, value_mac) = (row.get(0)?, row.get(1)?, row.get(2)?, row.get(4)?);
        Ok(Reason::from_code(&reason).map(|reason| QuarantineRecord {
            relation,
            column,
            row_key,
            reason,
            value_mac,
        }))
    });
    let unknown = EngineError::Damaged("a quarantined value has an unknown reason");
    let found: Vec<_> = rows.doing(DOING)?.collect::<rusqlite::Result<_>>().doing(DOING)?;
    found.into_iter().collect::<Option<_>>().ok_or(unknown)
}

/// The records of what a batch leaves as it is.
pub(super) fn of_batch<'a>(
    job: &'a Job,
    batch: &'a VerifiedBatch,
    relation: &'a str,
) -> impl Iterator<Item = QuarantineRecord> + 'a {
    let record = move |value: &Quarantined| QuarantineRecord {
        relation: relation.into(),
        column: job.plan.columns[usize::from(value.column)].name.clone(),
        row_key: row_key(batch.batch(), value.row as usize).as_bytes().to_vec(),
        reason: value.reason,
        value_mac: value.value_mac,
    };
    batch.quarantine().iter().map(record)
}

/// The row key, or the rowid where there is none.
fn row_key(batch: &Batch, row: usize) -> RowKey {
    if batch.keys.is_empty() {
        return RowKey::default().integer(batch.locators[row].cast_signed());
    }
    batch.row_key(row)
}
