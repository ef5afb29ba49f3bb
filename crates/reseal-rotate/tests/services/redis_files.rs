//! Redis: what survives a restart, here and at replicas.

use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use reseal_rotate::services::redis::{PasswordHash, Persistence, Replica, Session};
use reseal_rotate::services::{Login, Proof, ServiceError};
use reseal_sandbox::redis::{Options, PasswordIn, Server};

use super::redis::{command, node_of, start};
use crate::{logins, prove, value, with};

async fn login(server: &Server, password: &str) -> Session {
    node_of(server).0.session(with("default", &value(password))).await.expect("logs in")
}

fn crash(server: &mut Server) {
    server.kill_9().expect("dies");
    server.restart().expect("starts again");
}

#[tokio::test]
async fn both_values_and_then_the_new_one_survive_a_crash() {
    for (place, expected) in [
        (PasswordIn::ConfigFile, Persistence::ConfigFile),
        (PasswordIn::AclFile, Persistence::AclFile),
        // The users in the file come after the arguments.
        (PasswordIn::ArgumentsOverFile, Persistence::ConfigFile),
    ] {
        let mut server = start(Options::with(place));
        let old = server.password().to_owned();
        let (_, service) = node_of(&server);
        let session = login(&server, &old).await;
        session.add("default", &PasswordHash::of(&value("new"))).await.unwrap();
        assert_eq!(session.persist().await, Ok(expected));
        crash(&mut server);
        assert_eq!(
            logins(&service, "default", &[&old, "new"]).await,
            [Login::Accepted, Login::Accepted],
            "{place:?}"
        );

        let session = login(&server, "new").await;
        session.remove("default", &[PasswordHash::of(&value(&old))]).await.unwrap();
        for _ in 0..2 {
            assert_eq!(session.persist().await, Ok(expected));
        }
        crash(&mut server);
        assert_eq!(logins(&service, "default", &[&old]).await, [Login::Refused], "{place:?}");
        assert_eq!(prove(&service, "default", "new").await, Proof::Holds, "{place:?}");
    }
}

#[tokio::test]
async fn fault_a_value_that_nobody_writes_reverts() {
    let mut server = start(Options::default());
    let old = server.password().to_owned();
    let (_, service) = node_of(&server);
    login(&server, &old).await.set("default", &value("new")).await.unwrap();
    assert_eq!(logins(&service, "default", &[&old, "new"]).await, [Login::Refused, Login::Accepted]);
    crash(&mut server);
    assert_eq!(logins(&service, "default", &[&old, "new"]).await, [Login::Accepted, Login::Refused]);
}

#[tokio::test]
async fn fault_a_password_among_the_arguments_reverts_and_is_told() {
    let mut server = start(Options::with(PasswordIn::Arguments));
    let old = server.password().to_owned();
    let (_, service) = node_of(&server);
    let session = login(&server, &old).await;
    session.add("default", &PasswordHash::of(&value("new"))).await.unwrap();
    assert_eq!(session.persist().await, Ok(Persistence::Arguments));
    crash(&mut server);
    assert_eq!(logins(&service, "default", &[&old, "new"]).await, [Login::Accepted, Login::Refused]);
    server.recreate("new").unwrap();
    assert_eq!(logins(&service, "default", &[&old]).await, [Login::Refused]);
    assert_eq!(prove(&service, "default", "new").await, Proof::Holds);
}

#[tokio::test]
async fn fault_a_file_that_the_server_cannot_write_is_told() {
    for place in [PasswordIn::ConfigFile, PasswordIn::AclFile] {
        let server = start(Options::with(place));
        let session = login(&server, server.password()).await;
        let mode = |bits| {
            std::fs::set_permissions(server.directory(), std::fs::Permissions::from_mode(bits)).expect("ours")
        };
        mode(0o500);
        let refused = session.persist().await;
        mode(0o700);
        assert!(matches!(refused, Err(ServiceError::NotPersistent { .. })), "{place:?}: {refused:?}");
        session.persist().await.unwrap();
    }
}

#[tokio::test]
async fn a_provider_that_hides_its_configuration_is_told() {
    let server = start(Options::default().set("rename-command", "CONFIG \"\""));
    let session = login(&server, server.password()).await;
    assert_eq!(session.persist().await, Ok(Persistence::Unknown));
    session.add("default", &PasswordHash::of(&value("new"))).await.unwrap();
    assert_eq!(prove(&node_of(&server).1, "default", "new").await, Proof::Holds);
}

/// Waits until the replica is in touch with its primary.
async fn in_touch(server: &Server, password: &str) -> bool {
    for _ in 0..500 {
        if login(server, password).await.follows().await == Ok(Some(true)) {
            return true;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    false
}

#[tokio::test]
async fn a_replica_changes_with_its_primary() {
    for place in [PasswordIn::ConfigFile, PasswordIn::AclFile] {
        let primary = start(Options::with(place));
        let mut replica = primary.start_replica(Options::with(place)).expect("a second one");
        let old = primary.password().to_owned();
        assert!(in_touch(&replica, &old).await);
        let session = login(&primary, &old).await;
        assert_eq!(session.follows().await, Ok(None));
        let found = Replica { host: "127.0.0.1".into(), port: replica.port() };
        assert_eq!(session.replicas().await, Ok(vec![found.clone()]));
        let follower = node_of(&primary).0.beside(&found.host, found.port);
        let follower = follower.session(with("default", &value(&old))).await.unwrap();
        assert_eq!(follower.primary_user().await.as_deref(), Ok("default"));

        let (old_hash, new_hash) = (PasswordHash::of(&value(&old)), PasswordHash::of(&value("new")));
        for session in [&session, &follower] {
            session.add("default", &new_hash).await.unwrap();
            session.persist().await.unwrap();
        }
        assert_eq!(follower.has_primary_login(&value(&old)).await, Ok(true));
        assert_eq!(follower.set_primary_login(&value("new")).await, Ok(Persistence::ConfigFile));
        assert_eq!(follower.has_primary_login(&value("new")).await, Ok(true));
        for session in [&session, &follower] {
            session.remove("default", std::slice::from_ref(&old_hash)).await.unwrap();
            session.persist().await.unwrap();
        }
        // The link that was open proves nothing.
        crash(&mut replica);
        assert!(in_touch(&replica, "new").await, "{place:?}: the replica logs in with the new value");
        command(&primary, "new", &["SET", "k", "v"]).await.unwrap();
        assert_eq!(
            logins(&node_of(&replica).1, "default", &[&old, "new"]).await,
            [Login::Refused, Login::Accepted]
        );
    }
}

#[tokio::test]
async fn a_replica_that_is_forgotten_is_cut_off() {
    let primary = start(Options::default());
    let mut replica = primary.start_replica(Options::default()).expect("a second one");
    let old = primary.password().to_owned();
    assert!(in_touch(&replica, &old).await);
    login(&primary, &old).await.set("default", &value("new")).await.unwrap();
    crash(&mut replica);
    tokio::time::sleep(Duration::from_secs(2)).await;
    let follower = login(&replica, &old).await;
    assert_eq!(follower.follows().await, Ok(Some(false)));
    assert_eq!(follower.has_primary_login(&value("new")).await, Ok(false));
}
