//! Values that the database does not let us write: a trigger answers the update with nothing.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{PoisonError, RwLock};

/// Writes of one value that must vanish before it is left alone.
const PASSES: u8 = 3;

/// How often the write of a value was suppressed, by the MAC of its bytes.
#[derive(Debug, Default)]
pub(crate) struct Suppressed {
    counts: RwLock<HashMap<[u8; 32], u8>>,
    /// Set with the first entry: every value of a run is looked up here, from all cores.
    any: AtomicBool,
}

impl Suppressed {
    /// Takes over what an earlier call of the same run found.
    pub(crate) fn restore(&self, macs: impl Iterator<Item = [u8; 32]>) {
        let mut counts = self.counts.write().unwrap_or_else(PoisonError::into_inner);
        counts.extend(macs.map(|mac| (mac, PASSES)));
        self.any.store(!counts.is_empty(), Ordering::Release);
    }

    /// Counts one more vanished write; `true` when the value is from now on left alone.
    pub(crate) fn note(&self, mac: [u8; 32]) -> bool {
        let mut counts = self.counts.write().unwrap_or_else(PoisonError::into_inner);
        self.any.store(true, Ordering::Release);
        let count = counts.entry(mac).or_default();
        *count += 1;
        *count == PASSES
    }

    /// Whether a value is left alone. The MAC is asked for only if there is any such value.
    pub(crate) fn holds(&self, mac: impl FnOnce() -> [u8; 32]) -> bool {
        if !self.any.load(Ordering::Acquire) {
            return false;
        }
        let counts = self.counts.read().unwrap_or_else(PoisonError::into_inner);
        counts.get(&mac()).is_some_and(|count| *count >= PASSES)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_left_alone_after_three_passes() {
        let suppressed = Suppressed::default();
        assert!(!suppressed.holds(|| unreachable!("nothing to look up")));
        assert_eq!([(); 3].map(|()| suppressed.note([1; 32])), [false, false, true]);
        assert!(suppressed.holds(|| [1; 32]) && !suppressed.holds(|| [2; 32]));
        suppressed.restore([[2; 32]].into_iter());
        assert!(suppressed.holds(|| [2; 32]));
    }
}
