//! CHECK constraints over the columns of a run: would they take the new values?

use reseal_formats::ColumnType;
use tokio_postgres::Row;
use tokio_postgres::types::Type;

use super::session::PostgresSession;
use super::sql::quoted;
use crate::error::EngineError;
use crate::finding::{Refusal, Warning};
use crate::survey::TableFacts;

impl PostgresSession {
    /// Tries constraints on lengths with stand-ins as long as the longest new value; names the others.
    pub(super) async fn judge_checks(&self, facts: &mut TableFacts) -> Result<(), EngineError> {
        let columns: Vec<&str> = self.job.column_names().collect();
        let found =
            self.rows(CONSTRAINTS, &[(&self.table(), Type::TEXT), (&columns, Type::TEXT_ARRAY)]).await?;
        if found.is_empty() {
            return Ok(());
        }
        let stand_ins = self.stand_ins().await?;
        for row in &found {
            let (name, expression): (String, String) = (row.get(0), row.get(1));
            if name.starts_with("reseal_fence_") {
                facts.refusals.push(Refusal::Fence(name));
            } else if !expression.contains("length") {
                let text = format!("constraint `{name}` judges the new values: {expression}");
                facts.warnings.push(Warning::Other(text));
            } else if !self.holds(&expression, &stand_ins).await? {
                facts.refusals.push(Refusal::Check { constraint: name, column: row.get(2) });
            }
        }
        Ok(())
    }

    /// Whether a constraint holds for a row of the table with stand-ins in the columns of the run.
    async fn holds(&self, expression: &str, stand_ins: &str) -> Result<bool, EngineError> {
        let statement = format!("SELECT ({expression}) IS NOT FALSE FROM ({stand_ins}) AS x");
        let rows: Vec<Row> = self.rows(&statement, &[]).await?;
        Ok(rows.iter().all(|row| row.get(0)))
    }

    /// One row of the table, with values as long as the longest will be in the columns of the run.
    async fn stand_ins(&self) -> Result<String, EngineError> {
        let all = self.rows(COLUMNS, &[(&self.table(), Type::TEXT)]).await?;
        let mut fields = Vec::with_capacity(all.len());
        for row in &all {
            let name: &str = row.get(0);
            let planned = self.job.plan.columns.iter().find(|column| column.name == name);
            let Some(column) = planned else {
                fields.push(format!("t.{}", quoted(name)));
                continue;
            };
            let longest = self.longest(name, column.column_type).await?;
            let longest = usize::try_from(longest).unwrap_or(usize::MAX);
            let needed = column
                .from
                .spec
                .grown_len(&column.to.spec, column.column_type, longest)
                .map_err(|error| EngineError::Plan(format!("column `{name}`: {error}")))?;
            let value = match column.column_type {
                ColumnType::Text => format!("repeat('x', {needed})"),
                ColumnType::Bytes => format!("convert_to(repeat('x', {needed}), 'UTF8')"),
            };
            fields.push(format!("{value} AS {}", quoted(name)));
        }
        Ok(format!("SELECT {} FROM {} AS t LIMIT 1", fields.join(", "), self.table()))
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
    SELECT a.attname::text FROM pg_attribute a
     WHERE a.attrelid = to_regclass($1) AND a.attnum > 0 AND NOT a.attisdropped ORDER BY a.attnum";
