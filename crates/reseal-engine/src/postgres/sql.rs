//! The statements, and errors reduced to what may be shown.

use std::error::Error;
use std::io;

use reseal_formats::ColumnType;
use tokio_postgres::error::DbError;

use crate::error::DatabaseError;
pub(super) use crate::plan::quoted;
use crate::plan::{Job, KeyType};

/// Opens a transaction that reads.
pub(super) const BEGIN_READ: &str = "BEGIN ISOLATION LEVEL READ COMMITTED READ ONLY;
    SET LOCAL search_path = pg_catalog, pg_temp; SET LOCAL row_security = off; SET LOCAL jit = off;
    SET LOCAL client_encoding = 'UTF8'; SET LOCAL TimeZone = 'UTC'; SET LOCAL enable_tidscan = on;
    SET LOCAL enable_seqscan = off; SET LOCAL synchronize_seqscans = off;
    SET LOCAL max_parallel_workers_per_gather = 0; SET LOCAL statement_timeout = 0;
    SET LOCAL idle_in_transaction_session_timeout = '60s'";

/// Opens a transaction that sees one snapshot.
pub(super) const BEGIN_SNAPSHOT: &str = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY";

/// The settings of a transaction that reads one snapshot.
pub(super) const SNAPSHOT_SETTINGS: &str = "SET LOCAL search_path = pg_catalog, pg_temp;
    SET LOCAL row_security = off; SET LOCAL jit = off; SET LOCAL client_encoding = 'UTF8';
    SET LOCAL TimeZone = 'UTC'; SET LOCAL enable_tidscan = on;
    SET LOCAL enable_seqscan = off; SET LOCAL synchronize_seqscans = off;
    SET LOCAL max_parallel_workers_per_gather = 0; SET LOCAL statement_timeout = 0;
    SET LOCAL idle_in_transaction_session_timeout = 0";

/// Opens a transaction on the run's own records. They are never fought over for long.
pub(super) const BEGIN_STATE: &str = "BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE;
    SET LOCAL search_path = pg_catalog, pg_temp; SET LOCAL row_security = off; SET LOCAL jit = off;
    SET LOCAL client_encoding = 'UTF8'; SET LOCAL lock_timeout = '5s'; SET LOCAL statement_timeout = '30s';
    SET LOCAL idle_in_transaction_session_timeout = '10s';
    SELECT set_config('synchronous_commit', 'on', true)
     WHERE current_setting('synchronous_commit') IN ('off', 'local')";

/// Opens the transaction of a batch. Both limits together keep deadlocks away from the application: `lock_timeout`
/// bounds one wait, `statement_timeout` the sum of them. The rows of a batch are few of the table's and are fetched by
/// location: any other join reads the whole table for each batch. With the usual `work_mem` they would pass through a
/// temporary file.
pub(super) fn begin_write(relation: &str, statement_ms: u64) -> String {
    format!(
        "BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE;
         SET LOCAL search_path = pg_catalog, pg_temp; SET LOCAL row_security = off; SET LOCAL jit = off;
         SET LOCAL client_encoding = 'UTF8'; SET LOCAL TimeZone = 'UTC';
         SET LOCAL lock_timeout = '50ms'; SET LOCAL statement_timeout = '{statement_ms}ms';
         SET LOCAL idle_in_transaction_session_timeout = '2s';
         SET LOCAL enable_tidscan = on; SET LOCAL enable_seqscan = off;
         SET LOCAL enable_mergejoin = off; SET LOCAL enable_hashjoin = off; SET LOCAL work_mem = '64MB';
         SELECT set_config('synchronous_commit', 'on', true)
          WHERE current_setting('synchronous_commit') IN ('off', 'local');
         LOCK TABLE ONLY {relation} IN ROW EXCLUSIVE MODE"
    )
}

/// A key column as it is read and compared.
pub(super) fn key_expression(name: &str, kind: KeyType) -> String {
    let name = quoted(name);
    match kind {
        KeyType::Integer => format!("t.{name}::int8"),
        KeyType::Text | KeyType::Other => format!("t.{name}::text COLLATE \"C\""),
        KeyType::Bytes => format!("t.{name}::bytea"),
        KeyType::Uuid => format!("t.{name}::uuid"),
    }
}

/// A column of the plan as its exact bytes: collations and types that call different bytes equal are cast away.
pub(super) fn column_expression(name: &str, column_type: ColumnType) -> String {
    let name = quoted(name);
    match column_type {
        ColumnType::Bytes => format!("t.{name}"),
        ColumnType::Text => format!("t.{name}::text COLLATE \"C\""),
    }
}

/// The expressions of all key columns, then of all columns of the plan.
pub(super) fn row_expressions(job: &Job) -> Vec<String> {
    let keys = job.plan.key.iter().map(|key| key_expression(&key.name, key.kind));
    let columns = job.plan.columns.iter().map(|column| column_expression(&column.name, column.column_type));
    keys.chain(columns).collect()
}

/// True for rows in which a column is not NULL and does not begin with the new key's prefix; `None` where a format
/// does not name its key, so that only opening tells.
pub(super) fn not_new(job: &Job) -> Option<String> {
    let tests: Option<Vec<String>> = (0..job.codecs.len()).map(|index| not_new_column(job, index)).collect();
    Some(format!("({})", tests?.join(" OR ")))
}

/// The same test for one column.
pub(super) fn not_new_column(job: &Job, index: usize) -> Option<String> {
    let (column, prefix) = (&job.plan.columns[index], job.codecs[index].new_prefix()?);
    let expression = column_expression(&column.name, column.column_type);
    let literal: String = prefix.iter().map(|byte| format!("{byte:02x}")).collect();
    // Never LIKE: `_` is a base64url character and a wildcard. Never a range: it fetches whole large values.
    Some(match column.column_type {
        ColumnType::Bytes => {
            format!("substring({expression} FROM 1 FOR {}) <> '\\x{literal}'::bytea", prefix.len())
        }
        ColumnType::Text => {
            format!("left({expression}, {}) <> convert_from('\\x{literal}'::bytea, 'UTF8')", prefix.len())
        }
    })
}

/// Reduces an error to its code and to words that hold no value of a row.
pub(super) fn reduce(doing: &'static str, error: tokio_postgres::Error) -> DatabaseError {
    match error.as_db_error() {
        Some(db) => DatabaseError::reported(doing, db.code().code(), told(db)),
        None if error.is_closed() => DatabaseError::connection(doing, "the connection was closed"),
        None if is_lost(&error) => DatabaseError::connection(doing, innermost(&error)),
        None => DatabaseError::protocol(doing, innermost(&error)),
    }
}

/// Classes whose messages are about connections, rights, names of objects, resources and locks.
const SHOWN_CLASSES: [&str; 10] = ["08", "25", "28", "3D", "40", "42", "53", "54", "55", "57"];

/// The server's message where it cannot hold a value of a row; otherwise our own word for the code, and the names of
/// the objects that are concerned.
///
/// A function may raise any code with any text. What happens in one has a context; so have waits for locks, whose
/// codes say enough.
fn told(db: &DbError) -> String {
    let code = db.code().code();
    if db.where_().is_some() {
        return own_word(code).into();
    }
    if SHOWN_CLASSES.iter().any(|class| code.starts_with(class)) {
        return db.message().into();
    }
    let names = [("table", db.table()), ("column", db.column()), ("constraint", db.constraint())];
    let named = names.iter().filter_map(|(what, name)| Some(format!(", {what} `{}`", (*name)?)));
    own_word(code).to_owned() + &named.collect::<String>()
}

fn own_word(code: &str) -> &'static str {
    match code {
        "22001" => "a value is too long for its column",
        "23502" => "a column does not take NULL",
        "23503" => "a foreign key does not hold",
        "23505" => "a unique constraint does not hold",
        "23514" => "a check constraint does not hold",
        "23P01" => "an exclusion constraint does not hold",
        "40001" => "a concurrent change",
        "40P01" => "a deadlock",
        "42501" => "permission denied",
        "55P03" => "a lock was not available in time",
        "57014" => "the statement was cancelled",
        "P0001" => "a function or trigger raised an error",
        _ if code.starts_with("22") => "a value does not fit",
        _ if code.starts_with("23") => "a constraint does not hold",
        _ if code.starts_with("XX") => "an internal error of the server",
        _ => "the server reported an error whose text may hold values; its log has it",
    }
}

/// Whether the connection failed. What we or the server encoded wrongly stays wrong on the next one.
fn is_lost(error: &tokio_postgres::Error) -> bool {
    let io = causes(error).find_map(|cause| cause.downcast_ref::<io::Error>());
    match io {
        Some(cause) => !matches!(cause.kind(), io::ErrorKind::InvalidInput | io::ErrorKind::InvalidData),
        // The driver tells its own errors apart by their text only.
        None => {
            matches!(
                error.to_string().as_str(),
                "timeout waiting for server" | "unexpected message from server"
            )
        }
    }
}

/// The last cause of a client-side error: an I/O error, or what does not fit the protocol.
fn innermost(error: &tokio_postgres::Error) -> String {
    causes(error).last().unwrap_or(error).to_string()
}

/// An error and what caused it, outermost first.
fn causes(error: &tokio_postgres::Error) -> impl Iterator<Item = &(dyn Error + 'static)> {
    let mut next: Option<&(dyn Error + 'static)> = Some(error);
    std::iter::from_fn(move || {
        let cause = next?;
        next = cause.source();
        Some(cause)
    })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use reseal_sandbox::postgres::{Options, Server};

    use super::*;

    #[tokio::test(flavor = "multi_thread")]
    async fn field_that_does_not_decode_is_no_lost_connection() {
        let options = Options { durable: false, ..Options::default() };
        let server = Server::start(options).expect("a private Postgres starts (package postgresql)");
        let client = server.connect().await.expect("connects");
        let row = client.query_one("SELECT 'x'::text", &[]).await.expect("selects");
        let error = row.try_get::<_, i32>(0).expect_err("it is text");
        assert!(!reduce("read rows", error).is_connection());
        let error = client.query_one("SELECT 1 WHERE false", &[]).await.expect_err("no row");
        assert!(!reduce("read rows", error).is_connection());
    }

    #[tokio::test]
    async fn closed_and_refused_connections_are_lost() {
        let mut config = tokio_postgres::Config::new();
        config.host("127.0.0.1").port(1).user("u").connect_timeout(Duration::from_secs(5));
        let error = config.connect(tokio_postgres::NoTls).await.err().expect("nobody listens");
        assert!(reduce("connect", error).is_connection());
    }
}
