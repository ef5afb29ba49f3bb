//! What a test and the engine's process say to each other, one JSON object a line.

use reseal_engine::BatchInfo;
use reseal_engine::RunPlan;
use serde::{Deserialize, Serialize};

use crate::scheme::Scheme;

/// The first line that the process reads.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Assignment {
    /// URL of a Postgres, or path of a SQLite database.
    pub database: String,
    /// Formats and keys.
    pub scheme: Scheme,
    /// The frozen plan.
    pub plan: RunPlan,
    /// Workers.
    pub workers: usize,
    /// Most rows of a batch.
    pub batch_rows_max: usize,
    /// Whether the application uses the new key already; else the process waits to be told.
    pub switched: bool,
    /// Stops for ever in the transaction of this batch, counted from 1: its rows are written, nothing is committed.
    pub hold_at: Option<u64>,
}

/// What a test tells the process after the assignment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Order {
    /// Every writer uses the new key now.
    Switched,
}

/// A batch as the process tells of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct BatchLine {
    /// The pass.
    pub pass: u32,
    /// The span's number within the pass.
    pub span: u64,
    /// The batch's number within the span.
    pub seq: u64,
    /// Rows read.
    pub rows: u64,
    /// Where its rows stand.
    pub places: Option<Places>,
}

/// Where the rows of a batch stand.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Places {
    /// The stripe of rows that its span is about, in Postgres: others stand between the same two.
    pub stripe: Option<u8>,
    /// The first row.
    pub first: u64,
    /// The last row.
    pub last: u64,
}

impl Places {
    /// Of a batch with rows.
    pub fn of(info: &BatchInfo<'_>) -> Option<Self> {
        let locators = &info.batch.locators;
        let lo = &info.span.lo.0;
        let stripe = (lo.len() == 7).then(|| lo[6]);
        Some(Self { stripe, first: *locators.first()?, last: *locators.last()? })
    }

    /// Whether a row may be in both.
    pub fn overlaps(&self, other: &Self) -> bool {
        self.stripe == other.stripe && self.first <= other.last && other.first <= self.last
    }
}

/// What the process tells.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Line {
    /// A batch was read.
    Read(BatchLine),
    /// A batch was committed.
    Committed(BatchLine),
    /// Stopped with the transaction of this batch open, as assigned.
    Held(BatchLine),
    /// The run ended with its proof.
    Done {
        /// Values rewritten since the run began.
        rewritten: u64,
        /// Values that still open under the old key.
        old: u64,
        /// Values in the quarantine.
        quarantined: u64,
        /// Passes.
        passes: u32,
    },
    /// The run stopped with an error.
    Failed(String),
}
