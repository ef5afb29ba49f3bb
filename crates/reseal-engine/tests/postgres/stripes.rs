//! First passes in stripes: every row once, whatever its key, and little growth of the table.

use crate::common::*;
use reseal_engine::{KeyColumn, KeyType, Outcome, RunPlan};

/// Enough for several stripes of several spans.
const ROWS: i64 = 16_000;
/// More rows than a page holds: the first to be rewritten fill up the last page, which is read later.
const LAST_PAGE: u64 = 60;

async fn run(database: &Database, plan: &RunPlan) -> Outcome {
    let outcome = engine(database, plan, options()).run().await.expect("the run ends");
    assert_balanced(&outcome);
    assert_eq!(outcome.passes, 1);
    for tally in &outcome.tallies {
        assert_eq!(tally.rewritten, ROWS as u64);
        assert!(tally.already_new <= LAST_PAGE, "values are met twice: {tally:?}");
    }
    outcome
}

#[tokio::test(flavor = "multi_thread")]
async fn table_grows_by_less_than_half() {
    let database = Database::start().await;
    let plan = plan("clients", Way::SameFormat);
    load(&database, &plan, ROWS).await;
    let sizes = "SELECT pg_relation_size('clients') + pg_relation_size('clients_pkey')";
    let before = database.count(sizes).await;
    run(&database, &plan).await;
    let after = database.count(sizes).await;
    assert!(after * 2 < before * 3, "{before} bytes became {after}");
    assert_all_new(&database, &plan, ROWS).await;
}

/// Numbers that all end in the same bits would be one stripe.
#[tokio::test(flavor = "multi_thread")]
async fn table_grows_by_less_than_half_with_keys_in_great_steps() {
    let database = Database::start().await;
    let plan = plan("clients", Way::SameFormat);
    load(&database, &plan, ROWS).await;
    database.execute("UPDATE clients SET id = -id * 64").await;
    database.execute("VACUUM FULL clients").await;
    let sizes = "SELECT pg_relation_size('clients') + pg_relation_size('clients_pkey')";
    let before = database.count(sizes).await;
    run(&database, &plan).await;
    let after = database.count(sizes).await;
    assert!(after * 2 < before * 3, "{before} bytes became {after}");
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_are_met_once_with_keys_of_every_kind() {
    let database = Database::start().await;
    let keys: [(&str, &[(&str, KeyType)]); 5] = [
        ("by_text", &[("name", KeyType::Text)]),
        ("by_uuid", &[("mark", KeyType::Uuid)]),
        ("by_bytes", &[("raw", KeyType::Bytes)]),
        ("by_two", &[("id", KeyType::Integer), ("name", KeyType::Text)]),
        ("by_nothing", &[]),
    ];
    for (table, key) in keys {
        let column = |(name, kind): &(&str, KeyType)| KeyColumn { name: (*name).into(), kind: *kind };
        let plan = RunPlan { key: key.iter().map(column).collect(), ..plan(table, Way::SameFormat) };
        load(&database, &plan, ROWS).await;
        database
            .execute(&format!(
                "ALTER TABLE {table}
                     ADD name text NOT NULL UNIQUE GENERATED ALWAYS AS ('client ' || id) STORED,
                     ADD mark uuid NOT NULL UNIQUE GENERATED ALWAYS AS (md5(id::text)::uuid) STORED,
                     ADD raw bytea NOT NULL UNIQUE GENERATED ALWAYS AS (decode(md5(id::text), 'hex')) STORED,
                     ADD UNIQUE (id, name)"
            ))
            .await;
        run(&database, &plan).await;
        assert_all_new(&database, &plan, ROWS).await;
    }
}
