//! The rows: three short values each, in every kind of ciphertext, loaded once and copied for each side.

use std::pin::pin;

use rayon::prelude::*;
use reseal_crypto::random::{OsRandom, RandomPool};
use reseal_crypto::{ColumnId, ColumnKey, KeyMaterial, SecretBytes};
use reseal_formats::{Codec, ColumnType, FormatSpec, Opened, Shape};
use reseal_sandbox::values::{Cell, Values};
use tokio_postgres::Client;
use tokio_postgres::binary_copy::BinaryCopyInWriter;
use tokio_postgres::types::Type;

use crate::BoxError;

/// The table that a side works on.
pub(super) const TABLE: &str = "t";
/// Its columns.
pub(super) const COLUMNS: [&str; 3] = ["a", "b", "c"];
/// Passphrases of the pgcrypto messages.
pub(super) const OLD_PASSPHRASE: &str = "the passphrase of last quarter";
pub(super) const NEW_PASSPHRASE: &str = "the passphrase of this quarter";

/// Rows that are sealed on one core at a time.
const CHUNK: i64 = 2048;
/// Chunks that are sealed before they are sent.
const CHUNKS_AHEAD: i64 = 16;

/// A kind of ciphertext, loaded under its old key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stock {
    /// Nonce, ciphertext, tag of AES-256-GCM in `bytea`: 40 to 50 bytes each.
    AesGcm,
    /// pgcrypto messages in base64, with pgcrypto's defaults.
    Pgcrypto,
    /// Fernet tokens.
    Fernet,
}

impl Stock {
    pub(super) const ALL: [Self; 3] = [Self::AesGcm, Self::Pgcrypto, Self::Fernet];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::AesGcm => "aes_gcm",
            Self::Pgcrypto => "pgcrypto",
            Self::Fernet => "fernet",
        }
    }

    pub(super) fn column_type(self) -> ColumnType {
        match self {
            Self::AesGcm => ColumnType::Bytes,
            Self::Pgcrypto | Self::Fernet => ColumnType::Text,
        }
    }

    /// How a plan file would describe it.
    pub(super) fn spec(self) -> Result<FormatSpec, BoxError> {
        let text = match self {
            Self::AesGcm => r#"{"format":"aes-gcm"}"#,
            Self::Pgcrypto => r#"{"format":"pgcrypto","encoding":"base64"}"#,
            Self::Fernet => r#"{"format":"fernet"}"#,
        };
        Ok(serde_json::from_str(text)?)
    }

    /// The old key in the form that this format takes.
    pub(super) fn old_key(self) -> KeyMaterial {
        self.key(0x11, OLD_PASSPHRASE)
    }

    /// The new key in the form that this format takes.
    pub(super) fn new_key(self) -> KeyMaterial {
        self.key(0x22, NEW_PASSPHRASE)
    }

    fn key(self, byte: u8, passphrase: &str) -> KeyMaterial {
        match self {
            Self::Pgcrypto => KeyMaterial::Foreign(SecretBytes::copy_from(passphrase.as_bytes())),
            Self::AesGcm | Self::Fernet => KeyMaterial::Column(ColumnKey::from_bytes(&[byte; 32])),
        }
    }

    fn sql_type(self) -> &'static str {
        match self.column_type() {
            ColumnType::Bytes => "bytea",
            ColumnType::Text => "text",
        }
    }

    /// Loads the rows 1 to `rows` into a table of their own.
    pub(super) async fn load(self, client: &Client, rows: i64) -> Result<(), BoxError> {
        let (base, kind) = (self.base(), self.sql_type());
        let table = format!("CREATE TABLE {base} (id bigint PRIMARY KEY, a {kind}, b {kind}, c {kind})");
        client.batch_execute(&table).await?;
        let copy = client.copy_in(&format!("COPY {base} FROM STDIN BINARY")).await?;
        let column = if self.column_type() == ColumnType::Bytes { Type::BYTEA } else { Type::TEXT };
        let types = [Type::INT8, column.clone(), column.clone(), column];
        let mut writer = pin!(BinaryCopyInWriter::new(copy, &types));
        let codec = self.spec()?.codec(self.column_type(), &self.old_key(), ColumnId([0; 16]))?;
        let firsts: Vec<i64> = (1..=rows).step_by(CHUNK as usize).collect();
        for some in firsts.chunks(CHUNKS_AHEAD as usize) {
            let sealed: Result<Vec<_>, BoxError> = some
                .par_iter()
                .map(|&first| Ok((first, seal(&codec, self, first, rows.min(first + CHUNK - 1))?)))
                .collect();
            for (first, values) in sealed? {
                for (id, row) in (first..).zip(values.chunks(3)) {
                    self.write(writer.as_mut(), id, row).await?;
                }
            }
        }
        writer.finish().await?;
        Ok(())
    }

    async fn write(
        self,
        writer: std::pin::Pin<&mut BinaryCopyInWriter>,
        id: i64,
        row: &[Vec<u8>],
    ) -> Result<(), BoxError> {
        if self.column_type() == ColumnType::Bytes {
            writer.write(&[&id, &row[0], &row[1], &row[2]]).await?;
        } else {
            let text = |index: usize| std::str::from_utf8(&row[index]);
            writer.write(&[&id, &text(0)?, &text(1)?, &text(2)?]).await?;
        }
        Ok(())
    }

    /// Puts the first `rows` rows into a table that has never been updated, vacuumed and analysed, with everything
    /// on disk; forgets earlier runs of reseal.
    pub(super) async fn fresh_copy(self, client: &Client, rows: i64) -> Result<(), BoxError> {
        let base = self.base();
        client
            .batch_execute(&format!(
                "DROP SCHEMA IF EXISTS reseal CASCADE;
                 DROP TABLE IF EXISTS {TABLE};
                 CREATE TABLE {TABLE} (LIKE {base});
                 INSERT INTO {TABLE} SELECT * FROM {base} WHERE id <= {rows} ORDER BY id;
                 ALTER TABLE {TABLE} ADD PRIMARY KEY (id)"
            ))
            .await?;
        for statement in [&format!("VACUUM ANALYZE {TABLE}"), "CHECKPOINT"] {
            client.batch_execute(statement).await?;
        }
        Ok(())
    }

    fn base(self) -> String {
        format!("base_{}", self.name())
    }
}

/// What a value says: 12 to 22 bytes, so that a sealed AES-GCM value has 40 to 50.
pub(super) fn plaintext(id: i64, column: usize) -> String {
    let mut text = Values::new(1).plaintext(Cell { id, column }, 0);
    while text.len() > 22 {
        text.pop();
    }
    while text.len() < 12 {
        text.push('.');
    }
    text
}

/// Seals the values of some rows, three in a row.
fn seal(codec: &Codec, stock: Stock, first: i64, last: i64) -> Result<Vec<Vec<u8>>, BoxError> {
    let (mut plaintexts, mut places) = (Vec::new(), Vec::new());
    for id in first..=last {
        for column in 0..COLUMNS.len() {
            let start = plaintexts.len();
            plaintexts.extend_from_slice(plaintext(id, column).as_bytes());
            places.push(start..plaintexts.len());
        }
    }
    let encoding = codec.encoding();
    let opened: Vec<Opened> =
        places.into_iter().map(|plaintext| Opened { plaintext, shape: Shape::Plain, encoding }).collect();
    let mut sealed = Vec::new();
    let none = vec![None; opened.len()];
    let ranges =
        codec.seal_many(&plaintexts, &opened, &none, &mut RandomPool::new(&OsRandom), &mut sealed)?;
    let short = stock == Stock::AesGcm && ranges.iter().any(|range| !(40..=50).contains(&range.len()));
    if short {
        return Err("the values are not 40 to 50 bytes long".into());
    }
    Ok(ranges.into_iter().map(|range| sealed[range].to_vec()).collect())
}
