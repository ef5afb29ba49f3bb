//! The real command rotates a password of Redis with a replica, which logs in at its primary with it: killed before and
//! after every side effect at both.

use reseal_sandbox::redis::{Options, Server};

use crate::kill_rotation_desk::{Desk, OLD};
use crate::kill_rotation_services::{
    OVERLAP, RETIRE, ROTATE, Redis, Service, ask, kept_user, kill_everywhere, lets_in, reset_user,
};
use crate::kill_rotation_wire::{Protocol, Wire};

struct WithReplica {
    primary: Redis,
    replica: Server,
}

impl WithReplica {
    async fn start() -> Self {
        let primary = Redis::start();
        reset_user(&primary.server).await;
        let replica = primary.server.start_replica(Options::default()).expect("a second one");
        let port = primary.wire().also_to(Protocol::Redis, replica.port()).to_string();
        let pair = Self { primary, replica };
        pair.tell_replica(&["CONFIG", "SET", "replica-announce-port", &port]).await;
        pair.tell_replica(&["CONFIG", "SET", "masteruser", "app"]).await;
        pair.reset().await;
        // It follows anew, by the port that leads through the wire and as the user that changes.
        let mut admin = pair.primary.admin().await;
        let _: i64 = ask(&mut admin, &["CLIENT", "KILL", "TYPE", "replica"]).await;
        for _ in 0..1_000 {
            let info: String = ask(&mut admin, &["INFO", "replication"]).await;
            if info.contains(&format!("port={port},state=online")) {
                return pair;
            }
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
        panic!("the replica does not follow");
    }

    async fn tell_replica(&self, words: &[&str]) {
        let mut connection = self.replica.connect(self.replica.password()).await.expect("connects");
        ask::<()>(&mut connection, words).await;
    }
}

impl Service for WithReplica {
    async fn reset(&self) {
        self.primary.reset().await;
        self.tell_replica(&["CONFIG", "SET", "masterauth", OLD]).await;
        reset_user(&self.replica).await;
    }

    async fn accepts(&self, value: &str) -> bool {
        let both = [lets_in(&self.primary.server, value).await, lets_in(&self.replica, value).await];
        assert_eq!(both[0], both[1], "the server and its replica are of one mind");
        both[0]
    }

    async fn kept(&self) -> String {
        let config = std::fs::read_to_string(self.replica.config_path()).expect("its file");
        let login: Vec<&str> = config.lines().filter(|line| line.starts_with("masterauth")).collect();
        format!("{} {} {login:?}", self.primary.kept().await, kept_user(&self.replica).await)
    }

    fn wire(&self) -> &Wire {
        self.primary.wire()
    }

    async fn check_ended(&self, row: &str) {
        let config = std::fs::read_to_string(self.replica.config_path()).expect("its file");
        assert!(!config.contains(OLD), "{row}: the replica logs in with the new value after a restart too");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn kill_rotation_of_a_redis_password_with_a_replica() {
    let pair = WithReplica::start().await;
    let prepared = Desk::with_servers(&OVERLAP, &pair.primary.plan());
    let change = [("ACL SETUSER", 2), ("CONFIG REWRITE", 3), ("CONFIG SET MASTERAUTH", 1)];
    let retire = [("ACL SETUSER", 2), ("CONFIG REWRITE", 2)];
    let rows = kill_everywhere(&OVERLAP, &prepared, &pair, ROTATE, &change).await
        + kill_everywhere(&OVERLAP, &prepared, &pair, RETIRE, &retire).await;
    println!("{rows} rows");
    assert!(rows >= 100, "{rows} rows");
}
