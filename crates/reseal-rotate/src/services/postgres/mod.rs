//! Postgres: one password per role, kept as a verifier that reseal computes itself.
//!
//! The server never sees a password outside a login: `ALTER ROLE … PASSWORD 'SCRAM-SHA-256$…'` stores a verifier as it
//! is (documentation of `CREATE ROLE`). Two valid passwords need two roles: [`alternate`].

pub mod alternate;
mod recorded;
mod session;
mod turn;
mod verifier;

use std::path::Path;

use reseal_crypto::SecretBytes;
use reseal_engine::EngineError;
use reseal_engine::postgres::PostgresTarget;
use tokio_postgres::Client;

pub use recorded::RotationRow;
pub use session::{RoleState, Session};
pub use turn::Turn;
pub use verifier::{Stored, Verifier};

use super::{Access, Login, ServiceError};
use crate::plan::Tls;
use crate::url::with_tls;

/// What reseal calls itself at the server.
const APPLICATION: &str = "reseal";

/// One Postgres server.
#[derive(Debug, Clone)]
pub struct Node {
    name: String,
    target: PostgresTarget,
}

impl Node {
    /// The node of that name at a URL without a password; `tls` takes precedence over what the URL says.
    ///
    /// # Errors
    ///
    /// [`ServiceError::Address`].
    pub fn new(name: &str, url: &str, tls: Option<&Tls>, directory: &Path) -> Result<Self, ServiceError> {
        let address = with_tls(url, tls, directory);
        let target = PostgresTarget::parse(&address, None)
            .map_err(|error| ServiceError::address(name, error.to_string()))?;
        Ok(Self { name: name.to_owned(), target })
    }

    /// Its name in the plan.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The role of its URL.
    pub fn user(&self) -> Option<&str> {
        self.target.user()
    }

    /// Tries a value on a new connection.
    ///
    /// A statement is part of it: a pooler lets clients in by a list of its own and fails at the first statement.
    pub async fn login(&self, role: &str, value: &SecretBytes) -> Login {
        let client = match self.target.as_user(role, Some(value)).connect(APPLICATION).await {
            Ok(client) => client,
            Err(error) => return refusal(&error),
        };
        match client.simple_query("SELECT 1").await {
            Ok(_) => Login::Accepted,
            Err(error) => match error.code() {
                Some(code) if is_refusal(code.code()) => Login::Refused,
                Some(code) => Login::Unreachable(format!("the server answers with {}", code.code())),
                None => Login::Unreachable("the connection was closed at the first statement".into()),
            },
        }
    }

    /// Logs in to change something.
    ///
    /// # Errors
    ///
    /// [`ServiceError::LoginRefused`], [`ServiceError::Unreachable`].
    pub async fn session(&self, access: Access<'_>) -> Result<Session, ServiceError> {
        let target = match access {
            Access::Value { user, value } => self.target.as_user(user, Some(value)),
            Access::Peer { user } => self.target.as_peer(user),
        };
        let client = self.connect(&target, access.user()).await?;
        Session::new(&self.name, client).await
    }

    async fn connect(&self, target: &PostgresTarget, user: &str) -> Result<Client, ServiceError> {
        let connected = tokio::time::timeout(super::LOGIN_TIMEOUT, target.connect(APPLICATION)).await;
        let unreachable = |reason: String| ServiceError::Unreachable { node: self.name.clone(), reason };
        match connected {
            Err(_) => Err(unreachable("no answer".into())),
            Ok(Ok(client)) => Ok(client),
            Ok(Err(error)) => Err(match refusal(&error) {
                Login::Unreachable(reason) => unreachable(reason),
                _ => ServiceError::LoginRefused { node: self.name.clone(), user: user.to_owned() },
            }),
        }
    }
}

fn refusal(error: &EngineError) -> Login {
    match error {
        EngineError::Database(error) if error.code.as_deref().is_some_and(is_refusal) => Login::Refused,
        EngineError::Database(error) => Login::Unreachable(match &error.code {
            Some(code) => format!("{} ({code})", error.message),
            None => error.message.clone(),
        }),
        other => Login::Unreachable(other.to_string()),
    }
}

/// Class 28, invalid authorization: a wrong password, a role that does not exist or may not log in, no entry in
/// `pg_hba.conf`. A missing database or a full server says nothing about the value.
fn is_refusal(code: &str) -> bool {
    code.starts_with("28")
}
