//! Redis before version 6: one password, `requirepass`. A newer server without `ACL` behaves so.

use reseal_rotate::plan::Kind;
use reseal_rotate::services::redis::{PasswordHash, Persistence};
use reseal_rotate::services::{Login, Proof, ServiceError};
use reseal_sandbox::redis::{Options, PasswordIn};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};

use super::redis::{node_of, start};
use crate::{logins, prove, service, value, with};

fn without_users(place: PasswordIn) -> Options {
    Options::with(place).set("rename-command", "ACL \"\"")
}

#[tokio::test]
async fn one_value_is_replaced_and_brought_back() {
    let mut server = start(without_users(PasswordIn::ConfigFile));
    let old = server.password().to_owned();
    let (node, service) = node_of(&server);
    assert_eq!(prove(&service, "default", &old).await, Proof::Holds);
    let session = node.session(with("default", &value(&old))).await.unwrap();
    assert!(!session.has_overlap());
    session.may_set("default").await.unwrap();
    let new = value("new");
    let before = session.state("default").await.unwrap().unwrap();
    assert!(before.holds(&PasswordHash::of(&value(&old))) && !before.takes_anything);
    let refused = session.add("default", &PasswordHash::of(&new)).await.unwrap_err();
    assert!(matches!(refused, ServiceError::NoOverlap { .. }), "{refused}");
    assert!(matches!(session.may_set("app").await, Err(ServiceError::NoUser { .. })));

    for _ in 0..2 {
        session.set("default", &new).await.unwrap();
    }
    assert_eq!(session.persist().await, Ok(Persistence::ConfigFile));
    server.kill_9().unwrap();
    server.restart().unwrap();
    assert_eq!(logins(&service, "default", &[&old]).await, [Login::Refused]);
    assert_eq!(prove(&service, "default", "new").await, Proof::Holds);

    let session = node.session(with("default", &new)).await.unwrap();
    assert!(session.state("default").await.unwrap().unwrap().holds(&PasswordHash::of(&new)));
    session.restore("default", &before, &value(&old)).await.unwrap();
    assert_eq!(logins(&service, "default", &[&old, "new"]).await, [Login::Accepted, Login::Refused]);
    assert_eq!(session.state("default").await.unwrap().unwrap(), before);
}

#[tokio::test]
async fn all_clients_are_ended() {
    let server = start(without_users(PasswordIn::ConfigFile));
    let mut pooled = server.connect(server.password()).await.unwrap();
    let session = node_of(&server).0.session(with("default", &value(server.password()))).await.unwrap();
    assert_eq!(session.clients("default").await, Ok(2));
    assert_eq!(session.end_clients("default").await, Ok(1));
    assert!(redis::cmd("PING").query_async::<()>(&mut pooled).await.is_err());
}

#[tokio::test]
async fn no_password_is_found_out() {
    let server = start(without_users(PasswordIn::Nowhere));
    let (node, service) = node_of(&server);
    assert_eq!(prove(&service, "default", "anything").await, Proof::AcceptsAnything);
    let session = node.session(with("default", &value("anything"))).await.unwrap();
    let before = session.state("default").await.unwrap().unwrap();
    assert!(before.takes_anything);
    session.set("default", &value("new")).await.unwrap();
    assert_eq!(prove(&service, "default", "new").await, Proof::Holds);
    session.restore("default", &before, &value("unused")).await.unwrap();
    assert_eq!(prove(&service, "default", "anything").await, Proof::AcceptsAnything);
}

/// Answers to `AUTH` as version 5 does: with a user it is one argument too many.
async fn version_5(password: Option<&'static str>) -> u16 {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let port = listener.local_addr().expect("bound").port();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(answer(stream, password));
        }
    });
    port
}

async fn answer(stream: tokio::net::TcpStream, password: Option<&str>) {
    let (read, mut write) = stream.into_split();
    let mut lines = BufReader::new(read).lines();
    while let Ok(Some(head)) = lines.next_line().await {
        let count: usize = head.trim_start_matches('*').parse().expect("an array of texts");
        let mut words = Vec::new();
        for _ in 0..count {
            lines.next_line().await.expect("a length");
            words.push(lines.next_line().await.expect("a text").expect("a text"));
        }
        let reply = match (words[0].as_str(), words.len(), password) {
            ("AUTH", 3, _) => "-ERR wrong number of arguments for 'auth' command",
            ("AUTH", _, None) => "-ERR Client sent AUTH, but no password is set",
            ("AUTH", _, Some(password)) if words[1] == password => "+OK",
            ("AUTH", ..) => "-ERR invalid password",
            _ => "+PONG",
        };
        write.write_all(format!("{reply}\r\n").as_bytes()).await.expect("the client listens");
    }
}

#[tokio::test]
async fn logins_that_know_no_users() {
    let port = version_5(Some("secret")).await;
    let service_at = |port| service(Kind::Redis, &format!("redis://127.0.0.1:{port}"));
    assert_eq!(prove(&service_at(port), "default", "secret").await, Proof::Holds);
    assert_eq!(logins(&service_at(port), "default", &["wrong"]).await, [Login::Refused]);
    let named = service_at(port).login("app", &value("secret")).await;
    assert!(matches!(named, Login::Unreachable(_)), "{named:?}");
    let open = version_5(None).await;
    assert_eq!(prove(&service_at(open), "default", "secret").await, Proof::AcceptsAnything);
}
