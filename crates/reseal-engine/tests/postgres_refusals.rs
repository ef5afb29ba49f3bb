//! What a survey refuses, with nothing written.

mod common;

use common::*;
use reseal_engine::postgres::{PostgresTarget, describe};
use reseal_engine::{EngineError, ErrorKind, Job, Refusal, RunKey, RunPlan, TableName};

/// Runs the plan, expects a refusal, and asserts that nothing was written.
#[track_caller]
fn refusals(result: Result<reseal_engine::Outcome, EngineError>) -> Vec<Refusal> {
    match result {
        Err(error @ EngineError::Refused(_)) => {
            assert_eq!(error.kind(), ErrorKind::Refused);
            let EngineError::Refused(refusals) = error else { unreachable!("matched above") };
            refusals
        }
        other => panic!("expected a refusal, got {other:?}"),
    }
}

async fn refused(database: &Database, plan: &RunPlan) -> Vec<Refusal> {
    let refusals = refusals(engine(database, plan, options()).run().await);
    let schema = database.count("SELECT count(*) FROM pg_namespace WHERE nspname = 'reseal'").await;
    assert_eq!(schema, 0, "something was written");
    refusals
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_key_is_refused() {
    let database = Database::start().await;
    let mut plan = plan("clients", Way::Envelope);
    load(&database, &plan, 500).await;
    for column in &mut plan.columns {
        column.from.key = key_ref(THIRD);
    }
    let refusals = refused(&database, &plan).await;
    assert_eq!(refusals.len(), 3);
    assert!(matches!(refusals[0], Refusal::WrongKey { opened: 0, sampled: 100.., .. }), "{refusals:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn hidden_rows_are_refused() {
    let database = Database::start().await;
    let plan = plan("clients", Way::Envelope);
    load(&database, &plan, 100).await;
    database
        .execute(
            "CREATE ROLE engine LOGIN; GRANT ALL ON clients TO engine; GRANT CREATE ON DATABASE postgres TO engine;
             ALTER TABLE clients ENABLE ROW LEVEL SECURITY; CREATE POLICY tenth ON clients USING (id % 10 = 0)",
        )
        .await;
    let url = database.url.replace("postgres@", "engine@");
    let as_engine = Database { url, ..database };
    let refusals = refused(&as_engine, &plan).await;
    assert!(
        matches!(&refusals[..], [Refusal::RowSecurity(table)] if table == "public.clients"),
        "{refusals:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn missing_rights_are_refused() {
    let database = Database::start().await;
    let plan = plan("clients", Way::Envelope);
    load(&database, &plan, 100).await;
    database.execute("CREATE ROLE engine LOGIN; GRANT SELECT ON clients TO engine").await;
    let url = database.url.replace("postgres@", "engine@");
    let as_engine = Database { url, ..database };
    let refusals = refused(&as_engine, &plan).await;
    assert!(matches!(&refusals[..], [Refusal::Privilege { privilege: "UPDATE", .. }]), "{refusals:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn narrow_column_is_refused_with_the_size_it_needs() {
    let database = Database::start().await;
    let mut plan = plan("clients", Way::Envelope);
    plan.columns.truncate(1);
    plan.columns[0].column_type = reseal_formats::ColumnType::Text;
    plan.columns[0].from.spec =
        serde_json::from_str(r#"{"format": "aes-gcm", "encoding": "base64"}"#).expect("a format");
    database.execute("CREATE TABLE clients (id int8 PRIMARY KEY, a varchar(60))").await;
    // Up to 12 + 17 + 16 bytes in base64 are 60 characters; our envelope of 17 bytes is 96 in text.
    database.execute("INSERT INTO clients VALUES (1, repeat('A', 59) || '=')").await;
    let refusals = refused(&database, &plan).await;
    let expected = Refusal::TooNarrow { column: "a".into(), limit: 60, needed: 96 };
    assert_eq!(refusals.first(), Some(&expected));
    assert!(expected.hint().is_some_and(|hint| hint.contains("varchar(96)")));
}

#[tokio::test(flavor = "multi_thread")]
async fn check_that_the_new_values_break_is_refused() {
    let database = Database::start().await;
    let plan = plan("clients", Way::Envelope);
    load(&database, &plan, 100).await;
    // 44 bytes of plaintext: 72 under AES-GCM, 96 in our envelope.
    database
        .execute("ALTER TABLE clients ADD CONSTRAINT short CHECK (octet_length(a) < 90 AND id > 0 AND note <> 'x')")
        .await;
    let expected = Refusal::Check { constraint: "short".into(), column: "a".into() };
    assert_eq!(refused(&database, &plan).await, [expected]);
    database.execute("ALTER TABLE clients DROP CONSTRAINT short, ADD CHECK (octet_length(a) < 110)").await;
    engine(&database, &plan, options()).run().await.expect("runs");
}

#[tokio::test(flavor = "multi_thread")]
async fn catalog_says_no() {
    let database = Database::start().await;
    let plan = plan("clients", Way::RowEnvelope);
    let cases = [
        ("", "there is no table public.clients"),
        (
            "CREATE VIEW clients AS SELECT 1::int8 AS id, ''::bytea AS a, ''::bytea AS b, ''::bytea AS c",
            "is a view",
        ),
        (
            "CREATE TABLE clients (id int8, a bytea, b bytea, c bytea)",
            "may be NULL; the row key does not fit: no unique index",
        ),
        ("CREATE TABLE clients (id numeric PRIMARY KEY, a bytea, b bytea, c bytea)", "has type numeric"),
        ("CREATE TABLE clients (id int8 PRIMARY KEY, a bytea, b bytea)", "there is no column `c`"),
        (
            "CREATE TABLE clients (id int8 PRIMARY KEY, a bytea, b bytea, c char(200))",
            "column `c` has type character",
        ),
        (
            "CREATE TABLE clients (id int8 PRIMARY KEY, a bytea, b bytea, c bytea GENERATED ALWAYS AS (a) STORED)",
            "column `c` is generated",
        ),
        (
            "CREATE TABLE clients (id int8 PRIMARY KEY, a bytea, b bytea, c bytea);
             CREATE RULE quiet AS ON UPDATE TO clients DO INSTEAD NOTHING",
            "rule `quiet`",
        ),
        (
            "CREATE TABLE clients (id int8 PRIMARY KEY, a bytea, b bytea, c bytea);
             ALTER TABLE clients REPLICA IDENTITY NOTHING; CREATE PUBLICATION p FOR TABLE clients",
            "published without a replica identity",
        ),
    ];
    for (statements, expected) in cases {
        database.execute("DROP SCHEMA public CASCADE; CREATE SCHEMA public").await;
        database.execute(statements).await;
        let refusals = refused(&database, &plan).await;
        let text = EngineError::Refused(refusals).to_string();
        assert!(text.contains(expected), "{statements}: {text}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn switched_off_block_ranges_are_refused_or_switched_on() {
    let database = Database::start().await;
    let plan = plan("clients", Way::Envelope);
    load(&database, &plan, 1_000).await;
    database
        .execute("ALTER ROLE postgres SET enable_tidscan = off; ALTER ROLE postgres SET search_path = public")
        .await;
    database.execute("ALTER ROLE postgres SET default_transaction_isolation = 'serializable'").await;
    database.execute("ALTER ROLE postgres SET default_transaction_read_only = on").await;
    // No setting of the role reaches a transaction of the engine.
    let outcome = engine(&database, &plan, options()).run().await.expect("runs");
    assert_eq!(outcome.rewritten(), 3_000);
}

#[tokio::test(flavor = "multi_thread")]
async fn row_key_is_never_what_is_encrypted() {
    let database = Database::start().await;
    database.execute("CREATE TABLE tokens (a bytea NOT NULL UNIQUE, b bytea NOT NULL UNIQUE)").await;
    let target = PostgresTarget::parse(&database.url, None).expect("a URL");
    let table = TableName { schema: "public".into(), name: "tokens".into() };
    let key_beside = async |columns: &[&str]| {
        let columns: Vec<String> = columns.iter().map(|name| (*name).into()).collect();
        let shape = describe(&target, &table, &columns).await.expect("a table");
        shape.key.into_iter().map(|key| key.name).collect::<Vec<_>>()
    };
    assert_eq!(key_beside(&[]).await, ["a"]);
    assert_eq!(key_beside(&["a"]).await, ["b"]);
    assert_eq!(key_beside(&["a", "b"]).await, Vec::<String>::new());

    let mut plan = plan("clients", Way::Envelope);
    plan.key[0].name = "a".into();
    let error = Job::new(plan, &keyring(), &RunKey::from_bytes(&RUN_KEY)).expect_err("refused");
    assert!(error.to_string().contains("column `a` is encrypted"), "{error}");
}

#[test]
fn row_key_of_too_many_columns_is_refused() {
    let mut plan = plan("clients", Way::Envelope);
    plan.key = vec![plan.key[0].clone(); 256];
    let error = Job::new(plan, &keyring(), &RunKey::from_bytes(&RUN_KEY)).expect_err("refused");
    assert!(error.to_string().contains("at most 255"), "{error}");
}
