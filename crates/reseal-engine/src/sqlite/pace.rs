//! How long the file is ours: batches of about 50 ms, and as long a pause after each.

use std::time::{Duration, Instant};

/// How long a batch should hold the write lock.
const TARGET: Duration = Duration::from_millis(50);
/// Rows of the first batch.
const FIRST_ROWS: usize = 500;
/// Fewest rows of a batch.
const ROWS_MIN: usize = 16;
/// Most rows of a batch.
const ROWS_MAX: usize = 20_000;

/// Adapts rows per batch, and says when the next one may begin.
#[derive(Debug)]
pub(super) struct Pace {
    rows: usize,
    rest_until: Option<Instant>,
}

impl Pace {
    pub(super) fn new() -> Self {
        Self { rows: FIRST_ROWS, rest_until: None }
    }

    /// Most rows of the next batch.
    pub(super) fn rows(&self) -> usize {
        self.rows
    }

    /// Waits until the application had the file for as long as the last batch held it.
    pub(super) async fn rest(&self) {
        if let Some(until) = self.rest_until {
            tokio::time::sleep_until(until.into()).await;
        }
    }

    /// Notes that a batch of `rows` rows, of which `changed` were written, held the lock for `held`.
    pub(super) fn held(&mut self, rows: usize, changed: usize, held: Duration) {
        self.rest_until = Some(Instant::now() + held);
        // A batch in which little changed says nothing about the time that changes take.
        if changed * 2 < rows {
            return;
        }
        let factor = TARGET.as_secs_f64() / held.as_secs_f64().max(0.001);
        self.rows = ((rows as f64 * factor.clamp(0.25, 2.0)) as usize).clamp(ROWS_MIN, ROWS_MAX);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn batches_move_towards_fifty_milliseconds() {
        let mut pace = Pace::new();
        for _ in 0..20 {
            // 10 microseconds a row.
            let rows = pace.rows();
            pace.held(rows, rows, Duration::from_micros(10 * rows as u64));
        }
        assert!((4_000..=6_000).contains(&pace.rows()), "{}", pace.rows());
        pace.held(pace.rows(), pace.rows(), Duration::from_secs(5));
        assert!(pace.rows() <= 1_500);
    }

    #[tokio::test]
    async fn a_pause_lasts_as_long_as_the_batch() {
        let mut pace = Pace::new();
        let begun = Instant::now();
        pace.rest().await;
        assert!(begun.elapsed() < Duration::from_millis(20));
        pace.held(10, 10, Duration::from_millis(40));
        pace.rest().await;
        assert!(begun.elapsed() >= Duration::from_millis(40));
    }
}
