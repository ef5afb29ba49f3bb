//! Values go in and come out; what was not asked for stays inside.

use std::process::Stdio;

use super::{Ended, Session};

#[test]
fn a_value_keeps_every_byte_but_one_newline_of_stdin() {
    let session = Session::new();
    session.feed(&["put", "a/stdin", "-"], b"two lines\nand one newline\n\n").done();
    assert_eq!(session.run(&["get", "a/stdin"]).done().stdout, "two lines\nand one newline\n");
    session.feed(&["put", "a/kept", "-", "--kind", "file"], b"all of it\r\n").done();
    assert_eq!(session.run(&["get", "a/kept"]).done().stdout, "all of it\r\n");
    std::fs::write(session.path("value"), b"whole file\n").unwrap();
    session.run(&["put", "a/file", "--value-file", "value"]).done();
    assert_eq!(session.run(&["get", "a/file"]).done().stdout, "whole file\n");
    session.feed(&["put", "a/fd", "--value-fd", "0"], b"whole descriptor\n").done();
    assert_eq!(session.run(&["get", "a/fd"]).done().stdout, "whole descriptor\n");
}

#[test]
fn versions_have_labels_and_numbers() {
    let session = Session::new();
    for value in ["one", "two"] {
        session.feed(&["put", "a", "-"], value.as_bytes()).done();
    }
    session.feed(&["put", "a", "-", "--pending"], b"three").done();
    let value = |arguments: &[&str]| session.run(&[&["get", "a"], arguments].concat()).done().stdout;
    assert_eq!(value(&[]), "two");
    assert_eq!(value(&["--label", "previous"]), "one");
    assert_eq!(value(&["--label", "pending"]), "three");
    assert_eq!(value(&["--version", "1"]), "one");
    session.run(&["revert", "a", "--to", "1"]).done();
    assert_eq!(value(&[]), "one");
    let history = session.json(&["history", "a"]);
    assert_eq!(history["versions"].as_array().unwrap().len(), 4);
    assert_eq!(session.json(&["show", "a"])["pending"], 3);
}

#[test]
fn json_holds_no_value_unless_it_is_revealed() {
    let session = Session::new();
    session.feed(&["put", "a", "-", "--note", "about it"], b"canary").done();
    for command in [
        &["get", "a"][..],
        &["list"],
        &["show", "a"],
        &["history", "a"],
        &["export"],
        &["audit", "log"],
        &["audit", "verify"],
        &["key", "list"],
    ] {
        let object = session.json(command).to_string();
        assert!(!object.contains("canary"), "{command:?}: {object}");
    }
    assert_eq!(session.json(&["get", "a", "--reveal"])["value"], "canary");
    assert_eq!(session.json(&["export", "--reveal"])["values"]["A"], "canary");
}

#[test]
fn exports_are_what_their_readers_take() {
    let session = Session::new();
    session.feed(&["put", "crm/smtp", "-"], b"it's $5 #1").done();
    session.feed(&["put", "crm/plain", "-", "--env", "OTHER"], b"plain").done();
    let export = |format| session.run(&["export", "crm/*", "--format", format]);
    let script = format!("{}printf %s \"$CRM_SMTP\"", export("shell").done().stdout);
    let output =
        std::process::Command::new("sh").args(["-c", &script]).stdin(Stdio::null()).output().unwrap();
    assert_eq!(output.stdout, b"it's $5 #1");
    assert_eq!(export("docker").done().stdout, "CRM_SMTP=it's $5 #1\nOTHER=plain\n");
    let json: serde_json::Value = serde_json::from_str(&export("json").done().stdout).unwrap();
    assert_eq!(json["CRM_SMTP"], "it's $5 #1");
    assert!(export("k8s").done().stdout.contains("\n  OTHER: cGxhaW4=\n"));
    export("env").code(8).says("read differently by different readers");
    assert_eq!(session.run(&["export", "crm/plain", "--format", "env"]).done().stdout, "OTHER=plain\n");
    let clash = session.feed(&["put", "crm-smtp", "-"], b"x").done();
    assert!(clash.stderr.is_empty());
    session.run(&["export", "--format", "shell"]).code(8).says("would both be CRM_SMTP");
}

#[test]
fn generated_values_follow_their_format() {
    let session = Session::new();
    let generate = |arguments: &[&str]| session.run(&[&["generate"], arguments].concat()).done().stdout;
    assert_eq!(generate(&[]).len(), 43);
    assert_eq!(generate(&["--format", "hex", "--bytes", "16"]).len(), 32);
    assert_eq!(generate(&["--format", "words", "--length", "7"]).matches('-').count(), 6);
    assert_ne!(generate(&[]), generate(&[]));
    let stored = generate(&["a/key", "--kind", "key"]);
    assert!(stored.starts_with("a/key version 1"), "{stored}");
    assert_eq!(session.run(&["get", "a/key"]).done().stdout.len(), 43);
    // The kind stays with the secret, so the next version is a column key too.
    generate(&["a/key", "--pending"]);
    assert_eq!(session.json(&["history", "a/key"])["versions"][1]["kind"], "key");
    session.run(&["generate", "a/key", "--format", "hex", "--kind", "key"]).code(2);
    session.run(&["--json", "generate"]).code(2).says("thrown away").says("--reveal");
    assert_eq!(session.json(&["generate", "--reveal"])["value"].as_str().unwrap().len(), 43);
}

#[test]
fn files_with_secrets_are_new_and_private() {
    use std::os::unix::fs::PermissionsExt;
    let session = Session::new();
    session.feed(&["put", "a", "-"], b"canary").done();
    session.run(&["get", "a", "--output", "out"]).done();
    let mode = std::fs::metadata(session.path("out")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    session.run(&["get", "a", "--output", "out"]).code(8).says("exists already");
}

#[test]
fn a_backup_brings_a_destroyed_vault_back() {
    let session = Session::new();
    session.feed(&["put", "a", "-"], b"kept").done();
    session.run(&["backup", "create", "b.vault"]).done();
    assert_eq!(session.json(&["backup", "verify", "b.vault"])["verified"], true);
    session.feed(&["put", "a", "-"], b"later").done();
    std::fs::remove_file(session.path("v.vault")).unwrap();
    session.run(&["backup", "restore", "b.vault"]).code(6).says("--accept-older");
    session.run(&["backup", "restore", "b.vault", "--accept-older"]).done();
    assert_eq!(session.run(&["get", "a"]).done().stdout, "kept");
    session.run(&["audit", "verify"]).done();
}

#[test]
fn a_missing_directory_or_backup_is_not_called_a_missing_vault() {
    let session = Session::new();
    for (arguments, says) in [
        (&["backup", "create", "usb/b.vault"][..], "the directory usb does not exist"),
        (&["backup", "verify", "b.vault"], "there is no backup at b.vault"),
        (&["backup", "verify", "usb/b.vault"], "there is no backup at usb/b.vault"),
        (&["backup", "restore", "b.vault"], "there is no backup at b.vault"),
    ] {
        let ended = session.run(arguments).code(3).says(says);
        assert!(!ended.stderr.contains("reseal init"), "{ended:?}");
    }
    let ended = Ended::of(session.bare(&["--vault", "nowhere/v.vault", "list"]).output().unwrap());
    ended.code(3).says("there is no vault at nowhere/v.vault").says("reseal init");
}

#[test]
fn key_slots_come_and_go() {
    let session = Session::new();
    session.feed(&["put", "a", "-"], b"kept").done();
    session.run(&["key", "add", "--new-key-file", "second"]).code(7).says("key-file");
    assert!(!session.path("second").exists(), "a key that opens nothing");
    session.run(&["key", "add", "--name", "ci", "--new-key-file", "third"]).done();
    let added = session.run(&["key", "add", "--recovery-code"]).done();
    let slots = session.json(&["key", "list"])["slots"].as_array().unwrap().clone();
    let text = |slot: &serde_json::Value, field: &str| slot[field].as_str().unwrap().to_owned();
    let mut kinds: Vec<_> = slots.iter().map(|slot| [text(slot, "name"), text(slot, "kind")]).collect();
    kinds.sort();
    // The same words as `key add` prints and takes.
    assert_eq!(kinds, [["ci", "key-file"], ["key-file", "key-file"], ["recovery-code", "recovery-code"]]);
    let code = added.stdout.lines().last().unwrap();
    std::fs::write(session.path("code"), code).unwrap();
    for opener in [["--key-file", "third"], ["--passphrase-file", "code"]] {
        let output = session.bare(&[&opener[..], &["get", "a"]].concat()).output().unwrap();
        assert_eq!(output.stdout, b"kept", "{opener:?}");
    }
    session.run(&["key", "remove", "ci"]).code(8).says("not confirmed");
    session.run(&["key", "remove", "ci", "-y"]).done();
    let output = session.bare(&["--key-file", "third", "get", "a"]).output().unwrap();
    assert_eq!(output.status.code(), Some(4));
}

#[test]
fn a_passphrase_changes() {
    let session = Session::without_vault();
    std::fs::write(session.path("old"), "old passphrase\n").unwrap();
    std::fs::write(session.path("new"), "new passphrase").unwrap();
    let run = |file: &str, arguments: &[&str]| {
        let arguments = [&["--passphrase-file", file, "--no-input"], arguments].concat();
        session.bare(&arguments).output().unwrap().status.code()
    };
    assert_eq!(run("old", &["init", "--no-recovery-code", "--kdf-memory", "64"]), Some(0));
    assert_eq!(run("old", &["key", "passwd", "--new-passphrase-file", "new"]), Some(0));
    assert_eq!(run("old", &["list"]), Some(4));
    assert_eq!(run("new", &["list"]), Some(0));
}
