//! Sessions with the command as people and scripts have them: arguments, stdin, stdout, stderr, exit code.

#![allow(clippy::unwrap_used, reason = "a test says by panicking what failed")]

mod agent;
mod columns;
mod demo;
mod env;
mod envelopes;
mod exit_codes;
mod import;
mod init;
mod lifecycle;
mod managed;
mod prompts;
mod rotate;
mod secrets;
mod several;
mod snapshots;
mod usage;

use std::io::Write;
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};

use tempfile::TempDir;

/// A user with an empty home, and a vault that a key file opens.
#[derive(Debug)]
pub(crate) struct Session {
    directory: TempDir,
}

/// How a command ended.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Session {
    /// A user without a vault.
    pub(crate) fn without_vault() -> Self {
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join("key"), [7; 32]).unwrap();
        Self { directory }
    }

    /// A user with an empty vault.
    pub(crate) fn new() -> Self {
        let session = Self::without_vault();
        session.run(&["init", "--no-recovery-code"]).done();
        session
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// The vault's id, from where it keeps its anchor.
    pub(crate) fn vault_id(&self) -> String {
        let anchors = self.path(".local/state/reseal/anchors");
        let entry = std::fs::read_dir(anchors).unwrap().next().unwrap().unwrap();
        entry.file_name().into_string().unwrap().split('.').next().unwrap().to_owned()
    }

    /// The command in the session's directory; without `--key-file` for those who unlock otherwise.
    pub(crate) fn bare(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_reseal"));
        command
            .args(arguments)
            .current_dir(self.directory.path())
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap())
            .env("HOME", self.directory.path())
            .env("XDG_RUNTIME_DIR", self.directory.path())
            .env("RESEAL_VAULT", self.path("v.vault"))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command
    }

    pub(crate) fn spawn(&self, arguments: &[&str]) -> Child {
        self.bare(arguments).spawn().unwrap()
    }

    /// Runs a command that the key file unlocks.
    pub(crate) fn run(&self, arguments: &[&str]) -> Ended {
        Ended::of(self.bare(&with_key(arguments)).output().unwrap())
    }

    /// Runs a command with this on stdin.
    pub(crate) fn feed(&self, arguments: &[&str], input: &[u8]) -> Ended {
        self.feed_bare(&with_key(arguments), input)
    }

    /// Runs a command that unlocks otherwise with this on stdin.
    pub(crate) fn feed_bare(&self, arguments: &[&str], input: &[u8]) -> Ended {
        let mut child = self.bare(arguments).stdin(Stdio::piped()).spawn().unwrap();
        // A command that refuses may be gone before it reads.
        let _ = child.stdin.take().unwrap().write_all(input);
        Ended::of(child.wait_with_output().unwrap())
    }

    /// Runs a command with `--json` and parses its object.
    #[track_caller]
    pub(crate) fn json(&self, arguments: &[&str]) -> serde_json::Value {
        let ended = self.run(&[&["--json"], arguments].concat()).done();
        let object: serde_json::Value = serde_json::from_str(&ended.stdout).unwrap();
        assert_eq!(object["schema_version"], 1, "{object}");
        object
    }
}

fn with_key<'a>(arguments: &[&'a str]) -> Vec<&'a str> {
    [&["--key-file", "key", "--no-input"], arguments].concat()
}

impl Ended {
    pub(crate) fn of(output: Output) -> Self {
        let text = |bytes| String::from_utf8(bytes).unwrap();
        Self { code: output.status.code(), stdout: text(output.stdout), stderr: text(output.stderr) }
    }

    /// It must have ended well.
    #[track_caller]
    pub(crate) fn done(self) -> Self {
        self.code(0)
    }

    /// It must have ended with this exit code, and said why if it failed.
    #[track_caller]
    pub(crate) fn code(self, code: i32) -> Self {
        assert_eq!(self.code, Some(code), "{self:?}");
        self
    }

    /// Its error must say this.
    #[track_caller]
    pub(crate) fn says(self, words: &str) -> Self {
        assert!(self.stderr.contains(words), "no `{words}` in {self:?}");
        self
    }
}
