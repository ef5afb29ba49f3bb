//! The two keys of a rotation, as the application under test and the engine use them.

use rayon::prelude::*;
use reseal_crypto::random::{OsRandom, RandomPool};
use reseal_crypto::text::encode_key;
use reseal_crypto::{ColumnId, ColumnKey, KeyMaterial, KeyRef, Keyring, RowKey, SecretBytes};
use reseal_engine::plan::Side;
use reseal_engine::{ColumnPlan, Direction, Job, KeyColumn, KeyType, RunId, RunKey, RunPlan, TableName};
use reseal_formats::{Codec, ColumnType, FormatSpec, Shape};
use reseal_sandbox::seal::{Key, Opened, Sealer, SealerError};
use reseal_sandbox::values::Cell;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// Values that are opened by one task.
const CHUNK: usize = 512;

/// One way of storing values under one key.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Stored {
    /// The format.
    pub spec: FormatSpec,
    /// The key as people write it.
    pub key: String,
}

impl Stored {
    /// A format as a plan file describes it, and its key.
    ///
    /// # Panics
    ///
    /// If there is no such format.
    pub fn new(spec: Value, key: &str) -> Self {
        Self { spec: serde_json::from_value(spec).expect("a format"), key: key.to_owned() }
    }

    /// The key as the vault would hand it over.
    fn material(&self) -> KeyMaterial {
        match self.spec {
            FormatSpec::Reseal(_) => {
                KeyMaterial::Column(ColumnKey::from_text(self.key.as_bytes()).expect("a column key"))
            }
            _ => KeyMaterial::Foreign(SecretBytes::copy_from(self.key.as_bytes())),
        }
    }

    /// The codec of a column.
    ///
    /// # Panics
    ///
    /// If the key does not serve the format.
    pub fn codec(&self, column_type: ColumnType, column: ColumnId) -> Codec {
        self.spec.codec(column_type, &self.material(), column).expect("the key serves the format")
    }
}

/// The old and the new way of storing the encrypted columns of a table.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Scheme {
    /// How it stands before.
    pub old: Stored,
    /// How it stands afterwards.
    pub new: Stored,
    /// Type of the columns.
    pub column_type: ColumnType,
    /// The ids of the columns, in order.
    pub ids: Vec<[u8; 16]>,
}

/// The text form of a key of 32 equal bytes.
pub fn key_text(byte: u8) -> String {
    encode_key(&[byte; 32]).as_str().to_owned()
}

/// Column ids from their 32 hex digits.
///
/// # Panics
///
/// If one is none.
pub fn column_ids(digits: impl Iterator<Item = String>) -> Vec<[u8; 16]> {
    // Run ids have the same form.
    digits.map(|digits| RunId::from_hex(&digits).expect("32 hex digits").0).collect()
}

fn three_ids() -> Vec<[u8; 16]> {
    vec![[0xC0; 16], [0xC1; 16], [0xC2; 16]]
}

impl Scheme {
    /// pgcrypto under another passphrase: neither side names its key.
    pub fn pgcrypto_to_pgcrypto() -> Self {
        let format = json!({ "format": "pgcrypto" });
        Self {
            old: Stored::new(format.clone(), "the old passphrase"),
            new: Stored::new(format, "the new passphrase"),
            column_type: ColumnType::Text,
            ids: three_ids(),
        }
    }

    /// pgcrypto to our envelope.
    pub fn pgcrypto_to_envelope() -> Self {
        Self { new: Self::envelope("column"), ..Self::pgcrypto_to_pgcrypto() }
    }

    /// Fernet to our envelope.
    pub fn fernet_to_envelope() -> Self {
        Self {
            old: Stored::new(json!({ "format": "fernet" }), &key_text(0x11)),
            new: Self::envelope("column"),
            column_type: ColumnType::Text,
            ids: three_ids(),
        }
    }

    /// Raw AES-GCM under another key: neither side names its key.
    pub fn aes_gcm_to_aes_gcm() -> Self {
        let format = json!({ "format": "aes-gcm" });
        Self {
            old: Stored::new(format.clone(), &key_text(0x12)),
            new: Stored::new(format, &key_text(0x23)),
            column_type: ColumnType::Bytes,
            ids: three_ids(),
        }
    }

    /// Raw AES-GCM to our envelope, bound to its row.
    pub fn aes_gcm_to_row_envelope() -> Self {
        Self { new: Self::envelope("row"), ..Self::aes_gcm_to_aes_gcm() }
    }

    fn envelope(binding: &str) -> Stored {
        Stored::new(json!({ "format": "reseal", "binding": binding }), &key_text(0x22))
    }

    /// The keys of both sides.
    ///
    /// # Panics
    ///
    /// If a key does not serve its format.
    pub fn keyring(&self) -> Keyring {
        let mut keyring = Keyring::default();
        for (name, stored) in [("old", &self.old), ("new", &self.new)] {
            keyring.insert(key_ref(name), stored.material()).expect("two different keys");
        }
        keyring
    }

    /// The frozen plan of a run over a table with an integer key `id`.
    pub fn plan(&self, run: RunId, schema: &str, table: &str, columns: &[&str]) -> RunPlan {
        let side = |name: &str, stored: &Stored| Side { spec: stored.spec.clone(), key: key_ref(name) };
        let column = |(index, name): (usize, &&str)| ColumnPlan {
            name: (*name).to_owned(),
            column_type: self.column_type,
            id: self.id(index),
            replaces: None,
            from: side("old", &self.old),
            to: side("new", &self.new),
        };
        RunPlan {
            run,
            direction: Direction::Forward,
            supersedes: None,
            table: TableName { schema: schema.to_owned(), name: table.to_owned() },
            key: vec![KeyColumn { name: "id".to_owned(), kind: KeyType::Integer }],
            columns: columns.iter().enumerate().map(column).collect(),
        }
    }

    /// The id of a column by its number.
    pub fn id(&self, column: usize) -> ColumnId {
        ColumnId(self.ids[column])
    }

    /// The plan of a run joined with its keys.
    ///
    /// # Panics
    ///
    /// If a key does not serve its format.
    pub fn job(&self, plan: RunPlan) -> Job {
        Job::new(plan, &self.keyring(), &run_key()).expect("the keys serve the plan")
    }

    /// What the application encrypts with.
    pub fn two_keys(&self, columns: usize) -> TwoKeys {
        let side = |stored: &Stored| -> Vec<Codec> {
            (0..columns).map(|column| stored.codec(self.column_type, self.id(column))).collect()
        };
        TwoKeys { old: side(&self.old), new: side(&self.new) }
    }
}

/// The key of the account, the same in every test.
pub fn run_key() -> RunKey {
    RunKey::from_bytes(&[0x77; 32])
}

fn key_ref(name: &str) -> KeyRef {
    KeyRef { secret: name.to_owned(), version: 1 }
}

/// Seals and opens as an application that knows both keys: independent of how the engine sorts values out.
#[derive(Debug)]
pub struct TwoKeys {
    old: Vec<Codec>,
    new: Vec<Codec>,
}

impl TwoKeys {
    /// Seals one value.
    ///
    /// # Panics
    ///
    /// If the system has no random bytes.
    pub fn seal(&self, key: Key, cell: Cell, plaintext: &str) -> Vec<u8> {
        let mut sealed = self.seal_many(key, &[(cell, plaintext)]).expect("sealing works");
        sealed.pop().expect("one value gives one message")
    }

    /// Opens one value under whichever key opens it; `None` where neither or both do.
    pub fn open(&self, cell: Cell, stored: &[u8]) -> Option<Opened> {
        self.open_many(&[(cell, stored)]).pop().flatten()
    }

    fn codecs(&self, key: Key) -> &[Codec] {
        match key {
            Key::Old => &self.old,
            Key::New => &self.new,
        }
    }

    /// The plaintexts of values of one column that open under one key.
    fn open_column(&self, key: Key, column: usize, values: &[(Cell, &[u8])]) -> Vec<Option<Vec<u8>>> {
        let rows: Vec<RowKey> = values.iter().map(|(cell, _)| row_key(cell)).collect();
        let rows: Vec<Option<&RowKey>> = rows.iter().map(Some).collect();
        let stored: Vec<&[u8]> = values.iter().map(|(_, stored)| *stored).collect();
        let mut plaintexts = Vec::new();
        let opened = self.codecs(key)[column].open_many(&stored, &rows, &mut plaintexts);
        opened.into_iter().map(|value| Some(plaintexts[value.ok()?.plaintext].to_vec())).collect()
    }

    fn open_chunk(&self, values: &[(Cell, &[u8])]) -> Vec<Option<Opened>> {
        let mut found = vec![None; values.len()];
        for column in 0..self.old.len() {
            let places: Vec<usize> =
                (0..values.len()).filter(|place| values[*place].0.column == column).collect();
            let ours: Vec<(Cell, &[u8])> = places.iter().map(|place| values[*place]).collect();
            let old = self.open_column(Key::Old, column, &ours);
            let new = self.open_column(Key::New, column, &ours);
            for (place, pair) in places.into_iter().zip(old.into_iter().zip(new)) {
                found[place] = match pair {
                    (Some(plaintext), None) => Some(Opened { key: Key::Old, plaintext }),
                    (None, Some(plaintext)) => Some(Opened { key: Key::New, plaintext }),
                    _ => None,
                };
            }
        }
        found
    }
}

impl Sealer for TwoKeys {
    fn seal_many(&self, key: Key, values: &[(Cell, &str)]) -> Result<Vec<Vec<u8>>, SealerError> {
        let chunks: Result<Vec<Vec<Vec<u8>>>, SealerError> = values
            .par_chunks(CHUNK)
            .map(|values| {
                let mut sealed = vec![Vec::new(); values.len()];
                for (column, codec) in self.codecs(key).iter().enumerate() {
                    seal_column(codec, column, values, &mut sealed)?;
                }
                Ok(sealed)
            })
            .collect();
        Ok(chunks?.into_iter().flatten().collect())
    }

    fn open_many(&self, values: &[(Cell, &[u8])]) -> Vec<Option<Opened>> {
        values.par_chunks(CHUNK).flat_map_iter(|values| self.open_chunk(values)).collect()
    }
}

/// Seals those values that belong to one column.
fn seal_column(
    codec: &Codec,
    column: usize,
    values: &[(Cell, &str)],
    sealed: &mut [Vec<u8>],
) -> Result<(), SealerError> {
    let places: Vec<usize> = (0..values.len()).filter(|place| values[*place].0.column == column).collect();
    let rows: Vec<RowKey> = places.iter().map(|place| row_key(&values[*place].0)).collect();
    let rows: Vec<Option<&RowKey>> = rows.iter().map(Some).collect();
    let mut plaintexts = Vec::new();
    let opened: Vec<reseal_formats::Opened> = places
        .iter()
        .map(|place| {
            let start = plaintexts.len();
            plaintexts.extend_from_slice(values[*place].1.as_bytes());
            reseal_formats::Opened {
                plaintext: start..plaintexts.len(),
                shape: Shape::Plain,
                encoding: codec.encoding(),
            }
        })
        .collect();
    let mut out = Vec::new();
    let mut random = RandomPool::new(&OsRandom);
    let messages = codec.seal_many(&plaintexts, &opened, &rows, &mut random, &mut out)?;
    for (place, message) in places.into_iter().zip(messages) {
        sealed[place] = out[message].to_vec();
    }
    Ok(())
}

fn row_key(cell: &Cell) -> RowKey {
    RowKey::default().integer(cell.id)
}
