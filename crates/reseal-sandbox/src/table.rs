//! The encrypted table of the runbook: made, filled, read back.

use std::fmt::Write;
use std::ops::RangeInclusive;
use std::pin::pin;

use futures_util::TryStreamExt;
use futures_util::future::try_join_all;
use tokio_postgres::binary_copy::BinaryCopyInWriter;
use tokio_postgres::error::SqlState;
use tokio_postgres::types::{ToSql, Type};
use tokio_postgres::{Client, Config, Row};

use crate::error::SandboxError;
use crate::postgres::connect;
use crate::seal::{Key, Sealer};
use crate::values::{COLUMNS, Cell, Values};

/// Rows that are sealed and sent at a time.
const CHUNK: usize = 4096;

/// How the encrypted columns hold their values.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ColumnType {
    /// `text`: base64 of a pgcrypto message, a Fernet token, an envelope as text.
    #[default]
    Text,
    /// `bytea`.
    Bytes,
}

/// The table `crm_client_preferences` and the two functions that the runbook's application encrypts with.
///
/// ```text
/// id bigint primary key | client_id bigint | email_encrypted | phone_number_encrypted | full_name_encrypted |
/// version bigint | updated_at timestamptz
/// ```
///
/// `version` is the application's own counter: it names the write that a row was last changed by.
#[derive(Debug, Clone, Copy, Default)]
pub struct Table {
    /// Type of the encrypted columns.
    pub column_type: ColumnType,
}

/// The row of the table as stored; a `None` is a NULL.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredRow {
    /// Primary key.
    pub id: i64,
    /// The application's counter.
    pub version: i64,
    /// The stored bytes of the encrypted columns.
    pub cells: [Option<Vec<u8>>; 3],
}

impl Table {
    /// The table's name.
    pub const NAME: &'static str = "crm_client_preferences";

    /// Creates the table, the extension pgcrypto and the two functions.
    ///
    /// # Errors
    ///
    /// [`SandboxError::MissingExtension`] if pgcrypto is not installed; [`SandboxError::Sql`].
    pub async fn create(&self, client: &Client) -> Result<(), SandboxError> {
        create_functions(client).await?;
        let kind = self.sql_type();
        let columns = COLUMNS.map(|column| format!("{column} {kind}")).join(", ");
        let name = Self::NAME;
        let statement = format!(
            "CREATE TABLE {name} (id bigint PRIMARY KEY, client_id bigint NOT NULL, {columns},
                 version bigint NOT NULL DEFAULT 0, updated_at timestamptz NOT NULL DEFAULT now())"
        );
        Ok(client.batch_execute(&statement).await?)
    }

    /// Loads rows whose values the database itself encrypts by `encrypt_sensitive_data`, over several connections.
    ///
    /// Slow on purpose of the functions: 1,000 to 3,000 rows per second and core.
    ///
    /// # Errors
    ///
    /// [`SandboxError::Sql`].
    pub async fn load_by_functions(
        &self,
        config: &Config,
        connections: usize,
        ids: RangeInclusive<i64>,
        values: Values,
        key: &str,
    ) -> Result<(), SandboxError> {
        let all: Vec<i64> = ids.collect();
        let share = all.len().div_ceil(connections.max(1)).max(1);
        try_join_all(all.chunks(share).map(|ids| insert_by_functions(config, ids, values, key))).await?;
        Ok(())
    }

    /// Loads rows whose values the caller encrypts under the old key, by `COPY`.
    ///
    /// # Errors
    ///
    /// [`SandboxError::Sql`], [`SandboxError::Seal`].
    pub async fn load(
        &self,
        client: &Client,
        ids: RangeInclusive<i64>,
        values: Values,
        sealer: &dyn Sealer,
    ) -> Result<(), SandboxError> {
        let copy = format!("COPY {} (id, client_id, {}) FROM STDIN BINARY", Self::NAME, COLUMNS.join(", "));
        let kind = self.wire_type();
        let types = [Type::INT8, Type::INT8, kind.clone(), kind.clone(), kind];
        let mut writer = pin!(BinaryCopyInWriter::new(client.copy_in(&copy).await?, &types));
        let all: Vec<i64> = ids.collect();
        for chunk in all.chunks(CHUNK) {
            for (&id, cells) in chunk.iter().zip(self.seal_rows(chunk, values, sealer)?) {
                let client_id = client_of(id);
                let row: [&(dyn ToSql + Sync); 5] = [&id, &client_id, &*cells[0], &*cells[1], &*cells[2]];
                writer.as_mut().write(&row).await?;
            }
        }
        writer.finish().await?;
        Ok(())
    }

    /// Reads the whole table in one snapshot, in no order, and hands its rows over in chunks.
    ///
    /// # Errors
    ///
    /// [`SandboxError::Sql`].
    pub async fn scan(
        &self,
        client: &Client,
        mut each: impl FnMut(&[StoredRow]),
    ) -> Result<(), SandboxError> {
        let statement = format!("SELECT id, version, {} FROM {}", COLUMNS.join(", "), Self::NAME);
        let mut rows = pin!(client.query_raw(&statement, std::iter::empty::<i64>()).await?);
        let mut chunk = Vec::with_capacity(CHUNK);
        while let Some(row) = rows.try_next().await? {
            chunk.push(self.stored_row(&row)?);
            if chunk.len() == CHUNK {
                each(&chunk);
                chunk.clear();
            }
        }
        each(&chunk);
        Ok(())
    }

    /// The runbook's one statement: every value decrypted with the old key and encrypted with the new one, in SQL.
    /// Only rows with ids within the range.
    ///
    /// # Errors
    ///
    /// [`SandboxError::Sql`].
    pub async fn runbook_update(
        &self,
        client: &Client,
        ids: RangeInclusive<i64>,
        old: &str,
        new: &str,
    ) -> Result<u64, SandboxError> {
        let mut statement = format!("UPDATE {} SET", Self::NAME);
        for (index, column) in COLUMNS.into_iter().enumerate() {
            let comma = if index == 0 { "" } else { "," };
            // Writing to a string does not fail.
            let _ = write!(
                statement,
                "{comma} {column} = encrypt_sensitive_data(decrypt_sensitive_data({column}, $1), $2)"
            );
        }
        statement.push_str(" WHERE id BETWEEN $3 AND $4");
        Ok(client.execute(&statement, &[&old, &new, ids.start(), ids.end()]).await?)
    }

    pub(crate) fn sql_type(&self) -> &'static str {
        match self.column_type {
            ColumnType::Text => "text",
            ColumnType::Bytes => "bytea",
        }
    }

    /// The value as a parameter: bytes that are text go over the wire as text.
    pub(crate) fn parameter(&self, stored: Vec<u8>) -> Result<Box<dyn ToSql + Sync + Send>, SandboxError> {
        Ok(match self.column_type {
            ColumnType::Bytes => Box::new(stored),
            ColumnType::Text => Box::new(String::from_utf8(stored).map_err(|_| {
                SandboxError::Seal("a sealed value for a text column is not UTF-8".to_owned())
            })?),
        })
    }

    fn wire_type(&self) -> Type {
        match self.column_type {
            ColumnType::Text => Type::TEXT,
            ColumnType::Bytes => Type::BYTEA,
        }
    }

    fn seal_rows(
        &self,
        ids: &[i64],
        values: Values,
        sealer: &dyn Sealer,
    ) -> Result<Vec<[Box<dyn ToSql + Sync + Send>; 3]>, SandboxError> {
        let plaintexts: Vec<[String; 3]> = ids.iter().map(|&id| values.row(id, 0)).collect();
        let cells: Vec<(Cell, &str)> = ids
            .iter()
            .zip(&plaintexts)
            .flat_map(|(&id, row)| (0..3).map(move |column| (Cell { id, column }, &*row[column])))
            .collect();
        let mut sealed = seal(sealer, Key::Old, &cells)?.into_iter();
        let mut next = || self.parameter(sealed.next().unwrap_or_default());
        ids.iter().map(|_| Ok([next()?, next()?, next()?])).collect()
    }

    fn stored_row(&self, row: &Row) -> Result<StoredRow, SandboxError> {
        let cell = |index: usize| -> Result<Option<Vec<u8>>, SandboxError> {
            Ok(match self.column_type {
                ColumnType::Bytes => row.try_get(index)?,
                ColumnType::Text => row.try_get::<_, Option<String>>(index)?.map(String::into_bytes),
            })
        };
        let cells = [cell(2)?, cell(3)?, cell(4)?];
        Ok(StoredRow { id: row.try_get(0)?, version: row.try_get(1)?, cells })
    }
}

/// Makes the extension pgcrypto and the runbook's functions `encrypt_sensitive_data(text, key)` and
/// `decrypt_sensitive_data(text, key)`: `pgp_sym_encrypt` in base64 with line breaks, and its inverse.
///
/// # Errors
///
/// [`SandboxError::MissingExtension`] if pgcrypto is not installed; [`SandboxError::Sql`].
pub async fn create_functions(client: &Client) -> Result<(), SandboxError> {
    let made = client.batch_execute("CREATE EXTENSION IF NOT EXISTS pgcrypto").await;
    if let Err(error) = made {
        let missing = [SqlState::UNDEFINED_FILE, SqlState::FEATURE_NOT_SUPPORTED];
        if error.code().is_some_and(|code| missing.contains(code)) {
            return Err(SandboxError::MissingExtension {
                extension: "pgcrypto",
                package: "postgresql-contrib",
            });
        }
        return Err(error.into());
    }
    let functions = "
        CREATE OR REPLACE FUNCTION encrypt_sensitive_data(t text, k text) RETURNS text
            LANGUAGE sql VOLATILE STRICT AS $$ SELECT encode(pgp_sym_encrypt(t, k), 'base64') $$;
        CREATE OR REPLACE FUNCTION decrypt_sensitive_data(t text, k text) RETURNS text
            LANGUAGE sql IMMUTABLE STRICT AS $$ SELECT pgp_sym_decrypt(decode(t, 'base64'), k) $$;";
    Ok(client.batch_execute(functions).await?)
}

/// Calls the sealer and holds it to one result per value.
pub(crate) fn seal(
    sealer: &dyn Sealer,
    key: Key,
    cells: &[(Cell, &str)],
) -> Result<Vec<Vec<u8>>, SandboxError> {
    let sealed = sealer.seal_many(key, cells).map_err(|error| SandboxError::Seal(error.to_string()))?;
    if sealed.len() != cells.len() {
        return Err(SandboxError::Seal("the sealer lost values".to_owned()));
    }
    Ok(sealed)
}

/// The client that a row belongs to; about ten rows each.
pub(crate) fn client_of(id: i64) -> i64 {
    id / 10
}

async fn insert_by_functions(
    config: &Config,
    ids: &[i64],
    values: Values,
    key: &str,
) -> Result<(), SandboxError> {
    let client = connect(config).await?;
    let statement = format!(
        "INSERT INTO {} (id, client_id, {})
         SELECT id, client, encrypt_sensitive_data(a, $6), encrypt_sensitive_data(b, $6), encrypt_sensitive_data(c, $6)
           FROM unnest($1::bigint[], $2::bigint[], $3::text[], $4::text[], $5::text[]) AS u(id, client, a, b, c)",
        Table::NAME,
        COLUMNS.join(", "),
    );
    let statement = client.prepare(&statement).await?;
    for chunk in ids.chunks(CHUNK / 8) {
        let clients: Vec<i64> = chunk.iter().map(|&id| client_of(id)).collect();
        let column = |column| -> Vec<String> {
            chunk.iter().map(|&id| values.plaintext(Cell { id, column }, 0)).collect()
        };
        let parameters: [&(dyn ToSql + Sync); 6] =
            [&chunk, &clients, &column(0), &column(1), &column(2), &key];
        client.execute(&statement, &parameters).await?;
    }
    Ok(())
}
