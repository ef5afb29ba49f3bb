//! Re-encrypts database columns under a new key: online, verified, resumable.
//!
//! ```text
//!    async                      rayon                          async
//!  Session::read --> Batch --> open, seal, reopen --> VerifiedBatch --> Session::write + checkpoint
//! ```
//!
//! Three mechanisms, each enough against what it is for: the compare-and-set of the write protects the data of the
//! application, the fence row protects the account, and one snapshot at the end proves that nothing old is left.
//! Nothing relies on a span being right.

pub mod batch;
mod classify;
pub mod engine;
pub mod error;
pub mod finding;
pub mod ledger;
pub mod observer;
pub mod options;
pub mod plan;
pub mod postgres;
mod proof;
pub mod sqlite;
pub mod store;
mod suppressed;
pub mod survey;
pub mod transform;
pub mod verified;
mod worker;

pub use batch::{Batch, Cells, KeyCells, Position};
pub use engine::{Engine, Outcome, Status, Verification};
pub use error::{DatabaseError, EngineError, ErrorKind};
pub use finding::{Refusal, Warning};
pub use ledger::{RunId, RunKey, RunState, SpanRecord, Tally};
pub use observer::{BatchInfo, Event, Moment, Observer, Silent};
pub use options::{CancelToken, RunOptions, Switch};
pub use plan::{
    Codecs, ColumnPlan, Direction, Job, KeyColumn, KeyType, RunPlan, Side, TableName, TableShape,
};
pub use store::QuarantineRecord;
pub use survey::{Survey, TableFacts};
pub use transform::{Census, ColumnCensus, ValueAt};
pub use verified::{ByReason, Lease, Reason, VerifiedBatch};
