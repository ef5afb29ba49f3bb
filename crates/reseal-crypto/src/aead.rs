//! Authenticated encryption: our two suites with 192-bit nonces, and the 96-bit ones that other applications use.

use aes::{Aes128Enc, Aes192Enc, Aes256Enc};
use aes_gcm::AesGcm;
use aes_gcm::aead::consts::U16;
use aes_gcm::aead::{AeadInOut, KeyInit, inout::InOutBuf};
use chacha20poly1305::{ChaCha20Poly1305, XChaCha20Poly1305};

use crate::gcm::{self, Gcm};
use crate::secret::reserve_wiping;
use crate::xaes::XaesKey;

/// Bytes of a nonce of our own suites.
pub const NONCE_LEN: usize = 24;
/// Bytes that sealing adds: the tag.
pub const TAG_LEN: usize = 16;

/// A 192-bit nonce, drawn at random for every value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Nonce(pub [u8; NONCE_LEN]);

/// The value did not authenticate. A wrong key and a changed ciphertext look the same here, on purpose.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("does not authenticate under this key")]
pub struct Unauthentic;

/// An AEAD of reseal's own files and values, by its identifier on disk. 0 and 255 are never used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Suite {
    /// XChaCha20-Poly1305, for machines without AES instructions.
    XChaCha20Poly1305 = 1,
    /// XAES-256-GCM, the default.
    Xaes256Gcm = 2,
}

impl Suite {
    /// Every suite of version 1.
    pub const ALL: [Self; 2] = [Self::XChaCha20Poly1305, Self::Xaes256Gcm];

    /// The identifier on disk.
    pub const fn id(self) -> u8 {
        self as u8
    }

    /// The suite of an identifier, or `None` for reserved ones.
    pub fn from_id(id: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|suite| suite.id() == id)
    }

    /// The name in plan files and reports.
    pub const fn name(self) -> &'static str {
        match self {
            Self::XChaCha20Poly1305 => "xchacha20-poly1305",
            Self::Xaes256Gcm => "xaes-256-gcm",
        }
    }
}

/// A key of one suite, its schedule prepared.
#[derive(Clone)]
pub struct AeadKey(Inner);

// XAES is the default and the hot path: boxing it would cost a pointer per value to save bytes per key.
#[derive(Clone)]
#[allow(clippy::large_enum_variant)]
enum Inner {
    XChaCha(XChaCha20Poly1305),
    Xaes(XaesKey),
}

impl AeadKey {
    /// Prepares `key` for `suite`.
    pub fn new(suite: Suite, key: &[u8; 32]) -> Self {
        Self(match suite {
            Suite::XChaCha20Poly1305 => Inner::XChaCha(XChaCha20Poly1305::new(key.into())),
            Suite::Xaes256Gcm => Inner::Xaes(XaesKey::new(key)),
        })
    }

    /// The suite this key belongs to.
    pub fn suite(&self) -> Suite {
        match self.0 {
            Inner::XChaCha(_) => Suite::XChaCha20Poly1305,
            Inner::Xaes(_) => Suite::Xaes256Gcm,
        }
    }

    /// Appends ciphertext and tag of `plaintext` to `out`: `plaintext.len() + 16` bytes.
    pub fn seal(&self, nonce: &Nonce, aad: &[u8], plaintext: &[u8], out: &mut Vec<u8>) {
        match &self.0 {
            Inner::XChaCha(cipher) => seal_with(cipher, &nonce.0, aad, plaintext, out),
            Inner::Xaes(key) => key.seal(&nonce.0, aad, plaintext, out),
        }
    }

    /// Appends the plaintext of `sealed` (ciphertext and tag) to `out`.
    ///
    /// # Errors
    ///
    /// [`Unauthentic`] if anything differs; `out` is left as it was.
    pub fn open(
        &self,
        nonce: &Nonce,
        aad: &[u8],
        sealed: &[u8],
        out: &mut Vec<u8>,
    ) -> Result<(), Unauthentic> {
        match &self.0 {
            Inner::XChaCha(cipher) => open_with(cipher, &nonce.0, aad, sealed, out),
            Inner::Xaes(key) => key.open(&nonce.0, aad, sealed, out),
        }
    }
}

impl std::fmt::Debug for AeadKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("AeadKey").field("suite", &self.suite()).finish_non_exhaustive()
    }
}

/// An AEAD that applications use by themselves, with a nonce of 96 bits (or 128 in some AES-GCM layouts).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ForeignSuite {
    /// AES-128-GCM, SP 800-38D.
    Aes128Gcm,
    /// AES-192-GCM.
    Aes192Gcm,
    /// AES-256-GCM.
    Aes256Gcm,
    /// ChaCha20-Poly1305, RFC 8439; 96-bit nonces only.
    ChaCha20Poly1305,
}

impl ForeignSuite {
    /// Bytes of a key.
    pub const fn key_len(self) -> usize {
        match self {
            Self::Aes128Gcm => 16,
            Self::Aes192Gcm => 24,
            Self::Aes256Gcm | Self::ChaCha20Poly1305 => 32,
        }
    }
}

/// A key of a [`ForeignSuite`], its schedule prepared for one nonce length.
#[derive(Clone)]
pub struct ForeignKey(Foreign);

#[derive(Clone)]
enum Foreign {
    Aes128(Box<Gcm<Aes128Enc>>),
    Aes192(Box<Gcm<Aes192Enc>>),
    Aes256(Box<Gcm<Aes256Enc>>),
    Aes128Wide(Box<AesGcm<Aes128Enc, U16>>),
    Aes192Wide(Box<AesGcm<Aes192Enc, U16>>),
    Aes256Wide(Box<AesGcm<Aes256Enc, U16>>),
    ChaCha(ChaCha20Poly1305),
}

const PREPARED: &str = "the nonce has the length the key was prepared for";

/// The key or nonce length does not fit the suite.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{suite:?} takes a key of {} bytes and a nonce of 12 bytes (AES-GCM also of 16), not {key_len} and {nonce_len}", suite.key_len())]
pub struct ForeignLength {
    suite: ForeignSuite,
    key_len: usize,
    nonce_len: usize,
}

impl ForeignKey {
    /// Prepares `key` for nonces of `nonce_len` bytes.
    ///
    /// # Errors
    ///
    /// [`ForeignLength`] if either length does not fit the suite.
    pub fn new(suite: ForeignSuite, key: &[u8], nonce_len: usize) -> Result<Self, ForeignLength> {
        let wrong = |_| ForeignLength { suite, key_len: key.len(), nonce_len };
        Ok(Self(match (suite, nonce_len) {
            (ForeignSuite::Aes128Gcm, 12) => {
                Foreign::Aes128(Box::new(KeyInit::new_from_slice(key).map_err(wrong)?))
            }
            (ForeignSuite::Aes192Gcm, 12) => {
                Foreign::Aes192(Box::new(KeyInit::new_from_slice(key).map_err(wrong)?))
            }
            (ForeignSuite::Aes256Gcm, 12) => {
                Foreign::Aes256(Box::new(KeyInit::new_from_slice(key).map_err(wrong)?))
            }
            (ForeignSuite::Aes128Gcm, 16) => {
                Foreign::Aes128Wide(Box::new(KeyInit::new_from_slice(key).map_err(wrong)?))
            }
            (ForeignSuite::Aes192Gcm, 16) => {
                Foreign::Aes192Wide(Box::new(KeyInit::new_from_slice(key).map_err(wrong)?))
            }
            (ForeignSuite::Aes256Gcm, 16) => {
                Foreign::Aes256Wide(Box::new(KeyInit::new_from_slice(key).map_err(wrong)?))
            }
            (ForeignSuite::ChaCha20Poly1305, 12) => {
                Foreign::ChaCha(KeyInit::new_from_slice(key).map_err(wrong)?)
            }
            _ => return Err(ForeignLength { suite, key_len: key.len(), nonce_len }),
        }))
    }

    /// Appends ciphertext and tag to `out`: `plaintext.len() + 16` bytes.
    ///
    /// # Panics
    ///
    /// If `nonce` does not have the length this key was prepared for.
    pub fn seal(&self, nonce: &[u8], aad: &[u8], plaintext: &[u8], out: &mut Vec<u8>) {
        match &self.0 {
            Foreign::Aes128(key) => key.seal(narrow(nonce), aad, plaintext, out),
            Foreign::Aes192(key) => key.seal(narrow(nonce), aad, plaintext, out),
            Foreign::Aes256(key) => key.seal(narrow(nonce), aad, plaintext, out),
            Foreign::Aes128Wide(key) => seal_with(&**key, nonce, aad, plaintext, out),
            Foreign::Aes192Wide(key) => seal_with(&**key, nonce, aad, plaintext, out),
            Foreign::Aes256Wide(key) => seal_with(&**key, nonce, aad, plaintext, out),
            Foreign::ChaCha(key) => seal_with(key, nonce, aad, plaintext, out),
        }
    }

    /// Appends the plaintext of `sealed` (ciphertext and tag) to `out`.
    ///
    /// # Errors
    ///
    /// [`Unauthentic`] if anything differs, a nonce of another length included; `out` is left as it was.
    pub fn open(
        &self,
        nonce: &[u8],
        aad: &[u8],
        sealed: &[u8],
        out: &mut Vec<u8>,
    ) -> Result<(), Unauthentic> {
        let narrow = || nonce.try_into().map_err(|_| Unauthentic);
        match &self.0 {
            Foreign::Aes128(key) => key.open(narrow()?, aad, sealed, out),
            Foreign::Aes192(key) => key.open(narrow()?, aad, sealed, out),
            Foreign::Aes256(key) => key.open(narrow()?, aad, sealed, out),
            Foreign::Aes128Wide(key) => open_with(&**key, nonce, aad, sealed, out),
            Foreign::Aes192Wide(key) => open_with(&**key, nonce, aad, sealed, out),
            Foreign::Aes256Wide(key) => open_with(&**key, nonce, aad, sealed, out),
            Foreign::ChaCha(key) => open_with(key, nonce, aad, sealed, out),
        }
    }
}

impl std::fmt::Debug for ForeignKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ForeignKey").finish_non_exhaustive()
    }
}

/// A nonce of 96 bits.
fn narrow(nonce: &[u8]) -> &[u8; gcm::NONCE_LEN] {
    nonce.try_into().expect(PREPARED)
}

fn seal_with<C: AeadInOut>(cipher: &C, nonce: &[u8], aad: &[u8], plaintext: &[u8], out: &mut Vec<u8>) {
    let nonce = nonce.try_into().expect(PREPARED);
    let start = out.len();
    out.extend_from_slice(plaintext);
    let tag = cipher
        .encrypt_inout_detached(nonce, aad, InOutBuf::from(&mut out[start..]))
        .expect("values end at 2^28 bytes, far below the limit of every suite");
    out.extend_from_slice(&tag);
}

fn open_with<C: AeadInOut>(
    cipher: &C,
    nonce: &[u8],
    aad: &[u8],
    sealed: &[u8],
    out: &mut Vec<u8>,
) -> Result<(), Unauthentic> {
    let nonce = nonce.try_into().map_err(|_| Unauthentic)?;
    let split = sealed.len().checked_sub(TAG_LEN).ok_or(Unauthentic)?;
    let (ciphertext, tag) = sealed.split_at(split);
    let tag = tag.try_into().map_err(|_| Unauthentic)?;
    let start = out.len();
    reserve_wiping(out, ciphertext.len());
    out.extend_from_slice(ciphertext);
    let opened = cipher.decrypt_inout_detached(nonce, aad, InOutBuf::from(&mut out[start..]), tag);
    if opened.is_err() {
        out.truncate(start);
        return Err(Unauthentic);
    }
    Ok(())
}
