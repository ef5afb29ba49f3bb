//! Sessions with `rotate` on files and commands.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use crate::{Ended, Session};

const PLAN: &str = r#"schema = 1
vault = "v.vault"

[apps.web]
restart = ["./restart", "web"]

[files.".env"]
readers = ["shell"]
used_by = ["web"]

[secrets."api/key"]
strategy = "overlap"
overlap = "1h"
write = [
  { file = ".env", var = "API_KEY" },
  { file = ".env", var = "API_KEY_OLD", holds = "previous" },
]

[secrets."smtp/password"]
strategy = "paste"
min = 8
how = "in the provider's console"
write = [{ file = ".env", var = "SMTP_PASSWORD" }]
"#;

const ENV: &str =
    "# kept\nexport API_KEY='first-value'\nAPI_KEY_OLD=\nSMTP_PASSWORD=\"mail-one\" # kept too\n";

/// An application that "runs" with what its file held when it was restarted last.
fn session() -> Session {
    let session = Session::new();
    fs::write(session.path("reseal.toml"), PLAN).unwrap();
    fs::write(session.path(".env"), ENV).unwrap();
    let restart = session.path("restart");
    fs::write(
        &restart,
        "#!/bin/sh\n[ ! -e broken ] || { echo broken: $(cat .env) >&2; exit 1; }\n[ ! -e slow ] || { touch started; sleep 1; }\ncp .env running\n",
    )
    .unwrap();
    fs::set_permissions(&restart, fs::Permissions::from_mode(0o755)).unwrap();
    session.feed(&["put", "api/key", "-"], b"first-value").done();
    session.feed(&["put", "smtp/password", "-"], b"mail-one").done();
    session
}

fn env(session: &Session) -> String {
    fs::read_to_string(session.path(".env")).unwrap()
}

fn value(session: &Session, arguments: &[&str]) -> String {
    session.run(&[&["get", "api/key"], arguments].concat()).done().stdout.trim_end().to_owned()
}

#[test]
fn a_plan_writes_nothing() {
    let session = session();
    let told = session.json(&["rotate", "plan", "api/key"]);
    assert_eq!(told["secrets"][0]["overlap_seconds"], 3600);
    session.run(&["rotate", "api/key", "--dry-run"]).done();
    assert_eq!(env(&session), ENV);
    assert!(!session.path("running").exists());
    assert_eq!(
        session.json(&["rotate", "status", "api/key"])["secrets"][0]["rotation"],
        serde_json::Value::Null
    );
}

#[test]
fn overlap_then_retire() {
    let session = session();
    session.run(&["rotate", "api/key", "--reason", "yearly"]).done();
    let new = value(&session, &[]);
    assert_eq!(new.len(), 43);
    let both =
        ENV.replace("'first-value'", &format!("'{new}'")).replace("API_KEY_OLD=", "API_KEY_OLD=first-value");
    assert_eq!(env(&session), both);
    assert_eq!(fs::read_to_string(session.path("running")).unwrap(), both);
    assert_eq!(value(&session, &["--label", "previous"]), "first-value");
    session.run(&["rotate", "api/key"]).code(8).says("rotate retire api/key");
    session.run(&["rotate", "retire"]).done();
    assert_eq!(env(&session), both, "it is not due yet");
    session.run(&["rotate", "retire", "api/key"]).code(8).says("End it now?");
    session.run(&["rotate", "retire", "api/key", "-y"]).done();
    assert_eq!(env(&session), ENV.replace("'first-value'", &format!("'{new}'")));
    let told = session.json(&["rotate", "status", "api/key"]);
    assert_eq!(told["secrets"][0]["rotation"]["state"], "done");
    session.run(&["rotate", "rollback", "api/key", "-y"]).code(8).says("cannot be rolled back");
    session.run(&["rotate", "api/key"]).done();
}

#[test]
fn what_fails_is_taken_back_and_says_so_without_values() {
    let session = session();
    fs::write(session.path("broken"), "").unwrap();
    // The application cannot be brought back either.
    let parked = session.run(&["rotate", "api/key"]).code(10).says("broken: # kept");
    assert!(!parked.stderr.contains("first-value"), "{parked:?}");
    assert_eq!(env(&session), ENV);
    session.run(&["rotate", "api/key"]).code(10).says("rotate resume api/key");
    let status = session.run(&["rotate", "status"]).done();
    for words in ["broken: # kept", "`reseal rotate resume api/key`, or `reseal rotate rollback api/key`"] {
        assert!(status.stdout.contains(words), "{status:?}");
    }
    let fastest = "`reseal rotate rollback api/key -y`, then `reseal rotate api/key --emergency`";
    session.run(&["rotate", "api/key", "--emergency", "--reason", "leaked"]).code(10).says(fastest);
    session.run(&["discard", "api/key"]).code(8).says("a rotation of `api/key` needs");
    session
        .feed(&["put", "api/key", "-", "--vault-only"], b"third")
        .code(8)
        .says("between two of its values");
    fs::remove_file(session.path("broken")).unwrap();
    session.run(&["rotate", "resume"]).code(9);
    assert_eq!((env(&session).as_str(), value(&session, &[]).as_str()), (ENV, "first-value"));
    session.run(&["rotate", "api/key"]).done();
}

#[test]
fn what_goes_neither_way_is_given_up_and_put_right_by_hand() {
    let session = session();
    let abandon = ["rotate", "abandon", "api/key", "--reason", "the server was set up anew", "-y"];
    session.run(&abandon).code(3).says("never rotated");
    fs::write(session.path("broken"), "").unwrap();
    session.run(&["rotate", "api/key"]).code(10);
    let put = ["put", "api/key", "-", "--vault-only"];
    session.feed(&put, b"third").code(8).says("rotate abandon api/key");
    let given_up = session.run(&abandon).done();
    assert!(given_up.stdout.contains("reseal sync api/key"), "{given_up:?}");
    assert_eq!(env(&session), ENV, "nothing outside is touched");
    for again in [&["rotate", "resume", "api/key"], &["rotate", "rollback", "api/key", "-y"][..], &abandon] {
        session.run(again).code(8);
    }
    let status = session.json(&["rotate", "status", "api/key"]);
    assert_eq!(status["secrets"][0]["rotation"]["state"], "abandoned", "{status}");
    let owed = "a rotation was abandoned between two values";
    assert_eq!(status["secrets"][0]["owed_reason"], owed, "{status}");

    session.feed(&put, b"third").done();
    fs::remove_file(session.path("broken")).unwrap();
    session.run(&["sync", "api/key"]).done();
    assert!(env(&session).contains("export API_KEY='third'"));
    session.run(&["rotate", "api/key"]).done();
    assert!(session.json(&["rotate", "status", "api/key"])["secrets"][0]["owed_reason"].is_null());
}

/// Commands of the vault know a secret by its whole name, those of the plan by the one without the prefix.
#[test]
fn hints_name_the_secret_as_their_command_does() {
    let session = session();
    fs::write(session.path("reseal.toml"), PLAN.replacen("schema = 1", "schema = 1\nprefix = \"crm/\"", 1))
        .unwrap();
    session.feed(&["put", "crm/api/key", "-"], b"first-value").done();
    fs::write(session.path(".env"), ENV.replace("first-value", "two")).unwrap();
    let refused = session.run(&["rotate", "api/key"]).code(8);
    for next in ["reseal check api/key", "reseal sync api/key", "reseal put crm/api/key --vault-only"] {
        assert!(refused.stderr.contains(&format!("`{next}`")), "{next}: {refused:?}");
    }
    let told = session.run(&["check", "api/key"]).code(14);
    assert!(told.stdout.contains("api/key: `reseal sync api/key`"), "{told:?}");

    fs::write(session.path(".env"), ENV).unwrap();
    fs::write(session.path("broken"), "").unwrap();
    session.run(&["rotate", "api/key"]).code(10);
    let given_up = session.run(&["rotate", "abandon", "api/key", "--reason", "by hand", "-y"]).done();
    for next in [
        "reseal check api/key",
        "reseal revert crm/api/key --to VERSION --vault-only",
        "reseal put crm/api/key --vault-only",
        "reseal sync api/key",
    ] {
        assert!(given_up.stdout.contains(&format!("`{next}`")), "{next}: {given_up:?}");
    }
}

/// A session whose rotation of `api/key` waits for somebody: a command that runs last failed.
fn parked_past_return() -> Session {
    let session = session();
    let last = PLAN.replacen("overlap = \"1h\"", "overlap = \"1h\"\nafter = [{ command = [\"./last\"] }]", 1);
    fs::write(session.path("reseal.toml"), last).unwrap();
    session.run(&["rotate", "api/key"]).code(10);
    session
}

#[test]
fn what_is_given_up_past_the_point_of_no_return_keeps_the_new_value() {
    let session = parked_past_return();
    let line = |session: &Session| env(session).lines().nth(1).unwrap().to_owned();
    let new = line(&session);
    assert!(!new.contains("first-value"), "{new}");
    let question = session.run(&["rotate", "rollback", "api/key"]).code(8);
    assert!(question.stderr.contains("not confirmed"), "{question:?}");
    session.run(&["rotate", "abandon", "api/key", "--reason", "it was revoked by hand", "-y"]).done();
    session.run(&["sync", "api/key"]).done();
    assert_eq!(line(&session), new);
    assert!(new.contains(&value(&session, &[])), "the new value is the current one");
    session.run(&["rotate", "resume", "api/key"]).code(8).says("was abandoned");
}

#[test]
fn what_is_given_up_on_its_way_back_keeps_the_old_value() {
    let session = parked_past_return();
    fs::write(session.path("broken"), "").unwrap();
    session.run(&["rotate", "rollback", "api/key", "-y"]).code(10);
    assert_eq!(env(&session), ENV, "the files went back before the application failed");
    let given_up = session.run(&["rotate", "abandon", "api/key", "--reason", "mended by hand", "-y"]).done();
    assert!(given_up.stdout.contains("version 1 is the current one"), "{given_up:?}");
    assert_eq!(value(&session, &[]), "first-value");
    session
        .run(&["rotate", "abandon", "api/key", "--reason", "again", "-y"])
        .code(8)
        .says("nothing to give up");
}

#[test]
fn rollback_brings_the_old_value_back_while_it_works() {
    let session = session();
    session.run(&["rotate", "api/key"]).done();
    session.run(&["rotate", "rollback", "api/key"]).code(8);
    session.run(&["rotate", "rollback", "api/key", "-y", "--reason", "a client was forgotten"]).done();
    assert_eq!((env(&session).as_str(), value(&session, &[]).as_str()), (ENV, "first-value"));
    assert_eq!(fs::read_to_string(session.path("running")).unwrap(), ENV);
}

#[test]
fn a_file_that_holds_another_value_is_refused_before_any_change() {
    let session = session();
    fs::write(session.path(".env"), ENV.replace("'first-value'", "two")).unwrap();
    let refused = session.run(&["rotate", "api/key"]).code(8).says("API_KEY is not the current value");
    for next in ["reseal check api/key", "reseal sync api/key", "reseal put api/key --vault-only"] {
        assert!(refused.stderr.contains(&format!("`{next}`")), "{refused:?}");
    }
    fs::write(session.path(".env"), ENV.replace("API_KEY_OLD=\n", "")).unwrap();
    session.run(&["rotate", "api/key"]).code(8).says("no variable API_KEY_OLD");
    assert_eq!(value(&session, &[]), "first-value");
}

#[test]
fn a_pasted_value_is_brought_and_checked() {
    let session = session();
    session.run(&["rotate", "smtp/password"]).code(8).says("provider's console");
    session.feed(&["rotate", "smtp/password", "-"], b"short").code(8).says("shorter than `min`");
    session.feed(&["rotate", "smtp/password", "-"], b"mail two #2").done();
    assert_eq!(env(&session), ENV.replace("mail-one", "mail two #2"));
    let all = session.run(&["rotate", "--all", "-n"]).done().says("smtp/password is left out");
    session.run(&["rotate", "plan"]).done().says("smtp/password is left out");
    session.run(&["rotate", "plan", "smtp/password"]).code(8).says("provider's console");
    assert!(all.stdout.contains("api/key"), "{all:?}");
    session.run(&["rotate", "rollback", "smtp/password", "-y"]).done();
    assert_eq!(env(&session), ENV);
}

#[test]
fn what_is_owed_is_settled_by_a_rotation() {
    let session = session();
    session.run(&["rotate", "owe", "api/key", "--reason", "in a screenshot"]).done();
    assert_eq!(
        session.json(&["rotate", "status", "api/key"])["secrets"][0]["owed_reason"],
        "in a screenshot"
    );
    session.run(&["rotate", "api/key"]).done();
    let told = session.json(&["rotate", "status", "api/key"]);
    assert_eq!(told["secrets"][0]["owed_reason"], serde_json::Value::Null);
}

#[test]
fn names_are_those_of_the_plan() {
    let session = session();
    session.run(&["rotate", "api/kee"]).code(3).says("the plan has: api/key, smtp/password");
    session.run(&["rotate"]).code(2);
    session.run(&["rotate", "rollback", "api/key", "-y"]).code(3).says("was never rotated");
}

#[test]
fn ctrl_c_between_two_steps_keeps_the_state_and_resume_goes_on() {
    let session = session();
    fs::write(session.path("slow"), "").unwrap();
    let arguments = ["--key-file", "key", "--no-input", "rotate", "api/key"];
    let child = session.spawn(&arguments);
    while !session.path("started").exists() {
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    let pid = rustix::process::Pid::from_child(&child);
    rustix::process::kill_process(pid, rustix::process::Signal::INT).unwrap();
    let stopped = Ended::of(child.wait_with_output().unwrap()).code(130).says("its state is kept");
    let next = "`reseal rotate resume api/key`, or take it back with `reseal rotate rollback api/key`";
    assert_eq!(stopped.stderr.matches(next).count(), 1, "{stopped:?}");
    assert!(session.path("running").exists(), "the step in hand came to its end");
    let told = session.json(&["rotate", "status", "api/key"]);
    assert_eq!(told["secrets"][0]["rotation"]["state"], "changing");
    session.run(&["rotate", "resume"]).done();
    assert_eq!(session.json(&["rotate", "status", "api/key"])["secrets"][0]["rotation"]["state"], "overlap");
}

#[test]
fn two_processes_do_not_rotate_at_once() {
    let session = session();
    fs::write(session.path("slow"), "").unwrap();
    let child = session.spawn(&["--key-file", "key", "--no-input", "rotate", "api/key"]);
    while !session.path("started").exists() {
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    session.feed(&["rotate", "smtp/password", "-"], b"mail-two").code(5).says("another process rotates");
    Ended::of(child.wait_with_output().unwrap()).done();
    session.feed(&["rotate", "smtp/password", "-"], b"mail-two").done();
}
