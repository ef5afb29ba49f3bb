//! systemd units, by `systemctl` and `journalctl`.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

use reseal_crypto::secret::SecretBytes;

use super::AppError;
use crate::process::{Call, Finished, Output, Runner};

/// How long a question may take.
const ASK: Duration = Duration::from_secs(30);

/// How long a unit may take to start, stop or reload: more than systemd's own 90 s.
const CHANGE: Duration = Duration::from_secs(120);

/// What is asked of `systemctl show`.
const PROPERTIES: &str = "LoadState,ActiveState,SubState,MainPID,Result";

/// A unit.
#[derive(Debug, Clone)]
pub(super) struct Unit {
    runner: Runner,
    name: String,
}

/// What systemd says about a unit.
#[derive(Debug, Clone)]
pub(super) struct Shown {
    /// `active`, `reloading`, `inactive`, `failed`, `activating`, `deactivating`.
    pub(super) active: String,
    /// More of it: `running`, `exited`, `auto-restart` …
    pub(super) sub: String,
    /// Why it failed, if it did: `exit-code`, `signal`, `timeout` …
    pub(super) result: String,
    /// Its main process, while it runs.
    pub(super) main_pid: Option<u32>,
}

impl Shown {
    pub(super) fn is_up(&self) -> bool {
        self.active == "active" && self.main_pid.is_some()
    }
}

impl Unit {
    pub(super) fn new(runner: Runner, name: &str) -> Self {
        Self { runner, name: name.to_owned() }
    }

    pub(super) fn knowing<'a>(&self, values: impl IntoIterator<Item = &'a SecretBytes>) -> Self {
        Self { runner: self.runner.knowing(values), name: self.name.clone() }
    }

    pub(super) async fn show(&self) -> Result<Shown, AppError> {
        let call = Call::new(["systemctl", "show", "--property", PROPERTIES, "--", &self.name]).limit(ASK);
        let finished = self.succeeded("show", self.runner.run(&call).await?)?;
        let text = String::from_utf8_lossy(finished.stdout.expose()).into_owned();
        let properties: BTreeMap<&str, &str> = text.lines().filter_map(|line| line.split_once('=')).collect();
        let property = |name| properties.get(name).copied().unwrap_or_default();
        match property("LoadState") {
            "loaded" => {}
            "not-found" | "masked" => return Err(AppError::NoUnit { unit: self.name.clone() }),
            _ => {
                let reason = "it names no LoadState that is known".to_owned();
                return Err(AppError::Unreadable { what: "systemctl show".into(), reason });
            }
        }
        Ok(Shown {
            active: property("ActiveState").to_owned(),
            sub: property("SubState").to_owned(),
            result: property("Result").to_owned(),
            main_pid: property("MainPID").parse().ok().filter(|pid| *pid != 0),
        })
    }

    /// `restart`, `reload`, `stop` or `start`: one side effect.
    pub(super) async fn change(&self, verb: &'static str) -> Result<(), AppError> {
        let call = Call::new(["systemctl", verb, "--", &self.name]).limit(CHANGE);
        self.succeeded(verb, self.runner.run(&call).await?).map(drop)
    }

    pub(super) async fn logs(&self, since: SystemTime) -> Result<SecretBytes, AppError> {
        let since = since.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let since = format!("@{}.{:06}", since.as_secs(), since.subsec_micros());
        let argv =
            ["journalctl", "--no-pager", "--quiet", "--output=cat", "--since", &since, "--unit", &self.name];
        let call = Call::new(argv).limit(ASK).output(Output::Last(4 << 20));
        Ok(self.succeeded("journal", self.runner.run(&call).await?)?.stdout)
    }

    fn succeeded(&self, what: &str, finished: Finished) -> Result<Finished, AppError> {
        if finished.success() {
            return Ok(finished);
        }
        let last = self.runner.known().last_lines(finished.stderr.expose(), 10);
        Err(AppError::Failed {
            what: format!("systemctl {what} {}", self.name),
            status: finished.status,
            last,
        })
    }
}
