//! What a command writes, kept as a snapshot in the vault.

use std::io::{self, Read};

use reseal_engine::CancelToken;
use reseal_vault::{Vault, VaultError};

/// Why there is no snapshot. Nothing of it stays.
#[derive(Debug)]
pub(super) enum NotSaved {
    /// The operator wants it to stop.
    Cancelled,
    /// The command failed, or had nothing to say.
    Output(String),
    /// The vault did not take it.
    Vault(VaultError),
}

/// Reads the output to its end into a snapshot of that name, without ever writing it anywhere in the clear.
pub(super) fn save(
    vault: &mut Vault,
    name: &str,
    output: Box<dyn Read>,
    cancel: &CancelToken,
) -> Result<(), NotSaved> {
    let mut watched = Watched { output, cancel, failure: None };
    let added = vault.snapshot_add(name, None, &mut watched);
    match (added, watched.failure) {
        (Ok(added), _) if added.len == 0 => {
            vault.snapshot_remove(added.id).map_err(NotSaved::Vault)?;
            Err(NotSaved::Output("it wrote nothing".into()))
        }
        (Ok(_), _) => Ok(()),
        (Err(_), Some(_)) if cancel.is_cancelled() => Err(NotSaved::Cancelled),
        (Err(_), Some(why)) => Err(NotSaved::Output(why)),
        (Err(error), None) => Err(NotSaved::Vault(error)),
    }
}

/// Tells its own failures from those of whoever reads it.
struct Watched<'a> {
    output: Box<dyn Read>,
    cancel: &'a CancelToken,
    failure: Option<String>,
}

impl Read for Watched<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = if self.cancel.is_cancelled() {
            Err(io::Error::other("it is to stop"))
        } else {
            self.output.read(buffer)
        };
        if let Err(error) = &read
            && error.kind() != io::ErrorKind::Interrupted
        {
            self.failure = Some(error.to_string());
        }
        read
    }
}
