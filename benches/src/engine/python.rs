//! A Python loop over MultiFernet, the best that one would write by hand.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use reseal_sandbox::postgres::Server;

use super::data::{Stock, TABLE};
use super::report::Inner;
use crate::BoxError;

const PROGRAM: &str = include_str!("../../python/multifernet.py");

/// How the loop writes its batches.
#[derive(Debug, Clone, Copy)]
pub(super) enum Method {
    Executemany,
    Unnest,
    Copy,
}

impl Method {
    pub(super) const ALL: [Self; 3] = [Self::Executemany, Self::Unnest, Self::Copy];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Executemany => "executemany",
            Self::Unnest => "unnest",
            Self::Copy => "copy",
        }
    }

    /// Runs the loop over the whole table and checks that it met every row.
    pub(super) fn run(self, python: &Path, server: &Server, rows: i64) -> Result<Inner, BoxError> {
        let text = |key: reseal_crypto::KeyMaterial| {
            // Fernet's own text form of a key has padding.
            String::from_utf8(key.foreign_bytes().expose().to_vec()).map(|text| format!("{text}="))
        };
        let (old, new) = (text(Stock::Fernet.old_key())?, text(Stock::Fernet.new_key())?);
        let output = Command::new(python)
            .args(["-c", PROGRAM, &server.url(), TABLE, self.name(), &old, &new])
            .stdin(Stdio::null())
            .stderr(Stdio::inherit())
            .output()?;
        if !output.status.success() {
            return Err(format!("the Python loop failed: {}", output.status).into());
        }
        let inner: Inner = serde_json::from_slice(&output.stdout)?;
        if inner.rows != rows as u64 {
            return Err(format!("the Python loop met {} of {rows} rows", inner.rows).into());
        }
        Ok(inner)
    }
}

/// A Python that has the two packages: the one named, that of the test command, or the system's.
pub(super) fn interpreter(named: Option<&Path>) -> Result<PathBuf, BoxError> {
    let made = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/python/bin/python3");
    let candidates: Vec<PathBuf> = match named {
        Some(python) => vec![python.to_owned()],
        None => vec![made, "python3".into()],
    };
    let has_both = |python: &PathBuf| {
        let import =
            Command::new(python).args(["-c", "import psycopg, cryptography"]).stderr(Stdio::null()).status();
        import.is_ok_and(|status| status.success())
    };
    candidates.into_iter().find(has_both).ok_or_else(|| {
        "no Python with psycopg and cryptography: run `./test --install`, or `pip install 'psycopg[binary]' \
         cryptography` and name that Python by --python (or leave it out: --only floor --only reseal --only runbook)"
            .into()
    })
}
