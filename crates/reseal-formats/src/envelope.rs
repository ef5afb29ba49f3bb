//! Our own envelope as a [`Format`]; its bytes are described in [`reseal_crypto::envelope`].

use reseal_crypto::RowKey;
use reseal_crypto::envelope::{EnvelopeError, EnvelopeKey};
use reseal_crypto::random::RandomPool;

use crate::format::{Format, OpenError, SealError, Shape};

/// Name of the format.
pub const NAME: &str = "reseal";

/// Envelopes under one key, in one column.
#[derive(Debug)]
pub struct EnvelopeFormat {
    key: EnvelopeKey,
}

impl EnvelopeFormat {
    /// The format under `key`.
    pub fn new(key: EnvelopeKey) -> Self {
        Self { key }
    }
}

impl Format for EnvelopeFormat {
    fn name(&self) -> &'static str {
        NAME
    }

    fn authenticated(&self) -> bool {
        true
    }

    fn key_prefix(&self) -> Option<&[u8]> {
        Some(self.key.header())
    }

    fn open(
        &self,
        message: &[u8],
        row: Option<&RowKey>,
        plaintext: &mut Vec<u8>,
    ) -> Result<Shape, OpenError> {
        self.key.open(row, message, plaintext).map(|()| Shape::Plain).map_err(open_error)
    }

    fn seal(
        &self,
        plaintext: &[u8],
        _like: &Shape,
        row: Option<&RowKey>,
        random: &mut RandomPool<'_>,
        message: &mut Vec<u8>,
    ) -> Result<(), SealError> {
        let nonce = random.nonce()?;
        self.key.seal(&nonce, row, plaintext, message).map_err(|error| match error {
            EnvelopeError::RowKeyMissing => SealError::RowKeyMissing,
            _ => SealError::TOO_LONG,
        })
    }
}

fn open_error(error: EnvelopeError) -> OpenError {
    let unsupported = |option| OpenError::Unsupported { format: NAME, option };
    match error {
        EnvelopeError::Malformed(reason) => OpenError::Malformed { format: NAME, reason },
        EnvelopeError::SuiteMismatch => unsupported("another suite than the column's"),
        EnvelopeError::BindingMismatch => unsupported("another binding than the column's"),
        EnvelopeError::OtherKey(_) => OpenError::OtherKey,
        EnvelopeError::RowKeyMissing => OpenError::RowKeyMissing,
        EnvelopeError::TooLong => OpenError::TOO_LONG,
        _ => OpenError::Unopened,
    }
}

#[cfg(test)]
mod tests {
    use reseal_crypto::{Binding, ColumnId, ColumnKey, OsRandom, Suite};

    use super::*;
    use crate::codec::Codec;
    use crate::encoding::Encoding;

    fn codec(key: u8, binding: Binding, encoding: Encoding) -> Codec {
        let key = ColumnKey::from_bytes(&[key; 32]);
        let key = EnvelopeKey::new(&key, Suite::Xaes256Gcm, binding, ColumnId([3; 16]));
        Codec::new(Box::new(EnvelopeFormat::new(key)), encoding)
    }

    fn sealed(codec: &Codec) -> Vec<u8> {
        let mut out = Vec::new();
        let value = crate::codec::Opened { plaintext: 0..5, shape: Shape::Plain, encoding: Encoding::Raw };
        let mut random = RandomPool::new(&OsRandom);
        codec.seal_many(b"value", &[value], &[None], &mut random, &mut out).expect("seals");
        out
    }

    #[test]
    fn the_stored_prefix_is_what_stands_in_the_column() {
        for (encoding, length) in [(Encoding::Raw, 12), (Encoding::Reseal, 20)] {
            let codec = codec(1, Binding::Column, encoding);
            let prefix = codec.stored_prefix().expect("the envelope names its key");
            assert_eq!(prefix.len(), length);
            assert!(sealed(&codec).starts_with(&prefix));
            assert!(!sealed(&self::codec(2, Binding::Column, encoding)).starts_with(&prefix));
        }
    }

    #[test]
    fn another_key_is_named_and_not_tried() {
        let value = sealed(&codec(2, Binding::Column, Encoding::Reseal));
        let open = |codec: Codec| codec.open_many(&[&value], &[None], &mut Vec::new()).remove(0);
        assert_eq!(open(codec(1, Binding::Column, Encoding::Reseal)), Err(OpenError::OtherKey));
        assert!(matches!(
            open(codec(2, Binding::Row, Encoding::Reseal)),
            Err(OpenError::Unsupported { format: NAME, .. })
        ));
        assert!(open(codec(2, Binding::Column, Encoding::Reseal)).is_ok());
    }
}
