//! Wrong and mixed input on SQLite, at a tenth.

use std::path::PathBuf;

use reseal_engine::sqlite::SqliteStore;
use reseal_engine::{Engine, EngineError, Job, Refusal, RunOptions};
use reseal_formats::ColumnType;
use reseal_tests::mixture::{Mixture, RUN, StoredRow};
use reseal_tests::scheme::{Scheme, Stored};
use rusqlite::Connection;
use rusqlite::types::Value;
use serde_json::json;
use tempfile::TempDir;

struct Bench {
    directory: TempDir,
    connection: Connection,
    scheme: Scheme,
}

impl Bench {
    fn new(scheme: Scheme, sql_type: &str) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let connection = Connection::open(directory.path().join("app.db")).unwrap();
        let table = format!("CREATE TABLE mixed (id INTEGER PRIMARY KEY, a {sql_type}, b {sql_type})");
        connection.execute_batch(&table).unwrap();
        Self { directory, connection, scheme }
    }

    fn load(&self, mixture: &Mixture) {
        let transaction = self.connection.unchecked_transaction().unwrap();
        let mut insert = transaction.prepare("INSERT INTO mixed VALUES (?1, ?2, ?3)").unwrap();
        for (id, a, b) in &mixture.rows {
            insert.execute((id, self.value(a), self.value(b))).unwrap();
        }
        drop(insert);
        transaction.commit().unwrap();
    }

    fn value(&self, cell: &Option<Vec<u8>>) -> Value {
        match (cell, self.scheme.column_type) {
            (None, _) => Value::Null,
            (Some(bytes), ColumnType::Bytes) => Value::Blob(bytes.clone()),
            (Some(bytes), ColumnType::Text) => Value::Text(String::from_utf8(bytes.clone()).unwrap()),
        }
    }

    fn stored(&self) -> Vec<StoredRow> {
        let mut select = self
            .connection
            .prepare("SELECT id, CAST(a AS BLOB), CAST(b AS BLOB) FROM mixed ORDER BY id")
            .unwrap();
        let rows = select.query_map([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?))).unwrap();
        rows.map(Result::unwrap).collect()
    }

    fn path(&self) -> PathBuf {
        self.directory.path().join("app.db")
    }

    fn engine(&self, job: Job) -> Engine {
        Engine::new(SqliteStore::new(self.path()), job, RunOptions::default())
    }
}

async fn mixture_is_sorted_out(scheme: Scheme, sql_type: &str) {
    let bench = Bench::new(scheme, sql_type);
    let keys = bench.scheme.two_keys(2);
    let mixture = Mixture::new(&bench.scheme, &keys, 1_000);
    bench.load(&mixture);
    let engine = bench.engine(bench.scheme.job(bench.scheme.plan(RUN, "main", "mixed", &["a", "b"])));
    let outcome = engine.run().await.unwrap();
    let verified = engine.verify().await.unwrap();
    mixture.check_counts(&outcome, &engine.status().await.unwrap().unwrap(), &verified.census);
    mixture.check_rows(&keys, &bench.stored());
}

#[tokio::test(flavor = "multi_thread")]
async fn mixed_input_sqlite_of_pgcrypto_messages_to_envelopes() {
    mixture_is_sorted_out(Scheme::pgcrypto_to_envelope(), "TEXT").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn mixed_input_sqlite_where_no_value_names_its_key() {
    mixture_is_sorted_out(Scheme::aes_gcm_to_aes_gcm(), "BLOB").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn mixed_input_sqlite_wrong_key_at_the_start_is_refused() {
    let bench = Bench::new(Scheme::pgcrypto_to_envelope(), "TEXT");
    bench.load(&Mixture::new(&bench.scheme, &bench.scheme.two_keys(2), 1_000));
    let before = bench.stored();
    let wrong = Scheme {
        old: Stored::new(json!({ "format": "pgcrypto" }), "not the old passphrase"),
        ..bench.scheme.clone()
    };
    let engine = bench.engine(wrong.job(wrong.plan(RUN, "main", "mixed", &["a", "b"])));
    let error = engine.run().await.unwrap_err();
    let EngineError::Refused(refusals) = &error else { panic!("{error}") };
    assert!(refusals.iter().any(|refusal| matches!(refusal, Refusal::WrongKey { .. })), "{refusals:?}");
    assert_eq!(bench.stored(), before, "nothing was written");
    let made = "SELECT count(*) FROM sqlite_schema WHERE name LIKE 'reseal%'";
    assert_eq!(bench.connection.query_row(made, [], |row| row.get::<_, i64>(0)), Ok(0), "nothing was made");
}
