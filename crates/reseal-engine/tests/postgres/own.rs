//! What the proof reads where the format does not name its key: what others wrote, and all that cannot be told apart
//! from it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::common::*;
use reseal_engine::{Engine, Event, Observer, RunPlan};

const ROWS: i64 = 2_000;

/// Counts the rows that proofs read.
#[derive(Default)]
struct Checked(AtomicU64);

impl Observer for Checked {
    fn event(&self, event: Event) {
        if let Event::Checked { rows } = event {
            self.0.fetch_add(rows, Ordering::SeqCst);
        }
    }
}

impl Checked {
    /// Since it was asked last.
    fn rows(&self) -> u64 {
        self.0.swap(0, Ordering::SeqCst)
    }
}

async fn loaded() -> (Database, RunPlan) {
    let database = Database::start().await;
    let plan = plan("clients", Way::SameFormat);
    load(&database, &plan, ROWS).await;
    (database, plan)
}

fn counted(database: &Database, plan: &RunPlan) -> (Engine, Arc<Checked>) {
    let checked = Arc::new(Checked::default());
    (observed(database, plan, options(), checked.clone()), checked)
}

#[tokio::test(flavor = "multi_thread")]
async fn proof_reads_rows_of_others() {
    let (database, plan) = loaded().await;
    let (engine, checked) = counted(&database, &plan);
    engine.run().await.expect("proves");
    assert_eq!(checked.rows(), 0);

    // The application writes three values under the old key, and something else in two rows.
    let old = codec(&plan.columns[0].from, 0);
    for id in [1, 1_000, ROWS] {
        let value = seal(&old, id, &plaintext(id, 0));
        let update = "UPDATE clients SET a = $2 WHERE id = $1";
        database.client.execute(update, &[&id, &value]).await.expect("updates");
    }
    database.execute("UPDATE clients SET note = 'called' WHERE id IN (7, 1999)").await;
    // Neither takes the writing transaction from a row.
    database.execute("VACUUM (FREEZE) clients").await;
    let outcome = engine.run().await.expect("goes on");
    assert_eq!(checked.rows(), 5 + 2);
    assert_eq!((outcome.proof.old(), outcome.rewritten()), (0, 3 * ROWS as u64 + 3));
    assert_all_new(&database, &plan, ROWS).await;

    let (other, checked) = counted(&database, &plan);
    other.run().await.expect("proves again");
    assert_eq!(checked.rows(), ROWS as u64, "another process knows no row as its own");
}

#[tokio::test(flavor = "multi_thread")]
async fn proof_reads_rows_that_keep_a_value() {
    let (database, plan) = loaded().await;
    database.execute("UPDATE clients SET b = '\\x00' WHERE id = 77").await;
    let (engine, checked) = counted(&database, &plan);
    let outcome = engine.run().await.expect("proves");
    assert_eq!(
        (outcome.quarantined(), outcome.proof.old(), outcome.rewritten()),
        (1, 0, 3 * ROWS as u64 - 1)
    );
    let read = checked.rows();
    assert!(read > 0 && read < ROWS as u64, "the batch of that row is read, and no other: {read}");
}

/// Triggers write in the transaction of a batch, and what they write is nobody's to vouch for.
async fn assert_copies_are_rewritten(statements: &str) {
    let (database, plan) = loaded().await;
    database.execute(statements).await;
    engine(&database, &plan, options()).run().await.expect("proves");
    let new = codec(&plan.columns[0].to, 0);
    let rows = database.client.query("SELECT id, a FROM clients", &[]).await.expect("reads");
    assert!(rows.len() as i64 > ROWS);
    for row in rows {
        let id: i64 = row.get(0);
        assert!(open(&new, id, row.get(1)).is_some(), "{id} is under the new key");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn proof_reads_rows_that_a_trigger_made() {
    assert_copies_are_rewritten(
        "CREATE FUNCTION keep() RETURNS trigger LANGUAGE plpgsql AS
             'BEGIN INSERT INTO public.clients (id, a) VALUES (OLD.id + 1000000, OLD.a); RETURN NULL; END';
         CREATE TRIGGER keep AFTER UPDATE ON clients FOR EACH ROW WHEN (OLD.id < 20) EXECUTE FUNCTION keep()",
    )
    .await;
}

/// What follows a column of `clients`, by the statements that make it one to refer to, adds rows to it.
async fn assert_rows_of_a_cascade_are_rewritten(statements: &str, column: &str) {
    assert_copies_are_rewritten(&format!(
        "{statements};
         CREATE TABLE copies AS SELECT id, a, {column} AS referred FROM clients WHERE id < 20;
         ALTER TABLE copies ADD FOREIGN KEY (referred) REFERENCES clients ({column}) ON UPDATE CASCADE;
         CREATE FUNCTION keep() RETURNS trigger LANGUAGE plpgsql AS
             'BEGIN INSERT INTO public.clients (id, a) SELECT max(id) + 1, OLD.a FROM public.clients; RETURN NULL; END';
         CREATE TRIGGER keep AFTER UPDATE ON copies FOR EACH ROW EXECUTE FUNCTION keep()"
    ))
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn proof_reads_rows_that_a_cascade_made() {
    assert_rows_of_a_cascade_are_rewritten("ALTER TABLE clients ADD UNIQUE (a)", "a").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn proof_reads_rows_that_a_cascade_from_a_computed_column_made() {
    let computed = "ALTER TABLE clients ADD digest text GENERATED ALWAYS AS (md5(a)) STORED UNIQUE";
    assert_rows_of_a_cascade_are_rewritten(computed, "digest").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn proof_reads_columns_that_took_a_name_over() {
    let (database, plan) = loaded().await;
    database.execute("ALTER TABLE clients ADD a_before bytea; UPDATE clients SET a_before = a").await;
    let (engine, checked) = counted(&database, &plan);
    engine.run().await.expect("proves");
    assert_eq!(checked.rows(), 0);
    // No row is written by this, and every value of `a` is an old one.
    database
        .execute("ALTER TABLE clients RENAME a TO a_after; ALTER TABLE clients RENAME a_before TO a")
        .await;
    let outcome = engine.run().await.expect("goes on");
    assert_eq!((outcome.proof.old(), outcome.rewritten()), (0, 4 * ROWS as u64));
    assert_all_new(&database, &plan, ROWS).await;
}
