//! `unlock` and `lock`: commands need no key while the agent holds it.

use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener;
use std::path::Path;

use super::{Ended, Session};

fn set_mode(path: &Path, mode: u32) {
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
}

fn without_key(session: &Session, arguments: &[&str]) -> Ended {
    Ended::of(session.bare(&[&["--no-input"], arguments].concat()).output().unwrap())
}

#[test]
fn an_agent_opens_the_vault_until_it_is_locked() {
    let session = Session::new();
    session.feed(&["put", "a", "-"], b"value").done();
    without_key(&session, &["get", "a"]).code(4).says("reseal unlock");
    session.run(&["unlock", "--for", "1m"]).done();
    assert_eq!(without_key(&session, &["get", "a"]).done().stdout, "value");
    // A second agent takes the first one's place.
    session.run(&["unlock", "--for", "1m"]).done();
    without_key(&session, &["list"]).done();
    without_key(&session, &["lock"]).done();
    without_key(&session, &["get", "a"]).code(4);
    assert_eq!(without_key(&session, &["lock"]).done().stdout, "no agent was running\n");
}

#[test]
fn lock_fails_where_the_key_may_still_be_held() {
    let session = Session::new();
    session.run(&["unlock", "--for", "1m"]).done();
    let directory = session.path("reseal");
    set_mode(&directory, 0o755);
    without_key(&session, &["lock"]).code(8).says("may still hold the key").says("may be entered by others");
    set_mode(&directory, 0o700);
    without_key(&session, &["lock"]).done();
    let socket = directory.join(format!("{}.sock", &session.vault_id()[..16]));
    // Whoever listens there accepts and does not answer, like an agent that was stopped.
    let silent = UnixListener::bind(&socket).unwrap();
    without_key(&session, &["lock"]).code(1).says("may still hold the key").says("no answer within");
    session.run(&["unlock", "--for", "1m"]).code(1).says("the agent did not start").says("no answer within");
    drop(silent);
    // A socket that nobody listens on any more is no agent.
    assert_eq!(without_key(&session, &["lock"]).done().stdout, "no agent was running\n");
}

#[test]
fn an_agent_that_does_not_start_says_why() {
    let session = Session::new();
    let mut command = session.bare(&["--key-file", "key", "unlock"]);
    let ended = Ended::of(command.env("XDG_RUNTIME_DIR", session.path("nowhere")).output().unwrap());
    let ended = ended.code(1).says("error: the agent did not start\ncaused by: cannot create ");
    ended.says("nowhere/reseal\n").says("No such file or directory");
}

#[test]
fn commands_that_hold_a_key_leave_no_core() {
    let session = Session::without_vault();
    let opener = ["--passphrase-command", "grep core /proc/$PPID/limits > limits; echo pass", "--no-input"];
    let run = |arguments: &[&str]| {
        let _ = std::fs::remove_file(session.path("limits"));
        Ended::of(session.bare(&[&opener, arguments].concat()).output().unwrap()).done();
        let limits = std::fs::read_to_string(session.path("limits")).unwrap();
        let words: Vec<_> = limits.split_whitespace().collect();
        assert_eq!(words[4..6], ["0", "0"], "{arguments:?}: {limits}");
    };
    run(&["init", "--no-recovery-code", "--kdf-memory", "64"]);
    run(&["unlock", "--for", "1s"]);
    run(&["backup", "create", "b.vault"]);
    run(&["backup", "verify", "b.vault"]);
    run(&["backup", "restore", "b.vault", "--accept-older", "-y"]);
}

#[test]
fn an_agent_ends_when_its_time_is_over() {
    let session = Session::new();
    session.run(&["unlock", "--for", "1s"]).done();
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(20);
    let mut ended = without_key(&session, &["list"]);
    while ended.code == Some(0) {
        assert!(std::time::Instant::now() < deadline, "the agent holds the key for longer than it should");
        std::thread::sleep(std::time::Duration::from_millis(100));
        ended = without_key(&session, &["list"]);
    }
    ended.code(4).says("reseal unlock");
}
