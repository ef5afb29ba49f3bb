//! Programs in Python that tests hold reseal against: found where the test command puts them, or a clear failure.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::Value;

/// A package that a Python program imports.
#[derive(Debug, Clone, Copy)]
pub struct Package {
    import: &'static str,
    pypi: &'static str,
    debian: &'static str,
}

impl Package {
    /// PyCA's `cryptography`.
    pub const CRYPTOGRAPHY: Self =
        Self { import: "cryptography", pypi: "cryptography", debian: "python3-cryptography" };
    /// The Postgres client.
    pub const PSYCOPG: Self = Self { import: "psycopg", pypi: "psycopg[binary]", debian: "python3-psycopg" };
}

/// The Python that has these packages: `$RESEAL_TEST_PYTHON`, the environment that the test command makes in
/// `target/python`, or the system's.
///
/// # Panics
///
/// If none of them has all the packages: tests do not skip.
pub fn interpreter(packages: &[Package]) -> PathBuf {
    let made = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/python/bin/python3");
    let named = std::env::var_os("RESEAL_TEST_PYTHON").map(PathBuf::from);
    let imports: Vec<_> = packages.iter().map(|package| format!("import {}", package.import)).collect();
    let has_all = |python: &PathBuf| {
        let import = Command::new(python).args(["-c", &imports.join(";")]).stderr(Stdio::null()).status();
        import.is_ok_and(|status| status.success())
    };
    named.into_iter().chain([made, "python3".into()]).find(has_all).unwrap_or_else(|| {
        let pypi: Vec<_> = packages.iter().map(|package| package.pypi).collect();
        let debian: Vec<_> = packages.iter().map(|package| package.debian).collect();
        panic!("no Python with {}: run `./test`, or `apt-get install {}`", pypi.join(", "), debian.join(" "))
    })
}

/// Runs a program of `tests/python/` that answers JSON lines with JSON lines, one each.
///
/// # Panics
///
/// If it does not run, fails, or gives another number of answers.
pub fn answers(program: &str, packages: &[Package], questions: &[Value]) -> Vec<Value> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("python").join(program);
    let mut child = Command::new(interpreter(packages))
        .arg(&path)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| panic!("{program} does not start: {error}"));
    let mut stdin = child.stdin.take().expect("it is piped");
    let lines: String = questions.iter().map(|question| format!("{question}\n")).collect();
    // On a thread of its own: both pipes are smaller than what goes through them.
    let writer = std::thread::spawn(move || stdin.write_all(lines.as_bytes()));
    let output = child.wait_with_output().expect("the program ends");
    writer.join().expect("the writer does not panic").expect("the program reads all questions");
    assert!(output.status.success(), "{program} failed: {}", output.status);
    let text = String::from_utf8(output.stdout).expect("JSON is UTF-8");
    let answers: Vec<Value> =
        text.lines().map(|line| serde_json::from_str(line).expect("every line is JSON")).collect();
    assert_eq!(answers.len(), questions.len(), "{program} answers every question once");
    answers
}
