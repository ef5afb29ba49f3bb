//! What stands before a run: the table, what the keys of the plan open in it, and what a run would cost.

use crate::finding::{Refusal, Warning};

/// What a store knows about a table.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TableFacts {
    /// The server, for people.
    pub server: String,
    /// Rows by estimate.
    pub rows: u64,
    /// Bytes on disk with indexes and large values.
    pub bytes: u64,
    /// The tables that hold rows: the table itself or its partitions.
    pub leaves: Vec<String>,
    /// Reasons not to start.
    pub refusals: Vec<Refusal>,
    /// Things to know.
    pub warnings: Vec<Warning>,
    /// Per column of the plan, the most characters it takes; `None` where there is no limit.
    pub widths: Vec<Option<u64>>,
}
