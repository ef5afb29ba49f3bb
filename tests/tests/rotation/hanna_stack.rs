//! The stack of runbook R1 as tests find it: healthy, and unhealthy for the right reasons.

use reseal_tests::hanna::{DB_PASSWORD, DJANGO_SECRET_KEY, Hanna, REDIS_PASSWORD, RedisPassword};
use reseal_tests::scene::connect;

/// A rotation by hand, in the wrong order and with the wrong command, as runbooks have it.
#[tokio::test]
async fn the_stack_notices_what_a_rotation_by_hand_gets_wrong() {
    for password in [RedisPassword::Argument, RedisPassword::File] {
        let stack = Hanna::start(password).await;
        assert!(stack.has("DJANGO_SECRET_KEY", DJANGO_SECRET_KEY).await);
        assert!(stack.has("REDIS_URL", &format!("redis://:{REDIS_PASSWORD}@redis:6379/0")).await);

        let admin = connect(&stack.postgres.config()).await;
        admin.batch_execute("ALTER ROLE crm_user PASSWORD 'crm-user-after'").await.unwrap();
        let (status, said) = stack.health().await;
        assert_eq!(status, 500);
        assert!(said.contains("password authentication failed"), "{said}");

        let prod = stack.stand_in.project().join("whatsappcrm_backend/.env.prod");
        let text = std::fs::read_to_string(&prod).unwrap().replace(DB_PASSWORD, "crm-user-after");
        std::fs::write(&prod, text).unwrap();
        stack.stand_in.must(&["docker", "compose", "restart", "backend"]);
        assert_eq!(stack.health().await.0, 500, "restarted, it has the old one");
        let logs = stack.stand_in.must(&["docker", "compose", "logs", "--no-log-prefix", "celery_io_worker"]);
        assert!(logs.contains("ERROR worker: OperationalError"), "{logs}");

        stack.stand_in.must(&["docker", "compose", "up", "-d", "--force-recreate", "--no-deps", "backend"]);
        stack.until_healthy().await;
        assert!(
            stack.has("DB_PASSWORD", "crm-user-after").await && !stack.has("DB_PASSWORD", DB_PASSWORD).await
        );

        // Redis: the health page does not take a pooled connection's word for it.
        let cli = [
            "compose",
            "exec",
            "-T",
            "redis",
            "redis-cli",
            "-h",
            &stack.redis.to_string(),
            "--no-auth-warning",
        ]
        .map(str::to_owned);
        let set = ["-a", REDIS_PASSWORD, "CONFIG", "SET", "requirepass", "redis-after"];
        let words: Vec<&str> =
            std::iter::once("docker").chain(cli.iter().map(String::as_str)).chain(set).collect();
        assert_eq!(stack.stand_in.must(&words), "OK\n");
        let (status, said) = stack.health().await;
        assert_eq!(status, 500);
        assert!(said.contains("AuthenticationError"), "{said}");

        stack.stand_in.must(&["docker", "compose", "up", "-d", "--force-recreate", "--no-deps", "redis"]);
        stack.until_healthy().await;
    }
}

#[tokio::test]
async fn a_planted_fault_waits_for_another_value() {
    let stack = Hanna::start(RedisPassword::Argument).await;
    stack.plant_fault("500", "DB_PASSWORD", DB_PASSWORD);
    let recreate = ["docker", "compose", "up", "-d", "--force-recreate", "--no-deps", "backend"];
    stack.stand_in.must(&recreate);
    stack.until_healthy().await;
    stack.plant_fault("500", "DB_PASSWORD", "another");
    stack.stand_in.must(&recreate);
    assert_eq!(stack.health().await, (500, "a planted fault".to_owned()));
}
