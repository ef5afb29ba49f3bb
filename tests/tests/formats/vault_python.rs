//! A vault between reseal and an independent reader in Python: everything is found, checked, and refused when changed.

use std::path::Path;

use reseal_crypto::kdf::KdfParams;
use reseal_crypto::slot::Opener;
use reseal_crypto::{SecretBytes, Suite};
use reseal_tests::python::{Package, answers};
use reseal_vault::{
    Attributes, CreateOptions, Event, NewSlot, NewVersion, OpenOptions, Operator, Origin, SecretKind,
    SecretName, Timestamp, ValueFormat, ValueSize, Vault, generate,
};
use serde_json::{Value, json};

const KEY_FILE: [u8; 32] = [0x4B; 32];
/// What a stream repeats: its length is no power of two, so no two chunks are equal.
const STREAM: &[u8] = b"sql\0\xFF";
const STREAM_REPEATS: usize = 500_000;

fn name(text: &str) -> SecretName {
    text.parse().expect("a good name")
}

fn value(kind: SecretKind, bytes: &[u8]) -> NewVersion {
    NewVersion::new(kind, SecretBytes::copy_from(bytes))
}

fn options(suite: Suite) -> CreateOptions {
    CreateOptions {
        slots: vec![NewSlot {
            name: "key".into(),
            opener: Opener::KeyFile(SecretBytes::copy_from(&KEY_FILE)),
        }],
        kdf: KdfParams::FLOOR,
        recovery_code: true,
        suite,
        open: OpenOptions {
            operator: Operator { user: "alice".into(), sudo_user: Some("bob".into()) },
            reason: Some("ticket 7 – ünïcode".into()),
            ..OpenOptions::default()
        },
    }
}

/// A vault with something of every kind in it, and the questions by which Python may open it.
fn fill(path: &Path, suite: Suite) -> [Value; 2] {
    let created = Vault::create(path, options(suite)).expect("created");
    let mut vault = created.vault;
    let notes =
        Attributes { notes: Some("line 1\nline 2".into()), tags: vec!["t".into()], ..Attributes::default() };
    let first = NewVersion {
        attributes: notes,
        changed_at: Some(Timestamp(1_600_000_000)),
        ..value(SecretKind::Password, b"hunter2")
    };
    vault.put(&name("crm/db/password"), first).expect("stored");
    vault.put(&name("crm/db/password"), value(SecretKind::Token, "ünïcode".as_bytes())).expect("stored");
    vault.put(&name("crm/db/password"), value(SecretKind::File, &[0, 255, 10])).expect("stored");
    vault.destroy(&name("crm/db/password"), 1, None).expect("destroyed");
    let key = generate(ValueFormat::Base64Url, ValueSize::Default, &reseal_crypto::OsRandom).expect("drawn");
    vault.put(&name("pii/key"), NewVersion::new(SecretKind::Key, key)).expect("stored");
    vault.rename(&name("pii/key"), &name("pii/column-key")).expect("renamed");
    vault.delete(&name("pii/column-key")).expect("deleted");
    let origin = Origin {
        path: "/srv/ü/.env".into(),
        mode: 0o640,
        user: 1,
        group: 2,
        modified: Timestamp(1_600_000_000),
    };
    vault.snapshot_add("a file", Some(origin), &mut b"A=1\n".as_slice()).expect("kept");
    vault.snapshot_add("b stream", None, &mut STREAM.repeat(STREAM_REPEATS).as_slice()).expect("kept");
    vault
        .journal_put("run", "1", &SecretBytes::copy_from(b"record"), Event::intent("run").run("1"))
        .expect("stored");
    let auditor = created.auditor_key.to_text();
    let code = created.recovery_code.expect("made").to_text();
    [
        json!({ "path": path, "key_file": hex::encode(KEY_FILE), "auditor_key": *auditor }),
        json!({ "path": path, "recovery_code": *code }),
    ]
}

fn ask(questions: &[Value]) -> Vec<Value> {
    answers("reseal_vault.py", &[Package::CRYPTOGRAPHY], questions)
}

#[test]
fn python_reads_everything_in_a_vault() {
    for suite in Suite::ALL {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let path = directory.path().join("v.vault");
        let [by_key, by_code] = ask(&fill(&path, suite)).try_into().expect("two answers");
        assert_eq!(by_key, by_code, "both slots give the same vault");
        assert_eq!(by_key["slots"], json!(["key", "recovery-code"]));
        let [password, key] = &by_key["secrets"].as_array().expect("secrets")[..] else { panic!("{by_key}") };
        assert_eq!((&password["name"], &key["name"]), (&json!("crm/db/password"), &json!("pii/column-key")));
        assert!(key["deleted"].is_i64() && password.get("deleted").is_none());
        assert_eq!(password["labels"], json!({ "current": 3, "previous": 2 }));
        assert_eq!(password["attributes"], json!({ "notes": "line 1\nline 2", "tags": ["t"] }));
        let field = |version: usize, field: &str| password["versions"][version][field].clone();
        assert_eq!((field(0, "state"), field(0, "value")), (json!("destroyed"), Value::Null));
        assert_eq!(field(0, "changed"), json!(1_600_000_000));
        assert_eq!((field(1, "kind"), field(1, "value")), (json!("token"), json!(hex::encode("ünïcode"))));
        assert_eq!((field(2, "kind"), field(2, "value")), (json!("file"), json!("00ff0a")));
        assert_eq!(key["versions"][0]["commitment"].as_str().map(str::len), Some(64));
        let log = by_key["log"].as_array().expect("a log");
        let actions: Vec<_> = log.iter().map(|entry| entry["action"].as_str().expect("text")).collect();
        assert_eq!(
            actions,
            [
                "init",
                "put",
                "put",
                "put",
                "destroy",
                "put",
                "rename",
                "delete",
                "snapshot add",
                "snapshot add",
                "run"
            ]
        );
        let [file, dump] = &by_key["snapshots"].as_array().expect("snapshots")[..] else { panic!("two") };
        let origin =
            json!({ "path": "/srv/ü/.env", "mode": 0o640, "user": 1, "group": 2, "modified": 1_600_000_000 });
        assert_eq!((&file["origin"], &file["content"]), (&origin, &json!(hex::encode("A=1\n"))));
        assert_eq!((&dump["complete"], &dump["parts"]), (&json!(true), &json!(1)));
        assert!(dump["content"] == hex::encode(STREAM.repeat(STREAM_REPEATS)), "three chunks in their order");

        let who = |field: &str| log[1][field].clone();
        assert_eq!(
            (who("user"), who("sudo_user"), who("slot")),
            (json!("alice"), json!("bob"), json!("key"))
        );
        assert_eq!((who("reason"), who("version")), (json!("ticket 7 – ünïcode"), json!(1)));
    }
}

#[test]
fn python_refuses_a_changed_vault_as_reseal_does() {
    let changes = [
        "UPDATE record SET body = zeroblob(length(body)) WHERE kind = 3",
        "DELETE FROM record WHERE kind = 5",
        "DELETE FROM audit WHERE number = 2",
        "UPDATE audit SET mac = zeroblob(32) WHERE number = 2",
        "UPDATE leaf SET entries = x'' WHERE number = (SELECT min(number) FROM leaf)",
        "UPDATE slot SET label = zeroblob(length(label))",
        "UPDATE head SET mac = zeroblob(32)",
    ];
    for change in changes {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let path = directory.path().join("v.vault");
        let [question, _] = fill(&path, Suite::Xaes256Gcm);
        rusqlite::Connection::open(&path).expect("opens").execute(change, ()).expect("changed");
        let answer = &ask(&[question])[0];
        assert!(answer["refused"].is_string(), "{change}: {answer}");
        let opener = Opener::KeyFile(SecretBytes::copy_from(&KEY_FILE));
        let ours = Vault::open(&path, &opener, OpenOptions::default())
            .and_then(|mut vault| vault.audit_verify(None));
        assert_eq!(ours.map_err(|error| error.kind()), Err(reseal_vault::ErrorKind::Integrity), "{change}");
    }
}
