//! The real command, as a person or a script runs it.

use std::ffi::OsString;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::time::SystemTime;

use serde_json::Value;
use tempfile::TempDir;

/// The passphrase of every vault in tests.
pub const PASSPHRASE: &str = "correct horse battery staple";

/// The built `reseal`, built now if it is missing or older than its sources.
///
/// # Panics
///
/// If it cannot be built.
pub fn program() -> &'static Path {
    static PROGRAM: OnceLock<PathBuf> = OnceLock::new();
    PROGRAM.get_or_init(|| {
        let test = std::env::current_exe().expect("a test has a path");
        let profile = test.ancestors().nth(2).expect("tests stand in target/PROFILE/deps");
        let program = profile.join("reseal");
        if made(&program) < newest_source() {
            build(profile);
        }
        program
    })
}

/// Builds as the test command does, so that nothing is built twice with other features.
fn build(profile: &Path) {
    let mut cargo = Command::new(env!("CARGO"));
    cargo.args(["build", "--quiet", "--workspace", "--bin", "reseal", "--target-dir"]);
    // What the runner of the tests adds to the environment is told to build scripts, which then run again, and all that
    // depends on them is built once more: here, and by whoever builds next.
    for (name, _) in std::env::vars_os() {
        let name = name.to_string_lossy().into_owned();
        let of_package =
            ["CARGO_PKG_", "CARGO_MANIFEST_", "CARGO_BIN_EXE_", "CARGO_CRATE_", "CARGO_PRIMARY_"];
        if of_package.iter().any(|prefix| name.starts_with(prefix)) {
            cargo.env_remove(name);
        }
    }
    cargo.arg(profile.parent().expect("the profile stands in the target directory")).current_dir(workspace());
    if profile.ends_with("release") {
        cargo.arg("--release");
    }
    assert!(cargo.status().expect("cargo runs").success(), "the command cannot be built");
}

fn workspace() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn newest_source() -> SystemTime {
    let mut newest = made(&workspace().join("Cargo.lock"));
    let mut directories = vec![workspace().join("crates")];
    while let Some(directory) = directories.pop() {
        for entry in std::fs::read_dir(&directory).expect("sources can be listed").flatten() {
            let path = entry.path();
            if path.is_dir() && !path.ends_with("tests") {
                directories.push(path);
            } else if path.extension().is_some_and(|end| end == "rs") {
                newest = newest.max(made(&path));
            }
        }
    }
    newest
}

fn made(path: &Path) -> SystemTime {
    path.metadata().and_then(|metadata| metadata.modified()).unwrap_or(SystemTime::UNIX_EPOCH)
}

/// How a command ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ended {
    /// Its exit code; `None` if a signal ended it.
    pub code: Option<i32>,
    /// What it wrote to standard output.
    pub stdout: String,
    /// What it wrote to standard error.
    pub stderr: String,
}

impl Ended {
    /// The JSON object that it printed.
    ///
    /// # Panics
    ///
    /// If it printed none.
    #[track_caller]
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|_| panic!("no JSON object: {self:?}"))
    }

    /// Checks the exit code.
    ///
    /// # Panics
    ///
    /// If it is another.
    #[track_caller]
    pub fn expect(self, code: i32) -> Self {
        assert_eq!(self.code, Some(code), "{}{}", self.stdout, self.stderr);
        self
    }
}

/// A directory with a plan file and a vault, and the command run in it.
#[derive(Debug)]
pub struct Desk {
    directory: TempDir,
    opener: [&'static str; 2],
}

impl Desk {
    /// An empty directory with this plan file and a passphrase in `passphrase`.
    ///
    /// # Panics
    ///
    /// If there is no room for it.
    pub fn new(plan: &str) -> Self {
        let desk = Self::opened_by(["--passphrase-file", "passphrase"], plan);
        desk.write("passphrase", PASSPHRASE);
        desk
    }

    /// The same with a key file, which opens a vault at once, and a new vault.
    ///
    /// # Panics
    ///
    /// If there is no room for it.
    pub fn with_vault(plan: &str) -> Self {
        let desk = Self::opened_by(["--key-file", "key-file"], plan);
        desk.write("key-file", &"7".repeat(32));
        desk.run(&["init", "--no-recovery-code"]).expect(0);
        desk
    }

    fn opened_by(opener: [&'static str; 2], plan: &str) -> Self {
        let desk = Self { directory: tempfile::tempdir().expect("a temporary directory"), opener };
        desk.write("reseal.toml", plan);
        desk
    }

    /// Writes a program into it.
    ///
    /// # Panics
    ///
    /// If it cannot be written.
    pub fn program(&self, name: &str, text: &str) {
        use std::os::unix::fs::PermissionsExt;
        self.write(name, text);
        let mode = PermissionsExt::from_mode(0o755);
        std::fs::set_permissions(self.path().join(name), mode).expect("it is ours");
    }

    /// Reads a file of it.
    ///
    /// # Panics
    ///
    /// If it is not there or no text.
    pub fn read(&self, name: &str) -> String {
        std::fs::read_to_string(self.path().join(name)).expect("a file of text")
    }

    /// The directory.
    pub fn path(&self) -> &Path {
        self.directory.path()
    }

    /// Writes a file into it.
    ///
    /// # Panics
    ///
    /// If it cannot be written.
    pub fn write(&self, name: &str, content: &str) {
        std::fs::write(self.path().join(name), content).expect("a file can be written");
    }

    /// The command with these arguments and nothing of the test's environment that could change what it does.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(program());
        command.current_dir(self.path()).args(self.opener).arg("--no-input").args(arguments);
        command.env_clear().envs(self.environment());
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    /// Runs the command with nothing on its standard input.
    ///
    /// # Panics
    ///
    /// If it does not start.
    pub fn run(&self, arguments: &[&str]) -> Ended {
        self.run_with(arguments, "")
    }

    /// Runs the command with this standard input.
    ///
    /// # Panics
    ///
    /// If it does not start.
    pub fn run_with(&self, arguments: &[&str], input: &str) -> Ended {
        let mut child = self.command(arguments).spawn().expect("the command starts");
        let mut stdin = child.stdin.take().expect("it is piped");
        // A command that does not read its input may have closed it.
        let _ = stdin.write_all(input.as_bytes());
        drop(stdin);
        finish(child)
    }

    fn environment(&self) -> Vec<(&'static str, OsString)> {
        let path = std::env::var_os("PATH").unwrap_or_default();
        let home = self.path().as_os_str().to_owned();
        vec![("PATH", path), ("HOME", home.clone()), ("XDG_RUNTIME_DIR", home)]
    }
}

/// Waits for a command that was started.
///
/// # Panics
///
/// If its output cannot be read or is no text.
pub fn finish(child: Child) -> Ended {
    let output = child.wait_with_output().expect("the command ends");
    let text = |bytes| String::from_utf8(bytes).expect("the command writes UTF-8");
    Ended { code: output.status.code(), stdout: text(output.stdout), stderr: text(output.stderr) }
}
