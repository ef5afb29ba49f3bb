//! The two keys of a run: frozen versions of one secret.

use reseal_crypto::random::OsRandom;
use reseal_crypto::{ColumnKey, KeyMaterial, KeyRef, Keyring};
use reseal_engine::RunPlan;
use reseal_formats::FormatSpec;
use reseal_vault::{Label, SecretName, Vault, VaultError, VersionSelector};

use crate::error::RotateError;

/// The old and the new key of a run that is not frozen yet.
#[derive(Debug)]
pub(super) struct KeyPair {
    pub(super) old: KeyRef,
    pub(super) new: KeyRef,
}

/// The current and the pending version of a secret.
pub(super) fn labelled(vault: &mut Vault, secret: &SecretName) -> Result<KeyPair, RotateError> {
    let old = current(vault, secret)?;
    match vault.show(secret)?.labels.get(Label::Pending) {
        Some(version) => Ok(KeyPair { old, new: KeyRef { secret: secret.to_string(), version } }),
        None => Err(RotateError::NoPendingKey { secret: secret.to_string() }),
    }
}

/// The current version of a secret.
pub(super) fn current(vault: &mut Vault, secret: &SecretName) -> Result<KeyRef, RotateError> {
    let missing = || RotateError::NoCurrentKey { secret: secret.to_string() };
    let info = match vault.show(secret) {
        Err(VaultError::NotFound { .. }) => return Err(missing()),
        other => other?,
    };
    let version = info.labels.get(Label::Current).ok_or_else(missing)?;
    Ok(KeyRef { secret: secret.to_string(), version })
}

/// Releases the keys that a plan names.
pub(super) fn release(vault: &mut Vault, plan: &RunPlan) -> Result<Keyring, RotateError> {
    let mut keyring = Keyring::default();
    for column in &plan.columns {
        for key in [&column.from.key, &column.to.key] {
            if keyring.get(key).is_none() {
                let name: SecretName = key.secret.parse()?;
                let secret = vault.get(&name, VersionSelector::Number(key.version))?;
                keyring.insert(key.clone(), secret.key_material())?;
            }
        }
    }
    Ok(keyring)
}

/// A key to look at a table with before the real one exists: nothing is ever written under it.
pub(super) fn stand_in(target: &FormatSpec, old: &KeyMaterial) -> Result<KeyMaterial, RotateError> {
    match (target, old) {
        (FormatSpec::Reseal(_), _) => Ok(KeyMaterial::Column(ColumnKey::generate(&OsRandom)?)),
        // A foreign format takes a key of the same form as the one that is in use.
        _ => Ok(old.clone()),
    }
}
