//! What a plan needs to know of a table before there is a job: its name, its key, the types of its columns.

use reseal_formats::ColumnType;
use tokio_postgres::types::{ToSql, Type};
use tokio_postgres::{Client, Row};

use super::connect::PostgresTarget;
use super::sql::{BEGIN_READ, quoted, reduce};
use crate::error::EngineError;
use crate::finding::Refusal;
use crate::plan::{KeyColumn, KeyType, TableName};

const DESCRIBING: &str = "read the shape of the table";

/// What a plan needs to know of a table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TableShape {
    /// The name as the catalog spells it.
    pub table: TableName,
    /// The primary key, or else a unique key that cannot be NULL, without the columns that were asked for; empty if
    /// there is neither.
    pub key: Vec<KeyColumn>,
    /// How the columns that were asked for hold their values.
    pub columns: Vec<ColumnType>,
}

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
    client.batch_execute(BEGIN_READ).await.map_err(|error| reduce(DESCRIBING, error))?;
    let relation = format!("{}.{}", quoted(&wanted.schema), quoted(&wanted.name));
    let known = rows(&client, "SELECT to_regclass($1) IS NOT NULL", &[(&relation, Type::TEXT)]).await?;
    if !known.first().is_some_and(|row| row.get(0)) {
        return Err(EngineError::Refused(vec![Refusal::NoTable(wanted.to_string())]));
    }
    let key = key_columns(&client, &relation, columns).await?;
    let mut types = Vec::with_capacity(columns.len());
    for column in columns {
        types.push(type_of_column(&client, &relation, column).await?);
    }
    Ok(TableShape { table: wanted.clone(), key, columns: types })
}

/// The columns of the best key: unique, valid, whole, without expressions, NULLs or a column that is `written`; the
/// primary key first.
pub(super) async fn key_columns<T: AsRef<str>>(
    client: &Client,
    relation: &str,
    written: &[T],
) -> Result<Vec<KeyColumn>, EngineError> {
    let written: Vec<&str> = written.iter().map(AsRef::as_ref).collect();
    let found = rows(client, KEY, &[(&relation, Type::TEXT), (&written, Type::TEXT_ARRAY)]).await?;
    let column = |row: &Row| KeyColumn { name: row.get(0), kind: key_type(row.get(1)) };
    Ok(found.iter().map(column).collect())
}

/// How a type enters the row key.
pub(super) fn key_type(type_name: &str) -> KeyType {
    match type_name {
        "smallint" | "integer" | "bigint" => KeyType::Integer,
        "bytea" => KeyType::Bytes,
        "uuid" => KeyType::Uuid,
        _ if is_text(type_name) => KeyType::Text,
        _ => KeyType::Other,
    }
}

/// How a type holds ciphertext, if it can. Not `char(n)`, which pads.
pub(super) fn column_type(type_name: &str) -> Option<ColumnType> {
    match type_name {
        "bytea" => Some(ColumnType::Bytes),
        _ if is_text(type_name) => Some(ColumnType::Text),
        _ => None,
    }
}

/// An extension's type is shown with the schema it was made in.
fn is_text(type_name: &str) -> bool {
    matches!(type_name, "text" | "character varying") || type_name.ends_with(".citext")
}

async fn type_of_column(client: &Client, relation: &str, column: &str) -> Result<ColumnType, EngineError> {
    let found = rows(client, COLUMN, &[(&relation, Type::TEXT), (&column, Type::TEXT)]).await?;
    let refused = |refusal| EngineError::Refused(vec![refusal]);
    let row = found.first().ok_or_else(|| refused(Refusal::NoColumn(column.into())))?;
    let type_name: String = row.get(0);
    column_type(&type_name)
        .ok_or_else(|| refused(Refusal::ColumnType { column: column.into(), found: type_name }))
}

async fn rows(
    client: &Client,
    statement: &str,
    parameters: &[(&(dyn ToSql + Sync), Type)],
) -> Result<Vec<Row>, EngineError> {
    Ok(client.query_typed(statement, parameters).await.map_err(|error| reduce(DESCRIBING, error))?)
}

const KEY: &str = "
    SELECT a.attname::text, format_type(coalesce(nullif(t.typbasetype, 0), t.oid), NULL)
      FROM (SELECT i.indrelid, (i.indkey::int2[])[0:i.indnkeyatts - 1] AS attnums
              FROM pg_index i
             WHERE i.indrelid = to_regclass($1) AND i.indisunique AND i.indisvalid AND i.indimmediate
               AND i.indpred IS NULL AND i.indexprs IS NULL
               AND NOT EXISTS (SELECT FROM pg_attribute n WHERE n.attrelid = i.indrelid
                                  AND (NOT n.attnotnull OR n.attname = ANY ($2))
                                  AND n.attnum = ANY ((i.indkey::int2[])[0:i.indnkeyatts - 1]))
             ORDER BY i.indisprimary DESC, i.indnkeyatts, i.indexrelid LIMIT 1) AS best
     CROSS JOIN LATERAL unnest(best.attnums) WITH ORDINALITY AS k (attnum, place)
      JOIN pg_attribute a ON a.attrelid = best.indrelid AND a.attnum = k.attnum
      JOIN pg_type t ON t.oid = a.atttypid
     ORDER BY k.place";

const COLUMN: &str = "
    SELECT format_type(coalesce(nullif(t.typbasetype, 0), t.oid), NULL)
      FROM pg_attribute a JOIN pg_type t ON t.oid = a.atttypid
     WHERE a.attrelid = to_regclass($1) AND a.attname = $2 AND a.attnum > 0 AND NOT a.attisdropped";
