//! What abandoned rotations left: values that a service may let in until a later rotation has ended them.
//!
//! Nothing is stored about them. The journal knows which rotations were abandoned, and that one which is done brought out its
//! value and only that: what was left before is over with it.

use std::collections::BTreeSet;

use reseal_crypto::SecretBytes;
use reseal_vault::{SecretName, Vault, VaultError, VersionSelector, VersionState};

use super::record::{Rotation, State};
use crate::error::RotateError;

/// A value that an abandoned rotation left.
#[derive(Debug, Clone)]
pub(super) struct LeftOver {
    /// Its version in the vault.
    pub(super) version: u64,
    /// What it is.
    pub(super) value: SecretBytes,
}

/// The values that the rotations of a secret left, the oldest of them first; none that is one of `known`, which are in use.
/// Releases them.
pub(super) fn left_over(
    vault: &mut Vault,
    secret: &SecretName,
    rotations: &[Rotation],
    known: &[&SecretBytes],
) -> Result<Vec<LeftOver>, RotateError> {
    let mut left: Vec<LeftOver> = Vec::new();
    for version in versions(rotations) {
        if !can_be_released(vault, secret, version)? {
            continue;
        }
        let value = vault.get(secret, VersionSelector::Number(version))?.value;
        if !known.contains(&&value) && left.iter().all(|other| other.value != value) {
            left.push(LeftOver { version, value });
        }
    }
    Ok(left)
}

/// The versions between which the rotations of a secret were abandoned, since the last one that is done.
fn versions(rotations: &[Rotation]) -> BTreeSet<u64> {
    let mut left = BTreeSet::new();
    for rotation in rotations {
        match rotation.state {
            State::Abandoned => left.extend([rotation.from, rotation.to]),
            State::Done => left.clear(),
            _ => {}
        }
    }
    left
}

/// Whether the vault still has the value of a version.
pub(super) fn can_be_released(
    vault: &mut Vault,
    secret: &SecretName,
    version: u64,
) -> Result<bool, RotateError> {
    match vault.version(secret, VersionSelector::Number(version)) {
        Err(VaultError::NotFound { .. }) => Ok(false),
        version => Ok(version?.state != VersionState::Destroyed),
    }
}
