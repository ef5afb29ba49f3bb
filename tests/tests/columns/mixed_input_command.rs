//! What the real command says about wrong and mixed input: its exit codes, and that nothing was written where it
//! refuses.

use reseal_engine::Reason;
use reseal_sandbox::postgres::{Options, Server};
use reseal_tests::command::Desk;
use reseal_tests::mixture::Mixture;
use reseal_tests::scheme::{Scheme, column_ids};
use serde_json::json;
use tokio_postgres::Client;

const OLD: &str = "the old passphrase";

/// A server with the mixture, and a desk whose vault holds this as the old key.
struct Bench {
    _server: Server,
    client: Client,
    desk: Desk,
    mixture: Mixture,
}

impl Bench {
    async fn new(old_key: &str, user: &str, before: &str) -> Self {
        let server = Server::start(Options::default()).unwrap_or_else(|error| panic!("{error}"));
        let client = server.connect().await.unwrap();
        let scheme = Scheme::pgcrypto_to_envelope();
        let desk = Desk::new(&plan(&server.url().replace("postgres@", &format!("{user}@"))));
        desk.run(&["init", "--no-recovery-code", "--kdf-memory", "64"]).expect(0);
        desk.run_with(&["put", "crm/key", "-"], old_key).expect(0);
        // A key of kind `key`, which the mixture's new values are under.
        desk.run_with(&["put", "crm/key", "-", "--pending", "--kind", "key"], &scheme.new.key).expect(0);
        client.batch_execute("CREATE TABLE mixed (id int8 PRIMARY KEY, a text, b text)").await.unwrap();
        client.batch_execute(before).await.unwrap();
        let mixture = load(&desk, &client, scheme).await;
        Self { _server: server, client, desk, mixture }
    }

    /// A checksum of everything in the table.
    async fn checksum(&self) -> String {
        let statement = "SELECT md5(string_agg(mixed::text, '|' ORDER BY id)) FROM mixed";
        self.client.query_one(statement, &[]).await.unwrap().get(0)
    }

    /// Runs the command, which refuses with exit code 8, says why, and writes nothing.
    async fn is_refused(&self, why: &str) {
        let before = self.checksum().await;
        let run = ["reencrypt", "run", "mixed", "-y", "--no-backup", "a test"];
        let ended = self.desk.run(&run).expect(8);
        assert!(ended.stderr.contains(why), "{}", ended.stderr);
        assert_eq!(self.checksum().await, before, "nothing was written");
        let made = "SELECT count(*) FROM pg_namespace WHERE nspname = 'reseal'";
        assert_eq!(self.client.query_one(made, &[]).await.unwrap().get::<_, i64>(0), 0, "nothing was made");
    }
}

/// Loads the mixture, made for the column ids that the plan tells.
async fn load(desk: &Desk, client: &Client, scheme: Scheme) -> Mixture {
    let told = desk.run(&["reencrypt", "plan", "mixed", "--json"]).expect(0).json();
    let census = told["columns"][0]["census"].as_array().expect("one object per column").clone();
    let ids = census.iter().map(|column| column["column_id"].as_str().unwrap().to_owned());
    let scheme = Scheme { ids: column_ids(ids), ..scheme };
    let mixture = Mixture::new(&scheme, &scheme.two_keys(2), 2_000);
    let statement = "INSERT INTO mixed SELECT id, convert_from(a, 'UTF8'), convert_from(b, 'UTF8')
        FROM unnest($1::int8[], $2::bytea[], $3::bytea[]) AS u(id, a, b)";
    let ids: Vec<i64> = mixture.rows.iter().map(|row| row.0).collect();
    let a: Vec<Option<&[u8]>> = mixture.rows.iter().map(|row| row.1.as_deref()).collect();
    let b: Vec<Option<&[u8]>> = mixture.rows.iter().map(|row| row.2.as_deref()).collect();
    client.execute(statement, &[&ids, &a, &b]).await.unwrap();
    client.batch_execute("VACUUM ANALYZE mixed").await.unwrap();
    mixture
}

fn plan(url: &str) -> String {
    format!(
        r#"schema = 1
vault = "crm.vault"
prefix = "crm/"
environment = "production"

[servers.db]
kind = "postgres"
url = "{url}"
login = "peer"

[columns.mixed]
server = "db"
table = "public.mixed"
columns = ["a", "b"]
key = "key"
from = {{ format = "pgcrypto" }}
to = {{ format = "reseal" }}
online = true

[secrets.key]
strategy = "columns"
"#
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn mixed_input_ends_the_command_with_code_12() {
    let bench = Bench::new(OLD, "postgres", "").await;
    let run = ["reencrypt", "run", "mixed", "-y", "--json", "--no-backup", "a test"];
    let told = bench.desk.run(&run).expect(12).json();
    let all: u64 = Reason::ALL.iter().map(|reason| bench.mixture.count(*reason)).sum();
    let empty = bench.mixture.count(Reason::Empty);
    assert!(empty > 0, "the mixture has empty values");
    assert_eq!(
        ["quarantined", "empty", "old_left"].map(|count| told["runs"][0][count].as_u64()),
        [Some(all - empty), Some(empty), Some(0)]
    );
    let status = bench.desk.run(&["reencrypt", "status", "mixed", "--json"]).expect(0).json();
    let counted = &status["columns"][0]["database"]["quarantined_by_reason"];
    for reason in Reason::ALL.into_iter().filter(|reason| bench.mixture.count(*reason) > 0) {
        assert_eq!(counted[reason.code()], json!(bench.mixture.count(reason)), "{status}");
    }
    let listed = bench.desk.run(&["reencrypt", "status", "mixed", "--quarantine", "--json"]).expect(0).json();
    let listed = listed["columns"][0]["database"]["quarantine"].as_array().expect("a list").clone();
    assert_eq!(listed.len() as u64, all);
    let known: Vec<String> = bench.mixture.rows.iter().map(|row| format!("id = {}", row.0)).collect();
    for value in &listed {
        let row = value["row"].as_str().expect("a row");
        assert!(value["column"] == "a" && known.iter().any(|known| known == row), "{value}");
    }
    let words = bench.desk.run(&["reencrypt", "status", "mixed"]).expect(0).stdout;
    let line = format!("{empty} empty ");
    assert!(words.contains(&line) && words.contains("status mixed --quarantine"), "{words}");
    bench.desk.run(&["reencrypt", "verify", "mixed"]).expect(12);
}

#[tokio::test(flavor = "multi_thread")]
async fn mixed_input_wrong_key_ends_the_command_with_code_8() {
    let bench = Bench::new("not the old passphrase", "postgres", "").await;
    bench.is_refused("open under the keys of the plan").await;
    bench.desk.run(&["reencrypt", "plan", "mixed"]).expect(8);
}

#[tokio::test(flavor = "multi_thread")]
async fn mixed_input_row_security_ends_the_command_with_code_8() {
    let role = "CREATE ROLE app LOGIN; GRANT SELECT, UPDATE ON mixed TO app;
        GRANT CREATE ON DATABASE postgres TO app";
    let bench = Bench::new(OLD, "app", role).await;
    let policy =
        "ALTER TABLE mixed ENABLE ROW LEVEL SECURITY; CREATE POLICY tenant ON mixed USING (id % 10 = 0)";
    bench.client.batch_execute(policy).await.unwrap();
    bench.is_refused("row security").await;
}
