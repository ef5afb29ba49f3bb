//! A private Postgres: made, killed, restarted and removed at will.

use std::ffi::OsString;
use std::fmt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use tokio_postgres::{Client, Config, NoTls};

use crate::binaries;
use crate::error::SandboxError;
use crate::guard::{Guarded, LastSignal};
use crate::private::{self, write_private};
use crate::usage;
use crate::user::ServerUser;

/// How long the server may take to start, to recover or to stop.
const PATIENCE: Duration = Duration::from_secs(120);
/// The port number in the name of the socket, where there is no TCP port.
const SOCKET_PORT: u16 = 5432;
/// The superuser of the private server, who is also its owner.
const SUPERUSER: &str = "postgres";

/// How a private server is set up. The default is what an installed one does: durable, with a socket only.
#[derive(Debug, Clone)]
pub struct Options {
    /// Where `postgres` and `initdb` are; looked for if `None`.
    pub programs: Option<PathBuf>,
    /// Whether it also listens on a free TCP port of 127.0.0.1, with SCRAM passwords.
    pub listen_tcp: bool,
    /// Whether commits reach the disk. Without, only a crash of the system loses data.
    pub durable: bool,
    /// Further settings, as in `postgresql.conf`, for example `("log_statement", "all")`.
    pub settings: Vec<(String, String)>,
    /// Whether TCP connections may use TLS; [`Server::ca_certificate`] is what clients trust.
    #[cfg(feature = "tls")]
    pub tls: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            programs: None,
            listen_tcp: false,
            durable: true,
            settings: Vec::new(),
            #[cfg(feature = "tls")]
            tls: false,
        }
    }
}

impl Options {
    /// Adds one setting.
    #[must_use]
    pub fn set(mut self, name: &str, value: &str) -> Self {
        self.settings.push((name.to_owned(), value.to_owned()));
        self
    }
}

/// A running private Postgres; it stops and its directory goes when this value is dropped.
pub struct Server {
    directory: PathBuf,
    programs: PathBuf,
    user: ServerUser,
    port: u16,
    tcp: bool,
    password: String,
    settings: Vec<OsString>,
    guard: Option<Guarded>,
    running: bool,
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Server").field("directory", &self.directory).finish_non_exhaustive()
    }
}

impl Server {
    /// Makes a new, empty server and starts it. Takes about one second.
    ///
    /// # Errors
    ///
    /// [`SandboxError`]: programs are missing, no user fits, or the server says why it does not start.
    pub fn start(options: Options) -> Result<Self, SandboxError> {
        let programs = match options.programs {
            Some(ref programs) => programs.clone(),
            None => binaries::postgres_directory()?,
        };
        let user = ServerUser::choose()?;
        let directory = private::make_directory("reseal-pg-", user)?;
        private::make_below(&directory, "s", user)?;
        let mut server = Self {
            directory,
            programs,
            user,
            port: if options.listen_tcp { private::free_port()? } else { SOCKET_PORT },
            tcp: options.listen_tcp,
            password: private::fresh_password()?,
            settings: Vec::new(),
            guard: None,
            running: false,
        };
        server.settings = server.arguments(&options)?;
        server.initialise()?;
        server.launch()?;
        Ok(server)
    }

    /// The URL of the socket, for the superuser, without a password.
    pub fn url(&self) -> String {
        self.url_of("postgres")
    }

    /// The URL of the socket, for the superuser in another database.
    pub fn url_of(&self, database: &str) -> String {
        let host = self.socket_dir().to_string_lossy().replace('%', "%25").replace('/', "%2F");
        format!("postgresql://{SUPERUSER}@{host}:{}/{database}", self.port)
    }

    /// The URL of the TCP port, for the superuser and without the password; `None` if it does not listen there.
    pub fn tcp_url(&self) -> Option<String> {
        self.tcp.then(|| format!("postgresql://{SUPERUSER}@127.0.0.1:{}/postgres", self.port))
    }

    /// The TCP port on 127.0.0.1, if it listens there.
    pub fn tcp_port(&self) -> Option<u16> {
        self.tcp.then_some(self.port)
    }

    /// The superuser's password, needed on TCP only.
    pub fn password(&self) -> &str {
        &self.password
    }

    /// The directory of the socket.
    pub fn socket_dir(&self) -> PathBuf {
        self.directory.join("s")
    }

    /// What the server writes to standard error: its log.
    pub fn log_path(&self) -> PathBuf {
        self.directory.join("log")
    }

    /// The directory with everything of the server, removed with it.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// The data directory.
    pub fn data_dir(&self) -> PathBuf {
        self.directory.join("data")
    }

    /// Where the server's programs are, for `psql` and `pg_dump`.
    pub fn programs(&self) -> &Path {
        &self.programs
    }

    /// The process id of the postmaster, while it runs.
    pub fn pid(&self) -> Option<Pid> {
        self.guard.as_ref().filter(|_| self.running).map(Guarded::pid)
    }

    /// The certificate of the authority that signed the server's, in PEM.
    #[cfg(feature = "tls")]
    pub fn ca_certificate(&self) -> PathBuf {
        self.directory.join("ca.pem")
    }

    /// What a client needs to connect through the socket as the superuser.
    pub fn config(&self) -> Config {
        let mut config = Config::new();
        config.host_path(self.socket_dir()).port(self.port).user(SUPERUSER).dbname("postgres");
        config
    }

    /// Connects through the socket; the connection is driven by a task of the current runtime.
    ///
    /// # Errors
    ///
    /// [`SandboxError::Sql`].
    pub async fn connect(&self) -> Result<Client, SandboxError> {
        connect(&self.config()).await
    }

    /// Kills all processes of the server with SIGKILL, as the end of the machine would.
    ///
    /// # Errors
    ///
    /// [`SandboxError::Timeout`] if a process of the server stays.
    pub fn kill_9(&mut self) -> Result<(), SandboxError> {
        if let Some(postmaster) = self.pid() {
            // A stopped postmaster neither makes nor reaps children, so these ids stay theirs. Without it, one that
            // waits for a lock of another that has gone would wait for ever.
            let _ = kill_process(postmaster, Signal::STOP);
            for child in usage::children(postmaster) {
                let _ = kill_process(child, Signal::KILL);
            }
        }
        self.end(Signal::KILL, "die")
    }

    /// Stops the server: its clients are disconnected, everything is written out.
    ///
    /// # Errors
    ///
    /// [`SandboxError::Timeout`].
    pub fn stop(&mut self) -> Result<(), SandboxError> {
        self.end(Signal::INT, "stop")
    }

    /// Starts the server again where it was, after [`Server::kill_9`] or [`Server::stop`]; stops it first if it runs.
    ///
    /// # Errors
    ///
    /// [`SandboxError`] with the end of the log.
    pub fn restart(&mut self) -> Result<(), SandboxError> {
        self.stop()?;
        self.launch()
    }

    /// CPU seconds that the server's processes have used, those that ended included; `None` where the system does not
    /// tell (it is read from `/proc`).
    pub fn cpu_seconds(&self) -> Option<f64> {
        usage::tree_cpu_seconds(self.pid()?)
    }

    fn end(&mut self, signal: Signal, what: &'static str) -> Result<(), SandboxError> {
        let Some(guard) = self.guard.as_ref().filter(|_| self.running) else { return Ok(()) };
        guard.signal(signal);
        if !guard.wait_gone(PATIENCE) {
            return Err(self.timeout("postgres", what));
        }
        self.running = false;
        Ok(())
    }

    fn initialise(&mut self) -> Result<(), SandboxError> {
        let password_file = self.directory.join("password");
        write_private(&password_file, self.password.as_bytes(), self.user)?;
        let mut arguments = self.user.prefix_for_initdb();
        arguments.extend([self.programs.join("initdb").into(), "-D".into(), self.data_dir().into()]);
        let options = ["-U", SUPERUSER, "-E", "UTF8", "--locale=C", "--auth-local=trust"];
        arguments.extend(options.map(OsString::from));
        // Nobody needs this server after a crash of the machine: the files of its birth need no sync.
        arguments.extend(["--auth-host=scram-sha-256", "--no-sync", "--pwfile"].map(OsString::from));
        arguments.push(password_file.clone().into());

        let guard = Guarded::spawn(&self.directory, self.user, LastSignal::Quit, &arguments)?;
        let guard = self.guard.insert(guard);
        if !guard.wait_gone(PATIENCE) {
            return Err(self.timeout("initdb", "finish"));
        }
        std::fs::remove_file(&password_file).map_err(SandboxError::io("remove", &password_file))?;
        if !self.data_dir().join("global/pg_control").exists() {
            return Err(SandboxError::Failed { program: "initdb", log: self.log_tail() });
        }
        Ok(())
    }

    fn launch(&mut self) -> Result<(), SandboxError> {
        let mut arguments: Vec<OsString> = vec![self.programs.join("postgres").into(), "-D".into()];
        arguments.push(self.data_dir().into());
        arguments.extend(self.settings.iter().cloned());
        // The old guard stays until the new one stands, so that at no moment the directory is without one.
        let old = self.guard.take().map(Guarded::reap).transpose()?;
        self.guard = Some(Guarded::spawn(&self.directory, self.user, LastSignal::Quit, &arguments)?);
        if let Some(old) = old {
            old.release();
        }
        self.running = true;
        self.wait_ready()
    }

    /// Waits as `pg_ctl` does: until the postmaster's own file says that it is ready.
    fn wait_ready(&mut self) -> Result<(), SandboxError> {
        let begin = Instant::now();
        let file = self.data_dir().join("postmaster.pid");
        while let Some(guard) = &self.guard {
            let told = std::fs::read_to_string(&file).unwrap_or_default();
            let mut lines = told.lines();
            let ours =
                lines.next().and_then(|pid| pid.trim().parse().ok()) == Some(guard.pid().as_raw_nonzero());
            // A standby says that it is one instead.
            if ours && lines.nth(6).is_some_and(|status| ["ready", "standby"].contains(&status.trim())) {
                return Ok(());
            }
            if guard.wait_gone(Duration::from_millis(10)) {
                self.running = false;
                return Err(SandboxError::Failed { program: "postgres", log: self.log_tail() });
            }
            if begin.elapsed() > PATIENCE {
                break;
            }
        }
        Err(self.timeout("postgres", "start"))
    }

    fn arguments(&self, options: &Options) -> Result<Vec<OsString>, SandboxError> {
        let mut settings = vec![
            ("unix_socket_directories".to_owned(), self.socket_dir().to_string_lossy().into_owned()),
            ("unix_socket_permissions".to_owned(), "0700".to_owned()),
            ("listen_addresses".to_owned(), if self.tcp { "127.0.0.1" } else { "" }.to_owned()),
            ("port".to_owned(), self.port.to_string()),
            ("timezone".to_owned(), "UTC".to_owned()),
        ];
        if cfg!(target_os = "linux") {
            // After a crash a server syncs its files one by one, which takes seconds; as a whole it takes none.
            settings.push(("recovery_init_sync_method".to_owned(), "syncfs".to_owned()));
        }
        if !options.durable {
            settings.extend(["fsync", "full_page_writes"].map(|name| (name.to_owned(), "off".to_owned())));
        }
        #[cfg(feature = "tls")]
        if options.tls {
            let files = crate::tls::install(&self.directory, self.user)?;
            let setting = |name: &str, value: &Path| (name.to_owned(), value.to_string_lossy().into_owned());
            settings.extend([
                setting("ssl", Path::new("on")),
                setting("ssl_cert_file", &files.certificate),
                setting("ssl_key_file", &files.key),
            ]);
        }
        settings.extend(options.settings.iter().cloned());
        let argument =
            |(name, value): (String, String)| [OsString::from("-c"), format!("{name}={value}").into()];
        Ok(settings.into_iter().flat_map(argument).collect())
    }

    fn timeout(&self, program: &'static str, what: &'static str) -> SandboxError {
        SandboxError::Timeout { program, what, seconds: PATIENCE.as_secs(), log: self.log_tail() }
    }

    fn log_tail(&self) -> String {
        private::tail(&self.log_path())
    }
}

/// Connects without TLS; the connection is driven by a task of the current runtime.
pub(crate) async fn connect(config: &Config) -> Result<Client, SandboxError> {
    let (client, connection) = config.connect(NoTls).await?;
    tokio::spawn(async move {
        // Its error reaches the statement that was under way.
        let _ = connection.await;
    });
    Ok(client)
}
