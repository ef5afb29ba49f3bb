//! Wrong and mixed input: every class is counted exactly and left as it is.

use crate::file::{File, plaintext, value};
use crate::support::{Codecs, assert_balanced, open, seal};
use reseal_crypto::RowKey;
use reseal_engine::{Reason, RunPlan};
use rusqlite::types::Value;

/// Rows, of which every hundredth belongs to each class.
const ROWS: i64 = 10_000;

/// What stands in a column instead of a value under the old key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Class {
    Truncated,
    Flipped,
    OtherFormat,
    ThirdKey,
    AlreadyNew,
    Empty,
    Null,
}

const CLASSES: [Class; 7] = [
    Class::Truncated,
    Class::Flipped,
    Class::OtherFormat,
    Class::ThirdKey,
    Class::AlreadyNew,
    Class::Empty,
    Class::Null,
];

impl Class {
    /// The class and the column of a row, if it belongs to one: each class in each column by turns.
    fn of(id: i64) -> Option<(Self, usize)> {
        let class = *CLASSES.get(usize::try_from(id % 100).ok()?)?;
        Some((class, (id / 100 % 3) as usize))
    }

    fn value(self, plan: &RunPlan, codecs: &Codecs, id: i64, column: usize) -> Value {
        let row = RowKey::default().integer(id);
        let old = seal(&codecs.old[column], &row, &plaintext(id, column));
        let bytes = match self {
            Self::Truncated => old[..old.len() - 16].to_vec(),
            Self::Flipped => flip(old),
            Self::OtherFormat => b"-----BEGIN PGP MESSAGE-----".to_vec(),
            Self::ThirdKey => seal(&codecs.third[column], &row, &plaintext(id, column)),
            Self::AlreadyNew => seal(&codecs.new[column], &row, &plaintext(id, column)),
            Self::Empty => Vec::new(),
            Self::Null => return Value::Null,
        };
        value(plan.columns[column].column_type, bytes)
    }

    fn is_quarantined(self) -> bool {
        !matches!(self, Self::AlreadyNew | Self::Null)
    }
}

/// Changes the middle of a value to another character of its alphabet, or to another byte.
fn flip(mut value: Vec<u8>) -> Vec<u8> {
    let middle = value.len() / 2;
    value[middle] = if value[middle] == b'A' { b'B' } else { b'A' };
    value
}

#[tokio::test(flavor = "multi_thread")]
async fn mixed_input_sqlite() {
    let (file, plan) = File::loaded(ROWS);
    let codecs = Codecs::new(&plan);
    file.execute("BEGIN");
    for (id, (class, column)) in (1..=ROWS).filter_map(|id| Some((id, Class::of(id)?))) {
        file.set(id, &plan.columns[column].name, class.value(&plan, &codecs, id, column));
    }
    file.execute("COMMIT");
    let before: Vec<_> = (1..=ROWS).map(|id| file.cells(&plan, id)).collect();

    let outcome = file.engine(&plan).run().await.expect("runs to its end");

    assert_balanced(&outcome);
    assert_counts(&outcome.tallies);
    let each = ROWS as u64 / 100;
    assert_eq!((outcome.quarantined(), outcome.proof.empty()), (4 * each, each));
    for (id, before) in (1..=ROWS).zip(before) {
        assert_row(&plan, &codecs, id, before, file.cells(&plan, id));
    }
    assert_reasons(&file, &plan).await;
}

fn assert_counts(tallies: &[reseal_engine::Tally]) {
    for (column, tally) in tallies.iter().enumerate() {
        let count = |wanted: fn(Class) -> bool| {
            let classes = (1..=ROWS).filter_map(Class::of);
            classes.filter(|(class, place)| *place == column && wanted(*class)).count() as u64
        };
        assert_eq!(tally.seen, ROWS as u64, "one pass");
        assert_eq!(tally.null, count(|class| class == Class::Null));
        assert_eq!(tally.already_new, count(|class| class == Class::AlreadyNew));
        assert_eq!(tally.quarantined, count(Class::is_quarantined));
        assert_eq!(tally.rewritten, ROWS as u64 - count(|_| true));
    }
}

/// Quarantined bytes are untouched; the other columns of the row are under the new key.
fn assert_row(
    plan: &RunPlan,
    codecs: &Codecs,
    id: i64,
    before: [Option<Vec<u8>>; 3],
    after: [Option<Vec<u8>>; 3],
) {
    let class = Class::of(id);
    for (column, (before, after)) in before.into_iter().zip(after).enumerate() {
        if class.is_some_and(|(_, place)| place == column) {
            assert_eq!(before, after, "row {id}, {}: {class:?}", plan.columns[column].name);
            continue;
        }
        let stored = after.expect("not NULL");
        let opened = open(&codecs.new[column], &RowKey::default().integer(id), &stored);
        assert_eq!(opened, Some(plaintext(id, column)), "row {id}");
    }
}

async fn assert_reasons(file: &File, plan: &RunPlan) {
    let quarantine = file.engine(plan).quarantined(u64::MAX).await.expect("readable");
    let mut reasons = std::collections::BTreeMap::new();
    for record in &quarantine {
        let known = (1..=ROWS).find(|id| RowKey::default().integer(*id).as_bytes() == record.row_key);
        let id = known.expect("the key of a row");
        let (class, column) = Class::of(id).expect("a row that belongs to a class");
        assert_eq!(record.column, plan.columns[column].name);
        let expected: &[Reason] = match class {
            Class::Empty => &[Reason::Empty],
            Class::OtherFormat => &[Reason::NotCiphertext, Reason::Unopened],
            Class::ThirdKey | Class::Flipped => &[Reason::Unopened],
            _ => &[Reason::Unopened, Reason::NotCiphertext],
        };
        assert!(expected.contains(&record.reason), "{class:?} in column {column}: {}", record.reason);
        *reasons.entry(format!("{class:?}")).or_insert(0) += 1;
    }
    let each = ROWS / 100;
    let expected =
        ["Empty", "Flipped", "OtherFormat", "ThirdKey", "Truncated"].map(|class| (class.to_owned(), each));
    assert_eq!(reasons, expected.into());
}
