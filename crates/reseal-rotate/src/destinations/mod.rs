//! Where values are written: variables of `.env` files, plain files, commands that read one on their standard input.
//!
//! Each says what stands there (`standing`), changes it, and takes it back to the bytes that were read before.

pub mod env_file;
pub mod plain_file;
pub mod spliced;

use std::path::{Path, PathBuf};

use reseal_crypto::SecretBytes;
use reseal_env::{EditError, FileError, Links, Target};

/// What a place holds, seen from outside.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// What it shall hold.
    Done,
    /// Something else.
    NotDone,
    /// It cannot be told from outside; doing it again is harmless.
    Unknown,
}

/// A place cannot be read or written. Tells no value.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DestinationError {
    /// The edit is refused; nothing was changed.
    #[error("{}: {source}", path.display())]
    Edit {
        /// The file.
        path: PathBuf,
        /// Why.
        source: EditError,
    },
    /// The file is not read or not replaced.
    #[error("{}: {source}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        source: FileError,
    },
    /// A reader of the file is not known.
    #[error("{}: no reader is called `{reader}`", path.display())]
    UnknownReader {
        /// The file.
        path: PathBuf,
        /// The name.
        reader: String,
    },
    /// The file holds something else than the vault says.
    #[error("{}: {what} is not the current value of the vault", path.display())]
    Drifted {
        /// The file.
        path: PathBuf,
        /// What in it.
        what: String,
    },
    /// The file was changed by someone else so that what stood there cannot be put back.
    #[error("{}: {what} was changed by someone else and cannot be put back", path.display())]
    Overwritten {
        /// The file.
        path: PathBuf,
        /// What in it.
        what: String,
    },
}

pub(crate) fn open(path: &Path) -> Result<Target, DestinationError> {
    Target::open(path, Links::Refuse)
        .map_err(|source| DestinationError::File { path: path.to_owned(), source })
}

pub(crate) fn replace(target: Target, path: &Path, new: &SecretBytes) -> Result<(), DestinationError> {
    // EXPOSE: the file is where the plan wants the value.
    let replaced = target.replace(new.expose());
    replaced.map_err(|source| DestinationError::File { path: path.to_owned(), source })
}
