//! Runbook R1 by the real command: one call rotates Redis, Postgres and Django of a running compose stack, with the plan
//! that the runbook has. Its checks are made for seconds instead of minutes, and the backend's health page is one more.

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Stdio};

use reseal_tests::command::{Ended, finish, program};
use reseal_tests::hanna::{DB_PASSWORD, DJANGO_SECRET_KEY, Hanna, REDIS_PASSWORD, RedisPassword};
use reseal_tests::listeners::{Listener, Told};
use reseal_tests::scene::connect;
use serde_json::Value;

const REDIS: &str = "redis/password";
const POSTGRES: &str = "postgres/password";
const DJANGO: &str = "django/secret-key";

/// The secrets, and what they begin with.
const SECRETS: [(&str, &str); 3] =
    [(REDIS, REDIS_PASSWORD), (POSTGRES, DB_PASSWORD), (DJANGO, DJANGO_SECRET_KEY)];

const MAIL_PASSWORD: &str = "canary-password-of-the-mail-server";

const FILES: [&str; 3] = [".env", "whatsappcrm_backend/.env", "whatsappcrm_backend/.env.prod"];

/// The stack with the runbook's plan and a vault that holds its values.
struct R1 {
    stack: Hanna,
    /// The mail server of `[notify]`.
    mail: Listener,
}

/// What a rotation changes, to be the same after one that failed.
#[derive(Debug, PartialEq, Eq)]
struct Outside {
    /// Bytes and mode.
    files: BTreeMap<&'static str, (String, u32)>,
    /// Of the server and its replica.
    users: Vec<Vec<String>>,
    verifier: String,
    /// The versions in the vault that carry labels.
    labels: Vec<Value>,
}

impl R1 {
    async fn start(password: RedisPassword) -> Self {
        let r1 = Self { stack: Hanna::start(password).await, mail: Listener::mail() };
        let plan = include_str!("../../../crates/reseal-rotate/tests/plans/R1.toml");
        let health =
            format!("check = [\n  {{ http = \"http://{}:8000/health\", expect = 200 }},", r1.stack.redis);
        let plan = plan
            .replace("during = \"2m\"", "during = \"2s\"")
            .replace("mail.hanna.example:587", &r1.mail.address().to_string())
            .replacen("check = [\n", &format!("wait = \"5s\"\nhold = \"2s\"\n{health}\n"), 1)
            .replacen(
                "compose = \"celery_io_worker\"\n",
                "compose = \"celery_io_worker\"\nhold = \"1s\"\n",
                1,
            );
        assert_eq!(plan.matches("hold = ").count(), 2);
        r1.stack.stand_in.write("reseal.toml", &plan);
        r1.stack.stand_in.write("key-file", &"7".repeat(32));
        r1.mode("key-file", 0o600);
        for (file, mode) in FILES.into_iter().zip([0o600, 0o640, 0o644]) {
            r1.mode(file, mode);
        }
        r1.run(&["init", "--no-recovery-code"]).expect(0);
        for (name, value) in SECRETS {
            r1.run_with(&["put", &format!("hanna/{name}"), "-"], value).expect(0);
        }
        r1.run_with(&["put", "hanna/smtp/reseal", "-"], MAIL_PASSWORD).expect(0);
        r1
    }

    fn mode(&self, file: &str, mode: u32) {
        let path = self.stack.stand_in.project().join(file);
        std::fs::set_permissions(path, PermissionsExt::from_mode(mode)).expect("it is ours");
    }

    fn run(&self, arguments: &[&str]) -> Ended {
        self.run_with(arguments, "")
    }

    fn run_with(&self, arguments: &[&str], input: &str) -> Ended {
        let project = self.stack.stand_in.project();
        let mut command = Command::new(program());
        command.current_dir(&project).args(["--key-file", "key-file", "--no-input"]).args(arguments);
        command.env_clear().env("PATH", self.stack.stand_in.path());
        command.env("HOME", &project).env("XDG_RUNTIME_DIR", &project);
        // What an operator has exported must not win over the file.
        command.env("REDIS_PASSWORD", "exported-long-ago");
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("the command starts");
        let mut stdin = child.stdin.take().expect("it is piped");
        let _ = std::io::Write::write_all(&mut stdin, input.as_bytes());
        drop(stdin);
        finish(child)
    }

    fn current(&self, name: &str) -> String {
        self.run(&["get", &format!("hanna/{name}")]).expect(0).stdout.trim_end().to_owned()
    }

    async fn outside(&self) -> Outside {
        let project = self.stack.stand_in.project();
        let file = |name: &'static str| {
            let path = project.join(name);
            let mode = path.metadata().expect("it is there").permissions().mode() & 0o7777;
            (name, (std::fs::read_to_string(path).expect("it is text"), mode))
        };
        let users = vec![self.users(self.stack.redis).await, self.users(self.stack.replica()).await];
        let admin = connect(&self.stack.postgres.config()).await;
        let query = "SELECT rolpassword FROM pg_authid WHERE rolname = 'crm_user'";
        let verifier = admin.query_one(query, &[]).await.expect("a superuser may").get(0);
        let labels = SECRETS.map(|(name, _)| {
            self.run(&["show", &format!("hanna/{name}"), "--json"]).expect(0).json()["labels"].clone()
        });
        Outside { files: FILES.map(file).into(), users, verifier, labels: labels.into() }
    }

    async fn users(&self, node: std::net::IpAddr) -> Vec<String> {
        let mut connection =
            redis_login(node, &self.current(REDIS)).await.expect("the current value lets in");
        redis::cmd("ACL").arg("LIST").query_async(&mut connection).await.expect("it answers")
    }

    async fn redis_accepts(&self, value: &str) -> bool {
        let mut accepted = Vec::new();
        for node in [self.stack.redis, self.stack.replica()] {
            accepted.push(redis_login(node, value).await.is_some());
        }
        assert_eq!(accepted[0], accepted[1], "the server and its replica are of one mind");
        accepted[0]
    }

    async fn postgres_accepts(&self, value: &str) -> bool {
        let mut config = tokio_postgres::Config::new();
        let port = self.stack.postgres.tcp_port().expect("it listens");
        config.host("127.0.0.1").port(port).user("crm_user").password(value).dbname("whatsapp_crm_dev");
        config.connect(tokio_postgres::NoTls).await.is_ok()
    }

    /// Containers were recreated, and nothing was ever asked for that keeps the environment or drops data; no value
    /// stood in an argument or in the environment of a program.
    fn check_calls(&self, values: &[&str]) {
        let calls = self.stack.stand_in.calls();
        assert!(calls.iter().any(|call| call.names(&["up", "--force-recreate", "--no-deps", "backend"])));
        for call in calls {
            for word in ["restart", "down", "rm", "volume", "-v", "--volumes", "-V", "--renew-anon-volumes"] {
                assert!(!call.names(&[word]), "{call:?}");
            }
            for value in values {
                assert!(!call.argv.iter().any(|argument| argument.contains(value)), "{:?}", call.argv);
                assert!(!call.environment.values().any(|variable| variable.contains(value)), "{call:?}");
            }
        }
    }

    async fn restart_redis(&self) {
        for service in ["redis", "redis-replica"] {
            let recreate = ["docker", "compose", "up", "-d", "--force-recreate", "--no-deps", service];
            self.stack.stand_in.must(&recreate);
        }
        self.stack.until_healthy().await;
    }
}

async fn redis_login(node: std::net::IpAddr, value: &str) -> Option<redis::aio::MultiplexedConnection> {
    let settings = redis::RedisConnectionInfo::default().set_password(value);
    let address = redis::ConnectionAddr::Tcp(node.to_string(), 6379);
    let info = redis::IntoConnectionInfo::into_connection_info(address).expect("an address");
    let client = redis::Client::open(info.set_redis_settings(settings)).expect("an address");
    client.get_multiplexed_async_connection().await.ok()
}

async fn one_command_rotates_the_stack(password: RedisPassword) {
    let r1 = R1::start(password).await;
    let project = r1.stack.stand_in.project();

    // The plaintext that somebody forgot goes into the vault, and its value is owed a rotation.
    r1.run(&["snapshot", "add", "--leftovers", "--delete-source"]).expect(0);
    assert!(!project.join(".redis-password-backup").exists());
    r1.run(&["rotate", "owe", REDIS, "--reason", "lay in .redis-password-backup"]).expect(0);

    let before = r1.outside().await;
    let planned = r1.run(&["rotate", "--all", "--dry-run"]).expect(0);
    assert!(planned.stdout.contains("pg_dump"), "{planned:?}");
    assert_eq!(r1.outside().await, before, "a dry run changes nothing");
    assert!(
        !r1.stack.stand_in.calls().iter().any(|call| call.names(&["up"])),
        "nor is anything brought over"
    );

    let rotated = r1.run(&["rotate", "--all", "--reason", "runbook R1"]).expect(0);
    for (name, _) in SECRETS {
        assert!(rotated.stdout.contains(name), "{rotated:?}");
    }
    r1.stack.until_healthy().await;
    let new: BTreeMap<&str, String> = SECRETS.map(|(name, _)| (name, r1.current(name))).into();
    for ((name, old), variable) in
        SECRETS.into_iter().zip(["REDIS_PASSWORD", "DB_PASSWORD", "DJANGO_SECRET_KEY"])
    {
        assert_ne!(new[name], old);
        assert!(r1.stack.has(variable, &new[name]).await, "the backend runs with the new {variable}");
        for file in FILES {
            let text = std::fs::read_to_string(project.join(file)).expect("it is text");
            assert!(!text.contains(old) && !text.contains("MySecurePassword123%21"), "{file}: {text}");
        }
    }
    assert!(r1.postgres_accepts(&new[POSTGRES]).await);
    for value in [DB_PASSWORD, "wrong"] {
        assert!(!r1.postgres_accepts(value).await);
    }
    assert!(r1.redis_accepts(&new[REDIS]).await && r1.redis_accepts(REDIS_PASSWORD).await, "both, for a day");

    r1.run(&["rotate", "retire", REDIS, "-y"]).expect(0);
    assert!(r1.redis_accepts(&new[REDIS]).await);
    for value in [REDIS_PASSWORD, "wrong"] {
        assert!(!r1.redis_accepts(value).await);
    }
    r1.restart_redis().await;
    assert!(
        r1.redis_accepts(&new[REDIS]).await && !r1.redis_accepts(REDIS_PASSWORD).await,
        "after a restart too"
    );
    let told = r1.run(&["check", "--json"]).expect(0).json();
    let targets = told["targets"].as_array().expect("targets");
    for what in ["login", "old value", "rights", "file", "process", "check"] {
        assert!(targets.iter().any(|target| target["what"] == what), "{what}: {told}");
    }

    let values: Vec<&str> =
        SECRETS.map(|(_, old)| old).into_iter().chain(new.values().map(String::as_str)).collect();
    r1.check_calls(&values);
    let dump = r1.run(&["snapshot", "cat", "dumps/whatsapp_crm_dev"]).expect(0).stdout;
    assert!(dump.contains("PostgreSQL database dump complete"), "{dump}");
    check_status(&r1);
    check_mails(&r1, &values);
    r1.run(&["audit", "verify"]).expect(0);
}

/// Before, after each and at the end of the old value somebody was told; none of the mails holds a value.
fn check_mails(r1: &R1, values: &[&str]) {
    let mails = r1.mail.told();
    for (name, _) in SECRETS {
        for what in ["a rotation begins", "rotated"] {
            assert!(mails.iter().any(|mail| has(mail, &format!("Subject: {name}: {what}"))), "{mails:#?}");
        }
    }
    for mail in &mails {
        assert_eq!(mail.login, Some(("reseal".into(), MAIL_PASSWORD.into())));
        assert!(has(mail, "Contact: ops@hanna.example") && mail.to == "ops@hanna.example", "{mail:?}");
        for value in values.iter().chain(&[MAIL_PASSWORD]) {
            assert!(!mail.text.contains(value), "{mail:?}");
        }
    }
    assert!(mails.iter().any(|mail| has(mail, "Reason: runbook R1")), "what is told is found");
}

fn has(mail: &Told, words: &str) -> bool {
    mail.text.contains(words)
}

/// The vault knows the history, nothing is owed, and every secret has its interval.
fn check_status(r1: &R1) {
    let told = r1.run(&["rotate", "status", "--json"]).expect(0).json();
    let told = told["secrets"].as_array().expect("secrets");
    for (name, every) in [(REDIS, "90d"), (POSTGRES, "90d"), (DJANGO, "180d")] {
        let secret = told.iter().find(|secret| secret["name"] == name).expect("it is listed");
        assert_eq!(secret["every"], every, "{secret}");
        assert!(secret["due_at"].is_string() && secret["owed_reason"].is_null(), "{secret}");
        assert_eq!(secret["rotation"]["state"], "done", "{secret}");
        assert_eq!(secret["rotation"]["reason"], "runbook R1", "{secret}");
        let history = r1.run(&["history", &format!("hanna/{name}"), "--json"]).expect(0).json();
        assert_eq!(history["versions"].as_array().map(Vec::len), Some(2), "{history}");
    }
    let table = r1.run(&["rotate", "status"]).expect(0).stdout;
    assert!(table.contains("180d") && table.matches("90d").count() == 2, "{table}");
    // The password of the mail server is no secret of the plan, and has no date.
    let status = r1.run(&["status", "--json", "--exit-code"]).expect(0).json();
    let days: Vec<_> = status["secrets"]
        .as_array()
        .expect("secrets")
        .iter()
        .map(|secret| (secret["secret"].as_str().expect("a name"), secret["days_until_rotation"].as_i64()))
        .collect();
    assert_eq!(
        days,
        [
            ("hanna/django/secret-key", Some(180)),
            ("hanna/postgres/password", Some(90)),
            ("hanna/redis/password", Some(90)),
            ("hanna/smtp/reseal", None),
        ]
    );
    assert_eq!(status["snapshots"][0]["age_days"], 0, "{status}");
}

#[tokio::test]
async fn runbook_r1_with_the_redis_password_as_an_argument() {
    one_command_rotates_the_stack(RedisPassword::Argument).await;
}

#[tokio::test]
async fn runbook_r1_with_the_redis_password_in_a_file() {
    one_command_rotates_the_stack(RedisPassword::File).await;
}

/// A backend that does not live with the new value, in four ways: everything is back as it was.
async fn failing_health(name: &str, variable: &str, old: &str) {
    let r1 = R1::start(RedisPassword::File).await;
    let before = r1.outside().await;
    for mode in ["dies", "500", "hangs", "once"] {
        r1.stack.plant_fault(mode, variable, old);
        let ended = r1.run(&["rotate", name]);
        assert_eq!(ended.code, Some(9), "{mode}: {ended:?}");
        assert_eq!(r1.outside().await, before, "{mode}: everything is as it was");
        r1.stack.until_healthy().await;
        assert!(r1.stack.has(variable, old).await, "{mode}: the backend runs with the old value");
        let failed = format!("Subject: {name}: the rotation failed and was taken back");
        assert!(r1.mail.told().last().is_some_and(|mail| has(mail, &failed)), "{mode}: somebody is told");
        println!("{name}: health {mode}: taken back");
    }
}

#[tokio::test]
async fn runbook_r1_failing_health_takes_redis_back() {
    failing_health(REDIS, "REDIS_PASSWORD", REDIS_PASSWORD).await;
}

#[tokio::test]
async fn runbook_r1_failing_health_takes_postgres_back() {
    failing_health(POSTGRES, "DB_PASSWORD", DB_PASSWORD).await;
}
