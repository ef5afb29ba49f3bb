//! reseal itself: the engine as `reseal reencrypt run` drives it, from connect to done, in a process of its own.

use std::process::{Command, Stdio};
use std::time::Instant;

use clap::{Args, ValueEnum};
use reseal_crypto::{ColumnId, ColumnKey, KeyMaterial, KeyRef, Keyring, OsRandom};
use reseal_engine::postgres::{PostgresStore, PostgresTarget};
use reseal_engine::{
    ColumnPlan, Direction, Engine, Job, KeyColumn, KeyType, Outcome, RunId, RunKey, RunOptions, RunPlan,
    Side, TableName,
};
use reseal_formats::{ColumnType, FormatSpec};
use reseal_sandbox::postgres::Server;
use reseal_sandbox::usage;
use tokio_postgres::Client;

use super::data::{self, COLUMNS, Stock, TABLE};
use super::report::Inner;
use crate::BoxError;

/// What is read and what is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Pair {
    AesGcmToAesGcm,
    AesGcmToEnvelope,
    PgcryptoToEnvelope,
    PgcryptoToPgcrypto,
    FernetToFernet,
}

/// Arguments of the process that is measured.
#[derive(Debug, Args)]
pub(crate) struct SideOptions {
    #[arg(long, value_enum)]
    pair: Pair,
    #[arg(long)]
    url: String,
    #[arg(long)]
    rows: u64,
}

impl Pair {
    pub(super) const ALL: [Self; 5] = [
        Self::AesGcmToAesGcm,
        Self::AesGcmToEnvelope,
        Self::PgcryptoToEnvelope,
        Self::PgcryptoToPgcrypto,
        Self::FernetToFernet,
    ];

    pub(super) fn name(self) -> String {
        let to = if self.to_envelope() { "envelope" } else { self.stock_name() };
        format!("{} to {to}", self.stock_name())
    }

    pub(super) fn stock(self) -> Stock {
        match self {
            Self::AesGcmToAesGcm | Self::AesGcmToEnvelope => Stock::AesGcm,
            Self::PgcryptoToEnvelope | Self::PgcryptoToPgcrypto => Stock::Pgcrypto,
            Self::FernetToFernet => Stock::Fernet,
        }
    }

    /// Starts this program again for one run, so that its memory and CPU time are its own.
    pub(super) fn run(self, server: &Server, rows: i64) -> Result<Inner, BoxError> {
        let pair = self.to_possible_value().ok_or("a pair has a name")?;
        let output = Command::new(std::env::current_exe()?)
            .args(["side", "--pair", pair.get_name(), "--url", &server.url(), "--rows", &rows.to_string()])
            .stdin(Stdio::null())
            .stderr(Stdio::inherit())
            .output()?;
        if !output.status.success() {
            return Err(format!("reseal {} failed: {}", self.name(), output.status).into());
        }
        Ok(serde_json::from_slice(&output.stdout)?)
    }

    /// Reads about a thousand rows back and opens them under the new key, without the engine.
    pub(super) async fn spot_check(self, client: &Client, rows: i64) -> Result<(), BoxError> {
        let (spec, key) = self.target()?;
        let step = (rows / 1000).max(1);
        let bytes = COLUMNS.map(|column| match self.stock().column_type() {
            ColumnType::Bytes => column.to_owned(),
            ColumnType::Text => format!("convert_to({column}, 'UTF8')"),
        });
        let statement = format!("SELECT id, {} FROM {TABLE} WHERE id % {step} = 0", bytes.join(", "));
        for row in client.query(&statement, &[]).await? {
            let id: i64 = row.get(0);
            for (column, number) in (0..COLUMNS.len()).zip(0..) {
                let codec = spec.codec(self.stock().column_type(), &key, ColumnId([number; 16]))?;
                let stored: &[u8] = row.get(column + 1);
                let mut plaintext = Vec::new();
                let opened = codec.open_many(&[stored], &[None], &mut plaintext);
                if opened.iter().any(Result::is_err) || plaintext != data::plaintext(id, column).as_bytes() {
                    return Err(format!("row {id} does not say under the new key what it said before").into());
                }
            }
        }
        Ok(())
    }

    fn stock_name(self) -> &'static str {
        match self.stock() {
            Stock::AesGcm => "aes-gcm",
            Stock::Pgcrypto => "pgcrypto",
            Stock::Fernet => "fernet",
        }
    }

    fn to_envelope(self) -> bool {
        matches!(self, Self::AesGcmToEnvelope | Self::PgcryptoToEnvelope)
    }

    /// Format and key that are written.
    fn target(self) -> Result<(FormatSpec, KeyMaterial), BoxError> {
        if self.to_envelope() {
            let key = KeyMaterial::Column(ColumnKey::from_bytes(&[0x33; 32]));
            return Ok((serde_json::from_str(r#"{"format":"reseal"}"#)?, key));
        }
        Ok((self.stock().spec()?, self.stock().new_key()))
    }

    fn job(self) -> Result<Job, BoxError> {
        let stock = self.stock();
        let (to, new_key) = self.target()?;
        let (old_name, new_name) = (key_ref(1), key_ref(2));
        let mut keyring = Keyring::default();
        keyring.insert(old_name.clone(), stock.old_key())?;
        keyring.insert(new_name.clone(), new_key)?;
        let from = Side { spec: stock.spec()?, key: old_name };
        let to = Side { spec: to, key: new_name };
        let column = |(name, number): (&str, u8)| ColumnPlan {
            name: name.to_owned(),
            column_type: stock.column_type(),
            id: ColumnId([number; 16]),
            replaces: None,
            from: from.clone(),
            to: to.clone(),
        };
        let plan = RunPlan {
            run: RunId::generate(&OsRandom)?,
            direction: Direction::Forward,
            supersedes: None,
            table: TableName { schema: "public".to_owned(), name: TABLE.to_owned() },
            key: vec![KeyColumn { name: "id".to_owned(), kind: KeyType::Integer }],
            columns: COLUMNS.into_iter().zip(0..).map(column).collect(),
        };
        Ok(Job::new(plan, &keyring, &RunKey::generate(&OsRandom)?)?)
    }
}

fn key_ref(version: u64) -> KeyRef {
    KeyRef { secret: "bench/column-key".to_owned(), version }
}

/// Runs one pair and prints what it took.
pub(crate) fn run_side(options: &SideOptions) -> Result<(), BoxError> {
    let begin = Instant::now();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let outcome = runtime.block_on(reencrypt(options))?;
    let seconds = begin.elapsed().as_secs_f64();
    check(&outcome, options.rows)?;
    let inner = Inner {
        seconds,
        rows: options.rows,
        cpu_seconds: usage::process_cpu_seconds(),
        peak_rss_mib: usage::peak_rss_mib(),
    };
    println!("{}", serde_json::to_string(&inner)?);
    Ok(())
}

async fn reencrypt(options: &SideOptions) -> Result<Outcome, BoxError> {
    let target = PostgresTarget::parse(&options.url, None)?;
    let engine = Engine::new(PostgresStore::new(target), options.pair.job()?, RunOptions::default());
    Ok(engine.run().await?)
}

/// A run that did less than all of the work has no speed.
fn check(outcome: &Outcome, rows: u64) -> Result<(), BoxError> {
    let values = rows * COLUMNS.len() as u64;
    let (rewritten, old) = (outcome.rewritten(), outcome.proof.old());
    if rewritten != values || old != 0 || outcome.quarantined() != 0 {
        return Err(format!("of {values} values {rewritten} were rewritten and {old} are still old").into());
    }
    Ok(())
}
