//! What the servers write down of a change: never the value. Each place is first shown a planted one.

use std::time::Duration;

use reseal_rotate::plan::Kind;
use reseal_rotate::services::postgres::Verifier;
use reseal_rotate::services::postgres::alternate::{self, Pair};
use reseal_rotate::services::redis::PasswordHash;
use reseal_rotate::services::{Login, Proof, ServiceError};
use reseal_sandbox::redis::{Options, PasswordIn, Server};

use super::postgres::{OLD, Scene};
use super::redis::{command, node_of};
use crate::{logins, prove, service, value, with};

/// What no place may show.
const VALUE: &str = "canary-of-the-new-value";
/// What shows that a place would.
const PLANTED: &str = "planted-in-clear";

const LOUD: [(&str, &str); 5] = [
    ("shared_preload_libraries", "pg_stat_statements"),
    ("pg_stat_statements.track_utility", "on"),
    ("log_statement", "all"),
    ("log_min_duration_statement", "0"),
    ("log_connections", "on"),
];

async fn log_of(scene: &Scene) -> String {
    // The server writes its log before it answers.
    scene.sql("SELECT 'end of the log'").await;
    std::fs::read_to_string(scene.server.log_path()).expect("a log")
}

async fn statements_of(scene: &Scene) -> String {
    scene.text("SELECT string_agg(query, E'\\n') FROM pg_stat_statements").await.unwrap_or_default()
}

#[tokio::test]
async fn postgres_logs_no_value() {
    let scene = Scene::new(&LOUD).await;
    scene.sql("CREATE EXTENSION pg_stat_statements; CREATE ROLE plain LOGIN PASSWORD 'p'").await;
    scene.sql(&format!("ALTER ROLE app PASSWORD '{PLANTED}'")).await;
    scene.sql(&format!("ALTER ROLE app PASSWORD '{OLD}'")).await;
    assert!(log_of(&scene).await.contains(PLANTED));
    assert!(statements_of(&scene).await.contains(PLANTED));

    let (new, verifier) = (value(VALUE), Verifier::of(&value(VALUE)));
    // A superuser keeps even the verifier out, failing statements included.
    let root = scene.as_root().await;
    let before = root.state("app").await.unwrap().unwrap();
    root.set("app", &verifier).await.unwrap();
    assert_eq!(prove(&scene.service, "app", VALUE).await, Proof::Holds);
    root.restore("app", &before, &verifier).await.unwrap();
    assert!(matches!(root.set("nobody", &verifier).await, Err(ServiceError::NoUser { .. })));
    scene.sql("CREATE ROLE app_owner; GRANT app_owner TO app; ALTER ROLE app SET role TO app_owner").await;
    let pair = Pair { active: "app", idle: "app_b", owner: "app_owner" };
    alternate::prepare(&root, pair, &verifier).await.unwrap();
    alternate::undo(&root, pair.idle, None, &verifier).await.unwrap();
    for place in [log_of(&scene).await, statements_of(&scene).await] {
        assert!(!place.contains(VALUE));
        // Planted and set back above, by plain statements: those two hold no verifier either.
        assert!(!place.contains("SCRAM-SHA-256$"), "{place}");
    }
    // Others cannot; what the server writes down then is the verifier.
    let plain = scene.node.session(with("plain", &value("p"))).await.unwrap();
    assert!(matches!(plain.set("app", &verifier).await, Err(ServiceError::Rights { .. })));
    let own = scene.node.session(with("app", &value(OLD))).await.unwrap();
    own.set("app", &verifier).await.unwrap();
    assert_eq!(logins(&scene.service, "app", &[VALUE, "wrong"]).await, [Login::Accepted, Login::Refused]);
    let own = scene.node.session(with("app", &new)).await.unwrap();
    own.set("app", &Verifier::of(&value(OLD))).await.unwrap();
    for place in [log_of(&scene).await, statements_of(&scene).await] {
        assert!(!place.contains(VALUE));
        assert!(place.contains("SCRAM-SHA-256$4096:"));
    }
}

/// What the slow log holds; the server was told that everything is slow.
async fn slow_log(server: &Server, password: &str) -> String {
    let entries = command(server, password, &["SLOWLOG", "GET", "1000"]).await;
    format!("{entries:?}").replace("\\\"", "\"")
}

#[tokio::test]
async fn redis_shows_no_value() {
    for place in [PasswordIn::ConfigFile, PasswordIn::AclFile, PasswordIn::Arguments] {
        let slow =
            |options: Options| options.set("slowlog-log-slower-than", "0").set("slowlog-max-len", "1000");
        let server =
            Server::start(slow(Options::with(place))).expect("a private Redis (package redis-server)");
        let replica = server.start_replica(slow(Options::with(place))).expect("a second one");
        let old = server.password().to_owned();
        let monitors = [server.monitor(&old).await.unwrap(), replica.monitor(&old).await.unwrap()];
        let mut written = Vec::new();
        for at in [&server, &replica] {
            command(at, &old, &["ECHO", PLANTED]).await.unwrap();
            written.push(slow_log(at, &old).await);
        }
        for monitor in &monitors {
            written.push(format!("{:?}", monitor.until(PLANTED).await.expect("MONITOR shows it")));
        }
        assert!(written.iter().all(|text| text.contains(PLANTED)), "{written:?}");

        let new = value(VALUE);
        let hash = PasswordHash::of(&new);
        for at in [&server, &replica] {
            let (node, service) = node_of(at);
            let session = node.session(with("default", &value(&old))).await.unwrap();
            let before = session.state("default").await.unwrap().unwrap();
            session.add("default", &hash).await.unwrap();
            session.persist().await.unwrap();
            assert_eq!(prove(&service, "default", VALUE).await, Proof::Holds);
            session.set_primary_login(&new).await.unwrap();
            assert_eq!(session.has_primary_login(&new).await, Ok(true));
            session.remove("default", &[PasswordHash::of(&value(&old))]).await.unwrap();
            session.set("default", &new).await.unwrap();
            session.restore("default", &before, &value(&old)).await.unwrap();
            command(at, &old, &["ECHO", "the end"]).await.unwrap();
        }
        for (at, monitor) in [&server, &replica].into_iter().zip(&monitors) {
            let lines = format!("{:?}", monitor.until("the end").await.expect("MONITOR goes on"));
            let slow = slow_log(at, &old).await;
            assert!(!lines.contains(VALUE), "{lines}");
            assert!(!slow.contains(VALUE), "{slow}");
            assert!(slow.contains("SETUSER") && slow.contains("masterauth"), "{slow}");
            let log = std::fs::read_to_string(at.log_path()).unwrap();
            assert!(!log.contains(VALUE) && log.contains("Ready to accept connections"), "{log}");
        }
    }
}

#[tokio::test]
async fn a_value_is_not_repeated_by_an_error() {
    let server =
        Server::start(Options::default().set("rename-command", "CONFIG \"\"")).expect("a private Redis");
    let old = server.password().to_owned();
    let (node, _) = node_of(&server);
    let session = node.session(with("default", &value(&old))).await.unwrap();
    let told =
        command(&server, &old, &["CONFIG", "SET", "masterauth", PLANTED]).await.unwrap_err().to_string();
    assert!(told.contains(PLANTED), "the server does repeat it: {told}");
    let error = session.set_primary_login(&value(VALUE)).await.unwrap_err();
    assert!(!format!("{error} {error:?}").contains(VALUE), "{error}");
    assert!(error.to_string().contains("unknown command"), "{error}");
}

#[tokio::test]
async fn a_login_that_hangs_ends() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let postgres = service(Kind::Postgres, &format!("postgresql://app@127.0.0.1:{port}/app"));
    let redis = service(Kind::Redis, &format!("redis://127.0.0.1:{port}"));
    let secret = value("v");
    let both = async { tokio::join!(postgres.login("app", &secret), redis.login("app", &secret)) };
    let (postgres, redis) = tokio::time::timeout(Duration::from_secs(25), both).await.expect("both end");
    for login in [postgres, redis] {
        assert!(matches!(login, Login::Unreachable(_)), "{login:?}");
    }
}
