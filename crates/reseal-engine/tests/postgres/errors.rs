//! What the server says about rows: codes and names are told, values are not.

use crate::common::*;
use reseal_engine::ErrorKind;

const CANARY: &str = "Mrs. Bunting";

/// Runs on a table that `statements` changed, and returns what is told of the failure.
async fn told(statements: &str) -> String {
    let database = Database::start().await;
    let plan = plan("clients", Way::Envelope);
    load(&database, &plan, 100).await;
    database.execute(statements).await;
    let error = engine(&database, &plan, options()).run().await.expect_err("the server refuses");
    assert_eq!(error.kind(), ErrorKind::Failed);
    let shown = format!("{error} {error:?}");
    assert!(!shown.contains(CANARY), "{shown}");
    error.to_string()
}

async fn told_by_trigger(body: &str) -> String {
    told(&format!(
        "CREATE FUNCTION tell() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN {body}; RETURN NEW; END $$;
         CREATE TRIGGER tell BEFORE UPDATE ON clients FOR EACH ROW EXECUTE FUNCTION tell()"
    ))
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn raised_text_is_not_told() {
    let error = told_by_trigger(&format!("RAISE EXCEPTION 'bad: {CANARY}'")).await;
    assert!(error.contains("raised an error (P0001)"), "{error}");
    let error =
        told_by_trigger(&format!("RAISE EXCEPTION 'bad: {CANARY}' USING ERRCODE = 'insufficient_privilege'"))
            .await;
    assert!(error.contains("permission denied (42501)"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn value_that_does_not_cast_is_not_told() {
    let error = told_by_trigger(&format!("PERFORM '{CANARY}'::int")).await;
    assert!(error.contains("a value does not fit (22P02)"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn constraint_is_named() {
    // One that only a transaction that writes meets; the plan finds all others.
    let constraint = "ALTER TABLE clients ADD CONSTRAINT odd \
                      CHECK (length(a) < 90 OR current_setting('transaction_read_only') = 'on') NOT VALID";
    let error = told(&format!("UPDATE clients SET note = '{CANARY}'; {constraint}")).await;
    assert!(error.contains("table `clients`, constraint `odd` (23514)"), "{error}");
}
