//! A run through a pooler that hands every transaction to another server process.

use std::sync::atomic::{AtomicBool, Ordering};

use reseal_sandbox::pooler::Pooler;

use crate::common::*;

/// Server processes: one for each session of the engine, and those that the transactions beside it push it around among.
const PROCESSES: u32 = 6;

#[tokio::test(flavor = "multi_thread")]
async fn run_passes_through_a_transaction_pooler() {
    let mut database = Database::start().await;
    let plan = plan("pooled", Way::Envelope);
    load(&database, &plan, 20_000).await;
    let pooler = Pooler::start(&database.server, PROCESSES).expect("PgBouncer starts (package pgbouncer)");
    database.url = pooler.url();
    let done = AtomicBool::new(false);
    let run = async {
        let outcome = engine(&database, &plan, options()).run().await;
        done.store(true, Ordering::Relaxed);
        outcome
    };
    let beside = async || {
        let client = database.connect().await;
        let mut processes = std::collections::BTreeSet::new();
        while !done.load(Ordering::Relaxed) {
            let process = client.query_typed_one("SELECT pg_backend_pid() FROM pg_sleep(0.001)", &[]).await;
            processes.insert(process.expect("asks").get::<_, i32>(0));
        }
        processes.len()
    };
    let (outcome, first, second) = tokio::join!(run, beside(), beside());
    let outcome = outcome.expect("the run goes through");
    assert_eq!((outcome.rewritten(), outcome.proof.old()), (60_000, 0), "{outcome:?}");
    assert!(first > 1 && second > 1, "transactions stayed on their process: {first}, {second}");
    assert_all_new(&database, &plan, 20_000).await;
}
