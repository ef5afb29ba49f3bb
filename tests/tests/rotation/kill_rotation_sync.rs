//! `sync` by the real command: killed at every side effect, it goes on or goes back; one that fails leaves what it found.

use crate::kill_rotation_desk::{Case, Desk, Effect, Killed, OLD};

const SYNC: &[&str] = &["sync", "key"];

const CASE: Case = Case {
    name: "sync",
    secret: r#"strategy = "in-place"
write = [{ file = "a.env", var = "KEY" }, { file = "a.env", var = "URL", part = "url.password" }]"#,
    change: &[("a.env", 1), ("restart", 1)],
    retire: &[],
};

/// A project in which somebody edited a file and restarted what reads it.
fn drifted() -> (Desk, String) {
    let desk = Desk::new(&CASE);
    let stale = desk.read("a.env").replacen(OLD, "stale", 2);
    for name in ["a.env", "running-a"] {
        desk.write(name, &stale, 0o640);
    }
    (desk, stale)
}

#[test]
fn kill_rotation_of_a_sync() {
    let (prepared, stale) = drifted();
    let effects = prepared.copied().count(SYNC);
    CASE.check_counted(&effects, CASE.change);
    let mut rows = 0;
    for (at, traced) in effects.iter().enumerate() {
        for (after, back) in [(false, false), (false, true), (true, false), (true, true)] {
            // After one commit is before the next effect.
            if traced.effect == Effect::Commits && (after || back == (at % 2 == 0)) {
                continue;
            }
            let when = if after { "after" } else { "before" };
            let then = if back { "RollBack" } else { "Resume" };
            let row = format!("sync × {when} {at:02} {} × {then}", traced.effect);
            let desk = prepared.copied();
            assert_eq!(desk.kill(SYNC, &effects, at, after), Killed, "{row}");
            let is_begun = desk.rotation().is_some();
            if is_begun {
                desk.run(&["rotate", "key"]).expect(8);
                desk.run(&["check"]).expect(10);
            }
            if back && is_begun {
                desk.run(&["rotate", "rollback", "key", "-y"]).expect(0);
                assert_eq!(desk.read("a.env"), stale, "{row}");
            }
            desk.run(SYNC).expect(0);
            desk.check_old(&row);
            assert_eq!(desk.rotation(), None, "{row}");
            println!("{row}");
            rows += 1;
        }
    }
    println!("{rows} rows");
    assert!(rows >= 12, "{rows} rows");
}

/// What reads the file does not come up with it.
#[test]
fn fault_a_sync_that_fails_leaves_what_it_found() {
    let (desk, stale) = drifted();
    let restart = desk.read("restart");
    desk.write(
        "restart",
        "#!/bin/sh\n[ -e failed ] || { touch failed; exit 1; }\ncp \"$2\" \"running-$1\"\n",
        0o755,
    );
    let ended = desk.run(SYNC).expect(9);
    assert!(ended.stdout.contains("everything is as it was found"), "{ended:?}");
    assert_eq!(desk.read("a.env"), stale);
    assert_eq!(desk.rotation(), None);
    desk.write("restart", &restart, 0o755);
    desk.run(SYNC).expect(0);
    desk.check_old("after a sync that failed");
}
