//! Batches that do not get through: they become smaller, the wait is told, and it ends.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use crate::common::*;
use futures_util::future::{BoxFuture, FutureExt};
use reseal_engine::{BatchInfo, CancelToken, ErrorKind, Event, Moment, Observer, RunOptions};

/// Longer than any of these runs takes.
const FOR_EVER: Duration = Duration::from_secs(60);

#[derive(Default)]
struct Listener(Mutex<Vec<String>>);

impl Observer for Listener {
    fn event(&self, event: Event) {
        if let Event::Waiting(what) = event {
            self.0.lock().expect("no panic holds it").push(what);
        }
    }
}

async fn with_trigger(rows: i64, body: &str) -> (Database, reseal_engine::RunPlan) {
    let database = Database::start().await;
    let plan = plan("clients", Way::Envelope);
    load(&database, &plan, rows).await;
    database
        .execute(&format!(
            "CREATE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM {body}; RETURN NEW; END $$;
             CREATE TRIGGER slow BEFORE UPDATE ON clients FOR EACH ROW EXECUTE FUNCTION slow()"
        ))
        .await;
    (database, plan)
}

#[tokio::test(flavor = "multi_thread")]
async fn slow_triggers_make_batches_small() {
    let (database, plan) = with_trigger(90, "pg_sleep(0.01)").await;
    let engine = engine(&database, &plan, RunOptions { workers: 1, ..options() });
    let outcome = tokio::time::timeout(FOR_EVER, engine.run()).await.expect("ends").expect("runs");
    assert_eq!((outcome.rewritten(), outcome.proof.old()), (270, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn heavy_batches_do_not_switch_to_passing_locked_rows_by() {
    let body = "pg_sleep(0.01); IF NEW.id = 7 THEN RETURN NULL; END IF; PERFORM 1";
    let (database, plan) = with_trigger(40, body).await;
    // A batch of all rows takes four times what a statement may take.
    database.execute("ALTER ROLE postgres SET deadlock_timeout = '200ms'").await;
    let engine = engine(&database, &plan, RunOptions { workers: 1, ..options() });
    // Past locked rows nothing tells a write that was suppressed from one that was held up: a pass would not count.
    let outcome = tokio::time::timeout(FOR_EVER, engine.run()).await.expect("ends").expect("runs");
    assert_eq!((outcome.rewritten(), outcome.quarantined(), outcome.passes), (39 * 3, 3, 3 + 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn locked_table_is_told_and_given_up() {
    let database = Database::start().await;
    let plan = plan("clients", Way::Envelope);
    load(&database, &plan, 100).await;
    let index_build = database.connect().await;
    index_build.batch_execute("BEGIN; LOCK TABLE clients IN SHARE MODE").await.expect("locks");
    let listener = Arc::new(Listener::default());
    let patience = RunOptions { write_wait: Duration::from_secs(4), ..options() };
    let engine = observed(&database, &plan, patience, listener.clone());
    let error = tokio::time::timeout(FOR_EVER, engine.run()).await.expect("ends").expect_err("gives up");
    assert_eq!(error.kind(), ErrorKind::NeedsAttention, "{error}");
    let told = listener.0.lock().expect("no panic holds it").clone();
    assert!(told.iter().any(|what| what.contains("public.clients")), "{told:?}");
    index_build.batch_execute("COMMIT").await.expect("unlocks");
    let outcome = crate::common::engine(&database, &plan, options()).run().await.expect("goes on");
    assert_eq!(outcome.rewritten(), 300);
}

#[tokio::test(flavor = "multi_thread")]
async fn batch_that_ends_every_connection_ends_the_run() {
    let (database, plan) = with_trigger(10, "pg_terminate_backend(pg_backend_pid())").await;
    let patience = RunOptions { workers: 1, reconnect_wait: Duration::from_secs(2), ..options() };
    let losses = Arc::new(Losses::default());
    let engine = observed(&database, &plan, patience, losses.clone());
    let error = tokio::time::timeout(FOR_EVER, engine.run()).await.expect("ends").expect_err("gives up");
    assert!(error.is_connection(), "{error}");
    // Told once, not once per try.
    assert_eq!(losses.0.load(Ordering::SeqCst), 1);
}

/// Counts how often a loss of the connection is told.
#[derive(Default)]
struct Losses(AtomicU64);

impl Observer for Losses {
    fn event(&self, event: Event) {
        if matches!(event, Event::Reconnecting { .. }) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }
}

/// Leases a range of the run for a process that is no more, and lets the lease run out once someone waits for it.
struct Stranger {
    client: Arc<tokio_postgres::Client>,
    told: AtomicU64,
}

impl Observer for Stranger {
    fn event(&self, event: Event) {
        if matches!(&event, Event::Waiting(what) if what.contains("another process")) {
            self.told.fetch_add(1, Ordering::SeqCst);
            let client = self.client.clone();
            tokio::spawn(async move {
                let over =
                    "UPDATE reseal.span SET lease_until = clock_timestamp() WHERE lease_until = 'infinity'";
                client.batch_execute(over).await.expect("runs out");
            });
        }
    }

    fn at<'a>(&'a self, moment: Moment, info: BatchInfo<'a>) -> BoxFuture<'a, ()> {
        async move {
            if moment == Moment::Read && info.span.number == 0 {
                let dead = "UPDATE reseal.span SET lease = '\\x00', lease_until = 'infinity'
                             WHERE number = (SELECT max(number) FROM reseal.span) AND lease IS NULL";
                self.client.batch_execute(dead).await.expect("leases");
            }
        }
        .boxed()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn lease_of_a_process_that_is_gone_is_waited_for_aloud() {
    let database = Database::start().await;
    let plan = plan("clients", Way::Envelope);
    load(&database, &plan, 500).await;
    let client = Arc::new(database.connect().await);
    let stranger = Arc::new(Stranger { client, told: AtomicU64::new(0) });
    let one = RunOptions { workers: 1, ..options() };
    let engine = observed(&database, &plan, one, stranger.clone());
    let outcome = tokio::time::timeout(FOR_EVER, engine.run()).await.expect("ends").expect("runs");
    assert_eq!((outcome.rewritten(), stranger.told.load(Ordering::SeqCst)), (1_500, 1));
}

/// Cancels the run once a batch is committed, and holds the run's records against its end.
struct Holder {
    client: tokio_postgres::Client,
    cancel: OnceLock<CancelToken>,
}

impl Observer for Holder {
    fn at<'a>(&'a self, moment: Moment, _: BatchInfo<'a>) -> BoxFuture<'a, ()> {
        async move {
            if moment == Moment::Committed {
                let held = self.client.batch_execute("BEGIN; SELECT FROM reseal.span FOR UPDATE");
                held.await.expect("holds the records");
                self.cancel.get().expect("set before the run").cancel();
            }
        }
        .boxed()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn lease_that_is_not_given_back_does_no_harm() {
    let database = Database::start().await;
    let plan = plan("clients", Way::Envelope);
    load(&database, &plan, 500).await;
    let holder = Arc::new(Holder { client: database.connect().await, cancel: OnceLock::new() });
    let one = RunOptions { workers: 1, batch_rows_max: 64, ..options() };
    let engine = observed(&database, &plan, one, holder.clone());
    holder.cancel.set(engine.cancel_token()).expect("set once");
    let error = tokio::time::timeout(FOR_EVER, engine.run()).await.expect("ends").expect_err("cancelled");
    assert_eq!(error.kind(), ErrorKind::Interrupted, "{error}");
}
