//! What one connection of the application writes next: its choices follow from a seed.

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

use super::Mix;
use crate::ledger::{Ledger, Origin, RowState};

/// Tries to find a living row before a new one is made instead.
const TRIES: usize = 50;

/// The kind of a write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Insert,
    Update,
    Nullify,
    OtherColumn,
    Delete,
    Rekey,
}

impl Kind {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Insert => "insert",
            Self::Update => "update",
            Self::Nullify => "nullify",
            Self::OtherColumn => "other_column",
            Self::Delete => "delete",
            Self::Rekey => "rekey",
        }
    }
}

/// One write to one row, and what the row holds afterwards.
#[derive(Debug, Clone)]
pub(super) struct Write {
    pub(super) kind: Kind,
    /// The row it finds, or makes.
    pub(super) id: i64,
    /// The row's key afterwards.
    pub(super) id_after: i64,
    /// Encrypted columns that it sets.
    pub(super) columns: Vec<usize>,
    /// What the row holds afterwards; `None` if it is gone.
    pub(super) after: Option<RowState>,
}

/// The choices of one connection, which alone writes to the rows `id % connections == index`.
#[derive(Debug)]
pub(super) struct Script {
    random: ChaCha8Rng,
    mix: Mix,
    index: i64,
    connections: i64,
    next_id: i64,
    version: u64,
    made: Vec<i64>,
}

impl Script {
    /// Begins where the ledger of this connection's rows ends.
    pub(super) fn new(seed: u64, mix: Mix, index: usize, connections: usize, ledger: &Ledger) -> Self {
        let (index, connections) = (index as i64, connections as i64);
        let (last_id, last_version) = ledger.last_used();
        let above = last_id + 1;
        Self {
            random: ChaCha8Rng::seed_from_u64(seed ^ (index as u64).rotate_left(32)),
            mix,
            index,
            connections,
            next_id: above + (index - above).rem_euclid(connections),
            version: last_version,
            made: Vec::new(),
        }
    }

    /// The writes of the next transaction: one or two, to different rows.
    pub(super) fn next(&mut self, ledger: &Ledger) -> Vec<Write> {
        let first = self.write(ledger);
        if self.below(5) > 0 {
            return vec![first];
        }
        let second = self.write(ledger);
        if second.id == first.id || second.id == first.id_after {
            return vec![first];
        }
        vec![first, second]
    }

    fn write(&mut self, ledger: &Ledger) -> Write {
        self.version += 1;
        let version = self.version;
        let kind = self.kind();
        let found = if kind == Kind::Insert { None } else { self.living_row(ledger) };
        let Some((id, before)) = found else {
            let id = self.fresh_id();
            self.made.push(id);
            let after = Some(RowState::fresh(id, version));
            return Write { kind: Kind::Insert, id, id_after: id, columns: vec![0, 1, 2], after };
        };
        let mut after = RowState { version, ..before };
        let mut id_after = id;
        let mut columns = Vec::new();
        match kind {
            Kind::Update => columns = self.some_columns(),
            Kind::Nullify => columns = vec![self.below(3)],
            Kind::Rekey => {
                id_after = self.fresh_id();
                self.made.push(id_after);
            }
            Kind::Insert | Kind::OtherColumn | Kind::Delete => {}
        }
        for &column in &columns {
            after.cells[column] = (kind == Kind::Update).then_some(Origin { id, version });
        }
        let after = (kind != Kind::Delete).then_some(after);
        Write { kind, id, id_after, columns, after }
    }

    fn kind(&mut self) -> Kind {
        let Mix { insert, update, nullify, other_column, delete, rekey } = self.mix;
        let shares = [
            (Kind::Insert, insert),
            (Kind::Update, update),
            (Kind::Nullify, nullify),
            (Kind::OtherColumn, other_column),
            (Kind::Delete, delete),
            (Kind::Rekey, rekey),
        ];
        let total: u32 = shares.iter().map(|(_, share)| share).sum();
        let mut left = self.below(total.max(1) as usize) as u32;
        for (kind, share) in shares {
            if left < share {
                return kind;
            }
            left -= share;
        }
        Kind::Update
    }

    fn some_columns(&mut self) -> Vec<usize> {
        match self.below(4) {
            3 => vec![0, 1, 2],
            column => vec![column],
        }
    }

    fn living_row(&mut self, ledger: &Ledger) -> Option<(i64, RowState)> {
        for _ in 0..TRIES {
            let id = match self.below(4) {
                0 if !self.made.is_empty() => {
                    let place = self.below(self.made.len());
                    self.made[place]
                }
                _ => self.loaded_id(ledger)?,
            };
            if let Some(state) = ledger.state(id) {
                return Some((id, state));
            }
        }
        None
    }

    /// Any row of this connection among those that were loaded.
    fn loaded_id(&mut self, ledger: &Ledger) -> Option<i64> {
        let loaded = ledger.loaded();
        let first = loaded.start() + (self.index - loaded.start()).rem_euclid(self.connections);
        if first > *loaded.end() {
            return None;
        }
        let count = (loaded.end() - first) / self.connections + 1;
        Some(first + self.below(count as usize) as i64 * self.connections)
    }

    fn fresh_id(&mut self) -> i64 {
        let id = self.next_id;
        self.next_id += self.connections;
        id
    }

    fn below(&mut self, bound: usize) -> usize {
        // The bias of a remainder is far below anything that a test could see.
        (self.random.next_u64() % bound as u64) as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::values::Values;

    fn play(seed: u64, count: usize) -> (Vec<Write>, Ledger) {
        let mut ledger = Ledger::new(1..=100, Values::new(1));
        let mut script = Script::new(seed, Mix { rekey: 5, ..Mix::default() }, 1, 4, &ledger);
        let mut all = Vec::new();
        for _ in 0..count {
            for write in script.next(&ledger) {
                ledger.note(write.id, write.id_after, write.after);
                all.push(write);
            }
        }
        (all, ledger)
    }

    #[test]
    fn the_seed_decides_everything() {
        let told = |seed| format!("{:?}", play(seed, 200).0);
        assert_eq!(told(9), told(9));
        assert_ne!(told(9), told(10));
    }

    #[test]
    fn only_rows_of_its_own_are_touched() {
        assert!(play(9, 500).0.iter().all(|write| write.id % 4 == 1 && write.id_after % 4 == 1));
    }

    #[test]
    fn a_second_script_goes_on_with_fresh_ids_and_versions() {
        let (all, ledger) = play(9, 200);
        let last = all.iter().filter_map(|write| write.after).map(|state| state.version).max().unwrap();
        let script = Script::new(9, Mix::default(), 1, 4, &ledger);
        assert!(script.version >= last && ledger.state(script.next_id).is_none());
        assert!(all.iter().all(|write| write.id_after < script.next_id));
    }
}
