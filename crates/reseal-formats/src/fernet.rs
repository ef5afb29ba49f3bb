//! Fernet tokens, [specification]: the bytes below, in padded base64url.
//!
//! | offset | bytes | field |
//! |---|---|---|
//! | 0 | 1 | `0x80` |
//! | 1 | 8 | seconds since 1970, big-endian |
//! | 9 | 16 | IV |
//! | 25 | 16·k | AES-128-CBC, PKCS #7 padding |
//! | last | 32 | HMAC-SHA-256 of everything before it |
//!
//! The time is kept when a token is sealed again, because applications compare it with a time to live. No time to
//! live is enforced here: a column is not a session.
//!
//! [specification]: https://github.com/fernet/spec/blob/master/Spec.md

use aes::Aes128;
use aes::cipher::block_padding::Pkcs7;
use aes::cipher::{BlockModeDecrypt, BlockModeEncrypt, KeyIvInit};
use reseal_crypto::RowKey;
use reseal_crypto::hash::{MacKey, equal};
use reseal_crypto::random::RandomPool;
use zeroize::Zeroizing;

use crate::format::{Format, OpenError, PLAINTEXT_MAX, SealError, Shape};

/// Name of the format.
pub const NAME: &str = "fernet";
/// Bytes of a key: 16 sign, 16 encrypt.
pub const KEY_LEN: usize = 32;

const VERSION: u8 = 0x80;
const HEADER_LEN: usize = 1 + 8 + 16;
const MAC_LEN: usize = 32;
const BLOCK: usize = 16;

/// The parts of a token, borrowed. Nothing is authenticated yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Token<'a> {
    /// Seconds since 1970.
    pub created: u64,
    /// The IV.
    pub iv: &'a [u8; BLOCK],
    /// The ciphertext, a positive multiple of 16 bytes.
    pub ciphertext: &'a [u8],
    /// The HMAC.
    pub mac: &'a [u8; MAC_LEN],
    /// What the HMAC covers.
    pub signed: &'a [u8],
}

impl<'a> Token<'a> {
    /// Reads the parts of a token's bytes.
    ///
    /// # Errors
    ///
    /// [`OpenError::Malformed`] or [`OpenError::TooLarge`].
    pub fn parse(bytes: &'a [u8]) -> Result<Self, OpenError> {
        let malformed = |reason| OpenError::Malformed { format: NAME, reason };
        let (signed, mac) = bytes.split_last_chunk::<MAC_LEN>().ok_or(malformed("too short"))?;
        let (version, rest) = signed.split_first().ok_or(malformed("too short"))?;
        let (created, rest) = rest.split_first_chunk::<8>().ok_or(malformed("too short"))?;
        let (iv, ciphertext) = rest.split_first_chunk::<BLOCK>().ok_or(malformed("too short"))?;
        if *version != VERSION {
            return Err(malformed("the first byte is not 0x80"));
        }
        if ciphertext.is_empty() || !ciphertext.len().is_multiple_of(BLOCK) {
            return Err(malformed("the ciphertext is not whole blocks"));
        }
        if ciphertext.len() > PLAINTEXT_MAX + BLOCK {
            return Err(OpenError::TOO_LONG);
        }
        Ok(Self { created: u64::from_be_bytes(*created), iv, ciphertext, mac, signed })
    }
}

/// Tokens under one key.
pub struct FernetFormat {
    signing: MacKey,
    encryption: Zeroizing<[u8; 16]>,
    now: fn() -> u64,
}

impl FernetFormat {
    /// The format under `key`; `now` gives the seconds since 1970 for values that carry no time of their own.
    pub fn new(key: &[u8; KEY_LEN], now: fn() -> u64) -> Self {
        let (signing, encryption) = key.split_at(16);
        let mut own = Zeroizing::new([0; 16]);
        own.copy_from_slice(encryption);
        Self { signing: MacKey::new(signing), encryption: own, now }
    }

    /// Appends the token with this time and IV: what [`Format::seal`] does with fresh ones.
    fn seal_with(&self, created: u64, iv: &[u8; BLOCK], plaintext: &[u8], message: &mut Vec<u8>) {
        let start = message.len();
        let padded = (plaintext.len() / BLOCK + 1) * BLOCK;
        message.reserve(HEADER_LEN + padded + MAC_LEN);
        message.push(VERSION);
        message.extend_from_slice(&created.to_be_bytes());
        message.extend_from_slice(iv);
        message.extend_from_slice(plaintext);
        message.resize(start + HEADER_LEN + padded, 0);
        cbc::Encryptor::<Aes128>::new((&*self.encryption).into(), iv.into())
            .encrypt_padded::<Pkcs7>(&mut message[start + HEADER_LEN..], plaintext.len())
            .expect("the buffer has room for one block of padding");
        let mac = self.signing.mac(&[&message[start..]]);
        message.extend_from_slice(&mac);
    }
}

impl std::fmt::Debug for FernetFormat {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("FernetFormat").finish_non_exhaustive()
    }
}

impl Format for FernetFormat {
    fn name(&self) -> &'static str {
        NAME
    }

    fn authenticated(&self) -> bool {
        true
    }

    fn key_prefix(&self) -> Option<&[u8]> {
        None
    }

    fn continues(&self, shape: &Shape) -> bool {
        matches!(shape, Shape::Fernet { .. })
    }

    fn open(
        &self,
        message: &[u8],
        _row: Option<&RowKey>,
        plaintext: &mut Vec<u8>,
    ) -> Result<Shape, OpenError> {
        let token = Token::parse(message)?;
        if !equal(&self.signing.mac(&[token.signed]), token.mac) {
            return Err(OpenError::Unopened);
        }
        let start = plaintext.len();
        plaintext.extend_from_slice(token.ciphertext);
        let opened = cbc::Decryptor::<Aes128>::new((&*self.encryption).into(), token.iv.into())
            .decrypt_padded::<Pkcs7>(&mut plaintext[start..])
            .map(<[u8]>::len);
        match opened {
            Ok(length) => {
                plaintext.truncate(start + length);
                Ok(Shape::Fernet { created: token.created })
            }
            Err(_) => {
                plaintext.truncate(start);
                Err(OpenError::Unopened)
            }
        }
    }

    fn seal(
        &self,
        plaintext: &[u8],
        like: &Shape,
        _row: Option<&RowKey>,
        random: &mut RandomPool<'_>,
        message: &mut Vec<u8>,
    ) -> Result<(), SealError> {
        SealError::check_len(plaintext)?;
        let iv = random.take()?;
        self.seal_with(like.created().unwrap_or_else(self.now), &iv, plaintext, message);
        Ok(())
    }
}
