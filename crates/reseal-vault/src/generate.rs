//! Generated values: drawn from the operating system, uniform, and legal where they will stand.
//!
//! The default is base64url of 32 random bytes, 43 characters of `[A-Za-z0-9_-]`, drawn again until the first is a letter
//! or a digit: no dialect needs quoting, no URL escaping, and no option parser takes it for an option (the price is a
//! twentieth of a bit).

use std::fmt;
use std::str::FromStr;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use bip39::Language;
use reseal_crypto::random::RandomPool;
use reseal_crypto::text::BASE64URL;
use reseal_crypto::{Random, SecretBytes};
use zeroize::Zeroizing;

use crate::error::VaultError;

const URL_SAFE: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
const STANDARD: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
/// What Django's `get_random_secret_key` draws from.
const DJANGO: &[u8] = b"abcdefghijklmnopqrstuvwxyz0123456789!@#$%^&*(-_=+)";
const BITS_MIN: u32 = 64;
const LENGTH_MAX: usize = 4096;

/// How a generated value is written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub enum ValueFormat {
    /// `[A-Za-z0-9_-]` without padding, RFC 4648 section 5.
    #[default]
    Base64Url,
    /// `[0-9a-f]`.
    Hex,
    /// `[A-Za-z0-9+/]` with padding, RFC 4648 section 4.
    Base64,
    /// `[A-Za-z0-9]`.
    Alnum,
    /// What Django makes for `SECRET_KEY`.
    Django,
    /// English words of the BIP 39 list, joined by hyphens.
    Words,
}

impl ValueFormat {
    /// Every format.
    pub const ALL: [Self; 6] =
        [Self::Base64Url, Self::Hex, Self::Base64, Self::Alnum, Self::Django, Self::Words];

    /// The name in plan files and commands.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Base64Url => "base64url",
            Self::Hex => "hex",
            Self::Base64 => "base64",
            Self::Alnum => "alnum",
            Self::Django => "django",
            Self::Words => "words",
        }
    }
}

impl fmt::Display for ValueFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The text names no format.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is none of base64url, hex, base64, alnum, django, words")]
pub struct UnknownFormat(String);

impl FromStr for ValueFormat {
    type Err = UnknownFormat;

    fn from_str(text: &str) -> Result<Self, UnknownFormat> {
        Self::ALL
            .into_iter()
            .find(|format| format.name() == text)
            .ok_or_else(|| UnknownFormat(text.to_owned()))
    }
}

/// How much is drawn.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum ValueSize {
    /// What the format has by default: 32 bytes, 43 or 50 characters, 12 words.
    #[default]
    Default,
    /// That many random bytes, encoded. Only for base64url, hex and base64.
    Bytes(usize),
    /// That many characters, or words.
    Length(usize),
}

/// Draws a value.
///
/// # Errors
///
/// [`VaultError::Refused`] under 64 bits, above 4,096 characters, or for bytes in a format that does not encode bytes;
/// [`VaultError::Random`].
pub fn generate(
    format: ValueFormat,
    size: ValueSize,
    random: &dyn Random,
) -> Result<SecretBytes, VaultError> {
    let recipe = Recipe::new(format, size)?;
    let mut pool = RandomPool::new(random);
    loop {
        let value = recipe.draw(&mut pool)?;
        if value.first().is_some_and(u8::is_ascii_alphanumeric) {
            // The buffer moves into the secret without a copy.
            return Ok(SecretBytes::new(value));
        }
        drop(Zeroizing::new(value));
    }
}

/// What to draw, checked.
enum Recipe {
    Bytes(ValueFormat, usize),
    Characters(&'static [u8], usize),
    Words(usize),
}

impl Recipe {
    fn new(format: ValueFormat, size: ValueSize) -> Result<Self, VaultError> {
        let recipe = match (format, size) {
            (ValueFormat::Words, ValueSize::Default) => Self::Words(12),
            (ValueFormat::Words, ValueSize::Length(count)) => Self::Words(count),
            (ValueFormat::Base64Url | ValueFormat::Hex | ValueFormat::Base64, ValueSize::Default) => {
                Self::Bytes(format, 32)
            }
            (ValueFormat::Base64Url | ValueFormat::Hex | ValueFormat::Base64, ValueSize::Bytes(count)) => {
                Self::Bytes(format, count)
            }
            (_, ValueSize::Bytes(_)) => {
                return Err(VaultError::refused(format!(
                    "{format} does not encode bytes: give a length instead"
                )));
            }
            (ValueFormat::Base64Url, ValueSize::Length(length)) => Self::Characters(URL_SAFE, length),
            (ValueFormat::Hex, ValueSize::Length(length)) => Self::Characters(b"0123456789abcdef", length),
            (ValueFormat::Base64, ValueSize::Length(length)) => Self::Characters(STANDARD, length),
            (ValueFormat::Alnum, ValueSize::Default) => Self::Characters(&URL_SAFE[..62], 43),
            (ValueFormat::Alnum, ValueSize::Length(length)) => Self::Characters(&URL_SAFE[..62], length),
            (ValueFormat::Django, ValueSize::Default) => Self::Characters(DJANGO, 50),
            (ValueFormat::Django, ValueSize::Length(length)) => Self::Characters(DJANGO, length),
        };
        recipe.check()
    }

    fn check(self) -> Result<Self, VaultError> {
        let (count, bits_each) = match &self {
            Self::Bytes(_, count) => (*count, 8.0),
            Self::Characters(alphabet, count) => (*count, (alphabet.len() as f64).log2()),
            Self::Words(count) => (*count, 11.0),
        };
        if count > LENGTH_MAX {
            return Err(VaultError::refused(
                "a generated value has at most 4,096 characters, bytes or words",
            ));
        }
        let bits = count as f64 * bits_each;
        if bits < f64::from(BITS_MIN) {
            return Err(VaultError::refused(format!(
                "that is {bits:.0} bits: under {BITS_MIN} a value can be guessed"
            )));
        }
        Ok(self)
    }

    fn draw(&self, pool: &mut RandomPool<'_>) -> Result<Vec<u8>, VaultError> {
        match *self {
            Self::Bytes(format, count) => {
                let mut bytes = Zeroizing::new(Vec::with_capacity(count));
                for _ in 0..count {
                    bytes.extend(pool.take::<1>()?);
                }
                Ok(encode(format, &bytes))
            }
            Self::Characters(alphabet, count) => {
                let mut text = Vec::with_capacity(count);
                for _ in 0..count {
                    text.push(alphabet[below(alphabet.len(), pool)?]);
                }
                Ok(text)
            }
            Self::Words(count) => {
                let list = Language::English.word_list();
                let mut text = Vec::with_capacity(count * 9);
                for at in 0..count {
                    text.extend_from_slice(if at == 0 { b"" } else { b"-" });
                    text.extend_from_slice(list[below(list.len(), pool)?].as_bytes());
                }
                Ok(text)
            }
        }
    }
}

/// A uniform number below `n` (at most 2^16): draws that would favour some are thrown away.
fn below(n: usize, pool: &mut RandomPool<'_>) -> Result<usize, VaultError> {
    let fair = (1 << 16) / n * n;
    loop {
        let drawn = usize::from(u16::from_be_bytes(pool.take()?));
        if drawn < fair {
            return Ok(drawn % n);
        }
    }
}

fn encode(format: ValueFormat, bytes: &[u8]) -> Vec<u8> {
    let text = match format {
        ValueFormat::Hex => hex::encode(bytes),
        ValueFormat::Base64 => BASE64_STANDARD.encode(bytes),
        _ => BASE64URL.encode(bytes),
    };
    text.into_bytes()
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use reseal_crypto::random::SeededRandom;
    use reseal_crypto::{ColumnKey, OsRandom};

    use super::*;

    #[track_caller]
    fn drawn(format: ValueFormat, size: ValueSize) -> String {
        let value = generate(format, size, &OsRandom).expect("drawn");
        value.expose_str().expect("text").to_owned()
    }

    #[test]
    fn defaults_have_their_shape() {
        let lengths = ValueFormat::ALL.map(|format| drawn(format, ValueSize::Default).len());
        assert_eq!(lengths[..5], [43, 64, 44, 43, 50]);
        assert_eq!(drawn(ValueFormat::Words, ValueSize::Default).split('-').count(), 12);
    }

    #[test]
    fn a_default_value_is_a_column_key() {
        assert!(ColumnKey::from_text(drawn(ValueFormat::Base64Url, ValueSize::Default).as_bytes()).is_some());
    }

    #[test]
    fn values_begin_with_a_letter_or_digit_and_do_not_repeat() {
        for format in ValueFormat::ALL {
            let values: HashSet<String> = (0..500).map(|_| drawn(format, ValueSize::Default)).collect();
            assert_eq!(values.len(), 500, "{format}");
            let first = |v: &String| v.starts_with(|c: char| c.is_ascii_alphanumeric());
            assert!(values.iter().all(first), "{format}");
        }
    }

    #[test]
    fn characters_are_uniform() {
        println!("seed 5");
        let random = SeededRandom::new(5);
        let mut counts = [0_u32; 256];
        for _ in 0..100 {
            let value = generate(ValueFormat::Alnum, ValueSize::Length(3100), &random).expect("drawn");
            value.expose().iter().for_each(|b| counts[usize::from(*b)] += 1);
        }
        // 5,000 expected of each, standard deviation 70: six of them are 420.
        let outside: Vec<_> =
            URL_SAFE[..62].iter().filter(|b| counts[usize::from(**b)].abs_diff(5000) > 420).collect();
        assert!(outside.is_empty(), "{outside:?}");
    }

    #[test]
    fn what_can_be_guessed_is_refused() {
        let refused = [
            (ValueFormat::Alnum, ValueSize::Length(10)),
            (ValueFormat::Words, ValueSize::Length(5)),
            (ValueFormat::Hex, ValueSize::Bytes(7)),
            (ValueFormat::Django, ValueSize::Bytes(32)),
            (ValueFormat::Alnum, ValueSize::Length(5000)),
        ];
        for (format, size) in refused {
            let kind = generate(format, size, &OsRandom).map_err(|error| error.kind());
            assert_eq!(kind, Err(crate::ErrorKind::Refused), "{format} {size:?}");
        }
    }
}
