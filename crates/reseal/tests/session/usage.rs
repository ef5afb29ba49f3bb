//! How the command is called: flags anywhere, help with examples, errors that repeat no value.

use std::io::Read;

use super::{Ended, Session};

#[test]
fn global_flags_stand_before_or_after_the_command() {
    let session = Session::new();
    let run = |arguments: &[&str]| Ended::of(session.bare(arguments).output().unwrap());
    let before = run(&["--json", "--key-file", "key", "list"]).done();
    let after = run(&["list", "--key-file", "key", "--json"]).done();
    assert_eq!(before.stdout, after.stdout);
    let elsewhere = std::env::temp_dir();
    let directory = session.path("");
    let inside = session
        .bare(&["-C", directory.to_str().unwrap(), "--key-file", "key", "list"])
        .current_dir(elsewhere)
        .output();
    Ended::of(inside.unwrap()).done();
}

#[test]
fn a_value_on_the_command_line_is_refused_and_not_repeated() {
    let session = Session::new();
    for arguments in [
        &["put", "a", "CANARY-1"][..],
        &["get", "a", "CANARY-1"],
        &["put", "a", "-", "CANARY-1"],
        &["put", "a", "--value-fd", "CANARY-1"],
        &["put", "a", "--value=CANARY-1"],
        &["demo", "--postgres", "postgres://me:CANARY-1@localhost/db"],
        &["unlock", "--for", "CANARY-1"],
        &["CANARY-1"],
        &["put", "CANARY-1!", "-"],
        &["put", "a", "-xCANARY-1"],
        &["put", "a", "--CANARY-1"],
        &["generate", "a", "--changed-at", "CANARY-1"],
        &["generate", "a", "--expires", "CANARY-1"],
        &["generate", "a", "--env", "CANARY-1"],
        &["audit", "log", "--since", "CANARY-1"],
    ] {
        let ended = session.run(arguments).code(2);
        let said = format!("{}{}", ended.stdout, ended.stderr);
        assert!(!said.contains("CANARY-1"), "{arguments:?}: {said}");
    }
    // Eight lower-case letters look like a command.
    let ended = session.run(&["canaries"]).code(2);
    assert!(!ended.stderr.contains("canaries"), "{ended:?}");
}

#[test]
fn errors_are_objects_under_json() {
    let session = Session::new();
    let ended = session.run(&["--json", "get", "nothing"]).code(3);
    assert!(ended.stdout.is_empty());
    let object: serde_json::Value = serde_json::from_str(&ended.stderr).unwrap();
    assert_eq!(object["error"]["code"], 3);
    assert_eq!(object["error"]["kind"], "not-found");
    assert!(object["error"]["hint"].as_str().unwrap().contains("reseal list"));
    let ended = session.run(&["nonsense", "--json"]).code(2);
    assert!(ended.stderr.starts_with('{'), "{ended:?}");
}

#[test]
fn errors_say_what_why_and_what_next() {
    let session = Session::new();
    let ended = session.run(&["get", "crm/nothing"]).code(3);
    assert_eq!(
        ended.stderr,
        "error: the vault holds no secret `crm/nothing`\nhint: `reseal list` shows what there is\n"
    );
}

#[test]
fn exit_codes_are_printed() {
    let session = Session::without_vault();
    assert_eq!(
        session.run(&["exit-codes"]).done().stdout,
        "\
code  meaning
0     done
1     failed; the old state is intact, or the message says what is not
2     wrong command line or plan file
3     not found
4     wrong passphrase, or the vault is locked
5     the vault is busy: another process holds it
6     damaged, tampered with or rolled back
7     conflict: a compare-and-set found another state
8     refused before any change
9     failed and rolled back: everything is as it was
10    needs attention: neither forward nor back without a person
11    something is due (only with --exit-code)
12    some values were quarantined or did not open
13    there was nothing to do (only with --exit-code)
14    a target does not hold the current value
130   interrupted; state kept, the same command goes on
143   terminated; state kept, the same command goes on
"
    );
}

#[test]
fn help_shows_usage_and_examples() {
    let session = Session::without_vault();
    let help = session.run(&["generate", "--help"]).done().stdout;
    assert!(help.starts_with("Draw a new value: stored under NAME, or printed without one\n"), "{help}");
    assert!(help.contains("Usage: reseal generate [OPTIONS] [NAME]"), "{help}");
    assert!(
        help.contains("Examples:\n  reseal generate\n  reseal generate crm/db-key --kind key --pending"),
        "{help}"
    );
    let all = session.run(&["--help"]).done().stdout;
    for command in ["init", "unlock", "lock", "put", "get", "list", "reencrypt", "demo", "exit-codes"] {
        assert!(all.contains(&format!("\n  {command} ")), "no {command} in {all}");
    }
    assert!(!all.contains("agent-serve"), "{all}");
}

#[test]
fn a_reader_that_leaves_is_no_error() {
    let session = Session::without_vault();
    let mut child = session.spawn(&["completions", "bash"]);
    let mut stdout = child.stdout.take().unwrap();
    let mut first = [0; 1];
    stdout.read_exact(&mut first).unwrap();
    drop(stdout);
    let ended = Ended::of(child.wait_with_output().unwrap());
    assert_eq!((ended.code, ended.stderr.as_str()), (Some(0), ""));
}

#[test]
fn a_plan_file_is_found_upwards_and_its_errors_have_lines() {
    let session = Session::new();
    std::fs::write(session.path("reseal.toml"), "schema = 1\nvalt = \"v.vault\"\n").unwrap();
    std::fs::create_dir(session.path("below")).unwrap();
    let ended = session.run(&["-C", "below", "reencrypt", "plan"]);
    ended.code(2).says("line 2: unknown field `valt`").says("did you mean `vault`?");
}
