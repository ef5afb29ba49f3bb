//! The wire that can be cut, before a real Postgres.

#![allow(clippy::unwrap_used, reason = "helpers of tests may panic")]

use std::time::Duration;

use reseal_sandbox::postgres::{Options, Server};
use reseal_sandbox::proxy::{Fault, Proxy, Target};
use tokio::time::timeout;
use tokio_postgres::{Client, NoTls};

struct Scene {
    server: Server,
    proxy: Proxy,
    client: Client,
}

impl Scene {
    async fn new() -> Self {
        let server = Server::start(Options::default()).unwrap();
        let socket = server.socket_dir().join(".s.PGSQL.5432");
        let proxy = Proxy::start(Target::Unix(socket)).unwrap();
        let mut config = tokio_postgres::Config::new();
        config.host("127.0.0.1").port(proxy.port()).user("postgres").dbname("postgres");
        let (client, connection) = config.connect(NoTls).await.unwrap();
        tokio::spawn(connection);
        client.batch_execute("CREATE TABLE t (n int)").await.unwrap();
        Self { server, proxy, client }
    }

    async fn insert(&self) -> Result<(), tokio_postgres::Error> {
        self.client.batch_execute("INSERT INTO t VALUES (1)").await
    }

    async fn rows(&self) -> i64 {
        let client = self.server.connect().await.unwrap();
        client.query_one("SELECT count(*) FROM t", &[]).await.unwrap().get(0)
    }
}

#[tokio::test]
async fn without_a_fault_everything_passes() {
    let scene = Scene::new().await;
    scene.insert().await.unwrap();
    assert_eq!((scene.rows().await, scene.proxy.faults(), scene.proxy.connections()), (1, 0, 1));
}

#[tokio::test]
async fn cut_before_the_request_keeps_it_from_the_server() {
    let scene = Scene::new().await;
    scene.proxy.arm(b"INSERT", Fault::CutBeforeRequest);
    assert!(scene.insert().await.is_err());
    assert_eq!((scene.rows().await, scene.proxy.faults()), (0, 1));
}

#[tokio::test]
async fn cut_before_the_reply_leaves_the_request_done() {
    let scene = Scene::new().await;
    scene.proxy.arm(b"INSERT", Fault::CutBeforeReply);
    assert!(scene.insert().await.is_err());
    assert_eq!(scene.rows().await, 1);
}

#[tokio::test]
async fn a_stalled_line_stays_open_and_silent() {
    let scene = Scene::new().await;
    scene.proxy.arm(b"INSERT", Fault::Stall);
    assert!(timeout(Duration::from_millis(300), scene.insert()).await.is_err());
    assert!(!scene.client.is_closed());
    assert_eq!(scene.rows().await, 1);
}

#[tokio::test]
async fn a_half_closed_line_brings_the_reply() {
    let scene = Scene::new().await;
    scene.proxy.arm(b"INSERT", Fault::HalfClose);
    scene.insert().await.unwrap();
    assert!(timeout(Duration::from_secs(10), scene.insert()).await.unwrap().is_err());
    assert_eq!(scene.rows().await, 1);
}
