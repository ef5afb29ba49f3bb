//! The stage on SQLite: the application's own database file, for machines without Postgres.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};
use rusqlite::{Connection, OptionalExtension, params};

use super::{Census, Ending, PlanNames, Stage};
use crate::codec::CodecSealer;
use crate::error::SandboxError;
use crate::guard::Directory;
use crate::ledger::{Comparison, Ledger, Origin, RowState};
use crate::seal::Key;
use crate::table::{StoredRow, Table, client_of, seal};
use crate::values::{COLUMNS, Cell, Values};

/// Rows that are sealed, written or read at a time.
const CHUNK: usize = 4096;
/// How long the application lets a transaction of someone else take.
const BUSY_TIMEOUT: Duration = Duration::from_secs(30);
/// The pause between two writes of the application.
const PAUSE: Duration = Duration::from_millis(10);
/// The seed of values and writes; a demo is the same every time.
const SEED: u64 = 2;

/// The table of the runbook in a SQLite file of its own.
#[derive(Debug)]
pub struct SqliteStage {
    directory: Directory,
    application: Option<Application>,
    loaded: i64,
    sealer: Option<Arc<CodecSealer>>,
}

impl SqliteStage {
    /// An empty database file in a temporary directory; it goes away with the stage.
    ///
    /// # Errors
    ///
    /// [`SandboxError::Io`].
    pub fn private() -> Result<Self, SandboxError> {
        let directory = Directory::new("reseal-sqlite-")?;
        Ok(Self { directory, application: None, loaded: 0, sealer: None })
    }

    fn path(&self) -> PathBuf {
        self.directory.path().join("app.db")
    }

    fn connect(&self) -> Result<Connection, SandboxError> {
        connect(&self.path())
    }

    fn sealer(&self) -> Result<Arc<CodecSealer>, SandboxError> {
        self.sealer.clone().ok_or_else(|| SandboxError::Writer("the table is not loaded yet".to_owned()))
    }

    /// Reads the whole table in one snapshot and hands its rows over in chunks.
    fn scan(&self, mut each: impl FnMut(&[StoredRow])) -> Result<(), SandboxError> {
        let connection = self.connect()?;
        let mut statement = connection.prepare(&format!(
            "SELECT id, version, {} FROM {}",
            COLUMNS.join(", "),
            Table::NAME
        ))?;
        let mut rows = statement.query(())?;
        let mut chunk = Vec::with_capacity(CHUNK);
        while let Some(row) = rows.next()? {
            let cell = |index| row.get::<_, Option<String>>(index).map(|text| text.map(String::into_bytes));
            chunk.push(StoredRow {
                id: row.get(0)?,
                version: row.get(1)?,
                cells: [cell(2)?, cell(3)?, cell(4)?],
            });
            if chunk.len() == CHUNK {
                each(&chunk);
                chunk.clear();
            }
        }
        each(&chunk);
        Ok(())
    }
}

impl Stage for SqliteStage {
    const STORE: &'static str = "sqlite";

    fn description(&self) -> String {
        format!("SQLite {}, in a temporary directory", rusqlite::version())
    }

    fn plan_names(&self) -> PlanNames {
        let path = self.path().display().to_string();
        PlanNames {
            server: format!("kind = \"sqlite\"\npath = {path:?}"),
            table: format!("main.{}", Table::NAME),
        }
    }

    async fn load(
        &mut self,
        rows: i64,
        _old_passphrase: &str,
        sealer: Arc<CodecSealer>,
    ) -> Result<(), SandboxError> {
        let mut connection = self.connect()?;
        let (table, columns) = (Table::NAME, COLUMNS.join(" TEXT, "));
        // The application counts `version` up with each of its writes, the engine leaves it alone.
        connection.execute_batch(&format!(
            "CREATE TABLE {table} (id INTEGER PRIMARY KEY, client_id INTEGER NOT NULL, {columns} TEXT,
                 version INTEGER NOT NULL DEFAULT 0);
             CREATE TABLE engine_writes (id INTEGER NOT NULL, version INTEGER NOT NULL);"
        ))?;
        let values = Values::new(SEED);
        let all: Vec<i64> = (1..=rows).collect();
        for ids in all.chunks(CHUNK) {
            let plaintexts: Vec<[String; 3]> = ids.iter().map(|&id| values.row(id, 0)).collect();
            let cells: Vec<(Cell, &str)> = ids
                .iter()
                .zip(&plaintexts)
                .flat_map(|(&id, row)| (0..3).map(move |column| (Cell { id, column }, &*row[column])))
                .collect();
            let sealed = texts(seal(&*sealer, Key::Old, &cells)?)?;
            let transaction = connection.transaction()?;
            {
                let mut insert = transaction.prepare(&insert_statement())?;
                for (&id, cells) in ids.iter().zip(sealed.chunks(3)) {
                    insert.execute(params![id, client_of(id), cells[0], cells[1], cells[2], 0])?;
                }
            }
            transaction.commit()?;
            // Loading blocks: between two chunks it may be stopped.
            tokio::task::yield_now().await;
        }
        connection.execute_batch(&format!(
            "CREATE TRIGGER note_engine_writes AFTER UPDATE ON {table} WHEN NEW.version = OLD.version
             BEGIN INSERT INTO engine_writes VALUES (NEW.id, NEW.version); END; ANALYZE;"
        ))?;
        self.loaded = rows;
        self.sealer = Some(sealer);
        Ok(())
    }

    async fn runbook_rate(&mut self, _old_passphrase: &str) -> Result<Option<f64>, SandboxError> {
        Ok(None)
    }

    fn start_application(&mut self) -> Result<(), SandboxError> {
        let ledger = Ledger::new(1..=self.loaded, Values::new(SEED));
        self.application = Some(Application::start(self.path(), self.sealer()?, ledger)?);
        Ok(())
    }

    fn switch(&mut self) {
        if let Some(application) = &self.application {
            *application.key.lock().unwrap_or_else(PoisonError::into_inner) = Key::New;
        }
    }

    async fn census(&mut self) -> Result<Census, SandboxError> {
        let sealer = self.sealer()?;
        let mut census = Census::default();
        self.scan(|rows| census.add(rows, &*sealer))?;
        Ok(census)
    }

    async fn stop_application(&mut self) -> Result<Ending, SandboxError> {
        let application = self.application.take();
        let application = application.ok_or_else(|| SandboxError::Writer("it is not running".to_owned()))?;
        let account = application.stop()?;
        let sealer = self.sealer()?;
        let mut found = Comparison::default();
        self.scan(|rows| account.ledger.compare_chunk(rows, &*sealer, &mut found))?;
        Ok(Ending {
            transactions: account.transactions,
            comparison: account.ledger.finished(found),
            longest: account.longest,
        })
    }

    async fn rewritten_twice(&mut self) -> Result<u64, SandboxError> {
        let statement = "SELECT coalesce(sum(times - 1), 0)
               FROM (SELECT count(*) AS times FROM engine_writes GROUP BY id, version)";
        let twice: i64 = self.connect()?.query_row(statement, (), |row| row.get(0))?;
        Ok(twice.unsigned_abs())
    }

    async fn leave(self) -> Result<(), SandboxError> {
        Ok(())
    }
}

/// The application, on a thread of its own; it ends when this is dropped.
#[derive(Debug)]
struct Application {
    key: Arc<Mutex<Key>>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<Result<Account, SandboxError>>>,
}

/// What the application did.
#[derive(Debug)]
struct Account {
    ledger: Ledger,
    transactions: u64,
    longest: Duration,
}

impl Application {
    fn start(path: PathBuf, sealer: Arc<CodecSealer>, ledger: Ledger) -> Result<Self, SandboxError> {
        let (key, stop) = (Arc::new(Mutex::new(Key::Old)), Arc::new(AtomicBool::new(false)));
        let (ours, stopped) = (key.clone(), stop.clone());
        let thread = std::thread::Builder::new()
            .name("application".to_owned())
            .spawn(move || run(&path, &sealer, ledger, &ours, &stopped))
            .map_err(SandboxError::io("start", "the application"))?;
        Ok(Self { key, stop, thread: Some(thread) })
    }

    fn stop(mut self) -> Result<Account, SandboxError> {
        self.stop.store(true, Ordering::Relaxed);
        let gone = || Err(SandboxError::Writer("it ended unexpectedly".to_owned()));
        self.thread.take().map_or_else(gone, |thread| thread.join().unwrap_or_else(|_| gone()))
    }
}

impl Drop for Application {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // Whoever drops it does not want its account.
            let _ = thread.join();
        }
    }
}

fn run(
    path: &std::path::Path,
    sealer: &CodecSealer,
    ledger: Ledger,
    key: &Mutex<Key>,
    stop: &AtomicBool,
) -> Result<Account, SandboxError> {
    let connection = connect(path)?;
    let mut random = ChaCha8Rng::seed_from_u64(SEED);
    let mut account = Account { ledger, transactions: 0, longest: Duration::ZERO };
    let (mut last_id, mut version) = account.ledger.last_used();
    while !stop.load(Ordering::Relaxed) {
        version += 1;
        // Held over the whole transaction: whoever changes the key waits for the write under the old one.
        let current = key.lock().unwrap_or_else(PoisonError::into_inner);
        let started = Instant::now();
        let choice = random.next_u64() % 100;
        if choice < 20 {
            last_id += 1;
            insert(&connection, sealer, *current, &mut account.ledger, last_id, version)?;
        } else {
            let id = 1 + (random.next_u64() % last_id.unsigned_abs().max(1)).cast_signed();
            let column = (random.next_u64() % 3) as usize;
            let Some(state) = account.ledger.state(id) else { continue };
            match choice {
                20..85 => update(
                    &connection,
                    (sealer, *current),
                    &mut account.ledger,
                    state,
                    Cell { id, column },
                    version,
                )?,
                85..90 => nullify(&connection, &mut account.ledger, state, Cell { id, column }, version)?,
                _ => delete(&connection, &mut account.ledger, id)?,
            }
        }
        drop(current);
        account.transactions += 1;
        account.longest = account.longest.max(started.elapsed());
        std::thread::sleep(PAUSE);
    }
    Ok(account)
}

fn insert(
    connection: &Connection,
    sealer: &CodecSealer,
    key: Key,
    ledger: &mut Ledger,
    id: i64,
    version: u64,
) -> Result<(), SandboxError> {
    let row = ledger.values().row(id, version);
    let cells: Vec<(Cell, &str)> = (0..3).map(|column| (Cell { id, column }, &*row[column])).collect();
    let sealed = texts(seal(sealer, key, &cells)?)?;
    connection.prepare_cached(&insert_statement())?.execute(params![
        id,
        client_of(id),
        sealed[0],
        sealed[1],
        sealed[2],
        version.cast_signed()
    ])?;
    ledger.note(id, id, Some(RowState::fresh(id, version)));
    Ok(())
}

fn update(
    connection: &Connection,
    (sealer, key): (&CodecSealer, Key),
    ledger: &mut Ledger,
    mut state: RowState,
    cell: Cell,
    version: u64,
) -> Result<(), SandboxError> {
    let text = ledger.values().plaintext(cell, version);
    let sealed = texts(seal(sealer, key, &[(cell, &text)])?)?;
    let statement =
        format!("UPDATE {} SET {} = ?1, version = ?2 WHERE id = ?3", Table::NAME, COLUMNS[cell.column]);
    connection.prepare_cached(&statement)?.execute(params![sealed[0], version.cast_signed(), cell.id])?;
    state.version = version;
    state.cells[cell.column] = Some(Origin { id: cell.id, version });
    ledger.note(cell.id, cell.id, Some(state));
    Ok(())
}

fn nullify(
    connection: &Connection,
    ledger: &mut Ledger,
    mut state: RowState,
    cell: Cell,
    version: u64,
) -> Result<(), SandboxError> {
    let statement =
        format!("UPDATE {} SET {} = NULL, version = ?1 WHERE id = ?2", Table::NAME, COLUMNS[cell.column]);
    connection.prepare_cached(&statement)?.execute(params![version.cast_signed(), cell.id])?;
    state.version = version;
    state.cells[cell.column] = None;
    ledger.note(cell.id, cell.id, Some(state));
    Ok(())
}

fn delete(connection: &Connection, ledger: &mut Ledger, id: i64) -> Result<(), SandboxError> {
    let statement = format!("DELETE FROM {} WHERE id = ?1 RETURNING id", Table::NAME);
    connection.prepare_cached(&statement)?.query_row([id], |row| row.get::<_, i64>(0)).optional()?;
    ledger.note(id, id, None);
    Ok(())
}

fn connect(path: &std::path::Path) -> Result<Connection, SandboxError> {
    let connection = Connection::open(path)?;
    connection.busy_timeout(BUSY_TIMEOUT)?;
    Ok(connection)
}

fn insert_statement() -> String {
    format!(
        "INSERT INTO {} (id, client_id, {}, version) VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
        Table::NAME,
        COLUMNS.join(", ")
    )
}

fn texts(sealed: Vec<Vec<u8>>) -> Result<Vec<String>, SandboxError> {
    let text = |stored| {
        String::from_utf8(stored)
            .map_err(|_| SandboxError::Seal("a sealed value for a text column is not UTF-8".to_owned()))
    };
    sealed.into_iter().map(text).collect()
}
