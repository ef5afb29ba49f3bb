//! The SQLite store: the application's own database file.
//!
//! SQLite has one writer at a time, and that shapes everything here:
//!
//! - There is one worker. Its transactions hold the write lock for about 50 ms, and it then leaves the file alone for
//!   as long again, so that an application with any busy timeout gets its turn.
//! - Spans are ranges of rowids. Where the rowid is an INTEGER PRIMARY KEY they mean the same for ever; elsewhere
//!   VACUUM renumbers rows, so a change of the schema version or of the file voids the spans.
//! - The account stands in tables `reseal_…` of the same file, written in the transaction of the rows: a copy of the
//!   file is a copy of both.
//! - Types and collations are the value's business, not the column's: a write compares `typeof` and the bytes under
//!   `COLLATE BINARY`, and a value keeps the type it had.

mod connection;
mod pace;
mod position;
mod probe;
mod quarantine;
mod read;
mod run;
mod session;
mod span;
mod survey;
mod table;
mod trigger;
mod write;

use std::path::PathBuf;
use std::sync::Arc;

use async_trait::async_trait;

use crate::error::EngineError;
use crate::plan::Job;
use crate::store::{Session, Store};

pub use session::SqliteSession;
pub use table::describe;

/// A SQLite database file.
#[derive(Debug, Clone)]
pub struct SqliteStore {
    path: PathBuf,
}

impl SqliteStore {
    /// The file at `path`; it must exist when a session begins.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into() }
    }
}

#[async_trait]
impl Store for SqliteStore {
    fn workers_max(&self) -> usize {
        1
    }

    async fn session(&self, job: Arc<Job>) -> Result<Box<dyn Session>, EngineError> {
        Ok(Box::new(SqliteSession::open(&self.path, job)?))
    }
}
