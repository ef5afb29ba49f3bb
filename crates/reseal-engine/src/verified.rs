//! A batch whose every sealed value was opened again, and what becomes of the account when it is written.

use std::fmt;

use crate::batch::{Batch, Cells};
use crate::error::EngineError;
use crate::ledger::{Digest, LedgerKeys, RunId, SealedSpan, SpanRecord, Tally};

/// Why a value was left as it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Reason {
    /// The empty string or no bytes at all.
    Empty,
    /// Not a message of either format.
    NotCiphertext,
    /// A message with an option that is not supported.
    Unsupported,
    /// Names a key that is not one of the plan's.
    UnknownKey,
    /// A message of the old format that the old key does not open: another key, or damage.
    Unopened,
    /// Names a key of the plan, but does not authenticate: damaged, or moved from another place.
    Corrupt,
    /// Asks for more memory or work than is allowed.
    TooLarge,
    /// Opens once it is read as base64url, which the plan does not say.
    EncodingNotNamed,
    /// Opens under the old key, and the database does not take the new value: a trigger suppresses the write.
    WriteSuppressed,
}

impl Reason {
    /// Every reason.
    pub const ALL: [Self; 9] = [
        Self::Empty,
        Self::NotCiphertext,
        Self::Unsupported,
        Self::UnknownKey,
        Self::Unopened,
        Self::Corrupt,
        Self::TooLarge,
        Self::EncodingNotNamed,
        Self::WriteSuppressed,
    ];

    /// The code in records and reports.
    pub const fn code(self) -> &'static str {
        match self {
            Self::Empty => "empty",
            Self::NotCiphertext => "not-ciphertext",
            Self::Unsupported => "unsupported",
            Self::UnknownKey => "unknown-key",
            Self::Unopened => "unopened",
            Self::Corrupt => "corrupt",
            Self::TooLarge => "too-large",
            Self::EncodingNotNamed => "encoding-not-named",
            Self::WriteSuppressed => "write-suppressed",
        }
    }

    /// What it means, as a sentence without its end.
    pub const fn words(self) -> &'static str {
        match self {
            Self::Empty => "no format makes that, so it is nobody's ciphertext",
            Self::NotCiphertext => "plaintext, or a message of another format",
            Self::Unsupported => "a message with an option that is not supported",
            Self::UnknownKey => "under a key that is not one of the plan's",
            Self::Unopened => "under another key, or damaged",
            Self::Corrupt => "names a key of the plan, but is damaged or was moved here",
            Self::TooLarge => "asks for more memory or work than is allowed",
            Self::EncodingNotNamed => "opens as base64url, which the plan does not say",
            Self::WriteSuppressed => {
                "opens under the old key and stays under it: a trigger does not let it change"
            }
        }
    }

    /// The reason of a code.
    pub fn from_code(code: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|reason| reason.code() == code)
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.code())
    }
}

/// Counts of values that were left as they are, by reason.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ByReason([u64; Reason::ALL.len()]);

impl ByReason {
    /// Counts `values` more for this reason.
    pub fn add(&mut self, reason: Reason, values: u64) {
        self.0[reason as usize] += values;
    }

    /// The values that were left for this reason.
    pub fn of(&self, reason: Reason) -> u64 {
        self.0[reason as usize]
    }

    /// All of them.
    pub fn total(&self) -> u64 {
        self.0.iter().sum()
    }

    /// Those that should have been rewritten: all but the empty ones, which no format makes.
    pub fn faults(&self) -> u64 {
        self.total() - self.of(Reason::Empty)
    }

    /// Both together.
    #[must_use]
    pub fn plus(mut self, other: Self) -> Self {
        self.0.iter_mut().zip(other.0).for_each(|(total, part)| *total += part);
        self
    }
}

/// A value that is left as it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Quarantined {
    /// Its row within the batch.
    pub row: u32,
    /// Its column within the plan.
    pub column: u16,
    /// Why.
    pub reason: Reason,
    /// Recognises its bytes without storing them.
    pub value_mac: [u8; 32],
}

/// A row to write: at least one of its columns has a new value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Change {
    /// The row within the batch.
    pub row: u32,
    /// Bit `i` is set where column `i` has a new value; the others are written back as they are.
    pub columns: u32,
    /// Digest of the plaintexts that are rewritten.
    pub digest: Digest,
}

/// A batch whose every sealed value was opened again by a second path and compared with what was read.
///
/// Only the verifying transform makes one and a store's `write` takes nothing else, so an unverified
/// value cannot be written.
#[derive(Debug)]
pub struct VerifiedBatch {
    pub(crate) batch: Batch,
    pub(crate) changes: Vec<Change>,
    /// New bytes per column, one cell per change.
    pub(crate) sealed: Vec<Cells>,
    /// Counts as if every change were written.
    pub(crate) tallies: Vec<Tally>,
    pub(crate) quarantine: Vec<Quarantined>,
}

impl VerifiedBatch {
    /// The rows as they were read.
    pub fn batch(&self) -> &Batch {
        &self.batch
    }

    /// The rows to write, in the order in which they were read.
    pub fn changes(&self) -> &[Change] {
        &self.changes
    }

    /// The bytes to write, column by column, one cell per change.
    pub fn sealed(&self) -> &[Cells] {
        &self.sealed
    }

    /// The values that are left as they are.
    pub fn quarantine(&self) -> &[Quarantined] {
        &self.quarantine
    }

    /// Whether every row that is written has nothing left that is not under the new key.
    pub(crate) fn leaves_whole_rows(&self) -> bool {
        let is_changed = |row: u32| self.changes.binary_search_by_key(&row, |change| change.row).is_ok();
        !self.quarantine.iter().any(|value| is_changed(value.row))
    }

    /// The account of the span after this batch: every change is written but those in `missed`.
    ///
    /// `missed` holds indices into [`changes`](Self::changes).
    fn settle(&self, span: &SpanRecord, missed: &[u32]) -> Result<SpanRecord, EngineError> {
        let mut tallies = self.tallies.clone();
        let mut is_missed = vec![false; self.changes.len()];
        for &index in missed {
            if std::mem::replace(&mut is_missed[index as usize], true) {
                return Err(EngineError::Internal("a store reported one miss twice".into()));
            }
            let change = self.changes[index as usize];
            for (column, tally) in tallies.iter_mut().enumerate() {
                let moved = u64::from(change.columns >> column & 1);
                tally.rewritten -= moved;
                tally.missed += moved;
            }
        }
        if tallies.iter().any(|tally| !tally.balances()) {
            return Err(EngineError::Internal(
                "the counts of a batch do not add up; it was not written".into(),
            ));
        }
        let written = self.changes.iter().zip(&is_missed).filter(|(_, missed)| !**missed);
        let digest: Digest = written.map(|(change, _)| change.digest).sum();
        let totals = span.tallies.iter().zip(tallies).map(|(total, tally)| total.plus(tally));
        Ok(SpanRecord {
            next: self.batch.end.clone(),
            seq: span.seq + 1,
            tallies: totals.collect(),
            digest: span.digest.plus(digest),
            ..span.clone()
        })
    }
}

/// The right to work on a span: its record, and the token that the database knows.
#[derive(Debug, Clone)]
pub struct Lease {
    /// The record as it stands in the database.
    pub span: SpanRecord,
    /// Random, new with every claim.
    pub token: [u8; 16],
}

impl Lease {
    /// The record that belongs into the same transaction as the rows of `batch`.
    ///
    /// # Errors
    ///
    /// [`EngineError::Internal`] if the counts do not add up; the batch must not be committed then.
    pub fn settle(
        &self,
        batch: &VerifiedBatch,
        missed: &[u32],
        run: RunId,
        keys: &LedgerKeys,
    ) -> Result<SealedSpan, EngineError> {
        Ok(SealedSpan::new(batch.settle(&self.span, missed)?, run, keys))
    }
}
