//! Redis: one user, two passwords, and who is let in meanwhile.

use redis::{RedisResult, Value};
use reseal_rotate::plan::{Kind, Tls};
use reseal_rotate::services::redis::{Node, PasswordHash};
use reseal_rotate::services::{Access, Login, Proof, Service, ServiceError};
use reseal_sandbox::redis::{Options, PasswordIn, Server};

use crate::{logins, prove, service, value, with};

pub(crate) fn start(options: Options) -> Server {
    Server::start(options).expect("a private Redis (package redis-server)")
}

pub(crate) fn node_of(server: &Server) -> (Node, Service) {
    let Service::Redis(node) = service(Kind::Redis, &server.url()) else { panic!("another kind") };
    (node.clone(), Service::Redis(node))
}

/// Sends a command on a connection of its own.
pub(crate) async fn command(server: &Server, password: &str, words: &[&str]) -> RedisResult<Value> {
    let mut connection = server.connect(password).await.expect("connects");
    let mut command = redis::Cmd::new();
    for word in words {
        command.arg(*word);
    }
    command.query_async(&mut connection).await
}

async fn acl(server: &Server, password: &str) -> String {
    format!("{:?}", command(server, password, &["ACL", "LIST"]).await.expect("lists"))
}

#[tokio::test]
async fn two_values_let_in_at_once() {
    let server = start(Options::default());
    let old = server.password().to_owned();
    let (node, service) = node_of(&server);
    assert_eq!(prove(&service, "default", &old).await, Proof::Holds);
    let session = node.session(with("default", &value(&old))).await.unwrap();
    session.may_set("default").await.unwrap();
    let (old_hash, new_hash) = (PasswordHash::of(&value(&old)), PasswordHash::of(&value("new")));
    for _ in 0..2 {
        session.add("default", &new_hash).await.unwrap();
        assert_eq!(logins(&service, "default", &[&old, "new"]).await, [Login::Accepted, Login::Accepted]);
        assert_eq!(prove(&service, "default", "new").await, Proof::Holds);
    }
    let state = session.state("default").await.unwrap().unwrap();
    assert!(state.holds(&old_hash) && state.holds(&new_hash) && state.is_on && !state.takes_anything);
    for _ in 0..2 {
        session.remove("default", std::slice::from_ref(&old_hash)).await.unwrap();
        assert_eq!(logins(&service, "default", &[&old, "new"]).await, [Login::Refused, Login::Accepted]);
    }
    let last = session.remove("default", &[new_hash]).await.unwrap_err();
    assert!(last.to_string().contains("the only one"), "{last}");
    assert_eq!(prove(&service, "default", "new").await, Proof::Holds);
}

#[tokio::test]
async fn a_user_of_its_own_is_brought_back_exactly() {
    let server = start(Options::with(PasswordIn::AclFile));
    let password = server.password().to_owned();
    let made = [
        "ACL",
        "SETUSER",
        "app",
        "on",
        ">old",
        ">older",
        "~app:*",
        "resetchannels",
        "+@read",
        "-debug",
        "+acl|whoami",
    ];
    command(&server, &password, &made).await.unwrap();
    let before = acl(&server, &password).await;
    let (node, service) = node_of(&server);
    let session = node.session(with("default", &value(&password))).await.unwrap();
    let state = session.state("app").await.unwrap().unwrap();
    session.add("app", &PasswordHash::of(&value("new"))).await.unwrap();
    assert_eq!(prove(&service, "app", "new").await, Proof::Holds, "a user that may not even PING");
    session.restore("app", &state, &value("old")).await.unwrap();
    assert_eq!(acl(&server, &password).await, before);
    session.set("app", &value("new")).await.unwrap();
    assert_eq!(
        logins(&service, "app", &["old", "older", "new"]).await,
        [Login::Refused, Login::Refused, Login::Accepted]
    );
    session.restore("app", &state, &value("old")).await.unwrap();
    assert_eq!(acl(&server, &password).await, before);
    assert_eq!(session.state("app").await.unwrap().unwrap(), state);
}

#[tokio::test]
async fn users_are_not_made_by_mistake() {
    let server = start(Options::default());
    let (node, _) = node_of(&server);
    let session = node.session(with("default", &value(server.password()))).await.unwrap();
    let hash = PasswordHash::of(&value("new"));
    let no_user = |result: Result<(), ServiceError>| matches!(result, Err(ServiceError::NoUser { .. }));
    assert!(no_user(session.add("typo", &hash).await));
    assert!(no_user(session.set("typo", &value("new")).await));
    assert!(no_user(session.remove("typo", &[hash]).await));
    assert!(no_user(session.may_set("typo").await));
    assert!(!acl(&server, server.password()).await.contains("typo"));
}

#[tokio::test]
async fn rights_are_known_before_anything_is_tried() {
    let server = start(Options::default());
    let password = server.password().to_owned();
    for user in [
        ["ACL", "SETUSER", "reader", "on", ">r", "+@all", "-acl"].as_slice(),
        &["ACL", "SETUSER", "looker", "on", ">l", "+@all", "-acl|setuser"],
    ] {
        command(&server, &password, user).await.unwrap();
    }
    let (node, service) = node_of(&server);
    for (user, secret) in [("reader", "r"), ("looker", "l")] {
        let session = node.session(with(user, &value(secret))).await.unwrap();
        assert!(session.has_overlap(), "a right that is missing is no missing command");
        let refused = session.may_set("default").await.unwrap_err();
        assert!(matches!(refused, ServiceError::Rights { .. }), "{refused}");
        let refused = session.add("default", &PasswordHash::of(&value("new"))).await.unwrap_err();
        assert!(matches!(refused, ServiceError::Rights { .. }), "{refused}");
    }
    assert_eq!(prove(&service, "default", &password).await, Proof::Holds);
    let refused = node.session(with("default", &value("wrong"))).await.unwrap_err();
    assert!(matches!(refused, ServiceError::LoginRefused { .. }), "{refused}");
    let peer = node.session(Access::Peer { user: "default" }).await.unwrap_err();
    assert!(matches!(peer, ServiceError::Address { .. }), "{peer}");
}

#[tokio::test]
async fn a_user_without_a_password_is_found_out() {
    let server = start(Options::with(PasswordIn::Nowhere));
    let (node, service) = node_of(&server);
    assert_eq!(prove(&service, "default", "anything").await, Proof::AcceptsAnything);
    let session = node.session(with("default", &value("anything"))).await.unwrap();
    let state = session.state("default").await.unwrap().unwrap();
    assert!(state.takes_anything);
    session.set("default", &value("new")).await.unwrap();
    assert_eq!(prove(&service, "default", "new").await, Proof::Holds);
    session.restore("default", &state, &value("unused")).await.unwrap();
    assert_eq!(prove(&service, "default", "anything").await, Proof::AcceptsAnything);
}

#[tokio::test]
async fn open_connections_hide_a_new_value_until_they_are_ended() {
    let server = start(Options::default());
    let old = server.password().to_owned();
    let mut pooled = server.connect(&old).await.unwrap();
    let (node, service) = node_of(&server);
    let session = node.session(with("default", &value(&old))).await.unwrap();
    session.set("default", &value("new")).await.unwrap();
    let ping = redis::cmd("PING");
    assert!(ping.query_async::<()>(&mut pooled).await.is_ok(), "what is open stays open");
    assert_eq!(service.login("default", &value(&old)).await, Login::Refused, "but nothing new opens");
    assert!(session.clients("default").await.unwrap() >= 2);
    assert!(session.end_clients("default").await.unwrap() >= 1);
    assert!(ping.query_async::<()>(&mut pooled).await.is_err());
    assert_eq!(session.clients("default").await, Ok(1), "this one");
}

#[tokio::test]
async fn tls_is_verified() {
    let server = start(Options { tls: true, ..Options::default() });
    let url = server.tls_url().unwrap();
    let trusting = |ca| Tls { mode: None, ca: Some(ca) };
    let new = |tls: Option<&Tls>, url: &str| Service::new(Kind::Redis, "r", url, tls, server.directory());
    let ours = new(Some(&trusting("ca.pem".into())), &url).unwrap();
    assert_eq!(prove(&ours, "default", server.password()).await, Proof::Holds);
    let Service::Redis(node) = &ours else { panic!("another kind") };
    let port = url.rsplit(':').next().unwrap().trim_end_matches("/0").parse().unwrap();
    let beside = Service::Redis(node.beside("localhost", port));
    assert_eq!(prove(&beside, "default", server.password()).await, Proof::Holds);
    let unknown = new(None, &url).unwrap().login("default", &value(server.password())).await;
    assert!(matches!(unknown, Login::Unreachable(_)), "{unknown:?}");
    let misnamed = Service::Redis(node.beside("127.0.0.2", port));
    let misnamed = misnamed.login("default", &value(server.password())).await;
    assert!(matches!(misnamed, Login::Unreachable(_)), "{misnamed:?}");
    for (tls, url) in [
        (trusting("no-such.pem".into()), url.as_str()),
        (trusting("ca.pem".into()), "redis://h"),
        (Tls { mode: Some("require".into()), ca: None }, &url),
    ] {
        assert!(matches!(new(Some(&tls), url), Err(ServiceError::Address { .. })), "{tls:?}");
    }
}
