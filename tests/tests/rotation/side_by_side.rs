//! Several rotations by one call: those that share nothing go side by side, the others one after another.
//!
//! What shows that two are under way at once is what their applications are checked by: it passes once the other one is
//! checked too. One after another, neither would ever come to its end.

use std::collections::BTreeSet;
use std::process::Child;
use std::time::{Duration, Instant};

use rayon::prelude::*;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::kill_rotation_desk::{Case, Desk, Effect, Killed, OLD};

const CASE: Case = Case {
    name: "two at once",
    secret: "strategy = \"in-place\"\nwrite = [{ file = \"a.env\", var = \"KEY\" }]",
    change: &[("a.env", 1), ("b.env", 1), ("restart", 2)],
    retire: &[],
};

pub(crate) const BOTH: &[&str] = &["rotate", "key", "other"];

/// The value that `other` begins with.
const OTHER: &str = "other-value-0123456789";

/// Passes before the change; after it once the application of the other secret is checked after its own change.
const TOGETHER: &str = "touch \"checking-$1\"\n[ -e alone ] || [ -e \"checking-$2\" ]";

/// A project in which `key` goes to `a.env` and `other` to `b.env`, each read by an application of its own, with this check
/// once that was restarted.
pub(crate) fn desk(check: &str) -> Desk {
    let desk = Desk::new(&CASE);
    desk.write("reseal.toml", PLAN, 0o600);
    desk.write("check", &format!("#!/bin/sh\n[ -e \"restarted-$1\" ] || exit 0\n{check}\n"), 0o755);
    desk.write("restart", RESTART, 0o755);
    desk.write("b.env", &format!("KEY={OTHER}\n"), 0o640);
    desk.write("running-b", &format!("KEY={OTHER}\n"), 0o640);
    desk.put("other", OTHER);
    desk
}

pub(crate) const RESTART: &str = "#!/bin/sh\ncp \"$2\" \"running-$1\"\ntouch \"restarted-$1\"\n";

const PLAN: &str = r#"schema = 1
vault = "v.vault"
[apps.a]
restart = ["./restart", "a", "a.env"]
check = [{ command = ["./check", "a", "b"] }]
wait = "30s"
hold = "1s"
[apps.b]
restart = ["./restart", "b", "b.env"]
check = [{ command = ["./check", "b", "a"] }]
wait = "30s"
hold = "1s"
[files."a.env"]
readers = ["shell"]
used_by = ["a"]
[files."b.env"]
readers = ["shell"]
used_by = ["b"]
[secrets.key]
strategy = "in-place"
write = [{ file = "a.env", var = "KEY" }]
[secrets.other]
strategy = "in-place"
write = [{ file = "b.env", var = "KEY" }]
"#;

/// A third secret, in the file of `key`.
const THIRD: &str = r#"[secrets.third]
strategy = "in-place"
write = [{ file = "a.env", var = "URL", part = "url.password" }]
"#;

fn value(desk: &Desk, name: &str) -> String {
    desk.run(&["get", name]).expect(0).stdout.trim_end().to_owned()
}

/// Files, applications and vault agree about both; says whether each has a new value.
#[track_caller]
fn is_new(desk: &Desk, row: &str) -> [bool; 2] {
    [("key", "a", OLD), ("other", "b", OTHER)].map(|(name, app, before)| {
        let now = value(desk, name);
        let file = desk.read(&format!("{app}.env"));
        assert!(
            file.contains(&format!("KEY={now}\n")) || file.contains(&format!("KEY='{now}'\n")),
            "{row}: {file}"
        );
        assert_eq!(desk.read(&format!("running-{app}")), file, "{row}: {app}");
        let told = desk.run(&["show", name, "--json"]).expect(0).json();
        assert_eq!(told["labels"]["pending"], Value::Null, "{row}");
        now != before
    })
}

/// The states of the last rotations of both.
fn states(desk: &Desk) -> [Option<String>; 2] {
    let told = desk.run(&["rotate", "status", "key", "other", "--json"]).expect(0).json();
    [0, 1].map(|at: usize| told["secrets"][at]["rotation"]["state"].as_str().map(str::to_owned))
}

/// Who rotated, event by event.
fn rotated(desk: &Desk) -> Vec<String> {
    let log = desk.run(&["audit", "log", "--json"]).expect(0).json();
    let runs = log["entries"].as_array().expect("a list").iter().filter_map(|entry| entry["run"].as_str());
    runs.map(str::to_owned).collect()
}

#[test]
fn side_by_side_what_shares_nothing() {
    let desk = desk(TOGETHER);
    let ended = desk.run(BOTH).expect(0);
    assert_eq!(is_new(&desk, "at once"), [true, true]);
    for line in ended.stderr.lines() {
        assert!(line.starts_with("key: ") || line.starts_with("other: "), "whose line is this? {line}");
    }
    desk.run(&["audit", "verify"]).expect(0);
}

#[test]
fn side_by_side_not_with_a_file_in_common() {
    let desk = desk("true");
    let plan = desk.read("reseal.toml").replace(
        "write = [{ file = \"b.env\", var = \"KEY\" }]",
        "write = [{ file = \"b.env\", var = \"KEY\" }, { file = \"a.env\", var = \"THEIRS\" }]",
    );
    desk.write("reseal.toml", &plan, 0o600);
    for name in ["a.env", "running-a"] {
        desk.write(name, &format!("{}THEIRS={OTHER}\n", desk.read(name)), 0o640);
    }
    desk.run(BOTH).expect(0);
    assert_eq!(is_new(&desk, "one after another"), [true, true]);
    let mut order = rotated(&desk);
    order.dedup();
    assert_eq!(order, ["key#1", "other#1"], "the first comes to its end before the second begins");
}

/// Waits until both are checked after their change.
fn wait_for_both(desk: &Desk, command: &mut Child) {
    let begin = Instant::now();
    while !["checking-a", "checking-b"].iter().all(|name| desk.has(name)) {
        assert!(begin.elapsed() < Duration::from_secs(60), "both come to their checks");
        assert_eq!(command.try_wait().expect("it is a child"), None, "neither ends before that");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn side_by_side_until_somebody_stops_both() {
    let desk = desk("touch \"checking-$1\"\n[ -e alone ]");
    let mut command = desk.start(BOTH);
    wait_for_both(&desk, &mut command);
    kill_process(Pid::from_child(&command), Signal::INT).expect("it is a child of this test");
    assert_eq!(command.wait().expect("it is a child").code(), Some(130));
    assert_eq!(states(&desk), [Some("changing".to_owned()), Some("changing".to_owned())]);
    let told: Vec<_> = rotated(&desk);
    assert!(told.contains(&"key#1".to_owned()) && told.contains(&"other#1".to_owned()), "{told:?}");
    desk.write("alone", "", 0o600);
    desk.run(&["rotate", "resume"]).expect(0);
    assert_eq!(is_new(&desk, "after Ctrl-C"), [true, true]);
}

/// One that is taken back leaves the other alone, and nothing new begins after it.
#[test]
fn side_by_side_with_one_that_fails() {
    // What `a` is checked by passes once `b` runs again: after it was taken back.
    let desk = desk("[ \"$1\" = b ] || [ -e restarted-b ]");
    desk.write("reseal.toml", &format!("{PLAN}{THIRD}"), 0o600);
    desk.put("third", OLD);
    let fails_first = RESTART.replace(
        "#!/bin/sh\n",
        "#!/bin/sh\nif [ \"$1\" = b ] && [ ! -e failed-b ]; then touch failed-b; exit 1; fi\n",
    );
    desk.write("restart", &fails_first, 0o755);
    let ended = desk.run(&["rotate", "key", "other", "third"]).expect(9);
    assert_eq!(is_new(&desk, "one fails"), [true, false], "{ended:?}");
    assert_eq!(states(&desk), [Some("done".to_owned()), Some("rolled-back".to_owned())]);
    assert!(ended.stderr.contains("not begun: third"), "{ended:?}");
    assert_eq!(value(&desk, "third"), OLD);
}

/// Killed while two are under way, both go on, or both go back.
#[test]
fn kill_rotation_of_two_at_once() {
    let prepared = desk(TOGETHER);
    let effects = prepared.copied().count(BOTH);
    CASE.check_counted(&effects, CASE.change);
    let mut points = Vec::new();
    for (at, traced) in effects.iter().enumerate() {
        match traced.effect {
            Effect::Replaces(_) => points.extend([(at, false), (at, true)]),
            Effect::Commits => points.push((at, false)),
            // Which of two programs is the first one depends on the machine. Commits stand before and after them.
            Effect::Starts(_) => {}
        }
    }
    let rows: Vec<_> = points
        .into_par_iter()
        .flat_map(|(at, after)| [false, true].map(|back| (at, after, back)))
        .map(|(at, after, back)| {
            let when = if after { "after" } else { "before" };
            let then = if back { "RollBack" } else { "Resume" };
            let row = format!("two at once × {at:02} {when} {} × {then}", effects[at].effect);
            let desk = prepared.copied();
            assert_eq!(desk.kill(BOTH, &effects, at, after), Killed, "{row}");
            let states = states(&desk);
            desk.write("alone", "", 0o600);
            for (name, state) in ["key", "other"].iter().zip(&states) {
                match (state, back) {
                    (None, true) => {}
                    (None, false) => drop(desk.run(&["rotate", name]).expect(0)),
                    (Some(_), true) => drop(desk.run(&["rotate", "rollback", name, "-y"]).expect(0)),
                    (Some(_), false) => drop(desk.run(&["rotate", "resume", name]).expect(0)),
                }
            }
            assert_eq!(is_new(&desk, &row), [!back, !back], "{row}");
            println!("{row}: {states:?}");
            (row, states.iter().all(|state| state.as_deref() == Some("changing")))
        })
        .collect();
    let at_once = rows.iter().filter(|(_, is_at_once)| *is_at_once).count();
    let rows: BTreeSet<_> = rows.into_iter().map(|(row, _)| row).collect();
    println!("{} rows, {at_once} with two under way", rows.len());
    assert!(rows.len() >= 24 && at_once >= 8, "{} rows, {at_once} with two under way", rows.len());
}
