//! What a plan needs to know of a table before there is a job: its name, its key, the types of its columns.

use reseal_crypto::ColumnId;
use reseal_formats::ColumnType;
use tokio_postgres::types::{ToSql, Type};
use tokio_postgres::{Client, Row};

use super::connect::PostgresTarget;
use super::sql::{BEGIN_READ, quoted, reduce};
use crate::error::EngineError;
use crate::finding::Refusal;
use crate::plan::{KeyColumn, KeyType, TableName, TableShape};

const DESCRIBING: &str = "read the shape of the table";

/// Reads the shape of a table. A survey judges whether the columns of `key` are a key.
///
/// # Errors
///
/// [`EngineError::Database`] if the server cannot be read, [`EngineError::Refused`] if there is no such table or column,
/// or if a column holds neither text nor bytes.
pub async fn describe(
    target: &PostgresTarget,
    wanted: &TableName,
    columns: &[String],
    key: Option<&[String]>,
) -> Result<TableShape, EngineError> {
    let client = target.connect("reseal").await?;
    client.batch_execute(BEGIN_READ).await.map_err(|error| reduce(DESCRIBING, error))?;
    let relation = format!("{}.{}", quoted(&wanted.schema), quoted(&wanted.name));
    let known = rows(&client, "SELECT to_regclass($1) IS NOT NULL", &[(&relation, Type::TEXT)]).await?;
    if !known.first().is_some_and(|row| row.get(0)) {
        return Err(EngineError::Refused(vec![Refusal::NoTable(wanted.to_string())]));
    }
    let key = match key {
        None => key_columns(&client, &relation, columns).await?,
        Some(names) => {
            let mut key = Vec::with_capacity(names.len());
            for name in names {
                let kind = key_type(&type_of(&client, &relation, name).await?);
                key.push(KeyColumn { name: name.clone(), kind });
            }
            key
        }
    };
    let mut types = Vec::with_capacity(columns.len());
    for column in columns {
        let found = type_of(&client, &relation, column).await?;
        let refusal = || Refusal::ColumnType { column: column.clone(), found: found.clone() };
        types.push(column_type(&found).ok_or_else(|| EngineError::Refused(vec![refusal()]))?);
    }
    let ids = known_ids(&client, &relation, columns).await?;
    Ok(TableShape { table: wanted.clone(), key, columns: types, ids })
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

/// The ids under which earlier runs recorded the columns.
async fn known_ids<T: AsRef<str>>(
    client: &Client,
    relation: &str,
    columns: &[T],
) -> Result<Vec<Option<ColumnId>>, EngineError> {
    if rows(client, RECORDS, &[]).await?.is_empty() {
        return Ok(vec![None; columns.len()]);
    }
    let statement = "SELECT column_name, column_id FROM reseal.column WHERE relation = $1";
    let found = rows(client, statement, &[(&relation, Type::TEXT)]).await?;
    let id = |column: &T| {
        let row = found.iter().find(|row| row.get::<_, &str>(0) == column.as_ref())?;
        row.get::<_, &[u8]>(1).try_into().ok().map(ColumnId)
    };
    Ok(columns.iter().map(id).collect())
}

/// The base type of a column.
async fn type_of(client: &Client, relation: &str, column: &str) -> Result<String, EngineError> {
    let found = rows(client, COLUMN, &[(&relation, Type::TEXT), (&column, Type::TEXT)]).await?;
    let missing = || EngineError::Refused(vec![Refusal::NoColumn(column.into())]);
    Ok(found.first().ok_or_else(missing)?.get(0))
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

/// The table of ids, if it is one: a view could run anything with our rights.
const RECORDS: &str = "
    SELECT 1 FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
     WHERE n.nspname = 'reseal' AND c.relname = 'column' AND c.relkind = 'r'
       AND has_schema_privilege(n.oid, 'USAGE') AND has_table_privilege(c.oid, 'SELECT')";

const COLUMN: &str = "
    SELECT format_type(coalesce(nullif(t.typbasetype, 0), t.oid), NULL)
      FROM pg_attribute a JOIN pg_type t ON t.oid = a.atttypid
     WHERE a.attrelid = to_regclass($1) AND a.attname = $2 AND a.attnum > 0 AND NOT a.attisdropped";
