//! An application that writes to the encrypted table while it is re-encrypted, and remembers what it wrote.
//!
//! Several connections, each with rows of its own, so that the order of writes to a row is known. Every transaction is
//! in the ledger once it is known to have committed; if the server dies during a COMMIT, the writer asks afterwards.

mod connection;
mod script;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use tokio_postgres::Config;

use crate::error::SandboxError;
use crate::ledger::Ledger;
use crate::seal::{Key, Sealing};
use crate::table::Table;
use connection::{Account, Task};

/// What the application does.
#[derive(Debug, Clone)]
pub struct WriterOptions {
    /// Where the server is.
    pub config: Config,
    /// The table it writes to.
    pub table: Table,
    /// How it encrypts.
    pub sealing: Sealing,
    /// Seed of its choices; with [`Ledger`]'s seed it decides every write of every connection.
    pub seed: u64,
    /// Connections that write at the same time.
    pub connections: usize,
    /// Transactions per second that it tries to do, over all connections.
    pub transactions_per_second: f64,
    /// Shares of the kinds of writes.
    pub mix: Mix,
}

impl WriterOptions {
    /// 400 transactions a second over four connections.
    pub fn new(config: Config, sealing: Sealing, seed: u64) -> Self {
        Self {
            config,
            table: Table::default(),
            sealing,
            seed,
            connections: 4,
            transactions_per_second: 400.0,
            mix: Mix::default(),
        }
    }
}

/// How often each kind of write comes, relative to the others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mix {
    /// A new row.
    pub insert: u32,
    /// One encrypted column, or all, of a row.
    pub update: u32,
    /// One encrypted column becomes NULL.
    pub nullify: u32,
    /// Another column than the encrypted ones.
    pub other_column: u32,
    /// A row goes.
    pub delete: u32,
    /// The primary key of a row changes.
    pub rekey: u32,
}

impl Default for Mix {
    fn default() -> Self {
        Self { insert: 20, update: 60, nullify: 2, other_column: 3, delete: 15, rekey: 0 }
    }
}

/// The running application. Stop it by [`Writer::stop`]; dropping it stops it too.
#[derive(Debug)]
pub struct Writer {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<Result<Account, SandboxError>>>,
    started: Instant,
}

/// What the application did.
#[derive(Debug, Clone)]
pub struct Report {
    /// What the table must hold now.
    pub ledger: Ledger,
    /// Transactions that committed.
    pub transactions: u64,
    /// Committed writes by kind: `insert`, `update`, `nullify`, `other_column`, `delete`, `rekey`.
    pub writes: BTreeMap<&'static str, u64>,
    /// Errors that the application saw from the server, by SQLSTATE; each transaction was tried again.
    pub errors: BTreeMap<String, u64>,
    /// Connections lost and made again.
    pub reconnects: u64,
    /// Commits whose outcome the server's death left open: those that had happened, and those that had not.
    pub unknown_commits: [u64; 2],
    /// The longest time that one transaction took, connections lost not counted.
    pub longest_transaction: Duration,
    /// How long the application ran.
    pub elapsed: Duration,
}

impl Writer {
    /// Starts the application with the old key, on a thread of its own.
    ///
    /// # Errors
    ///
    /// [`SandboxError::Io`] if there is no thread for it.
    pub fn start(options: WriterOptions, ledger: Ledger) -> Result<Self, SandboxError> {
        let shared = Arc::new(Shared::new());
        let ours = Arc::clone(&shared);
        let thread = std::thread::Builder::new()
            .name("writer".to_owned())
            .spawn(move || run(&options, ledger, &ours))
            .map_err(SandboxError::io("start", "the writer"))?;
        Ok(Self { shared, thread: Some(thread), started: Instant::now() })
    }

    /// Transactions that have committed so far.
    pub fn transactions(&self) -> u64 {
        self.shared.transactions.load(Ordering::SeqCst)
    }

    /// Changes to the new key. When this returns, no transaction under the old key is under way any more.
    ///
    /// Blocks until the transactions that are under way have ended.
    pub fn switch_to_new_key(&self) {
        let mut gate = self.shared.close();
        gate.key = Key::New;
        gate.closed = false;
    }

    /// Lets no more transactions begin, and waits for those under way; [`Writer::go_on`] ends the pause.
    pub fn pause(&self) {
        drop(self.shared.close());
    }

    /// Goes on after [`Writer::pause`].
    pub fn go_on(&self) {
        self.shared.gate().closed = false;
    }

    /// Waits until so many transactions have committed, at most `timeout`; `false` if they have not.
    pub fn wait_for_transactions(&self, count: u64, timeout: Duration) -> bool {
        let begin = Instant::now();
        while self.transactions() < count && !self.has_ended() {
            if begin.elapsed() > timeout {
                return false;
            }
            std::thread::sleep(Duration::from_millis(2));
        }
        self.transactions() >= count
    }

    /// Whether the application has ended by itself, which it does only by an error.
    pub fn has_ended(&self) -> bool {
        self.thread.as_ref().is_none_or(JoinHandle::is_finished)
    }

    /// Ends the application after the transactions under way and reports what it did.
    ///
    /// # Errors
    ///
    /// What made it end before.
    pub fn stop(mut self) -> Result<Report, SandboxError> {
        self.shared.end();
        let elapsed = self.started.elapsed();
        let joined = self.thread.take().map(JoinHandle::join);
        let Some(Ok(account)) = joined else {
            return Err(SandboxError::Writer("ended by a panic".to_owned()));
        };
        let account = account?;
        Ok(Report {
            ledger: account.ledger,
            transactions: self.transactions(),
            writes: account.writes,
            errors: account.errors,
            reconnects: account.reconnects,
            unknown_commits: account.unknown_commits,
            longest_transaction: account.longest_transaction,
            elapsed,
        })
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.shared.end();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// What the connections share with the one who started them.
#[derive(Debug)]
struct Shared {
    transactions: AtomicU64,
    gate: Mutex<Gate>,
    passed: Condvar,
}

/// Where every transaction enters and leaves.
#[derive(Debug)]
struct Gate {
    key: Key,
    closed: bool,
    ended: bool,
    under_way: usize,
}

/// What a transaction finds at the gate.
enum Pass {
    Enter(Key),
    Wait,
    End,
}

impl Shared {
    fn new() -> Self {
        let gate = Gate { key: Key::Old, closed: false, ended: false, under_way: 0 };
        Self { transactions: AtomicU64::new(0), gate: Mutex::new(gate), passed: Condvar::new() }
    }

    fn gate(&self) -> MutexGuard<'_, Gate> {
        // A panic elsewhere leaves the gate as it is: it holds no half-made change.
        self.gate.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn enter(&self) -> Pass {
        let mut gate = self.gate();
        match (gate.ended, gate.closed) {
            (true, _) => Pass::End,
            (false, true) => Pass::Wait,
            (false, false) => {
                gate.under_way += 1;
                Pass::Enter(gate.key)
            }
        }
    }

    fn leave(&self) {
        self.gate().under_way -= 1;
        self.passed.notify_all();
    }

    fn end(&self) {
        self.gate().ended = true;
    }

    /// Says that nobody is under way any more: after an error the others are cut short.
    fn all_gone(&self) {
        let mut gate = self.gate();
        gate.ended = true;
        gate.under_way = 0;
        self.passed.notify_all();
    }

    /// Closes the gate and waits until nobody is under way.
    fn close(&self) -> MutexGuard<'_, Gate> {
        let mut gate = self.gate();
        gate.closed = true;
        self.passed.wait_while(gate, |gate| gate.under_way > 0).unwrap_or_else(PoisonError::into_inner)
    }
}

fn run(options: &WriterOptions, ledger: Ledger, shared: &Arc<Shared>) -> Result<Account, SandboxError> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(SandboxError::io("start", "the writer"))?;
    let connections = options.connections.max(1);
    let tasks = (0..connections).map(|index| Task::new(options, &ledger, index, connections, shared).run());
    let accounts = runtime.block_on(futures_util::future::try_join_all(tasks));
    shared.all_gone();
    let mut total = Account::new(ledger);
    for account in accounts? {
        total.add(account);
    }
    Ok(total)
}
