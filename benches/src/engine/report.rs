//! What was measured, and the figures that follow.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};
use tokio_postgres::Client;

use crate::BoxError;

/// Server settings that decide about speed.
const SETTINGS: [&str; 13] = [
    "server_version",
    "shared_buffers",
    "fsync",
    "synchronous_commit",
    "full_page_writes",
    "wal_level",
    "wal_compression",
    "max_wal_size",
    "checkpoint_timeout",
    "autovacuum",
    "work_mem",
    "maintenance_work_mem",
    "data_checksums",
];

/// What a process that was measured from inside says about itself.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Inner {
    pub(super) seconds: f64,
    pub(super) rows: u64,
    pub(super) cpu_seconds: Option<f64>,
    pub(super) peak_rss_mib: Option<f64>,
}

/// One side of one round.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Sample {
    pub(super) rows: i64,
    pub(super) seconds: f64,
    pub(super) client_cpu_seconds: Option<f64>,
    pub(super) server_cpu_seconds: Option<f64>,
    pub(super) peak_rss_mib: Option<f64>,
}

impl Sample {
    pub(super) fn rows_per_second(&self) -> f64 {
        self.rows as f64 / self.seconds
    }
}

/// All samples, by side.
#[derive(Debug, Default)]
pub(super) struct Samples(Vec<(String, Vec<Sample>)>);

impl Samples {
    pub(super) fn add(&mut self, side: &str, sample: Sample) {
        match self.0.iter_mut().find(|(name, _)| name == side) {
            Some((_, samples)) => samples.push(sample),
            None => self.0.push((side.to_owned(), vec![sample])),
        }
    }
}

/// The medians of one side.
#[derive(Debug, Serialize)]
pub(super) struct Line {
    name: String,
    rows: i64,
    seconds: f64,
    rows_per_second: f64,
    client_cpu_seconds: Option<f64>,
    server_cpu_seconds: Option<f64>,
    peak_rss_mib: Option<f64>,
    /// Every round, in order.
    all_seconds: Vec<f64>,
}

impl Line {
    fn of(name: String, samples: &[Sample]) -> Self {
        let of = |field: fn(&Sample) -> Option<f64>| median(samples.iter().filter_map(field).collect());
        let all_seconds: Vec<f64> = samples.iter().map(|sample| sample.seconds).collect();
        let seconds = median(all_seconds.clone()).unwrap_or(f64::NAN);
        let rows = samples.first().map_or(0, |sample| sample.rows);
        Self {
            name,
            rows,
            seconds,
            rows_per_second: rows as f64 / seconds,
            client_cpu_seconds: of(|sample| sample.client_cpu_seconds),
            server_cpu_seconds: of(|sample| sample.server_cpu_seconds),
            peak_rss_mib: samples.iter().filter_map(|sample| sample.peak_rss_mib).max_by(f64::total_cmp),
            all_seconds,
        }
    }
}

/// The figures. A figure whose sides were left out is missing.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    schema_version: u32,
    rounds: usize,
    cores: usize,
    rows: i64,
    floor_seconds: Option<f64>,
    floor_variant: Option<String>,
    floor_server_cpu_seconds: Option<f64>,
    reseal_seconds: Option<f64>,
    reseal_envelope_seconds: Option<f64>,
    ratio_to_floor: Option<f64>,
    ratio_to_floor_envelope: Option<f64>,
    reseal_rows_per_second: Option<f64>,
    runbook_rows_per_second: Option<f64>,
    times_runbook_aead: Option<f64>,
    times_runbook_pgcrypto: Option<f64>,
    times_runbook_pgcrypto_to_pgcrypto: Option<f64>,
    python_rows_per_second: Option<f64>,
    times_python_fernet: Option<f64>,
    peak_rss_mib: Option<f64>,
    client_cpu_seconds: Option<f64>,
    server_cpu_seconds: Option<f64>,
    settings: BTreeMap<String, String>,
    sides: Vec<Line>,
}

impl Report {
    pub(super) fn new(rounds: usize, settings: BTreeMap<String, String>, samples: Samples) -> Self {
        let sides: Vec<Line> =
            samples.0.into_iter().map(|(name, samples)| Line::of(name, &samples)).collect();
        let side = |name: &str| sides.iter().find(|line| line.name == name);
        let fastest = |prefix: &str| {
            let group = sides.iter().filter(|line| line.name.starts_with(prefix));
            group.max_by(|a, b| a.rows_per_second.total_cmp(&b.rows_per_second))
        };
        let speed = |line: Option<&Line>| line.map(|line| line.rows_per_second);
        let seconds = |line: Option<&Line>| line.map(|line| line.seconds);
        let over = |a: Option<f64>, b: Option<f64>| Some(a? / b?);

        let floor = fastest("floor ");
        let python = fastest("python ");
        let aead = side("reseal aes-gcm to aes-gcm");
        let envelope = side("reseal aes-gcm to envelope");
        let runbook = speed(side("runbook pgcrypto"));
        Self {
            schema_version: 1,
            rounds,
            cores: std::thread::available_parallelism().map_or(0, usize::from),
            rows: sides.iter().map(|line| line.rows).max().unwrap_or(0),
            floor_seconds: seconds(floor),
            floor_variant: floor.map(|line| line.name.clone()),
            floor_server_cpu_seconds: floor.and_then(|line| line.server_cpu_seconds),
            reseal_seconds: seconds(aead),
            reseal_envelope_seconds: seconds(envelope),
            ratio_to_floor: over(seconds(aead), seconds(floor)),
            ratio_to_floor_envelope: over(seconds(envelope), seconds(floor)),
            reseal_rows_per_second: speed(aead),
            runbook_rows_per_second: runbook,
            times_runbook_aead: over(speed(aead), runbook),
            times_runbook_pgcrypto: over(speed(side("reseal pgcrypto to envelope")), runbook),
            times_runbook_pgcrypto_to_pgcrypto: over(speed(side("reseal pgcrypto to pgcrypto")), runbook),
            python_rows_per_second: speed(python),
            times_python_fernet: over(speed(side("reseal fernet to fernet")), speed(python)),
            peak_rss_mib: sides.iter().filter_map(|line| line.peak_rss_mib).max_by(f64::total_cmp),
            client_cpu_seconds: aead.and_then(|line| line.client_cpu_seconds),
            server_cpu_seconds: aead.and_then(|line| line.server_cpu_seconds),
            settings,
            sides,
        }
    }

    fn figures(&self) -> [(&'static str, Option<f64>, &'static str); 12] {
        [
            ("floor_seconds", self.floor_seconds, ""),
            ("reseal_seconds", self.reseal_seconds, ""),
            ("ratio_to_floor", self.ratio_to_floor, "at most 2.2"),
            ("ratio_to_floor_envelope", self.ratio_to_floor_envelope, "at most 2.5"),
            ("runbook_rows_per_second", self.runbook_rows_per_second, ""),
            ("times_runbook_aead", self.times_runbook_aead, "at least 100"),
            ("times_runbook_pgcrypto", self.times_runbook_pgcrypto, "at least 8"),
            ("times_runbook_pgcrypto_to_pgcrypto", self.times_runbook_pgcrypto_to_pgcrypto, "at least 4"),
            ("times_python_fernet", self.times_python_fernet, "at least 10"),
            ("peak_rss_mib", self.peak_rss_mib, "at most 256"),
            ("client_cpu_seconds", self.client_cpu_seconds, ""),
            ("server_cpu_seconds", self.server_cpu_seconds, ""),
        ]
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let settings: Vec<_> = self.settings.iter().map(|(name, value)| format!("{name}={value}")).collect();
        writeln!(f, "{} cores, medians of {} rounds\n{}\n", self.cores, self.rounds, settings.join(" "))?;
        let head = ["rows", "seconds", "rows/s", "client CPU", "server CPU", "MiB"];
        writeln!(
            f,
            "{:<32} {:>9} {:>8} {:>9} {:>10} {:>10} {:>6}",
            "side", head[0], head[1], head[2], head[3], head[4], head[5]
        )?;
        let number =
            |value: Option<f64>, digits: usize| value.map_or("-".to_owned(), |v| format!("{v:.digits$}"));
        for line in &self.sides {
            writeln!(
                f,
                "{:<32} {:>9} {:>8.2} {:>9.0} {:>10} {:>10} {:>6}",
                line.name,
                line.rows,
                line.seconds,
                line.rows_per_second,
                number(line.client_cpu_seconds, 2),
                number(line.server_cpu_seconds, 2),
                number(line.peak_rss_mib, 0),
            )?;
        }
        writeln!(f)?;
        for (name, value, goal) in self.figures() {
            writeln!(f, "{name:<36} {:>10}   {goal}", number(value, 2))?;
        }
        Ok(())
    }
}

/// The settings of the server that matter here.
pub(super) async fn settings(client: &Client) -> Result<BTreeMap<String, String>, BoxError> {
    let names: Vec<&str> = SETTINGS.to_vec();
    let statement = "SELECT name, current_setting(name) FROM pg_settings WHERE name = ANY($1)";
    let rows = client.query(statement, &[&names]).await?;
    Ok(rows.iter().map(|row| (row.get(0), row.get(1))).collect())
}

fn median(mut values: Vec<f64>) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    match values.len() {
        0 => None,
        count if count % 2 == 1 => Some(values[middle]),
        _ => Some((values[middle - 1] + values[middle]) / 2.0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(rows: i64, seconds: f64) -> Sample {
        Sample { rows, seconds, client_cpu_seconds: None, server_cpu_seconds: None, peak_rss_mib: None }
    }

    #[test]
    fn median_of_odd_and_even() {
        assert_eq!(median(vec![3.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(median(vec![4.0, 1.0, 2.0, 3.0]), Some(2.5));
        assert_eq!(median(Vec::new()), None);
    }

    #[test]
    fn figures_take_the_best_floor_and_the_medians() {
        let mut samples = Samples::default();
        for seconds in [4.0, 2.0, 3.0] {
            samples.add("floor one statement x1", sample(100, seconds + 1.0));
            samples.add("floor block ranges x2", sample(100, seconds));
            samples.add("reseal aes-gcm to aes-gcm", sample(100, seconds * 2.0));
        }
        samples.add("runbook pgcrypto", sample(10, 10.0));
        let report = Report::new(3, BTreeMap::new(), samples);
        assert_eq!(report.floor_variant.as_deref(), Some("floor block ranges x2"));
        assert_eq!((report.floor_seconds, report.ratio_to_floor), (Some(3.0), Some(2.0)));
        assert_eq!(report.times_python_fernet, None);
        assert!((report.times_runbook_aead.unwrap() - 100.0 / 6.0).abs() < 1e-9);
    }
}
