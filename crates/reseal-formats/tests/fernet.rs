//! Fernet against the vectors of its specification, <https://github.com/fernet/spec> (`generate.json`, `verify.json`,
//! `invalid.json`): facts about the format, quoted with their descriptions.

use proptest::prelude::*;
use reseal_crypto::random::{OsRandom, Random, RandomError, RandomPool};
use reseal_crypto::{ColumnId, KeyMaterial, SecretBytes};
use reseal_formats::{Codec, ColumnType, Encoding, FormatSpec, OpenError, Opened, Shape};

const SECRET: &str = "cw_0x689RpI-jtRR7oE8h_eQsKImvJapLeSbXpwF4e4=";
const TOKEN: &str =
    "gAAAAAAdwJ6wAAECAwQFBgcICQoLDA0ODy021cpGVWKZ_eEwCGM4BLLF_5CV9dOPmrhuVUPgJobwOz7JcbmrR64jVmpU4IwqDA==";
/// 1985-10-26T01:20:00-07:00.
const CREATED: u64 = 499_162_800;

/// Gives 0, 1, 2, … as the specification's IV does.
#[derive(Debug)]
struct Counting;

impl Random for Counting {
    fn fill(&self, dest: &mut [u8]) -> Result<(), RandomError> {
        dest.iter_mut().zip((0..=255).cycle()).for_each(|(byte, next)| *byte = next);
        Ok(())
    }
}

fn codec(key: &str) -> Codec {
    let spec: FormatSpec = toml::from_str("format = \"fernet\"").expect("a plan");
    let key = KeyMaterial::Foreign(SecretBytes::copy_from(key.as_bytes()));
    spec.codec(ColumnType::Text, &key, ColumnId([0; 16])).expect("a key")
}

fn open(codec: &Codec, token: &str) -> Result<(Vec<u8>, Opened), OpenError> {
    let mut plaintext = Vec::new();
    let opened = codec.open_many(&[token.as_bytes()], &[None], &mut plaintext).remove(0)?;
    Ok((plaintext, opened))
}

fn seal(codec: &Codec, plaintext: &[u8], shape: Shape, random: &dyn Random) -> String {
    let value = Opened { plaintext: 0..plaintext.len(), shape, encoding: Encoding::Raw };
    let mut out = Vec::new();
    codec.seal_many(plaintext, &[value], &[None], &mut RandomPool::new(random), &mut out).expect("seals");
    String::from_utf8(out).expect("a token is text")
}

#[test]
fn generates_the_specifications_token() {
    assert_eq!(seal(&codec(SECRET), b"hello", Shape::Fernet { created: CREATED }, &Counting), TOKEN);
}

#[test]
fn verifies_the_specifications_token_and_keeps_its_time() {
    let (plaintext, opened) = open(&codec(SECRET), TOKEN).expect("opens");
    assert_eq!(plaintext, b"hello");
    assert_eq!(opened.shape, Shape::Fernet { created: CREATED });
    let again = seal(&codec(SECRET), &plaintext, opened.shape, &OsRandom);
    assert_eq!(again[..12], TOKEN[..12], "version and time are the first 9 bytes");
    assert_ne!(again, TOKEN);
}

#[test]
fn refuses_the_specifications_invalid_tokens() {
    // Not here: "far-future TS" and "expired TTL", which are valid tokens at another time; see the next test.
    for (description, token) in [
        (
            "incorrect mac",
            "gAAAAAAdwJ6xAAECAwQFBgcICQoLDA0OD3HkMATM5lFqGaerZ-fWPAl1-szkFVzXTuGb4hR8AKtwcaX1YdykQUFBQUFBQUFBQQ==",
        ),
        ("too short", "gAAAAAAdwJ6xAAECAwQFBgcICQoLDA0OD3HkMATM5lFqGaerZ-fWPA=="),
        (
            "invalid base64",
            "%%%%%%%%%%%%%AECAwQFBgcICQoLDA0OD3HkMATM5lFqGaerZ-fWPAl1-szkFVzXTuGb4hR8AKtwcaX1YdykRtfsH-p1YsUD2Q==",
        ),
        (
            "payload size not multiple of block size",
            "gAAAAAAdwJ6xAAECAwQFBgcICQoLDA0OD3HkMATM5lFqGaerZ-fWPOm73QeoCk9uGib28Xe5vz6oxq5nmxbx_v7mrfyudzUm",
        ),
        (
            "payload padding error",
            "gAAAAAAdwJ6xAAECAwQFBgcICQoLDA0ODz4LEpdELGQAad7aNEHbf-JkLPIpuiYRLQ3RtXatOYREu2FWke6CnJNYIbkuKNqOhw==",
        ),
        (
            "incorrect IV (causes padding error)",
            "gAAAAAAdwJ6xBQECAwQFBgcICQoLDA0OD3HkMATM5lFqGaerZ-fWPAkLhFLHpGtDBRLRTZeUfWgHSv49TF2AUEZ1TIvcZjK1zQ==",
        ),
        (
            "trailing characters after b64 padding",
            "gAAAAAAdwJ6wAAECAwQFBgcICQoLDA0ODy021cpGVWKZ_eEwCGM4BLLF_5CV9dOPmrhuVUPgJobwOz7JcbmrR64jVmpU4IwqDA==trailingdata",
        ),
        (
            "invalid characters in b64",
            "*gAAAAAAdwJ6wAAECAwQFBgcI!CQoLDA0ODy021?cpGVWKZ_eEwC@GM4BLLF_5CV9dOPmrhuVUPgJobwOz7JcbmrR64jVmpU4IwqDA==",
        ),
        (
            "invalid non-urlsafe characters in b64",
            "gAAAAAAdwJ6wAAEC/AwQFBgcICQoLDA0ODy+021cpGVWKZ_eEwCGM4BLLF_5CV9dOPmrhuVUPgJobwOz7JcbmrR64jVmpU4IwqDA==",
        ),
    ] {
        assert!(open(&codec(SECRET), token).is_err(), "{description}");
    }
}

#[test]
fn a_column_has_no_time_to_live() {
    for (description, token) in [
        (
            "far-future TS",
            "gAAAAAAdwStRAAECAwQFBgcICQoLDA0OD3HkMATM5lFqGaerZ-fWPAnja1xKYyhd-Y6mSkTOyTGJmw2Xc2a6kBd-iX9b_qXQcw==",
        ),
        (
            "expired TTL",
            "gAAAAAAdwJ6xAAECAwQFBgcICQoLDA0OD3HkMATM5lFqGaerZ-fWPAl1-szkFVzXTuGb4hR8AKtwcaX1YdykRtfsH-p1YsUD2Q==",
        ),
    ] {
        assert_eq!(open(&codec(SECRET), token).expect(description).0, b"");
    }
}

#[test]
fn every_flipped_bit_is_refused() {
    let spec: FormatSpec = toml::from_str("format = \"fernet\"\nencoding = \"raw\"").expect("a plan");
    let key = KeyMaterial::Foreign(SecretBytes::copy_from(SECRET.as_bytes()));
    let raw = spec.codec(ColumnType::Bytes, &key, ColumnId([0; 16])).expect("a key");
    let mut bytes = Vec::new();
    Encoding::Base64Url { padded: true }.decode(TOKEN.as_bytes(), &mut bytes).expect("base64url");
    let open = |bytes: &[u8]| raw.open_many(&[bytes], &[None], &mut Vec::new()).remove(0);
    assert!(open(&bytes).is_ok());
    for bit in 0..bytes.len() * 8 {
        let mut bad = bytes.clone();
        bad[bit / 8] ^= 1 << (bit % 8);
        let expected = if bit < 8 {
            OpenError::Malformed { format: "fernet", reason: "the first byte is not 0x80" }
        } else {
            OpenError::Unopened
        };
        assert_eq!(open(&bad), Err(expected), "bit {bit}");
    }
    (0..bytes.len()).for_each(|length| assert!(open(&bytes[..length]).is_err(), "cut at {length}"));
}

proptest! {
    #[test]
    fn what_is_sealed_opens_under_its_key_only(plaintext: Vec<u8>, created: u64) {
        let token = seal(&codec(SECRET), &plaintext, Shape::Fernet { created }, &OsRandom);
        let (back, opened) = open(&codec(SECRET), &token).expect("opens");
        prop_assert_eq!(back, plaintext);
        prop_assert_eq!(opened.shape, Shape::Fernet { created });
        let other = codec("0000000000000000000000000000000000000000000=");
        prop_assert_eq!(open(&other, &token), Err(OpenError::Unopened));
    }

    #[test]
    fn no_text_panics(text in "[A-Za-z0-9_=-]{0,200}|\\PC{0,50}") {
        let _ = open(&codec(SECRET), &text);
    }
}
