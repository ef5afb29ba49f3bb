//! Key bytes: what foreign formats make of a secret's text.

use base64::Engine as _;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use reseal_crypto::SecretBytes;

use crate::spec::SpecError;

/// Why a key does not serve a column.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum KeyError {
    /// The key is neither text that decodes to the length of the format, nor that many bytes.
    #[error("{format} takes a key of {expected} bytes, in base64url, base64, hex or as it is")]
    Length {
        /// Name of the format.
        format: &'static str,
        /// Bytes of its keys.
        expected: usize,
    },
    /// pgcrypto would take an empty passphrase, and anyone could open the value.
    #[error("the passphrase is empty")]
    Empty,
    /// Our envelope takes keys of kind `key` only: exactly 32 random bytes.
    #[error("the reseal format takes a column key of 32 random bytes, not a passphrase or foreign key")]
    NotAColumnKey,
    /// The description itself does not hold together.
    #[error(transparent)]
    Spec(#[from] SpecError),
}

/// Decodes base64url, base64 or hex to exactly `expected` bytes, or takes `expected` bytes as they are.
///
/// No two of these forms have the same length, so there is never a choice to make.
pub(crate) fn decode(
    format: &'static str,
    text: &SecretBytes,
    expected: usize,
) -> Result<SecretBytes, KeyError> {
    // EXPOSE: decoding reads the text; the decoded buffers are wiped.
    let text = text.expose();
    let unpadded = text.strip_suffix(b"==").or_else(|| text.strip_suffix(b"=")).unwrap_or(text);
    let padding = text.len() - unpadded.len();
    let decoded = if text.len() == expected {
        Some(SecretBytes::copy_from(text))
    } else if text.len() == 2 * expected {
        let mut bytes = vec![0; expected];
        let decoded = hex::decode_to_slice(text, &mut bytes);
        let bytes = SecretBytes::new(bytes);
        decoded.ok().map(|()| bytes)
    } else if padding == 0 || text.len().is_multiple_of(4) {
        let of_url_alphabet = unpadded.iter().any(|byte| matches!(byte, b'-' | b'_'));
        let alphabet =
            if of_url_alphabet { &base64::alphabet::URL_SAFE } else { &base64::alphabet::STANDARD };
        let config = GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::RequireNone);
        let mut bytes = vec![0; base64::decoded_len_estimate(unpadded.len())];
        let decoded = GeneralPurpose::new(alphabet, config).decode_slice(unpadded, &mut bytes);
        let bytes = SecretBytes::new(bytes);
        decoded.ok().map(|length| SecretBytes::copy_from(&bytes.expose()[..length]))
    } else {
        None
    };
    decoded.filter(|bytes| bytes.len() == expected).ok_or(KeyError::Length { format, expected })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decoded(text: &str, expected: usize) -> Option<Vec<u8>> {
        decode("x", &SecretBytes::copy_from(text.as_bytes()), expected).ok().map(|key| key.expose().to_vec())
    }

    #[test]
    fn every_form_of_a_key_is_read_to_its_exact_length() {
        let key = [0xFB; 32];
        let hex = hex::encode(key);
        let base64 = "+/v7+/v7+/v7+/v7+/v7+/v7+/v7+/v7+/v7+/v7+/s";
        for text in [&hex, &hex.to_uppercase(), base64, &format!("{base64}=")] {
            assert_eq!(decoded(text, 32).as_deref(), Some(&key[..]), "{text}");
        }
        let url = base64.replace('+', "-").replace('/', "_");
        for text in [url.clone(), format!("{url}=")] {
            assert_eq!(decoded(&text, 32).as_deref(), Some(&key[..]), "{text}");
        }
        let raw = "exactly thirty-two bytes, as is!";
        assert_eq!(decoded(raw, 32).as_deref(), Some(raw.as_bytes()));
        for (text, expected) in [
            ("", 16),
            ("short", 16),
            (raw, 16),
            (raw, 31),
            (&format!("{base64}=="), 32),
            (&format!("{base64}\n"), 32),
            (&hex[1..], 32),
            ("not base64, yet it has 43 characters as well", 32),
        ] {
            assert_eq!(decoded(text, expected), None, "{text} {expected}");
        }
    }
}
