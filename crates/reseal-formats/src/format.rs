//! The seam between the engine and every ciphertext format.

use std::ops::Range;

use reseal_crypto::RowKey;
use reseal_crypto::envelope;
use reseal_crypto::random::{RandomError, RandomPool};

use crate::pgcrypto::MessageShape;

/// The longest plaintext in any format, in bytes: what our own envelope holds.
pub const PLAINTEXT_MAX: usize = envelope::PLAINTEXT_MAX;

/// One ciphertext format under one key.
///
/// Implementations parse once, borrow from the message, and never panic on any input.
pub trait Format: Send + Sync + std::fmt::Debug {
    /// The name in plan files and reports, for example `pgcrypto`.
    fn name(&self) -> &'static str;

    /// Whether a wrong key or a changed message is always noticed. Only such formats may be written.
    fn authenticated(&self) -> bool;

    /// The bytes with which every message under this key begins and no message under another key does, if the
    /// format names its key; `None` means that "already new" is only found out by opening.
    fn key_prefix(&self) -> Option<&[u8]>;

    /// Appends the plaintext of `message` to `plaintext`.
    ///
    /// # Errors
    ///
    /// [`OpenError`]; `plaintext` is left as it was.
    fn open(&self, message: &[u8], row: Option<&RowKey>, plaintext: &mut Vec<u8>)
    -> Result<Shape, OpenError>;

    /// Appends the message that seals `plaintext` to `message`, with the options of `like` where it is of this format.
    ///
    /// # Errors
    ///
    /// [`SealError`]; `message` is left as it was.
    fn seal(
        &self,
        plaintext: &[u8],
        like: &Shape,
        row: Option<&RowKey>,
        random: &mut RandomPool<'_>,
        message: &mut Vec<u8>,
    ) -> Result<(), SealError>;

    /// Whether `shape` was read from this format, so that a value in the same encoding keeps it.
    fn continues(&self, shape: &Shape) -> bool {
        matches!(shape, Shape::Plain)
    }

    /// Opens many messages: their plaintexts' places and shapes, in order.
    ///
    /// Formats that stretch a passphrase for every value derive many keys side by side here.
    fn open_many(
        &self,
        messages: &[&[u8]],
        rows: &[Option<&RowKey>],
        plaintexts: &mut Vec<u8>,
    ) -> Vec<Result<(Range<usize>, Shape), OpenError>> {
        open_each(self, messages, rows, plaintexts)
    }

    /// Opens messages that were just sealed, as a proof: derived keys are derived anew.
    ///
    /// By default one at a time, with no code in common with [`Format::seal_many`].
    fn reopen_many(
        &self,
        messages: &[&[u8]],
        rows: &[Option<&RowKey>],
        plaintexts: &mut Vec<u8>,
    ) -> Vec<Result<(Range<usize>, Shape), OpenError>> {
        open_each(self, messages, rows, plaintexts)
    }

    /// Seals many plaintexts, given by their places in `plaintexts`: the messages' places in `out`, in order.
    ///
    /// # Errors
    ///
    /// The first [`SealError`].
    fn seal_many(
        &self,
        plaintexts: &[u8],
        values: &[(Range<usize>, Shape)],
        rows: &[Option<&RowKey>],
        random: &mut RandomPool<'_>,
        out: &mut Vec<u8>,
    ) -> Result<Vec<Range<usize>>, SealError> {
        let seal = |((place, shape), row): (&(Range<usize>, Shape), &Option<&RowKey>)| {
            let start = out.len();
            self.seal(&plaintexts[place.clone()], shape, *row, random, out)?;
            Ok(start..out.len())
        };
        values.iter().zip(rows).map(seal).collect()
    }
}

/// Opens one message after the other by [`Format::open`]: the second code path of formats with their own
/// [`Format::open_many`].
pub fn open_each<F: Format + ?Sized>(
    format: &F,
    messages: &[&[u8]],
    rows: &[Option<&RowKey>],
    plaintexts: &mut Vec<u8>,
) -> Vec<Result<(Range<usize>, Shape), OpenError>> {
    let open = |(message, row): (&&[u8], &Option<&RowKey>)| {
        let start = plaintexts.len();
        let shape = format.open(message, *row, plaintexts)?;
        Ok((start..plaintexts.len(), shape))
    };
    messages.iter().zip(rows).map(open).collect()
}

/// The options a message was written with: what sealing in the same format keeps.
///
/// Holds no plaintext and no key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Shape {
    /// Nothing to keep: the format's defaults, or those that the plan names.
    #[default]
    Plain,
    /// The options of a pgcrypto message.
    Pgcrypto(MessageShape),
    /// A Fernet token.
    Fernet {
        /// When it was made, in seconds since 1970.
        created: u64,
    },
}

impl Shape {
    /// When the value was sealed, in seconds since 1970, if its format says so.
    pub fn created(&self) -> Option<u64> {
        match self {
            Self::Plain => None,
            Self::Pgcrypto(shape) => (shape.created != 0).then_some(u64::from(shape.created)),
            Self::Fernet { created } => Some(*created),
        }
    }
}

/// Why a message did not open. Says nothing about its content.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// Not a message of this format, or a damaged one.
    #[error("not a {format} value: {reason}")]
    Malformed {
        /// Name of the format.
        format: &'static str,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// A message of this format with an option that is recognised and not supported.
    #[error("{format} value uses {option}, which is not supported")]
    Unsupported {
        /// Name of the format.
        format: &'static str,
        /// Name of the option.
        option: &'static str,
    },
    /// The message names another key than this one.
    #[error("sealed under another key")]
    OtherKey,
    /// A wrong key and a changed message look the same here. That is deliberate.
    #[error("does not open under this key")]
    Unopened,
    /// Opens only together with the key of its row, which was not given.
    #[error("bound to its row, but no row key was given")]
    RowKeyMissing,
    /// Opens, but stands in base64url, which a column that does not name it may not be written back in.
    #[error("stands in base64url, which has to be named: `encoding = \"base64url\"`")]
    EncodingNotNamed,
    /// The message asks for more memory or work than is allowed.
    #[error("asks for more than the limit of {0}")]
    TooLarge(&'static str),
}

impl OpenError {
    /// Longer than [`PLAINTEXT_MAX`].
    pub(crate) const TOO_LONG: Self = Self::TooLarge("256 MiB");
}

/// Why a plaintext was not sealed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SealError {
    /// The system's generator failed.
    #[error(transparent)]
    Random(#[from] RandomError),
    /// The format ties a value to its row, and no row key was given.
    #[error("bound to its row, but no row key was given")]
    RowKeyMissing,
    /// The plaintext is longer than the format carries.
    #[error("longer than the limit of {0}")]
    TooLarge(&'static str),
    /// The format can be read but not written.
    #[error("{0} values are not written")]
    ReadOnly(&'static str),
}

impl SealError {
    /// Longer than [`PLAINTEXT_MAX`].
    pub(crate) const TOO_LONG: Self = Self::TooLarge("256 MiB");

    /// Refuses plaintexts that are too long for any format.
    pub(crate) fn check_len(plaintext: &[u8]) -> Result<(), Self> {
        if plaintext.len() > PLAINTEXT_MAX { Err(Self::TOO_LONG) } else { Ok(()) }
    }
}
