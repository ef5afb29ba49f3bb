//! Commands that run last cannot be taken back: what fails from there on waits for a person, who may take the rest back.

use crate::kill_rotation_desk::{Case, Desk, OLD};

const CASE: Case = Case {
    name: "in-place with a command that runs last",
    secret: r#"strategy = "in-place"
write = [{ file = "a.env", var = "KEY" }]
after = [{ command = ["./revoke"] }]"#,
    change: &[],
    retire: &[],
};

fn failing() -> Desk {
    let desk = Desk::new(&CASE);
    desk.write("revoke", "#!/bin/sh\necho ran >> revoked\n[ -e mended ]\n", 0o755);
    let planned = desk.run(&["rotate", "plan", "key"]).expect(0);
    assert!(planned.stdout.contains("run `./revoke`, which cannot be taken back"), "{planned:?}");
    let ended = desk.run(&["rotate", "key"]).expect(10);
    assert!(ended.stdout.contains("run `./revoke` cannot be taken back"), "{ended:?}");
    // The new value stays where it is in use already.
    assert!(!desk.read("a.env").contains(&format!("KEY='{OLD}'")));
    assert_eq!(desk.read("running-a"), desk.read("a.env"));
    let status = desk.run(&["rotate", "status", "key", "--json"]).expect(0).json();
    let steps = status["secrets"][0]["rotation"]["steps"].as_array().cloned().expect("steps");
    let marked: Vec<_> = steps.iter().filter(|step| step["no_return"] == true).collect();
    assert_eq!(marked.len(), 1, "{steps:?}");
    assert_eq!(marked[0]["action"], "run `./revoke`");
    desk
}

#[test]
fn no_return_goes_forward_once_it_is_mended() {
    let desk = failing();
    desk.run(&["rotate", "key"]).expect(10);
    desk.run(&["rotate", "resume", "key"]).expect(10);
    desk.write("mended", "", 0o600);
    desk.run(&["rotate", "resume", "key"]).expect(0);
    desk.check_new("mended");
    assert_eq!(desk.read("revoked"), "ran\n".repeat(3));
}

#[test]
fn no_return_goes_back_where_a_person_asks_for_it() {
    let desk = failing();
    let asked = desk.run(&["rotate", "rollback", "key"]).expect(8);
    assert!(asked.stderr.contains("not taken back: "), "{asked:?}");
    let ended = desk.run(&["rotate", "rollback", "key", "-y"]).expect(0);
    assert!(ended.stdout.contains("not taken back: run `./revoke`"), "{ended:?}");
    desk.check_old("a person asked for it");
    let log = desk.run(&["audit", "log", "--json"]).expect(0);
    assert!(!log.stdout.contains("undo: run"), "{log:?}");
}
