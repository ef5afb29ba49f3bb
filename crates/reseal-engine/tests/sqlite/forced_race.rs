//! Forced races: the application acts between our read and our write, on a second connection.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use crate::file::{File, value};
use crate::support::{Codecs, FERNET, GCM, GCM_TEXT, RESEAL, assert_balanced, open, plan, seal};
use futures_util::future::{BoxFuture, FutureExt};
use reseal_crypto::RowKey;
use reseal_engine::{BatchInfo, KeyCells, KeyType, Moment, Observer, RunPlan};
use reseal_formats::ColumnType;
use rusqlite::{Connection, params};

/// The key is not the rowid, so that a row can change its key and a rowid can find a new owner.
const SCHEMA: &str = "CREATE TABLE clients (code TEXT NOT NULL PRIMARY KEY COLLATE NOCASE, email TEXT, phone TEXT, \
     name BLOB, note TEXT NOT NULL DEFAULT '')";

/// Races of each kind: seven kinds make 1,001.
const EACH: usize = 143;
/// Rows that nobody touches between two that someone does.
const QUIET: usize = 3;

/// What the application does to a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Race {
    /// It replaces a value, under the old key.
    OldKey,
    /// It replaces a value, under the new key.
    NewKey,
    /// It sets a value to NULL.
    Null,
    Delete,
    /// It gives the row another primary key.
    Key,
    /// It writes another column only.
    Other,
    /// It deletes the row and inserts another with the same values, which gets the same rowid.
    Reuse,
}

const RACES: [Race; 7] =
    [Race::OldKey, Race::NewKey, Race::Null, Race::Delete, Race::Key, Race::Other, Race::Reuse];

/// What stands in a row by the application's own account: plaintexts and note.
type Ledger = BTreeMap<String, ([Option<Vec<u8>>; 3], String)>;

struct Racer {
    codecs: Codecs,
    state: Mutex<State>,
}

struct State {
    connection: Connection,
    due: BTreeMap<String, Race>,
    done: BTreeMap<Race, usize>,
    ledger: Ledger,
}

impl Observer for Racer {
    fn at<'a>(&'a self, moment: Moment, info: BatchInfo<'a>) -> BoxFuture<'a, ()> {
        if moment == Moment::Sealed {
            let KeyCells::Text(codes) = &info.batch.keys[0] else { panic!("the key is text") };
            let mut state = self.state.lock().expect("no panic while locked");
            for code in codes.iter().flatten() {
                let code = std::str::from_utf8(code).expect("text");
                if let Some(race) = state.due.remove(code) {
                    state.act(&self.codecs, code, race);
                }
            }
        }
        std::future::ready(()).boxed()
    }
}

impl State {
    fn act(&mut self, codecs: &Codecs, code: &str, race: Race) {
        *self.done.entry(race).or_default() += 1;
        let (mut cells, note) = self.ledger.remove(code).expect("every row is in the ledger");
        let text = |bytes| value(ColumnType::Text, bytes);
        let fresh = format!("written by the application to {code}").into_bytes();
        let row = RowKey::default().text(code);
        let update = |column: &str, value: rusqlite::types::Value| {
            let sql = format!("UPDATE clients SET {column} = ?2 WHERE code = ?1");
            assert_eq!(self.connection.execute(&sql, params![code, value]).expect("updates"), 1);
        };
        let renamed = format!("{code}-renamed");
        match race {
            Race::OldKey => {
                update("email", text(seal(&codecs.old[0], &row, &fresh)));
                cells[0] = Some(fresh);
            }
            Race::NewKey => {
                update("phone", text(seal(&codecs.new[1], &row, &fresh)));
                cells[1] = Some(fresh);
            }
            Race::Null => {
                update("name", rusqlite::types::Value::Null);
                cells[2] = None;
            }
            Race::Delete => {
                self.connection.execute("DELETE FROM clients WHERE code = ?1", [code]).expect("deletes");
                return;
            }
            Race::Key => {
                update("code", rusqlite::types::Value::Text(renamed.clone()));
                self.ledger.insert(renamed, (cells, note));
                return;
            }
            Race::Other => {
                update("note", rusqlite::types::Value::Text("called back".into()));
                self.ledger.insert(code.into(), (cells, "called back".into()));
                return;
            }
            Race::Reuse => {
                self.reuse(code, &renamed);
                self.ledger.insert(renamed, (cells, note));
                return;
            }
        }
        self.ledger.insert(code.into(), (cells, note));
    }

    fn reuse(&self, code: &str, renamed: &str) {
        let sql = "CREATE TEMP TABLE IF NOT EXISTS moved AS SELECT rowid AS old, * FROM clients WHERE 0; \
             DELETE FROM moved";
        self.connection.execute_batch(sql).expect("a temporary table");
        let all = [
            ("INSERT INTO moved SELECT rowid, * FROM clients WHERE code = ?1 AND ?2 = ?2", 1),
            ("DELETE FROM clients WHERE code = ?1 AND ?2 = ?2", 1),
            (
                "INSERT INTO clients (rowid, code, email, phone, name, note) \
                SELECT old, ?2, email, phone, name, note FROM moved WHERE code = ?1",
                1,
            ),
        ];
        for (sql, rows) in all {
            assert_eq!(self.connection.execute(sql, [code, renamed]).expect(sql), rows);
        }
    }
}

fn code(number: usize) -> String {
    format!("client-{number:05}")
}

fn clients() -> RunPlan {
    let columns = [
        ("email", ColumnType::Text, FERNET, FERNET),
        ("phone", ColumnType::Text, GCM_TEXT, RESEAL),
        ("name", ColumnType::Bytes, GCM, RESEAL),
    ];
    plan("clients", &[("code", KeyType::Text)], &columns)
}

fn load(file: &File, plan: &RunPlan, codecs: &Codecs, rows: usize) -> Ledger {
    let mut ledger = Ledger::new();
    file.execute("BEGIN");
    for number in 0..rows {
        let code = code(number);
        let row = RowKey::default().text(&code);
        let plain: [Vec<u8>; 3] = [0, 1, 2].map(|column| format!("{code} column {column}").into_bytes());
        let cell = |column: usize| {
            value(plan.columns[column].column_type, seal(&codecs.old[column], &row, &plain[column]))
        };
        file.connection
            .execute(
                "INSERT INTO clients VALUES (?1, ?2, ?3, ?4, '')",
                params![code, cell(0), cell(1), cell(2)],
            )
            .expect("inserts");
        ledger.insert(code, (plain.map(Some), String::new()));
    }
    file.execute("COMMIT");
    ledger
}

/// Asserts that the table is what the ledger says, under the new key and not under the old.
fn assert_holds(file: &File, codecs: &Codecs, ledger: &Ledger) {
    let mut statement =
        file.connection.prepare("SELECT code, email, phone, name, note FROM clients").expect("prepares");
    let mut rows = statement.query([]).expect("reads");
    let mut found = 0;
    while let Some(row) = rows.next().expect("reads") {
        found += 1;
        let code: String = row.get(0).expect("text");
        let (plain, note) = ledger.get(&code).unwrap_or_else(|| panic!("{code} should not be there"));
        assert_eq!(&row.get::<_, String>(4).expect("text"), note, "{code}");
        for (column, plain) in plain.iter().enumerate() {
            let stored = row.get_ref(column + 1).expect("a cell").as_bytes_or_null().expect("bytes");
            let key = RowKey::default().text(&code);
            let opened = stored
                .map(|stored| open(&codecs.new[column], &key, stored).expect("opens under the new key"));
            assert_eq!(&opened, plain, "{code}, column {column}");
            assert!(stored.is_none_or(|stored| open(&codecs.old[column], &key, stored).is_none()), "{code}");
        }
    }
    assert_eq!(found, ledger.len());
}

#[tokio::test(flavor = "multi_thread")]
async fn forced_race_sqlite() {
    let (file, plan) = (File::new(SCHEMA), clients());
    let codecs = Codecs::new(&plan);
    let rows = RACES.len() * EACH * (QUIET + 1);
    let ledger = load(&file, &plan, &codecs, rows);
    let due = (0..rows).step_by(QUIET + 1).zip(RACES.iter().cycle());
    let due: BTreeMap<String, Race> = due.map(|(number, race)| (code(number), *race)).collect();
    assert_eq!(due.len(), 1_001);
    let state = Mutex::new(State { connection: file.connect(), due, done: BTreeMap::new(), ledger });
    let racer = Arc::new(Racer { codecs: Codecs::new(&plan), state });
    let outcome = file.engine(&plan).observed_by(racer.clone()).run().await.expect("runs");

    let state = racer.state.lock().expect("no panic while locked");
    assert_eq!(state.done, RACES.map(|race| (race, EACH)).into(), "every race was run");
    assert_holds(&file, &codecs, &state.ledger);
    assert_balanced(&outcome);
    let each = EACH as u64;
    // Another column alone does not concern us; everything else is missed once, with all columns of the row.
    let missed = 6 * each;
    assert!(outcome.tallies.iter().all(|tally| tally.missed == missed), "{:?}", outcome.tallies);
    // The second pass finds what is left: not the deleted rows, not the new value, not the NULL.
    let alive = rows as u64 - each;
    let rewritten: Vec<u64> = outcome.tallies.iter().map(|tally| tally.rewritten).collect();
    assert_eq!(rewritten, [alive, alive - each, alive - each]);
    assert_eq!(outcome.passes, 2);
    assert_eq!(outcome.quarantined(), 0);
}

/// Writes a value that only a comparison of bytes tells from the one that was read.
struct Capitals {
    connection: Mutex<Option<Connection>>,
}

impl Observer for Capitals {
    fn at<'a>(&'a self, moment: Moment, _info: BatchInfo<'a>) -> BoxFuture<'a, ()> {
        if moment == Moment::Sealed
            && let Some(connection) = self.connection.lock().expect("no panic while locked").take()
        {
            let sql = "UPDATE clients SET phone = upper(phone), note = 'shouted' WHERE code = 'client-00003'";
            assert_eq!(connection.execute(sql, []).expect("updates"), 1);
        }
        std::future::ready(()).boxed()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn forced_race_sqlite_compares_bytes_where_the_column_ignores_case() {
    let schema = SCHEMA.replace("phone TEXT", "phone TEXT COLLATE NOCASE");
    let (file, plan) = (File::new(&schema), clients());
    let codecs = Codecs::new(&plan);
    load(&file, &plan, &codecs, 50);
    let observer = Capitals { connection: Mutex::new(Some(file.connect())) };
    let outcome = file.observed(&plan, observer).run().await.expect("runs");
    assert_eq!(outcome.quarantined(), 1, "what the application wrote opens under no key");
    let sql = "SELECT count(*) FROM clients WHERE note = 'shouted' AND phone = upper(phone) COLLATE BINARY";
    assert_eq!(file.count(sql), 1, "the application's write stands");
    assert_eq!(outcome.tallies[1].missed, 1);
}
