//! A cipher that errs: what it seals does not open to what went in.

use reseal_crypto::RowKey;
use reseal_crypto::random::RandomPool;
use reseal_formats::{Codec, Format, OpenError, SealError, Shape};

/// How a cipher errs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Broken {
    /// A bit of the message is wrong.
    Damages,
    /// The message is good and holds another plaintext.
    SealsAnotherValue,
}

/// A cipher that errs at one plaintext.
#[derive(Debug)]
pub struct Erring {
    /// What it does otherwise.
    pub inner: Codec,
    /// How it errs.
    pub broken: Broken,
    /// Where.
    pub at: Vec<u8>,
}

impl Format for Erring {
    fn name(&self) -> &'static str {
        self.inner.format().name()
    }

    fn authenticated(&self) -> bool {
        self.inner.format().authenticated()
    }

    fn key_prefix(&self) -> Option<&[u8]> {
        self.inner.format().key_prefix()
    }

    fn open(
        &self,
        message: &[u8],
        row: Option<&RowKey>,
        plaintext: &mut Vec<u8>,
    ) -> Result<Shape, OpenError> {
        self.inner.format().open(message, row, plaintext)
    }

    fn seal(
        &self,
        plaintext: &[u8],
        like: &Shape,
        row: Option<&RowKey>,
        random: &mut RandomPool<'_>,
        message: &mut Vec<u8>,
    ) -> Result<(), SealError> {
        let errs = plaintext == self.at;
        if errs && self.broken == Broken::SealsAnotherValue {
            return self.inner.format().seal(b"another value", like, row, random, message);
        }
        self.inner.format().seal(plaintext, like, row, random, message)?;
        if let Some(last) = message.last_mut().filter(|_| errs) {
            *last ^= 1;
        }
        Ok(())
    }
}
