//! `discard`, `delete`, `undelete`, `destroy`: what becomes of secrets and versions.

use super::Session;

#[test]
fn a_pending_version_can_be_dropped() {
    let session = Session::new();
    session.feed(&["put", "a", "-"], b"one").done();
    session.run(&["generate", "a", "--pending"]).done();
    session
        .run(&["generate", "a", "--kind", "key", "--pending"])
        .code(7)
        .says("pending version of `a`")
        .says("`reseal discard NAME`");
    let dropped = session.json(&["discard", "a", "--reason", "of the wrong kind"]);
    assert_eq!(dropped["version"], 2);
    assert_eq!(session.json(&["show", "a"])["pending"], serde_json::Value::Null);
    session.run(&["discard", "a"]).code(3);
    session.run(&["generate", "a", "--kind", "key", "--pending"]).done();
    assert_eq!(session.json(&["show", "a"])["pending"], 3);
    let log = session.json(&["audit", "log"]);
    let entry = log["entries"].as_array().unwrap().iter().find(|entry| entry["action"] == "discard pending");
    assert_eq!(entry.unwrap()["reason"], "of the wrong kind");
}

#[test]
fn a_deleted_secret_is_out_of_sight_and_comes_back() {
    let session = Session::new();
    session.feed(&["put", "a", "-"], b"kept").done();
    session.run(&["delete", "a"]).done();
    session.run(&["get", "a"]).code(3).says("is deleted").says("`reseal undelete NAME`");
    session.feed(&["put", "a", "-"], b"other").code(7).says("`reseal undelete NAME`");
    assert_eq!(session.json(&["list"])["secrets"], serde_json::json!([]));
    assert_eq!(session.json(&["list", "--deleted"])["secrets"][0]["name"], "a");
    session.run(&["undelete", "a"]).done();
    assert_eq!(session.run(&["get", "a"]).done().stdout, "kept");
    session.run(&["undelete", "a"]).code(8).says("is not deleted");
    session.run(&["delete", "b"]).code(3);
}

#[test]
fn a_destroyed_value_is_gone() {
    let session = Session::new();
    for value in ["one", "two"] {
        session.feed(&["put", "a", "-"], value.as_bytes()).done();
    }
    session.run(&["destroy", "a", "--version", "2", "-y"]).code(8).says("version 2 is current");
    session.run(&["destroy", "a", "--version", "1"]).code(8).says("not confirmed");
    assert_eq!(session.run(&["get", "a", "--version", "1"]).done().stdout, "one");
    let gone = session.json(&["destroy", "a", "--version", "1", "-y"]);
    assert_eq!(gone["state"], "destroyed");
    session.run(&["get", "a", "--version", "1"]).code(3).says("destroyed");
    assert_eq!(session.json(&["history", "a"])["versions"][0]["state"], "destroyed");
    session.run(&["destroy", "a", "--version", "1", "-y"]).code(8).says("destroyed already");
    session.run(&["destroy", "a", "--version", "7", "-y"]).code(3);
    session.run(&["audit", "verify"]).done();
}

#[test]
fn a_column_key_is_destroyed_only_with_what_shows_that_nobody_needs_it() {
    let session = Session::new();
    session.run(&["generate", "k", "--kind", "key"]).done();
    session.run(&["generate", "k"]).done();
    session.run(&["destroy", "k", "--version", "1", "-y"]).code(8).says("column key").says("--reason");
    session.run(&["destroy", "k", "--version", "1", "-y", "--reason", " "]).code(2);
    session
        .run(&["destroy", "k", "--version", "1", "-y", "--reason", "no backup is older than the sweep"])
        .done();
    let log = session.json(&["audit", "log"]).to_string();
    assert!(log.contains("no backup is older than the sweep"), "{log}");
}

#[test]
fn an_empty_value_is_no_value() {
    let session = Session::new();
    session.feed(&["put", "a", "-"], b"good").done();
    for nothing in [&b""[..], b"\n"] {
        session.feed(&["put", "a", "-"], nothing).code(8).says("the value is empty");
    }
    assert_eq!(session.run(&["get", "a"]).done().stdout, "good");
    session.feed(&["put", "empty/file", "-", "--kind", "file"], b"").done();
    assert_eq!(session.run(&["get", "empty/file"]).done().stdout, "");
}

#[test]
fn value_and_passphrase_do_not_eat_each_other() {
    let session = Session::without_vault();
    std::fs::write(session.path("pass"), "a passphrase\n").unwrap();
    let open = ["--passphrase-command", "cat > drunk; cat pass", "--no-input"];
    let run = |arguments: &[&str], input: &[u8]| session.feed_bare(&[&open, arguments].concat(), input);
    run(&["init", "--no-recovery-code", "--kdf-memory", "64"], b"").done();
    run(&["put", "a", "-"], b"the value").done();
    assert_eq!(run(&["get", "a"], b"").done().stdout, "the value");
    assert_eq!(std::fs::read(session.path("drunk")).unwrap(), b"");
    for both in [
        &["--passphrase-fd", "0", "put", "a", "-"][..],
        &["--passphrase-file", "/dev/stdin", "put", "a", "-"],
        &["--passphrase-fd", "0", "put", "a", "--value-fd", "0"],
        &["--key-file", "/dev/fd/0", "put", "a", "--value-file", "/dev/stdin"],
    ] {
        session.feed_bare(both, b"a passphrase\n").code(2).says("both to be read from descriptor 0");
    }
    assert_eq!(run(&["get", "a"], b"").done().stdout, "the value");
}
