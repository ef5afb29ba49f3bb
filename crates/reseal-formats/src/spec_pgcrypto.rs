//! The options of pgcrypto as a plan writes them, under pgcrypto's own names.

use serde::{Deserialize, Deserializer, Serialize};

use crate::pgcrypto::{Cipher, Compression, Digest, Options, S2kMode, Unhashed};
use crate::spec::{EncodingName, SpecError};

/// Options of pgcrypto messages. As a target they override what each message has; as a source only `encoding` and
/// `allow-no-mdc` matter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct PgcryptoSpec {
    /// The text encoding; detected in text columns by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub encoding: Option<EncodingName>,
    /// `aes128`, `aes192` or `aes256`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cipher_algo: Option<CipherName>,
    /// 0, 1 or 3.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub s2k_mode: Option<u8>,
    /// 1,024 to 65,011,712.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub s2k_count: Option<u32>,
    /// `sha1`, `md5`, `ripemd160`, `sha256`, `sha384` or `sha512`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub s2k_digest_algo: Option<DigestName>,
    /// The cipher of the session key's encryption.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub s2k_cipher_algo: Option<CipherName>,
    /// Whether each message has its own key, encrypted under the passphrase.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "flag")]
    pub sess_key: Option<bool>,
    /// 0 none, 1 ZIP, 2 zlib.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub compress_algo: Option<u8>,
    /// 0 (none) to 9.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub compress_level: Option<u8>,
    /// Whether text is marked as UTF-8.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "flag")]
    pub unicode_mode: Option<bool>,
    /// Opens messages without integrity protection (`disable-mdc`), which nothing else proves. Never as a target.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub allow_no_mdc: bool,
}

/// Names of ciphers, as pgcrypto has them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum CipherName {
    /// AES-128.
    #[serde(alias = "aes")]
    Aes128,
    /// AES-192.
    Aes192,
    /// AES-256.
    Aes256,
}

/// Names of hashes, as pgcrypto has them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DigestName {
    /// MD5.
    Md5,
    /// SHA-1.
    #[serde(alias = "sha-1")]
    Sha1,
    /// RIPEMD-160.
    Ripemd160,
    /// SHA-256.
    Sha256,
    /// SHA-384.
    Sha384,
    /// SHA-512.
    Sha512,
}

impl PgcryptoSpec {
    /// Whether messages without a hash are opened.
    pub(crate) fn unhashed(&self) -> Unhashed {
        if self.allow_no_mdc { Unhashed::Allowed } else { Unhashed::Refused }
    }

    /// The options for writing.
    pub(crate) fn options(&self) -> Result<Options, SpecError> {
        let refuse = |option, allowed| Err(SpecError::Option { option, allowed });
        if self.s2k_mode.is_some_and(|mode| !matches!(mode, 0 | 1 | 3)) {
            return refuse("s2k-mode", "0, 1 or 3");
        }
        if self.s2k_count.is_some_and(|count| !(1024..=65_011_712).contains(&count)) {
            return refuse("s2k-count", "from 1024 to 65011712");
        }
        if self.compress_algo.is_some_and(|number| number > 2) {
            return refuse("compress-algo", "0, 1 or 2");
        }
        if self.compress_level.is_some_and(|level| level > 9) {
            return refuse("compress-level", "from 0 to 9");
        }
        // Level 0 means no compression to pgcrypto, whatever the algorithm.
        let algorithm = if self.compress_level == Some(0) { Some(0) } else { self.compress_algo };
        let compression = |number| Compression::ALL.into_iter().find(|known| known.id() == number);
        Ok(Options {
            cipher: self.cipher_algo.map(Cipher::from),
            s2k_mode: self.s2k_mode,
            s2k_code: self.s2k_count.map(|count| S2kMode::code_for(count as usize)),
            digest: self.s2k_digest_algo.map(Digest::from),
            session: self.sess_key,
            session_cipher: self.s2k_cipher_algo.map(Cipher::from),
            compression: algorithm.and_then(compression),
            level: self.compress_level.map(u32::from),
            unicode: self.unicode_mode,
        })
    }
}

impl From<CipherName> for Cipher {
    fn from(name: CipherName) -> Self {
        match name {
            CipherName::Aes128 => Self::Aes128,
            CipherName::Aes192 => Self::Aes192,
            CipherName::Aes256 => Self::Aes256,
        }
    }
}

impl From<DigestName> for Digest {
    fn from(name: DigestName) -> Self {
        match name {
            DigestName::Md5 => Self::Md5,
            DigestName::Sha1 => Self::Sha1,
            DigestName::Ripemd160 => Self::Ripemd160,
            DigestName::Sha256 => Self::Sha256,
            DigestName::Sha384 => Self::Sha384,
            DigestName::Sha512 => Self::Sha512,
        }
    }
}

/// Reads `true` and `false`, and the 1 and 0 that pgcrypto's own options use.
fn flag<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<bool>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Flag {
        Bool(bool),
        Number(u8),
    }
    match Flag::deserialize(deserializer)? {
        Flag::Bool(value) => Ok(Some(value)),
        Flag::Number(number @ 0..=1) => Ok(Some(number == 1)),
        Flag::Number(_) => Err(serde::de::Error::custom("expected true, false, 1 or 0")),
    }
}
