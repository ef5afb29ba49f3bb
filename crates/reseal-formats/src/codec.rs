//! Format and text encoding together: stored bytes in, plaintext out, and back.

use std::ops::Range;

use reseal_crypto::RowKey;
use reseal_crypto::random::RandomPool;

use crate::encoding::Encoding;
use crate::format::{Format, OpenError, SealError, Shape};

/// A value that opened: where its plaintext stands in the buffer, and what to keep when it is sealed again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Opened {
    /// The plaintext within the buffer that was given.
    pub plaintext: Range<usize>,
    /// The options of the message.
    pub shape: Shape,
    /// The text encoding it stood in.
    pub encoding: Encoding,
}

/// One column's way of storing values under one key.
#[derive(Debug)]
pub struct Codec {
    format: Box<dyn Format>,
    encoding: Encoding,
}

impl Codec {
    /// Joins a format under its key with the encoding of the column.
    pub fn new(format: Box<dyn Format>, encoding: Encoding) -> Self {
        Self { format, encoding }
    }

    /// The format under its key.
    pub fn format(&self) -> &dyn Format {
        &*self.format
    }

    /// The first bytes of every stored value under this key, if the format names its key.
    pub fn stored_prefix(&self) -> Option<Vec<u8>> {
        self.format.key_prefix().map(<[u8]>::to_vec)
    }

    /// Opens every value of `stored` that belongs to `rows` at the same place, appending plaintexts to `plaintexts`.
    ///
    /// Many at once, because some formats derive keys for 16 values in the time of one.
    pub fn open_many(
        &self,
        stored: &[&[u8]],
        rows: &[Option<&RowKey>],
        plaintexts: &mut Vec<u8>,
    ) -> Vec<Result<Opened, OpenError>> {
        let open = |(bytes, row): (&&[u8], &Option<&RowKey>)| {
            let start = plaintexts.len();
            let shape = self.format.open(bytes, *row, plaintexts)?;
            Ok(Opened { plaintext: start..plaintexts.len(), shape, encoding: self.encoding })
        };
        stored.iter().zip(rows).map(open).collect()
    }

    /// Seals the plaintexts at `opened` within `plaintexts`, appending stored bytes to `out`; one range each.
    ///
    /// # Errors
    ///
    /// The first [`SealError`].
    pub fn seal_many(
        &self,
        plaintexts: &[u8],
        opened: &[Opened],
        rows: &[Option<&RowKey>],
        random: &mut RandomPool<'_>,
        out: &mut Vec<u8>,
    ) -> Result<Vec<Range<usize>>, SealError> {
        let seal = |(value, row): (&Opened, &Option<&RowKey>)| {
            let start = out.len();
            self.format.seal(&plaintexts[value.plaintext.clone()], &value.shape, *row, random, out)?;
            Ok(start..out.len())
        };
        opened.iter().zip(rows).map(seal).collect()
    }
}
