//! The programs that read `.env` files.

use std::fmt;

use crate::error::ReadError;
use crate::readers;
use crate::reading::Variables;

/// A program that reads `.env` files, as it comes: default settings, names of the file not set outside it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Reader {
    /// `docker run --env-file`: everything after `=` is the value, quotes included.
    Docker,
    /// Docker Compose version 2, both its own `.env` and `env_file:`.
    Compose,
    /// Python's `python-dotenv`.
    PythonDotenv,
    /// Node's `dotenv` package.
    NodeDotenv,
    /// Rust's `dotenvy` 0.15.
    Dotenvy,
    /// `source` in bash.
    Shell,
    /// `EnvironmentFile=` of a systemd unit.
    Systemd,
}

impl Reader {
    /// All of them.
    pub const ALL: [Self; 7] = [
        Self::Docker,
        Self::Compose,
        Self::PythonDotenv,
        Self::NodeDotenv,
        Self::Dotenvy,
        Self::Shell,
        Self::Systemd,
    ];

    /// The name in plans, messages and the corpus.
    pub fn name(self) -> &'static str {
        match self {
            Self::Docker => "docker",
            Self::Compose => "compose",
            Self::PythonDotenv => "python-dotenv",
            Self::NodeDotenv => "node-dotenv",
            Self::Dotenvy => "dotenvy",
            Self::Shell => "shell",
            Self::Systemd => "systemd",
        }
    }

    /// The reader of that name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|reader| reader.name() == name)
    }

    /// Says what this reader would read from a file.
    ///
    /// # Errors
    ///
    /// [`ReadError`] if the reader refuses the file, if it would run a command, or if what it does is not modelled.
    pub fn read(self, file: &[u8]) -> Result<Variables, ReadError> {
        if let Some(position) = file.iter().position(|&byte| byte == 0) {
            return Err(ReadError::at(file, position, "has a NUL byte"));
        }
        match self {
            Self::Docker => readers::docker::read(text(file)?),
            Self::Compose => readers::compose::read(text(file)?),
            Self::PythonDotenv => readers::python::read(text(file)?),
            Self::NodeDotenv => readers::node::read(text(file)?),
            Self::Dotenvy => readers::dotenvy::read(text(file)?),
            Self::Shell => readers::shell::read(file),
            Self::Systemd => readers::systemd::read(file),
        }
    }
}

impl fmt::Display for Reader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

fn text(file: &[u8]) -> Result<&str, ReadError> {
    std::str::from_utf8(file).map_err(|error| ReadError::at(file, error.valid_up_to(), "is not UTF-8"))
}
