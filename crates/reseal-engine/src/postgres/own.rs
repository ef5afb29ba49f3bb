//! What this process wrote itself: compared before it was committed, and not read again by the proof.
//!
//! A row keeps the id of the transaction that wrote it (`xmin`: also when it is frozen or moved) until someone writes it
//! anew. A row with an id of the list holds what was compared, so that only the rows of others are looked at. The list
//! lives as long as the process: one that goes on after a crash reads what the one before it wrote.

use std::fmt::Write as _;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::ledger::RunId;

/// Ids that a statement lists at most; rows of later ones are read as if others had written them.
const MOST: usize = 50_000;
/// For so many transactions an id is known by the 32 bits of it that rows keep.
const KNOWN_FOR: u64 = 1 << 31;

/// What the ids belong to: a run, and a server since it was started. One that was restored, or a standby that took over,
/// may give the same ids to the transactions of others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Origin {
    pub(super) run: RunId,
    /// Microseconds since 1970.
    pub(super) server_started: i64,
}

/// The transactions that this process committed, shared by the sessions of a store.
#[derive(Debug, Clone, Default)]
pub(super) struct OwnTransactions(Arc<Mutex<List>>);

#[derive(Debug, Default)]
struct List {
    origin: Option<Origin>,
    ids: Vec<u64>,
}

impl OwnTransactions {
    /// The list of one origin. That of another one is forgotten.
    pub(super) fn of(&self, origin: Origin) -> Own {
        let mut list = self.lock();
        if list.origin != Some(origin) {
            *list = List { origin: Some(origin), ids: Vec::new() };
        }
        drop(list);
        Own { transactions: self.clone(), origin }
    }

    fn lock(&self) -> MutexGuard<'_, List> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One session's view of the list: empty once the list is about another origin.
#[derive(Debug)]
pub(super) struct Own {
    transactions: OwnTransactions,
    origin: Origin,
}

impl Own {
    /// Adds a transaction that is committed: every row that it wrote is whole under the new key.
    pub(super) fn add(&self, id: u64) {
        let mut list = self.transactions.lock();
        if list.origin == Some(self.origin) && list.ids.len() < MOST {
            list.ids.push(id);
        }
    }

    /// Forgets what is so old that another transaction may have its 32 bits; `next` is the id that comes next.
    pub(super) fn forget_before(&self, next: u64) {
        let mut list = self.transactions.lock();
        if list.origin == Some(self.origin) {
            list.ids.retain(|id| next.saturating_sub(*id) < KNOWN_FOR);
        }
    }

    /// The test for rows of alias `t` that this process wrote; `None` if there are none.
    ///
    /// As `= ANY` with a constant Postgres looks an id up in a hash table, from 14 on; `<> ALL` it reads one by one.
    pub(super) fn wrote(&self) -> Option<String> {
        let list = self.transactions.lock();
        let (last, first) = list.ids.split_last().filter(|_| list.origin == Some(self.origin))?;
        let mut ids = String::with_capacity(list.ids.len() * 11);
        for id in first {
            // Writing to a string does not fail.
            let _ = write!(ids, "{},", *id as u32);
        }
        Some(format!("t.xmin = ANY ('{{{ids}{}}}'::xid[])", *last as u32))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HERE: Origin = Origin { run: RunId([1; 16]), server_started: 1 };

    #[test]
    fn ids_are_known_by_32_bits_for_a_while() {
        let own = OwnTransactions::default().of(HERE);
        assert_eq!(own.wrote(), None);
        own.add(7);
        own.add((1 << 32) + 9);
        assert_eq!(own.wrote().as_deref(), Some("t.xmin = ANY ('{7,9}'::xid[])"));
        own.forget_before((1 << 32) + 10);
        assert_eq!(own.wrote().as_deref(), Some("t.xmin = ANY ('{9}'::xid[])"));
    }

    #[test]
    fn ids_of_another_server_or_run_are_forgotten() {
        let all = OwnTransactions::default();
        for other in [Origin { server_started: 2, ..HERE }, Origin { run: RunId([2; 16]), ..HERE }] {
            let before = all.of(HERE);
            before.add(7);
            let after = all.of(other);
            before.add(8);
            assert_eq!((before.wrote(), after.wrote()), (None, None));
        }
    }
}
