//! The application of runbook R2, running: a Postgres with the encrypted table, and a service that reads and writes it
//! with the keys of its `.env`, kept by the stand-in of systemd.

use std::collections::BTreeMap;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use reseal_sandbox::ledger::Ledger;
use reseal_sandbox::postgres::{Options, Server};
use reseal_sandbox::seal::{Key, Sealer};
use reseal_sandbox::table::{StoredRow, Table};
use reseal_sandbox::values::{Cell, Values};
use serde::Deserialize;
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_postgres::{Client, Config};

use crate::command::{Ended, finish, program};
use crate::scheme::{Scheme, Stored};
use crate::stand_in::{Compose, StandIn, python_source};

/// The key that the values are under to begin with.
pub const OLD: &str = "the DB_ENCRYPTION_KEY of last quarter";
/// The password of the role that the plan and the application log in as.
pub const DB_PASSWORD: &str = "eventuser-0123456789";

/// How many keys the application knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Keys {
    /// `DB_ENCRYPTION_KEY`, read at start: it has to stand still while the values change.
    One,
    /// That, the next and the previous one, read again on SIGHUP.
    Two,
}

/// The running application.
#[derive(Debug)]
pub struct Crm {
    /// systemd and the project directory.
    pub stand_in: StandIn,
    /// The server with database `eventdb`.
    pub server: Server,
    rows: i64,
    port: u16,
    values: Values,
}

/// What the application says of itself.
#[derive(Debug, Clone, Deserialize)]
pub struct Stats {
    /// Reads that succeeded.
    pub reads: u64,
    /// Writes that were acknowledged.
    pub writes: u64,
    /// What failed, in words.
    pub failures: Vec<String>,
}

/// What the table holds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Found {
    /// Values that open under the old key, and say what they should.
    pub old: u64,
    /// Those under the new key.
    pub new: u64,
    /// Values that open under neither key, or say something else.
    pub wrong: u64,
}

impl Crm {
    /// Loads the table, starts the application and waits until it is healthy; `plan` of the runbook gets its addresses.
    ///
    /// # Panics
    ///
    /// If something cannot be started; the message names the package.
    pub async fn start(keys: Keys, rows: i64, seed: u64) -> Self {
        let server = Server::start(Options { listen_tcp: true, durable: false, ..Options::default() });
        let server = server.unwrap_or_else(|error| panic!("{error}"));
        let root = server.connect().await.expect("the server answers");
        let role = format!("CREATE ROLE eventuser LOGIN PASSWORD '{DB_PASSWORD}'");
        for statement in [role.as_str(), "CREATE DATABASE eventdb OWNER eventuser"] {
            root.batch_execute(statement).await.expect("a superuser may");
        }
        let free = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let port = free.local_addr().expect("it is bound").port();
        drop(free);
        let stand_in = StandIn::new(Compose::Plugin);
        let crm = Self { stand_in, server, rows, port, values: Values::new(seed) };
        crm.load().await;
        crm.write_files(keys);
        crm.stand_in.must(&["systemctl", "start", "event-planning-api"]);
        crm.until_healthy().await;
        crm.stand_in.forget_calls();
        crm
    }

    async fn load(&self) {
        let client = self.client().await;
        let table = Table::default();
        table.create(&client).await.unwrap_or_else(|error| panic!("{error}"));
        let keys = self.scheme(OLD, "none").two_keys(3);
        table.load(&client, 1..=self.rows, self.values, &keys).await.expect("rows can be loaded");
        let name = Table::NAME;
        let given = format!(
            "ALTER TABLE {name} OWNER TO eventuser;
             CREATE TABLE security_credential_rotations (id bigserial PRIMARY KEY, credential_type text NOT NULL,
                 rotated_by text NOT NULL, rotation_reason text, next_rotation_due timestamptz,
                 rotated_at timestamptz NOT NULL DEFAULT now());
             ALTER TABLE security_credential_rotations OWNER TO eventuser"
        );
        client.batch_execute(&given).await.expect("a superuser may");
        client.batch_execute(&format!("VACUUM ANALYZE {name}")).await.expect("a superuser may");
    }

    fn write_files(&self, keys: Keys) {
        let project = self.stand_in.project();
        let (python, script) = (self.stand_in.python().display(), python_source("crm_app.py"));
        let knows = if keys == Keys::One { "one" } else { "two" };
        self.stand_in.unit(
            "event-planning-api",
            &format!(
                "[Service]\nWorkingDirectory={}\nExecStart={python} {} --port {} --dotenv .env --keys {knows} --rows {} \
                 --ledger ledger.json --fault fault\nExecReload=/bin/kill -HUP $MAINPID\n",
                project.display(),
                script.display(),
                self.port,
                self.rows,
            ),
        );
        let port = self.server.tcp_port().expect("it listens");
        let more =
            if keys == Keys::One { "" } else { "DB_ENCRYPTION_KEY_PREVIOUS=\nDB_ENCRYPTION_KEY_NEXT=\n" };
        self.stand_in.write(
            ".env",
            &format!(
                "# CRM\nDB_PORT={port}\nDB_PASSWORD={DB_PASSWORD}\nexport DB_ENCRYPTION_KEY='{OLD}' # 90 days\n{more}SMTP_HOST=localhost\n"
            ),
        );
        self.mode(".env", 0o600);
    }

    /// Puts a vault beside the plan, with the key and the login that it names.
    ///
    /// # Panics
    ///
    /// If the command fails.
    pub fn make_vault(&self, plan: &str) {
        self.stand_in.write("reseal.toml", plan);
        self.stand_in.write("key-file", &"7".repeat(32));
        self.mode("key-file", 0o600);
        self.run(&["init", "--no-recovery-code"]).expect(0);
        self.run_with(&["put", "crm/db-encryption-key", "-"], OLD).expect(0);
        self.run_with(&["put", "crm/postgres/eventuser", "-"], DB_PASSWORD).expect(0);
    }

    fn mode(&self, file: &str, mode: u32) {
        let path = self.stand_in.project().join(file);
        std::fs::set_permissions(path, PermissionsExt::from_mode(mode)).expect("it is ours");
    }

    /// The URL of the application's health page.
    pub fn health_url(&self) -> String {
        format!("http://127.0.0.1:{}/health", self.port)
    }

    /// Lets the application be healthy with this key only.
    ///
    /// # Panics
    ///
    /// If that cannot be written.
    pub fn plant_fault(&self, good: &str) {
        use sha2::Digest;
        self.stand_in.write("fault", &hex::encode(sha2::Sha256::digest(good)));
    }

    /// Runs the command in the project.
    pub fn run(&self, arguments: &[&str]) -> Ended {
        self.run_with(arguments, "")
    }

    /// Runs the command with this input.
    ///
    /// # Panics
    ///
    /// If it does not start.
    pub fn run_with(&self, arguments: &[&str], input: &str) -> Ended {
        let mut child = self.begin(arguments);
        let mut stdin = child.stdin.take().expect("it is piped");
        // A command that does not read its input may have closed it.
        let _ = std::io::Write::write_all(&mut stdin, input.as_bytes());
        drop(stdin);
        finish(child)
    }

    /// Begins to run the command.
    ///
    /// # Panics
    ///
    /// If it does not start.
    pub fn begin(&self, arguments: &[&str]) -> Child {
        let project = self.stand_in.project();
        let mut command = Command::new(program());
        command.current_dir(&project).args(["--key-file", "key-file", "--no-input"]).args(arguments);
        command.env_clear().env("PATH", self.stand_in.path());
        command.env("HOME", &project).env("XDG_RUNTIME_DIR", &project);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command.spawn().expect("the command starts")
    }

    /// The key that the vault says is current.
    ///
    /// # Panics
    ///
    /// If the vault does not say.
    pub fn current_key(&self) -> String {
        self.run(&["get", "crm/db-encryption-key"]).expect(0).stdout.trim_end().to_owned()
    }

    /// A connection of the superuser to the application's database.
    ///
    /// # Panics
    ///
    /// If the server does not answer.
    pub async fn client(&self) -> Client {
        let mut config: Config = self.server.config();
        config.dbname("eventdb");
        crate::scene::connect(&config).await
    }

    /// The health page: `None` while nobody answers.
    pub async fn health(&self) -> Option<(u16, String)> {
        self.get("/health").await
    }

    /// Waits until the application is healthy.
    ///
    /// # Panics
    ///
    /// If it does not come to be.
    pub async fn until_healthy(&self) {
        let begin = Instant::now();
        loop {
            let health = self.health().await;
            if health.as_ref().is_some_and(|(status, _)| *status == 200) {
                return;
            }
            if begin.elapsed() > Duration::from_secs(60) {
                let logs = self.stand_in.must(&["journalctl", "--unit", "event-planning-api"]);
                panic!("the application is not healthy: {health:?}\n{logs}");
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// What the application counted; `None` while nobody answers.
    pub async fn stats(&self) -> Option<Stats> {
        let (_, text) = self.get("/stats").await?;
        serde_json::from_str(&text).ok()
    }

    async fn get(&self, path: &str) -> Option<(u16, String)> {
        let asked = async {
            let mut stream = TcpStream::connect(("127.0.0.1", self.port)).await.ok()?;
            let request = format!("GET {path} HTTP/1.1\r\nHost: api\r\nConnection: close\r\n\r\n");
            stream.write_all(request.as_bytes()).await.ok()?;
            let mut answer = String::new();
            stream.read_to_string(&mut answer).await.ok()?;
            let status = answer.split(' ').nth(1)?.parse().ok()?;
            Some((status, answer.split_once("\r\n\r\n")?.1.to_owned()))
        };
        tokio::time::timeout(Duration::from_secs(10), asked).await.ok().flatten()
    }

    fn scheme(&self, old: &str, new: &str) -> Scheme {
        let format = || json!({ "format": "pgcrypto", "encoding": "base64" });
        Scheme {
            old: Stored::new(format(), old),
            new: Stored::new(format(), new),
            ..Scheme::pgcrypto_to_pgcrypto()
        }
    }

    /// Stops the application, opens every value of the table under either key and compares it with what was loaded and
    /// with what the application was told to be written.
    ///
    /// # Panics
    ///
    /// If the table cannot be read.
    pub async fn look(&self, new: &str) -> Found {
        self.stand_in.must(&["systemctl", "stop", "event-planning-api"]);
        let ledger = self.stand_in.project().join("ledger.json");
        let written = std::fs::read_to_string(ledger).expect("the application left its ledger");
        let written: BTreeMap<String, String> = serde_json::from_str(&written).expect("it is JSON");
        let keys = self.scheme(OLD, new).two_keys(3);
        let ledger = Ledger::new(1..=self.rows, self.values);
        let mut found = Found::default();
        let compare = |rows: &[StoredRow]| {
            let cells: Vec<(Cell, &[u8])> = rows
                .iter()
                .flat_map(|row| row.cells.iter().enumerate().map(move |(column, cell)| (row, column, cell)))
                .filter_map(|(row, column, cell)| Some((Cell { id: row.id, column }, cell.as_deref()?)))
                .collect();
            for ((cell, _), opened) in cells.iter().zip(keys.open_many(&cells)) {
                let loaded = ledger.plaintexts(cell.id).and_then(|row| row[cell.column].clone());
                let rewritten = written.get(&cell.id.to_string()).filter(|_| cell.column == 2).cloned();
                match opened.filter(|opened| {
                    Some(&opened.plaintext[..]) == rewritten.or(loaded).as_deref().map(str::as_bytes)
                }) {
                    Some(opened) if opened.key == Key::Old => found.old += 1,
                    Some(_) => found.new += 1,
                    None => found.wrong += 1,
                }
            }
        };
        Table::default().scan(&self.client().await, compare).await.expect("the table can be read");
        found
    }
}
