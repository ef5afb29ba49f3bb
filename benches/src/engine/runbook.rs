//! The runbook: one UPDATE that decrypts with the old key and encrypts with the new one inside the database.

use reseal_sandbox::postgres::Server;

use super::data::{COLUMNS, NEW_PASSPHRASE, OLD_PASSPHRASE, TABLE};
use crate::BoxError;

/// Runs the statement over the whole table and checks that it changed every row.
pub(super) async fn update(server: &Server, rows: i64) -> Result<(), BoxError> {
    let client = server.connect().await?;
    let set = COLUMNS
        .map(|column| format!("{column} = encrypt_sensitive_data(decrypt_sensitive_data({column}, $1), $2)"));
    let statement = format!("UPDATE {TABLE} SET {}", set.join(", "));
    let changed = client.execute(&statement, &[&OLD_PASSPHRASE, &NEW_PASSPHRASE]).await?;
    if changed != rows as u64 {
        return Err(format!("the runbook's UPDATE changed {changed} of {rows} rows").into());
    }
    Ok(())
}
