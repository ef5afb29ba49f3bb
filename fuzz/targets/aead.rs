//! Any bytes as a value of an application's own AEAD, in several layouts and encodings.
#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use reseal_formats::{Codec, ColumnType};
use reseal_fuzz::{KEY_TEXT, check, codec};

static CODECS: LazyLock<Vec<Codec>> = LazyLock::new(|| {
    [
        (r#"{ "format": "aes-gcm" }"#, ColumnType::Bytes),
        (r#"{ "format": "aes-gcm" }"#, ColumnType::Text),
        (r#"{ "format": "aes-gcm", "nonce": 16, "layout": "nonce|tag|ciphertext" }"#, ColumnType::Bytes),
        (r#"{ "format": "aes-gcm", "encoding": "base64", "aad": "crm" }"#, ColumnType::Text),
        (r#"{ "format": "chacha20-poly1305", "encoding": "hex" }"#, ColumnType::Text),
    ]
    .map(|(spec, column)| codec(spec, column, KEY_TEXT))
    .into()
});

fuzz_target!(|bytes: &[u8]| CODECS.iter().for_each(|codec| check(codec, bytes)));
