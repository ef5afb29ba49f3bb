//! `rotate --emergency`: the old value ends at once, and with it what it had opened.

use crate::kill_rotation_desk::{Desk, OLD};
use crate::kill_rotation_services::{
    EMERGENCY, IN_PLACE, OVERLAP, Postgres, ROOT, Redis, Service, postgres_plan,
};

/// The new value is everywhere, and the old one lets nobody in any more.
async fn check_over(desk: &Desk, service: &impl Service) {
    desk.check_new("in an emergency");
    assert_eq!(desk.rotation().as_deref(), Some("done"));
    assert!(service.accepts(&desk.current()).await && !service.accepts(OLD).await);
    let told = desk.run(&["rotate", "status", "key", "--json"]).expect(0).json();
    let rotation = &told["secrets"][0]["rotation"];
    assert_eq!(
        (rotation["emergency"].as_bool(), rotation["reason"].as_str()),
        (Some(true), Some("it leaked"))
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn emergency_ends_the_sessions_of_a_postgres_role() {
    let postgres = Postgres::start().await;
    let desk = Desk::with_servers(&IN_PLACE, &postgres_plan(&format!("url = {}", postgres.url())));
    desk.put("root", ROOT);
    let mut config = tokio_postgres::Config::new();
    let port = postgres.server.tcp_port().expect("it listens");
    config.host("127.0.0.1").port(port).user("app").password(OLD).dbname("postgres");
    let intruder = reseal_tests::scene::connect(&config).await;
    let others = reseal_tests::scene::connect(&postgres.server.config()).await;

    desk.run(&["rotate", "key", "--emergency"]).expect(2);
    desk.run(EMERGENCY).expect(0);
    check_over(&desk, &postgres).await;
    assert!(intruder.simple_query("SELECT 1").await.is_err(), "what the old value opened has ended");
    others.simple_query("SELECT 1").await.expect("other roles go on");
}

#[tokio::test(flavor = "multi_thread")]
async fn emergency_ends_the_connections_of_a_redis_user() {
    let redis = Redis::start();
    redis.reset().await;
    let desk = Desk::with_servers(&OVERLAP, &redis.plan());
    let address = format!("redis://app:{OLD}@127.0.0.1:{}/0", redis.server.port());
    let client = redis::Client::open(address).expect("an address");
    let mut intruder = client.get_multiplexed_async_connection().await.expect("the old value lets in");
    let mut others = redis.server.connect(redis.server.password()).await.expect("connects");

    desk.run(EMERGENCY).expect(0);
    check_over(&desk, &redis).await;
    let asked = redis::cmd("PING").query_async::<String>(&mut intruder).await;
    assert!(asked.is_err(), "what the old value opened has ended");
    redis::cmd("PING").query_async::<String>(&mut others).await.expect("other users go on");
}
