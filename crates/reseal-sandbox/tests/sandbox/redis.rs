//! The private Redis itself: starts with its password in each place, restarts, follows, leaves nothing behind.

use reseal_sandbox::SandboxError;
use reseal_sandbox::redis::{Options, PasswordIn, Server};

async fn ping(server: &Server, password: &str) -> Result<String, SandboxError> {
    let mut connection = server.connect(password).await?;
    Ok(redis::cmd("PING").query_async(&mut connection).await?)
}

#[tokio::test]
async fn asks_for_the_password_wherever_it_is() {
    use PasswordIn::{AclFile, Arguments, ArgumentsOverFile, ConfigFile};
    for place in [ConfigFile, AclFile, Arguments, ArgumentsOverFile] {
        let mut server = Server::start(Options::with(place)).unwrap();
        for _ in 0..2 {
            assert_eq!(ping(&server, server.password()).await.unwrap(), "PONG", "{place:?}");
            assert!(ping(&server, "wrong").await.is_err(), "{place:?}");
            server.kill_9().unwrap();
            server.restart().unwrap();
        }
    }
    let open = Server::start(Options::with(PasswordIn::Nowhere)).unwrap();
    assert_eq!(ping(&open, "").await.unwrap(), "PONG");
}

#[tokio::test]
async fn goes_without_leftovers() {
    let server = Server::start(Options::default()).unwrap();
    let (directory, pid) = (server.directory().to_owned(), server.pid().unwrap());
    drop(server);
    assert!(!directory.exists());
    assert!(rustix::process::test_kill_process(pid).is_err());
}

#[tokio::test]
async fn recreated_with_another_password() {
    let mut server = Server::start(Options::with(PasswordIn::Arguments)).unwrap();
    let old = server.password().to_owned();
    server.recreate("another").unwrap();
    assert!(ping(&server, &old).await.is_err());
    assert_eq!(ping(&server, "another").await.unwrap(), "PONG");
}

#[tokio::test]
async fn replica_follows() {
    let server = Server::start(Options::default()).unwrap();
    let replica = server.start_replica(Options::default()).unwrap();
    let mut connection = server.connect(server.password()).await.unwrap();
    let mut follower = replica.connect(server.password()).await.unwrap();
    let _: () = redis::cmd("SET").arg("k").arg("v").query_async(&mut connection).await.unwrap();
    for _ in 0..1_000 {
        let value: Option<String> = redis::cmd("GET").arg("k").query_async(&mut follower).await.unwrap();
        if value.as_deref() == Some("v") {
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    panic!("the replica did not follow");
}

#[tokio::test]
async fn monitor_shows_commands() {
    let server = Server::start(Options::default()).unwrap();
    let monitor = server.monitor(server.password()).await.unwrap();
    let mut connection = server.connect(server.password()).await.unwrap();
    let _: String = redis::cmd("ECHO").arg("planted").query_async(&mut connection).await.unwrap();
    assert!(monitor.until("planted").await.is_some());
}

#[test]
fn a_program_that_does_not_start_says_why() {
    let error = Server::start(Options::default().set("no-such-setting", "1")).unwrap_err();
    assert!(error.to_string().contains("no-such-setting"), "{error}");
}
