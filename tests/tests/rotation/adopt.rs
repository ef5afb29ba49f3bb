//! `adopt` by the real command: the stack of runbook R1 as it is found, and then rotated by nothing but the plan that comes out.

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use reseal_rotate::plan::Plan;
use reseal_tests::command::{Desk, Ended, finish, program};
use reseal_tests::hanna::{DB_PASSWORD, DJANGO_SECRET_KEY, Hanna, REDIS_PASSWORD, RedisPassword};

const FILES: [&str; 3] = [".env", "whatsappcrm_backend/.env", "whatsappcrm_backend/.env.prod"];

const VALUES: [&str; 3] = [REDIS_PASSWORD, DB_PASSWORD, DJANGO_SECRET_KEY];

/// A project, and a vault outside of it.
struct World {
    stack: Hanna,
    vault: tempfile::TempDir,
}

impl World {
    async fn start() -> Self {
        let stack = Hanna::start(RedisPassword::File).await;
        let vault = tempfile::tempdir().expect("a directory");
        std::fs::write(vault.path().join("key-file"), "7".repeat(32)).expect("a file");
        let world = Self { stack, vault };
        world.run(&["init", "--no-recovery-code"]).expect(0);
        world
    }

    fn run(&self, arguments: &[&str]) -> Ended {
        let project = self.stack.stand_in.project();
        let own = |name: &str| self.vault.path().join(name);
        let mut command = Command::new(program());
        command
            .current_dir(&project)
            .arg("--key-file")
            .arg(own("key-file"))
            .arg("--no-input")
            .args(arguments);
        command.env_clear().env("PATH", self.stack.stand_in.path()).env("HOME", self.vault.path());
        command.env("RESEAL_VAULT", own("v.vault"));
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        finish(command.spawn().expect("the command starts"))
    }

    fn plan(&self) -> PathBuf {
        self.stack.stand_in.project().join("reseal.toml")
    }
}

const LIST: &[&str] = &["list", "--json"];

/// How many secrets a vault has.
fn count(listed: &Ended) -> usize {
    listed.clone().expect(0).json()["secrets"].as_array().expect("secrets").len()
}

/// Every file of a directory, with its bytes, but what a replica writes by itself when its first synchronisation ends.
fn files(directory: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let (mut found, mut queue) = (BTreeMap::new(), vec![directory.to_owned()]);
    while let Some(folder) = queue.pop() {
        for entry in std::fs::read_dir(folder).expect("a directory").flatten() {
            let path = entry.path();
            if path.is_dir() {
                queue.push(path);
            } else if !path.ends_with("dump.rdb") {
                let bytes = std::fs::read(&path).expect("a file");
                found.insert(path, bytes);
            }
        }
    }
    found
}

#[tokio::test(flavor = "multi_thread")]
async fn adopt_finds_a_stack_and_its_plan_rotates_it() {
    let world = World::start().await;
    let project = world.stack.stand_in.project();
    let before = files(&project);
    world.stack.stand_in.forget_calls();

    let shown = world.run(&["adopt", "--dry-run"]).expect(0);
    assert_eq!(files(&project), before, "a dry run writes nothing");
    assert_eq!(count(&world.run(LIST)), 0, "and stores nothing");
    let adopted = world.run(&["adopt"]).expect(0);
    let plan = std::fs::read_to_string(world.plan()).expect("a plan");
    println!("{plan}{}{}", adopted.stdout, adopted.stderr);
    assert_eq!(shown.stdout, plan);
    let mut after = files(&project);
    after.remove(&world.plan());
    assert_eq!(after, before, "no other file is touched");
    for call in world.stack.stand_in.calls() {
        for word in ["up", "restart", "stop", "down", "exec"] {
            assert!(!call.names(&[word]), "{call:?}");
        }
    }
    for text in [&plan, &adopted.stdout, &adopted.stderr] {
        for value in VALUES.into_iter().chain(["MySecurePassword123%21"]) {
            assert!(!text.contains(value), "{value}: {text}");
        }
    }
    assert_eq!(world.plan().metadata().expect("it is there").permissions().mode() & 0o777, 0o644);
    check_plan(&plan, &world.plan());

    for (name, value) in [
        ("project/redis/password", REDIS_PASSWORD),
        ("project/postgres/password", DB_PASSWORD),
        ("project/django-secret-key", DJANGO_SECRET_KEY),
    ] {
        assert_eq!(world.run(&["get", name]).expect(0).stdout.trim_end(), value, "{name}");
    }
    let status = world.run(&["status", "--json"]).expect(0).json();
    for secret in status["secrets"].as_array().expect("secrets") {
        assert_eq!(secret["is_rotation_due"], true, "an unknown age is due: {secret}");
    }

    // A second time nothing is overwritten.
    let again = world.run(&["adopt"]).expect(8);
    assert!(again.stderr.contains("exists already"), "{again:?}");
    assert_eq!(std::fs::read_to_string(world.plan()).expect("a plan"), plan);

    // Nothing but a shorter look at the applications is changed in it.
    let quick = plan.replace("\ncompose = ", "\nhold = \"1s\"\ncompose = ");
    assert_eq!(quick.matches("\nhold = ").count(), 2);
    std::fs::write(world.plan(), quick).expect("a file");
    world.run(&["rotate", "--all", "--reason", "adopted"]).expect(0);
    world.stack.until_healthy().await;
    for (name, variable) in [
        ("project/redis/password", "REDIS_PASSWORD"),
        ("project/postgres/password", "DB_PASSWORD"),
        ("project/django-secret-key", "DJANGO_SECRET_KEY"),
    ] {
        let new = world.run(&["get", name]).expect(0).stdout.trim_end().to_owned();
        assert!(!VALUES.contains(&new.as_str()));
        assert!(world.stack.has(variable, &new).await, "the backend runs with the new {variable}");
    }
    for file in FILES {
        let text = std::fs::read_to_string(project.join(file)).expect("text");
        assert!(VALUES.iter().all(|old| !text.contains(old)) && !text.contains("123%21"), "{file}: {text}");
    }
}

/// What the runbook's own plan says is found; what is guessed is said.
fn check_plan(text: &str, path: &Path) {
    let plan = Plan::parse(path, text).expect("it is a plan");
    assert_eq!(plan.file.leftovers, [".redis-password-backup"]);
    let servers: BTreeMap<_, _> =
        plan.file.servers.iter().map(|(name, server)| (name.as_str(), server.get_ref())).collect();
    let url = |name: &str| servers[name].url.clone().expect("a URL");
    assert_eq!(url("redis"), "redis://default@redis:6379/0");
    assert_eq!(url("db"), "postgresql://crm_user@db/whatsapp_crm_dev");
    for name in ["redis", "db"] {
        assert_eq!(servers[name].via.as_ref().and_then(|via| via.compose.as_deref()), Some(name));
    }
    assert_eq!(plan.file.apps.keys().collect::<Vec<_>>(), ["backend", "celery_io_worker"]);
    let files: Vec<_> = plan
        .file
        .files
        .iter()
        .map(|(path, file)| (path.as_str(), file.get_ref().readers.join(",")))
        .collect();
    let expected = [".env", "whatsappcrm_backend/.env", "whatsappcrm_backend/.env.prod"];
    assert_eq!(
        files,
        expected
            .into_iter()
            .zip(["compose", "python-dotenv", "compose"].map(str::to_owned))
            .collect::<Vec<_>>()
    );
    assert!(text.contains("# Not sure: its readers are guessed from manage.py beside it."), "{text}");

    let places = |name: &str| {
        let secret = plan.secret(name).expect("it is there");
        let place = |place: &reseal_rotate::plan::Place| {
            let file = place.file.as_ref().expect("a file").display().to_string();
            (file, place.var.clone().expect("a variable"), place.part.is_some())
        };
        secret.write.iter().map(place).collect::<Vec<_>>()
    };
    let expect = |name: &str, expected: &[(&str, &str, bool)]| {
        let mut found = places(name);
        found.sort();
        let expected: Vec<_> =
            expected.iter().map(|(file, var, part)| ((*file).to_owned(), (*var).to_owned(), *part)).collect();
        assert_eq!(found, expected, "{name}");
    };
    let backend = "whatsappcrm_backend/.env";
    let prod = "whatsappcrm_backend/.env.prod";
    expect(
        "redis/password",
        &[
            (".env", "REDIS_PASSWORD", false),
            (backend, "CELERY_BROKER_URL", true),
            (backend, "REDIS_PASSWORD", false),
            (backend, "REDIS_URL", true),
            (prod, "REDIS_PASSWORD", false),
        ],
    );
    let everywhere = [".env", backend, prod];
    expect("postgres/password", &everywhere.map(|file| (file, "DB_PASSWORD", false)));
    expect("django-secret-key", &[backend, prod].map(|file| (file, "DJANGO_SECRET_KEY", false)));
    assert_eq!(plan.file.secrets.len(), 3);
}

const KEY: &str = "canary09f8e7d6c5b4a39281706";

fn desk(env: &str) -> Desk {
    let desk = Desk::with_vault("schema = 1\nvault = \"v.vault\"\n");
    std::fs::create_dir(desk.path().join("web")).expect("a directory");
    desk.write("web/.env", env);
    desk
}

#[test]
fn adopt_refuses_a_file_that_its_reader_does_not_read() {
    let desk = desk(&format!("SECRET_KEY={KEY}\n"));
    desk.write("web/compose.yaml", "services: {}\n");
    desk.write("web/other.env", "A=1\nB=\"not closed\n");
    let adopt = ["adopt", "web", "--systemd", "web"];
    let ended = desk.run(&adopt).expect(8);
    assert!(
        ended.stderr.contains("compose does not read other.env: line 2")
            && ended.stderr.contains("--except other.env"),
        "{ended:?}"
    );
    assert!(!desk.path().join("web/reseal.toml").exists());
    assert_eq!(count(&desk.run(LIST)), 0);
    std::fs::remove_file(desk.path().join("web/other.env")).expect("a file");
    std::os::unix::fs::symlink("/dev/null", desk.path().join("web/other.env")).expect("a link");
    desk.run(&adopt).expect(8);
    desk.run(&[&adopt[..], &["--except", "other.env"]].concat()).expect(0);
    assert_eq!(count(&desk.run(LIST)), 1);
}

#[test]
fn adopt_names_what_it_is_not_sure_of_and_shows_no_value() {
    let env = format!(
        "SECRET_KEY={KEY}\nSECRET_KEY_FALLBACKS=\nSENTRY_DSN=https://{KEY}2@sentry.example/1\nWIDGET={KEY}3\n\
         FIELD_ENCRYPTION_KEY={KEY}4\nEMAIL_HOST_PASSWORD={KEY}5\nADMIN_PASSWORD={KEY}6\nAPI_URL=https://{KEY}7:x@h/\n"
    );
    let desk = desk(&env);
    let ended = desk.run(&["adopt", "web", "--systemd", "web"]).expect(0);
    let plan = desk.read("web/reseal.toml");
    println!("{plan}{}", ended.stderr);
    assert!(ended.stderr.contains("WIDGET of .env looks like a secret, and is left out"), "{ended:?}");
    assert!(plan.contains("# - WIDGET of .env"), "{plan}");
    assert!(
        plan.contains("# [secrets.\"field-encryption-key\"]")
            && ended.stderr.contains("field-encryption-key is a comment"),
        "{plan}"
    );
    for text in [&plan, &ended.stdout, &ended.stderr] {
        assert!(!text.contains("canary0"), "{text}");
    }
    let read = Plan::load(&desk.path().join("web/reseal.toml")).expect("a plan");
    let strategy =
        |name: &str| format!("{:?}", read.secret(name).expect("a secret").strategy.expect("a strategy"));
    assert_eq!(strategy("secret-key"), "Overlap");
    for name in ["sentry-dsn", "email-host-password", "admin-password", "api-url"] {
        assert_eq!(strategy(name), "Paste", "{name}");
    }
    assert_eq!(read.file.apps["web"].get_ref().systemd.as_deref(), Some("web"));
    // The key of stored data is kept as well.
    assert_eq!(count(&desk.run(LIST)), 6);

    // Values that the vault has otherwise: all or none.
    std::fs::remove_file(desk.path().join("web/reseal.toml")).expect("a file");
    desk.write("web/.env", &format!("SECRET_KEY={KEY}new\nAPI_TOKEN={KEY}8\n"));
    let ended = desk.run(&["adopt", "web", "--systemd", "web"]).expect(7);
    assert!(ended.stderr.contains("another value of web/secret-key"), "{ended:?}");
    assert_eq!(count(&desk.run(LIST)), 6);
    assert!(!desk.path().join("web/reseal.toml").exists());
}

#[test]
fn adopt_leaves_out_what_a_server_refuses_or_nobody_reads() {
    let server =
        reseal_sandbox::redis::Server::start(Default::default()).unwrap_or_else(|error| panic!("{error}"));
    let port = server.port();
    let good = server.password();
    let env = format!(
        "CACHE_URL=redis://:{good}@127.0.0.1:{port}/0\nQUEUE_URL=redis://:{KEY}wrong@127.0.0.1:{port}/1\n\
         OTHER_URL=redis://other:{KEY}wrong@127.0.0.1:{port}/0\nDATABASE_URL=postgres://u:{KEY}pg@127.0.0.1:1/d\n\
         BROKER_URL=redis://:{good}@localhost:{port}/2\n"
    );
    let desk = desk(&env);
    let ended =
        desk.run(&["adopt", "web", "--systemd", "web", "--changed-at", "2026-01-02", "--json"]).expect(14);
    let told = ended.json();
    let login = |name: &str| {
        let secrets = told["secrets"].as_array().expect("secrets");
        let secret = secrets.iter().find(|secret| secret["name"] == name).expect("it is told");
        (secret["login"].clone(), secret["stored"].clone())
    };
    assert_eq!(login("redis/password"), ("verified".into(), true.into()), "{told}");
    assert_eq!(login("redis-2/password"), ("refused".into(), false.into()));
    assert_eq!(login("postgres/password"), ("unreachable".into(), true.into()));
    assert!(
        ended
            .stderr
            .contains("QUEUE_URL of .env is left out: it holds another value for `redis`, which is refused"),
        "{ended:?}"
    );
    let plan = desk.read("web/reseal.toml");
    assert!(
        plan.contains("# [secrets.\"redis-2/password\"]") && plan.contains("# Its login is not verified"),
        "{plan}"
    );
    let show = desk.run(&["history", "web/redis/password", "--json"]).expect(0).stdout;
    assert!(show.contains("2026-01-02"), "{show}");

    // One server by two names is one secret in three places.
    assert_eq!(told["secrets"].as_array().map(Vec::len), Some(3), "{told}");
    assert_eq!(plan.matches("_URL\"").count(), 4, "{plan}");

    // Nobody is known to read the file: values are kept, and nothing rotates. One of two values of a user is refused.
    std::fs::remove_file(desk.path().join("web/reseal.toml")).expect("a file");
    let env: Vec<_> = env.lines().filter(|line| !line.starts_with("OTHER_URL")).collect();
    desk.write("web/.env", &env.join("\n"));
    let ended = desk.run(&["adopt", "web"]).expect(14);
    assert!(ended.stderr.contains("which application reads .env is not known"), "{ended:?}");
    let read = Plan::load(&desk.path().join("web/reseal.toml")).expect("a plan");
    assert!(read.file.secrets.is_empty());
}
