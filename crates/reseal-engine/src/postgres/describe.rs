//! What a plan needs to know of a table before there is a job: its name, its key, the types of its columns.

use reseal_formats::ColumnType;
use tokio_postgres::types::Type;

use super::connect::PostgresTarget;
use super::sql::{BEGIN_READ, reduce};
use crate::error::EngineError;
use crate::finding::Refusal;
use crate::plan::{KeyColumn, KeyType, TableName};

const DESCRIBING: &str = "read the shape of the table";

/// What a plan needs to know of a table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TableShape {
    /// The name as the catalog spells it.
    pub table: TableName,
    /// The primary key, or else a unique key that cannot be NULL; empty if there is neither.
    pub key: Vec<KeyColumn>,
    /// How the columns that were asked for hold their values.
    pub columns: Vec<ColumnType>,
}

/// The key columns of a table in their order: of the primary key, or else of the first unique index over plain columns
/// that cannot be NULL.
const KEY: &str = "
    SELECT a.attname::text, coalesce(nullif(t.typbasetype, 0), t.oid)::oid
      FROM (SELECT i.indrelid, i.indkey
              FROM pg_index i
             WHERE i.indrelid = $1 AND i.indisunique AND i.indisvalid AND i.indpred IS NULL AND i.indexprs IS NULL
               AND NOT EXISTS (SELECT 1 FROM pg_attribute n
                                WHERE n.attrelid = i.indrelid AND n.attnum = ANY (i.indkey::int2[])
                                  AND NOT n.attnotnull)
             ORDER BY i.indisprimary DESC, i.indnatts, i.indexrelid LIMIT 1) AS best
      CROSS JOIN LATERAL unnest(best.indkey::int2[]) WITH ORDINALITY AS k (attnum, place)
      JOIN pg_attribute a ON a.attrelid = best.indrelid AND a.attnum = k.attnum
      JOIN pg_type t ON t.oid = a.atttypid
     ORDER BY k.place";

const COLUMN: &str = "
    SELECT coalesce(nullif(t.typbasetype, 0), t.oid)::oid, format_type(a.atttypid, a.atttypmod)
      FROM pg_attribute a JOIN pg_type t ON t.oid = a.atttypid
     WHERE a.attrelid = $1 AND a.attname = $2::text::name AND a.attnum > 0 AND NOT a.attisdropped";

/// Reads the shape of a table.
///
/// # Errors
///
/// [`EngineError::Database`] if the server cannot be read, [`EngineError::Refused`] if there is no such table or column,
/// or if a column holds neither text nor bytes.
pub async fn describe(
    target: &PostgresTarget,
    wanted: &TableName,
    columns: &[String],
) -> Result<TableShape, EngineError> {
    let client = target.connect("reseal").await?;
    let failed = |error| EngineError::from(reduce(DESCRIBING, error));
    client.batch_execute(BEGIN_READ).await.map_err(failed)?;
    let found = client
        .query_typed(
            "SELECT c.oid FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
              WHERE n.nspname = $1::text::name AND c.relname = $2::text::name AND c.relkind IN ('r', 'p', 'f', 'v', 'm')",
            &[(&wanted.schema, Type::TEXT), (&wanted.name, Type::TEXT)],
        )
        .await
        .map_err(failed)?;
    let Some(row) = found.first() else {
        return Err(EngineError::Refused(vec![Refusal::NoTable(wanted.to_string())]));
    };
    let relation: u32 = row.get(0);
    let keys = client.query_typed(KEY, &[(&relation, Type::OID)]).await.map_err(failed)?;
    let key = keys.iter().map(|row| KeyColumn { name: row.get(0), kind: key_type(row.get(1)) }).collect();
    let mut types = Vec::with_capacity(columns.len());
    for column in columns {
        let found = client
            .query_typed(COLUMN, &[(&relation, Type::OID), (column, Type::TEXT)])
            .await
            .map_err(failed)?;
        let row =
            found.first().ok_or_else(|| EngineError::Refused(vec![Refusal::NoColumn(column.clone())]))?;
        types.push(column_type(column, row.get(0), row.get(1))?);
    }
    client.batch_execute("COMMIT").await.map_err(failed)?;
    Ok(TableShape { table: wanted.clone(), key, columns: types })
}

fn column_type(column: &str, oid: u32, shown: &str) -> Result<ColumnType, EngineError> {
    match Type::from_oid(oid) {
        Some(Type::BYTEA) => Ok(ColumnType::Bytes),
        Some(Type::TEXT | Type::VARCHAR) => Ok(ColumnType::Text),
        // Extensions have no fixed number.
        _ if shown == "citext" || shown.ends_with(".citext") => Ok(ColumnType::Text),
        _ => Err(EngineError::Refused(vec![Refusal::ColumnType {
            column: column.into(),
            found: shown.into(),
        }])),
    }
}

fn key_type(oid: u32) -> KeyType {
    match Type::from_oid(oid) {
        Some(Type::INT2 | Type::INT4 | Type::INT8) => KeyType::Integer,
        Some(Type::TEXT | Type::VARCHAR) => KeyType::Text,
        Some(Type::BYTEA) => KeyType::Bytes,
        Some(Type::UUID) => KeyType::Uuid,
        _ => KeyType::Other,
    }
}
