//! What a run would meet in the file, and the sample that is opened before it.

use reseal_formats::ColumnType;
use rusqlite::Connection;

use super::connection::{Doing, quoted};
use super::table::{Affinity, Column, Kind, Table};
use super::trigger::Trigger;
use super::{position, probe, read, run};
use crate::batch::{Batch, Cells, Position};
use crate::error::EngineError;
use crate::finding::{Refusal, Warning};
use crate::plan::{ColumnPlan, Job, KeyType};
use crate::store::{Filter, ReadLimits};
use crate::survey::TableFacts;

/// Places of the table at which rows are sampled.
const SAMPLES: i128 = 10;
/// Rows and bytes of a sample.
const SAMPLE: ReadLimits = ReadLimits { rows: 100, bytes: 1 << 20 };
/// Rows are counted up to here; beyond, the rowids say how many there may be.
const COUNTED_MAX: i64 = 1_000_000;

/// Fewest bytes of a row that holds a sealed value, with its header and its place in the page.
const ROW_BYTES_MIN: u64 = 32;

/// Looks at the table and reads a sample. Writes nothing: the probe is rolled back.
pub(super) fn survey(connection: &Connection, job: &Job) -> Result<(TableFacts, Batch), EngineError> {
    let mut facts = TableFacts {
        server: server(connection)?,
        widths: vec![None; job.plan.columns.len()],
        longest: vec![0; job.plan.columns.len()],
        ..TableFacts::default()
    };
    let nothing = read::empty(job, Position::default());
    let Some(table) = Table::load(connection, &job.plan.table)? else {
        facts.refusals.push(Refusal::NoTable(job.plan.table.to_string()));
        return Ok((facts, nothing));
    };
    facts.leaves = vec![table.relation()];
    judge_table(connection, &table, &mut facts)?;
    if !facts.refusals.is_empty() {
        return Ok((facts, nothing));
    }
    job.plan.columns.iter().for_each(|column| judge_column(&table, column, &mut facts));
    judge_foreign_keys(connection, job, &table, &mut facts)?;
    judge_key(connection, job, &table, &mut facts)?;
    if !facts.refusals.is_empty() {
        return Ok((facts, nothing));
    }
    if let Some(run) = run::other_run(connection, job, &table.relation())? {
        facts.refusals.push(Refusal::OtherRun { relation: table.relation(), run });
        return Ok((facts, nothing));
    }
    warn(connection, &table, job, &mut facts)?;
    (facts.rows, facts.bytes) = size(connection, &table)?;
    let sample = match sample(connection, job, &table) {
        Ok(sample) => sample,
        Err(EngineError::NeedsAttention(why)) => {
            facts.refusals.push(Refusal::Key(why));
            return Ok((facts, nothing));
        }
        Err(error) => return Err(error),
    };
    let longest = |cells: &Cells| cells.iter().flatten().map(|value| value.len() as u64).max();
    facts.longest = sample.columns.iter().map(|cells| longest(cells).unwrap_or(0)).collect();
    probe::probe(connection, job, &table, &sample, &mut facts)?;
    for (index, column) in job.plan.columns.iter().enumerate() {
        // Where there is a limit, the longest value decides, not the longest of a sample.
        if facts.widths[index].is_some() {
            facts.longest[index] =
                longest_value(connection, &table, &column.name, job.codecs[index].new_prefix())?;
        }
    }
    Ok((facts, sample))
}

fn server(connection: &Connection) -> Result<String, EngineError> {
    Ok(format!("SQLite {}, journal mode {}", rusqlite::version(), journal_mode(connection)?))
}

fn journal_mode(connection: &Connection) -> Result<String, EngineError> {
    connection.pragma_query_value(None, "journal_mode", |row| row.get(0)).doing("read the journal mode")
}

fn judge_table(connection: &Connection, table: &Table, facts: &mut TableFacts) -> Result<(), EngineError> {
    let mut refuse =
        |found: &str| facts.refusals.push(Refusal::Kind { relation: table.relation(), found: found.into() });
    match table.kind {
        Kind::Table if table.rowid.is_none() => refuse("a table whose columns hide its rowid"),
        Kind::Table => {}
        Kind::WithoutRowid => refuse("a WITHOUT ROWID table"),
        Kind::View => refuse("a view"),
        Kind::Virtual => refuse("a virtual table"),
    }
    if connection.is_readonly("main").doing("open the database file")? {
        refuse("in a file that cannot be written");
    }
    Ok(())
}

fn judge_column(table: &Table, plan: &ColumnPlan, facts: &mut TableFacts) {
    let Some(column) = table.column(&plan.name) else {
        facts.refusals.push(Refusal::NoColumn(plan.name.clone()));
        return;
    };
    if column.generated {
        facts.refusals.push(Refusal::Generated(plan.name.clone()));
    } else if !takes(table, column, plan.column_type) {
        let found = if column.declared.is_empty() { "none".into() } else { column.declared.clone() };
        facts.refusals.push(Refusal::ColumnType { column: plan.name.clone(), found });
    }
}

/// Whether the column keeps values of this type as they are.
fn takes(table: &Table, column: &Column, column_type: ColumnType) -> bool {
    match (column.affinity, column_type) {
        (Affinity::Text, ColumnType::Bytes) => !table.strict,
        (Affinity::Blob, ColumnType::Text) => !table.strict || column.declared.eq_ignore_ascii_case("ANY"),
        (Affinity::Numeric, ColumnType::Bytes) => !table.strict,
        (Affinity::Numeric, ColumnType::Text) => false,
        _ => true,
    }
}

/// Equal values under a new key are equal no more. Only a column that is referred to may change, where the others follow.
fn judge_foreign_keys(
    connection: &Connection,
    job: &Job,
    table: &Table,
    facts: &mut TableFacts,
) -> Result<(), EngineError> {
    let reading = "read the foreign keys";
    let mut statement = connection.prepare(FOREIGN_KEYS).doing(reading)?;
    let found = statement.query_map([&table.name], |row| {
        Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?, row.get::<_, String>(4)?))
    });
    for key in found.doing(reading)? {
        let (own, other, constraint, is_referenced, on_update) = key.doing(reading)?;
        let own: String = own;
        let Some(column) = job.column_names().find(|name| name.eq_ignore_ascii_case(&own)) else { continue };
        let (column, cascades) = (column.to_owned(), on_update == "CASCADE");
        let elsewhere = other != format!("main.{}", table.name);
        if is_referenced && cascades && elsewhere {
            facts.warnings.push(Warning::Cascade { constraint, column, other });
        } else {
            facts.refusals.push(Refusal::ForeignKey {
                constraint,
                column,
                other,
                is_referenced,
                cascades,
                can_follow: elsewhere,
            });
        }
    }
    Ok(())
}

/// Foreign keys from both ends; they have no names in SQLite but their columns.
const FOREIGN_KEYS: &str = "
    SELECT f.\"from\", 'main.' || f.\"table\", m.name || '(' || f.\"from\" || ')', false, f.on_update
      FROM sqlite_schema m JOIN pragma_foreign_key_list(m.name) f
     WHERE m.type = 'table' AND m.name = ?1 COLLATE NOCASE
     UNION ALL
    SELECT f.\"to\", 'main.' || m.name, m.name || '(' || f.\"from\" || ')', true, f.on_update
      FROM sqlite_schema m JOIN pragma_foreign_key_list(m.name) f
     WHERE m.type = 'table' AND f.\"table\" = ?1 COLLATE NOCASE AND f.\"to\" IS NOT NULL
     ORDER BY 3, 4";

fn judge_key(
    connection: &Connection,
    job: &Job,
    table: &Table,
    facts: &mut TableFacts,
) -> Result<(), EngineError> {
    let key = &job.plan.key;
    if job.row_bound() && (key.is_empty() || key.iter().any(|column| column.kind == KeyType::Other)) {
        facts.refusals.push(Refusal::RowBindingWithoutKey);
    }
    if key.is_empty() {
        facts.warnings.push(Warning::NoKey(table.relation()));
        return Ok(());
    }
    for column in key {
        let Some(found) = table.column(&column.name) else {
            facts.refusals.push(Refusal::Key(format!("there is no column `{}`", column.name)));
            return Ok(());
        };
        if job.column_names().any(|name| name.eq_ignore_ascii_case(&column.name)) {
            facts.refusals.push(Refusal::Key(format!("column `{}` is encrypted", column.name)));
        }
        if column.kind == KeyType::Uuid {
            let why = format!("SQLite has no uuid type; name `{}` as text or bytes", column.name);
            facts.refusals.push(Refusal::Key(why));
        }
        let is_rowid = table.rowid_column.as_ref() == Some(&found.name);
        if !found.not_null && !is_rowid && holds_null(connection, table, &found.name)? {
            facts.refusals.push(Refusal::Key(format!("column `{}` holds NULL", column.name)));
        }
    }
    if !table.is_unique(key) {
        facts.refusals.push(Refusal::Key("no unique index covers its columns".into()));
    }
    Ok(())
}

fn holds_null(connection: &Connection, table: &Table, column: &str) -> Result<bool, EngineError> {
    let sql =
        format!("SELECT EXISTS (SELECT 1 FROM {} WHERE {} IS NULL)", quoted(&table.name), quoted(column));
    connection.query_row(&sql, [], |row| row.get(0)).doing("look for keys that are NULL")
}

fn warn(
    connection: &Connection,
    table: &Table,
    job: &Job,
    facts: &mut TableFacts,
) -> Result<(), EngineError> {
    let relation = table.relation();
    let trigger = |trigger: &Trigger| Warning::Trigger {
        relation: relation.clone(),
        name: trigger.name.clone(),
        kind: format!("{} ROW", trigger.timing),
    };
    facts.warnings.extend(table.triggers.iter().map(trigger));
    for column in &job.plan.columns {
        let covers =
            |name: &Option<String>| name.as_ref().is_some_and(|name| name.eq_ignore_ascii_case(&column.name));
        let indexes = table.indexes.iter().filter(|index| index.columns.iter().any(covers));
        facts.warnings.extend(indexes.map(|index| Warning::Index {
            index: index.name.clone(),
            column: column.name.clone(),
            unique: index.unique,
        }));
    }
    let derived = table.columns.iter().filter(|column| column.generated);
    facts.warnings.extend(derived.map(|column| Warning::Derived(column.name.clone())));
    if journal_mode(connection)? != "wal" {
        facts.warnings.push(Warning::Other(
            "the file has no write-ahead log: while the proof reads the table, writers wait".into(),
        ));
    }
    Ok(())
}

/// Rows by estimate, and bytes of the file.
fn size(connection: &Connection, table: &Table) -> Result<(u64, u64), EngineError> {
    let sql = format!("SELECT count(*) FROM (SELECT 1 FROM {} LIMIT ?1)", quoted(&table.name));
    let counted: i64 = connection.query_row(&sql, [COUNTED_MAX], |row| row.get(0)).doing("count the rows")?;
    let sql = "SELECT page_count * page_size FROM pragma_page_count, pragma_page_size";
    let bytes: i64 = connection.query_row(sql, [], |row| row.get(0)).doing("read the size of the file")?;
    let (counted, bytes) = (counted.cast_unsigned(), bytes.cast_unsigned());
    if counted < COUNTED_MAX.cast_unsigned() {
        return Ok((counted, bytes));
    }
    Ok((estimated(counted, read::bounds(connection, table)?, bytes), bytes))
}

/// No more rows than rowids, nor than the file has room for: rowids may lie far apart.
fn estimated(counted: u64, bounds: Option<(i64, i64)>, bytes: u64) -> u64 {
    let spread = bounds.map_or(0, |(first, last)| i128::from(last) - i128::from(first) + 1);
    let spread = u64::try_from(spread).unwrap_or(u64::MAX);
    spread.min(bytes / ROW_BYTES_MIN).max(counted)
}

/// Rows from places spread over the table.
fn sample(connection: &Connection, job: &Job, table: &Table) -> Result<Batch, EngineError> {
    let mut sample = read::empty(job, Position::default());
    let Some((first, last)) = read::bounds(connection, table)? else { return Ok(sample) };
    let end = position::after(last);
    let step = (i128::from(last) - i128::from(first)) / SAMPLES + 1;
    for place in 0..SAMPLES {
        let start = i128::from(first) + place * step;
        if start > i128::from(last) {
            break;
        }
        // The last read may have gone beyond this place.
        let from = position::of(start as i64).max(sample.end.clone());
        let part = read::rows(connection, job, table, (&from, &end), SAMPLE, Filter::All)?;
        let end = part.end.clone();
        sample.append(part);
        sample.end = end;
    }
    Ok(sample)
}

/// Bytes of the longest value that does not begin with what a new one begins with.
fn longest_value(
    connection: &Connection,
    table: &Table,
    column: &str,
    new_prefix: Option<&[u8]>,
) -> Result<u64, EngineError> {
    let column = quoted(column);
    let sql = format!(
        "SELECT max(octet_length({column})) FROM {} WHERE ?1 IS NULL
             OR substr(CAST({column} AS BLOB), 1, length(?1)) <> ?1",
        quoted(&table.name)
    );
    let longest: Option<i64> =
        connection.query_row(&sql, [new_prefix], |row| row.get(0)).doing("look for the longest value")?;
    Ok(longest.unwrap_or(0).cast_unsigned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rowids_far_apart_are_no_rows() {
        assert_eq!(estimated(1_000_000, Some((i64::MIN, i64::MAX)), 100 << 20), (100 << 20) / 32);
        assert_eq!(estimated(1_000_000, Some((1, 2_000_000)), 1 << 40), 2_000_000);
        assert_eq!(estimated(1_000_000, Some((i64::MIN, i64::MAX)), 1 << 20), 1_000_000);
    }
}
