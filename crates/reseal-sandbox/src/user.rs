//! The user a server runs as: servers refuse root.

use std::ffi::OsString;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::error::SandboxError;

/// The user of the server's processes and files.
#[derive(Debug, Clone, Copy)]
pub(crate) enum ServerUser {
    /// Whoever runs this process.
    Same,
    /// Another one, because this process is root's.
    Other { uid: u32, gid: u32 },
}

impl ServerUser {
    /// The current user, or `postgres` or `nobody` for root.
    pub(crate) fn choose() -> Result<Self, SandboxError> {
        if !rustix::process::geteuid().is_root() {
            return Ok(Self::Same);
        }
        ["postgres", "nobody"].into_iter().find_map(look_up).ok_or(SandboxError::NoUnprivilegedUser)
    }

    /// Lets `command` run as this user.
    pub(crate) fn apply(self, command: &mut Command) {
        if let Self::Other { uid, gid } = self {
            // The standard library drops root's other groups together with the user.
            command.gid(gid).uid(uid);
        }
    }

    /// Whether this user may make and remove files in a directory, and find the way there.
    pub(crate) fn may_use(self, directory: &Path) -> bool {
        let lets = |path: &Path, bits: u32| {
            std::fs::metadata(path).is_ok_and(|found| found.permissions().mode() & bits == bits)
        };
        match self {
            Self::Same => true,
            Self::Other { .. } => {
                lets(directory, 0o003) && directory.ancestors().skip(1).all(|above| lets(above, 0o001))
            }
        }
    }

    /// What to put before `initdb`, which insists on a user with a name.
    ///
    /// A user without one (a bare id in a container) borrows that of `nobody` inside a user namespace, util-linux
    /// `unshare(1)`; outside of it the files are still his own.
    pub(crate) fn prefix_for_initdb(self) -> Vec<OsString> {
        if matches!(self, Self::Other { .. }) || has_name() {
            return Vec::new();
        }
        let Some(Self::Other { uid, gid }) = look_up("nobody") else { return Vec::new() };
        ["unshare", "--user", &format!("--map-user={uid}"), &format!("--map-group={gid}"), "--"]
            .map(OsString::from)
            .into()
    }

    /// Gives a file or directory to this user.
    pub(crate) fn own(self, path: &Path) -> Result<(), SandboxError> {
        let Self::Other { uid, gid } = self else { return Ok(()) };
        std::os::unix::fs::chown(path, Some(uid), Some(gid)).map_err(SandboxError::io("give away", path))
    }
}

fn look_up(name: &str) -> Option<ServerUser> {
    Some(ServerUser::Other { uid: id("-u", name)?, gid: id("-g", name)? })
}

fn has_name() -> bool {
    // Without a name `id` fails.
    Command::new("id").arg("-un").stdin(Stdio::null()).output().is_ok_and(|output| output.status.success())
}

/// Asks `id`, which knows every directory of users that the system is set up with.
fn id(which: &str, name: &str) -> Option<u32> {
    let output = Command::new("id").args([which, name]).stdin(Stdio::null()).output().ok()?;
    let number = output.status.success().then(|| String::from_utf8(output.stdout).ok())??;
    number.trim().parse().ok().filter(|&id| id != 0)
}
