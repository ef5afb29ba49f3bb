//! Postgres: one role, its password and its sessions.

use std::path::Path;

use reseal_rotate::plan::Kind;
use reseal_rotate::services::postgres::{Node, Stored, Verifier};
use reseal_rotate::services::{Login, Proof, Service, ServiceError};
use reseal_sandbox::postgres::{Options, Server};
use tokio_postgres::{Client, NoTls};

use crate::{logins, prove, service, value, with};

/// The password that role `app` begins with.
pub(crate) const OLD: &str = "old-password";

/// A private server with role `app`.
pub(crate) struct Scene {
    pub(crate) server: Server,
    pub(crate) root: Client,
    pub(crate) node: Node,
    pub(crate) service: Service,
}

impl Scene {
    pub(crate) async fn new(settings: &[(&str, &str)]) -> Self {
        let options = Options { listen_tcp: true, durable: false, ..Options::default() };
        let options = settings.iter().fold(options, |options, (name, value)| options.set(name, value));
        let server = Server::start(options).expect("a private Postgres (package postgresql)");
        let root = server.connect().await.expect("connects");
        for statement in ["CREATE ROLE app LOGIN", "CREATE DATABASE app OWNER app"] {
            root.batch_execute(statement).await.expect("a role and its database");
        }
        let port = server.tcp_port().expect("listens");
        let url = format!("postgresql://app@127.0.0.1:{port}/app");
        let Service::Postgres(node) = service(Kind::Postgres, &url) else { panic!("another kind") };
        let service = Service::Postgres(node.clone());
        let scene = Self { server, root, node, service };
        scene.sql("ALTER ROLE app PASSWORD 'old-password'").await;
        scene
    }

    pub(crate) async fn sql(&self, statement: &str) {
        self.root.batch_execute(statement).await.unwrap_or_else(|error| panic!("{statement}: {error:?}"));
    }

    pub(crate) async fn text(&self, query: &str) -> Option<String> {
        self.root.query_one(query, &[]).await.expect("answers").get(0)
    }

    async fn stored(&self) -> Option<String> {
        self.text("SELECT rolpassword FROM pg_authid WHERE rolname = 'app'").await
    }

    pub(crate) async fn as_root(&self) -> reseal_rotate::services::postgres::Session {
        let password = value(self.server.password());
        self.node.session(with("postgres", &password)).await.expect("logs in")
    }

    /// An application's own connection.
    pub(crate) async fn open(&self, role: &str, password: &str) -> Client {
        let mut config = tokio_postgres::Config::new();
        config.host("127.0.0.1").port(self.server.tcp_port().expect("listens"));
        config.user(role).password(password).dbname("app");
        let (client, connection) = config.connect(NoTls).await.expect("connects");
        tokio::spawn(connection);
        client
    }
}

#[tokio::test]
async fn a_role_changes_its_own_password_and_back() {
    let scene = Scene::new(&[]).await;
    assert_eq!(prove(&scene.service, "app", OLD).await, Proof::Holds);
    let (old, new) = (value(OLD), value("new"));
    let session = scene.node.session(with("app", &old)).await.unwrap();
    session.may_set("app").await.unwrap();
    let before = session.state("app").await.unwrap().unwrap();
    assert_eq!(before.stored, Stored::Hidden, "not a superuser");
    session.set("app", &Verifier::of(&new)).await.unwrap();
    assert_eq!(logins(&scene.service, "app", &[OLD, "new"]).await, [Login::Refused, Login::Accepted]);
    assert_eq!(prove(&scene.service, "app", "new").await, Proof::Holds);
    assert_eq!(prove(&scene.service, "app", OLD).await, Proof::Refused);

    let session = scene.node.session(with("app", &new)).await.unwrap();
    session.restore("app", &before, &Verifier::of(&old)).await.unwrap();
    assert_eq!(logins(&scene.service, "app", &[OLD, "new"]).await, [Login::Accepted, Login::Refused]);
}

#[tokio::test]
async fn a_superuser_brings_the_same_verifier_back() {
    let scene = Scene::new(&[]).await;
    scene.sql("ALTER ROLE app VALID UNTIL '2099-01-01'").await;
    let stored = scene.stored().await;
    let session = scene.as_root().await;
    let before = session.state("app").await.unwrap().unwrap();
    assert!(matches!(&before.stored, Stored::Verifier(verifier) if verifier.is_scram()));
    session.set("app", &Verifier::of(&value("new"))).await.unwrap();
    session.retire("app").await.unwrap();
    assert_eq!(logins(&scene.service, "app", &[OLD, "new"]).await, [Login::Refused, Login::Refused]);
    session.restore("app", &before, &Verifier::of(&value("unused"))).await.unwrap();
    assert_eq!(scene.stored().await, stored);
    assert_eq!(session.state("app").await.unwrap().unwrap(), before);
    assert_eq!(prove(&scene.service, "app", OLD).await, Proof::Holds);
}

#[tokio::test]
async fn the_same_verifier_again_changes_nothing() {
    let scene = Scene::new(&[]).await;
    let (session, verifier) = (scene.as_root().await, Verifier::of(&value("new")));
    session.set("app", &verifier).await.unwrap();
    let stored = scene.stored().await;
    session.set("app", &verifier).await.unwrap();
    assert_eq!(scene.stored().await, stored);
    assert_eq!(session.state("app").await.unwrap().unwrap().stored, Stored::Verifier(verifier));
}

#[tokio::test]
async fn fault_trust_is_found_out() {
    let scene = Scene::new(&[]).await;
    let socket = service(Kind::Postgres, &scene.server.url());
    assert_eq!(logins(&socket, "app", &[OLD]).await, [Login::Accepted]);
    assert_eq!(prove(&socket, "app", OLD).await, Proof::AcceptsAnything);
}

#[tokio::test]
async fn what_says_nothing_about_the_value_is_not_a_refusal() {
    let mut scene = Scene::new(&[]).await;
    let port = scene.server.tcp_port().unwrap();
    let other = service(Kind::Postgres, &format!("postgresql://app@127.0.0.1:{port}/no_such_database"));
    let unreachable = |login: &Login| matches!(login, Login::Unreachable(_));
    assert!(unreachable(&other.login("app", &value(OLD)).await));
    assert_eq!(other.login("app", &value("wrong")).await, Login::Refused);
    scene.sql("ALTER ROLE app NOLOGIN").await;
    assert_eq!(scene.service.login("app", &value(OLD)).await, Login::Refused);
    scene.server.stop().unwrap();
    assert!(unreachable(&scene.service.login("app", &value(OLD)).await));
    assert!(matches!(prove(&scene.service, "app", OLD).await, Proof::Unreachable(_)));
    let refused = scene.node.session(with("app", &value(OLD))).await.unwrap_err();
    assert!(matches!(refused, ServiceError::Unreachable { .. }), "{refused}");
}

#[tokio::test]
async fn a_server_that_does_not_answer_is_unreachable() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        // Accepts and closes at once: what a balancer without servers does.
        while let Ok((stream, _)) = listener.accept().await {
            drop(stream);
        }
    });
    let service = service(Kind::Postgres, &format!("postgresql://app@127.0.0.1:{port}/app"));
    assert!(matches!(service.login("app", &value(OLD)).await, Login::Unreachable(_)));
}

#[tokio::test]
async fn rights_are_known_before_anything_is_tried() {
    let scene = Scene::new(&[]).await;
    scene.sql("CREATE ROLE plain LOGIN PASSWORD 'p'; CREATE ROLE maker LOGIN CREATEROLE PASSWORD 'm'").await;
    let session = scene.node.session(with("plain", &value("p"))).await.unwrap();
    assert_eq!(session.user(), "plain");
    let rights = |result: Result<(), ServiceError>| matches!(result, Err(ServiceError::Rights { .. }));
    assert!(rights(session.may_set("app").await));
    assert!(rights(session.set("app", &Verifier::of(&value("new"))).await), "the server agrees");
    let open = scene.open("app", OLD).await;
    assert!(rights(session.end_sessions("app").await.map(drop)));
    open.simple_query("SELECT 1").await.expect("still open");
    let maker = scene.node.session(with("maker", &value("m"))).await.unwrap();
    assert!(rights(maker.may_set("postgres").await));
    assert!(rights(maker.set("postgres", &Verifier::of(&value("new"))).await), "the server agrees");
    let root = scene.as_root().await;
    root.may_set("postgres").await.unwrap();
    let missing = root.may_set("nobody").await.unwrap_err();
    assert!(matches!(missing, ServiceError::NoUser { .. }), "{missing}");
    assert!(root.state("nobody").await.unwrap().is_none());
    assert!(matches!(
        root.set("nobody", &Verifier::of(&value("new"))).await,
        Err(ServiceError::NoUser { .. })
    ));
    assert_eq!(prove(&scene.service, "app", OLD).await, Proof::Holds, "nothing was changed");
}

#[tokio::test]
async fn fault_a_value_that_the_server_has_a_rule_against() {
    let scene = Scene::new(&[("shared_preload_libraries", "passwordcheck")]).await;
    let session = scene.as_root().await;
    let refused = session.set("app", &Verifier::of(&value("app"))).await.unwrap_err();
    assert!(refused.wants_another_value(), "{refused}");
    assert!(!refused.to_string().contains("SCRAM"), "{refused}");
    assert_eq!(prove(&scene.service, "app", OLD).await, Proof::Holds, "nothing was changed");
    session.set("app", &Verifier::of(&value("another"))).await.unwrap();
    assert_eq!(prove(&scene.service, "app", "another").await, Proof::Holds);
}

#[tokio::test]
async fn open_sessions_hide_a_new_password_until_they_are_ended() {
    let scene = Scene::new(&[]).await;
    let pooled = scene.open("app", OLD).await;
    let session = scene.as_root().await;
    session.set("app", &Verifier::of(&value("new"))).await.unwrap();
    pooled.simple_query("SELECT 1").await.expect("what is open stays open");
    assert_eq!(scene.service.login("app", &value(OLD)).await, Login::Refused, "but nothing new opens");
    assert_eq!(session.sessions("app").await, Ok(1));
    assert_eq!(session.end_sessions("app").await, Ok(1));
    assert!(pooled.simple_query("SELECT 1").await.is_err());
    assert_eq!(session.end_sessions("app").await, Ok(0));
}

#[tokio::test]
async fn a_standby_is_found_and_not_changed() {
    let mut scene = Scene::new(&[]).await;
    let session = scene.as_root().await;
    assert!(!session.is_standby());
    scene.server.stop().unwrap();
    std::fs::write(scene.server.data_dir().join("standby.signal"), "").unwrap();
    scene.server.restart().unwrap();
    let session = scene.as_root().await;
    assert!(session.is_standby());
    let standby = |result: Result<(), ServiceError>| matches!(result, Err(ServiceError::Standby { .. }));
    assert!(standby(session.may_set("app").await));
    assert!(standby(session.set("app", &Verifier::of(&value("new"))).await));
    assert_eq!(prove(&scene.service, "app", OLD).await, Proof::Holds, "a login is proved there all the same");
}

#[tokio::test]
async fn a_peer_comes_through_the_socket() {
    let scene = Scene::new(&[]).await;
    let access = reseal_rotate::services::Access::Peer { user: "postgres" };
    let Service::Postgres(node) = service(Kind::Postgres, &scene.server.url()) else {
        panic!("another kind")
    };
    let session = node.session(access).await.unwrap();
    session.set("app", &Verifier::of(&value("new"))).await.unwrap();
    assert_eq!(prove(&scene.service, "app", "new").await, Proof::Holds);
}

#[test]
fn addresses_are_judged_without_a_server() {
    let new = |kind, url| {
        Service::new(kind, "db", url, None, Path::new("/")).map(|node| node.user().map(str::to_owned))
    };
    assert_eq!(new(Kind::Postgres, "postgresql://app@h/d").unwrap().as_deref(), Some("app"));
    assert_eq!(new(Kind::Redis, "redis://h:6379").unwrap().as_deref(), Some("default"));
    for (kind, url) in
        [(Kind::Postgres, "not an address"), (Kind::Redis, "http://h"), (Kind::Mysql, "mysql://h")]
    {
        assert!(matches!(new(kind, url), Err(ServiceError::Address { .. })), "{url}");
    }
}
