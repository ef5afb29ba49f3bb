//! Every exit code of the vault commands, reached.

use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use super::{Ended, Session};

#[test]
fn usage_not_found_and_locked() {
    let session = Session::new();
    session.run(&["no-such-command"]).code(2);
    session.run(&["get", "no/such/secret"]).code(3);
    std::fs::write(session.path("other"), [8; 32]).unwrap();
    let ended = Ended::of(session.bare(&["--key-file", "other", "list"]).output().unwrap());
    ended.code(4).says("opens no key slot");
    std::fs::write(session.path("short"), [8; 31]).unwrap();
    Ended::of(session.bare(&["--key-file", "short", "list"]).output().unwrap()).code(2);
    Session::without_vault().run(&["list"]).code(3).says("reseal init");
}

#[test]
fn busy() {
    let session = Session::new();
    let holder = rusqlite::Connection::open(session.path("v.vault")).unwrap();
    holder.execute_batch("BEGIN EXCLUSIVE").unwrap();
    session.run(&["generate", "a"]).code(5).says("in use by another process");
    holder.execute_batch("ROLLBACK").unwrap();
    session.run(&["generate", "a"]).done();
}

#[test]
fn damaged() {
    let session = Session::new();
    session.feed(&["put", "a", "-"], b"value").done();
    let vault = rusqlite::Connection::open(session.path("v.vault")).unwrap();
    let changed = vault.execute("UPDATE head SET mac = zeroblob(32)", ()).unwrap();
    assert_eq!(changed, 1);
    session.run(&["get", "a"]).code(6).says("damaged or was tampered with");
}

#[test]
fn rolled_back() {
    let session = Session::new();
    std::fs::copy(session.path("v.vault"), session.path("older")).unwrap();
    session.feed(&["put", "a", "-"], b"value").done();
    std::fs::copy(session.path("older"), session.path("v.vault")).unwrap();
    session.run(&["list"]).code(6).says("older than the one last used here");
}

#[test]
fn conflict_and_refused() {
    let session = Session::new();
    session.feed(&["put", "a", "-", "--create-only"], b"value").done();
    session.feed(&["put", "a", "-", "--create-only"], b"value").code(7);
    session.feed(&["put", "a", "-", "--if-version", "9"], b"value").code(7).says("at version 1");
    session.feed(&["put", "a", "-", "--if-version", "1"], b"value").done();
    session.run(&["key", "remove", "key-file", "-y"]).code(8).says("the last key slot stays");
    session.run(&["init", "--no-recovery-code"]).code(7);
}

#[test]
fn interrupted_and_terminated() {
    let session = Session::new();
    for (signal, code) in [(Signal::INT, 130), (Signal::TERM, 143)] {
        let child = session.spawn(&["--passphrase-command", "touch started; sleep 5", "list"]);
        let deadline = Instant::now() + Duration::from_secs(60);
        while !session.path("started").exists() {
            assert!(Instant::now() < deadline, "the command does not start");
            std::thread::sleep(Duration::from_millis(5));
        }
        std::fs::remove_file(session.path("started")).unwrap();
        kill_process(Pid::from_child(&child), signal).unwrap();
        let mut child = child;
        assert_eq!(child.wait().unwrap().code(), Some(code));
    }
}
