//! Who watches a run: progress for people, and the moments at which a test acts.

use std::time::Duration;

use futures_util::future::{BoxFuture, FutureExt};

use crate::batch::Batch;
use crate::ledger::{SpanRecord, Tally};

/// A moment in the life of a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Moment {
    /// Its rows were read; nothing is open in the database.
    Read,
    /// Its values are sealed and verified; the write is next.
    Sealed,
    /// Its rows are written and compared; the transaction is still open.
    Written,
    /// Its transaction is committed.
    Committed,
}

/// What an observer is told about a batch.
#[derive(Debug, Clone, Copy)]
pub struct BatchInfo<'a> {
    /// The span as it stood when the batch was read; its `seq` numbers the batch.
    pub span: &'a SpanRecord,
    /// The rows as they were read.
    pub batch: &'a Batch,
}

/// Something that happened in a run.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Event {
    /// A pass begins, or goes on.
    PassStarted {
        /// Its number, from 1.
        pass: u32,
        /// Spans of it that are not done.
        spans: u64,
    },
    /// A batch was committed.
    Batch {
        /// Rows read.
        rows: u64,
        /// What happened to the values, over all columns.
        tally: Tally,
    },
    /// The engine waits, and for whom.
    Waiting(String),
    /// The connection was lost, and is tried again: told once, until one stands.
    Reconnecting {
        /// What was said.
        why: String,
        /// How long it is tried while nothing gets written.
        patience: Duration,
    },
    /// A connection stands again.
    Reconnected,
    /// The proof reads the table.
    Proving,
    /// A part of the proof or of a verification was read.
    Checked {
        /// Rows read.
        rows: u64,
    },
}

/// Watches a run. Every method does nothing unless it is implemented.
pub trait Observer: Send + Sync {
    /// Called for everything worth showing; must return soon.
    fn event(&self, event: Event) {
        let _ = event;
    }

    /// Called at each moment of each batch; the worker goes on when the future ends.
    fn at<'a>(&'a self, moment: Moment, info: BatchInfo<'a>) -> BoxFuture<'a, ()> {
        let _ = (moment, info);
        std::future::ready(()).boxed()
    }
}

/// An observer that does nothing.
#[derive(Debug, Clone, Copy, Default)]
pub struct Silent;

impl Observer for Silent {}
