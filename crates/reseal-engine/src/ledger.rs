//! The account of a run: what was counted where, under a MAC that only the run's own key makes.
//!
//! Nothing here protects data: the compare-and-set does. The account says where to go on and what was done.

use std::fmt;

use reseal_crypto::canonical::Canonical;
use reseal_crypto::hash::{MacKey, equal, hkdf_sha256};
use reseal_crypto::random::{Random, RandomError};
use reseal_crypto::secret::SubKey;
use serde::{Deserialize, Serialize};

use crate::batch::Position;
use crate::error::EngineError;

/// The 16 random bytes that name a run.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct RunId(pub [u8; 16]);

impl RunId {
    /// Draws an id.
    ///
    /// # Errors
    ///
    /// [`RandomError`] if the generator fails.
    pub fn generate(random: &dyn Random) -> Result<Self, RandomError> {
        let mut id = [0; 16];
        random.fill(&mut id)?;
        Ok(Self(id))
    }

    /// Reads the 32 hex digits that [`fmt::Display`] writes.
    pub fn from_hex(text: &str) -> Option<Self> {
        if text.len() != 32 || !text.is_ascii() {
            return None;
        }
        let mut id = [0; 16];
        for (byte, digits) in id.iter_mut().zip(text.as_bytes().chunks(2)) {
            *byte = u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()?;
        }
        Some(Self(id))
    }
}

impl fmt::Display for RunId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for RunId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RunId({self})")
    }
}

/// The run's own 32 random bytes, kept by the caller beside the frozen plan.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunKey(SubKey);

impl RunKey {
    /// Draws a key.
    ///
    /// # Errors
    ///
    /// [`RandomError`] if the generator fails.
    pub fn generate(random: &dyn Random) -> Result<Self, RandomError> {
        SubKey::generate(random).map(Self)
    }

    /// The key of these bytes, as the caller kept them.
    pub fn from_bytes(bytes: &[u8; 32]) -> Self {
        Self(SubKey::from_bytes(bytes))
    }

    /// The bytes to keep.
    pub fn expose(&self) -> &[u8; 32] {
        self.0.expose()
    }
}

/// The keys of the account, derived from the run key, one purpose each.
#[derive(Debug, Clone)]
pub struct LedgerKeys {
    record: MacKey,
    digest: MacKey,
    quarantine: MacKey,
}

impl LedgerKeys {
    /// Derives the keys of a run.
    pub fn new(key: &RunKey) -> Self {
        let derive = |info: &str| {
            let mut derived = zeroize::Zeroizing::new([0; 32]);
            hkdf_sha256(key.expose(), b"", info.as_bytes(), &mut *derived);
            MacKey::new(&*derived)
        };
        Self {
            record: derive("reseal/v1/run/record"),
            digest: derive("reseal/v1/run/digest"),
            quarantine: derive("reseal/v1/run/quarantine"),
        }
    }

    /// The MAC of a record in its canonical form.
    pub fn record_mac(&self, record: &Canonical) -> [u8; 32] {
        self.record.mac(&[record.as_bytes()])
    }

    /// The digest of one row: its parts are the canonical row key and the plaintexts, each with its length.
    pub fn row_digest(&self, element: &[u8]) -> Digest {
        Digest(self.digest.mac(&[element]))
    }

    /// Recognises the bytes of a quarantined value again without storing them.
    pub fn value_mac(&self, stored: &[u8]) -> [u8; 32] {
        self.quarantine.mac(&[stored])
    }
}

/// A keyed, order-independent digest of plaintexts: the sum of row digests modulo 2^256.
///
/// MSet-Add-Hash of Clarke, Devadas, van Dijk, Gassend and Suh (ASIACRYPT 2003); without the run key it says nothing
/// about any plaintext. Every element contains its row key, so no element occurs twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Digest(pub [u8; 32]);

impl Digest {
    /// Adds another digest.
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        let mut sum = [0; 32];
        let mut carry = 0;
        for index in (0..32).rev() {
            let total = u16::from(self.0[index]) + u16::from(other.0[index]) + carry;
            sum[index] = total as u8;
            carry = total >> 8;
        }
        Self(sum)
    }
}

impl std::iter::Sum for Digest {
    fn sum<I: Iterator<Item = Self>>(digests: I) -> Self {
        digests.fold(Self::default(), Self::plus)
    }
}

/// What happened to the values of one column. Every value seen is in exactly one of the other counts.
///
/// It counts what was read, pass by pass: a value that several passes read is in each of them. How many values stay as
/// they are is in the proof and in the quarantine, which have each once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Tally {
    /// Values read.
    pub seen: u64,
    /// NULLs, which stay NULL.
    pub null: u64,
    /// Values written under the new key.
    pub rewritten: u64,
    /// Values that were under the new key already.
    pub already_new: u64,
    /// Values that the application changed or held locked between our read and our write; a later pass sees them.
    pub missed: u64,
    /// Values that no key of the plan opens, or whose new value the database does not take; untouched.
    pub quarantined: u64,
}

impl Tally {
    /// Whether every value seen is accounted for.
    pub fn balances(&self) -> bool {
        self.seen == self.null + self.rewritten + self.already_new + self.missed + self.quarantined
    }

    /// Adds another tally.
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        Self {
            seen: self.seen + other.seen,
            null: self.null + other.null,
            rewritten: self.rewritten + other.rewritten,
            already_new: self.already_new + other.already_new,
            missed: self.missed + other.missed,
            quarantined: self.quarantined + other.quarantined,
        }
    }

    /// What was added since `earlier`, which every count includes.
    #[must_use]
    pub fn minus(self, earlier: Self) -> Self {
        Self {
            seen: self.seen - earlier.seen,
            null: self.null - earlier.null,
            rewritten: self.rewritten - earlier.rewritten,
            already_new: self.already_new - earlier.already_new,
            missed: self.missed - earlier.missed,
            quarantined: self.quarantined - earlier.quarantined,
        }
    }

    /// The counts in the order of their declaration, as records keep them.
    pub fn to_array(self) -> [u64; 6] {
        [self.seen, self.null, self.rewritten, self.already_new, self.missed, self.quarantined]
    }

    /// Reads what [`to_array`](Self::to_array) gave.
    pub fn from_array([seen, null, rewritten, already_new, missed, quarantined]: [u64; 6]) -> Self {
        Self { seen, null, rewritten, already_new, missed, quarantined }
    }
}

/// The record of one span: a range of one leaf table, how far it is done, and the account of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SpanRecord {
    /// The pass it belongs to, from 1.
    pub pass: u32,
    /// Number within the pass, unique over all leaf tables.
    pub number: u64,
    /// The leaf table, as the store names it.
    pub relation: String,
    /// What the positions refer to: changes when the table is rewritten as a whole.
    pub incarnation: u64,
    /// Where the range begins.
    pub lo: Position,
    /// Where it ends, exclusive.
    pub hi: Position,
    /// Where to go on; `hi` when done.
    pub next: Position,
    /// Batches committed.
    pub seq: u64,
    /// Counts per column of the plan.
    pub tallies: Vec<Tally>,
    /// Digest of the plaintexts that were rewritten.
    pub digest: Digest,
}

impl SpanRecord {
    /// A span of which nothing is done yet.
    pub fn fresh(pass: u32, number: u64, range: ScanRange, columns: usize) -> Self {
        Self {
            pass,
            number,
            relation: range.relation,
            incarnation: range.incarnation,
            next: range.lo.clone(),
            lo: range.lo,
            hi: range.hi,
            seq: 0,
            tallies: vec![Tally::default(); columns],
            digest: Digest::default(),
        }
    }

    /// Whether nothing is left in it.
    pub fn is_done(&self) -> bool {
        self.next >= self.hi
    }

    /// The MAC of the record within its run.
    pub fn mac(&self, run: RunId, keys: &LedgerKeys) -> [u8; 32] {
        let record = Canonical::new("reseal/v1/span")
            .bytes(&run.0)
            .u64(self.pass.into())
            .u64(self.number)
            .text(&self.relation)
            .u64(self.incarnation)
            .bytes(&self.lo.0)
            .bytes(&self.hi.0)
            .bytes(&self.next.0)
            .u64(self.seq)
            .bytes(&self.digest.0)
            .u64(self.tallies.len() as u64);
        let record = self.tallies.iter().flat_map(|tally| tally.to_array()).fold(record, Canonical::u64);
        keys.record_mac(&record)
    }
}

/// A span as the database keeps it: not to be trusted before its MAC is checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SealedSpan {
    record: SpanRecord,
    mac: [u8; 32],
}

impl SealedSpan {
    pub(crate) fn new(record: SpanRecord, run: RunId, keys: &LedgerKeys) -> Self {
        let mac = record.mac(run, keys);
        Self { record, mac }
    }

    /// What a store found.
    pub fn stored(record: SpanRecord, mac: [u8; 32]) -> Self {
        Self { record, mac }
    }

    /// The fields to store.
    pub fn record(&self) -> &SpanRecord {
        &self.record
    }

    /// The MAC to store beside them.
    pub fn mac(&self) -> &[u8; 32] {
        &self.mac
    }

    /// Checks the MAC and gives the record.
    ///
    /// # Errors
    ///
    /// [`EngineError::Damaged`] if the MAC is not this run's.
    pub fn open(self, run: RunId, keys: &LedgerKeys) -> Result<SpanRecord, EngineError> {
        if !equal(&self.record.mac(run, keys), &self.mac) {
            return Err(EngineError::Damaged("a span does not carry the MAC of its run"));
        }
        Ok(self.record)
    }
}

/// A range of one leaf table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ScanRange {
    /// The leaf table, as the store names it.
    pub relation: String,
    /// What the positions refer to: changes when the table is rewritten as a whole.
    pub incarnation: u64,
    /// First position.
    pub lo: Position,
    /// End, exclusive.
    pub hi: Position,
}

/// Where a run stands, as the target database keeps it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum RunState {
    /// Rewriting.
    Active,
    /// Proved: one snapshot held nothing old.
    Proved,
    /// Taken back by a rollback.
    RolledBack,
}

impl RunState {
    /// Every state.
    pub const ALL: [Self; 3] = [Self::Active, Self::Proved, Self::RolledBack];

    /// The word in the database.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Proved => "proved",
            Self::RolledBack => "rolled-back",
        }
    }

    /// The state of a word.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.name() == name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digests_add_with_carry_and_in_any_order() {
        let one = Digest([0xFF; 32]);
        let mut low = [0; 32];
        low[31] = 1;
        assert_eq!(one.plus(Digest(low)), Digest::default());
        assert_eq!(one.plus(Digest(low)), Digest(low).plus(one));
    }

    #[test]
    fn every_field_of_a_span_is_under_its_mac() {
        let keys = LedgerKeys::new(&RunKey::from_bytes(&[1; 32]));
        let run = RunId([2; 16]);
        let range = ScanRange {
            relation: "s.t".into(),
            incarnation: 7,
            lo: Position(vec![0]),
            hi: Position(vec![9]),
        };
        let span = SpanRecord::fresh(1, 0, range, 2);
        let changes: [fn(&mut SpanRecord); 9] = [
            |s| s.pass = 2,
            |s| s.number = 1,
            |s| s.relation.push('x'),
            |s| s.incarnation = 8,
            |s| s.lo.0.push(1),
            |s| s.hi.0.push(1),
            |s| s.seq = 1,
            |s| s.tallies[1].rewritten = 1,
            |s| s.digest.0[0] = 1,
        ];
        for change in changes {
            let mut changed = span.clone();
            change(&mut changed);
            assert_ne!(changed.mac(run, &keys), span.mac(run, &keys));
        }
        assert_ne!(span.mac(RunId([3; 16]), &keys), span.mac(run, &keys));
    }

    #[test]
    fn run_ids_read_back() {
        let id = RunId([0xA7; 16]);
        assert_eq!(RunId::from_hex(&id.to_string()), Some(id));
        assert_eq!(RunId::from_hex("zz"), None);
    }
}
