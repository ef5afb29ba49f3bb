//! A store in memory: the second implementation of the engine's seam, for the simulator.
//!
//! Rows live in numbered slots, as in a heap: whoever updates a row moves it to another slot, before or behind the one
//! that is read at the moment. A transaction is a call under one lock. What goes wrong is decided by [`Faults`].

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};

use async_trait::async_trait;
use reseal_crypto::random::Random;
use reseal_engine::ledger::{RunState, ScanRange, SealedSpan};
use reseal_engine::store::{
    Claim, Committed, Filter, Horizon, MissCause, Missed, QuarantineRecord, ReadLimits, Session, SnapshotId,
    Standing, Store, WriteOutcome,
};
use reseal_engine::{
    Batch, BatchInfo, ByReason, Cells, DatabaseError, EngineError, Job, KeyCells, Lease, Moment, Observer,
    Position, Reason, RunId, SpanRecord, TableFacts, VerifiedBatch,
};

use crate::world::{Dice, Fault, World};

/// The one table there is.
pub const RELATION: &str = "main.people";

/// Calls of the engine after which a lease may go to another worker.
const LEASE_CALLS: u64 = 40;

/// A row: its key, and its stored bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    pub key: i64,
    pub cells: Vec<Option<Vec<u8>>>,
}

/// The table, as every transaction sees it.
#[derive(Debug, Clone, Default)]
pub struct Table {
    pub slots: BTreeMap<u64, Row>,
    /// Changes when every row moves at once.
    pub incarnation: u64,
    end: u64,
}

impl Table {
    /// Puts a row into `slot`, or behind all others.
    pub fn insert(&mut self, slot: Option<u64>, row: Row) -> u64 {
        let slot = slot.unwrap_or(self.end);
        self.end = self.end.max(slot + 1);
        assert!(self.slots.insert(slot, row).is_none(), "a slot holds one row");
        slot
    }

    /// The slot of a key.
    pub fn find(&self, key: i64) -> Option<u64> {
        self.slots.iter().find(|(_, row)| row.key == key).map(|(slot, _)| *slot)
    }

    /// Slots that hold no row and may take one.
    pub fn free(&self) -> impl Iterator<Item = u64> {
        (0..self.end).filter(|slot| !self.slots.contains_key(slot))
    }

    /// Writes every row anew, in another order.
    pub fn rewrite(&mut self, random: &mut Dice) {
        let mut rows: Vec<Row> = std::mem::take(&mut self.slots).into_values().collect();
        random.shuffle(&mut rows);
        self.end = 0;
        self.incarnation += 1;
        for row in rows {
            self.insert(None, row);
        }
    }
}

/// A run's record.
#[derive(Debug, Clone)]
struct RunRow {
    state: RunState,
    pass: u32,
}

/// A span with its lease.
#[derive(Debug, Clone)]
struct SpanRow {
    run: RunId,
    span: SealedSpan,
    /// The token, and the call after which another worker may take it.
    lease: Option<([u8; 16], u64)>,
}

/// The account of all runs.
#[derive(Debug, Default)]
pub struct Account {
    runs: BTreeMap<RunId, RunRow>,
    spans: Vec<SpanRow>,
    quarantine: Vec<(RunId, QuarantineRecord)>,
    snapshots: BTreeMap<String, Arc<Table>>,
}

impl Account {
    /// Takes every lease away, as if another engine had entered the run.
    pub fn steal_leases(&mut self) {
        self.spans.iter_mut().for_each(|span| span.lease = None);
    }

    /// Adds values to the quarantine of a run, and says how many were not in it before.
    fn quarantine(&mut self, run: RunId, records: impl IntoIterator<Item = QuarantineRecord>) -> u64 {
        let before = self.quarantine.len();
        for record in records {
            let same = |(id, known): &(RunId, QuarantineRecord)| {
                let key = |record: &QuarantineRecord| (record.row_key.clone(), record.value_mac);
                *id == run && known.column == record.column && key(known) == key(&record)
            };
            if !self.quarantine.iter().any(same) {
                self.quarantine.push((run, record));
            }
        }
        (self.quarantine.len() - before) as u64
    }

    /// Refuses a run that is neither active nor `also`.
    fn check_active(&self, run: RunId, also: RunState) -> Result<(), EngineError> {
        let state = self.runs.get(&run).expect("the run was entered").state;
        match state == RunState::Active || state == also {
            true => Ok(()),
            false => Err(EngineError::Conflict(format!("run {run} is {} by now", state.name()))),
        }
    }
}

/// The store.
#[derive(Clone)]
pub struct MemoryStore {
    pub world: Arc<Mutex<World>>,
    pub workers: usize,
}

/// One connection.
pub struct MemorySession {
    world: Arc<Mutex<World>>,
    job: Arc<Job>,
    snapshot: Option<Arc<Table>>,
}

#[async_trait]
impl Store for MemoryStore {
    fn workers_max(&self) -> usize {
        self.workers
    }

    async fn session(&self, job: Arc<Job>) -> Result<Box<dyn Session>, EngineError> {
        let session = MemorySession { world: self.world.clone(), job, snapshot: None };
        session.begin().await.map(drop)?;
        Ok(Box::new(session))
    }
}

impl MemorySession {
    /// Begins a call: the application acts, and then something may go wrong before anything is done.
    async fn begin(&self) -> Result<Option<Fault>, EngineError> {
        let fault = {
            let mut world = self.lock();
            world.tick();
            world.fault()
        };
        match fault {
            Some(Fault::Crash) => self.crash().await,
            Some(Fault::Disconnect) => Err(disconnected()),
            fault => Ok(fault),
        }
    }

    /// Ends a call that was done.
    async fn end<T>(&self, fault: Option<Fault>, result: T) -> Result<T, EngineError> {
        match fault {
            Some(Fault::CrashAfter) => self.crash().await,
            Some(Fault::Unknown) => Err(disconnected()),
            _ => Ok(result),
        }
    }

    /// Kills the engine: the call never comes back.
    async fn crash<T>(&self) -> T {
        self.lock().crash.notify_one();
        std::future::pending().await
    }

    fn lock(&self) -> MutexGuard<'_, World> {
        self.world.lock().expect("no assertion failed under the lock")
    }

    fn run(&self) -> RunId {
        self.job.plan.run
    }

    fn batch_of(&self, rows: Vec<(u64, Row)>, end: Position) -> Batch {
        let mut columns = vec![Cells::default(); self.job.plan.columns.len()];
        for (_, row) in &rows {
            columns.iter_mut().zip(&row.cells).for_each(|(column, cell)| column.push(cell.as_deref()));
        }
        let keys = rows.iter().map(|(_, row)| row.key).collect();
        let locators = rows.iter().map(|(slot, _)| *slot).collect();
        Batch { locators, versions: Vec::new(), keys: vec![KeyCells::Integer(keys)], columns, end }
    }

    fn may_be_old(&self, row: &Row) -> bool {
        let codecs = self.job.codecs.iter();
        row.cells
            .iter()
            .zip(codecs)
            .any(|(cell, codecs)| cell.as_ref().is_some_and(|cell| !codecs.names_new(cell)))
    }
}

fn disconnected() -> EngineError {
    DatabaseError::connection("talk to the store", "the connection was cut").into()
}

fn position(slot: u64) -> Position {
    Position(slot.to_be_bytes().to_vec())
}

fn slot(position: &Position) -> u64 {
    u64::from_be_bytes(position.0.as_slice().try_into().expect("eight bytes"))
}

impl World {
    fn holds(&self, run: RunId, lease: &Lease) -> Option<usize> {
        self.account.check_active(run, RunState::Active).ok()?;
        let is_it = |row: &SpanRow| {
            let record = row.span.record();
            row.run == run && (record.pass, record.number) == (lease.span.pass, lease.span.number)
        };
        let index = self.account.spans.iter().position(is_it)?;
        let row = &self.account.spans[index];
        let held = row.lease.is_some_and(|(token, _)| token == lease.token)
            && row.span.record().seq == lease.span.seq;
        (held && lease.span.incarnation == self.table.incarnation).then_some(index)
    }

    /// Writes one row if it still stands as it was read, to a slot of its own.
    fn write_row(&mut self, batch: &VerifiedBatch, index: usize) -> Result<(), MissCause> {
        let change = batch.changes()[index];
        let read = batch.batch();
        let place = read.locators[change.row as usize];
        let key = read.integer_key(change.row as usize).expect("an integer key");
        let changed: Vec<usize> =
            (0..read.columns.len()).filter(|column| change.columns >> column & 1 == 1).collect();
        let stands = self.table.slots.get(&place).is_some_and(|row| {
            row.key == key
                && changed
                    .iter()
                    .all(|&c| row.cells[c].as_deref() == read.columns[c].get(change.row as usize))
        });
        if !stands {
            return Err(MissCause::Changed);
        }
        if self.dice.one_in(50) {
            return Err(MissCause::Locked);
        }
        let mut row = self.table.slots.remove(&place).expect("it stands");
        for column in changed {
            let sealed = batch.sealed()[column].get(index).expect("a change has new bytes").to_vec();
            self.check_rewrite(key, column, row.cells[column].as_deref(), &sealed);
            row.cells[column] = Some(sealed);
        }
        let place = self.new_slot(place);
        self.table.insert(place, row);
        Ok(())
    }
}

#[async_trait]
impl Session for MemorySession {
    async fn survey(&mut self) -> Result<(TableFacts, Batch), EngineError> {
        let fault = self.begin().await?;
        let (rows, count) = {
            let world = self.lock();
            let rows: Vec<(u64, Row)> =
                world.table.slots.iter().take(100).map(|(slot, row)| (*slot, row.clone())).collect();
            (rows, world.table.slots.len() as u64)
        };
        let columns = self.job.plan.columns.len();
        let facts = TableFacts {
            rows: count,
            leaves: vec![RELATION.into()],
            widths: vec![None; columns],
            longest: vec![0; columns],
            ..TableFacts::default()
        };
        let batch = self.batch_of(rows, Position::default());
        self.end(fault, (facts, batch)).await
    }

    async fn enter(&mut self) -> Result<Standing, EngineError> {
        let fault = self.begin().await?;
        let run = self.run();
        let standing = {
            let account = &mut self.lock().account;
            if let Some(forward) = self.job.plan.supersedes.and_then(|run| account.runs.get_mut(&run)) {
                forward.state = RunState::RolledBack;
            }
            let other = account.runs.iter().find(|(id, row)| **id != run && row.state == RunState::Active);
            if let Some((other, _)) = other {
                return Err(EngineError::Conflict(format!("run {other} is active")));
            }
            account.spans.iter_mut().filter(|span| span.run == run).for_each(|span| span.lease = None);
            let row = account.runs.entry(run).or_insert(RunRow { state: RunState::Active, pass: 0 });
            Standing { state: row.state, pass: row.pass }
        };
        self.end(fault, standing).await
    }

    async fn standing(&mut self) -> Result<Option<Standing>, EngineError> {
        let fault = self.begin().await?;
        let row = self.lock().account.runs.get(&self.run()).cloned();
        self.end(fault, row.map(|row| Standing { state: row.state, pass: row.pass })).await
    }

    async fn ranges(&mut self, workers: usize, _: Filter) -> Result<Vec<ScanRange>, EngineError> {
        let fault = self.begin().await?;
        let table = self.snapshot.clone().unwrap_or_else(|| Arc::new(self.lock().table.clone()));
        let step = (table.end / (2 * workers as u64)).max(8);
        let range = |lo: u64| ScanRange {
            relation: RELATION.into(),
            incarnation: table.incarnation,
            lo: position(lo),
            hi: position((lo + step).min(table.end)),
        };
        let ranges = (0..table.end).step_by(step as usize).map(range).collect();
        self.end(fault, ranges).await
    }

    async fn lay_out(&mut self, pass: u32, spans: Vec<SealedSpan>) -> Result<(), EngineError> {
        let fault = self.begin().await?;
        let run = self.run();
        {
            let account = &mut self.lock().account;
            account.check_active(run, RunState::Active)?;
            let row = account.runs.get_mut(&run).expect("the run was entered");
            if row.pass < pass {
                row.pass = pass;
                account.spans.extend(spans.into_iter().map(|span| SpanRow { run, span, lease: None }));
            }
        }
        self.end(fault, ()).await
    }

    async fn claim(&mut self, pass: u32) -> Result<Claim, EngineError> {
        let fault = self.begin().await?;
        let run = self.run();
        let claim = {
            let world = &mut *self.lock();
            let open = |row: &SpanRow| {
                row.run == run && row.span.record().pass == pass && !row.span.record().is_done()
            };
            let calls = world.calls;
            let left = world.account.spans.iter().filter(|row| open(row)).count();
            let also = if left == 0 { RunState::Proved } else { RunState::Active };
            world.account.check_active(run, also)?;
            match world
                .account
                .spans
                .iter_mut()
                .find(|row| open(row) && row.lease.is_none_or(|(_, until)| until < calls))
            {
                None if left == 0 => Claim::Done,
                None => Claim::Busy,
                Some(row) if row.span.record().incarnation != world.table.incarnation => Claim::Stale,
                Some(row) => {
                    let mut token = [0; 16];
                    world.dice.random.fill(&mut token)?;
                    row.lease = Some((token, calls + LEASE_CALLS));
                    Claim::Leased(Lease { span: row.span.clone().open(run, &self.job.keys)?, token })
                }
            }
        };
        self.end(fault, claim).await
    }

    async fn release(&mut self, lease: Lease) -> Result<(), EngineError> {
        let fault = self.begin().await?;
        let run = self.run();
        {
            let held = |row: &&mut SpanRow| {
                row.run == run && row.lease.is_some_and(|(token, _)| token == lease.token)
            };
            let account = &mut self.lock().account;
            account.spans.iter_mut().filter(held).for_each(|row| row.lease = None);
        }
        self.end(fault, ()).await
    }

    async fn read(
        &mut self,
        range: &ScanRange,
        from: &Position,
        limits: ReadLimits,
        filter: Filter,
    ) -> Result<Batch, EngineError> {
        let fault = self.begin().await?;
        let (batch, end) = {
            let world = &mut *self.lock();
            let table = self.snapshot.as_deref().unwrap_or(&world.table);
            let most = limits.rows.min(1 + world.dice.below(24));
            let wanted = |row: &Row| filter == Filter::All || self.may_be_old(row);
            let rows = table.slots.range(slot(from)..slot(&range.hi)).filter(|(_, row)| wanted(row));
            let rows: Vec<(u64, Row)> = rows.take(most).map(|(slot, row)| (*slot, row.clone())).collect();
            let end = if rows.len() < most { None } else { rows.last().map(|(slot, _)| position(slot + 1)) };
            (rows, end.unwrap_or_else(|| range.hi.clone()))
        };
        let batch = self.batch_of(batch, end);
        self.end(fault, batch).await
    }

    async fn write(
        &mut self,
        lease: &Lease,
        batch: &VerifiedBatch,
        observer: &dyn Observer,
    ) -> Result<WriteOutcome, EngineError> {
        let fault = self.begin().await?;
        // A call is one transaction, so the moment before its COMMIT is the moment before it.
        observer.at(Moment::Written, BatchInfo { span: &lease.span, batch: batch.batch() }).await;
        let run = self.run();
        let outcome = {
            let world = &mut *self.lock();
            match (fault, world.holds(run, lease)) {
                (Some(Fault::Busy), _) => WriteOutcome::Busy,
                (_, None) => WriteOutcome::LeaseLost,
                (_, Some(index)) => {
                    WriteOutcome::Committed(Box::new(self.write_batch(world, index, lease, batch)?))
                }
            }
        };
        self.end(fault, outcome).await
    }

    async fn quarantine(&mut self, records: Vec<QuarantineRecord>) -> Result<u64, EngineError> {
        let fault = self.begin().await?;
        let run = self.run();
        let added = self.lock().account.quarantine(run, records);
        self.end(fault, added).await
    }

    async fn spans(&mut self) -> Result<Vec<SealedSpan>, EngineError> {
        let fault = self.begin().await?;
        let run = self.run();
        let spans = {
            let world = self.lock();
            world.account.spans.iter().filter(|row| row.run == run).map(|row| row.span.clone()).collect()
        };
        self.end(fault, spans).await
    }

    async fn quarantine_counts(&mut self) -> Result<ByReason, EngineError> {
        let mut counts = ByReason::default();
        self.quarantined(None, u64::MAX).await?.iter().for_each(|record| counts.add(record.reason, 1));
        Ok(counts)
    }

    async fn quarantined(
        &mut self,
        reason: Option<Reason>,
        limit: u64,
    ) -> Result<Vec<QuarantineRecord>, EngineError> {
        let fault = self.begin().await?;
        let run = self.run();
        let records = {
            let world = self.lock();
            let own = world.account.quarantine.iter().filter(|(id, _)| *id == run);
            let wanted = own.filter(|(_, record)| reason.is_none_or(|reason| record.reason == reason));
            wanted.map(|(_, record)| record.clone()).take(limit as usize).collect()
        };
        self.end(fault, records).await
    }

    async fn horizon(&mut self) -> Result<Horizon, EngineError> {
        let fault = self.begin().await?;
        let horizon = Horizon { next: self.lock().transactions(), running: Vec::new() };
        self.end(fault, horizon).await
    }

    async fn holders(&mut self, horizon: &Horizon) -> Result<Vec<String>, EngineError> {
        let fault = self.begin().await?;
        let holders = self.lock().open_before(horizon.next);
        self.end(fault, holders).await
    }

    async fn open_snapshot(&mut self) -> Result<SnapshotId, EngineError> {
        let fault = self.begin().await?;
        let (id, snapshot) = {
            let world = &mut *self.lock();
            let snapshot = Arc::new(world.table.clone());
            let id = format!("snapshot-{}", world.account.snapshots.len());
            world.account.snapshots.insert(id.clone(), snapshot.clone());
            (SnapshotId(id), snapshot)
        };
        self.snapshot = Some(snapshot);
        self.end(fault, id).await
    }

    async fn join_snapshot(&mut self, snapshot: &SnapshotId) -> Result<(), EngineError> {
        let fault = self.begin().await?;
        let found = self.lock().account.snapshots.get(&snapshot.0).cloned();
        self.snapshot = Some(found.expect("a snapshot is joined while it is open"));
        self.end(fault, ()).await
    }

    async fn close_snapshot(&mut self) -> Result<(), EngineError> {
        let fault = self.begin().await?;
        self.snapshot = None;
        self.end(fault, ()).await
    }

    async fn set_state(&mut self, state: RunState) -> Result<(), EngineError> {
        let fault = self.begin().await?;
        let run = self.run();
        {
            let account = &mut self.lock().account;
            account.check_active(run, RunState::Proved)?;
            account.runs.get_mut(&run).expect("the run was entered").state = state;
        }
        self.end(fault, ()).await
    }
}

impl MemorySession {
    /// Rows, span and quarantine of a batch: one transaction.
    fn write_batch(
        &self,
        world: &mut World,
        index: usize,
        lease: &Lease,
        batch: &VerifiedBatch,
    ) -> Result<Committed, EngineError> {
        let mut missed = Vec::new();
        for change in 0..batch.changes().len() {
            if let Err(cause) = world.write_row(batch, change) {
                world.missed += u64::from(batch.changes()[change].columns.count_ones());
                missed.push(Missed { change: change as u32, cause });
            }
        }
        let indices: Vec<u32> = missed.iter().map(|miss| miss.change).collect();
        let span = lease.settle(batch, &indices, self.run(), &self.job.keys)?;
        let records = QuarantineRecord::of_batch(&self.job, RELATION, batch);
        let quarantined = world.account.quarantine(self.run(), records);
        world.account.spans[index].span = span.clone();
        let span: SpanRecord = span.open(self.run(), &self.job.keys)?;
        Ok(Committed { span, missed, quarantined })
    }
}
