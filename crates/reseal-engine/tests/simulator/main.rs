//! The engine over a store in memory, with everything going wrong that may, from printed seeds.
//!
//! `RESEAL_SIMULATOR_SEED=N` runs one seed again.

#![allow(unreachable_pub, reason = "a test binary exports nothing")]

#[path = "../support/mod.rs"]
mod support;

mod memory;
mod world;

use std::sync::{Arc, Mutex};

use crate::memory::MemoryStore;
use crate::support::{assert_balanced, job};
use crate::world::{Confirms, World};
use reseal_crypto::OsRandom;
use reseal_crypto::random::Random;
use reseal_engine::{Engine, ErrorKind, Outcome, RunId, RunOptions, RunPlan, Switch};
use tokio::task::JoinSet;

/// Seeds of one test run.
const SEEDS: u64 = 320;
/// Seeds at a time: an engine that lost its connection sleeps.
const AT_ONCE: usize = 32;
/// Engines that a run may wear out.
const ENGINES_MAX: usize = 200;

#[tokio::test(flavor = "multi_thread")]
async fn simulator() {
    let (first, seeds) = match std::env::var("RESEAL_SIMULATOR_SEED") {
        Ok(seed) => (seed.parse().expect("a number"), 1),
        Err(_) => (random_seed(), SEEDS),
    };
    println!("{seeds} seeds from {first}");
    let mut running = JoinSet::new();
    let mut totals = Totals::default();
    for seed in first..first + seeds {
        running.spawn(async move { (seed, tokio::spawn(simulate(seed)).await) });
        if running.len() >= AT_ONCE {
            totals.add(running.join_next().await);
        }
    }
    while let Some(ended) = running.join_next().await {
        totals.add(Some(ended));
    }
    println!("{totals:?}");
    assert!(
        seeds < SEEDS || (totals.crashes > SEEDS && totals.missed > SEEDS),
        "too little went wrong: {totals:?}"
    );
}

/// What happened over all seeds.
#[derive(Debug, Default)]
struct Totals {
    rewritten: u64,
    missed: u64,
    crashes: u64,
    rollbacks: u64,
}

type Ended = Result<(u64, Result<Totals, tokio::task::JoinError>), tokio::task::JoinError>;

impl Totals {
    fn add(&mut self, ended: Option<Ended>) {
        let Some(Ok((seed, result))) = ended else { panic!("a simulation did not end") };
        let part = result.unwrap_or_else(|error| panic!("seed {seed}: {error}"));
        self.rewritten += part.rewritten;
        self.missed += part.missed;
        self.crashes += part.crashes;
        self.rollbacks += part.rollbacks;
    }
}

/// One world: a run to its end, or half of one and the run that takes it back.
async fn simulate(seed: u64) -> Totals {
    let (mut world, plan) = World::new(seed);
    let workers = 1 + world.dice.below(3);
    let rolls_back = world.dice.one_in(4);
    let crash_limit = if rolls_back && world.dice.one_in(2) { 1 } else { usize::MAX };
    let store = MemoryStore { world: Arc::new(Mutex::new(world)), workers };
    let mut totals = Totals::default();
    if drive(&store, &plan, crash_limit, &mut totals).await.is_some() {
        check(&store, &plan, &mut totals).await;
    }
    if rolls_back {
        let back = plan.reversed(RunId::generate(&OsRandom).expect("random"));
        store.world.lock().expect("not poisoned").turn();
        totals.rollbacks += 1;
        drive(&store, &back, usize::MAX, &mut totals).await.expect("has no limit");
        check(&store, &back, &mut totals).await;
    }
    totals
}

/// Starts engines until one comes to the end, or until so many were killed.
async fn drive(
    store: &MemoryStore,
    plan: &RunPlan,
    crash_limit: usize,
    totals: &mut Totals,
) -> Option<Outcome> {
    let mut crashes = 0;
    for _ in 0..ENGINES_MAX {
        let (switch, crash) = {
            let world = store.world.lock().expect("not poisoned");
            (world.switch(), world.crash.clone())
        };
        let switch = if *switch.borrow() { Switch::Confirmed } else { Switch::Awaited(switch) };
        let options = RunOptions { workers: store.workers, switch, ..RunOptions::default() };
        let engine = Engine::new(store.clone(), job(plan.clone()), options)
            .observed_by(Arc::new(Confirms(store.clone())));
        tokio::select! {
            result = engine.run() => match result {
                Ok(outcome) => return Some(outcome),
                Err(error) if error.is_connection() || error.kind() == ErrorKind::NeedsAttention => {}
                Err(error) => panic!("the engine gave up: {error}"),
            },
            () = crash.notified() => {
                crashes += 1;
                totals.crashes += 1;
            }
        }
        drop(engine);
        gone(store).await;
        if crashes >= crash_limit {
            return None;
        }
    }
    panic!("no engine came to the end");
}

/// Waits until no worker of a killed engine runs any more: one that is in the midst of a call ends it first.
async fn gone(store: &MemoryStore) {
    while Arc::strong_count(&store.world) > 1 {
        tokio::task::yield_now().await;
    }
}

/// What holds when a run has ended: proved once more, now that the application is quiet.
async fn check(store: &MemoryStore, plan: &RunPlan, totals: &mut Totals) {
    store.world.lock().expect("no assertion failed under the lock").rest();
    let engine = Engine::new(store.clone(), job(plan.clone()), RunOptions::default());
    let outcome = engine.run().await.expect("a finished run is proved again");
    assert_balanced(&outcome);
    let world = store.world.lock().expect("no assertion failed under the lock");
    let garbage = world.check_all_new();
    assert_eq!((outcome.proof.old(), outcome.quarantined() + outcome.proof.empty()), (0, garbage));
    assert_eq!(outcome.rewritten(), world.rewritten, "the account says what was done");
    let missed = outcome.tallies.iter().map(|tally| tally.missed).sum::<u64>();
    assert_eq!(missed, world.missed, "the account says what was missed");
    totals.rewritten += outcome.rewritten();
    totals.missed += missed;
}

fn random_seed() -> u64 {
    let mut seed = [0; 4];
    OsRandom.fill(&mut seed).expect("random");
    u32::from_be_bytes(seed).into()
}
