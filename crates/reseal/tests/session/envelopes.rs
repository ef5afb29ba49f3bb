//! Envelopes that were damaged or moved, and damaged key slots, as the command tells them.

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use rusqlite::Connection;
use serde_json::Value;

use super::Session;
use super::columns::Columns;

const ROWS: usize = 200;

/// A run to envelopes of this suite and binding, done.
fn sealed(suite: &str, binding: &str) -> Columns {
    let columns = Columns::new();
    let path = columns.session.path("reseal.toml");
    let plan = std::fs::read_to_string(&path).unwrap();
    let to = format!(r#"{{ format = "reseal", suite = "{suite}", binding = "{binding}" }}"#);
    std::fs::write(&path, plan.replace(r#"{ format = "reseal" }"#, &to)).unwrap();
    columns.session.run(&["generate", "crm/db-key", "--kind", "key", "--pending"]).done();
    columns.session.run(&["backup", "create", "b.vault"]).done();
    columns.run_object(0);
    columns
}

/// What `verify` counts in the column of addresses.
fn verified(columns: &Columns, code: i32) -> Value {
    let ended = columns.session.run(&["--json", "reencrypt", "verify"]).code(code);
    let told: Value = serde_json::from_str(&ended.stdout).unwrap();
    let census = told["columns"][0]["census"].as_array().unwrap().clone();
    census.into_iter().find(|column| column["name"] == "email_encrypted").unwrap()
}

/// The envelope with one bit flipped; the first four characters stand in clear, the others in base64url.
fn flipped(envelope: &str, bit: usize) -> Option<String> {
    let (head, body) = envelope.split_at(4);
    let mut bytes = BASE64_URL_SAFE_NO_PAD.decode(body).unwrap();
    *bytes.get_mut(bit / 8)? ^= 1 << (bit % 8);
    Some(format!("{head}{}", BASE64_URL_SAFE_NO_PAD.encode(bytes)))
}

fn every_flipped_bit_is_noticed(suite: &str, binding: &str) {
    let columns = sealed(suite, binding);
    let ids: Vec<i64> = (1..=ROWS as i64).collect();
    let envelopes: Vec<String> = ids.iter().map(|id| columns.email(*id)).collect();
    let shortest = envelopes.iter().map(|envelope| (envelope.len() - 4) * 3 / 4).min().unwrap();
    let bits = shortest * 8;
    assert!(bits > (36 + 16) * 8, "header, plaintext and tag: {bits}");
    for first in (0..bits).step_by(ROWS) {
        columns.database.execute_batch("BEGIN").unwrap();
        for ((id, envelope), bit) in ids.iter().zip(&envelopes).zip(first..first + ROWS) {
            // The last rows of the last round repeat what was flipped before.
            columns.set_email(*id, &flipped(envelope, bit % bits).unwrap());
        }
        columns.database.execute_batch("COMMIT").unwrap();
        let census = verified(&columns, 12);
        assert_eq!((&census["new"], &census["unopened"]), (&0.into(), &ROWS.into()), "{census}");
    }
    columns.database.execute_batch("BEGIN").unwrap();
    for (id, envelope) in ids.iter().zip(&envelopes) {
        columns.set_email(*id, envelope);
    }
    columns.database.execute_batch("COMMIT").unwrap();
    assert_eq!(verified(&columns, 0)["new"], ROWS);
}

#[test]
fn every_flipped_bit_of_an_envelope_ends_verify_with_code_12() {
    for (suite, binding) in [("xaes-256-gcm", "column"), ("xchacha20-poly1305", "row")] {
        every_flipped_bit_is_noticed(suite, binding);
    }
}

#[test]
fn every_flipped_bit_of_the_other_pairs_ends_verify_with_code_12() {
    for (suite, binding) in [("xaes-256-gcm", "row"), ("xchacha20-poly1305", "column")] {
        every_flipped_bit_is_noticed(suite, binding);
    }
}

#[test]
fn an_envelope_in_another_row_or_column_does_not_open() {
    let columns = sealed("xaes-256-gcm", "row");
    let (first, second) = (columns.email(1), columns.email(2));
    columns.set_email(1, &second);
    columns.set_email(2, &first);
    columns.set_email(3, &columns.name(3));
    let census = verified(&columns, 12);
    assert_eq!((&census["new"], &census["unopened"]), (&(ROWS - 3).into(), &3.into()), "{census}");
    assert_eq!(census["unopened_by_reason"]["corrupt"], 3, "{census}");
}

/// The library's tests flip every bit; here one of each byte.
#[test]
fn a_flipped_bit_of_a_key_slot_ends_the_command_with_code_4_or_6() {
    let session = Session::new();
    let path = session.path("v.vault");
    let names =
        ["kdf", "memory_kib", "passes", "lanes", "id", "salt", "nonce", "wrapped", "commitment", "label"];
    for name in names {
        let vault = Connection::open(&path).unwrap();
        let before: rusqlite::types::Value =
            vault.query_row(&format!("SELECT {name} FROM slot"), [], |row| row.get(0)).unwrap();
        let set = |value: &rusqlite::types::Value| {
            assert_eq!(vault.execute(&format!("UPDATE slot SET {name} = ?1"), [value]).unwrap(), 1);
        };
        let changed: Vec<rusqlite::types::Value> = match &before {
            rusqlite::types::Value::Blob(bytes) => (0..bytes.len())
                .map(|index| {
                    let mut bytes = bytes.clone();
                    bytes[index] ^= 1 << (index % 8);
                    bytes.into()
                })
                .collect(),
            rusqlite::types::Value::Integer(number) => vec![(number ^ 1).into(), (number ^ 2).into()],
            other => panic!("{name}: {other:?}"),
        };
        for value in changed {
            set(&value);
            let ended = session.run(&["list"]);
            assert!(matches!(ended.code, Some(4 | 6)), "{name}: {ended:?}");
        }
        set(&before);
        session.run(&["list"]).done();
    }
}
