//! Rotations that are owed: a value was seen where it should not be, and has to change whatever its age.

use reseal_crypto::SecretBytes;
use reseal_vault::{Event, SecretName, Timestamp, Vault, VaultBatch};
use serde::{Deserialize, Serialize};

use crate::error::RotateError;

/// The kind of these records in the vault's journal.
const KIND: &str = "owed-rotation";

/// That a secret has to change at once.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Owed {
    /// The secret, by its name in the vault.
    pub secret: String,
    /// Why.
    pub reason: String,
    /// Since when.
    pub since: Timestamp,
}

/// Records that a secret has to change at once; its next rotation settles that.
///
/// # Errors
///
/// [`RotateError::Vault`], also for a secret that is not there.
pub fn owe(vault: &mut Vault, secret: &SecretName, reason: &str) -> Result<(), RotateError> {
    vault.batch(|batch| {
        put(batch, secret, reason)?;
        Ok(((), Event::done("owe rotation").of(secret).detail(reason)))
    })
}

/// The same as part of a transaction.
pub(super) fn put(
    batch: &mut VaultBatch<'_, '_>,
    secret: &SecretName,
    reason: &str,
) -> Result<(), RotateError> {
    batch.labels(secret)?;
    let owed = Owed { secret: secret.to_string(), reason: reason.to_owned(), since: batch.now() };
    let json = serde_json::to_vec(&owed).map_err(|_| RotateError::Record { run: owed.secret.clone() })?;
    Ok(batch.journal_put(KIND, &owed.secret, &SecretBytes::new(json))?)
}

/// Every rotation that is owed, by secret.
///
/// # Errors
///
/// [`RotateError::Vault`]; [`RotateError::Record`] if one cannot be read.
pub fn owed(vault: &mut Vault) -> Result<Vec<Owed>, RotateError> {
    let parse = |record: reseal_vault::JournalRecord| {
        // EXPOSE: names and reasons, no values.
        serde_json::from_slice(record.bytes.expose()).map_err(|_| RotateError::Record { run: record.id })
    };
    vault.journal_list(KIND)?.into_iter().map(parse).collect()
}

/// The secret has changed: nothing is owed any more.
pub(super) fn settle(batch: &mut VaultBatch<'_, '_>, secret: &str) -> Result<(), RotateError> {
    batch.journal_remove(KIND, secret)?;
    Ok(())
}
