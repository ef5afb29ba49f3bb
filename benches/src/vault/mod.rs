//! The command over a large vault: `status` over every secret, and a rotation of many secrets over many files. Each
//! figure is that of a whole process, from its start to its end, with a key file.

mod project;

use std::fmt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use clap::Args;
use serde::Serialize;

use crate::BoxError;
use project::Project;

/// What is measured.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Secrets of the vault.
    #[arg(long, default_value_t = 10_000)]
    secrets: usize,
    /// Versions of each.
    #[arg(long, default_value_t = 5)]
    versions: usize,
    /// Places of each in the plan.
    #[arg(long, default_value_t = 2)]
    places: usize,
    /// Secrets that are rotated, each in files of its own.
    #[arg(long, default_value_t = 20)]
    rotated: usize,
    /// Files of all of them together.
    #[arg(long, default_value_t = 100)]
    files: usize,
    /// Rounds; the median of each side counts.
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// The command; otherwise the one beside this program.
    #[arg(long)]
    reseal: Option<PathBuf>,
    /// One JSON object instead of lines.
    #[arg(long)]
    json: bool,
}

/// The medians.
#[derive(Debug, Serialize)]
struct Report {
    rounds: usize,
    secrets: usize,
    versions: usize,
    places: usize,
    fill_seconds: f64,
    vault_mib: f64,
    status_seconds: f64,
    rotated: usize,
    files: usize,
    rotate_seconds: f64,
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { rounds, secrets, versions, places, .. } = self;
        writeln!(f, "medians of {rounds} rounds, whole processes with a key file")?;
        writeln!(
            f,
            "status over {secrets} secrets, {versions} versions and {places} places each: {:.2} s (vault of {:.1} MiB, filled in {:.1} s)",
            self.status_seconds, self.vault_mib, self.fill_seconds
        )?;
        writeln!(
            f,
            "rotation of {} secrets over {} files, restarts of a program that does nothing included: {:.2} s",
            self.rotated, self.files, self.rotate_seconds
        )
    }
}

/// Runs both sides and prints the figures.
pub(crate) fn run(options: &Options) -> Result<(), BoxError> {
    let needed = [options.secrets, options.versions, options.places, options.rotated, options.rounds];
    if needed.contains(&0) || options.files < options.rotated {
        return Err("at least one of everything, and one file for each secret, is needed".into());
    }
    let reseal = match &options.reseal {
        Some(reseal) => reseal.clone(),
        None => std::env::current_exe()?.with_file_name("reseal"),
    };
    if !reseal.is_file() {
        return Err(
            format!("{} is not there: build it with --workspace, or name it", reseal.display()).into()
        );
    }
    let report = measure(options, &reseal)?;
    if options.json {
        println!("{}", serde_json::to_string_pretty(&report)?);
    } else {
        print!("{report}");
    }
    Ok(())
}

fn measure(options: &Options, reseal: &Path) -> Result<Report, BoxError> {
    let begin = Instant::now();
    let large = Project::large(options.secrets, options.versions, options.places)?;
    let fill_seconds = begin.elapsed().as_secs_f64();
    let many = Project::many(options.rotated, options.files)?;
    let (mut status, mut rotate) = (Vec::new(), Vec::new());
    for round in 1..=options.rounds {
        let (seconds, told) = timed(reseal, &large, &["status", "--json"])?;
        let told: serde_json::Value = serde_json::from_slice(&told)?;
        let shown = told["secrets"].as_array().map_or(0, Vec::len);
        if shown != options.secrets {
            return Err(format!("the status shows {shown} of {} secrets", options.secrets).into());
        }
        status.push(seconds);
        let before = many.values()?;
        let (seconds, _) = timed(reseal, &many, &["rotate", "--all"])?;
        many.check_all_changed(&before)?;
        rotate.push(seconds);
        eprintln!(
            "round {round}/{}: status {:.2} s, rotate {seconds:.2} s",
            options.rounds,
            status[round - 1]
        );
    }
    Ok(Report {
        rounds: options.rounds,
        secrets: options.secrets,
        versions: options.versions,
        places: options.places,
        fill_seconds,
        vault_mib: large.vault_bytes()? as f64 / f64::from(1 << 20),
        status_seconds: median(status),
        rotated: options.rotated,
        files: options.files,
        rotate_seconds: median(rotate),
    })
}

/// Seconds of a whole process, and what it wrote.
fn timed(reseal: &Path, project: &Project, arguments: &[&str]) -> Result<(f64, Vec<u8>), BoxError> {
    let mut command = Command::new(reseal);
    command.current_dir(project.path()).args(["--key-file", "key-file", "--no-input"]).args(arguments);
    command.env("XDG_STATE_HOME", project.path()).stdin(Stdio::null()).stderr(Stdio::piped());
    let begin = Instant::now();
    let output = command.output()?;
    let seconds = begin.elapsed().as_secs_f64();
    if output.status.success() {
        return Ok((seconds, output.stdout));
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(format!("reseal {} ended with {}: {said}", arguments.join(" "), output.status).into())
}

fn median(mut seconds: Vec<f64>) -> f64 {
    seconds.sort_by(f64::total_cmp);
    seconds[seconds.len() / 2]
}
