//! Spans in the file: their records, and who works on them.

use reseal_crypto::random::{OsRandom, Random};
use rusqlite::{CachedStatement, Connection, OptionalExtension, Row, params};

use super::connection::Doing;
use crate::batch::Position;
use crate::error::EngineError;
use crate::ledger::{Digest, SealedSpan, SpanRecord, Tally};
use crate::plan::Job;
use crate::store::Claim;
use crate::verified::Lease;

/// Seconds after which the lease of a worker that does not commit goes to another. Losing it costs a batch, no more.
const LEASE_SECONDS: i64 = 30;

const FIELDS: &str = "pass, number, relation, incarnation, lo, hi, next, seq, counters, digest, mac";

/// Records the spans of a pass.
pub(super) fn insert(connection: &Connection, job: &Job, spans: &[SealedSpan]) -> Result<(), EngineError> {
    let sql = format!(
        "INSERT INTO reseal_span (run_id, {FIELDS}) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12)"
    );
    let mut statement = connection.prepare_cached(&sql).doing("record the spans")?;
    for span in spans {
        let SpanRecord { pass, number, relation, incarnation, lo, hi, next, seq, tallies, digest } =
            span.record();
        let fields = params![
            job.plan.run.0,
            pass,
            number.cast_signed(),
            relation,
            incarnation.cast_signed(),
            lo.0,
            hi.0,
            next.0,
            seq.cast_signed(),
            counters(tallies),
            digest.0,
            span.mac(),
        ];
        statement.execute(fields).doing("record the spans")?;
    }
    Ok(())
}

/// Every span of the run, in order.
pub(super) fn all(connection: &Connection, job: &Job) -> Result<Vec<SealedSpan>, EngineError> {
    let sql = format!("SELECT {FIELDS} FROM reseal_span WHERE run_id = ?1 ORDER BY pass, number");
    let mut statement = prepare(connection, &sql)?;
    let spans = statement.query_map([job.plan.run.0], parse).doing("read the spans")?;
    spans.collect::<rusqlite::Result<_>>().doing("read the spans")
}

/// Takes every lease of the run away.
pub(super) fn take_over(connection: &Connection, job: &Job) -> Result<(), EngineError> {
    let sql =
        "UPDATE reseal_span SET lease = NULL, lease_until = NULL WHERE run_id = ?1 AND lease IS NOT NULL";
    connection.execute(sql, [job.plan.run.0]).doing("take over the spans").map(drop)
}

/// Leases the first span of a pass that is neither done nor leased.
pub(super) fn claim(
    connection: &Connection,
    job: &Job,
    pass: u32,
    incarnation: u64,
) -> Result<Claim, EngineError> {
    let sql = format!(
        "SELECT {FIELDS} FROM reseal_span WHERE run_id = ?1 AND pass = ?2 AND next < hi \
         AND (lease IS NULL OR lease_until < unixepoch()) ORDER BY number LIMIT 1"
    );
    let found =
        prepare(connection, &sql)?.query_row(params![job.plan.run.0, pass], parse).optional().doing(DOING)?;
    let Some(span) = found else {
        let sql = "SELECT EXISTS (SELECT 1 FROM reseal_span WHERE run_id = ?1 AND pass = ?2 AND next < hi)";
        let open: bool = prepare(connection, sql)?
            .query_row(params![job.plan.run.0, pass], |row| row.get(0))
            .doing(DOING)?;
        return Ok(if open { Claim::Busy } else { Claim::Done });
    };
    let span = span.open(job.plan.run, &job.keys)?;
    if span.incarnation != incarnation {
        return Ok(Claim::Stale);
    }
    let mut token = [0; 16];
    OsRandom.fill(&mut token)?;
    let sql = "UPDATE reseal_span SET lease = ?4, lease_until = unixepoch() + ?5 \
         WHERE run_id = ?1 AND pass = ?2 AND number = ?3";
    let fields = params![job.plan.run.0, pass, span.number.cast_signed(), token, LEASE_SECONDS];
    prepare(connection, sql)?.execute(fields).doing(DOING)?;
    Ok(Claim::Leased(Lease { span, token }))
}

/// Gives a lease back.
pub(super) fn release(connection: &Connection, job: &Job, lease: &Lease) -> Result<(), EngineError> {
    let sql = "UPDATE reseal_span SET lease = NULL, lease_until = NULL \
         WHERE run_id = ?1 AND pass = ?2 AND number = ?3 AND lease = ?4";
    let fields = params![job.plan.run.0, lease.span.pass, lease.span.number.cast_signed(), lease.token];
    prepare(connection, sql)?.execute(fields).doing("give a span back").map(drop)
}

/// Whether the lease is still good: the fence of a write.
pub(super) fn holds(connection: &Connection, job: &Job, lease: &Lease) -> Result<bool, EngineError> {
    let sql = "SELECT EXISTS (SELECT 1 FROM reseal_span \
         WHERE run_id = ?1 AND pass = ?2 AND number = ?3 AND lease = ?4 AND seq = ?5)";
    prepare(connection, sql)?.query_row(fence(job, lease), |row| row.get(0)).doing(DOING)
}

/// Puts the span's new record in the place of the one that the lease was given for.
pub(super) fn advance(
    connection: &Connection,
    job: &Job,
    lease: &Lease,
    span: &SealedSpan,
) -> Result<(), EngineError> {
    let sql = "UPDATE reseal_span SET next = ?6, seq = ?7, counters = ?8, digest = ?9, mac = ?10, \
         lease_until = unixepoch() + ?11 \
         WHERE run_id = ?1 AND pass = ?2 AND number = ?3 AND lease = ?4 AND seq = ?5";
    let record = span.record();
    let fields = params![
        job.plan.run.0,
        lease.span.pass,
        lease.span.number.cast_signed(),
        lease.token,
        lease.span.seq.cast_signed(),
        record.next.0,
        record.seq.cast_signed(),
        counters(&record.tallies),
        record.digest.0,
        span.mac(),
        LEASE_SECONDS,
    ];
    match prepare(connection, sql)?.execute(fields).doing("record the batch")? {
        1 => Ok(()),
        _ => Err(EngineError::Conflict("the span of a batch was taken away inside its transaction".into())),
    }
}

const DOING: &str = "lease a span";

fn prepare<'c>(connection: &'c Connection, sql: &str) -> Result<CachedStatement<'c>, EngineError> {
    connection.prepare_cached(sql).doing("read the spans")
}

fn fence<'a>(job: &'a Job, lease: &'a Lease) -> impl rusqlite::Params + use<'a> {
    (
        job.plan.run.0,
        lease.span.pass,
        lease.span.number.cast_signed(),
        lease.token,
        lease.span.seq.cast_signed(),
    )
}

fn parse(row: &Row<'_>) -> rusqlite::Result<SealedSpan> {
    let record = SpanRecord {
        pass: row.get(0)?,
        number: row.get::<_, i64>(1)?.cast_unsigned(),
        relation: row.get(2)?,
        incarnation: row.get::<_, i64>(3)?.cast_unsigned(),
        lo: Position(row.get(4)?),
        hi: Position(row.get(5)?),
        next: Position(row.get(6)?),
        seq: row.get::<_, i64>(7)?.cast_unsigned(),
        tallies: tallies(&row.get::<_, String>(8)?),
        digest: Digest(row.get(9)?),
    };
    Ok(SealedSpan::stored(record, row.get(10)?))
}

/// Six numbers a column, in the order of [`Tally::to_array`]; columns end with a semicolon.
fn counters(tallies: &[Tally]) -> String {
    let column = |tally: &Tally| tally.to_array().map(|count| count.to_string()).join(" ") + ";";
    tallies.iter().map(column).collect()
}

/// Reads what [`counters`] gave. Anything else becomes counts that the MAC does not match.
fn tallies(counters: &str) -> Vec<Tally> {
    let column = |text: &str| {
        let counts: Vec<u64> = text.split(' ').map_while(|count| count.parse().ok()).collect();
        Tally::from_array(counts.try_into().unwrap_or_default())
    };
    counters.split_terminator(';').map(column).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_read_back() {
        let some = Tally::from_array([21, 1, 2, 3, 4, 11]);
        assert_eq!(counters(&[some, Tally::default()]), "21 1 2 3 4 11;0 0 0 0 0 0;");
        assert_eq!(tallies(&counters(&[some, Tally::default()])), [some, Tally::default()]);
        assert_eq!(tallies("1 2 x;"), [Tally::default()]);
    }
}
