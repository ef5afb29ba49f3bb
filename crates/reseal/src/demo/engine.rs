//! The engine as a process of its own: this binary again, so that it can be killed for real.

use std::process::Stdio;

use serde_json::Value;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader};
use tokio::process::{Child, Command};

use super::home::Home;
use crate::exit::Exit;
use crate::failure::{Failure, Outcome};

/// How a command of the demo ended.
#[derive(Debug)]
pub(super) struct Ended {
    /// Its exit code; `None` if a signal ended it.
    pub(super) code: Option<i32>,
    /// What it wrote to stdout.
    pub(super) stdout: Vec<u8>,
    /// What it wrote to stderr, progress left out.
    pub(super) stderr: String,
}

impl Ended {
    /// The object it printed.
    ///
    /// # Errors
    ///
    /// It failed, or printed none.
    pub(super) fn object(&self) -> Outcome<Value> {
        self.check()?;
        serde_json::from_slice(&self.stdout)
            .map_err(|_| Failure::new(Exit::Failed, "a command of the demo printed no object"))
    }

    /// Fails unless it ended well.
    ///
    /// # Errors
    ///
    /// It failed.
    pub(super) fn check(&self) -> Outcome<()> {
        if self.code == Some(0) {
            return Ok(());
        }
        let why = self.stderr.trim_end().to_owned();
        Err(Failure::new(Exit::Failed, format!("a command of the demo ended with {:?}", self.code))
            .because([why]))
    }
}

/// Runs a command of reseal on the demo's vault and waits for it.
///
/// # Errors
///
/// It cannot be started.
pub(super) async fn command(home: &Home, arguments: &[&str]) -> Outcome<Ended> {
    Running::start(home, arguments)?.wait(|_| Watch::GoOn).await
}

/// Whether a watched command goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Watch {
    /// It goes on.
    GoOn,
    /// It is killed, now, with SIGKILL.
    Kill,
}

/// A command that runs; killed if this is dropped.
#[derive(Debug)]
pub(super) struct Running {
    child: Child,
}

impl Running {
    /// Starts a command of reseal on the demo's vault, talking JSON.
    ///
    /// # Errors
    ///
    /// It cannot be started.
    pub(super) fn start(home: &Home, arguments: &[&str]) -> Outcome<Self> {
        let state = home.path().join("state");
        let child = Command::new(std::env::current_exe()?)
            .arg("--config")
            .arg(home.plan())
            .arg("--vault")
            .arg(home.vault())
            .arg("--key-file")
            .arg(home.key_file())
            .args(["--no-input", "--yes"])
            .args(arguments)
            .env_remove("RESEAL_VAULT")
            .env_remove("RESEAL_CONFIG")
            .env("XDG_STATE_HOME", &state)
            .env("XDG_RUNTIME_DIR", &state)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()?;
        Ok(Self { child })
    }

    /// Waits for its end, and hands every progress line to `watch`.
    ///
    /// # Errors
    ///
    /// Its output cannot be read.
    pub(super) async fn wait(mut self, mut watch: impl FnMut(u64) -> Watch) -> Outcome<Ended> {
        let (Some(mut stdout), Some(stderr)) = (self.child.stdout.take(), self.child.stderr.take()) else {
            return Err(Failure::new(Exit::Failed, "a command of the demo has no output"));
        };
        let reading = tokio::spawn(async move {
            let mut bytes = Vec::new();
            stdout.read_to_end(&mut bytes).await.map(|_| bytes)
        });
        let mut lines = BufReader::new(stderr).lines();
        let mut said = String::new();
        while let Some(line) = lines.next_line().await? {
            match progress_of(&line) {
                Some(rows) if watch(rows) == Watch::Kill => self.child.start_kill()?,
                Some(_) => {}
                None => said.extend([line.as_str(), "\n"]),
            }
        }
        let status = self.child.wait().await?;
        let stdout = reading.await.map_err(|error| Failure::from_error(Exit::Failed, &error))??;
        Ok(Ended { code: status.code(), stdout, stderr: said })
    }
}

/// The rows that a progress line tells of the first pass, 0 for later ones; `None` if the line is no progress line.
fn progress_of(line: &str) -> Option<u64> {
    let object: Value = serde_json::from_str(line).ok()?;
    let progress = object.get("progress")?;
    let is_first_pass = progress.get("phase")? == "re-encrypts" && progress.get("pass")?.as_u64()? <= 1;
    if is_first_pass { progress.get("rows")?.as_u64() } else { Some(0) }
}
