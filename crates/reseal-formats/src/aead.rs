//! Values that applications seal with AES-GCM or ChaCha20-Poly1305 by themselves: nonce, ciphertext and tag in some
//! order, after a fixed prefix or none.
//!
//! ```text
//! nonce|ciphertext|tag         most libraries        (default)
//! nonce|tag|ciphertext         sqlalchemy-utils, older Node code
//! hex:0103616263|nonce|tag|ciphertext                a fixed prefix first
//! ```

use std::fmt;
use std::str::FromStr;

use reseal_crypto::RowKey;
use reseal_crypto::aead::{ForeignKey, TAG_LEN};
use reseal_crypto::random::RandomPool;

use crate::format::{Format, OpenError, PLAINTEXT_MAX, SealError, Shape};

/// One of the parts of a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Part {
    Nonce,
    Ciphertext,
    Tag,
}

/// In which order the parts of a value stand.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Layout {
    prefix: Vec<u8>,
    parts: [Part; 3],
}

impl Layout {
    /// Bytes that stand before everything else.
    pub fn prefix(&self) -> &[u8] {
        &self.prefix
    }

    /// Bytes that a value has beside its ciphertext.
    pub fn overhead(&self, nonce_len: usize) -> usize {
        self.prefix.len() + nonce_len + TAG_LEN
    }
}

impl Default for Layout {
    fn default() -> Self {
        Self { prefix: Vec::new(), parts: [Part::Nonce, Part::Ciphertext, Part::Tag] }
    }
}

/// The text does not describe a layout.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "a layout is `nonce`, `ciphertext` and `tag` joined by `|`, after a prefix `hex:…` or `text:…` or none: {0}"
)]
pub struct LayoutError(&'static str);

impl FromStr for Layout {
    type Err = LayoutError;

    fn from_str(text: &str) -> Result<Self, LayoutError> {
        let (prefix, rest) = match text.split_once('|') {
            Some((first, rest)) if first.contains(':') => (parse_prefix(first)?, rest),
            _ => (Vec::new(), text),
        };
        let mut parts = Vec::with_capacity(3);
        for name in rest.split('|') {
            let part = match name.trim() {
                "nonce" | "iv" => Part::Nonce,
                "ciphertext" => Part::Ciphertext,
                "tag" => Part::Tag,
                _ => return Err(LayoutError("unknown part")),
            };
            if parts.contains(&part) {
                return Err(LayoutError("a part stands twice"));
            }
            parts.push(part);
        }
        let parts = parts.try_into().map_err(|_| LayoutError("a part is missing"))?;
        Ok(Self { prefix, parts })
    }
}

fn parse_prefix(text: &str) -> Result<Vec<u8>, LayoutError> {
    match text.split_once(':') {
        Some(("hex", digits)) => {
            hex::decode(digits).map_err(|_| LayoutError("the prefix is not hexadecimal"))
        }
        Some(("text", text)) => Ok(text.as_bytes().to_vec()),
        _ => Err(LayoutError("a prefix begins with `hex:` or `text:`")),
    }
}

impl fmt::Display for Layout {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.prefix.is_empty() {
            write!(f, "hex:{}|", hex::encode(&self.prefix))?;
        }
        let names = self.parts.map(|part| match part {
            Part::Nonce => "nonce",
            Part::Ciphertext => "ciphertext",
            Part::Tag => "tag",
        });
        f.write_str(&names.join("|"))
    }
}

/// The parts of a value, borrowed. Nothing is authenticated yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Parts<'a> {
    /// The nonce.
    pub nonce: &'a [u8],
    /// The ciphertext, as long as the plaintext.
    pub ciphertext: &'a [u8],
    /// The tag, 16 bytes.
    pub tag: &'a [u8],
}

/// Cuts a value into its parts; `None` if it is too short or its prefix differs.
pub fn split<'a>(layout: &Layout, nonce_len: usize, value: &'a [u8]) -> Option<Parts<'a>> {
    // An empty `Vec` points nowhere, and some processors take longer to compare nothing there than to open a value.
    let mut rest = if layout.prefix.is_empty() { value } else { value.strip_prefix(layout.prefix())? };
    let ciphertext_len = rest.len().checked_sub(nonce_len + TAG_LEN)?;
    let mut take = |length| {
        let (part, after) = rest.split_at(length);
        rest = after;
        part
    };
    let mut parts = Parts { nonce: &[], ciphertext: &[], tag: &[] };
    for part in layout.parts {
        match part {
            Part::Nonce => parts.nonce = take(nonce_len),
            Part::Ciphertext => parts.ciphertext = take(ciphertext_len),
            Part::Tag => parts.tag = take(TAG_LEN),
        }
    }
    Some(parts)
}

/// Values of one layout under one key.
#[derive(Debug)]
pub struct AeadFormat {
    name: &'static str,
    key: ForeignKey,
    nonce_len: usize,
    layout: Layout,
    aad: Vec<u8>,
}

impl AeadFormat {
    /// The format called `name` under `key`, which was prepared for nonces of `nonce_len` bytes (12 or 16).
    ///
    /// `aad` is the associated data of every value.
    pub fn new(name: &'static str, key: ForeignKey, nonce_len: usize, layout: Layout, aad: Vec<u8>) -> Self {
        Self { name, key, nonce_len, layout, aad }
    }

    fn draw_nonce(&self, random: &mut RandomPool<'_>) -> Result<[u8; 16], SealError> {
        let mut nonce = [0; 16];
        match self.nonce_len {
            12 => nonce[..12].copy_from_slice(&random.take::<12>()?),
            _ => nonce = random.take()?,
        }
        Ok(nonce)
    }
}

impl Format for AeadFormat {
    fn name(&self) -> &'static str {
        self.name
    }

    fn authenticated(&self) -> bool {
        true
    }

    fn key_prefix(&self) -> Option<&[u8]> {
        None
    }

    fn open(
        &self,
        message: &[u8],
        _row: Option<&RowKey>,
        plaintext: &mut Vec<u8>,
    ) -> Result<Shape, OpenError> {
        let malformed = OpenError::Malformed { format: self.name, reason: "too short, or another prefix" };
        let parts = split(&self.layout, self.nonce_len, message).ok_or(malformed)?;
        if parts.ciphertext.len() > PLAINTEXT_MAX {
            return Err(OpenError::TOO_LONG);
        }
        let opened = if matches!(self.layout.parts, [.., Part::Ciphertext, Part::Tag]) {
            let sealed = &message[message.len() - parts.ciphertext.len() - TAG_LEN..];
            self.key.open(parts.nonce, &self.aad, sealed, plaintext)
        } else {
            self.key.open(parts.nonce, &self.aad, &[parts.ciphertext, parts.tag].concat(), plaintext)
        };
        opened.map(|()| Shape::Plain).map_err(|_| OpenError::Unopened)
    }

    fn seal(
        &self,
        plaintext: &[u8],
        _like: &Shape,
        _row: Option<&RowKey>,
        random: &mut RandomPool<'_>,
        message: &mut Vec<u8>,
    ) -> Result<(), SealError> {
        SealError::check_len(plaintext)?;
        let nonce = self.draw_nonce(random)?;
        let nonce = &nonce[..self.nonce_len];
        message.reserve(self.layout.overhead(nonce.len()) + plaintext.len());
        message.extend_from_slice(self.layout.prefix());
        if self.layout.parts == [Part::Nonce, Part::Ciphertext, Part::Tag] {
            message.extend_from_slice(nonce);
            self.key.seal(nonce, &self.aad, plaintext, message);
            return Ok(());
        }
        let mut sealed = Vec::with_capacity(plaintext.len() + TAG_LEN);
        self.key.seal(nonce, &self.aad, plaintext, &mut sealed);
        let (ciphertext, tag) = sealed.split_at(plaintext.len());
        for part in self.layout.parts {
            message.extend_from_slice(match part {
                Part::Nonce => nonce,
                Part::Ciphertext => ciphertext,
                Part::Tag => tag,
            });
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use reseal_crypto::OsRandom;
    use reseal_crypto::aead::ForeignSuite;

    use super::*;

    const LAYOUTS: [&str; 7] = [
        "nonce|ciphertext|tag",
        "nonce|tag|ciphertext",
        "tag|nonce|ciphertext",
        "tag|ciphertext|nonce",
        "ciphertext|tag|nonce",
        "ciphertext|nonce|tag",
        "hex:010a|nonce|tag|ciphertext",
    ];
    const SUITES: [(ForeignSuite, usize); 7] = [
        (ForeignSuite::Aes128Gcm, 12),
        (ForeignSuite::Aes192Gcm, 12),
        (ForeignSuite::Aes256Gcm, 12),
        (ForeignSuite::Aes128Gcm, 16),
        (ForeignSuite::Aes192Gcm, 16),
        (ForeignSuite::Aes256Gcm, 16),
        (ForeignSuite::ChaCha20Poly1305, 12),
    ];

    fn format(layout: &str, (suite, nonce_len): (ForeignSuite, usize), key: u8, aad: &[u8]) -> AeadFormat {
        let key = ForeignKey::new(suite, &vec![key; suite.key_len()], nonce_len).expect("fits");
        AeadFormat::new("aead", key, nonce_len, layout.parse().expect("layout"), aad.to_vec())
    }

    fn sealed(format: &AeadFormat, plaintext: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        let mut random = RandomPool::new(&OsRandom);
        format.seal(plaintext, &Shape::Plain, None, &mut random, &mut out).expect("seals");
        out
    }

    fn open(format: &AeadFormat, message: &[u8]) -> Result<Vec<u8>, OpenError> {
        let mut out = Vec::new();
        format.open(message, None, &mut out).map(|_| out)
    }

    #[test]
    fn every_layout_and_suite_opens_what_it_sealed_and_nothing_else() {
        for layout in LAYOUTS {
            for suite in SUITES {
                let format = format(layout, suite, 1, b"aad");
                let message = sealed(&format, b"plaintext");
                assert_eq!(message.len(), 9 + format.layout.overhead(suite.1));
                assert_eq!(open(&format, &message).as_deref(), Ok(b"plaintext".as_slice()));
                for bit in 0..message.len() * 8 {
                    let mut bad = message.clone();
                    bad[bit / 8] ^= 1 << (bit % 8);
                    assert!(open(&format, &bad).is_err(), "{layout} {suite:?} bit {bit}");
                }
                for length in 0..message.len() {
                    assert!(open(&format, &message[..length]).is_err(), "{layout} {suite:?} cut at {length}");
                }
                for other in [self::format(layout, suite, 2, b"aad"), self::format(layout, suite, 1, b"")] {
                    assert_eq!(open(&other, &message), Err(OpenError::Unopened));
                }
            }
        }
    }

    #[test]
    fn parts_stand_where_the_layout_says() {
        // Each case of NIST's GCM vectors has one answer; here only the order matters.
        let plain = sealed(&format("nonce|ciphertext|tag", SUITES[2], 1, b""), b"abcd");
        let (nonce, rest) = plain.split_at(12);
        let (ciphertext, tag) = rest.split_at(4);
        let swapped = [tag, ciphertext, nonce].concat();
        let format = format("tag|ciphertext|nonce", SUITES[2], 1, b"");
        assert_eq!(open(&format, &swapped).as_deref(), Ok(b"abcd".as_slice()));
    }

    #[test]
    fn layouts_read_and_print() {
        for layout in LAYOUTS {
            assert_eq!(layout.parse::<Layout>().expect("layout").to_string(), layout);
        }
        assert_eq!("text:v1|iv|ciphertext|tag".parse::<Layout>().expect("layout").prefix(), b"v1");
        for wrong in
            ["", "nonce|tag", "nonce|nonce|tag", "nonce|ciphertext|tag|tag", "x:1|nonce|ciphertext|tag"]
        {
            assert!(wrong.parse::<Layout>().is_err(), "{wrong}");
        }
    }
}
