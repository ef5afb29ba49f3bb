//! What a survey refuses, what it warns of, and that it writes nothing.

use crate::file::{CLIENTS, File, clients};
use crate::support::{GCM, GCM_TEXT, RESEAL, RESEAL_ROW, plan};
use reseal_engine::{ErrorKind, KeyType, Refusal, RunPlan, Survey, Warning};
use reseal_formats::ColumnType;

async fn survey(file: &File, plan: &RunPlan) -> Survey {
    file.engine(plan).survey().await.expect("the file can be read")
}

/// Surveys a table that this schema makes from the loaded `clients`, and gives the refusals as sentences.
async fn refusals(schema: &str, plan: &RunPlan) -> Vec<String> {
    let (file, _) = File::loaded(20);
    file.execute(schema);
    let survey = survey(&file, plan).await;
    survey.refusals().iter().map(ToString::to_string).collect()
}

fn on(table: &str) -> RunPlan {
    let mut plan = clients();
    plan.table.name = table.into();
    plan
}

#[tokio::test]
async fn sqlite_survey_refuses_what_is_no_plain_table() {
    let cases = [
        ("absent", "", "there is no table main.absent"),
        ("v", "CREATE VIEW v AS SELECT * FROM clients", "main.v is a view, which is not re-encrypted"),
        (
            "f",
            "CREATE VIRTUAL TABLE f USING fts5(id, email, phone, name)",
            "main.f is a virtual table, which is not re-encrypted",
        ),
        (
            "w",
            "CREATE TABLE w (id INTEGER PRIMARY KEY, email TEXT, phone TEXT, name BLOB) WITHOUT ROWID",
            "main.w is a WITHOUT ROWID table, which is not re-encrypted",
        ),
        (
            "h",
            "CREATE TABLE h (id INT UNIQUE NOT NULL, email TEXT, phone TEXT, name BLOB, rowid, oid, _rowid_)",
            "main.h is a table whose columns hide its rowid, which is not re-encrypted",
        ),
        (
            "g",
            "CREATE TABLE g (id INTEGER PRIMARY KEY, email TEXT, phone TEXT AS (email), name BLOB)",
            "column `phone` is generated and cannot be set",
        ),
        ("n", "CREATE TABLE n (id INTEGER PRIMARY KEY, email TEXT, phone TEXT)", "there is no column `name`"),
        (
            "t",
            "CREATE TABLE t (id INTEGER PRIMARY KEY, email NUMERIC, phone TEXT, name BLOB)",
            "column `email` has type NUMERIC",
        ),
        (
            "s",
            "CREATE TABLE s (id INTEGER PRIMARY KEY, email TEXT, phone TEXT, name TEXT) STRICT",
            "column `name` has type TEXT",
        ),
        (
            "u",
            "CREATE TABLE u (id INT NOT NULL, email TEXT, phone TEXT, name BLOB)",
            "the row key does not fit: no unique index covers its columns",
        ),
        (
            "p",
            "CREATE TABLE p (id INT NOT NULL, email TEXT, phone TEXT, name BLOB); \
             CREATE UNIQUE INDEX pi ON p (id) WHERE id > 5",
            "the row key does not fit: no unique index covers its columns",
        ),
        (
            "k",
            "CREATE TABLE k (id TEXT PRIMARY KEY, email TEXT, phone TEXT, name BLOB); INSERT INTO k (id) VALUES (NULL)",
            "the row key does not fit: column `id` holds NULL",
        ),
    ];
    for (table, schema, expected) in cases {
        assert_eq!(refusals(schema, &on(table)).await, [expected], "{schema}");
    }
}

#[tokio::test]
async fn sqlite_survey_refuses_foreign_keys_unless_they_follow() {
    let refers =
        CLIENTS.replace("clients", "copies").replace("phone TEXT,", "phone TEXT REFERENCES clients (phone),");
    let schema = format!("CREATE UNIQUE INDEX phones ON clients (phone); {refers}");
    let expected = "foreign key `copies(phone)` of main.copies refers to column `phone`, whose values would change under it";
    assert_eq!(refusals(&schema, &clients()).await, [expected]);
    let other_end = refusals(&schema, &on("copies")).await;
    assert!(
        other_end[0].starts_with("column `phone` refers to main.clients by foreign key"),
        "{other_end:?}"
    );

    let (file, plan) = File::loaded(20);
    let follows =
        schema.replace("REFERENCES clients (phone)", "REFERENCES clients (phone) ON UPDATE CASCADE");
    file.execute(&format!("{follows}; INSERT INTO copies SELECT * FROM clients WHERE id % 2 = 0"));
    let found = survey(&file, &plan).await;
    let warned =
        |warning: &Warning| matches!(warning, Warning::Cascade { other, .. } if other == "main.copies");
    assert!(found.facts.warnings.iter().any(warned), "{:?}", found.facts.warnings);
    assert_eq!(file.engine(&plan).run().await.expect("runs").rewritten(), 60);
    let apart = "SELECT count(*) FROM copies JOIN clients USING (id) WHERE copies.phone IS NOT clients.phone";
    assert_eq!(file.count(apart), 0);
}

#[tokio::test]
async fn sqlite_survey_refuses_keys_that_do_not_fit() {
    let columns = [("email", ColumnType::Text, GCM_TEXT, RESEAL)];
    let uuid = plan("clients", &[("id", KeyType::Uuid)], &columns);
    assert!(refusals("", &uuid).await[0].contains("SQLite has no uuid type"));
    let absent = plan("clients", &[("number", KeyType::Integer)], &columns);
    assert_eq!(refusals("", &absent).await, ["the row key does not fit: there is no column `number`"]);
    let bound = plan("clients", &[], &[("name", ColumnType::Bytes, GCM, RESEAL_ROW)]);
    assert_eq!(refusals("", &bound).await, [Refusal::RowBindingWithoutKey.to_string()]);
    let text = plan("clients", &[("id", KeyType::Text)], &[("name", ColumnType::Bytes, GCM, RESEAL)]);
    assert!(refusals("", &text).await[0].contains("column `id` holds Integer"));
}

#[tokio::test]
async fn sqlite_survey_measures_checks() {
    let table = |checks: &str| {
        CLIENTS.replace("phone TEXT,", &format!("phone TEXT {checks},")).replace("clients", "narrow")
            + "; INSERT INTO narrow SELECT * FROM clients"
    };
    let longest = {
        let (file, plan) = File::loaded(1);
        file.cells(&plan, 1)[1].as_ref().expect("a value").len()
    };
    let needed = {
        let (file, plan) = File::loaded(1);
        file.engine(&plan).run().await.expect("runs");
        file.cells(&plan, 1)[1].as_ref().expect("a value").len()
    };
    assert!(longest < needed);
    let narrow = refusals(&table(&format!("CHECK (length(phone) < {needed})")), &on("narrow")).await;
    assert_eq!(
        narrow,
        [format!("column `phone` takes {} characters, the new values need {needed}", needed - 1)]
    );
    let wide = refusals(&table(&format!("CHECK (length(phone) <= {needed})")), &on("narrow")).await;
    assert_eq!(wide, [""; 0]);
    let pattern =
        refusals(&table("CONSTRAINT no_prefix CHECK (phone NOT LIKE 'rs1.%')"), &on("narrow")).await;
    assert_eq!(pattern, ["constraint `no_prefix` would refuse the new values of column `phone`"]);
}

#[tokio::test]
async fn sqlite_survey_finds_functions_that_only_the_application_has() {
    let (file, plan) = File::loaded(20);
    file.execute("CREATE TRIGGER folded AFTER UPDATE ON clients BEGIN SELECT app_normalize(NEW.email); END");
    let found = survey(&file, &plan).await;
    let sentence = "an update of main.clients fails: no such function: app_normalize";
    assert!(found.refusals()[0].to_string().starts_with(sentence), "{:?}", found.refusals());
    assert!(found.refusals()[0].hint().is_some());
}

#[tokio::test]
async fn sqlite_survey_warns() {
    let (file, plan) = File::loaded(20);
    file.execute(
        "CREATE TRIGGER made AFTER INSERT ON clients BEGIN SELECT 1; END; \
         CREATE TRIGGER touched AFTER UPDATE ON clients BEGIN SELECT 1; END; \
         CREATE UNIQUE INDEX by_email ON clients (email); PRAGMA journal_mode = DELETE",
    );
    let survey = survey(&file, &plan).await;
    assert_eq!(survey.refusals(), []);
    assert_eq!((survey.facts.rows, survey.facts.leaves), (20, vec!["main.clients".into()]));
    assert_eq!(survey.census.old(), 60);
    let warned = |wanted: fn(&Warning) -> bool| survey.facts.warnings.iter().any(wanted);
    let triggers = survey.facts.warnings.iter().filter(|warning| matches!(warning, Warning::Trigger { .. }));
    let sentences: Vec<String> = triggers.map(ToString::to_string).collect();
    assert_eq!(sentences, ["trigger `touched` (AFTER ROW) of main.clients fires for every rewritten row"]);
    assert!(warned(|warning| matches!(warning, Warning::Index { unique: true, .. })));
    assert!(warned(|warning| matches!(warning, Warning::Other(text) if text.contains("write-ahead"))));
}

#[tokio::test(flavor = "multi_thread")]
async fn sqlite_triggers_that_change_the_written_value_stop_the_run() {
    let (file, plan) = File::loaded(200);
    file.execute(
        "CREATE TRIGGER meddle AFTER UPDATE OF name ON clients WHEN NEW.id = 150 AND OLD.name IS NOT NEW.name \
         BEGIN UPDATE clients SET name = x'00' WHERE id = NEW.id; END",
    );
    let before = file.cells(&plan, 1);
    let error = file.engine(&plan).run().await.expect_err("is noticed");
    assert_eq!(error.kind(), ErrorKind::Failed);
    let sentence = "main.clients: the database holds other bytes than were sent (column `name`, row 150)";
    assert!(error.to_string().starts_with(sentence), "{error}");
    assert!(!error.to_string().contains("customer"));
    assert_eq!(file.cells(&plan, 1), before, "the batch was rolled back");
}

#[tokio::test(flavor = "multi_thread")]
async fn sqlite_triggers_that_raise_do_not_tell_values() {
    let (file, plan) = File::loaded(200);
    file.execute(
        "CREATE TRIGGER refuse BEFORE UPDATE OF note, name ON clients \
         BEGIN SELECT RAISE(ABORT, 'canary'); END",
    );
    let error = file.engine(&plan).run().await.expect_err("is refused");
    assert_eq!(error.kind(), ErrorKind::Refused);
    assert!(error.to_string().contains("a trigger of the table raised an error"), "{error}");
    assert!(!format!("{error:?}").contains("canary"));
}
