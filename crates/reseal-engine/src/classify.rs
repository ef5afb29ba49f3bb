//! Which values are old, new or neither: opens the values of a few hundred rows under the keys of the plan.

use reseal_crypto::RowKey;
use reseal_formats::{Codec, OpenError, Opened};
use zeroize::Zeroizing;

use crate::batch::Batch;
use crate::plan::{Codecs, Job};
use crate::suppressed::Cell;
use crate::verified::Reason;

/// What a value turned out to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    Null,
    New,
    Old,
    Bad(Reason),
}

/// Which key is tried first, and how far a value is looked at.
///
/// Both formats notice a wrong key, so the order decides nothing but the cost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Look {
    /// Most values are old: a first pass.
    OldFirst,
    /// Most values are new: later passes and the proof.
    NewFirst,
    /// Values that name the new key are opened too: a verification.
    EveryValue,
}

/// Rows `start..end` of a batch, with their row keys where a value is bound to them.
pub(crate) struct Chunk<'a> {
    pub(crate) batch: &'a Batch,
    pub(crate) start: usize,
    pub(crate) end: usize,
    row_keys: Vec<RowKey>,
}

impl<'a> Chunk<'a> {
    pub(crate) fn new(job: &Job, batch: &'a Batch, start: usize, end: usize) -> Self {
        let row_keys = match job.row_bound() {
            true => (start..end).map(|row| batch.row_key(row)).collect(),
            false => Vec::new(),
        };
        Self { batch, start, end, row_keys }
    }

    pub(crate) fn rows(&self) -> std::ops::Range<usize> {
        self.start..self.end
    }

    pub(crate) fn row_key(&self, row: usize) -> Option<&RowKey> {
        self.row_keys.get(row - self.start)
    }

    fn cell(&self, job: &Job, column: usize, row: usize, stored: &[u8]) -> Cell {
        Cell { column, row_key: self.batch.record_key(row), value_mac: job.keys.value_mac(stored) }
    }

    fn row_keys(&self, rows: &[usize]) -> Vec<Option<&RowKey>> {
        rows.iter().map(|&row| self.row_key(row)).collect()
    }
}

/// Values of one column that opened under the same key.
#[derive(Default)]
pub(crate) struct OpenedValues {
    /// Their rows within the batch, in no particular order.
    pub(crate) rows: Vec<usize>,
    pub(crate) values: Vec<Opened>,
    pub(crate) plaintexts: Zeroizing<Vec<u8>>,
}

impl OpenedValues {
    pub(crate) fn plaintext(&self, index: usize) -> &[u8] {
        &self.plaintexts[self.values[index].plaintext.clone()]
    }
}

/// One column of a chunk, sorted out.
pub(crate) struct ColumnVerdicts {
    /// One per row of the chunk.
    pub(crate) verdicts: Vec<Verdict>,
    pub(crate) old: OpenedValues,
    /// Empty where values that name the new key are not opened.
    pub(crate) new: OpenedValues,
}

/// Sorts out one column of a chunk.
pub(crate) fn classify_column(job: &Job, chunk: &Chunk<'_>, column: usize, look: Look) -> ColumnVerdicts {
    let codecs = &job.codecs[column];
    let cells = &chunk.batch.columns[column];
    let mut verdicts = vec![Verdict::Null; chunk.end - chunk.start];
    let (mut named_new, mut unknown) = (Vec::new(), Vec::new());
    for row in chunk.rows() {
        let verdict = &mut verdicts[row - chunk.start];
        match cells.get(row) {
            None => {}
            Some([]) => *verdict = Verdict::Bad(Reason::Empty),
            Some(bytes) if codecs.names_new(bytes) => {
                *verdict = Verdict::New;
                named_new.push(row);
            }
            Some(bytes) if job.suppressed.holds(|| chunk.cell(job, column, row, bytes)) => {
                *verdict = Verdict::Bad(Reason::WriteSuppressed);
            }
            Some(_) => unknown.push(row),
        }
    }
    let mut sorted = ColumnVerdicts { verdicts, old: OpenedValues::default(), new: OpenedValues::default() };
    if look == Look::EveryValue {
        sorted.open_named_new(codecs, chunk, column, named_new);
    }
    let new_first = look != Look::OldFirst && !codecs.names_new_key();
    sorted.open_unknown(codecs, chunk, column, unknown, new_first);
    sorted
}

impl ColumnVerdicts {
    /// Opens what names the new key; what then does not open is damaged or was moved here.
    fn open_named_new(&mut self, codecs: &Codecs, chunk: &Chunk<'_>, column: usize, rows: Vec<usize>) {
        let (opened, failed) = open_rows(&codecs.to, chunk, column, rows);
        for (row, error) in failed {
            self.verdicts[row - chunk.start] = Verdict::Bad(reason_of(error, true));
        }
        self.new = opened;
    }

    /// Tries both keys, one after the other.
    fn open_unknown(
        &mut self,
        codecs: &Codecs,
        chunk: &Chunk<'_>,
        column: usize,
        rows: Vec<usize>,
        new_first: bool,
    ) {
        let (first, second) = if new_first { (&codecs.to, &codecs.from) } else { (&codecs.from, &codecs.to) };
        let (opened_first, failed) = open_rows(first, chunk, column, rows);
        let rows = failed.iter().map(|(row, _)| *row).collect();
        let (opened_second, failed_again) = open_rows(second, chunk, column, rows);
        // Both lists are in the order of the rows that were tried.
        let mut first_errors = failed.into_iter();
        for (row, second_error) in failed_again {
            let first_error = first_errors.find(|(tried, _)| *tried == row).map(|(_, error)| error);
            let first_names = first.format().key_prefix().is_some();
            let reasons = [
                first_error.map(|error| reason_of(error, first_names)),
                Some(reason_of(second_error, second.format().key_prefix().is_some())),
            ];
            let reason = reasons.into_iter().flatten().max_by_key(|reason| weight(*reason));
            self.verdicts[row - chunk.start] = Verdict::Bad(reason.unwrap_or(Reason::NotCiphertext));
        }
        let (old, new) =
            if new_first { (opened_second, opened_first) } else { (opened_first, opened_second) };
        old.rows.iter().for_each(|row| self.verdicts[row - chunk.start] = Verdict::Old);
        new.rows.iter().for_each(|row| self.verdicts[row - chunk.start] = Verdict::New);
        self.old = old;
        if !codecs.names_new_key() {
            self.new = new;
        }
    }
}

fn open_rows(
    codec: &Codec,
    chunk: &Chunk<'_>,
    column: usize,
    rows: Vec<usize>,
) -> (OpenedValues, Vec<(usize, OpenError)>) {
    if rows.is_empty() {
        return Default::default();
    }
    let cells = &chunk.batch.columns[column];
    let stored: Vec<&[u8]> = rows.iter().map(|&row| cells.get(row).unwrap_or_default()).collect();
    // Room for all at once: a buffer that grows leaves a copy of its plaintexts behind.
    let mut plaintexts = Zeroizing::new(Vec::with_capacity(stored.iter().map(|bytes| bytes.len()).sum()));
    let results = codec.open_many(&stored, &chunk.row_keys(&rows), &mut plaintexts);
    let mut opened = OpenedValues {
        rows: Vec::with_capacity(rows.len()),
        values: Vec::with_capacity(rows.len()),
        plaintexts,
    };
    let mut failed = Vec::new();
    for (row, result) in rows.into_iter().zip(results) {
        match result {
            Ok(value) => {
                opened.rows.push(row);
                opened.values.push(value);
            }
            Err(error) => failed.push((row, error)),
        }
    }
    (opened, failed)
}

/// What an error says about a value. A format that names its key and then does not open was damaged or moved.
fn reason_of(error: OpenError, names_key: bool) -> Reason {
    match error {
        OpenError::Malformed { .. } => Reason::NotCiphertext,
        OpenError::Unsupported { .. } => Reason::Unsupported,
        OpenError::OtherKey => Reason::UnknownKey,
        OpenError::TooLarge(_) => Reason::TooLarge,
        OpenError::EncodingNotNamed => Reason::EncodingNotNamed,
        OpenError::Unopened if names_key => Reason::Corrupt,
        _ => Reason::Unopened,
    }
}

/// Of two reasons the one that says more.
fn weight(reason: Reason) -> u8 {
    match reason {
        Reason::EncodingNotNamed => 7,
        Reason::UnknownKey => 6,
        Reason::Corrupt => 5,
        Reason::TooLarge => 4,
        Reason::Unsupported => 3,
        Reason::Unopened => 2,
        _ => 1,
    }
}
