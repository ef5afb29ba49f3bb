//! What columns take: their CHECK constraints and widths, tried on values as the run would write them.

use reseal_formats::ColumnType;
use tokio_postgres::types::{ToSql, Type};

use super::arrays::{Column, Raw, Source};
use super::position::{after, position_of};
use super::session::PostgresSession;
use super::sql::{quoted, reduce};
use crate::batch::Batch;
use crate::classify::Look;
use crate::error::EngineError;
use crate::finding::{Refusal, Warning};
use crate::ledger::ScanRange;
use crate::store::{Filter, ReadLimits};
use crate::survey::TableFacts;
use crate::transform::verify_on_pool;
use crate::verified::VerifiedBatch;

const TRYING: &str = "try a constraint on new values";
/// The longest values of each column are tried beside those of the sample, up to a size that is quickly sealed.
const LONGEST: usize = 4;
const LONGEST_BYTES: usize = 16 << 20;

/// A constraint of a leaf over columns of the run.
struct Constraint {
    name: String,
    expression: String,
    column: String,
}

impl PostgresSession {
    /// Fences that other runs left.
    pub(super) async fn judge_fences(&self, facts: &mut TableFacts) -> Result<(), EngineError> {
        let constraints = self.constraints(&self.table()).await?.into_iter();
        let fences = constraints.filter(|constraint| constraint.name.starts_with("reseal_fence_"));
        facts.refusals.extend(fences.map(|fence| Refusal::Fence(fence.name)));
        Ok(())
    }

    /// Seals the sample of a leaf, and its longest values, as the run would, and tries constraints and widths on them.
    /// What a compressed value grows to, no length of its message tells.
    pub(super) async fn judge_checks(
        &mut self,
        leaf: &str,
        sample: &Batch,
        facts: &mut TableFacts,
    ) -> Result<(), EngineError> {
        let find = async |session: &mut Self| session.constraints(leaf).await;
        let constraints = self.in_read_transaction(find).await?;
        if constraints.is_empty() && facts.widths.iter().all(Option::is_none) {
            return Ok(());
        }
        let mut batches = vec![sample.clone()];
        batches.extend(self.longest_rows(leaf).await?);
        for batch in batches {
            let sealed = verify_on_pool(self.job.clone(), batch, Look::OldFirst).await?;
            if sealed.changes().is_empty() {
                continue;
            }
            self.judge_sealed_widths(&sealed, facts);
            for constraint in &constraints {
                let found = self.try_constraint(leaf, constraint, &sealed, facts).await?;
                facts.refusals.extend(found.filter(|refusal| !facts.refusals.contains(refusal)));
            }
        }
        Ok(())
    }

    fn judge_sealed_widths(&self, sealed: &VerifiedBatch, facts: &mut TableFacts) {
        for ((column, cells), limit) in self.job.column_names().zip(sealed.sealed()).zip(facts.widths.clone())
        {
            let needed = cells.iter().flatten().map(|value| value.len() as u64).max();
            if let (Some(limit), Some(needed)) = (limit, needed) {
                facts.judge_width(column, limit, needed);
            }
        }
    }

    async fn try_constraint(
        &mut self,
        leaf: &str,
        constraint: &Constraint,
        sealed: &VerifiedBatch,
        facts: &mut TableFacts,
    ) -> Result<Option<Refusal>, EngineError> {
        let refusal =
            Refusal::Check { constraint: constraint.name.clone(), column: constraint.column.clone() };
        let tried = async |session: &mut Self| session.holds(leaf, &constraint.expression, sealed).await;
        match self.in_read_transaction(tried).await {
            Ok(true) => Ok(None),
            Ok(false) => Ok(Some(refusal)),
            // Class 23: the type of the column is a domain that does not take the value.
            Err(EngineError::Database(error))
                if error.code.as_deref().is_some_and(|c| c.starts_with("23")) =>
            {
                Ok(Some(refusal))
            }
            Err(EngineError::Database(error)) if error.code.is_some() && !error.is_connection() => {
                let text = format!("constraint `{}` could not be tried: {error}", constraint.name);
                let warning = Warning::Other(text);
                if !facts.warnings.contains(&warning) {
                    facts.warnings.push(warning);
                }
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    /// Whether an expression holds for rows of a leaf with new values in the columns of the run.
    async fn holds(&self, leaf: &str, expression: &str, sealed: &VerifiedBatch) -> Result<bool, EngineError> {
        let mut fields = Vec::new();
        for row in &self.rows(COLUMNS, &[(&leaf, Type::TEXT)]).await? {
            let (name, type_name): (&str, &str) = (row.get(0), row.get(1));
            let place = self.job.column_names().position(|column| column == name);
            fields.push(match place {
                Some(index) => format!("u.n{index}::{type_name} AS {}", quoted(name)),
                None => format!("t.{}", quoted(name)),
            });
        }
        let all: Vec<u32> = (0..sealed.changes().len() as u32).collect();
        let place = Column::new(Source::Tids(&sealed.batch().locators), sealed.changes(), &all);
        let values =
            sealed.sealed().iter().map(|cells| Column::new(Source::Sealed(cells), sealed.changes(), &all));
        let types = self.job.plan.columns.iter().map(|column| match column.column_type {
            ColumnType::Bytes => Type::BYTEA_ARRAY,
            ColumnType::Text => Type::TEXT_ARRAY,
        });
        let columns: Vec<(Column<'_>, Type)> =
            std::iter::once((place, Type::TID_ARRAY)).chain(values.zip(types)).collect();
        let parameters: Vec<(&(dyn ToSql + Sync), Type)> =
            columns.iter().map(|(column, ty)| (column as _, ty.clone())).collect();
        let arrays: Vec<String> = (1..=columns.len()).map(|number| format!("${number}")).collect();
        let names: String = (0..columns.len() - 1).map(|index| format!(", n{index}")).collect();
        let statement = format!(
            "SELECT coalesce(bool_and(({expression}) IS NOT FALSE), true)
               FROM (SELECT {} FROM unnest({}) AS u(tid{names}) JOIN ONLY {leaf} AS t ON t.ctid = u.tid) AS x",
            fields.join(", "),
            arrays.join(", "),
        );
        let row = self.client.query_typed_one(&statement, &parameters).await;
        Ok(row.map_err(|error| reduce(TRYING, error))?.get(0))
    }

    /// The rows with the longest values of each column.
    async fn longest_rows(&mut self, leaf: &str) -> Result<Vec<Batch>, EngineError> {
        let find = async |session: &mut Self| {
            let mut places = Vec::new();
            for column in session.job.column_names() {
                let column = quoted(column);
                let statement = format!(
                    "SELECT ctid FROM ONLY {leaf} WHERE octet_length({column}) < {LONGEST_BYTES}
                      ORDER BY octet_length({column}) DESC LIMIT {LONGEST}"
                );
                for row in &session.rows(&statement, &[]).await? {
                    let place = row.try_get::<_, Raw<'_>>(0).map_err(|error| reduce(TRYING, error))?;
                    places.extend(place.0.map(position_of).transpose()?);
                }
            }
            places.sort_unstable();
            places.dedup();
            Ok((session.leaf(leaf).await?.filenode, places))
        };
        let (incarnation, places) = self.in_read_transaction(find).await?;
        let mut rows = Vec::with_capacity(places.len());
        for lo in places {
            let hi = after(&lo)?;
            let range = ScanRange { relation: leaf.into(), incarnation, lo, hi };
            let limits = ReadLimits { rows: 1, bytes: LONGEST_BYTES };
            rows.push(self.read_rows(&range, &range.lo, limits, Filter::All).await?);
        }
        Ok(rows)
    }

    async fn constraints(&self, relation: &str) -> Result<Vec<Constraint>, EngineError> {
        let columns: Vec<&str> = self.job.column_names().collect();
        let found = self.rows(CONSTRAINTS, &[(&relation, Type::TEXT), (&columns, Type::TEXT_ARRAY)]).await?;
        let constraint = |row: &tokio_postgres::Row| Constraint {
            name: row.get(0),
            expression: row.get(1),
            column: row.get(2),
        };
        Ok(found.iter().map(constraint).collect())
    }
}

const CONSTRAINTS: &str = "
    SELECT c.conname::text, pg_get_expr(c.conbin, c.conrelid),
           (SELECT min(a.attname)::text FROM pg_attribute a
             WHERE a.attrelid = c.conrelid AND a.attnum = ANY (c.conkey) AND a.attname = ANY ($2::text[]))
      FROM pg_constraint c
     WHERE c.conrelid = to_regclass($1) AND c.contype = 'c' AND EXISTS (SELECT FROM pg_attribute a
           WHERE a.attrelid = c.conrelid AND a.attnum = ANY (c.conkey) AND a.attname = ANY ($2::text[]))
     ORDER BY 1";

const COLUMNS: &str = "
    SELECT a.attname::text, format_type(a.atttypid, NULL) FROM pg_attribute a
     WHERE a.attrelid = to_regclass($1) AND a.attnum > 0 AND NOT a.attisdropped ORDER BY a.attnum";
