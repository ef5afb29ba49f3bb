//! Reads rows in the order of their rowids.

use std::time::{Duration, Instant};

use rusqlite::types::ValueRef;
use rusqlite::{Connection, Row};

use super::connection::{Doing, quoted};
use super::position;
use super::table::Table;
use crate::batch::{Batch, Cells, KeyCells, Position};
use crate::error::{DatabaseError, EngineError};
use crate::ledger::ScanRange;
use crate::plan::{Job, KeyType};
use crate::store::{Filter, ReadLimits};

/// How long one read looks for rows: with a rollback journal nobody can commit while a statement reads.
const TIME_MAX: Duration = Duration::from_millis(100);
/// Rows between two looks at the clock.
const CLOCK_ROWS: usize = 64;
/// Rowids of a span.
const SPAN_ROWIDS: i128 = 1 << 16;
/// Most spans of a pass; rowids far apart make the spans longer.
const SPANS_MAX: i128 = 256;

/// The rows of a table, cut into spans.
pub(super) fn ranges(
    connection: &Connection,
    table: &Table,
    incarnation: u64,
) -> Result<Vec<ScanRange>, EngineError> {
    let Some((first, last)) = bounds(connection, table)? else { return Ok(Vec::new()) };
    let rowids = i128::from(last) - i128::from(first) + 1;
    let step = SPAN_ROWIDS.max((rowids + SPANS_MAX - 1) / SPANS_MAX);
    let start = |span: i128| i128::from(first) + span * step;
    let range = |span: i128| {
        let end = start(span + 1).min(i128::from(last) + 1) - 1;
        // Both lie between the first and the last rowid.
        let (lo, hi) = (start(span) as i64, end as i64);
        ScanRange { relation: table.relation(), incarnation, lo: position::of(lo), hi: position::after(hi) }
    };
    Ok((0..).take_while(|span| start(*span) <= i128::from(last)).map(range).collect())
}

/// The first and the last rowid; `None` if there are no rows.
pub(super) fn bounds(connection: &Connection, table: &Table) -> Result<Option<(i64, i64)>, EngineError> {
    let (rowid, name) = (rowid(table)?, quoted(&table.name));
    // Two subqueries: SQLite looks up one end at a time, and scans for both at once.
    let sql = format!("SELECT (SELECT min({rowid}) FROM {name}), (SELECT max({rowid}) FROM {name})");
    let (first, last): (Option<i64>, Option<i64>) = connection
        .query_row(&sql, [], |row| Ok((row.get(0)?, row.get(1)?)))
        .doing("read the bounds of the table")?;
    Ok(first.zip(last))
}

/// Reads rows of `range` from `from` on.
pub(super) fn rows(
    connection: &Connection,
    job: &Job,
    table: &Table,
    span: (&Position, &Position),
    limits: ReadLimits,
    filter: Filter,
) -> Result<Batch, EngineError> {
    let (from, hi) = span;
    let mut batch = Reader::new(job, table, filter);
    let Some((first, last)) = position::rowids(from, hi)? else { return Ok(batch.finish(hi.clone())) };
    let mut statement = connection.prepare_cached(&select(job, table)?).doing("read rows")?;
    let mut found = statement.query([first, last]).doing("read rows")?;
    let begun = Instant::now();
    let mut seen = 0;
    while let Some(row) = found.next().doing("read rows")? {
        let rowid = batch.push(row)?;
        seen += 1;
        let full = batch.len() >= limits.rows || batch.bytes >= limits.bytes;
        if full || (seen % CLOCK_ROWS == 0 && begun.elapsed() >= TIME_MAX) {
            return Ok(batch.finish(position::after(rowid).min(hi.clone())));
        }
    }
    Ok(batch.finish(hi.clone()))
}

/// The name of the rowid in SQL; a survey refuses tables without one.
pub(super) fn rowid(table: &Table) -> Result<&str, EngineError> {
    let hidden = || DatabaseError::protocol("read rows", "columns of the table hide its rowid");
    table.rowid.as_deref().ok_or_else(|| hidden().into())
}

/// What a key column reads as and is compared by.
pub(super) fn key_expression(name: &str, kind: KeyType) -> String {
    match kind {
        KeyType::Other => format!("CAST({} AS TEXT)", quoted(name)),
        _ => quoted(name),
    }
}

/// An empty batch that ends at `end`.
pub(super) fn empty(job: &Job, end: Position) -> Batch {
    let key = |kind| match kind {
        KeyType::Integer => KeyCells::Integer(Vec::new()),
        KeyType::Text | KeyType::Other => KeyCells::Text(Cells::default()),
        KeyType::Bytes => KeyCells::Bytes(Cells::default()),
        KeyType::Uuid => KeyCells::Uuid(Vec::new()),
    };
    Batch {
        locators: Vec::new(),
        versions: Vec::new(),
        keys: job.plan.key.iter().map(|column| key(column.kind)).collect(),
        columns: job.plan.columns.iter().map(|_| Cells::default()).collect(),
        end,
    }
}

/// Reads the rowid, the key columns and the columns of the plan of a range of rowids.
pub(super) fn select(job: &Job, table: &Table) -> Result<String, EngineError> {
    let rowid = rowid(table)?;
    let keys = job.plan.key.iter().map(|key| key_expression(&key.name, key.kind));
    let columns = job.column_names().map(quoted);
    let fields: Vec<String> = std::iter::once(rowid.to_owned()).chain(keys).chain(columns).collect();
    Ok(format!(
        "SELECT {} FROM {} WHERE {rowid} BETWEEN ?1 AND ?2 ORDER BY {rowid}",
        fields.join(", "),
        quoted(&table.name)
    ))
}

/// Collects the rows of a batch.
struct Reader<'a> {
    job: &'a Job,
    table: &'a Table,
    filter: Filter,
    batch: Batch,
    bytes: usize,
}

impl<'a> Reader<'a> {
    fn new(job: &'a Job, table: &'a Table, filter: Filter) -> Self {
        Self { job, table, filter, batch: empty(job, Position::default()), bytes: 0 }
    }

    fn len(&self) -> usize {
        self.batch.len()
    }

    fn finish(self, end: Position) -> Batch {
        Batch { end, ..self.batch }
    }

    /// Takes a row, unless the filter passes it over, and gives its rowid.
    fn push(&mut self, row: &Row<'_>) -> Result<i64, EngineError> {
        let rowid = row.get(0).doing("read rows")?;
        if self.filter == Filter::NotNew && !self.may_be_old(row)? {
            return Ok(rowid);
        }
        for index in 0..self.job.plan.key.len() {
            self.push_key(row, index, rowid)?;
        }
        let first = 1 + self.job.plan.key.len();
        for (index, cells) in self.batch.columns.iter_mut().enumerate() {
            self.bytes += push_cell(cells, row.get_ref(first + index).doing("read rows")?);
        }
        self.batch.locators.push(rowid.cast_unsigned());
        Ok(rowid)
    }

    /// Whether any value may be under another key than the new one.
    fn may_be_old(&self, row: &Row<'_>) -> Result<bool, EngineError> {
        let first = 1 + self.job.plan.key.len();
        for (index, codecs) in self.job.codecs.iter().enumerate() {
            let new = match row.get_ref(first + index).doing("read rows")? {
                ValueRef::Null => true,
                ValueRef::Text(bytes) | ValueRef::Blob(bytes) => codecs.names_new(bytes),
                _ => false,
            };
            if !new {
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn push_key(&mut self, row: &Row<'_>, index: usize, rowid: i64) -> Result<(), EngineError> {
        let value = row.get_ref(1 + index).doing("read rows")?;
        match (&mut self.batch.keys[index], value) {
            (KeyCells::Integer(cells), ValueRef::Integer(number)) => {
                cells.push(number);
                self.bytes += 8;
            }
            (KeyCells::Text(cells), ValueRef::Text(bytes))
            | (KeyCells::Bytes(cells), ValueRef::Blob(bytes)) => {
                cells.push(Some(bytes));
                self.bytes += bytes.len();
            }
            _ => {
                return Err(EngineError::NeedsAttention(format!(
                    "{}: row {rowid} has a key of another type than the plan says: column `{}` holds {}",
                    self.table.relation(),
                    self.job.plan.key[index].name,
                    value.data_type()
                )));
            }
        }
        Ok(())
    }
}

/// Appends a stored value. Numbers become their text, which opens under no key and is never written.
fn push_cell(cells: &mut Cells, value: ValueRef<'_>) -> usize {
    match value {
        ValueRef::Null => cells.push(None),
        ValueRef::Text(bytes) | ValueRef::Blob(bytes) => {
            cells.push(Some(bytes));
            return bytes.len();
        }
        ValueRef::Integer(number) => cells.push(Some(number.to_string().as_bytes())),
        ValueRef::Real(number) => cells.push(Some(number.to_string().as_bytes())),
    }
    0
}
