//! How far a run is: a bar where a person watches, lines elsewhere, JSON lines under `--json`.

use std::fmt::Write;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};
use reseal_engine::{Event, Observer};
use serde_json::json;

use super::rate;
use crate::ui::Ui;
use crate::units::{count, span};

/// How often a line is written where no bar is drawn.
const LINE_EVERY: Duration = Duration::from_secs(5);

/// Shows the progress of one run.
#[derive(Debug)]
pub(super) struct Progress {
    ui: Ui,
    name: String,
    total: u64,
    started: Instant,
    bar: ProgressBar,
    /// Rows of all batches since the start.
    rows: AtomicU64,
    state: Mutex<Phase>,
}

/// One pass, or the proof.
#[derive(Debug)]
struct Phase {
    pass: u32,
    name: &'static str,
    /// Rows that it has to read, by estimate.
    total: u64,
    /// Rows that it read.
    rows: u64,
    started: Instant,
    told: Option<Instant>,
}

impl Progress {
    /// Begins to show what is `doing` over about `total` rows, `before` of which were read in the pass that it goes on with.
    pub(super) fn start(ui: Ui, name: &str, doing: &'static str, total: u64, before: u64) -> Self {
        let left = total.saturating_sub(before);
        let bar = ProgressBar::with_draw_target(Some(left), ui.draw_target());
        bar.set_prefix(name.to_owned());
        if let Ok(style) = ProgressStyle::with_template(
            "{prefix} {msg} [{bar:30}] {percent:>3} %  {human_pos} of {human_len} rows  {per_sec}  {eta} left",
        ) {
            bar.set_style(style.progress_chars("=> "));
        }
        bar.enable_steady_tick(Duration::from_millis(200));
        let started = Instant::now();
        let phase = Phase { pass: 0, name: doing, total: left, rows: 0, started, told: None };
        bar.set_message(doing);
        Self {
            ui,
            name: name.to_owned(),
            total,
            started,
            bar,
            rows: AtomicU64::new(0),
            state: Mutex::new(phase),
        }
    }

    /// Takes the bar away.
    pub(super) fn finish(&self) {
        self.bar.finish_and_clear();
    }

    /// Rows read for re-encryption since the start, over all passes.
    pub(super) fn rows(&self) -> u64 {
        self.rows.load(Ordering::Relaxed)
    }

    /// Time since the start.
    pub(super) fn elapsed(&self) -> Duration {
        self.started.elapsed()
    }

    fn begin(&self, name: &'static str, pass: u32) {
        let mut phase = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        // The first one may go on with what an earlier command left; those after it read everything.
        let total = if phase.pass == 0 && pass > 0 { phase.total } else { self.total };
        *phase = Phase { pass, name, total, rows: 0, started: Instant::now(), told: None };
        self.bar.set_length(total);
        self.bar.set_position(0);
        self.bar.reset_eta();
        self.bar.set_message(if pass > 1 { format!("{name}, pass {pass}") } else { name.to_owned() });
    }

    fn advance(&self, rows: u64) {
        self.bar.inc(rows);
        let mut phase = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        phase.rows += rows;
        // A program that reads along gets every batch.
        let is_due = self.ui.is_json() || phase.told.is_none_or(|told| told.elapsed() >= LINE_EVERY);
        if is_due && !self.ui.is_quiet() && (self.ui.is_json() || !self.ui.draws()) {
            phase.told = Some(Instant::now());
            self.tell(&phase);
        }
    }

    fn say(&self, words: String) {
        self.bar.suspend(|| self.ui.note(format!("{}: {words}", self.name)));
    }

    fn tell(&self, phase: &Phase) {
        if self.ui.is_json() {
            self.ui.event(json!({ "progress": {
                "name": self.name, "phase": phase.name, "pass": phase.pass, "rows": phase.rows, "total": phase.total,
            }}));
        } else {
            self.ui.note(phase.words(&self.name));
        }
    }
}

impl Phase {
    /// One line of progress.
    fn words(&self, name: &str) -> String {
        let speed = rate(self.rows, self.started.elapsed());
        let done = format!("{name}: {} {}", self.name, count(self.rows));
        // Of a table that was never analysed nobody knows how many rows it has.
        if self.total < self.rows {
            return format!("{done} rows, {} rows/s", count(speed as u64));
        }
        let mut words = format!("{done} of about {} rows, {} rows/s", count(self.total), count(speed as u64));
        // At less than that, what is left is anybody's guess.
        if speed >= 1.0 {
            let left = (self.total - self.rows) as f64 / speed;
            let _ = write!(words, ", {} left", span(Duration::from_secs_f64(left)));
        }
        words
    }
}

impl Observer for Progress {
    fn event(&self, event: Event) {
        match event {
            Event::PassStarted { pass, .. } => self.begin("re-encrypts", pass),
            Event::Proving => self.begin("proves", 0),
            Event::Batch { rows, .. } => {
                self.rows.fetch_add(rows, Ordering::Relaxed);
                self.advance(rows);
            }
            Event::Checked { rows } => self.advance(rows),
            Event::Waiting(whom) => self.say(format!("waits {whom}")),
            Event::Reconnecting { why, patience } => {
                self.say(format!("the connection is lost, tries again for {}: {why}", span(patience)));
            }
            Event::Reconnected => self.say("is connected again".to_owned()),
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn batch(rows: u64) -> Event {
        Event::Batch { rows, tally: reseal_engine::Tally::default() }
    }

    #[test]
    fn what_is_left_counts_from_where_an_earlier_command_stopped() {
        let progress = Progress::start(Ui::new(false, true), "prefs", "re-encrypts", 1_000, 900);
        progress.event(Event::PassStarted { pass: 1, spans: 1 });
        progress.event(batch(40));
        let phase = |progress: &Progress| {
            let phase = progress.state.lock().unwrap();
            (phase.total, phase.rows)
        };
        assert_eq!(phase(&progress), (100, 40));
        progress.event(Event::PassStarted { pass: 2, spans: 1 });
        progress.event(batch(7));
        assert_eq!(phase(&progress), (1_000, 7));
        progress.event(Event::Proving);
        progress.event(Event::Checked { rows: 500 });
        assert_eq!((phase(&progress), progress.rows()), ((1_000, 500), 47));
    }

    #[test]
    fn each_phase_has_a_speed_of_its_own() {
        let started = Instant::now().checked_sub(Duration::from_secs(10)).unwrap();
        let phase = Phase { pass: 2, name: "re-encrypts", total: 3_000, rows: 1_000, started, told: None };
        assert_eq!(
            phase.words("prefs"),
            "prefs: re-encrypts 1 000 of about 3 000 rows, 99 rows/s, 20 s left"
        );
        let slow = Phase { rows: 3, ..phase };
        assert_eq!(slow.words("prefs"), "prefs: re-encrypts 3 of about 3 000 rows, 0 rows/s");
        let unknown = Phase { rows: 20, total: 0, ..slow };
        assert_eq!(unknown.words("prefs"), "prefs: re-encrypts 20 rows, 1 rows/s");
    }
}
