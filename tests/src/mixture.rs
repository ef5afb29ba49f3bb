//! Input of every class that is no good, with what must become of it. Its checks panic, as assertions do.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use reseal_engine::{Census, Outcome, Reason, RunId, Status};
use reseal_formats::ColumnType;
use reseal_sandbox::seal::{Key, Sealer};
use reseal_sandbox::values::Cell;
use serde_json::json;

use crate::scheme::{Scheme, Stored, TwoKeys, key_text};

/// The run.
pub const RUN: RunId = RunId([0x6B; 16]);

/// What stands in column `a` of a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Class {
    /// A message under the old key that was cut short.
    Truncated,
    /// One with a flipped bit.
    Flipped,
    /// A message of another format.
    OtherFormat,
    /// A message of the old format under a third key.
    ThirdKeyOld,
    /// A message of the new format under a third key.
    ThirdKeyNew,
    /// A message under the new key.
    AlreadyNew,
    /// Nothing, but not NULL.
    Empty,
    /// NULL.
    Null,
    /// A message under the old key.
    Good,
}

/// The classes in the order of the rows; the rest is good.
pub const CLASSES: [Class; 9] = [
    Class::Truncated,
    Class::Flipped,
    Class::OtherFormat,
    Class::ThirdKeyOld,
    Class::ThirdKeyNew,
    Class::AlreadyNew,
    Class::Empty,
    Class::Null,
    Class::Good,
];

/// Key, column `a`, column `b`.
pub type StoredRow = (i64, Option<Vec<u8>>, Option<Vec<u8>>);

/// The rows of the table and what they are.
#[derive(Debug)]
pub struct Mixture {
    /// Rows of each class but the good one: 1 %.
    pub each: u64,
    /// The rows.
    pub rows: Vec<StoredRow>,
    names_key: bool,
    text: bool,
}

/// The class of a row: spread over the whole table.
fn class_of(id: i64) -> Class {
    CLASSES[(id as usize % 100).min(CLASSES.len() - 1)]
}

fn plaintext(column: usize, id: i64) -> String {
    format!("column {column} of row {id}")
}

impl Mixture {
    /// Makes the rows.
    pub fn new(scheme: &Scheme, keys: &TwoKeys, rows: u64) -> Self {
        let third = Scheme {
            old: with_third_key(&scheme.old, "a third passphrase"),
            new: with_third_key(&scheme.new, "another third passphrase"),
            ..scheme.clone()
        };
        let fernet = json!({ "format": "fernet", "encoding": if is_text(scheme) { "text" } else { "raw" } });
        let other = Scheme { old: Stored::new(fernet, &key_text(0x33)), ..scheme.clone() };
        let makers =
            Makers { ours: keys, third: third.two_keys(1), other: other.two_keys(1), text: is_text(scheme) };
        let ids: Vec<i64> = (0..rows as i64).collect();
        let b = seal_all(keys, Key::Old, 1, &ids);
        let good = seal_all(keys, Key::Old, 0, &ids);
        let rows = ids.iter().zip(good).zip(b).map(|((&id, good), b)| (id, makers.make(id, good), Some(b)));
        let names_key = keys_are_named(scheme);
        Self { each: ids.len() as u64 / 100, rows: rows.collect(), names_key, text: is_text(scheme) }
    }

    /// How many values are quarantined for a reason.
    pub fn count(&self, reason: Reason) -> u64 {
        CLASSES.iter().filter(|class| self.reason(**class) == Some(reason)).count() as u64 * self.each
    }

    /// Every class is counted exactly: in the quarantine, in the proof, and by a verification of every value.
    pub fn check_counts(&self, outcome: &Outcome, status: &Status, verified: &Census) {
        let (rows, each) = (self.rows.len() as u64, self.each);
        let quarantined: u64 = Reason::ALL.iter().map(|reason| self.count(*reason)).sum();
        let [a, b] = [outcome.tallies[0], outcome.tallies[1]];
        println!("{a:?} {b:?}");
        assert_eq!(a.rewritten, rows - quarantined - 2 * each);
        assert_eq!(b.rewritten, rows, "the other column of every row is rewritten");
        // On Postgres some rows move while they are rewritten and are seen again.
        assert!(a.quarantined >= quarantined && a.null >= each && a.already_new >= each && a.missed == 0);
        for reason in Reason::ALL {
            let expected = self.count(reason);
            assert_eq!(status.quarantine.of(reason), expected, "recorded as {reason}");
            assert_eq!(outcome.proof.columns[0].left.of(reason), expected, "proved as {reason}");
            assert_eq!(verified.columns[0].left.of(reason), expected, "verified as {reason}");
            println!("{reason}: {expected}");
        }
        // Empty values are counted, and are no fault.
        let faults = quarantined - self.count(Reason::Empty);
        assert_eq!((outcome.quarantined(), outcome.proof.old()), (faults, 0));
        assert_eq!(outcome.proof.empty(), self.count(Reason::Empty));
        let [a, b] = [verified.columns[0], verified.columns[1]];
        assert_eq!((a.null, a.old, a.new, a.unopened()), (each, 0, rows - each - quarantined, faults));
        assert_eq!((b.null, b.old, b.new, b.unopened()), (0, 0, rows, 0));
    }

    fn reason(&self, class: Class) -> Option<Reason> {
        Some(match class {
            Class::AlreadyNew | Class::Null | Class::Good => return None,
            Class::Empty => Reason::Empty,
            Class::ThirdKeyNew if self.names_key => Reason::UnknownKey,
            // Only pgcrypto's packets say that they are none, or cut short; raw bytes simply do not open.
            Class::Truncated | Class::OtherFormat if self.text => Reason::NotCiphertext,
            _ => Reason::Unopened,
        })
    }

    /// Every row holds what it must: bad values their old bytes, the others their plaintext under the new key.
    pub fn check_rows(&self, keys: &TwoKeys, stored: &[StoredRow]) {
        assert_eq!(stored.len(), self.rows.len());
        for ((id, before, _), (id_after, after, b)) in self.rows.iter().zip(stored) {
            assert_eq!(id, id_after);
            let class = class_of(*id);
            let opens = |column, stored: &Option<Vec<u8>>| {
                let opened = keys.open(Cell { id: *id, column }, stored.as_deref().unwrap());
                let opened =
                    opened.unwrap_or_else(|| panic!("row {id}, {class:?}: column {column} does not open"));
                assert_eq!((opened.key, opened.plaintext), (Key::New, plaintext(column, *id).into_bytes()));
            };
            opens(1, b);
            match class {
                Class::Good => opens(0, after),
                _ => assert_eq!(before, after, "row {id}, {class:?}: the bytes are untouched"),
            }
        }
    }
}

struct Makers<'a> {
    ours: &'a TwoKeys,
    third: TwoKeys,
    other: TwoKeys,
    text: bool,
}

impl Makers<'_> {
    fn make(&self, id: i64, good: Vec<u8>) -> Option<Vec<u8>> {
        let cell = Cell { id, column: 0 };
        let seal = |keys: &TwoKeys, key| Some(keys.seal(key, cell, &plaintext(0, id)));
        match class_of(id) {
            Class::Good => Some(good),
            Class::Null => None,
            Class::Empty => Some(Vec::new()),
            Class::AlreadyNew => seal(self.ours, Key::New),
            Class::ThirdKeyOld => seal(&self.third, Key::Old),
            Class::ThirdKeyNew => seal(&self.third, Key::New),
            Class::OtherFormat => seal(&self.other, Key::Old),
            Class::Truncated => self.changed(&good, |bytes| bytes.truncate(bytes.len() - 6)),
            // The last 25 bytes are ciphertext in every format here.
            Class::Flipped => self.changed(&good, |bytes| {
                let place = bytes.len() - 1 - id as usize % 25;
                bytes[place] ^= 1 << (id % 8);
            }),
        }
    }

    /// Changes the bytes of a message, whatever text they stand in.
    fn changed(&self, stored: &[u8], change: impl FnOnce(&mut Vec<u8>)) -> Option<Vec<u8>> {
        if !self.text {
            let mut bytes = stored.to_vec();
            change(&mut bytes);
            return Some(bytes);
        }
        let characters: Vec<u8> = stored.iter().copied().filter(|byte| *byte != b'\n').collect();
        let mut bytes = STANDARD.decode(characters).unwrap();
        change(&mut bytes);
        let lines = STANDARD.encode(bytes).into_bytes();
        Some(lines.chunks(76).collect::<Vec<_>>().join(&b'\n'))
    }
}

fn seal_all(keys: &TwoKeys, key: Key, column: usize, ids: &[i64]) -> Vec<Vec<u8>> {
    let plain: Vec<String> = ids.iter().map(|id| plaintext(column, *id)).collect();
    let cells = ids.iter().map(|id| Cell { id: *id, column });
    let values: Vec<(Cell, &str)> = cells.zip(plain.iter().map(String::as_str)).collect();
    keys.seal_many(key, &values).unwrap()
}

fn with_third_key(stored: &Stored, passphrase: &str) -> Stored {
    let key = if stored.spec.name() == "pgcrypto" { passphrase.to_owned() } else { key_text(0x33) };
    Stored { key, ..stored.clone() }
}

fn is_text(scheme: &Scheme) -> bool {
    scheme.column_type == ColumnType::Text
}

fn keys_are_named(scheme: &Scheme) -> bool {
    scheme.new.spec.name() == "reseal"
}
