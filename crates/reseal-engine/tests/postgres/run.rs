//! A run from start to proof on a real server.

use crate::common::*;

#[tokio::test(flavor = "multi_thread")]
async fn run_rewrites_every_row_and_proves_it() {
    let database = Database::start().await;
    for (name, way) in
        [("gcm", Way::SameFormat), ("envelope", Way::Envelope), ("row_bound", Way::RowEnvelope)]
    {
        let plan = plan(name, way);
        load(&database, &plan, 5_000).await;
        let engine = engine(&database, &plan, options());
        let outcome = engine.run().await.unwrap_or_else(|error| panic!("{way:?}: {error}"));
        assert_eq!(outcome.rewritten(), 15_000, "{outcome:?}");
        assert_eq!((outcome.proof.old(), outcome.quarantined()), (0, 0));
        assert_balanced(&outcome);
        assert_all_new(&database, &plan, 5_000).await;
        let verification = engine.verify().await.expect("verifies");
        assert!(verification.digest_equal, "{way:?}");
        assert_eq!(verification.census.opened_new(), 15_000);
        let again = engine.run().await.expect("a finished run is proved again");
        assert_eq!((again.rewritten(), again.batches), (15_000, outcome.batches));
    }
}
