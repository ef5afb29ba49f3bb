//! `kill -9` of the engine on SQLite, with the transaction of a batch open and at other moments, while the application
//! writes to the same file.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use reseal_engine::sqlite::SqliteStore;
use reseal_engine::{Engine, RunId, RunOptions};
use reseal_sandbox::seal::{Key, Sealer};
use reseal_sandbox::values::Cell;
use reseal_tests::process::EngineProcess;
use reseal_tests::protocol::{Assignment, Line, Places};
use reseal_tests::random::{Random, seed};
use reseal_tests::scheme::{Scheme, TwoKeys};
use rusqlite::Connection;

const ROWS: u64 = 20_000;
const KILLS: u32 = 6;
const RUN: RunId = RunId([0x5C; 16]);

/// Which version of its plaintext each cell of a row holds, or NULL; no entry: the row is gone.
type Rows = BTreeMap<i64, [Option<u64>; 2]>;

fn plaintext(cell: Cell, version: u64) -> String {
    format!("column {} of row {}, version {version}", cell.column, cell.id)
}

fn open(path: &Path) -> Connection {
    let connection = Connection::open(path).unwrap();
    connection.busy_timeout(Duration::from_secs(20)).unwrap();
    connection
}

fn seal(keys: &TwoKeys, key: Key, cell: Cell, version: u64) -> String {
    String::from_utf8(keys.seal(key, cell, &plaintext(cell, version))).unwrap()
}

/// The table, and a trigger that logs what the engine writes: it alone leaves `version` as it is.
fn load(path: &Path, keys: &TwoKeys) -> Rows {
    let connection = open(path);
    let schema = "CREATE TABLE clients (id INTEGER PRIMARY KEY, version INTEGER NOT NULL, a TEXT, b TEXT);
        CREATE TABLE probe (id INTEGER, col TEXT, before TEXT, after TEXT);
        CREATE TRIGGER probe BEFORE UPDATE ON clients WHEN NEW.version IS OLD.version BEGIN
            INSERT INTO probe SELECT OLD.id, 'a', OLD.a, NEW.a WHERE OLD.a IS NOT NEW.a;
            INSERT INTO probe SELECT OLD.id, 'b', OLD.b, NEW.b WHERE OLD.b IS NOT NEW.b;
        END;";
    connection.execute_batch(schema).unwrap();
    let transaction = connection.unchecked_transaction().unwrap();
    for id in 1..=ROWS as i64 {
        let value = |column| seal(keys, Key::Old, Cell { id, column }, 0);
        transaction.execute("INSERT INTO clients VALUES (?1, 0, ?2, ?3)", (id, value(0), value(1))).unwrap();
    }
    transaction.commit().unwrap();
    (1..=ROWS as i64).map(|id| (id, [Some(0); 2])).collect()
}

/// The application: one thread that remembers what it wrote.
struct Application {
    key: Arc<Mutex<Key>>,
    ended: Arc<AtomicBool>,
    thread: JoinHandle<(Rows, u64)>,
}

impl Application {
    fn start(path: PathBuf, keys: Arc<TwoKeys>, mut rows: Rows, seed: u64) -> Self {
        let (key, ended) = (Arc::new(Mutex::new(Key::Old)), Arc::new(AtomicBool::new(false)));
        let (ours, over) = (key.clone(), ended.clone());
        let thread = std::thread::spawn(move || {
            let connection = open(&path);
            let mut random = Random::new(seed);
            let mut version = 0;
            while !over.load(Ordering::SeqCst) {
                version += 1;
                // Held until the commit: who changes the key knows that no older write is under way.
                let key = ours.lock().unwrap();
                write(&connection, &keys, *key, &mut rows, &mut random, version);
                drop(key);
                std::thread::sleep(Duration::from_millis(4));
            }
            (rows, version)
        });
        Self { key, ended, thread }
    }

    fn switch(&self) {
        *self.key.lock().unwrap() = Key::New;
    }

    fn stop(self) -> (Rows, u64) {
        self.ended.store(true, Ordering::SeqCst);
        self.thread.join().unwrap()
    }
}

fn write(
    connection: &Connection,
    keys: &TwoKeys,
    key: Key,
    rows: &mut Rows,
    random: &mut Random,
    version: u64,
) {
    let id = 1 + random.below(ROWS) as i64;
    let now = version as i64;
    let changed = match (rows.contains_key(&id), random.below(20)) {
        (false, _) | (_, 0..=3) => {
            let id = rows.keys().next_back().copied().unwrap_or(0).max(ROWS as i64) + 1;
            let value = |column| seal(keys, key, Cell { id, column }, version);
            rows.insert(id, [Some(version); 2]);
            connection.execute("INSERT INTO clients VALUES (?1, ?2, ?3, ?4)", (id, now, value(0), value(1)))
        }
        (_, 4..=6) => {
            rows.remove(&id);
            connection.execute("DELETE FROM clients WHERE id = ?1", [id])
        }
        (_, 7) => {
            rows.get_mut(&id).unwrap()[1] = None;
            connection.execute("UPDATE clients SET version = ?2, b = NULL WHERE id = ?1", (id, now))
        }
        _ => {
            rows.get_mut(&id).unwrap()[0] = Some(version);
            let value = seal(keys, key, Cell { id, column: 0 }, version);
            connection.execute("UPDATE clients SET version = ?2, a = ?3 WHERE id = ?1", (id, now, value))
        }
    };
    assert_eq!(changed, Ok(1));
}

/// The key that opens a value, and its plaintext.
type Opened = Option<(Key, Vec<u8>)>;

/// Every value of the file, with the key that opens it; every one opens under exactly one.
fn scan(path: &Path, keys: &TwoKeys) -> BTreeMap<i64, [Opened; 2]> {
    let connection = open(path);
    let mut select = connection.prepare("SELECT id, a, b FROM clients").unwrap();
    let rows = select.query_map([], |row| Ok((row.get(0)?, [row.get(1)?, row.get(2)?]))).unwrap();
    let rows: Vec<(i64, [Option<String>; 2])> = rows.map(Result::unwrap).collect();
    let cells: Vec<(Cell, &[u8])> = rows
        .iter()
        .flat_map(|(id, cells)| {
            let cells = cells.iter().enumerate();
            cells.filter_map(|(column, cell)| Some((Cell { id: *id, column }, cell.as_deref()?.as_bytes())))
        })
        .collect();
    let mut found: BTreeMap<_, _> = rows.iter().map(|(id, _)| (*id, [None, None])).collect();
    for ((cell, _), opened) in cells.iter().zip(keys.open_many(&cells)) {
        let opened = opened.unwrap_or_else(|| panic!("{cell:?} opens under no key or under both"));
        found.get_mut(&cell.id).unwrap()[cell.column] = Some((opened.key, opened.plaintext));
    }
    found
}

/// Values that the engine wrote, and those that it wrote twice, by the test's own trigger.
fn probe(path: &Path) -> (u64, u64) {
    let connection = open(path);
    let count =
        |statement: &str| connection.query_row(statement, [], |row| row.get::<_, i64>(0)).unwrap() as u64;
    let twice =
        "SELECT count(*) FROM probe x JOIN probe y ON y.id = x.id AND y.col = x.col AND y.before = x.after";
    (count("SELECT count(*) FROM probe"), count(twice))
}

/// What the engine's own account says was rewritten.
async fn accounted(path: &Path, scheme: &Scheme) -> u64 {
    let job = scheme.job(scheme.plan(RUN, "main", "clients", &["a", "b"]));
    let status = Engine::new(SqliteStore::new(path), job, RunOptions::default()).status().await.unwrap();
    let spans = status.expect("the file knows the run").spans;
    spans.iter().flat_map(|span| &span.tallies).map(|tally| tally.rewritten).sum()
}

#[tokio::test(flavor = "multi_thread")]
async fn kill_engine_sqlite_while_the_application_writes() {
    let seed = seed();
    let mut random = Random::new(seed);
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("app.db");
    let scheme = Scheme::fernet_to_envelope();
    let keys = Arc::new(scheme.two_keys(2));
    let rows = load(&path, &keys);
    let application = Application::start(path.clone(), keys.clone(), rows, seed);
    let mut switched = false;
    let assignment = |switched, hold_at| Assignment {
        database: path.to_str().unwrap().to_owned(),
        scheme: scheme.clone(),
        plan: scheme.plan(RUN, "main", "clients", &["a", "b"]),
        workers: 1,
        batch_rows_max: 200,
        switched,
        hold_at,
    };
    let program = Path::new(env!("CARGO_BIN_EXE_engine_process"));

    let mut committed: Vec<Places> = Vec::new();
    for kill in 0..KILLS {
        // Every second kill inside the transaction of a batch, the others a little after a commit.
        let batch = 4 + random.below(6);
        let hold_at = (kill % 2 == 0).then_some(batch);
        let mut engine = EngineProcess::start(program, &assignment(switched, hold_at));
        let mut left = batch;
        let reached = engine.listen_until(|line| match line {
            Line::Held(_) => true,
            Line::Committed(_) => {
                left = left.saturating_sub(1);
                left == 0
            }
            _ => false,
        });
        assert!(reached, "the engine ended before it was killed: {:?}", engine.heard.last());
        std::thread::sleep(Duration::from_micros(random.below(20_000)));
        engine.kill_9();
        let found = scan(&path, &keys);
        let under = |key| found.values().flatten().flatten().filter(|(by, _)| *by == key).count();
        println!("seed {seed}: kill {}, {} old, {} new", kill + 1, under(Key::Old), under(Key::New));
        assert!(under(Key::Old) > 0 && under(Key::New) > 0, "the kill came amid the run");
        let (written, twice) = probe(&path);
        assert_eq!(
            (accounted(&path, &scheme).await, twice),
            (written, 0),
            "rows and account belong together"
        );
        note(&mut committed, &engine.heard);
        if kill == 2 {
            application.switch();
            switched = true;
        }
    }
    let mut engine = EngineProcess::start(program, &assignment(switched, None));
    let last = engine.finish();
    let Line::Done { rewritten, old: 0, quarantined: 0, .. } = last else { panic!("{last:?}") };
    note(&mut committed, &engine.heard);
    assert_eq!(probe(&path), (rewritten, 0));

    let (rows, writes) = application.stop();
    let found = scan(&path, &keys);
    println!("seed {seed}: {writes} writes of the application, {} rows", found.len());
    assert!(writes > 100);
    assert!(found.keys().eq(rows.keys()), "every insert and every delete lasts");
    for (id, cells) in rows {
        for (column, version) in cells.into_iter().enumerate() {
            let expected =
                version.map(|version| (Key::New, plaintext(Cell { id, column }, version).into_bytes()));
            assert_eq!(found[&id][column], expected, "row {id}, column {column}");
        }
    }
}

/// Rows that were committed in the first pass are not read again by a later process.
fn note(committed: &mut Vec<Places>, heard: &[Line]) {
    let before = committed.clone();
    for line in heard {
        match line {
            Line::Read(batch) if batch.pass == 1 => {
                let again = |places: Places| before.iter().any(|done| places.overlaps(done));
                assert!(!batch.places.is_some_and(again), "committed rows were read again: {batch:?}");
            }
            Line::Committed(batch) if batch.pass == 1 => committed.extend(batch.places),
            _ => {}
        }
    }
}
