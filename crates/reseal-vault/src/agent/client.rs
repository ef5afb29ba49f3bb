//! The side that asks for the key.

use std::io;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

use reseal_crypto::secret::VaultKey;

use super::frame::{self, Frame, Type};
use super::{PROTOCOL, check_directory, same_user, socket_path};
use crate::error::VaultError;
use crate::vault::{UnlockedKey, VaultId};

/// How long an agent may take to answer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);

/// A conversation with the agent of a vault.
#[derive(Debug)]
pub struct AgentClient {
    stream: UnixStream,
    path: std::path::PathBuf,
}

impl AgentClient {
    /// Finds the agent of a vault. `None` if there is none.
    ///
    /// # Errors
    ///
    /// [`VaultError::UnsafeFile`] if others may put a socket where the agent's would be, or if the agent belongs to
    /// someone else: nothing was said to it. [`VaultError::Io`] if something listens and does not greet as the agent of
    /// this vault does: it may hold the key.
    pub fn connect(directory: &Path, vault_id: VaultId) -> Result<Option<Self>, VaultError> {
        let path = socket_path(directory, vault_id);
        if path.symlink_metadata().is_err() {
            return Ok(None);
        }
        check_directory(directory)?;
        let stream = match UnixStream::connect(&path) {
            Ok(stream) => stream,
            // One that was killed left its socket behind; one that has just ended took it along.
            Err(error) if is_gone(&error) => return Ok(None),
            Err(error) => return Err(VaultError::io("talk to the agent at", &path)(error)),
        };
        if !same_user(&stream) {
            return Err(VaultError::UnsafeFile { path, reason: "is the socket of another user" });
        }
        let mut client = Self { stream, path };
        match client.greet(vault_id) {
            Ok(Some(frame)) if frame.kind == Type::Ok && *frame.body == PROTOCOL.to_be_bytes() => {
                Ok(Some(client))
            }
            Ok(Some(_)) => Err(client.nonsense()),
            Ok(None) => Ok(None),
            Err(error) if is_gone(&error) => Ok(None),
            Err(error) => Err(client.silent(error)),
        }
    }

    fn greet(&mut self, vault_id: VaultId) -> io::Result<Option<Frame>> {
        self.stream.set_read_timeout(Some(ANSWER_TIMEOUT))?;
        self.stream.set_write_timeout(Some(ANSWER_TIMEOUT))?;
        frame::write(&mut self.stream, Type::Hello, &frame::hello(PROTOCOL, vault_id))?;
        Frame::read(&mut self.stream)
    }

    /// Asks for the key; the idle time begins anew. `None` if the agent has just ended.
    ///
    /// # Errors
    ///
    /// [`VaultError::Io`] if the agent does not answer as it should.
    pub fn key(&mut self) -> Result<Option<(UnlockedKey, Duration)>, VaultError> {
        let Some(body) = self.ask(Type::AskKey, Type::Key)? else { return Ok(None) };
        let parts = body.split_first_chunk::<32>().and_then(|(key, left)| Some((key, seconds(left)?)));
        let (key, left) = parts.ok_or_else(|| self.nonsense())?;
        Ok(Some((UnlockedKey::from_agent(VaultKey::from_bytes(key)), left)))
    }

    /// Asks how long the key stays. `None` if the agent has just ended.
    ///
    /// # Errors
    ///
    /// [`VaultError::Io`] if the agent does not answer as it should.
    pub fn status(&mut self) -> Result<Option<Duration>, VaultError> {
        let Some(body) = self.ask(Type::Status, Type::Status)? else { return Ok(None) };
        seconds(&body).map(Some).ok_or_else(|| self.nonsense())
    }

    /// Ends the agent; its key is wiped, and its socket is gone when this returns.
    ///
    /// # Errors
    ///
    /// [`VaultError::Io`] if the agent does not answer as it should.
    pub fn lock(mut self) -> Result<(), VaultError> {
        self.ask(Type::Lock, Type::Ok)?;
        // It answers before it goes: another agent can take its place only then.
        let deadline = Instant::now() + ANSWER_TIMEOUT;
        while self.path.symlink_metadata().is_ok() && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(2));
        }
        Ok(())
    }

    fn ask(
        &mut self,
        question: Type,
        answer: Type,
    ) -> Result<Option<zeroize::Zeroizing<Vec<u8>>>, VaultError> {
        let said = frame::write(&mut self.stream, question, b"").and_then(|()| Frame::read(&mut self.stream));
        match said {
            Ok(Some(frame)) if frame.kind == answer => Ok(Some(frame.body)),
            Ok(None) => Ok(None),
            Ok(Some(_)) => Err(self.nonsense()),
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(None),
            Err(error) => Err(self.silent(error)),
        }
    }

    fn silent(&self, error: io::Error) -> VaultError {
        let error = match error.kind() {
            io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => {
                io::Error::new(io::ErrorKind::TimedOut, format!("no answer within {ANSWER_TIMEOUT:?}"))
            }
            _ => error,
        };
        VaultError::io("talk to the agent at", &self.path)(error)
    }

    fn nonsense(&self) -> VaultError {
        let error =
            io::Error::new(io::ErrorKind::InvalidData, "an answer that does not belong to the question");
        VaultError::io("understand the agent at", &self.path)(error)
    }
}

/// Whether this error says that no agent is there any more.
fn is_gone(error: &io::Error) -> bool {
    use io::ErrorKind::{BrokenPipe, ConnectionRefused, ConnectionReset, NotFound};
    matches!(error.kind(), ConnectionRefused | NotFound | BrokenPipe | ConnectionReset)
}

fn seconds(body: &[u8]) -> Option<Duration> {
    let seconds = u32::from_be_bytes(body.try_into().ok()?);
    Some(Duration::from_secs(seconds.into()))
}
