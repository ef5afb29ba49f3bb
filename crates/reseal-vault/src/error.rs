//! What can go wrong with a vault, and the class that decides what a caller does about it.

use std::fmt;
use std::path::{Path, PathBuf};

use reseal_crypto::kdf::KdfError;
use reseal_crypto::random::RandomError;
use rusqlite::ErrorCode;

use crate::name::NameError;

/// The class of a [`VaultError`]; each has an exit code of its own in the command.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ErrorKind {
    /// No such vault, secret, version, label, slot or record.
    NotFound,
    /// No slot opens under what was given, or nothing was given.
    Locked,
    /// Another process holds the vault for longer than the time limit.
    Busy,
    /// The vault is damaged, was tampered with, or is older than it should be.
    Integrity,
    /// A compare-and-set did not find what it expected.
    Conflict,
    /// Refused before any change: a limit, a rule, or an unsafe file.
    Refused,
    /// Anything else: the disk, the system.
    Other,
}

/// What a vault, or the directory it is in, does not hold or holds already.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Thing {
    /// A secret.
    Secret,
    /// A secret that was deleted and can be undeleted.
    DeletedSecret,
    /// A version of a secret, by number or label.
    Version,
    /// A version that waits to become current.
    PendingVersion,
    /// The value of a version that was destroyed.
    DestroyedValue,
    /// A key slot.
    KeySlot,
    /// A record of something that is under way.
    JournalRecord,
    /// A file or stream that was kept.
    Snapshot,
    /// A file.
    File,
    /// The agent of a vault.
    Agent,
}

impl fmt::Display for Thing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Secret => "secret",
            Self::DeletedSecret => "deleted secret",
            Self::Version => "version",
            Self::PendingVersion => "pending version of",
            Self::DestroyedValue => "value any more of the destroyed",
            Self::KeySlot => "key slot",
            Self::JournalRecord => "journal record",
            Self::Snapshot => "snapshot",
            Self::File => "file",
            Self::Agent => "agent of vault",
        })
    }
}

/// What can go wrong with a vault. Messages name secrets and files, never values.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum VaultError {
    /// There is no file of this name.
    #[error("there is no vault at {}", .0.display())]
    NoVault(PathBuf),
    /// There is no backup of this name.
    #[error("there is no backup at {}", .0.display())]
    NoBackup(PathBuf),
    /// The directory that a file was to be made in is not there.
    #[error("the directory {} does not exist", .0.display())]
    NoDirectory(PathBuf),
    /// The secret was deleted; undeleting brings it back.
    #[error("the secret `{0}` is deleted")]
    Deleted(String),
    /// The vault holds no such thing.
    #[error("the vault holds no {what} `{name}`")]
    NotFound {
        /// What was looked for.
        what: Thing,
        /// Its name.
        name: String,
    },
    /// No slot opens under what was given.
    #[error("the {0} opens no key slot of this vault")]
    Locked(&'static str),
    /// Another process holds the vault.
    #[error("the vault is in use by another process")]
    Busy,
    /// The file is not a vault, or not one that this version reads.
    #[error("{} is not a vault: {reason}", path.display())]
    NotAVault {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// The stored bytes are not what was written.
    #[error("the vault is damaged or was tampered with: {0}")]
    Tampered(String),
    /// The vault is older than one that was seen before, or another history of it.
    #[error(
        "the vault is older than the one last used here, or a copy that went its own way: audit entry {index} is {found}"
    )]
    RolledBack {
        /// Position of the audit entry that the anchor names.
        index: u64,
        /// What the vault has there.
        found: &'static str,
    },
    /// A compare-and-set found another version.
    #[error("`{name}` is at version {found}, not at the expected {expected}")]
    VersionConflict {
        /// The secret.
        name: String,
        /// The version that the caller expected to be current.
        expected: u64,
        /// The version that is current, 0 for none.
        found: u64,
    },
    /// The name is taken.
    #[error("there already is a {what} `{name}`")]
    Exists {
        /// What there is.
        what: Thing,
        /// Its name.
        name: String,
    },
    /// Refused before any change.
    #[error("refused: {0}")]
    Refused(String),
    /// Not a name that a secret can have.
    #[error(transparent)]
    Name(#[from] NameError),
    /// The file, or the directory it is in, is not safe to use.
    #[error("refused: {} {reason}", path.display())]
    UnsafeFile {
        /// The file or directory.
        path: PathBuf,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// A key could not be derived.
    #[error(transparent)]
    Kdf(#[from] KdfError),
    /// The random generator failed.
    #[error(transparent)]
    Random(#[from] RandomError),
    /// A file operation failed.
    #[error("cannot {action} {}", path.display())]
    Io {
        /// What was attempted.
        action: &'static str,
        /// On which file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// There is no room for a change, and every use of a secret makes one, in the audit log.
    #[error("the disk under {} is full; the vault is as it was", .0.display())]
    DiskFull(PathBuf),
    /// SQLite failed.
    #[error("the database under the vault failed")]
    Sqlite(#[source] rusqlite::Error),
}

impl VaultError {
    /// The class of this error.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::NoVault(_)
            | Self::NoBackup(_)
            | Self::NoDirectory(_)
            | Self::Deleted(_)
            | Self::NotFound { .. } => ErrorKind::NotFound,
            Self::Locked(_) => ErrorKind::Locked,
            Self::Busy => ErrorKind::Busy,
            Self::NotAVault { .. } | Self::Tampered(_) | Self::RolledBack { .. } => ErrorKind::Integrity,
            Self::VersionConflict { .. } | Self::Exists { .. } => ErrorKind::Conflict,
            Self::Refused(_) | Self::Name(_) | Self::UnsafeFile { .. } => ErrorKind::Refused,
            Self::Kdf(KdfError::OutOfMemory { .. })
            | Self::Random(_)
            | Self::Io { .. }
            | Self::DiskFull(_)
            | Self::Sqlite(_) => ErrorKind::Other,
            Self::Kdf(_) => ErrorKind::Integrity,
        }
    }

    /// Names the file whose disk is full.
    pub(crate) fn at(self, path: &Path) -> Self {
        match self {
            Self::Sqlite(error) if error.sqlite_error_code() == Some(ErrorCode::DiskFull) => {
                Self::DiskFull(path.to_owned())
            }
            other => other,
        }
    }

    pub(crate) fn io(action: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io { action, path, source }
    }

    pub(crate) fn not_found(what: Thing, name: impl ToString) -> Self {
        Self::NotFound { what, name: name.to_string() }
    }

    pub(crate) fn tampered(what: impl Into<String>) -> Self {
        Self::Tampered(what.into())
    }

    pub(crate) fn refused(why: impl Into<String>) -> Self {
        Self::Refused(why.into())
    }
}

impl From<rusqlite::Error> for VaultError {
    fn from(error: rusqlite::Error) -> Self {
        match error.sqlite_error_code() {
            Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => Self::Busy,
            Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => {
                Self::tampered("SQLite finds the file malformed")
            }
            // A column of another type or size than the schema gives it was not written by us.
            None if is_shape_error(&error) => {
                Self::tampered("a stored field has another type than it should")
            }
            _ => Self::Sqlite(error),
        }
    }
}

fn is_shape_error(error: &rusqlite::Error) -> bool {
    use rusqlite::Error::{FromSqlConversionFailure, IntegralValueOutOfRange, InvalidColumnType, Utf8Error};
    matches!(
        error,
        FromSqlConversionFailure(..) | IntegralValueOutOfRange(..) | InvalidColumnType(..) | Utf8Error(..)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn full_disk_is_named() {
        let full =
            rusqlite::Error::SqliteFailure(rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_FULL), None);
        let error = VaultError::from(full).at(Path::new("/srv/a.vault"));
        assert_eq!(error.to_string(), "the disk under /srv/a.vault is full; the vault is as it was");
        let other =
            rusqlite::Error::SqliteFailure(rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_IOERR), None);
        assert!(matches!(VaultError::from(other).at(Path::new("/srv/a.vault")), VaultError::Sqlite(_)));
    }
}
