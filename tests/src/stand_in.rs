//! Stand-ins for `docker`, `systemctl` and `pm2` on a PATH of their own: they keep real processes and write down who
//! called them, with which arguments and environment.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use serde::Deserialize;
use serde_json::json;
use tempfile::TempDir;

use crate::command::{Ended, finish, program};
use crate::python::{self, Package};

/// A project directory, a PATH with stand-ins, and their state. Everything they started ends with it.
#[derive(Debug)]
pub struct StandIn {
    directory: TempDir,
    python: PathBuf,
}

/// One call of a stand-in.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Called {
    /// `docker`, `docker-compose`, `systemctl`, `journalctl` or `pm2`.
    pub program: String,
    /// Its arguments.
    pub argv: Vec<String>,
    /// Its environment.
    pub environment: BTreeMap<String, String>,
}

impl Called {
    /// Whether all these words stand among the arguments.
    pub fn names(&self, words: &[&str]) -> bool {
        words.iter().all(|word| self.argv.iter().any(|argument| argument == word))
    }
}

/// Which programs stand on the PATH.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Compose {
    /// `docker` with the compose plugin.
    Plugin,
    /// `docker` without it, and the old `docker-compose`.
    Old,
}

impl StandIn {
    /// An empty project.
    ///
    /// # Panics
    ///
    /// If the directory cannot be made, or no Python has the packages.
    pub fn new(compose: Compose) -> Self {
        let packages = [Package::YAML, Package::REDIS, Package::PSYCOPG, Package::DOTENV];
        let made = Self {
            directory: tempfile::tempdir().expect("a directory"),
            python: python::interpreter(&packages),
        };
        for folder in ["bin", "state/units", "project"] {
            std::fs::create_dir_all(made.directory.path().join(folder)).expect("a directory");
        }
        std::fs::write(made.state().join("owner"), std::process::id().to_string()).expect("a file");
        made.wrap(
            "docker",
            "stand_in_docker.py",
            if compose == Compose::Plugin { "docker" } else { "docker-engine" },
        );
        if compose == Compose::Old {
            made.wrap("docker-compose", "stand_in_docker.py", "docker-compose");
        }
        for program in ["systemctl", "journalctl"] {
            made.wrap(program, "stand_in_systemd.py", program);
        }
        made.wrap("pm2", "stand_in_pm2.py", "pm2");
        made
    }

    /// Puts a program on the PATH: a program of `tests/python/`, told the state directory and its name.
    fn wrap(&self, program: &str, script: &str, called: &str) {
        let quoted = |path: &Path| format!("'{}'", path.display());
        let (python, script) = (quoted(&self.python), quoted(&python_source(script)));
        let state = quoted(&self.state());
        let text = format!("#!/bin/sh\nexec {python} {script} {state} {called} \"$@\"\n");
        self.program(program, &text);
    }

    /// Puts another program on the PATH, also for containers.
    ///
    /// # Panics
    ///
    /// If it cannot be written.
    pub fn program(&self, name: &str, text: &str) {
        let path = self.directory.path().join("bin").join(name);
        std::fs::write(&path, text).expect("a file");
        std::fs::set_permissions(&path, PermissionsExt::from_mode(0o755)).expect("it is ours");
    }

    /// Where the plan, the compose file and the `.env` files stand.
    pub fn project(&self) -> PathBuf {
        self.directory.path().join("project")
    }

    /// The Python that runs the stand-ins, for applications in Python.
    pub fn python(&self) -> &Path {
        &self.python
    }

    /// Writes a file of the project, with the directories above it.
    ///
    /// # Panics
    ///
    /// If it cannot be written.
    pub fn write(&self, file: &str, text: &str) {
        let path = self.project().join(file);
        std::fs::create_dir_all(path.parent().expect("it stands in the project")).expect("a directory");
        std::fs::write(path, text).expect("a file");
    }

    /// Writes a systemd unit.
    ///
    /// # Panics
    ///
    /// If it cannot be written.
    pub fn unit(&self, name: &str, text: &str) {
        std::fs::write(self.state().join("units").join(format!("{name}.service")), text).expect("a file");
    }

    /// The PATH with the stand-ins first.
    pub fn path(&self) -> OsString {
        let own = self.directory.path().join("bin");
        let rest = std::env::var_os("PATH").unwrap_or_default();
        std::env::join_paths(std::iter::once(own).chain(std::env::split_paths(&rest)))
            .expect("no colons in it")
    }

    /// Runs one of the programs as a person would, in the project.
    ///
    /// # Panics
    ///
    /// If it does not run.
    pub fn run(&self, argv: &[&str]) -> Output {
        let program = self.directory.path().join("bin").join(argv[0]);
        Command::new(program)
            .args(&argv[1..])
            .env("PATH", self.path())
            .current_dir(self.project())
            .output()
            .unwrap_or_else(|error| panic!("{argv:?} does not run: {error}"))
    }

    /// Runs one of the programs, which must succeed; what it wrote.
    ///
    /// # Panics
    ///
    /// If it fails.
    #[track_caller]
    pub fn must(&self, argv: &[&str]) -> String {
        let output = self.run(argv);
        let (stdout, stderr) =
            (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert!(output.status.success(), "{argv:?} failed ({}): {stdout}{stderr}", output.status);
        stdout.into_owned()
    }

    /// Runs reseal in the project as a person would, with the stand-ins and with `key-file` as what opens the vault.
    ///
    /// # Panics
    ///
    /// If it does not start.
    pub fn reseal(&self, arguments: &[&str], input: &str) -> Ended {
        let project = self.project();
        let mut command = Command::new(program());
        command.current_dir(&project).args(["--key-file", "key-file", "--no-input"]).args(arguments);
        command.env_clear().env("PATH", self.path()).env("HOME", &project).env("XDG_RUNTIME_DIR", &project);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("the command starts");
        let mut stdin = child.stdin.take().expect("it is piped");
        // A command that does not read its input may have closed it.
        let _ = stdin.write_all(input.as_bytes());
        drop(stdin);
        finish(child)
    }

    /// Every call since the last [`StandIn::forget_calls`], in order.
    ///
    /// # Panics
    ///
    /// If what was written down cannot be read.
    pub fn calls(&self) -> Vec<Called> {
        let text = std::fs::read_to_string(self.state().join("calls.jsonl")).unwrap_or_default();
        text.lines().map(|line| serde_json::from_str(line).expect("a call is JSON")).collect()
    }

    /// Begins to count calls anew.
    pub fn forget_calls(&self) {
        // There may have been none.
        let _ = std::fs::remove_file(self.state().join("calls.jsonl"));
    }

    /// Makes the next `times` calls with all these words fail.
    ///
    /// # Panics
    ///
    /// If that cannot be written down.
    pub fn fail(&self, words: &[&str], times: u32) {
        self.plant(words, "fail", times);
    }

    /// Makes the next call with all these words hang.
    ///
    /// # Panics
    ///
    /// If that cannot be written down.
    pub fn hang(&self, words: &[&str]) {
        self.plant(words, "hang", 1);
    }

    fn plant(&self, words: &[&str], what: &str, times: u32) {
        let planted = json!([{ "match": words, "do": what, "times": times }]);
        std::fs::write(self.state().join("faults.json"), planted.to_string()).expect("a file");
    }

    fn state(&self) -> PathBuf {
        self.directory.path().join("state")
    }
}

impl Drop for StandIn {
    fn drop(&mut self) {
        // Without an owner, every shim kills what it keeps and ends.
        let _ = std::fs::remove_file(self.state().join("owner"));
        let begin = std::time::Instant::now();
        while begin.elapsed() < std::time::Duration::from_secs(5) && self.any_runs() {
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
    }
}

impl StandIn {
    fn any_runs(&self) -> bool {
        let Ok(entries) = std::fs::read_dir(self.state()) else { return false };
        entries.flatten().map(|entry| entry.path()).any(|path| {
            path.to_string_lossy().ends_with(".status.json")
                && std::fs::read_to_string(path).is_ok_and(|text| text.contains("\"running\""))
        })
    }
}

/// A program of `tests/python/`.
pub fn python_source(script: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("python").join(script)
}
