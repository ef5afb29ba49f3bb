//! Our Fernet tokens against PyCA's `cryptography`, in both directions, and rotation by either side.

use reseal_crypto::random::{OsRandom, Random, RandomPool, SeededRandom};
use reseal_crypto::{ColumnId, ColumnKey, KeyMaterial, SecretBytes};
use reseal_formats::{Codec, ColumnType, Encoding, FormatSpec, OpenError, Opened, Shape};
use reseal_tests::python::{Package, answers};
use serde_json::{Value, json};

const LENGTHS: [usize; 12] = [0, 1, 15, 16, 17, 31, 32, 191, 192, 8384, 16_385, 1 << 20];
const TIMES: [u64; 3] = [1, 1_700_000_000, 4_102_444_800];

/// Keys as Fernet writes them: 44 characters.
fn keys() -> [String; 2] {
    [(); 2].map(|()| {
        let key = ColumnKey::generate(&OsRandom).expect("the system has randomness");
        format!("{}=", *key.to_text())
    })
}

fn codec(key: &str) -> Codec {
    let spec: FormatSpec = serde_json::from_value(json!({ "format": "fernet" })).expect("a description");
    let key = KeyMaterial::Foreign(SecretBytes::copy_from(key.as_bytes()));
    spec.codec(ColumnType::Text, &key, ColumnId([0; 16])).expect("a codec")
}

/// Plaintexts of every length, each at every time.
fn values() -> Vec<(Vec<u8>, u64)> {
    let seed = 5;
    println!("seed {seed}");
    let random = SeededRandom::new(seed);
    let plaintext = |length| {
        let mut bytes = vec![0; length];
        random.fill(&mut bytes).expect("seeded");
        bytes
    };
    LENGTHS.into_iter().flat_map(|length| TIMES.map(|time| (plaintext(length), time))).collect()
}

fn seal(codec: &Codec, plaintext: &[u8], shape: Shape) -> String {
    let value = Opened { plaintext: 0..plaintext.len(), shape, encoding: Encoding::Raw };
    let mut out = Vec::new();
    let mut random = RandomPool::new(&OsRandom);
    codec.seal_many(plaintext, &[value], &[None], &mut random, &mut out).expect("seals");
    String::from_utf8(out).expect("a token is text")
}

fn open(codec: &Codec, token: &str) -> Result<(Vec<u8>, u64), OpenError> {
    let mut plaintext = Vec::new();
    let opened = codec.open_many(&[token.as_bytes()], &[None], &mut plaintext).remove(0)?;
    Ok((plaintext, opened.shape.created().expect("a token says when it was made")))
}

fn ask(questions: &[Value]) -> Vec<Value> {
    answers("fernet_peer.py", &[Package::CRYPTOGRAPHY], questions)
}

fn token(answer: &Value) -> &str {
    answer["token"].as_str().unwrap_or_else(|| panic!("no token in {answer}"))
}

#[test]
fn tokens_of_each_side_open_on_the_other() {
    let [key, other] = keys();
    let values = values();
    let sealing: Vec<Value> = values
        .iter()
        .map(|(plaintext, created)| {
            json!({ "do": "seal", "key": key, "created": created, "plaintext": hex::encode(plaintext) })
        })
        .collect();
    for (answer, value) in ask(&sealing).iter().zip(&values) {
        assert!(open(&codec(&key), token(answer)).expect("their token opens") == *value);
        assert_eq!(open(&codec(&other), token(answer)), Err(OpenError::Unopened));
    }
    let ours = values
        .iter()
        .map(|(plaintext, created)| seal(&codec(&key), plaintext, Shape::Fernet { created: *created }));
    let tokens: Vec<String> = ours.collect();
    let opening: Vec<Value> =
        tokens.iter().map(|token| json!({ "do": "open", "keys": [key], "token": token })).collect();
    for (answer, (plaintext, created)) in ask(&opening).iter().zip(&values) {
        assert!(answer["plaintext"] == hex::encode(plaintext), "{} bytes", plaintext.len());
        assert_eq!(answer["created"], *created);
    }
    let under_another: Vec<Value> =
        tokens.iter().map(|token| json!({ "do": "open", "keys": [other], "token": token })).collect();
    assert!(ask(&under_another).iter().all(|answer| answer["refused"] == true));
    println!("{} tokens in each direction", values.len());
    assert_eq!(values.len(), 36);
}

#[test]
fn both_sides_rotate_alike() {
    let [old, new] = keys();
    let tokens = TIMES.map(|created| seal(&codec(&old), b"value", Shape::Fernet { created }));
    let rotating: Vec<Value> =
        tokens.iter().map(|token| json!({ "do": "rotate", "keys": [new, old], "token": token })).collect();
    for ((theirs, token), created) in ask(&rotating).iter().zip(&tokens).zip(TIMES) {
        let (plaintext, _) = open(&codec(&old), token).expect("opens");
        let ours = seal(&codec(&new), &plaintext, Shape::Fernet { created });
        for rotated in [self::token(theirs), &ours] {
            assert_eq!(open(&codec(&new), rotated), Ok((b"value".to_vec(), created)));
            assert_eq!(open(&codec(&old), rotated), Err(OpenError::Unopened));
        }
    }
}
