//! Format descriptions as plan files write them: what is read, what is refused, and the codec that comes of it.

use proptest::prelude::*;
use reseal_crypto::random::{OsRandom, RandomPool};
use reseal_crypto::{Binding, ColumnId, ColumnKey, KeyMaterial, RowKey, SecretBytes};
use reseal_formats::{Codec, ColumnType, Encoding, FormatSpec, KeyError, Opened, Shape, SpecError};

fn spec(toml: &str) -> FormatSpec {
    read(toml).unwrap_or_else(|error| panic!("{toml}: {error}"))
}

fn read(toml: &str) -> Result<FormatSpec, toml::de::Error> {
    #[derive(serde::Deserialize)]
    struct Column {
        from: FormatSpec,
    }
    toml::from_str::<Column>(&format!("from = {{ {toml} }}")).map(|column| column.from)
}

fn column_key(byte: u8) -> KeyMaterial {
    KeyMaterial::Column(ColumnKey::from_bytes(&[byte; 32]))
}

fn codec(toml: &str, column: ColumnType, byte: u8) -> Codec {
    spec(toml)
        .codec(column, &column_key(byte), ColumnId([9; 16]))
        .unwrap_or_else(|error| panic!("{toml}: {error}"))
}

fn plain(length: usize) -> Opened {
    Opened { plaintext: 0..length, shape: Shape::Plain, encoding: Encoding::Raw }
}

fn seal(codec: &Codec, plaintext: &[u8], value: &Opened) -> Vec<u8> {
    let mut out = Vec::new();
    let row = RowKey::default().integer(1);
    let mut random = RandomPool::new(&OsRandom);
    let values = [value.clone()];
    codec.seal_many(plaintext, &values, &[Some(&row)], &mut random, &mut out).expect("seals");
    out
}

fn open(codec: &Codec, stored: &[u8]) -> (Vec<u8>, Opened) {
    let mut plaintext = Vec::new();
    let row = RowKey::default().integer(1);
    let opened = codec.open_many(&[stored], &[Some(&row)], &mut plaintext).remove(0).expect("opens");
    (plaintext, opened)
}

const CHEAP: &str = "format = \"pgcrypto\", s2k-count = 1024";

/// Every format with every encoding it has, and the columns these may stand in.
fn every_spec() -> Vec<(String, Vec<ColumnType>)> {
    let both = vec![ColumnType::Bytes, ColumnType::Text];
    let mut all = Vec::new();
    let formats = [
        CHEAP.to_owned(),
        format!("{CHEAP}, cipher-algo = \"aes256\", sess-key = 1, compress-algo = 1, unicode-mode = true"),
        format!("{CHEAP}, s2k-mode = 0, s2k-digest-algo = \"md5\", compress-algo = 2, compress-level = 9"),
        format!(
            "{CHEAP}, s2k-mode = 1, cipher-algo = \"aes192\", sess-key = true, s2k-cipher-algo = \"aes\""
        ),
        "format = \"aes-gcm\"".to_owned(),
        "format = \"aes-gcm\", nonce = 16, aad = \"x\"".to_owned(),
        "format = \"aes-gcm\", bits = 256, layout = \"hex:01ff|tag|nonce|ciphertext\"".to_owned(),
        "format = \"chacha20-poly1305\", layout = \"nonce|tag|ciphertext\"".to_owned(),
    ];
    for format in &formats {
        all.push((format.clone(), both.clone()));
        all.push((format!("{format}, encoding = \"raw\""), vec![ColumnType::Bytes]));
        for encoding in [
            "text",
            "hex",
            "bytea-hex",
            "base64",
            "base64-lines",
            "base64-one-line",
            "base64url",
            "base64url-unpadded",
        ] {
            all.push((format!("{format}, encoding = \"{encoding}\""), both.clone()));
        }
    }
    all.push((format!("{CHEAP}, encoding = \"armor\""), both.clone()));
    for binding in ["none", "column", "row"] {
        for suite in ["xaes-256-gcm", "xchacha20-poly1305"] {
            let format = format!("format = \"reseal\", binding = \"{binding}\", suite = \"{suite}\"");
            all.push((format!("{format}, encoding = \"text\""), both.clone()));
            all.push((format, both.clone()));
        }
    }
    all.push(("format = \"fernet\"".to_owned(), both.clone()));
    all.push(("format = \"fernet\", encoding = \"text\"".to_owned(), both));
    all.push(("format = \"fernet\", encoding = \"raw\"".to_owned(), vec![ColumnType::Bytes]));
    all
}

#[test]
fn every_format_in_every_encoding_comes_back_and_freezes_as_json() {
    let mut tried = 0;
    for (toml, columns) in every_spec() {
        let written = serde_json::to_string(&spec(&toml)).expect("serialises");
        assert_eq!(serde_json::from_str::<FormatSpec>(&written).expect(&written), spec(&toml));
        for column in columns {
            let codec = codec(&toml, column, 1);
            for length in [0, 1, 50, 500] {
                let plaintext = vec![b'p'; length];
                let stored = seal(&codec, &plaintext, &plain(length));
                assert!(column == ColumnType::Bytes || stored.is_ascii(), "{toml}");
                let longest = spec(&toml).stored_len_max(column, length).expect("checked");
                assert!(stored.len() <= longest, "{toml} {column:?}: {} > {longest}", stored.len());
                let (back, opened) = open(&codec, &stored);
                assert_eq!(back, plaintext);
                let again = seal(&codec, &back, &opened);
                if !toml.contains("compress") {
                    assert_eq!(again.len(), stored.len(), "{toml}");
                    let grown = spec(&toml).grown_len(&spec(&toml), column, stored.len()).expect("checked");
                    assert!(again.len() <= grown, "{toml} {column:?} {length}");
                }
                assert!(codec.stored_prefix().is_none_or(|prefix| stored.starts_with(&prefix)), "{toml}");
                assert_eq!(codec.stored_prefix().is_some(), toml.contains("reseal"));
                tried += 1;
            }
        }
    }
    println!("{tried} combinations of format, encoding, column and length");
    assert_eq!(tried, 732);
}

#[test]
fn converted_values_fit_the_length_that_was_foretold() {
    let sources = every_spec();
    for column in [ColumnType::Bytes, ColumnType::Text] {
        let fitting: Vec<_> = sources.iter().filter(|(_, columns)| columns.contains(&column)).collect();
        for (from, _) in fitting.iter().filter(|(toml, _)| !toml.contains("compress")) {
            let source = codec(from, column, 1);
            for (to, _) in fitting.iter().step_by(3) {
                let target = codec(to, column, 2);
                for length in [0, 30, 300] {
                    let plaintext = vec![b'x'; length];
                    let stored = seal(&source, &plaintext, &plain(length));
                    let (back, opened) = open(&source, &stored);
                    let converted = seal(&target, &back, &opened);
                    let foretold = spec(from).grown_len(&spec(to), column, stored.len()).expect("checked");
                    assert!(converted.len() <= foretold, "{from} to {to}: {} > {foretold}", converted.len());
                    assert_eq!(open(&target, &converted).0, plaintext);
                }
            }
        }
    }
}

#[test]
fn same_format_conversions_need_no_room() {
    for toml in
        ["format = \"pgcrypto\", encoding = \"base64\"", "format = \"fernet\"", "format = \"aes-gcm\""]
    {
        assert_eq!(spec(toml).grown_len(&spec(toml), ColumnType::Text, 101), Ok(101), "{toml}");
    }
}

#[test]
fn values_keep_their_look_in_the_same_format_and_take_the_columns_from_another() {
    let lines = Encoding::Base64 { lines: true };
    let one_line = Encoding::Base64 { lines: false };
    let plaintext = [b'x'; 100];
    let declared = codec(&format!("{CHEAP}, encoding = \"base64\""), ColumnType::Text, 1);
    let detected = codec(CHEAP, ColumnType::Text, 1);
    for (look, codec) in [
        (lines, &declared),
        (one_line, &declared),
        (lines, &detected),
        (one_line, &detected),
        (Encoding::Hex { escaped: true, upper: false }, &detected),
        (Encoding::Hex { escaped: false, upper: true }, &detected),
        (Encoding::Armor, &detected),
    ] {
        let mut message = Vec::new();
        lines.decode(&seal(&declared, &plaintext, &plain(100)), &mut message).expect("base64");
        let mut stored = Vec::new();
        look.encode(&message, &mut stored);
        let (back, opened) = open(codec, &stored);
        assert_eq!(opened.encoding, look);
        assert_eq!(open(codec, &seal(codec, &back, &opened)).1.encoding, look);
        // Another format writes as its column does.
        let envelope = self::codec("format = \"reseal\"", ColumnType::Text, 3);
        assert!(seal(&envelope, &back, &opened).starts_with(b"rs1."));
        let raw_gcm = self::codec("format = \"aes-gcm\", encoding = \"base64\"", ColumnType::Text, 3);
        assert_eq!(open(&raw_gcm, &seal(&raw_gcm, &back, &opened)).1.encoding, one_line);
    }
}

#[test]
fn what_plans_must_not_say_is_refused() {
    for toml in [
        "format = \"rot13\"",
        "encoding = \"base64\"",
        "format = \"pgcrypto\", passphrase = \"x\"",
        "format = \"pgcrypto\", cipher-algo = \"bf\"",
        "format = \"pgcrypto\", sess-key = 2",
        "format = \"pgcrypto\", encoding = \"base32\"",
        "format = \"reseal\", binding = \"table\"",
        "format = \"reseal\", suite = \"aes\"",
        "format = \"fernet\", ttl = 60",
        "format = \"aes-gcm\", key = \"x\"",
        "format = \"chacha20-poly1305\", bits = 256",
    ] {
        assert!(read(toml).is_err(), "{toml}");
    }
    for (toml, column) in [
        ("format = \"pgcrypto\", s2k-mode = 2", ColumnType::Bytes),
        ("format = \"pgcrypto\", s2k-count = 1000", ColumnType::Bytes),
        ("format = \"pgcrypto\", compress-algo = 3", ColumnType::Bytes),
        ("format = \"pgcrypto\", compress-level = 10", ColumnType::Bytes),
        ("format = \"pgcrypto\", encoding = \"raw\"", ColumnType::Text),
        ("format = \"reseal\", encoding = \"raw\"", ColumnType::Text),
        ("format = \"reseal\", encoding = \"base64\"", ColumnType::Text),
        ("format = \"fernet\", encoding = \"hex\"", ColumnType::Text),
        ("format = \"aes-gcm\", encoding = \"armor\"", ColumnType::Text),
        ("format = \"aes-gcm\", bits = 512", ColumnType::Bytes),
        ("format = \"aes-gcm\", nonce = 8", ColumnType::Bytes),
        ("format = \"aes-gcm\", layout = \"nonce|tag\"", ColumnType::Bytes),
    ] {
        let error = spec(toml).check(column).expect_err(toml);
        let built = spec(toml).codec(column, &column_key(1), ColumnId([0; 16]));
        assert_eq!(built.map(|_| ()), Err(KeyError::Spec(error)), "{toml}");
    }
}

#[test]
fn each_format_takes_the_keys_it_can_use() {
    let foreign = |text: &str| KeyMaterial::Foreign(SecretBytes::copy_from(text.as_bytes()));
    let try_key = |toml: &str, key: &KeyMaterial| {
        spec(toml).codec(ColumnType::Bytes, key, ColumnId([0; 16])).map(|_| ())
    };
    let hex32 = "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff";
    assert_eq!(try_key("format = \"reseal\"", &foreign(hex32)), Err(KeyError::NotAColumnKey));
    assert_eq!(try_key("format = \"reseal\"", &column_key(1)), Ok(()));
    assert_eq!(try_key("format = \"pgcrypto\"", &foreign("any text")), Ok(()));
    assert_eq!(try_key("format = \"pgcrypto\"", &foreign("")), Err(KeyError::Empty));
    for toml in ["format = \"fernet\"", "format = \"aes-gcm\"", "format = \"chacha20-poly1305\""] {
        assert_eq!(try_key(toml, &foreign(hex32)), Ok(()));
        assert_eq!(try_key(toml, &column_key(1)), Ok(()));
        assert!(matches!(try_key(toml, &foreign(&hex32[..32])), Ok(())), "32 characters are 32 raw bytes");
        assert!(matches!(try_key(toml, &foreign("short")), Err(KeyError::Length { expected: 32, .. })));
    }
    assert_eq!(try_key("format = \"aes-gcm\", bits = 128", &foreign(&hex32[..32])), Ok(()));
    let wrong = try_key("format = \"aes-gcm\", bits = 192", &foreign(hex32));
    assert_eq!(wrong, Err(KeyError::Length { format: "aes-gcm", expected: 24 }));
}

#[test]
fn only_authenticated_formats_are_writable() {
    for (toml, _) in every_spec() {
        assert!(
            spec(&toml).writable() && codec(&toml, ColumnType::Bytes, 1).format().authenticated(),
            "{toml}"
        );
    }
    let unhashed = "format = \"pgcrypto\", allow-no-mdc = true";
    assert!(!spec(unhashed).writable());
    assert!(!codec(unhashed, ColumnType::Bytes, 1).format().authenticated());
    assert_eq!(spec(unhashed).as_target(), spec("format = \"pgcrypto\""));
    assert_eq!(spec("format = \"reseal\"").binding(), Binding::Column);
    assert_eq!(spec("format = \"reseal\", binding = \"row\"").binding(), Binding::Row);
}

#[test]
fn errors_say_what_to_change() {
    let error =
        spec("format = \"pgcrypto\", encoding = \"raw\"").check(ColumnType::Text).expect_err("raw in text");
    assert_eq!(error.to_string(), "pgcrypto values do not stand in raw in a text column");
    let error = SpecError::Option { option: "s2k-mode", allowed: "0, 1 or 3" };
    assert_eq!(error.to_string(), "s2k-mode must be 0, 1 or 3");
}

proptest! {
    #[test]
    fn no_stored_value_panics(stored: Vec<u8>, text in "\\PC{0,80}", which in 0..97_usize) {
        let all = every_spec();
        let (toml, columns) = &all[which % all.len()];
        let codec = codec(toml, columns[0], 1);
        let rows = [None, None];
        let _ = codec.open_many(&[&stored, text.as_bytes()], &rows, &mut Vec::new());
        let _ = codec.reopen_many(&[&stored, text.as_bytes()], &rows, &mut Vec::new());
        let _ = reseal_formats::sniff(&stored);
        let _ = reseal_formats::sniff(text.as_bytes());
    }
}
