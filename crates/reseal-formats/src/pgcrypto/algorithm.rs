//! The algorithm numbers of OpenPGP that pgcrypto knows, RFC 4880 section 9.

use crate::format::OpenError;

use super::NAME;

/// A cipher that messages are read and written with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Cipher {
    /// AES with a 128-bit key, pgcrypto's default.
    Aes128 = 7,
    /// AES with a 192-bit key.
    Aes192 = 8,
    /// AES with a 256-bit key.
    Aes256 = 9,
}

impl Cipher {
    /// Every cipher that is supported.
    pub const ALL: [Self; 3] = [Self::Aes128, Self::Aes192, Self::Aes256];

    /// The number in messages.
    pub const fn id(self) -> u8 {
        self as u8
    }

    /// Bytes of a key.
    pub const fn key_len(self) -> usize {
        match self {
            Self::Aes128 => 16,
            Self::Aes192 => 24,
            Self::Aes256 => 32,
        }
    }

    pub(super) fn from_id(id: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|cipher| cipher.id() == id)
    }

    /// The cipher of a message's clear header, or a refusal that names it.
    pub(super) fn named(id: u8) -> Result<Self, OpenError> {
        let option = match id {
            2 => "the cipher 3DES",
            3 => "the cipher CAST5",
            4 => "the cipher Blowfish",
            10 => "the cipher Twofish",
            _ => {
                let unknown = OpenError::Malformed { format: NAME, reason: "unknown cipher" };
                return Self::from_id(id).ok_or(unknown);
            }
        };
        Err(OpenError::Unsupported { format: NAME, option })
    }
}

/// A hash that stretches the passphrase. pgcrypto writes SHA-1 unless told otherwise.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Digest {
    /// MD5, 16 bytes.
    Md5 = 1,
    /// SHA-1, 20 bytes, the default.
    Sha1 = 2,
    /// RIPEMD-160, 20 bytes.
    Ripemd160 = 3,
    /// SHA-256, 32 bytes.
    Sha256 = 8,
    /// SHA-384, 48 bytes.
    Sha384 = 9,
    /// SHA-512, 64 bytes.
    Sha512 = 10,
}

impl Digest {
    /// Every hash that is supported.
    pub const ALL: [Self; 6] =
        [Self::Md5, Self::Sha1, Self::Ripemd160, Self::Sha256, Self::Sha384, Self::Sha512];

    /// The number in messages.
    pub const fn id(self) -> u8 {
        self as u8
    }

    pub(super) fn from_id(id: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|digest| digest.id() == id)
    }
}

/// How the plaintext is compressed before it is encrypted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[repr(u8)]
pub enum Compression {
    /// Not at all, the default.
    #[default]
    None = 0,
    /// Raw deflate, RFC 1951.
    Zip = 1,
    /// Deflate within zlib, RFC 1950.
    Zlib = 2,
}

impl Compression {
    /// Every compression that is supported.
    pub const ALL: [Self; 3] = [Self::None, Self::Zip, Self::Zlib];

    /// The number in messages.
    pub const fn id(self) -> u8 {
        self as u8
    }
}
