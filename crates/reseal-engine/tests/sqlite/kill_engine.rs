//! The engine killed with SIGKILL, also while a batch's transaction is open, beside an application that writes.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

use futures_util::future::{BoxFuture, FutureExt};
use reseal_crypto::RowKey;
use reseal_engine::sqlite::SqliteStore;
use reseal_engine::{BatchInfo, Engine, Moment, Observer, RunOptions, RunPlan};
use reseal_formats::ColumnType;
use rusqlite::{Connection, params};

use crate::file::{CLIENTS, File, clients, plaintext, value};
use crate::support::{Codecs, job, open, seal};

/// Tells the child of this test which file to work on; the plan stands beside it.
const CHILD: &str = "RESEAL_TEST_CHILD_FILE";
const ROWS: i64 = 12_000;
/// Kills, by turns inside a batch's transaction and after its commit.
const KILLS: u64 = 8;

/// Counts what the engine rewrites: the application counts its own writes in `version`.
const COUNT_REWRITES: &str = "CREATE TABLE rewrites (id INTEGER, field TEXT, version INTEGER); \
     CREATE TRIGGER count_phone AFTER UPDATE OF phone ON clients \
     WHEN OLD.version = NEW.version AND OLD.phone IS NOT NEW.phone \
     BEGIN INSERT INTO rewrites VALUES (NEW.id, 'phone', NEW.version); END; \
     CREATE TRIGGER count_name AFTER UPDATE OF name ON clients \
     WHEN OLD.version = NEW.version AND OLD.name IS NOT NEW.name \
     BEGIN INSERT INTO rewrites VALUES (NEW.id, 'name', NEW.version); END;";

/// Says where it is, and waits there for its death.
struct Stops {
    batches_left: AtomicI64,
    moment: Moment,
}

impl Observer for Stops {
    fn at<'a>(&'a self, moment: Moment, _info: BatchInfo<'a>) -> BoxFuture<'a, ()> {
        if moment != self.moment || self.batches_left.fetch_sub(1, Ordering::Relaxed) > 1 {
            return std::future::ready(()).boxed();
        }
        // Read by the parent; the test harness takes what `println` writes.
        std::io::stdout().write_all(b"\nhere\n").expect("the parent listens");
        std::future::pending().boxed()
    }
}

/// The child: a run that stops in its second batch.
fn be_killed(path: &Path, kill: u64) {
    let plan = std::fs::read(path.with_extension("plan")).expect("the parent wrote the plan");
    let plan: RunPlan = serde_json::from_slice(&plan).expect("a plan");
    let moment = if kill.is_multiple_of(2) { Moment::Written } else { Moment::Committed };
    let stops = Stops { batches_left: AtomicI64::new(2), moment };
    let engine =
        Engine::new(SqliteStore::new(path), job(plan), RunOptions::default()).observed_by(Arc::new(stops));
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    runtime.block_on(engine.run()).expect("is killed before it ends");
}

fn start_child(file: &File, kill: u64) -> Child {
    Command::new(std::env::current_exe().expect("this test"))
        .args(["--exact", "kill_engine::kill_engine_sqlite", "--nocapture"])
        .env(CHILD, format!("{kill}:{}", file.path.display()))
        .stdout(Stdio::piped())
        .spawn()
        .expect("the test runs itself")
}

/// The application: one row at a time, first under the old key, then under the new one.
struct Application {
    stop: Arc<AtomicBool>,
    new_key: Arc<AtomicBool>,
    writes: Arc<AtomicU64>,
    thread: std::thread::JoinHandle<Vec<u64>>,
}

impl Application {
    fn start(file: &File, plan: &RunPlan) -> Self {
        let (stop, new_key) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
        let writes = Arc::new(AtomicU64::new(0));
        let thread = {
            let (stop, new_key, writes) = (stop.clone(), new_key.clone(), writes.clone());
            let (connection, codecs) = (file.connect(), Codecs::new(plan));
            std::thread::spawn(move || {
                // How often each row was written.
                let mut versions = vec![0; ROWS as usize + 1];
                while !stop.load(Ordering::Relaxed) {
                    let write = writes.fetch_add(1, Ordering::Relaxed);
                    let id = 1 + (write * 7919 % ROWS as u64) as i64;
                    let codec = if new_key.load(Ordering::Relaxed) { &codecs.new[1] } else { &codecs.old[1] };
                    versions[id as usize] += 1;
                    let plain = written(id, versions[id as usize]);
                    let sealed = value(ColumnType::Text, seal(codec, &RowKey::default().integer(id), &plain));
                    let sql = "UPDATE clients SET phone = ?2, version = version + 1 WHERE id = ?1";
                    assert_eq!(
                        connection.execute(sql, params![id, sealed]).expect("never waits for long"),
                        1
                    );
                    std::thread::sleep(Duration::from_millis(1));
                }
                versions
            })
        };
        Self { stop, new_key, writes, thread }
    }

    /// Ends, and gives how often each row was written.
    fn end(self) -> Vec<u64> {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().expect("the application saw no error")
    }
}

fn written(id: i64, version: u64) -> Vec<u8> {
    match version {
        0 => plaintext(id, 1),
        _ => format!("version {version} of row {id}").into_bytes(),
    }
}

/// Asserts that every value opens under exactly one of the keys.
fn assert_one_key(connection: &Connection, codecs: &Codecs) {
    let mut statement = connection.prepare("SELECT id, email, phone, name FROM clients").expect("prepares");
    let mut rows = statement.query([]).expect("reads");
    while let Some(row) = rows.next().expect("reads") {
        let id: i64 = row.get(0).expect("a key");
        for column in 0..3 {
            let stored = row.get_ref(column + 1).expect("a cell").as_bytes().expect("a value");
            let key = RowKey::default().integer(id);
            let opens =
                [&codecs.old, &codecs.new].map(|codecs| open(&codecs[column], &key, stored).is_some());
            assert_ne!(opens[0], opens[1], "row {id}, column {column}");
        }
    }
}

const NAMES_REWRITTEN: &str = "SELECT count(*) FROM rewrites WHERE field = 'name'";

/// Asserts that the account and the rows were committed together.
fn assert_account(file: &File, plan: &RunPlan, runtime: &tokio::runtime::Runtime) {
    let status = runtime.block_on(file.engine(plan).status()).expect("readable").expect("known");
    let counted: u64 = status.spans.iter().map(|span| span.tallies[2].rewritten).sum();
    assert_eq!(counted, file.count(NAMES_REWRITTEN) as u64);
}

#[test]
fn kill_engine_sqlite() {
    if let Ok(child) = std::env::var(CHILD) {
        let (kill, path) = child.split_once(':').expect("number and path");
        return be_killed(Path::new(path), kill.parse().expect("a number"));
    }
    let (file, plan) = (File::new(CLIENTS), clients());
    file.load(&plan, 1..=ROWS);
    file.execute(COUNT_REWRITES);
    std::fs::write(file.path.with_extension("plan"), serde_json::to_vec(&plan).expect("a plan"))
        .expect("writes");
    let codecs = Codecs::new(&plan);
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let application = Application::start(&file, &plan);
    for kill in 0..KILLS {
        let mut child = start_child(&file, kill);
        let output = BufReader::new(child.stdout.take().expect("is piped"));
        let stopped = output.lines().map_while(Result::ok).any(|line| line == "here");
        assert!(stopped, "the engine came to its end before kill {kill}");
        child.kill().expect("SIGKILL");
        child.wait().expect("is gone");
        assert_one_key(&file.connection, &codecs);
        assert_account(&file, &plan, &runtime);
        if kill == KILLS / 2 {
            application.new_key.store(true, Ordering::Relaxed);
        }
    }
    let outcome = runtime.block_on(file.engine(&plan).run()).expect("comes to its end");
    let writes = application.writes.load(Ordering::Relaxed);
    let versions = application.end();

    println!("{KILLS} kills, {writes} writes of the application, {} batches", outcome.batches);
    assert!(writes >= 100, "the application hardly wrote: {writes}");
    assert_eq!((outcome.proof.old(), outcome.quarantined()), (0, 0));
    for id in 1..=ROWS {
        let expected = [plaintext(id, 0), written(id, versions[id as usize]), plaintext(id, 2)];
        for (column, (cell, expected)) in file.cells(&plan, id).into_iter().zip(expected).enumerate() {
            let row = RowKey::default().integer(id);
            let stored = cell.expect("a value");
            assert_eq!(open(&codecs.new[column], &row, &stored), Some(expected), "row {id}, column {column}");
            assert_eq!(open(&codecs.old[column], &row, &stored), None);
        }
    }
    let twice =
        "SELECT count(*) FROM (SELECT 1 FROM rewrites GROUP BY id, field, version HAVING count(*) > 1)";
    assert_eq!(file.count(twice), 0, "nothing is rewritten twice");
    assert_eq!(file.count(NAMES_REWRITTEN), ROWS);
    assert_eq!(outcome.tallies[2].rewritten, ROWS as u64);
}
