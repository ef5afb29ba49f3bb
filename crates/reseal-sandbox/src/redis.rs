//! A private Redis: made, killed, restarted and removed at will, with its password where people keep it.

use std::ffi::OsString;
use std::fmt;
use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use futures_util::StreamExt;
use redis::aio::MultiplexedConnection;
use redis::{Client, ConnectionAddr, IntoConnectionInfo, RedisConnectionInfo};
use rustix::process::{Pid, Signal};

use crate::binaries;
use crate::error::SandboxError;
use crate::guard::{Guarded, LastSignal};
use crate::private::{self, write_private};
use crate::user::ServerUser;

/// How long the server may take to start or to stop.
const PATIENCE: Duration = Duration::from_secs(60);
/// How long a command of ours may take.
const ANSWER: Duration = Duration::from_secs(20);

/// Where a server keeps its password.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum PasswordIn {
    /// `requirepass` in its configuration file.
    #[default]
    ConfigFile,
    /// Its users stand in a file of their own, `aclfile`.
    AclFile,
    /// `--requirepass` among its start arguments; there is no file that it could change.
    Arguments,
    /// A configuration file, and `--requirepass` among the start arguments.
    ArgumentsOverFile,
    /// There is none: anybody is let in.
    Nowhere,
}

impl PasswordIn {
    fn in_arguments(self) -> bool {
        matches!(self, Self::Arguments | Self::ArgumentsOverFile)
    }

    fn has_file(self) -> bool {
        self != Self::Arguments
    }
}

/// How a private server is set up. The default keeps its password in its configuration file and nothing on disk.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// `redis-server`; looked for if `None`.
    pub program: Option<PathBuf>,
    /// Where its password is.
    pub password_in: PasswordIn,
    /// Further settings, as in `redis.conf`, for example `("rename-command", "CONFIG \"\"")`.
    pub settings: Vec<(String, String)>,
    /// Whether it also listens for TLS; [`Server::ca_certificate`] is what clients trust.
    #[cfg(feature = "tls")]
    pub tls: bool,
}

impl Options {
    /// A server with its password in another place.
    pub fn with(password_in: PasswordIn) -> Self {
        Self { password_in, ..Self::default() }
    }

    /// Adds one setting.
    #[must_use]
    pub fn set(mut self, name: &str, value: &str) -> Self {
        self.settings.push((name.to_owned(), value.to_owned()));
        self
    }
}

/// A running private Redis; it stops and its directory goes when this value is dropped.
pub struct Server {
    directory: PathBuf,
    program: PathBuf,
    user: ServerUser,
    port: u16,
    #[cfg(feature = "tls")]
    tls_port: Option<u16>,
    password_in: PasswordIn,
    password: String,
    settings: Vec<(String, String)>,
    guard: Option<Guarded>,
    running: bool,
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Server").field("directory", &self.directory).finish_non_exhaustive()
    }
}

impl Server {
    /// Makes a new, empty server with a password of its own and starts it.
    ///
    /// # Errors
    ///
    /// [`SandboxError`]: the program is missing, no user fits, or the server says why it does not start.
    pub fn start(options: Options) -> Result<Self, SandboxError> {
        Self::start_with(options, private::fresh_password()?)
    }

    /// Makes a server that follows this one and has the same password.
    ///
    /// # Errors
    ///
    /// As [`Server::start`].
    pub fn start_replica(&self, options: Options) -> Result<Self, SandboxError> {
        let options =
            options.set("replicaof", &format!("127.0.0.1 {}", self.port)).set("masterauth", &self.password);
        Self::start_with(options, self.password.clone())
    }

    fn start_with(options: Options, password: String) -> Result<Self, SandboxError> {
        let program = match options.program {
            Some(ref program) => program.clone(),
            None => binaries::redis_server()?,
        };
        let user = ServerUser::choose()?;
        let directory = private::make_directory("reseal-redis-", user)?;
        let mut server = Self {
            directory,
            program,
            user,
            port: private::free_port()?,
            #[cfg(feature = "tls")]
            tls_port: None,
            password_in: options.password_in,
            password,
            settings: Vec::new(),
            guard: None,
            running: false,
        };
        server.settings = server.all_settings(&options)?;
        server.write_files()?;
        server.launch()?;
        Ok(server)
    }

    /// The URL of the default user, without a password.
    pub fn url(&self) -> String {
        format!("redis://default@127.0.0.1:{}/0", self.port)
    }

    /// The URL of the default user over TLS, without a password; `None` if it does not speak TLS.
    #[cfg(feature = "tls")]
    pub fn tls_url(&self) -> Option<String> {
        self.tls_port.map(|port| format!("rediss://default@localhost:{port}/0"))
    }

    /// The certificate of the authority that signed the server's, in PEM.
    #[cfg(feature = "tls")]
    pub fn ca_certificate(&self) -> PathBuf {
        self.directory.join("ca.pem")
    }

    /// The port on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The password it was made with.
    pub fn password(&self) -> &str {
        &self.password
    }

    /// The directory with everything of the server, removed with it.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// Its configuration file, where it has one.
    pub fn config_path(&self) -> PathBuf {
        self.directory.join("redis.conf")
    }

    /// Its file of users, where it has one.
    pub fn acl_path(&self) -> PathBuf {
        self.directory.join("users.acl")
    }

    /// What the server prints: its log.
    pub fn log_path(&self) -> PathBuf {
        self.directory.join("log")
    }

    /// Its process id, while it runs.
    pub fn pid(&self) -> Option<Pid> {
        self.guard.as_ref().filter(|_| self.running).map(Guarded::pid)
    }

    /// Connects as the default user with a password.
    ///
    /// # Errors
    ///
    /// [`SandboxError::Redis`].
    pub async fn connect(&self, password: &str) -> Result<MultiplexedConnection, SandboxError> {
        let config = redis::AsyncConnectionConfig::new().set_response_timeout(Some(ANSWER));
        let client = self.client(password)?;
        Ok(client.get_multiplexed_async_connection_with_config(&config).await?)
    }

    /// Begins to write down what the server shows to `MONITOR`.
    ///
    /// # Errors
    ///
    /// [`SandboxError::Redis`].
    pub async fn monitor(&self, password: &str) -> Result<Monitor, SandboxError> {
        let monitor = self.client(password)?.get_async_monitor().await?;
        let lines = Arc::new(Mutex::new(Vec::new()));
        let written = lines.clone();
        tokio::spawn(async move {
            let mut messages = monitor.into_on_message::<String>();
            while let Some(line) = messages.next().await {
                written.lock().unwrap_or_else(PoisonError::into_inner).push(line);
            }
        });
        Ok(Monitor { lines })
    }

    fn client(&self, password: &str) -> Result<Client, SandboxError> {
        let mut user = RedisConnectionInfo::default();
        if !password.is_empty() {
            user = user.set_password(password);
        }
        let address = ConnectionAddr::Tcp("127.0.0.1".into(), self.port);
        Ok(Client::open(address.into_connection_info()?.set_redis_settings(user))?)
    }

    /// Kills the server with SIGKILL, as the end of the machine would.
    ///
    /// # Errors
    ///
    /// [`SandboxError::Timeout`].
    pub fn kill_9(&mut self) -> Result<(), SandboxError> {
        self.end(Signal::KILL, "die")
    }

    /// Stops the server.
    ///
    /// # Errors
    ///
    /// [`SandboxError::Timeout`].
    pub fn stop(&mut self) -> Result<(), SandboxError> {
        self.end(Signal::TERM, "stop")
    }

    /// Starts the server again with the files and arguments it had; stops it first if it runs.
    ///
    /// # Errors
    ///
    /// [`SandboxError`] with the end of the log.
    pub fn restart(&mut self) -> Result<(), SandboxError> {
        self.stop()?;
        self.launch()
    }

    /// Starts the server anew with another password among its arguments, as `docker compose up --force-recreate` does
    /// after an edit of `.env`. Where the password is in a file this is a plain restart.
    ///
    /// # Errors
    ///
    /// [`SandboxError`] with the end of the log.
    pub fn recreate(&mut self, password: &str) -> Result<(), SandboxError> {
        self.stop()?;
        if self.password_in.in_arguments() {
            self.password = password.to_owned();
        }
        self.launch()
    }

    fn end(&mut self, signal: Signal, what: &'static str) -> Result<(), SandboxError> {
        let Some(guard) = self.guard.as_ref().filter(|_| self.running) else { return Ok(()) };
        guard.signal(signal);
        if !guard.wait_gone(PATIENCE) {
            return Err(self.timeout(what));
        }
        self.running = false;
        Ok(())
    }

    fn launch(&mut self) -> Result<(), SandboxError> {
        // The old guard stays until the new one stands, so that at no moment the directory is without one.
        let old = self.guard.take().map(Guarded::reap).transpose()?;
        self.guard = Some(Guarded::spawn(&self.directory, self.user, LastSignal::Kill, &self.arguments())?);
        if let Some(old) = old {
            old.release();
        }
        self.running = true;
        self.wait_ready()
    }

    fn wait_ready(&mut self) -> Result<(), SandboxError> {
        let begin = Instant::now();
        while let Some(guard) = &self.guard {
            if self.answers() {
                return Ok(());
            }
            if guard.wait_gone(Duration::from_millis(10)) {
                self.running = false;
                return Err(SandboxError::Failed {
                    program: "redis-server",
                    log: private::tail(&self.log_path()),
                });
            }
            if begin.elapsed() > PATIENCE {
                break;
            }
        }
        Err(self.timeout("start"))
    }

    /// Whether it answers to strangers, if only that they must log in.
    fn answers(&self) -> bool {
        let Ok(mut stream) = TcpStream::connect(("127.0.0.1", self.port)) else { return false };
        let mut line = String::new();
        let asked = stream.set_read_timeout(Some(ANSWER)).and_then(|()| stream.write_all(b"PING\r\n"));
        let answered = asked.and_then(|()| BufReader::new(stream).read_line(&mut line));
        answered.is_ok() && (line.starts_with("+PONG") || line.starts_with("-NOAUTH"))
    }

    fn all_settings(&mut self, options: &Options) -> Result<Vec<(String, String)>, SandboxError> {
        let data = private::make_below(&self.directory, "data", self.user)?;
        let mut settings: Vec<(String, String)> = [
            ("bind", "127.0.0.1".to_owned()),
            ("port", self.port.to_string()),
            ("dir", data.to_string_lossy().into_owned()),
            ("save", "\"\"".to_owned()),
            // Otherwise a replica waits five seconds for company.
            ("repl-diskless-sync-delay", "0".to_owned()),
        ]
        .map(|(name, value)| (name.to_owned(), value))
        .into();
        #[cfg(feature = "tls")]
        if options.tls {
            settings.extend(self.tls_settings()?);
        }
        if options.password_in == PasswordIn::AclFile {
            settings.push(("aclfile".to_owned(), self.acl_path().to_string_lossy().into_owned()));
        }
        settings.extend(options.settings.iter().cloned());
        Ok(settings)
    }

    #[cfg(feature = "tls")]
    fn tls_settings(&mut self) -> Result<[(String, String); 5], SandboxError> {
        let files = crate::tls::install(&self.directory, self.user)?;
        let port = private::free_port()?;
        self.tls_port = Some(port);
        let path = |path: &Path| path.to_string_lossy().into_owned();
        Ok([
            ("tls-port".to_owned(), port.to_string()),
            ("tls-cert-file".to_owned(), path(&files.certificate)),
            ("tls-key-file".to_owned(), path(&files.key)),
            ("tls-ca-cert-file".to_owned(), path(&files.authority)),
            ("tls-auth-clients".to_owned(), "no".to_owned()),
        ])
    }

    fn write_files(&self) -> Result<(), SandboxError> {
        if self.password_in == PasswordIn::AclFile {
            let users = format!("user default on >{} ~* &* +@all\n", self.password);
            write_private(&self.acl_path(), users.as_bytes(), self.user)?;
        }
        if !self.password_in.has_file() {
            return Ok(());
        }
        let mut text: String =
            self.settings.iter().map(|(name, value)| format!("{name} {value}\n")).collect();
        if self.password_in == PasswordIn::ConfigFile {
            text.push_str(&format!("requirepass {}\n", self.password));
        }
        write_private(&self.config_path(), text.as_bytes(), self.user)
    }

    fn arguments(&self) -> Vec<OsString> {
        let mut arguments: Vec<OsString> = vec![self.program.clone().into()];
        if self.password_in.has_file() {
            arguments.push(self.config_path().into());
        } else {
            for (name, value) in &self.settings {
                arguments.push(format!("--{name}").into());
                arguments.push(value.trim_matches('"').into());
            }
        }
        if self.password_in.in_arguments() {
            arguments.extend(["--requirepass".into(), OsString::from(&self.password)]);
        }
        arguments
    }

    fn timeout(&self, what: &'static str) -> SandboxError {
        let log = private::tail(&self.log_path());
        SandboxError::Timeout { program: "redis-server", what, seconds: PATIENCE.as_secs(), log }
    }
}

/// What a server showed to `MONITOR`.
#[derive(Debug, Clone)]
pub struct Monitor {
    lines: Arc<Mutex<Vec<String>>>,
}

impl Monitor {
    /// Waits until a line holds `mark`, then returns all lines so far; `None` if it does not come.
    pub async fn until(&self, mark: &str) -> Option<Vec<String>> {
        let begin = Instant::now();
        while begin.elapsed() < ANSWER {
            let lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner).clone();
            if lines.iter().any(|line| line.contains(mark)) {
                return Some(lines);
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        None
    }
}
