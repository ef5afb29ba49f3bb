//! Plans with their keys, and values sealed and opened as an application would.

#![allow(dead_code, unreachable_pub, reason = "shared by test binaries, each of which uses its part")]

use reseal_crypto::random::{OsRandom, RandomPool};
use reseal_crypto::{ColumnId, ColumnKey, KeyMaterial, KeyRef, Keyring, RowKey};
use reseal_engine::{
    ColumnPlan, Direction, Job, KeyColumn, KeyType, Outcome, RunId, RunKey, RunPlan, Side, TableName,
};
use reseal_formats::{Codec, ColumnType, FormatSpec, Opened};

pub const OLD: u64 = 1;
pub const NEW: u64 = 2;
pub const THIRD: u64 = 3;

/// One column of a test's plan: name, type, the format before and after.
pub type Column = (&'static str, ColumnType, &'static str, &'static str);

pub const GCM: &str = r#"{"format": "aes-gcm", "encoding": "raw"}"#;
pub const GCM_TEXT: &str = r#"{"format": "aes-gcm", "encoding": "base64"}"#;
pub const FERNET: &str = r#"{"format": "fernet"}"#;
pub const RESEAL: &str = r#"{"format": "reseal"}"#;
pub const RESEAL_ROW: &str = r#"{"format": "reseal", "binding": "row"}"#;

pub fn spec(json: &str) -> FormatSpec {
    serde_json::from_str(json).expect("a format")
}

pub fn key_ref(version: u64) -> KeyRef {
    KeyRef { secret: "clients/columns".into(), version }
}

pub fn keyring() -> Keyring {
    let mut keyring = Keyring::default();
    for version in [OLD, NEW, THIRD] {
        let key = KeyMaterial::Column(ColumnKey::from_bytes(&[version as u8; 32]));
        keyring.insert(key_ref(version), key).expect("handles differ");
    }
    keyring
}

/// A plan for `main.TABLE` with this key.
pub fn plan(table: &str, key: &[(&str, KeyType)], columns: &[Column]) -> RunPlan {
    let column = |(index, (name, column_type, from, to)): (usize, &Column)| ColumnPlan {
        name: (*name).into(),
        column_type: *column_type,
        id: ColumnId([index as u8 + 1; 16]),
        replaces: None,
        from: Side { spec: spec(from), key: key_ref(OLD) },
        to: Side { spec: spec(to), key: key_ref(NEW) },
    };
    RunPlan {
        run: RunId::generate(&OsRandom).expect("random"),
        direction: Direction::Forward,
        supersedes: None,
        table: TableName { schema: "main".into(), name: table.into() },
        key: key.iter().map(|(name, kind)| KeyColumn { name: (*name).into(), kind: *kind }).collect(),
        columns: columns.iter().enumerate().map(column).collect(),
    }
}

pub const RUN_KEY: [u8; 32] = [77; 32];

pub fn job(plan: RunPlan) -> Job {
    Job::new(plan, &keyring(), &RunKey::from_bytes(&RUN_KEY)).expect("the plan holds together")
}

/// Both sides of every column of a plan, and a key that it does not name.
pub struct Codecs {
    pub old: Vec<Codec>,
    pub new: Vec<Codec>,
    pub third: Vec<Codec>,
}

impl Codecs {
    pub fn new(plan: &RunPlan) -> Self {
        let keyring = keyring();
        let codec = |column: &ColumnPlan, spec: &FormatSpec, key: &KeyRef| {
            let key = keyring.get(key).expect("in the keyring");
            spec.codec(column.column_type, key, column.id).expect("a codec")
        };
        let all = |make: &dyn Fn(&ColumnPlan) -> Codec| plan.columns.iter().map(make).collect();
        Self {
            old: all(&|column| codec(column, &column.from.spec, &column.from.key)),
            new: all(&|column| codec(column, &column.to.spec, &column.to.key)),
            third: all(&|column| codec(column, &column.from.spec, &key_ref(THIRD))),
        }
    }
}

/// Seals one value.
pub fn seal(codec: &Codec, row: &RowKey, plaintext: &[u8]) -> Vec<u8> {
    let opened =
        Opened { plaintext: 0..plaintext.len(), shape: Default::default(), encoding: codec.encoding() };
    let mut out = Vec::new();
    let mut pool = RandomPool::new(&OsRandom);
    codec.seal_many(plaintext, &[opened], &[Some(row)], &mut pool, &mut out).expect("seals");
    out
}

/// Opens one value; `None` if it does not open.
pub fn open(codec: &Codec, row: &RowKey, stored: &[u8]) -> Option<Vec<u8>> {
    let mut plaintexts = Vec::new();
    let opened = codec.open_many(&[stored], &[Some(row)], &mut plaintexts).remove(0).ok()?;
    Some(plaintexts[opened.plaintext].to_vec())
}

/// Asserts that the account of a run adds up.
#[track_caller]
pub fn assert_balanced(outcome: &Outcome) {
    assert!(outcome.tallies.iter().all(|tally| tally.balances()), "{:?}", outcome.tallies);
}
