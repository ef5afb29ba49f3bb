//! One process at a time drives the rotations of a vault.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use reseal_vault::Vault;
use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;

use crate::error::RotateError;

/// Held while rotations of a vault are driven; the system lets go of it when the process ends, however that happens.
#[derive(Debug)]
pub struct RotationLock {
    _file: File,
}

impl RotationLock {
    /// Takes the lock, in an empty file beside the vault.
    ///
    /// # Errors
    ///
    /// [`RotateError::Driven`] if another process has it; [`RotateError::Directory`] if the file cannot be made.
    pub fn take(vault: &Vault) -> Result<Self, RotateError> {
        let mut name = vault.path().as_os_str().to_owned();
        name.push(".rotating");
        let path = Path::new(&name);
        let failed = |source| RotateError::Directory { path: path.to_owned(), source };
        let mut options = OpenOptions::new();
        options
            .create(true)
            .append(true)
            .mode(0o600)
            .custom_flags(rustix::fs::OFlags::NOFOLLOW.bits() as i32);
        let file = options.open(path).map_err(failed)?;
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(Self { _file: file }),
            Err(Errno::WOULDBLOCK) => Err(RotateError::Driven),
            Err(errno) => Err(failed(errno.into())),
        }
    }
}
