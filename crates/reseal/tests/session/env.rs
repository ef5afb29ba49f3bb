//! `reseal env`: the safe `sed -i`, without a vault.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};

use super::{Ended, Session};

const FILE: &str =
    "# the app\nREDIS_PASSWORD=old\nREDIS_URL='redis://:old@redis:6379/0'\nexport FLAG=1 # keep\n";

/// A user without a vault who has this `.env`.
fn with_env(text: &str) -> Session {
    let session = Session::without_vault();
    fs::write(session.path(".env"), text).unwrap();
    fs::set_permissions(session.path(".env"), fs::Permissions::from_mode(0o640)).unwrap();
    session
}

fn text(session: &Session) -> String {
    fs::read_to_string(session.path(".env")).unwrap()
}

fn set(session: &Session, arguments: &[&str], value: &str) -> Ended {
    session.feed_bare(&[&["env", "set", ".env"], arguments].concat(), value.as_bytes())
}

#[test]
fn one_value_changes_and_nothing_else() {
    let session = with_env(FILE);
    set(&session, &["REDIS_PASSWORD", "-"], "n3w\n").done();
    set(&session, &["REDIS_URL", "-", "--part", "url.password"], "n3w@").done();
    let expected = FILE.replace("=old", "=n3w").replace(":old@", ":n3w%40@");
    assert_eq!(text(&session), expected);
    assert_eq!(fs::metadata(session.path(".env")).unwrap().mode() & 0o777, 0o640);
    assert!(!session.path("v.vault").exists(), "no vault was needed");
    let get = |arguments: &[&str]| {
        Ended::of(session.bare(&[&["env", "get", ".env"], arguments].concat()).output().unwrap())
    };
    assert_eq!(get(&["REDIS_PASSWORD"]).done().stdout, "n3w");
    assert_eq!(get(&["REDIS_URL", "--part", "url.password"]).done().stdout, "n3w@");
    get(&["OTHER"]).code(3).says("there is no variable OTHER");
    fs::write(session.path("value"), "x\ny\n").unwrap();
    set(&session, &["FLAG", "--value-file", "value", "--reader", "shell"], "").done();
    assert_eq!(get(&["FLAG", "--reader", "shell"]).done().stdout, "x\ny\n");
}

#[test]
fn what_a_reader_would_not_read_is_refused_and_the_file_stands() {
    let session = with_env(FILE);
    let refused = set(&session, &["FLAG", "-", "--reader", "python-dotenv"], "a${b}c");
    refused.code(8).says("python-dotenv cannot read '}' in the value of FLAG");
    let refused = set(&session, &["FLAG", "-", "--reader", "docker", "--reader", "shell"], "a b");
    refused.code(8).says("docker");
    set(&session, &["NEW", "-"], "x").code(3).says("--add");
    set(&session, &["FLAG", "a-value"], "").code(2).says("a value does not belong on the command line");
    set(&session, &["FLAG", "-", "--part", "url.host"], "x").code(2).says("url.password");
    set(&session, &["FLAG", "-", "--reader", "fish"], "x").code(2).says("python-dotenv");
    assert_eq!(text(&session), FILE);
}

#[test]
fn a_variable_is_added_where_that_is_asked_for() {
    let session = with_env(FILE);
    set(&session, &["NEW", "-", "--add", "-n"], "x y").done();
    assert_eq!(text(&session), FILE, "a dry run writes nothing");
    set(&session, &["NEW", "-", "--add"], "x y").done();
    assert_eq!(text(&session), format!("{FILE}NEW='x y'\n"));
}

#[test]
fn interpolation_needs_no_edit_but_a_value_that_fits() {
    let file = "REDIS_PASSWORD=old\nREDIS_URL=redis://:${REDIS_PASSWORD}@redis:6379/0\n";
    let session = with_env(file);
    let url = &["REDIS_URL", "-", "--part", "url.password", "--reader", "compose"];
    set(&session, url, "new").code(8).says("set REDIS_PASSWORD: REDIS_URL follows");
    set(&session, &["REDIS_PASSWORD", "-", "--reader", "compose"], "n@w").code(8).says("REDIS_URL");
    set(&session, &["REDIS_PASSWORD", "-", "--reader", "compose"], "new").done();
    set(&session, url, "new").done();
    assert_eq!(text(&session), file.replace("=old", "=new"));
}

#[test]
fn links_are_followed_only_on_demand() {
    let session = with_env(FILE);
    symlink(".env", session.path("link")).unwrap();
    let arguments = ["env", "set", "link", "FLAG", "-"];
    session.feed_bare(&arguments, b"2").code(8).says("--follow-links");
    session.feed_bare(&[&arguments[..], &["--follow-links"]].concat(), b"2").done();
    assert!(fs::symlink_metadata(session.path("link")).unwrap().is_symlink());
    assert_eq!(text(&session), FILE.replace("FLAG=1", "FLAG=2"));
    session.feed_bare(&["env", "set", "missing", "A", "-"], b"2").code(3);
}

#[test]
fn check_says_whether_the_readers_agree_and_whether_a_value_is_there() {
    let session = with_env(FILE);
    let check = |arguments: &[&str], value: &str| {
        session.feed_bare(&[&["env", "check", ".env"], arguments].concat(), value.as_bytes())
    };
    check(&[], "").done();
    check(&["--reader", "docker", "--reader", "shell"], "").code(10);
    let differ = check(&["--reader", "shell", "--reader", "systemd"], "").code(10);
    assert!(differ.stdout.contains("FLAG: systemd does not see it"), "{differ:?}");
    check(&["REDIS_PASSWORD", "-"], "old").done();
    check(&["REDIS_PASSWORD", "-"], "other").code(14);
    check(&["REDIS_URL", "-", "--part", "url.password"], "old").done();
    check(&["OTHER"], "").code(3);
}

#[test]
fn the_plan_says_who_reads_a_file() {
    let session = with_env(FILE);
    let plan = "schema = 1\n[files.\".env\"]\nreaders = [\"systemd\"]\n";
    fs::write(session.path("reseal.toml"), plan).unwrap();
    let read = set(&session, &["REDIS_PASSWORD", "-", "-n"], "x").done();
    assert!(read.stderr.contains("read by systemd (declared in the plan)"), "{read:?}");
    set(&session, &["FLAG", "-"], "x").code(8).says("systemd does not see FLAG");
    set(&session, &["FLAG", "-", "--reader", "shell"], "x").done();
}

#[test]
fn objects_hold_no_value_unless_it_is_revealed() {
    let session = with_env(FILE);
    let json = |arguments: &[&str]| -> serde_json::Value {
        let ended = session.feed_bare(&[&["--json", "env"], arguments].concat(), b"canary").done();
        serde_json::from_str(&ended.stdout).unwrap()
    };
    let object = json(&["set", ".env", "REDIS_PASSWORD", "-"]);
    assert_eq!((&object["outcome"], &object["variable"]), (&"changed".into(), &"REDIS_PASSWORD".into()));
    assert_eq!(json(&["set", ".env", "REDIS_PASSWORD", "-"])["outcome"], "unchanged");
    let object = json(&["get", ".env", "REDIS_PASSWORD"]);
    assert!(!object.to_string().contains("canary"), "{object}");
    assert_eq!(json(&["get", ".env", "REDIS_PASSWORD", "--reveal"])["value"], "canary");
    let object = json(&["check", ".env", "REDIS_PASSWORD"]);
    assert_eq!((&object["agreed"], &object["variables"][0]["lines"]), (&true.into(), &1.into()));
    assert_eq!(json(&["check", ".env", "REDIS_PASSWORD", "-"])["holds"], true);
}
