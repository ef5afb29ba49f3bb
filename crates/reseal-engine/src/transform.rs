//! Opens, seals and reopens a batch on all cores. Plaintexts live here only, a few hundred rows at a time.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use rayon::prelude::*;
use reseal_crypto::random::{OsRandom, Random, RandomPool};
use reseal_formats::SealError;
use zeroize::Zeroizing;

use crate::batch::{Batch, Cells};
use crate::classify::{Chunk, ColumnVerdicts, Look, OpenedValues, Verdict, classify_column};
use crate::error::EngineError;
use crate::ledger::{Digest, Tally};
use crate::plan::Job;
use crate::verified::{ByReason, Change, Quarantined, Reason, VerifiedBatch};

/// Rows of one rayon task: enough to fill the lanes of a key derivation, few enough to share among the cores.
const CHUNK_ROWS: usize = 256;

/// Seals every old value of a batch under the new key and proves each by opening it again.
///
/// # Errors
///
/// [`EngineError::NotReopened`] if a sealed value does not open to what was read; [`EngineError::NeedsAttention`] if
/// values are bound to a key that is not UTF-8.
pub(crate) fn verify(job: &Job, batch: Batch, look: Look) -> Result<VerifiedBatch, EngineError> {
    if let Some(column) = batch.unnameable_key().filter(|_| job.row_bound()) {
        return Err(EngineError::NeedsAttention(format!(
            "column `{}` of the row key holds text that is not UTF-8; no value can be bound to it",
            job.plan.key[column].name
        )));
    }
    let parts: Vec<Part> = chunks(&batch)
        .into_par_iter()
        .map(|(start, end)| Part::make(job, &Chunk::new(job, &batch, start, end), look, &OsRandom))
        .collect::<Result<_, _>>()?;
    let mut whole = Part::empty(job.codecs.len(), batch.len(), |column| {
        parts.iter().map(|part| part.sealed[column].bytes_len()).sum()
    });
    parts.into_iter().for_each(|part| whole.append(part));
    let Part { changes, sealed, tallies, quarantine } = whole;
    Ok(VerifiedBatch { batch, changes, sealed, tallies, quarantine })
}

/// Runs [`verify`] on the rayon pool and waits without blocking the async runtime.
pub(crate) async fn verify_on_pool(
    job: Arc<Job>,
    batch: Batch,
    look: Look,
) -> Result<VerifiedBatch, EngineError> {
    on_pool(move || verify(&job, batch, look)).await?
}

/// What the values of a batch are, without changing any.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Census {
    /// Rows looked at.
    pub rows: u64,
    /// One per column of the plan.
    pub columns: Vec<ColumnCensus>,
    /// Digest of the plaintexts that open under the new key.
    pub digest: Digest,
    /// One of the values under the old key, if there are any: where to look for whoever wrote it.
    pub old_at: Option<ValueAt>,
}

/// Where a value stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ValueAt {
    /// The column, by its place in the plan.
    pub column: usize,
    /// The row key, as far as it is made of numbers and ids; a text may be what the table is to keep to itself.
    pub row: String,
}

/// What the values of one column are.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ColumnCensus {
    /// NULLs.
    pub null: u64,
    /// Values under the old key that can be rewritten.
    pub old: u64,
    /// Values under the new key.
    pub new: u64,
    /// Values that are left as they are.
    pub left: ByReason,
}

impl ColumnCensus {
    /// Values that open under neither key. Empty ones are nobody's ciphertext and do not count.
    pub fn unopened(&self) -> u64 {
        self.left.faults() - self.suppressed()
    }

    /// Empty values, which stay as they are.
    pub fn empty(&self) -> u64 {
        self.left.of(Reason::Empty)
    }

    /// Values that stay under the old key, because the database does not take new ones in their place.
    pub fn suppressed(&self) -> u64 {
        self.left.of(Reason::WriteSuppressed)
    }
}

impl Census {
    /// An empty census of `columns` columns.
    pub fn new(columns: usize) -> Self {
        Self { columns: vec![ColumnCensus::default(); columns], ..Self::default() }
    }

    /// Values under the old key that can be rewritten.
    pub fn old(&self) -> u64 {
        self.columns.iter().map(|column| column.old).sum()
    }

    /// Values under the new key.
    pub fn opened_new(&self) -> u64 {
        self.columns.iter().map(|column| column.new).sum()
    }

    /// Values that open under neither key.
    pub fn unopened(&self) -> u64 {
        self.columns.iter().map(ColumnCensus::unopened).sum()
    }

    /// Values that stay under the old key, because the database does not take new ones in their place.
    pub fn suppressed(&self) -> u64 {
        self.columns.iter().map(ColumnCensus::suppressed).sum()
    }

    /// Empty values, which stay as they are.
    pub fn empty(&self) -> u64 {
        self.columns.iter().map(ColumnCensus::empty).sum()
    }

    /// Adds another census of the same columns.
    #[must_use]
    pub fn plus(mut self, other: &Self) -> Self {
        self.rows += other.rows;
        self.digest = self.digest.plus(other.digest);
        self.old_at = self.old_at.or_else(|| other.old_at.clone());
        for (total, part) in self.columns.iter_mut().zip(&other.columns) {
            total.null += part.null;
            total.old += part.old;
            total.new += part.new;
            total.left = total.left.plus(part.left);
        }
        self
    }
}

/// Counts what the values of a batch are, on the rayon pool.
pub(crate) async fn census_on_pool(job: Arc<Job>, batch: Batch, look: Look) -> Result<Census, EngineError> {
    on_pool(move || census(&job, &batch, look)).await
}

fn census(job: &Job, batch: &Batch, look: Look) -> Census {
    chunks(batch)
        .into_par_iter()
        .map(|(start, end)| census_of_chunk(job, &Chunk::new(job, batch, start, end), look))
        .reduce(|| Census::new(job.codecs.len()), |a, b| a.plus(&b))
}

fn census_of_chunk(job: &Job, chunk: &Chunk<'_>, look: Look) -> Census {
    let mut census = Census::new(job.codecs.len());
    census.rows = (chunk.end - chunk.start) as u64;
    let columns: Vec<ColumnVerdicts> =
        (0..job.codecs.len()).map(|column| classify_column(job, chunk, column, look)).collect();
    for (column, (counts, found)) in census.columns.iter_mut().zip(&columns).enumerate() {
        for (row, verdict) in chunk.rows().zip(&found.verdicts) {
            match verdict {
                Verdict::Null => counts.null += 1,
                Verdict::New => counts.new += 1,
                Verdict::Old => counts.old += 1,
                Verdict::Bad(reason) => counts.left.add(*reason, 1),
            }
            let is_old = matches!(verdict, Verdict::Old | Verdict::Bad(Reason::WriteSuppressed));
            if is_old && census.old_at.is_none() {
                let row = chunk.batch.row_name(row, job.plan.key.iter().map(|key| key.name.as_str()));
                census.old_at = Some(ValueAt { column, row });
            }
        }
    }
    if look == Look::EveryValue {
        let opened: Vec<&OpenedValues> = columns.iter().map(|column| &column.new).collect();
        census.digest = row_digests(job, chunk, &opened).into_iter().flatten().sum();
    }
    census
}

async fn on_pool<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, EngineError> {
    let (sender, receiver) = tokio::sync::oneshot::channel();
    rayon::spawn(move || {
        // A panic that left this task would abort the process. Nothing half-changed is seen again: the work owns its
        // batch, and the job is only read.
        let ended = catch_unwind(AssertUnwindSafe(work));
        // The receiver is gone only when the run was dropped; nobody wants the result then.
        let _ = sender.send(ended);
    });
    let ended =
        receiver.await.map_err(|_| EngineError::Internal("a task of the transform ended early".into()))?;
    ended.map_err(|_| EngineError::Internal("a task of the transform panicked".into()))
}

fn chunks(batch: &Batch) -> Vec<(usize, usize)> {
    let starts = (0..batch.len()).step_by(CHUNK_ROWS);
    starts.map(|start| (start, (start + CHUNK_ROWS).min(batch.len()))).collect()
}

/// The part of a [`VerifiedBatch`] that one chunk gives.
struct Part {
    changes: Vec<Change>,
    sealed: Vec<Cells>,
    tallies: Vec<Tally>,
    quarantine: Vec<Quarantined>,
}

impl Part {
    /// With room for `rows` rows and as many bytes per column as `bytes` says.
    fn empty(columns: usize, rows: usize, bytes: impl Fn(usize) -> usize) -> Self {
        Self {
            changes: Vec::with_capacity(rows),
            sealed: (0..columns).map(|column| Cells::with_capacity(rows, bytes(column))).collect(),
            tallies: vec![Tally::default(); columns],
            quarantine: Vec::new(),
        }
    }

    fn make(job: &Job, chunk: &Chunk<'_>, look: Look, random: &dyn Random) -> Result<Self, EngineError> {
        let columns: Vec<ColumnVerdicts> =
            (0..job.codecs.len()).map(|column| classify_column(job, chunk, column, look)).collect();
        let sealed: Vec<SealedValues> = columns
            .iter()
            .enumerate()
            .map(|(column, verdicts)| seal_column(job, chunk, column, &verdicts.old, random))
            .collect::<Result<_, _>>()?;
        let old: Vec<&OpenedValues> = columns.iter().map(|column| &column.old).collect();
        let digests = row_digests(job, chunk, &old);
        let room = |column: usize| sealed[column].bytes.len();
        let mut part = Self::empty(columns.len(), chunk.end - chunk.start, room);
        for (index, column) in columns.iter().enumerate() {
            part.count(job, chunk, index, &column.verdicts);
        }
        for row in chunk.rows() {
            if let Some(digest) = digests[row - chunk.start] {
                part.push_change(chunk, row, &sealed, digest);
            }
        }
        Ok(part)
    }

    /// Counts one column as if everything old were written.
    fn count(&mut self, job: &Job, chunk: &Chunk<'_>, column: usize, verdicts: &[Verdict]) {
        let tally = &mut self.tallies[column];
        tally.seen += verdicts.len() as u64;
        for (row, verdict) in chunk.rows().zip(verdicts) {
            match verdict {
                Verdict::Null => tally.null += 1,
                Verdict::New => tally.already_new += 1,
                Verdict::Old => tally.rewritten += 1,
                Verdict::Bad(reason) => {
                    tally.quarantined += 1;
                    let stored = chunk.batch.columns[column].get(row).unwrap_or_default();
                    self.quarantine.push(Quarantined {
                        row: row as u32,
                        column: column as u16,
                        reason: *reason,
                        value_mac: job.keys.value_mac(stored),
                    });
                }
            }
        }
    }

    /// Adds a row: new bytes where there are some, the old bytes elsewhere.
    fn push_change(&mut self, chunk: &Chunk<'_>, row: usize, sealed: &[SealedValues], digest: Digest) {
        let mut changed = 0;
        for (column, values) in sealed.iter().enumerate() {
            match values.get(row - chunk.start) {
                Some(bytes) => {
                    changed |= 1 << column;
                    self.sealed[column].push(Some(bytes));
                }
                None => self.sealed[column].push(chunk.batch.columns[column].get(row)),
            }
        }
        self.changes.push(Change { row: row as u32, columns: changed, digest });
    }

    fn append(&mut self, part: Self) {
        self.changes.extend(part.changes);
        self.quarantine.extend(part.quarantine);
        self.sealed.iter_mut().zip(&part.sealed).for_each(|(whole, part)| whole.append(part));
        self.tallies.iter_mut().zip(part.tallies).for_each(|(whole, part)| *whole = whole.plus(part));
    }
}

/// New bytes of one column of a chunk, by row of the chunk.
struct SealedValues {
    bytes: Vec<u8>,
    places: Vec<Option<std::ops::Range<usize>>>,
}

impl SealedValues {
    fn get(&self, row: usize) -> Option<&[u8]> {
        self.places[row].clone().map(|place| &self.bytes[place])
    }
}

/// Seals the old values of a column and opens each again from its final bytes.
fn seal_column(
    job: &Job,
    chunk: &Chunk<'_>,
    column: usize,
    old: &OpenedValues,
    random: &dyn Random,
) -> Result<SealedValues, EngineError> {
    let mut places = vec![None; chunk.end - chunk.start];
    if old.rows.is_empty() {
        return Ok(SealedValues { bytes: Vec::new(), places });
    }
    let codec = &job.codecs[column].to;
    let row_keys: Vec<_> = old.rows.iter().map(|&row| chunk.row_key(row)).collect();
    let mut bytes = Vec::with_capacity(old.plaintexts.len() + old.rows.len() * 128);
    let mut pool = RandomPool::new(random);
    let sealed = codec
        .seal_many(&old.plaintexts, &old.values, &row_keys, &mut pool, &mut bytes)
        .map_err(|error| seal_error(job, column, error))?;
    let stored: Vec<&[u8]> = sealed.iter().map(|place| &bytes[place.clone()]).collect();
    let mut again = Zeroizing::new(Vec::with_capacity(bytes.len()));
    let reopened = codec.reopen_many(&stored, &row_keys, &mut again);
    for (index, result) in reopened.into_iter().enumerate() {
        let matches = result.is_ok_and(|value| again[value.plaintext] == *old.plaintext(index));
        if !matches {
            return Err(EngineError::NotReopened { column: job.plan.columns[column].name.clone() });
        }
    }
    for (&row, place) in old.rows.iter().zip(sealed) {
        places[row - chunk.start] = Some(place);
    }
    Ok(SealedValues { bytes, places })
}

fn seal_error(job: &Job, column: usize, error: SealError) -> EngineError {
    match error {
        SealError::Random(error) => EngineError::Random(error),
        other => EngineError::Internal(format!(
            "cannot seal a value of column `{}`: {other}",
            job.plan.columns[column].name
        )),
    }
}

/// One digest per row of the chunk in which any column opened: over the row key and those plaintexts.
fn row_digests(job: &Job, chunk: &Chunk<'_>, columns: &[&OpenedValues]) -> Vec<Option<Digest>> {
    let rows = chunk.end - chunk.start;
    let mut index_of = vec![usize::MAX; rows * columns.len()];
    for (column, opened) in columns.iter().enumerate() {
        for (index, &row) in opened.rows.iter().enumerate() {
            index_of[(row - chunk.start) * columns.len() + column] = index;
        }
    }
    let mut element = Zeroizing::new(Vec::with_capacity(4096));
    let digest_of = |row: usize| {
        let indices = &index_of[row * columns.len()..][..columns.len()];
        if indices.iter().all(|index| *index == usize::MAX) {
            return None;
        }
        let plaintexts = indices.iter().enumerate().filter(|(_, index)| **index != usize::MAX);
        let length: usize =
            plaintexts.clone().map(|(column, &index)| columns[column].plaintext(index).len()).sum();
        let needed = length + 16 * columns.len() + chunk.batch.bytes_of_key(chunk.start + row);
        if element.capacity() < needed {
            // A buffer that grows would leave a copy behind; this one is wiped as it is replaced.
            element = Zeroizing::new(Vec::with_capacity(needed));
        }
        element.clear();
        chunk.batch.write_row_key(chunk.start + row, &mut element);
        for (column, &index) in plaintexts {
            let plaintext = columns[column].plaintext(index);
            element.extend_from_slice(&(column as u64).to_be_bytes());
            element.extend_from_slice(&(plaintext.len() as u64).to_be_bytes());
            element.extend_from_slice(plaintext);
        }
        Some(job.keys.row_digest(&element))
    };
    (0..rows).map(digest_of).collect()
}

#[cfg(test)]
mod tests {
    use reseal_crypto::{ColumnId, KeyRef, RowKey};
    use reseal_formats::{Codec, ColumnType, Encoding, Format, FormatSpec, OpenError, Shape};

    use super::*;
    use crate::batch::{KeyCells, Position};
    use crate::ledger::{RunId, RunKey};
    use crate::plan::{Codecs, ColumnPlan, Direction, KeyColumn, KeyType, RunPlan, Side, TableName};

    /// Values are a key byte and the plaintext; a faulty sealer writes another plaintext under the right key.
    #[derive(Debug)]
    struct Toy {
        key: u8,
        faulty: bool,
    }

    impl Format for Toy {
        fn name(&self) -> &'static str {
            "toy"
        }

        fn authenticated(&self) -> bool {
            true
        }

        fn key_prefix(&self) -> Option<&[u8]> {
            None
        }

        fn open(
            &self,
            message: &[u8],
            _: Option<&RowKey>,
            plaintext: &mut Vec<u8>,
        ) -> Result<Shape, OpenError> {
            match message.split_first() {
                Some((key, rest)) if *key == self.key => {
                    plaintext.extend_from_slice(rest);
                    Ok(Shape::Plain)
                }
                _ => Err(OpenError::Unopened),
            }
        }

        fn seal(
            &self,
            plaintext: &[u8],
            _: &Shape,
            _: Option<&RowKey>,
            _: &mut RandomPool<'_>,
            message: &mut Vec<u8>,
        ) -> Result<(), SealError> {
            message.push(self.key);
            message.extend_from_slice(plaintext);
            if self.faulty && plaintext == b"17" {
                *message.last_mut().expect("just written") ^= 1;
            }
            Ok(())
        }
    }

    fn job(faulty: bool) -> Job {
        let side = |version| Side {
            spec: FormatSpec::Fernet(Default::default()),
            key: KeyRef { secret: "toy".into(), version },
        };
        let plan = RunPlan {
            run: RunId([1; 16]),
            direction: Direction::Forward,
            supersedes: None,
            table: TableName { schema: "s".into(), name: "t".into() },
            key: vec![KeyColumn { name: "id".into(), kind: KeyType::Integer }],
            columns: vec![ColumnPlan {
                name: "c".into(),
                column_type: ColumnType::Bytes,
                id: ColumnId([1; 16]),
                replaces: None,
                from: side(1),
                to: side(2),
            }],
        };
        let codec = |key, faulty| Codec::new(Box::new(Toy { key, faulty }), Encoding::Raw);
        let codecs = Codecs::new(codec(b'o', false), codec(b'n', faulty), false);
        Job::with_codecs(plan, vec![codecs], &RunKey::from_bytes(&[7; 32])).expect("holds together")
    }

    /// Rows 0..600 of which every fifth is NULL and every seventh is new already.
    fn batch() -> Batch {
        let mut cells = Cells::default();
        for row in 0..600 {
            let key = if row % 7 == 0 { "n" } else { "o" };
            let value = format!("{key}{row}");
            cells.push((row % 5 != 0).then_some(value.as_bytes()));
        }
        Batch {
            locators: (0..600).collect(),
            versions: Vec::new(),
            keys: vec![KeyCells::Integer((0..600).collect())],
            columns: vec![cells],
            end: Position(vec![9]),
        }
    }

    #[test]
    fn value_that_does_not_reopen_stops_the_batch() {
        let error = verify(&job(true), batch(), Look::OldFirst).expect_err("row 17 differs");
        assert!(matches!(error, EngineError::NotReopened { column } if column == "c"));
    }

    #[tokio::test]
    async fn panic_of_the_transform_is_an_error() {
        let error = on_pool(|| -> u8 { panic!("on purpose") }).await.expect_err("it panicked");
        assert!(matches!(error, EngineError::Internal(_)), "{error}");
    }

    #[test]
    fn value_that_cannot_be_sealed_is_no_refusal() {
        let error = seal_error(&job(false), 0, SealError::TooLarge("a test"));
        assert_eq!(error.kind(), crate::ErrorKind::Failed);
    }

    #[test]
    fn counts_add_up_and_rows_keep_their_order() {
        for look in [Look::OldFirst, Look::NewFirst] {
            let verified = verify(&job(false), batch(), look).expect("verifies");
            let tally = verified.tallies[0];
            assert_eq!((tally.seen, tally.null, tally.already_new), (600, 120, 68));
            assert!(tally.balances() && tally.rewritten == verified.changes.len() as u64);
            assert!(verified.changes.is_sorted_by_key(|change| change.row));
            for (change, sealed) in verified.changes.iter().zip(verified.sealed[0].iter()) {
                assert_eq!(sealed, Some(format!("n{}", change.row).as_bytes()));
            }
        }
    }

    #[test]
    fn digest_of_what_is_written_is_the_digest_of_what_is_found() {
        let job = job(false);
        let mut old = batch();
        let mut cells = Cells::default();
        (0..600).for_each(|row| cells.push(Some(format!("o{row}").as_bytes())));
        old.columns = vec![cells];
        let verified = verify(&job, old.clone(), Look::OldFirst).expect("verifies");
        let written: Digest = verified.changes.iter().map(|change| change.digest).sum();
        let new = Batch { columns: vec![verified.sealed[0].clone()], ..old };
        assert_eq!(census(&job, &new, Look::EveryValue).digest, written);
    }
}
