//! Recovery codes: 256 random bits that a person writes down, in Crockford's base32 with a checksum.
//!
//! ```text
//! 56 characters, 8 groups of 7 = base32(code(32) || SHA-256("reseal/v1/recovery-code" || code)[..3])
//! ```
//!
//! The alphabet has no I, L, O and U. Case, hyphens and spaces do not count; I and L read as 1, O as 0.

use std::fmt;

use reseal_crypto::hash::{equal, sha256};
use reseal_crypto::slot::Opener;
use reseal_crypto::{Random, SecretBytes};
use zeroize::Zeroizing;

use crate::error::VaultError;

const ALPHABET: &[u8; 32] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";
const CODE_LEN: usize = 32;
const CHECK_LEN: usize = 3;
const TEXT_LEN: usize = (CODE_LEN + CHECK_LEN) * 8 / 5;
const GROUP_LEN: usize = 7;

/// A recovery code: shown once, when it is made.
#[derive(Clone, PartialEq, Eq)]
pub struct RecoveryCode(SecretBytes);

/// Why a text is not a recovery code.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum RecoveryCodeError {
    /// Too few or too many characters.
    #[error("a recovery code has 56 characters in 8 groups of 7, this has {0}")]
    Length(usize),
    /// A character that the alphabet does not have.
    #[error("group {0} has a character that recovery codes do not have")]
    Character(usize),
    /// The checksum does not fit: something was misread.
    #[error("the recovery code was mistyped: its checksum does not fit")]
    Checksum,
}

impl RecoveryCode {
    /// Draws a fresh code.
    ///
    /// # Errors
    ///
    /// [`VaultError::Random`].
    pub fn generate(random: &dyn Random) -> Result<Self, VaultError> {
        let mut code = vec![0; CODE_LEN];
        random.fill(&mut code)?;
        Ok(Self(SecretBytes::new(code)))
    }

    /// Reads what a person typed.
    ///
    /// # Errors
    ///
    /// [`RecoveryCodeError`] says what to look at again, without repeating any of it.
    pub fn parse(typed: &str) -> Result<Self, RecoveryCodeError> {
        // Room for all: a list that grows leaves a copy of the code behind.
        let mut symbols = Zeroizing::new(Vec::with_capacity(typed.len()));
        symbols.extend(typed.chars().filter(|c| !c.is_whitespace() && *c != '-'));
        if symbols.len() != TEXT_LEN {
            return Err(RecoveryCodeError::Length(symbols.len()));
        }
        let mut bytes = Zeroizing::new(Vec::with_capacity(CODE_LEN + CHECK_LEN));
        for (block, chars) in symbols.chunks(8).enumerate() {
            let mut bits = 0_u64;
            for (at, c) in chars.iter().enumerate() {
                let group = (block * 8 + at) / GROUP_LEN + 1;
                bits = bits << 5 | u64::from(value(*c).ok_or(RecoveryCodeError::Character(group))?);
            }
            bytes.extend_from_slice(&bits.to_be_bytes()[3..]);
        }
        let (code, check) = bytes.split_at(CODE_LEN);
        if !equal(check, &checksum(code)) {
            return Err(RecoveryCodeError::Checksum);
        }
        Ok(Self(SecretBytes::copy_from(code)))
    }

    /// The text to write down: 8 groups of 7 characters, joined by hyphens.
    pub fn to_text(&self) -> Zeroizing<String> {
        // EXPOSE: this is the one time that the code is shown.
        let code = self.0.expose();
        let bytes = Zeroizing::new([code, &checksum(code)].concat());
        let mut text = Zeroizing::new(String::with_capacity(TEXT_LEN + TEXT_LEN / GROUP_LEN));
        for at in 0..TEXT_LEN {
            if at > 0 && at % GROUP_LEN == 0 {
                text.push('-');
            }
            text.push(char::from(ALPHABET[symbol(&bytes, at)]));
        }
        text
    }

    /// What opens the slot of this code.
    pub fn opener(&self) -> Opener {
        Opener::RecoveryCode(self.0.clone())
    }
}

impl fmt::Debug for RecoveryCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RecoveryCode").finish_non_exhaustive()
    }
}

fn checksum(code: &[u8]) -> [u8; CHECK_LEN] {
    let digest = sha256(&Zeroizing::new([b"reseal/v1/recovery-code".as_slice(), code].concat()));
    [digest[0], digest[1], digest[2]]
}

/// The 5 bits at position `at`.
fn symbol(bytes: &[u8], at: usize) -> usize {
    let bit = at * 5;
    let next = bytes.get(bit / 8 + 1).copied().unwrap_or(0);
    let pair = u16::from_be_bytes([bytes[bit / 8], next]);
    usize::from(pair >> (11 - bit % 8)) & 31
}

fn value(c: char) -> Option<u8> {
    let c = match c.to_ascii_uppercase() {
        'I' | 'L' => '1',
        'O' => '0',
        other => other,
    };
    let at = ALPHABET.iter().position(|&symbol| char::from(symbol) == c)?;
    u8::try_from(at).ok()
}

#[cfg(test)]
mod tests {
    use reseal_crypto::random::SeededRandom;

    use super::*;

    #[test]
    fn a_code_is_read_as_it_was_written() {
        let code = RecoveryCode::generate(&SeededRandom::new(1)).expect("seeded");
        let text = code.to_text();
        assert_eq!(text.split('-').map(str::len).collect::<Vec<_>>(), [7; 8]);
        assert_eq!(RecoveryCode::parse(&text), Ok(code.clone()));
        let sloppy = text.to_lowercase().replace('-', " ").replace('0', "o").replace('1', "l");
        assert_eq!(RecoveryCode::parse(&sloppy), Ok(code));
    }

    #[test]
    fn every_mistyped_character_is_noticed() {
        let text = RecoveryCode::generate(&SeededRandom::new(2)).expect("seeded").to_text();
        for (at, c) in text.char_indices().filter(|(_, c)| *c != '-') {
            let other = if c == '7' { '8' } else { '7' };
            let mut typed = text.to_string();
            typed.replace_range(at..=at, &other.to_string());
            assert_eq!(RecoveryCode::parse(&typed), Err(RecoveryCodeError::Checksum), "position {at}");
        }
        assert_eq!(RecoveryCode::parse("ABC"), Err(RecoveryCodeError::Length(3)));
        assert_eq!(RecoveryCode::parse(&"U".repeat(56)), Err(RecoveryCodeError::Character(1)));
    }
}
