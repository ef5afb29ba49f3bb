//! Tries updates and rolls them back: what the schema says about them is in expressions that only SQLite can read.

use rusqlite::ffi::SQLITE_CONSTRAINT_CHECK;
use rusqlite::types::{ToSqlOutput, ValueRef};
use rusqlite::{Connection, OptionalExtension, params};

use super::connection::{Doing, begin_immediate, message_of, quoted, roll_back};
use super::read::rowid;
use super::table::Table;
use crate::batch::Batch;
use crate::error::EngineError;
use crate::finding::Refusal;
use crate::plan::Job;
use crate::survey::TableFacts;

/// How much longer than a sampled value the longest probe is, in bytes, beside half of its length.
const GROWTH: usize = 4096;
/// Bytes that a probe with the prefix of the new key has behind it, at least.
const BODY: usize = 64;

/// Probes every column with the first sampled row that has a value in it.
pub(super) fn probe(
    connection: &Connection,
    job: &Job,
    table: &Table,
    sample: &Batch,
    facts: &mut TableFacts,
) -> Result<(), EngineError> {
    begin_immediate(connection)?;
    let result = probe_columns(connection, job, table, sample, facts);
    roll_back(connection);
    result
}

fn probe_columns(
    connection: &Connection,
    job: &Job,
    table: &Table,
    sample: &Batch,
    facts: &mut TableFacts,
) -> Result<(), EngineError> {
    for (index, column) in job.plan.columns.iter().enumerate() {
        let cells = &sample.columns[index];
        let Some(row) = (0..cells.len()).find(|row| cells.get(*row).is_some_and(|value| !value.is_empty()))
        else {
            continue;
        };
        let rowid = sample.locators[row].cast_signed();
        let Some(probe) = Probe::new(connection, table, &column.name, rowid)? else { continue };
        let refuse_check = |constraint| Refusal::Check { constraint, column: column.name.clone() };
        match probe.set(&probe.value)? {
            Answer::Taken => {}
            Answer::Check(constraint) => {
                facts.refusals.push(refuse_check(constraint));
                continue;
            }
            Answer::Failed(reason) => {
                facts.refusals.push(Refusal::UpdateFails { relation: table.relation(), reason });
                return Ok(());
            }
        }
        facts.widths[index] = probe.width()?;
        let refused = match job.codecs[index].new_prefix() {
            Some(prefix) => probe.refuses(prefix, facts.widths[index])?,
            None => None,
        };
        facts.refusals.extend(refused.map(refuse_check));
    }
    Ok(())
}

/// One value of one row, which is set to others inside a transaction that is never committed.
struct Probe<'a> {
    connection: &'a Connection,
    update: String,
    rowid: i64,
    value: Vec<u8>,
    is_text: bool,
}

/// What SQLite says to an update.
enum Answer {
    Taken,
    /// A CHECK constraint refused it.
    Check(String),
    Failed(String),
}

impl<'a> Probe<'a> {
    /// `None` if the row has gone meanwhile or holds a number.
    fn new(
        connection: &'a Connection,
        table: &Table,
        column: &str,
        row: i64,
    ) -> Result<Option<Self>, EngineError> {
        let (rowid, name, column) = (rowid(table)?, quoted(&table.name), quoted(column));
        let sql = format!("SELECT {column} FROM {name} WHERE {rowid} = ?1");
        let found = connection
            .query_row(&sql, [row], |found| {
                Ok(match found.get_ref(0)? {
                    ValueRef::Text(value) => Some((value.to_vec(), true)),
                    ValueRef::Blob(value) => Some((value.to_vec(), false)),
                    _ => None,
                })
            })
            .optional()
            .doing("read a sampled row again")?;
        let Some((value, is_text)) = found.flatten() else { return Ok(None) };
        let update = format!("UPDATE {name} SET {column} = ?1 WHERE {rowid} = ?2");
        Ok(Some(Self { connection, update, rowid: row, value, is_text }))
    }

    /// The most characters the column takes; `None` if there is no limit near.
    fn width(&self) -> Result<Option<u64>, EngineError> {
        let longest = self.value.len() / 2 + GROWTH;
        if self.takes(longest)? {
            return Ok(None);
        }
        let (mut taken, mut refused) = (0, longest);
        while refused - taken > 1 {
            let middle = usize::midpoint(taken, refused);
            if self.takes(middle)? { taken = middle } else { refused = middle }
        }
        Ok(Some((self.value.len() + taken) as u64))
    }

    fn takes(&self, growth: usize) -> Result<bool, EngineError> {
        let longer = [self.value.as_slice(), &vec![b'A'; growth]].concat();
        Ok(!matches!(self.set(&longer)?, Answer::Check(_)))
    }

    /// The CHECK constraint that refuses values which begin with `prefix`, if one does.
    fn refuses(&self, prefix: &[u8], width: Option<u64>) -> Result<Option<String>, EngineError> {
        let length = self.value.len().max(prefix.len() + BODY);
        let length = width.map_or(length, |width| length.min(width as usize));
        if length < prefix.len() {
            return Ok(None);
        }
        let value = [prefix, &vec![b'A'; length - prefix.len()]].concat();
        Ok(match self.set(&value)? {
            Answer::Check(constraint) => Some(constraint),
            _ => None,
        })
    }

    fn set(&self, value: &[u8]) -> Result<Answer, EngineError> {
        // A trigger may have rolled back the whole transaction.
        if self.connection.is_autocommit() {
            begin_immediate(self.connection)?;
        }
        let value = if self.is_text { ValueRef::Text(value) } else { ValueRef::Blob(value) };
        let result = self.connection.execute(&self.update, params![ToSqlOutput::Borrowed(value), self.rowid]);
        Ok(match result {
            Ok(_) => Answer::Taken,
            Err(error) => match error.sqlite_error() {
                Some(cause) if cause.extended_code == SQLITE_CONSTRAINT_CHECK => {
                    let message = message_of(&error);
                    Answer::Check(message.split_once(": ").map_or(message.clone(), |(_, name)| name.into()))
                }
                _ => Answer::Failed(message_of(&error)),
            },
        })
    }
}
