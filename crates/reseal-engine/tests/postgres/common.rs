//! A private server, a table of sealed values, and an engine on it.

#![allow(unreachable_pub, reason = "used by the modules beside it")]

use std::sync::Arc;

use reseal_crypto::random::OsRandom;
use reseal_crypto::{ColumnId, RowKey};
use reseal_engine::postgres::{PostgresStore, PostgresTarget};
use reseal_engine::{
    ColumnPlan, Direction, Engine, KeyColumn, KeyType, Observer, RunId, RunOptions, RunPlan, Side, TableName,
};
use reseal_formats::{Codec, ColumnType};
use reseal_sandbox::postgres::{Options, Server};
use tokio_postgres::{Client, NoTls};

use crate::support;
pub use crate::support::{
    GCM, NEW, OLD, RESEAL, RESEAL_ROW, RUN_KEY, THIRD, assert_balanced, job, key_ref, keyring, spec,
};

/// A private server and a connection to it.
pub struct Database {
    pub server: Server,
    pub url: String,
    pub client: Client,
}

impl Database {
    pub async fn start() -> Self {
        Self::start_with(Options { durable: false, ..Options::default() }).await
    }

    pub async fn start_with(options: Options) -> Self {
        let server = Server::start(options).expect("a private Postgres starts (package postgresql)");
        let url = server.url();
        Self { client: connect(&url).await, url, server }
    }

    pub async fn connect(&self) -> Client {
        connect(&self.url).await
    }

    pub async fn execute(&self, statements: &str) {
        self.client.batch_execute(statements).await.unwrap_or_else(|error| panic!("{statements}: {error:?}"));
    }

    pub async fn count(&self, query: &str) -> i64 {
        self.client.query_one(query, &[]).await.unwrap_or_else(|error| panic!("{query}: {error:?}")).get(0)
    }
}

pub async fn connect(url: &str) -> Client {
    let (client, connection) = tokio_postgres::connect(url, NoTls).await.expect("connects");
    tokio::spawn(connection);
    client
}

/// What a column goes from and to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// Neither side names its key.
    SameFormat,
    /// The new side names its key.
    Envelope,
    /// The new side names its key and binds to the row.
    RowEnvelope,
}

pub fn sides(way: Way) -> (Side, Side) {
    let to = match way {
        Way::SameFormat => GCM,
        Way::Envelope => RESEAL,
        Way::RowEnvelope => RESEAL_ROW,
    };
    (Side { spec: spec(GCM), key: key_ref(OLD) }, Side { spec: spec(to), key: key_ref(NEW) })
}

pub const COLUMNS: [&str; 3] = ["a", "b", "c"];

pub fn column_id(index: usize) -> ColumnId {
    ColumnId([index as u8 + 1; 16])
}

/// The plan for table `public.NAME (id int8 primary key, a, b, c bytea)`.
pub fn plan(table: &str, way: Way) -> RunPlan {
    let (from, to) = sides(way);
    let columns = COLUMNS.iter().enumerate().map(|(index, name)| ColumnPlan {
        name: (*name).into(),
        column_type: ColumnType::Bytes,
        id: column_id(index),
        replaces: None,
        from: from.clone(),
        to: to.clone(),
    });
    RunPlan {
        run: RunId::generate(&OsRandom).expect("random"),
        direction: Direction::Forward,
        supersedes: None,
        table: TableName { schema: "public".into(), name: table.into() },
        key: vec![KeyColumn { name: "id".into(), kind: KeyType::Integer }],
        columns: columns.collect(),
    }
}

pub fn options() -> RunOptions {
    RunOptions { workers: 2, ..RunOptions::default() }
}

pub fn engine(database: &Database, plan: &RunPlan, options: RunOptions) -> Engine {
    let target = PostgresTarget::parse(&database.url, None).expect("a URL");
    Engine::new(PostgresStore::new(target), job(plan.clone()), options)
}

pub fn observed(
    database: &Database,
    plan: &RunPlan,
    options: RunOptions,
    observer: Arc<impl Observer + 'static>,
) -> Engine {
    engine(database, plan, options).observed_by(observer)
}

/// The codec of one side of a column.
pub fn codec(side: &Side, column: usize) -> Codec {
    let keyring = keyring();
    let key = keyring.get(&side.key).expect("in the keyring");
    side.spec.codec(ColumnType::Bytes, key, column_id(column)).expect("a codec")
}

pub fn plaintext(id: i64, column: usize) -> Vec<u8> {
    format!("row {id:08} column {column} of the customer's file").into_bytes()
}

/// Seals one value as an application would.
pub fn seal(codec: &Codec, id: i64, plaintext: &[u8]) -> Vec<u8> {
    support::seal(codec, &RowKey::default().integer(id), plaintext)
}

/// Opens one value as an application would; `None` if it does not open.
pub fn open(codec: &Codec, id: i64, stored: &[u8]) -> Option<Vec<u8>> {
    support::open(codec, &RowKey::default().integer(id), stored)
}

/// Makes the table with `rows` rows under the old key.
pub async fn load(database: &Database, plan: &RunPlan, rows: i64) {
    let table = &plan.table.name;
    database
        .execute(&format!(
            "CREATE TABLE IF NOT EXISTS {table} (id int8 PRIMARY KEY, a bytea, b bytea, c bytea, note text DEFAULT '')"
        ))
        .await;
    insert(database, plan, 1..=rows).await;
}

/// Inserts rows under the old key.
pub async fn insert(database: &Database, plan: &RunPlan, ids: std::ops::RangeInclusive<i64>) {
    let codecs: Vec<Codec> = (0..3).map(|column| codec(&plan.columns[column].from, column)).collect();
    let ids: Vec<i64> = ids.collect();
    let column = |column: usize| -> Vec<Vec<u8>> {
        ids.iter().map(|&id| seal(&codecs[column], id, &plaintext(id, column))).collect()
    };
    let statement = format!(
        "INSERT INTO {} SELECT * FROM unnest($1::int8[], $2::bytea[], $3::bytea[], $4::bytea[])",
        plan.table.name
    );
    database.client.execute(&statement, &[&ids, &column(0), &column(1), &column(2)]).await.expect("inserts");
    database.execute(&format!("ANALYZE {}", plan.table.name)).await;
}

/// Reads every row and asserts that it opens under the new key to what was loaded, and under the old to nothing.
pub async fn assert_all_new(database: &Database, plan: &RunPlan, rows: i64) {
    let statement = format!("SELECT id, a, b, c FROM {} ORDER BY id", plan.table.name);
    let found = database.client.query(&statement, &[]).await.expect("reads");
    assert_eq!(found.len() as i64, rows);
    let old: Vec<Codec> = (0..3).map(|column| codec(&plan.columns[column].from, column)).collect();
    let new: Vec<Codec> = (0..3).map(|column| codec(&plan.columns[column].to, column)).collect();
    for row in &found {
        let id: i64 = row.get(0);
        for column in 0..3 {
            let stored: &[u8] = row.get(column + 1);
            assert_eq!(open(&new[column], id, stored), Some(plaintext(id, column)), "row {id}");
            assert_eq!(open(&old[column], id, stored), None, "row {id} opens under the old key");
        }
    }
}
