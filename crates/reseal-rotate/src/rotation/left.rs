//! What abandoned rotations left: values that a service may let in until a later rotation has ended them.
//!
//! Nothing is stored about them. The journal knows which rotations were abandoned, and that one which is done brought out its
//! value and only that: what was left before is over with it, as far as it could see. Like the value that it ended itself it
//! is looked for until the next one is done, since a replica that was down may come back with it.

use std::collections::BTreeSet;

use reseal_crypto::SecretBytes;
use reseal_vault::{SecretName, Vault, VersionSelector};

use super::record::{Rotation, State, rotations_of};
use crate::columns::is_kept;
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
        if !is_kept(vault, secret, version)? {
            continue;
        }
        let value = vault.get(secret, VersionSelector::Number(version))?.value;
        if !known.contains(&&value) && left.iter().all(|other| other.value != value) {
            left.push(LeftOver { version, value });
        }
    }
    Ok(left)
}

/// The versions that abandoned rotations left since the last but one that is done.
fn versions(rotations: &[Rotation]) -> BTreeSet<u64> {
    let last_done = rotations.iter().rposition(is_done).unwrap_or_default();
    &unended(rotations) | &unended(&rotations[..last_done])
}

/// The versions between which rotations were abandoned since the last one that is done.
fn unended(rotations: &[Rotation]) -> BTreeSet<u64> {
    let since = rotations.iter().rposition(is_done).map_or(0, |last| last + 1);
    let abandoned = rotations[since..].iter().filter(|rotation| rotation.state == State::Abandoned);
    abandoned.flat_map(|rotation| [rotation.from, rotation.to]).collect()
}

fn is_done(rotation: &Rotation) -> bool {
    rotation.state == State::Done
}

/// The versions of a secret that abandoned rotations left and no later one has ended: their values are needed to end them.
///
/// # Errors
///
/// [`RotateError::Vault`].
pub fn left_versions(vault: &mut Vault, secret: &SecretName) -> Result<BTreeSet<u64>, RotateError> {
    Ok(unended(&rotations_of(vault, secret.as_str())?))
}
