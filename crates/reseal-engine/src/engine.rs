//! The run as a whole: passes until nothing old is found, then the proof.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use tokio::time::Instant;

use crate::error::EngineError;
use crate::finding::Refusal;
use crate::ledger::{Digest, RunState, SpanRecord, Tally};
use crate::observer::{Event, Observer, Silent};
use crate::options::{CancelToken, RunOptions, Switch};
use crate::plan::Job;
use crate::proof::{Reading, read_all};
use crate::store::{Horizon, QuarantineRecord, Session, Standing, Store};
use crate::suppressed::Cell;
use crate::survey::Survey;
use crate::transform::Census;
use crate::verified::{ByReason, Reason};
use crate::worker::{Crew, PassEnd, reading_of};

/// Pause before the third pass of a call; doubles with each further one.
const PASS_PAUSE: Duration = Duration::from_millis(100);
const PASS_PAUSE_MAX: Duration = Duration::from_secs(5);

/// Runs one job against one store. Its futures are boxed so that they are compiled here, once, and not in every program.
pub struct Engine {
    store: Arc<dyn Store>,
    job: Arc<Job>,
    options: RunOptions,
    observer: Arc<dyn Observer>,
    cancel: CancelToken,
}

/// How a run ended.
#[derive(Debug, Clone)]
pub struct Outcome {
    /// What was counted since the run began, over all its passes, per column.
    pub tallies: Vec<Tally>,
    /// Digest of the plaintexts that were rewritten.
    pub digest: Digest,
    /// Batches committed since the run began.
    pub batches: u64,
    /// Passes since the run began.
    pub passes: u32,
    /// What the proof found in one snapshot: nothing old.
    pub proof: Census,
}

impl Outcome {
    /// Values that were left as they are, as the proof found them: those that open under no key of the plan, and those
    /// under the old key whose new value the database does not take. Without the empty ones, which are
    /// [counted](Census::empty) beside them.
    pub fn quarantined(&self) -> u64 {
        self.proof.unopened() + self.proof.suppressed()
    }

    /// Values rewritten since the run began.
    pub fn rewritten(&self) -> u64 {
        self.tallies.iter().map(|tally| tally.rewritten).sum()
    }
}

/// What a verification found.
#[derive(Debug, Clone)]
pub struct Verification {
    /// Every value, opened under one snapshot.
    pub census: Census,
    /// Whether the plaintexts are exactly those that the run read. On a table that the application changes they
    /// are not, and that is no fault.
    pub digest_equal: bool,
}

/// Where a run stands, by its own account.
#[derive(Debug, Clone)]
pub struct Status {
    /// State and pass.
    pub standing: Standing,
    /// The spans of every pass.
    pub spans: Vec<SpanRecord>,
    /// Values that some pass left as they were; an application may have replaced them since.
    pub quarantine: ByReason,
}

impl Engine {
    /// Joins a store with a job.
    pub fn new(store: impl Store, job: Job, options: RunOptions) -> Self {
        Self {
            store: Arc::new(store),
            job: Arc::new(job),
            options,
            observer: Arc::new(Silent),
            cancel: CancelToken::default(),
        }
    }

    /// Sets who watches.
    #[must_use]
    pub fn observed_by(mut self, observer: Arc<dyn Observer>) -> Self {
        self.observer = observer;
        self
    }

    /// Stops the run after the batch in flight.
    pub fn cancel_token(&self) -> CancelToken {
        self.cancel.clone()
    }

    /// Looks at the target, opens a sample, and estimates. Writes nothing.
    ///
    /// # Errors
    ///
    /// [`EngineError::Database`] if the target cannot be read; refusals are part of the survey.
    pub fn survey(&self) -> BoxFuture<'_, Result<Survey, EngineError>> {
        Box::pin(async move {
            let mut session = self.store.session(self.job.clone()).await?;
            self.survey_with(session.as_mut()).await
        })
    }

    /// Starts the run, or goes on with it, until it is proved that nothing old is left.
    ///
    /// # Errors
    ///
    /// Any [`EngineError`]. Whatever it is, the same call goes on where this one stopped.
    pub fn run(&self) -> BoxFuture<'_, Result<Outcome, EngineError>> {
        Box::pin(async move {
            let mut session = self.store.session(self.job.clone()).await?;
            let survey = self.survey_with(session.as_mut()).await?;
            if !survey.refusals().is_empty() {
                return Err(EngineError::Refused(survey.refusals().to_vec()));
            }
            let standing = session.enter().await?;
            self.restore_suppressed(session.as_mut()).await?;
            match standing.state {
                RunState::Active => self.run_passes(session, standing.pass).await,
                RunState::Proved => self.prove_again(session, standing.pass).await,
                RunState::RolledBack => {
                    Err(EngineError::Conflict(format!("run {} was rolled back", self.job.plan.run)))
                }
            }
        })
    }

    /// Opens every value under one snapshot.
    ///
    /// # Errors
    ///
    /// [`EngineError::Database`] if the target cannot be read.
    pub fn verify(&self) -> BoxFuture<'_, Result<Verification, EngineError>> {
        Box::pin(async move {
            let status = self.status().await?;
            let mut session = self.store.session(self.job.clone()).await?;
            if status.is_some() {
                self.restore_suppressed(session.as_mut()).await?;
            }
            let census = self.read(session, Reading::Verification).await?;
            let expected: Digest =
                status.iter().flat_map(|status| &status.spans).map(|span| span.digest).sum();
            Ok(Verification { digest_equal: census.digest == expected, census })
        })
    }

    /// Where the run stands; `None` if the target does not know it.
    ///
    /// # Errors
    ///
    /// [`EngineError::Damaged`] if a record does not carry the run's MAC.
    pub fn status(&self) -> BoxFuture<'_, Result<Option<Status>, EngineError>> {
        Box::pin(async move {
            let mut session = self.store.session(self.job.clone()).await?;
            let Some(standing) = session.standing().await? else { return Ok(None) };
            let spans = self.spans(session.as_mut()).await?;
            let quarantine = session.quarantine_counts().await?;
            Ok(Some(Status { standing, spans, quarantine }))
        })
    }

    /// The quarantine of the run: `limit` records at most.
    ///
    /// # Errors
    ///
    /// [`EngineError::Database`] if the target does not know the run.
    pub async fn quarantined(&self, limit: u64) -> Result<Vec<QuarantineRecord>, EngineError> {
        self.store.session(self.job.clone()).await?.quarantined(None, limit).await
    }

    /// Leaves alone what an earlier call found that the database does not let us write.
    async fn restore_suppressed(&self, session: &mut dyn Session) -> Result<(), EngineError> {
        let limit = self.options.quarantine_max.saturating_add(1);
        let records = session.quarantined(Some(Reason::WriteSuppressed), limit).await?;
        let names: Vec<&str> = self.job.column_names().collect();
        let cell = |QuarantineRecord { column, row_key, value_mac, .. }| {
            let column = names.iter().position(|name| *name == column)?;
            Some(Cell { column, row_key, value_mac })
        };
        self.job.suppressed.restore(records.into_iter().filter_map(cell));
        Ok(())
    }

    async fn survey_with(&self, session: &mut dyn Session) -> Result<Survey, EngineError> {
        let (facts, sample) = session.survey().await?;
        let mut survey = Survey::new(&self.job, facts, sample).await?;
        // The longest value of a run that is on its way may be one that it wrote: that one fits, and grows no more.
        if session.standing().await?.is_some() {
            survey.facts.refusals.retain(|refusal| !matches!(refusal, Refusal::TooNarrow { .. }));
        }
        Ok(survey)
    }

    async fn run_passes(&self, mut session: Box<dyn Session>, mut pass: u32) -> Result<Outcome, EngineError> {
        let mut switched = matches!(self.options.switch, Switch::Confirmed);
        let first_pass = pass.max(1);
        let last_pass = pass.saturating_add(self.options.passes_max);
        if pass == 0 {
            pass = self.lay_out(session.as_mut(), 1).await?;
        }
        loop {
            let spans = self.spans(session.as_mut()).await?;
            let open = spans.iter().filter(|span| span.pass == pass && !span.is_done()).count() as u64;
            self.observer.event(Event::PassStarted { pass, spans: open });
            let crew = self.crew();
            crew.count_quarantined(session.quarantine_counts().await?.faults())?;
            let end = crew.drain(pass).await?;
            session = self.renewed(session).await?;
            if end == PassEnd::NothingMissed {
                if !std::mem::replace(&mut switched, true) {
                    self.await_switch().await?;
                } else {
                    let proof;
                    (session, proof) = self.prove(session).await?;
                    if proof.old() == 0 {
                        session.set_state(RunState::Proved).await?;
                        return self.outcome(session, proof).await;
                    }
                }
            }
            if pass >= last_pass {
                return Err(self.no_end(session.as_mut()).await?);
            }
            self.pause(pass - first_pass).await?;
            pass = self.lay_out(session.as_mut(), pass + 1).await?;
        }
    }

    /// Proves a run that was proved before: values under the old key may have come since, then it goes on.
    async fn prove_again(&self, session: Box<dyn Session>, pass: u32) -> Result<Outcome, EngineError> {
        self.await_switch().await?;
        let (mut session, proof) = self.prove(session).await?;
        if proof.old() == 0 {
            return self.outcome(session, proof).await;
        }
        session.set_state(RunState::Active).await?;
        let pass = self.lay_out(session.as_mut(), pass + 1).await?;
        self.run_passes(session, pass).await
    }

    /// Reads the table once nothing runs any more that runs now: what a transaction wrote under the old key before the
    /// snapshot, and commits after it, no snapshot shows.
    async fn prove(&self, mut session: Box<dyn Session>) -> Result<(Box<dyn Session>, Census), EngineError> {
        let now = session.horizon().await?;
        self.await_old_transactions(session.as_mut(), &now).await?;
        self.observer.event(Event::Proving);
        let proof = self.read(session, Reading::Proof).await?;
        Ok((self.store.session(self.job.clone()).await?, proof))
    }

    /// Waits before a pass that follows on others, longer each time: rows that someone holds need time, not passes.
    async fn pause(&self, passes_done: u32) -> Result<(), EngineError> {
        let Some(doublings) = passes_done.checked_sub(1) else { return Ok(()) };
        let pause = (PASS_PAUSE * 2_u32.pow(doublings.min(6))).min(PASS_PAUSE_MAX);
        self.observer.event(Event::Waiting("for rows that others hold or write".into()));
        tokio::select! {
            () = self.cancel.cancelled() => Err(EngineError::Interrupted),
            () = tokio::time::sleep(pause) => Ok(()),
        }
    }

    /// Says that passes do not help, and who is writing now.
    async fn no_end(&self, session: &mut dyn Session) -> Result<EngineError, EngineError> {
        let now = session.horizon().await?;
        let writers = match session.holders(&now).await?.join(", ") {
            none if none.is_empty() => "nobody".into(),
            writers => writers,
        };
        Ok(EngineError::NeedsAttention(format!(
            "old values keep appearing after {} passes: a writer still uses the old key, or rows stay locked; \
             writing now: {writers}",
            self.options.passes_max
        )))
    }

    /// A session that works: this one, or a new one if the server went away while the workers ran.
    async fn renewed(&self, mut session: Box<dyn Session>) -> Result<Box<dyn Session>, EngineError> {
        match session.standing().await {
            Ok(_) => Ok(session),
            Err(error) if error.is_connection() => self.store.session(self.job.clone()).await,
            Err(error) => Err(error),
        }
    }

    fn crew(&self) -> Crew {
        Crew {
            store: self.store.clone(),
            job: self.job.clone(),
            options: self.options.clone(),
            observer: self.observer.clone(),
            cancel: self.cancel.clone(),
            workers: self.workers(),
            large: Arc::default(),
            away: Arc::default(),
            quarantined: Arc::default(),
        }
    }

    fn workers(&self) -> usize {
        self.options.workers.clamp(1, self.store.workers_max())
    }

    async fn read(&self, session: Box<dyn Session>, reading: Reading) -> Result<Census, EngineError> {
        read_all(&self.crew(), session, reading).await
    }

    async fn lay_out(&self, session: &mut dyn Session, pass: u32) -> Result<u32, EngineError> {
        let ranges = session.ranges(self.workers(), reading_of(pass).0).await?;
        let columns = self.job.codecs.len();
        let spans = ranges
            .into_iter()
            .zip(0..)
            .map(|(range, number)| self.job.seal_span(SpanRecord::fresh(pass, number, range, columns)))
            .collect();
        session.lay_out(pass, spans).await?;
        Ok(pass)
    }

    /// Waits until the caller says that every writer uses the new key.
    async fn await_switch(&self) -> Result<(), EngineError> {
        if let Switch::Awaited(receiver) = &self.options.switch {
            let mut receiver = receiver.clone();
            if !*receiver.borrow() {
                self.observer.event(Event::Waiting("for the writers to use the new key".into()));
            }
            tokio::select! {
                () = self.cancel.cancelled() => return Err(EngineError::Interrupted),
                // A caller that went away cannot confirm any more.
                confirmed = receiver.wait_for(|confirmed| *confirmed) => {
                    confirmed.map_err(|_| EngineError::Interrupted)?;
                }
            }
        }
        Ok(())
    }

    async fn await_old_transactions(
        &self,
        session: &mut dyn Session,
        horizon: &Horizon,
    ) -> Result<(), EngineError> {
        let deadline = Instant::now() + self.options.proof_wait;
        let mut told = false;
        loop {
            let holders = session.holders(horizon).await?;
            if holders.is_empty() {
                return Ok(());
            }
            if self.cancel.is_cancelled() {
                return Err(EngineError::Interrupted);
            }
            if Instant::now() >= deadline {
                return Err(EngineError::NeedsAttention(format!(
                    "the proof waits for transactions that began before it: {}",
                    holders.join(", ")
                )));
            }
            if !std::mem::replace(&mut told, true) {
                self.observer.event(Event::Waiting(format!("for {}", holders.join(", "))));
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    async fn spans(&self, session: &mut dyn Session) -> Result<Vec<SpanRecord>, EngineError> {
        let spans = session.spans().await?;
        spans.into_iter().map(|span| span.open(self.job.plan.run, &self.job.keys)).collect()
    }

    async fn outcome(&self, mut session: Box<dyn Session>, proof: Census) -> Result<Outcome, EngineError> {
        let spans = self.spans(session.as_mut()).await?;
        let mut tallies = vec![Tally::default(); self.job.codecs.len()];
        for span in &spans {
            tallies.iter_mut().zip(&span.tallies).for_each(|(total, part)| *total = total.plus(*part));
        }
        Ok(Outcome {
            tallies,
            digest: spans.iter().map(|span| span.digest).sum(),
            batches: spans.iter().map(|span| span.seq).sum(),
            passes: spans.iter().map(|span| span.pass).max().unwrap_or(0),
            proof,
        })
    }
}

impl std::fmt::Debug for Engine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Engine").field("run", &self.job.plan.run).finish_non_exhaustive()
    }
}
