//! The agent: holds a vault key for a while and hands it to processes of the same user; nothing else.
//!
//! Clients open the vault file themselves. The agent is started by re-executing the command, with the key on a pipe; the
//! socket's directory is given by the caller. Both sides check that the other is the same user.
//!
//! ```text
//! frame = u32 big-endian length of what follows (1 to 4,096) || u8 type || body
//! 1 HELLO  u16 protocol || vault id(16)   -->   2 OK  u16 protocol   or   3 NO  reason, UTF-8
//! 4 KEY                                   -->   5 KEY  key(32) || u32 seconds left
//! 6 STATUS                                -->   6 STATUS  u32 seconds left
//! 7 LOCK                                  -->   2 OK  u16 protocol; then the agent ends
//! ```
//!
//! Limits count on `CLOCK_BOOTTIME`: time in suspend counts too.

mod client;
mod frame;
mod server;

use std::fs::{self, DirBuilder};
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

pub use client::AgentClient;
pub use server::{AgentListener, Ended, Limits};

use crate::error::VaultError;
use crate::vault::VaultId;

/// The version of the protocol.
const PROTOCOL: u16 = 1;

/// The socket of the agent of a vault: `<first 16 hex digits of the vault id>.sock`.
pub fn socket_path(directory: &Path, vault_id: VaultId) -> PathBuf {
    directory.join(format!("{}.sock", &vault_id.to_string()[..16]))
}

/// Forbids debuggers and core dumps of this process, as far as the system lets it. For the agent, and for every command
/// that holds a key.
///
/// # Errors
///
/// [`VaultError::Io`] if the system refuses.
pub fn harden_process() -> Result<(), VaultError> {
    use rustix::process::{Resource, Rlimit, setrlimit};
    let none = Rlimit { current: Some(0), maximum: Some(0) };
    let failed = |error: rustix::io::Errno| VaultError::io("harden", Path::new("this process"))(error.into());
    setrlimit(Resource::Core, none).map_err(failed)?;
    #[cfg(target_os = "linux")]
    rustix::process::set_dumpable_behavior(rustix::process::DumpableBehavior::NotDumpable).map_err(failed)?;
    Ok(())
}

/// Creates the directory of the sockets with mode 0700, or checks the one that is there.
fn prepare_directory(directory: &Path) -> Result<(), VaultError> {
    match DirBuilder::new().mode(0o700).create(directory) {
        Ok(()) => {}
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {}
        Err(error) => return Err(VaultError::io("create", directory)(error)),
    }
    check_directory(directory)
}

/// Refuses a directory in which others could put a socket of theirs.
fn check_directory(directory: &Path) -> Result<(), VaultError> {
    let metadata = fs::symlink_metadata(directory).map_err(VaultError::io("look at", directory))?;
    let unsafe_because = |reason| Err(VaultError::UnsafeFile { path: directory.to_owned(), reason });
    if !metadata.is_dir() {
        return unsafe_because("is not a directory");
    }
    if metadata.uid() != rustix::process::geteuid().as_raw() {
        return unsafe_because("belongs to another user");
    }
    if metadata.mode() & 0o077 != 0 {
        return unsafe_because("may be entered by others: set its mode to 0700");
    }
    Ok(())
}

/// Whether the process at the other end belongs to the same user.
#[cfg(target_os = "linux")]
fn same_user(stream: &UnixStream) -> bool {
    rustix::net::sockopt::socket_peercred(stream).is_ok_and(|peer| peer.uid == rustix::process::geteuid())
}

/// Elsewhere the directory alone keeps others away: its mode and owner are checked before every use.
#[cfg(not(target_os = "linux"))]
fn same_user(_: &UnixStream) -> bool {
    true
}
