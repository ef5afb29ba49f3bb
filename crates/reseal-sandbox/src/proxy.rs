//! A wire that can be cut: a TCP proxy on 127.0.0.1 before a server.
//!
//! It carries bytes and knows nothing of what they mean; where to cut is said in bytes or by a marker in the stream, so
//! that a test can cut before a request, after it but before its reply, or let the line go silent.

use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use crate::error::SandboxError;

/// How often a silent direction looks whether it has been told something.
const TICK: Duration = Duration::from_millis(20);

/// Where the proxy leads to.
#[derive(Debug, Clone)]
pub enum Target {
    /// A TCP address.
    Tcp(SocketAddr),
    /// A Unix socket, such as `.s.PGSQL.5432` of a private Postgres.
    Unix(PathBuf),
}

/// What happens to the next request that holds the marker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// The connection is cut on both sides; the request does not reach the server.
    CutBeforeRequest,
    /// The request reaches the server, its reply does not come back: both sides are cut when the server answers.
    CutBeforeReply,
    /// The request reaches the server; nothing comes back, and the line stays open.
    Stall,
    /// The request reaches the server, which then hears that the client has finished; its reply comes back.
    HalfClose,
}

/// A running proxy; its connections are cut when it is dropped.
#[derive(Debug)]
pub struct Proxy {
    address: SocketAddr,
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct Shared {
    armed: Mutex<Option<(Vec<u8>, Fault)>>,
    ended: AtomicBool,
    connections: AtomicU64,
    faults: AtomicU64,
}

impl Proxy {
    /// Listens on a free port of 127.0.0.1.
    ///
    /// # Errors
    ///
    /// [`SandboxError::Io`].
    pub fn start(target: Target) -> Result<Self, SandboxError> {
        let failed = || SandboxError::io("listen on", "127.0.0.1");
        let listener = TcpListener::bind(("127.0.0.1", 0)).map_err(failed())?;
        let address = listener.local_addr().map_err(failed())?;
        let shared = Arc::new(Shared::default());
        let ours = Arc::clone(&shared);
        let thread = std::thread::spawn(move || accept(&listener, &target, &ours));
        Ok(Self { address, shared, thread: Some(thread) })
    }

    /// The port to connect to.
    pub fn port(&self) -> u16 {
        self.address.port()
    }

    /// Prepares a fault for the next bytes from a client that hold `marker`, for example `COMMIT`. Once only.
    pub fn arm(&self, marker: &[u8], fault: Fault) {
        *self.shared.armed() = Some((marker.to_vec(), fault));
    }

    /// Connections made so far.
    pub fn connections(&self) -> u64 {
        self.shared.connections.load(Ordering::SeqCst)
    }

    /// Faults that have happened.
    pub fn faults(&self) -> u64 {
        self.shared.faults.load(Ordering::SeqCst)
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.shared.ended.store(true, Ordering::SeqCst);
        // A last connection wakes the listener.
        drop(TcpStream::connect(self.address));
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl Shared {
    fn armed(&self) -> std::sync::MutexGuard<'_, Option<(Vec<u8>, Fault)>> {
        self.armed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes the fault if these bytes call for it.
    fn fault_in(&self, bytes: &[u8]) -> Option<Fault> {
        let mut armed = self.armed();
        let (marker, _) = armed.as_ref()?;
        if marker.is_empty() || !bytes.windows(marker.len()).any(|window| window == marker) {
            return None;
        }
        self.faults.fetch_add(1, Ordering::SeqCst);
        armed.take().map(|(_, fault)| fault)
    }
}

/// What the reply direction does, as told by the request direction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Replies {
    Pass,
    Cut,
    Swallow,
}

/// Either end of a connection.
enum Wire {
    Tcp(TcpStream),
    Unix(UnixStream),
}

impl Wire {
    fn connect(target: &Target) -> io::Result<Self> {
        Ok(match target {
            Target::Tcp(address) => Self::Tcp(TcpStream::connect(address)?),
            Target::Unix(path) => Self::Unix(UnixStream::connect(path)?),
        })
    }

    fn try_clone(&self) -> io::Result<Self> {
        Ok(match self {
            Self::Tcp(stream) => Self::Tcp(stream.try_clone()?),
            Self::Unix(stream) => Self::Unix(stream.try_clone()?),
        })
    }

    fn wake_up_every(&self, tick: Duration) -> io::Result<()> {
        match self {
            Self::Tcp(stream) => stream.set_read_timeout(Some(tick)),
            Self::Unix(stream) => stream.set_read_timeout(Some(tick)),
        }
    }

    fn close(&self, how: Shutdown) {
        // Whatever is closed already needs no closing.
        let _ = match self {
            Self::Tcp(stream) => stream.shutdown(how),
            Self::Unix(stream) => stream.shutdown(how),
        };
    }

    /// The next bytes; `None` at the end, an empty slice if there are none yet.
    fn receive<'a>(&mut self, buffer: &'a mut [u8]) -> Option<&'a [u8]> {
        let read = match self {
            Self::Tcp(stream) => stream.read(buffer),
            Self::Unix(stream) => stream.read(buffer),
        };
        match read {
            Ok(0) => None,
            Ok(length) => Some(&buffer[..length]),
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => {
                Some(&[])
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Some(&[]),
            Err(_) => None,
        }
    }

    fn send(&mut self, bytes: &[u8]) -> bool {
        match self {
            Self::Tcp(stream) => stream.write_all(bytes).is_ok(),
            Self::Unix(stream) => stream.write_all(bytes).is_ok(),
        }
    }
}

fn accept(listener: &TcpListener, target: &Target, shared: &Arc<Shared>) {
    let mut carriers = Vec::new();
    while let Ok((client, _)) = listener.accept() {
        if shared.ended.load(Ordering::SeqCst) {
            break;
        }
        shared.connections.fetch_add(1, Ordering::SeqCst);
        // A server that is not there: the client sees its connection closed.
        let Ok(server) = Wire::connect(target) else { continue };
        let shared = Arc::clone(shared);
        carriers.push(std::thread::spawn(move || carry(Wire::Tcp(client), server, &shared)));
    }
    for carrier in carriers {
        let _ = carrier.join();
    }
}

/// Carries both directions of one connection until an end closes, a fault cuts it or the proxy ends.
fn carry(client: Wire, server: Wire, shared: &Arc<Shared>) {
    let _ = client.wake_up_every(TICK).and_then(|()| server.wake_up_every(TICK));
    let (Ok(client_writer), Ok(server_reader)) = (client.try_clone(), server.try_clone()) else { return };
    let replies = Arc::new(Mutex::new(Replies::Pass));
    let back = {
        let (replies, shared) = (Arc::clone(&replies), Arc::clone(shared));
        std::thread::spawn(move || carry_replies(server_reader, client_writer, &replies, &shared))
    };
    carry_requests(client, server, &replies, shared);
    let _ = back.join();
}

fn carry_requests(mut client: Wire, mut server: Wire, replies: &Mutex<Replies>, shared: &Shared) {
    let mut buffer = vec![0; 64 * 1024];
    let tell = |what| *replies.lock().unwrap_or_else(PoisonError::into_inner) = what;
    while !shared.ended.load(Ordering::SeqCst) {
        let Some(bytes) = client.receive(&mut buffer) else { break };
        match shared.fault_in(bytes) {
            Some(Fault::CutBeforeRequest) => {
                client.close(Shutdown::Both);
                server.close(Shutdown::Both);
                return;
            }
            Some(Fault::CutBeforeReply) => tell(Replies::Cut),
            Some(Fault::Stall) => tell(Replies::Swallow),
            Some(Fault::HalfClose) => {
                server.send(bytes);
                break;
            }
            None => {}
        }
        if !bytes.is_empty() && !server.send(bytes) {
            break;
        }
    }
    server.close(Shutdown::Write);
}

fn carry_replies(mut server: Wire, mut client: Wire, replies: &Mutex<Replies>, shared: &Shared) {
    let mut buffer = vec![0; 64 * 1024];
    while !shared.ended.load(Ordering::SeqCst) {
        let Some(bytes) = server.receive(&mut buffer) else { break };
        if bytes.is_empty() {
            continue;
        }
        match *replies.lock().unwrap_or_else(PoisonError::into_inner) {
            Replies::Pass if client.send(bytes) => {}
            Replies::Pass | Replies::Cut => break,
            Replies::Swallow => {}
        }
    }
    server.close(Shutdown::Both);
    client.close(Shutdown::Both);
}
