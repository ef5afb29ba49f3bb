//! Every secret of the vault and of the plan, and what is kept of their services.

use std::collections::BTreeMap;

use reseal_vault::{NamePattern, SecretName, SnapshotInfo, Timestamp, Vault};

use super::stands::{Known, Stands};
use crate::error::RotateError;
use crate::plan::{Plan, Secret};
use crate::rotation::{Rotation, owed, rotations};

/// How everything stands at a moment.
#[derive(Debug)]
pub struct Overview {
    /// Every secret, by its name in the vault.
    pub secrets: Vec<Stands>,
    /// What `before` commands of the plan keep as snapshots, by name.
    pub kept: Vec<KeptOutput>,
}

/// What a `before` command with `save` keeps.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeptOutput {
    /// Its name, as `save` gives it.
    pub name: String,
    /// The secrets whose rotations make it, by their names in the plan.
    pub secrets: Vec<String>,
    /// When the last whole one was taken.
    pub taken_at: Option<Timestamp>,
    /// Its length in bytes.
    pub len: u64,
}

impl Overview {
    /// Looks at the whole vault, and at what the plan says about it. Releases no value.
    ///
    /// # Errors
    ///
    /// [`RotateError::Vault`]; [`RotateError::Name`] for a name of the plan that cannot stand in the vault;
    /// [`RotateError::Record`] for a rotation that cannot be read.
    pub fn of(plan: Option<&Plan>, vault: &mut Vault, now: Timestamp) -> Result<Self, RotateError> {
        let mut owed: BTreeMap<String, _> =
            owed(vault)?.into_iter().map(|owed| (owed.secret.clone(), owed)).collect();
        let mut last = last_rotations(vault)?;
        let mut planned = planned(plan)?;
        let environment = plan.and_then(|plan| plan.file.environment);
        let mut secrets = Vec::new();
        let mut known = |secret: SecretName, planned: Option<(String, Secret)>, held| {
            let (name, settings) = planned.unzip();
            let (owed, last) = (owed.remove(secret.as_str()), last.remove(secret.as_str()));
            let settings = settings.unwrap_or_default();
            Stands::new(Known { secret, name, settings, environment, held, owed, last }, now)
        };
        for (info, current) in vault.overview(&NamePattern::all())? {
            let of_plan = planned.remove(&info.name);
            secrets.push(known(info.name.clone(), of_plan, Some((info, current))));
        }
        for (secret, of_plan) in planned {
            secrets.push(known(secret, Some(of_plan), None));
        }
        secrets.sort_by(|a, b| a.secret.cmp(&b.secret));
        let kept = match plan {
            Some(plan) => kept_outputs(plan, vault)?,
            None => Vec::new(),
        };
        Ok(Self { secrets, kept })
    }
}

/// The last whole snapshot of everything that a `before` command of the plan keeps, by name.
///
/// # Errors
///
/// [`RotateError::Vault`].
pub fn kept_outputs(plan: &Plan, vault: &mut Vault) -> Result<Vec<KeptOutput>, RotateError> {
    let mut kept: BTreeMap<String, KeptOutput> = BTreeMap::new();
    for secret in plan.file.secrets.keys() {
        for name in plan.secret(secret)?.before.into_iter().filter_map(|command| command.save) {
            let none = KeptOutput { name: name.clone(), secrets: Vec::new(), taken_at: None, len: 0 };
            kept.entry(name).or_insert(none).secrets.push(secret.clone());
        }
    }
    if kept.is_empty() {
        return Ok(Vec::new());
    }
    // The oldest first: the last one stays.
    for SnapshotInfo { name, created_at, len, .. } in
        vault.snapshots()?.into_iter().filter(|snapshot| snapshot.complete)
    {
        if let Some(kept) = kept.get_mut(&name) {
            (kept.taken_at, kept.len) = (Some(created_at), len);
        }
    }
    Ok(kept.into_values().collect())
}

fn planned(plan: Option<&Plan>) -> Result<BTreeMap<SecretName, (String, Secret)>, RotateError> {
    let Some(plan) = plan else { return Ok(BTreeMap::new()) };
    let names = plan.file.secrets.keys();
    names.map(|name| Ok((plan.secret_name(name).parse()?, (name.clone(), plan.secret(name)?)))).collect()
}

fn last_rotations(vault: &mut Vault) -> Result<BTreeMap<String, Rotation>, RotateError> {
    // In the order of their numbers: the last one stays.
    Ok(rotations(vault)?.into_iter().map(|rotation| (rotation.secret.clone(), rotation)).collect())
}
