//! Values that the database does not let us write: a trigger answers the update with nothing.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{PoisonError, RwLock};

/// Passes in which the write of a value must vanish before it is left alone.
const PASSES: u8 = 3;

/// One value of one row. In a table without a key, rows that hold the same bytes are not told apart.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Cell {
    /// Its column within the plan.
    pub(crate) column: usize,
    /// What names the row in records.
    pub(crate) row_key: Vec<u8>,
    /// Recognises its bytes.
    pub(crate) value_mac: [u8; 32],
}

/// In how many passes the write of a value vanished.
#[derive(Debug, Clone, Copy, Default)]
struct Vanished {
    passes: u8,
    last: u32,
}

/// The values whose writes vanished.
#[derive(Debug, Default)]
pub(crate) struct Suppressed {
    cells: RwLock<HashMap<Cell, Vanished>>,
    /// Set with the first entry: every value of a run is looked up here, from all cores.
    any: AtomicBool,
}

impl Suppressed {
    /// Takes over what an earlier call of the same run found.
    pub(crate) fn restore(&self, found: impl Iterator<Item = Cell>) {
        let mut cells = self.cells.write().unwrap_or_else(PoisonError::into_inner);
        cells.extend(found.map(|cell| (cell, Vanished { passes: PASSES, last: 0 })));
        self.any.store(!cells.is_empty(), Ordering::Release);
    }

    /// Counts a write that vanished in this pass; `true` when the value is from now on left alone.
    pub(crate) fn note(&self, cell: Cell, pass: u32) -> bool {
        let mut cells = self.cells.write().unwrap_or_else(PoisonError::into_inner);
        self.any.store(true, Ordering::Release);
        let vanished = cells.entry(cell).or_default();
        if vanished.last == pass {
            return false;
        }
        *vanished = Vanished { passes: vanished.passes.saturating_add(1), last: pass };
        vanished.passes == PASSES
    }

    /// Whether a value is left alone. The cell is asked for only if there is any such value.
    pub(crate) fn holds(&self, cell: impl FnOnce() -> Cell) -> bool {
        if !self.any.load(Ordering::Acquire) {
            return false;
        }
        let cells = self.cells.read().unwrap_or_else(PoisonError::into_inner);
        cells.get(&cell()).is_some_and(|vanished| vanished.passes >= PASSES)
    }

    /// How many values are remembered.
    pub(crate) fn len(&self) -> usize {
        self.cells.read().unwrap_or_else(PoisonError::into_inner).len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cell(row: u8) -> Cell {
        Cell { column: 0, row_key: vec![row], value_mac: [1; 32] }
    }

    #[test]
    fn a_value_is_left_alone_after_three_passes() {
        let suppressed = Suppressed::default();
        assert!(!suppressed.holds(|| unreachable!("nothing to look up")));
        assert_eq!(
            [1, 1, 2, 2, 3, 4].map(|pass| suppressed.note(cell(1), pass)),
            [false, false, false, false, true, false]
        );
        assert!(suppressed.holds(|| cell(1)) && !suppressed.holds(|| cell(2)));
        suppressed.restore([cell(2)].into_iter());
        assert!(suppressed.holds(|| cell(2)));
        assert_eq!(suppressed.len(), 2);
    }
}
