//! reseal itself: what `reseal reencrypt run` does, from the opened plan and vault to the moved labels of the key, in a
//! process of its own.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Instant;

use clap::{Args, ValueEnum};
use reseal_crypto::{ColumnKey, KeyMaterial};
use reseal_engine::{Outcome, RunOptions, Silent};
use reseal_formats::{ColumnType, FormatSpec};
use reseal_rotate::VaultCell;
use reseal_rotate::columns::{ColumnRun, DriveOptions, Labels, Purpose};
use reseal_sandbox::postgres::Server;
use reseal_sandbox::usage;
use tempfile::TempDir;
use tokio_postgres::Client;

use super::data::{self, COLUMNS, Stock, TABLE};
use super::project;
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
    /// The directory of the plan and the vault.
    #[arg(long)]
    project: PathBuf,
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

    /// What a run needs: a plan, and a vault with both keys.
    pub(super) fn project(self, server: &Server) -> Result<TempDir, BoxError> {
        let directory = tempfile::tempdir()?;
        let (to, new_key) = self.target()?;
        project::create(directory.path(), &server.url(), (self.stock(), &to), &new_key)?;
        Ok(directory)
    }

    /// Starts this program again for one run, so that its memory and CPU time are its own.
    pub(super) fn run(self, project: &Path, rows: i64) -> Result<Inner, BoxError> {
        let output = Command::new(std::env::current_exe()?)
            .args(["side", "--rows", &rows.to_string(), "--project"])
            .arg(project)
            .stdin(Stdio::null())
            .stderr(Stdio::inherit())
            .output()?;
        if !output.status.success() {
            return Err(format!("reseal {} failed: {}", self.name(), output.status).into());
        }
        Ok(serde_json::from_slice(&output.stdout)?)
    }

    /// Reads about a thousand rows back and opens them under the new key, without the engine.
    pub(super) async fn spot_check(self, project: &Path, client: &Client, rows: i64) -> Result<(), BoxError> {
        let (spec, key) = self.target()?;
        let ids = project::column_ids(project)?;
        let step = (rows / 1000).max(1);
        let bytes = COLUMNS.map(|column| match self.stock().column_type() {
            ColumnType::Bytes => column.to_owned(),
            ColumnType::Text => format!("convert_to({column}, 'UTF8')"),
        });
        let statement = format!("SELECT id, {} FROM {TABLE} WHERE id % {step} = 0", bytes.join(", "));
        for row in client.query(&statement, &[]).await? {
            let id: i64 = row.get(0);
            for (column, id_of_column) in ids.iter().enumerate() {
                let codec = spec.codec(self.stock().column_type(), &key, *id_of_column)?;
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
    let (plan, mut vault) = project::open(&options.project)?;
    let mut run = ColumnRun::prepare(&plan, &VaultCell::new(&mut vault), project::NAME, Purpose::Run).await?;
    let survey = run.survey().await?;
    run.check_other_run(&survey, &mut vault)?;
    if !survey.refusals().is_empty() {
        return Err(format!("refused: {:?}", survey.refusals()).into());
    }
    run.begin(&mut vault, Some("the keys of a benchmark"))?;
    let vault = VaultCell::new(&mut vault);
    let outcome = run.drive(&vault, drive_options()).await?;
    match run.settle(&plan, &vault, drive_options).await? {
        Labels::Moved => Ok(outcome),
        Labels::WaitFor(others) => Err(format!("the key is kept by {others:?}").into()),
    }
}

fn drive_options() -> DriveOptions {
    DriveOptions { run: RunOptions::default(), observer: Arc::new(Silent), on_start: Box::new(drop) }
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
