//! Text forms of keys and codes: canonical only, so that one key has one spelling.

use base64::Engine as _;
use base64::alphabet::URL_SAFE;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use zeroize::Zeroizing;

/// base64url without padding, RFC 4648 section 5. Decoding refuses padding, white space and non-zero spare bits.
pub const BASE64URL: GeneralPurpose = GeneralPurpose::new(
    &URL_SAFE,
    GeneralPurposeConfig::new()
        .with_encode_padding(false)
        .with_decode_padding_mode(DecodePaddingMode::RequireNone)
        .with_decode_allow_trailing_bits(false),
);

/// Characters of a 256-bit key in text form.
pub const KEY_TEXT_LEN: usize = 43;

/// Encodes 32 key bytes as 43 characters of base64url.
pub fn encode_key(key: &[u8; 32]) -> Zeroizing<String> {
    let mut text = Zeroizing::new(String::with_capacity(KEY_TEXT_LEN));
    BASE64URL.encode_string(key, &mut text);
    text
}

/// Decodes the 43 characters of a key, or `None` if they are not exactly that.
pub fn decode_key(text: &[u8]) -> Option<Zeroizing<[u8; 32]>> {
    if text.len() != KEY_TEXT_LEN {
        return None;
    }
    let mut key = Zeroizing::new([0; 32]);
    // The decoder's estimate for 43 characters is 33 bytes, so it needs a slightly larger buffer.
    let mut buffer = Zeroizing::new([0; 33]);
    let written = BASE64URL.decode_slice(text, &mut *buffer).ok()?;
    if written != key.len() {
        return None;
    }
    key.copy_from_slice(&buffer[..32]);
    Some(key)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_key_has_one_spelling() {
        let key = [0xA5; 32];
        let text = encode_key(&key);
        assert_eq!(text.len(), KEY_TEXT_LEN);
        assert_eq!(*decode_key(text.as_bytes()).expect("own encoding"), key);
        let spare_bits = format!("{}V", &text[..42]);
        for wrong in [&text[..42], &format!("{}=", &*text), &format!(" {}", &text[..42]), &spare_bits] {
            assert!(decode_key(wrong.as_bytes()).is_none(), "{wrong:?} is not canonical");
        }
    }
}
