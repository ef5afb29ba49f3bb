//! The vectors of `docs/formats/`, read from the pages themselves: what is published there must open.

use reseal_crypto::{ColumnId, KeyMaterial, SecretBytes};
use reseal_formats::{ColumnType, FormatSpec};
use serde_json::{Value, json};

fn open(plan: Value, column: ColumnType, key: &str, stored: &[u8]) -> Vec<u8> {
    let spec: FormatSpec = serde_json::from_value(plan).expect("a description");
    let key = KeyMaterial::Foreign(SecretBytes::copy_from(key.as_bytes()));
    let codec = spec.codec(column, &key, ColumnId([0; 16])).expect("a codec");
    let mut plaintext = Vec::new();
    codec.open_many(&[stored], &[None], &mut plaintext).remove(0).expect("the published value opens");
    plaintext
}

/// The one line in the last code block of a page.
fn last_block(page: &str) -> &str {
    let (_, tail) = page.rsplit_once("```text\n").expect("a block");
    tail.split_once("\n```").expect("the end of the block").0
}

#[test]
fn pgcrypto() {
    let message = last_block(include_str!("../../../docs/formats/pgcrypto.md")).as_bytes();
    assert_eq!(open(json!({ "format": "pgcrypto" }), ColumnType::Text, "key", message), b"secret");
}

#[test]
fn fernet() {
    let page = include_str!("../../../docs/formats/fernet.md");
    let key = "cw_0x689RpI-jtRR7oE8h_eQsKImvJapLeSbXpwF4e4=";
    assert!(page.contains(key));
    assert_eq!(
        open(json!({ "format": "fernet" }), ColumnType::Text, key, last_block(page).as_bytes()),
        b"hello"
    );
}

#[test]
fn aead() {
    let page = include_str!("../../../docs/formats/aead.md");
    let (_, table) = page.split_once("| value in hex |\n|---|---|---|\n").expect("a table");
    let key: String = (0..32).map(|byte| format!("{byte:02x}")).collect();
    let mut opened = 0;
    for line in table.lines() {
        let row = line.replace("\\|", "/");
        let cells: Vec<&str> = row.split('|').map(str::trim).collect();
        let [_, cipher, place, value, _] = cells[..] else { panic!("{line}") };
        let mut quoted = place.split('`').skip(1).step_by(2);
        let layout = quoted.next().expect("a layout").replace('/', "|");
        let mut plan = json!({ "format": "aes-gcm", "layout": layout });
        if let Some(aad) = quoted.next() {
            plan["aad"] = aad.into();
        }
        let mut key = &key[..];
        match cipher {
            "ChaCha20-Poly1305" => plan["format"] = "chacha20-poly1305".into(),
            "AES-128-GCM" => {
                plan["bits"] = 128.into();
                key = &key[..32];
            }
            "AES-256-GCM, 16-byte nonce" => plan["nonce"] = 16.into(),
            other => assert_eq!(other, "AES-256-GCM"),
        }
        let value = hex::decode(value.trim_matches('`')).expect("hexadecimal");
        assert_eq!(open(plan, ColumnType::Bytes, key, &value), b"hello", "{line}");
        opened += 1;
    }
    assert_eq!(opened, 5);
}

#[test]
fn every_encoding_of_the_page_is_read() {
    let page = include_str!("../../../docs/formats/encodings.md");
    let (_, table) = page.split_once("|---|---|---|\n").expect("a table");
    let rows = table.lines().take_while(|line| line.starts_with('|'));
    let names: Vec<&str> =
        rows.flat_map(|row| row.split('|').nth(1).expect("a cell").split('`').skip(1).step_by(2)).collect();
    assert_eq!(names.len(), 11);
    for name in names {
        let plan = json!({ "format": "pgcrypto", "encoding": name });
        let spec: FormatSpec = serde_json::from_value(plan).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!(spec.check(ColumnType::Bytes), Ok(()), "{name}");
    }
}
