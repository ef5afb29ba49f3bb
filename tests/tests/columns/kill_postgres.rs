//! `kill -9` of the server while engine and application write: the engine connects again or is called again, and in
//! the end nothing is lost, mixed or written twice.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use futures_util::future::{BoxFuture, FutureExt};
use reseal_engine::postgres::PostgresStore;
use reseal_engine::{
    BatchInfo, Engine, EngineError, Event, Moment, Observer, Outcome, RunId, RunOptions, RunPlan, Switch,
};
use reseal_tests::probe::Account;
use reseal_tests::protocol::Places;
use reseal_tests::random::{Random, seed};
use reseal_tests::scene::Scene;
use reseal_tests::scheme::Scheme;
use tokio::sync::watch;

const RUN: RunId = RunId([0x5B; 16]);
const ROWS: u64 = 30_000;
const KILLS: u32 = 6;
const WORKERS: usize = 2;
const PATIENCE: Duration = Duration::from_secs(90);

/// Counts what the engine reads, commits and loses.
#[derive(Default)]
struct Watching {
    rows_committed: AtomicU64,
    reconnections: AtomicU64,
    /// Places of every batch that was read in the first pass, and of those that were committed.
    read: Mutex<Vec<Places>>,
    committed: Mutex<Vec<Places>>,
}

impl Observer for Watching {
    fn event(&self, event: Event) {
        if matches!(event, Event::Reconnecting { .. }) {
            self.reconnections.fetch_add(1, Ordering::SeqCst);
        }
    }

    fn at<'a>(&'a self, moment: Moment, info: BatchInfo<'a>) -> BoxFuture<'a, ()> {
        let places = Places::of(&info).filter(|_| info.span.pass == 1);
        match moment {
            Moment::Read => {
                let overlaps = |places: Places| {
                    let committed = self.committed.lock().unwrap();
                    committed.iter().any(|done| places.overlaps(done))
                };
                assert!(!places.is_some_and(overlaps), "committed rows were read again");
                self.read.lock().unwrap().extend(places);
            }
            Moment::Committed => {
                self.committed.lock().unwrap().extend(places);
                self.rows_committed.fetch_add(info.batch.len() as u64, Ordering::SeqCst);
            }
            Moment::Sealed | Moment::Written => {}
        }
        std::future::ready(()).boxed()
    }
}

impl Watching {
    /// Batches of the first pass that were read more than once.
    fn read_again(&self) -> usize {
        let read = self.read.lock().unwrap();
        let mut starts: Vec<_> = read.iter().map(|places| (places.stripe, places.first)).collect();
        let all = starts.len();
        starts.sort_unstable();
        starts.dedup();
        all - starts.len()
    }

    fn wait_for_rows(&self, rows: u64) {
        let begin = Instant::now();
        while self.rows_committed.load(Ordering::SeqCst) < rows {
            assert!(begin.elapsed() < PATIENCE, "the engine does not go on");
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}

/// Runs, and runs again as long as only the server was away.
async fn run_to_the_end(
    store: PostgresStore,
    scheme: Scheme,
    plan: RunPlan,
    observer: Arc<Watching>,
    switched: watch::Receiver<bool>,
) -> Outcome {
    let options = RunOptions {
        workers: WORKERS,
        batch_rows_max: 100,
        switch: Switch::Awaited(switched),
        ..RunOptions::default()
    };
    let begin = Instant::now();
    loop {
        let job = scheme.job(plan.clone());
        let engine = Engine::new(store.clone(), job, options.clone()).observed_by(observer.clone());
        match engine.run().await {
            Ok(outcome) => return outcome,
            Err(EngineError::Database(error)) if error.is_connection() && begin.elapsed() < PATIENCE => {
                println!("called again after: {error}");
                tokio::time::sleep(Duration::from_millis(200)).await;
            }
            Err(error) => panic!("{error}"),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn kill_postgres_while_engine_and_application_write() {
    let seed = seed();
    let mut random = Random::new(seed);
    let mut scene = Scene::new(Scheme::fernet_to_envelope(), ROWS as i64, seed).await;
    let writer = scene.writer(seed, 200.0);
    let observer = Arc::new(Watching::default());
    let (switch, switched) = watch::channel(false);
    let run =
        run_to_the_end(scene.store(), scene.scheme.clone(), scene.plan(RUN), observer.clone(), switched);
    let run = tokio::spawn(run);

    for kill in 0..KILLS {
        // One in each of six equal parts of the first pass.
        let target = (f64::from(kill) + 0.1 + 0.7 * random.share()) / f64::from(KILLS) * 0.95;
        observer.wait_for_rows((target * ROWS as f64) as u64);
        scene.server.kill_9().unwrap();
        scene.server.restart().unwrap();
        println!("seed {seed}: kill {} after {:.0} %", kill + 1, target * 100.0);
        let census = scene.census().await;
        assert_eq!(census.neither, 0, "every value opens under exactly one key: {census:?}");
        let client = scene.server.connect().await.unwrap();
        Account::read(&client).await.check();
        if kill == KILLS / 2 {
            writer.switch_to_new_key();
            switch.send_replace(true);
        }
    }

    let outcome = run.await.unwrap();
    let report = writer.stop().unwrap();
    let found = scene.compare(&report.ledger).await;
    println!(
        "seed {seed}: {} connections lost, {} batches read again, {} application transactions, {} reconnections of \
         the application, {:?} commits open, {found:?}",
        observer.reconnections.load(Ordering::SeqCst),
        observer.read_again(),
        report.transactions,
        report.reconnects,
        report.unknown_commits,
    );
    assert_eq!((outcome.proof.old(), outcome.quarantined()), (0, 0));
    assert!(observer.read_again() <= KILLS as usize * WORKERS, "{}", observer.read_again());
    assert!(report.reconnects >= u64::from(KILLS), "{report:?}");
    let client = scene.server.connect().await.unwrap();
    let account = Account::read(&client).await;
    account.check();
    assert_eq!(account.rewritten as u64, outcome.rewritten());
    assert_eq!((found.lost_updates(), found.unopened, found.old_key_opens), (0, 0, 0), "{found:?}");
    assert_eq!((found.new_key_opens, found.plaintexts_equal), (found.values, found.values), "{found:?}");
}
