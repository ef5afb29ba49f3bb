//! Messages of pgcrypto's `pgp_sym_encrypt`: OpenPGP with a passphrase, [RFC 4880].
//!
//! ```text
//! C3 0D  04 cipher mode hash salt(8) count [session key]           how to get the key
//! D2 len 01 | CFB( random(16) last two again | packets | D3 14 SHA-1 )
//!                                              CB len kind 00 time(4) data      or compressed: C8 len algorithm …
//! ```
//!
//! Everything pgcrypto writes is read, but for its legacy ciphers, which are named in the refusal. A message that is
//! sealed again keeps its own options ([`MessageShape`]) unless [`Options`] say otherwise; salt, session key and
//! random prefix are fresh. Lengths are the very ones pgcrypto writes.
//!
//! A wrong key and a changed message give the same error in the same time: the hash over the whole is always computed,
//! and nothing is read from the decrypted bytes before it is right.
//!
//! [RFC 4880]: https://www.rfc-editor.org/rfc/rfc4880

mod algorithm;
mod cfb;
mod lanes;
mod literal;
mod message;
mod packet;
mod s2k;
mod seal;

use std::fmt;
use std::ops::Range;

use reseal_crypto::random::RandomPool;
use reseal_crypto::{RowKey, SecretBytes};
use sha1::{Digest as _, Sha1};
use subtle::ConstantTimeEq;
use zeroize::{Zeroize, Zeroizing};

pub use algorithm::{Cipher, Compression, Digest};
use message::DataKey;
pub use message::Message;
pub use s2k::S2kMode;
pub use seal::Options;

use crate::format::{Format, OpenError, SealError, Shape};
use packet::Body;
use s2k::{Key, S2k};

/// Name of the format.
pub const NAME: &str = "pgcrypto";

/// Bytes of the hash and its header at the end of the encrypted data.
const MDC_LEN: usize = packet::MDC_HEADER.len() + 20;

/// The options a message was written with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct MessageShape {
    /// The cipher of the data.
    pub cipher: Cipher,
    /// The cipher that the session key is encrypted with, if there is one (`sess-key=1`).
    pub session: Option<Cipher>,
    /// How the passphrase is repeated.
    pub s2k: S2kMode,
    /// The hash that stretches the passphrase.
    pub digest: Digest,
    /// How the plaintext is compressed.
    pub compression: Compression,
    /// What the plaintext is: `t` text, `u` UTF-8 text, `b` bytes.
    pub kind: u8,
    /// When it was written, in seconds since 1970; 0 for not said.
    pub created: u32,
}

/// Whether messages without a hash are opened.
///
/// Nothing proves that such a message opened under the right key or is what was written (`disable-mdc=1`, tag 9).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Unhashed {
    /// They are refused by name.
    #[default]
    Refused,
    /// They are opened, and sealed again with a hash.
    Allowed,
}

/// Messages under one passphrase.
pub struct PgcryptoFormat {
    passphrase: SecretBytes,
    options: Options,
    unhashed: Unhashed,
    now: fn() -> u64,
}

impl PgcryptoFormat {
    /// The format under `passphrase`, whose bytes are taken as they are.
    ///
    /// `now` gives the seconds since 1970 for values that carry no time of their own.
    pub fn new(passphrase: SecretBytes, options: Options, unhashed: Unhashed, now: fn() -> u64) -> Self {
        Self { passphrase, options, unhashed, now }
    }

    fn parse<'a>(&self, message: &'a [u8]) -> Result<Message<'a>, OpenError> {
        let message = Message::parse(message)?;
        if !message.hashed && self.unhashed == Unhashed::Refused {
            return Err(OpenError::Unsupported {
                format: NAME,
                option: "no integrity protection (disable-mdc)",
            });
        }
        Ok(message)
    }
}

impl PgcryptoFormat {
    /// Opens messages with the keys that `derive` makes for those that can be read.
    fn open_all(
        &self,
        messages: &[&[u8]],
        plaintexts: &mut Vec<u8>,
        derive: impl FnOnce(&[(S2k, usize)]) -> Vec<Key>,
    ) -> Vec<Result<(Range<usize>, Shape), OpenError>> {
        let parsed: Vec<_> = messages.iter().map(|message| self.parse(message)).collect();
        let jobs: Vec<(S2k, usize)> =
            parsed.iter().flatten().map(|message| (message.s2k, message.key_len())).collect();
        let mut keys = derive(&jobs).into_iter();
        let open = |message: Result<Message<'_>, OpenError>| {
            let message = message?;
            let key = keys.next().expect("there is a key for every message that was parsed");
            let start = plaintexts.len();
            let shape = open_with(&message, &key, plaintexts)?;
            Ok((start..plaintexts.len(), shape))
        };
        parsed.into_iter().map(open).collect()
    }
}

impl fmt::Debug for PgcryptoFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PgcryptoFormat").field("options", &self.options).finish_non_exhaustive()
    }
}

impl Format for PgcryptoFormat {
    fn name(&self) -> &'static str {
        NAME
    }

    fn authenticated(&self) -> bool {
        self.unhashed == Unhashed::Refused
    }

    fn key_prefix(&self) -> Option<&[u8]> {
        None
    }

    fn continues(&self, shape: &Shape) -> bool {
        matches!(shape, Shape::Pgcrypto(_))
    }

    fn open(
        &self,
        message: &[u8],
        _row: Option<&RowKey>,
        plaintext: &mut Vec<u8>,
    ) -> Result<Shape, OpenError> {
        let message = self.parse(message)?;
        let key = message.s2k.derive(&self.passphrase, message.key_len());
        open_with(&message, &key, plaintext)
    }

    fn seal(
        &self,
        plaintext: &[u8],
        like: &Shape,
        _row: Option<&RowKey>,
        random: &mut RandomPool<'_>,
        message: &mut Vec<u8>,
    ) -> Result<(), SealError> {
        let draft = self.options.draft(plaintext, like, self.now, random)?;
        let (s2k, key_len) = draft.key_job();
        draft.write(&s2k.derive(&self.passphrase, key_len), plaintext, message);
        Ok(())
    }

    fn open_many(
        &self,
        messages: &[&[u8]],
        _rows: &[Option<&RowKey>],
        plaintexts: &mut Vec<u8>,
    ) -> Vec<Result<(Range<usize>, Shape), OpenError>> {
        self.open_all(messages, plaintexts, |jobs| s2k::derive_many(&self.passphrase, jobs))
    }

    fn reopen_many(
        &self,
        messages: &[&[u8]],
        _rows: &[Option<&RowKey>],
        plaintexts: &mut Vec<u8>,
    ) -> Vec<Result<(Range<usize>, Shape), OpenError>> {
        self.open_all(messages, plaintexts, |jobs| s2k::derive_again(&self.passphrase, jobs))
    }

    fn seal_many(
        &self,
        plaintexts: &[u8],
        values: &[(Range<usize>, Shape)],
        _rows: &[Option<&RowKey>],
        random: &mut RandomPool<'_>,
        out: &mut Vec<u8>,
    ) -> Result<Vec<Range<usize>>, SealError> {
        let draft = |(place, shape): &(Range<usize>, Shape)| {
            self.options.draft(&plaintexts[place.clone()], shape, self.now, random)
        };
        let drafts = values.iter().map(draft).collect::<Result<Vec<_>, _>>()?;
        let jobs: Vec<(S2k, usize)> = drafts.iter().map(seal::Draft::key_job).collect();
        let keys = s2k::derive_many(&self.passphrase, &jobs);
        let write = |((draft, key), (place, _)): ((&seal::Draft, &Key), &(Range<usize>, Shape))| {
            let start = out.len();
            draft.write(key, &plaintexts[place.clone()], out);
            start..out.len()
        };
        Ok(drafts.iter().zip(&keys).zip(values).map(write).collect())
    }
}

/// Opens a message with the key that its S2K gives.
fn open_with(message: &Message<'_>, s2k_key: &Key, plaintext: &mut Vec<u8>) -> Result<Shape, OpenError> {
    let DataKey { cipher, key, plausible } = message.data_key(s2k_key);
    let mut data = match &message.data {
        Body::Whole(bytes) => Zeroizing::new(bytes.to_vec()),
        Body::Joined(bytes) => bytes.clone(),
    };
    let literal = if message.hashed {
        cfb::decrypt(cipher, &key, &mut data);
        let packets = checked_packets(&data).filter(|_| plausible).ok_or(OpenError::Unopened)?;
        literal::read(packets, plaintext)?
    } else {
        cfb::decrypt_resynchronised(cipher, &key, &mut data);
        open_unhashed(&data, plausible, plaintext)?
    };
    Ok(Shape::Pgcrypto(MessageShape {
        cipher,
        session: message.session.as_ref().map(|_| message.cipher),
        s2k: message.s2k.mode,
        digest: message.s2k.digest,
        compression: literal.compression,
        kind: literal.kind,
        created: literal.created,
    }))
}

/// The packets between prefix and hash, if the hash is right.
fn checked_packets(data: &[u8]) -> Option<&[u8]> {
    let end = data.len().checked_sub(MDC_LEN)?;
    let packets = data[..end].get(cfb::PREFIX_LEN..)?;
    let header = &data[end..end + packet::MDC_HEADER.len()];
    let hash = Sha1::digest(&data[..data.len() - 20]);
    let right = hash.ct_eq(&data[data.len() - 20..]) & header.ct_eq(&packet::MDC_HEADER) & repeats(data);
    bool::from(right).then_some(packets)
}

/// Without a hash only the repeated bytes and the grammar of the packets speak against a wrong key.
fn open_unhashed(
    data: &[u8],
    plausible: bool,
    plaintext: &mut Vec<u8>,
) -> Result<literal::Literal, OpenError> {
    let packets = data.get(cfb::PREFIX_LEN..).ok_or(OpenError::Unopened)?;
    let start = plaintext.len();
    let read = literal::read(packets, plaintext);
    if plausible && bool::from(repeats(data)) {
        return read.map_err(|_| OpenError::Unopened);
    }
    plaintext[start..].zeroize();
    plaintext.truncate(start);
    Err(OpenError::Unopened)
}

/// Whether the last two bytes of the random block stand once more after it. `data` holds the prefix.
fn repeats(data: &[u8]) -> subtle::Choice {
    data[cfb::BLOCK - 2..cfb::BLOCK].ct_eq(&data[cfb::BLOCK..cfb::PREFIX_LEN])
}

#[cfg(test)]
mod tests;
