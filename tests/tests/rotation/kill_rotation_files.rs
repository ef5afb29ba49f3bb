//! `kill -9` of the real command before and after every side effect of a rotation, then resume or rollback.
//!
//! `strace` counts the effects from outside: files that are replaced, programs that are started, transactions of the
//! vault. An effect that no row of the table names fails the test.

use std::collections::BTreeSet;

use rayon::prelude::*;

use crate::kill_rotation_desk::{Case, Desk, Effect, Killed, Traced};

const RESTART: &str = "restart";

/// Strategies on files and commands, with every effect outside of the vault that a rotation and the end of the old value
/// have, and how often.
fn cases() -> Vec<Case> {
    vec![
        Case {
            name: "in-place: dump, command, variable, URL, plain file",
            secret: r#"strategy = "in-place"
before = [{ save = "dumps/all", command = ["./dump"] }]
write = [
  { command = ["./store"] },
  { file = "a.env", var = "KEY" },
  { file = "a.env", var = "URL", part = "url.password" },
  { file = "b.env", var = "KEY" },
  { file = "token" },
]"#,
            change: &[("a.env", 1), ("b.env", 1), ("token", 1), ("dump", 1), ("store", 1), (RESTART, 3)],
            retire: &[],
        },
        Case {
            name: "in-place: with a command that runs last",
            secret: r#"strategy = "in-place"
write = [{ file = "a.env", var = "KEY" }]
after = [{ command = ["./start", "a", "a.env"] }]"#,
            change: &[("a.env", 1), (RESTART, 1), ("start", 1)],
            retire: &[],
        },
        Case {
            name: "overlap: all at once",
            secret: r#"strategy = "overlap"
write = [
  { file = "a.env", var = "KEY" },
  { file = "b.env", var = "KEY" },
  { file = "b.env", var = "KEY_OLD", holds = "previous" },
]"#,
            change: &[("a.env", 1), ("b.env", 1), (RESTART, 2)],
            retire: &[("b.env", 1), (RESTART, 1)],
        },
        Case {
            name: "overlap: verifier, then signer",
            secret: r#"strategy = "overlap"
order = ["b", "a"]
write = [
  { file = "a.env", var = "KEY" },
  { file = "b.env", var = "KEY" },
  { file = "b.env", var = "KEY_OLD", holds = "previous" },
]"#,
            change: &[("a.env", 1), ("b.env", 1), (RESTART, 2)],
            retire: &[("b.env", 1), (RESTART, 1)],
        },
        Case {
            name: "paste",
            secret: r#"strategy = "paste"
write = [{ command = ["./store"] }, { file = "a.env", var = "KEY" }, { file = "b.env", var = "KEY" }]"#,
            change: &[("a.env", 1), ("b.env", 1), ("store", 1), (RESTART, 2)],
            retire: &[],
        },
    ]
}

/// What begins a rotation: where a person brings the value, it comes from a file.
fn rotate(case: &Case) -> &'static [&'static str] {
    let is_pasted = case.secret.contains("\"paste\"");
    if is_pasted { &["rotate", "key", "--value-file", "pasted"] } else { &["rotate", "key"] }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Then {
    Resume,
    RollBack,
}

fn finish(case: &Case, desk: &Desk, then: Then, row: &str) {
    let stands = desk.rotation();
    match then {
        Then::Resume => {
            // A kill before the first transaction leaves nothing to go on with: the command begins again.
            let arguments = if stands.is_none() { rotate(case) } else { &["rotate", "resume", "key"] };
            desk.run(arguments).expect(0);
            desk.check_new(row);
        }
        Then::RollBack => {
            if stands.is_some() {
                desk.run(&["rotate", "rollback", "key", "-y"]).expect(0);
            }
            desk.check_old(row);
        }
    }
}

#[test]
fn kill_rotation_before_and_after_every_side_effect() {
    let mut rows = BTreeSet::new();
    for case in cases() {
        let prepared = Desk::new(&case);
        let effects = prepared.copied().count(rotate(&case));
        case.check_counted(&effects, case.change);
        let change = || prepared.copied();
        rows.append(&mut kill_everywhere(&case, change, rotate(&case), &effects, finish));
        if case.retire.is_empty() {
            continue;
        }
        // The record of a rotation holds the paths of its own project, so it begins in the copy.
        let overlapping = || {
            let desk = prepared.copied();
            desk.run(&["rotate", "key"]).expect(0);
            desk
        };
        let retire = ["rotate", "retire", "key", "-y"];
        let effects = overlapping().count(&retire);
        case.check_counted(&effects, case.retire);
        rows.append(&mut kill_everywhere(&case, overlapping, &retire, &effects, finish_retire));
    }
    rows.iter().for_each(|row| println!("{row}"));
    println!("{} rows", rows.len());
    assert!(rows.len() >= 200, "{} rows", rows.len());
}

fn finish_retire(_: &Case, desk: &Desk, then: Then, row: &str) {
    match then {
        Then::Resume => {
            if desk.rotation().as_deref() != Some("done") {
                desk.run(&["rotate", "retire", "key", "-y"]).expect(0);
            }
            desk.check_retired(row);
        }
        Then::RollBack if desk.rotation().as_deref() == Some("done") => desk.check_retired(row),
        Then::RollBack => {
            desk.run(&["rotate", "rollback", "key", "-y"]).expect(0);
            desk.check_old(row);
        }
    }
}

/// Kills a command on a desk of its own at every effect and goes on or back; returns what was done.
fn kill_everywhere(
    case: &Case,
    desk: impl Fn() -> Desk + Sync,
    arguments: &[&str],
    effects: &[Traced],
    finish: impl Fn(&Case, &Desk, Then, &str) + Sync,
) -> BTreeSet<String> {
    let points: Vec<_> = (0..effects.len())
        .flat_map(|at| [false, true].map(|after| (at, after)))
        .flat_map(|(at, after)| [Then::Resume, Then::RollBack].map(|then| (at, after, then)))
        .collect();
    points
        .into_par_iter()
        .map(|(at, after, then)| {
            let when = if after { "after" } else { "before" };
            let row = format!(
                "{} × {} × {:02} {when} {} × {then:?}",
                case.name,
                arguments.join(" "),
                at,
                effects[at].effect
            );
            let desk = desk();
            assert_eq!(desk.kill(arguments, effects, at, after), Killed, "{row}");
            finish(case, &desk, then, &row);
            row
        })
        .collect()
}

/// A file that cannot be replaced: what came before it is taken back, and nothing is left to do.
#[test]
fn kill_rotation_with_a_file_that_cannot_be_written() {
    let mut rows = 0;
    for case in cases() {
        let prepared = Desk::new(&case);
        let rotate = rotate(&case);
        let effects = prepared.copied().count(rotate);
        let files = effects.iter().filter(|traced| matches!(traced.effect, Effect::Replaces(_)));
        for traced in files {
            for error in ["EROFS", "ENOSPC", "EACCES"] {
                let row = format!("{} × {} × {error}", case.name, traced.effect);
                let desk = prepared.copied();
                assert_eq!(desk.fail(rotate, traced, error), Some(9), "{row}");
                desk.check_old(&row);
                desk.run(rotate).expect(0);
                desk.check_new(&row);
                println!("{row}");
                rows += 1;
            }
        }
    }
    println!("{rows} rows");
    assert!(rows >= 20, "{rows} rows");
}
