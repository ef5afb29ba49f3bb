//! Redis and Valkey: from version 6 a user holds any number of passwords, kept and set as SHA-256 hashes.
//!
//! ```text
//! add new #hash on every node --> persist --> masterauth of replicas --> consumers --> remove old !hash --> persist
//! ```
//!
//! Users belong to a node: they are neither replicated nor written to a file by themselves. Before version 6, or where
//! `ACL` is renamed away, there is one password, `requirepass`, and no overlap.

mod group;
mod persist;
mod replication;
mod reply;
mod session;
mod users;

use std::path::Path;

use ::redis::aio::MultiplexedConnection;
use ::redis::{
    AsyncConnectionConfig, Client, Cmd, ConnectionAddr, ConnectionInfo, IntoConnectionInfo,
    RedisConnectionInfo, RedisError, TlsCertificates,
};
use reseal_crypto::SecretBytes;

pub use group::{Group, GroupState};
pub use persist::Persistence;
pub use replication::Replica;
pub use session::Session;
pub use users::{PasswordHash, UserState};

use super::{Access, LOGIN_TIMEOUT, Login, ServiceError};
use crate::plan::Tls;

/// The user of whoever names none.
pub const DEFAULT_USER: &str = "default";

/// One Redis or Valkey server.
#[derive(Clone)]
pub struct Node {
    name: String,
    user: String,
    client: Client,
}

impl std::fmt::Debug for Node {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Node").field("name", &self.name).finish_non_exhaustive()
    }
}

impl Node {
    /// The node of that name at a URL without a password: `redis://`, `rediss://` for TLS, `unix:///path`.
    ///
    /// With TLS the certificate is verified, against `tls.ca` or the system's roots.
    ///
    /// # Errors
    ///
    /// [`ServiceError::Address`].
    pub fn new(name: &str, url: &str, tls: Option<&Tls>, directory: &Path) -> Result<Self, ServiceError> {
        let wrong = |reason: &str| ServiceError::address(name, reason);
        let address: ConnectionInfo = url
            .into_connection_info()
            .map_err(|_| wrong("not a URL of Redis such as redis://host:6379/0"))?;
        let user = address.redis_settings().username().unwrap_or(DEFAULT_USER).to_owned();
        let has_tls = matches!(address.addr(), ConnectionAddr::TcpTls { .. });
        if tls.is_some() && !has_tls {
            return Err(wrong("`tls` needs a URL that begins with rediss://"));
        }
        if tls.and_then(|tls| tls.mode.as_deref()).is_some_and(|mode| mode != "verify-full") {
            return Err(wrong("the only mode of TLS for Redis is verify-full"));
        }
        let ca = tls.and_then(|tls| tls.ca.as_ref()).map(|ca| directory.join(ca));
        let root_cert = ca
            .map(|path| {
                std::fs::read(&path)
                    .map_err(|error| wrong(&format!("cannot read {}: {error}", path.display())))
            })
            .transpose()?;
        let address = unnamed(address);
        let client = if has_tls {
            Client::build_with_tls(address, TlsCertificates { client_tls: None, root_cert })
        } else {
            Client::open(address)
        };
        let client = client.map_err(|error| wrong(error.category()))?;
        Ok(Self { name: name.to_owned(), user, client })
    }

    /// A node of another host that is reached in the same way: a replica that its primary names.
    #[must_use]
    pub fn beside(&self, host: &str, port: u16) -> Self {
        let mut address = self.client.get_connection_info().clone();
        let addr = match address.addr().clone() {
            ConnectionAddr::TcpTls { insecure, tls_params, .. } => {
                ConnectionAddr::TcpTls { host: host.to_owned(), port, insecure, tls_params }
            }
            _ => ConnectionAddr::Tcp(host.to_owned(), port),
        };
        address = address.set_addr(addr);
        let client = Client::open(address).expect("an address in parts is not parsed");
        Self { name: format!("{}/{host}:{port}", self.name), user: self.user.clone(), client }
    }

    /// Its name in the plan.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The user of its URL, or `default`.
    pub fn user(&self) -> &str {
        &self.user
    }

    /// Tries a value on a new connection.
    pub async fn login(&self, user: &str, value: &SecretBytes) -> Login {
        let mut connection = match self.connect().await {
            Ok(connection) => connection,
            Err(error) => return Login::Unreachable(reply::reason(&error)),
        };
        match authenticate(&mut connection, user, value).await {
            Ok(login) if login != Login::Accepted => return login,
            Ok(_) => {}
            Err(error) => return Login::Unreachable(reply::reason(&error)),
        }
        match Cmd::new().arg("PING").query_async::<()>(&mut connection).await {
            Ok(()) => Login::Accepted,
            // A user without the right to ask, and a server that is still reading its data, have let in.
            Err(error) if matches!(error.code(), Some("NOPERM" | "LOADING" | "MASTERDOWN")) => {
                Login::Accepted
            }
            Err(error) => Login::Unreachable(reply::reason(&error)),
        }
    }

    /// Logs in to change something.
    ///
    /// # Errors
    ///
    /// [`ServiceError::LoginRefused`], [`ServiceError::Unreachable`], [`ServiceError::Address`] for a peer.
    pub async fn session(&self, access: Access<'_>) -> Result<Session, ServiceError> {
        let Access::Value { user, value } = access else {
            return Err(ServiceError::address(&self.name, "Redis knows no login as a peer"));
        };
        let unreachable = |reason| ServiceError::Unreachable { node: self.name.clone(), reason };
        let mut connection = self.connect().await.map_err(|error| unreachable(reply::reason(&error)))?;
        match authenticate(&mut connection, user, value).await {
            Ok(Login::Accepted) => Session::new(&self.name, user, connection).await,
            Ok(Login::Unreachable(reason)) => Err(unreachable(reason)),
            Ok(Login::Refused) => {
                Err(ServiceError::LoginRefused { node: self.name.clone(), user: user.to_owned() })
            }
            Err(error) => Err(unreachable(reply::reason(&error))),
        }
    }

    /// A new connection, not logged in yet.
    async fn connect(&self) -> Result<MultiplexedConnection, RedisError> {
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(LOGIN_TIMEOUT / 2))
            .set_response_timeout(Some(LOGIN_TIMEOUT / 2));
        self.client.get_multiplexed_async_connection_with_config(&config).await
    }
}

/// An address whose connections say nothing before we do.
fn unnamed(address: ConnectionInfo) -> ConnectionInfo {
    address.set_redis_settings(RedisConnectionInfo::default().set_skip_set_lib_name())
}

/// Logs in; the server shows the command to nobody, neither in `MONITOR` nor in its slow log.
async fn authenticate(
    connection: &mut MultiplexedConnection,
    user: &str,
    value: &SecretBytes,
) -> Result<Login, RedisError> {
    // EXPOSE: a login is what the value is for.
    let named = Cmd::new().arg("AUTH").arg(user).arg(value.expose()).query_async::<()>(connection).await;
    match named {
        Err(error) if reply::takes_no_user(&error) && user == DEFAULT_USER => {
            // EXPOSE: as above, for servers before version 6, which know one user.
            let alone = Cmd::new().arg("AUTH").arg(value.expose()).query_async::<()>(connection).await;
            reply::login(alone)
        }
        other => reply::login(other),
    }
}
