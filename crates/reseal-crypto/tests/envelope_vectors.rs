//! The fixed vectors that `docs/formats/envelope.md` publishes, both ways. They were made by the Python implementation
//! in `tests/python/`, so they also stand for a second reading of the format.

use reseal_crypto::envelope::{Envelope, EnvelopeKey, TEXT_HEADER_LEN, decode_text, encode_text};
use reseal_crypto::hash::hkdf_sha256;
use reseal_crypto::{Binding, ColumnId, ColumnKey, Nonce, RowKey, Suite};
use serde_json::Value;

const VECTORS: &str = include_str!("../../../docs/formats/envelope-vectors.json");

struct Vector {
    name: String,
    key: ColumnKey,
    suite: Suite,
    binding: Binding,
    column: ColumnId,
    row: RowKey,
    json: Value,
}

impl Vector {
    fn all() -> Vec<Self> {
        let file: Value = serde_json::from_str(VECTORS).expect("the file is JSON");
        file["vectors"].as_array().expect("a list").iter().map(Self::read).collect()
    }

    fn read(json: &Value) -> Self {
        let byte = |field: &str| u8::try_from(json[field].as_u64().expect("a number")).expect("a byte");
        Self {
            name: json["name"].as_str().expect("a name").into(),
            key: ColumnKey::from_text(json["key"].as_str().expect("a key").as_bytes())
                .expect("43 characters"),
            suite: Suite::from_id(byte("suite")).expect("a suite"),
            binding: Binding::from_id(byte("binding")).expect("a binding"),
            column: ColumnId(bytes(&json["column_id"]).try_into().expect("16 bytes")),
            row: row_key(&json["row_key"]),
            json: json.clone(),
        }
    }

    fn bytes(&self, field: &str) -> Vec<u8> {
        bytes(&self.json[field])
    }

    fn prepared(&self) -> EnvelopeKey {
        EnvelopeKey::new(&self.key, self.suite, self.binding, self.column)
    }
}

fn bytes(json: &Value) -> Vec<u8> {
    hex::decode(json.as_str().expect("hex text")).expect("hex")
}

fn row_key(json: &Value) -> RowKey {
    json.as_array().expect("a list").iter().fold(RowKey::default(), |row, column| {
        let value = &column[1];
        match column[0].as_str() {
            Some("integer") => row.integer(value.as_i64().expect("an integer")),
            Some("text") => row.text(value.as_str().expect("text")),
            Some("bytes") => row.bytes(&bytes(value)),
            Some("uuid") => row.uuid(&bytes(value).try_into().expect("16 bytes")),
            other => panic!("{other:?} is not a type of key column"),
        }
    })
}

#[test]
fn every_suite_and_binding_has_vectors() {
    let vectors = Vector::all();
    assert_eq!(vectors.len(), 12);
    for suite in Suite::ALL {
        for binding in Binding::ALL {
            assert!(
                vectors.iter().any(|v| v.suite == suite && v.binding == binding),
                "{suite:?} {binding:?}"
            );
        }
    }
}

#[test]
fn derived_keys_are_the_published_ones() {
    for vector in Vector::all() {
        let Vector { name, key, suite, .. } = &vector;
        assert_eq!(key.commitment().0.as_slice(), vector.bytes("commitment"), "{name}");
        let mut aead_key = [0; 32];
        let info = [b"reseal/v1/column/aead/".as_slice(), &[suite.id()]].concat();
        hkdf_sha256(key.expose(), b"", &info, &mut aead_key);
        assert_eq!(aead_key.as_slice(), vector.bytes("aead_key"), "{name}");
    }
}

#[test]
fn sealing_gives_the_published_bytes_and_text() {
    for vector in Vector::all() {
        let nonce = Nonce(vector.bytes("nonce").try_into().expect("24 bytes"));
        let (mut sealed, mut text) = (Vec::new(), Vec::new());
        vector
            .prepared()
            .seal(&nonce, Some(&vector.row), &vector.bytes("plaintext"), &mut sealed)
            .expect("the vector seals");
        assert_eq!(hex::encode(&sealed), vector.json["envelope"], "{}", vector.name);
        encode_text(&sealed, &mut text);
        assert_eq!(String::from_utf8(text).expect("base64url"), vector.json["text"], "{}", vector.name);
    }
}

#[test]
fn the_published_text_opens_and_begins_with_its_key() {
    for vector in Vector::all() {
        let text = vector.json["text"].as_str().expect("text");
        let (mut envelope, mut plaintext) = (Vec::new(), Vec::new());
        decode_text(text.as_bytes(), &mut envelope).expect("canonical text");
        assert_eq!(envelope, vector.bytes("envelope"), "{}", vector.name);
        vector.prepared().open(Some(&vector.row), &envelope, &mut plaintext).expect("the vector opens");
        assert_eq!(plaintext, vector.bytes("plaintext"), "{}", vector.name);
        let parsed = Envelope::parse(&envelope).expect("well formed");
        assert_eq!(parsed.header, vector.prepared().header(), "{}", vector.name);
        let mut header_text = Vec::new();
        encode_text(parsed.header, &mut header_text);
        assert_eq!(&text.as_bytes()[..TEXT_HEADER_LEN], header_text, "{}", vector.name);
    }
}

#[test]
fn the_page_works_through_the_second_vector() {
    let page = include_str!("../../../docs/formats/envelope.md");
    let vector = &Vector::all()[1];
    let (nonce_end, tag) = (72, vector.bytes("envelope").len() * 2 - 32);
    let envelope = vector.json["envelope"].as_str().expect("hex");
    let fields = ["commitment", "aead_key", "nonce", "plaintext", "text"].map(|field| &vector.json[field]);
    let fields = fields.iter().filter_map(|field| field.as_str());
    for shown in fields.chain([&envelope[nonce_end..tag], &envelope[tag..]]) {
        assert!(page.contains(shown), "envelope.md does not show {shown}");
    }
}

#[test]
fn associated_data_is_header_column_and_row_key() {
    for vector in Vector::all() {
        let header = &vector.bytes("envelope")[..12];
        let expected = match vector.binding {
            Binding::None => header.to_vec(),
            Binding::Column => [header, &vector.column.0].concat(),
            Binding::Row => [header, &vector.column.0, vector.row.as_bytes()].concat(),
        };
        assert_eq!(vector.bytes("aad"), expected, "{}", vector.name);
    }
}
