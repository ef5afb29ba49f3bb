//! The WhatsApp CRM stack of runbook R1, running: Redis and Postgres, a backend and a worker in compose, three `.env`
//! files, and a plaintext backup that somebody forgot.

use std::net::{IpAddr, Ipv4Addr};
use std::time::{Duration, Instant};

use reseal_sandbox::postgres::{Options, Server};

use crate::stand_in::{Compose, StandIn, python_source};

/// Where Redis has its password from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RedisPassword {
    /// `redis-server --requirepass ${REDIS_PASSWORD}`: a change is gone with the next start of the container.
    Argument,
    /// `requirepass` in `redis/redis.conf`, which Redis may rewrite.
    File,
}

/// The values that the stack begins with.
pub const REDIS_PASSWORD: &str = "MySecurePassword123!";
/// The password of role `crm_user`.
pub const DB_PASSWORD: &str = "crm-user-before-0001";
/// Django's key.
pub const DJANGO_SECRET_KEY: &str = "django-insecure-before-9f8e7d6c5b4a";

/// What `manage.py check` comes to: the settings are there.
const MANAGE: &str = r#"import os, sys
assert sys.argv[1:] == ["check"] and os.environ["DB_PASSWORD"] and os.environ["DJANGO_SECRET_KEY"]
print("System check identified no issues (0 silenced).")
"#;

/// The running stack. Postgres runs beside compose; the service `db` publishes its port.
#[derive(Debug)]
pub struct Hanna {
    /// Compose and its project directory, in which the plan belongs.
    pub stand_in: StandIn,
    /// The server behind the service `db`.
    pub postgres: Server,
    /// Where Redis listens, on port 6379; its replica has the next address.
    pub redis: IpAddr,
    /// Where the backend listens.
    pub web: (IpAddr, u16),
}

impl Hanna {
    /// Starts everything and waits until the backend is healthy.
    ///
    /// # Panics
    ///
    /// If a server cannot be started; the message names the package.
    pub async fn start(password: RedisPassword) -> Self {
        let postgres = Server::start(Options { listen_tcp: true, durable: false, ..Options::default() });
        let postgres = postgres.unwrap_or_else(|error| panic!("{error}"));
        let client = crate::scene::connect(&postgres.config()).await;
        let setup = format!(
            // As `POSTGRES_USER` of the image makes it.
            "CREATE ROLE crm_user LOGIN SUPERUSER PASSWORD '{DB_PASSWORD}'; CREATE DATABASE whatsapp_crm_dev OWNER crm_user"
        );
        for statement in setup.split("; ") {
            client.batch_execute(statement).await.expect("a superuser may");
        }
        let stand_in = StandIn::new(Compose::Plugin);
        let redis = free_address();
        let stack = Self { web: (redis, 8000), stand_in, postgres, redis };
        stack.write_files(password);
        stack.stand_in.must(&["docker", "compose", "up", "-d"]);
        stack.stand_in.forget_calls();
        stack.until_healthy().await;
        stack
    }

    /// Where the replica of Redis listens.
    pub fn replica(&self) -> IpAddr {
        next(self.redis)
    }

    /// What the health page of the backend answers; waits until somebody does.
    ///
    /// # Panics
    ///
    /// If nobody does for a minute.
    pub async fn health(&self) -> (u16, String) {
        let begin = Instant::now();
        loop {
            if let Some(health) = self.get("/health").await {
                return health;
            }
            assert!(begin.elapsed() < Duration::from_secs(60), "the backend does not answer");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Whether the backend runs with this value of a variable.
    pub async fn has(&self, variable: &str, value: &str) -> bool {
        use sha2::Digest;
        let digest = hex::encode(sha2::Sha256::digest(value));
        self.get(&format!("/has/{variable}/{digest}")).await.is_some_and(|(status, _)| status == 200)
    }

    /// Lets the backend fail with every value of this variable but the one that it has now: `dies` at start, answers
    /// `500`, `hangs`, or works `once`.
    pub fn plant_fault(&self, mode: &str, variable: &str, good: &str) {
        use sha2::Digest;
        let digest = hex::encode(sha2::Sha256::digest(good));
        self.stand_in.write("whatsappcrm_backend/fault", &format!("{mode} {variable} {digest}"));
    }

    /// Waits until the backend is healthy.
    ///
    /// # Panics
    ///
    /// If it does not come to be.
    pub async fn until_healthy(&self) {
        let begin = Instant::now();
        loop {
            let health = self.get("/health").await;
            if health.as_ref().is_some_and(|(status, _)| *status == 200) {
                return;
            }
            if begin.elapsed() > Duration::from_secs(60) {
                let logs = self.stand_in.must(&["docker", "compose", "logs"]);
                panic!("the backend is not healthy: {health:?}\n{logs}");
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    async fn get(&self, path: &str) -> Option<(u16, String)> {
        crate::web::ask(self.web, &format!("GET {path}"), &[], "").await
    }

    fn write_files(&self, password: RedisPassword) {
        let write = |file: &str, text: &str| self.stand_in.write(file, text);
        let python = self.stand_in.python().display();
        self.stand_in.program("python", &format!("#!/bin/sh\nexec '{python}' \"$@\"\n"));
        write("whatsappcrm_backend/manage.py", MANAGE);
        write("docker-compose.yml", &self.compose_file(password));
        write(
            ".env",
            &format!(
                "# Root of the stack\nREDIS_PASSWORD='{REDIS_PASSWORD}'\nDB_PASSWORD={DB_PASSWORD}\nCOMPOSE_HTTP_TIMEOUT=120\n"
            ),
        );
        let encoded = REDIS_PASSWORD.replace('!', "%21");
        write(
            "whatsappcrm_backend/.env",
            &format!(
                "DEBUG=False\nexport REDIS_PASSWORD='{REDIS_PASSWORD}'   # cache and broker\nDB_PASSWORD=\"{DB_PASSWORD}\"\nDJANGO_SECRET_KEY='{DJANGO_SECRET_KEY}'\nCELERY_BROKER_URL=redis://:{encoded}@redis:6379/0\nREDIS_URL=redis://:{encoded}@redis:6379/0\nDB_HOST=db\n"
            ),
        );
        write(
            "whatsappcrm_backend/.env.prod",
            &format!(
                "REDIS_PASSWORD={REDIS_PASSWORD}\nREDIS_URL=redis://:${{REDIS_PASSWORD}}@redis:6379/0\nDB_PASSWORD={DB_PASSWORD}\nDJANGO_SECRET_KEY={DJANGO_SECRET_KEY}\n"
            ),
        );
        write(".redis-password-backup", &format!("{REDIS_PASSWORD}\n"));
        write("redis/redis.conf", &format!("requirepass {REDIS_PASSWORD}\n"));
        for folder in ["redis/data", "redis/replica"] {
            std::fs::create_dir_all(self.stand_in.project().join(folder)).expect("a directory");
        }
    }

    fn compose_file(&self, password: RedisPassword) -> String {
        let port = self.postgres.tcp_port().expect("it listens");
        let python = self.stand_in.python().display();
        let program = python_source("web_app.py");
        let program = program.display();
        let (redis, replica) = (self.redis, self.replica());
        let (sockets, programs) = (self.postgres.socket_dir(), self.postgres.programs());
        let (sockets, programs) = (sockets.display(), programs.display());
        // Whole: `CONFIG REWRITE` writes it down, and the argument is read from there.
        let data = self.stand_in.project().join("redis/data");
        let data = data.display();
        let listen = format!("--bind {redis} --port 6379 --save '' --dir {data}");
        let (started, protected) = match password {
            RedisPassword::Argument => (format!("redis-server {listen}"), "--requirepass ${REDIS_PASSWORD}"),
            RedisPassword::File => (format!("redis-server redis.conf {listen}"), ""),
        };
        format!(
            r#"services:
  db:
    image: postgres:15
    command: sleep 100000
    environment:
      PGHOST: {sockets}
      PGPORT: "{port}"
      PATH: {programs}:/usr/bin:/bin
    ports: ["{port}:5432"]
    volumes: ["pgdata:/var/lib/postgresql/data"]
  redis:
    image: redis:7
    working_dir: redis
    command: {started} {protected}
    volumes: ["redisdata:/data"]
    networks: {{ default: {{ ipv4_address: {redis} }} }}
  redis-replica:
    image: redis:7
    working_dir: redis
    command: redis-server --bind {replica} --port 6379 --save '' --dir replica --replica-announce-ip {replica} --replicaof {redis} 6379 --masterauth ${{REDIS_PASSWORD}} --requirepass ${{REDIS_PASSWORD}}
    depends_on: [redis]
    networks: {{ default: {{ ipv4_address: {replica} }} }}
  backend:
    working_dir: whatsappcrm_backend
    command: {python} {program} --listen {redis}:8000 --dotenv .env --fault fault
    env_file: [whatsappcrm_backend/.env.prod]
    environment: &database
      DB_HOST: 127.0.0.1
      DB_PORT: "{port}"
      DB_NAME: whatsapp_crm_dev
      DB_USER: crm_user
    depends_on: [db, redis]
  celery_io_worker:
    working_dir: whatsappcrm_backend
    command: {python} {program} --worker --dotenv .env
    env_file: [whatsappcrm_backend/.env.prod]
    environment: *database
    depends_on: [db, redis]
volumes:
  pgdata:
  redisdata:
"#
        )
    }
}

fn next(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(v4) => IpAddr::V4(Ipv4Addr::from_bits(v4.to_bits() + 1)),
        IpAddr::V6(_) => unreachable!("they are loopback addresses of version 4"),
    }
}

/// An address of the loopback network that nobody else listens on: one for each test and process.
///
/// # Panics
///
/// If none is free.
pub fn free_address() -> IpAddr {
    let process = std::process::id();
    for round in 0..200_u32 {
        let spread = process.wrapping_mul(200).wrapping_add(round);
        let [_, _, second, third] = spread.to_be_bytes();
        let address = Ipv4Addr::new(127, 64 + (spread >> 16 & 63) as u8, second, third & 0xfe | 2);
        let addresses = [IpAddr::V4(address), next(IpAddr::V4(address))];
        let is_free = |address: &IpAddr| std::net::TcpListener::bind((*address, 6379)).is_ok();
        if addresses.iter().all(is_free) {
            return addresses[0];
        }
    }
    panic!("no loopback address is free for Redis")
}
