//! Any text as the text form of an envelope: what decodes has exactly one spelling.
#![no_main]

use libfuzzer_sys::fuzz_target;
use reseal_crypto::ColumnKey;
use reseal_crypto::envelope::{decode_text, encode_text};

fuzz_target!(|text: &[u8]| {
    let mut envelope = b"before".to_vec();
    match decode_text(text, &mut envelope) {
        Ok(()) => {
            let mut again = Vec::new();
            encode_text(&envelope[b"before".len()..], &mut again);
            assert_eq!(again, text, "two spellings of one value");
        }
        Err(_) => assert_eq!(envelope, b"before", "a refused text left something behind"),
    }
    if let Some(key) = ColumnKey::from_text(text) {
        assert_eq!(key.to_text().as_bytes(), text, "two spellings of one key");
    }
});
