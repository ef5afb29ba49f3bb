//! `sync` of two secrets that share two applications and their files, by the real command: killed at every side effect, it
//! goes on or goes back as one, whichever secret is named.

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

use rayon::prelude::*;
use serde_json::Value;

use crate::kill_rotation_desk::{Case, Desk, Killed, OLD, wrapper};

const SYNC: &[&str] = &["sync", "key", "other"];
const OTHER: &str = "other-value-0123456789";
const STALE: [&str; 2] = ["stale-key", "stale-other"];

const PLAN: &str = r#"schema = 1
vault = "v.vault"
[apps.a]
restart = ["./restart", "a"]
[apps.b]
restart = ["./start", "b"]
[files."a.env"]
readers = ["shell"]
used_by = ["a", "b"]
[files."b.env"]
readers = ["shell"]
used_by = ["a", "b"]
[files.token]
used_by = ["b"]
[secrets.key]
strategy = "in-place"
write = [{ file = "a.env", var = "KEY" }, { file = "b.env", var = "KEY" }]
[secrets.other]
strategy = "in-place"
write = [{ file = "a.env", var = "OTHER" }, { file = "b.env", var = "OTHER" }]
[secrets.third]
strategy = "in-place"
write = [{ file = "token" }]
"#;

const CASE: Case = Case {
    name: "sync of two",
    secret: "",
    // Each application once, although both secrets need it; each file once for each secret.
    change: &[("a.env", 2), ("b.env", 2), ("restart", 1), ("start", 1)],
    retire: &[],
};

/// An application whose values do not belong together says so where it is seen afterwards.
const READ: &str = r#"[ ! -e broken ] || exit 1
case "$(cat a.env b.env | grep -c stale)" in 0|4) ;; *) cat a.env b.env > mixed ;; esac
cat a.env b.env > "running-$1""#;

fn env(file: &str, [key, other]: [&str; 2]) -> String {
    format!("# {file}\nKEY={key}\nOTHER={other}\n")
}

/// A project in which somebody edited both files and restarted what reads them.
fn drifted() -> Desk {
    let desk = Desk::new(&Case { secret: "strategy = \"in-place\"", ..CASE });
    desk.write("reseal.toml", PLAN, 0o600);
    for name in ["restart", "start"] {
        desk.write(name, &wrapper(READ), 0o755);
    }
    for file in ["a.env", "b.env"] {
        desk.write(file, &env(file, STALE), 0o640);
    }
    for app in ["a", "b"] {
        desk.write(&format!("running-{app}"), &both(STALE), 0o600);
    }
    desk.put("other", OTHER);
    desk.put("third", OLD);
    desk
}

fn both(values: [&str; 2]) -> String {
    ["a.env", "b.env"].map(|file| env(file, values)).concat()
}

/// Files and applications have these values, and no application ever had one of one kind and one of the other.
#[track_caller]
fn check(desk: &Desk, values: [&str; 2], row: &str) {
    for file in ["a.env", "b.env"] {
        assert_eq!(desk.read(file), env(file, values), "{row}");
    }
    for app in ["running-a", "running-b"] {
        assert_eq!(desk.read(app), both(values), "{row}: {app}");
    }
    assert!(!desk.has("mixed"), "{row}: an application was brought over with values of both kinds");
}

/// The syncs of both secrets, if they are not over: always both or none.
#[track_caller]
fn rotations(desk: &Desk, row: &str) -> Option<[Value; 2]> {
    let told = desk.run(&["rotate", "status", "key", "other", "--json"]).expect(0).json();
    let both = [0, 1].map(|at| told["secrets"][at]["rotation"].clone());
    assert_eq!(both[0].is_null(), both[1].is_null(), "{row}: {both:?}");
    (!both[0].is_null()).then_some(both)
}

/// What goes on with both, given to one of them.
fn goes_on(at: usize) -> &'static [&'static str] {
    [
        &["rotate", "resume", "other"],
        &["sync", "key"] as &[&str],
        &["rotate", "resume", "key"],
        &["sync", "other"],
        &["rotate", "resume"],
        &["sync"],
    ][at % 6]
}

fn rollback(at: usize) -> &'static [&'static str] {
    let names: [&[&str]; 3] = [
        &["rotate", "rollback", "key", "-y"],
        &["rotate", "rollback", "other", "-y"],
        &["rotate", "rollback", "other", "key", "-y"],
    ];
    names[at % 3]
}

#[test]
fn kill_rotation_of_a_sync_of_two() {
    let prepared = drifted();
    let effects = prepared.copied().count(SYNC);
    CASE.check_counted(&effects, CASE.change);
    let points: Vec<_> = (0..effects.len())
        .flat_map(|at| [(at, false, false), (at, false, true), (at, true, false), (at, true, true)])
        .collect();
    let rows: BTreeSet<String> = points
        .into_par_iter()
        .map(|(at, after, back)| {
            let when = if after { "after" } else { "before" };
            let then = if back { rollback(at) } else { goes_on(at) }.join(" ");
            let row = format!("{} × {at:02} {when} {} × {then}", CASE.name, effects[at].effect);
            let desk = prepared.copied();
            assert_eq!(desk.kill(SYNC, &effects, at, after), Killed, "{row}");
            let is_begun = rotations(&desk, &row).is_some();
            if is_begun {
                desk.run(&["rotate", "key"]).expect(8);
                desk.run(&["rotate", "other"]).expect(8);
                let ended = desk.run(if back { rollback(at) } else { goes_on(at) }).expect(0);
                assert!(ended.stderr.contains("key, other were begun as one"), "{row}: {ended:?}");
                assert!(rotations(&desk, &row).is_none(), "{row}");
                let values = if back { STALE } else { [OLD, OTHER] };
                check(&desk, values, &row);
            }
            desk.run(SYNC).expect(0);
            check(&desk, [OLD, OTHER], &row);
            desk.run(&["check", "key", "other"]).expect(0);
            row
        })
        .collect();
    rows.iter().for_each(|row| println!("{row}"));
    println!("{} rows", rows.len());
    assert!(rows.len() >= 60, "{} rows", rows.len());
}

/// Once the way back has begun, there is no other.
#[test]
fn kill_rotation_of_a_sync_of_two_on_its_way_back() {
    let prepared = drifted();
    let effects = prepared.copied().count(SYNC);
    let last = effects.len() - 1;
    let undoing = || {
        let desk = prepared.copied();
        assert_eq!(desk.kill(SYNC, &effects, last, false), Killed);
        desk
    };
    let back = undoing().count(rollback(1));
    CASE.check_counted(&back, CASE.change);
    let points: Vec<_> = (0..back.len()).flat_map(|at| [(at, false), (at, true)]).collect();
    points.into_par_iter().for_each(|(at, after)| {
        let row = format!("back × {at:02} after {after} {} × {}", back[at].effect, goes_on(at).join(" "));
        let desk = undoing();
        assert_eq!(desk.kill(rollback(1), &back, at, after), Killed, "{row}");
        let Some(both) = rotations(&desk, &row) else { return check(&desk, STALE, &row) };
        let is_back = both[0]["state"] == "undoing";
        let ended = desk.run(goes_on(at));
        if is_back {
            // It was asked for, so it did not fail: but the command that goes on was not told so.
            ended.expect(9);
            check(&desk, STALE, &row);
        } else {
            ended.expect(0);
            check(&desk, [OLD, OTHER], &row);
        }
    });
}

/// Ctrl-C while the first application comes over.
#[test]
fn kill_rotation_of_a_sync_of_two_by_a_signal() {
    let desk = drifted();
    let waits = "touch begun; while [ ! -e go ]; do sleep 0.02; done";
    desk.write("restart", &wrapper(&format!("{waits}\n{READ}")), 0o755);
    let mut child = desk.start_telling(SYNC, Stdio::piped());
    desk.wait_for("begun");
    let pid = child.id().to_string();
    assert!(Command::new("kill").args(["-INT", &pid]).status().expect("kill runs").success());
    let mut said = BufReader::new(child.stderr.take().expect("it is piped")).lines().map_while(Result::ok);
    assert!(said.any(|line| line.contains("stopping after the step in hand")), "it hears of it");
    desk.write("go", "", 0o600);
    let hints = said.filter(|line| line.contains("go on with `reseal sync key`")).count();
    assert_eq!(hints, 1, "both go on by one command");
    assert_eq!(child.wait().expect("it ends").code(), Some(130));
    assert!(rotations(&desk, "interrupted").is_some());
    let log = desk.run(&["audit", "log", "--json"]).expect(0).json().to_string();
    assert_eq!(log.matches("\"interrupted\"").count(), 2, "{log}");
    let told = desk.run(&["rotate", "status"]).expect(0);
    assert!(told.stdout.contains("it goes together with other"), "{told:?}");
    desk.run(&["rotate", "resume", "other"]).expect(0);
    check(&desk, [OLD, OTHER], "after a signal");
    assert!(rotations(&desk, "after a signal").is_none());
}

/// Neither forward nor back: all wait, and nothing is begun beside them until they are back.
#[test]
fn fault_a_sync_of_two_that_is_stuck_keeps_others_from_beginning() {
    let desk = drifted();
    desk.write("token", "stale-third\n", 0o640);
    desk.write("broken", "", 0o600);
    desk.run(SYNC).expect(10);
    for one in rotations(&desk, "stuck").expect("both wait") {
        assert!(one["attention"].as_str().is_some_and(|why| why.contains("bring over")), "{one}");
        assert_eq!(one["together"], serde_json::json!(["key", "other"]));
    }
    let ended = desk.run(&["sync"]).expect(10);
    assert!(ended.stderr.contains("not begun: third"), "{ended:?}");
    assert_eq!(desk.read("token"), "stale-third\n");
    let abandoned = desk.copied();
    let ended = abandoned.run(&["rotate", "abandon", "other", "--reason", "by hand", "-y"]).expect(0);
    assert!(
        ended.stdout.contains("key: abandoned") && ended.stdout.contains("other: abandoned"),
        "{ended:?}"
    );
    assert!(rotations(&abandoned, "abandoned").is_none());
    desk.remove("broken");
    let ended = desk.run(&["sync"]).expect(9);
    assert!(ended.stderr.contains("not begun: third"), "{ended:?}");
    check(&desk, STALE, "taken back");
    assert_eq!(desk.read("token"), "stale-third\n");
    desk.run(&["sync"]).expect(0);
    check(&desk, [OLD, OTHER], "in the end");
    assert_eq!(desk.read("token").trim_end(), OLD);
}
