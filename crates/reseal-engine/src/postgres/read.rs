//! Reads rows by block range, in binary COPY.

use futures_util::TryStreamExt;

use super::copy::Collector;
use super::position::{Stripe, tid_literal};
use super::session::PostgresSession;
use super::sql::{reduce, row_expressions};
use crate::batch::{Batch, Position};
use crate::error::EngineError;
use crate::ledger::ScanRange;
use crate::store::{Filter, ReadLimits};

const READING: &str = "read rows";

impl PostgresSession {
    pub(super) async fn read_rows(
        &mut self,
        range: &ScanRange,
        from: &Position,
        limits: ReadLimits,
        filter: Filter,
    ) -> Result<Batch, EngineError> {
        let wide = self.leaf(&range.relation).await?.wide;
        self.in_read_transaction(async |session| session.copy_rows(range, from, limits, filter, wide).await)
            .await
    }

    async fn copy_rows(
        &mut self,
        range: &ScanRange,
        from: &Position,
        limits: ReadLimits,
        filter: Filter,
        wide: bool,
    ) -> Result<Batch, EngineError> {
        let limits = ReadLimits { bytes: limits.bytes.max(1), ..limits };
        let test = self.filter_test(filter, &range.relation).await?;
        let statement = self.copy_statement(range, from, limits, test, wide)?;
        let stream = self.client.copy_out(&statement).await.map_err(|error| reduce(READING, error))?;
        let mut stream = std::pin::pin!(stream);
        let room = (limits.rows * self.row_bytes).min(limits.bytes);
        let mut rows = Collector::new(&self.job, limits.rows, room);
        let mut cut = false;
        while let Some(message) = stream.try_next().await.map_err(|error| reduce(READING, error))? {
            rows.take(&message)?;
            if rows.bytes() >= limits.bytes {
                // What is left of the stream is discarded by the connection, row by row.
                cut = true;
                break;
            }
        }
        self.row_bytes = rows.bytes() / rows.rows().max(1);
        // A short answer means that nothing is left, unless the byte limit made it short.
        let exhausted = !cut && rows.rows() < limits.rows && (!wide || rows.rows() == 0);
        let stripe = Stripe::of(range);
        let end = match stripe {
            _ if exhausted => None,
            Stripe::Whole => rows.after_last(),
            // A row of a page that is read half may be met again behind its other half, once it is rewritten.
            Stripe::Hashed(_) | Stripe::Ending(_) => rows.end_with_block(),
        };
        Ok(rows.finish(end.map_or_else(|| range.hi.clone(), |locator| stripe.position(locator))))
    }

    fn copy_statement(
        &self,
        range: &ScanRange,
        from: &Position,
        limits: ReadLimits,
        test: Option<String>,
        wide: bool,
    ) -> Result<String, EngineError> {
        let expressions = row_expressions(&self.job);
        let relation = &range.relation;
        let (lo, hi) = (tid_literal(from)?, tid_literal(&range.hi)?);
        let tests = [test, Stripe::of(range).condition(&self.job)];
        let only: String = tests.iter().flatten().map(|test| format!(" AND {test}")).collect();
        let list = expressions.join(", ");
        let rows = limits.rows;
        let select = format!(
            "SELECT t.ctid, t.xmin, {list} FROM ONLY {relation} AS t WHERE t.ctid >= {lo} AND t.ctid < {hi}{only} LIMIT {rows}"
        );
        if !wide {
            return Ok(format!("COPY ({select}) TO STDOUT (FORMAT binary)"));
        }
        // Large values: the server adds up their lengths, which needs no value to be fetched, and stops in time.
        let names: Vec<String> = (0..expressions.len()).map(|index| format!("x{index}")).collect();
        let (names, size) = (names.join(", "), self.size_expression());
        let budget = limits.bytes;
        Ok(format!(
            "COPY (SELECT ctid, xmin, {names} FROM (SELECT *, sum({size}) OVER (ORDER BY ctid ROWS UNBOUNDED PRECEDING) - {size} AS before
             FROM ({select}) AS r(ctid, xmin, {names})) AS s WHERE before < {budget} ORDER BY ctid) TO STDOUT (FORMAT binary)"
        ))
    }

    /// The test for rows that a filter lets through; `None` if it does so with all of them.
    async fn filter_test(&self, filter: Filter, relation: &str) -> Result<Option<String>, EngineError> {
        if filter == Filter::All {
            return Ok(None);
        }
        let wrote = match self.own.as_ref().filter(|own| own.knows(relation)) {
            Some(own) => own.wrote(relation, &self.meaning(relation).await?),
            None => None,
        };
        // In this order: to look an id up is cheap, and the server would do it last.
        Ok(match (wrote, self.not_new.as_deref()) {
            (Some(wrote), not_new) => {
                Some(format!("CASE WHEN {wrote} THEN false ELSE {} END", not_new.unwrap_or("true")))
            }
            (None, not_new) => not_new.map(str::to_owned),
        })
    }

    /// Bytes of the columns of the plan in a row of the inner select.
    fn size_expression(&self) -> String {
        let keys = self.job.plan.key.len();
        let sizes: Vec<String> = (0..self.job.plan.columns.len())
            .map(|column| format!("coalesce(octet_length(x{}), 0)", keys + column))
            .collect();
        format!("({})", sizes.join(" + "))
    }
}
