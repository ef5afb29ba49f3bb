//! Workers: each leases spans and carries their rows through read, transform and write, one batch at a time.

use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex as StdMutex, PoisonError};
use std::time::Duration;

use tokio::sync::{Mutex, OwnedMutexGuard};
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::classify::Look;
use crate::error::EngineError;
use crate::ledger::{ScanRange, SpanRecord, Tally};
use crate::observer::{BatchInfo, Event, Moment, Observer};
use crate::options::{CancelToken, RunOptions};
use crate::plan::Job;
use crate::store::{
    Claim, Committed, Filter, MissCause, QuarantineRecord, ReadLimits, Session, Store, WriteOutcome,
};
use crate::suppressed::Cell;
use crate::transform::verify_on_pool;
use crate::verified::{Lease, Quarantined, Reason, VerifiedBatch};

/// Rows of a worker's first batch, before it knows how long rows take.
const FIRST_ROWS: usize = 2_000;
/// Fewest rows of a batch that gets through: below this, round trips cost more than rows.
const ROWS_MIN: usize = 64;
/// Forms in which the bytes of a batch exist at once: read, sealed, sent, returned, and half of each in between.
const FORMS: usize = 6;
/// How often a batch is tried before it is read again and halved.
const TRIES: u32 = 3;
/// How long nothing gets written before that is told, and how long before it is told again.
const TELL_AFTER: Duration = Duration::from_secs(2);
const TELL_AGAIN: Duration = Duration::from_secs(60);
/// Pause before a lost connection is tried again; doubles with each further one, this many times at most.
const RECONNECT_PAUSE: Duration = Duration::from_millis(250);
const RECONNECT_DOUBLINGS: u32 = 3;

/// What the workers of a pass share.
pub(crate) struct Crew {
    pub(crate) store: Arc<dyn Store>,
    pub(crate) job: Arc<Job>,
    pub(crate) options: RunOptions,
    pub(crate) observer: Arc<dyn Observer>,
    pub(crate) cancel: CancelToken,
    pub(crate) workers: usize,
    /// Held by the one batch that exceeds its share of the memory: a single row may be that large.
    pub(crate) large: Arc<Mutex<()>>,
    /// Values in the quarantine of the run, without the empty ones.
    pub(crate) quarantined: Arc<AtomicU64>,
    /// Whether it was told that the connection is lost, and not yet that it is back.
    pub(crate) away: Arc<AtomicBool>,
}

impl Clone for Crew {
    fn clone(&self) -> Self {
        Self {
            store: self.store.clone(),
            job: self.job.clone(),
            options: self.options.clone(),
            observer: self.observer.clone(),
            cancel: self.cancel.clone(),
            workers: self.workers,
            large: self.large.clone(),
            quarantined: self.quarantined.clone(),
            away: self.away.clone(),
        }
    }
}

/// How a pass ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum PassEnd {
    /// Every row was written or needed nothing.
    NothingMissed,
    /// There is more to do: rows were missed, or the table was rewritten under us.
    MoreToDo,
}

impl Crew {
    /// Works on a pass until no span of it is left.
    pub(crate) async fn drain(&self, pass: u32) -> Result<PassEnd, EngineError> {
        let (more, stop) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
        let commits = Arc::new(AtomicU64::new(0));
        let (leased, idle) = (Arc::new(AtomicUsize::new(0)), Arc::default());
        let mut workers = JoinSet::new();
        for _ in 0..self.workers {
            let worker = Worker {
                crew: self.clone(),
                pass,
                rows: FIRST_ROWS.min(self.options.batch_rows_max),
                large_rows: false,
                more: more.clone(),
                stop: stop.clone(),
                commits: commits.clone(),
                leased: leased.clone(),
                idle: Arc::clone(&idle),
                stall: None,
            };
            workers.spawn(worker.work());
        }
        let mut failure = None;
        while let Some(ended) = workers.join_next().await {
            let result =
                ended.unwrap_or_else(|_| Err(EngineError::Internal("a worker ended unexpectedly".into())));
            if let Err(error) = result {
                // The others finish the batch they are at; the first reason is the one to tell.
                stop.store(true, Ordering::Relaxed);
                failure.get_or_insert(error);
            }
        }
        match failure {
            Some(error) => Err(error),
            None if self.cancel.is_cancelled() => Err(EngineError::Interrupted),
            None if more.load(Ordering::Relaxed) => Ok(PassEnd::MoreToDo),
            None => Ok(PassEnd::NothingMissed),
        }
    }

    /// Counts values that entered the quarantine.
    ///
    /// # Errors
    ///
    /// [`EngineError::Quarantine`] if they are too many.
    pub(crate) fn count_quarantined(&self, more: u64) -> Result<(), EngineError> {
        let max = self.options.quarantine_max;
        let counted = self.quarantined.fetch_add(more, Ordering::Relaxed) + more;
        let remembered = self.job.suppressed.len() as u64;
        if counted.max(remembered) > max { Err(EngineError::Quarantine { max }) } else { Ok(()) }
    }

    /// What one read may return, so that the batches of all workers fit into the memory of the run.
    pub(crate) fn limits(&self, rows: usize) -> ReadLimits {
        // Never none: a read that may return nothing looks like the end of the range.
        ReadLimits { rows, bytes: (self.options.memory_bytes / (self.workers * FORMS)).max(1) }
    }
}

struct Worker {
    crew: Crew,
    pass: u32,
    rows: usize,
    /// Whether the last batch exceeded its share of the memory.
    large_rows: bool,
    /// Set when any worker leaves something for another pass.
    more: Arc<AtomicBool>,
    /// Set when any worker failed.
    stop: Arc<AtomicBool>,
    /// Batches that any worker committed.
    commits: Arc<AtomicU64>,
    /// Leases that any worker holds.
    leased: Arc<AtomicUsize>,
    /// Set while none does and all that is left is leased.
    idle: Arc<StdMutex<Option<Stall>>>,
    /// Set while batches do not get through.
    stall: Option<Stall>,
}

/// Since when nothing gets written.
#[derive(Debug, Clone, Copy)]
struct Stall {
    since: Instant,
    /// Commits of the crew by then: one more, and something gets written after all.
    commits: u64,
    told: Option<Instant>,
    /// How often a lost connection was tried again.
    tries: u32,
}

impl Stall {
    /// The stall goes on, or a new one begins.
    fn going_on(stall: &mut Option<Self>, commits: u64) -> &mut Self {
        let begun = || Self { since: Instant::now(), commits, told: None, tries: 0 };
        let stall = stall.get_or_insert_with(begun);
        if stall.commits != commits {
            *stall = begun();
        }
        stall
    }

    /// Whether it is time to say so.
    fn tells(&mut self) -> bool {
        let due = self.since.elapsed() >= TELL_AFTER && self.told.is_none_or(|at| at.elapsed() >= TELL_AGAIN);
        if due {
            self.told = Some(Instant::now());
        }
        due
    }
}

impl Worker {
    async fn work(mut self) -> Result<(), EngineError> {
        let mut held = None;
        let mut lost: Option<Stall> = None;
        loop {
            let result = match self.crew.store.session(self.crew.job.clone()).await {
                Ok(session) => {
                    if self.crew.away.swap(false, Ordering::Relaxed) {
                        self.crew.observer.event(Event::Reconnected);
                    }
                    self.work_with(session, &mut held).await
                }
                Err(error) => Err(error),
            };
            match result {
                Err(error) if error.is_connection() => self.pause_before_next(&mut lost, error).await?,
                other => return other,
            }
        }
    }

    /// Waits before another connection, longer each time, and says once for all workers that this one is gone.
    ///
    /// # Errors
    ///
    /// `error`, once it is time to give up.
    async fn pause_before_next(
        &self,
        lost: &mut Option<Stall>,
        error: EngineError,
    ) -> Result<(), EngineError> {
        // A login is no success: a batch may be what ends the connection, each time.
        let lost = Stall::going_on(lost, self.commits.load(Ordering::Relaxed));
        let patience = self.crew.options.reconnect_wait;
        if lost.since.elapsed() > patience || self.stops() {
            return Err(error);
        }
        if lost.tries == 0 && !self.crew.away.swap(true, Ordering::Relaxed) {
            self.crew.observer.event(Event::Reconnecting { why: error.to_string(), patience });
        }
        let pause = RECONNECT_PAUSE * 2_u32.pow(lost.tries.min(RECONNECT_DOUBLINGS));
        lost.tries += 1;
        tokio::select! {
            () = self.crew.cancel.cancelled() => {}
            () = tokio::time::sleep(pause) => {}
        }
        Ok(())
    }

    /// Works on spans until none is left. `held` survives a lost connection, so that its lease is given back.
    async fn work_with(
        &mut self,
        mut session: Box<dyn Session>,
        held: &mut Option<Lease>,
    ) -> Result<(), EngineError> {
        if held.is_some() {
            give_back(session.as_mut(), held).await?;
            self.leased.fetch_sub(1, Ordering::Relaxed);
        }
        loop {
            if self.stops() {
                return Ok(());
            }
            match session.claim(self.pass).await? {
                Claim::Leased(lease) => {
                    *held = Some(lease);
                    self.leased.fetch_add(1, Ordering::Relaxed);
                    self.work_span(session.as_mut(), held).await?;
                    give_back(session.as_mut(), held).await?;
                    self.leased.fetch_sub(1, Ordering::Relaxed);
                }
                Claim::Busy => {
                    self.tell_of_strangers();
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
                Claim::Stale => {
                    self.more.store(true, Ordering::Relaxed);
                    return Ok(());
                }
                Claim::Done => return Ok(()),
            }
        }
    }

    /// Says whom it waits for where all that is left is leased, and by nobody of this crew.
    fn tell_of_strangers(&self) {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        if self.leased.load(Ordering::Relaxed) > 0 {
            *idle = None;
        } else if Stall::going_on(&mut idle, self.commits.load(Ordering::Relaxed)).tells() {
            self.crew.observer.event(Event::Waiting(
                "for the ranges of another process; if that one does not answer any more, up to 30 s".into(),
            ));
        }
    }

    /// Carries a span to its end; leaves the lease in `held` only if the worker is to stop before it.
    async fn work_span(
        &mut self,
        session: &mut dyn Session,
        held: &mut Option<Lease>,
    ) -> Result<(), EngineError> {
        while let Some(lease) = held.as_mut().filter(|lease| !lease.span.is_done()) {
            if self.stops() {
                return Ok(());
            }
            let (batch, _large) = self.next_batch(session, &lease.span).await?;
            match self.write(session, lease, &batch).await? {
                WriteOutcome::Committed(committed) => {
                    self.commits.fetch_add(1, Ordering::Relaxed);
                    let vanished = self.vanished(&batch, &committed);
                    // Those that are new are not told apart by reason; that there are no more than these is certain.
                    let faults =
                        batch.quarantine().iter().filter(|value| value.reason != Reason::Empty).count();
                    let mut quarantined = committed.quarantined.min(faults as u64);
                    self.account(lease, &batch, *committed).await;
                    if !vanished.is_empty() {
                        quarantined += session.quarantine(vanished).await?;
                    }
                    self.crew.count_quarantined(quarantined)?;
                }
                WriteOutcome::Busy => self.shrink(&lease.span, batch.batch().len())?,
                WriteOutcome::LeaseLost => *held = None,
            }
        }
        *held = None;
        Ok(())
    }

    async fn next_batch(
        &mut self,
        session: &mut dyn Session,
        span: &SpanRecord,
    ) -> Result<(VerifiedBatch, Option<OwnedMutexGuard<()>>), EngineError> {
        let (filter, look) = reading_of(self.pass);
        let range = ScanRange {
            relation: span.relation.clone(),
            incarnation: span.incarnation,
            lo: span.lo.clone(),
            hi: span.hi.clone(),
        };
        let limits = self.crew.limits(self.rows);
        // Large rows seldom come alone: after one, the next is not even read beside those of other workers.
        let mut large = match self.large_rows {
            true => Some(self.crew.large.clone().lock_owned().await),
            false => None,
        };
        let batch = session.read(&range, &span.next, limits, filter).await?;
        self.large_rows = batch.bytes_len() > limits.bytes.saturating_mul(2);
        if !self.large_rows {
            large = None;
        } else if large.is_none() {
            large = Some(self.crew.large.clone().lock_owned().await);
        }
        self.crew.observer.at(Moment::Read, BatchInfo { span, batch: &batch }).await;
        let verified = verify_on_pool(self.crew.job.clone(), batch, look).await?;
        self.crew.observer.at(Moment::Sealed, BatchInfo { span, batch: verified.batch() }).await;
        Ok((verified, large))
    }

    /// Writes a batch, trying again while the database asks for it.
    async fn write(
        &mut self,
        session: &mut dyn Session,
        lease: &Lease,
        batch: &VerifiedBatch,
    ) -> Result<WriteOutcome, EngineError> {
        for attempt in 0..TRIES {
            let begun = Instant::now();
            let outcome = session.write(lease, batch, &*self.crew.observer).await;
            let outcome =
                outcome.map_err(|error| error.in_place(|| format!("of {}", lease.span.relation)))?;
            if !matches!(outcome, WriteOutcome::Busy) {
                self.adapt(batch.batch().len(), begun.elapsed());
                return Ok(outcome);
            }
            tokio::time::sleep(jitter(attempt, lease)).await;
        }
        Ok(WriteOutcome::Busy)
    }

    /// Takes fewer rows the next time: what holds one up cannot be told from here, and one row may be all that passes.
    ///
    /// # Errors
    ///
    /// [`EngineError::NeedsAttention`] once nothing was written for too long.
    fn shrink(&mut self, span: &SpanRecord, rows: usize) -> Result<(), EngineError> {
        self.rows = (rows.min(self.rows) / 2).max(1);
        let stall = Stall::going_on(&mut self.stall, self.commits.load(Ordering::Relaxed));
        if stall.since.elapsed() > self.crew.options.write_wait {
            return Err(EngineError::NeedsAttention(format!(
                "nothing was written to {} for {} s: others hold the table or its rows, or its triggers are slow",
                span.relation,
                stall.since.elapsed().as_secs()
            )));
        }
        if stall.tells() {
            self.crew.observer.event(Event::Waiting(format!(
                "for {}: batches of {rows} rows do not get written in time; others hold it, or its triggers are slow",
                span.relation
            )));
        }
        Ok(())
    }

    /// Moves the rows of the next batch towards the target time; shrinks faster than it grows.
    fn adapt(&mut self, rows: usize, took: Duration) {
        // A batch that the byte limit cut short says nothing about the number of rows.
        if rows * 2 < self.rows {
            return;
        }
        let factor = self.crew.options.batch_target.as_secs_f64() / took.as_secs_f64().max(0.001);
        let rows = (rows as f64 * factor.clamp(0.5, 1.5)).ceil() as usize;
        // Where locks or triggers made batches smaller than that, they grow again from there.
        let least = ROWS_MIN.min(self.rows);
        self.rows = rows.clamp(least, self.crew.options.batch_rows_max.max(least));
    }

    async fn account(&self, lease: &mut Lease, batch: &VerifiedBatch, committed: Committed) {
        let before = std::mem::replace(&mut lease.span, committed.span);
        let totals = |span: &SpanRecord| span.tallies.iter().fold(Tally::default(), |sum, t| sum.plus(*t));
        let tally = totals(&lease.span).minus(totals(&before));
        if !committed.missed.is_empty() {
            self.more.store(true, Ordering::Relaxed);
        }
        self.crew.observer.event(Event::Batch { rows: batch.batch().len() as u64, tally });
        self.crew.observer.at(Moment::Committed, BatchInfo { span: &before, batch: batch.batch() }).await;
    }

    /// Values whose write was suppressed once too often.
    fn vanished(&self, batch: &VerifiedBatch, committed: &Committed) -> Vec<QuarantineRecord> {
        let suppressed = committed.missed.iter().filter(|missed| missed.cause == MissCause::Suppressed);
        let mut records = Vec::new();
        for missed in suppressed {
            let change = batch.changes()[missed.change as usize];
            let row = change.row as usize;
            for column in (0..batch.batch().columns.len()).filter(|column| change.columns >> column & 1 == 1)
            {
                let job = &self.crew.job;
                let stored = batch.batch().columns[column].get(row).unwrap_or_default();
                let value_mac = job.keys.value_mac(stored);
                let cell = Cell { column, row_key: batch.batch().record_key(row), value_mac };
                if job.suppressed.note(cell, self.pass) {
                    let reason = Reason::WriteSuppressed;
                    let value = Quarantined { row: change.row, column: column as u16, reason, value_mac };
                    records.push(QuarantineRecord::new(job, &committed.span.relation, batch.batch(), &value));
                }
            }
        }
        records
    }

    fn stops(&self) -> bool {
        self.crew.cancel.is_cancelled() || self.stop.load(Ordering::Relaxed)
    }
}

/// What a pass reads, and how it looks at it: the first meets old values, the others what it missed.
pub(crate) fn reading_of(pass: u32) -> (Filter, Look) {
    match pass {
        1 => (Filter::All, Look::OldFirst),
        _ => (Filter::NotNew, Look::NewFirst),
    }
}

/// Gives a lease back. Where that fails it stays with a lost connection, and otherwise runs out by itself.
async fn give_back(session: &mut dyn Session, held: &mut Option<Lease>) -> Result<(), EngineError> {
    let Some(lease) = held.clone() else { return Ok(()) };
    match session.release(lease).await {
        Err(error) if error.is_connection() => return Err(error),
        Err(error) => tracing::debug!(%error, "a lease was not given back"),
        Ok(()) => {}
    }
    *held = None;
    Ok(())
}

/// Up to 20, 40, 80 ms: workers that met each other do not meet again. The lease's random token is the dice.
fn jitter(attempt: u32, lease: &Lease) -> Duration {
    let dice = u64::from(lease.token[attempt as usize % lease.token.len()]);
    Duration::from_millis(5 + dice % (20 << attempt))
}
