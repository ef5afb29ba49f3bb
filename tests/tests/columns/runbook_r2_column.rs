//! The runbook's table of 100,000 rows, re-encrypted by the real command while the application inserts, updates and
//! deletes: from pgcrypto to pgcrypto, and from pgcrypto to our envelope.

use std::process::Child;
use std::sync::Arc;
use std::time::{Duration, Instant};

use reseal_formats::{ColumnType, FormatSpec};
use reseal_sandbox::ledger::{Comparison, Ledger};
use reseal_sandbox::postgres::{Options, Server};
use reseal_sandbox::seal::{Sealer, Sealing};
use reseal_sandbox::table::{StoredRow, Table};
use reseal_sandbox::values::{COLUMNS, Values};
use reseal_sandbox::writer::{Mix, Report, Writer, WriterOptions};
use reseal_tests::command::{Desk, Ended, finish};
use reseal_tests::python::{Package, answers};
use reseal_tests::random::seed;
use reseal_tests::scene::connect;
use reseal_tests::scheme::{Scheme, Stored, column_ids};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use tokio_postgres::{Client, Config};

const ROWS: i64 = 100_000;
const SECRET: &str = "crm/db-encryption-key";
const OLD: &str = "the DB_ENCRYPTION_KEY of last quarter";
const NEW: &str = "the DB_ENCRYPTION_KEY of this quarter";
/// What the application tries to do per second, so that it does at least 200.
const WRITES_PER_SECOND: f64 = 300.0;
/// What it has to have done meanwhile, whatever the machine: the command is held while the application is behind.
const WRITES: u64 = 1000;
const RATE: f64 = 200.0;
/// How long the command is held at a time: shorter than anything that the database or the application waits for.
const HOLD: Duration = Duration::from_millis(20);
/// Held for more than this share of its time, the command would be one that starves the application.
const HELD_MAX: f64 = 0.75;
/// How long one way may take.
const PATIENCE: Duration = Duration::from_secs(600);
/// Values that one Python process is asked for at a time.
const QUESTIONS: usize = 25_000;

/// What was seen of the application between the first and the last batch.
#[derive(Debug, Clone, Copy)]
struct Traffic {
    writes: u64,
    seconds: f64,
}

impl Traffic {
    /// Whether the application did less than its share while this share of the rows was re-encrypted.
    fn is_behind(self, share: f64) -> bool {
        // A little more than is asked for, because what follows the last look is not seen.
        (self.writes as f64) < share * WRITES as f64 * 1.3 || (self.writes as f64) < self.seconds * RATE * 1.1
    }
}

/// One way of the column, in a database of its own.
struct Way {
    config: Config,
    client: Client,
    desk: Desk,
    values: Values,
    seed: u64,
}

impl Way {
    /// A vault with the old key, a new one pending and a backup, and a plan for the columns.
    async fn new(server: &Server, database: &str, to: &str, values: Values, seed: u64) -> Self {
        let mut config = server.config();
        config.dbname(database);
        let plan = format!(
            r#"schema = 1
vault = "crm.vault"
prefix = "crm/"
environment = "production"

[servers.eventdb]
kind = "postgres"
url = "{}"
login = "peer"

[columns.client-preferences]
server = "eventdb"
table = "public.{}"
columns = {COLUMNS:?}
key = "db-encryption-key"
from = {{ format = "pgcrypto", encoding = "base64" }}
to = {to}
online = true

[secrets."db-encryption-key"]
strategy = "columns"
"#,
            server.url_of(database),
            Table::NAME,
        );
        let desk = Desk::new(&plan);
        desk.run(&["init", "--no-recovery-code", "--kdf-memory", "64"]).expect(0);
        desk.run_with(&["put", SECRET, "-"], OLD).expect(0);
        Self { client: connect(&config).await, config, desk, values, seed }
    }

    /// What the application encrypts with: the vault's keys, and the column ids that the plan tells.
    fn scheme(&self, new: Value, new_key: &str) -> Scheme {
        let told = self.desk.run(&["reencrypt", "plan", "client-preferences", "--json"]).expect(0).json();
        let census = told["columns"][0]["census"].as_array().expect("one object per column").clone();
        let ids = census.iter().map(|column| column["column_id"].as_str().expect("an id").to_owned());
        Scheme {
            old: Stored::new(json!({ "format": "pgcrypto", "encoding": "base64" }), OLD),
            new: Stored::new(new, new_key),
            column_type: ColumnType::Text,
            ids: column_ids(ids),
        }
    }

    /// Runs the command while the application writes, changing its key when two fifths are done.
    async fn run(&self, sealing: Sealing) -> (Report, Traffic, Value) {
        self.desk.run(&["backup", "create", "copy.vault"]).expect(0);
        let mut options = WriterOptions::new(self.config.clone(), sealing, self.seed);
        options.transactions_per_second = WRITES_PER_SECOND;
        options.mix = Mix { other_column: 0, ..Mix::default() };
        let writer = Writer::start(options, Ledger::new(1..=ROWS, self.values)).unwrap();
        assert!(writer.wait_for_transactions(50, Duration::from_secs(60)), "the application writes");
        let command = self.desk.command(&["reencrypt", "run", "client-preferences", "-y", "--json"]).spawn();
        let (ended, traffic) = self.watch(command.unwrap(), &writer).await;
        let report = writer.stop().unwrap();
        println!(
            "seed {}: {traffic:?}, {:?}, longest {:?}",
            self.seed, report.writes, report.longest_transaction
        );
        let told = ended.expect(0).json();
        println!("{told:#}");
        (report, traffic, told["runs"][0].clone())
    }

    /// Waits for the command and notes what the application did between its first and its last batch.
    async fn watch(&self, mut command: Child, writer: &Writer) -> (Ended, Traffic) {
        let begin = Instant::now();
        let mut first: Option<(u64, Instant)> = None;
        let mut last = (0, Instant::now());
        let (mut batches, mut switched) = (0, false);
        let mut held = Duration::ZERO;
        let since = |first: (u64, Instant), last: (u64, Instant)| Traffic {
            writes: last.0 - first.0,
            seconds: (last.1 - first.1).as_secs_f64(),
        };
        while command.try_wait().unwrap().is_none() {
            assert!(begin.elapsed() < PATIENCE, "the command takes too long");
            let (now, share) = self.progress().await;
            let seen = (writer.transactions(), Instant::now());
            if now > batches {
                batches = now;
                last = seen;
                first.get_or_insert(last);
            }
            if share > 0.4 && !switched {
                writer.switch_to_new_key();
                switched = true;
            }
            if first.is_some_and(|first| share < 1.0 && since(first, seen).is_behind(share)) {
                let begin = Instant::now();
                hold(&command).await;
                held += begin.elapsed();
            } else {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        }
        let traffic = since(first.expect("there was a batch"), last);
        let share = held.as_secs_f64() / begin.elapsed().as_secs_f64();
        println!("the command was held for {:.0} % of its time", share * 100.0);
        assert!(share < HELD_MAX, "only a command that is held lets the application do its share");
        (finish(command), traffic)
    }

    /// Batches committed, and the share of the first pass that is done.
    async fn progress(&self) -> (i64, f64) {
        let made = "SELECT to_regclass('reseal.span') IS NOT NULL";
        if !self.client.query_one(made, &[]).await.unwrap().get::<_, bool>(0) {
            return (0, 0.0);
        }
        let done = "SELECT coalesce(sum(seq), 0)::int8,
                coalesce(sum(tallies[1]) FILTER (WHERE pass = 1), 0)::int8 FROM reseal.span";
        let row = self.client.query_one(done, &[]).await.unwrap();
        (row.get(0), row.get::<_, i64>(1) as f64 / ROWS as f64)
    }

    /// Opens every value under either key.
    async fn compare(&self, scheme: &Scheme, ledger: &Ledger) -> Comparison {
        let keys = scheme.two_keys(COLUMNS.len());
        ledger.compare(&self.client, &Table::default(), &keys).await.unwrap()
    }
}

/// Stops the command for a moment.
async fn hold(command: &Child) {
    // A process that has ended in between is told nothing.
    let _ = kill_process(Pid::from_child(command), Signal::STOP);
    tokio::time::sleep(HOLD).await;
    let _ = kill_process(Pid::from_child(command), Signal::CONT);
}

fn check_run(report: &Report, traffic: Traffic, run: &Value) {
    assert!(traffic.writes >= WRITES, "{} writes between the first and the last batch", traffic.writes);
    assert!(traffic.writes as f64 / traffic.seconds >= RATE, "{traffic:?}");
    assert!(["insert", "update", "delete"].iter().all(|kind| report.writes[kind] > 0), "{report:?}");
    assert!(report.errors.is_empty() && report.reconnects == 0, "the application saw errors: {report:?}");
    assert_eq!((&run["old_left"], &run["quarantined"]), (&json!(0), &json!(0)));
    assert_eq!(run["labels_moved"], json!(true));
}

#[track_caller]
fn check_table(ledger: &Ledger, found: &Comparison) {
    println!("{found:?}");
    assert_eq!((found.rows, found.lost_updates(), found.unopened), (ledger.rows(), 0, 0), "{found:?}");
    assert_eq!(found.old_key_opens, 0, "nothing opens under the old key: {found:?}");
    assert_eq!((found.new_key_opens, found.plaintexts_equal), (found.values, found.values), "{found:?}");
}

/// The application goes on reading and writing through the functions of the database.
async fn pgcrypto_to_pgcrypto(server: &Server, database: &str, values: Values, seed: u64) {
    let way =
        Way::new(server, database, r#"{ format = "pgcrypto", encoding = "base64" }"#, values, seed).await;
    way.desk.run_with(&["put", SECRET, "-", "--pending"], NEW).expect(0);
    let scheme = way.scheme(json!({ "format": "pgcrypto", "encoding": "base64" }), NEW);
    let sealing = Sealing::Functions { old: OLD.to_owned(), new: NEW.to_owned() };
    let (report, traffic, run) = way.run(sealing).await;
    check_run(&report, traffic, &run);
    check_table(&report.ledger, &way.compare(&scheme, &report.ledger).await);
    let read_back = report.ledger.compare_by_functions(&way.config, connections(), NEW).await.unwrap();
    check_table(&report.ledger, &read_back);
}

/// The application changes to our envelope together with the key.
async fn pgcrypto_to_envelope(server: &Server, database: &str, values: Values, seed: u64) {
    let way = Way::new(server, database, r#"{ format = "reseal" }"#, values, seed).await;
    way.desk.run(&["generate", SECRET, "--kind", "key", "--pending"]).expect(0);
    let key = way.desk.run(&["get", SECRET, "--label", "pending"]).expect(0).stdout.trim().to_owned();
    let scheme = way.scheme(json!({ "format": "reseal" }), &key);
    let keys: Arc<dyn Sealer> = Arc::new(scheme.two_keys(COLUMNS.len()));
    let (report, traffic, run) = way.run(Sealing::Client(keys)).await;
    check_run(&report, traffic, &run);
    check_table(&report.ledger, &way.compare(&scheme, &report.ledger).await);
    read_by_python(&way, &scheme, &report.ledger).await;
}

/// Every value of the table, opened by the reader in Python, says what the ledger says.
async fn read_by_python(way: &Way, scheme: &Scheme, ledger: &Ledger) {
    let FormatSpec::Reseal(_) = scheme.new.spec else { panic!("not our envelope") };
    let mut asked: Vec<(Value, String)> = Vec::new();
    let mut rows = 0;
    let ask = |stored: &[StoredRow]| {
        for row in stored {
            rows += 1;
            let plaintexts = ledger.plaintexts(row.id).expect("a row of the ledger");
            for (column, (cell, plaintext)) in row.cells.iter().zip(plaintexts).enumerate() {
                let (Some(cell), Some(plaintext)) = (cell, plaintext) else {
                    assert_eq!(row.cells[column], None, "row {}", row.id);
                    continue;
                };
                let value = String::from_utf8(cell.clone()).expect("an envelope in text");
                let id = scheme.id(column).to_string();
                let question = json!({ "key": scheme.new.key, "suite": 2, "binding": 1, "column_id": id,
                    "row_key": [], "value": value });
                asked.push((question, plaintext));
            }
        }
    };
    Table::default().scan(&way.client, ask).await.unwrap();
    assert_eq!(rows, ledger.rows());
    let chunks: Vec<&[(Value, String)]> = asked.chunks(QUESTIONS).collect();
    for pair in chunks.chunks(connections() as usize) {
        std::thread::scope(|scope| pair.iter().for_each(|chunk| drop(scope.spawn(|| ask_python(chunk)))));
    }
    println!("Python read {} values", asked.len());
    assert!(asked.len() > 290_000);
}

fn ask_python(asked: &[(Value, String)]) {
    let questions: Vec<Value> = asked.iter().map(|(question, _)| question.clone()).collect();
    let given = answers("reseal_envelope.py", &[Package::CRYPTOGRAPHY], &questions);
    for ((_, plaintext), given) in asked.iter().zip(given) {
        let read = given["plaintext"].as_str().map(|text| hex::decode(text).expect("hex"));
        assert_eq!(read.as_deref(), Some(plaintext.as_bytes()), "{given}");
    }
}

fn connections() -> u32 {
    std::thread::available_parallelism().map_or(2, |cores| cores.get() as u32)
}

/// One table, made by the server's own `pgp_sym_encrypt` and copied for the second way.
#[tokio::test(flavor = "multi_thread")]
async fn runbook_r2_column_both_ways_while_the_application_writes() {
    let seed = seed();
    println!("seed {seed}");
    let values = Values::new(seed);
    let server = Server::start(Options::default().set("max_wal_size", "4GB"));
    let server = server.unwrap_or_else(|error| panic!("{error}"));
    let admin = server.connect().await.unwrap();
    admin.batch_execute("CREATE DATABASE eventdb").await.unwrap();
    let mut config = server.config();
    config.dbname("eventdb");
    let begin = Instant::now();
    let client = connect(&config).await;
    let table = Table::default();
    table.create(&client).await.unwrap_or_else(|error| panic!("{error}"));
    table.load_by_functions(&config, connections() as usize, 1..=ROWS, values, OLD).await.unwrap();
    client.batch_execute(&format!("VACUUM ANALYZE {}", Table::NAME)).await.unwrap();
    drop(client);
    println!("loaded in {:?}", begin.elapsed());
    copy_database(&admin).await;
    pgcrypto_to_pgcrypto(&server, "eventdb", values, seed).await;
    println!("after the first way {:?}", begin.elapsed());
    pgcrypto_to_envelope(&server, "eventdb_copy", values, seed).await;
    println!("after the second way {:?}", begin.elapsed());
}

/// The connections of the loading may take a moment to end.
async fn copy_database(admin: &Client) {
    let begin = Instant::now();
    while let Err(error) = admin.batch_execute("CREATE DATABASE eventdb_copy TEMPLATE eventdb").await {
        assert!(begin.elapsed() < Duration::from_secs(30), "{error}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}
