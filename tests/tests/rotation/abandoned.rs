//! What an abandoned rotation left at a service: `check` names it until a later rotation has ended it there.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::path::PathBuf;

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

use crate::kill_rotation_alternate::{ALTERNATE, Pair};
use crate::kill_rotation_desk::{Case, Desk, OLD, wrapper};
use crate::kill_rotation_services::{
    EMERGENCY, OVERLAP, RETIRE, ROOT, ROTATE, Redis, Service, postgres_plan,
};

const ABANDON: &[&str] = &["rotate", "abandon", "key", "--reason", "it goes neither way", "-y"];

const NEXT: &str = "left by an abandoned rotation; the next rotation ends it";

/// Abandons a rotation after which applications came back neither with the new value nor with the old one; returns the new
/// one, which is not the current one then.
fn abandon(desk: &Desk) -> String {
    desk.write("restart", "#!/bin/sh\nexit 1\n", 0o755);
    desk.run(ROTATE).expect(10);
    desk.write("restart", &wrapper("cp \"$2\" \"running-$1\""), 0o755);
    let told = desk.run(ABANDON).expect(0);
    assert!(told.stdout.contains("the next rotation ends the other one"), "{told:?}");
    desk.check_old("abandoned on its way back");
    version(desk, 2)
}

fn version(desk: &Desk, number: u64) -> String {
    let told = desk.run(&["get", "key", "--version", &number.to_string()]).expect(0);
    told.stdout.trim_end().to_owned()
}

/// How `check` ends, and what it says of old values by their versions.
#[track_caller]
fn check(desk: &Desk) -> (Option<i32>, Vec<String>) {
    let ended = desk.run(&["check", "key", "--json"]);
    let told = ended.json();
    let targets = told["targets"].as_array().expect("targets").iter();
    let of_version =
        targets.filter(|target| target["target"].as_str().is_some_and(|at| at.contains("version")));
    let words = |target: &serde_json::Value| {
        ["what", "target", "state", "saw"].map(|field| target[field].as_str().unwrap_or("-")).join(" | ")
    };
    (ended.code, of_version.map(words).collect())
}

#[track_caller]
fn check_left(desk: &Desk, at: &str, saw: &str) {
    let (code, told) = check(desk);
    assert_eq!(code, Some(14), "{told:?}");
    let expected = format!("old value | {at} | differs | it still lets in, {saw}");
    assert!(told.contains(&expected), "{expected}: {told:?}");
}

/// Nothing that was left lets in. It is looked for until one more rotation is done.
#[track_caller]
fn check_ended(desk: &Desk) {
    let (code, told) = check(desk);
    assert_eq!(code, Some(0), "{told:?}");
    assert!(told.iter().all(|old| old.ends_with("| holds | ")) && !told.is_empty(), "{told:?}");
}

#[track_caller]
fn check_silent(desk: &Desk) {
    assert_eq!(check(desk), (Some(0), Vec::new()));
}

#[tokio::test(flavor = "multi_thread")]
async fn abandoned_password_ends_with_the_next_overlap() {
    let redis = Redis::start();
    redis.reset().await;
    let desk = Desk::with_servers(&OVERLAP, &redis.plan());
    let left = abandon(&desk);
    assert!(redis.accepts(OLD).await && redis.accepts(&left).await);
    check_left(&desk, "app at cache, version 2", NEXT);

    // One that is taken back ends nothing, and nothing ends before the overlap does.
    let ending = "left by an abandoned rotation; `reseal rotate retire key` ends it";
    desk.run(ROTATE).expect(0);
    check_left(&desk, "app at cache, version 2", ending);
    desk.run(&["rotate", "rollback", "key", "-y"]).expect(0);
    check_left(&desk, "app at cache, version 2", NEXT);
    desk.run(ROTATE).expect(0);
    check_left(&desk, "app at cache, version 2", ending);
    let table = desk.run(&["check"]).expect(14);
    assert!(table.stdout.contains("app at cache, version 2"), "{table:?}");
    assert!(redis.accepts(&left).await);
    let destroyed = desk.run(&["destroy", "key", "--version", "2", "-y"]).expect(8);
    assert!(destroyed.stderr.contains("an abandoned rotation left it"), "{destroyed:?}");

    // A value that a person puts back is not ended, also where it is the one that was left.
    let new = desk.current();
    desk.run(&["revert", "key", "--to", "2", "--vault-only"]).expect(0);
    desk.run(&["sync", "key", "-y"]).expect(0);
    desk.check_new("put back");
    let refused = desk.run(RETIRE).expect(8);
    assert!(refused.stderr.contains("is not the current one any more"), "{refused:?}");
    assert!(redis.accepts(&left).await && redis.accepts(&new).await && redis.accepts(OLD).await);
    let number = (3..9).find(|number| version(&desk, *number) == new).expect("it has a version");
    assert!(refused.stderr.contains(&format!("reseal revert key --to {number} --vault-only")), "{refused:?}");
    desk.run(&["revert", "key", "--to", &number.to_string(), "--vault-only"]).expect(0);
    desk.run(&["sync", "key", "-y"]).expect(0);
    assert_eq!(desk.current(), new);

    desk.run(RETIRE).expect(0);
    assert!(redis.accepts(&desk.current()).await);
    assert!(!redis.accepts(OLD).await && !redis.accepts(&left).await);
    redis.kept().await;
    check_ended(&desk);
    desk.run(ROTATE).expect(0);
    check_ended(&desk);
    desk.run(RETIRE).expect(0);
    check_silent(&desk);
}

/// The current value may be a copy of the new one, which a person put back.
#[tokio::test(flavor = "multi_thread")]
async fn abandoned_before_an_overlap_goes_back_from_a_copy() {
    let redis = Redis::start();
    redis.reset().await;
    let desk = Desk::with_servers(&OVERLAP, &redis.plan());
    let left = abandon(&desk);
    desk.run(ROTATE).expect(0);
    let new = desk.current();
    for number in ["2", "3"] {
        desk.run(&["revert", "key", "--to", number, "--vault-only"]).expect(0);
        desk.run(&["sync", "key", "-y"]).expect(0);
    }
    assert_eq!(desk.current(), new);
    desk.run(&["rotate", "rollback", "key", "-y"]).expect(0);
    desk.check_old("taken back from a copy");
    assert!(redis.accepts(OLD).await && redis.accepts(&left).await && !redis.accepts(&new).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn abandoned_password_ends_at_once_in_an_emergency() {
    let redis = Redis::start();
    redis.reset().await;
    let desk = Desk::with_servers(&OVERLAP, &redis.plan());
    let left = abandon(&desk);
    let address = format!("redis://app:{left}@127.0.0.1:{}/0", redis.server.port());
    let client = redis::Client::open(address).expect("an address");
    let mut intruder = client.get_multiplexed_async_connection().await.expect("what was left lets in");

    desk.run(EMERGENCY).expect(0);
    assert!(redis.accepts(&desk.current()).await);
    assert!(!redis.accepts(OLD).await && !redis.accepts(&left).await);
    let asked = redis::cmd("PING").query_async::<String>(&mut intruder).await;
    assert!(asked.is_err(), "what it had opened has ended");
    check_ended(&desk);
}

const LAST: Case = Case {
    name: "Redis overlap with a command that runs last",
    secret: r#"strategy = "overlap"
server = "cache"
write = [{ file = "a.env", var = "KEY" }, { file = "b.env", var = "KEY" }, { file = "b.env", var = "KEY_OLD", holds = "previous" }]
after = [{ command = ["./last"] }]"#,
    change: &[],
    retire: &[],
};

/// The value that is left may be the older one, and it may stand in a place for the value before.
#[tokio::test(flavor = "multi_thread")]
async fn abandoned_past_the_point_of_no_return_the_old_password_is_left() {
    let redis = Redis::start();
    redis.reset().await;
    let desk = Desk::with_servers(&LAST, &redis.plan());
    desk.write("last", "#!/bin/sh\nexit 1\n", 0o755);
    desk.run(ROTATE).expect(10);
    desk.run(ABANDON).expect(0);
    assert_eq!(desk.current(), version(&desk, 2));
    assert!(redis.accepts(OLD).await && redis.accepts(&desk.current()).await);
    check_left(&desk, "app at cache, version 1", NEXT);
    let told = desk.run(&["check", "key"]).expect(14);
    assert!(told.stdout.contains("it still holds the old value"), "{told:?}");

    desk.write("last", "#!/bin/sh\n", 0o755);
    desk.run(ROTATE).expect(0);
    assert!(desk.read("b.env").contains(&format!("KEY_OLD={}\n", version(&desk, 2))));
    check_left(
        &desk,
        "app at cache, version 1",
        "left by an abandoned rotation; `reseal rotate retire key` ends it",
    );
    desk.run(RETIRE).expect(0);
    desk.check_retired("abandoned before");
    for ended in [OLD, &version(&desk, 2)] {
        assert!(!redis.accepts(ended).await);
    }
    assert!(redis.accepts(&desk.current()).await);
    check_ended(&desk);
}

/// Where two roles take turns, the next rotation gives the role of the abandoned value another one.
#[tokio::test(flavor = "multi_thread")]
async fn abandoned_turn_leaves_a_role_that_the_next_one_changes() {
    let pair = Pair::start().await;
    let desk = Desk::with_servers(&ALTERNATE, &postgres_plan(&format!("url = {}", pair.postgres.url())));
    desk.put("root", ROOT);
    let left = abandon(&desk);
    assert!(pair.accepts(OLD).await && pair.accepts(&left).await);
    check_left(&desk, "app_b at db, version 2", NEXT);

    desk.run(ROTATE).expect(0);
    assert!(pair.accepts(OLD).await && !pair.accepts(&left).await && pair.accepts(&desk.current()).await);
    assert_eq!(check(&desk).0, Some(0));
    desk.run(RETIRE).expect(0);
    assert!(!pair.accepts(OLD).await && pair.accepts(&desk.current()).await);
    check_ended(&desk);
}

/// An application that verifies signatures with both keys that it was brought over with.
fn verifier(running: PathBuf) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let port = listener.local_addr().expect("it is bound").port();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let mut reader = BufReader::new(stream.try_clone().expect("a second handle"));
            let (mut signature, mut len, mut line) = (String::new(), 0, String::new());
            while reader.read_line(&mut line).is_ok_and(|read| read > 2) {
                let (name, value) = line.split_once(':').unwrap_or(("", ""));
                match name.to_ascii_lowercase().as_str() {
                    "x-signature" => signature = value.trim().to_owned(),
                    "content-length" => len = value.trim().parse().expect("a length"),
                    _ => {}
                }
                line.clear();
            }
            let mut body = vec![0; len];
            reader.read_exact(&mut body).expect("a body");
            let has = std::fs::read_to_string(&running).expect("it was brought over");
            let keys = has.lines().filter_map(|line| {
                line.strip_prefix("KEY=")
                    .or_else(|| line.strip_prefix("KEY_OLD=").filter(|key| !key.is_empty()))
            });
            let is_signed = keys.map(|key| signed(key, &body)).any(|expected| expected == signature);
            let status = if is_signed { "200 OK" } else { "403 Forbidden" };
            // Who asked may be gone by now.
            let _ = write!(stream, "HTTP/1.1 {status}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
        }
    });
    port
}

fn signed(key: &str, body: &[u8]) -> String {
    let mut mac = Hmac::<Sha256>::new_from_slice(key.as_bytes()).expect("a key of any length");
    mac.update(body);
    hex::encode(mac.finalize().into_bytes())
}

const PAIR: Case = Case {
    name: "signer and verifier",
    secret: r#"strategy = "overlap"
write = [{ file = "b.env", var = "KEY" }, { file = "b.env", var = "KEY_OLD", holds = "previous" }, { file = "a.env", var = "KEY" }]
check = [{ signed = "http://127.0.0.1:PORT/", header = "X-Signature", mac = "hmac-sha256-hex" }]"#,
    change: &[],
    retire: &[],
};

/// An application that could not be brought back goes on taking the abandoned key.
#[test]
fn abandoned_key_is_told_where_it_is_still_taken() {
    let desk = Desk::new(&PAIR);
    let port = verifier(desk.path().join("running-b")).to_string();
    desk.write("reseal.toml", &desk.read("reseal.toml").replace("PORT", &port), 0o600);
    // The verifier is brought over, and then nothing is any more.
    desk.write(
        "restart",
        "#!/bin/sh\n[ -e broken ] && exit 1\ntouch broken\ncp \"$2\" \"running-$1\"\n",
        0o755,
    );
    desk.run(ROTATE).expect(10);
    desk.run(ABANDON).expect(0);
    assert_eq!((desk.current().as_str(), desk.read("b.env").contains("KEY_OLD=\n")), (OLD, true));
    let told = desk.run(&["check", "key"]).expect(14);
    assert!(told.stdout.contains("a value that an abandoned rotation left is taken"), "{told:?}");

    desk.remove("broken");
    desk.write("restart", &wrapper("cp \"$2\" \"running-$1\""), 0o755);
    desk.run(ROTATE).expect(0);
    desk.check_new("abandoned before");
    desk.run(RETIRE).expect(0);
    desk.check_retired("abandoned before");
    desk.run(&["check", "key"]).expect(0);
}
