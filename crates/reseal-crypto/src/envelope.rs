//! Our column envelope, version 1: what an encrypted value of an application's column looks like.
//!
//! | offset | bytes | field |
//! |---|---|---|
//! | 0 | 1 | `0xFB`, never the first byte of UTF-8 text |
//! | 1 | 1 | version, 1 |
//! | 2 | 1 | suite |
//! | 3 | 1 | binding: 0 none, 1 column, 2 column and row key |
//! | 4 | 8 | key handle |
//! | 12 | 24 | nonce |
//! | 36 | n + 16 | ciphertext and tag |
//!
//! Associated data: the header (bytes 0-11), then the column id (bindings 1, 2), then the row key (binding 2). Suite,
//! binding and column are policy: [`EnvelopeKey`] is told them and refuses a value that says otherwise, so a weaker
//! envelope cannot be moved in.
//!
//! ```
//! use reseal_crypto::envelope::EnvelopeKey;
//! use reseal_crypto::random::RandomPool;
//! use reseal_crypto::{Binding, ColumnId, ColumnKey, OsRandom, Suite};
//!
//! let key = ColumnKey::generate(&OsRandom)?;
//! let column = EnvelopeKey::new(&key, Suite::Xaes256Gcm, Binding::Column, ColumnId([7; 16]));
//! let (mut stored, mut plaintext) = (Vec::new(), Vec::new());
//! column.seal(&RandomPool::new(&OsRandom).nonce()?, None, b"alice@example.com", &mut stored)?;
//! column.open(None, &stored, &mut plaintext)?;
//! assert_eq!(plaintext, b"alice@example.com");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

use std::fmt;

use base64::Engine as _;

use crate::aead::{AeadKey, NONCE_LEN, Nonce, Suite, TAG_LEN};
use crate::hash::hkdf_sha256;
use crate::secret::secret_key;
use crate::text::{self, BASE64URL};
use zeroize::Zeroizing;

/// First byte of every envelope.
pub const MAGIC: u8 = 0xFB;
/// The version this module writes and reads.
pub const VERSION: u8 = 1;
/// Bytes of the header, all of which are authenticated; they name the key.
pub const HEADER_LEN: usize = 12;
/// Bytes an envelope adds to its plaintext.
pub const OVERHEAD: usize = HEADER_LEN + NONCE_LEN + TAG_LEN;
/// The longest plaintext, in bytes.
pub const PLAINTEXT_MAX: usize = 1 << 28;
/// What the text form of an envelope begins with.
pub const TEXT_PREFIX: &str = "rs1.";
/// Characters of the text form that name the key: the prefix and 12 bytes in base64url.
pub const TEXT_HEADER_LEN: usize = TEXT_PREFIX.len() + HEADER_LEN / 3 * 4;

secret_key! {
    /// A key that seals the values of columns. Used for nothing but HKDF: see [`Commitment`] and [`EnvelopeKey`].
    ColumnKey
}

impl ColumnKey {
    /// Reads the text form: 43 characters of canonical base64url, nothing else.
    pub fn from_text(text: &[u8]) -> Option<Self> {
        text::decode_key(text).map(|bytes| Self::from_bytes(&bytes))
    }

    /// The text form, as `get` prints it and applications keep it.
    pub fn to_text(&self) -> Zeroizing<String> {
        text::encode_key(self.expose())
    }

    /// `HKDF-SHA-256(key, "", "reseal/v1/column/commit", 32)`: names this key and no other.
    pub fn commitment(&self) -> Commitment {
        let mut commitment = [0; 32];
        hkdf_sha256(self.expose(), b"", b"reseal/v1/column/commit", &mut commitment);
        Commitment(commitment)
    }

    /// The first 8 bytes of the commitment: what an envelope carries.
    pub fn handle(&self) -> KeyHandle {
        self.commitment().handle()
    }

    /// `HKDF-SHA-256(key, "", "reseal/v1/column/aead/" || suite, 32)`, prepared.
    fn aead(&self, suite: Suite) -> AeadKey {
        let mut key = Zeroizing::new([0; 32]);
        let info = [b"reseal/v1/column/aead/".as_slice(), &[suite.id()]].concat();
        hkdf_sha256(self.expose(), b"", &info, &mut *key);
        AeadKey::new(suite, &key)
    }
}

/// A public 256-bit name of a column key that only this key has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Commitment(pub [u8; 32]);

impl Commitment {
    /// The first 8 bytes.
    pub fn handle(&self) -> KeyHandle {
        let mut handle = [0; 8];
        handle.copy_from_slice(&self.0[..8]);
        KeyHandle(handle)
    }
}

/// The 8 bytes by which an envelope names its key; unique within a vault.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct KeyHandle(pub [u8; 8]);

impl fmt::Display for KeyHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// The random id of a column, drawn by its first plan; survives renames and dumps. Not secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ColumnId(pub [u8; 16]);

impl fmt::Display for ColumnId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// What an envelope is tied to, by its identifier on disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Binding {
    /// Opens anywhere under its key.
    None = 0,
    /// Opens in its column only; the default.
    Column = 1,
    /// Opens in its row of its column only; for row keys that never change.
    Row = 2,
}

impl Binding {
    /// Every binding.
    pub const ALL: [Self; 3] = [Self::None, Self::Column, Self::Row];

    /// The identifier on disk.
    pub const fn id(self) -> u8 {
        self as u8
    }

    /// The binding of an identifier.
    pub fn from_id(id: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|binding| binding.id() == id)
    }

    /// The name in plan files and reports.
    pub const fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Column => "column",
            Self::Row => "row",
        }
    }
}

/// The canonical bytes of a row's key: `u8 count`, then per key column `u8 type || u32 length || bytes`.
///
/// Built in the order in which the plan lists the key columns. At most 255 columns: databases stop far below.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct RowKey(Vec<u8>);

// A key may be a person's address or number.
impl std::fmt::Debug for RowKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RowKey").field("len", &self.0.len()).finish_non_exhaustive()
    }
}

impl Default for RowKey {
    fn default() -> Self {
        Self(vec![0])
    }
}

impl RowKey {
    /// Appends an integer column of any width: 8 bytes, big-endian two's complement.
    #[must_use]
    pub fn integer(self, value: i64) -> Self {
        self.field(1, &value.to_be_bytes())
    }

    /// Appends a text column: UTF-8 as stored, without normalisation.
    #[must_use]
    pub fn text(self, value: &str) -> Self {
        self.field(2, value.as_bytes())
    }

    /// Appends a byte-string column.
    #[must_use]
    pub fn bytes(self, value: &[u8]) -> Self {
        self.field(3, value)
    }

    /// Appends a UUID column.
    #[must_use]
    pub fn uuid(self, value: &[u8; 16]) -> Self {
        self.field(4, value)
    }

    /// The encoding.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    fn field(mut self, kind: u8, bytes: &[u8]) -> Self {
        let length = u32::try_from(bytes.len()).expect("a database key column is far below 4 GiB");
        self.0[0] = self.0[0].checked_add(1).expect("a plan refuses row keys of more than 255 columns");
        self.0.push(kind);
        self.0.extend_from_slice(&length.to_be_bytes());
        self.0.extend_from_slice(bytes);
        self
    }
}

/// Why an envelope did not open.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum EnvelopeError {
    /// Not an envelope at all, or one cut short.
    #[error("not a reseal envelope: {0}")]
    Malformed(&'static str),
    /// Sealed with a suite other than the one the column is declared to have.
    #[error("sealed with another suite than this column's")]
    SuiteMismatch,
    /// Sealed with a binding other than the one the column is declared to have.
    #[error("sealed with another binding than this column's")]
    BindingMismatch,
    /// Names another key.
    #[error("sealed under another key, {0}")]
    OtherKey(KeyHandle),
    /// The row key that the binding asks for was not given.
    #[error("bound to its row, but no row key was given")]
    RowKeyMissing,
    /// Longer than 2^28 bytes of plaintext.
    #[error("longer than 256 MiB")]
    TooLong,
    /// Names this key, but does not authenticate: changed, moved from another place, or not ours.
    #[error("does not authenticate in this place")]
    Unauthentic,
}

/// The parts of an envelope, borrowed. Nothing is authenticated yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Envelope<'a> {
    /// Bytes 0-11.
    pub header: &'a [u8; HEADER_LEN],
    /// The suite the header names.
    pub suite: Suite,
    /// The binding the header names.
    pub binding: Binding,
    /// The key the header names.
    pub handle: KeyHandle,
    /// The nonce.
    pub nonce: Nonce,
    /// Ciphertext and tag.
    pub sealed: &'a [u8],
}

impl<'a> Envelope<'a> {
    /// Reads the parts of `bytes`.
    ///
    /// # Errors
    ///
    /// [`EnvelopeError::Malformed`] or [`EnvelopeError::TooLong`].
    pub fn parse(bytes: &'a [u8]) -> Result<Self, EnvelopeError> {
        let malformed = EnvelopeError::Malformed;
        let (header, rest) = bytes.split_first_chunk::<HEADER_LEN>().ok_or(malformed("too short"))?;
        let (nonce, sealed) = rest.split_first_chunk::<NONCE_LEN>().ok_or(malformed("too short"))?;
        let [magic, version, suite, binding, handle @ ..] = *header;
        if magic != MAGIC {
            return Err(malformed("the first byte is not 0xFB"));
        }
        if version != VERSION {
            return Err(malformed("unknown version"));
        }
        let suite = Suite::from_id(suite).ok_or(malformed("unknown suite"))?;
        let binding = Binding::from_id(binding).ok_or(malformed("unknown binding"))?;
        let plaintext_len = sealed.len().checked_sub(TAG_LEN).ok_or(malformed("too short"))?;
        if plaintext_len > PLAINTEXT_MAX {
            return Err(EnvelopeError::TooLong);
        }
        Ok(Self { header, suite, binding, handle: KeyHandle(handle), nonce: Nonce(*nonce), sealed })
    }
}

/// A column key prepared for one suite, binding and column: seals and opens the values of that column.
#[derive(Clone)]
pub struct EnvelopeKey {
    aead: AeadKey,
    binding: Binding,
    handle: KeyHandle,
    /// Header and column id: the associated data of a value but for its row key.
    place: [u8; HEADER_LEN + 16],
}

impl EnvelopeKey {
    /// Prepares `key` for a column.
    pub fn new(key: &ColumnKey, suite: Suite, binding: Binding, column: ColumnId) -> Self {
        let handle = key.handle();
        let mut place = [0; HEADER_LEN + 16];
        place[..4].copy_from_slice(&[MAGIC, VERSION, suite.id(), binding.id()]);
        place[4..HEADER_LEN].copy_from_slice(&handle.0);
        place[HEADER_LEN..].copy_from_slice(&column.0);
        Self { aead: key.aead(suite), binding, handle, place }
    }

    /// The header of every envelope under this key: what "already new" looks like in SQL.
    pub fn header(&self) -> &[u8] {
        &self.place[..HEADER_LEN]
    }

    /// The binding of every envelope under this key.
    pub fn binding(&self) -> Binding {
        self.binding
    }

    /// Appends the envelope of `plaintext` to `out`: `plaintext.len() + 52` bytes.
    ///
    /// # Errors
    ///
    /// [`EnvelopeError::RowKeyMissing`] or [`EnvelopeError::TooLong`]; `out` is left as it was.
    pub fn seal(
        &self,
        nonce: &Nonce,
        row: Option<&RowKey>,
        plaintext: &[u8],
        out: &mut Vec<u8>,
    ) -> Result<(), EnvelopeError> {
        if plaintext.len() > PLAINTEXT_MAX {
            return Err(EnvelopeError::TooLong);
        }
        self.with_aad(row, |aad| {
            out.reserve(plaintext.len() + OVERHEAD);
            out.extend_from_slice(self.header());
            out.extend_from_slice(&nonce.0);
            self.aead.seal(nonce, aad, plaintext, out);
        })
    }

    /// Appends the plaintext of the envelope `bytes` to `out`.
    ///
    /// # Errors
    ///
    /// Any [`EnvelopeError`]; `out` is left as it was.
    pub fn open(&self, row: Option<&RowKey>, bytes: &[u8], out: &mut Vec<u8>) -> Result<(), EnvelopeError> {
        let envelope = Envelope::parse(bytes)?;
        if envelope.handle != self.handle {
            return Err(EnvelopeError::OtherKey(envelope.handle));
        }
        if envelope.suite != self.aead.suite() {
            return Err(EnvelopeError::SuiteMismatch);
        }
        if envelope.binding != self.binding {
            return Err(EnvelopeError::BindingMismatch);
        }
        self.with_aad(row, |aad| self.aead.open(&envelope.nonce, aad, envelope.sealed, out))?
            .map_err(|_| EnvelopeError::Unauthentic)
    }

    fn with_aad<T>(&self, row: Option<&RowKey>, run: impl FnOnce(&[u8]) -> T) -> Result<T, EnvelopeError> {
        Ok(match self.binding {
            Binding::None => run(self.header()),
            Binding::Column => run(&self.place),
            Binding::Row => {
                let row = row.ok_or(EnvelopeError::RowKeyMissing)?;
                run(&[&self.place, row.as_bytes()].concat())
            }
        })
    }
}

impl fmt::Debug for EnvelopeKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EnvelopeKey").field("handle", &self.handle).finish_non_exhaustive()
    }
}

/// Appends the text form of an envelope to `out`: `rs1.` and base64url without padding.
pub fn encode_text(envelope: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(TEXT_PREFIX.as_bytes());
    let start = out.len();
    let length = base64::encoded_len(envelope.len(), false).expect("an envelope is far below usize::MAX");
    out.resize(start + length, 0);
    let written =
        BASE64URL.encode_slice(envelope, &mut out[start..]).expect("the buffer has the exact length");
    debug_assert_eq!(written, length);
}

/// Appends the envelope of a text form to `out`.
///
/// # Errors
///
/// [`EnvelopeError::Malformed`] if the text is not exactly what [`encode_text`] writes; `out` is left as it was.
pub fn decode_text(text: &[u8], out: &mut Vec<u8>) -> Result<(), EnvelopeError> {
    let body = text
        .strip_prefix(TEXT_PREFIX.as_bytes())
        .ok_or(EnvelopeError::Malformed("the text does not begin with `rs1.`"))?;
    let start = out.len();
    out.resize(start + base64::decoded_len_estimate(body.len()), 0);
    match BASE64URL.decode_slice(body, &mut out[start..]) {
        Ok(written) => {
            out.truncate(start + written);
            Ok(())
        }
        Err(_) => {
            out.truncate(start);
            Err(EnvelopeError::Malformed("the text is not canonical base64url"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(byte: u8) -> ColumnKey {
        ColumnKey::from_bytes(&[byte; 32])
    }

    fn row(id: i64) -> RowKey {
        RowKey::default().integer(id)
    }

    const COLUMN: ColumnId = ColumnId([7; 16]);
    const NONCE: Nonce = Nonce([9; 24]);

    fn sealed(suite: Suite, binding: Binding, plaintext: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        EnvelopeKey::new(&key(1), suite, binding, COLUMN)
            .seal(&NONCE, Some(&row(5)), plaintext, &mut out)
            .expect("seals");
        out
    }

    fn open(
        suite: Suite,
        binding: Binding,
        column: ColumnId,
        id: i64,
        bytes: &[u8],
    ) -> Result<Vec<u8>, EnvelopeError> {
        let mut out = Vec::new();
        EnvelopeKey::new(&key(1), suite, binding, column).open(Some(&row(id)), bytes, &mut out)?;
        Ok(out)
    }

    #[test]
    fn every_suite_and_binding_opens_what_it_sealed() {
        for suite in Suite::ALL {
            for binding in Binding::ALL {
                for plaintext in [b"".as_slice(), b"a", &[0xFF; 300]] {
                    let bytes = sealed(suite, binding, plaintext);
                    assert_eq!(bytes.len(), plaintext.len() + OVERHEAD);
                    assert_eq!(open(suite, binding, COLUMN, 5, &bytes).as_deref(), Ok(plaintext));
                }
            }
        }
    }

    #[test]
    fn every_flipped_bit_is_refused_with_its_kind() {
        for suite in Suite::ALL {
            for binding in Binding::ALL {
                let good = sealed(suite, binding, b"plaintext");
                for bit in 0..good.len() * 8 {
                    let mut bad = good.clone();
                    bad[bit / 8] ^= 1 << (bit % 8);
                    let error =
                        open(suite, binding, COLUMN, 5, &bad).expect_err("a flipped bit must not open");
                    let expected = match bit / 8 {
                        0 | 1 => matches!(error, EnvelopeError::Malformed(_)),
                        2 => matches!(error, EnvelopeError::Malformed(_) | EnvelopeError::SuiteMismatch),
                        3 => matches!(error, EnvelopeError::Malformed(_) | EnvelopeError::BindingMismatch),
                        4..12 => matches!(error, EnvelopeError::OtherKey(_)),
                        _ => error == EnvelopeError::Unauthentic,
                    };
                    assert!(expected, "bit {bit} of {suite:?} {binding:?} gave {error:?}");
                }
                for length in 0..good.len() {
                    assert!(open(suite, binding, COLUMN, 5, &good[..length]).is_err(), "cut at {length}");
                }
            }
        }
    }

    #[test]
    fn moved_values_are_refused_as_far_as_they_are_bound() {
        let elsewhere = ColumnId([8; 16]);
        for suite in Suite::ALL {
            let none = sealed(suite, Binding::None, b"x");
            assert!(open(suite, Binding::None, elsewhere, 6, &none).is_ok());
            let column = sealed(suite, Binding::Column, b"x");
            assert!(open(suite, Binding::Column, COLUMN, 6, &column).is_ok());
            assert_eq!(open(suite, Binding::Column, elsewhere, 5, &column), Err(EnvelopeError::Unauthentic));
            let bound = sealed(suite, Binding::Row, b"x");
            assert_eq!(open(suite, Binding::Row, COLUMN, 6, &bound), Err(EnvelopeError::Unauthentic));
            assert_eq!(open(suite, Binding::Row, elsewhere, 5, &bound), Err(EnvelopeError::Unauthentic));
            assert_eq!(open(suite, Binding::Row, COLUMN, 5, &none), Err(EnvelopeError::BindingMismatch));
        }
    }

    #[test]
    fn text_form_is_strict_and_names_the_key_in_its_first_characters() {
        let bytes = sealed(Suite::Xaes256Gcm, Binding::Column, b"text");
        let mut text = Vec::new();
        encode_text(&bytes, &mut text);
        let mut other = Vec::new();
        encode_text(&sealed(Suite::Xaes256Gcm, Binding::Column, b"other text"), &mut other);
        assert_eq!(text[..TEXT_HEADER_LEN], other[..TEXT_HEADER_LEN]);
        let mut back = Vec::new();
        decode_text(&text, &mut back).expect("own text");
        assert_eq!(back, bytes);
        for wrong in [&text[1..], &[&text[..], b"="].concat(), &[&text[..], b"\n"].concat(), b"rs1", b"rs1.A"]
        {
            assert!(decode_text(wrong, &mut back).is_err(), "{wrong:?}");
            assert_eq!(back, bytes, "a refused text leaves the buffer alone");
        }
    }

    #[test]
    fn row_keys_of_different_shape_never_meet() {
        assert_ne!(RowKey::default().text("ab").text("c"), RowKey::default().text("a").text("bc"));
        assert_ne!(RowKey::default().text("12345678"), RowKey::default().bytes(b"12345678"));
        assert_eq!(row(5).as_bytes(), [1, 1, 0, 0, 0, 8, 0, 0, 0, 0, 0, 0, 0, 5]);
    }
}
