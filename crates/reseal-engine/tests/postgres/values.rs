//! Mixed and damaged values, and rows that change between our read and our write.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::common::*;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use reseal_engine::{BatchInfo, Moment, Observer, Reason};
use reseal_formats::Codec;
use tokio_postgres::Client;

#[tokio::test(flavor = "multi_thread")]
async fn mixed_values_are_counted_by_reason() {
    for (name, way) in [("gcm", Way::SameFormat), ("envelope", Way::Envelope)] {
        let database = Database::start().await;
        let plan = plan(name, way);
        load(&database, &plan, 1_000).await;
        let sides = |column: usize| {
            (codec(&plan.columns[column].from, column), codec(&plan.columns[column].to, column))
        };
        let (old, new) = sides(0);
        let mut third = plan.columns[0].from.clone();
        third.key = key_ref(THIRD);
        let third = codec(&third, 0);
        let mut third_new = plan.columns[0].to.clone();
        third_new.key = key_ref(THIRD);
        let third_new = codec(&third_new, 0);
        let mut flipped = seal(&old, 3, b"flipped");
        flipped[20] ^= 1;
        let sealed = seal(&old, 4, b"cut short");
        let cases: [(i64, Option<Vec<u8>>); 8] = [
            (1, Some(b"plain text".to_vec())),
            (2, Some(seal(&third, 2, b"third"))),
            (3, Some(flipped)),
            (4, Some(sealed[..20].to_vec())),
            (5, Some(seal(&new, 5, b"already new"))),
            (6, Some(Vec::new())),
            (7, None),
            (8, Some(seal(&third_new, 8, b"third, new format"))),
        ];
        for (id, value) in &cases {
            let statement = format!("UPDATE {name} SET a = $2 WHERE id = $1");
            database.client.execute(&statement, &[id, value]).await.expect("updates");
        }
        let outcome = engine(&database, &plan, options()).run().await.expect("runs");
        let tally = outcome.tallies[0];
        assert_balanced(&outcome);
        // A rewritten row may land in a block that is read later, so the account may see more rows than there are;
        // the proof counts each once.
        assert_eq!(tally.rewritten, 992, "{tally:?}");
        let found = outcome.proof.columns[0];
        assert_eq!([outcome.tallies[1].rewritten, outcome.tallies[2].rewritten], [1_000; 2]);
        assert_eq!((outcome.quarantined(), outcome.proof.empty()), (5, 1));
        let bad = found;
        assert_eq!(bad.left.of(Reason::Empty), 1);
        let unknown = if way == Way::Envelope { 1 } else { 0 };
        assert_eq!(bad.left.of(Reason::UnknownKey), unknown, "{bad:?}");
        // Untouched, byte for byte.
        for (id, value) in cases.iter().filter(|(id, _)| [1, 2, 3, 4, 6, 8].contains(id)) {
            let statement = format!("SELECT a FROM {name} WHERE id = $1");
            let row = database.client.query_one(&statement, &[id]).await.expect("reads");
            assert_eq!(row.get::<_, Option<Vec<u8>>>(0), *value, "row {id}");
        }
        let status = engine(&database, &plan, options()).status().await.expect("status").expect("known");
        assert_eq!(status.quarantine.total(), 6);
        let verification = engine(&database, &plan, options()).verify().await.expect("verifies");
        assert_eq!((verification.census.unopened(), verification.census.old()), (5, 0));
    }
}

/// What the application does to a row between our read and our write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Act {
    NewValueOldKey,
    NewValueNewKey,
    Null,
    Delete,
    OtherKey,
    OtherColumn,
    SlotReuse,
}

const ACTS: [Act; 7] = [
    Act::NewValueOldKey,
    Act::NewValueNewKey,
    Act::Null,
    Act::Delete,
    Act::OtherKey,
    Act::OtherColumn,
    Act::SlotReuse,
];

/// Acts on rows of each batch of the first pass, after it was read and sealed.
struct Racer {
    client: Client,
    old: Codec,
    new: Codec,
    next: AtomicU64,
    /// Row id to the plaintext of column `a` that must stand at the end.
    expected: Mutex<BTreeMap<i64, Option<Vec<u8>>>>,
}

impl Racer {
    async fn act(&self, act: Act, id: i64) {
        let value = format!("written by the application to row {id}").into_bytes();
        let update = "UPDATE clients SET a = $2 WHERE id = $1";
        let mut expected = None;
        match act {
            Act::NewValueOldKey => {
                self.client.execute(update, &[&id, &seal(&self.old, id, &value)]).await.expect("updates");
                expected = Some((id, Some(value)));
            }
            Act::NewValueNewKey => {
                self.client.execute(update, &[&id, &seal(&self.new, id, &value)]).await.expect("updates");
                expected = Some((id, Some(value)));
            }
            Act::Null => {
                self.client.execute(update, &[&id, &None::<Vec<u8>>]).await.expect("updates");
                expected = Some((id, None));
            }
            Act::Delete => {
                self.client.execute("DELETE FROM clients WHERE id = $1", &[&id]).await.expect("deletes");
            }
            Act::OtherKey => {
                let moved = id + 1_000_000;
                self.client
                    .execute("UPDATE clients SET id = $2 WHERE id = $1", &[&id, &moved])
                    .await
                    .expect("moves");
                expected = Some((moved, Some(plaintext(id, 0))));
            }
            Act::OtherColumn => {
                self.client
                    .execute("UPDATE clients SET note = 'seen' WHERE id = $1", &[&id])
                    .await
                    .expect("updates");
                expected = Some((id, Some(plaintext(id, 0))));
            }
            Act::SlotReuse => {
                // A copy of the row under another key lands where the row stood.
                let copy = id + 2_000_000;
                let values = self.client.query_one("SELECT a, b, c FROM clients WHERE id = $1", &[&id]).await;
                let values = values.expect("reads");
                self.client.execute("DELETE FROM clients WHERE id = $1", &[&id]).await.expect("deletes");
                self.client.batch_execute("VACUUM (TRUNCATE off) clients").await.expect("vacuums");
                let cells: [Vec<u8>; 3] = [values.get(0), values.get(1), values.get(2)];
                self.client
                    .execute(
                        "INSERT INTO clients VALUES ($1, $2, $3, $4)",
                        &[&copy, &cells[0], &cells[1], &cells[2]],
                    )
                    .await
                    .expect("inserts");
                expected = Some((copy, Some(plaintext(id, 0))));
            }
        }
        let mut rows = self.expected.lock().expect("no panic holds it");
        rows.remove(&id);
        rows.extend(expected);
    }
}

impl Observer for Racer {
    fn at<'a>(&'a self, moment: Moment, info: BatchInfo<'a>) -> BoxFuture<'a, ()> {
        async move {
            if moment != Moment::Sealed || info.span.pass > 1 {
                return;
            }
            for row in (0..info.batch.len()).step_by(23) {
                let id = info.batch.integer_key(row).expect("an integer key");
                if id <= 1_000_000 {
                    let turn = self.next.fetch_add(1, Ordering::SeqCst) as usize;
                    self.act(ACTS[turn % ACTS.len()], id).await;
                }
            }
        }
        .boxed()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn races_lose_no_write_of_the_application() {
    for way in [Way::SameFormat, Way::Envelope] {
        let database = Database::start().await;
        let plan = plan("clients", way);
        load(&database, &plan, 4_000).await;
        let racer = std::sync::Arc::new(Racer {
            client: database.connect().await,
            old: codec(&plan.columns[0].from, 0),
            new: codec(&plan.columns[0].to, 0),
            next: AtomicU64::new(0),
            expected: Mutex::new((1..=4_000).map(|id| (id, Some(plaintext(id, 0)))).collect()),
        });
        let options = reseal_engine::RunOptions { batch_rows_max: 400, workers: 1, ..options() };
        let engine = observed(&database, &plan, options, racer.clone());
        let outcome = engine.run().await.expect("runs");
        let races = racer.next.load(Ordering::SeqCst);
        assert!(races >= 150, "{races} races");
        assert_balanced(&outcome);
        assert!(outcome.tallies[0].missed > 0 && outcome.proof.old() == 0 && outcome.quarantined() == 0);

        let rows = database.client.query("SELECT id, a FROM clients ORDER BY id", &[]).await.expect("reads");
        let found: BTreeMap<i64, Option<Vec<u8>>> = rows
            .iter()
            .map(|row| {
                let (id, stored): (i64, Option<Vec<u8>>) = (row.get(0), row.get(1));
                (id, stored.map(|stored| open(&racer.new, id, &stored).expect("opens under the new key")))
            })
            .collect();
        assert!(
            found == *racer.expected.lock().expect("no panic holds it"),
            "{way:?}: the application's writes differ"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn locked_rows_are_passed_by_and_written_later() {
    let database = Database::start().await;
    let plan = plan("clients", Way::Envelope);
    load(&database, &plan, 3_000).await;
    let application = database.connect().await;
    application
        .batch_execute("BEGIN; UPDATE clients SET note = 'held' WHERE id IN (5, 700)")
        .await
        .expect("locks");
    let release = tokio::spawn(async move {
        tokio::time::sleep(std::time::Duration::from_millis(1500)).await;
        application.batch_execute("COMMIT").await.expect("the application is never a deadlock's victim");
        application
    });
    let outcome = engine(&database, &plan, options()).run().await.expect("runs");
    let _ = release.await;
    assert!(outcome.tallies[0].missed >= 2 && outcome.passes > 1, "{outcome:?}");
    assert_all_new(&database, &plan, 3_000).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn proof_waits_for_transactions_older_than_the_switch() {
    let database = Database::start().await;
    let plan = plan("clients", Way::Envelope);
    load(&database, &plan, 200).await;
    let late = database.connect().await;
    let value = seal(&codec(&plan.columns[0].from, 0), 201, &plaintext(201, 0));
    late.batch_execute("BEGIN").await.expect("begins");
    late.execute("INSERT INTO clients (id, a) VALUES (201, $1)", &[&value]).await.expect("inserts");
    let impatient =
        reseal_engine::RunOptions { proof_wait: std::time::Duration::from_millis(300), ..options() };
    let error = engine(&database, &plan, impatient).run().await.expect_err("the proof cannot be taken");
    assert_eq!(error.kind(), reseal_engine::ErrorKind::NeedsAttention);
    assert!(error.to_string().contains("session "), "{error}");
    late.batch_execute("COMMIT").await.expect("commits");
    let outcome = engine(&database, &plan, options()).run().await.expect("runs");
    assert_eq!((outcome.proof.old(), outcome.proof.columns[0].null, outcome.rewritten()), (0, 0, 601));
}
