//! Workers: each leases spans and carries their rows through read, transform and write, one batch at a time.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
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
use crate::transform::verify_on_pool;
use crate::verified::{Lease, Reason, VerifiedBatch};

/// Rows of a worker's first batch, before it knows how long rows take.
const FIRST_ROWS: usize = 2_000;
/// Fewest rows of a batch: below this, round trips cost more than rows.
const ROWS_MIN: usize = 64;
/// Forms in which the bytes of a batch exist at once: read, sealed, sent, returned, and half of each in between.
const FORMS: usize = 6;
/// How often a batch is tried before it is read again and halved.
const TRIES: u32 = 3;

/// What the workers of a pass share.
pub(crate) struct Crew<S: Store> {
    pub(crate) store: Arc<S>,
    pub(crate) job: Arc<Job>,
    pub(crate) options: RunOptions,
    pub(crate) observer: Arc<dyn Observer>,
    pub(crate) cancel: CancelToken,
    pub(crate) workers: usize,
    /// Held by the one batch that exceeds its share of the memory: a single row may be that large.
    pub(crate) large: Arc<Mutex<()>>,
}

impl<S: Store> Clone for Crew<S> {
    fn clone(&self) -> Self {
        Self {
            store: self.store.clone(),
            job: self.job.clone(),
            options: self.options.clone(),
            observer: self.observer.clone(),
            cancel: self.cancel.clone(),
            workers: self.workers,
            large: self.large.clone(),
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

impl<S: Store> Crew<S> {
    /// Works on a pass until no span of it is left.
    pub(crate) async fn drain(&self, pass: u32) -> Result<PassEnd, EngineError> {
        let (more, stop) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
        let mut workers = JoinSet::new();
        for _ in 0..self.workers {
            let worker = Worker {
                crew: self.clone(),
                pass,
                rows: FIRST_ROWS.min(self.options.batch_rows_max),
                more: more.clone(),
                stop: stop.clone(),
            };
            workers.spawn(worker.work());
        }
        let mut failure = None;
        while let Some(ended) = workers.join_next().await {
            let result =
                ended.unwrap_or_else(|_| Err(EngineError::Plan("a worker ended unexpectedly".into())));
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

    /// What one read may return, so that the batches of all workers fit into the memory of the run.
    pub(crate) fn limits(&self, rows: usize) -> ReadLimits {
        ReadLimits { rows, bytes: self.options.memory_bytes / (self.workers * FORMS) }
    }
}

struct Worker<S: Store> {
    crew: Crew<S>,
    pass: u32,
    rows: usize,
    /// Set when any worker leaves something for another pass.
    more: Arc<AtomicBool>,
    /// Set when any worker failed.
    stop: Arc<AtomicBool>,
}

impl<S: Store> Worker<S> {
    async fn work(mut self) -> Result<(), EngineError> {
        let mut held = None;
        let mut lost_since: Option<Instant> = None;
        loop {
            let result = match self.crew.store.session(self.crew.job.clone()).await {
                Ok(session) => self.work_with(session, &mut held, &mut lost_since).await,
                Err(error) => Err(error),
            };
            match result {
                Err(error) if error.is_connection() => {
                    let since = *lost_since.get_or_insert_with(Instant::now);
                    if since.elapsed() > self.crew.options.reconnect_wait || self.stops() {
                        return Err(error);
                    }
                    self.crew.observer.event(Event::Reconnecting(error.to_string()));
                    tokio::time::sleep(Duration::from_millis(250)).await;
                }
                other => return other,
            }
        }
    }

    /// Works on spans until none is left. `held` survives a lost connection, so that its lease is given back.
    async fn work_with(
        &mut self,
        mut session: S::Session,
        held: &mut Option<Lease>,
        lost_since: &mut Option<Instant>,
    ) -> Result<(), EngineError> {
        if let Some(lease) = held.take() {
            session.release(lease).await?;
        }
        *lost_since = None;
        loop {
            if self.stops() {
                return Ok(());
            }
            match session.claim(self.pass).await? {
                Claim::Leased(lease) => {
                    *held = Some(lease);
                    self.work_span(&mut session, held).await?;
                    if let Some(lease) = held.take() {
                        session.release(lease).await?;
                    }
                }
                Claim::Busy => tokio::time::sleep(Duration::from_millis(20)).await,
                Claim::Stale => {
                    self.more.store(true, Ordering::Relaxed);
                    return Ok(());
                }
                Claim::Done => return Ok(()),
            }
        }
    }

    /// Carries a span to its end; leaves the lease in `held` only if the worker is to stop before it.
    async fn work_span(
        &mut self,
        session: &mut S::Session,
        held: &mut Option<Lease>,
    ) -> Result<(), EngineError> {
        while let Some(lease) = held.as_mut().filter(|lease| !lease.span.is_done()) {
            if self.stops() {
                return Ok(());
            }
            let (batch, _large) = self.next_batch(session, &lease.span).await?;
            match self.write(session, lease, &batch).await? {
                WriteOutcome::Committed(committed) => {
                    let vanished = self.vanished(&batch, &committed);
                    self.account(lease, &batch, *committed).await;
                    if !vanished.is_empty() {
                        session.quarantine(vanished).await?;
                    }
                }
                WriteOutcome::Busy => self.rows = (self.rows / 2).max(ROWS_MIN),
                WriteOutcome::LeaseLost => *held = None,
            }
        }
        *held = None;
        Ok(())
    }

    async fn next_batch(
        &self,
        session: &mut S::Session,
        span: &SpanRecord,
    ) -> Result<(VerifiedBatch, Option<OwnedMutexGuard<()>>), EngineError> {
        let (filter, look) = match self.pass {
            1 => (Filter::All, Look::OldFirst),
            _ => (Filter::NotNew, Look::NewFirst),
        };
        let range = ScanRange {
            relation: span.relation.clone(),
            incarnation: span.incarnation,
            lo: span.lo.clone(),
            hi: span.hi.clone(),
        };
        let limits = self.crew.limits(self.rows);
        let batch = session.read(&range, &span.next, limits, filter).await?;
        let large = match batch.bytes_len() > limits.bytes * 2 {
            true => Some(self.crew.large.clone().lock_owned().await),
            false => None,
        };
        self.crew.observer.at(Moment::Read, BatchInfo { span, batch: &batch }).await;
        let verified = verify_on_pool(self.crew.job.clone(), batch, look).await?;
        self.crew.observer.at(Moment::Sealed, BatchInfo { span, batch: verified.batch() }).await;
        Ok((verified, large))
    }

    /// Writes a batch, trying again while the database asks for it.
    async fn write(
        &mut self,
        session: &mut S::Session,
        lease: &Lease,
        batch: &VerifiedBatch,
    ) -> Result<WriteOutcome, EngineError> {
        for attempt in 0..TRIES {
            let begun = Instant::now();
            let outcome = session.write(lease, batch, &*self.crew.observer).await?;
            if !matches!(outcome, WriteOutcome::Busy) {
                self.adapt(batch.batch().len(), begun.elapsed());
                return Ok(outcome);
            }
            tokio::time::sleep(jitter(attempt, lease)).await;
        }
        Ok(WriteOutcome::Busy)
    }

    /// Moves the rows of the next batch towards the target time; shrinks faster than it grows.
    fn adapt(&mut self, rows: usize, took: Duration) {
        // A batch that the byte limit cut short says nothing about the number of rows.
        if rows * 2 < self.rows {
            return;
        }
        let factor = self.crew.options.batch_target.as_secs_f64() / took.as_secs_f64().max(0.001);
        let rows = rows as f64 * factor.clamp(0.5, 1.5);
        self.rows = (rows as usize).clamp(ROWS_MIN, self.crew.options.batch_rows_max.max(ROWS_MIN));
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
            for (column, cells) in batch.batch().columns.iter().enumerate() {
                let value_mac = self.crew.job.keys.value_mac(cells.get(row).unwrap_or_default());
                if change.columns >> column & 1 == 0 || !self.crew.job.suppressed.note(value_mac) {
                    continue;
                }
                records.push(QuarantineRecord {
                    relation: committed.span.relation.clone(),
                    column: self.crew.job.plan.columns[column].name.clone(),
                    row_key: batch.batch().row_key(row).as_bytes().to_vec(),
                    reason: Reason::WriteSuppressed,
                    value_mac,
                });
            }
        }
        records
    }

    fn stops(&self) -> bool {
        self.crew.cancel.is_cancelled() || self.stop.load(Ordering::Relaxed)
    }
}

/// Up to 20, 40, 80 ms: workers that met each other do not meet again. The lease's random token is the dice.
fn jitter(attempt: u32, lease: &Lease) -> Duration {
    let dice = u64::from(lease.token[attempt as usize % lease.token.len()]);
    Duration::from_millis(5 + dice % (20 << attempt))
}
