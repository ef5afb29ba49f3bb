//! `reseal import`: the values of a file become secrets, all or none.

use std::fs;

use super::Session;

const ENV: &str =
    "# the app\nREDIS_PASSWORD='it is'\nSECRET_KEY=k3y\nEMPTY=\nREDIS_URL=redis://:${REDIS_PASSWORD}@h\n";

fn with(name: &str, text: &str) -> Session {
    let session = Session::new();
    fs::write(session.path(name), text).unwrap();
    session
}

fn get(session: &Session, name: &str) -> String {
    session.run(&["get", name]).done().stdout
}

fn count(session: &Session) -> usize {
    session.json(&["list"])["secrets"].as_array().unwrap().len()
}

#[test]
fn a_dotenv_file_becomes_secrets_and_goes() {
    let session = with(".env", ENV);
    let reader = ["--reader", "python-dotenv"];
    let dry = session.run(&[&["import", ".env", "--prefix", "crm", "-n"], &reader[..]].concat()).done();
    assert!(dry.stdout.contains("crm/redis-password <- REDIS_PASSWORD"), "{dry:?}");
    assert_eq!(count(&session), 0);
    let done = session
        .run(&[&["import", ".env", "--prefix", "crm", "--delete-source"], &reader[..]].concat())
        .done();
    assert!(done.stdout.contains("EMPTY is empty and left out"), "{done:?}");
    assert_eq!(get(&session, "crm/redis-password"), "it is");
    assert_eq!(get(&session, "crm/redis-url"), "redis://:it is@h");
    assert!(!session.path(".env").exists());
    let exported = session.run(&["export", "crm/secret-key", "--format", "docker"]).done().stdout;
    assert_eq!(exported, "SECRET_KEY=k3y\n", "exports give the variable its name back");
    let log = session.run(&["audit", "log"]).done().stdout;
    assert!(log.contains("remove file"), "{log}");
}

#[test]
fn only_what_is_named_is_imported_and_nothing_twice() {
    let session = with(".env", ENV);
    session.run(&["import", ".env", "SECRET_KEY"]).done();
    assert_eq!(count(&session), 1);
    session.run(&["import", ".env", "SECRET_KEY"]).done();
    assert_eq!(session.json(&["show", "secret-key"])["latest"], 1, "the same value is no new version");
    fs::write(session.path(".env"), ENV.replace("k3y", "n3w")).unwrap();
    session.run(&["import", ".env", "SECRET_KEY", "REDIS_PASSWORD"]).code(7).says("--update");
    assert_eq!(count(&session), 1, "all or none");
    session.run(&["import", ".env", "SECRET_KEY", "--update"]).done();
    assert_eq!(
        (get(&session, "secret-key"), session.json(&["show", "secret-key"])["latest"].clone()),
        ("n3w".into(), 2.into())
    );
    session.run(&["import", ".env", "OTHER"]).code(3);
    session.run(&["import", ".env", "SECRET_KEY", "--delete-source"]).code(2).says("would be lost");
    assert!(session.path(".env").exists());
}

#[test]
fn objects_are_imported_key_by_key() {
    let json = r#"{"redis": {"password": "p", "port": 6379}, "DEBUG": true, "nothing": null}"#;
    let session = with("secrets.json", json);
    session.run(&["import", "secrets.json", "--prefix", "app"]).done();
    assert_eq!(
        (get(&session, "app/redis/password"), get(&session, "app/redis/port")),
        ("p".into(), "6379".into())
    );
    assert_eq!(session.json(&["show", "app/debug"])["env"], "DEBUG");
    fs::write(session.path("s.toml"), "top = \"t\"\n[db]\npass_word = \"canary\"\n").unwrap();
    let stored = session.run(&["import", "s.toml"]).done();
    assert_eq!(get(&session, "db/pass-word"), "canary");
    assert!(!stored.stdout.contains("canary"));
    session.feed(&["import", "-", "--format", "dotenv"], b"X=1\n").done();
    assert_eq!(get(&session, "x"), "1");
}

#[test]
fn what_is_unclear_is_refused_without_repeating_a_value() {
    let cases = [
        ("a.json", "{\"a\": \"canary\"", 8, "no JSON"),
        ("a.json", "[\"canary\"]", 8, "no object"),
        ("a.json", "{\"a\": [\"canary\"]}", 8, "a is a list"),
        ("a.toml", "a = \"canary\"\nb = canary", 8, "no TOML"),
        ("a.txt", "A=canary\n", 2, "--format"),
        (".env", "A=canary\nB=${OUTSIDE}\n", 8, "depends on what is not in the file"),
        (".env", "# nothing\nA=\n", 3, "no value"),
        ("a.json", "{\"a_b\": \"1\", \"A-B\": \"2\"}", 8, "would both be a-b"),
    ];
    for (name, text, code, words) in cases {
        let session = with(name, text);
        let failed = session.run(&["import", name]).code(code).says(words);
        assert!(!failed.stderr.contains("canary"), "{failed:?}");
        assert_eq!(count(&session), 0);
    }
}
