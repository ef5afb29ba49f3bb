//! A run from start to proof on a SQLite file.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use crate::file::{CLIENTS, COLUMNS, File, clients, plaintext, value};
use crate::support::{Codecs, GCM, GCM_TEXT, RESEAL, RESEAL_ROW, assert_balanced, job, open, plan, seal};
use futures_util::future::{BoxFuture, FutureExt};
use reseal_crypto::{OsRandom, RowKey};
use reseal_engine::sqlite::{SqliteStore, describe};
use reseal_engine::{
    BatchInfo, CancelToken, Engine, EngineError, ErrorKind, KeyColumn, KeyType, Moment, Observer, Reason,
    RunId, RunOptions, TableName,
};
use reseal_formats::ColumnType;

/// Stops the run after a number of batches.
struct StopAfter {
    batches: usize,
    seen: AtomicUsize,
    cancel: std::sync::OnceLock<CancelToken>,
}

impl StopAfter {
    fn new(batches: usize) -> std::sync::Arc<Self> {
        Self { batches, seen: AtomicUsize::new(0), cancel: Default::default() }.into()
    }
}

impl Observer for StopAfter {
    fn at<'a>(&'a self, moment: Moment, _info: BatchInfo<'a>) -> BoxFuture<'a, ()> {
        if moment == Moment::Committed && self.seen.fetch_add(1, Ordering::Relaxed) + 1 >= self.batches {
            self.cancel.get().expect("set before the run").cancel();
        }
        std::future::ready(()).boxed()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn sqlite_run_rewrites_every_row_and_proves_it() {
    for journal in ["wal", "delete"] {
        let file = File::with_journal(journal, CLIENTS);
        let plan = clients();
        file.load(&plan, 1..=3_000);
        let engine = file.engine(&plan);
        let outcome = engine.run().await.unwrap_or_else(|error| panic!("{journal}: {error}"));
        assert_eq!(outcome.rewritten(), 9_000, "{outcome:?}");
        assert_eq!((outcome.proof.old(), outcome.quarantined(), outcome.passes), (0, 0, 1));
        assert_balanced(&outcome);
        file.assert_all_new(&plan, 1..=3_000);
        assert_eq!(file.count("SELECT count(*) FROM clients WHERE typeof(email) <> 'text'"), 0);
        assert_eq!(file.count("SELECT count(*) FROM clients WHERE typeof(name) <> 'blob'"), 0);
        let verification = engine.verify().await.expect("verifies");
        assert!(verification.digest_equal);
        assert_eq!(verification.census.opened_new(), 9_000);
        let again = engine.run().await.expect("a finished run is proved again");
        assert_eq!((again.rewritten(), again.batches), (9_000, outcome.batches));
    }
}

#[tokio::test]
async fn sqlite_run_works_on_a_single_threaded_runtime() {
    let (file, plan) = File::loaded(300);
    assert_eq!(file.engine(&plan).run().await.expect("runs").rewritten(), 900);
    file.assert_all_new(&plan, 1..=300);
}

#[tokio::test(flavor = "multi_thread")]
async fn sqlite_resume_goes_on_where_the_run_stopped() {
    let (file, plan) = File::loaded(5_000);
    let stop = StopAfter::new(3);
    let engine = file.engine(&plan).observed_by(stop.clone());
    stop.cancel.set(engine.cancel_token()).expect("once");
    let error = engine.run().await.expect_err("is stopped");
    assert_eq!(error.kind(), ErrorKind::Interrupted);
    let status = file.engine(&plan).status().await.expect("readable").expect("known");
    let done: u64 = status.spans.iter().flat_map(|span| &span.tallies).map(|tally| tally.rewritten).sum();
    assert!((1..15_000).contains(&done), "{done}");
    let outcome = file.engine(&plan).run().await.expect("goes on");
    assert_eq!((outcome.rewritten(), outcome.passes), (15_000, 1), "nothing is read or written twice");
    assert!(outcome.tallies.iter().all(|tally| tally.seen == 5_000 && tally.already_new == 0));
    file.assert_all_new(&plan, 1..=5_000);
}

#[tokio::test(flavor = "multi_thread")]
async fn sqlite_rollback_brings_the_old_key_back() {
    let (file, plan) = File::loaded(2_000);
    let stop = StopAfter::new(1);
    let engine = file.engine(&plan).observed_by(stop.clone());
    stop.cancel.set(engine.cancel_token()).expect("once");
    engine.run().await.expect_err("is stopped");
    let back = plan.reversed(RunId::generate(&OsRandom).expect("random"));
    let outcome = file.engine(&back).run().await.expect("rolls back");
    assert_eq!(outcome.proof.old(), 0);
    assert!(outcome.rewritten() > 0);
    let codecs = Codecs::new(&plan);
    for id in 1..=2_000 {
        for (column, cell) in file.cells(&plan, id).into_iter().enumerate() {
            let row = RowKey::default().integer(id);
            assert_eq!(open(&codecs.old[column], &row, &cell.expect("a value")), Some(plaintext(id, column)));
        }
    }
    let error = file.engine(&plan).run().await.expect_err("was rolled back");
    assert_eq!(error.kind(), ErrorKind::Conflict);
}

/// Waits once, before the second batch is written.
#[derive(Default)]
struct Pauses {
    batches: AtomicU64,
    reached: tokio::sync::Notify,
    goes_on: tokio::sync::Notify,
}

impl Observer for Pauses {
    fn at<'a>(&'a self, moment: Moment, _: BatchInfo<'a>) -> BoxFuture<'a, ()> {
        async move {
            if moment == Moment::Sealed && self.batches.fetch_add(1, Ordering::SeqCst) == 1 {
                self.reached.notify_one();
                self.goes_on.notified().await;
            }
        }
        .boxed()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn sqlite_rollback_stops_a_run_that_still_works() {
    let (file, plan) = File::loaded(12_000);
    let pauses = Arc::new(Pauses::default());
    let engine = file.engine(&plan).observed_by(pauses.clone());
    let run = tokio::spawn(async move { engine.run().await.map(drop) });
    pauses.reached.notified().await;
    let back = plan.reversed(RunId([9; 16]));
    file.engine(&back).run().await.expect("rolls back");
    pauses.goes_on.notify_one();
    let error = run.await.expect("does not panic").expect_err("it was taken back");
    assert_eq!(error.kind(), ErrorKind::Conflict, "{error}");
    file.assert_all_new(&back, 1..=12_000);
}

#[tokio::test(flavor = "multi_thread")]
async fn sqlite_proved_run_goes_on_when_old_values_came_back() {
    let (file, plan) = File::loaded(100);
    let engine = file.engine(&plan);
    engine.run().await.expect("proves");
    file.load(&plan, 101..=150);
    let outcome = engine.run().await.expect("goes on");
    assert_eq!(outcome.proof.old(), 0);
    file.assert_all_new(&plan, 1..=150);
}

#[tokio::test(flavor = "multi_thread")]
async fn sqlite_one_run_at_a_time_on_a_table() {
    let (file, plan) = File::loaded(500);
    let stop = StopAfter::new(1);
    let engine = file.engine(&plan).observed_by(stop.clone());
    stop.cancel.set(engine.cancel_token()).expect("once");
    // A single batch may carry the run to its end; the pass is then not concluded yet.
    let _ = engine.run().await;
    let mut other = clients();
    other.table.name = "CLIENTS".into();
    let error = file.engine(&other).run().await.expect_err("another run is active");
    assert_eq!(error.kind(), ErrorKind::Conflict, "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn sqlite_wrong_key_is_refused_and_nothing_is_written() {
    let (file, mut plan) = File::loaded(500);
    plan.columns[1].from.key.version = crate::support::THIRD;
    file.execute("PRAGMA wal_checkpoint(TRUNCATE)");
    let before = std::fs::read(&file.path).expect("reads");
    let error = file.engine(&plan).run().await.expect_err("refused");
    assert_eq!(error.kind(), ErrorKind::Refused);
    assert!(error.to_string().contains("`phone` open under the keys of the plan"), "{error}");
    file.execute("PRAGMA wal_checkpoint(TRUNCATE)");
    assert!(std::fs::read(&file.path).expect("reads") == before, "the file changed");
}

#[tokio::test(flavor = "multi_thread")]
async fn sqlite_values_keep_their_type_in_the_file() {
    let (file, plan) = File::loaded(200);
    // Python's Fernet gives bytes, which SQLite keeps as bytes in a text column.
    file.execute("UPDATE clients SET email = CAST(email AS BLOB) WHERE id % 2 = 0");
    file.execute("UPDATE clients SET phone = 491234 WHERE id = 7");
    let outcome = file.engine(&plan).run().await.expect("runs");
    assert_eq!((outcome.rewritten(), outcome.quarantined()), (599, 1));
    assert_eq!(file.count("SELECT count(*) FROM clients WHERE typeof(email) = 'blob' AND id % 2 = 0"), 100);
    assert_eq!(file.count("SELECT count(*) FROM clients WHERE typeof(email) = 'text' AND id % 2 = 1"), 100);
    assert_eq!(file.count("SELECT typeof(phone) = 'text' AND phone = '491234' FROM clients WHERE id = 7"), 1);
    file.set(
        7,
        "phone",
        value(ColumnType::Text, seal(&Codecs::new(&plan).new[1], &RowKey::default(), &plaintext(7, 1))),
    );
    file.assert_all_new(&plan, 1..=200);
}

#[tokio::test(flavor = "multi_thread")]
async fn sqlite_vacuum_voids_the_spans_of_tables_without_a_rowid_column() {
    let schema =
        "CREATE TABLE clients (id INTEGER NOT NULL, email TEXT, phone TEXT, name BLOB, UNIQUE (id));";
    let (file, plan) = (File::new(schema), clients());
    file.load(&plan, 1..=3_000);
    let stop = StopAfter::new(2);
    let engine = file.engine(&plan).observed_by(stop.clone());
    stop.cancel.set(engine.cancel_token()).expect("once");
    engine.run().await.expect_err("is stopped");
    // Rows that were not read yet move to where the spans are done.
    file.execute("DELETE FROM clients WHERE id <= 400; VACUUM");
    let outcome = file.engine(&plan).run().await.expect("goes on");
    assert!(outcome.passes >= 2, "the spans are void");
    assert_eq!(outcome.proof.old(), 0);
    file.assert_all_new(&plan, 401..=3_000);
}

#[tokio::test(flavor = "multi_thread")]
async fn sqlite_row_bound_values_take_text_keys() {
    let schema = "CREATE TABLE notes (code TEXT NOT NULL PRIMARY KEY COLLATE NOCASE, body TEXT)";
    let file = File::new(schema);
    let plan = plan("notes", &[("code", KeyType::Text)], &[("body", ColumnType::Text, GCM_TEXT, RESEAL_ROW)]);
    let codecs = Codecs::new(&plan);
    let row = |id: i64| RowKey::default().text(&format!("Code-{id}"));
    for id in 0..500 {
        let sealed = seal(&codecs.old[0], &row(id), &plaintext(id, 0));
        let sql = "INSERT INTO notes VALUES ('Code-' || ?1, ?2)";
        file.connection.execute(sql, (id, value(ColumnType::Text, sealed))).expect("inserts");
    }
    assert_eq!(file.engine(&plan).run().await.expect("runs").rewritten(), 500);
    for id in 0..500 {
        let sql = "SELECT body FROM notes WHERE code = 'Code-' || ?1";
        let stored: String = file.connection.query_row(sql, [id], |row| row.get(0)).expect("there");
        assert_eq!(open(&codecs.new[0], &row(id), stored.as_bytes()), Some(plaintext(id, 0)));
        assert_eq!(open(&codecs.new[0], &row(id + 1), stored.as_bytes()), None);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn sqlite_rowids_at_both_ends_are_read() {
    let (file, plan) = (File::new(CLIENTS), clients());
    let ids = [i64::MIN, -1, 0, 1, i64::MAX - 1, i64::MAX];
    file.load(&plan, ids.into_iter());
    assert_eq!(file.engine(&plan).run().await.expect("runs").rewritten(), 18);
    file.assert_all_new(&plan, ids.into_iter());
}

#[tokio::test(flavor = "multi_thread")]
async fn sqlite_an_empty_table_is_proved_at_once() {
    let (file, plan) = (File::new(CLIENTS), clients());
    let outcome = file.engine(&plan).run().await.expect("runs");
    assert_eq!((outcome.rewritten(), outcome.proof.rows), (0, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn sqlite_a_changed_record_is_noticed() {
    let changes = [
        "UPDATE reseal_run SET state = 'proved'",
        "UPDATE reseal_run SET pass = 9",
        "UPDATE reseal_span SET next = hi",
        "UPDATE reseal_span SET counters = replace(counters, ' ', '1 ')",
        "UPDATE reseal_span SET digest = zeroblob(32)",
    ];
    for change in changes {
        let (file, plan) = File::loaded(3_000);
        let stop = StopAfter::new(1);
        let engine = file.engine(&plan).observed_by(stop.clone());
        stop.cancel.set(engine.cancel_token()).expect("once");
        engine.run().await.expect_err("is stopped");
        file.execute(change);
        let error = file.engine(&plan).run().await.expect_err(change);
        assert_eq!(error.kind(), ErrorKind::Damaged, "{change}: {error}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn sqlite_a_held_lock_delays_the_run_and_an_open_reader_the_proof() {
    let file = File::with_journal("delete", CLIENTS);
    let plan = clients();
    file.load(&plan, 1..=500);
    let holder = file.connect();
    holder.execute_batch("BEGIN IMMEDIATE").expect("locks");
    let engine = file.engine(&plan);
    let run = tokio::spawn(async move { engine.run().await });
    tokio::time::sleep(std::time::Duration::from_millis(700)).await;
    assert!(!run.is_finished());
    assert_eq!(file.count("SELECT count(*) FROM sqlite_schema WHERE name LIKE 'reseal%'"), 0);
    holder.execute_batch("COMMIT; BEGIN; SELECT count(*) FROM clients").expect("reads");
    tokio::time::sleep(std::time::Duration::from_millis(700)).await;
    assert!(!run.is_finished(), "a reader with a rollback journal keeps everyone from committing");
    holder.execute_batch("COMMIT").expect("ends");
    assert_eq!(run.await.expect("joins").expect("runs").rewritten(), 1_500);
    file.assert_all_new(&plan, 1..=500);
}

#[tokio::test(flavor = "multi_thread")]
async fn sqlite_a_transaction_from_before_the_proof_cannot_write_after_it() {
    let (file, plan) = File::loaded(300);
    let late = file.connect();
    late.execute_batch("BEGIN; SELECT count(*) FROM clients").expect("reads the old state");
    let outcome = file.engine(&plan).run().await.expect("runs");
    assert_eq!(outcome.proof.old(), 0);
    let error = late.execute("UPDATE clients SET email = 'under the old key' WHERE id = 1", []);
    assert_eq!(error.expect_err("is too late").sqlite_error_code(), Some(rusqlite::ErrorCode::DatabaseBusy));
    late.execute_batch("ROLLBACK").expect("ends");
    file.assert_all_new(&plan, 1..=300);
}

/// Takes the lease of the first batch away before it is written, as another engine does that enters the run.
struct TakesOver {
    connection: Mutex<Option<rusqlite::Connection>>,
}

impl Observer for TakesOver {
    fn at<'a>(&'a self, moment: Moment, _info: BatchInfo<'a>) -> BoxFuture<'a, ()> {
        if moment == Moment::Sealed
            && let Some(connection) = self.connection.lock().expect("no panic while locked").take()
        {
            let sql = "UPDATE reseal_span SET lease = NULL WHERE lease IS NOT NULL";
            assert_eq!(connection.execute(sql, []).expect("updates"), 1);
        }
        std::future::ready(()).boxed()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn sqlite_a_lost_lease_writes_nothing() {
    let (file, plan) = File::loaded(300);
    let observer = TakesOver { connection: Mutex::new(Some(file.connect())) };
    let outcome = file.observed(&plan, observer).run().await.expect("claims the span again");
    assert!(outcome.tallies.iter().all(|tally| (tally.seen, tally.rewritten) == (300, 300)), "{outcome:?}");
    file.assert_all_new(&plan, 1..=300);
}

#[tokio::test(flavor = "multi_thread")]
async fn sqlite_two_engines_share_a_run() {
    let (file, plan) = File::loaded(4_000);
    let (one, two) = (file.engine(&plan), file.engine(&plan));
    let (one, two) = tokio::join!(one.run(), two.run());
    let outcomes = [one.expect("runs"), two.expect("runs")];
    assert!(outcomes.iter().all(|outcome| outcome.rewritten() == 12_000), "{outcomes:?}");
    file.assert_all_new(&plan, 1..=4_000);
}

#[tokio::test(flavor = "multi_thread")]
async fn sqlite_suppressed_writes_end_in_quarantine() {
    let (file, plan) = File::loaded(300);
    file.execute(
        "CREATE TRIGGER keep BEFORE UPDATE OF name ON clients WHEN NEW.id IN (5, 6) BEGIN SELECT RAISE(IGNORE); END",
    );
    let before = [5, 6].map(|id| file.cells(&plan, id));
    let outcome = file.engine(&plan).run().await.expect("runs");
    assert_eq!((outcome.rewritten(), outcome.passes), (900 - 6, 3 + 1));
    let status = file.engine(&plan).status().await.expect("readable").expect("known");
    assert_eq!(status.quarantine.of(Reason::WriteSuppressed), 6, "all columns of both rows");
    assert_eq!((status.quarantine.total(), outcome.proof.suppressed(), outcome.proof.unopened()), (6, 6, 0));
    assert_eq!([5, 6].map(|id| file.cells(&plan, id)), before);
}

#[tokio::test(flavor = "multi_thread")]
async fn sqlite_tables_without_a_key_are_found_by_rowid() {
    let (file, mut plan) =
        (File::new("CREATE TABLE clients (id, email TEXT, phone TEXT, name BLOB)"), clients());
    file.load(&plan, 1..=300);
    plan.key.clear();
    file.execute("UPDATE clients SET email = 'x' WHERE id <= 2");
    let outcome = file.engine(&plan).run().await.expect("runs");
    assert_eq!((outcome.rewritten(), outcome.quarantined()), (898, 2));
    let status = file.engine(&plan).status().await.expect("readable").expect("known");
    assert_eq!(status.quarantine.total(), 2, "rows without a key are told apart");
    file.assert_all_new(&plan, 3..=300);
}

#[tokio::test(flavor = "multi_thread")]
async fn sqlite_bytes_in_a_text_column_stay_bytes() {
    let file = File::new("CREATE TABLE notes (id INTEGER PRIMARY KEY, code TEXT NOT NULL UNIQUE, body TEXT)");
    let name = TableName { schema: "main".into(), name: "notes".into() };
    let describe = |columns: &[String], key: &[String]| describe(&file.path, &name, columns, Some(key));
    let body = ["body".to_owned()];
    assert_eq!(
        describe(&body, &["code".into()]).expect("a table").columns,
        [ColumnType::Text],
        "as declared"
    );
    // The application stores bytes, whatever the column declares; one value is text for some reason.
    let plan = plan("notes", &[("code", KeyType::Text)], &[("body", ColumnType::Bytes, GCM, RESEAL)]);
    let codecs = Codecs::new(&plan);
    let row = RowKey::default();
    for id in 1..=50 {
        let sealed = seal(&codecs.old[0], &row, format!("note {id}").as_bytes());
        let sql = format!(
            "INSERT INTO notes VALUES (?1, 'n' || ?1, {})",
            if id == 9 { "CAST(?2 AS TEXT)" } else { "?2" }
        );
        file.connection.execute(&sql, rusqlite::params![id, sealed]).expect("inserts");
    }
    let shape = describe(&body, &["code".into()]).expect("a table");
    assert_eq!((shape.columns, shape.key), (vec![ColumnType::Bytes], plan.key.clone()));
    let outcome = file.engine(&plan).run().await.expect("runs");
    assert_eq!((outcome.rewritten(), outcome.quarantined()), (50, 0));
    assert_eq!(file.count("SELECT count(*) FROM notes WHERE typeof(body) = 'blob'"), 50);
    let stored: Vec<u8> = file
        .connection
        .query_row("SELECT body FROM notes WHERE id = 9", [], |row| row.get(0))
        .expect("reads");
    assert_eq!(open(&codecs.new[0], &row, &stored), Some(b"note 9".to_vec()));
}

#[tokio::test(flavor = "multi_thread")]
async fn sqlite_run_beside_another_is_refused_until_it_is_superseded() {
    let (file, lost) = File::loaded(4_000);
    let stop = StopAfter::new(1);
    let engine = file.engine(&lost).observed_by(stop.clone());
    stop.cancel.set(engine.cancel_token()).expect("set once");
    engine.run().await.expect_err("stops");
    let mut plan = clients();
    let error = file.engine(&plan).run().await.expect_err("another run is active");
    assert_eq!(
        (error.kind(), error.to_string().contains(&lost.run.to_string())),
        (ErrorKind::Conflict, true)
    );
    plan.supersedes = Some(lost.run);
    let outcome = file.engine(&plan).run().await.expect("runs");
    assert!(outcome.rewritten() < 12_000, "what the other run did stays");
    file.assert_all_new(&plan, 1..=4_000);
    let error = file.engine(&lost).run().await.expect_err("it has ended");
    assert_eq!(error.kind(), ErrorKind::Conflict, "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn sqlite_quarantine_has_an_end() {
    let (file, plan) = File::loaded(2_000);
    // So few at the start that the sample sees none.
    file.execute("UPDATE clients SET phone = 'x' || id WHERE id % 5 = 0 AND id > 1000");
    let engine = |quarantine_max| {
        let options = RunOptions { quarantine_max, ..RunOptions::default() };
        Engine::new(SqliteStore::new(&file.path), job(plan.clone()), options)
    };
    let error = engine(50).run().await.expect_err("stops");
    assert!(matches!(error, EngineError::Quarantine { max: 50 }), "{error}");
    let stopped = engine(50).status().await.expect("readable").expect("known").quarantine.total();
    assert!((51..200).contains(&stopped), "{stopped}");
    assert!(matches!(engine(50).run().await, Err(EngineError::Quarantine { .. })), "stays stopped");
    let outcome = engine(200).run().await.expect("goes on");
    let status = engine(200).status().await.expect("readable").expect("known");
    assert_eq!((outcome.quarantined(), status.quarantine.total()), (200, 200));
}

#[tokio::test(flavor = "multi_thread")]
async fn sqlite_keys_of_other_types_are_compared_by_their_text() {
    let schema = "CREATE TABLE days (day DATE NOT NULL UNIQUE, body TEXT)";
    let file = File::new(schema);
    let name = TableName { schema: "main".into(), name: "days".into() };
    let shape = describe(&file.path, &name, &["body".into()], None).expect("a table");
    assert_eq!(shape.key, [KeyColumn { name: "day".into(), kind: KeyType::Other }]);
    let plan = plan("days", &[("day", KeyType::Other)], &[("body", ColumnType::Text, GCM_TEXT, RESEAL)]);
    let codecs = Codecs::new(&plan);
    for day in ["'2026-11-21'", "'20261121'", "20261122", "2026.5"] {
        let sealed = value(ColumnType::Text, seal(&codecs.old[0], &RowKey::default(), day.as_bytes()));
        file.connection.execute(&format!("INSERT INTO days VALUES ({day}, ?1)"), [sealed]).expect("inserts");
    }
    assert_eq!(file.engine(&plan).run().await.expect("runs").rewritten(), 4);
}

#[tokio::test]
async fn sqlite_a_missing_file_is_not_made() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("absent.db");
    let engine = Engine::new(SqliteStore::new(&path), job(clients()), RunOptions::default());
    assert_eq!(engine.run().await.expect_err("there is none").kind(), ErrorKind::Failed);
    assert!(!path.exists());
}

#[test]
fn sqlite_describe_finds_key_and_types() {
    let file = File::new(&format!(
        "{CLIENTS}; CREATE TABLE codes (code TEXT NOT NULL UNIQUE, a BLOB, b VARCHAR(90)); CREATE TABLE bare (a)"
    ));
    let shape = |table: &str, columns: &[&str]| {
        let name = TableName { schema: "main".into(), name: table.into() };
        let columns: Vec<String> = columns.iter().map(|name| (*name).into()).collect();
        describe(&file.path, &name, &columns, None)
    };
    let key = |name: &str, kind| vec![KeyColumn { name: name.into(), kind }];
    let names: Vec<&str> = COLUMNS.iter().map(|column| column.0).collect();
    let clients = shape("Clients", &names).expect("a table");
    assert_eq!(clients.table.to_string(), "main.clients");
    assert_eq!(clients.key, key("id", KeyType::Integer));
    assert_eq!(clients.columns, COLUMNS.map(|column| column.1));
    let codes = shape("codes", &["a", "b"]).expect("a table");
    assert_eq!(
        (codes.key, codes.columns),
        (key("code", KeyType::Text), vec![ColumnType::Bytes, ColumnType::Text])
    );
    assert_eq!(shape("codes", &["CODE"]).expect("a table").key, [], "what is encrypted is no key");
    assert_eq!(shape("bare", &[]).expect("a table").key, []);
    assert!(shape("absent", &[]).is_err() && shape("bare", &["b"]).is_err());
}
