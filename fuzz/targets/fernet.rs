//! Any bytes as a Fernet token, and any bytes under a correct HMAC.
#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use reseal_crypto::hash::hmac_sha256;
use reseal_formats::{Codec, ColumnType, Encoding};
use reseal_fuzz::{KEY_TEXT, check, codec};

static CODEC: LazyLock<Codec> =
    LazyLock::new(|| codec(r#"{ "format": "fernet" }"#, ColumnType::Text, KEY_TEXT));

fuzz_target!(|bytes: &[u8]| {
    check(&CODEC, bytes);
    let signing_key: [u8; 16] = std::array::from_fn(|i| i as u8);
    let mac = hmac_sha256(&signing_key, bytes);
    let mut token = Vec::new();
    Encoding::Base64Url { padded: true }.encode(&[bytes, &mac].concat(), &mut token);
    check(&CODEC, &token);
});
