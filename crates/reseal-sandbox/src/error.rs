//! What can go wrong around a private server.

use std::io;
use std::path::PathBuf;

/// Why a private server, its table or its writer did not do what was asked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SandboxError {
    /// A program is not installed.
    #[error("{program} was not found; install the package {package} (Debian, Ubuntu) or put it on PATH")]
    MissingProgram {
        /// The program that is missing.
        program: &'static str,
        /// The Debian package that holds it.
        package: &'static str,
    },
    /// The server lacks an extension.
    #[error("the server has no extension {extension}; install the package {package} (Debian, Ubuntu)")]
    MissingExtension {
        /// The extension that is missing.
        extension: &'static str,
        /// The Debian package that holds it.
        package: &'static str,
    },
    /// Running as root, and there is no other user to run a server that refuses root.
    #[error("the server does not run as root, and neither user postgres nor user nobody exists")]
    NoUnprivilegedUser,
    /// A program ended with an error.
    #[error("{program} failed: {log}")]
    Failed {
        /// The program.
        program: &'static str,
        /// The end of what it wrote.
        log: String,
    },
    /// A server did not do in time what it was told.
    #[error("{program} did not {what} within {seconds} seconds: {log}")]
    Timeout {
        /// The program.
        program: &'static str,
        /// What it was told to do.
        what: &'static str,
        /// How long was waited.
        seconds: u64,
        /// The end of what it wrote.
        log: String,
    },
    /// A file or a process could not be handled.
    #[error("cannot {what} {path}: {source}")]
    Io {
        /// What was tried.
        what: &'static str,
        /// On which file.
        path: PathBuf,
        /// Why it failed.
        source: io::Error,
    },
    /// The path of a Unix socket would be longer than systems allow.
    #[error("{0} is too long for a socket directory; set TMPDIR to a shorter one")]
    PathTooLong(PathBuf),
    /// The server refused a statement.
    #[error("the private server refused: {}", detail(.0))]
    Sql(#[from] tokio_postgres::Error),
    /// The private Redis refused a command.
    #[error("the private Redis refused: {0}")]
    Redis(#[from] redis::RedisError),
    /// The SQLite file of a stage cannot be used.
    #[error("the private SQLite file: {0}")]
    Sqlite(#[from] rusqlite::Error),
    /// The system's generator of random bytes failed.
    #[error("no random bytes: {0}")]
    Random(#[from] getrandom::Error),
    /// The certificate for TLS was not made.
    #[error("cannot make a certificate: {0}")]
    Certificate(String),
    /// The writing application cannot go on.
    #[error("the writing application: {0}")]
    Writer(String),
    /// A value was not sealed or opened by the functions of the caller.
    #[error("{0}")]
    Seal(String),
}

impl SandboxError {
    /// Makes an [`SandboxError::Io`] for an operation on a path.
    pub(crate) fn io(what: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::Io { what, path, source }
    }
}

/// The server's own words, which the driver leaves out; its statements and parameters are not repeated.
fn detail(error: &tokio_postgres::Error) -> String {
    match error.as_db_error() {
        Some(db) => format!("{} ({})", db.message(), db.code().code()),
        None => error.to_string(),
    }
}
