//! How a run goes about its work. Nothing here decides what is written.

use std::time::Duration;

use tokio::sync::watch;

/// How hard a run works and how long it waits.
#[derive(Debug, Clone)]
pub struct RunOptions {
    /// Workers, each with a connection of its own; by default twice the cores, at most 8.
    pub workers: usize,
    /// Bytes that the batches of all workers may take together, in all their forms.
    pub memory_bytes: usize,
    /// How long the transaction of a batch should take; rows per batch follow.
    pub batch_target: Duration,
    /// Most rows of a batch.
    pub batch_rows_max: usize,
    /// When every writer uses the new key.
    pub switch: Switch,
    /// Passes of one call before it gives up.
    pub passes_max: u32,
    /// How long the proof waits for old transactions to end.
    pub proof_wait: Duration,
    /// How long a lost connection is tried again while nothing gets written.
    pub reconnect_wait: Duration,
    /// Values that a run may leave as they are before it stops, without the empty ones. They are counted one by one in the target database, and
    /// the batches in flight may bring a few more.
    pub quarantine_max: u64,
    /// How long batches are tried again while locks or slow triggers let none through.
    pub write_wait: Duration,
}

impl Default for RunOptions {
    fn default() -> Self {
        let cores = std::thread::available_parallelism().map_or(2, usize::from);
        Self {
            workers: (cores * 2).min(8),
            memory_bytes: 128 << 20,
            batch_target: Duration::from_millis(200),
            batch_rows_max: 4_000,
            switch: Switch::Confirmed,
            passes_max: 10,
            proof_wait: Duration::from_secs(60),
            reconnect_wait: Duration::from_secs(30),
            quarantine_max: 100_000,
            write_wait: Duration::from_secs(600),
        }
    }
}

/// When all writers use the new key, so that nothing old appears any more.
#[derive(Debug, Clone)]
pub enum Switch {
    /// They do already, or they are stopped.
    Confirmed,
    /// The caller says so during the run, by sending `true`.
    Awaited(watch::Receiver<bool>),
}

/// Asks a run to stop after the batch in flight.
#[derive(Debug, Clone)]
pub struct CancelToken(watch::Sender<bool>);

impl Default for CancelToken {
    fn default() -> Self {
        Self(watch::Sender::new(false))
    }
}

impl CancelToken {
    /// Asks.
    pub fn cancel(&self) {
        self.0.send_replace(true);
    }

    /// Whether someone asked.
    pub fn is_cancelled(&self) -> bool {
        *self.0.borrow()
    }

    /// Ends when someone asks.
    pub async fn cancelled(&self) {
        // The sender lives in `self`, so waiting ends only by the value.
        let _ = self.0.subscribe().wait_for(|cancelled| *cancelled).await;
    }
}
