//! Runs the engine in a process of its own, which a test can kill at any moment.
//!
//! Reads an assignment and then orders from standard input, tells every batch on standard output, and ends when its
//! input ends: it does not outlive its test.

use std::io::{BufRead, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use futures_util::future::{BoxFuture, FutureExt};
use reseal_engine::postgres::{PostgresStore, PostgresTarget};
use reseal_engine::sqlite::SqliteStore;
use reseal_engine::store::Store;
use reseal_engine::{BatchInfo, Engine, EngineError, Moment, Observer, Outcome, RunOptions, Switch};
use reseal_tests::protocol::{Assignment, BatchLine, Line, Order, Places};
use tokio::sync::watch;

#[tokio::main]
async fn main() {
    let mut line = String::new();
    std::io::stdin().lock().read_line(&mut line).expect("standard input can be read");
    let assignment: Assignment = serde_json::from_str(&line).expect("the first line is an assignment");
    let (sender, switched) = watch::channel(assignment.switched);
    std::thread::spawn(move || take_orders(&sender));
    let ended = if assignment.database.starts_with("postgresql:") {
        match PostgresTarget::parse(&assignment.database, None) {
            Ok(target) => run(PostgresStore::new(target), &assignment, switched).await,
            Err(error) => Err(error),
        }
    } else {
        run(SqliteStore::new(&assignment.database), &assignment, switched).await
    };
    tell(&match ended {
        Ok(outcome) => Line::Done {
            rewritten: outcome.rewritten(),
            old: outcome.proof.old(),
            quarantined: outcome.quarantined(),
            passes: outcome.passes,
        },
        Err(error) => Line::Failed(error.to_string()),
    });
}

async fn run(
    store: impl Store,
    assignment: &Assignment,
    switched: watch::Receiver<bool>,
) -> Result<Outcome, EngineError> {
    let options = RunOptions {
        workers: assignment.workers,
        batch_rows_max: assignment.batch_rows_max,
        switch: if assignment.switched { Switch::Confirmed } else { Switch::Awaited(switched) },
        ..RunOptions::default()
    };
    let job = assignment.scheme.job(assignment.plan.clone());
    let observer =
        Reporter { hold_at: assignment.hold_at, written: AtomicU64::new(0), holds: AtomicBool::new(false) };
    Engine::new(store, job, options).observed_by(Arc::new(observer)).run().await
}

fn take_orders(switched: &watch::Sender<bool>) {
    for line in std::io::stdin().lock().lines().map_while(Result::ok) {
        match serde_json::from_str(&line) {
            Ok(Order::Switched) => drop(switched.send_replace(true)),
            Err(_) => break,
        }
    }
    std::process::exit(2);
}

struct Reporter {
    hold_at: Option<u64>,
    written: AtomicU64,
    /// Whether a batch is held. The other workers then wait at their next batch, outside of any transaction: what the
    /// test finds is the same however long it takes to come.
    holds: AtomicBool,
}

impl Observer for Reporter {
    fn at<'a>(&'a self, moment: Moment, info: BatchInfo<'a>) -> BoxFuture<'a, ()> {
        let batch = BatchLine {
            pass: info.span.pass,
            span: info.span.number,
            seq: info.span.seq,
            rows: info.batch.len() as u64,
            places: Places::of(&info),
        };
        match moment {
            Moment::Read => {
                tell(&Line::Read(batch));
                if self.holds.load(Ordering::SeqCst) {
                    return std::future::pending().boxed();
                }
            }
            Moment::Committed => tell(&Line::Committed(batch)),
            Moment::Written if self.hold_at == Some(self.written.fetch_add(1, Ordering::SeqCst) + 1) => {
                self.holds.store(true, Ordering::SeqCst);
                tell(&Line::Held(batch));
                return std::future::pending().boxed();
            }
            Moment::Written | Moment::Sealed => {}
        }
        std::future::ready(()).boxed()
    }
}

/// Writes one line as a whole; a test that is gone ends the process.
fn tell(line: &Line) {
    let mut text = serde_json::to_string(line).expect("a line is JSON");
    text.push('\n');
    let mut out = std::io::stdout().lock();
    if out.write_all(text.as_bytes()).and_then(|()| out.flush()).is_err() {
        std::process::exit(2);
    }
}
