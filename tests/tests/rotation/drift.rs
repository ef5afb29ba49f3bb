//! `check` names what is not as the plan says, thing by thing, at real servers and running processes; `sync` makes it so.

use reseal_tests::command::Ended;
use reseal_tests::stand_in::{Compose, StandIn};

use crate::kill_rotation_desk::{Desk, OLD};
use crate::kill_rotation_services::{OVERLAP, Postgres, ROOT, Redis, Service, ask, postgres_plan};

/// A unit with its values in one file: whole, in a URL, in a list and in a JSON document.
struct World {
    stand_in: StandIn,
    postgres: Postgres,
    redis: Redis,
}

const PLAN: &str = r#"
[apps.web]
systemd = "web"
wait = "20s"
hold = "1s"

[files."app.env"]
readers = ["systemd"]
used_by = ["web"]

[secrets.db]
server = "db"
strategy = "in-place"
write = [{ file = "app.env", var = "DB_PASSWORD" }, { file = "app.env", var = "DATABASE_URL", part = "url.password" }]

[secrets.cache]
server = "cache"
strategy = "overlap"
overlap = "1s"
write = [
  { file = "app.env", var = "CACHE_PASSWORD" },
  { file = "app.env", var = "CACHE_NODES", part = "list[1]" },
  { file = "app.env", var = "CACHE_JSON", part = "json:/password" },
]
"#;

impl World {
    async fn start() -> Self {
        let (postgres, redis) = (Postgres::start().await, Redis::start());
        redis.reset().await;
        let stand_in = StandIn::new(Compose::Plugin);
        let world = Self { stand_in, postgres, redis };
        let servers = postgres_plan(&format!("url = {}", world.postgres.url())) + &world.redis.plan();
        world.stand_in.write("reseal.toml", &format!("schema = 1\nvault = \"v.vault\"\n{servers}{PLAN}"));
        world.stand_in.write("key-file", &"7".repeat(32));
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o600);
        std::fs::set_permissions(world.stand_in.project().join("key-file"), mode).expect("it is ours");
        world.write_env(&env(OLD, OLD));
        let file = world.stand_in.project().join("app.env");
        let unit = format!("[Service]\nEnvironmentFile={}\nExecStart=/bin/sleep 100000\n", file.display());
        world.stand_in.unit("web", &unit);
        world.restart();
        world.run(&["init", "--no-recovery-code"]).expect(0);
        for (name, value) in [("db", OLD), ("cache", OLD), ("root", ROOT)] {
            world.stand_in.reseal(&["put", name, "-"], value).expect(0);
        }
        world
    }

    fn run(&self, arguments: &[&str]) -> Ended {
        self.stand_in.reseal(arguments, "")
    }

    fn write_env(&self, text: &str) {
        self.stand_in.write("app.env", text);
    }

    fn read_env(&self) -> String {
        std::fs::read_to_string(self.stand_in.project().join("app.env")).expect("it is text")
    }

    fn restart(&self) {
        self.stand_in.must(&["systemctl", "restart", "web"]);
    }

    async fn as_root(&self, statement: &str) {
        self.postgres.root.batch_execute(statement).await.expect("a superuser may");
    }

    async fn at_redis(&self, words: &[&str]) {
        ask::<()>(&mut self.redis.admin().await, words).await;
    }

    /// What does not hold of these secrets, or of all, and the exit code; the report shows no value.
    fn drifts(&self, names: &[&str]) -> (Option<i32>, Vec<String>) {
        let before = self.read_env();
        self.stand_in.forget_calls();
        let ended = self.run(&[&["check", "--json"], names].concat());
        assert_eq!(self.read_env(), before);
        let changes = ["restart", "start", "stop", "reload"];
        assert!(!self.stand_in.calls().iter().any(|call| changes.iter().any(|verb| call.names(&[verb]))));
        for value in [OLD, ROOT] {
            assert!(!ended.stdout.contains(value) && !ended.stderr.contains(value), "{ended:?}");
        }
        let told = ended.json();
        let text = |target: &serde_json::Value, field: &str| target[field].as_str().unwrap_or("-").to_owned();
        let targets = told["targets"].as_array().expect("targets").iter();
        let off = targets.filter(|target| !["holds", "unseen"].contains(&text(target, "state").as_str()));
        let words = |target| ["name", "what", "target", "saw"].map(|field| text(target, field)).join(" | ");
        (ended.code, off.map(words).collect())
    }

    #[track_caller]
    fn check_true(&self) {
        assert_eq!(self.drifts(&[]), (Some(0), Vec::new()));
    }

    /// This is off, and nothing else of that secret.
    #[track_caller]
    fn check_off(&self, expected: &str) {
        let secret = expected.split(' ').next().expect("it begins with a name");
        let (code, off) = self.drifts(&[secret]);
        assert_eq!((code, off.len()), (Some(14), 1), "{off:#?}");
        assert!(off[0].starts_with(expected), "{expected}: {off:#?}");
    }
}

fn env(db: &str, cache: &str) -> String {
    format!(
        "# of the unit\nDB_PASSWORD={db}\nDATABASE_URL=postgresql://app:{db}@127.0.0.1/postgres\n\
         CACHE_PASSWORD={cache}\nCACHE_NODES=10.0.0.1,{cache}\nCACHE_JSON='{{\"password\":\"{cache}\"}}'\n"
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn drift_check_names_each_of_six() {
    let world = World::start().await;
    world.check_true();

    // One: the password was changed at the server by hand. Its user's own value is not to be written anywhere.
    world.as_root("ALTER ROLE app PASSWORD 'by hand'").await;
    world.check_off("db | login | app at db | the value does not let in");
    let refused = world.run(&["sync", "db"]).expect(8);
    assert!(refused.stderr.contains("reseal put db --vault-only"), "{refused:?}");
    world.postgres.reset().await;
    world.at_redis(&["ACL", "SETUSER", "app", "resetpass", ">by-hand"]).await;
    world.check_off("cache | login | app at cache | the value does not let in");
    world.redis.reset().await;

    // Two and three: a file was edited, whole and in parts.
    let good = world.read_env();
    for (stale, line) in [
        (
            format!("DB_PASSWORD={OLD}"),
            "db | file | app.env: DB_PASSWORD | it does not hold the current value",
        ),
        (format!("app:{OLD}@"), "db | file | app.env: DATABASE_URL (url.password)"),
        (format!("10.0.0.1,{OLD}"), "cache | file | app.env: CACHE_NODES (list[1])"),
        (format!("\"password\":\"{OLD}\""), "cache | file | app.env: CACHE_JSON (json:/password)"),
    ] {
        world.write_env(&good.replace(&stale, &stale.replace(OLD, "stale")));
        world.check_off(line);
    }
    world.write_env(&good);

    // Four: a process with the environment from before, in a variable of its own and in a part of one.
    for (stale, line) in [
        (format!("DB_PASSWORD={OLD}"), "db | process | web | has another value of DB_PASSWORD"),
        (format!("app:{OLD}@"), "db | process | web | has another value of DATABASE_URL"),
    ] {
        world.write_env(&good.replace(&stale, &stale.replace(OLD, "stale")));
        world.restart();
        world.write_env(&good);
        world.check_off(line);
    }
    world.restart();

    // Five: the overlap is over, and nobody has ended the old value.
    world.run(&["rotate", "cache"]).expect(0);
    let old_value = "cache | old value | app at cache | it still lets in";
    let begun = std::time::Instant::now();
    while world.drifts(&["cache"]) == (Some(0), Vec::new()) {
        assert!(begun.elapsed().as_secs() < 60, "the overlap of a second is over");
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
    world.check_off(&format!("{old_value}; its overlap is over: `reseal rotate retire cache`"));
    world.run(&["rotate", "retire", "cache"]).expect(0);
    world.at_redis(&["ACL", "SETUSER", "app", &format!(">{OLD}")]).await;
    world.check_off(old_value);
    world.at_redis(&["ACL", "SETUSER", "app", &format!("<{OLD}")]).await;
    world.check_true();

    // Six: the role that is to change it may not any more; and a login that proves nothing.
    world.as_root("ALTER ROLE root NOSUPERUSER").await;
    world.check_off("db | rights | app at db | `db` does not allow it");
    world.as_root("ALTER ROLE root SUPERUSER").await;
    let hba =
        world.postgres.root.query_one("SHOW hba_file", &[]).await.expect("it tells").get::<_, String>(0);
    let rules = std::fs::read_to_string(&hba).expect("rules");
    std::fs::write(&hba, format!("host all app 127.0.0.1/32 trust\n{rules}")).expect("written");
    world.as_root("SELECT pg_reload_conf()").await;
    // The postmaster reads it in its own time.
    while world.postgres.login("app", "anything").await.is_none() {
        assert!(begun.elapsed().as_secs() < 60, "the rules are read");
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    world.check_off("db | login | app at db | any value lets in");
    let table = world.run(&["check"]).expect(14);
    assert!(table.stdout.contains("differs") && table.stdout.contains("any value lets in"), "{table:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn drift_sync_makes_it_true_with_the_current_values() {
    let world = World::start().await;
    let good = world.read_env();
    let told = world.run(&["sync"]).expect(0);
    assert!(
        told.stdout.contains("cache: true already") && told.stdout.contains("db: true already"),
        "{told:?}"
    );

    // Files and the process are behind.
    world.write_env(&env("stale", "stale"));
    world.restart();
    world.stand_in.forget_calls();
    let planned = world.run(&["sync", "--dry-run"]).expect(0);
    assert!(planned.stdout.contains("write DB_PASSWORD, DATABASE_URL in"), "{planned:?}");
    assert_eq!(world.read_env(), env("stale", "stale"));
    world.run(&["sync", "db", "--reason", "edited by hand"]).expect(0);
    assert_eq!(world.read_env(), env(OLD, "stale"));
    world.run(&["sync"]).expect(0);
    assert_eq!(world.read_env(), good);
    world.check_true();
    let log = world.run(&["audit", "log", "--json"]).expect(0);
    for words in ["\"sync\"", "edited by hand", "intent"] {
        assert!(log.stdout.contains(words), "{words}: {log:?}");
    }
    world.run(&["audit", "verify"]).expect(0);

    // Only the process is: the file stays as it is, and nothing new comes into being.
    world.write_env(&good.replace(&format!("app:{OLD}@"), "app:stale@"));
    world.restart();
    world.write_env(&good);
    let modified =
        || world.stand_in.project().join("app.env").metadata().expect("there").modified().expect("a time");
    let written = modified();
    world.stand_in.forget_calls();
    world.run(&["sync", "db"]).expect(0);
    assert_eq!(modified(), written);
    assert_eq!(world.stand_in.calls().iter().filter(|call| call.names(&["restart"])).count(), 1);
    world.check_true();
    for name in ["db", "cache"] {
        let history = world.run(&["history", name, "--json"]).expect(0).json();
        assert_eq!(history["versions"].as_array().map(Vec::len), Some(1), "{history}");
        let status = world.run(&["rotate", "status", name, "--json"]).expect(0).json();
        assert!(status["secrets"][0]["rotation"].is_null(), "{status}");
    }
    assert!(world.postgres.accepts(OLD).await && world.redis.accepts(OLD).await);

    // The check of the application needs both values: both are written, and it is brought over once.
    let script = world.stand_in.project().join("whole.sh");
    let check = |words: &str| {
        world.stand_in.write("whole.sh", &format!("#!/bin/sh\n{words}\n"));
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        std::fs::set_permissions(&script, mode).expect("it is ours");
    };
    let plan = std::fs::read_to_string(world.stand_in.project().join("reseal.toml")).expect("it is text");
    let checked = "systemd = \"web\"\ncheck = [{ command = [\"./whole.sh\"] }]";
    let plan = plan.replace("systemd = \"web\"", checked);
    let restarts = || world.stand_in.calls().iter().filter(|call| call.names(&["restart"])).count();
    world.write_env(&env("stale", "stale"));
    world.restart();
    let failing = format!("echo '{ROOT} amqp://u:unheard-of@h'; false");
    for (words, wait, restarted) in [(failing.as_str(), "1s", 2), ("! grep -q stale app.env", "20s", 1)] {
        check(words);
        world.stand_in.write("reseal.toml", &plan.replace("20s", wait));
        world.stand_in.forget_calls();
        let ended = world.run(&["sync"]);
        assert_eq!(restarts(), restarted, "{ended:?}");
        if restarted == 2 {
            // What it says of other secrets stays unsaid, and so do passwords in URLs.
            let told = format!("{}{}", ended.stdout, ended.stderr);
            assert!(told.contains("[secret] amqp://u:[secret]@h"), "{told}");
            assert!(!told.contains(ROOT) && !told.contains("unheard-of"), "{told}");
            ended.expect(9);
            assert_eq!(world.read_env(), env("stale", "stale"));
        } else {
            ended.expect(0);
        }
    }
    assert_eq!(world.read_env(), good);
    world.check_true();
}

/// Where the plan has a prefix, the vault knows the secret by another name than the plan.
#[tokio::test(flavor = "multi_thread")]
async fn drift_hints_name_the_secret_as_their_command_does() {
    let redis = Redis::start();
    redis.reset().await;
    let desk = Desk::with_servers(&OVERLAP, &redis.plan());
    let plan = desk.read("reseal.toml").replacen("schema = 1", "schema = 1\nprefix = \"crm/\"", 1);
    desk.write("reseal.toml", &plan, 0o600);
    desk.put("crm/key", OLD);
    desk.run(&["check", "key"]).expect(0);
    let by_hand = ["ACL", "SETUSER", "app", "resetpass", ">by-hand"];
    ask::<()>(&mut redis.admin().await, &by_hand).await;
    let store = "`reseal put crm/key --vault-only`, then ";
    let told = desk.run(&["check", "key"]).expect(14);
    assert!(told.stdout.contains(&format!("{store}`reseal sync key`")), "{told:?}");
    let refused = desk.run(&["sync", "key"]).expect(8);
    assert!(refused.stderr.contains(&format!("{store}sync")), "{refused:?}");
}
