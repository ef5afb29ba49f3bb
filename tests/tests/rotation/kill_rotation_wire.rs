//! A wire between the command and a server: it reads every request, names those that change something, and can kill
//! whoever sent one, before the server has it or once the server has answered; or take the server away instead.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use rustix::process::{Pid, Signal, kill_process};

/// What is spoken on a wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Protocol {
    Postgres,
    Redis,
}

/// What happens at one of the requests that change something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// The process that was aimed at is killed.
    Kill,
    /// The server is not reached any more.
    Down,
    /// The server never has it, and yet the answer is that all is well. Redis only.
    Swallow,
}

/// At which of them, counted from 0, and on which side of what the server does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Plant {
    pub(crate) fault: Fault,
    pub(crate) at: usize,
    pub(crate) after: bool,
}

/// A port that leads to a server.
pub(crate) struct Wire {
    port: u16,
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    aimed: Condvar,
    is_down: AtomicBool,
}

#[derive(Default)]
struct State {
    seen: Vec<String>,
    planted: Option<Plant>,
    victim: Option<Pid>,
}

impl Wire {
    pub(crate) fn to(protocol: Protocol, server: u16) -> Self {
        let shared = Arc::new(Shared::default());
        Self { port: lead(protocol, server, &shared), shared }
    }

    /// Another port, which leads to another server; what goes through it is counted together with the rest.
    pub(crate) fn also_to(&self, protocol: Protocol, server: u16) -> u16 {
        lead(protocol, server, &self.shared)
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// Counts anew, with the server there and this fault or none.
    pub(crate) fn begin(&self, planted: Option<Plant>) {
        self.shared.is_down.store(false, Ordering::SeqCst);
        *self.shared.state() = State { planted, ..State::default() };
    }

    /// Who is killed.
    pub(crate) fn aim(&self, process: u32) {
        self.shared.state().victim = i32::try_from(process).ok().and_then(Pid::from_raw);
        self.shared.aimed.notify_all();
    }

    /// The requests that changed something, in order.
    pub(crate) fn seen(&self) -> Vec<String> {
        self.shared.state().seen.clone()
    }

    /// How often each of them was sent.
    pub(crate) fn counted(&self) -> BTreeMap<String, usize> {
        self.seen().into_iter().fold(BTreeMap::new(), |mut counted, request| {
            *counted.entry(request).or_default() += 1;
            counted
        })
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes a request down, and says what is planted at it.
    fn note(&self, request: String) -> Option<Plant> {
        let mut state = self.state();
        state.seen.push(request);
        let last = state.seen.len() - 1;
        state.planted.filter(|planted| planted.at == last)
    }

    fn strike(&self, fault: Fault) {
        if fault == Fault::Down {
            self.is_down.store(true, Ordering::SeqCst);
            return;
        }
        let aimed = self.aimed.wait_while(self.state(), |state| state.victim.is_none());
        let victim = aimed.unwrap_or_else(PoisonError::into_inner).victim.expect("it was waited for");
        kill_process(victim, Signal::KILL).expect("it is a child of this test");
    }
}

/// A port that leads to a server.
fn lead(protocol: Protocol, server: u16, shared: &Arc<Shared>) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let port = listener.local_addr().expect("it is bound").port();
    let of_thread = shared.clone();
    std::thread::spawn(move || {
        for client in listener.incoming().flatten() {
            let shared = of_thread.clone();
            if !shared.is_down.load(Ordering::SeqCst) {
                let server = TcpStream::connect(("127.0.0.1", server)).expect("the server listens");
                std::thread::spawn(move || carry(protocol, client, server, &shared));
            }
        }
    });
    port
}

fn carry(protocol: Protocol, mut client: TcpStream, mut server: TcpStream, shared: &Arc<Shared>) {
    let answered: Arc<Mutex<Option<Fault>>> = Arc::default();
    let back = {
        let ends = (clone(&server), clone(&client));
        let (answered, shared) = (answered.clone(), shared.clone());
        std::thread::spawn(move || carry_back(ends, &answered, &shared))
    };
    let mut requests = Requests { protocol, bytes: Vec::new(), is_started: false, has_changed: false };
    let mut chunk = [0; 1 << 16];
    'read: while let Ok(len @ 1..) = client.read(&mut chunk) {
        requests.bytes.extend_from_slice(&chunk[..len]);
        for request in requests.changes() {
            match shared.note(request) {
                Some(Plant { fault, after: true, .. }) => {
                    *answered.lock().unwrap_or_else(PoisonError::into_inner) = Some(fault);
                }
                Some(Plant { fault: Fault::Swallow, .. }) => {
                    if client.write_all(b"+OK\r\n").is_err() {
                        break 'read;
                    }
                    continue 'read;
                }
                Some(Plant { fault, .. }) => {
                    shared.strike(fault);
                    break 'read;
                }
                None => {}
            }
        }
        if shared.is_down.load(Ordering::SeqCst) || server.write_all(&chunk[..len]).is_err() {
            break;
        }
    }
    hang_up(&client, &server);
    drop(back.join());
}

fn carry_back(
    (mut server, mut client): (TcpStream, TcpStream),
    answered: &Mutex<Option<Fault>>,
    shared: &Shared,
) {
    let mut chunk = [0; 1 << 16];
    while let Ok(len @ 1..) = server.read(&mut chunk) {
        let fault = answered.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(fault) = fault {
            shared.strike(fault);
            break;
        }
        if client.write_all(&chunk[..len]).is_err() {
            break;
        }
    }
    hang_up(&client, &server);
}

fn hang_up(client: &TcpStream, server: &TcpStream) {
    for stream in [client, server] {
        // It may be closed already.
        let _ = stream.shutdown(Shutdown::Both);
    }
}

/// Requests as they come in.
struct Requests {
    protocol: Protocol,
    bytes: Vec<u8>,
    /// Whether the first message of Postgres, which has no type, is over.
    is_started: bool,
    /// Whether the transaction has changed something.
    has_changed: bool,
}

impl Requests {
    /// Takes all whole requests and names those that change something.
    fn changes(&mut self) -> Vec<String> {
        let mut found = Vec::new();
        loop {
            let taken = match self.protocol {
                Protocol::Postgres => self.take_message(),
                Protocol::Redis => take_command(&self.bytes).map(|(words, len)| (len, of_redis(&words))),
            };
            let Some((len, change)) = taken else { return found };
            self.bytes.drain(..len);
            found.extend(change);
        }
    }

    fn take_message(&mut self) -> Option<(usize, Option<String>)> {
        const TLS_REQUEST: u32 = 80_877_103;
        let head = usize::from(self.is_started);
        let number =
            |at: usize| self.bytes.get(at..at + 4).map(|b| u32::from_be_bytes([b[0], b[1], b[2], b[3]]));
        let len = head + number(head)? as usize;
        let message = self.bytes.get(..len)?;
        if !self.is_started {
            self.is_started = number(4)? != TLS_REQUEST;
            return Some((len, None));
        }
        let text = match message[0] {
            b'Q' => &message[5..],
            // The name of the prepared statement comes first.
            b'P' => message[5..].splitn(2, |&byte| byte == 0).nth(1)?,
            _ => return Some((len, None)),
        };
        let text = String::from_utf8_lossy(text.split(|&byte| byte == 0).next()?).into_owned();
        Some((len, self.of_postgres(&text)))
    }

    fn of_postgres(&mut self, statement: &str) -> Option<String> {
        if statement.contains("pg_terminate_backend") {
            return Some("END SESSIONS".to_owned());
        }
        let mut words = statement.split_whitespace().map(str::to_uppercase);
        let first = words.next()?;
        match first.as_str() {
            "SELECT" | "SHOW" | "SET" | "WITH" | "EXPLAIN" => None,
            "COPY" if statement.starts_with("COPY (SELECT") => None,
            "BEGIN" | "ROLLBACK" => {
                self.has_changed = false;
                None
            }
            "COMMIT" => std::mem::take(&mut self.has_changed).then_some(first),
            _ => {
                self.has_changed = true;
                Some(format!("{first} {}", words.next().unwrap_or_default()))
            }
        }
    }
}

/// The words of a whole command at the beginning of these bytes, and how long it is.
fn take_command(bytes: &[u8]) -> Option<(Vec<String>, usize)> {
    let mut at = 0;
    let number = |at: &mut usize| -> Option<usize> {
        let end = *at + bytes[*at..].windows(2).position(|two| two == b"\r\n")?;
        let number = std::str::from_utf8(&bytes[*at + 1..end]).ok()?.parse().expect("commands are arrays");
        *at = end + 2;
        Some(number)
    };
    let count = number(&mut at)?;
    let mut words = Vec::new();
    for _ in 0..count {
        let len = number(&mut at)?;
        words.push(String::from_utf8_lossy(bytes.get(at..at + len)?).into_owned());
        at += len + 2;
    }
    (at <= bytes.len()).then_some((words, at))
}

fn of_redis(words: &[String]) -> Option<String> {
    let word = |at: usize| words.get(at).map(|word| word.to_uppercase()).unwrap_or_default();
    let (first, second) = (word(0), word(1));
    match (first.as_str(), second.as_str()) {
        ("HELLO" | "AUTH" | "PING" | "INFO" | "SELECT", _)
        | ("CLIENT", "SETINFO" | "LIST")
        | ("CONFIG", "GET")
        | ("ACL", "WHOAMI" | "GETUSER" | "DRYRUN") => None,
        ("CONFIG", "SET") => Some(format!("CONFIG SET {}", word(2))),
        _ => Some(format!("{first} {second}")),
    }
}

fn clone(stream: &TcpStream) -> TcpStream {
    stream.try_clone().expect("it is open")
}
