//! What a survey refuses, with nothing written.

use crate::common::*;
use reseal_engine::postgres::{PostgresTarget, describe};
use reseal_engine::{EngineError, ErrorKind, Job, Refusal, RunKey, RunPlan, TableName, Warning};

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
    assert_eq!(refusals[0].hint().as_deref(), Some("GRANT UPDATE ON public.clients TO engine"));
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
    // Whoever set that meant it.
    database.execute("ALTER ROLE postgres SET default_transaction_read_only = on").await;
    let refusals = refused(&database, &plan).await;
    assert!(matches!(&refusals[..], [Refusal::ReadOnly { .. }]), "{refusals:?}");
    let remedy = refusals[0].hint().expect("a remedy");
    let (_, remedy) = remedy.split_once(": ").expect("a statement");
    database.execute(&format!("BEGIN READ WRITE; {remedy}; COMMIT")).await;
    // No other setting of the role reaches a transaction of the engine.
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
        let shape = describe(&target, &table, &columns, None).await.expect("a table");
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

#[tokio::test(flavor = "multi_thread")]
async fn any_unique_column_that_is_never_null_is_a_row_key() {
    let database = Database::start().await;
    let mut plan = plan("clients", Way::RowEnvelope);
    load(&database, &plan, 300).await;
    database
        .execute("ALTER TABLE clients ADD number int4 UNIQUE, ADD code text UNIQUE; UPDATE clients SET number = -id, code = id")
        .await;
    database.execute("ALTER TABLE clients ALTER number SET NOT NULL").await;
    let target = PostgresTarget::parse(&database.url, None).expect("a URL");
    let columns: Vec<String> = COLUMNS.map(Into::into).to_vec();
    let key = async |name: &str| {
        let shape = describe(&target, &plan.table, &columns, Some(&[name.to_owned()])).await;
        shape.map(|shape| shape.key)
    };
    let missing = key("nothing").await.expect_err("no such column").to_string();
    assert!(missing.contains("no column `nothing`"), "{missing}");
    let (number, code) = (key("number").await.expect("known"), key("code").await.expect("known"));
    plan.key = code;
    let refusals = refused(&database, &plan).await;
    assert!(matches!(&refusals[..], [Refusal::Key(why)] if why.contains("NULL")), "{refusals:?}");
    plan.key = number;
    let outcome = engine(&database, &plan, options()).run().await.expect("runs");
    assert_eq!((outcome.rewritten(), outcome.quarantined()), (900, 0));
    // An application opens the value with the number as its row.
    let row = database.client.query_one("SELECT a FROM clients WHERE id = 7", &[]).await.expect("reads");
    assert_eq!(open(&codec(&plan.columns[0].to, 0), -7, row.get(0)), Some(plaintext(7, 0)));
}

#[tokio::test(flavor = "multi_thread")]
async fn checks_are_tried_on_new_values() {
    let database = Database::start().await;
    let mut plan = plan("clients", Way::Envelope);
    plan.columns.truncate(1);
    plan.columns[0].column_type = reseal_formats::ColumnType::Text;
    plan.columns[0].from.spec =
        serde_json::from_str(r#"{"format": "aes-gcm", "encoding": "base64"}"#).expect("a format");
    let old = plan.columns[0]
        .from
        .spec
        .codec(plan.columns[0].column_type, keyring().get(&key_ref(OLD)).expect("known"), column_id(0))
        .expect("a codec");
    database.execute("CREATE TABLE clients (id int8 PRIMARY KEY, a text, kind text DEFAULT 'x')").await;
    // One value is longer than all others, and no sample meets it.
    for (ids, length) in [(1..=3_000, 10), (3_001..=3_001, 200), (3_002..=6_000, 10)] {
        let (ids, values): (Vec<i64>, Vec<String>) = ids
            .map(|id| (id, String::from_utf8(seal(&old, id, &vec![b'p'; length])).expect("base64")))
            .unzip();
        let insert = "INSERT INTO clients SELECT * FROM unnest($1::int8[], $2::text[])";
        database.client.execute(insert, &[&ids, &values]).await.expect("inserts");
    }
    database.execute("VACUUM ANALYZE clients").await;
    for (check, holds) in [
        ("kind <> 'x' OR a NOT LIKE 'rs1.%'", false),
        ("a ~ '^[A-Za-z0-9+/]+=*$'", false),
        ("a NOT LIKE 'rs1.%' OR length(a) < 300", false),
        ("a ~ '^(rs1[.][A-Za-z0-9_-]+|[A-Za-z0-9+/]+=*)$'", true),
        ("a IS NULL OR kind = 'x'", true),
        ("length(a) < 400", true),
    ] {
        database.execute(&format!("ALTER TABLE clients ADD CONSTRAINT shape CHECK ({check})")).await;
        let survey = engine(&database, &plan, options()).survey().await.expect("surveys");
        let expected = Refusal::Check { constraint: "shape".into(), column: "a".into() };
        assert_eq!(survey.refusals(), if holds { vec![] } else { vec![expected] }, "{check}");
        assert!(
            survey.facts.warnings.is_empty() || survey.facts.warnings.len() == 1,
            "{:?}",
            survey.facts.warnings
        );
        database.execute("ALTER TABLE clients DROP CONSTRAINT shape").await;
    }
}

/// Makes a role that may write the table, and gives the database as it sees it.
async fn as_role(database: Database) -> Database {
    database.execute("CREATE ROLE engine LOGIN; GRANT ALL ON clients TO engine").await;
    let url = database.url.replace("postgres@", "engine@");
    Database { url, ..database }
}

#[tokio::test(flavor = "multi_thread")]
async fn schema_of_a_stranger_is_refused() {
    let database = Database::start().await;
    let plan = plan("clients", Way::Envelope);
    load(&database, &plan, 100).await;
    database
        .execute("CREATE ROLE stranger; CREATE SCHEMA reseal AUTHORIZATION stranger; CREATE ROLE engine LOGIN SUPERUSER")
        .await;
    let refused = async |database: &Database| {
        refusals(engine(database, &plan, options()).run().await).into_iter().next().expect("one")
    };
    // Membership in every role is no trust in them.
    let refusal = refused(&database).await;
    assert!(matches!(&refusal, Refusal::SchemaOwner { owner, .. } if owner == "stranger"), "{refusal}");
    assert!(refusal.hint().is_some_and(|hint| hint.contains("ALTER SCHEMA reseal OWNER")));
    // A table of a stranger in a schema of ours.
    database
        .execute(
            "ALTER SCHEMA reseal OWNER TO postgres; GRANT ALL ON SCHEMA reseal TO stranger; SET ROLE stranger;
             CREATE TABLE reseal.run (run_id bytea); RESET ROLE",
        )
        .await;
    let refusal = refused(&database).await;
    assert!(matches!(&refusal, Refusal::SchemaOwner { what, .. } if what == "reseal.run"), "{refusal}");
    database.execute("DROP SCHEMA reseal CASCADE").await;
    engine(&database, &plan, options()).run().await.expect("runs");
}

#[tokio::test(flavor = "multi_thread")]
async fn schema_says_which_right_is_missing() {
    let database = Database::start().await;
    let plan = plan("clients", Way::Envelope);
    load(&database, &plan, 100).await;
    let database = as_role(database).await;
    let missing = async |expected: &str| {
        let refusals = refusals(engine(&database, &plan, options()).run().await);
        assert!(matches!(&refusals[..], [Refusal::Grant { grant, .. }] if grant == expected), "{refusals:?}");
        assert_eq!(refusals[0].hint(), Some(format!("GRANT {expected} TO engine")));
    };
    missing("CREATE ON DATABASE postgres").await;
    // An administrator makes it beforehand.
    database.execute(reseal_engine::postgres::DDL).await;
    missing("USAGE ON SCHEMA reseal").await;
    database.execute("GRANT USAGE ON SCHEMA reseal TO engine").await;
    let tables = "SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA reseal";
    missing(tables).await;
    database.execute("GRANT SELECT ON ALL TABLES IN SCHEMA reseal TO engine").await;
    missing(tables).await;
    database.execute(&format!("GRANT {tables} TO engine")).await;
    let outcome = engine(&database, &plan, options()).run().await.expect("runs");
    assert_eq!(outcome.rewritten(), 300);
}

#[tokio::test(flavor = "multi_thread")]
async fn schema_of_another_version_is_refused() {
    let database = Database::start().await;
    let plan = plan("clients", Way::Envelope);
    load(&database, &plan, 100).await;
    database.execute(reseal_engine::postgres::DDL).await;
    database.execute("UPDATE reseal.version SET version = 2").await;
    let refusals = refusals(engine(&database, &plan, options()).run().await);
    assert!(matches!(&refusals[..], [Refusal::SchemaVersion(found)] if found == "[2]"), "{refusals:?}");
    let status = engine(&database, &plan, options()).status().await.expect_err("not read either");
    assert_eq!(status.kind(), ErrorKind::Refused);
}

#[tokio::test(flavor = "multi_thread")]
async fn run_beside_another_is_refused_until_it_is_superseded() {
    let database = Database::start().await;
    let lost = plan("clients", Way::Envelope);
    load(&database, &lost, 3_000).await;
    let few = reseal_engine::RunOptions { workers: 1, batch_rows_max: 100, passes_max: 1, ..options() };
    let stopped = observed(&database, &lost, few, std::sync::Arc::new(StopAtFirst));
    tokio::time::timeout(std::time::Duration::from_secs(60), stopped.run())
        .await
        .expect("ends")
        .expect_err("stops");
    let mut plan = plan("clients", Way::Envelope);
    let error = engine(&database, &plan, options()).run().await.expect_err("another run is active");
    assert_eq!(error.kind(), ErrorKind::Conflict);
    assert!(
        matches!(&error, EngineError::Refused(refusals) if matches!(&refusals[..], [Refusal::OtherRun { run, .. }] if *run == lost.run)),
        "{error}"
    );
    plan.supersedes = Some(lost.run);
    let outcome = engine(&database, &plan, options()).run().await.expect("runs");
    assert_eq!((outcome.proof.old(), outcome.quarantined()), (0, 0));
    assert!((1..9_000).contains(&outcome.rewritten()), "what the other run did stays");
    assert_all_new(&database, &plan, 3_000).await;
    let error = engine(&database, &lost, options()).run().await.expect_err("it has ended");
    assert_eq!(error.kind(), ErrorKind::Conflict, "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn ids_of_columns_are_told_and_replaced_only_where_the_plan_says_so() {
    let database = Database::start().await;
    let first = plan("clients", Way::Envelope);
    load(&database, &first, 100).await;
    let target = PostgresTarget::parse(&database.url, None).expect("a URL");
    let columns: Vec<String> = COLUMNS.map(Into::into).to_vec();
    let ids = async || describe(&target, &first.table, &columns, None).await.expect("a table").ids;
    assert_eq!(ids().await, [None; 3]);
    engine(&database, &first, options()).run().await.expect("runs");
    assert_eq!(ids().await, [0, 1, 2].map(|index| Some(column_id(index))));
    let mut second = first.reversed(reseal_engine::RunId([9; 16]));
    second.columns[0].id = column_id(7);
    let error = engine(&database, &second, options()).run().await.expect_err("another id");
    assert_eq!(error.kind(), ErrorKind::Refused, "nothing opens under it: {error}");
    engine(&database, &first.reversed(reseal_engine::RunId([8; 16])), options())
        .run()
        .await
        .expect("back again");
    // Nothing is bound to the old id any more.
    let mut third = plan("clients", Way::Envelope);
    third.columns[0].id = column_id(7);
    let error = engine(&database, &third, options()).run().await.expect_err("another id");
    assert_eq!(error.kind(), ErrorKind::Conflict, "{error}");
    third.columns[0].replaces = Some(column_id(0));
    engine(&database, &third, options()).run().await.expect("runs");
    assert_eq!(ids().await[0], Some(column_id(7)));
}

#[tokio::test(flavor = "multi_thread")]
async fn base64url_that_the_plan_does_not_name_is_refused() {
    let database = Database::start().await;
    let mut plan = plan("clients", Way::Envelope);
    plan.columns.truncate(1);
    plan.columns[0].column_type = reseal_formats::ColumnType::Text;
    let spec = |encoding: &str| {
        let json = format!(r#"{{"format": "aes-gcm"{encoding}}}"#);
        serde_json::from_str::<reseal_formats::FormatSpec>(&json).expect("a format")
    };
    let named = spec(r#", "encoding": "base64url""#);
    let keyring = keyring();
    let key = keyring.get(&key_ref(OLD)).expect("known");
    let old = named.codec(plan.columns[0].column_type, key, column_id(0)).expect("a codec");
    database.execute("CREATE TABLE clients (id int8 PRIMARY KEY, a text)").await;
    for id in 1..=60_i64 {
        let value = String::from_utf8(seal(&old, id, &[b'p'; 18])).expect("text");
        // Most hold neither `-` nor `_` by chance or not: those look like base64, and would be written back as such.
        database
            .client
            .execute("INSERT INTO clients VALUES ($1, $2)", &[&id, &value])
            .await
            .expect("inserts");
    }
    // Garbage that looks like it is no reason.
    database.execute("INSERT INTO clients VALUES (61, 'not-a_value')").await;
    plan.columns[0].from.spec = spec("");
    let refusals = refused(&database, &plan).await;
    assert_eq!(refusals, [Refusal::Encoding { column: "a".into() }]);
    assert!(refusals[0].hint().is_some_and(|hint| hint.contains("base64url")));
    plan.columns[0].from.spec = named;
    let outcome = engine(&database, &plan, options()).run().await.expect("runs");
    assert_eq!((outcome.rewritten(), outcome.quarantined()), (60, 1));
}

/// Fails a run at its first batch, as a lost machine does.
struct StopAtFirst;

impl reseal_engine::Observer for StopAtFirst {
    fn at<'a>(
        &'a self,
        moment: reseal_engine::Moment,
        _: reseal_engine::BatchInfo<'a>,
    ) -> futures_util::future::BoxFuture<'a, ()> {
        assert!(moment != reseal_engine::Moment::Committed, "the first batch is committed");
        Box::pin(std::future::ready(()))
    }
}

#[test]
fn row_key_of_too_many_columns_is_refused() {
    let mut plan = plan("clients", Way::Envelope);
    plan.key = vec![plan.key[0].clone(); 256];
    let error = Job::new(plan, &keyring(), &RunKey::from_bytes(&RUN_KEY)).expect_err("refused");
    assert!(error.to_string().contains("at most 255"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn foreign_keys_are_refused_unless_they_follow() {
    let database = Database::start().await;
    let plan = plan("clients", Way::Envelope);
    load(&database, &plan, 200).await;
    database
        .execute(
            "ALTER TABLE clients ADD UNIQUE (a);
             CREATE TABLE copies (id int8 PRIMARY KEY, a bytea CONSTRAINT copy REFERENCES clients (a),
                                  b bytea, c bytea);
             INSERT INTO copies SELECT id, a, b, c FROM clients WHERE id % 2 = 0",
        )
        .await;
    let refers = |column_is_referenced: bool, other: &str, follows: bool| Refusal::ForeignKey {
        constraint: "copy".into(),
        column: "a".into(),
        other: other.into(),
        is_referenced: column_is_referenced,
        cascades: follows,
        can_follow: true,
    };
    assert_eq!(refused(&database, &plan).await, [refers(true, "public.copies", false)]);
    let mut copies = plan.clone();
    copies.table.name = "copies".into();
    assert_eq!(refused(&database, &copies).await, [refers(false, "public.clients", false)]);

    database
        .execute(
            "ALTER TABLE copies DROP CONSTRAINT copy,
                 ADD CONSTRAINT copy FOREIGN KEY (a) REFERENCES clients (a) ON UPDATE CASCADE",
        )
        .await;
    assert_eq!(refused(&database, &copies).await, [refers(false, "public.clients", true)]);
    let engine = engine(&database, &plan, options());
    let survey = engine.survey().await.expect("looks");
    let follows =
        |warning: &Warning| matches!(warning, Warning::Cascade { other, .. } if other == "public.copies");
    assert!(survey.facts.warnings.iter().any(follows), "{:?}", survey.facts.warnings);
    assert_eq!(engine.run().await.expect("runs").rewritten(), 600);
    let left =
        "SELECT count(*) FROM copies JOIN clients USING (id) WHERE copies.a IS DISTINCT FROM clients.a";
    assert_eq!(database.count(left).await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn foreign_keys_of_computed_columns_and_of_the_table_itself_are_refused() {
    let database = Database::start().await;
    let plan = plan("clients", Way::Envelope);
    load(&database, &plan, 200).await;
    database
        .execute(
            "ALTER TABLE clients ADD UNIQUE (a), ADD first bytea,
                 ADD digest text GENERATED ALWAYS AS (md5(b)) STORED UNIQUE,
                 ADD CONSTRAINT of_its_own FOREIGN KEY (first) REFERENCES clients (a) ON UPDATE CASCADE;
             CREATE TABLE copies (digest text CONSTRAINT copy REFERENCES clients (digest))",
        )
        .await;
    let refers = |constraint: &str, column: &str, other: &str, cascades: bool| Refusal::ForeignKey {
        constraint: constraint.into(),
        column: column.into(),
        other: other.into(),
        is_referenced: true,
        cascades,
        can_follow: !cascades,
    };
    let expected =
        [refers("copy", "digest", "public.copies", false), refers("of_its_own", "a", "public.clients", true)];
    let found = refused(&database, &plan).await;
    assert_eq!(found, expected);
    let hints: Vec<String> = found.iter().filter_map(Refusal::hint).collect();
    assert!(hints[0].contains("make the foreign key ON UPDATE CASCADE"), "{hints:?}");
    assert!(hints[1].contains("drop `of_its_own` for the run"), "{hints:?}");
}
