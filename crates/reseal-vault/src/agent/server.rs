//! The side that holds the key.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::time::Duration;

use reseal_crypto::secret::VaultKey;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::time::{ClockId, clock_gettime};
use zeroize::Zeroizing;

use super::frame::{self, Frame, Type};
use super::{PROTOCOL, prepare_directory, same_user, socket_path};
use crate::error::{Thing, VaultError};
use crate::vault::VaultId;

/// How long one client may keep the others waiting.
const CLIENT_TIMEOUT: Duration = Duration::from_secs(2);
/// How often the clock is looked at: `poll` does not count the time in suspend.
const TICK: Timespec = Timespec { tv_sec: 1, tv_nsec: 0 };

/// How long the agent holds the key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// After the last time that someone asked for it.
    pub idle: Duration,
    /// In all.
    pub hard: Duration,
}

/// Why the agent ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// Nobody asked for the key for the idle time.
    Idle,
    /// The time in all is over.
    Expired,
    /// A client said so.
    Locked,
}

/// A socket that clients can find. It is removed when this is dropped.
#[derive(Debug)]
pub struct AgentListener {
    listener: UnixListener,
    path: PathBuf,
    vault_id: VaultId,
}

impl AgentListener {
    /// Opens the socket of a vault's agent in `directory`, which is made with mode 0700 if it does not exist.
    ///
    /// # Errors
    ///
    /// [`VaultError::Exists`] if an agent of this vault is running; [`VaultError::UnsafeFile`] for a directory that others
    /// may enter.
    pub fn bind(directory: &Path, vault_id: VaultId) -> Result<Self, VaultError> {
        prepare_directory(directory)?;
        let path = socket_path(directory, vault_id);
        // Two that start at once would each take the other's socket for one that a dead agent left.
        let alone = File::open(directory).and_then(|directory| directory.lock().map(|()| directory));
        let _alone = alone.map_err(VaultError::io("lock", directory))?;
        let bound = match UnixListener::bind(&path) {
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
                if UnixStream::connect(&path).is_ok() {
                    return Err(VaultError::Exists { what: Thing::Agent, name: vault_id.to_string() });
                }
                // Nobody answers: an agent that was killed left it.
                fs::remove_file(&path).and_then(|()| UnixListener::bind(&path))
            }
            other => other,
        };
        let listener = bound.map_err(VaultError::io("bind", &path))?;
        let listener = Self { listener, path, vault_id };
        let prepared = fs::set_permissions(&listener.path, fs::Permissions::from_mode(0o600))
            .and_then(|()| listener.listener.set_nonblocking(true));
        prepared.map_err(VaultError::io("prepare", &listener.path))?;
        Ok(listener)
    }

    /// Hands the key out until a limit is reached or a client locks.
    ///
    /// # Errors
    ///
    /// [`VaultError::Io`] if waiting on the socket fails. What a client does wrong ends that client only.
    pub fn serve(self, key: VaultKey, limits: Limits) -> Result<Ended, VaultError> {
        let key = Box::new(key);
        // Kept out of swap where the system allows it; a limit on locked memory is no reason to refuse service.
        let _locked = region::lock(key.expose().as_ptr(), 32).ok();
        let mut session =
            Session { vault_id: self.vault_id, key, limits, started: boot_time(), used: boot_time() };
        loop {
            if let Some(ended) = session.ended() {
                return Ok(ended);
            }
            let mut waiting = [PollFd::new(&self.listener, PollFlags::IN)];
            match poll(&mut waiting, Some(&TICK)) {
                Ok(_) | Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(VaultError::io("wait on", &self.path)(error.into())),
            }
            let Ok((stream, _)) = self.listener.accept() else { continue };
            if session.answer(stream).unwrap_or(false) {
                return Ok(Ended::Locked);
            }
        }
    }
}

impl Drop for AgentListener {
    fn drop(&mut self) {
        // The next agent replaces what cannot be removed.
        let _ = fs::remove_file(&self.path);
    }
}

struct Session {
    vault_id: VaultId,
    key: Box<VaultKey>,
    limits: Limits,
    started: Duration,
    used: Duration,
}

impl Session {
    fn ended(&self) -> Option<Ended> {
        let now = boot_time();
        if now.saturating_sub(self.started) >= self.limits.hard {
            return Some(Ended::Expired);
        }
        (now.saturating_sub(self.used) >= self.limits.idle).then_some(Ended::Idle)
    }

    /// Whole seconds until a limit is reached if nothing happens.
    fn seconds_left(&self) -> u32 {
        let hard = self.started.saturating_add(self.limits.hard);
        let end = hard.min(self.used.saturating_add(self.limits.idle));
        u32::try_from(end.saturating_sub(boot_time()).as_secs()).unwrap_or(u32::MAX)
    }

    /// Talks with one client; says whether it locked.
    fn answer(&mut self, mut stream: UnixStream) -> io::Result<bool> {
        if !same_user(&stream) {
            return Ok(false);
        }
        stream.set_nonblocking(false)?;
        stream.set_read_timeout(Some(CLIENT_TIMEOUT))?;
        stream.set_write_timeout(Some(CLIENT_TIMEOUT))?;
        let Some(Frame { kind: Type::Hello, body }) = Frame::read(&mut stream)? else { return Ok(false) };
        if frame::parse_hello(&body) != Some((PROTOCOL, self.vault_id)) {
            frame::write(&mut stream, Type::No, b"another protocol or vault")?;
            return Ok(false);
        }
        frame::write(&mut stream, Type::Ok, &PROTOCOL.to_be_bytes())?;
        while let Some(asked) = Frame::read(&mut stream)? {
            // A limit may have passed while the system slept or the client waited.
            if self.ended().is_some() {
                return Ok(false);
            }
            match asked.kind {
                Type::AskKey => {
                    self.used = boot_time();
                    frame::write(&mut stream, Type::Key, &self.key_body())?;
                }
                Type::Status => frame::write(&mut stream, Type::Status, &self.seconds_left().to_be_bytes())?,
                Type::Lock => {
                    frame::write(&mut stream, Type::Ok, &PROTOCOL.to_be_bytes())?;
                    return Ok(true);
                }
                _ => return Ok(false),
            }
        }
        Ok(false)
    }

    fn key_body(&self) -> Zeroizing<Vec<u8>> {
        let mut body = Zeroizing::new(Vec::with_capacity(36));
        // EXPOSE: to a process of the same user, which is what the agent is for.
        body.extend_from_slice(self.key.expose());
        body.extend_from_slice(&self.seconds_left().to_be_bytes());
        body
    }
}

/// Time since the machine was started, suspend included where the system can tell.
fn boot_time() -> Duration {
    #[cfg(target_os = "linux")]
    let clock = ClockId::Boottime;
    #[cfg(not(target_os = "linux"))]
    let clock = ClockId::Monotonic;
    let now = clock_gettime(clock);
    let seconds = u64::try_from(now.tv_sec).unwrap_or(0);
    Duration::new(seconds, u32::try_from(now.tv_nsec).unwrap_or(0))
}
