//! An application's SQLite file with a table of sealed values, and an engine on it.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use reseal_crypto::RowKey;
use reseal_engine::sqlite::SqliteStore;
use reseal_engine::{Engine, KeyType, Observer, RunOptions, RunPlan};
use reseal_formats::ColumnType;
use rusqlite::types::Value;
use rusqlite::{Connection, params, params_from_iter};
use tempfile::TempDir;

use crate::support::{Codecs, Column, FERNET, GCM, GCM_TEXT, RESEAL, job, open, plan, seal};

/// Columns of `clients`: one that never names its key, one text and one byte column that come to do so.
pub const COLUMNS: [Column; 3] = [
    ("email", ColumnType::Text, FERNET, FERNET),
    ("phone", ColumnType::Text, GCM_TEXT, RESEAL),
    ("name", ColumnType::Bytes, GCM, RESEAL),
];

/// The table, with the rowid as its key.
pub const CLIENTS: &str = "CREATE TABLE clients (id INTEGER PRIMARY KEY, email TEXT, phone TEXT, name BLOB, \
     note TEXT NOT NULL DEFAULT '', version INTEGER NOT NULL DEFAULT 0)";

/// A SQLite file in a directory of its own.
pub struct File {
    _directory: TempDir,
    pub path: PathBuf,
    pub connection: Connection,
}

impl File {
    /// A file with a write-ahead log and this schema.
    pub fn new(schema: &str) -> Self {
        Self::with_journal("wal", schema)
    }

    pub fn with_journal(mode: &str, schema: &str) -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("app.db");
        let connection = connect(&path);
        connection.pragma_update(None, "journal_mode", mode).expect("the journal mode");
        connection.execute_batch(schema).expect("the schema");
        Self { _directory: directory, path, connection }
    }

    /// A file with `clients` and `rows` rows under the old key.
    pub fn loaded(rows: i64) -> (Self, RunPlan) {
        let (file, plan) = (Self::new(CLIENTS), clients());
        file.load(&plan, 1..=rows);
        (file, plan)
    }

    pub fn connect(&self) -> Connection {
        connect(&self.path)
    }

    pub fn execute(&self, statements: &str) {
        self.connection.execute_batch(statements).unwrap_or_else(|error| panic!("{statements}: {error}"));
    }

    pub fn count(&self, query: &str) -> i64 {
        let result = self.connection.query_row(query, [], |row| row.get(0));
        result.unwrap_or_else(|error| panic!("{query}: {error}"))
    }

    pub fn engine(&self, plan: &RunPlan) -> Engine {
        Engine::new(SqliteStore::new(&self.path), job(plan.clone()), RunOptions::default())
    }

    pub fn observed(&self, plan: &RunPlan, observer: impl Observer + 'static) -> Engine {
        self.engine(plan).observed_by(Arc::new(observer))
    }

    /// Inserts rows under the old key.
    pub fn load(&self, plan: &RunPlan, ids: impl Iterator<Item = i64>) {
        let codecs = Codecs::new(plan);
        self.execute("BEGIN");
        for id in ids {
            let cells = (0..3).map(|column| {
                let sealed =
                    seal(&codecs.old[column], &RowKey::default().integer(id), &plaintext(id, column));
                value(plan.columns[column].column_type, sealed)
            });
            let mut row = vec![Value::Integer(id)];
            row.extend(cells);
            let sql = format!("INSERT INTO {} (id, email, phone, name) VALUES (?, ?, ?, ?)", plan.table.name);
            self.connection
                .prepare_cached(&sql)
                .and_then(|mut s| s.execute(params_from_iter(row)))
                .expect("inserts");
        }
        self.execute("COMMIT");
    }

    /// The stored bytes of a row, column by column.
    pub fn cells(&self, plan: &RunPlan, id: i64) -> [Option<Vec<u8>>; 3] {
        let sql = format!("SELECT email, phone, name FROM {} WHERE id = ?1", plan.table.name);
        self.connection
            .query_row(&sql, [id], |row| {
                let cell = |index| -> rusqlite::Result<_> {
                    Ok(row.get_ref(index)?.as_bytes_or_null()?.map(<[u8]>::to_vec))
                };
                Ok([cell(0)?, cell(1)?, cell(2)?])
            })
            .expect("the row is there")
    }

    /// Asserts that every row opens under the new key to what was loaded, and under the old to nothing.
    #[track_caller]
    pub fn assert_all_new(&self, plan: &RunPlan, ids: impl Iterator<Item = i64>) {
        let codecs = Codecs::new(plan);
        for id in ids {
            let row = RowKey::default().integer(id);
            for (column, cell) in self.cells(plan, id).into_iter().enumerate() {
                let stored = cell.expect("not NULL");
                assert_eq!(open(&codecs.new[column], &row, &stored), Some(plaintext(id, column)), "row {id}");
                assert_eq!(
                    open(&codecs.old[column], &row, &stored),
                    None,
                    "row {id} opens under the old key"
                );
            }
        }
    }

    /// Replaces one value, as the application does.
    pub fn set(&self, id: i64, column: &str, value: impl rusqlite::ToSql) {
        let sql = format!("UPDATE clients SET {column} = ?2 WHERE id = ?1");
        assert_eq!(self.connection.execute(&sql, params![id, value]).expect("updates"), 1);
    }
}

/// The plan of `clients`.
pub fn clients() -> RunPlan {
    plan("clients", &[("id", KeyType::Integer)], &COLUMNS)
}

pub fn plaintext(id: i64, column: usize) -> Vec<u8> {
    format!("row {id:08} column {column} of the customer's file").into_bytes()
}

/// A stored value with the type of its column.
pub fn value(column_type: ColumnType, bytes: Vec<u8>) -> Value {
    match column_type {
        ColumnType::Bytes => Value::Blob(bytes),
        ColumnType::Text => Value::Text(String::from_utf8(bytes).expect("text formats are ASCII")),
    }
}

/// A connection as applications make it.
fn connect(path: &std::path::Path) -> Connection {
    let connection = Connection::open(path).expect("opens");
    connection.busy_timeout(Duration::from_secs(20)).expect("a timeout");
    connection
}
