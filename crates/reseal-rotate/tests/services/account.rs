//! One user as a rotation's steps see it: looked at, changed, taken back, from every state it can be left in.

use reseal_crypto::{OsRandom, SecretBytes};
use reseal_rotate::plan::{Kind, Plan};
use reseal_rotate::services::redis::PasswordHash;
use reseal_rotate::services::{
    Account, Admin, Change, Exchange, Login, Note, Proof, Service, ServiceError, Standing,
};
use reseal_sandbox::redis::{Options, PasswordIn, Server};

use super::postgres::{OLD, Scene};
use super::redis::{command, node_of, start};
use crate::{logins, prove, service, value, with};

const NEW: &str = "the-new-value";

struct Texts {
    old: SecretBytes,
    new: SecretBytes,
}

impl Texts {
    fn new(old: &str) -> Self {
        Self { old: value(old), new: value(NEW) }
    }

    fn values(&self) -> Exchange<'_> {
        Exchange { old: &self.old, new: &self.new, left: &[] }
    }
}

#[tokio::test]
async fn postgres_changes_and_comes_back_from_every_state() {
    let scene = Scene::new(&[]).await;
    let texts = Texts::new(OLD);
    let values = texts.values();
    let root = Admin { user: "postgres".into(), value: Some(value(scene.server.password())) };
    let stored = "SELECT rolpassword FROM pg_authid WHERE rolname = 'app'";
    for (admin, expected) in [(Some(root), Vec::new()), (None, vec![Note::VerifierInLog])] {
        let is_exact = admin.is_some();
        let account = Account::new(scene.service.clone(), "app", admin);
        let before = scene.text(stored).await;
        assert_eq!(account.rehearse(Change::Set, values.old, &OsRandom).await, Ok(expected));
        let kept = account.capture(values).await.unwrap();
        assert_eq!(scene.text(stored).await, before, "nothing was changed");
        // Not made yet: taking it back does no harm.
        account.undo(values, &kept).await.unwrap();
        assert_eq!(account.standing(Change::Set, values, &kept).await, Ok(Standing::NotDone));
        account.apply(Change::Set, values, &kept).await.unwrap();
        let changed = scene.text(stored).await;
        account.apply(Change::Set, values, &kept).await.unwrap();
        assert_eq!(scene.text(stored).await, changed, "the same verifier again");
        assert_eq!(account.standing(Change::Set, values, &kept).await, Ok(Standing::Done));
        assert_eq!(prove(&scene.service, "app", NEW).await, Proof::Holds);
        for _ in 0..2 {
            account.undo(values, &kept).await.unwrap();
            assert_eq!(account.standing(Change::Set, values, &kept).await, Ok(Standing::NotDone));
            assert_eq!(prove(&scene.service, "app", OLD).await, Proof::Holds);
        }
        assert!(!is_exact || scene.text(stored).await == before, "byte for byte");
    }
    let account = Account::new(scene.service.clone(), "app", None);
    let overlap = account.rehearse(Change::Add, values.old, &OsRandom).await.unwrap_err();
    assert!(matches!(overlap, ServiceError::NoOverlap { .. }), "{overlap}");
}

#[tokio::test]
async fn what_stands_against_a_change_is_found_before_it() {
    let mut scene = Scene::new(&[]).await;
    let old = value(OLD);
    let account = Account::new(scene.service.clone(), "app", None);
    let refused = account.rehearse(Change::Set, &value("not it"), &OsRandom).await.unwrap_err();
    assert!(matches!(refused, ServiceError::LoginRefused { .. }), "{refused}");
    let trusting = Account::new(service(Kind::Postgres, &scene.server.url()), "app", None);
    let refused = trusting.rehearse(Change::Set, &old, &OsRandom).await.unwrap_err();
    assert!(matches!(refused, ServiceError::AcceptsAnything { .. }) && refused.hint().is_some(), "{refused}");
    scene.sql("CREATE ROLE plain LOGIN PASSWORD 'p'").await;
    let powerless = Admin { user: "plain".into(), value: Some(value("p")) };
    let refused = Account::new(scene.service.clone(), "app", Some(powerless));
    let refused = refused.rehearse(Change::Set, &old, &OsRandom).await.unwrap_err();
    assert!(matches!(refused, ServiceError::Rights { .. }) && refused.hint().is_some(), "{refused}");
    scene.server.stop().unwrap();
    let refused = account.rehearse(Change::Set, &old, &OsRandom).await.unwrap_err();
    assert!(matches!(refused, ServiceError::Unreachable { .. }), "{refused}");

    let open = start(Options::with(PasswordIn::Nowhere));
    let account = Account::new(node_of(&open).1, "default", None);
    let refused = account.rehearse(Change::Add, &value("x"), &OsRandom).await.unwrap_err();
    assert!(matches!(refused, ServiceError::AcceptsAnything { .. }), "{refused}");
    let single = start(Options::default().set("rename-command", "ACL \"\""));
    let account = Account::new(node_of(&single).1, "default", None);
    let refused = account.rehearse(Change::Add, &value(single.password()), &OsRandom).await.unwrap_err();
    assert!(matches!(refused, ServiceError::NoOverlap { .. }) && refused.hint().is_some(), "{refused}");
}

/// What lets in at a server, and what its replication logs in with.
async fn looks_like(server: &Server, password: &str) -> String {
    let users = command(server, password, &["ACL", "LIST"]).await.expect("lists");
    let login = command(server, password, &["CONFIG", "GET", "masterauth"]).await.expect("tells");
    format!("{users:?} {login:?}")
}

struct Pair {
    servers: [Server; 2],
    account: Account,
    texts: Texts,
}

impl Pair {
    async fn start(place: PasswordIn) -> Self {
        let primary = start(Options::with(place));
        let replica = primary.start_replica(Options::with(place)).expect("a second one");
        let texts = Texts::new(primary.password());
        let node = node_of(&primary).0;
        let session = node.session(with("default", &texts.old)).await.expect("logs in");
        for _ in 0..500 {
            if session.replicas().await.is_ok_and(|replicas| !replicas.is_empty()) {
                break;
            }
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
        let account = Account::new(Service::Redis(node), "default", None);
        Self { servers: [primary, replica], account, texts }
    }

    async fn looks(&self) -> [String; 2] {
        let old = self.servers[0].password();
        [looks_like(&self.servers[0], old).await, looks_like(&self.servers[1], old).await]
    }
}

#[tokio::test]
async fn redis_overlaps_everywhere_and_survives_crashes() {
    for place in [PasswordIn::ConfigFile, PasswordIn::AclFile] {
        let mut pair = Pair::start(place).await;
        let (account, values) = (&pair.account, pair.texts.values());
        let old = pair.servers[0].password().to_owned();
        assert_eq!(account.rehearse(Change::Add, values.old, &OsRandom).await, Ok(Vec::new()));
        let kept = account.capture(values).await.unwrap();
        assert_eq!(account.standing(Change::Add, values, &kept).await, Ok(Standing::NotDone));
        for _ in 0..2 {
            account.apply(Change::Add, values, &kept).await.unwrap();
            assert_eq!(account.standing(Change::Add, values, &kept).await, Ok(Standing::DoneInMemory));
        }
        for server in &mut pair.servers {
            server.kill_9().unwrap();
            server.restart().unwrap();
            let both = logins(&node_of(server).1, "default", &[&old, NEW]).await;
            assert_eq!(both, [Login::Accepted, Login::Accepted], "{place:?}");
        }
        // With what was kept at the beginning: right after a crash the server does not name its replica yet.
        assert_eq!(account.standing(Change::Remove, values, &kept).await, Ok(Standing::NotDone));
        for _ in 0..2 {
            account.apply(Change::Remove, values, &kept).await.unwrap();
            assert_eq!(account.standing(Change::Remove, values, &kept).await, Ok(Standing::DoneInMemory));
        }
        for server in &mut pair.servers {
            server.kill_9().unwrap();
            server.restart().unwrap();
            assert_eq!(logins(&node_of(server).1, "default", &[&old]).await, [Login::Refused], "{place:?}");
            assert_eq!(prove(&node_of(server).1, "default", NEW).await, Proof::Holds, "{place:?}");
        }
        let follower = node_of(&pair.servers[1]).0.session(with("default", values.new)).await.unwrap();
        assert_eq!(follower.has_primary_login(values.new).await, Ok(true), "{place:?}");
    }
}

/// A rotation was given up: a third password lets in everywhere, and the replica logs in at its primary with it.
#[tokio::test]
async fn redis_ends_what_was_left_with_the_old_value() {
    let pair = Pair::start(PasswordIn::ConfigFile).await;
    let (account, texts, left) = (&pair.account, &pair.texts, [value("left")]);
    let given_up = Exchange { new: &left[0], ..texts.values() };
    let kept = account.capture(given_up).await.unwrap();
    account.apply(Change::Add, given_up, &kept).await.unwrap();

    let values = Exchange { left: &left, ..texts.values() };
    let kept = account.capture(values).await.unwrap();
    account.apply(Change::Add, values, &kept).await.unwrap();
    assert_eq!(account.standing(Change::Add, values, &kept).await, Ok(Standing::DoneInMemory));
    let follower = node_of(&pair.servers[1]).0.session(with("default", values.new)).await.unwrap();
    assert_eq!(follower.has_primary_login(values.new).await, Ok(true), "what was left is about to end");

    let let_in = async || {
        let mut seen = Vec::new();
        for server in &pair.servers {
            seen.extend(logins(&node_of(server).1, "default", &[server.password(), "left", NEW]).await);
        }
        seen
    };
    let kept = account.capture(values).await.unwrap();
    account.apply(Change::Remove, texts.values(), &kept).await.unwrap();
    assert_eq!(account.standing(Change::Remove, values, &kept).await, Ok(Standing::NotDone));
    for _ in 0..2 {
        account.apply(Change::Remove, values, &kept).await.unwrap();
        assert_eq!(account.standing(Change::Remove, values, &kept).await, Ok(Standing::DoneInMemory));
        let alone = [Login::Refused, Login::Refused, Login::Accepted];
        assert_eq!(let_in().await, [alone.clone(), alone].concat());
    }
    account.undo(values, &kept).await.unwrap();
    assert_eq!(let_in().await, vec![Login::Accepted; 6], "the end is taken back");
}

#[tokio::test]
async fn redis_comes_back_from_every_state() {
    let pair = Pair::start(PasswordIn::ConfigFile).await;
    let (account, values) = (&pair.account, pair.texts.values());
    let before = pair.looks().await;
    let kept = account.capture(values).await.unwrap();
    assert_eq!(pair.looks().await, before, "nothing was changed");
    for change in [Change::Add, Change::Set] {
        account.undo(values, &kept).await.unwrap();
        assert_eq!(pair.looks().await, before, "not made yet");
        account.apply(change, values, &kept).await.unwrap();
        for _ in 0..2 {
            account.undo(values, &kept).await.unwrap();
            assert_eq!(pair.looks().await, before, "{change:?}");
        }
        // Broken off after the first server.
        let session = node_of(&pair.servers[0]).0.session(with("default", values.old)).await.unwrap();
        match change {
            Change::Set => session.set("default", values.new).await.unwrap(),
            _ => session.add("default", &PasswordHash::of(values.new)).await.unwrap(),
        }
        assert_eq!(account.standing(change, values, &kept).await, Ok(Standing::NotDone), "not everywhere");
        account.undo(values, &kept).await.unwrap();
        assert_eq!(pair.looks().await, before, "{change:?} in part");
    }
    account.apply(Change::Add, values, &kept).await.unwrap();
    account.apply(Change::Remove, values, &kept).await.unwrap();
    account.undo(values, &kept).await.unwrap();
    assert_eq!(pair.looks().await, before, "even after the old value was removed");
}

#[tokio::test]
async fn a_replica_that_went_away_is_not_forgotten() {
    let mut pair = Pair::start(PasswordIn::ConfigFile).await;
    let kept = pair.account.capture(pair.texts.values()).await.unwrap();
    pair.servers[1].kill_9().unwrap();
    let values = pair.texts.values();
    let unreachable =
        |result: Result<(), ServiceError>| matches!(result, Err(ServiceError::Unreachable { .. }));
    assert!(unreachable(pair.account.apply(Change::Add, values, &kept).await));
    let old = pair.servers[0].password();
    let [state] = logins(&node_of(&pair.servers[0]).1, "default", &[NEW]).await.try_into().unwrap();
    assert_eq!(state, Login::Refused, "nothing was changed at the server either");
    assert_eq!(prove(&node_of(&pair.servers[0]).1, "default", old).await, Proof::Holds);
    pair.servers[1].restart().unwrap();
    pair.account.apply(Change::Add, values, &kept).await.unwrap();
    assert_eq!(prove(&node_of(&pair.servers[1]).1, "default", NEW).await, Proof::Holds);
}

#[tokio::test]
async fn a_password_among_the_arguments_is_noted() {
    let server = start(Options::with(PasswordIn::Arguments));
    let account = Account::new(node_of(&server).1, "default", None);
    let notes = account.rehearse(Change::Add, &value(server.password()), &OsRandom).await;
    assert_eq!(notes, Ok(vec![Note::RevertsAtRestart]));
    let hidden = start(Options::default().set("rename-command", "CONFIG \"\""));
    let account = Account::new(node_of(&hidden).1, "default", None);
    let notes = account.rehearse(Change::Add, &value(hidden.password()), &OsRandom).await;
    assert_eq!(notes, Ok(vec![Note::PersistenceUnknown]));
}

#[test]
fn nodes_come_from_the_plan() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("reseal.toml");
    let text = r#"
        schema = 1
        [servers.db]
        kind = "postgres"
        nodes = { a = "postgresql://app@a/d", b = "postgresql://app@b/d" }
        [servers.cache]
        kind = "redis"
        url = "redis://user@cache"
        [servers.inside]
        kind = "redis"
        url = "redis://cache"
        via = { compose = "cache" }
    "#;
    std::fs::write(&path, text).unwrap();
    let plan = Plan::load(&path).unwrap();
    let of = |server, node| Service::of(&plan, server, node).map(|service| service.name().to_owned());
    assert_eq!(of("db", Some("b")).as_deref(), Ok("db/b"));
    assert_eq!(of("cache", None).as_deref(), Ok("cache"));
    assert_eq!(Service::of(&plan, "cache", None).unwrap().user(), Some("user"));
    for (server, node) in [("db", None), ("db", Some("c")), ("inside", None), ("missing", None)] {
        assert!(matches!(of(server, node), Err(ServiceError::Address { .. })), "{server} {node:?}");
    }
}
