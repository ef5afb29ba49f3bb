//! The demo, whole: on SQLite, on a private Postgres, and stopped in the middle.

use std::io::{BufRead, BufReader};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use super::{Ended, Session};

fn demo(session: &Session, arguments: &[&str]) -> std::process::Command {
    let mut command = session.bare(&[&["demo", "--rows", "4000"], arguments].concat());
    command.env("TMPDIR", session.path(""));
    command
}

/// What is in the session's directory besides its own key file: nothing is left behind.
fn leftovers(session: &Session) -> Vec<String> {
    let entries = std::fs::read_dir(session.path("")).unwrap();
    let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    names.filter(|name| name != "key" && name != ".local").collect()
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
    let ended = Ended::of(demo(&session, &["--json"]).output().unwrap());
    check(ended, "postgres");
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
