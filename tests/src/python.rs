//! Programs in Python that tests hold reseal against: found where the test command puts them, or a clear failure.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::Value;

use crate::process_lines::ask;

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
    /// The reader of `.env` files.
    pub const DOTENV: Self = Self { import: "dotenv", pypi: "python-dotenv", debian: "python3-dotenv" };
    /// The Postgres client.
    pub const PSYCOPG: Self = Self { import: "psycopg", pypi: "psycopg[binary]", debian: "python3-psycopg" };
    /// YAML, for compose files.
    pub const YAML: Self = Self { import: "yaml", pypi: "PyYAML", debian: "python3-yaml" };
    /// The Redis client.
    pub const REDIS: Self = Self { import: "redis", pypi: "redis", debian: "python3-redis" };
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
    let mut command = Command::new(interpreter(packages));
    command.arg(path);
    ask(command, questions)
}
