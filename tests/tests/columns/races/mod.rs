//! One table, one run, one kind of race.

mod actor;
mod slots;

use std::sync::Arc;
use std::time::Duration;

use reseal_engine::postgres::{PostgresStore, PostgresTarget};
use reseal_engine::{Engine, Outcome, RunId, RunOptions, Tally};
use reseal_sandbox::postgres::{Options, Server};
use reseal_sandbox::seal::{Key, Sealer};
use reseal_sandbox::values::Cell;
use reseal_tests::scheme::{Scheme, TwoKeys};
use tokio_postgres::Client;

use actor::Actor;

/// Races of each of the seven kinds: 10,003 together.
const EACH: usize = 1429;
/// Rows that nobody touches, so that both outcomes occur in every batch.
const QUIET: usize = 200;
/// Prime to the number of rows, so that raced and quiet rows are mixed.
const STRIDE: usize = 7919;
/// What the application adds to a primary key.
const KEY_SHIFT: i64 = 1_000_000;
const RUN: RunId = RunId([0x4A; 16]);

/// What the application does to a row between the engine's read and its write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Action {
    /// A new value under the old key.
    OldValue,
    /// A new value under the new key.
    NewValue,
    /// The value becomes NULL.
    Null,
    /// The row goes.
    Delete,
    /// The row gets another primary key.
    ChangeKey,
    /// Another column than the encrypted ones changes.
    OtherColumn,
    /// The row goes and one with another key and the same ciphertext takes its place.
    ReuseSlotByAnother,
    /// The row goes and one with the same key and another ciphertext takes its place.
    ReuseSlotBySame,
    /// A new value under the old key in a transaction that is still open when the engine writes.
    Hold,
}

impl Action {
    /// How many rows it is done to. Both ways of reusing a slot are one kind.
    pub(crate) fn races(self) -> usize {
        match self {
            Self::ReuseSlotByAnother => EACH / 2,
            Self::ReuseSlotBySame => EACH.div_ceil(2),
            _ => EACH,
        }
    }

    fn reuses_slots(self) -> bool {
        matches!(self, Self::ReuseSlotByAnother | Self::ReuseSlotBySame)
    }
}

/// What must stand in a row in the end.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Expected {
    id: i64,
    other: i32,
    /// Plaintext of column `a`; `None` is NULL.
    a: Option<String>,
    b: String,
    /// The bytes that the application wrote into `a` and that nobody may change.
    a_bytes: Option<Vec<u8>>,
}

/// A race that is over.
pub(crate) struct Contest {
    action: Action,
    rows: usize,
    server: Server,
    keys: Arc<TwoKeys>,
    actor: Arc<Actor>,
    outcome: Outcome,
}

impl Contest {
    /// Loads the table and runs the engine over it while the application acts.
    pub(crate) async fn run(action: Action) -> Self {
        let server = Server::start(Options::default().set("autovacuum", "off"));
        let server = server.unwrap_or_else(|error| panic!("{error}"));
        let scheme = Scheme::aes_gcm_to_row_envelope();
        let keys = Arc::new(scheme.two_keys(2));
        let client = server.connect().await.unwrap();
        let rows = load(&client, &keys, action.races() + QUIET).await;
        let raced = (1..=rows as i64).filter(|id| (*id as usize * STRIDE) % rows < action.races()).collect();
        let actor = Arc::new(Actor::new(action, server.connect().await.unwrap(), keys.clone(), raced));
        let target = PostgresTarget::parse(&server.url(), None).unwrap();
        let options = RunOptions {
            // One: a snapshot of another would keep VACUUM from freeing slots, and one transaction is held at a time.
            workers: if action.reuses_slots() || action == Action::Hold { 1 } else { 2 },
            proof_wait: Duration::from_secs(20),
            ..RunOptions::default()
        };
        let job = scheme.job(scheme.plan(RUN, "public", "race", &["a", "b"]));
        let engine = Engine::new(PostgresStore::new(target), job, options).observed_by(actor.clone());
        let outcome = engine.run().await.unwrap();
        Self { action, rows, server, keys, actor, outcome }
    }

    /// The engine counted each race once, as what it was.
    pub(crate) fn check_account(&self) {
        let acted = self.actor.acted();
        println!("{:?}: {acted} races, {:?}", self.action, self.outcome.tallies);
        let races = self.action.races();
        assert_eq!(acted, races, "every race took place");
        let [a, b] = [self.outcome.tallies[0], self.outcome.tallies[1]];
        let missed = |tally: Tally| tally.missed as usize;
        assert_eq!((missed(a), missed(b)), (races, races), "each raced row is missed once, and no other");
        let rewritten = (a.rewritten as usize, b.rewritten as usize);
        let quiet = self.rows - races;
        let expected = match self.action {
            Action::NewValue | Action::Null => (quiet, self.rows),
            Action::Delete => (quiet, quiet),
            _ => (self.rows, self.rows),
        };
        assert_eq!(rewritten, expected, "what was missed and is still old is rewritten by a later pass");
        let only = |action| if self.action == action { races as u64 } else { 0 };
        assert_eq!((a.already_new, b.already_new), (only(Action::NewValue), 0));
        assert_eq!((a.null, b.null), (only(Action::Null), 0));
        assert_eq!((self.outcome.proof.old(), self.outcome.quarantined()), (0, 0));
    }

    /// Every row is what the application made it, under the new key.
    pub(crate) async fn check_table(&self) {
        let client = self.server.connect().await.unwrap();
        let found = client.query("SELECT id, other, a, b FROM race ORDER BY id", &[]).await.unwrap();
        let mut expected: Vec<Expected> =
            (1..=self.rows as i64).filter_map(|id| self.actor.expected(id)).collect();
        expected.sort_by_key(|row| row.id);
        assert_eq!(found.len(), expected.len());
        for (row, expected) in found.iter().zip(expected) {
            let (id, a, b): (i64, Option<&[u8]>, Option<&[u8]>) = (row.get(0), row.get(2), row.get(3));
            assert_eq!((id, row.get::<_, i32>(1)), (expected.id, expected.other));
            let open = |column, stored: Option<&[u8]>| {
                let stored = stored?;
                let opened = self.keys.open(Cell { id, column }, stored);
                let opened = opened.unwrap_or_else(|| panic!("{:?}: row {id} does not open", self.action));
                assert_eq!(opened.key, Key::New, "row {id}");
                Some(String::from_utf8(opened.plaintext).unwrap())
            };
            assert_eq!(open(0, a), expected.a, "{:?}: row {id}", self.action);
            assert_eq!(open(1, b), Some(expected.b), "{:?}: row {id}", self.action);
            if let Some(bytes) = expected.a_bytes {
                assert_eq!(a, Some(&bytes[..]), "the engine changed what the application wrote");
            }
        }
    }
}

/// A plaintext; all have the same length, so that all rows have the same size.
fn plaintext(column: usize, id: i64, version: u32) -> String {
    format!("{column} of {id:08} v{version}")
}

/// Fills the table with at least so many rows, so that every page is full; returns their number.
async fn load(client: &Client, keys: &TwoKeys, least: usize) -> usize {
    let table = "CREATE TABLE race (id int8 PRIMARY KEY, other int4 NOT NULL DEFAULT 0, a bytea, b bytea)";
    client.batch_execute(table).await.unwrap();
    insert(client, keys, least).await;
    let first_page = "SELECT count(*) FROM race WHERE ctid < '(1,0)'::tid";
    let per_page = client.query_one(first_page, &[]).await.unwrap().get::<_, i64>(0) as usize;
    client.batch_execute("TRUNCATE race").await.unwrap();
    let rows = least.next_multiple_of(per_page);
    insert(client, keys, rows).await;
    client.batch_execute("VACUUM ANALYZE race").await.unwrap();
    rows
}

async fn insert(client: &Client, keys: &TwoKeys, rows: usize) {
    let ids: Vec<i64> = (1..=rows as i64).collect();
    let column = |column| {
        let plain: Vec<String> = ids.iter().map(|id| plaintext(column, *id, 0)).collect();
        let cells = ids.iter().map(|id| Cell { id: *id, column });
        let values: Vec<(Cell, &str)> = cells.zip(plain.iter().map(String::as_str)).collect();
        keys.seal_many(Key::Old, &values).unwrap()
    };
    let statement = "INSERT INTO race (id, a, b) SELECT * FROM unnest($1::int8[], $2::bytea[], $3::bytea[])";
    client.execute(statement, &[&ids, &column(0), &column(1)]).await.unwrap();
}
