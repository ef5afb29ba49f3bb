//! What a value logs in to: trying it, setting it, letting two be valid, ending what the old one opened.
//!
//! ```text
//! Account ----------- rehearse, capture, apply, standing, undo: one user, as the steps of a rotation need it
//! postgres::Turn ---- the same for two login roles by turns
//!   Service --------- login, prove: always on a new connection, so that no pool hides a broken login
//!     postgres::Node -- session(access) --> Session   set, restore, retire, end_sessions, alternate::{check, prepare}
//!     redis::Node ----- session(access) --> Session   add, remove, set, restore, persist, end_clients
//!                       Group: a server with its replicas
//! ```
//!
//! Everything here acts on one node and says of itself whether it is done ([`postgres::Session::state`],
//! [`redis::Session::state`], [`Service::login`]): after a crash the server is asked, not the journal. No value is part
//! of a statement or of an error. What each service shows of a change in its own logs is in `docs/services.md`.

mod account;
mod error;
mod kept;
pub mod postgres;
pub mod redis;

use std::path::Path;
use std::time::Duration;

use reseal_crypto::{Random, SecretBytes};

pub use account::{Account, Admin, Change, Exchange, Note, Standing};
pub use error::ServiceError;

use crate::plan::{Kind, Plan, Tls};

/// How long a login may take, however the server behaves.
const LOGIN_TIMEOUT: Duration = Duration::from_secs(15);

/// What a login on a new connection came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Login {
    /// The value lets in.
    Accepted,
    /// The server was reached and does not let this value in.
    Refused,
    /// Nothing is known about the value: the reason, without it.
    Unreachable(String),
}

impl Login {
    /// Whether the value let in, where that is known.
    ///
    /// # Errors
    ///
    /// [`ServiceError::Unreachable`].
    pub fn is_let_in(self, node: &str) -> Result<bool, ServiceError> {
        match self {
            Self::Accepted => Ok(true),
            Self::Refused => Ok(false),
            Self::Unreachable(reason) => Err(ServiceError::Unreachable { node: node.to_owned(), reason }),
        }
    }
}

/// What two logins prove, one with the value and one with another that nobody ever set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Proof {
    /// The value lets in and the wrong one does not.
    Holds,
    /// The value does not let in.
    Refused,
    /// The wrong value lets in too (`trust` in Postgres, `nopass` in Redis): a login says nothing here.
    AcceptsAnything,
    /// Nothing is known.
    Unreachable(String),
}

impl Proof {
    /// Nothing, if the proof holds.
    ///
    /// # Errors
    ///
    /// [`ServiceError::LoginRefused`], [`ServiceError::AcceptsAnything`], [`ServiceError::Unreachable`].
    pub fn held(self, node: &str, user: &str) -> Result<(), ServiceError> {
        let (node, user) = (node.to_owned(), user.to_owned());
        match self {
            Self::Holds => Ok(()),
            Self::Refused => Err(ServiceError::LoginRefused { node, user }),
            Self::AcceptsAnything => Err(ServiceError::AcceptsAnything { node, user }),
            Self::Unreachable(reason) => Err(ServiceError::Unreachable { node, reason }),
        }
    }
}

/// Who changes something at a server, and how they log in.
#[derive(Debug, Clone, Copy)]
pub enum Access<'a> {
    /// With a value.
    Value {
        /// The user.
        user: &'a str,
        /// What lets the user in.
        value: &'a SecretBytes,
    },
    /// Through the local socket, as a user that the system vouches for. Postgres only.
    Peer {
        /// The user.
        user: &'a str,
    },
}

impl Access<'_> {
    /// The user.
    pub fn user(&self) -> &str {
        match self {
            Self::Value { user, .. } | Self::Peer { user } => user,
        }
    }
}

/// One node of a server that values log in to.
#[derive(Debug, Clone)]
pub enum Service {
    /// A Postgres server.
    Postgres(postgres::Node),
    /// A Redis or Valkey server.
    Redis(redis::Node),
}

impl Service {
    /// The node of that name at an address without a password; files of `tls` are relative to `directory`.
    ///
    /// # Errors
    ///
    /// [`ServiceError::Address`], also for kinds that this version does not log in to.
    pub fn new(
        kind: Kind,
        name: &str,
        url: &str,
        tls: Option<&Tls>,
        directory: &Path,
    ) -> Result<Self, ServiceError> {
        match kind {
            Kind::Postgres => Ok(Self::Postgres(postgres::Node::new(name, url, tls, directory)?)),
            Kind::Redis => Ok(Self::Redis(redis::Node::new(name, url, tls, directory)?)),
            _ => Err(ServiceError::address(name, "reseal logs in to Postgres and Redis only")),
        }
    }

    /// The node of a server of the plan, or the server itself where it has no nodes.
    ///
    /// # Errors
    ///
    /// [`ServiceError::Address`], also for a server that is reached `via` something: what finds its address there calls
    /// [`Service::new`].
    pub fn of(plan: &Plan, server: &str, node: Option<&str>) -> Result<Self, ServiceError> {
        let name = node.map_or_else(|| server.to_owned(), |node| format!("{server}/{node}"));
        let wrong = |reason: &str| ServiceError::address(&name, reason);
        let found = plan.server(server).ok_or_else(|| wrong("it is not in the plan"))?;
        if found.via.is_some() {
            return Err(wrong("it is reached `via` something that has to be asked for the address first"));
        }
        let url = match node {
            Some(node) => found.nodes.as_ref().and_then(|nodes| nodes.get(node)),
            None => found.url.as_ref(),
        };
        let url = url.ok_or_else(|| wrong("the plan has no address for it"))?;
        Self::new(found.kind, &name, url, found.tls.as_ref(), plan.directory())
    }

    /// Its name in the plan.
    pub fn name(&self) -> &str {
        match self {
            Self::Postgres(node) => node.name(),
            Self::Redis(node) => node.name(),
        }
    }

    /// The user of its address, if there is one; `default` for Redis.
    pub fn user(&self) -> Option<&str> {
        match self {
            Self::Postgres(node) => node.user(),
            Self::Redis(node) => Some(node.user()),
        }
    }

    /// Tries a value on a new connection, and whether the server then answers.
    pub async fn login(&self, user: &str, value: &SecretBytes) -> Login {
        let login = async {
            match self {
                Self::Postgres(node) => node.login(user, value).await,
                Self::Redis(node) => node.login(user, value).await,
            }
        };
        let late = || Login::Unreachable(format!("no answer within {} s", LOGIN_TIMEOUT.as_secs()));
        tokio::time::timeout(LOGIN_TIMEOUT, login).await.unwrap_or_else(|_| late())
    }

    /// Tries the value and a wrong one. Costs the server one refused login.
    ///
    /// # Errors
    ///
    /// [`ServiceError::Random`] if no wrong value can be drawn.
    pub async fn prove(
        &self,
        user: &str,
        value: &SecretBytes,
        random: &dyn Random,
    ) -> Result<Proof, ServiceError> {
        match self.login(user, value).await {
            Login::Accepted => {}
            Login::Refused => return Ok(Proof::Refused),
            Login::Unreachable(reason) => return Ok(Proof::Unreachable(reason)),
        }
        Ok(match self.login(user, &wrong_value(random)?).await {
            Login::Refused => Proof::Holds,
            Login::Accepted => Proof::AcceptsAnything,
            Login::Unreachable(reason) => Proof::Unreachable(reason),
        })
    }
}

/// A value that nobody ever set.
pub(crate) fn wrong_value(random: &dyn Random) -> Result<SecretBytes, ServiceError> {
    let mut bytes = [0; 16];
    random.fill(&mut bytes)?;
    Ok(SecretBytes::new(bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>().into_bytes()))
}
