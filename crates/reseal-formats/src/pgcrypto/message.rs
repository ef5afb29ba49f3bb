//! The clear outside of a message: the key packet that says how to derive a key, and the packet of encrypted data.

use zeroize::Zeroizing;

use super::NAME;
use super::algorithm::{Cipher, Digest};
use super::cfb;
use super::packet::{self, Body, OpenEnd};
use super::s2k::{Key, S2k, S2kMode};
use crate::format::OpenError;

/// Version of a key packet.
const KEY_VERSION: u8 = 4;
/// Version of an encrypted packet with a hash.
const MDC_VERSION: u8 = 1;
/// The longest message that is looked at, in bytes.
const MESSAGE_MAX: usize = (1 << 28) + (1 << 20);

/// A message, parsed but not opened: what anyone can read of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message<'a> {
    pub(super) s2k: S2k,
    /// The cipher of the S2K key: also that of the data, unless there is a session key.
    pub(super) cipher: Cipher,
    /// The encrypted session key, if there is one: cipher number and key.
    pub(super) session: Option<Vec<u8>>,
    /// Whether the data ends in a hash. Without one nothing proves the key or the data.
    pub(super) hashed: bool,
    /// The encrypted data.
    pub(super) data: Body<'a>,
}

impl<'a> Message<'a> {
    /// Parses the outside of `bytes`.
    ///
    /// # Errors
    ///
    /// [`OpenError::Malformed`], [`OpenError::Unsupported`] or [`OpenError::TooLarge`].
    pub fn parse(bytes: &'a [u8]) -> Result<Self, OpenError> {
        if bytes.len() > MESSAGE_MAX {
            return Err(OpenError::TOO_LONG);
        }
        let mut input = bytes;
        let (tag, key_packet) = next_packet(&mut input)?;
        if tag == 1 {
            return Err(OpenError::Unsupported { format: NAME, option: "a public key" });
        }
        if tag != packet::SYMMETRIC_KEY {
            return Err(malformed("does not begin with a key packet"));
        }
        let (s2k, cipher, session) = parse_key_packet(key_packet.bytes())?;
        let (tag, data) = next_packet(&mut input)?;
        let (hashed, data) = match tag {
            packet::ENCRYPTED_MDC => (true, strip_version(data)?),
            packet::ENCRYPTED => (false, data),
            packet::SYMMETRIC_KEY => {
                return Err(OpenError::Unsupported { format: NAME, option: "several passphrases" });
            }
            _ => return Err(malformed("no encrypted data after the key packet")),
        };
        if !input.is_empty() {
            return Err(malformed("something follows the encrypted data"));
        }
        Ok(Self { s2k, cipher, session, hashed, data })
    }

    /// Bytes of the key that the passphrase has to give.
    pub(super) fn key_len(&self) -> usize {
        self.cipher.key_len()
    }

    /// The cipher and key of the data, given the key from the passphrase.
    pub(super) fn data_key(&self, s2k_key: &Key) -> DataKey {
        let own = |plausible| DataKey { cipher: self.cipher, key: s2k_key.clone(), plausible };
        let Some(session) = &self.session else { return own(true) };
        let mut opened = Zeroizing::new(session.clone());
        cfb::decrypt(self.cipher, s2k_key, &mut opened);
        let (id, bytes) =
            opened.split_first().expect("a session key has its cipher before it: see `parse_key_packet`");
        match Cipher::from_id(*id).filter(|cipher| cipher.key_len() == bytes.len()) {
            Some(cipher) => {
                let mut key = Key::default();
                key[..bytes.len()].copy_from_slice(bytes);
                DataKey { cipher, key, plausible: true }
            }
            None => own(false),
        }
    }
}

/// What the data is decrypted with.
pub(super) struct DataKey {
    pub(super) cipher: Cipher,
    pub(super) key: Key,
    /// False if the session key makes no sense, so that the passphrase is wrong. The key is one that serves all the
    /// same: a wrong passphrase shall take the same steps wherever it shows.
    pub(super) plausible: bool,
}

/// Skips marker packets, as readers must.
fn next_packet<'a>(input: &mut &'a [u8]) -> Result<(u8, Body<'a>), OpenError> {
    loop {
        let (tag, body) = packet::read(input, OpenEnd::Refused).map_err(malformed)?;
        if tag != packet::MARKER {
            return Ok((tag, body));
        }
    }
}

fn parse_key_packet(mut body: &[u8]) -> Result<(S2k, Cipher, Option<Vec<u8>>), OpenError> {
    let body = &mut body;
    let [version, cipher, mode, digest] = packet::take_array(body).map_err(malformed)?;
    if version != KEY_VERSION {
        return Err(malformed("unknown version of the key packet"));
    }
    let cipher = Cipher::named(cipher)?;
    let digest = Digest::from_id(digest).ok_or(malformed("unknown S2K hash"))?;
    let salt = match mode {
        0 => [0; 8],
        1 | 3 => packet::take_array(body).map_err(malformed)?,
        _ => return Err(malformed("unknown S2K mode")),
    };
    let mode = match mode {
        0 => S2kMode::Simple,
        1 => S2kMode::Salted,
        _ => S2kMode::Iterated(packet::take_byte(body).map_err(malformed)?),
    };
    let session = match body.len() {
        0 => None,
        17..=33 => Some(body.to_vec()),
        _ => return Err(malformed("no session key has this length")),
    };
    Ok((S2k { mode, digest, salt }, cipher, session))
}

fn strip_version(data: Body<'_>) -> Result<Body<'_>, OpenError> {
    if data.bytes().first() != Some(&MDC_VERSION) {
        return Err(malformed("unknown version of the encrypted packet"));
    }
    Ok(match data {
        Body::Whole(bytes) => Body::Whole(&bytes[1..]),
        Body::Joined(mut bytes) => {
            bytes.remove(0);
            Body::Joined(bytes)
        }
    })
}

/// Appends the key packet that [`parse_key_packet`] reads.
pub(super) fn write_key_packet(s2k: &S2k, cipher: Cipher, session: &[u8], out: &mut Vec<u8>) {
    let mut body = Vec::with_capacity(13 + session.len());
    body.extend_from_slice(&[KEY_VERSION, cipher.id(), s2k.mode.id(), s2k.digest.id()]);
    if s2k.mode != S2kMode::Simple {
        body.extend_from_slice(&s2k.salt);
    }
    if let S2kMode::Iterated(code) = s2k.mode {
        body.push(code);
    }
    body.extend_from_slice(session);
    packet::write(packet::SYMMETRIC_KEY, &body, out);
}

/// Begins the body of an encrypted packet with a hash.
pub(super) fn begin_data(body: &mut Vec<u8>) {
    body.push(MDC_VERSION);
}

pub(super) fn malformed(reason: &'static str) -> OpenError {
    OpenError::Malformed { format: NAME, reason }
}
