//! The way to a server: addresses, passwords, and which kinds of connection are tried.

use std::net::IpAddr;
use std::time::Duration;

use futures_util::future::BoxFuture;
use reseal_crypto::SecretBytes;
use tokio_postgres::config::{Host, SslMode as DriverMode};
use tokio_postgres::{Client, Config, Connection, NoTls, Socket};
use tokio_postgres_rustls::MakeRustlsConnect;

use super::address::{Address, SslMode, malformed};
use super::sql::reduce;
use super::tls::{Trust, connector};
use crate::error::{DatabaseError, EngineError};

const CONNECTING: &str = "connect to Postgres";
/// Where libpq looks for a socket on Debian, if no host is named.
const SOCKET_DIRECTORY: &str = "/var/run/postgresql";
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// A peer that went away without a word is asked after this long without traffic, then this often, this many times.
const KEEPALIVE_IDLE: Duration = Duration::from_secs(30);
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(10);
const KEEPALIVE_RETRIES: u32 = 3;
/// How long what was sent may stay without acknowledgement.
const TCP_USER_TIMEOUT: Duration = Duration::from_secs(30);

/// Where a database is and how to get in.
#[derive(Clone)]
pub struct PostgresTarget {
    config: Config,
    mode: SslMode,
    tls: Option<MakeRustlsConnect>,
}

impl PostgresTarget {
    /// Reads a URL or a connection string as libpq takes them; the password may come apart from it.
    ///
    /// Without `sslmode`: `verify-full` for a TCP host that is not loopback, `prefer` for loopback, none on sockets.
    /// Without `sslrootcert`, certificates are verified against the system's roots. A peer that disappears is noticed
    /// within a minute, unless the address sets `keepalives…` or `tcp_user_timeout`.
    ///
    /// # Errors
    ///
    /// [`EngineError::Address`] if it is not an address or TLS cannot be set up. The message does not repeat the address.
    pub fn parse(address: &str, password: Option<&SecretBytes>) -> Result<Self, EngineError> {
        let address = Address::split(address)?;
        let mut config: Config = address.driver.parse().map_err(|_| malformed())?;
        if config.get_hosts().is_empty() {
            config.host_path(SOCKET_DIRECTORY);
        }
        if config.get_connect_timeout().is_none() {
            config.connect_timeout(CONNECT_TIMEOUT);
        }
        notice_dead_peers(&mut config, &address.driver);
        if let Some(password) = password {
            // EXPOSE: the driver keeps the password to log in again.
            config.password(password.expose());
        }
        let mode = address.ssl_mode.unwrap_or_else(|| default_mode(&config));
        let trust = Trust::of(mode, address.root_cert.is_some());
        let tls = match mode {
            SslMode::Disable => None,
            _ => Some(connector(trust, address.root_cert.as_deref())?),
        };
        Ok(Self { config, mode, tls })
    }

    /// The same place for another user, with a password of its own.
    #[must_use]
    pub fn as_user(&self, user: &str, password: Option<&SecretBytes>) -> Self {
        let mut target = self.clone();
        keep_database(&mut target.config, &self.config);
        target.config.user(user);
        if let Some(password) = password {
            // EXPOSE: the driver keeps the password to log in.
            target.config.password(password.expose());
        }
        target
    }

    /// The same server through its local socket, for a user that the system vouches for: in the directory that the
    /// address names, or the usual one.
    #[must_use]
    pub fn as_peer(&self, user: &str) -> Self {
        let hosts = self.config.get_hosts();
        let named = hosts.iter().find_map(|host| match host {
            Host::Unix(directory) => Some(directory.clone()),
            Host::Tcp(_) => None,
        });
        let mut config = Config::new();
        config.host_path(named.unwrap_or_else(|| SOCKET_DIRECTORY.into())).user(user);
        config.connect_timeout(CONNECT_TIMEOUT);
        if let [port, ..] = self.config.get_ports() {
            config.port(*port);
        }
        keep_database(&mut config, &self.config);
        Self { config, mode: SslMode::Disable, tls: None }
    }

    /// The user of the address.
    pub fn user(&self) -> Option<&str> {
        self.config.get_user()
    }

    /// Connects; the connection is driven by a task of its own.
    ///
    /// # Errors
    ///
    /// [`EngineError::Database`] with the server's code where it is the server that refuses.
    pub fn connect<'a>(&'a self, application: &'a str) -> BoxFuture<'a, Result<Client, EngineError>> {
        Box::pin(async move {
            let mut config = self.config.clone();
            config.application_name(application);
            self.connect_with(&config).await.map_err(|error| error.in_place(|| self.place()))
        })
    }

    async fn connect_with(&self, config: &Config) -> Result<Client, EngineError> {
        let Some(tls) = &self.tls else { return plain(config).await };
        match self.mode {
            SslMode::Disable => plain(config).await,
            SslMode::Allow => match plain(config).await {
                Err(error) if refused_without_tls(&error) => {
                    encrypted(config, DriverMode::Require, tls).await
                }
                other => other,
            },
            SslMode::Prefer => match encrypted(config, DriverMode::Prefer, tls).await {
                // libpq, too, goes on in clear where the handshake or the server's rules stand against TLS.
                Err(EngineError::Database(error)) if error.code.is_none() || error.has_code("28000") => {
                    plain(config).await
                }
                other => other,
            },
            SslMode::Require | SslMode::VerifyCa | SslMode::VerifyFull => {
                encrypted(config, DriverMode::Require, tls).await
            }
        }
    }

    /// Where it leads, without a password: `at db.example.com:5432 (database app, role app)`.
    fn place(&self) -> String {
        let ports = self.config.get_ports();
        let port = |index: usize| ports.get(index).or(ports.first()).copied().unwrap_or(5432);
        let hosts = self.config.get_hosts().iter().enumerate().map(|(index, host)| match host {
            Host::Tcp(name) if name.contains(':') => format!("[{name}]:{}", port(index)),
            Host::Tcp(name) => format!("{name}:{}", port(index)),
            Host::Unix(directory) => format!("{}/.s.PGSQL.{}", directory.display(), port(index)),
        });
        let hosts = hosts.collect::<Vec<_>>().join(", ");
        let role = self.user().unwrap_or("of the system user");
        format!("at {hosts} (database {}, role {role})", self.config.get_dbname().unwrap_or(role))
    }
}

impl std::fmt::Debug for PostgresTarget {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PostgresTarget").field("mode", &self.mode).finish_non_exhaustive()
    }
}

/// Without a name the database is called like the user; it stays the same when that is another one.
fn keep_database(config: &mut Config, of: &Config) {
    if let Some(name) = of.get_dbname().or(of.get_user()) {
        config.dbname(name);
    }
}

/// Ends a connection within a minute of the peer's disappearance, unless the address says otherwise.
fn notice_dead_peers(config: &mut Config, address: &str) {
    if !address.contains("keepalives_idle") {
        config.keepalives_idle(KEEPALIVE_IDLE);
    }
    if config.get_keepalives_interval().is_none() {
        config.keepalives_interval(KEEPALIVE_INTERVAL);
    }
    if config.get_keepalives_retries().is_none() {
        config.keepalives_retries(KEEPALIVE_RETRIES);
    }
    if config.get_tcp_user_timeout().is_none() {
        config.tcp_user_timeout(TCP_USER_TIMEOUT);
    }
}

fn default_mode(config: &Config) -> SslMode {
    let hosts = config.get_hosts();
    let is_remote = |host: &Host| matches!(host, Host::Tcp(name) if !is_loopback(name));
    match hosts {
        _ if hosts.iter().any(is_remote) => SslMode::VerifyFull,
        _ if hosts.iter().any(|host| matches!(host, Host::Tcp(_))) => SslMode::Prefer,
        _ => SslMode::Disable,
    }
}

fn is_loopback(host: &str) -> bool {
    host == "localhost" || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

/// 28000: the server's rules have no entry for a connection in clear.
fn refused_without_tls(error: &EngineError) -> bool {
    matches!(error, EngineError::Database(error) if error.has_code("28000"))
}

async fn plain(config: &Config) -> Result<Client, EngineError> {
    let mut config = config.clone();
    config.ssl_mode(DriverMode::Disable);
    let (client, connection) = config.connect(NoTls).await.map_err(connecting)?;
    drive(connection);
    Ok(client)
}

async fn encrypted(
    config: &Config,
    mode: DriverMode,
    tls: &MakeRustlsConnect,
) -> Result<Client, EngineError> {
    let mut config = config.clone();
    config.ssl_mode(mode);
    let (client, connection) = config.connect(tls.clone()).await.map_err(connecting)?;
    drive(connection);
    Ok(client)
}

fn drive<S>(connection: Connection<Socket, S>)
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static,
{
    tokio::spawn(async move {
        if let Err(error) = connection.await {
            tracing::debug!(error = %reduce("keep the connection", error), "connection ended");
        }
    });
}

fn connecting(error: tokio_postgres::Error) -> DatabaseError {
    reduce(CONNECTING, error)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(address: &str, mode: SslMode) {
        let password = SecretBytes::copy_from(b"canary");
        let target = PostgresTarget::parse(address, Some(&password)).expect("parses");
        assert_eq!(target.mode, mode);
        assert!(!format!("{target:?}").contains("canary"));
    }

    use reseal_sandbox::postgres::{Options, Server};

    /// How a connection came about: `Some(true)` with TLS, `Some(false)` without, `None` not at all.
    async fn outcome(server: &Server, host: &str, options: &str) -> Option<bool> {
        let port = server.tcp_port().expect("listens on TCP");
        let address = format!("{host} port={port} user=postgres dbname=postgres {options}");
        let password = SecretBytes::copy_from(server.password().as_bytes());
        let client = PostgresTarget::parse(&address, Some(&password)).ok()?.connect("reseal").await.ok()?;
        let statement = "SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()";
        Some(client.query_typed_one(statement, &[]).await.expect("asks").get(0))
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn modes_mean_what_libpq_means() {
        let options = Options { tls: true, listen_tcp: true, durable: false, ..Options::default() };
        let server = Server::start(options).expect("a private Postgres starts (package postgresql)");
        let root = format!("sslrootcert={}", server.ca_certificate().display());
        let named = "host=localhost hostaddr=127.0.0.1";
        let misnamed = "host=db.example.com hostaddr=127.0.0.1";
        let cases = [
            (named, "sslmode=disable", false, Some(false)),
            (named, "sslmode=allow", false, Some(false)),
            (named, "sslmode=prefer", false, Some(true)),
            (named, "", false, Some(true)),
            (misnamed, "sslmode=require", false, Some(true)),
            (misnamed, "sslmode=require", true, Some(true)),
            (misnamed, "sslmode=verify-ca", true, Some(true)),
            (misnamed, "sslmode=verify-full", true, None),
            (misnamed, "", true, None),
            (named, "sslmode=verify-full", true, Some(true)),
            // The system does not know the sandbox's authority.
            (named, "sslmode=verify-ca", false, None),
            (named, "sslmode=require sslrootcert=system", false, None),
        ];
        for (host, mode, with_root, expected) in cases {
            let options = if with_root { format!("{mode} {root}") } else { mode.to_owned() };
            assert_eq!(outcome(&server, host, &options).await, expected, "{host} {mode} root {with_root}");
        }
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn wrong_password_is_refused_and_not_repeated() {
        let options = Options { listen_tcp: true, durable: false, ..Options::default() };
        let server = Server::start(options).expect("a private Postgres starts (package postgresql)");
        let url = server.tcp_url().expect("listens on TCP");
        let password = SecretBytes::copy_from(b"canary");
        let target = PostgresTarget::parse(&url, Some(&password)).expect("parses");
        let error = target.connect("reseal").await.expect_err("refused").to_string();
        assert!(error.contains("28P01") && !error.contains("canary"), "{error}");
        let port = server.tcp_port().expect("listens on TCP");
        let place = format!("at 127.0.0.1:{port} (database postgres, role postgres): ");
        assert!(error.contains(&place), "{error}");
    }

    #[test]
    fn another_user_comes_to_the_same_place() {
        let target = PostgresTarget::parse("postgresql://app@127.0.0.1:5433", None).expect("parses");
        let password = SecretBytes::copy_from(b"canary");
        let other = target.as_user("admin", Some(&password));
        assert_eq!((other.user(), other.config.get_dbname()), (Some("admin"), Some("app")));
        assert_eq!(other.config.get_hosts(), target.config.get_hosts());
        let peer = target.as_peer("postgres");
        assert_eq!((peer.user(), peer.config.get_dbname()), (Some("postgres"), Some("app")));
        assert_eq!(peer.config.get_hosts(), [Host::Unix(SOCKET_DIRECTORY.into())]);
        assert_eq!(peer.config.get_ports(), [5433]);
        let socket = PostgresTarget::parse("postgresql:///db?host=/run/pg", None).expect("parses");
        assert_eq!(socket.as_peer("postgres").config.get_hosts(), [Host::Unix("/run/pg".into())]);
    }

    #[test]
    fn dead_peers_are_noticed_soon() {
        let config = |address| PostgresTarget::parse(address, None).expect("parses").config;
        let soon = config("postgresql://u@db.example.com/db");
        assert_eq!(soon.get_keepalives_idle(), Duration::from_secs(30));
        assert_eq!(soon.get_keepalives_interval(), Some(Duration::from_secs(10)));
        assert_eq!(soon.get_keepalives_retries(), Some(3));
        assert_eq!(soon.get_tcp_user_timeout(), Some(&Duration::from_secs(30)));
        let named = config("postgresql://u@db.example.com/db?keepalives_idle=7200&tcp_user_timeout=90");
        assert_eq!(named.get_keepalives_idle(), Duration::from_secs(7200));
        assert_eq!(named.get_tcp_user_timeout(), Some(&Duration::from_secs(90)));
    }

    #[test]
    fn remote_hosts_are_verified_by_default() {
        check("postgresql://u@127.0.0.1/db", SslMode::Prefer);
        check("postgresql://u@localhost/db", SslMode::Prefer);
        check("host=/tmp user=u", SslMode::Disable);
        check("user=u", SslMode::Disable);
        check("postgresql://u@db.example.com/db?sslmode=prefer", SslMode::Prefer);
        let config: Config = "host=db.example.com,localhost user=u".parse().expect("parses");
        assert_eq!(default_mode(&config), SslMode::VerifyFull);
    }
}
