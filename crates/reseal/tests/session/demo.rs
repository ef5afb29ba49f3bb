//! The demo, whole: on SQLite, on a private Postgres, and stopped in the middle.

use std::io::{BufRead, BufReader};
use std::os::unix::fs::PermissionsExt;
use std::process::{Child, Command};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use super::{Ended, Session};

fn demo(session: &Session, arguments: &[&str]) -> Command {
    let mut command = session.bare(&[&["demo", "--rows", "4000"], arguments].concat());
    let place = session.path("tmp");
    if !place.exists() {
        std::fs::create_dir(&place).unwrap();
        // As root the server runs as another user, who needs a way there and may not remove what is not its own.
        let allow = |path, mode| std::fs::set_permissions(path, PermissionsExt::from_mode(mode)).unwrap();
        allow(&place, 0o1777);
        allow(&session.path(""), 0o711);
    }
    command.env("TMPDIR", place);
    command
}

/// What is in the place for temporary files: nothing is left behind.
fn leftovers(session: &Session) -> Vec<String> {
    let entries = std::fs::read_dir(session.path("tmp")).unwrap();
    entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

/// Waits for the end of a demo; whatever was seen in the place for temporary files meanwhile.
fn watched(session: &Session, mut child: Child) -> (Ended, Vec<String>) {
    let mut seen = Vec::new();
    while child.try_wait().unwrap().is_none() {
        seen.extend(leftovers(session));
        std::thread::sleep(Duration::from_millis(50));
    }
    (Ended::of(child.wait_with_output().unwrap()), seen)
}

#[track_caller]
fn check(ended: Ended, store: &str) {
    let object: Value = serde_json::from_str(&ended.done().stdout).unwrap();
    assert_eq!(object["schema_version"], 1);
    assert_eq!(object["store"], store, "{object}");
    for (field, value) in [
        ("rows", 4_000),
        ("rewritten_twice", 0),
        ("quarantined", 0),
        ("lost_updates", 0),
        ("old_key_opens", 0),
        ("unopened", 0),
    ] {
        assert_eq!(object[field], value, "{field} in {object}");
    }
    for field in ["resumed", "plaintexts_equal", "vault_restored", "flipped_bit_refused", "secret_exported"] {
        assert_eq!(object[field], true, "{field} in {object}");
    }
    assert_eq!(object["new_key_opens"], object["values"], "{object}");
    let number = |field: &str| object[field].as_f64().unwrap();
    assert!(number("killed_at_percent") >= 50.0 && number("rewritten") >= 10_000.0, "{object}");
    assert!(number("application_writes") > 0.0 && number("rows_per_second") > 0.0, "{object}");
}

#[test]
fn on_sqlite() {
    let session = Session::without_vault();
    let ended = Ended::of(demo(&session, &["--sqlite", "--json"]).output().unwrap());
    check(ended, "sqlite");
    assert_eq!(leftovers(&session), Vec::<String>::new());
}

#[test]
fn on_postgres() {
    let session = Session::without_vault();
    let (ended, seen) = watched(&session, demo(&session, &["--json"]).spawn().unwrap());
    check(ended, "postgres");
    for prefix in ["reseal-pg-", "reseal-demo-"] {
        assert!(
            seen.iter().any(|name| name.starts_with(prefix)),
            "no {prefix} where it is looked for: {seen:?}"
        );
    }
    assert_eq!(leftovers(&session), Vec::<String>::new());
}

#[test]
fn stopped_by_ctrl_c_it_leaves_nothing_behind() {
    let session = Session::without_vault();
    let mut child = demo(&session, &["--sqlite"]).spawn().unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
    let writes = lines.by_ref().any(|line| line.unwrap().contains("an application inserts"));
    assert!(writes);
    kill_process(Pid::from_child(&child), Signal::INT).unwrap();
    let rest: Vec<_> = lines.map(Result::unwrap).collect();
    assert_eq!(child.wait().unwrap().code(), Some(130), "{rest:?}");
    assert_eq!(leftovers(&session), Vec::<String>::new());
}

#[test]
fn killed_it_leaves_nothing_behind() {
    let session = Session::without_vault();
    let mut child = demo(&session, &["--sqlite"]).spawn().unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
    assert!(lines.by_ref().any(|line| line.unwrap().contains("columns loaded")));
    assert!(!leftovers(&session).is_empty());
    child.kill().unwrap();
    child.wait().unwrap();
    let deadline = Instant::now() + Duration::from_secs(30);
    while !leftovers(&session).is_empty() {
        assert!(Instant::now() < deadline, "{:?}", leftovers(&session));
        std::thread::sleep(Duration::from_millis(20));
    }
}
