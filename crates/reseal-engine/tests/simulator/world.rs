//! The world of a simulation: a table, an application with its own account of it, and what goes wrong.
//!
//! Everything is drawn from one seed. With one worker the engine's calls come in one order, so a seed gives the same
//! run again; with more, the order is the scheduler's.

use std::collections::BTreeMap;
use std::sync::Arc;

use reseal_crypto::RowKey;
use reseal_crypto::random::{Random, SeededRandom};
use reseal_engine::{Event, KeyType, Observer, RunPlan};
use reseal_formats::ColumnType;
use tokio::sync::{Notify, watch};

use crate::memory::{Account, MemoryStore, Row, Table};
use crate::support::{Codecs, GCM, RESEAL, RESEAL_ROW, open, plan, seal};

/// Draws from the seed.
pub struct Dice {
    pub random: SeededRandom,
}

impl Dice {
    pub fn new(seed: u64) -> Self {
        Self { random: SeededRandom::new(seed) }
    }

    /// A number below `end`.
    pub fn below(&mut self, end: usize) -> usize {
        let mut bytes = [0; 8];
        self.random.fill(&mut bytes).expect("seeded");
        (u64::from_be_bytes(bytes) % end as u64) as usize
    }

    pub fn one_in(&mut self, sides: usize) -> bool {
        self.below(sides) == 0
    }

    pub fn shuffle<T>(&mut self, items: &mut [T]) {
        for index in (1..items.len()).rev() {
            items.swap(index, self.below(index + 1));
        }
    }
}

/// What goes wrong in a call of the engine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// The engine is killed before the call does anything.
    Crash,
    /// The engine is killed after the call was committed.
    CrashAfter,
    /// The connection is cut before the call does anything.
    Disconnect,
    /// The connection is cut after the call was committed: the engine cannot know.
    Unknown,
    /// A write is asked to try again.
    Busy,
}

const FAULTS: [Fault; 5] = [Fault::Crash, Fault::CrashAfter, Fault::Disconnect, Fault::Unknown, Fault::Busy];

/// What the application knows of a cell.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Truth {
    Null,
    Value(Vec<u8>),
    /// Bytes that open under no key of the plan, and must stay as they are.
    Garbage(Vec<u8>),
}

/// Which key the application writes under.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Old,
    /// Some of its processes use the new key already.
    Both,
    New,
}

/// A transaction of the application that has not committed yet.
struct OpenWrite {
    number: u64,
    key: i64,
    column: usize,
    plaintext: Vec<u8>,
    stored: Vec<u8>,
}

/// Columns of the table.
const COLUMNS: usize = 2;

/// The table, its users, and the referee.
pub struct World {
    pub dice: Dice,
    pub table: Table,
    pub account: Account,
    pub crash: Arc<Notify>,
    /// Calls of the engine so far.
    pub calls: u64,
    /// Cells that the engine rewrote, and cells that it missed.
    pub rewritten: u64,
    pub missed: u64,
    codecs: Codecs,
    truth: BTreeMap<i64, Vec<Truth>>,
    row_bound: bool,
    phase: Phase,
    switch: watch::Sender<bool>,
    open: Vec<OpenWrite>,
    begun: u64,
    next_key: i64,
    actions_left: usize,
    faults_left: usize,
}

impl World {
    /// A world and the plan of a run in it.
    pub fn new(seed: u64) -> (Self, RunPlan) {
        let mut dice = Dice::new(seed);
        let to = [GCM, RESEAL, RESEAL_ROW][dice.below(3)];
        let columns = [("a", ColumnType::Bytes, GCM, to), ("b", ColumnType::Bytes, GCM, to)];
        let plan = plan("people", &[("id", KeyType::Integer)], &columns);
        let phase = if dice.one_in(3) { Phase::New } else { Phase::Old };
        let mut world = Self {
            rewritten: 0,
            missed: 0,
            calls: 0,
            table: Table::default(),
            account: Account::default(),
            crash: Arc::new(Notify::new()),
            codecs: Codecs::new(&plan),
            truth: BTreeMap::new(),
            row_bound: to == RESEAL_ROW,
            phase: Phase::Old,
            switch: watch::Sender::new(false),
            open: Vec::new(),
            begun: 0,
            next_key: 1,
            actions_left: 40 + dice.below(160),
            faults_left: dice.below(25),
            dice,
        };
        for _ in 0..40 + world.dice.below(160) {
            world.insert(None);
        }
        // Transactions that began under the old key stay open when everyone else has moved on.
        (0..world.dice.below(4)).for_each(|_| world.begin());
        if phase == Phase::New {
            world.confirm();
        }
        (world, plan)
    }

    /// Turns round: the next run takes the last one back, and the application follows it.
    pub fn turn(&mut self) {
        std::mem::swap(&mut self.codecs.old, &mut self.codecs.new);
        self.phase = Phase::Old;
        self.switch = watch::Sender::new(false);
        self.actions_left = 60;
        self.faults_left = 5;
        (self.rewritten, self.missed) = (0, 0);
    }

    /// Tells the engine when all writers use the new key.
    pub fn switch(&self) -> watch::Receiver<bool> {
        self.switch.subscribe()
    }

    /// Moves every writer to the new key, and says so.
    pub fn confirm(&mut self) {
        self.phase = Phase::New;
        self.switch.send_replace(true);
    }

    /// Lets the application act, or not, before a call of the engine.
    pub fn tick(&mut self) {
        self.calls += 1;
        if self.actions_left == 0 {
            return;
        }
        for _ in 0..self.dice.below(3) {
            self.actions_left = self.actions_left.saturating_sub(1);
            self.act();
        }
        if self.phase == Phase::Old && self.actions_left < 60 {
            self.phase = Phase::Both;
        }
        if self.phase == Phase::Both && self.actions_left < 30 {
            self.confirm();
        }
    }

    /// What goes wrong in this call.
    pub fn fault(&mut self) -> Option<Fault> {
        if self.faults_left == 0 || !self.dice.one_in(10) {
            return None;
        }
        self.faults_left -= 1;
        Some(FAULTS[self.dice.below(FAULTS.len())])
    }

    /// The number of the next transaction.
    pub fn transactions(&self) -> u64 {
        self.begun
    }

    /// The application's transactions from before `horizon`. Asking for them lets one of them end.
    pub fn open_before(&mut self, horizon: u64) -> Vec<String> {
        let older = |open: &OpenWrite| open.number < horizon;
        if let Some(index) = self.open.iter().position(older).filter(|_| self.dice.one_in(2)) {
            self.commit(index);
        }
        self.open
            .iter()
            .filter(|open| older(open))
            .map(|open| format!("transaction {}", open.number))
            .collect()
    }

    /// Where an updated row goes: into a free slot, behind all others, or nowhere else.
    pub fn new_slot(&mut self, current: u64) -> Option<u64> {
        match self.dice.below(3) {
            0 => Some(current),
            1 => None,
            _ => {
                let free: Vec<u64> = self.table.free().take(16).collect();
                if free.is_empty() { None } else { Some(free[self.dice.below(free.len())]) }
            }
        }
    }

    /// Asserts that the engine replaced an old value by a new one with the plaintext that the application knows.
    pub fn check_rewrite(&mut self, key: i64, column: usize, before: Option<&[u8]>, after: &[u8]) {
        let Some(Truth::Value(plaintext)) = self.truth.get(&key).map(|cells| cells[column].clone()) else {
            panic!(
                "the engine wrote into row {key}, column {column}, which holds no value of the application"
            );
        };
        let before = before.expect("NULL stays NULL");
        assert_eq!(
            self.opens(false, key, column, before),
            Some(plaintext.clone()),
            "what was replaced was old"
        );
        assert_eq!(self.opens(true, key, column, before), None, "nothing is rewritten twice");
        assert_eq!(self.opens(true, key, column, after), Some(plaintext), "what was written is new");
        assert_eq!(self.opens(false, key, column, after), None, "a value opens under one key");
        self.rewritten += 1;
    }

    /// Asserts that every value opens under the new key, and it alone, to what the application knows. The values that
    /// open under none.
    pub fn check_all_new(&self) -> u64 {
        let mut garbage = 0;
        assert_eq!(self.table.slots.len(), self.truth.len(), "no row was lost and none came back");
        for row in self.table.slots.values() {
            for (column, cell) in row.cells.iter().enumerate() {
                match (&self.truth[&row.key][column], cell) {
                    (Truth::Null, None) => {}
                    (Truth::Garbage(bytes), Some(stored)) => {
                        assert_eq!(bytes, stored, "row {}: what does not open is untouched", row.key);
                        garbage += 1;
                    }
                    (Truth::Value(plaintext), Some(stored)) => {
                        let opened = self.opens(true, row.key, column, stored);
                        assert_eq!(opened.as_ref(), Some(plaintext), "row {}, column {column}", row.key);
                        assert_eq!(self.opens(false, row.key, column, stored), None);
                    }
                    (truth, cell) => panic!("row {}: {truth:?} became {cell:?}", row.key),
                }
            }
        }
        garbage
    }

    /// Lets every open transaction end, and does nothing more. What is open after a proof began under the new key.
    pub fn rest(&mut self) {
        while !self.open.is_empty() {
            self.commit(0);
        }
        (self.actions_left, self.faults_left) = (0, 0);
    }

    fn opens(&self, new: bool, key: i64, column: usize, stored: &[u8]) -> Option<Vec<u8>> {
        let codecs = if new { &self.codecs.new } else { &self.codecs.old };
        open(&codecs[column], &RowKey::default().integer(key), stored)
    }

    fn act(&mut self) {
        match self.dice.below(24) {
            0..=6 => self.update(),
            7 => self.null(),
            8..=9 => self.delete(),
            10..=12 => {
                let slot = self.table.free().next().filter(|_| self.dice.one_in(2));
                self.insert(slot);
            }
            13 => self.change_key(),
            14..=16 => self.touch(),
            17..=18 => self.reuse_slot(),
            19..=20 => self.begin(),
            21..=22 if !self.open.is_empty() => {
                let index = self.dice.below(self.open.len());
                self.commit(index);
            }
            23 if self.dice.one_in(4) => self.table.rewrite(&mut self.dice),
            23 if self.dice.one_in(3) => self.account.steal_leases(),
            _ => {}
        }
    }

    fn some_slot(&mut self) -> Option<u64> {
        let slots: Vec<u64> = self.table.slots.keys().copied().collect();
        (!slots.is_empty()).then(|| slots[self.dice.below(slots.len())])
    }

    /// A fresh plaintext, sealed under the key that the application uses now.
    fn fresh(&mut self, key: i64, column: usize) -> (Vec<u8>, Vec<u8>) {
        let plaintext = format!("{key}/{column}/{}", self.dice.below(1 << 40)).into_bytes();
        let new = match self.phase {
            Phase::Old => false,
            Phase::Both => self.dice.one_in(2),
            Phase::New => true,
        };
        let codecs = if new { &self.codecs.new } else { &self.codecs.old };
        let stored = seal(&codecs[column], &RowKey::default().integer(key), &plaintext);
        (plaintext, stored)
    }

    fn insert(&mut self, slot: Option<u64>) {
        let key = self.next_key;
        self.next_key += 1;
        let (mut cells, mut truth) = (Vec::new(), Vec::new());
        for column in 0..COLUMNS {
            match self.dice.below(40) {
                0 => {
                    truth.push(Truth::Null);
                    cells.push(None);
                }
                1 => {
                    let third =
                        seal(&self.codecs.third[column], &RowKey::default().integer(key), b"of another key");
                    let garbage = [third, Vec::new(), b"not ciphertext at all".to_vec()];
                    let bytes = garbage[self.dice.below(garbage.len())].clone();
                    truth.push(Truth::Garbage(bytes.clone()));
                    cells.push(Some(bytes));
                }
                _ => {
                    let (plaintext, stored) = self.fresh(key, column);
                    truth.push(Truth::Value(plaintext));
                    cells.push(Some(stored));
                }
            }
        }
        self.truth.insert(key, truth);
        self.table.insert(slot, Row { key, cells });
    }

    /// Moves a row as an update does, and lets `change` write to it.
    fn rewrite_row(&mut self, slot: u64, change: impl FnOnce(&mut Row)) {
        let mut row = self.table.slots.remove(&slot).expect("a row stands there");
        change(&mut row);
        let slot = self.new_slot(slot);
        self.table.insert(slot, row);
    }

    fn set(&mut self, slot: u64, column: usize, truth: Truth, stored: Option<Vec<u8>>) {
        let key = self.table.slots[&slot].key;
        self.truth.get_mut(&key).expect("every row is known")[column] = truth;
        self.rewrite_row(slot, |row| row.cells[column] = stored);
    }

    fn update(&mut self) {
        let (Some(slot), column) = (self.some_slot(), self.dice.below(COLUMNS)) else { return };
        let (plaintext, stored) = self.fresh(self.table.slots[&slot].key, column);
        self.set(slot, column, Truth::Value(plaintext), Some(stored));
    }

    fn null(&mut self) {
        let (Some(slot), column) = (self.some_slot(), self.dice.below(COLUMNS)) else { return };
        self.set(slot, column, Truth::Null, None);
    }

    fn delete(&mut self) {
        let Some(slot) = self.some_slot() else { return };
        let row = self.table.slots.remove(&slot).expect("a row stands there");
        self.truth.remove(&row.key);
    }

    /// Another column: the row moves, its values stay.
    fn touch(&mut self) {
        let Some(slot) = self.some_slot() else { return };
        self.rewrite_row(slot, |_| {});
    }

    /// Only where no value is bound to its row: there, it is the application that breaks such a value.
    fn change_key(&mut self) {
        let Some(slot) = self.some_slot().filter(|_| !self.row_bound) else { return };
        let (old, new) = (self.table.slots[&slot].key, self.next_key);
        self.next_key += 1;
        let truth = self.truth.remove(&old).expect("every row is known");
        self.truth.insert(new, truth);
        self.rewrite_row(slot, |row| row.key = new);
    }

    /// Deletes a row and puts another into its slot: with the same bytes where they open in any row.
    fn reuse_slot(&mut self) {
        let Some(slot) = self.some_slot() else { return };
        let row = self.table.slots.remove(&slot).expect("a row stands there");
        let truth = self.truth.remove(&row.key).expect("every row is known");
        if self.row_bound {
            self.insert(Some(slot));
            return;
        }
        let key = self.next_key;
        self.next_key += 1;
        self.truth.insert(key, truth);
        self.table.insert(Some(slot), Row { key, ..row });
    }

    /// Begins a transaction: its value is sealed now and written when it commits.
    fn begin(&mut self) {
        let (Some(slot), column) = (self.some_slot(), self.dice.below(COLUMNS)) else { return };
        let key = self.table.slots[&slot].key;
        let (plaintext, stored) = self.fresh(key, column);
        self.open.push(OpenWrite { number: self.begun, key, column, plaintext, stored });
        self.begun += 1;
    }

    fn commit(&mut self, index: usize) {
        let OpenWrite { key, column, plaintext, stored, .. } = self.open.swap_remove(index);
        if let Some(slot) = self.table.find(key) {
            self.set(slot, column, Truth::Value(plaintext), Some(stored));
        }
    }
}

/// Confirms the switch when the engine has nothing left to do but wait for it.
pub struct Confirms(pub MemoryStore);

impl Observer for Confirms {
    fn event(&self, event: Event) {
        if matches!(&event, Event::Waiting(what) if what.contains("new key")) {
            self.0.world.lock().expect("no assertion failed under the lock").confirm();
        }
    }
}
