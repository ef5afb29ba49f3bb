//! Positions of this store: block and item of a row, and the stripe of rows that a range is about.
//!
//! An UPDATE leaves the old version of a row in its page and puts the new one elsewhere, so that rewriting a full table
//! in one go doubles it and adds an entry to every index for every row. A first pass therefore goes over the blocks of
//! a window once for each of four stripes of their rows. What the first stripe left behind is dead and gone when the
//! second is read, as soon as no transaction is left that might still see it; the new versions of the second then stay
//! on their own page, where no index has to change (HOT). The table grows by about 40 %.
//!
//! A stripe is told by the row key, not by the place: a row that was rewritten on its page is still of the stripe that
//! was just done, so that nothing is met twice. Where integers are counted up, their last bits tell it: cheaper than a
//! hash, and each page has as many rows of every stripe.

use crate::batch::Position;
use crate::error::{DatabaseError, EngineError};
use crate::ledger::ScanRange;
use crate::plan::{Job, KeyType};
use crate::postgres::leaf::Leaf;
use crate::postgres::sql::key_expression;

/// Stripes of a window. A power of two.
const STRIPES: u8 = 4;
/// Tables with fewer blocks are done before anything dead can go.
const STRIPED_FROM: u64 = 256;

/// Spans per worker: enough that none waits long for the last ones.
const SPANS_PER_WORKER: u64 = 16;
const STRIPED_SPANS_PER_WORKER: u64 = 8;
/// Most blocks of a span: 64 MiB of rows.
const SPAN_BLOCKS: u64 = 8192;
/// Fewest blocks of a span: below this, claiming costs more than the rows.
const SPAN_BLOCKS_MIN: u64 = 16;
/// Blocks that lie between a stripe and the next one at least, for each worker: time for old transactions to end.
const WINDOW_BLOCKS: u64 = 2048;

/// Which rows of a range are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stripe {
    /// All of them.
    Whole,
    /// Those whose key hashes to a stripe.
    Hashed(u8),
    /// Those whose key, one integer, ends in the bits of a stripe.
    Ending(u8),
}

/// In the byte of a stripe: its rows are told by the last bits of their key.
const ENDING: u8 = STRIPES;

/// The position of a locator, in six bytes.
pub(super) fn position(locator: u64) -> Position {
    Position(locator.to_be_bytes()[2..].to_vec())
}

/// The first position of a block.
pub(super) fn block_start(block: u64) -> Position {
    position(block << 16)
}

/// The position that the bytes of a `ctid` name.
pub(super) fn position_of(tid: &[u8]) -> Result<Position, EngineError> {
    locator(tid).map(position)
}

/// The position after another.
pub(super) fn after(place: &Position) -> Result<Position, EngineError> {
    Ok(position(locator(&place.0)? + 1))
}

impl Stripe {
    /// What a range is about. The stripe stands behind the six bytes of both of its ends.
    pub(super) fn of(range: &ScanRange) -> Self {
        match range.lo.0.get(6) {
            None => Self::Whole,
            Some(byte) if byte & ENDING == 0 => Self::Hashed(*byte),
            Some(byte) => Self::Ending(*byte & !ENDING),
        }
    }

    /// The position of a locator in a range about this stripe.
    pub(super) fn position(self, locator: u64) -> Position {
        let Position(mut bytes) = position(locator);
        match self {
            Self::Whole => {}
            Self::Hashed(stripe) => bytes.push(stripe),
            Self::Ending(stripe) => bytes.push(stripe | ENDING),
        }
        Position(bytes)
    }

    fn block_start(self, block: u64) -> Position {
        self.position(block << 16)
    }

    /// The test for rows of this stripe.
    pub(super) fn condition(self, job: &Job) -> Option<String> {
        let (value, stripe) = match self {
            Self::Whole => return None,
            Self::Hashed(stripe) => (key_hash(job)?, stripe),
            Self::Ending(stripe) => (only_integer(job)?, stripe),
        };
        let mask = STRIPES - 1;
        Some(format!("(({value}) & {mask}) = {}", stripe & mask))
    }
}

/// A hash of the row key by the server. None without a key, or where the server has no function for it.
fn key_hash(job: &Job) -> Option<String> {
    let hash = |kind, value: String| match kind {
        KeyType::Integer => Some(format!("hashint8({value})")),
        KeyType::Text | KeyType::Other => Some(format!("hashtext({value})")),
        KeyType::Uuid => Some(format!("uuid_hash({value})")),
        KeyType::Bytes => None,
    };
    let hashes = job.plan.key.iter().map(|key| hash(key.kind, key_expression(&key.name, key.kind)));
    let hashes = hashes.collect::<Option<Vec<String>>>()?;
    (!hashes.is_empty()).then(|| hashes.join(" # "))
}

/// A key of one integer.
fn only_integer(job: &Job) -> Option<String> {
    match job.plan.key.as_slice() {
        [key] if key.kind == KeyType::Integer => Some(key_expression(&key.name, key.kind)),
        _ => None,
    }
}

/// Asks whether the last bits of the key tell stripes of about the same size, by the first rows of a leaf; `None` where
/// stripes are not told by them. Numbers that some program made may all end in the same bits.
pub(super) fn evenness(job: &Job, leaf: &Leaf) -> Option<String> {
    let (key, mask) = (only_integer(job).filter(|_| is_striped(job, leaf))?, STRIPES - 1);
    Some(format!(
        "SELECT count(*) = {STRIPES} AND coalesce(min(n) * 6 > sum(n), false)
           FROM (SELECT count(*) AS n FROM (SELECT {key} & {mask} AS stripe FROM ONLY {} AS t LIMIT 1000) AS r
                  GROUP BY stripe) AS s",
        leaf.name
    ))
}

/// Large values stand outside of their rows; their old versions are no matter of pages and stripes.
fn is_striped(job: &Job, leaf: &Leaf) -> bool {
    !leaf.wide && leaf.blocks >= STRIPED_FROM && key_hash(job).is_some()
}

/// The blocks of the leaves in ranges that are read once: small enough that `workers` workers end together.
pub(super) fn whole_ranges(leaves: &[Leaf], workers: usize) -> Vec<ScanRange> {
    let size = span_blocks(leaves, workers as u64 * SPANS_PER_WORKER);
    leaves.iter().flat_map(|leaf| spans(leaf, size, Stripe::Whole)).collect()
}

/// The blocks of the leaves in ranges of a stripe each, in the order in which they are to be read.
pub(super) fn striped_ranges(job: &Job, leaves: &[Leaf], workers: usize) -> Vec<ScanRange> {
    let size = span_blocks(leaves, workers as u64 * STRIPED_SPANS_PER_WORKER);
    let window = workers * WINDOW_BLOCKS.div_ceil(size) as usize;
    let mut ranges = Vec::new();
    for leaf in leaves {
        if !is_striped(job, leaf) {
            ranges.extend(whole_ranges(std::slice::from_ref(leaf), workers));
            continue;
        }
        let told = if leaf.even_keys { Stripe::Ending } else { Stripe::Hashed };
        let stripes: Vec<Vec<ScanRange>> =
            (0..STRIPES).map(|stripe| spans(leaf, size, told(stripe)).collect()).collect();
        for start in (0..stripes[0].len()).step_by(window) {
            let end = (start + window).min(stripes[0].len());
            ranges.extend(stripes.iter().flat_map(|spans| spans[start..end].iter().cloned()));
        }
    }
    ranges
}

fn span_blocks(leaves: &[Leaf], spans: u64) -> u64 {
    let blocks: u64 = leaves.iter().map(|leaf| leaf.blocks).sum();
    (blocks / spans).clamp(SPAN_BLOCKS_MIN, SPAN_BLOCKS)
}

fn spans(leaf: &Leaf, size: u64, stripe: Stripe) -> impl Iterator<Item = ScanRange> {
    let starts = (0..leaf.blocks).step_by(usize::try_from(size).unwrap_or(usize::MAX));
    starts.map(move |start| ScanRange {
        relation: leaf.name.clone(),
        incarnation: leaf.filenode,
        lo: stripe.block_start(start),
        hi: stripe.block_start((start + size).min(leaf.blocks)),
    })
}

/// A position as a `tid` literal.
pub(super) fn tid_literal(position: &Position) -> Result<String, EngineError> {
    let tid = position.0.get(..6).unwrap_or_default();
    let locator = locator(tid)?;
    Ok(format!("'({},{})'::tid", locator >> 16, locator & 0xFFFF))
}

/// A `tid` as the server sends it.
pub(super) fn locator(bytes: &[u8]) -> Result<u64, EngineError> {
    let bytes: [u8; 6] = bytes.try_into().map_err(|_| {
        EngineError::from(DatabaseError::protocol("read rows", "a place in a table is not six bytes"))
    })?;
    Ok(bytes.iter().fold(0, |value, byte| value << 8 | u64::from(*byte)))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::postgres::copy::tests::job;

    fn leaf(name: &str, blocks: u64) -> Leaf {
        Leaf { name: name.into(), filenode: 1, blocks, wide: false, unique: false, even_keys: false }
    }

    fn blocks_of(range: &ScanRange) -> (u64, u64) {
        let block = |position: &Position| locator(&position.0[..6]).expect("six bytes") >> 16;
        (block(&range.lo), block(&range.hi))
    }

    #[test]
    fn every_stripe_covers_every_block_once_and_comes_back_late() {
        let job = job(vec![("id", KeyType::Integer)]);
        let workers = 4;
        let sizes = [STRIPED_FROM, 1_000, 20_000, 3_000_000].into_iter();
        for (blocks, even_keys) in sizes.flat_map(|blocks| [(blocks, false), (blocks, true)]) {
            let ranges = striped_ranges(&job, &[Leaf { even_keys, ..leaf("t", blocks) }], workers);
            let mut next = BTreeMap::new();
            let mut met_at: BTreeMap<u64, usize> = BTreeMap::new();
            for (at, range) in ranges.iter().enumerate() {
                let (lo, hi) = blocks_of(range);
                let stripe = match (Stripe::of(range), even_keys) {
                    (Stripe::Hashed(stripe), false) | (Stripe::Ending(stripe), true) => stripe,
                    (other, _) => panic!("{other:?}"),
                };
                assert_eq!(std::mem::replace(next.entry(stripe).or_insert(0), hi), lo);
                if let Some(before) = met_at.insert(lo, at) {
                    // The last window is what is left.
                    let late = at - before >= workers || lo > blocks / 2;
                    assert!(late, "{blocks} blocks: met again too soon");
                }
                assert!(range.lo < range.hi && Stripe::of(range).position(lo << 16) == range.lo);
            }
            assert_eq!(next.into_values().collect::<Vec<_>>(), [blocks; STRIPES as usize]);
        }
    }

    #[test]
    fn small_wide_and_unhashable_tables_are_read_at_once() {
        let whole = |key: &[(&'static str, KeyType)], leaf: Leaf| {
            let ranges = striped_ranges(&job(key.to_vec()), &[leaf], 2);
            ranges.iter().all(|range| Stripe::of(range) == Stripe::Whole)
        };
        let id = [("id", KeyType::Integer)];
        assert!(!whole(&id, leaf("t", 5_000)));
        assert!(whole(&id, leaf("t", STRIPED_FROM - 1)));
        assert!(whole(&id, Leaf { wide: true, ..leaf("t", 5_000) }));
        assert!(whole(&[], leaf("t", 5_000)));
        assert!(whole(&[("raw", KeyType::Bytes)], leaf("t", 5_000)));
    }
}
