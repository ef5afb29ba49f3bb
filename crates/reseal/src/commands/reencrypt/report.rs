//! What `reencrypt` tells: for people in words and tables, for programs as objects.

use std::fmt::Write;
use std::time::Duration;

use reseal_engine::{
    ByReason, Census, Direction, Outcome, QuarantineRecord, Reason, Status, Survey, Tally, Verification,
};
use reseal_rotate::columns::{ColumnRun, Labels, RunRecord, SecondCopy};
use serde_json::{Map, Value, json};

use super::rate;
use crate::exit::Exit;
use crate::ui::Table;
use crate::units::{count, size, span};
use crate::when;

/// Bytes of write-ahead log per rewritten row, measured on three columns of about 50 bytes.
const WAL_PER_ROW: u64 = 800;
/// Values per second that a run rewrites on two cores, by what it costs to open and seal one.
const CHEAP_VALUES_PER_SECOND: u64 = 250_000;
const PGCRYPTO_VALUES_PER_SECOND: u64 = 20_000;
/// Most values that are listed one by one.
pub(super) const LISTED_MAX: u64 = 1_000;

/// A run that ended.
#[derive(Debug)]
pub(super) struct Done<'a> {
    pub(super) run: &'a ColumnRun,
    pub(super) outcome: &'a Outcome,
    pub(super) labels: &'a Labels,
    /// Rows that this command read; an earlier one may have read others.
    pub(super) rows: u64,
    /// How long this command took.
    pub(super) seconds: f64,
}

impl Done<'_> {
    pub(super) fn exit(&self) -> Exit {
        if self.outcome.quarantined() > 0 { Exit::Quarantined } else { Exit::Done }
    }

    pub(super) fn object(&self) -> Value {
        let (record, outcome) = (self.run.record(), self.outcome);
        json!({
            "name": record.columns,
            "run": record.plan.run.to_string(),
            "direction": record.plan.direction.name(),
            "state": record.state.name(),
            "keys": keys_object(record),
            "seconds": self.seconds,
            "rows": self.rows,
            "rows_per_second": self.rate(),
            "passes": outcome.passes,
            "batches": outcome.batches,
            "rewritten": outcome.rewritten(),
            "quarantined": outcome.quarantined(),
            "empty": outcome.proof.empty(),
            "old_left": outcome.proof.old() + outcome.proof.suppressed(),
            "labels_moved": *self.labels == Labels::Moved,
            "labels_wait_for": self.waits_for(),
            "tallies": tallies_object(record, &outcome.tallies),
        })
    }

    pub(super) fn words(&self) -> String {
        let (record, outcome) = (self.run.record(), self.outcome);
        let mut table =
            Table::new(&["column", "seen", "NULL", "rewritten", "already new", "missed", "left as they are"]);
        for (column, tally) in record.plan.columns.iter().zip(&outcome.tallies) {
            let counts = tally.to_array();
            table.row(std::iter::once(column.name.clone()).chain(counts.map(count)));
        }
        let (secret, old, new) = record.keys().unwrap_or_default();
        let mut words =
            format!("{}: {} {} is proved\n{table}", record.columns, record.kind(), record.plan.run);
        let _ = writeln!(
            words,
            "{} in {} and {}; this command read {} rows in {} ({} rows/s)",
            counted(outcome.rewritten(), "value"),
            counted(outcome.batches, "batch"),
            counted(outcome.passes.into(), "pass"),
            count(self.rows),
            span(Duration::from_secs_f64(self.seconds)),
            count(self.rate() as u64),
        );
        let _ = match outcome.proof.suppressed() {
            0 => writeln!(words, "one snapshot of the table holds no value under {secret} version {old}"),
            left => writeln!(
                words,
                "one snapshot of the table holds {} values under {secret} version {old}, and a trigger lets none of them change",
                count(left)
            ),
        };
        let _ = match (self.labels, record.plan.direction) {
            (Labels::Moved, Direction::Forward) => {
                writeln!(words, "{secret} version {new} is current, version {old} is previous")
            }
            (Labels::Moved, Direction::Rollback) => {
                writeln!(words, "the current key of {secret} is that of version {new}")
            }
            (Labels::WaitFor(others), Direction::Forward) => {
                let others = others.join(", ");
                writeln!(
                    words,
                    "{secret} version {new} becomes current when these columns are done too: {others}"
                )
            }
            (Labels::WaitFor(others), Direction::Rollback) => {
                writeln!(words, "{}", left_behind(self.run, others).unwrap_or_default())
            }
        };
        if outcome.quarantined() > 0 {
            let _ = writeln!(
                words,
                "{}; `reseal reencrypt status {}` counts them by reason",
                left(outcome.quarantined(), "value"),
                record.columns,
            );
        }
        words.push_str(&empty_words(&outcome.proof));
        words
    }

    fn rate(&self) -> f64 {
        rate(self.rows, Duration::from_secs_f64(self.seconds))
    }

    fn waits_for(&self) -> &[String] {
        match self.labels {
            Labels::Moved => &[],
            Labels::WaitFor(others) => others,
        }
    }
}

/// What it means for a rollback that other columns are not rolled back; nothing if there are none.
pub(super) fn left_behind(run: &ColumnRun, others: &[String]) -> Option<String> {
    let (secret, from, to) = run.record().keys()?;
    (!others.is_empty()).then(|| {
        format!(
            "under version {to} of {secret} while version {from} stays current for {}; roll back too: `reseal reencrypt rollback {}`",
            others.join(", "),
            others.join(" ")
        )
    })
}

/// What a person says yes to.
pub(super) fn question(run: &ColumnRun, survey: &Survey) -> String {
    let record = run.record();
    let (secret, old, new) = record.keys().unwrap_or_default();
    let columns = record.plan.columns.len();
    let verb = match record.plan.direction {
        Direction::Forward => "re-encrypt",
        Direction::Rollback => "take back the re-encryption of",
    };
    format!(
        "{verb} {columns} column(s) of {} ({} rows by estimate), {secret} version {old} to {new}?",
        record.plan.table,
        count(survey.facts.rows)
    )
}

pub(super) fn plan_object(run: &ColumnRun, survey: &Survey, copy: Option<&SecondCopy>) -> Value {
    let record = run.record();
    let facts = &survey.facts;
    let columns: Vec<Value> = record
        .plan
        .columns
        .iter()
        .enumerate()
        .map(|(index, column)| {
            let census = survey.census.columns.get(index).copied().unwrap_or_default();
            json!({
                "name": column.name,
                "column_id": column.id.to_string(),
                "from": column.from.spec.name(),
                "to": column.to.spec.name(),
                "null": census.null,
                "old": census.old,
                "new": census.new,
                "unopened": census.unopened(),
                "empty": census.empty(),
                "unopened_by_reason": reasons_object(&census.left),
            })
        })
        .collect();
    json!({
        "name": record.columns,
        "table": record.plan.table.to_string(),
        "server": record.server,
        "server_version": facts.server,
        "begun": run.is_begun(),
        "run": run.is_begun().then(|| record.plan.run.to_string()),
        "keys": keys_object(record),
        "has_new_key": run.has_new_key(),
        "second_copy": copy.map(copy_words),
        "row_key": record.plan.key.iter().map(|key| &key.name).collect::<Vec<_>>(),
        "rows": facts.rows,
        "bytes": facts.bytes,
        "leaves": facts.leaves,
        "sampled_rows": survey.census.rows,
        "census": columns,
        "estimate": { "seconds": estimated_seconds(run, survey), "wal_bytes": facts.rows.saturating_mul(WAL_PER_ROW), "extra_bytes": facts.bytes },
        "warnings": facts.warnings.iter().map(ToString::to_string).collect::<Vec<_>>(),
        "refusals": facts.refusals.iter().map(|refusal| json!({ "reason": refusal.to_string(), "hint": refusal.hint() })).collect::<Vec<_>>(),
    })
}

pub(super) fn plan_words(run: &ColumnRun, survey: &Survey, copy: Option<&SecondCopy>) -> String {
    let record = run.record();
    let facts = &survey.facts;
    let (secret, old, new) = record.keys().unwrap_or_default();
    let key: Vec<_> = record.plan.key.iter().map(|key| key.name.as_str()).collect();
    let formats = record.plan.columns.first().map(|column| (column.from.spec.name(), column.to.spec.name()));
    let (from, to) = formats.unwrap_or_default();
    // A table that was never analysed seems to be empty.
    let is_known = facts.rows >= survey.census.rows;
    let rows =
        if is_known { format!("about {}", count(facts.rows)) } else { "not known before ANALYZE".into() };
    let mut lines = vec![
        format!("{}: {} on {} {}", record.columns, record.plan.table, record.server, facts.server)
            .trim_end()
            .to_owned(),
        format!(
            "  rows      {rows}, {}, in {}",
            size(facts.bytes),
            counted(facts.leaves.len() as u64, "table")
        ),
        format!("  row key   {}", if key.is_empty() { "none".to_owned() } else { key.join(", ") }),
        format!("  from      {from}, {secret} version {old}"),
    ];
    if run.has_new_key() {
        lines.push(format!("  to        {to}, {secret} version {new}"));
        lines.push(format!("  2nd copy  {}", copy.map_or_else(no_copy, copy_words)));
    } else {
        // The old key may be of another kind.
        let kind = if to == "reseal" { " --kind key" } else { "" };
        lines.push(format!("  to        {to}, no new key yet: `reseal generate {secret}{kind} --pending`"));
    }
    if run.is_begun() {
        lines.push(format!("  run       {} is unfinished and would go on", record.plan.run));
    }
    if is_known {
        lines.push(format!(
            "  estimate  {}, {} of write-ahead log, {} more on disk until vacuum",
            span(Duration::from_secs(estimated_seconds(run, survey))),
            size(facts.rows.saturating_mul(WAL_PER_ROW)),
            size(facts.bytes)
        ));
    }
    lines.push(format!("  {} rows sampled:", count(survey.census.rows)));
    lines.extend(
        census_table(record, &survey.census, &["column id"])
            .to_string()
            .lines()
            .map(|line| format!("    {line}")),
    );
    lines.extend(facts.warnings.iter().map(|warning| format!("  warning   {warning}")));
    for refusal in &facts.refusals {
        lines.push(format!("  REFUSED   {refusal}"));
        lines.extend(refusal.hint().map(|hint| format!("            {hint}")));
    }
    lines.join("\n") + "\n"
}

pub(super) fn verify_object(run: &ColumnRun, found: &Verification) -> Value {
    let record = run.record();
    let columns: Vec<Value> = record
        .plan
        .columns
        .iter()
        .zip(&found.census.columns)
        .map(|(column, census)| {
            json!({
                "name": column.name,
                "null": census.null,
                "old": census.old,
                "new": census.new,
                "unopened": census.unopened(),
                "empty": census.empty(),
                "unopened_by_reason": reasons_object(&census.left),
            })
        })
        .collect();
    json!({
        "name": record.columns,
        "run": run.is_begun().then(|| record.plan.run.to_string()),
        "keys": keys_object(record),
        "rows": found.census.rows,
        "old": found.census.old(),
        "new": found.census.opened_new(),
        "unopened": found.census.unopened(),
        "empty": found.census.empty(),
        "write_suppressed": found.census.suppressed(),
        "same_plaintexts_as_run": run.is_begun().then_some(found.digest_equal),
        "census": columns,
    })
}

pub(super) fn verify_words(run: &ColumnRun, found: &Verification) -> String {
    let record = run.record();
    let (secret, old, new) = record.keys().unwrap_or_default();
    let mut words = format!(
        "{}: {} rows read under one snapshot, {secret} version {new}\n{}",
        record.columns,
        count(found.census.rows),
        census_table(record, &found.census, &[])
    );
    if run.is_begun() && found.digest_equal {
        words.push_str("the plaintexts are exactly those that the run read\n");
    }
    words.push_str(&empty_words(&found.census));
    if found.census.old() > 0 {
        let _ =
            writeln!(words, "{} values are still under {secret} version {old}", count(found.census.old()));
    }
    words
}

pub(super) fn status_table() -> Table {
    Table::new(&["columns", "#", "kind", "state", "key versions", "begun", "values rewritten", "quarantined"])
}

pub(super) fn status_row(table: &mut Table, record: &RunRecord, told: Option<&Status>) {
    let (_, old, new) = record.keys().unwrap_or_default();
    let numbers = told.map(|status| (count(rewritten(status)), count(status.quarantine.faults())));
    let (rewritten, quarantined) = numbers.unwrap_or_else(|| ("-".to_owned(), "-".to_owned()));
    table.row([
        record.columns.clone(),
        record.number.to_string(),
        record.kind().to_owned(),
        record.state.name().to_owned(),
        format!("{old} to {new}"),
        when::show(record.begun_at),
        rewritten,
        quarantined,
    ]);
}

/// What a run left as it was, by reason, and value by value where a list was asked for.
pub(super) fn left_words(
    record: &RunRecord,
    told: Option<&Status>,
    list: Option<&[QuarantineRecord]>,
) -> String {
    let Some(status) = told.filter(|status| status.quarantine.total() > 0) else { return String::new() };
    let mut words = format!("{}: left as they are\n", record.columns);
    let found = Reason::ALL.into_iter().filter(|reason| status.quarantine.of(*reason) > 0);
    for reason in found {
        let _ = writeln!(
            words,
            "  {:>9} {:<18} {}",
            count(status.quarantine.of(reason)),
            reason.code(),
            reason.words()
        );
    }
    let Some(list) = list else {
        let _ = writeln!(words, "`reseal reencrypt status {} --quarantine` lists them", record.columns);
        return words;
    };
    let mut table = Table::new(&["table", "column", "row", "reason"]);
    for value in list {
        table.row([&value.relation, &value.column, &row_words(record, value), value.reason.code()]);
    }
    let _ = write!(words, "{table}");
    if let left @ 1.. = status.quarantine.total().saturating_sub(list.len() as u64) {
        let _ = writeln!(words, "and {} more", count(left));
    }
    words
}

fn row_words(record: &RunRecord, value: &QuarantineRecord) -> String {
    match value.row_words(record.plan.key.iter().map(|key| key.name.as_str())) {
        none if none.is_empty() => "-".to_owned(),
        row => row,
    }
}

pub(super) fn status_object(
    record: &RunRecord,
    told: Option<&Status>,
    list: Option<&[QuarantineRecord]>,
) -> Value {
    json!({
        "name": record.columns,
        "run": record.plan.run.to_string(),
        "number": record.number,
        "direction": record.plan.direction.name(),
        "state": record.state.name(),
        "unfinished": record.is_unfinished(),
        "keys": keys_object(record),
        "begun_at": when::show(record.begun_at),
        "ended_at": record.ended_at.map(when::show),
        "database": told.map(|status| json!({
            "state": status.standing.state.name(),
            "pass": status.standing.pass,
            "spans": status.spans.len(),
            "spans_done": status.spans.iter().filter(|span| span.is_done()).count(),
            "batches": status.spans.iter().map(|span| span.seq).sum::<u64>(),
            "rewritten": rewritten(status),
            "quarantined": status.quarantine.faults(),
            "empty": status.quarantine.of(Reason::Empty),
            "quarantined_by_reason": reasons_object(&status.quarantine),
            "quarantine": list.map(|list| list.iter().map(|value| json!({
                "relation": value.relation,
                "column": value.column,
                "row": row_words(record, value),
                "reason": value.reason.code(),
            })).collect::<Vec<_>>()),
        })),
    })
}

fn census_table(record: &RunRecord, census: &Census, more: &[&str]) -> Table {
    let with_id = !more.is_empty();
    let mut head = vec!["column", "old key", "new key", "NULL", "left as they are"];
    head.extend(more);
    let mut table = Table::new(&head);
    for (column, counted) in record.plan.columns.iter().zip(&census.columns) {
        let mut bad = counted.left.total().to_string();
        let reasons: Vec<_> = Reason::ALL
            .into_iter()
            .filter(|reason| counted.left.of(*reason) > 0)
            .map(|reason| format!("{} {}", counted.left.of(reason), reason.code()))
            .collect();
        if !reasons.is_empty() {
            bad = reasons.join(", ");
        }
        let mut row =
            vec![column.name.clone(), count(counted.old), count(counted.new), count(counted.null), bad];
        row.extend(with_id.then(|| column.id.to_string()));
        table.row(row);
    }
    table
}

/// Says that empty values stay; nothing if there are none.
fn empty_words(census: &Census) -> String {
    match census.empty() {
        0 => String::new(),
        empty => left(empty, "empty value") + "\n",
    }
}

/// `1 value left as it is`, `2 values left as they are`.
fn left(number: u64, what: &str) -> String {
    let they_are = if number == 1 { "it is" } else { "they are" };
    format!("{} left as {they_are}", counted(number, what))
}

/// `1 batch`, `2 batches`.
fn counted(number: u64, what: &str) -> String {
    match (number, what.ends_with(['s', 'h'])) {
        (1, _) => format!("1 {what}"),
        (_, true) => format!("{} {what}es", count(number)),
        (_, false) => format!("{} {what}s", count(number)),
    }
}

fn keys_object(record: &RunRecord) -> Value {
    record
        .keys()
        .map_or(Value::Null, |(secret, old, new)| json!({ "secret": secret, "old": old, "new": new }))
}

fn tallies_object(record: &RunRecord, tallies: &[Tally]) -> Value {
    let columns = record.plan.columns.iter().zip(tallies);
    let object = columns.map(|(column, tally)| (column.name.clone(), json!(tally))).collect::<Map<_, _>>();
    Value::Object(object)
}

fn reasons_object(counts: &ByReason) -> Value {
    let found = Reason::ALL.into_iter().filter(|reason| counts.of(*reason) > 0);
    Value::Object(found.map(|reason| (reason.code().to_owned(), counts.of(reason).into())).collect())
}

fn copy_words(copy: &SecondCopy) -> String {
    match copy {
        SecondCopy::Backup { file } => format!("in {file}"),
        SecondCopy::Waived { reason } => format!("waived: {reason}"),
    }
}

fn no_copy() -> String {
    "none: `reseal backup create FILE` before the run".to_owned()
}

fn rewritten(status: &Status) -> u64 {
    status.spans.iter().flat_map(|span| &span.tallies).map(|tally| tally.rewritten).sum()
}

fn estimated_seconds(run: &ColumnRun, survey: &Survey) -> u64 {
    let columns = &run.record().plan.columns;
    let is_slow = columns
        .iter()
        .any(|column| column.from.spec.name() == "pgcrypto" || column.to.spec.name() == "pgcrypto");
    let per_second = if is_slow { PGCRYPTO_VALUES_PER_SECOND } else { CHEAP_VALUES_PER_SECOND };
    survey.facts.rows.saturating_mul(columns.len() as u64).div_ceil(per_second)
}
