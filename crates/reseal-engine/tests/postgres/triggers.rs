//! Triggers, partitions and large values: what stands in the table is what was sent, or nothing is committed.

use std::sync::Arc;

use crate::common::*;
use futures_util::future::{BoxFuture, FutureExt};
use reseal_engine::{BatchInfo, EngineError, Moment, Observer, Reason};

async fn with_trigger(statements: &str) -> (Database, reseal_engine::RunPlan) {
    let database = Database::start().await;
    let plan = plan("clients", Way::Envelope);
    load(&database, &plan, 300).await;
    database.execute(statements).await;
    (database, plan)
}

/// Asserts that the run stops because the database holds other bytes, and that nothing old went missing.
async fn assert_not_stored(statements: &str) {
    let (database, plan) = with_trigger(statements).await;
    let error = engine(&database, &plan, options()).run().await.expect_err("the comparison fails");
    assert!(matches!(error, EngineError::NotStored { .. }), "{error}");
    let old = codec(&plan.columns[0].from, 0);
    for row in database.client.query("SELECT id, a FROM clients", &[]).await.expect("reads") {
        let id: i64 = row.get(0);
        assert_eq!(open(&old, id, row.get(1)), Some(plaintext(id, 0)));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn before_trigger_that_changes_the_value_stops_the_run() {
    assert_not_stored(
        "CREATE FUNCTION spoil() RETURNS trigger LANGUAGE plpgsql AS
             'BEGIN IF NEW.id = 77 THEN NEW.a = NEW.a || ''\\x00''; END IF; RETURN NEW; END';
         CREATE TRIGGER spoil BEFORE UPDATE ON clients FOR EACH ROW EXECUTE FUNCTION spoil()",
    )
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn after_trigger_that_writes_again_stops_the_run() {
    assert_not_stored(
        "CREATE FUNCTION spoil() RETURNS trigger LANGUAGE plpgsql AS
             'BEGIN IF pg_trigger_depth() = 1 AND NEW.id = 77
                    THEN UPDATE public.clients SET a = a || ''\\x00'' WHERE id = 77; END IF; RETURN NULL; END';
         CREATE TRIGGER spoil AFTER UPDATE ON clients FOR EACH ROW EXECUTE FUNCTION spoil()",
    )
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn deferred_trigger_that_writes_again_stops_the_run() {
    assert_not_stored(
        "CREATE FUNCTION spoil() RETURNS trigger LANGUAGE plpgsql AS
             'BEGIN IF pg_trigger_depth() = 1 AND NEW.id = 77
                    THEN UPDATE public.clients SET a = a || ''\\x00'' WHERE id = 77; END IF; RETURN NULL; END';
         CREATE CONSTRAINT TRIGGER spoil AFTER UPDATE ON clients DEFERRABLE INITIALLY DEFERRED
             FOR EACH ROW EXECUTE FUNCTION spoil()",
    )
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn before_trigger_that_changes_another_row_stops_the_run() {
    assert_not_stored(
        "CREATE FUNCTION spoil() RETURNS trigger LANGUAGE plpgsql AS
             'BEGIN IF pg_trigger_depth() = 1 AND NEW.id = 78
                    THEN UPDATE public.clients SET a = a || ''\\x00'' WHERE id = 77; END IF; RETURN NEW; END';
         CREATE TRIGGER spoil BEFORE UPDATE ON clients FOR EACH ROW EXECUTE FUNCTION spoil()",
    )
    .await;
}

/// Makes a trigger once the first batch is committed.
struct LateTrigger(tokio_postgres::Client);

impl Observer for LateTrigger {
    fn at<'a>(&'a self, moment: Moment, info: BatchInfo<'a>) -> BoxFuture<'a, ()> {
        let first = moment == Moment::Committed && info.span.seq == 0;
        async move {
            if first {
                let made = self.0.batch_execute(
                    "CREATE OR REPLACE TRIGGER spoil AFTER UPDATE ON clients
                         FOR EACH ROW EXECUTE FUNCTION spoil()",
                );
                made.await.expect("makes the trigger");
            }
        }
        .boxed()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn trigger_made_during_a_pass_is_seen() {
    let (database, plan) = with_trigger(
        "CREATE FUNCTION spoil() RETURNS trigger LANGUAGE plpgsql AS
             'BEGIN IF pg_trigger_depth() = 1 AND NEW.id = 277
                    THEN UPDATE public.clients SET a = a || ''\\x00'' WHERE id = 277; END IF; RETURN NULL; END'",
    )
    .await;
    let small = reseal_engine::RunOptions { workers: 1, batch_rows_max: 64, ..options() };
    let observer = Arc::new(LateTrigger(database.connect().await));
    let error = observed(&database, &plan, small, observer).run().await.expect_err("the comparison fails");
    assert!(matches!(error, EngineError::NotStored { .. }), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn suppressed_writes_end_in_quarantine() {
    let (database, plan) = with_trigger(
        "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS
             'BEGIN IF NEW.id IN (7, 8) THEN RETURN NULL; END IF; RETURN NEW; END';
         CREATE TRIGGER refuse BEFORE UPDATE ON clients FOR EACH ROW EXECUTE FUNCTION refuse()",
    )
    .await;
    let outcome = engine(&database, &plan, options()).run().await.expect("ends");
    assert_eq!(outcome.rewritten(), 298 * 3);
    assert_eq!(outcome.quarantined(), 6);
    assert_eq!(outcome.proof.columns[0].left.of(Reason::WriteSuppressed), 2);
    assert_eq!((outcome.proof.suppressed(), outcome.proof.unopened()), (6, 0), "they do open");
    let again = engine(&database, &plan, options()).run().await.expect("the quarantine is remembered");
    assert_eq!((again.quarantined(), again.proof.old()), (6, 0));
    let verified = engine(&database, &plan, options()).verify().await.expect("reads").census;
    assert_eq!((verified.suppressed(), verified.old(), verified.unopened()), (6, 0, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn only_the_row_whose_write_vanishes_is_left_alone() {
    let (database, plan) = with_trigger(
        "UPDATE clients SET (a, b, c) = (SELECT a, b, c FROM clients WHERE id = 7) WHERE id IN (8, 9);
         CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS
             'BEGIN IF NEW.id IN (7, 8) THEN RETURN NULL; END IF; RETURN NEW; END';
         CREATE TRIGGER refuse BEFORE UPDATE ON clients FOR EACH ROW EXECUTE FUNCTION refuse()",
    )
    .await;
    let outcome = engine(&database, &plan, options()).run().await.expect("ends");
    assert_eq!((outcome.rewritten(), outcome.proof.suppressed()), (298 * 3, 6));
    assert_eq!(outcome.passes, 3 + 1);
    let status = engine(&database, &plan, options()).status().await.expect("reads").expect("known");
    assert_eq!(status.quarantine.of(Reason::WriteSuppressed), 6, "rows with the same bytes are told apart");
}

#[tokio::test(flavor = "multi_thread")]
async fn suppressed_writes_have_an_end() {
    let (database, plan) = with_trigger(
        "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END';
         CREATE TRIGGER refuse BEFORE UPDATE ON clients FOR EACH ROW EXECUTE FUNCTION refuse()",
    )
    .await;
    let few = reseal_engine::RunOptions { quarantine_max: 100, ..options() };
    let error = engine(&database, &plan, few).run().await.expect_err("stops");
    assert!(matches!(error, EngineError::Quarantine { max: 100 }), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn quarantine_has_an_end_and_counts_each_value_once() {
    let database = Database::start().await;
    let plan = plan("clients", Way::SameFormat);
    load(&database, &plan, 4_000).await;
    database.execute("UPDATE clients SET b = convert_to('bad ' || id, 'UTF8') WHERE id % 8 = 0").await;
    let with =
        |quarantine_max| reseal_engine::RunOptions { quarantine_max, batch_rows_max: 100, ..options() };
    let error = engine(&database, &plan, with(100)).run().await.expect_err("stops");
    assert!(matches!(error, EngineError::Quarantine { max: 100 }), "{error}");
    let recorded = database.count("SELECT count(*) FROM reseal.quarantine").await;
    assert!((101..300).contains(&recorded), "{recorded}");
    // Rows that move while they are rewritten are seen, and tallied, again; the quarantine knows them.
    let outcome = engine(&database, &plan, with(500)).run().await.expect("goes on");
    let status = engine(&database, &plan, with(500)).status().await.expect("reads").expect("known");
    assert_eq!((outcome.quarantined(), status.quarantine.total()), (500, 500));
}

#[tokio::test(flavor = "multi_thread")]
async fn partitions_and_children_are_leaves() {
    let database = Database::start().await;
    database
        .execute(
            "CREATE TABLE clients (id int8 PRIMARY KEY, a bytea, b bytea, c bytea, note text DEFAULT '') PARTITION BY RANGE (id);
             CREATE TABLE clients_low PARTITION OF clients FOR VALUES FROM (0) TO (1000);
             CREATE TABLE \"Clients High\" PARTITION OF clients FOR VALUES FROM (1000) TO (1000000)",
        )
        .await;
    let plan = plan("clients", Way::RowEnvelope);
    load(&database, &plan, 3_000).await;
    let engine = engine(&database, &plan, options());
    let survey = engine.survey().await.expect("surveys");
    assert_eq!(survey.facts.leaves, ["public.\"Clients High\"", "public.clients_low"]);
    let outcome = engine.run().await.expect("runs");
    assert_eq!(outcome.rewritten(), 9_000);
    assert_all_new(&database, &plan, 3_000).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn large_values_fit_into_little_memory() {
    let database = Database::start().await;
    let mut plan = plan("clients", Way::Envelope);
    load(&database, &plan, 50).await;
    plan.columns.truncate(1);
    let old = codec(&plan.columns[0].from, 0);
    let large: Vec<u8> = (0..3_000_000_u32).map(|index| (index % 251) as u8).collect();
    for id in [10_i64, 11, 30] {
        let value = seal(&old, id, &large);
        database
            .client
            .execute("UPDATE clients SET a = $2 WHERE id = $1", &[&id, &value])
            .await
            .expect("updates");
    }
    let small = reseal_engine::RunOptions { memory_bytes: 12 << 20, ..options() };
    let outcome = engine(&database, &plan, small).run().await.expect("runs");
    assert_eq!((outcome.rewritten(), outcome.proof.old()), (50, 0));
    let new = codec(&plan.columns[0].to, 0);
    let row = database.client.query_one("SELECT a FROM clients WHERE id = 30", &[]).await.expect("reads");
    assert_eq!(open(&new, 30, row.get(0)), Some(large));
}

#[tokio::test(flavor = "multi_thread")]
async fn memory_for_less_than_a_row_is_enough_for_every_row() {
    let database = Database::start().await;
    let plan = plan("clients", Way::Envelope);
    load(&database, &plan, 40).await;
    let none = reseal_engine::RunOptions { memory_bytes: 0, ..options() };
    let outcome = engine(&database, &plan, none).run().await.expect("runs");
    assert_eq!((outcome.rewritten(), outcome.proof.old(), outcome.proof.unopened()), (120, 0, 0));
    assert_all_new(&database, &plan, 40).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn table_without_a_key_is_rewritten() {
    let database = Database::start().await;
    let mut plan = plan("clients", Way::Envelope);
    load(&database, &plan, 1_000).await;
    database.execute("ALTER TABLE clients DROP CONSTRAINT clients_pkey").await;
    plan.key.clear();
    let outcome = engine(&database, &plan, options()).run().await.expect("runs");
    assert_eq!(outcome.rewritten(), 3_000);
    assert_all_new(&database, &plan, 1_000).await;
}
