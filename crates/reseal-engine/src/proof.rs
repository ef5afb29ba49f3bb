//! Reads a whole table under one snapshot: the proof that nothing old is left, and the verification of every value.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::task::JoinSet;

use crate::classify::Look;
use crate::error::EngineError;
use crate::ledger::ScanRange;
use crate::observer::Event;
use crate::store::{Filter, Session, SnapshotId};
use crate::transform::{Census, census_on_pool};
use crate::worker::Crew;

/// Rows of one read.
const ROWS: usize = 5_000;

/// How much of the table is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reading {
    /// What may not be new: enough to prove that nothing is old.
    Proof,
    /// Every value, opened.
    Verification,
}

impl Reading {
    fn filter(self) -> Filter {
        match self {
            Self::Proof => Filter::NotNew,
            Self::Verification => Filter::All,
        }
    }

    fn look(self) -> Look {
        match self {
            Self::Proof => Look::NewFirst,
            Self::Verification => Look::EveryValue,
        }
    }
}

/// Counts what the table holds in one snapshot, which all workers share.
pub(crate) async fn read_all(
    crew: &Crew,
    mut lead: Box<dyn Session>,
    reading: Reading,
) -> Result<Census, EngineError> {
    let snapshot = lead.open_snapshot().await?;
    let ranges = lead.ranges(crew.workers, reading.filter()).await?;
    let queue = Arc::new(Mutex::new(VecDeque::from(ranges)));
    let mut readers = JoinSet::new();
    for _ in 1..crew.workers.min(queue.lock().unwrap_or_else(PoisonError::into_inner).len()) {
        readers.spawn(join_reading(crew.clone(), snapshot.clone(), queue.clone(), reading));
    }
    let mut census = read_ranges(crew, lead.as_mut(), &queue, reading).await?;
    while let Some(ended) = readers.join_next().await {
        let part =
            ended.unwrap_or_else(|_| Err(EngineError::Internal("a reader ended unexpectedly".into())))?;
        census = census.plus(&part);
    }
    // The lead's snapshot lives until the last reader is done: others may join it late.
    lead.close_snapshot().await?;
    Ok(census)
}

async fn join_reading(
    crew: Crew,
    snapshot: SnapshotId,
    queue: Arc<Mutex<VecDeque<ScanRange>>>,
    reading: Reading,
) -> Result<Census, EngineError> {
    let mut session = crew.store.session(crew.job.clone()).await?;
    session.join_snapshot(&snapshot).await?;
    let census = read_ranges(&crew, session.as_mut(), &queue, reading).await?;
    session.close_snapshot().await?;
    Ok(census)
}

async fn read_ranges(
    crew: &Crew,
    session: &mut dyn Session,
    queue: &Mutex<VecDeque<ScanRange>>,
    reading: Reading,
) -> Result<Census, EngineError> {
    let mut census = Census::new(crew.job.codecs.len());
    while let Some(range) = next(queue) {
        let mut from = range.lo.clone();
        while from < range.hi {
            if crew.cancel.is_cancelled() {
                return Err(EngineError::Interrupted);
            }
            let batch = session.read(&range, &from, crew.limits(ROWS), reading.filter()).await?;
            from = batch.end.clone();
            let part = census_on_pool(crew.job.clone(), batch, reading.look()).await?;
            crew.observer.event(Event::Checked { rows: part.rows });
            census = census.plus(&part);
        }
    }
    Ok(census)
}

fn next(queue: &Mutex<VecDeque<ScanRange>>) -> Option<ScanRange> {
    queue.lock().unwrap_or_else(PoisonError::into_inner).pop_front()
}
