//! What the demo counted, as one table and as one object.

use reseal_sandbox::ledger::Comparison;
use reseal_sandbox::stage::{Census, Ending};
use serde_json::{Value, json};

use crate::units::{count, span};

/// Everything that the demo counted.
#[derive(Debug, Clone)]
pub(super) struct Figures {
    /// `postgres` or `sqlite`.
    pub(super) store: &'static str,
    /// The database, for people.
    pub(super) database: String,
    /// Rows that were loaded.
    pub(super) rows: u64,
    /// Seconds of the re-encryption, both parts of it.
    pub(super) seconds: f64,
    /// Rows per second of the runbook's statement, where the database can run it.
    pub(super) runbook_rows_per_second: Option<f64>,
    /// How far the engine was when it was killed.
    pub(super) killed_at_percent: f64,
    /// Which key opened what, right after the kill.
    pub(super) after_kill: Census,
    /// Whether the engine that was killed ended by the signal, and another one finished its run.
    pub(super) resumed: bool,
    /// What the engine says that it wrote, over both parts.
    pub(super) rewritten: u64,
    /// What it put into quarantine.
    pub(super) quarantined: u64,
    /// Rows it wrote twice without need.
    pub(super) rewritten_twice: u64,
    /// The application and its ledger.
    pub(super) ending: Ending,
    /// Whether the vault came back from its backup with the same secret.
    pub(super) vault_restored: bool,
    /// Whether a vault with one flipped bit was refused.
    pub(super) flipped_bit_refused: bool,
    /// Whether the exported value is the one that the vault holds.
    pub(super) exported: bool,
}

impl Figures {
    fn found(&self) -> &Comparison {
        &self.ending.comparison
    }

    fn rows_per_second(&self) -> f64 {
        if self.seconds > 0.0 { self.rows as f64 / self.seconds } else { 0.0 }
    }

    fn plaintexts_equal(&self) -> bool {
        self.found().plaintexts_equal == self.found().values && self.found().lost_updates() == 0
    }

    /// What is not as it should be, if anything.
    pub(super) fn fault(&self) -> Option<&'static str> {
        let found = self.found();
        let faults = [
            (self.after_kill.neither > 0, "after the kill, a value did not open under exactly one key"),
            (!self.resumed, "the engine was not killed and resumed"),
            (found.lost_updates() > 0, "a write of the application was lost"),
            (found.old_key_opens > 0, "the old key still opens values"),
            (found.unopened > 0, "a value does not open under the new key"),
            (!self.plaintexts_equal(), "a plaintext differs"),
            (self.quarantined > 0, "a value was quarantined"),
            (self.rewritten_twice > 0, "a value was rewritten twice"),
            (!self.exported, "the exported secret differs"),
            (!self.vault_restored, "the vault did not come back"),
            (!self.flipped_bit_refused, "a flipped bit was not refused"),
        ];
        faults.into_iter().find_map(|(is_so, fault)| is_so.then_some(fault))
    }

    /// The object of `--json`.
    pub(super) fn object(&self) -> Value {
        let found = self.found();
        json!({
            "store": self.store,
            "database": self.database,
            "rows": self.rows,
            "values": found.values,
            "rewritten": self.rewritten,
            "rewritten_twice": self.rewritten_twice,
            "quarantined": self.quarantined,
            "seconds": self.seconds,
            "rows_per_second": self.rows_per_second(),
            "runbook_rows_per_second": self.runbook_rows_per_second,
            "killed_at_percent": self.killed_at_percent,
            "after_kill": { "old_key_opens": self.after_kill.old, "new_key_opens": self.after_kill.new, "neither": self.after_kill.neither },
            "resumed": self.resumed,
            "application_writes": self.ending.transactions,
            "application_longest_ms": self.ending.longest.as_secs_f64() * 1e3,
            "lost_updates": found.lost_updates(),
            "old_key_opens": found.old_key_opens,
            "new_key_opens": found.new_key_opens,
            "unopened": found.unopened,
            "plaintexts_equal": self.plaintexts_equal(),
            "secret_exported": self.exported,
            "vault_restored": self.vault_restored,
            "flipped_bit_refused": self.flipped_bit_refused,
        })
    }

    /// The table, and the next step.
    pub(super) fn words(&self) -> String {
        let found = self.found();
        let yes = |so: bool| if so { "yes" } else { "NO" };
        let runbook = self.runbook_rows_per_second.map_or_else(
            || "this database has no pgcrypto to compare with".to_owned(),
            |rate| {
                format!(
                    "{} rows/s: {:.0} times slower",
                    count(rate as u64),
                    self.rows_per_second() / rate.max(1.0)
                )
            },
        );
        let lines = [
            ("database", self.database.clone()),
            (
                "re-encrypted",
                format!("{} rows, {} values, pgcrypto to reseal", count(self.rows), count(self.rewritten)),
            ),
            (
                "in",
                format!(
                    "{}, {} rows/s, every value proved",
                    span(std::time::Duration::from_secs_f64(self.seconds)),
                    count(self.rows_per_second() as u64)
                ),
            ),
            ("the runbook's UPDATE", runbook),
            (
                "engine killed",
                format!(
                    "at {:.0} %; {} values opened under the old key, {} under the new, {} under neither",
                    self.killed_at_percent,
                    count(self.after_kill.old),
                    count(self.after_kill.new),
                    self.after_kill.neither
                ),
            ),
            ("resumed", format!("{}; rows rewritten twice: {}", yes(self.resumed), self.rewritten_twice)),
            (
                "application",
                format!(
                    "{} transactions meanwhile, {} lost, longest {} ms",
                    count(self.ending.transactions),
                    found.lost_updates(),
                    self.ending.longest.as_millis()
                ),
            ),
            ("old key opens", count(found.old_key_opens)),
            (
                "new key opens",
                format!(
                    "{} of {}, plaintexts equal: {}",
                    count(found.new_key_opens),
                    count(found.values),
                    yes(self.plaintexts_equal())
                ),
            ),
            ("quarantined", count(self.quarantined)),
            ("secret exported", yes(self.exported).to_owned()),
            ("vault destroyed and restored", yes(self.vault_restored).to_owned()),
            ("flipped bit refused", yes(self.flipped_bit_refused).to_owned()),
        ];
        let width = lines.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
        let table: String =
            lines.iter().map(|(name, words)| format!("  {name:<width$}  {words}\n")).collect();
        format!(
            "\n{table}\nNext: `reseal init`, describe your columns in reseal.toml, and look with `reseal reencrypt plan`.\n"
        )
    }
}
