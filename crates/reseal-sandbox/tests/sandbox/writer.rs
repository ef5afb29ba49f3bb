//! The writing application: what it remembers is what the table holds, also when the server dies under it.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "helpers of tests may panic and print their seed"
)]

use std::sync::Arc;
use std::time::Duration;

use reseal_sandbox::SandboxError;
use reseal_sandbox::ledger::Ledger;
use reseal_sandbox::postgres::{Options, Server};
use reseal_sandbox::seal::{Key, Opened, Sealer, SealerError, Sealing};
use reseal_sandbox::table::Table;
use reseal_sandbox::values::{Cell, Values};
use reseal_sandbox::writer::{Mix, Writer, WriterOptions};

const SEED: u64 = 20_240_101;

/// Not encryption: the key's letter, then the text. Enough to see what was written under which key.
struct Labels;

impl Sealer for Labels {
    fn seal_many(&self, key: Key, values: &[(Cell, &str)]) -> Result<Vec<Vec<u8>>, SealerError> {
        let letter = if key == Key::Old { 'o' } else { 'n' };
        Ok(values.iter().map(|(_, text)| format!("{letter}{text}").into_bytes()).collect())
    }

    fn open_many(&self, values: &[(Cell, &[u8])]) -> Vec<Option<Opened>> {
        let open = |(_, stored): &(Cell, &[u8])| {
            let key = match stored.first()? {
                b'o' => Key::Old,
                b'n' => Key::New,
                _ => return None,
            };
            Some(Opened { key, plaintext: stored[1..].to_vec() })
        };
        values.iter().map(open).collect()
    }
}

struct Scene {
    server: Server,
    table: Table,
    ledger: Ledger,
}

impl Scene {
    async fn new(rows: i64) -> Self {
        println!("seed {SEED}");
        let server = Server::start(Options::default()).unwrap();
        let table = Table::default();
        let client = server.connect().await.unwrap();
        table.create(&client).await.unwrap();
        let values = Values::new(SEED);
        table.load(&client, 1..=rows, values, &Labels).await.unwrap();
        Self { server, table, ledger: Ledger::new(1..=rows, values) }
    }

    fn writer(&self) -> Writer {
        let sealing = Sealing::Client(Arc::new(Labels));
        let mut options = WriterOptions::new(self.server.config(), sealing, SEED);
        options.mix = Mix { rekey: 5, ..Mix::default() };
        Writer::start(options, self.ledger.clone()).unwrap()
    }
}

#[tokio::test]
async fn the_table_holds_what_the_ledger_says() {
    let scene = Scene::new(500).await;
    let writer = scene.writer();
    assert!(writer.wait_for_transactions(300, Duration::from_secs(60)));
    writer.switch_to_new_key();
    assert!(writer.wait_for_transactions(600, Duration::from_secs(60)));
    let report = writer.stop().unwrap();
    assert!(report.errors.is_empty() && report.reconnects == 0, "{report:?}");
    assert!(["insert", "update", "nullify", "delete", "rekey"].iter().all(|kind| report.writes[kind] > 0));

    let client = scene.server.connect().await.unwrap();
    let found = report.ledger.compare(&client, &scene.table, &Labels).await.unwrap();
    assert_eq!((found.lost_updates(), found.unopened), (0, 0), "{found:?}");
    assert_eq!(found.rows, report.ledger.rows());
    assert!(found.old_key_opens > 0 && found.new_key_opens > 0, "{found:?}");
    assert_eq!(found.plaintexts_equal, found.values);
}

#[tokio::test]
async fn changes_by_others_are_noticed() {
    let scene = Scene::new(100).await;
    let client = scene.server.connect().await.unwrap();
    let change = "UPDATE crm_client_preferences SET email_encrypted = 'oother' WHERE id = 1;
        UPDATE crm_client_preferences SET email_encrypted = NULL WHERE id = 2;
        UPDATE crm_client_preferences SET email_encrypted = 'xunreadable' WHERE id = 3;
        DELETE FROM crm_client_preferences WHERE id = 4;
        UPDATE crm_client_preferences SET id = 1000 WHERE id = 5";
    client.batch_execute(change).await.unwrap();
    let found = scene.ledger.compare(&client, &scene.table, &Labels).await.unwrap();
    assert_eq!((found.different, found.unopened, found.missing, found.extra), (2, 1, 2, 1), "{found:?}");
}

#[tokio::test]
async fn a_second_writer_goes_on_where_the_first_ended() {
    let mut scene = Scene::new(200).await;
    for _ in 0..2 {
        let writer = scene.writer();
        assert!(writer.wait_for_transactions(200, Duration::from_secs(60)));
        writer.pause();
        let count = writer.transactions();
        std::thread::sleep(Duration::from_millis(50));
        assert_eq!(writer.transactions(), count);
        writer.go_on();
        assert!(writer.wait_for_transactions(count + 10, Duration::from_secs(60)));
        scene.ledger = writer.stop().unwrap().ledger;
    }
    let client = scene.server.connect().await.unwrap();
    let found = scene.ledger.compare(&client, &scene.table, &Labels).await.unwrap();
    assert_eq!(found.lost_updates(), 0, "{found:?}");
}

#[tokio::test]
async fn the_ledger_holds_when_the_server_is_killed() {
    let mut scene = Scene::new(500).await;
    let writer = scene.writer();
    for _ in 0..3 {
        let target = writer.transactions() + 100;
        assert!(writer.wait_for_transactions(target, Duration::from_secs(60)));
        scene.server.kill_9().unwrap();
        scene.server.restart().unwrap();
    }
    let target = writer.transactions() + 100;
    assert!(writer.wait_for_transactions(target, Duration::from_secs(60)));
    let report = writer.stop().unwrap();
    assert!(report.reconnects >= 3, "{report:?}");
    let client = scene.server.connect().await.unwrap();
    let found = report.ledger.compare(&client, &scene.table, &Labels).await.unwrap();
    assert_eq!((found.lost_updates(), found.unopened), (0, 0), "{found:?}");
}

#[tokio::test]
async fn the_functions_of_the_database_encrypt_too() {
    let server = Server::start(Options::default()).unwrap();
    let (table, values) = (Table::default(), Values::new(SEED));
    let client = server.connect().await.unwrap();
    table.create(&client).await.unwrap();
    let config = server.config();
    table.load_by_functions(&config, 2, 1..=200, values, "old key").await.unwrap();
    let sealing = Sealing::Functions { old: "old key".to_owned(), new: "new key".to_owned() };
    let writer =
        Writer::start(WriterOptions::new(config.clone(), sealing, SEED), Ledger::new(1..=200, values))
            .unwrap();
    assert!(writer.wait_for_transactions(100, Duration::from_secs(60)));
    let ledger = writer.stop().unwrap().ledger;
    let found = ledger.compare_by_functions(&config, 2, "old key").await.unwrap();
    assert_eq!((found.lost_updates(), found.plaintexts_equal), (0, found.values), "{found:?}");

    table.runbook_update(&client, 1..=100_000, "old key", "new key").await.unwrap();
    let found = ledger.compare_by_functions(&config, 2, "new key").await.unwrap();
    assert_eq!(found.lost_updates(), 0, "{found:?}");
    assert!(ledger.compare_by_functions(&config, 2, "old key").await.is_err());
}

#[test]
fn a_writer_without_a_server_says_so() {
    let mut config = tokio_postgres::Config::new();
    config.host_path("/nonexistent").user("nobody");
    let options = WriterOptions::new(config, Sealing::Client(Arc::new(Labels)), SEED);
    let writer = Writer::start(options, Ledger::new(1..=10, Values::new(1))).unwrap();
    assert!(!writer.wait_for_transactions(1, Duration::from_secs(60)));
    writer.switch_to_new_key();
    assert!(matches!(writer.stop(), Err(SandboxError::Sql(_))));
}
