//! Our column envelope between reseal and an implementation of a few lines of Python: both directions, every suite,
//! binding and kind of row key, and the same refusals.

use reseal_crypto::envelope::{EnvelopeKey, decode_text, encode_text};
use reseal_crypto::random::{OsRandom, Random, RandomPool};
use reseal_crypto::{Binding, ColumnId, ColumnKey, RowKey, Suite};
use reseal_tests::python::{Package, answers};
use serde_json::{Value, json};

/// A column key with the policy that both sides are told.
struct Column {
    key: ColumnKey,
    suite: Suite,
    binding: Binding,
    id: ColumnId,
}

impl Column {
    fn every() -> Vec<Self> {
        let mut id = [0; 16];
        OsRandom.fill(&mut id).expect("the system has randomness");
        let suites = Suite::ALL.into_iter().flat_map(|suite| Binding::ALL.map(|binding| (suite, binding)));
        suites
            .map(|(suite, binding)| {
                let key = ColumnKey::generate(&OsRandom).expect("the system has randomness");
                Self { key, suite, binding, id: ColumnId(id) }
            })
            .collect()
    }

    fn prepared(&self) -> EnvelopeKey {
        EnvelopeKey::new(&self.key, self.suite, self.binding, self.id)
    }

    fn seal(&self, row: &RowKey, plaintext: &[u8]) -> Vec<u8> {
        let nonce = RandomPool::new(&OsRandom).nonce().expect("the system has randomness");
        let mut sealed = Vec::new();
        self.prepared().seal(&nonce, Some(row), plaintext, &mut sealed).expect("seals");
        sealed
    }

    /// What the Python side is told, but for the value.
    fn question(&self, row: &Value) -> Value {
        json!({
            "key": *self.key.to_text(),
            "suite": self.suite.id(),
            "binding": self.binding.id(),
            "column_id": self.id.to_string(),
            "row_key": row,
        })
    }

    fn ask_to_open(&self, row: &Value, value: Value) -> Value {
        with(self.question(row), "value", value)
    }
}

fn with(mut question: Value, field: &str, value: Value) -> Value {
    question[field] = value;
    question
}

fn hex_value(bytes: &[u8]) -> Value {
    json!({ "hex": hex::encode(bytes) })
}

fn text_value(bytes: &[u8]) -> Value {
    let mut text = Vec::new();
    encode_text(bytes, &mut text);
    String::from_utf8(text).expect("base64url").into()
}

/// Row keys of every type, with the same key as Python is told it.
fn row_keys() -> Vec<(RowKey, Value)> {
    let uuid = *b"0123456789abcdef";
    vec![
        (RowKey::default(), json!([])),
        (RowKey::default().integer(1), json!([["integer", 1]])),
        (RowKey::default().integer(i64::MIN), json!([["integer", i64::MIN]])),
        (RowKey::default().text("Zoë\n\u{1F511}"), json!([["text", "Zoë\n\u{1F511}"]])),
        (RowKey::default().bytes(&[0, 0xFF]), json!([["bytes", "00ff"]])),
        (RowKey::default().uuid(&uuid), json!([["uuid", hex::encode(uuid)]])),
        (RowKey::default().text("").integer(-7), json!([["text", ""], ["integer", -7]])),
    ]
}

fn plaintexts() -> Vec<Vec<u8>> {
    vec![Vec::new(), b"a".to_vec(), "Grüße".as_bytes().to_vec(), (0..=255).collect(), vec![0xFB; 70_000]]
}

#[test]
fn python_reads_what_reseal_wrote() {
    let (mut questions, mut expected) = (Vec::new(), Vec::new());
    for column in Column::every() {
        for (row, row_json) in row_keys() {
            for plaintext in plaintexts() {
                let sealed = column.seal(&row, &plaintext);
                for value in [hex_value(&sealed), text_value(&sealed)] {
                    questions.push(column.ask_to_open(&row_json, value));
                    expected.push(json!({ "plaintext": hex::encode(&plaintext) }));
                }
            }
        }
    }
    assert_eq!(questions.len(), 6 * 7 * 5 * 2);
    let given = answers("reseal_envelope.py", &[Package::CRYPTOGRAPHY], &questions);
    for ((question, given), expected) in questions.iter().zip(given).zip(expected) {
        assert_eq!(given, expected, "suite {} binding {}", question["suite"], question["binding"]);
    }
}

#[test]
fn reseal_reads_what_python_wrote() {
    let (mut questions, mut cases) = (Vec::new(), Vec::new());
    let columns = Column::every();
    for column in &columns {
        for (row, row_json) in row_keys() {
            for plaintext in plaintexts() {
                questions.push(with(column.question(&row_json), "plaintext", hex::encode(&plaintext).into()));
                cases.push((column, row.clone(), plaintext));
            }
        }
    }
    let given = answers("reseal_envelope.py", &[Package::CRYPTOGRAPHY], &questions);
    for ((column, row, plaintext), given) in cases.into_iter().zip(given) {
        let sealed = hex::decode(given["value"].as_str().expect("a sealed value")).expect("hex");
        let mut opened = Vec::new();
        column.prepared().open(Some(&row), &sealed, &mut opened).expect("what Python sealed opens");
        assert_eq!(opened, plaintext);
    }
}

#[test]
fn both_refuse_every_flipped_bit_and_every_cut() {
    let (row, row_json) = (RowKey::default().integer(5), json!([["integer", 5]]));
    let (mut questions, mut ours) = (Vec::new(), Vec::new());
    for column in Column::every() {
        let good = column.seal(&row, b"plaintext");
        let flips = (0..good.len() * 8).map(|bit| {
            let mut bad = good.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            bad
        });
        let cuts = (0..good.len()).map(|length| good[..length].to_vec());
        for bad in flips.chain(cuts) {
            questions.push(column.ask_to_open(&row_json, hex_value(&bad)));
            ours.push(column.prepared().open(Some(&row), &bad, &mut Vec::new()));
        }
    }
    let given = answers("reseal_envelope.py", &[Package::CRYPTOGRAPHY], &questions);
    for (given, ours) in given.iter().zip(ours) {
        assert!(ours.is_err() && given["error"].is_string(), "{ours:?} {given}");
    }
}

#[test]
fn both_refuse_values_from_elsewhere() {
    let (row, row_json, other_row) =
        (RowKey::default().integer(5), json!([["integer", 5]]), json!([["integer", 6]]));
    let mut questions = Vec::new();
    let columns = Column::every();
    for column in &columns {
        let value = hex_value(&column.seal(&row, b"x"));
        for other in &columns {
            if !std::ptr::eq(column, other) {
                // The same key, so that only suite and binding differ; then the key alone.
                let weaker = Column { key: column.key.clone(), ..*other };
                questions.push(weaker.ask_to_open(&row_json, value.clone()));
                questions
                    .push(Column { key: other.key.clone(), ..*column }.ask_to_open(&row_json, value.clone()));
            }
        }
        if column.binding != Binding::None {
            let elsewhere = Column { key: column.key.clone(), id: ColumnId([0xEE; 16]), ..*column };
            questions.push(elsewhere.ask_to_open(&row_json, value.clone()));
        }
        if column.binding == Binding::Row {
            questions.push(column.ask_to_open(&other_row, value));
        }
    }
    assert_eq!(questions.len(), 6 * 5 * 2 + 4 + 2);
    for answer in answers("reseal_envelope.py", &[Package::CRYPTOGRAPHY], &questions) {
        assert!(answer["error"].is_string(), "{answer}");
    }
}

#[test]
fn both_refuse_text_that_is_not_canonical() {
    let column = &Column::every()[1];
    let row = RowKey::default();
    // 53 bytes: the last character of the text has spare bits, which must be zero.
    let good = text_value(&column.seal(&row, b"x"));
    let good = good.as_str().expect("text");
    let last = good.chars().last().expect("not empty");
    let spare = char::from_u32(u32::from(last) + 1).expect("the next letter");
    let wrong = [
        format!("{good}="),
        format!("{good}\n"),
        format!(" {good}"),
        good.replacen("rs1.", "rs2.", 1),
        good.replacen("rs1.", "", 1),
        format!("{}{spare}", &good[..good.len() - 1]),
        good.replace('-', "+").replacen("rs1.", "rs1.+", 1),
        "rs1.".into(),
        String::new(),
    ];
    let questions: Vec<_> =
        wrong.iter().map(|text| column.ask_to_open(&json!([]), text.clone().into())).collect();
    let given = answers("reseal_envelope.py", &[Package::CRYPTOGRAPHY], &questions);
    for (text, given) in wrong.iter().zip(given) {
        let mut envelope = Vec::new();
        let ours = decode_text(text.as_bytes(), &mut envelope)
            .and_then(|()| column.prepared().open(Some(&row), &envelope, &mut Vec::new()));
        assert!(ours.is_err() && given["error"].is_string(), "{text:?}: {ours:?} {given}");
    }
}
