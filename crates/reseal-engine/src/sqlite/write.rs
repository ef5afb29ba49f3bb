//! Writes rows by compare-and-set, and proves that the file holds what was sent.

use std::collections::HashMap;

use reseal_formats::ColumnType;
use rusqlite::types::{ToSqlOutput, ValueRef};
use rusqlite::{CachedStatement, Connection, Row, params_from_iter};

use super::connection::{Doing, quoted};
use super::read::{key_expression, rowid, select};
use super::table::Table;
use crate::batch::{Batch, KeyCells};
use crate::error::EngineError;
use crate::plan::{ColumnPlan, Job, KeyType};
use crate::store::{MissCause, Missed};
use crate::verified::{Change, VerifiedBatch};

/// Writes every change of a batch that still applies, and gives those that do not. The caller holds the write lock.
pub(super) fn changes(
    connection: &Connection,
    job: &Job,
    table: &Table,
    batch: &VerifiedBatch,
) -> Result<Vec<Missed>, EngineError> {
    let writer = Writer {
        connection,
        job,
        table,
        batch,
        select: select(job, table)?,
        updates: updates(job, table, batch)?,
    };
    let mut missed = Vec::new();
    let mut written = Vec::with_capacity(batch.changes().len());
    for (index, change) in batch.changes().iter().enumerate() {
        match writer.write(index, change)? {
            Ok(types) => written.push((index, types)),
            Err(cause) => missed.push(Missed { change: index as u32, cause }),
        }
    }
    // RETURNING does not see what a trigger does after it.
    if !table.triggers.is_empty() {
        written.iter().try_for_each(|(index, types)| writer.check_again(*index, *types))?;
    }
    Ok(missed)
}

/// How the values of a row's columns are stored: bit `i` is set where column `i` holds text, clear where bytes.
///
/// A value keeps the type it had, whatever the column declares: applications store bytes in text columns. Only text
/// that becomes bytes of no UTF-8 does not: it is stored as bytes, which no affinity changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Types(u32);

impl Types {
    fn declared(job: &Job) -> Self {
        let bit = |(index, column): (usize, &ColumnPlan)| {
            u32::from(column.column_type == ColumnType::Text) << index
        };
        Self(job.plan.columns.iter().enumerate().map(bit).sum())
    }

    fn is_text(self, column: usize) -> bool {
        self.0 >> column & 1 == 1
    }

    fn with_bytes(self, column: usize) -> Self {
        Self(self.0 & !(1 << column))
    }

    fn name(self, column: usize) -> &'static str {
        if self.is_text(column) { "text" } else { "blob" }
    }

    fn value(self, column: usize, bytes: &[u8]) -> ToSqlOutput<'_> {
        ToSqlOutput::Borrowed(if self.is_text(column) {
            ValueRef::Text(bytes)
        } else {
            ValueRef::Blob(bytes)
        })
    }
}

/// In what a row differs.
enum Difference {
    Key,
    Column(usize),
}

struct Writer<'a> {
    connection: &'a Connection,
    job: &'a Job,
    table: &'a Table,
    batch: &'a VerifiedBatch,
    select: String,
    /// By the columns that change.
    updates: HashMap<u32, String>,
}

impl Writer<'_> {
    /// Writes one row; the types of its values, or why it was not written.
    fn write(&self, index: usize, change: &Change) -> Result<Result<Types, MissCause>, EngineError> {
        let declared = Types::declared(self.job);
        if let Some(stored) = self.update(index, change, declared)? {
            return Ok(Ok(stored));
        }
        let Some(found) = self.types_if_unchanged(change)? else { return Ok(Err(MissCause::Changed)) };
        let stored = if found == declared { None } else { self.update(index, change, found)? };
        Ok(stored.ok_or(MissCause::Suppressed))
    }

    /// Sets the changed columns where the row still is what was read, of these types. The types that are stored then;
    /// `None` if the row is something else.
    fn update(&self, index: usize, change: &Change, types: Types) -> Result<Option<Types>, EngineError> {
        const DOING: &str = "write rows";
        let row = change.row as usize;
        let batch = self.batch.batch();
        let becomes_bytes = |column: &usize| {
            types.is_text(*column) && std::str::from_utf8(self.sealed(*column, index)).is_err()
        };
        let stored = columns_of(change).filter(becomes_bytes).fold(types, Types::with_bytes);
        let mut values: Vec<ToSqlOutput<'_>> =
            columns_of(change).map(|column| stored.value(column, self.sealed(column, index))).collect();
        values.push(ToSqlOutput::Borrowed(ValueRef::Integer(batch.locators[row].cast_signed())));
        values.extend(batch.keys.iter().map(|key| key_value(key, row)));
        for column in columns_of(change) {
            values.push(ToSqlOutput::Borrowed(ValueRef::Text(types.name(column).as_bytes())));
            values.push(types.value(column, read_value(batch, column, row)));
        }
        let mut statement = self.prepare(&self.updates[&change.columns])?;
        let mut rows = statement.query(params_from_iter(values)).doing(DOING)?;
        let Some(returned) = rows.next().doing(DOING)? else { return Ok(None) };
        self.expect(index, stored, self.compare(returned, change, |column| self.sealed(column, index))?)?;
        // A rowid names one row; the step that finds no other ends the statement.
        match rows.next().doing(DOING)? {
            None => Ok(Some(stored)),
            Some(_) => self.expect(index, stored, Err(Difference::Key)).map(|()| None),
        }
    }

    /// The types of a row that stands as it was read; `None` if it does not.
    fn types_if_unchanged(&self, change: &Change) -> Result<Option<Types>, EngineError> {
        let batch = self.batch.batch();
        let old = |column| read_value(batch, column, change.row as usize);
        Ok(self.look_up(change, old)?.and_then(Result::ok))
    }

    /// Fails unless the row holds, after everything that triggers did, what was sent.
    fn check_again(&self, index: usize, types: Types) -> Result<(), EngineError> {
        let change = &self.batch.changes()[index];
        let found = self.look_up(change, |column| self.sealed(column, index))?;
        self.expect(index, types, found.unwrap_or(Err(Difference::Key)))
    }

    fn expect(
        &self,
        index: usize,
        types: Types,
        found: Result<Types, Difference>,
    ) -> Result<(), EngineError> {
        let change = &self.batch.changes()[index];
        let rowid = self.batch.batch().locators[change.row as usize].cast_signed();
        let what = match found {
            Ok(found) => match columns_of(change).find(|c| found.is_text(*c) != types.is_text(*c)) {
                None => return Ok(()),
                Some(column) => {
                    format!("type of column `{}`, row {rowid}", self.job.plan.columns[column].name)
                }
            },
            Err(Difference::Key) => format!("key of row {rowid}"),
            Err(Difference::Column(column)) => {
                format!("column `{}`, row {rowid}", self.job.plan.columns[column].name)
            }
        };
        Err(EngineError::NotStored { relation: self.table.relation(), what })
    }

    fn look_up<'v>(
        &self,
        change: &Change,
        expected: impl Fn(usize) -> &'v [u8],
    ) -> Result<Option<Result<Types, Difference>>, EngineError> {
        let rowid = self.batch.batch().locators[change.row as usize].cast_signed();
        let mut statement = self.prepare(&self.select)?;
        let mut rows = statement.query([rowid, rowid]).doing("read back rows")?;
        let Some(row) = rows.next().doing("read back rows")? else { return Ok(None) };
        self.compare(row, change, expected).map(Some)
    }

    /// Compares the key and the changed columns of a row with what is expected of them, byte for byte.
    fn compare<'v>(
        &self,
        row: &Row<'_>,
        change: &Change,
        expected: impl Fn(usize) -> &'v [u8],
    ) -> Result<Result<Types, Difference>, EngineError> {
        let cell = |index| row.get_ref(index).doing("read back rows");
        let keys = &self.batch.batch().keys;
        for (index, key) in keys.iter().enumerate() {
            if !holds_key(cell(1 + index)?, key, change.row as usize) {
                return Ok(Err(Difference::Key));
            }
        }
        let mut types = Types(0);
        for column in 0..self.job.plan.columns.len() {
            let found = cell(1 + keys.len() + column)?;
            types.0 |= u32::from(matches!(found, ValueRef::Text(_))) << column;
            let is_changed = change.columns >> column & 1 == 1;
            if is_changed
                && !matches!(found, ValueRef::Text(bytes) | ValueRef::Blob(bytes) if bytes == expected(column))
            {
                return Ok(Err(Difference::Column(column)));
            }
        }
        Ok(Ok(types))
    }

    fn sealed(&self, column: usize, index: usize) -> &[u8] {
        self.batch.sealed()[column].get(index).unwrap_or_default()
    }

    fn prepare(&self, sql: &str) -> Result<CachedStatement<'_>, EngineError> {
        self.connection.prepare_cached(sql).doing("write rows")
    }
}

/// One statement for every combination of columns that changes in the batch.
fn updates(job: &Job, table: &Table, batch: &VerifiedBatch) -> Result<HashMap<u32, String>, EngineError> {
    let rowid = rowid(table)?;
    let mut updates = HashMap::new();
    for change in batch.changes() {
        updates.entry(change.columns).or_insert_with(|| update(job, table, rowid, change));
    }
    Ok(updates)
}

/// ```sql
/// UPDATE "t" SET "c" = ? WHERE "id" = ? AND "key" COLLATE BINARY IS ? AND typeof("c") = ? AND "c" COLLATE BINARY IS ?
/// RETURNING …
/// ```
fn update(job: &Job, table: &Table, rowid: &str, change: &Change) -> String {
    let names: Vec<String> = job.column_names().map(quoted).collect();
    let keys: Vec<String> = job.plan.key.iter().map(|key| key_expression(&key.name, key.kind)).collect();
    let sets: Vec<String> = columns_of(change).map(|column| format!("{} = ?", names[column])).collect();
    let mut sql = format!("UPDATE {} SET {} WHERE {rowid} = ?", quoted(&table.name), sets.join(", "));
    for (key, column) in keys.iter().zip(&job.plan.key) {
        // An integer is compared as a number, which a collation would not change.
        let collation = if column.kind == KeyType::Integer { "" } else { " COLLATE BINARY" };
        sql += &format!(" AND {key}{collation} IS ?");
    }
    for name in columns_of(change).map(|column| &names[column]) {
        sql += &format!(" AND typeof({name}) = ? AND {name} COLLATE BINARY IS ?");
    }
    let returned: Vec<&str> =
        [rowid].into_iter().chain(keys.iter().chain(&names).map(String::as_str)).collect();
    sql + " RETURNING " + &returned.join(", ")
}

/// The columns that a change sets.
fn columns_of(change: &Change) -> impl Iterator<Item = usize> + use<> {
    let columns = change.columns;
    (0..u32::BITS as usize).filter(move |column| columns >> column & 1 == 1)
}

fn read_value(batch: &Batch, column: usize, row: usize) -> &[u8] {
    batch.columns[column].get(row).unwrap_or_default()
}

fn key_value(key: &KeyCells, row: usize) -> ToSqlOutput<'_> {
    ToSqlOutput::Borrowed(match key {
        KeyCells::Integer(cells) => ValueRef::Integer(cells[row]),
        KeyCells::Text(cells) => ValueRef::Text(cells.get(row).unwrap_or_default()),
        KeyCells::Bytes(cells) => ValueRef::Blob(cells.get(row).unwrap_or_default()),
        KeyCells::Uuid(cells) => ValueRef::Blob(&cells[row]),
    })
}

fn holds_key(found: ValueRef<'_>, key: &KeyCells, row: usize) -> bool {
    matches!(key_value(key, row), ToSqlOutput::Borrowed(sent) if sent == found)
}
