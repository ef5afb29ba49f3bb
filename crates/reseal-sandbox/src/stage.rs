//! A database with the runbook's table and the application that writes to it, ready to be re-encrypted: what the demo
//! plays on, over Postgres and over SQLite.

mod postgres;
mod sqlite;

use std::sync::Arc;
use std::time::Duration;

pub use postgres::PostgresStage;
pub use sqlite::SqliteStage;

use crate::codec::CodecSealer;
use crate::error::SandboxError;
use crate::ledger::Comparison;
use crate::seal::{Key, Sealer};
use crate::table::StoredRow;
use crate::values::Cell;

/// Which key opens the values of a table, counted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Census {
    /// Values that open under the old key.
    pub old: u64,
    /// Values that open under the new key.
    pub new: u64,
    /// Values that open under neither or under both.
    pub neither: u64,
}

impl Census {
    /// Opens every value of these rows and counts them.
    pub fn add(&mut self, rows: &[StoredRow], sealer: &dyn Sealer) {
        let cells: Vec<(Cell, &[u8])> = rows
            .iter()
            .flat_map(|row| {
                let cells = row.cells.iter().enumerate();
                cells.filter_map(|(column, cell)| Some((Cell { id: row.id, column }, cell.as_deref()?)))
            })
            .collect();
        for opened in sealer.open_many(&cells) {
            match opened.map(|opened| opened.key) {
                Some(Key::Old) => self.old += 1,
                Some(Key::New) => self.new += 1,
                None => self.neither += 1,
            }
        }
    }
}

/// What the application did, and what the table holds of it.
#[derive(Debug, Clone, Copy)]
pub struct Ending {
    /// Transactions that the application committed.
    pub transactions: u64,
    /// Every value of the table against the application's ledger.
    pub comparison: Comparison,
    /// The longest that one transaction took.
    pub longest: Duration,
}

/// How a plan file names the database.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlanNames {
    /// The lines of `[servers.NAME]`: kind and place.
    pub server: String,
    /// The table, with its schema.
    pub table: String,
}

/// A database with the table of the runbook, and the application that writes to it.
pub trait Stage {
    /// `postgres` or `sqlite`.
    const STORE: &'static str;

    /// What it is, for people.
    fn description(&self) -> String;

    /// How a plan file names it.
    fn plan_names(&self) -> PlanNames;

    /// Makes the table and fills it with `rows` rows under the old key.
    ///
    /// # Errors
    ///
    /// [`SandboxError`].
    fn load(
        &mut self,
        rows: i64,
        old_passphrase: &str,
        sealer: Arc<CodecSealer>,
    ) -> impl Future<Output = Result<(), SandboxError>>;

    /// Rows per second of the runbook's own statement over some rows, taken back afterwards; `None` where the database
    /// has no such functions.
    ///
    /// # Errors
    ///
    /// [`SandboxError`].
    fn runbook_rate(
        &mut self,
        old_passphrase: &str,
    ) -> impl Future<Output = Result<Option<f64>, SandboxError>>;

    /// Starts the application under the old key.
    ///
    /// # Errors
    ///
    /// [`SandboxError`].
    fn start_application(&mut self) -> Result<(), SandboxError>;

    /// Lets the application use the new key from now on; when this returns, no write under the old key is under way.
    fn switch(&mut self);

    /// Opens every value of one snapshot, while the application goes on.
    ///
    /// # Errors
    ///
    /// [`SandboxError`].
    fn census(&mut self) -> impl Future<Output = Result<Census, SandboxError>>;

    /// Stops the application and compares every value with its ledger.
    ///
    /// # Errors
    ///
    /// [`SandboxError`].
    fn stop_application(&mut self) -> impl Future<Output = Result<Ending, SandboxError>>;

    /// Rows that the engine wrote again without the application having written in between, counted by a trigger.
    ///
    /// # Errors
    ///
    /// [`SandboxError`].
    fn rewritten_twice(&mut self) -> impl Future<Output = Result<u64, SandboxError>>;

    /// Removes what was made in a database that is not this stage's own.
    ///
    /// # Errors
    ///
    /// [`SandboxError`].
    fn leave(self) -> impl Future<Output = Result<(), SandboxError>>;
}
