//! Forced races on SQLite, at a tenth: the application acts over a connection of its own after the engine read a row
//! and before it writes it.

use std::collections::{BTreeMap, HashSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::future::{BoxFuture, FutureExt};
use reseal_engine::sqlite::SqliteStore;
use reseal_engine::{BatchInfo, Engine, Moment, Observer, RunId, RunOptions};
use reseal_sandbox::seal::Key;
use reseal_sandbox::values::Cell;
use reseal_tests::scheme::{Scheme, TwoKeys};
use rusqlite::Connection;

/// Races of each of the seven kinds: 1,001 together.
const EACH: usize = 143;
const ROWS: i64 = 200;
const KEY_SHIFT: i64 = 1_000_000;
const RUN: RunId = RunId([0x4B; 16]);

/// What the application does to a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Action {
    OldValue,
    NewValue,
    Null,
    Delete,
    ChangeKey,
    OtherColumn,
    /// Another row with the same rowid: even keys give way to another key with the same ciphertext, odd ones to the
    /// same key with another ciphertext.
    ReuseRowid,
}

/// What must stand in a row in the end.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Expected {
    id: i64,
    other: i64,
    a: Option<String>,
    b: String,
}

struct Actor {
    action: Action,
    connection: Mutex<Connection>,
    keys: TwoKeys,
    raced: HashSet<i64>,
    done: Mutex<BTreeMap<i64, Option<Expected>>>,
}

fn plaintext(column: usize, id: i64, version: u32) -> String {
    format!("{column} of {id:08} v{version}")
}

fn untouched(id: i64) -> Expected {
    Expected { id, other: 0, a: Some(plaintext(0, id, 0)), b: plaintext(1, id, 0) }
}

impl Observer for Actor {
    fn at<'a>(&'a self, moment: Moment, info: BatchInfo<'a>) -> BoxFuture<'a, ()> {
        let half = match moment {
            Moment::Read => Some(0),
            Moment::Sealed => Some(1),
            Moment::Written | Moment::Committed => None,
        };
        if let Some(half) = half.filter(|_| info.span.pass == 1) {
            for row in 0..info.batch.len() {
                let id = info.batch.integer_key(row).unwrap();
                if self.raced.contains(&id) && (id / 2) % 2 == half {
                    self.act(id);
                }
            }
        }
        std::future::ready(()).boxed()
    }
}

impl Actor {
    fn act(&self, id: i64) {
        let connection = self.connection.lock().unwrap();
        let set = |column: &str, value: &dyn rusqlite::ToSql| {
            let statement = format!("UPDATE race SET {column} = ?2 WHERE id = ?1");
            assert_eq!(connection.execute(&statement, (id, value)), Ok(1));
        };
        let new_value = |key| self.keys.seal(key, Cell { id, column: 0 }, &plaintext(0, id, 1));
        let changed = Expected { a: Some(plaintext(0, id, 1)), ..untouched(id) };
        let after = match self.action {
            Action::OldValue => {
                set("a", &new_value(Key::Old));
                Some(changed)
            }
            Action::NewValue => {
                set("a", &new_value(Key::New));
                Some(changed)
            }
            Action::Null => {
                set("a", &None::<Vec<u8>>);
                Some(Expected { a: None, ..untouched(id) })
            }
            Action::Delete => {
                assert_eq!(connection.execute("DELETE FROM race WHERE id = ?1", [id]), Ok(1));
                None
            }
            Action::ChangeKey => {
                set("id", &(id + KEY_SHIFT));
                Some(Expected { id: id + KEY_SHIFT, ..untouched(id) })
            }
            Action::OtherColumn => {
                set("other", &7);
                Some(Expected { other: 7, ..untouched(id) })
            }
            Action::ReuseRowid => Some(self.reuse(&connection, id, &changed)),
        };
        assert!(self.done.lock().unwrap().insert(id, after).is_none(), "a row is raced once");
    }

    fn reuse(&self, connection: &Connection, id: i64, changed: &Expected) -> Expected {
        let read = "SELECT rowid, a, b FROM race WHERE id = ?1";
        let row = |row: &rusqlite::Row<'_>| Ok((row.get(0)?, row.get(1)?, row.get(2)?));
        let (rowid, a, b): (i64, Vec<u8>, Vec<u8>) = connection.query_row(read, [id], row).unwrap();
        assert_eq!(connection.execute("DELETE FROM race WHERE id = ?1", [id]), Ok(1));
        let (after, a) = match id % 2 {
            0 => (Expected { id: id + KEY_SHIFT, ..untouched(id) }, a),
            _ => (changed.clone(), self.keys.seal(Key::Old, Cell { id, column: 0 }, &plaintext(0, id, 1))),
        };
        let insert = "INSERT INTO race (rowid, id, a, b) VALUES (?1, ?2, ?3, ?4)";
        assert_eq!(connection.execute(insert, (rowid, after.id, a, b)), Ok(1));
        assert_eq!(connection.last_insert_rowid(), rowid, "the new row has the rowid of the old one");
        after
    }
}

/// Loads a table, runs the engine over it while the application acts, and checks account and rows.
async fn every_race_is_settled(action: Action) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("app.db");
    let scheme = Scheme::aes_gcm_to_row_envelope();
    let keys = scheme.two_keys(2);
    let connection = Connection::open(&path).unwrap();
    connection.busy_timeout(Duration::from_secs(10)).unwrap();
    // INT, not INTEGER: the key is not the rowid.
    let table =
        "CREATE TABLE race (id INT PRIMARY KEY NOT NULL, other INT NOT NULL DEFAULT 0, a BLOB, b BLOB)";
    connection.execute_batch(table).unwrap();
    let transaction = connection.unchecked_transaction().unwrap();
    for id in 1..=ROWS {
        let value = |column| keys.seal(Key::Old, Cell { id, column }, &plaintext(column, id, 0));
        transaction
            .execute("INSERT INTO race (id, a, b) VALUES (?1, ?2, ?3)", (id, value(0), value(1)))
            .unwrap();
    }
    transaction.commit().unwrap();
    // 77 is prime to the number of rows: raced and quiet rows are mixed.
    let raced: HashSet<i64> = (1..=ROWS).filter(|id| ((id * 77) % ROWS) < EACH as i64).collect();
    let actor =
        Arc::new(Actor { action, connection: Mutex::new(connection), keys, raced, done: Mutex::default() });
    let job = scheme.job(scheme.plan(RUN, "main", "race", &["a", "b"]));
    let engine = Engine::new(SqliteStore::new(&path), job, RunOptions::default()).observed_by(actor.clone());
    let outcome = engine.run().await.unwrap();

    let races = actor.done.lock().unwrap().len();
    println!("{action:?}: {races} races, {:?}", outcome.tallies);
    assert_eq!(races, EACH);
    let [a, b] = [outcome.tallies[0], outcome.tallies[1]];
    // The row that changed in another column only is still what was read: it is written, and the change stays.
    let missed = if action == Action::OtherColumn { 0 } else { EACH as u64 };
    assert_eq!((a.missed, b.missed), (missed, missed));
    let (all, quiet) = (ROWS as u64, ROWS as u64 - EACH as u64);
    let rewritten = match action {
        Action::NewValue | Action::Null => (quiet, all),
        Action::Delete => (quiet, quiet),
        _ => (all, all),
    };
    assert_eq!((a.rewritten, b.rewritten), rewritten);
    assert_eq!((outcome.proof.old(), outcome.quarantined()), (0, 0));
    check_rows(&actor);
}

fn check_rows(actor: &Actor) {
    let done = actor.done.lock().unwrap();
    let expected = (1..=ROWS).filter_map(|id| done.get(&id).cloned().unwrap_or_else(|| Some(untouched(id))));
    let mut expected: Vec<Expected> = expected.collect();
    expected.sort_by_key(|row| row.id);
    let connection = actor.connection.lock().unwrap();
    let mut select = connection.prepare("SELECT id, other, a, b FROM race ORDER BY id").unwrap();
    let rows = select.query_map([], |row| {
        let id = row.get(0)?;
        let open = |column, stored: Option<Vec<u8>>| {
            let opened = actor.keys.open(Cell { id, column }, &stored?).expect("it opens under one key");
            assert_eq!(opened.key, Key::New, "row {id}");
            Some(String::from_utf8(opened.plaintext).unwrap())
        };
        let b = open(1, row.get(3)?).expect("no NULL");
        Ok(Expected { id, other: row.get(1)?, a: open(0, row.get(2)?), b })
    });
    let found: Vec<Expected> = rows.unwrap().map(Result::unwrap).collect();
    assert_eq!(found, expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn forced_race_sqlite_new_value_under_the_old_key() {
    every_race_is_settled(Action::OldValue).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn forced_race_sqlite_new_value_under_the_new_key() {
    every_race_is_settled(Action::NewValue).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn forced_race_sqlite_null() {
    every_race_is_settled(Action::Null).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn forced_race_sqlite_delete() {
    every_race_is_settled(Action::Delete).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn forced_race_sqlite_changed_primary_key() {
    every_race_is_settled(Action::ChangeKey).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn forced_race_sqlite_other_column_only() {
    every_race_is_settled(Action::OtherColumn).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn forced_race_sqlite_row_deleted_and_its_rowid_reused() {
    every_race_is_settled(Action::ReuseRowid).await;
}
