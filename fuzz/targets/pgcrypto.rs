//! Any bytes as a pgcrypto message, and any bytes inside a message that authenticates.
#![no_main]

use std::sync::LazyLock;

use cfb_mode::cipher::KeyIvInit;
use libfuzzer_sys::fuzz_target;
use reseal_formats::{Codec, ColumnType};
use reseal_fuzz::{PASSPHRASE, check, codec};
use sha1::{Digest, Sha1};

static CODEC: LazyLock<Codec> = LazyLock::new(|| {
    let codec = codec(r#"{ "format": "pgcrypto" }"#, ColumnType::Bytes, PASSPHRASE);
    // What is built here must open, or the fuzzer never gets past the digest.
    let literal = around(b"\xCB\x0Cb\0\0\0\0\0secret");
    let mut plaintext = Vec::new();
    assert!(codec.open_many(&[&literal], &[None], &mut plaintext)[0].is_ok());
    assert_eq!(plaintext, b"secret");
    codec
});

fuzz_target!(|bytes: &[u8]| {
    check(&CODEC, bytes);
    check(&CODEC, &around(bytes));
});

/// A message around `packets`: AES-128, the key straight from one SHA-1, with a correct MDC.
fn around(packets: &[u8]) -> Vec<u8> {
    let key = Sha1::digest(PASSPHRASE);
    // 16 random bytes, here zero, and the last two again; then the packets; then the digest's own header.
    let mut body = [&[0; 18], packets, &[0xD3, 0x14]].concat();
    let digest = Sha1::digest(&body);
    body.extend_from_slice(&digest);
    let cipher =
        cfb_mode::Encryptor::<aes::Aes128>::new_from_slices(&key[..16], &[0; 16]).expect("16 bytes each");
    cipher.encrypt(&mut body);
    let length = u32::try_from(body.len() + 1).expect("inputs are small").to_be_bytes();
    [&[0xC3, 4, 4, 7, 0, 2, 0xD2, 0xFF], &length[..], &[1], &body].concat()
}
