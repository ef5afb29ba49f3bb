//! What every private server needs: a directory, a port, a password, nobody else's.

use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use crate::error::SandboxError;
use crate::user::ServerUser;

/// The longest path that fits into a socket address on every system, with the name of the socket.
const SOCKET_DIRECTORY_MAX: usize = 80;
/// Ports that systems do not give to outgoing connections, which would take one between two starts of a server.
const PORTS: std::ops::Range<u16> = 11_000..32_000;
/// How many ports are tried.
const TRIES: u32 = 100;

/// A directory of the server's user with a short path, because socket addresses are short.
///
/// Nobody removes it but the guard of the server.
pub(crate) fn make_directory(prefix: &str, user: ServerUser) -> Result<PathBuf, SandboxError> {
    let base = std::env::temp_dir();
    let is_short = base.as_os_str().len() <= SOCKET_DIRECTORY_MAX - 20;
    // Another user may have no way into root's own directories.
    let base = if is_short && user.may_use(&base) { base } else { PathBuf::from("/tmp") };
    let made = tempfile::Builder::new().prefix(prefix).rand_bytes(8).tempdir_in(&base);
    let made = made.map_err(SandboxError::io("make a directory in", &base))?;
    if made.path().as_os_str().len() + 2 > SOCKET_DIRECTORY_MAX {
        return Err(SandboxError::PathTooLong(made.path().to_owned()));
    }
    protect(made.path(), user)?;
    Ok(made.keep())
}

/// Makes a directory below one of [`make_directory`].
pub(crate) fn make_below(directory: &Path, name: &str, user: ServerUser) -> Result<PathBuf, SandboxError> {
    let path = directory.join(name);
    std::fs::create_dir(&path).map_err(SandboxError::io("create", &path))?;
    protect(&path, user)?;
    Ok(path)
}

fn protect(path: &Path, user: ServerUser) -> Result<(), SandboxError> {
    let private = std::fs::Permissions::from_mode(0o700);
    std::fs::set_permissions(path, private).map_err(SandboxError::io("protect", path))?;
    user.own(path)
}

/// Writes a file that only the server's user (and root) may read.
pub(crate) fn write_private(path: &Path, bytes: &[u8], user: ServerUser) -> Result<(), SandboxError> {
    use std::io::Write;
    use std::os::unix::fs::OpenOptionsExt;
    let mut file = std::fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)
        .map_err(SandboxError::io("create", path))?;
    file.write_all(bytes).map_err(SandboxError::io("write", path))?;
    user.own(path)
}

/// A port of 127.0.0.1 that was free a moment ago.
pub(crate) fn free_port() -> Result<u16, SandboxError> {
    let mut last = Ok(());
    for _ in 0..TRIES {
        let mut bytes = [0; 2];
        getrandom::fill(&mut bytes)?;
        let port = PORTS.start + u16::from_le_bytes(bytes) % (PORTS.end - PORTS.start);
        match TcpListener::bind(("127.0.0.1", port)) {
            Ok(_) => return Ok(port),
            Err(error) => last = Err(error),
        }
    }
    last.map_err(SandboxError::io("find a port on", "127.0.0.1")).map(|()| PORTS.start)
}

/// A password for one server.
pub(crate) fn fresh_password() -> Result<String, SandboxError> {
    let mut bytes = [0; 24];
    getrandom::fill(&mut bytes)?;
    Ok(hex::encode(bytes))
}

/// The last lines of a log.
pub(crate) fn tail(log: &Path) -> String {
    let log = std::fs::read(log).unwrap_or_default();
    let log = String::from_utf8_lossy(&log);
    let lines: Vec<&str> = log.lines().rev().take(8).collect();
    lines.into_iter().rev().collect::<Vec<_>>().join("\n")
}
