//! One connection of the application: transactions, errors, lost connections.

use std::collections::{BTreeMap, HashMap};
use std::error::Error;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use tokio::time::{MissedTickBehavior, interval, sleep};
use tokio_postgres::error::SqlState;
use tokio_postgres::types::ToSql;
use tokio_postgres::{Client, Config, Statement};

use super::script::{Kind, Script, Write};
use super::{Pass, Shared, WriterOptions};
use crate::error::SandboxError;
use crate::ledger::Ledger;
use crate::postgres::connect;
use crate::seal::{Key, Sealing};
use crate::table::{Table, client_of, seal};
use crate::values::{COLUMNS, Cell, Values};

/// How long a connection is tried to be made again before the application gives up.
const PATIENCE: Duration = Duration::from_secs(120);
/// How often one transaction is tried again after an error that says so.
const RETRIES: u32 = 1000;

type Parameter = Box<dyn ToSql + Sync + Send>;

/// What one connection did.
#[derive(Debug)]
pub(super) struct Account {
    pub(super) ledger: Ledger,
    pub(super) writes: BTreeMap<&'static str, u64>,
    pub(super) errors: BTreeMap<String, u64>,
    pub(super) reconnects: u64,
    pub(super) unknown_commits: [u64; 2],
    pub(super) longest_transaction: Duration,
}

impl Account {
    /// An account of nothing yet.
    pub(super) fn new(ledger: Ledger) -> Self {
        Self {
            ledger,
            writes: BTreeMap::new(),
            errors: BTreeMap::new(),
            reconnects: 0,
            unknown_commits: [0; 2],
            longest_transaction: Duration::ZERO,
        }
    }

    /// Adds what another connection did.
    pub(super) fn add(&mut self, other: Self) {
        self.ledger.merge(other.ledger);
        for (kind, count) in other.writes {
            *self.writes.entry(kind).or_default() += count;
        }
        for (code, count) in other.errors {
            *self.errors.entry(code).or_default() += count;
        }
        self.reconnects += other.reconnects;
        self.unknown_commits[0] += other.unknown_commits[0];
        self.unknown_commits[1] += other.unknown_commits[1];
        self.longest_transaction = self.longest_transaction.max(other.longest_transaction);
    }
}

/// One connection at work.
#[derive(Debug)]
pub(super) struct Task {
    config: Config,
    name: String,
    table: Table,
    sealing: Sealing,
    values: Values,
    period: Duration,
    script: Script,
    account: Account,
    shared: Arc<Shared>,
    link: Option<Link>,
    links_made: u64,
}

#[derive(Debug)]
struct Link {
    client: Client,
    name: String,
    statements: HashMap<String, Statement>,
}

/// Why a transaction did not commit.
enum Failure {
    /// The server refused it in a way that asks for another try.
    Again(SqlState),
    /// The connection is lost; whether it committed is open if COMMIT was sent.
    Lost { commit_sent: bool },
    /// Something that the application cannot live with.
    Fatal(SandboxError),
}

impl Failure {
    fn of(error: tokio_postgres::Error, commit_sent: bool) -> Self {
        let again = [
            SqlState::T_R_SERIALIZATION_FAILURE,
            SqlState::T_R_DEADLOCK_DETECTED,
            SqlState::LOCK_NOT_AVAILABLE,
            SqlState::QUERY_CANCELED,
        ];
        let lost = [SqlState::ADMIN_SHUTDOWN, SqlState::CRASH_SHUTDOWN, SqlState::CANNOT_CONNECT_NOW];
        match error.code() {
            Some(code) if again.contains(code) => Self::Again(code.clone()),
            Some(code) if lost.contains(code) => Self::Lost { commit_sent },
            None if on_the_wire(&error) => Self::Lost { commit_sent },
            _ => Self::Fatal(error.into()),
        }
    }
}

fn on_the_wire(error: &tokio_postgres::Error) -> bool {
    error.is_closed() || error.source().is_some_and(|cause| cause.is::<std::io::Error>())
}

impl Task {
    pub(super) fn new(
        options: &WriterOptions,
        ledger: &Ledger,
        index: usize,
        connections: usize,
        shared: &Arc<Shared>,
    ) -> Self {
        let ledger = ledger.share(index, connections);
        let rate = options.transactions_per_second.max(0.1) / connections as f64;
        Self {
            config: options.config.clone(),
            name: format!("writer {:x} {index}", options.seed),
            table: options.table,
            sealing: options.sealing.clone(),
            values: ledger.values(),
            period: Duration::from_secs_f64(1.0 / rate),
            script: Script::new(options.seed, options.mix, index, connections, &ledger),
            account: Account::new(ledger),
            shared: Arc::clone(shared),
            link: None,
            links_made: 0,
        }
    }

    /// Writes until the gate says that it is over.
    pub(super) async fn run(mut self) -> Result<Account, SandboxError> {
        let mut pace = interval(self.period);
        pace.set_missed_tick_behavior(MissedTickBehavior::Burst);
        loop {
            pace.tick().await;
            match self.shared.enter() {
                Pass::End => return Ok(self.account),
                Pass::Wait => {
                    sleep(Duration::from_millis(1)).await;
                    pace.reset();
                }
                Pass::Enter(key) => {
                    let links = self.links_made;
                    let done = self.transact(key).await;
                    self.shared.leave();
                    done?;
                    if self.links_made != links {
                        pace.reset();
                    }
                }
            }
        }
    }

    /// Does the next transaction, as often as it takes, and notes it in the ledger.
    async fn transact(&mut self, key: Key) -> Result<(), SandboxError> {
        let writes = self.script.next(&self.account.ledger);
        let mut tries = 0;
        loop {
            if self.link.is_none() {
                self.reconnect().await?;
            }
            let begin = Instant::now();
            match self.attempt(&writes, key).await {
                Ok(()) => {
                    self.account.longest_transaction = self.account.longest_transaction.max(begin.elapsed());
                    break;
                }
                Err(Failure::Again(code)) if tries < RETRIES => {
                    tries += 1;
                    self.account.longest_transaction = self.account.longest_transaction.max(begin.elapsed());
                    *self.account.errors.entry(code.code().to_owned()).or_default() += 1;
                    sleep(Duration::from_millis(1)).await;
                }
                Err(Failure::Again(code)) => {
                    return Err(SandboxError::Writer(format!(
                        "gave up after {RETRIES} times {}",
                        code.code()
                    )));
                }
                Err(Failure::Lost { commit_sent }) => {
                    let happened = self.recover(&writes[0], commit_sent).await?;
                    if happened {
                        break;
                    }
                }
                Err(Failure::Fatal(error)) => return Err(error),
            }
        }
        self.note(&writes);
        Ok(())
    }

    /// One try, from BEGIN to COMMIT.
    async fn attempt(&mut self, writes: &[Write], key: Key) -> Result<(), Failure> {
        let mut statements = Vec::with_capacity(writes.len());
        for write in writes {
            statements.push((write, self.statement(write, key).map_err(Failure::Fatal)?));
        }
        let Some(link) = &mut self.link else { return Err(Failure::Lost { commit_sent: false }) };
        link.execute("BEGIN").await?;
        for (write, (sql, parameters)) in &statements {
            let changed = match link.change(sql, parameters).await {
                Ok(changed) => changed,
                Err(Failure::Again(code)) => {
                    link.execute("ROLLBACK").await?;
                    return Err(Failure::Again(code));
                }
                Err(failure) => return Err(failure),
            };
            if changed != 1 {
                let what = format!("{} of row {} changed {changed} rows", write.kind.name(), write.id);
                return Err(Failure::Fatal(SandboxError::Writer(what)));
            }
        }
        link.client.batch_execute("COMMIT").await.map_err(|error| Failure::of(error, true))
    }

    fn note(&mut self, writes: &[Write]) {
        for write in writes {
            self.account.ledger.note(write.id, write.id_after, write.after);
            *self.account.writes.entry(write.kind.name()).or_default() += 1;
        }
        self.shared.transactions.fetch_add(1, Ordering::SeqCst);
    }

    /// Finds out, after the connection was lost, whether the transaction that began with `write` committed.
    async fn recover(&mut self, write: &Write, commit_sent: bool) -> Result<bool, SandboxError> {
        let lost = self.link.take().map(|link| link.name);
        if !commit_sent {
            return Ok(false);
        }
        let begin = Instant::now();
        loop {
            self.reconnect().await?;
            match self.happened(write, lost.as_deref().unwrap_or_default()).await {
                Ok(happened) => {
                    self.account.unknown_commits[usize::from(!happened)] += 1;
                    return Ok(happened);
                }
                Err(Failure::Fatal(error)) => return Err(error),
                Err(_) if begin.elapsed() > PATIENCE => {
                    return Err(SandboxError::Writer("the outcome of a commit stayed open".to_owned()));
                }
                Err(_) => self.link = None,
            }
        }
    }

    async fn happened(&mut self, write: &Write, lost: &str) -> Result<bool, Failure> {
        let Some(link) = &mut self.link else { return Err(Failure::Lost { commit_sent: false }) };
        let failed = |error| Failure::of(error, false);
        // A server process of the lost connection may still be about to commit: it has to be gone first.
        let end = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = $1";
        while !link.client.query(end, &[&lost]).await.map_err(failed)?.is_empty() {
            sleep(Duration::from_millis(5)).await;
        }
        let read = format!("SELECT version FROM {} WHERE id = $1", Table::NAME);
        let row = link.client.query_opt(&read, &[&write.id_after]).await.map_err(failed)?;
        let version = row.map(|row| row.get::<_, i64>(0) as u64);
        Ok(version == write.after.map(|state| state.version))
    }

    async fn reconnect(&mut self) -> Result<(), SandboxError> {
        let name = format!("{} {}", self.name, self.links_made);
        let mut config = self.config.clone();
        config.application_name(&name);
        let begin = Instant::now();
        loop {
            match connect(&config).await {
                Ok(client) => {
                    self.account.reconnects += u64::from(self.links_made > 0);
                    self.links_made += 1;
                    self.link = Some(Link { client, name, statements: HashMap::new() });
                    return Ok(());
                }
                // A server that never answered is a mistake; one that did may be on its way back.
                Err(error) if begin.elapsed() > PATIENCE || self.links_made == 0 => return Err(error),
                Err(_) => sleep(Duration::from_millis(20)).await,
            }
        }
    }

    /// The SQL of a write and its parameters: values sealed here, or plaintexts and the key for the functions.
    fn statement(&self, write: &Write, key: Key) -> Result<(String, Vec<Parameter>), SandboxError> {
        let version = write.after.map_or(0, |state| state.version) as i64;
        let mut parameters: Vec<Parameter> = vec![Box::new(write.id)];
        let table = Table::NAME;
        if write.kind == Kind::Delete {
            return Ok((format!("DELETE FROM {table} WHERE id = $1"), parameters));
        }
        parameters.push(Box::new(version));
        let expressions = self.sealed(write, key, &mut parameters)?;
        let columns = write.columns.iter().map(|&column| COLUMNS[column]);
        let sql = match write.kind {
            Kind::Insert => {
                parameters.push(Box::new(client_of(write.id)));
                let client = parameters.len();
                let columns = columns.collect::<Vec<_>>().join(", ");
                let values = expressions.join(", ");
                format!(
                    "INSERT INTO {table} (id, version, client_id, {columns}) VALUES ($1, $2, ${client}, {values})"
                )
            }
            Kind::Rekey => {
                parameters.push(Box::new(write.id_after));
                format!("UPDATE {table} SET version = $2, id = $3 WHERE id = $1")
            }
            Kind::OtherColumn => {
                format!("UPDATE {table} SET version = $2, client_id = client_id + 1 WHERE id = $1")
            }
            Kind::Update | Kind::Nullify | Kind::Delete => {
                let set: Vec<String> =
                    columns.zip(expressions).map(|(column, value)| format!("{column} = {value}")).collect();
                let set = set.join(", ");
                format!("UPDATE {table} SET version = $2, updated_at = now(), {set} WHERE id = $1")
            }
        };
        Ok((sql, parameters))
    }

    /// One SQL expression for each column that a write sets; what they refer to is added to the parameters.
    fn sealed(
        &self,
        write: &Write,
        key: Key,
        parameters: &mut Vec<Parameter>,
    ) -> Result<Vec<String>, SandboxError> {
        if write.kind == Kind::Nullify {
            return Ok(write.columns.iter().map(|_| "NULL".to_owned()).collect());
        }
        let version = write.after.map_or(0, |state| state.version);
        let cell = |&column: &usize| Cell { id: write.id, column };
        let plaintexts: Vec<(Cell, String)> =
            write.columns.iter().map(cell).map(|cell| (cell, self.values.plaintext(cell, version))).collect();
        let mut expressions = Vec::with_capacity(plaintexts.len());
        match &self.sealing {
            Sealing::Client(sealer) => {
                let plain: Vec<(Cell, &str)> =
                    plaintexts.iter().map(|(cell, text)| (*cell, &**text)).collect();
                for stored in seal(&**sealer, key, &plain)? {
                    parameters.push(self.table.parameter(stored)?);
                    expressions.push(format!("${}", parameters.len()));
                }
            }
            Sealing::Functions { .. } if plaintexts.is_empty() => {}
            Sealing::Functions { .. } => {
                let text = self.sealing.function_key(key).unwrap_or_default().to_owned();
                parameters.push(Box::new(text));
                let key = parameters.len();
                for (_, plaintext) in plaintexts {
                    parameters.push(Box::new(plaintext));
                    expressions.push(format!("encrypt_sensitive_data(${}, ${key})", parameters.len()));
                }
            }
        }
        Ok(expressions)
    }
}

impl Link {
    async fn execute(&self, sql: &str) -> Result<(), Failure> {
        self.client.batch_execute(sql).await.map_err(|error| Failure::of(error, false))
    }

    async fn change(&mut self, sql: &str, parameters: &[Parameter]) -> Result<u64, Failure> {
        let failed = |error| Failure::of(error, false);
        let statement = match self.statements.get(sql) {
            Some(statement) => statement.clone(),
            None => {
                let statement = self.client.prepare(sql).await.map_err(failed)?;
                self.statements.insert(sql.to_owned(), statement.clone());
                statement
            }
        };
        let parameters: Vec<&(dyn ToSql + Sync)> =
            parameters.iter().map(|parameter| &**parameter as &(dyn ToSql + Sync)).collect();
        self.client.execute(&statement, &parameters).await.map_err(failed)
    }
}
