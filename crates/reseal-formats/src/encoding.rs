//! How a message stands in its column: as bytes, or as text in one of several encodings.
//!
//! | encoding | looks like | written by |
//! |---|---|---|
//! | raw | bytes | a byte column |
//! | hex | `c30d…`, `C30D…`, `\xc30d…` | `encode(v, 'hex')`, a `bytea` cast to text |
//! | base64 | `ww0E…`, on one line or broken every 76 characters | `encode(v, 'base64')` breaks |
//! | base64url | `gAAAAA…==`, with or without padding | Fernet, tokens |
//! | armor | `-----BEGIN PGP MESSAGE-----` | `armor(v)` |
//! | reseal | `rs1.…` | our envelope in text columns |

use base64::Engine as _;
use base64::alphabet::{STANDARD, URL_SAFE};
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use reseal_crypto::envelope;

use crate::armor;

/// Characters of a line of Postgres' `encode(…, 'base64')`.
const LINE_CHARS: usize = 76;
/// Bytes of such a line.
const LINE_BYTES: usize = LINE_CHARS / 4 * 3;

/// How the bytes of a message are written in the column.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum Encoding {
    /// As they are, in a byte column.
    #[default]
    Raw,
    /// Two digits for each byte.
    Hex {
        /// Whether `\x` stands before the digits, as in the text form of `bytea`.
        escaped: bool,
        /// Whether the digits above 9 are capitals.
        upper: bool,
    },
    /// Base64, RFC 4648 section 4, with padding.
    Base64 {
        /// Whether there is a line break after every 76 characters.
        lines: bool,
    },
    /// Base64url, RFC 4648 section 5.
    Base64Url {
        /// Whether it is padded to a multiple of four characters.
        padded: bool,
    },
    /// OpenPGP ASCII armor, RFC 4880 section 6.
    Armor,
    /// The text form of our envelope: `rs1.` and base64url without padding.
    Reseal,
}

impl Encoding {
    /// Says in which encoding a text stands, judging by its look. Never [`Encoding::Raw`].
    pub fn detect(text: &[u8]) -> Self {
        if text.starts_with(envelope::TEXT_PREFIX.as_bytes()) {
            return Self::Reseal;
        }
        if armor::looks_armored(text) {
            return Self::Armor;
        }
        let digits = text.strip_prefix(b"\\x");
        let escaped = digits.is_some();
        if escaped || is_hex(text) {
            return Self::Hex { escaped, upper: has_capitals(digits.unwrap_or(text)) };
        }
        let of_url_alphabet = text.iter().any(|byte| matches!(byte, b'-' | b'_'));
        let unpadded = !text.len().is_multiple_of(4) && !text.iter().any(u8::is_ascii_whitespace);
        if of_url_alphabet || unpadded {
            return Self::Base64Url { padded: !unpadded };
        }
        Self::Base64 { lines: has_breaks(text) }
    }

    /// Whether values of a column that names no encoding may stand in this one. Base64url is not among them: a value that
    /// happens to have none of `-`, `_` and `=` looks like base64, and would be written back with `+` and `/`.
    pub(crate) fn known_by_look(self) -> bool {
        matches!(self, Self::Hex { .. } | Self::Base64 { .. } | Self::Armor)
    }

    /// Appends the message that `stored` encodes to `message` and says in which variant of this encoding it stood:
    /// with or without line breaks, in small or capital digits.
    ///
    /// # Errors
    ///
    /// Why it is not of this encoding; `message` is left as it was.
    pub fn decode(self, stored: &[u8], message: &mut Vec<u8>) -> Result<Self, &'static str> {
        match self {
            Self::Raw => {
                message.extend_from_slice(stored);
                Ok(self)
            }
            Self::Hex { escaped, .. } => {
                let digits = if escaped {
                    stored.strip_prefix(b"\\x").ok_or("does not begin with `\\x`")?
                } else {
                    stored
                };
                append(message, digits.len() / 2, |out| {
                    hex::decode_to_slice(digits, out).ok().map(|()| digits.len() / 2)
                })
                .ok_or("not hexadecimal")?;
                Ok(Self::Hex { escaped, upper: has_capitals(digits) })
            }
            Self::Base64 { lines } => {
                decode_base64(stored, message).ok_or("not base64")?;
                // A value shorter than a line looks the same either way: it is what the column is said to be.
                let broken = has_breaks(stored);
                Ok(Self::Base64 { lines: broken || (lines && stored.len() <= LINE_CHARS) })
            }
            Self::Base64Url { padded } => {
                let engine = if padded { &BASE64URL_PADDED } else { &reseal_crypto::text::BASE64URL };
                decode_with(engine, stored, message).ok_or("not base64url")?;
                Ok(self)
            }
            Self::Armor => {
                armor::decode(stored, message)?;
                Ok(self)
            }
            Self::Reseal => {
                envelope::decode_text(stored, message).map_err(|_| "not `rs1.` and canonical base64url")?;
                Ok(self)
            }
        }
    }

    /// Appends `message` in this encoding to `stored`.
    pub fn encode(self, message: &[u8], stored: &mut Vec<u8>) {
        match self {
            Self::Raw => stored.extend_from_slice(message),
            Self::Hex { escaped, upper } => {
                if escaped {
                    stored.extend_from_slice(b"\\x");
                }
                encode_hex(message, upper, stored);
            }
            Self::Base64 { lines: false } => encode_with(&BASE64_STRICT, message, stored),
            Self::Base64 { lines: true } => encode_lines(message, stored),
            Self::Base64Url { padded: true } => encode_with(&BASE64URL_PADDED, message, stored),
            Self::Base64Url { padded: false } => {
                encode_with(&reseal_crypto::text::BASE64URL, message, stored);
            }
            Self::Armor => armor::encode(message, stored),
            Self::Reseal => envelope::encode_text(message, stored),
        }
    }

    /// The length of `bytes` bytes in this encoding.
    pub fn encoded_len(self, bytes: usize) -> usize {
        let padded = bytes.div_ceil(3) * 4;
        let unpadded = bytes / 3 * 4 + [0, 2, 3][bytes % 3];
        match self {
            Self::Raw => bytes,
            Self::Hex { escaped, .. } => 2 * bytes + if escaped { 2 } else { 0 },
            Self::Base64 { lines: false } | Self::Base64Url { padded: true } => padded,
            Self::Base64 { lines: true } => padded + padded.saturating_sub(1) / LINE_CHARS,
            Self::Base64Url { padded: false } => unpadded,
            Self::Armor => armor::encoded_len(bytes),
            Self::Reseal => envelope::TEXT_PREFIX.len() + unpadded,
        }
    }

    /// The most bytes that `chars` characters of this encoding can hold.
    pub fn decoded_len_max(self, chars: usize) -> usize {
        match self {
            Self::Raw => chars,
            Self::Hex { .. } => chars / 2,
            Self::Base64 { .. } | Self::Base64Url { .. } | Self::Armor => chars.div_ceil(4) * 3,
            Self::Reseal => chars.saturating_sub(envelope::TEXT_PREFIX.len()).div_ceil(4) * 3,
        }
    }

    /// Whether two encodings differ in layout only: line breaks, capitals.
    pub fn same_family(self, other: Self) -> bool {
        match (self, other) {
            (Self::Hex { escaped: a, .. }, Self::Hex { escaped: b, .. }) => a == b,
            (Self::Base64 { .. }, Self::Base64 { .. }) => true,
            _ => self == other,
        }
    }
}

const BASE64_STRICT: GeneralPurpose = GeneralPurpose::new(&STANDARD, PADDED);
const BASE64URL_PADDED: GeneralPurpose = GeneralPurpose::new(&URL_SAFE, PADDED);
const PADDED: GeneralPurposeConfig =
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::RequireCanonical);

/// Appends what padded base64 with or without white space stands for. Postgres' `decode` skips white space, too.
pub(crate) fn decode_base64(text: &[u8], out: &mut Vec<u8>) -> Option<()> {
    if !text.iter().any(u8::is_ascii_whitespace) {
        return decode_with(&BASE64_STRICT, text, out);
    }
    let joined: Vec<u8> = text.iter().copied().filter(|byte| !byte.is_ascii_whitespace()).collect();
    decode_with(&BASE64_STRICT, &joined, out)
}

/// Appends `message` in padded base64, with a line break between lines of 76 characters.
pub(crate) fn encode_lines(message: &[u8], out: &mut Vec<u8>) {
    for (number, line) in message.chunks(LINE_BYTES).enumerate() {
        if number > 0 {
            out.push(b'\n');
        }
        encode_with(&BASE64_STRICT, line, out);
    }
}

fn decode_with(engine: &GeneralPurpose, text: &[u8], out: &mut Vec<u8>) -> Option<()> {
    append(out, base64::decoded_len_estimate(text.len()), |buffer| engine.decode_slice(text, buffer).ok())
}

fn encode_with(engine: &GeneralPurpose, message: &[u8], out: &mut Vec<u8>) {
    let start = out.len();
    let longest = message.len().div_ceil(3) * 4;
    out.resize(start + longest, 0);
    let written = engine
        .encode_slice(message, &mut out[start..])
        .expect("the buffer holds the padded form, the longest");
    out.truncate(start + written);
}

fn encode_hex(message: &[u8], upper: bool, out: &mut Vec<u8>) {
    let digits: &[u8; 16] = if upper { b"0123456789ABCDEF" } else { b"0123456789abcdef" };
    out.extend(
        message.iter().flat_map(|byte| [digits[usize::from(byte >> 4)], digits[usize::from(byte & 15)]]),
    );
}

/// Grows `out` by at most `longest` bytes, as many as `fill` says it wrote; by none if it gives `None`.
fn append(out: &mut Vec<u8>, longest: usize, fill: impl FnOnce(&mut [u8]) -> Option<usize>) -> Option<()> {
    let start = out.len();
    out.resize(start + longest, 0);
    let written = fill(&mut out[start..]);
    out.truncate(start + written.unwrap_or(0));
    written.map(|_| ())
}

fn is_hex(text: &[u8]) -> bool {
    !text.is_empty() && text.len().is_multiple_of(2) && text.iter().all(u8::is_ascii_hexdigit)
}

fn has_capitals(digits: &[u8]) -> bool {
    digits.iter().any(u8::is_ascii_uppercase) && !digits.iter().any(u8::is_ascii_lowercase)
}

fn has_breaks(text: &[u8]) -> bool {
    text.trim_ascii_end().contains(&b'\n')
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const ALL: [Encoding; 10] = [
        Encoding::Raw,
        Encoding::Hex { escaped: false, upper: false },
        Encoding::Hex { escaped: false, upper: true },
        Encoding::Hex { escaped: true, upper: false },
        Encoding::Base64 { lines: false },
        Encoding::Base64 { lines: true },
        Encoding::Base64Url { padded: true },
        Encoding::Base64Url { padded: false },
        Encoding::Armor,
        Encoding::Reseal,
    ];

    fn encoded(encoding: Encoding, message: &[u8]) -> Vec<u8> {
        let mut stored = Vec::new();
        encoding.encode(message, &mut stored);
        stored
    }

    fn decoded(encoding: Encoding, stored: &[u8]) -> Result<(Vec<u8>, Encoding), &'static str> {
        let mut message = b"before".to_vec();
        let found = encoding.decode(stored, &mut message);
        if found.is_err() {
            assert_eq!(message, b"before", "a refused text leaves the buffer alone");
        }
        found.map(|found| (message[6..].to_vec(), found))
    }

    #[test]
    fn base64_breaks_where_postgres_breaks() {
        // select length(encode(repeat('x', 57)::bytea, 'base64')) is 76; of 58 bytes it is 81; of 114 it is 153.
        let lines = Encoding::Base64 { lines: true };
        for (bytes, chars, breaks) in [(57, 76, 0), (58, 81, 1), (114, 153, 1), (115, 158, 2)] {
            let text = encoded(lines, &vec![b'x'; bytes]);
            assert_eq!(text.len(), chars);
            assert_eq!(text.iter().filter(|b| **b == b'\n').count(), breaks);
            assert_ne!(text.last(), Some(&b'\n'));
        }
    }

    #[test]
    fn line_breaks_are_noticed_either_way() {
        let message = [7; 100];
        for declared in [true, false] {
            for actual in [true, false] {
                let text = encoded(Encoding::Base64 { lines: actual }, &message);
                let found = decoded(Encoding::Base64 { lines: declared }, &text);
                assert_eq!(found, Ok((message.to_vec(), Encoding::Base64 { lines: actual })));
            }
            let short = encoded(Encoding::Base64 { lines: false }, b"short");
            let found = decoded(Encoding::Base64 { lines: declared }, &short);
            assert_eq!(found, Ok((b"short".to_vec(), Encoding::Base64 { lines: declared })));
        }
    }

    #[test]
    fn what_is_not_of_the_encoding_is_refused() {
        for (encoding, text) in [
            (ALL[1], "abc"),
            (ALL[1], "zz"),
            (ALL[3], "abcd"),
            (ALL[4], "a"),
            (ALL[4], "aGk"),
            (ALL[4], "aGk_"),
            (ALL[6], "aGk"),
            (ALL[6], "aGk=\n"),
            (ALL[7], "aGk="),
            (ALL[9], "aGk"),
        ] {
            assert!(decoded(encoding, text.as_bytes()).is_err(), "{encoding:?} {text}");
        }
    }

    proptest! {
        #[test]
        fn every_encoding_gives_back_its_message(message: Vec<u8>, which in 0..ALL.len()) {
            let encoding = ALL[which];
            let stored = encoded(encoding, &message);
            prop_assert_eq!(stored.len(), encoding.encoded_len(message.len()));
            prop_assert!(encoding.decoded_len_max(stored.len()) >= message.len());
            let (back, found) = decoded(encoding, &stored).expect("own encoding");
            prop_assert_eq!(&back, &message);
            prop_assert!(found.same_family(encoding));
            prop_assert_eq!(encoded(found, &message), stored);
        }

        #[test]
        fn detection_names_an_encoding_that_decodes(message in proptest::collection::vec(any::<u8>(), 40..300), which in 1..ALL.len()) {
            let stored = encoded(ALL[which], &message);
            let detected = Encoding::detect(&stored);
            prop_assert_eq!(decoded(detected, &stored).map(|(message, _)| message), Ok(message), "{:?}", detected);
        }

        #[test]
        fn no_input_panics(stored: Vec<u8>, which in 0..ALL.len()) {
            let _ = decoded(ALL[which], &stored);
            let _ = decoded(Encoding::detect(&stored), &stored);
        }
    }
}
