//! Statements that every batch runs, prepared once per connection where that is safe.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use futures_util::TryStreamExt;
use tokio_postgres::types::{ToSql, Type};
use tokio_postgres::{Client, Error, Row, RowStream, Statement};

use super::announced::announced_process;

/// Runs statements on one connection, by name if the connection is one to a server process of its own.
///
/// A transaction pooler hands each transaction to another server process, where the name of a statement means nothing,
/// or what somebody else prepared. There statements go without a name, as all others of this store do.
pub(super) struct Statements {
    /// The statements by their text; `None` if there may be a pooler.
    prepared: Option<Mutex<BTreeMap<String, Statement>>>,
}

impl Statements {
    /// Looks at the connection: a pooler cannot tell the id of the one process that serves a client.
    ///
    /// # Errors
    ///
    /// The driver's, if the server does not say which process this is.
    pub(super) async fn of(client: &Client) -> Result<Self, Error> {
        let process: i32 = client.query_typed_one("SELECT pg_catalog.pg_backend_pid()", &[]).await?.get(0);
        let direct = announced_process(client).await == Some(process);
        Ok(Self { prepared: direct.then(Mutex::default) })
    }

    /// Whether the connection is one to a server process of its own.
    pub(super) fn are_direct(&self) -> bool {
        self.prepared.is_some()
    }

    /// Runs a statement that later batches will run again, and collects its rows.
    ///
    /// # Errors
    ///
    /// The driver's.
    pub(super) async fn rows(
        &self,
        client: &Client,
        statement: &str,
        parameters: &[(&(dyn ToSql + Sync), Type)],
    ) -> Result<Vec<Row>, Error> {
        self.stream(client, statement, parameters).await?.try_collect().await
    }

    /// Runs a statement that later batches will run again.
    ///
    /// # Errors
    ///
    /// The driver's.
    pub(super) async fn stream(
        &self,
        client: &Client,
        statement: &str,
        parameters: &[(&(dyn ToSql + Sync), Type)],
    ) -> Result<RowStream, Error> {
        let Some(prepared) = &self.prepared else {
            let parameters = parameters.iter().map(|(value, ty)| (*value, ty.clone()));
            return client.query_typed_raw(statement, parameters).await;
        };
        let known = prepared.lock().unwrap_or_else(PoisonError::into_inner).get(statement).cloned();
        let statement = match known {
            Some(known) => known,
            None => {
                let types: Vec<Type> = parameters.iter().map(|(_, ty)| ty.clone()).collect();
                let new = client.prepare_typed(statement, &types).await?;
                let mut prepared = prepared.lock().unwrap_or_else(PoisonError::into_inner);
                prepared.entry(statement.to_owned()).or_insert(new).clone()
            }
        };
        client.query_raw(&statement, parameters.iter().map(|(value, _)| *value)).await
    }
}

#[cfg(test)]
mod tests {
    use reseal_crypto::SecretBytes;
    use reseal_sandbox::pooler::Pooler;
    use reseal_sandbox::postgres::{Options, Server};

    use super::*;
    use crate::postgres::PostgresTarget;

    async fn names_statements(address: &str, password: Option<&SecretBytes>) -> bool {
        let target = PostgresTarget::parse(address, password).expect("parses");
        let client = target.connect("reseal").await.expect("connects");
        Statements::of(&client).await.expect("asks").prepared.is_some()
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn statements_have_names_on_a_connection_of_ones_own() {
        let server = Server::start(Options { durable: false, ..Options::default() })
            .expect("a private Postgres starts (package postgresql)");
        let pooler = Pooler::start(&server, 1).expect("PgBouncer starts (package pgbouncer)");
        assert!(names_statements(&server.url(), None).await);
        assert!(!names_statements(&pooler.url(), None).await);
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn statements_have_names_through_tls() {
        let options = Options { durable: false, listen_tcp: true, tls: true, ..Options::default() };
        let server = Server::start(options).expect("a private Postgres starts (package postgresql)");
        let url = server.tcp_url().expect("listens on TCP");
        let address = format!("{url}?sslmode=verify-full&sslrootcert={}", server.ca_certificate().display());
        let password = SecretBytes::copy_from(server.password().as_bytes());
        assert!(names_statements(&address, Some(&password)).await);
    }
}
