//! Writing messages: which options, and the bytes.

use reseal_crypto::random::RandomPool;
use sha1::{Digest as _, Sha1};
use zeroize::Zeroizing;

use super::algorithm::{Cipher, Compression, Digest};
use super::literal::{self, Literal};
use super::s2k::{Key, S2k, S2kMode};
use super::{MDC_LEN, MessageShape, cfb, message, packet};
use crate::format::{SealError, Shape};

/// Options that the plan names: they override a message's own. `None` keeps those, or takes pgcrypto's default for a
/// value that comes from another format.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Options {
    /// `cipher-algo`; AES-128 by default.
    pub cipher: Option<Cipher>,
    /// `s2k-mode`: 0, 1 or 3; 3 by default.
    pub s2k_mode: Option<u8>,
    /// The count octet that stands for `s2k-count`; drawn from 96 to 127 by default.
    pub s2k_code: Option<u8>,
    /// `s2k-digest-algo`; SHA-1 by default.
    pub digest: Option<Digest>,
    /// `sess-key`; no by default.
    pub session: Option<bool>,
    /// `s2k-cipher-algo`, the cipher of an encrypted session key; that of the data by default.
    pub session_cipher: Option<Cipher>,
    /// `compress-algo`; none by default.
    pub compression: Option<Compression>,
    /// `compress-level`, 1 to 9; 6 by default.
    pub level: Option<u32>,
    /// `unicode-mode`: whether text is marked as UTF-8; no by default.
    pub unicode: Option<bool>,
}

impl Options {
    /// Decides everything about a message but its key.
    pub(super) fn draft(
        &self,
        plaintext: &[u8],
        like: &Shape,
        now: fn() -> u64,
        random: &mut RandomPool<'_>,
    ) -> Result<Draft, SealError> {
        SealError::check_len(plaintext)?;
        let shape = self.apply(plaintext, like, now, random)?;
        let mut session = Key::default();
        if shape.session.is_some() {
            *session = random.take()?;
        }
        Ok(Draft {
            salt: random.take()?,
            prefix: random.take()?,
            level: self.level.unwrap_or(6),
            shape,
            session,
        })
    }

    fn apply(
        &self,
        plaintext: &[u8],
        like: &Shape,
        now: fn() -> u64,
        random: &mut RandomPool<'_>,
    ) -> Result<MessageShape, SealError> {
        let mut shape = match like {
            Shape::Pgcrypto(shape) => *shape,
            other => default_shape(plaintext, other.created().unwrap_or_else(now), random)?,
        };
        if let (None, S2kMode::Iterated(_)) | (Some(3), _) = (self.s2k_mode, shape.s2k) {
            let own = if let S2kMode::Iterated(code) = shape.s2k { Some(code) } else { None };
            shape.s2k = match self.s2k_code.or(own) {
                Some(code) => S2kMode::Iterated(code),
                None => S2kMode::Iterated(draw_code(random)?),
            };
        }
        match self.s2k_mode {
            Some(0) => shape.s2k = S2kMode::Simple,
            Some(1) => shape.s2k = S2kMode::Salted,
            _ => {}
        }
        shape.cipher = self.cipher.unwrap_or(shape.cipher);
        shape.digest = self.digest.unwrap_or(shape.digest);
        shape.compression = self.compression.unwrap_or(shape.compression);
        shape.session = match self.session {
            Some(false) => None,
            Some(true) => self.session_cipher.or(shape.session).or(Some(shape.cipher)),
            None => shape.session.map(|own| self.session_cipher.unwrap_or(own)),
        };
        shape.kind = match (self.unicode, shape.kind) {
            (Some(true), b't') => b'u',
            (Some(false), b'u') => b't',
            (_, kind) => kind,
        };
        Ok(shape)
    }

    /// These options with the defaults that values from other formats get, where they decide a length.
    #[must_use]
    pub fn for_new_values(mut self) -> Self {
        self.session.get_or_insert(false);
        self.compression.get_or_insert(Compression::None);
        self.cipher.get_or_insert(Cipher::Aes128);
        self
    }

    /// The most that a message of `plaintext_len` bytes can take with these options.
    pub fn message_len_max(&self, plaintext_len: usize) -> usize {
        // Without a word in the plan a compressed message stays compressed, which may make it longer.
        let packets = match self.compression {
            Some(Compression::None) => literal::written_len(plaintext_len),
            _ => literal::compressed_len_max(plaintext_len),
        };
        let session = match self.session {
            Some(false) => 0,
            _ => 1 + self.cipher.unwrap_or(Cipher::Aes256).key_len(),
        };
        let salt_and_count = match self.s2k_mode {
            Some(0) => 0,
            Some(1) => 8,
            _ => 9,
        };
        packet::written_len(4 + salt_and_count + session)
            + packet::written_len(1 + cfb::PREFIX_LEN + packets + MDC_LEN)
    }
}

fn default_shape(
    plaintext: &[u8],
    created: u64,
    random: &mut RandomPool<'_>,
) -> Result<MessageShape, SealError> {
    // pgp_sym_decrypt refuses `b`, pgp_sym_decrypt_bytea reads either; Postgres' text holds no NUL.
    let is_text = std::str::from_utf8(plaintext).is_ok() && !plaintext.contains(&0);
    Ok(MessageShape {
        cipher: Cipher::Aes128,
        session: None,
        s2k: S2kMode::Iterated(draw_code(random)?),
        digest: Digest::Sha1,
        compression: Compression::None,
        kind: if is_text { b't' } else { b'b' },
        created: u32::try_from(created).unwrap_or(0),
    })
}

/// A random count octet, as pgcrypto draws it.
fn draw_code(random: &mut RandomPool<'_>) -> Result<u8, SealError> {
    let [byte] = random.take::<1>()?;
    Ok(96 + (byte & 0x1F))
}

/// A message to be: all that is random is drawn, only the key is missing.
pub(super) struct Draft {
    shape: MessageShape,
    salt: [u8; 8],
    session: Key,
    prefix: [u8; cfb::BLOCK],
    level: u32,
}

impl Draft {
    /// How to derive its key, and how many bytes.
    pub(super) fn key_job(&self) -> (S2k, usize) {
        let shape = &self.shape;
        let s2k = S2k { mode: shape.s2k, digest: shape.digest, salt: self.salt };
        (s2k, shape.session.unwrap_or(shape.cipher).key_len())
    }

    /// Appends the message.
    pub(super) fn write(&self, s2k_key: &Key, plaintext: &[u8], out: &mut Vec<u8>) {
        let (s2k, _) = self.key_job();
        let cipher = self.shape.cipher;
        let data_key = match self.shape.session {
            None => {
                message::write_key_packet(&s2k, cipher, &[], out);
                s2k_key
            }
            Some(wrapping) => {
                let mut session = Zeroizing::new(vec![cipher.id()]);
                session.extend_from_slice(&self.session[..cipher.key_len()]);
                cfb::encrypt(wrapping, s2k_key, &mut session);
                message::write_key_packet(&s2k, wrapping, &session, out);
                &self.session
            }
        };
        // Room for all that follows: a buffer that grows leaves a copy of the plaintext behind.
        let packets_max = literal::compressed_len_max(plaintext.len());
        let mut data = Zeroizing::new(Vec::with_capacity(1 + cfb::PREFIX_LEN + packets_max + MDC_LEN));
        message::begin_data(&mut data);
        let start = data.len();
        data.extend_from_slice(&self.prefix);
        data.extend_from_slice(&self.prefix[cfb::BLOCK - 2..]);
        let MessageShape { compression, kind, created, .. } = self.shape;
        literal::write(&Literal { compression, kind, created }, self.level, plaintext, &mut data);
        data.extend_from_slice(&packet::MDC_HEADER);
        let hash = Sha1::digest(&data[start..]);
        data.extend_from_slice(&hash);
        cfb::encrypt(cipher, data_key, &mut data[start..]);
        packet::write(packet::ENCRYPTED_MDC, &data, out);
    }
}
