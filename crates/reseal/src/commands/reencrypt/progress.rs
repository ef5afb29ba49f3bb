//! How far a run is: a bar where a person watches, lines elsewhere, JSON lines under `--json`.

use std::io::Write;
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
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    pass: u32,
    phase: &'static str,
    rows: u64,
    told: Option<Instant>,
}

impl Progress {
    /// Begins to show a run over about `total` rows.
    pub(super) fn start(ui: Ui, name: &str, total: u64) -> Self {
        let bar = ProgressBar::with_draw_target(Some(total), ui.draw_target());
        bar.set_prefix(name.to_owned());
        if let Ok(style) = ProgressStyle::with_template(
            "{prefix} {msg} [{bar:30}] {percent:>3} %  {human_pos} of {human_len} rows  {per_sec}  {eta} left",
        ) {
            bar.set_style(style.progress_chars("=> "));
        }
        bar.enable_steady_tick(Duration::from_millis(200));
        let state = State { pass: 0, phase: "re-encrypts", rows: 0, told: None };
        Self { ui, name: name.to_owned(), total, started: Instant::now(), bar, state: Mutex::new(state) }
    }

    /// Takes the bar away.
    pub(super) fn finish(&self) {
        self.bar.finish_and_clear();
    }

    fn begin(&self, phase: &'static str, pass: u32) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        *state = State { pass, phase, rows: 0, told: None };
        self.bar.set_position(0);
        self.bar.reset_eta();
        self.bar.set_message(if pass > 1 { format!("{phase}, pass {pass}") } else { phase.to_owned() });
    }

    fn advance(&self, rows: u64) {
        self.bar.inc(rows);
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.rows += rows;
        // A program that reads along gets every batch.
        let is_due = self.ui.is_json() || state.told.is_none_or(|told| told.elapsed() >= LINE_EVERY);
        if is_due && !self.ui.is_quiet() && (self.ui.is_json() || !self.ui.draws()) {
            state.told = Some(Instant::now());
            self.tell(&state);
        }
    }

    fn tell(&self, state: &State) {
        let mut err = anstream::stderr().lock();
        let elapsed = self.started.elapsed();
        // A closed stderr is no reason to stop.
        let _ = if self.ui.is_json() {
            let progress = json!({
                "columns": self.name, "phase": state.phase, "pass": state.pass, "rows": state.rows, "total": self.total,
            });
            writeln!(err, "{}", json!({ "progress": progress }))
        } else {
            let speed = rate(state.rows, elapsed);
            let left = self.total.saturating_sub(state.rows) as f64 / speed.max(1.0);
            writeln!(
                err,
                "{}: {} {} of about {} rows, {} rows/s, {} left",
                self.name,
                state.phase,
                count(state.rows),
                count(self.total),
                count(speed as u64),
                span(Duration::from_secs_f64(left)),
            )
        };
    }
}

impl Observer for Progress {
    fn event(&self, event: Event) {
        match event {
            Event::PassStarted { pass, .. } => self.begin("re-encrypts", pass),
            Event::Proving => self.begin("proves", 0),
            Event::Batch { rows, .. } | Event::Checked { rows } => self.advance(rows),
            Event::Waiting(whom) => self.bar.suspend(|| self.ui.note(format!("{}: waits {whom}", self.name))),
            Event::Reconnecting(why) => {
                self.bar.suspend(|| self.ui.note(format!("{}: connects again: {why}", self.name)));
            }
            _ => {}
        }
    }
}
