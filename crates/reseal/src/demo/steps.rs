//! The steps of the demo, in the order in which they are told.

use std::fs;
use std::sync::Arc;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};
use reseal_sandbox::stage::{Census, Stage};
use serde_json::Value;

use super::engine::{Ended, Running, Watch, command};
use super::figures::Figures;
use super::home::{COLUMNS_NAME, Home, KEY_NAME};
use crate::app::App;
use crate::exit::Exit;
use crate::failure::{Failure, Outcome};
use crate::units::{count, span};

/// How far the engine is when it is killed.
const KILL_AT_PERCENT: u64 = 50;
/// How long the application writes before the engine begins.
const HEAD_START: Duration = Duration::from_millis(500);

/// One demo.
#[derive(Debug, Clone, Copy)]
pub(super) struct Steps<'a> {
    pub(super) app: &'a App,
    pub(super) home: &'a Home,
    pub(super) rows: u64,
}

/// What the two engines did.
#[derive(Debug)]
struct Reencryption {
    seconds: f64,
    killed_at_percent: f64,
    after_kill: Census,
    resumed: bool,
    rewritten: u64,
    quarantined: u64,
}

/// What became of the vault.
#[derive(Debug)]
struct VaultFate {
    exported: bool,
    restored: bool,
    flipped_bit_refused: bool,
}

impl VaultFate {
    fn words(&self) -> String {
        let said = |so: bool, good: &'static str, bad: &'static str| if so { good } else { bad };
        let facts = [
            said(self.exported, "exported the secret", "DID NOT export the secret"),
            said(self.restored, "came back from its backup", "DID NOT come back from its backup"),
            said(self.flipped_bit_refused, "refused a flipped bit", "DID NOT refuse a flipped bit"),
        ];
        format!("the vault {}", facts.join(", "))
    }
}

impl Steps<'_> {
    /// Plays the demo on a stage.
    ///
    /// # Errors
    ///
    /// A step failed.
    pub(super) async fn play<S: Stage>(&self, stage: &mut S) -> Outcome<Figures> {
        self.app.ui.note(format!("a database of its own: {}", stage.description()));
        let keys = self.home.fill_vault()?;
        let names = stage.plan_names();
        self.home.write_plan(&names)?;
        let sealer = Arc::new(self.home.sealer(&keys, &names)?);

        let rows = i64::try_from(self.rows).map_err(|error| Failure::from_error(Exit::Usage, &error))?;
        let started = Instant::now();
        let spinner = self.app.ui.spinner("loads the table, encrypted as pgcrypto does it");
        stage.load(rows, keys.old_passphrase(), sealer).await?;
        spinner.finish_and_clear();
        self.told(&format!("{} rows with three encrypted columns loaded", count(self.rows)), started);

        let started = Instant::now();
        let spinner = self.app.ui.spinner("runs the runbook's UPDATE on some rows, for comparison");
        let runbook_rows_per_second = stage.runbook_rate(keys.old_passphrase()).await?;
        spinner.finish_and_clear();
        if let Some(rate) = runbook_rows_per_second {
            self.told(&format!("the runbook's UPDATE would do {} rows/s", count(rate as u64)), started);
        }

        let backup = self.path("before.vault");
        command(self.home, &["--json", "backup", "create", &backup]).await?.check()?;
        stage.start_application()?;
        tokio::time::sleep(HEAD_START).await;
        self.app.ui.note("an application inserts, updates and deletes, under the old key");
        let done = self.reencrypt(stage).await?;

        let started = Instant::now();
        let spinner =
            self.app.ui.spinner("opens every value and compares it with the application's own ledger");
        let ending = stage.stop_application().await?;
        spinner.finish_and_clear();
        self.told(&format!("{} values opened and compared", count(ending.comparison.values)), started);
        let rewritten_twice = stage.rewritten_twice().await?;
        let fate = self.vault().await?;
        Ok(Figures {
            store: S::STORE,
            database: stage.description(),
            rows: self.rows,
            seconds: done.seconds,
            runbook_rows_per_second,
            killed_at_percent: done.killed_at_percent,
            after_kill: done.after_kill,
            resumed: done.resumed,
            rewritten: done.rewritten,
            quarantined: done.quarantined,
            rewritten_twice,
            ending,
            vault_restored: fate.restored,
            flipped_bit_refused: fate.flipped_bit_refused,
            exported: fate.exported,
        })
    }

    /// Runs the engine, kills it half way, looks, and lets another one finish.
    async fn reencrypt<S: Stage>(&self, stage: &mut S) -> Outcome<Reencryption> {
        let bar = self.bar();
        let started = Instant::now();
        let mut reached = 0;
        let kill_at = self.rows * KILL_AT_PERCENT / 100;
        let first = self
            .engine("run")?
            .wait(|rows| {
                reached = reached.max(rows);
                bar.set_position(rows);
                if rows >= kill_at { Watch::Kill } else { Watch::GoOn }
            })
            .await?;
        let mut seconds = started.elapsed().as_secs_f64();
        if first.code.is_some() {
            first.check()?;
            return Err(Failure::new(Exit::Failed, "the engine was done before it could be killed")
                .hint("try more --rows"));
        }
        let reached = reached.min(self.rows);
        let killed_at_percent = reached as f64 * 100.0 / self.rows as f64;
        bar.suspend(|| {
            self.app.ui.note(format!("the engine was killed with SIGKILL at {killed_at_percent:.0} %"))
        });

        let looking = Instant::now();
        let after_kill = stage.census().await?;
        bar.suspend(|| {
            self.told(&words_of(after_kill), looking);
        });

        stage.switch();
        bar.suspend(|| {
            self.app.ui.note("the application uses the new key from now on; another engine goes on")
        });
        let started = Instant::now();
        let second = self
            .engine("resume")?
            .wait(|rows| {
                bar.set_position((reached + rows).min(self.rows));
                Watch::GoOn
            })
            .await?;
        seconds += started.elapsed().as_secs_f64();
        bar.finish_and_clear();
        let object = second.object()?;
        let run = object.pointer("/runs/0").cloned().unwrap_or_default();
        self.app.ui.note(format!("re-encrypted and proved in {}", span(Duration::from_secs_f64(seconds))));
        Ok(Reencryption {
            seconds,
            killed_at_percent,
            after_kill,
            resumed: run.get("state").is_some_and(|state| state == "done"),
            rewritten: number(&run, "rewritten")?,
            quarantined: number(&run, "quarantined")?,
        })
    }

    /// Exports, backs up, destroys, restores, and flips a bit.
    async fn vault(&self) -> Outcome<VaultFate> {
        let before = self.value().await?;
        let exported = command(self.home, &["export", KEY_NAME, "--format", "shell"]).await?;
        exported.check()?;
        let line = format!("export DEMO_DB_KEY='{}'\n", String::from_utf8_lossy(&before));
        let backup = self.path("after.vault");
        command(self.home, &["--json", "backup", "create", &backup]).await?.check()?;
        fs::remove_file(self.home.vault())?;
        let restore = ["--json", "backup", "restore", &backup, "--accept-older"];
        command(self.home, &restore).await?.check()?;
        let restored = self.value().await? == before;
        let flipped_bit_refused = self.flip_a_bit().await?.code == Some(i32::from(Exit::Damaged.number()));
        let fate = VaultFate { exported: exported.stdout == line.as_bytes(), restored, flipped_bit_refused };
        self.app.ui.note(fate.words());
        Ok(fate)
    }

    /// Flips one bit in the middle of the vault and asks for everything in it.
    async fn flip_a_bit(&self) -> Outcome<Ended> {
        let path = self.home.vault();
        let whole = fs::read(&path)?;
        let mut damaged = whole.clone();
        // Inside the last stored value: the file's end is taken by the newest records.
        let place = damaged.iter().rposition(|byte| *byte != 0).unwrap_or(0);
        damaged[place] ^= 1;
        fs::write(&path, &damaged)?;
        let refused = command(self.home, &["--json", "audit", "verify"]).await;
        fs::write(&path, &whole)?;
        refused
    }

    async fn value(&self) -> Outcome<Vec<u8>> {
        let got = command(self.home, &["get", KEY_NAME]).await?;
        got.check()?;
        Ok(got.stdout)
    }

    fn engine(&self, action: &str) -> Outcome<Running> {
        Running::start(self.home, &["--json", "reencrypt", action, COLUMNS_NAME])
    }

    fn path(&self, name: &str) -> String {
        self.home.path().join(name).display().to_string()
    }

    fn told(&self, words: &str, since: Instant) {
        self.app.ui.note(format!("{words} ({})", span(since.elapsed())));
    }

    fn bar(&self) -> ProgressBar {
        let bar = ProgressBar::with_draw_target(Some(self.rows), self.app.ui.draw_target());
        if let Ok(style) = ProgressStyle::with_template(
            "re-encrypts [{bar:40}] {percent:>3} %  {human_pos} of {human_len} rows  {per_sec}  {eta} left",
        ) {
            bar.set_style(style.progress_chars("=> "));
        }
        bar.enable_steady_tick(Duration::from_millis(200));
        bar
    }
}

/// What was found right after the kill, good or bad.
fn words_of(Census { old, new, neither }: Census) -> String {
    let counts = format!("{} old, {} new", count(old), count(new));
    match neither {
        0 => format!("every value opens under exactly one key: {counts}"),
        _ => format!("{} values DO NOT open under exactly one key; of the others {counts}", count(neither)),
    }
}

fn number(object: &Value, field: &str) -> Outcome<u64> {
    object
        .get(field)
        .and_then(Value::as_u64)
        .ok_or_else(|| Failure::new(Exit::Failed, format!("the engine did not report `{field}`")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_told_is_what_was_found() {
        let words = |neither| words_of(Census { old: 1_000, new: 2, neither });
        assert_eq!(words(0), "every value opens under exactly one key: 1 000 old, 2 new");
        assert_eq!(words(3), "3 values DO NOT open under exactly one key; of the others 1 000 old, 2 new");
        let fate = VaultFate { exported: true, restored: false, flipped_bit_refused: false };
        assert_eq!(
            fate.words(),
            "the vault exported the secret, DID NOT come back from its backup, DID NOT refuse a flipped bit"
        );
    }
}
