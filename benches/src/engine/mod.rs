//! Re-encryption of Postgres columns: all sides in turn, on a freshly written table each time.

mod data;
mod floor;
mod project;
mod python;
mod report;
mod reseal;
mod runbook;

use std::path::PathBuf;
use std::time::Instant;

use clap::Args;
use reseal_sandbox::postgres::{Options as ServerOptions, Server};
use reseal_sandbox::usage;
use tokio_postgres::Client;

use crate::BoxError;
use data::Stock;
use report::{Inner, Report, Sample, Samples};
pub(crate) use reseal::{SideOptions, run_side};

/// What is measured.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Rows of three values for the floor and for authenticated formats.
    #[arg(long, default_value_t = 1_000_000)]
    rows: i64,
    /// Rows of pgcrypto messages for reseal.
    #[arg(long, default_value_t = 100_000)]
    pgcrypto_rows: i64,
    /// Rows of pgcrypto messages for the runbook's UPDATE.
    #[arg(long, default_value_t = 20_000)]
    runbook_rows: i64,
    /// Rows of Fernet tokens for the Python loop.
    #[arg(long, default_value_t = 50_000)]
    python_rows: i64,
    /// Rounds; the median of each side counts.
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// The Python that has psycopg and cryptography.
    #[arg(long)]
    python: Option<PathBuf>,
    /// Only sides whose name contains this (repeat for more); figures that need others are then missing.
    #[arg(long)]
    only: Vec<String>,
    /// Setting of the server, NAME=VALUE; none but those of a new installation by default.
    #[arg(long, value_name = "NAME=VALUE")]
    set: Vec<String>,
    /// One JSON object instead of a table.
    #[arg(long)]
    json: bool,
}

/// One side of the comparison.
#[derive(Debug, Clone, Copy)]
enum Side {
    Floor(floor::Variant),
    Runbook,
    Python(python::Method),
    Reseal(reseal::Pair),
}

impl Side {
    fn all() -> Vec<Self> {
        let floors = floor::Variant::ALL.into_iter().map(Self::Floor);
        let pythons = python::Method::ALL.into_iter().map(Self::Python);
        let reseals = reseal::Pair::ALL.into_iter().map(Self::Reseal);
        floors.chain(reseals).chain([Self::Runbook]).chain(pythons).collect()
    }

    fn name(self) -> String {
        match self {
            Self::Floor(variant) => format!("floor {}", variant.name()),
            Self::Runbook => "runbook pgcrypto".to_owned(),
            Self::Python(method) => format!("python fernet {}", method.name()),
            Self::Reseal(pair) => format!("reseal {}", pair.name()),
        }
    }

    fn stock(self) -> Stock {
        match self {
            Self::Floor(_) => Stock::AesGcm,
            Self::Runbook => Stock::Pgcrypto,
            Self::Python(_) => Stock::Fernet,
            Self::Reseal(pair) => pair.stock(),
        }
    }

    fn rows(self, options: &Options) -> i64 {
        match self {
            Self::Floor(_) => options.rows,
            Self::Runbook => options.runbook_rows.min(options.rows),
            Self::Python(_) => options.python_rows.min(options.rows),
            Self::Reseal(pair) if pair.stock() == Stock::Pgcrypto => options.pgcrypto_rows.min(options.rows),
            Self::Reseal(_) => options.rows,
        }
    }
}

/// Runs the whole comparison and prints it.
pub(crate) fn run(options: &Options) -> Result<(), BoxError> {
    if options.rows < 1 || options.rounds < 1 {
        return Err("at least one row and one round are needed".into());
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let report = runtime.block_on(measure(options))?;
    if options.json {
        println!("{}", serde_json::to_string_pretty(&report)?);
    } else {
        print!("{report}");
    }
    Ok(())
}

/// What every side needs.
struct Bench<'a> {
    options: &'a Options,
    server: &'a Server,
    client: Client,
    python: PathBuf,
}

async fn measure(options: &Options) -> Result<Report, BoxError> {
    let wanted = |side: &Side| {
        options.only.is_empty() || options.only.iter().any(|part| side.name().contains(part.as_str()))
    };
    let sides: Vec<Side> = Side::all().into_iter().filter(wanted).collect();
    let needs_python = sides.iter().any(|side| matches!(side, Side::Python(_)));
    // Looked for before the long part, not after it.
    let python = if needs_python { python::interpreter(options.python.as_deref())? } else { PathBuf::new() };

    let mut settings = ServerOptions::default();
    for setting in &options.set {
        let (name, value) = setting.split_once('=').ok_or("a setting is NAME=VALUE")?;
        settings = settings.set(name, value);
    }
    let server = Server::start(settings)?;
    let client = server.connect().await?;
    let bench = Bench { options, server: &server, client, python };
    bench.load(&sides).await?;

    let mut samples = Samples::default();
    for round in 1..=options.rounds {
        // Every other round goes backwards, so that no side always profits from the one before it.
        let order: Vec<Side> =
            if round % 2 == 1 { sides.clone() } else { sides.iter().rev().copied().collect() };
        for side in order {
            let sample = bench.one(side).await?;
            eprintln!(
                "round {round}/{}: {:<32} {:>9} rows {:>8.2} s {:>9.0} rows/s",
                options.rounds,
                side.name(),
                sample.rows,
                sample.seconds,
                sample.rows_per_second(),
            );
            samples.add(&side.name(), sample);
        }
    }
    Ok(Report::new(options.rounds, report::settings(&bench.client).await?, samples))
}

impl Bench<'_> {
    /// Writes each kind of ciphertext once; the sides work on copies.
    async fn load(&self, sides: &[Side]) -> Result<(), BoxError> {
        for stock in Stock::ALL {
            let rows =
                sides.iter().filter(|side| side.stock() == stock).map(|side| side.rows(self.options)).max();
            let Some(rows) = rows else { continue };
            eprintln!("loading {rows} rows of {}", stock.name());
            stock.load(&self.client, rows).await?;
        }
        reseal_sandbox::table::create_functions(&self.client).await?;
        Ok(())
    }

    /// Measures one side on a fresh copy of its rows.
    async fn one(&self, side: Side) -> Result<Sample, BoxError> {
        let rows = side.rows(self.options);
        side.stock().fresh_copy(&self.client, rows).await?;
        match side {
            Side::Floor(variant) => {
                self.timed(rows, async { variant.run(self.server, rows).await.map(|()| None) }).await
            }
            Side::Runbook => {
                self.timed(rows, async { runbook::update(self.server, rows).await.map(|()| None) }).await
            }
            Side::Python(method) => {
                self.timed(rows, async { method.run(&self.python, self.server, rows).map(Some) }).await
            }
            Side::Reseal(pair) => {
                let project = pair.project(self.server)?;
                let sample = self.timed(rows, async { pair.run(project.path(), rows).map(Some) }).await?;
                pair.spot_check(project.path(), &self.client, rows).await?;
                Ok(sample)
            }
        }
    }

    /// What the work took; a side that is a process of its own says itself.
    async fn timed(
        &self,
        rows: i64,
        work: impl Future<Output = Result<Option<Inner>, BoxError>>,
    ) -> Result<Sample, BoxError> {
        let server_before = self.server.cpu_seconds();
        let client_before = usage::process_cpu_seconds();
        let begin = Instant::now();
        let inner = work.await?;
        let outside = begin.elapsed().as_secs_f64();
        let used = |before: Option<f64>, after: Option<f64>| Some(after? - before?);
        let own_cpu = used(client_before, usage::process_cpu_seconds());
        Ok(Sample {
            rows,
            seconds: inner.as_ref().map_or(outside, |inner| inner.seconds),
            client_cpu_seconds: inner.as_ref().map_or(own_cpu, |inner| inner.cpu_seconds),
            server_cpu_seconds: used(server_before, self.server.cpu_seconds()),
            peak_rss_mib: inner.and_then(|inner| inner.peak_rss_mib),
        })
    }
}
