//! The Postgres store, version 14 and later.
//!
//! Rows are found by physical position: spans are block ranges, read by TID range scans in binary COPY, and written by
//! one `UPDATE` from arrays per batch. State stands in schema `reseal` of the target database. Every setting is
//! `SET LOCAL` in its transaction, and a statement has a name only where the connection is one to a server process of its
//! own, so a transaction pooler in between does no harm.

mod address;
mod announced;
mod arrays;
mod catalog;
mod checks;
mod circumstances;
mod connect;
mod copy;
mod describe;
mod leaf;
mod own;
mod position;
mod prepared;
mod read;
mod schema;
mod session;
mod snapshot;
mod sql;
mod state;
mod survey;
mod tls;
mod write;

use std::sync::Arc;

use async_trait::async_trait;
pub use connect::PostgresTarget;
pub use describe::describe;
use own::OwnTransactions;
pub use schema::DDL;
pub use session::PostgresSession;

use crate::error::EngineError;
use crate::plan::Job;
use crate::store::{Session, Store};

/// A Postgres database that holds the columns of a run.
#[derive(Debug, Clone)]
pub struct PostgresStore {
    target: Arc<PostgresTarget>,
    own: OwnTransactions,
}

impl PostgresStore {
    /// The database that `target` names. Nothing is connected yet.
    pub fn new(target: PostgresTarget) -> Self {
        Self { target: Arc::new(target), own: OwnTransactions::default() }
    }
}

#[async_trait]
impl Store for PostgresStore {
    fn workers_max(&self) -> usize {
        64
    }

    async fn session(&self, job: Arc<Job>) -> Result<Box<dyn Session>, EngineError> {
        let application = format!("reseal/{}", &job.plan.run.to_string()[..12]);
        let client = self.target.connect(&application).await?;
        Ok(Box::new(PostgresSession::new(client, job, &self.own).await?))
    }
}
