//! A table that gets a row per rotation, as people and auditors read it.
//!
//! A row is found again by what was rotated and when: the moment is fixed before the row is written, so that it is
//! written once however often that is tried.

use serde::{Deserialize, Serialize};

use super::Session;
use super::session::quoted;
use crate::services::ServiceError;

/// A row of such a table.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RotationRow {
    /// `credential_type`: what was rotated.
    pub credential: String,
    /// `rotated_by`: who did it.
    pub by: String,
    /// `rotation_reason`: why.
    pub reason: String,
    /// `next_rotation_due`: when it is next, as RFC 3339; `None` for a credential that never is.
    pub due: Option<String>,
    /// `rotated_at`: when it was, to the microsecond.
    pub at: String,
}

impl Session {
    /// Shows that rows can be read and written; `table` has its schema, if that is not `public`.
    ///
    /// # Errors
    ///
    /// [`ServiceError::Failed`] for a table that is not there or has other columns, [`ServiceError::Rights`].
    pub async fn check_records(&self, table: &str) -> Result<(), ServiceError> {
        let table = name(table);
        let columns = format!(
            "SELECT credential_type, rotated_by, rotation_reason, next_rotation_due, rotated_at FROM {table} LIMIT 0"
        );
        self.rows("look at the table of rotations", &columns, &[]).await?;
        let rights = "SELECT has_table_privilege($1, 'INSERT')";
        let row = self.first("look at the table of rotations", rights, &[&table]).await?;
        match row.map(|row| self.column(&row, 0)).transpose()? {
            Some(true) => Ok(()),
            _ => Err(ServiceError::Rights {
                node: self.node().to_owned(),
                needs: format!("INSERT on {table} for `{}`", self.user()),
            }),
        }
    }

    /// Whether this row is there.
    ///
    /// # Errors
    ///
    /// [`ServiceError`] if the server does not say.
    pub async fn has_record(&self, table: &str, row: &RotationRow) -> Result<bool, ServiceError> {
        let query = format!("SELECT FROM {} WHERE {SAME}", name(table));
        let found = self.first("read the table of rotations", &query, &[&row.credential, &row.at]).await?;
        Ok(found.is_some())
    }

    /// Writes this row, unless it is there.
    ///
    /// # Errors
    ///
    /// [`ServiceError::Rights`], [`ServiceError::Failed`].
    pub async fn add_record(&self, table: &str, row: &RotationRow) -> Result<(), ServiceError> {
        let table = name(table);
        let insert = format!(
            "INSERT INTO {table} (credential_type, rotated_at, rotated_by, rotation_reason, next_rotation_due)
             SELECT $1, $2::timestamptz, $3, $4, nullif($5, '')::timestamptz
             WHERE NOT EXISTS (SELECT FROM {table} WHERE {SAME})"
        );
        let due = row.due.as_deref().unwrap_or_default();
        let values = [&row.credential, &row.at, &row.by, &row.reason, due];
        self.rows("write the table of rotations", &insert, &values).await.map(drop)
    }

    /// Takes this row away. One that may not be deleted stays: such a table keeps what was written to it.
    ///
    /// # Errors
    ///
    /// [`ServiceError::Failed`].
    pub async fn remove_record(&self, table: &str, row: &RotationRow) -> Result<(), ServiceError> {
        let delete = format!("DELETE FROM {} WHERE {SAME}", name(table));
        match self.rows("write the table of rotations", &delete, &[&row.credential, &row.at]).await {
            Ok(_) | Err(ServiceError::Rights { .. }) => Ok(()),
            Err(error) => Err(error),
        }
    }
}

/// The row of this credential and this moment.
const SAME: &str = "credential_type = $1 AND rotated_at = $2::timestamptz";

fn name(table: &str) -> String {
    let (schema, name) = table.split_once('.').unwrap_or(("public", table));
    format!("{}.{}", quoted(schema), quoted(name))
}
