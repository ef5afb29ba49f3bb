//! What can stop an adoption.

use std::path::PathBuf;

use reseal_env::{FileError, ReadError, Reader};

use crate::error::ErrorKind;
use crate::plan::PlanError;

/// What can stop an adoption. Messages name files, lines and variables, never values.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AdoptError {
    /// The directory cannot be looked at.
    #[error("{}: {source}", path.display())]
    Directory {
        /// The directory.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// There is nothing to adopt.
    #[error("there is no `.env` file with a secret in {}", path.display())]
    Nothing {
        /// The directory.
        path: PathBuf,
    },
    /// A file cannot be read, or could not be replaced later.
    #[error("{}: {source}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: FileError,
    },
    /// A program that reads the file would not understand it.
    #[error("{reader} does not read {}: {source}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Who reads it.
        reader: Reader,
        /// Where it goes wrong.
        source: ReadError,
    },
    /// No known program reads the file as it is.
    #[error("no known program reads {} as it is", path.display())]
    NoReader {
        /// The file.
        path: PathBuf,
    },
    /// A value would have to stand in the plan, in a name or an address.
    #[error("the value of `{secret}` is part of a name or an address, and the plan would show it")]
    WouldShow {
        /// The secret.
        secret: String,
    },
    /// What was drafted is no plan.
    #[error("what was found makes no plan: {0}")]
    Plan(#[from] PlanError),
}

impl AdoptError {
    /// What kind of failure this is.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Nothing { .. } | Self::Directory { .. } => ErrorKind::NotFound,
            Self::File { .. } | Self::Unreadable { .. } | Self::NoReader { .. } | Self::WouldShow { .. } => {
                ErrorKind::Refused
            }
            Self::Plan(_) => ErrorKind::Failed,
        }
    }

    /// What is safe to do next, as a sentence.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::File { path, .. } | Self::Unreadable { path, .. } | Self::NoReader { path } => {
                Some(format!(
                    "mend it, or leave it out with `--except {}`: secrets in it would not change with the others",
                    path.display()
                ))
            }
            Self::Nothing { .. } => Some("name the directory of the project".into()),
            Self::WouldShow { .. } => Some("change that value by hand first, then adopt".into()),
            Self::Directory { .. } | Self::Plan(_) => None,
        }
    }
}
