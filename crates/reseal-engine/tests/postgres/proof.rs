//! What a proof may rest on: who is waited for, whose word counts, and what stops a run that was ended elsewhere.

use std::sync::Arc;
use std::time::Duration;

use crate::common::*;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use reseal_engine::{
    BatchInfo, Engine, ErrorKind, Event, Job, Moment, Observer, RunId, RunKey, RunOptions, RunPlan,
};
use tokio::sync::Notify;

const ROWS: i64 = 4_000;

/// Holds every batch back at one moment until it is let go.
struct Gate {
    moment: Moment,
    reached: Notify,
    open: tokio::sync::Semaphore,
}

impl Gate {
    fn at(moment: Moment) -> Arc<Self> {
        Arc::new(Self { moment, reached: Notify::new(), open: tokio::sync::Semaphore::new(0) })
    }
}

impl Observer for Gate {
    fn at<'a>(&'a self, moment: Moment, _: BatchInfo<'a>) -> BoxFuture<'a, ()> {
        async move {
            if moment == self.moment {
                self.reached.notify_one();
                self.open.acquire().await.expect("never closed").forget();
            }
        }
        .boxed()
    }
}

fn one_worker() -> RunOptions {
    RunOptions { workers: 1, batch_rows_max: 500, ..options() }
}

/// A rollback has its own key in a real run; the account of the other run is not its to sign.
fn rollback_engine(database: &Database, plan: &RunPlan) -> Engine {
    let target = reseal_engine::postgres::PostgresTarget::parse(&database.url, None).expect("a URL");
    let key = RunKey::from_bytes(&[78; 32]);
    let job = Job::new(plan.clone(), &keyring(), &key).expect("the plan holds together");
    Engine::new(reseal_engine::postgres::PostgresStore::new(target), job, options())
}

#[tokio::test(flavor = "multi_thread")]
async fn rollback_stops_a_run_that_still_works() {
    let database = Database::start().await;
    let forward = plan("clients", Way::Envelope);
    load(&database, &forward, ROWS).await;
    let gate = Gate::at(Moment::Sealed);
    let engine = observed(&database, &forward, one_worker(), gate.clone());
    let run = tokio::spawn(async move { engine.run().await.map(drop) });
    gate.open.add_permits(2);
    for _ in 0..2 {
        gate.reached.notified().await;
    }
    let back = forward.reversed(RunId([9; 16]));
    rollback_engine(&database, &back).run().await.expect("rolls back");
    gate.open.add_permits(10_000);
    let error = run.await.expect("does not panic").expect_err("it was taken back");
    assert_eq!(error.kind(), ErrorKind::Conflict, "{error}");
    assert_all_new(&database, &back, ROWS).await;
    let states = database
        .count("SELECT count(*) FROM reseal.run WHERE (direction, state) IN (('forward', 'rolled-back'), ('rollback', 'proved'))")
        .await;
    assert_eq!(states, 2);
    let again = engine_of(&database, &forward).run().await.expect_err("it was taken back");
    assert_eq!(again.kind(), ErrorKind::Conflict, "{again}");
}

#[tokio::test(flavor = "multi_thread")]
async fn rollback_waits_for_the_batch_in_flight() {
    let database = Database::start().await;
    let forward = plan("clients", Way::Envelope);
    load(&database, &forward, ROWS).await;
    let gate = Gate::at(Moment::Written);
    let engine = observed(&database, &forward, one_worker(), gate.clone());
    let run = tokio::spawn(async move { engine.run().await.map(drop) });
    gate.reached.notified().await;
    let back = forward.reversed(RunId([9; 16]));
    let rollback = rollback_engine(&database, &back);
    let rollback = tokio::spawn(async move { rollback.run().await.map(drop) });
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert!(!rollback.is_finished(), "the batch is not committed yet");
    gate.open.add_permits(10_000);
    assert_eq!(run.await.expect("no panic").expect_err("taken back").kind(), ErrorKind::Conflict);
    rollback.await.expect("no panic").expect("rolls back");
    assert_all_new(&database, &back, ROWS).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn proved_run_goes_on_when_old_values_came_back() {
    let database = Database::start().await;
    let plan = plan("clients", Way::Envelope);
    load(&database, &plan, 500).await;
    let engine = engine_of(&database, &plan);
    engine.run().await.expect("proves");
    insert(&database, &plan, 501..=600).await;
    let outcome = engine.run().await.expect("goes on");
    assert_eq!((outcome.proof.old(), outcome.rewritten()), (0, 3 * 600));
    assert_all_new(&database, &plan, 600).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn state_that_the_run_did_not_write_is_refused() {
    let database = Database::start().await;
    let plan = plan("clients", Way::Envelope);
    load(&database, &plan, ROWS).await;
    let gate = Gate::at(Moment::Sealed);
    let engine = observed(&database, &plan, one_worker(), gate.clone());
    let run = tokio::spawn(async move { engine.run().await.map(drop) });
    gate.reached.notified().await;
    run.abort();
    let _ = run.await;
    database.execute("UPDATE reseal.run SET state = 'proved'").await;
    let error = engine_of(&database, &plan).run().await.expect_err("refused");
    assert_eq!(error.kind(), ErrorKind::Damaged, "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn proof_waits_for_a_transaction_that_has_not_written_yet() {
    let database = Database::start().await;
    let plan = plan("clients", Way::Envelope);
    load(&database, &plan, 200).await;
    let writer = database.connect().await;
    writer.batch_execute("BEGIN; SELECT 1").await.expect("begins");
    let engine = engine_of(&database, &plan);
    let run = tokio::spawn(async move { engine.run().await });
    tokio::time::sleep(Duration::from_millis(1_500)).await;
    assert!(!run.is_finished(), "the proof waits");
    let stored = seal(&codec(&plan.columns[0].from, 0), 900, &plaintext(900, 0));
    writer.execute("INSERT INTO clients (id, a) VALUES (900, $1)", &[&stored]).await.expect("inserts");
    writer.batch_execute("COMMIT").await.expect("commits");
    let outcome = run.await.expect("no panic").expect("ends");
    assert_eq!((outcome.proof.old(), outcome.rewritten()), (0, 3 * 200 + 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn proof_names_the_transaction_that_it_waits_for() {
    let database = Database::start().await;
    let plan = plan("clients", Way::Envelope);
    load(&database, &plan, 20).await;
    let idle = database.connect().await;
    idle.batch_execute("SET application_name = 'sleeper'; BEGIN; SELECT 1").await.expect("begins");
    let options = RunOptions { proof_wait: Duration::from_millis(200), ..options() };
    let error = crate::common::engine(&database, &plan, options).run().await.expect_err("waits in vain");
    assert_eq!(error.kind(), ErrorKind::NeedsAttention);
    assert!(error.to_string().contains("application sleeper"), "{error}");
}

/// Functions of `public` that fit the arguments better than the catalog's own.
#[tokio::test(flavor = "multi_thread")]
async fn functions_of_public_are_never_called() {
    let database = Database::start().await;
    let plan = plan("clients", Way::Envelope);
    load(&database, &plan, 200).await;
    database
        .execute(
            "CREATE FUNCTION public.pg_relation_size(oid) RETURNS int8 LANGUAGE plpgsql AS
                 'BEGIN RAISE EXCEPTION ''called''; END';
             CREATE FUNCTION public.pg_relation_filenode(oid) RETURNS oid LANGUAGE plpgsql AS
                 'BEGIN RAISE EXCEPTION ''called''; END';
             CREATE FUNCTION public.format(text, name, name) RETURNS text LANGUAGE plpgsql AS
                 'BEGIN RAISE EXCEPTION ''called''; END';
             CREATE FUNCTION public.format(text, integer, name, text, text, text) RETURNS text LANGUAGE plpgsql AS
                 'BEGIN RAISE EXCEPTION ''called''; END'",
        )
        .await;
    let engine = engine_of(&database, &plan);
    let survey = engine.survey().await.expect("looks");
    assert!(survey.refusals().is_empty());
    let outcome = engine.run().await.expect("proves");
    assert_eq!(outcome.rewritten(), 3 * 200);
}

/// Tries to rewrite the second leaf as soon as a part of the first was read.
struct Rewriter {
    url: String,
    tried: std::sync::atomic::AtomicBool,
}

impl Observer for Rewriter {
    fn event(&self, event: Event) {
        let tries = matches!(event, Event::Checked { .. })
            && !self.tried.swap(true, std::sync::atomic::Ordering::SeqCst);
        if tries {
            tokio::task::block_in_place(|| {
                tokio::runtime::Handle::current().block_on(async {
                    let client = connect(&self.url).await;
                    // A reader that holds the table makes this fail; what matters is what is read.
                    let rewrite = "SET lock_timeout = '300ms'; ALTER TABLE leaf_b ADD COLUMN more float DEFAULT random()";
                    let _ = client.batch_execute(rewrite).await;
                });
            });
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn table_rewritten_during_the_proof_does_not_look_empty() {
    let database = Database::start().await;
    let plan = plan("clients", Way::Envelope);
    database
        .execute(
            "CREATE TABLE clients (id int8 PRIMARY KEY, a bytea, b bytea, c bytea, note text DEFAULT '');
             CREATE TABLE leaf_b (PRIMARY KEY (id)) INHERITS (clients)",
        )
        .await;
    insert(&database, &plan, 1..=300).await;
    database
        .execute(
            "WITH moved AS (DELETE FROM ONLY clients WHERE id > 100 RETURNING *)
             INSERT INTO leaf_b SELECT * FROM moved",
        )
        .await;
    let rewriter =
        Arc::new(Rewriter { url: database.url.clone(), tried: std::sync::atomic::AtomicBool::new(false) });
    let engine = observed(&database, &plan, RunOptions { workers: 1, ..options() }, rewriter);
    let verification = engine.verify().await.expect("verifies");
    assert_eq!(verification.census.rows, 300);
}

fn engine_of(database: &Database, plan: &RunPlan) -> Engine {
    crate::common::engine(database, plan, options())
}
