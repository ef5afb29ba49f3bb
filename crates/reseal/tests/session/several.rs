//! `reencrypt` over several columns of a plan: one that fails, a reader that leaves, a key that two share.

use std::io::{BufRead, BufReader};

use serde_json::{Value, json};

use super::columns::{Columns, OLD_KEY, TABLE};
use super::{Ended, with_key};

fn object(ended: &Ended) -> Value {
    serde_json::from_str(&ended.stdout).unwrap()
}

/// Breaks `names`, which comes before `prefs`.
fn break_names(columns: &Columns) {
    let path = columns.session.path("reseal.toml");
    let plan = std::fs::read_to_string(&path).unwrap();
    std::fs::write(path, plan.replace("[\"full_name_encrypted\"]", "[\"no_such_column\"]")).unwrap();
}

#[test]
fn one_that_fails_takes_no_other_along() {
    let columns = Columns::two();
    break_names(&columns);
    let ended = columns.session.run(&["--json", "reencrypt", "plan"]).code(8);
    let plan = object(&ended);
    assert_eq!(plan["columns"][0]["name"], "names");
    assert_eq!(plan["columns"][0]["error"]["code"], 8, "{plan}");
    assert_eq!((&plan["columns"][1]["name"], &plan["columns"][1]["rows"]), (&json!("prefs"), &json!(200)));
    let ended = columns.session.run(&["--json", "reencrypt", "run", "-y"]).code(8);
    let run = object(&ended);
    assert_eq!(
        (&run["runs"][0]["error"]["kind"], &run["runs"][1]["rewritten"]),
        (&json!("refused"), &json!(400))
    );
    assert!(ended.stderr.contains("cannot re-encrypt `names`"), "{ended:?}");
    assert!(columns.email(5).starts_with("rs1."));
}

#[test]
fn the_worst_of_several_is_the_exit_code() {
    let columns = Columns::two();
    let old = columns.name(9);
    columns.set_email(7, "not a ciphertext");
    columns.session.run(&["reencrypt", "run", "-y"]).code(12);
    columns.set_name(9, &old);
    // `names` has an old value, `prefs` only one that does not open.
    let ended = columns.session.run(&["--json", "reencrypt", "verify"]).code(10);
    assert_eq!(
        (&object(&ended)["columns"][0]["old"], &object(&ended)["columns"][1]["unopened"]),
        (&json!(1), &json!(1))
    );
    columns.session.run(&["reencrypt", "verify", "prefs", "names"]).code(10);
    columns.session.run(&["reencrypt", "verify", "prefs"]).code(12);
}

#[test]
fn a_reader_that_leaves_does_not_stop_the_work() {
    let columns = Columns::two();
    columns.set_email(7, "not a ciphertext");
    let mut child = columns.session.spawn(&with_key(&["reencrypt", "run", "-y"]));
    // Gone before the first result is written.
    drop(child.stdout.take());
    let said: Vec<_> = BufReader::new(child.stderr.take().unwrap()).lines().map(Result::unwrap).collect();
    assert_eq!(child.wait().unwrap().code(), Some(12), "{said:?}");
    assert!(columns.email(5).starts_with("rs1.") && columns.name(5).starts_with("rs1."));
}

#[test]
fn a_shared_key_goes_back_with_the_last_of_its_columns() {
    let columns = Columns::two();
    let session = &columns.session;
    session.run(&["reencrypt", "run", "-y"]).done();
    let states = |expected: &str| {
        let status = session.json(&["reencrypt", "status"]);
        for index in 0..2 {
            assert_eq!(status["columns"][index]["state"], expected, "{status}");
        }
    };
    states("done");
    let current = || session.run(&["get", "crm/db-key"]).done().stdout;
    let new = current();
    let ended = session.run(&["--json", "reencrypt", "rollback", "prefs", "-y"]).code(10);
    assert_eq!(object(&ended)["runs"][0]["labels_wait_for"], json!(["names"]));
    assert_eq!(current(), new, "`names` is under the new key still");
    assert!(!columns.email(5).starts_with("rs1.") && columns.name(5).starts_with("rs1."));
    session.run(&["reencrypt", "run", "prefs", "-y"]).code(7);
    session.run(&["reencrypt", "rollback", "names", "-y"]).done();
    assert_eq!(current(), OLD_KEY);
    states("done");
}

#[test]
fn rolling_all_back_at_once_needs_nobody() {
    let columns = Columns::two();
    columns.session.run(&["reencrypt", "run", "-y"]).done();
    columns.session.run(&["reencrypt", "rollback", "-y"]).done();
    assert_eq!(columns.session.run(&["get", "crm/db-key"]).done().stdout, OLD_KEY);
}

#[test]
fn a_shared_key_is_current_with_the_last_of_its_columns_and_free_for_the_next_one() {
    let columns = Columns::two();
    let session = &columns.session;
    session.run(&["reencrypt", "run", "prefs", "-y"]).done();
    assert_eq!(session.run(&["get", "crm/db-key"]).done().stdout, OLD_KEY);
    session.run(&["reencrypt", "run", "names", "-y"]).done();
    session.run(&["generate", "crm/db-key", "--kind", "key", "--pending"]).done();
    session.run(&["backup", "create", "second.vault"]).done();
    let path = session.path("reseal.toml");
    let plan = std::fs::read_to_string(&path).unwrap();
    let from = "{ format = \"pgcrypto\", encoding = \"base64\" }";
    std::fs::write(path, plan.replace(from, "{ format = \"reseal\" }")).unwrap();
    // Both runs of the first key are settled, so these are new ones.
    let ended = session.run(&["--json", "reencrypt", "run", "-y"]).done();
    for index in 0..2 {
        assert_eq!(object(&ended)["runs"][index]["keys"]["new"], 3, "{ended:?}");
    }
}

#[test]
fn the_others_under_a_key_are_proved_again_before_it_is_current() {
    let columns = Columns::two();
    let old = columns.email(9);
    columns.session.run(&["reencrypt", "run", "prefs", "-y"]).done();
    // The application has the current key still, which is the old one.
    columns.set_email(9, &old);
    columns.session.run(&["reencrypt", "run", "names", "-y"]).done();
    assert!(columns.email(9).starts_with("rs1."), "{}", columns.email(9));
    columns.session.run(&["reencrypt", "verify"]).done();
}

#[test]
fn labels_stay_where_another_column_cannot_be_proved_again() {
    let columns = Columns::two();
    let session = &columns.session;
    session.run(&["reencrypt", "run", "prefs", "-y"]).done();
    columns
        .database
        .execute_batch("ALTER TABLE crm_client_preferences RENAME COLUMN email_encrypted TO e")
        .unwrap();
    session.run(&["reencrypt", "run", "names", "-y"]).code(8).says("no column `email_encrypted`");
    assert_eq!(session.run(&["get", "crm/db-key"]).done().stdout, OLD_KEY, "the labels did not move");
    columns
        .database
        .execute_batch("ALTER TABLE crm_client_preferences RENAME COLUMN e TO email_encrypted")
        .unwrap();
    session.run(&["reencrypt", "resume", "names"]).done();
    assert_ne!(session.run(&["get", "crm/db-key"]).done().stdout, OLD_KEY);
}

/// A second plan with keys in the same vault, which calls columns of its own by the same name.
fn other_plan(columns: &Columns) {
    let session = &columns.session;
    let own =
        "id INTEGER PRIMARY KEY, email_encrypted TEXT, phone_number_encrypted TEXT, full_name_encrypted TEXT";
    let copy = format!(
        "CREATE TABLE other ({own});
         INSERT INTO other SELECT id, email_encrypted, phone_number_encrypted, full_name_encrypted FROM {TABLE}"
    );
    columns.database.execute_batch(&copy).unwrap();
    let plan = std::fs::read_to_string(session.path("reseal.toml")).unwrap();
    let plan = plan.replace("prefix = \"crm/\"", "prefix = \"other/\"").replace(TABLE, "other");
    std::fs::write(session.path("other.toml"), plan).unwrap();
    session.feed(&["put", "other/db-key", "-"], OLD_KEY.as_bytes()).done();
    session.run(&["--config", "other.toml", "generate", "other/db-key", "--kind", "key", "--pending"]).done();
    session.run(&["backup", "create", "c.vault"]).done();
}

#[test]
fn plans_that_share_a_vault_keep_to_their_own_columns() {
    let columns = Columns::ready();
    other_plan(&columns);
    let session = &columns.session;
    let new_of = |table: &str| -> i64 {
        let count = format!("SELECT count(*) FROM {table} WHERE email_encrypted LIKE 'rs1.%'");
        columns.database.query_row(&count, [], |row| row.get(0)).unwrap()
    };
    session.run(&["reencrypt", "run", "-y"]).done();
    assert_eq!((new_of(TABLE), new_of("other")), (200, 0));
    assert!(
        session.run(&["--config", "other.toml", "reencrypt", "status"]).done().stdout.contains("no run yet")
    );
    session.run(&["--config", "other.toml", "reencrypt", "run", "-y"]).done();
    assert_eq!((new_of(TABLE), new_of("other")), (200, 200));
    session.run(&["reencrypt", "rollback", "-y"]).done();
    assert_eq!((new_of(TABLE), new_of("other")), (0, 200));
    let verified = session.json(&["--config", "other.toml", "reencrypt", "verify"]);
    assert_eq!(verified["columns"][0]["keys"]["secret"], "other/db-key", "{verified}");
    session.run(&["--config", "other.toml", "reencrypt", "rollback", "-y"]).done();
    assert_eq!((new_of(TABLE), new_of("other")), (0, 0));
}
