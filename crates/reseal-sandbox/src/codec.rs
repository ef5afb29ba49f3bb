//! The application with the formats of reseal: what the demo and most tests write and read back with.

use rayon::prelude::*;
use reseal_crypto::RowKey;
use reseal_crypto::random::{OsRandom, RandomPool};
use reseal_formats::{Codec, Opened as OpenedAs, Shape};

use crate::seal::{Key, Opened, Sealer, SealerError};
use crate::values::Cell;

/// Values that one core works on at a time.
const CHUNK: usize = 512;

/// The codecs of one column under both keys.
#[derive(Debug)]
pub struct ColumnCodecs {
    /// Under the key that is being replaced.
    pub old: Codec,
    /// Under the key that replaces it.
    pub new: Codec,
}

/// Encrypts and decrypts by a pair of codecs per column, on all cores.
///
/// A value that opens under both keys counts as one that opens under neither: there must be exactly one.
#[derive(Debug)]
pub struct CodecSealer {
    columns: [ColumnCodecs; 3],
}

impl CodecSealer {
    /// An application with these codecs, in the order of the columns.
    pub fn new(columns: [ColumnCodecs; 3]) -> Self {
        Self { columns }
    }

    fn codec(&self, column: usize, key: Key) -> &Codec {
        match key {
            Key::Old => &self.columns[column].old,
            Key::New => &self.columns[column].new,
        }
    }

    fn seal_chunk(&self, key: Key, values: &[(Cell, &str)]) -> Result<Vec<Vec<u8>>, SealerError> {
        let mut random = RandomPool::new(&OsRandom);
        let seal = |(cell, text): &(Cell, &str)| {
            let codec = self.codec(cell.column, key);
            let plaintext =
                OpenedAs { plaintext: 0..text.len(), shape: Shape::Plain, encoding: codec.encoding() };
            let row = RowKey::default().integer(cell.id);
            let mut stored = Vec::new();
            codec.seal_many(text.as_bytes(), &[plaintext], &[Some(&row)], &mut random, &mut stored)?;
            Ok(stored)
        };
        values.iter().map(seal).collect()
    }

    fn open_chunk(&self, values: &[(Cell, &[u8])]) -> Vec<Option<Opened>> {
        let mut results: Vec<Option<Opened>> = values.iter().map(|_| None).collect();
        let rows: Vec<RowKey> = values.iter().map(|(cell, _)| RowKey::default().integer(cell.id)).collect();
        for column in 0..self.columns.len() {
            let places: Vec<usize> =
                (0..values.len()).filter(|&place| values[place].0.column == column).collect();
            let stored: Vec<&[u8]> = places.iter().map(|&place| values[place].1).collect();
            let rows: Vec<Option<&RowKey>> = places.iter().map(|&place| Some(&rows[place])).collect();
            let old = open_under(self.codec(column, Key::Old), Key::Old, &stored, &rows);
            let new = open_under(self.codec(column, Key::New), Key::New, &stored, &rows);
            for ((place, old), new) in places.into_iter().zip(old).zip(new) {
                results[place] = old.xor(new);
            }
        }
        results
    }
}

impl Sealer for CodecSealer {
    fn seal_many(&self, key: Key, values: &[(Cell, &str)]) -> Result<Vec<Vec<u8>>, SealerError> {
        if values.len() <= CHUNK {
            return self.seal_chunk(key, values);
        }
        let sealed: Result<Vec<_>, _> =
            values.par_chunks(CHUNK).map(|chunk| self.seal_chunk(key, chunk)).collect();
        Ok(sealed?.into_iter().flatten().collect())
    }

    fn open_many(&self, values: &[(Cell, &[u8])]) -> Vec<Option<Opened>> {
        values.par_chunks(CHUNK).flat_map_iter(|chunk| self.open_chunk(chunk)).collect()
    }
}

fn open_under(codec: &Codec, key: Key, stored: &[&[u8]], rows: &[Option<&RowKey>]) -> Vec<Option<Opened>> {
    let mut plaintexts = Vec::new();
    let opened = codec.open_many(stored, rows, &mut plaintexts);
    let copied = opened.into_iter().map(|result| {
        let place = result.ok()?.plaintext;
        Some(Opened { key, plaintext: plaintexts[place].to_vec() })
    });
    copied.collect()
}

#[cfg(test)]
mod tests {
    use reseal_crypto::{ColumnId, ColumnKey, KeyMaterial};
    use reseal_formats::{ColumnType, FormatSpec};

    use super::*;

    fn codec(spec: &str, byte: u8) -> Codec {
        let spec: FormatSpec = serde_json::from_str(spec).unwrap();
        let key = KeyMaterial::Column(ColumnKey::from_bytes(&[byte; 32]));
        spec.codec(ColumnType::Text, &key, ColumnId([1; 16])).unwrap()
    }

    fn sealer(old: (&str, u8), new: (&str, u8)) -> CodecSealer {
        let column = || ColumnCodecs { old: codec(old.0, old.1), new: codec(new.0, new.1) };
        CodecSealer::new([column(), column(), column()])
    }

    #[test]
    fn values_open_under_the_key_they_were_sealed_under() {
        let row_bound = r#"{"format":"reseal","binding":"row"}"#;
        let sealer = sealer((r#"{"format":"fernet"}"#, 1), (row_bound, 2));
        let cells: Vec<(Cell, String)> = (0..2000)
            .map(|number| (Cell { id: number / 3, column: (number % 3) as usize }, format!("text {number}")))
            .collect();
        let values: Vec<(Cell, &str)> = cells.iter().map(|(cell, text)| (*cell, &**text)).collect();
        for key in [Key::Old, Key::New] {
            let sealed = sealer.seal_many(key, &values).unwrap();
            let stored: Vec<(Cell, &[u8])> =
                values.iter().zip(&sealed).map(|((cell, _), s)| (*cell, &**s)).collect();
            for (opened, (_, text)) in sealer.open_many(&stored).into_iter().zip(&values) {
                assert_eq!(opened, Some(Opened { key, plaintext: text.as_bytes().to_vec() }));
            }
        }
    }

    #[test]
    fn a_value_under_both_keys_or_neither_does_not_open() {
        let fernet = r#"{"format":"fernet"}"#;
        let same = sealer((fernet, 1), (fernet, 1));
        let cell = Cell { id: 1, column: 0 };
        let sealed = same.seal_many(Key::Old, &[(cell, "text")]).unwrap();
        assert_eq!(same.open_many(&[(cell, &*sealed[0])]), [None]);
        assert_eq!(sealer((fernet, 2), (fernet, 3)).open_many(&[(cell, &*sealed[0])]), [None]);
    }
}
