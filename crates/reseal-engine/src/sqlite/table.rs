//! What the schema says about the table of a run.

use std::path::Path;

use reseal_crypto::canonical::Canonical;
use reseal_crypto::hash::sha256;
use reseal_formats::ColumnType;
use rusqlite::{Connection, OptionalExtension};

use super::connection::{Doing, connect, quoted};
use super::run;
use super::trigger::{self, Trigger};
use crate::error::EngineError;
use crate::finding::Refusal;
use crate::plan::{KeyColumn, KeyType, TableName, TableShape};

/// The schema in which SQLite keeps a file's own tables.
const SCHEMA: &str = "main";

/// A table as the schema declares it.
#[derive(Debug, Clone)]
pub(super) struct Table {
    /// Its name, spelled as in the schema.
    pub(super) name: String,
    pub(super) kind: Kind,
    pub(super) strict: bool,
    pub(super) columns: Vec<Column>,
    /// How SQL names the rowid; `None` if every name of it is a column of the table.
    pub(super) rowid: Option<String>,
    /// The column that is the rowid, if one is: VACUUM does not renumber its rows.
    pub(super) rowid_column: Option<String>,
    /// Those that fire on UPDATE.
    pub(super) triggers: Vec<Trigger>,
    pub(super) indexes: Vec<Index>,
    /// The schema version under which all of this was read.
    pub(super) schema_version: i64,
}

/// What a name stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Table,
    WithoutRowid,
    View,
    Virtual,
}

/// A column as the schema declares it.
#[derive(Debug, Clone)]
pub(super) struct Column {
    pub(super) name: String,
    pub(super) affinity: Affinity,
    pub(super) declared: String,
    pub(super) not_null: bool,
    pub(super) generated: bool,
    /// Its place in the primary key, from 1; 0 outside.
    primary: i64,
}

/// What SQLite does to a value that is stored in a column (datatype3.html, section 3.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Affinity {
    Text,
    Blob,
    /// Text that looks like a number becomes one.
    Numeric,
}

/// An index of the table.
#[derive(Debug, Clone)]
pub(super) struct Index {
    pub(super) name: String,
    pub(super) unique: bool,
    pub(super) partial: bool,
    /// Whether it stands for the primary key.
    primary: bool,
    /// Its columns; `None` is an expression or the rowid.
    pub(super) columns: Vec<Option<String>>,
}

impl Table {
    /// Reads the schema; `None` if there is no such table.
    pub(super) fn load(connection: &Connection, wanted: &TableName) -> Result<Option<Self>, EngineError> {
        if !wanted.schema.eq_ignore_ascii_case(SCHEMA) {
            return Ok(None);
        }
        Self::read(connection, &wanted.name).doing("read the schema")
    }

    /// The column of this name, in any case.
    pub(super) fn column(&self, name: &str) -> Option<&Column> {
        self.columns.iter().find(|column| column.name.eq_ignore_ascii_case(name))
    }

    /// The name in records and reports.
    pub(super) fn relation(&self) -> String {
        TableName { schema: SCHEMA.into(), name: self.name.clone() }.to_string()
    }

    /// What rowids refer to. `file` identifies the file.
    pub(super) fn incarnation(&self, file: (u64, u64)) -> u64 {
        if self.rowid_column.is_some() {
            return 0;
        }
        let identity = Canonical::new("rowids").i64(self.schema_version).u64(file.0).u64(file.1);
        let hash = sha256(identity.as_bytes());
        let first: [u8; 8] = hash[..8].try_into().expect("a hash has more than 8 bytes");
        // SQLite keeps signed integers; 0 is for tables whose rows keep their rowid.
        (u64::from_be_bytes(first) >> 1) | 1
    }

    /// Whether some unique index covers no more than these columns.
    pub(super) fn is_unique(&self, key: &[KeyColumn]) -> bool {
        let named = |name: &String| key.iter().any(|column| column.name.eq_ignore_ascii_case(name));
        self.rowid_column.as_ref().is_some_and(named)
            || self.indexes.iter().any(|index| {
                index.unique
                    && !index.partial
                    && index.columns.iter().all(|column| column.as_ref().is_some_and(named))
            })
    }

    fn read(connection: &Connection, wanted: &str) -> rusqlite::Result<Option<Self>> {
        let schema_version = schema_version(connection)?;
        let found = connection
            .query_row(
                "SELECT name, type, wr, strict FROM pragma_table_list \
                 WHERE schema = 'main' AND name = ?1 COLLATE NOCASE",
                [wanted],
                |row| Ok((row.get(0)?, row.get::<_, String>(1)?, row.get::<_, bool>(2)?, row.get(3)?)),
            )
            .optional()?;
        let Some((name, kind, without_rowid, strict)) = found else { return Ok(None) };
        let name: String = name;
        let kind = match kind.as_str() {
            "view" => Kind::View,
            "table" if without_rowid => Kind::WithoutRowid,
            "table" => Kind::Table,
            _ => Kind::Virtual,
        };
        let columns = read_columns(connection, &name, strict)?;
        let indexes = read_indexes(connection, &name)?;
        let rowid_column = rowid_column(&columns, &indexes);
        let rowid = rowid_column.clone().or_else(|| rowid_name(&columns));
        Ok(Some(Self {
            triggers: trigger::on_update(connection, &name)?,
            rowid: rowid.map(|name| quoted(&name)),
            name,
            kind,
            strict,
            columns,
            rowid_column,
            indexes,
            schema_version,
        }))
    }
}

/// Reads the shape of a table in the file at `path`.
///
/// # Errors
///
/// [`EngineError::Database`] if the file cannot be read, [`EngineError::Refused`] if there is no such table or column.
/// A survey judges whether the columns of `key` are a key.
pub fn describe(
    path: &Path,
    wanted: &TableName,
    columns: &[String],
    key: Option<&[String]>,
) -> Result<TableShape, EngineError> {
    let connection = connect(path)?;
    let table = Table::load(&connection, wanted)?
        .ok_or_else(|| EngineError::Refused(vec![Refusal::NoTable(wanted.to_string())]))?;
    let column = |name: &String| {
        table.column(name).ok_or_else(|| EngineError::Refused(vec![Refusal::NoColumn(name.clone())]))
    };
    let type_of = |name: &String| type_of_values(&connection, &table, column(name)?);
    let types = columns.iter().map(type_of).collect::<Result<_, EngineError>>()?;
    let key = match key {
        None => table.key(columns),
        Some(names) => {
            names.iter().map(|name| Ok(column(name)?.as_key())).collect::<Result<_, EngineError>>()?
        }
    };
    let id = |name: &String| run::column_id(&connection, &table.relation(), name);
    let ids = columns.iter().map(id).collect::<Result<_, EngineError>>()?;
    Ok(TableShape { table: TableName { schema: SCHEMA.into(), name: table.name }, key, columns: types, ids })
}

/// Text or bytes: what the column holds, and where it holds nothing what it declares. A column that declares text takes
/// bytes all the same.
fn type_of_values(
    connection: &Connection,
    table: &Table,
    column: &Column,
) -> Result<ColumnType, EngineError> {
    let (name, table) = (quoted(&column.name), quoted(&table.name));
    let sql = format!("SELECT typeof({name}) FROM {table} WHERE typeof({name}) IN ('text', 'blob') LIMIT 1");
    let found: Option<String> =
        connection.query_row(&sql, [], |row| row.get(0)).optional().doing("look at the values")?;
    Ok(match (found.as_deref(), column.affinity) {
        (Some("blob"), _) | (None, Affinity::Blob) => ColumnType::Bytes,
        _ => ColumnType::Text,
    })
}

impl Table {
    /// The primary key, or else the first unique index that cannot hold NULL; neither with a column that is `written`.
    fn key(&self, written: &[String]) -> Vec<KeyColumn> {
        let stays = |column: &Column| !written.iter().any(|name| name.eq_ignore_ascii_case(&column.name));
        let mut primary: Vec<&Column> = self.columns.iter().filter(|column| column.primary > 0).collect();
        primary.sort_by_key(|column| column.primary);
        let is_rowid = |column: &Column| self.rowid_column.as_ref() == Some(&column.name);
        if !primary.is_empty()
            && primary.iter().all(|column| stays(column) && (column.not_null || is_rowid(column)))
        {
            return primary.into_iter().map(Column::as_key).collect();
        }
        let usable = self.indexes.iter().filter(|index| index.unique && !index.partial);
        let columns = |index: &Index| -> Option<Vec<KeyColumn>> {
            let column = |name: &Option<String>| {
                let column = self.column(name.as_ref()?)?;
                (column.not_null && stays(column)).then(|| column.as_key())
            };
            index.columns.iter().map(column).collect()
        };
        usable.filter_map(columns).next().unwrap_or_default()
    }
}

impl Column {
    fn as_key(&self) -> KeyColumn {
        let declared = self.declared.to_ascii_uppercase();
        let kind = match self.affinity {
            _ if declared.contains("INT") => KeyType::Integer,
            Affinity::Text => KeyType::Text,
            Affinity::Blob => KeyType::Bytes,
            Affinity::Numeric => KeyType::Other,
        };
        KeyColumn { name: self.name.clone(), kind }
    }
}

/// Changes with every change of the schema, and with VACUUM.
pub(super) fn schema_version(connection: &Connection) -> rusqlite::Result<i64> {
    connection.prepare_cached("PRAGMA schema_version")?.query_row([], |row| row.get(0))
}

fn read_columns(connection: &Connection, table: &str, strict: bool) -> rusqlite::Result<Vec<Column>> {
    let mut statement = connection
        .prepare("SELECT name, type, \"notnull\", pk, hidden FROM pragma_table_xinfo(?1) ORDER BY cid")?;
    let rows = statement.query_map([table], |row| {
        let declared: String = row.get(1)?;
        Ok(Column {
            name: row.get(0)?,
            affinity: affinity(&declared, strict),
            declared,
            not_null: row.get(2)?,
            primary: row.get(3)?,
            generated: row.get::<_, i64>(4)? >= 2,
        })
    })?;
    rows.collect()
}

fn affinity(declared: &str, strict: bool) -> Affinity {
    let declared = declared.to_ascii_uppercase();
    let has = |words: &[&str]| words.iter().any(|word| declared.contains(word));
    if has(&["INT"]) {
        Affinity::Numeric
    } else if has(&["CHAR", "CLOB", "TEXT"]) {
        Affinity::Text
    } else if declared.is_empty() || has(&["BLOB"]) || (strict && declared == "ANY") {
        Affinity::Blob
    } else {
        Affinity::Numeric
    }
}

fn read_indexes(connection: &Connection, table: &str) -> rusqlite::Result<Vec<Index>> {
    let mut list = connection
        .prepare("SELECT name, \"unique\", partial, origin = 'pk' FROM pragma_index_list(?1) ORDER BY seq")?;
    let mut columns =
        connection.prepare("SELECT name FROM pragma_index_xinfo(?1) WHERE key = 1 ORDER BY seqno")?;
    let rows =
        list.query_map([table], |row| Ok((row.get::<_, String>(0)?, row.get(1)?, row.get(2)?, row.get(3)?)))?;
    rows.map(|row| {
        let (name, unique, partial, primary) = row?;
        let columns = columns.query_map([&name], |row| row.get(0))?.collect::<Result<_, _>>()?;
        Ok(Index { name, unique, partial, primary, columns })
    })
    .collect()
}

/// The rowid's own column. A primary key of one INTEGER column is the rowid unless an index stands for it, as with
/// `INTEGER PRIMARY KEY DESC`.
fn rowid_column(columns: &[Column], indexes: &[Index]) -> Option<String> {
    let mut primary = columns.iter().filter(|column| column.primary > 0);
    let only = primary.next().filter(|_| primary.next().is_none())?;
    let is_rowid =
        only.declared.eq_ignore_ascii_case("INTEGER") && !indexes.iter().any(|index| index.primary);
    is_rowid.then(|| only.name.clone())
}

/// A name of the rowid that no column hides.
fn rowid_name(columns: &[Column]) -> Option<String> {
    let hidden = |name: &&str| columns.iter().any(|column| column.name.eq_ignore_ascii_case(name));
    ["_rowid_", "rowid", "oid"].into_iter().find(|name| !hidden(name)).map(Into::into)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn affinities_follow_the_declared_type() {
        let cases = [
            ("VARCHAR(20)", Affinity::Text),
            ("CLOB", Affinity::Text),
            ("", Affinity::Blob),
            ("blob", Affinity::Blob),
            ("CHARINT", Affinity::Numeric),
            ("ANY", Affinity::Numeric),
            ("DATETIME", Affinity::Numeric),
        ];
        for (declared, expected) in cases {
            assert_eq!(affinity(declared, false), expected, "{declared}");
        }
        assert_eq!(affinity("any", true), Affinity::Blob);
    }
}
