//! The tables of a vault, and the settings of every connection to one.

use std::path::Path;
use std::time::Duration;

use rusqlite::config::DbConfig;
use rusqlite::limits::Limit;
use rusqlite::{Connection, OpenFlags};

use crate::error::VaultError;
use crate::file;

/// `RSL1` in the header of the file, for `file(1)`.
const APPLICATION_ID: i64 = 0x5253_4C31;
/// The version of the file format.
pub(crate) const FORMAT_VERSION: i64 = 1;
/// The largest field: a value of 16 MiB, sealed, with room for its row.
const FIELD_MAX: i32 = 17 << 20;

/// Every table and index with its exact text. A file with any other text is refused before a query runs over it.
const SCHEMA: [(&str, &str); 8] = [
    (
        "head",
        "CREATE TABLE head (id INTEGER PRIMARY KEY CHECK (id = 1), body BLOB NOT NULL, mac BLOB NOT NULL) STRICT",
    ),
    (
        "slot",
        "CREATE TABLE slot (id BLOB PRIMARY KEY, kdf INTEGER NOT NULL, memory_kib INTEGER NOT NULL, \
         passes INTEGER NOT NULL, lanes INTEGER NOT NULL, salt BLOB NOT NULL, nonce BLOB NOT NULL, \
         wrapped BLOB NOT NULL, commitment BLOB NOT NULL, label BLOB NOT NULL) STRICT, WITHOUT ROWID",
    ),
    (
        "record",
        "CREATE TABLE record (id BLOB NOT NULL UNIQUE, kind INTEGER NOT NULL, body BLOB NOT NULL) STRICT",
    ),
    ("record_kind", "CREATE INDEX record_kind ON record (kind)"),
    ("leaf", "CREATE TABLE leaf (number INTEGER PRIMARY KEY, entries BLOB NOT NULL) STRICT"),
    ("node", "CREATE TABLE node (number INTEGER PRIMARY KEY, digests BLOB NOT NULL) STRICT"),
    (
        "audit",
        "CREATE TABLE audit (number INTEGER PRIMARY KEY, body BLOB NOT NULL, mac BLOB NOT NULL) STRICT",
    ),
    ("chain", "CREATE TABLE chain (id INTEGER PRIMARY KEY CHECK (id = 1), body BLOB NOT NULL) STRICT"),
];

/// Settings against files that others wrote: name, value, and what reading it back must give.
const SAFETY: [(&str, &str, &str); 4] = [
    ("trusted_schema", "OFF", "0"),
    ("cell_size_check", "ON", "1"),
    ("mmap_size", "0", "0"),
    ("temp_store", "MEMORY", "2"),
];

/// Settings that make a commit last and leave nothing of what was removed.
const DURABILITY: [(&str, &str, &str); 5] = [
    ("journal_mode", "DELETE", "delete"),
    ("synchronous", "EXTRA", "3"),
    ("secure_delete", "ON", "1"),
    ("foreign_keys", "ON", "1"),
    ("fullfsync", "ON", "1"),
];

/// Opens a database file that exists, with every setting made and read back. The file was checked by
/// [`file::check_existing`] or is a draft of our own.
pub(crate) fn connect(path: &Path, busy_timeout: Duration) -> Result<Connection, VaultError> {
    let connection = connect_with(path, OpenFlags::SQLITE_OPEN_READ_WRITE, busy_timeout)?;
    for (name, value, expected) in DURABILITY {
        apply(&connection, name, value, expected)?;
    }
    Ok(connection)
}

/// Opens a database file that is only to be read. The file was checked by [`file::check_backup`].
pub(crate) fn connect_read_only(path: &Path, busy_timeout: Duration) -> Result<Connection, VaultError> {
    connect_with(path, OpenFlags::SQLITE_OPEN_READ_ONLY, busy_timeout)
}

fn connect_with(path: &Path, access: OpenFlags, busy_timeout: Duration) -> Result<Connection, VaultError> {
    let flags = access | OpenFlags::SQLITE_OPEN_NO_MUTEX | OpenFlags::SQLITE_OPEN_NOFOLLOW;
    let connection = Connection::open_with_flags(path, flags)?;
    connection.busy_timeout(busy_timeout)?;
    connection.set_limit(Limit::SQLITE_LIMIT_LENGTH, FIELD_MAX)?;
    connection.set_limit(Limit::SQLITE_LIMIT_ATTACHED, 0)?;
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_DEFENSIVE, true)?;
    for (name, value, expected) in SAFETY {
        apply(&connection, name, value, expected)?;
    }
    Ok(connection)
}

fn apply(connection: &Connection, name: &str, value: &str, expected: &str) -> Result<(), VaultError> {
    // Some settings answer with their value and some with nothing; what counts is what reading gives.
    connection.pragma_update_and_check(None, name, value, |_| Ok(())).or_else(|error| match error {
        rusqlite::Error::QueryReturnedNoRows => Ok(()),
        other => Err(other),
    })?;
    let held: String = connection.pragma_query_value(None, name, |row| {
        Ok(match row.get_ref(0)? {
            rusqlite::types::ValueRef::Integer(n) => n.to_string(),
            other => other.as_str().unwrap_or_default().to_owned(),
        })
    })?;
    if held == expected {
        return Ok(());
    }
    Err(not_a_vault(connection, "SQLite does not accept the settings for safe commits"))
}

/// Creates the tables in an empty database.
pub(crate) fn create(connection: &Connection) -> Result<(), VaultError> {
    connection.pragma_update(None, "application_id", APPLICATION_ID)?;
    connection.pragma_update(None, "user_version", FORMAT_VERSION)?;
    for (_, sql) in SCHEMA {
        connection.execute(sql, ())?;
    }
    Ok(())
}

/// Compares what the file says it is, and its whole schema, with what this version writes.
pub(crate) fn check(connection: &Connection) -> Result<(), VaultError> {
    match compare(connection) {
        // SQLite has many words for a schema that it cannot parse.
        Err(VaultError::Sqlite(_)) => Err(not_a_vault(connection, "its tables cannot be read")),
        other => other,
    }
}

/// Whether it is the database of another program. An empty one is not, nor is one that cannot be read.
pub(crate) fn is_foreign(connection: &Connection) -> bool {
    let application = connection.pragma_query_value(None, "application_id", |row| row.get::<_, i64>(0));
    let tables = connection.query_row("SELECT count(*) FROM sqlite_schema", (), |row| row.get::<_, i64>(0));
    application.is_ok_and(|id| id != APPLICATION_ID) && tables.is_ok_and(|count| count > 0)
}

fn not_a_vault(connection: &Connection, reason: &'static str) -> VaultError {
    VaultError::NotAVault { path: connection.path().unwrap_or_default().into(), reason }
}

fn compare(connection: &Connection) -> Result<(), VaultError> {
    let refuse = |reason| Err(not_a_vault(connection, reason));
    let number = |name| connection.pragma_query_value(None, name, |row| row.get::<_, i64>(0));
    if connection.path().is_some_and(|path| std::fs::metadata(path).is_ok_and(|file| file.len() == 0)) {
        return refuse("it is empty");
    }
    if number("application_id")? != APPLICATION_ID {
        return refuse("another program made it");
    }
    if number("user_version")? != FORMAT_VERSION {
        return refuse("another version of reseal made it");
    }
    let mut statement = connection.prepare("SELECT name, sql FROM sqlite_schema ORDER BY rowid")?;
    let stored = statement
        .query_map((), |row| Ok((row.get::<_, String>(0)?, row.get::<_, Option<String>>(1)?)))?
        .collect::<Result<Vec<_>, _>>()?;
    let (written, automatic): (Vec<_>, Vec<_>) = stored.into_iter().partition(|(_, sql)| sql.is_some());
    let as_expected = written.len() == SCHEMA.len()
        && written.iter().zip(SCHEMA).all(|((n, s), (name, sql))| n == name && s.as_deref() == Some(sql))
        && automatic.iter().map(|(name, _)| name.as_str()).eq(["sqlite_autoindex_record_1"]);
    if as_expected { Ok(()) } else { refuse("its tables are not those of a vault") }
}

/// Checks the file and opens it; [`check`] follows before any other query.
pub(crate) fn open(path: &Path, busy_timeout: Duration) -> Result<Connection, VaultError> {
    let path = file::check_existing(path)?;
    connect(&path, busy_timeout)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_setting_is_made_and_read_back() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let path = directory.path().canonicalize().expect("resolved").join("x");
        // The journal mode is the one setting that stands in the file.
        let wal = Connection::open(&path).expect("opens");
        wal.execute_batch("PRAGMA journal_mode = WAL; CREATE TABLE t (x)").expect("in another mode");
        drop(wal);
        let connection = connect(&path, Duration::ZERO).expect("connects");
        let expected = [("synchronous", 3), ("secure_delete", 1), ("temp_store", 2), ("trusted_schema", 0)];
        for (name, value) in expected {
            let held: i64 = connection.pragma_query_value(None, name, |row| row.get(0)).expect("read");
            assert_eq!(held, value, "{name}");
        }
        let mode: String =
            connection.pragma_query_value(None, "journal_mode", |row| row.get(0)).expect("read");
        assert_eq!(mode, "delete");
        assert!(connection.db_config(DbConfig::SQLITE_DBCONFIG_DEFENSIVE).expect("read"));
    }

    #[test]
    fn a_setting_that_is_not_held_is_an_error() {
        let connection = Connection::open_in_memory().expect("opens");
        // A database in memory keeps its journal there, whatever it is told.
        let refused = apply(&connection, "journal_mode", "DELETE", "delete");
        assert!(matches!(refused, Err(VaultError::NotAVault { .. })), "{refused:?}");
    }
}
