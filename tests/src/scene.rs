//! The runbook's table on a private Postgres, with an application that writes to it.

use std::sync::Arc;

use reseal_engine::postgres::{PostgresStore, PostgresTarget};
use reseal_engine::{Job, RunId, RunPlan};
use reseal_formats::ColumnType;
use reseal_sandbox::ledger::{Comparison, Ledger};
use reseal_sandbox::postgres::{Options, Server};
use reseal_sandbox::seal::{Sealer, Sealing};
use reseal_sandbox::stage::Census;
use reseal_sandbox::table::{self, Table};
use reseal_sandbox::values::{COLUMNS, Values};
use reseal_sandbox::writer::{Writer, WriterOptions};
use tokio_postgres::{Client, Config, NoTls};

use crate::probe;
use crate::scheme::{Scheme, TwoKeys};

/// A server, the table in it, and what the table must say.
#[derive(Debug)]
pub struct Scene {
    /// The server.
    pub server: Server,
    /// The table.
    pub table: Table,
    /// Formats and keys.
    pub scheme: Scheme,
    /// The application's way of sealing and opening.
    pub keys: Arc<TwoKeys>,
    /// What was loaded.
    pub ledger: Ledger,
}

/// Connects to a database of a private server; the connection is driven by a task of the current runtime.
///
/// # Panics
///
/// If the server does not answer.
pub async fn connect(config: &Config) -> Client {
    let (client, connection) = config.connect(NoTls).await.expect("the server answers");
    tokio::spawn(async move {
        // Its error reaches the statement that was under way.
        let _ = connection.await;
    });
    client
}

impl Scene {
    /// Starts a server and loads `rows` rows under the old key.
    ///
    /// # Panics
    ///
    /// If no server can be started; the message names the package.
    pub async fn new(scheme: Scheme, rows: i64, seed: u64) -> Self {
        let server = Server::start(Options::default()).unwrap_or_else(|error| panic!("{error}"));
        let kind = match scheme.column_type {
            ColumnType::Bytes => table::ColumnType::Bytes,
            ColumnType::Text => table::ColumnType::Text,
        };
        let table = Table { column_type: kind };
        let keys = Arc::new(scheme.two_keys(COLUMNS.len()));
        let client = server.connect().await.expect("the server answers");
        table.create(&client).await.unwrap_or_else(|error| panic!("{error}"));
        let values = Values::new(seed);
        table.load(&client, 1..=rows, values, &*keys).await.expect("rows can be loaded");
        client.batch_execute("VACUUM ANALYZE crm_client_preferences").await.expect("it can be vacuumed");
        probe::install(&client).await;
        Self { server, table, scheme, keys, ledger: Ledger::new(1..=rows, values) }
    }

    /// The frozen plan of a run over the table.
    pub fn plan(&self, run: RunId) -> RunPlan {
        self.scheme.plan(run, "public", Table::NAME, &COLUMNS)
    }

    /// The same, joined with its keys.
    pub fn job(&self, run: RunId) -> Job {
        self.scheme.job(self.plan(run))
    }

    /// The store that an engine in this process works on.
    ///
    /// # Panics
    ///
    /// If the server has no address.
    pub fn store(&self) -> PostgresStore {
        PostgresStore::new(PostgresTarget::parse(&self.server.url(), None).expect("a URL"))
    }

    /// Starts the application under the old key.
    ///
    /// # Panics
    ///
    /// If there is no thread for it.
    pub fn writer(&self, seed: u64, transactions_per_second: f64) -> Writer {
        let keys: Arc<dyn Sealer> = self.keys.clone();
        let mut options = WriterOptions::new(self.server.config(), Sealing::Client(keys), seed);
        options.table = self.table;
        options.transactions_per_second = transactions_per_second;
        Writer::start(options, self.ledger.clone()).expect("the writer starts")
    }

    /// Reads the whole table in one snapshot and opens every value under each key.
    ///
    /// # Panics
    ///
    /// If the table cannot be read.
    pub async fn census(&self) -> Census {
        let client = self.server.connect().await.expect("the server answers");
        let mut census = Census::default();
        let count = |rows: &[table::StoredRow]| census.add(rows, &*self.keys);
        self.table.scan(&client, count).await.expect("the table can be read");
        census
    }

    /// Compares the table with what the application remembers.
    ///
    /// # Panics
    ///
    /// If the table cannot be read.
    pub async fn compare(&self, ledger: &Ledger) -> Comparison {
        let client = self.server.connect().await.expect("the server answers");
        ledger.compare(&client, &self.table, &*self.keys).await.expect("the table can be read")
    }
}
