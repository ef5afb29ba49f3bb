//! The agent hands the key to its own user, for as long as it may.

use std::fs;
use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::{Arc, Barrier};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use reseal_crypto::secret::VaultKey;
use reseal_vault::agent::{AgentClient, AgentListener, Ended, Limits, socket_path};
use reseal_vault::{ErrorKind, LockedVault, Vault, VaultId, VersionSelector};

use crate::support::{Home, key_file, kind, name, password};

const LONG: Duration = Duration::from_secs(600);
const ID: VaultId = VaultId([0xA6; 16]);

struct Agent {
    directory: PathBuf,
    _temporary: tempfile::TempDir,
    thread: JoinHandle<Ended>,
}

fn start(id: VaultId, idle: Duration, hard: Duration) -> Agent {
    let temporary = tempfile::tempdir().expect("a temporary directory");
    let directory = temporary.path().join("sockets");
    let listener = AgentListener::bind(&directory, id).expect("bound");
    let key = VaultKey::from_bytes(&[7; 32]);
    let thread = thread::spawn(move || listener.serve(key, Limits { idle, hard }).expect("serves"));
    Agent { directory, _temporary: temporary, thread }
}

impl Agent {
    fn client(&self) -> AgentClient {
        AgentClient::connect(&self.directory, ID).expect("safe").expect("an agent")
    }

    fn ended(self) -> Ended {
        let ended = self.thread.join().expect("no panic");
        assert!(!socket_path(&self.directory, ID).exists(), "the socket is removed");
        ended
    }
}

#[test]
fn a_vault_opens_with_the_key_of_its_agent() {
    let home = Home::with_vault();
    home.open().put(&name("a"), password("x")).expect("stored");
    let locked = LockedVault::find(&home.path(), home.options()).expect("found");
    let key = locked.unwrap_key(&key_file()).expect("unwrapped").key().clone();
    let directory = home.directory().join("sockets");
    let listener = AgentListener::bind(&directory, locked.id()).expect("bound");
    let limits = Limits { idle: LONG, hard: LONG };
    let thread = thread::spawn(move || listener.serve(key, limits).expect("serves"));
    let mut client = AgentClient::connect(&directory, locked.id()).expect("safe").expect("an agent");
    let (key, left) = client.key().expect("answers").expect("a key");
    assert!(left > LONG - Duration::from_secs(60), "{left:?}");
    let mut vault: Vault = locked.unlock(key).expect("opens");
    assert_eq!(vault.slot_name(), "agent");
    vault.get(&name("a"), VersionSelector::Current).expect("released");
    client.lock().expect("locked");
    assert_eq!(thread.join().expect("no panic"), Ended::Locked);
    assert!(AgentClient::connect(&directory, vault.id()).expect("safe").is_none());
}

#[test]
fn the_socket_is_private() {
    let agent = start(ID, LONG, LONG);
    let mode = |path: &std::path::Path| fs::metadata(path).expect("there").permissions().mode() & 0o777;
    assert_eq!(mode(&agent.directory), 0o700);
    assert_eq!(mode(&socket_path(&agent.directory, ID)), 0o600);
    assert_eq!(socket_path(&agent.directory, ID).file_name().expect("a name"), "a6a6a6a6a6a6a6a6.sock");
    fs::set_permissions(&agent.directory, fs::Permissions::from_mode(0o755)).expect("opened to all");
    assert_eq!(kind(AgentClient::connect(&agent.directory, ID).map(drop)), Err(ErrorKind::Refused));
    assert_eq!(
        kind(AgentListener::bind(&agent.directory, VaultId([1; 16])).map(drop)),
        Err(ErrorKind::Refused)
    );
    fs::set_permissions(&agent.directory, fs::Permissions::from_mode(0o700)).expect("closed");
    agent.client().lock().expect("locked");
    assert_eq!(agent.ended(), Ended::Locked);
}

#[test]
fn limits_end_the_agent() {
    let idle = start(ID, Duration::from_millis(300), LONG);
    let hard = start(ID, LONG, Duration::from_millis(300));
    let start = Instant::now();
    assert_eq!(idle.ended(), Ended::Idle);
    assert_eq!(hard.ended(), Ended::Expired);
    assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
}

#[test]
fn a_passed_limit_gives_no_key_even_to_a_client_that_is_connected() {
    let agent = start(ID, LONG, Duration::from_millis(300));
    let mut client = agent.client();
    thread::sleep(Duration::from_millis(400));
    assert!(client.key().expect("an end, not an error").is_none());
    assert_eq!(agent.ended(), Ended::Expired);
}

#[test]
fn asking_for_the_key_begins_the_idle_time_anew_and_asking_for_status_does_not() {
    let agent = start(ID, Duration::from_secs(3), LONG);
    let mut client = agent.client();
    thread::sleep(Duration::from_millis(1500));
    assert!(client.status().expect("answers").expect("alive") < Duration::from_secs(2));
    assert!(client.key().expect("answers").expect("alive").1 >= Duration::from_secs(2));
    client.lock().expect("locked");
    assert_eq!(agent.ended(), Ended::Locked);
}

#[test]
fn there_is_one_agent_per_vault_and_a_dead_one_is_replaced() {
    let agent = start(ID, LONG, LONG);
    assert_eq!(kind(AgentListener::bind(&agent.directory, ID).map(drop)), Err(ErrorKind::Conflict));
    let other = AgentClient::connect(&agent.directory, VaultId([1; 16])).expect("safe");
    assert!(other.is_none(), "of another vault");
    agent.client().lock().expect("locked");
    assert_eq!(agent.ended(), Ended::Locked);

    let temporary = tempfile::tempdir().expect("a temporary directory");
    let stale = socket_path(temporary.path(), ID);
    drop(std::os::unix::net::UnixListener::bind(&stale).expect("bound and left behind"));
    fs::set_permissions(temporary.path(), fs::Permissions::from_mode(0o700)).expect("set");
    assert!(AgentClient::connect(temporary.path(), ID).expect("safe").is_none(), "nobody answers");
    drop(AgentListener::bind(temporary.path(), ID).expect("replaced"));
    assert!(!stale.exists());
}

#[test]
fn what_listens_and_does_not_greet_is_an_error_and_not_an_absent_agent() {
    let temporary = tempfile::tempdir().expect("a temporary directory");
    fs::set_permissions(temporary.path(), fs::Permissions::from_mode(0o700)).expect("set");
    let listener = std::os::unix::net::UnixListener::bind(socket_path(temporary.path(), ID)).expect("bound");
    let strangers = thread::spawn(move || {
        for answer in [&b"\0\0\0\x01\x03"[..], b"\0\0\0\x03\x02\0\x02", b"HTTP/1.1 400\r\n\r\n"] {
            let (mut stream, _) = listener.accept().expect("a client");
            stream.write_all(answer).expect("answered");
            // Its hello is read, or closing would look like an agent that has just ended.
            let mut hello = [0; 64];
            let _ = stream.read(&mut hello);
        }
    });
    for _ in 0..3 {
        let connected = AgentClient::connect(temporary.path(), ID).map(drop);
        assert_eq!(kind(connected), Err(ErrorKind::Other));
    }
    strangers.join().expect("no panic");
}

#[test]
fn of_agents_that_start_at_once_one_holds_the_socket() {
    for round in 0..50 {
        let temporary = tempfile::tempdir().expect("a temporary directory");
        let stale = socket_path(temporary.path(), ID);
        drop(std::os::unix::net::UnixListener::bind(&stale).expect("bound and left behind"));
        fs::set_permissions(temporary.path(), fs::Permissions::from_mode(0o700)).expect("set");
        let together = Arc::new(Barrier::new(8));
        let starting = (0..8).map(|_| {
            let (directory, together) = (temporary.path().to_owned(), Arc::clone(&together));
            thread::spawn(move || {
                together.wait();
                AgentListener::bind(&directory, ID)
            })
        });
        let threads: Vec<_> = starting.collect();
        let bound: Vec<_> = threads.into_iter().map(|t| t.join().expect("no panic")).collect();
        assert_eq!(bound.iter().filter(|listener| listener.is_ok()).count(), 1, "round {round}: {bound:?}");
        assert!(UnixStream::connect(&stale).is_ok(), "the socket is the one that listens");
    }
}

#[test]
fn nonsense_ends_the_client_and_not_the_agent() {
    let agent = start(ID, LONG, LONG);
    let hello = [&[0, 0, 0, 19, 1, 0, 1][..], &ID.0].concat();
    let other_protocol = [&[0, 0, 0, 19, 1, 0, 2][..], &ID.0].concat();
    let other_vault = [&[0, 0, 0, 19, 1, 0, 1][..], &[1; 16]].concat();
    let then = |frame: &[u8]| [&hello[..], frame].concat();
    let cases: [(Vec<u8>, &[u8]); 8] = [
        (other_protocol, &[0, 0, 0, 26, 3]),
        (other_vault, &[0, 0, 0, 26, 3]),
        (vec![0, 0, 0, 0], &[]),
        (vec![0, 0, 16, 1, 1], &[]),
        (vec![255; 64], &[]),
        (vec![0, 0, 0, 1, 4], &[]),
        (then(&[0, 0, 0, 1, 99]), &[0, 0, 0, 3, 2, 0, 1]),
        (then(&[0, 0, 0, 1, 2]), &[0, 0, 0, 3, 2, 0, 1]),
    ];
    for (said, expected) in cases {
        let mut stream = UnixStream::connect(socket_path(&agent.directory, ID)).expect("connects");
        stream.write_all(&said).expect("said");
        stream.shutdown(std::net::Shutdown::Write).expect("the end");
        let mut answer = Vec::new();
        // A reset is as good an end as any.
        let _ = stream.read_to_end(&mut answer);
        assert!(answer.starts_with(expected), "{said:?}: {answer:?}");
        assert!(!answer.windows(32).any(|bytes| bytes == [7; 32]), "the key was given to {said:?}");
    }
    let (key, _) = agent.client().key().expect("answers").expect("a key");
    assert_eq!(key.key(), &VaultKey::from_bytes(&[7; 32]));
    agent.client().lock().expect("locked");
    assert_eq!(agent.ended(), Ended::Locked);
}
