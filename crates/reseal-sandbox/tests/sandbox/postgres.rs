//! The private Postgres itself: starts, recovers, leaves nothing behind.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use reseal_sandbox::postgres::{Options, Server};

#[tokio::test]
async fn starts_answers_and_goes_without_leftovers() {
    let server = Server::start(Options::default()).unwrap();
    let (directory, pid) = (server.directory().to_owned(), server.pid().unwrap());
    let client = server.connect().await.unwrap();
    let statement = "SELECT count(md5(n::text)) FROM generate_series(1, 200000) AS n";
    let counted: i64 = client.query_one(statement, &[]).await.unwrap().get(0);
    assert_eq!(counted, 200_000);
    assert!(server.cpu_seconds().is_none_or(|seconds| seconds > 0.0));
    drop(server);
    assert!(!directory.exists());
    assert!(!runs(pid.as_raw_nonzero().get()));
}

#[tokio::test]
async fn url_of_the_socket_connects() {
    let server = Server::start(Options::default()).unwrap();
    let config: tokio_postgres::Config = server.url().parse().unwrap();
    assert!(config.connect(tokio_postgres::NoTls).await.is_ok());
}

#[tokio::test]
async fn committed_data_survives_kill_9() {
    let mut server = Server::start(Options::default()).unwrap();
    let client = server.connect().await.unwrap();
    client.batch_execute("CREATE TABLE t AS SELECT generate_series(1, 1000) AS n").await.unwrap();
    server.kill_9().unwrap();
    assert!(server.pid().is_none());
    assert!(client.simple_query("SELECT 1").await.is_err());
    server.restart().unwrap();
    let client = server.connect().await.unwrap();
    let rows: i64 = client.query_one("SELECT count(*) FROM t", &[]).await.unwrap().get(0);
    assert_eq!(rows, 1000);
    server.stop().unwrap();
    server.restart().unwrap();
    assert!(server.connect().await.is_ok());
}

#[tokio::test]
async fn tcp_asks_for_the_password() {
    let server = Server::start(Options { listen_tcp: true, ..Options::default() }).unwrap();
    let mut config: tokio_postgres::Config = server.tcp_url().unwrap().parse().unwrap();
    config.password(server.password());
    assert!(config.connect(tokio_postgres::NoTls).await.is_ok());
    config.password("wrong");
    assert!(config.connect(tokio_postgres::NoTls).await.is_err());
}

#[tokio::test]
async fn several_servers_run_side_by_side() {
    let servers: Vec<_> = (0..2).map(|_| std::thread::spawn(|| Server::start(Options::default()))).collect();
    let servers: Vec<_> = servers.into_iter().map(|thread| thread.join().unwrap().unwrap()).collect();
    for server in &servers {
        assert!(server.connect().await.is_ok());
    }
    assert_ne!(servers[0].directory(), servers[1].directory());
}

#[test]
fn a_setting_that_the_server_refuses_is_told() {
    let error = Server::start(Options::default().set("shared_buffers", "nonsense")).unwrap_err();
    assert!(error.to_string().contains("shared_buffers"), "{error}");
}

#[test]
fn settings_and_log_are_used() {
    let server = Server::start(Options::default().set("log_statement", "all")).unwrap();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        server.connect().await.unwrap().batch_execute("SELECT 'a line in the log'").await.unwrap();
    });
    let log = std::fs::read_to_string(server.log_path()).unwrap();
    assert!(log.contains("a line in the log"));
}

/// Not a test of its own: the process that [`a_killed_parent_leaves_nothing`] kills.
#[test]
fn parent_that_is_killed() {
    let Ok(file) = std::env::var("RESEAL_SANDBOX_TELL") else { return };
    let server = Server::start(Options::default()).unwrap();
    let told = format!("{}\n{}\n", server.directory().display(), server.pid().unwrap().as_raw_nonzero());
    std::fs::write(file, told).unwrap();
    std::thread::sleep(Duration::from_secs(60));
}

#[test]
fn a_killed_parent_leaves_nothing() {
    let scratch = tempfile::tempdir().unwrap();
    let tell = scratch.path().join("tell");
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "postgres::parent_that_is_killed"])
        .env("RESEAL_SANDBOX_TELL", &tell)
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let told = wait_for(|| std::fs::read_to_string(&tell).ok().filter(|told| told.lines().count() == 2));
    child.kill().unwrap();
    child.wait().unwrap();
    let (directory, pid) = told.trim_end().split_once('\n').unwrap();
    let pid = pid.parse().unwrap();
    wait_for(|| (!runs(pid) && !Path::new(directory).exists()).then_some(()));
}

fn wait_for<T>(mut probe: impl FnMut() -> Option<T>) -> T {
    let begin = Instant::now();
    loop {
        if let Some(found) = probe() {
            return found;
        }
        assert!(begin.elapsed() < Duration::from_secs(60), "waited for a minute");
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn runs(pid: i32) -> bool {
    rustix::process::Pid::from_raw(pid).is_some_and(|pid| rustix::process::test_kill_process(pid).is_ok())
}

/// The request for TLS of the protocol, and its one-letter answer: `S` for yes.
#[cfg(feature = "tls")]
#[test]
fn tls_is_offered_when_asked_for() {
    use std::io::{Read, Write};
    let server = Server::start(Options { listen_tcp: true, tls: true, ..Options::default() }).unwrap();
    let mut wire = std::net::TcpStream::connect(("127.0.0.1", server.tcp_port().unwrap())).unwrap();
    wire.write_all(&[0, 0, 0, 8, 4, 210, 22, 47]).unwrap();
    let mut answer = [0];
    wire.read_exact(&mut answer).unwrap();
    assert_eq!(&answer, b"S");
    assert!(std::fs::read_to_string(server.ca_certificate()).unwrap().contains("BEGIN CERTIFICATE"));
}
