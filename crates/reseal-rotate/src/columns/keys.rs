//! The two keys of a run: frozen versions of one secret.

use reseal_crypto::random::OsRandom;
use reseal_crypto::{ColumnKey, KeyMaterial, KeyRef, Keyring};
use reseal_engine::RunPlan;
use reseal_formats::FormatSpec;
use reseal_vault::{Label, SecretKind, SecretName, Vault, VaultError, VersionSelector, VersionState};

use crate::error::RotateError;

/// The old and the new key of a run that is not frozen yet.
#[derive(Debug)]
pub(super) struct KeyPair {
    pub(super) old: KeyRef,
    pub(super) new: KeyRef,
}

/// The current version of a secret, and the pending one, which has to be what `target` takes.
pub(super) fn labelled(
    vault: &mut Vault,
    secret: &SecretName,
    target: &FormatSpec,
) -> Result<KeyPair, RotateError> {
    let old = current(vault, secret)?;
    let needed = needed_kind(target);
    let Some(version) = vault.show(secret)?.labels.get(Label::Pending) else {
        return Err(RotateError::NoPendingKey { secret: secret.to_string(), kind: needed });
    };
    let found = vault.version(secret, VersionSelector::Number(version))?.kind;
    if let Some(kind) = needed.filter(|needed| *needed != found) {
        return Err(RotateError::WrongKind { secret: secret.to_string(), version, found, kind });
    }
    let new = KeyRef { secret: secret.to_string(), version };
    let [old_key, new_key] = [&old, &new].map(|key| vault.get_ref(key).map(|secret| secret.key_material()));
    // As a foreign format takes them: the text of a key is the same key.
    if old_key?.foreign_bytes() == new_key?.foreign_bytes() {
        return Err(RotateError::SameKey { secret: secret.to_string(), old: old.version, new: version });
    }
    Ok(KeyPair { old, new })
}

/// What a key of this format has to be; foreign formats take whatever decodes to their length.
pub(crate) fn needed_kind(target: &FormatSpec) -> Option<SecretKind> {
    matches!(target, FormatSpec::Reseal(_)).then_some(SecretKind::Key)
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
    release_all(vault, plan.columns.iter().flat_map(|column| [&column.from.key, &column.to.key]))
}

/// Whether the vault still has the keys that a plan names.
pub(super) fn are_kept(vault: &mut Vault, plan: &RunPlan) -> Result<bool, RotateError> {
    for key in plan.columns.iter().flat_map(|column| [&column.from.key, &column.to.key]) {
        if !is_kept(vault, &key.secret.parse()?, key.version)? {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Whether the vault still has the value of a version.
pub(crate) fn is_kept(vault: &mut Vault, secret: &SecretName, version: u64) -> Result<bool, RotateError> {
    match vault.version(secret, VersionSelector::Number(version)) {
        Err(VaultError::NotFound { .. }) => Ok(false),
        version => Ok(version?.state != VersionState::Destroyed),
    }
}

/// Releases these keys.
pub(super) fn release_all<'k>(
    vault: &mut Vault,
    keys: impl IntoIterator<Item = &'k KeyRef>,
) -> Result<Keyring, RotateError> {
    let mut keyring = Keyring::default();
    for key in keys {
        if keyring.get(key).is_none() {
            let name: SecretName = key.secret.parse()?;
            let secret = vault.get(&name, VersionSelector::Number(key.version))?;
            keyring.insert(key.clone(), secret.key_material())?;
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
