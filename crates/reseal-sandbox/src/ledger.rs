//! What the application remembers of its own writes, and the comparison of the table with it.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::ops::RangeInclusive;
use std::pin::pin;

use futures_util::TryStreamExt;
use futures_util::future::try_join_all;
use tokio_postgres::{Client, Config};

use crate::error::SandboxError;
use crate::postgres::connect;
use crate::seal::{Key, Opened, Sealer};
use crate::table::{StoredRow, Table};
use crate::values::{COLUMNS, Cell, Values};

/// Which plaintext a cell holds: the one that follows from this row and version.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Origin {
    pub(crate) id: i64,
    pub(crate) version: u64,
}

/// What a row must hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct RowState {
    /// The application's counter in the row.
    pub(crate) version: u64,
    /// The plaintext of each column, or NULL.
    pub(crate) cells: [Option<Origin>; 3],
}

impl RowState {
    /// A row as it was loaded or inserted.
    pub(crate) fn fresh(id: i64, version: u64) -> Self {
        Self { version, cells: [Some(Origin { id, version }); 3] }
    }
}

/// What every row of the table must decrypt to: the loaded rows and what was changed since.
#[derive(Debug, Clone)]
pub struct Ledger {
    loaded: RangeInclusive<i64>,
    values: Values,
    changes: BTreeMap<i64, Option<RowState>>,
}

/// What a comparison of the table with the ledger found; counted, not assumed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Comparison {
    /// Rows in the table.
    pub rows: u64,
    /// Values that are not NULL.
    pub values: u64,
    /// Values that open under the old key.
    pub old_key_opens: u64,
    /// Values that open under the new key.
    pub new_key_opens: u64,
    /// Values that open under neither key, or under both.
    pub unopened: u64,
    /// Values that open and say what the ledger says.
    pub plaintexts_equal: u64,
    /// Values (or NULLs) that are not what the ledger says.
    pub different: u64,
    /// Rows of the ledger that the table lacks.
    pub missing: u64,
    /// Rows of the table that the ledger lacks.
    pub extra: u64,
    /// Rows whose last write is not the application's last one.
    pub stale: u64,
}

impl Comparison {
    /// Writes of the application that did not last.
    pub fn lost_updates(&self) -> u64 {
        self.different + self.missing + self.extra + self.stale
    }
}

impl Ledger {
    /// The ledger of a table that was just loaded with these rows.
    pub fn new(loaded: RangeInclusive<i64>, values: Values) -> Self {
        Self { loaded, values, changes: BTreeMap::new() }
    }

    /// How many rows the table must have.
    pub fn rows(&self) -> u64 {
        let loaded = self.loaded.clone().count() as i64;
        let change = |(id, state): (&i64, &Option<RowState>)| match (self.loaded.contains(id), state) {
            (true, None) => -1,
            (false, Some(_)) => 1,
            _ => 0,
        };
        (loaded + self.changes.iter().map(change).sum::<i64>()).max(0) as u64
    }

    /// The plaintexts that a row must hold, in the order of [`COLUMNS`]; `None` if there must be no such row.
    pub fn plaintexts(&self, id: i64) -> Option<[Option<String>; 3]> {
        let state = self.state(id)?;
        Some([0, 1, 2].map(|column| self.expected(&state, column)))
    }

    /// Reads the whole table in one snapshot, opens every value and compares it.
    ///
    /// # Errors
    ///
    /// [`SandboxError::Sql`].
    pub async fn compare(
        &self,
        client: &Client,
        table: &Table,
        sealer: &dyn Sealer,
    ) -> Result<Comparison, SandboxError> {
        let mut found = Comparison::default();
        table.scan(client, |rows| self.compare_chunk(rows, sealer, &mut found)).await?;
        Ok(self.finished(found))
    }

    /// Reads the table back through `decrypt_sensitive_data(text, key)` of the database, over several connections, and
    /// compares it. Every value counts as one under the new key.
    ///
    /// # Errors
    ///
    /// [`SandboxError::Sql`], also if a value does not open under the key.
    pub async fn compare_by_functions(
        &self,
        config: &Config,
        connections: u32,
        key: &str,
    ) -> Result<Comparison, SandboxError> {
        let shares = (0..connections).map(|share| self.compare_share(config, connections, share, key));
        let mut total = Comparison::default();
        for found in try_join_all(shares).await? {
            total.rows += found.rows;
            total.values += found.values;
            total.new_key_opens += found.new_key_opens;
            total.plaintexts_equal += found.plaintexts_equal;
            total.different += found.different;
            total.extra += found.extra;
            total.stale += found.stale;
        }
        Ok(self.finished(total))
    }

    /// What a row must hold; `None` if it must not be there.
    pub(crate) fn state(&self, id: i64) -> Option<RowState> {
        match self.changes.get(&id) {
            Some(state) => *state,
            None => self.loaded.contains(&id).then(|| RowState::fresh(id, 0)),
        }
    }

    /// Notes a write that may have moved a row to another key.
    pub(crate) fn note(&mut self, id: i64, id_after: i64, after: Option<RowState>) {
        if id != id_after {
            self.set(id, None);
        }
        self.set(id_after, after);
    }

    /// The part of the ledger that one of several connections needs: the rows `id % connections == index`.
    pub(crate) fn share(&self, index: usize, connections: usize) -> Self {
        let ours = |id: i64| id.rem_euclid(connections as i64) == index as i64;
        let changes = self.changes.iter().filter(|(id, _)| ours(**id)).map(|(id, state)| (*id, *state));
        Self { loaded: self.loaded.clone(), values: self.values, changes: changes.collect() }
    }

    /// Takes over the changes of a connection that had a share of this ledger.
    pub(crate) fn merge(&mut self, share: Self) {
        self.changes.extend(share.changes);
    }

    /// The highest id and the highest version there have been.
    pub(crate) fn last_used(&self) -> (i64, u64) {
        let id = self.changes.keys().next_back().copied().unwrap_or(0).max(*self.loaded.end());
        let version = self.changes.values().flatten().map(|state| state.version).max();
        (id, version.unwrap_or(0))
    }

    /// Notes what a row holds from now on.
    fn set(&mut self, id: i64, state: Option<RowState>) {
        self.changes.insert(id, state);
    }

    pub(crate) fn loaded(&self) -> RangeInclusive<i64> {
        self.loaded.clone()
    }

    pub(crate) fn values(&self) -> Values {
        self.values
    }

    fn expected(&self, state: &RowState, column: usize) -> Option<String> {
        let origin = state.cells[column]?;
        Some(self.values.plaintext(Cell { id: origin.id, column }, origin.version))
    }

    /// Opens every value of these rows and compares it; [`finished`](Self::finished) follows the last of them.
    pub(crate) fn compare_chunk(&self, rows: &[StoredRow], sealer: &dyn Sealer, found: &mut Comparison) {
        let cells: Vec<(Cell, &[u8])> = rows
            .iter()
            .flat_map(|row| {
                let stored = row.cells.iter().enumerate();
                stored.filter_map(|(column, cell)| Some((Cell { id: row.id, column }, cell.as_deref()?)))
            })
            .collect();
        let mut opened = sealer.open_many(&cells).into_iter();
        for row in rows {
            let cells = [0, 1, 2].map(|column| match &row.cells[column] {
                None => Read::Null,
                Some(_) => opened.next().flatten().map_or(Read::Unopened, Read::Opened),
            });
            self.compare_row(row.id, row.version, &cells, found);
        }
    }

    async fn compare_share(
        &self,
        config: &Config,
        shares: u32,
        share: u32,
        key: &str,
    ) -> Result<Comparison, SandboxError> {
        let client = connect(config).await?;
        let mut statement = "SELECT id, version".to_owned();
        for column in COLUMNS {
            // Writing to a string does not fail.
            let _ = write!(statement, ", decrypt_sensitive_data({column}, $1)");
        }
        // The remainder of a division keeps the sign of the key.
        let _ = write!(statement, " FROM {} WHERE abs(id % {shares}) = {share}", Table::NAME);
        let mut rows = pin!(client.query_raw(&statement, [key]).await?);
        let mut found = Comparison::default();
        while let Some(row) = rows.try_next().await? {
            let read = |index: usize| -> Result<Read, SandboxError> {
                let text: Option<String> = row.try_get(index)?;
                Ok(text.map_or(Read::Null, |text| {
                    Read::Opened(Opened { key: Key::New, plaintext: text.into_bytes() })
                }))
            };
            let cells = [read(2)?, read(3)?, read(4)?];
            self.compare_row(row.try_get(0)?, row.try_get(1)?, &cells, &mut found);
        }
        Ok(found)
    }

    fn compare_row(&self, id: i64, version: i64, cells: &[Read; 3], found: &mut Comparison) {
        found.rows += 1;
        let expected = self.state(id);
        match &expected {
            None => found.extra += 1,
            Some(state) if state.version != version as u64 => found.stale += 1,
            Some(_) => {}
        }
        for (column, cell) in cells.iter().enumerate() {
            let plaintext = expected.as_ref().and_then(|state| self.expected(state, column));
            match cell {
                Read::Null => found.different += u64::from(plaintext.is_some()),
                Read::Unopened => {
                    found.values += 1;
                    found.unopened += 1;
                }
                Read::Opened(opened) => {
                    found.values += 1;
                    match opened.key {
                        Key::Old => found.old_key_opens += 1,
                        Key::New => found.new_key_opens += 1,
                    }
                    let equal = plaintext.is_some_and(|text| text.as_bytes() == opened.plaintext);
                    found.plaintexts_equal += u64::from(equal);
                    found.different += u64::from(!equal && expected.is_some());
                }
            }
        }
    }

    /// Counts the rows that were not there, once all were compared.
    pub(crate) fn finished(&self, mut found: Comparison) -> Comparison {
        let matched = found.rows - found.extra;
        found.missing = self.rows().saturating_sub(matched);
        found
    }
}

/// One cell as it was read back.
enum Read {
    Null,
    Unopened,
    Opened(Opened),
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ledger() -> Ledger {
        Ledger::new(1..=10, Values::new(3))
    }

    fn read(ledger: &Ledger, id: i64) -> [Read; 3] {
        let plaintexts = ledger.plaintexts(id).unwrap();
        plaintexts.map(|text| {
            text.map_or(Read::Null, |text| {
                Read::Opened(Opened { key: Key::Old, plaintext: text.into_bytes() })
            })
        })
    }

    fn compare(ledger: &Ledger, id: i64, version: i64, cells: &[Read; 3]) -> Comparison {
        let mut found = Comparison::default();
        ledger.compare_row(id, version, cells, &mut found);
        found
    }

    #[test]
    fn rows_follow_inserts_and_deletes() {
        let mut ledger = ledger();
        ledger.set(1, None);
        ledger.set(11, Some(RowState::fresh(11, 1)));
        ledger.set(12, Some(RowState::fresh(12, 2)));
        ledger.set(12, None);
        assert_eq!(ledger.rows(), 10);
    }

    #[test]
    fn an_equal_row_is_no_lost_update() {
        let ledger = ledger();
        let found = compare(&ledger, 5, 0, &read(&ledger, 5));
        assert_eq!((found.lost_updates(), found.plaintexts_equal), (0, 3));
    }

    #[test]
    fn other_plaintext_version_or_row_is_a_lost_update() {
        let mut ledger = ledger();
        let before = read(&ledger, 5);
        ledger.set(5, Some(RowState { version: 1, cells: [None, Some(Origin { id: 5, version: 1 }), None] }));
        assert_eq!(compare(&ledger, 5, 1, &before).different, 3);
        assert_eq!(compare(&ledger, 5, 0, &read(&ledger, 5)).stale, 1);
        ledger.set(5, None);
        assert_eq!(compare(&ledger, 5, 0, &before).extra, 1);
        let found = ledger.finished(Comparison { rows: 8, ..Comparison::default() });
        assert_eq!(found.missing, 1);
    }
}
