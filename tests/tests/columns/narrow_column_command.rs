//! A column that the new values do not fit into: the real command refuses, and says how wide it has to be.

use std::time::{Duration, Instant};

use reseal_formats::ColumnType;
use reseal_sandbox::postgres::{Options, Server};
use reseal_sandbox::seal::{Key, Sealer};
use reseal_sandbox::values::Cell;
use reseal_tests::command::Desk;
use reseal_tests::scheme::{Scheme, Stored, key_text};
use serde_json::json;

/// Characters of the stored values: base64 of nonce, 20 bytes and tag.
const LIMIT: usize = 64;
/// Characters of 20 bytes in an envelope: `rs1.` and base64url of 36 + 20 + 16 bytes.
const NEEDED: usize = 100;

fn plan(url: &str) -> String {
    format!(
        r#"schema = 1
vault = "crm.vault"

[servers.db]
kind = "postgres"
url = "{url}"
login = "peer"

[columns.narrow]
server = "db"
table = "public.narrow"
columns = ["a"]
key = "key"
from = {{ format = "aes-gcm", encoding = "base64" }}
to = {{ format = "reseal" }}
online = true

[secrets.key]
strategy = "columns"
"#
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn narrow_column_ends_the_command_with_code_8_until_it_is_widened() {
    let server = Server::start(Options::default()).unwrap_or_else(|error| panic!("{error}"));
    let client = server.connect().await.unwrap();
    let desk = Desk::new(&plan(&server.url()));
    let old = Stored::new(json!({ "format": "aes-gcm", "encoding": "base64" }), &key_text(0x12));
    desk.run(&["init", "--no-recovery-code", "--kdf-memory", "64"]).expect(0);
    desk.run_with(&["put", "key", "-"], &old.key).expect(0);
    desk.run(&["generate", "key", "--kind", "key", "--pending"]).expect(0);
    let scheme = Scheme { column_type: ColumnType::Text, old, ..Scheme::pgcrypto_to_envelope() };
    let cells: Vec<(Cell, &str)> =
        (0..100).map(|id| (Cell { id, column: 0 }, "exactly twenty bytes")).collect();
    let stored = scheme.two_keys(1).seal_many(Key::Old, &cells).unwrap();
    let table = format!("CREATE TABLE narrow (id int8 PRIMARY KEY, a varchar({LIMIT}))");
    client.batch_execute(&table).await.unwrap();
    for ((cell, _), stored) in cells.iter().zip(stored) {
        let stored = String::from_utf8(stored).unwrap();
        client.execute("INSERT INTO narrow VALUES ($1, $2)", &[&cell.id, &stored]).await.unwrap();
    }

    let refused = format!("column `a` takes {LIMIT} characters, the new values need {NEEDED}");
    let told = desk.run(&["reencrypt", "plan", "--json"]).expect(8).json();
    assert_eq!(told["columns"][0]["refusals"][0]["reason"], json!(refused), "{told}");
    let run = ["reencrypt", "run", "-y", "--no-backup", "a test"];
    let ended = desk.run(&run).expect(8);
    assert!(ended.stderr.contains(&refused), "{}", ended.stderr);
    assert!(ended.stderr.contains(&format!("TYPE varchar({NEEDED})")), "{}", ended.stderr);
    let longest = "SELECT max(length(a)) FROM narrow";
    let length = async || client.query_one(longest, &[]).await.unwrap().get::<_, i32>(0);
    assert_eq!(length().await, LIMIT as i32, "nothing was written");

    client.batch_execute(&format!("ALTER TABLE narrow ALTER a TYPE varchar({NEEDED})")).await.unwrap();
    killed_half_way(&server, &desk).await;
    assert_eq!(length().await, NEEDED as i32, "the size that was told is the size that is needed");
    desk.run(&["reencrypt", "resume", "narrow"]).expect(0);
    let left: i64 = client
        .query_one("SELECT count(*) FROM narrow WHERE length(a) <> $1", &[&(NEEDED as i32)])
        .await
        .unwrap()
        .get(0);
    assert_eq!(left, 0);
}

/// Holds one row so that the run cannot end, and kills it when the others are written.
async fn killed_half_way(server: &Server, desk: &Desk) {
    let mut client = server.connect().await.unwrap();
    let holding = client.transaction().await.unwrap();
    holding.execute("SELECT 1 FROM narrow WHERE id = 50 FOR UPDATE", &[]).await.unwrap();
    let mut command = desk.command(&["reencrypt", "run", "-y", "--no-backup", "a test"]).spawn().unwrap();
    let begin = Instant::now();
    let written = "SELECT count(*) FROM narrow WHERE length(a) > $1";
    while holding.query_one(written, &[&(LIMIT as i32)]).await.unwrap().get::<_, i64>(0) < 99 {
        assert!(begin.elapsed() < Duration::from_secs(60), "the other rows are written");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    command.kill().unwrap();
    command.wait().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn narrow_column_is_measured_by_what_compressed_values_grow_to() {
    let server = Server::start(Options::default()).unwrap_or_else(|error| panic!("{error}"));
    let client = server.connect().await.unwrap();
    let plan = plan(&server.url()).replace(r#"{ format = "aes-gcm", "#, r#"{ format = "pgcrypto", "#);
    let desk = Desk::new(&plan);
    desk.run(&["init", "--no-recovery-code", "--kdf-memory", "64"]).expect(0);
    desk.run_with(&["put", "key", "-"], "an old passphrase").expect(0);
    desk.run(&["generate", "key", "--kind", "key", "--pending"]).expect(0);
    client
        .batch_execute(
            "CREATE EXTENSION pgcrypto;
             CREATE TABLE narrow (id int8 PRIMARY KEY, a varchar(300));
             INSERT INTO narrow SELECT id, encode(pgp_sym_encrypt(repeat('a', 300), 'an old passphrase',
                 'compress-algo=1'), 'base64') FROM generate_series(1, 100) AS id",
        )
        .await
        .unwrap();
    let told = desk.run(&["reencrypt", "plan", "--json"]).expect(8).json();
    // `rs1.` and base64url of 36 + 300 + 16 bytes.
    let refused = "column `a` takes 300 characters, the new values need 474";
    assert_eq!(told["columns"][0]["refusals"][0]["reason"], json!(refused), "{told}");
}
