//! `kill -9` of the engine while the application writes: whatever the moment, every value opens under exactly one key,
//! the same call goes on where it stopped, no write is lost and nothing is written twice.

use std::collections::HashSet;
use std::path::Path;
use std::time::{Duration, Instant};

use reseal_engine::RunId;
use reseal_tests::probe::Account;
use reseal_tests::process::EngineProcess;
use reseal_tests::protocol::{Assignment, BatchLine, Line, Places};
use reseal_tests::random::{Random, seed};
use reseal_tests::scene::Scene;
use reseal_tests::scheme::Scheme;

const RUN: RunId = RunId([0x5A; 16]);
const WORKERS: usize = 2;
/// Transactions of the application per second.
const WRITES: f64 = 200.0;
/// How long a busy machine may take for what needs milliseconds.
const PATIENCE: Duration = Duration::from_secs(60);

/// One run that is killed several times.
struct Killed {
    scene: Scene,
    rows: u64,
    batch_rows: usize,
    /// Whether the application uses the new key.
    switched: bool,
    /// Batches that any process read, by pass, span and number within the span.
    read: HashSet<(u32, u64, u64)>,
    /// Places of rows that were committed in the first pass.
    committed: Vec<Places>,
    /// Batches that were read by more than one process.
    read_again: usize,
    kills: usize,
}

impl Killed {
    async fn new(scheme: Scheme, rows: u64, batch_rows: usize, seed: u64) -> Self {
        Self {
            scene: Scene::new(scheme, rows as i64, seed).await,
            rows,
            batch_rows,
            switched: false,
            read: HashSet::new(),
            committed: Vec::new(),
            read_again: 0,
            kills: 0,
        }
    }

    fn start(&self, hold_at: Option<u64>) -> EngineProcess {
        let assignment = Assignment {
            database: self.scene.server.url(),
            scheme: self.scene.scheme.clone(),
            plan: self.scene.plan(RUN),
            workers: WORKERS,
            batch_rows_max: self.batch_rows,
            switched: self.switched,
            hold_at,
        };
        EngineProcess::start(Path::new(env!("CARGO_BIN_EXE_engine_process")), &assignment)
    }

    /// Kills the process and checks everything that must hold while it is dead.
    async fn kill(&mut self, engine: &mut EngineProcess) -> f64 {
        engine.kill_9();
        self.kills += 1;
        let census = self.scene.census().await;
        assert_eq!(census.neither, 0, "after a kill every value opens under exactly one key: {census:?}");
        assert!(census.old > 0 && census.new > 0, "the kill came amid the run: {census:?}");
        let client = self.scene.server.connect().await.unwrap();
        Account::read(&client).await.check();
        self.note(engine);
        self.progress().await
    }

    /// What the process read and committed. A batch that was committed must never be read again.
    fn note(&mut self, engine: &EngineProcess) {
        let mut again = 0;
        let before = self.committed.clone();
        for line in &engine.heard {
            match line {
                Line::Read(batch) if batch.pass == 1 => {
                    let overlaps = |places: Places| before.iter().any(|done| places.overlaps(done));
                    assert!(!batch.places.is_some_and(overlaps), "committed rows were read again: {batch:?}");
                    again += usize::from(!self.read.insert((batch.pass, batch.span, batch.seq)));
                }
                Line::Committed(BatchLine { pass: 1, places, .. }) => self.committed.extend(*places),
                _ => {}
            }
        }
        assert!(again <= WORKERS, "{again} batches were read again, with {WORKERS} in flight at the kill");
        self.read_again += again;
    }

    /// Share of the first pass that is committed, by the records in the database.
    async fn progress(&self) -> f64 {
        let client = self.scene.server.connect().await.unwrap();
        let statement = "SELECT coalesce(sum(tallies[1]), 0)::int8 FROM reseal.span WHERE pass = 1";
        let seen: i64 = client.query_one(statement, &[]).await.unwrap().get(0);
        seen as f64 / self.rows as f64
    }

    /// The last process, which is left alone.
    async fn finish(&mut self) {
        let mut engine = self.start(None);
        let last = engine.finish();
        let Line::Done { old: 0, quarantined: 0, rewritten, .. } = last else { panic!("{last:?}") };
        self.note(&engine);
        let client = self.scene.server.connect().await.unwrap();
        let account = Account::read(&client).await;
        account.check();
        assert_eq!(account.rewritten, rewritten as i64);
    }
}

/// Listens until so many more rows of the first pass are committed.
fn listen_for_rows(engine: &mut EngineProcess, rows: u64) {
    let mut left = rows as i64;
    let heard = engine.listen_until(|line| {
        if let Line::Committed(batch) = line {
            left -= batch.rows as i64;
        }
        left <= 0
    });
    assert!(heard, "the engine ended before it was killed: {:?}", engine.heard.last());
}

/// Kills at ten random moments between 5 % and 95 % of the first pass.
async fn at_ten_random_moments(scheme: Scheme, rows: u64, batch_rows: usize) {
    let seed = seed();
    let mut random = Random::new(seed);
    let mut killed = Killed::new(scheme, rows, batch_rows, seed).await;
    let writer = killed.scene.writer(seed, WRITES);
    let mut progress = 0.0;
    for kill in 0..10 {
        // One in each of ten equal parts, not too close to its ends, so that every kill comes further than the last.
        let target = 0.06 + (f64::from(kill) + 0.1 + 0.6 * random.share()) * 0.08;
        let mut engine = killed.start(None);
        listen_for_rows(&mut engine, ((target - progress).max(0.001) * rows as f64) as u64);
        std::thread::sleep(Duration::from_micros(random.below(3000)));
        progress = killed.kill(&mut engine).await;
        println!("seed {seed}: kill {} at {:.1} %", kill + 1, progress * 100.0);
        assert!((0.05..=0.95).contains(&progress), "{progress}");
        if kill == 4 {
            writer.switch_to_new_key();
            killed.switched = true;
        }
    }
    end(killed, writer, 10, seed).await;
}

/// Kills ten times while the transaction of a batch is open: its rows are written and compared, nothing is committed.
async fn in_ten_open_transactions(scheme: Scheme, rows: u64, batch_rows: usize) {
    let seed = seed();
    let mut random = Random::new(seed);
    let mut killed = Killed::new(scheme, rows, batch_rows, seed).await;
    let writer = killed.scene.writer(seed, WRITES);
    let batches = rows / batch_rows as u64;
    for kill in 0..10 {
        // At the earliest the third batch: with two workers, one is committed by then.
        let mut engine = killed.start(Some(3 + random.below(batches / 15)));
        let held = engine.listen_until(|line| matches!(line, Line::Held(_)));
        let Some(Line::Held(batch)) = engine.heard.last().cloned().filter(|_| held) else {
            panic!("the engine ended before its batch: {:?}", engine.heard.last());
        };
        assert_one_open_transaction(&killed.scene).await;
        let progress = killed.kill(&mut engine).await;
        println!(
            "seed {seed}: kill {} in the transaction of {batch:?} at {:.1} %",
            kill + 1,
            progress * 100.0
        );
        let client = killed.scene.server.connect().await.unwrap();
        let statement = "SELECT seq FROM reseal.span WHERE pass = $1 AND number = $2";
        let parameters = (i64::from(batch.pass), batch.span as i64);
        let seq: i64 = client.query_one(statement, &[&parameters.0, &parameters.1]).await.unwrap().get(0);
        assert_eq!(seq as u64, batch.seq, "a batch whose transaction was open is not committed");
        if kill == 4 {
            writer.switch_to_new_key();
            killed.switched = true;
        }
    }
    end(killed, writer, 10, seed).await;
}

/// Asserts that one transaction of the engine is open: held by the process between its write and its commit.
async fn assert_one_open_transaction(scene: &Scene) {
    let client = scene.server.connect().await.unwrap();
    let statement = "SELECT count(*) FROM pg_stat_activity
         WHERE application_name LIKE 'reseal/%' AND xact_start IS NOT NULL AND backend_xid IS NOT NULL";
    let begin = Instant::now();
    loop {
        let open: i64 = client.query_one(statement, &[]).await.unwrap().get(0);
        if open == 1 {
            return;
        }
        // The other worker comes to the end of its own batch first.
        assert!(begin.elapsed() < PATIENCE, "the held batch is in a transaction of its own: {open} are open");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

async fn end(mut killed: Killed, writer: reseal_sandbox::writer::Writer, kills: usize, seed: u64) {
    killed.finish().await;
    let report = writer.stop().unwrap();
    let found = killed.scene.compare(&report.ledger).await;
    println!(
        "seed {seed}: {} kills, {} batches read again, {} application transactions, {found:?}",
        killed.kills, killed.read_again, report.transactions
    );
    assert_eq!(killed.kills, kills);
    assert_eq!((found.lost_updates(), found.unopened, found.old_key_opens), (0, 0, 0), "{found:?}");
    assert_eq!((found.new_key_opens, found.plaintexts_equal), (found.values, found.values), "{found:?}");
    assert!(report.transactions > 100 && report.errors.is_empty(), "{report:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn kill_engine_at_random_moments_from_fernet_to_envelopes() {
    at_ten_random_moments(Scheme::fernet_to_envelope(), 30_000, 100).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn kill_engine_at_random_moments_where_no_value_names_its_key() {
    at_ten_random_moments(Scheme::aes_gcm_to_aes_gcm(), 30_000, 100).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn kill_engine_in_open_transactions() {
    in_ten_open_transactions(Scheme::aes_gcm_to_row_envelope(), 30_000, 100).await;
}
