//! The stage on Postgres: a private server, or a schema of its own in a server that was named.

use std::sync::Arc;
use std::time::Instant;

use tokio_postgres::{Client, Config};

use super::{Census, Ending, PlanNames, Stage};
use crate::codec::CodecSealer;
use crate::error::SandboxError;
use crate::ledger::Ledger;
use crate::postgres::{Options, Server, connect};
use crate::seal::Sealing;
use crate::table::Table;
use crate::values::Values;
use crate::writer::{Writer, WriterOptions};

/// Rows whose values the database's own functions encrypt.
const ROWS_BY_FUNCTIONS: i64 = 1_000;
/// Rows of the runbook's statement.
const ROWS_BY_RUNBOOK: i64 = 2_000;
/// What the application does in a second, over how many connections.
const TRANSACTIONS_PER_SECOND: f64 = 200.0;
const CONNECTIONS: usize = 2;
/// The seed of values and writes; a demo is the same every time.
const SEED: u64 = 2;

/// The table of the runbook on Postgres.
#[derive(Debug)]
pub struct PostgresStage {
    // Declared before the server, so that it ends first.
    writer: Option<Writer>,
    client: Client,
    config: Config,
    url: String,
    schema: String,
    /// Whether the engine's own schema was there before us.
    had_engine_schema: bool,
    version: String,
    loaded: i64,
    sealer: Option<Arc<CodecSealer>>,
    server: Option<Server>,
}

impl PostgresStage {
    /// Starts a private server; it goes away with the stage.
    ///
    /// # Errors
    ///
    /// [`SandboxError::MissingProgram`] where Postgres is not installed, [`SandboxError::MissingExtension`] where its
    /// pgcrypto is not.
    pub async fn private() -> Result<Self, SandboxError> {
        let server = Server::start(Options::default())?;
        let stage = Self::on(server.config(), server.url(), "public".to_owned(), Some(server)).await?;
        crate::table::create_functions(&stage.client).await?;
        Ok(stage)
    }

    /// Makes a schema of its own in the database at `url`, which has no password in it.
    ///
    /// # Errors
    ///
    /// [`SandboxError::Sql`] if the database does not let us in, or not make a schema.
    pub async fn within(url: &str) -> Result<Self, SandboxError> {
        let schema = format!("reseal_demo_{}", std::process::id());
        let mut config: Config = url.parse()?;
        config.options(format!("-c search_path={schema},public"));
        let stage = Self::on(config, url.to_owned(), schema, None).await?;
        stage.client.batch_execute(&format!("CREATE SCHEMA {}", stage.schema)).await?;
        Ok(stage)
    }

    async fn on(
        config: Config,
        url: String,
        schema: String,
        server: Option<Server>,
    ) -> Result<Self, SandboxError> {
        let client = connect(&config).await?;
        let facts = client
            .query_one("SELECT current_setting('server_version'), to_regnamespace('reseal') IS NOT NULL", &[])
            .await?;
        Ok(Self {
            writer: None,
            version: facts.try_get::<_, String>(0)?,
            had_engine_schema: facts.try_get(1)?,
            client,
            config,
            url,
            schema,
            loaded: 0,
            sealer: None,
            server,
        })
    }

    fn table(&self) -> Table {
        Table::default()
    }

    fn sealer(&self) -> Result<Arc<CodecSealer>, SandboxError> {
        self.sealer.clone().ok_or_else(|| SandboxError::Writer("the table is not loaded yet".to_owned()))
    }

    fn values() -> Values {
        Values::new(SEED)
    }

    /// Counts what the engine writes, by a trigger that tells its sessions by their name.
    async fn watch(&self) -> Result<(), SandboxError> {
        let (schema, table) = (&self.schema, Table::NAME);
        let statements = format!(
            "CREATE UNLOGGED TABLE {schema}.engine_writes (id bigint, version bigint);
             CREATE FUNCTION {schema}.note_engine_writes() RETURNS trigger LANGUAGE plpgsql
                 SET search_path = pg_catalog, pg_temp AS $$
             BEGIN
                 IF current_setting('application_name') LIKE 'reseal/%' THEN
                     INSERT INTO {schema}.engine_writes SELECT id, version FROM written;
                 END IF;
                 RETURN NULL;
             END $$;
             CREATE TRIGGER note_engine_writes AFTER UPDATE ON {schema}.{table}
                 REFERENCING NEW TABLE AS written FOR EACH STATEMENT
                 EXECUTE FUNCTION {schema}.note_engine_writes();"
        );
        Ok(self.client.batch_execute(&statements).await?)
    }
}

impl Stage for PostgresStage {
    const STORE: &'static str = "postgres";

    fn description(&self) -> String {
        match self.server {
            Some(_) => format!("PostgreSQL {}, private, in a temporary directory", self.version),
            None => format!("PostgreSQL {}, schema {}", self.version, self.schema),
        }
    }

    fn plan_names(&self) -> PlanNames {
        PlanNames {
            server: format!("kind = \"postgres\"\nurl  = \"{}\"", self.url),
            table: format!("{}.{}", self.schema, Table::NAME),
        }
    }

    async fn load(
        &mut self,
        rows: i64,
        old_passphrase: &str,
        sealer: Arc<CodecSealer>,
    ) -> Result<(), SandboxError> {
        let table = self.table();
        table.create(&self.client).await?;
        let by_functions = ROWS_BY_FUNCTIONS.min(rows);
        table.load_by_functions(&self.config, 2, 1..=by_functions, Self::values(), old_passphrase).await?;
        if rows > by_functions {
            table.load(&self.client, by_functions + 1..=rows, Self::values(), &*sealer).await?;
        }
        self.client.batch_execute(&format!("VACUUM ANALYZE {}.{}", self.schema, Table::NAME)).await?;
        self.watch().await?;
        self.loaded = rows;
        self.sealer = Some(sealer);
        Ok(())
    }

    async fn runbook_rate(&mut self, old_passphrase: &str) -> Result<Option<f64>, SandboxError> {
        let ids = 1..=ROWS_BY_RUNBOOK.min(self.loaded);
        self.client.batch_execute("BEGIN").await?;
        let started = Instant::now();
        let rows =
            self.table().runbook_update(&self.client, ids, old_passphrase, "the runbook's new key").await?;
        let seconds = started.elapsed().as_secs_f64();
        self.client.batch_execute("ROLLBACK").await?;
        Ok((seconds > 0.0).then(|| rows as f64 / seconds))
    }

    fn start_application(&mut self) -> Result<(), SandboxError> {
        let sealing = Sealing::Client(self.sealer()?);
        let options = WriterOptions {
            connections: CONNECTIONS,
            transactions_per_second: TRANSACTIONS_PER_SECOND,
            ..WriterOptions::new(self.config.clone(), sealing, SEED)
        };
        self.writer = Some(Writer::start(options, Ledger::new(1..=self.loaded, Self::values()))?);
        Ok(())
    }

    fn switch(&mut self) {
        if let Some(writer) = &self.writer {
            writer.switch_to_new_key();
        }
    }

    async fn census(&mut self) -> Result<Census, SandboxError> {
        let sealer = self.sealer()?;
        let mut census = Census::default();
        self.table().scan(&self.client, |rows| census.add(rows, &*sealer)).await?;
        Ok(census)
    }

    async fn stop_application(&mut self) -> Result<Ending, SandboxError> {
        let writer = self.writer.take();
        let writer = writer.ok_or_else(|| SandboxError::Writer("it is not running".to_owned()))?;
        let report = writer.stop()?;
        let comparison = report.ledger.compare(&self.client, &self.table(), &*self.sealer()?).await?;
        Ok(Ending { transactions: report.transactions, comparison, longest: report.longest_transaction })
    }

    async fn rewritten_twice(&mut self) -> Result<u64, SandboxError> {
        let statement = format!(
            "SELECT coalesce(sum(times - 1), 0)::bigint
               FROM (SELECT count(*) AS times FROM {}.engine_writes GROUP BY id, version) AS writes",
            self.schema
        );
        let twice: i64 = self.client.query_one(&statement, &[]).await?.try_get(0)?;
        Ok(twice.unsigned_abs())
    }

    async fn leave(mut self) -> Result<(), SandboxError> {
        drop(self.writer.take());
        if self.server.is_some() {
            return Ok(());
        }
        self.client.batch_execute(&format!("DROP SCHEMA {} CASCADE", self.schema)).await?;
        if !self.had_engine_schema {
            self.client.batch_execute("DROP SCHEMA IF EXISTS reseal CASCADE").await?;
        }
        Ok(())
    }
}
