//! `kill -9` of the real command while the application writes, and the command again: what it says of itself, and what
//! the table holds.

use std::io::{BufRead, BufReader};
use std::sync::Arc;

use reseal_sandbox::table::Table;
use reseal_sandbox::values::COLUMNS;
use reseal_tests::command::{Desk, finish};
use reseal_tests::probe::Account;
use reseal_tests::random::{Random, seed};
use reseal_tests::scene::Scene;
use reseal_tests::scheme::{Scheme, column_ids};
use serde_json::{Value, json};

const ROWS: u64 = 20_000;
const KILLS: u64 = 4;
/// Transactions of the application per second.
const WRITES: f64 = 100.0;

fn plan(url: &str) -> String {
    format!(
        r#"schema = 1
vault = "crm.vault"

[servers.db]
kind = "postgres"
url = "{url}"
login = "peer"

[columns.preferences]
server = "db"
table = "public.{}"
columns = {COLUMNS:?}
key = "key"
from = {{ format = "pgcrypto" }}
to = {{ format = "reseal" }}
online = true

[secrets.key]
strategy = "columns"
"#,
        Table::NAME
    )
}

/// A desk whose vault holds both keys, and the table for the column ids that its plan tells.
async fn prepare(seed: u64) -> (Desk, Scene) {
    let mut scene = Scene::new(Scheme::pgcrypto_to_envelope(), ROWS as i64, seed).await;
    let desk = Desk::new(&plan(&scene.server.url()));
    desk.run(&["init", "--no-recovery-code", "--kdf-memory", "64"]).expect(0);
    desk.run_with(&["put", "key", "-"], &scene.scheme.old.key).expect(0);
    desk.run_with(&["put", "key", "-", "--pending", "--kind", "key"], &scene.scheme.new.key).expect(0);
    desk.run(&["backup", "create", "copy.vault"]).expect(0);
    let told = desk.run(&["reencrypt", "plan", "--json"]).expect(0).json();
    let census = told["columns"][0]["census"].as_array().expect("one object per column").clone();
    let ids = census.iter().map(|column| column["column_id"].as_str().expect("an id").to_owned());
    scene.scheme.ids = column_ids(ids);
    scene.keys = Arc::new(scene.scheme.two_keys(COLUMNS.len()));
    (desk, scene)
}

/// Starts the command and kills it when it has told of so many rows.
fn kill_after(desk: &Desk, action: &str, rows: u64) {
    let arguments = ["reencrypt", action, "preferences", "-y", "--json", "--workers", "1"];
    let mut command = desk.command(&arguments).spawn().unwrap();
    let mut said = Vec::new();
    for line in BufReader::new(command.stderr.take().unwrap()).lines().map(Result::unwrap) {
        let told = serde_json::from_str::<Value>(&line).unwrap();
        said.push(line);
        if told["progress"]["rows"].as_u64().is_some_and(|told| told >= rows) {
            command.kill().unwrap();
            break;
        }
    }
    let ended = finish(command);
    assert_eq!(ended.code, None, "killed by a signal: {ended:?}, {said:?}");
}

async fn rows_of_first_pass(scene: &Scene) -> u64 {
    let statement = "SELECT coalesce(sum(tallies[1]), 0)::int8 FROM reseal.span WHERE pass = 1";
    let client = scene.server.connect().await.unwrap();
    client.query_one(statement, &[]).await.unwrap().get::<_, i64>(0) as u64
}

#[tokio::test(flavor = "multi_thread")]
async fn kill_engine_command_several_times_and_resume_it() {
    let seed = seed();
    println!("seed {seed}");
    let mut random = Random::new(seed);
    let (desk, scene) = prepare(seed).await;
    let writer = scene.writer(seed, WRITES);
    let mut before = 0;
    for kill in 0..KILLS {
        // `run` goes on with an unfinished run just as `resume` does.
        let action = if kill % 2 == 0 { "run" } else { "resume" };
        kill_after(&desk, action, 1 + random.below(ROWS / 10));
        let census = scene.census().await;
        assert_eq!(census.neither, 0, "every value opens under exactly one key: {census:?}");
        assert!(census.old > 0 && census.new > 0, "the kill came amid the run: {census:?}");
        Account::read(&scene.server.connect().await.unwrap()).await.check();
        let done = rows_of_first_pass(&scene).await;
        println!("kill {} with {done} rows done", kill + 1);
        assert!(done > before, "each command goes further than the last");
        before = done;
        let status = desk.run(&["reencrypt", "status", "--json"]).expect(0).json();
        assert_eq!(status["columns"][0]["state"], "active");
        if kill == 1 {
            writer.switch_to_new_key();
        }
    }
    let told = desk.run(&["reencrypt", "resume", "--json"]).expect(0).json();
    let run = &told["runs"][0];
    assert_eq!((&run["state"], &run["labels_moved"]), (&json!("done"), &json!(true)), "{run}");
    assert_eq!((&run["old_left"], &run["quarantined"]), (&json!(0), &json!(0)), "{run}");
    let report = writer.stop().unwrap();
    let found = scene.compare(&report.ledger).await;
    println!("{} transactions, {found:?}", report.transactions);
    assert_eq!((found.lost_updates(), found.unopened, found.old_key_opens), (0, 0, 0), "{found:?}");
    assert_eq!((found.new_key_opens, found.plaintexts_equal), (found.values, found.values), "{found:?}");
    assert!(report.transactions > 50 && report.errors.is_empty(), "{report:?}");
    let client = scene.server.connect().await.unwrap();
    let account = Account::read(&client).await;
    account.check();
    assert_eq!(json!(account.rewritten), run["rewritten"], "the counts are those of the whole run");
    let rate = run["rows"].as_f64().unwrap() / run["seconds"].as_f64().unwrap();
    assert!((run["rows_per_second"].as_f64().unwrap() / rate - 1.0).abs() < 0.01, "{run}");
    desk.run(&["reencrypt", "verify", "--json"]).expect(0);
}
