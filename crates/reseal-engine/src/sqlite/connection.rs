//! Connections to the application's file: settings, transactions, and errors reduced to what may be shown.

use std::path::Path;
use std::time::Duration;

use rusqlite::config::DbConfig;
use rusqlite::{Connection, ErrorCode, OpenFlags};
use tokio::runtime::{Handle, RuntimeFlavor};

use crate::error::{DatabaseError, EngineError};
pub(super) use crate::plan::quoted;

/// How long opening waits: for a commit of the application, or for whoever plays back the journal of a killed process.
const OPEN_WAIT: Duration = Duration::from_secs(5);
/// How long one attempt waits for a lock that another connection holds.
const LOCK_WAIT: Duration = Duration::from_millis(250);
/// How long a COMMIT waits for readers to leave. With a rollback journal no new reader gets in meanwhile.
const COMMIT_WAIT: Duration = Duration::from_millis(100);
/// Statements kept prepared: a batch updates by as many of them as there are combinations of changed columns.
const STATEMENTS: usize = 64;

/// Every setting of a connection, in order.
///
/// `cache_spill` is off because a batch that spills pages early takes the exclusive lock before its COMMIT.
const SETTINGS: &str = "PRAGMA trusted_schema = OFF; PRAGMA foreign_keys = ON; PRAGMA synchronous = EXTRA; \
     PRAGMA fullfsync = ON; PRAGMA cache_spill = OFF; PRAGMA temp_store = MEMORY;";

/// Opens a file that exists.
pub(super) fn connect(path: &Path) -> Result<Connection, EngineError> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE
        | OpenFlags::SQLITE_OPEN_NO_MUTEX
        | OpenFlags::SQLITE_OPEN_PRIVATE_CACHE;
    let open = || {
        let connection = Connection::open_with_flags(path, flags)?;
        connection.busy_timeout(OPEN_WAIT)?;
        connection.set_prepared_statement_cache_capacity(STATEMENTS);
        connection.set_db_config(DbConfig::SQLITE_DBCONFIG_DEFENSIVE, true)?;
        connection.execute_batch(SETTINGS)?;
        // The first statement that reads the file: one that is no database fails here.
        let synchronous: i64 = connection.pragma_query_value(None, "synchronous", |row| row.get(0))?;
        let _: i64 = connection.pragma_query_value(None, "schema_version", |row| row.get(0))?;
        connection.busy_timeout(LOCK_WAIT)?;
        Ok((connection, synchronous))
    };
    let (connection, synchronous) = open().doing("open the database file")?;
    if synchronous < 2 {
        return Err(
            DatabaseError::protocol("open the database file", "it does not accept durable commits").into()
        );
    }
    Ok(connection)
}

/// Takes the write lock, so that nothing changes until the end of the transaction.
pub(super) fn begin_immediate(connection: &Connection) -> Result<(), EngineError> {
    connection.execute_batch("BEGIN IMMEDIATE").doing("begin a transaction")
}

/// Commits, or rolls back where readers do not leave in time.
pub(super) fn commit(connection: &Connection) -> Result<(), EngineError> {
    connection.busy_timeout(COMMIT_WAIT).doing("commit")?;
    let committed = connection.execute_batch("COMMIT").doing("commit");
    connection.busy_timeout(LOCK_WAIT).doing("commit")?;
    if committed.is_err() {
        roll_back(connection);
    }
    committed
}

/// Ends a transaction without a trace, if one is open.
pub(super) fn roll_back(connection: &Connection) {
    if connection.is_autocommit() {
        return;
    }
    if let Err(error) = connection.execute_batch("ROLLBACK") {
        // SQLite rolls back by itself after errors that make ROLLBACK fail.
        tracing::debug!(code = code_of(&error), "rollback failed");
    }
}

/// Runs `work` in a transaction that holds the write lock, and commits it if `work` succeeds.
pub(super) fn in_transaction<T>(
    connection: &Connection,
    work: impl FnOnce(&Connection) -> Result<T, EngineError>,
) -> Result<T, EngineError> {
    begin_immediate(connection)?;
    match work(connection) {
        Ok(result) => commit(connection).map(|()| result),
        Err(error) => {
            roll_back(connection);
            Err(error)
        }
    }
}

/// Runs work that blocks on the disk, without holding up the other tasks of a multi-threaded runtime.
pub(super) fn blocking<T>(work: impl FnOnce() -> T) -> T {
    match Handle::try_current().map(|handle| handle.runtime_flavor()) {
        Ok(RuntimeFlavor::MultiThread) => tokio::task::block_in_place(work),
        _ => work(),
    }
}

/// Whether another connection was in the way.
pub(super) fn is_busy(error: &EngineError) -> bool {
    matches!(error, EngineError::Database(error) if error.has_code(BUSY))
}

/// Turns errors of SQLite into errors of the engine.
pub(super) trait Doing<T> {
    /// Says what was tried, as a phrase that follows "cannot".
    fn doing(self, doing: &'static str) -> Result<T, EngineError>;
}

impl<T> Doing<T> for rusqlite::Result<T> {
    fn doing(self, doing: &'static str) -> Result<T, EngineError> {
        self.map_err(|error| DatabaseError::reported(doing, code_of(&error), message_of(&error)).into())
    }
}

const BUSY: &str = "SQLITE_BUSY";

/// The name of the result code.
fn code_of(error: &rusqlite::Error) -> &'static str {
    match error.sqlite_error_code() {
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => BUSY,
        Some(ErrorCode::ReadOnly) => "SQLITE_READONLY",
        Some(ErrorCode::SystemIoFailure) => "SQLITE_IOERR",
        Some(ErrorCode::DatabaseCorrupt) => "SQLITE_CORRUPT",
        Some(ErrorCode::DiskFull) => "SQLITE_FULL",
        Some(ErrorCode::CannotOpen) => "SQLITE_CANTOPEN",
        Some(ErrorCode::NotADatabase) => "SQLITE_NOTADB",
        Some(ErrorCode::ConstraintViolation) => "SQLITE_CONSTRAINT",
        Some(ErrorCode::TooBig) => "SQLITE_TOOBIG",
        Some(ErrorCode::OutOfMemory) => "SQLITE_NOMEM",
        _ => "SQLITE_ERROR",
    }
}

/// The message, unless a trigger wrote it: that one may hold values of the row.
pub(super) fn message_of(error: &rusqlite::Error) -> String {
    match error {
        rusqlite::Error::SqliteFailure(cause, _)
            if cause.extended_code == rusqlite::ffi::SQLITE_CONSTRAINT_TRIGGER =>
        {
            "a trigger of the table raised an error".into()
        }
        rusqlite::Error::SqliteFailure(_, Some(message)) => message.clone(),
        rusqlite::Error::SqliteFailure(cause, None) => cause.to_string(),
        // Other errors name an expected and a found type or a column.
        rusqlite::Error::FromSqlConversionFailure(..) | rusqlite::Error::InvalidColumnType(..) => {
            "a field of the run's record has another type than it should".into()
        }
        other => other.to_string(),
    }
}
