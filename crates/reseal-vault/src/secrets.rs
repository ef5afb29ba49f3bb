//! Putting secrets in and taking them out.

use std::collections::BTreeSet;

use reseal_crypto::{ColumnKey, Commitment, KeyHandle, KeyRef, SecretBytes};

use crate::audit::Event;
use crate::clock::Timestamp;
use crate::error::{Thing, VaultError};
use crate::model::{
    Expect, Label, Labels, NewVersion, SECRETS_MAX, Secret, SecretInfo, SecretKind, VALUE_MAX, VersionInfo,
    VersionSelector, VersionState,
};
use crate::name::{NamePattern, SecretName};
use crate::record::RecordKind;
use crate::shelf::{HandleRecord, HexBytes, SecretRecord, VersionRecord, parse};
use crate::store::{Change, View};
use crate::vault::Vault;

/// Values to keep out of what others say.
#[derive(Debug, Default)]
pub struct ToMask {
    /// The values.
    pub values: Vec<SecretBytes>,
    /// Secrets whose values cannot be read.
    pub unread: Vec<SecretName>,
}

impl Vault {
    /// Stores a version and returns its number; durable when it returns.
    ///
    /// # Errors
    ///
    /// [`VaultError::VersionConflict`] and [`VaultError::Exists`] if something else is there than expected, also a
    /// pending version where another is to be pending; [`VaultError::Refused`] for a value that is too long, empty
    /// (kind `file` may be) or no key, for a key that the vault holds already, and above 100,000 secrets.
    pub fn put(&mut self, name: &SecretName, new: NewVersion) -> Result<u64, VaultError> {
        let now = self.now();
        self.change(|change| {
            let number = put(change, name, new, now)?;
            Ok((number, Event::done("put").of(name).version(number)))
        })
    }

    /// Stores many versions in one transaction, all or none, with an audit entry for each.
    ///
    /// # Errors
    ///
    /// Those of [`put`](Self::put); nothing is stored then.
    pub fn put_all(
        &mut self,
        new: impl IntoIterator<Item = (SecretName, NewVersion)>,
    ) -> Result<Vec<(SecretName, u64)>, VaultError> {
        let now = self.now();
        self.change(|change| {
            let mut stored = Vec::new();
            for (name, new) in new {
                let number = put(change, &name, new, now)?;
                change.audit(Event::done("put").of(&name).version(number))?;
                stored.push((name, number));
            }
            let count = stored.len();
            Ok((stored, Event::done("import").detail(format!("{count} secrets"))))
        })
    }

    /// Releases a value. Its audit entry is durable before it is handed out.
    ///
    /// # Errors
    ///
    /// [`VaultError::NotFound`] for a secret, version or label that is not there, is deleted or destroyed.
    pub fn get(&mut self, name: &SecretName, version: VersionSelector) -> Result<Secret, VaultError> {
        self.change(|change| {
            let record = change.view.live_secret(name)?;
            let secret = release(&mut change.view, record, version)?;
            let event = Event::done("get").of(name).version(secret.version);
            Ok((secret, event))
        })
    }

    /// Releases the version that a plan froze.
    ///
    /// # Errors
    ///
    /// Those of [`get`](Self::get); [`VaultError::Name`] if the name of the reference is none.
    pub fn get_ref(&mut self, key: &KeyRef) -> Result<Secret, VaultError> {
        self.get(&key.secret.parse()?, VersionSelector::Number(key.version))
    }

    /// Releases the current value of every secret that the pattern covers, in the order of their names, in one
    /// transaction with an audit entry for each. All of them are in memory at once.
    ///
    /// Secrets without a current version are left out.
    ///
    /// # Errors
    ///
    /// [`VaultError::Tampered`], [`VaultError::Busy`].
    pub fn get_all(&mut self, pattern: &NamePattern) -> Result<Vec<Secret>, VaultError> {
        self.change(|change| {
            let records = covered(&mut change.view, pattern, false)?;
            let mut released = Vec::with_capacity(records.len());
            for record in records.into_iter().filter(|record| record.labels.current.is_some()) {
                let secret = release(&mut change.view, record, VersionSelector::Current)?;
                change.audit(Event::done("get").of(&secret.name).version(secret.version))?;
                released.push(secret);
            }
            let event = Event::done("export").detail(format!("{} secrets", released.len()));
            Ok((released, event))
        })
    }

    /// Releases what the labels of these secrets name, and their newest versions, of `longest` bytes at most, so that it can be kept out of what
    /// others say: in one transaction, with one audit entry for all.
    ///
    /// Secrets that are not there or deleted, and versions that are destroyed, are left out. A record that was tampered
    /// with does not keep the others from being masked: it is named.
    ///
    /// # Errors
    ///
    /// [`VaultError::Busy`], and all that is wrong with the vault as a whole.
    pub fn get_to_mask(&mut self, names: &[SecretName], longest: usize) -> Result<ToMask, VaultError> {
        self.change(|change| {
            let mut found = ToMask::default();
            for name in names {
                match values_to_mask(&mut change.view, name, longest, &mut found.values) {
                    Ok(()) => {}
                    Err(VaultError::NotFound { .. } | VaultError::Deleted(_)) => {}
                    Err(VaultError::Tampered(_)) => found.unread.push(name.clone()),
                    Err(error) => return Err(error),
                }
            }
            let event = Event::done("get to mask").detail(format!("{} values", found.values.len()));
            Ok((found, event))
        })
    }

    /// The secrets that the pattern covers, in the order of their names. Complete: the head says how many there are.
    ///
    /// # Errors
    ///
    /// [`VaultError::Tampered`].
    pub fn list(&mut self, pattern: &NamePattern, with_deleted: bool) -> Result<Vec<SecretInfo>, VaultError> {
        Ok(covered(&mut self.view()?, pattern, with_deleted)?.iter().map(SecretRecord::info).collect())
    }

    /// The secrets that the pattern covers and are not deleted, each with its current version if it has one, in the
    /// order of their names.
    ///
    /// # Errors
    ///
    /// [`VaultError::Tampered`].
    pub fn overview(
        &mut self,
        pattern: &NamePattern,
    ) -> Result<Vec<(SecretInfo, Option<VersionInfo>)>, VaultError> {
        let mut view = self.view()?;
        let mut secrets = Vec::new();
        for secret in covered(&mut view, pattern, false)? {
            let current = secret.labels.current.map(|number| view.version(&secret, number)).transpose()?;
            secrets.push((secret.info(), current.map(|current| current.info(&secret.labels))));
        }
        Ok(secrets)
    }

    /// One secret, deleted or not, without its values.
    ///
    /// # Errors
    ///
    /// [`VaultError::NotFound`], [`VaultError::Tampered`].
    pub fn show(&mut self, name: &SecretName) -> Result<SecretInfo, VaultError> {
        Ok(self.view()?.any_secret(name)?.info())
    }

    /// Every version of a secret from 1 on, without values.
    ///
    /// # Errors
    ///
    /// [`VaultError::NotFound`], [`VaultError::Tampered`].
    pub fn history(&mut self, name: &SecretName) -> Result<Vec<VersionInfo>, VaultError> {
        let mut view = self.view()?;
        let secret = view.any_secret(name)?;
        Ok(view.versions(&secret)?.iter().map(|version| version.info(&secret.labels)).collect())
    }

    /// One version without its value.
    ///
    /// # Errors
    ///
    /// [`VaultError::NotFound`], [`VaultError::Tampered`].
    pub fn version(
        &mut self,
        name: &SecretName,
        version: VersionSelector,
    ) -> Result<VersionInfo, VaultError> {
        let mut view = self.view()?;
        let secret = view.any_secret(name)?;
        let number = select(&secret, version)?;
        Ok(view.version(&secret, number)?.info(&secret.labels))
    }

    /// Which version has the column key of this handle.
    ///
    /// # Errors
    ///
    /// [`VaultError::Tampered`].
    pub fn key_by_handle(&mut self, handle: KeyHandle) -> Result<Option<KeyRef>, VaultError> {
        let record = self.view()?.handle(handle)?;
        Ok(record.map(|held| KeyRef { secret: held.name.to_string(), version: held.version }))
    }
}

pub(crate) fn put(
    change: &mut Change<'_>,
    name: &SecretName,
    new: NewVersion,
    now: Timestamp,
) -> Result<u64, VaultError> {
    let commitment = check_value(new.kind, &new.value)?;
    let mut secret = match change.view.secret(name)? {
        Some(secret) => existing(secret, &new)?,
        None => fresh(change, name, &new, now)?,
    };
    if let Some(commitment) = commitment {
        claim_handle(change, &secret, commitment)?;
    }
    secret.attributes.update(new.attributes);
    let version = VersionDraft {
        kind: new.kind,
        changed: new.changed_at,
        expires: new.expires_at,
        commitment,
        pending: new.pending,
    };
    append_version(change, &mut secret, version, &new.value, now)
}

/// What a version is, before it has a number.
pub(crate) struct VersionDraft {
    pub(crate) kind: SecretKind,
    pub(crate) changed: Option<Timestamp>,
    pub(crate) expires: Option<Timestamp>,
    pub(crate) commitment: Option<Commitment>,
    pub(crate) pending: bool,
}

/// Gives the draft the next number, stores it with its value, moves the labels, and stores the secret.
pub(crate) fn append_version(
    change: &mut Change<'_>,
    secret: &mut SecretRecord,
    draft: VersionDraft,
    value: &SecretBytes,
    now: Timestamp,
) -> Result<u64, VaultError> {
    let number = secret.latest + 1;
    let version = VersionRecord {
        number,
        kind: draft.kind,
        state: VersionState::Live,
        created: now,
        changed: draft.changed,
        expires: draft.expires,
        len: value.len() as u64,
        commitment: draft.commitment.map(|commitment| HexBytes(commitment.0.to_vec())),
        data_key: Some(change.put_value(secret, number, value)?),
    };
    change.put_version(secret, &version)?;
    secret.latest = number;
    if draft.pending {
        secret.labels.pending = Some(number);
    } else {
        secret.labels.advance(number);
    }
    change.put_secret(secret)?;
    Ok(number)
}

/// Checks length and form, and names the key if it is one.
fn check_value(kind: SecretKind, value: &SecretBytes) -> Result<Option<Commitment>, VaultError> {
    if value.len() > VALUE_MAX {
        return Err(VaultError::refused(format!(
            "the value has {} bytes, at most 16 MiB are kept",
            value.len()
        )));
    }
    // What was to write the value failed and wrote nothing, more often than not; a file may well be empty.
    if value.is_empty() && kind != SecretKind::File {
        return Err(VaultError::refused("the value is empty; only one of kind `file` may be"));
    }
    if kind != SecretKind::Key {
        return Ok(None);
    }
    // EXPOSE: copied into a key type that wipes itself.
    let key = ColumnKey::from_text(value.expose()).ok_or_else(|| {
        VaultError::refused("a value of kind `key` is 32 bytes as 43 characters of base64url without padding")
    })?;
    Ok(Some(key.commitment()))
}

fn existing(secret: SecretRecord, new: &NewVersion) -> Result<SecretRecord, VaultError> {
    let exists = |what| VaultError::Exists { what, name: secret.name.to_string() };
    let found = secret.labels.current.unwrap_or(0);
    match new.expect {
        Expect::CreateOnly => return Err(exists(Thing::Secret)),
        Expect::IfVersion(expected) if expected != found => {
            return Err(VaultError::VersionConflict { name: secret.name.to_string(), expected, found });
        }
        _ => {}
    }
    if secret.deleted.is_some() {
        return Err(exists(Thing::DeletedSecret));
    }
    if new.pending && secret.labels.pending.is_some() {
        return Err(exists(Thing::PendingVersion));
    }
    Ok(secret)
}

fn fresh(
    change: &Change<'_>,
    name: &SecretName,
    new: &NewVersion,
    now: Timestamp,
) -> Result<SecretRecord, VaultError> {
    if let Expect::IfVersion(expected @ 1..) = new.expect {
        return Err(VaultError::VersionConflict { name: name.to_string(), expected, found: 0 });
    }
    if change.view.head.count(RecordKind::Secret) >= SECRETS_MAX {
        return Err(VaultError::refused("a vault holds at most 100,000 secrets"));
    }
    let mut id = vec![0; 16];
    change.random().fill(&mut id)?;
    Ok(SecretRecord {
        name: name.clone(),
        id: HexBytes(id),
        created: now,
        deleted: None,
        latest: 0,
        labels: Labels::default(),
        attributes: crate::model::Attributes::default(),
    })
}

/// Notes that the next version of `secret` has this key.
///
/// Refused if any version has it, or another key with the same handle: values could not say which one sealed them.
fn claim_handle(
    change: &mut Change<'_>,
    secret: &SecretRecord,
    commitment: Commitment,
) -> Result<(), VaultError> {
    if let Some(held) = change.view.handle(commitment.handle())? {
        let HandleRecord { name, version, .. } = held;
        return Err(VaultError::refused(format!(
            "the vault holds this key already, as {name} version {version}"
        )));
    }
    let record = HandleRecord {
        name: secret.name.clone(),
        secret: secret.id.clone(),
        version: secret.latest + 1,
        commitment: HexBytes(commitment.0.to_vec()),
    };
    change.put_handle(commitment.handle(), &record)
}

pub(crate) fn select(secret: &SecretRecord, selector: VersionSelector) -> Result<u64, VaultError> {
    let label = match selector {
        VersionSelector::Number(number) => return Ok(number),
        VersionSelector::Current => Label::Current,
        VersionSelector::Label(label) => label,
    };
    let labelled = secret.labels.get(label);
    labelled.ok_or_else(|| VaultError::not_found(Thing::Version, format!("{} labelled {label}", secret.name)))
}

/// Adds the values of this secret that a label names, and the newest one, of `longest` bytes at most; what cannot be read
/// does not keep the others out.
fn values_to_mask(
    view: &mut View<'_>,
    name: &SecretName,
    longest: usize,
    values: &mut Vec<SecretBytes>,
) -> Result<(), VaultError> {
    let secret = view.live_secret(name)?;
    let Labels { current, pending, previous } = secret.labels;
    let newest = (secret.latest > 0).then_some(secret.latest);
    let numbers: BTreeSet<u64> = [current, pending, previous, newest].into_iter().flatten().collect();
    let mut result = Ok(());
    for number in numbers {
        match value_to_mask(view, &secret, number, longest) {
            Ok(value) => values.extend(value),
            Err(error) => result = Err(error),
        }
    }
    result
}

fn value_to_mask(
    view: &mut View<'_>,
    secret: &SecretRecord,
    number: u64,
    longest: usize,
) -> Result<Option<SecretBytes>, VaultError> {
    let version = view.version(secret, number)?;
    if version.data_key.is_none() || version.len > longest as u64 {
        return Ok(None);
    }
    Ok(Some(view.value(secret, &version)?))
}

fn release(
    view: &mut View<'_>,
    secret: SecretRecord,
    selector: VersionSelector,
) -> Result<Secret, VaultError> {
    let number = select(&secret, selector)?;
    let version = view.version(&secret, number)?;
    let value = view.value(&secret, &version)?;
    check_key(&version, &value)?;
    Ok(Secret {
        name: secret.name,
        version: number,
        kind: version.kind,
        state: version.state,
        env: secret.attributes.env,
        value,
    })
}

/// Compares a key with the commitment that was stored with it.
fn check_key(version: &VersionRecord, value: &SecretBytes) -> Result<(), VaultError> {
    if version.kind != SecretKind::Key {
        return Ok(());
    }
    let commitment = ColumnKey::from_text(value.expose()).map(|key| key.commitment());
    if commitment.is_some() && commitment == version.commitment() {
        return Ok(());
    }
    Err(VaultError::tampered("a key is not the one that its commitment names"))
}

fn covered(
    view: &mut View<'_>,
    pattern: &NamePattern,
    with_deleted: bool,
) -> Result<Vec<SecretRecord>, VaultError> {
    let mut covered = Vec::new();
    for json in view.all(RecordKind::Secret)? {
        let secret: SecretRecord = parse(&json)?;
        if pattern.covers(&secret.name) && (with_deleted || secret.deleted.is_none()) {
            covered.push(secret);
        }
    }
    covered.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(covered)
}
