//! What this process wrote itself: compared before it was committed, and not read again.
//!
//! A row keeps the id of the transaction that wrote it (`xmin`: also when it is frozen or moved) until someone writes it
//! anew. A row with an id of the list holds what was compared, so that later passes and the proof look at the rows of
//! others only. The list lives as long as the process: one that goes on after a crash reads what the one before it wrote.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::circumstances::Meaning;
use crate::ledger::RunId;

/// Ids that are kept at most; rows of later ones are read as if others had written them.
const MOST: usize = 50_000;
/// A row keeps 32 bits of an id, for ever: only before they are used a second time do they tell who wrote it.
const FIRST_SECOND_USE: u64 = 1 << 32;

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
    /// By the table that was written, and what its columns meant.
    tables: BTreeMap<String, (Meaning, Vec<u32>)>,
    count: usize,
}

impl OwnTransactions {
    /// The list of one origin. That of another one is forgotten.
    pub(super) fn of(&self, origin: Origin) -> Own {
        let mut list = self.lock();
        if list.origin != Some(origin) {
            *list = List { origin: Some(origin), ..List::default() };
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
    /// Adds a transaction that is committed: every row of this table that it wrote is whole under the new key.
    pub(super) fn add(&self, relation: &str, meaning: &Meaning, id: u64) {
        let Ok(id) = u32::try_from(id) else { return };
        let Some(mut list) = self.list().filter(|list| list.count < MOST) else { return };
        list.count += 1;
        match list.tables.get_mut(relation) {
            Some((known, ids)) if known == meaning => ids.push(id),
            _ => drop(list.tables.insert(relation.to_owned(), (meaning.clone(), vec![id]))),
        }
    }

    /// Forgets everything once ids are used a second time; `next` is the one that comes next.
    pub(super) fn forget_before(&self, next: u64) {
        if next < FIRST_SECOND_USE {
            return;
        }
        if let Some(mut list) = self.list() {
            list.tables.clear();
        }
    }

    /// Whether there is anything about this table.
    pub(super) fn knows(&self, relation: &str) -> bool {
        self.list().is_some_and(|list| list.tables.contains_key(relation))
    }

    /// The test for rows of alias `t` that this process wrote, as columns of this meaning; `None` if there are none.
    ///
    /// As `= ANY` with a constant Postgres looks an id up in a hash table, from 14 on; `<> ALL` it reads one by one.
    pub(super) fn wrote(&self, relation: &str, meaning: &Meaning) -> Option<String> {
        let list = self.list()?;
        let (_, ids) = list.tables.get(relation).filter(|(known, _)| known == meaning)?;
        let (last, first) = ids.split_last()?;
        let mut listed = String::with_capacity(ids.len() * 11);
        for id in first {
            // Writing to a string does not fail.
            let _ = write!(listed, "{id},");
        }
        Some(format!("t.xmin = ANY ('{{{listed}{last}}}'::xid[])"))
    }

    fn list(&self) -> Option<MutexGuard<'_, List>> {
        Some(self.transactions.lock()).filter(|list| list.origin == Some(self.origin))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HERE: Origin = Origin { run: RunId([1; 16]), server_started: 1 };

    fn meaning(text: &str) -> Meaning {
        Meaning(text.into())
    }

    fn wrote(own: &Own) -> Option<String> {
        own.wrote("public.t", &meaning("7 1 2"))
    }

    fn add(own: &Own, id: u64) {
        own.add("public.t", &meaning("7 1 2"), id);
    }

    #[test]
    fn ids_are_listed_until_their_32_bits_are_used_again() {
        let own = OwnTransactions::default().of(HERE);
        assert_eq!(wrote(&own), None);
        add(&own, 7);
        add(&own, u64::from(u32::MAX));
        add(&own, (1 << 32) + 9);
        assert_eq!(wrote(&own).as_deref(), Some("t.xmin = ANY ('{7,4294967295}'::xid[])"));
        own.forget_before(u64::from(u32::MAX));
        assert!(wrote(&own).is_some());
        own.forget_before(1 << 32);
        assert_eq!(wrote(&own), None);
    }

    #[test]
    fn ids_of_another_server_or_run_are_forgotten() {
        let all = OwnTransactions::default();
        for other in [Origin { server_started: 2, ..HERE }, Origin { run: RunId([2; 16]), ..HERE }] {
            let before = all.of(HERE);
            add(&before, 7);
            let after = all.of(other);
            add(&before, 8);
            assert_eq!((wrote(&before), wrote(&after)), (None, None));
        }
    }

    #[test]
    fn ids_of_other_tables_and_columns_are_not_listed() {
        let own = OwnTransactions::default().of(HERE);
        add(&own, 7);
        assert_eq!(own.wrote("public.u", &meaning("7 1 2")), None);
        assert_eq!(own.wrote("public.t", &meaning("7 1 3")), None);
        own.add("public.t", &meaning("7 1 3"), 8);
        assert_eq!(own.wrote("public.t", &meaning("7 1 3")).as_deref(), Some("t.xmin = ANY ('{8}'::xid[])"));
        assert_eq!(wrote(&own), None);
    }
}
