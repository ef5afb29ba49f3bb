//! The stack of runbook R4, running: Django behind gunicorn in systemd, Next.js in pm2, Postgres with a role that another
//! one may take turns with.

use std::net::{IpAddr, Ipv4Addr, TcpListener};
use std::time::{Duration, Instant};

use reseal_sandbox::postgres::{Options, Server};

use crate::env_readers::node_modules;
use crate::stand_in::{Compose, StandIn, python_source};
use crate::web;

/// The values that the stack begins with.
pub const SECRET_KEY: &str = "django-before-0123456789abcdef";
/// Signs what revalidates pages.
pub const REVALIDATE_SECRET: &str = "revalidate-before-0123456789abcdef";
/// Signs views of pages.
pub const ANALYTICS_SECRET: &str = "analytics-before-0123456789abcdef";
/// The password of role `leather_api`.
pub const DB_PASSWORD: &str = "leather-api-before-0001";

/// What a reload of the API makes of its environment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reload {
    /// New workers read it anew.
    Reads,
    /// The application is loaded before workers are made, so new workers have the old one.
    Keeps,
}

/// The running stack.
#[derive(Debug)]
pub struct Leather {
    /// systemd, pm2 and the project directory, in which the plan belongs.
    pub stand_in: StandIn,
    /// Database `leather_api`, all of it owned by role `leather_api_owner`.
    pub postgres: Server,
    /// Where the API listens: it verifies signatures.
    pub api: u16,
    /// Where the front end listens: it signs.
    pub web: u16,
}

impl Leather {
    /// Starts everything and waits until it is healthy.
    ///
    /// # Panics
    ///
    /// If something cannot be started; the message names the package.
    pub async fn start(reload: Reload) -> Self {
        let postgres = Server::start(Options { listen_tcp: true, durable: false, ..Options::default() });
        let postgres = postgres.unwrap_or_else(|error| panic!("{error}"));
        let root = crate::scene::connect(&postgres.config()).await;
        for statement in [
            "CREATE ROLE leather_api_owner NOLOGIN",
            &format!("CREATE ROLE leather_api LOGIN PASSWORD '{DB_PASSWORD}'"),
            "GRANT leather_api_owner TO leather_api",
            "ALTER ROLE leather_api SET role TO leather_api_owner",
            "CREATE DATABASE leather_api OWNER leather_api_owner",
        ] {
            root.batch_execute(statement).await.expect("a superuser may");
        }
        let mut config = postgres.config();
        config.user("leather_api").dbname("leather_api");
        let table = "CREATE TABLE seen (at timestamptz)";
        crate::scene::connect(&config).await.batch_execute(table).await.expect("the owner may");
        let stack =
            Self { stand_in: StandIn::new(Compose::Plugin), postgres, api: free_port(), web: free_port() };
        stack.write_files(reload);
        stack.stand_in.must(&["systemctl", "start", "gunicorn"]);
        let (port, api) = (format!("PORT={}", stack.web), stack.api.to_string());
        let (program, modules) = (node_source(), node_modules().display().to_string());
        let next = ["node", &program, "nextjs/.env", &api, &modules];
        // Somebody exported what the file holds, as `set -a; . nextjs/.env; pm2 start` does.
        let exported = [("REVALIDATE_SECRET", REVALIDATE_SECRET), ("ANALYTICS_SECRET", ANALYTICS_SECRET)]
            .map(|(name, value)| format!("{name}={value}"));
        let start = ["/usr/bin/env", &port, &exported[0], &exported[1], "pm2", "start"];
        stack.stand_in.must(&[&start[..], &next, &["--name", "nextjs-app", "-i", "1"]].concat());
        stack.stand_in.forget_calls();
        stack.until_healthy().await;
        stack
    }

    /// Asks the API.
    pub async fn ask_api(&self, what: &str) -> Option<(u16, String)> {
        web::ask(here(self.api), what, &[], "").await
    }

    /// Whether an application, by its port, runs with this value of a variable.
    pub async fn has(&self, port: u16, variable: &str, value: &str) -> bool {
        use sha2::Digest;
        let digest = hex::encode(sha2::Sha256::digest(value));
        let found = web::ask(here(port), &format!("GET /has/{variable}/{digest}"), &[], "").await;
        found.is_some_and(|(status, _)| status == 200)
    }

    /// The database as its applications reach it, without the user.
    pub fn database(&self) -> String {
        format!("127.0.0.1:{}/leather_api", self.postgres.tcp_port().expect("it listens"))
    }

    async fn until_healthy(&self) {
        let begin = Instant::now();
        loop {
            let api = self.ask_api("GET /api/healthcheck/").await;
            let web = web::ask(here(self.web), "GET /", &[], "").await;
            if [&api, &web].iter().all(|seen| seen.as_ref().is_some_and(|(status, _)| *status == 200)) {
                return;
            }
            assert!(begin.elapsed() < Duration::from_secs(60), "the stack is not healthy: {api:?}, {web:?}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    fn write_files(&self, reload: Reload) {
        let project = self.stand_in.project();
        let (database, python) = (self.database(), self.stand_in.python().display());
        self.stand_in.write(
            "django/.env",
            &format!(
                "# The API\nDEBUG=False\nSECRET_KEY='{SECRET_KEY}'\nSECRET_KEY_FALLBACKS=\n\
                 REVALIDATE_SECRET={REVALIDATE_SECRET}\nREVALIDATE_SECRET_OLD=\n\
                 ANALYTICS_SECRET=\"{ANALYTICS_SECRET}\"\nANALYTICS_SECRET_OLD=\n\
                 DATABASE_URL=postgresql://leather_api:{DB_PASSWORD}@{database} # by turns\n"
            ),
        );
        self.stand_in.write(
            "nextjs/.env",
            &format!("REVALIDATE_SECRET={REVALIDATE_SECRET}\nANALYTICS_SECRET={ANALYTICS_SECRET}\n"),
        );
        self.stand_in.write("django/logs/django.log", "");
        self.stand_in.program("celery", "#!/bin/sh\necho '->  celery@leather: OK'\n");
        self.stand_in.program("python", &format!("#!/bin/sh\nexec '{python}' \"$@\"\n"));
        self.stand_in.write("manage.py", "import sys\nassert sys.argv[1:] == ['clearsessions']\n");
        let preload = if reload == Reload::Keeps { "--preload" } else { "" };
        let (program, directory) = (python_source("leather_django.py"), project.join("django"));
        self.stand_in.unit(
            "gunicorn",
            &format!(
                "[Service]\nWorkingDirectory={}\n\
                 ExecStart={python} {} --listen 127.0.0.1:{} --dotenv .env --log logs/django.log {preload}\n\
                 ExecReload=/bin/kill -HUP $MAINPID\n",
                directory.display(),
                program.display(),
                self.api
            ),
        );
    }
}

/// An address of this machine.
pub fn here(port: u16) -> (IpAddr, u16) {
    (IpAddr::V4(Ipv4Addr::LOCALHOST), port)
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("a free port").port()
}

fn node_source() -> String {
    format!("{}/node/leather_next.js", env!("CARGO_MANIFEST_DIR"))
}
