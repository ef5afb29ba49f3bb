//! The way to a server: connection strings, passwords, TLS.

use reseal_crypto::SecretBytes;
use tokio_postgres::{Client, Config, NoTls};

use super::sql::reduce;
use crate::error::EngineError;

const CONNECTING: &str = "connect to Postgres";

/// Where a database is and how to get in.
#[derive(Clone)]
pub struct PostgresTarget {
    config: Config,
}

impl PostgresTarget {
    /// Reads a URL or a connection string as libpq takes them; the password may come apart from it.
    ///
    /// # Errors
    ///
    /// [`EngineError::Plan`] if it is not one. The message does not repeat it.
    pub fn parse(address: &str, password: Option<&SecretBytes>) -> Result<Self, EngineError> {
        let mut config: Config = address
            .parse()
            .map_err(|_| EngineError::Plan("not a Postgres URL or connection string".into()))?;
        if let Some(password) = password {
            // EXPOSE: the driver keeps the password to log in again.
            config.password(password.expose());
        }
        Ok(Self { config })
    }

    /// Connects; the connection is driven by a task of its own.
    pub(super) async fn connect(&self, application: &str) -> Result<Client, EngineError> {
        let mut config = self.config.clone();
        config.application_name(application);
        let (client, connection) = config.connect(NoTls).await.map_err(|error| reduce(CONNECTING, error))?;
        tokio::spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(error = %reduce("keep the connection", error), "connection ended");
            }
        });
        Ok(client)
    }
}

impl std::fmt::Debug for PostgresTarget {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PostgresTarget").finish_non_exhaustive()
    }
}
