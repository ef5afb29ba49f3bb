//! Runs that are interrupted, killed or cut off, and the call that finishes them.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::common::*;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use reseal_engine::{BatchInfo, EngineError, ErrorKind, Moment, Observer};
use tokio::sync::Notify;

const ROWS: i64 = 20_000;

/// Stops for ever at one moment of the `nth` batch, and counts batches read.
struct Stopper {
    moment: Moment,
    nth: u64,
    seen: AtomicU64,
    reached: Arc<Notify>,
}

impl Stopper {
    fn at(moment: Moment, nth: u64) -> (Arc<Self>, Arc<Notify>) {
        let reached = Arc::new(Notify::new());
        (Arc::new(Self { moment, nth, seen: AtomicU64::new(0), reached: reached.clone() }), reached)
    }
}

impl Observer for Stopper {
    fn at<'a>(&'a self, moment: Moment, _: BatchInfo<'a>) -> BoxFuture<'a, ()> {
        async move {
            if moment == self.moment && self.seen.fetch_add(1, Ordering::SeqCst) + 1 == self.nth {
                self.reached.notify_one();
                std::future::pending::<()>().await;
            }
        }
        .boxed()
    }
}

/// Counts rows as they are read.
#[derive(Default)]
struct Counter {
    rows: AtomicU64,
}

impl Observer for Counter {
    fn at<'a>(&'a self, moment: Moment, info: BatchInfo<'a>) -> BoxFuture<'a, ()> {
        if moment == Moment::Read {
            self.rows.fetch_add(info.batch.len() as u64, Ordering::SeqCst);
        }
        std::future::ready(()).boxed()
    }
}

/// Makes the database count how often each row's ciphertext changes.
async fn count_changes(database: &Database, table: &str) {
    database
        .execute(&format!(
            "CREATE TABLE changes (id int8);
             CREATE FUNCTION note_change() RETURNS trigger LANGUAGE plpgsql AS
                 'BEGIN INSERT INTO public.changes VALUES (NEW.id); RETURN NEW; END';
             CREATE TRIGGER note_change AFTER UPDATE ON {table} FOR EACH ROW
                 WHEN (OLD.a IS DISTINCT FROM NEW.a) EXECUTE FUNCTION note_change()"
        ))
        .await;
}

async fn assert_changed_once(database: &Database) {
    let twice = database
        .count("SELECT count(*) FROM (SELECT id FROM changes GROUP BY id HAVING count(*) <> 1) AS x")
        .await;
    let rows = database.count("SELECT count(DISTINCT id) FROM changes").await;
    assert_eq!((twice, rows), (0, ROWS));
}

fn small_batches() -> reseal_engine::RunOptions {
    reseal_engine::RunOptions { batch_rows_max: 500, ..options() }
}

/// Waits until the server has noticed that the connections of the run ended: a COMMIT on its way still counts.
async fn others_gone(database: &Database) {
    let others = "SELECT count(*) FROM pg_stat_activity
                   WHERE datname = current_database() AND pid <> pg_backend_pid()";
    while database.count(others).await > 0 {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// Dropping the run in the middle of a batch does to the database what `kill -9` of its process does: the connection
/// ends and what is not committed is rolled back.
async fn dropped_at(moment: Moment, nth: u64, way: Way) {
    let database = Database::start().await;
    let plan = plan("clients", way);
    load(&database, &plan, ROWS).await;
    count_changes(&database, "clients").await;
    let (stopper, reached) = Stopper::at(moment, nth);
    let engine = observed(&database, &plan, small_batches(), stopper);
    let run = tokio::spawn(async move { engine.run().await.map(drop) });
    reached.notified().await;
    run.abort();
    assert!(run.await.expect_err("aborted").is_cancelled());

    others_gone(&database).await;
    let written = database.count("SELECT count(*) FROM changes").await as u64;
    let counter = Arc::new(Counter::default());
    let engine = observed(&database, &plan, small_batches(), counter.clone());
    let outcome = engine.run().await.expect("the same call finishes it");
    assert_eq!(outcome.rewritten(), 3 * ROWS as u64);
    // Batches in flight are read again: one per worker, of at most 500 rows.
    let read_again = counter.rows.load(Ordering::SeqCst) - (ROWS as u64 - written);
    assert!(read_again <= 2 * 500, "{read_again} rows were read again");
    assert_balanced(&outcome);
    assert_changed_once(&database).await;
    assert_all_new(&database, &plan, ROWS).await;
    assert!(engine.verify().await.expect("verifies").digest_equal);
}

#[tokio::test(flavor = "multi_thread")]
async fn resume_after_end_between_read_and_write() {
    dropped_at(Moment::Sealed, 5, Way::SameFormat).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn resume_after_end_with_open_transaction() {
    dropped_at(Moment::Written, 7, Way::SameFormat).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn resume_after_end_behind_commit() {
    dropped_at(Moment::Committed, 9, Way::Envelope).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn cancelled_run_keeps_its_state() {
    struct Canceller(AtomicU64, std::sync::OnceLock<reseal_engine::CancelToken>);
    impl Observer for Canceller {
        fn at<'a>(&'a self, moment: Moment, _: BatchInfo<'a>) -> BoxFuture<'a, ()> {
            if moment == Moment::Committed && self.0.fetch_add(1, Ordering::SeqCst) == 4 {
                self.1.get().expect("set before the run").cancel();
            }
            std::future::ready(()).boxed()
        }
    }
    let database = Database::start().await;
    let plan = plan("clients", Way::Envelope);
    load(&database, &plan, ROWS).await;
    let canceller = Arc::new(Canceller(AtomicU64::new(0), std::sync::OnceLock::new()));
    let engine = observed(&database, &plan, small_batches(), canceller.clone());
    canceller.1.set(engine.cancel_token()).expect("set once");
    let error = engine.run().await.expect_err("cancelled");
    assert!(matches!(error, EngineError::Interrupted) && error.kind() == ErrorKind::Interrupted);
    let status = engine.status().await.expect("status").expect("known");
    let written: u64 = status.spans.iter().map(|span| span.tallies[0].rewritten).sum();
    assert!((1..ROWS as u64).contains(&written), "{written}");
    let finished = crate::common::engine(&database, &plan, options()).run().await.expect("finishes");
    assert_eq!(finished.rewritten(), 3 * ROWS as u64);
    assert_all_new(&database, &plan, ROWS).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_server_is_waited_for() {
    let mut database = Database::start().await;
    let plan = plan("clients", Way::SameFormat);
    load(&database, &plan, ROWS).await;
    let (stopper, reached) = Stopper::at(Moment::Written, 5);
    let engine = observed(&database, &plan, small_batches(), stopper);
    let run = tokio::spawn(async move { engine.run().await.map(drop) });
    reached.notified().await;
    database.server.kill_9().expect("kills");
    run.abort();
    database.server.restart().expect("restarts");
    database.client = connect(&database.url).await;
    let outcome = crate::common::engine(&database, &plan, options()).run().await.expect("finishes");
    assert_eq!(outcome.rewritten(), 3 * ROWS as u64);
    assert_all_new(&database, &plan, ROWS).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn changed_record_is_refused() {
    let database = Database::start().await;
    let plan = plan("clients", Way::Envelope);
    load(&database, &plan, ROWS).await;
    let (stopper, reached) = Stopper::at(Moment::Sealed, 6);
    let engine = observed(&database, &plan, small_batches(), stopper);
    let run = tokio::spawn(async move { engine.run().await.map(drop) });
    reached.notified().await;
    run.abort();
    let _ = run.await;
    database
        .execute("UPDATE reseal.span SET next = hi WHERE number = (SELECT max(number) FROM reseal.span)")
        .await;
    let engine = crate::common::engine(&database, &plan, options());
    assert_eq!(engine.status().await.expect_err("refused").kind(), ErrorKind::Damaged);
    database.execute("UPDATE reseal.run SET pass = 7").await;
    assert_eq!(engine.run().await.expect_err("refused").kind(), ErrorKind::Damaged);
}

#[tokio::test(flavor = "multi_thread")]
async fn rollback_takes_a_half_finished_run_back() {
    let database = Database::start().await;
    let forward = plan("clients", Way::Envelope);
    load(&database, &forward, ROWS).await;
    let (stopper, reached) = Stopper::at(Moment::Sealed, 10);
    let engine = observed(&database, &forward, small_batches(), stopper);
    let run = tokio::spawn(async move { engine.run().await.map(drop) });
    reached.notified().await;
    run.abort();
    let _ = run.await;
    let back = forward.reversed(reseal_engine::RunId([9; 16]));
    let outcome = crate::common::engine(&database, &back, options()).run().await.expect("rolls back");
    assert!(outcome.rewritten() > 0 && outcome.tallies[0].already_new > 0, "{outcome:?}");
    assert_all_new(&database, &back, ROWS).await;
    let again =
        crate::common::engine(&database, &forward, options()).run().await.expect_err("it was taken back");
    assert_eq!(again.kind(), ErrorKind::Conflict);
}

#[tokio::test(flavor = "multi_thread")]
async fn rewritten_table_voids_its_spans() {
    let database = Database::start().await;
    let plan = plan("clients", Way::Envelope);
    load(&database, &plan, ROWS).await;
    let (stopper, reached) = Stopper::at(Moment::Sealed, 10);
    let engine = observed(&database, &plan, small_batches(), stopper);
    let run = tokio::spawn(async move { engine.run().await.map(drop) });
    reached.notified().await;
    run.abort();
    let _ = run.await;
    database.execute("VACUUM FULL clients").await;
    let outcome = crate::common::engine(&database, &plan, options()).run().await.expect("finishes");
    assert_eq!((outcome.proof.old(), outcome.passes), (0, 2), "{outcome:?}");
    assert_all_new(&database, &plan, ROWS).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn second_run_on_a_table_is_a_conflict() {
    let database = Database::start().await;
    let first = plan("clients", Way::Envelope);
    load(&database, &first, 100).await;
    let (stopper, reached) = Stopper::at(Moment::Sealed, 1);
    let engine = observed(&database, &first, options(), stopper);
    let run = tokio::spawn(async move { engine.run().await.map(drop) });
    reached.notified().await;
    let second = plan("clients", Way::Envelope);
    let error = crate::common::engine(&database, &second, options()).run().await.expect_err("refused");
    assert_eq!(error.kind(), ErrorKind::Conflict, "{error}");
    run.abort();
}
