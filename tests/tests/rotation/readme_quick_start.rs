//! The README's quick start "rotate what is in your `.env`", cut out of its code block and typed by a fresh user on a terminal:
//! Postgres, Redis and a web application in compose, with a plaintext `.env` and a forgotten copy of it.
//!
//! Where the tests run as root, the fresh user is one that nobody is; else it is whoever runs them, with an empty home.

use std::fs;
use std::io::{BufRead, BufReader};
use std::net::IpAddr;
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use reseal_sandbox::postgres::{Options, Server};
use reseal_tests::command::program;
use reseal_tests::hanna::free_address;
use reseal_tests::scene::connect;
use reseal_tests::stand_in::{Compose, StandIn, python_source};

const README: &str = include_str!("../../../README.md");
const HEADING: &str = "## Quick start: rotate what is in your `.env`\n";
const PASSPHRASE: &str = "correct horse battery staple";

const DB_PASSWORD: &str = "shop-of-yesterday-4711";
const REDIS_PASSWORD: &str = "Cache0fYesterday!";
const SECRET_KEY: &str = "9f8e7d6c5b4a39281706f5e4d3c2b1a0";
const VALUES: [&str; 4] = [DB_PASSWORD, REDIS_PASSWORD, "Cache0fYesterday%21", SECRET_KEY];

/// The first block of shell under the heading.
fn block() -> &'static str {
    let (_, section) = README.split_once(HEADING).expect("the README has the quick start");
    let section = section.split("\n## ").next().unwrap_or_default();
    let (_, block) = section.split_once("```sh\n").expect("with a block of shell");
    block.split_once("```").expect("that ends").0
}

/// A project of a fresh user.
struct World {
    stand_in: StandIn,
    postgres: Server,
    address: IpAddr,
    user: Option<u32>,
    /// The Python that this user may run.
    python: PathBuf,
    /// What runs the stand-ins for this user.
    relay: Child,
}

impl Drop for World {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.relay.kill();
        let _ = self.relay.wait();
    }
}

impl World {
    async fn start() -> Self {
        let options = Options { listen_tcp: true, durable: false, ..Options::default() };
        let postgres = Server::start(options).unwrap_or_else(|error| panic!("{error}"));
        let client = connect(&postgres.config()).await;
        for statement in
            [&format!("CREATE ROLE shop LOGIN PASSWORD '{DB_PASSWORD}'"), "CREATE DATABASE shop OWNER shop"]
        {
            client.batch_execute(statement).await.expect("a superuser may");
        }
        let stand_in = StandIn::new(Compose::Plugin);
        let root = root(&stand_in);
        let (user, python) = fresh_user(stand_in.python());
        let relay = relay(&stand_in, &root);
        let world = Self { stand_in, postgres, address: free_address(), user, python, relay };
        world.write_files(&root);
        world.give_away(&root);
        world
    }

    fn write_files(&self, root: &Path) {
        for folder in ["home/run", "own", "project/redis"] {
            fs::create_dir_all(root.join(folder)).expect("a directory");
        }
        for source in ["relay.py", "typist.py"] {
            fs::copy(python_source(source), root.join("own").join(source)).expect("a copy");
        }
        fs::copy(program(), root.join("own/built")).expect("a copy");
        let own = |name: &str, text: &str| {
            let path = root.join("own").join(name);
            fs::write(&path, format!("#!/bin/sh\n{text}\n")).expect("a file");
            fs::set_permissions(path, PermissionsExt::from_mode(0o755)).expect("it is ours");
        };
        let here = root.display();
        let python = self.python.display();
        own("docker", &format!("exec '{python}' '{here}/own/relay.py' call '{here}/socket' docker \"$@\""));
        own("crontab", "case $1 in -l) cat ~/crontab;; -) cat > ~/crontab;; *) exit 1;; esac");
        own(
            "cargo",
            &format!(
                "[ \"$*\" = 'install --path crates/reseal' ] || exit 1\n\
                 mkdir -p ~/.cargo/bin && cp '{here}/own/built' ~/.cargo/bin/reseal"
            ),
        );
        std::os::unix::fs::symlink("../project", root.join("home/shop")).expect("a link");
        fs::set_permissions(root.join("home/run"), PermissionsExt::from_mode(0o700)).expect("it is ours");
        let env = format!(
            "# The shop\nDB_HOST=db\nDB_NAME=shop\nDB_USER=shop\nDB_PASSWORD={DB_PASSWORD}\n\n\
             REDIS_PASSWORD={REDIS_PASSWORD}\nREDIS_URL=redis://:Cache0fYesterday%21@redis:6379/0\n\
             SECRET_KEY={SECRET_KEY}   # of the sessions\nDEBUG=false\n"
        );
        self.stand_in.write(".env", &env);
        self.stand_in.write(".env.backup.20260101", &env);
        self.stand_in.write("docker-compose.yml", &self.compose_file());
    }

    fn compose_file(&self) -> String {
        let port = self.postgres.tcp_port().expect("it listens");
        let (python, address) = (self.stand_in.python().display(), self.address);
        let (app, data) = (python_source("web_app.py"), self.stand_in.project().join("redis"));
        format!(
            r#"services:
  db:
    image: postgres:15
    command: sleep 100000
    ports: ["{port}:5432"]
  redis:
    image: redis:7
    command: redis-server --bind {address} --port 6379 --save '' --dir {data} --requirepass ${{REDIS_PASSWORD}}
    networks: {{ default: {{ ipv4_address: {address} }} }}
  web:
    command: {python} {app} --listen {address}:8000
    env_file: [.env]
    environment:
      DB_PORT: "{port}"
    depends_on: [db, redis]
"#,
            data = data.display(),
            app = app.display()
        )
    }

    /// Everything belongs to the user.
    fn give_away(&self, directory: &Path) {
        let Some(user) = self.user else { return };
        let mut queue = vec![directory.to_owned()];
        while let Some(path) = queue.pop() {
            if path.is_symlink() {
                continue;
            }
            chown(&path, Some(user), Some(user)).expect("root may");
            if path.is_dir() {
                queue.extend(fs::read_dir(&path).expect("a directory").flatten().map(|entry| entry.path()));
            }
        }
    }

    /// Types these lines into a shell, as the user.
    fn types(&self, lines: &str) -> Output {
        let root = root(&self.stand_in);
        let (home, own) = (root.join("home"), root.join("own"));
        let rest = std::env::var("PATH").unwrap_or_default();
        let path = format!("{}/.cargo/bin:{}:{rest}", home.display(), own.display());
        let mut command = Command::new(&self.python);
        command.arg(own.join("typist.py")).args([PASSPHRASE, "bash", "-euxc", lines]);
        command.env_clear().env("PATH", path).env("HOME", &home).env("XDG_RUNTIME_DIR", home.join("run"));
        command.current_dir(&home).stdin(Stdio::null());
        if let Some(user) = self.user {
            command.uid(user).gid(user);
        }
        command.output().expect("the typist runs")
    }

    fn must_type(&self, lines: &str) -> String {
        let output = self.types(lines);
        let shown = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(
            output.status.success(),
            "{}: {shown}{}",
            output.status,
            String::from_utf8_lossy(&output.stderr)
        );
        shown
    }

    async fn database_accepts(&self, value: &str) -> bool {
        let mut config = tokio_postgres::Config::new();
        let port = self.postgres.tcp_port().expect("it listens");
        config.host("127.0.0.1").port(port).user("shop").password(value).dbname("shop");
        config.connect(tokio_postgres::NoTls).await.is_ok()
    }
}

fn root(stand_in: &StandIn) -> PathBuf {
    stand_in.project().parent().expect("it stands in a directory").to_owned()
}

/// What runs the stand-ins, as the daemon of Docker does.
fn relay(stand_in: &StandIn, root: &Path) -> Child {
    let mut command = Command::new(stand_in.python());
    command.arg(python_source("relay.py")).arg("serve").arg(root.join("socket")).arg(root.join("bin"));
    let mut relay = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().expect("Python runs");
    let mut said = String::new();
    let stdout = relay.stdout.as_mut().expect("it is piped");
    BufReader::new(stdout).read_line(&mut said).expect("text");
    assert_eq!(said, "ready\n");
    relay
}

/// A user without a name, where the tests may become one, and a Python that this user may run.
fn fresh_user(python: &Path) -> (Option<u32>, PathBuf) {
    if !rustix::process::geteuid().is_root() {
        return (None, python.to_owned());
    }
    let user = 300_000 + std::process::id() % 100_000;
    let may_run = |python: &PathBuf| {
        let mut look = Command::new(python);
        look.args(["-c", "import json, pty, socketserver"]).uid(user).gid(user).current_dir("/");
        look.stderr(Stdio::null()).status().is_ok_and(|status| status.success())
    };
    match [python.to_owned(), "/usr/bin/python3".into()].into_iter().find(may_run) {
        Some(python) => (Some(user), python),
        None => {
            println!("no other user may run Python here: an empty home has to do");
            (None, python.to_owned())
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn readme_quick_start_rotates_a_fresh_users_env() {
    let world = World::start().await;
    println!("the user: {:?}", world.user);
    world.must_type("cd ~/shop; docker compose up -d");
    // The checks of the one application look for a second instead of ten: the only line that the README does not have.
    let adopt = block().lines().find(|line| line.starts_with("reseal adopt")).expect("it adopts");
    let quick = format!("{adopt}\nsed -i 's/^compose = .*/&\\nhold = \"1s\"/' reseal.toml");
    let shown = world.must_type(&block().replace(adopt, &quick));
    println!("{shown}");

    let project = world.stand_in.project();
    let env = fs::read_to_string(project.join(".env")).expect("text");
    let now = |name: &str| {
        let line = env.lines().find_map(|line| line.strip_prefix(&format!("{name}=")));
        line.expect("it is there").split(' ').next().unwrap_or_default().to_owned()
    };
    for old in VALUES {
        assert!(!env.contains(old), "{env}");
        assert!(!shown.contains(old), "{old} was shown: {shown}");
        assert!(!shown.contains(&now("DB_PASSWORD")) && !shown.contains(&now("SECRET_KEY")), "{shown}");
    }
    assert!(
        env.starts_with("# The shop\nDB_HOST=db\n") && env.contains("   # of the sessions\nDEBUG=false\n"),
        "{env}"
    );
    assert!(world.database_accepts(&now("DB_PASSWORD")).await && !world.database_accepts(DB_PASSWORD).await);
    assert_eq!(now("REDIS_URL"), format!("redis://:{}@redis:6379/0", now("REDIS_PASSWORD")));
    let web = (world.address, 8000);
    let (status, said) = reseal_tests::web::ask(web, "GET /health", &[], "").await.expect("it answers");
    assert_eq!(status, 200, "{said}");

    let entries = fs::read_dir(&project).expect("a directory").flatten();
    let mut names: Vec<_> = entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    assert_eq!(names, [".env", "docker-compose.yml", "redis", "reseal.toml"], "no leftovers");
    let crontab = fs::read_to_string(root(&world.stand_in).join("home/crontab")).expect("a crontab");
    assert!(crontab.contains("rotate --due") && crontab.contains("status"), "{crontab}");
    if let Some(user) = world.user {
        let owner = |path: &Path| std::os::unix::fs::MetadataExt::uid(&path.metadata().expect("it is there"));
        assert_eq!([owner(&project.join(".env")), owner(&project.join("reseal.toml"))], [user; 2]);
    }
    let told = world.must_type("cd ~/shop; reseal snapshot list; reseal rotate status; reseal lock");
    assert!(told.contains(".env.backup.20260101") && told.matches("90d").count() == 3, "{told}");
    for call in world.stand_in.calls() {
        for word in ["restart", "down"] {
            assert!(!call.names(&[word]), "{call:?}");
        }
    }
}
