//! What becomes of versions and secrets: promoted, reverted, deleted, retired, destroyed, renamed.
//!
//! ```text
//! version   live --> retired --> destroyed        live (neither current nor pending) --> destroyed
//! secret    live <--> deleted
//! ```
//!
//! A destroyed version loses its data key and its value for good; its number, dates and public commitment stay.

use crate::audit::Event;
use crate::clock::Timestamp;
use crate::error::{Thing, VaultError};
use crate::model::{Attributes, SecretKind, VersionSelector, VersionState};
use crate::name::SecretName;
use crate::record::RecordKind;
use crate::secrets::{VersionDraft, append_version, select};
use crate::shelf::{HandleRecord, SecretRecord, VersionRecord, secret_record_id, value_record_id};
use crate::store::Change;
use crate::vault::Vault;

impl Vault {
    /// Copies an old version forward as a new, current one, and returns its number. The age of the value stays.
    ///
    /// # Errors
    ///
    /// [`VaultError::NotFound`] if the version is not there or destroyed.
    pub fn revert(&mut self, name: &SecretName, to: u64) -> Result<u64, VaultError> {
        let now = self.now();
        self.change(|change| revert(change, name, to, now))
    }

    /// Makes the pending version the current one, and the current one the previous; returns its number.
    ///
    /// # Errors
    ///
    /// [`VaultError::NotFound`] if nothing is pending.
    pub fn promote(&mut self, name: &SecretName) -> Result<u64, VaultError> {
        self.change(|change| promote(change, name))
    }

    /// Takes the pending label away; the version stays, in case a service already has its value. Returns its number.
    ///
    /// # Errors
    ///
    /// [`VaultError::NotFound`] if nothing is pending.
    pub fn discard_pending(&mut self, name: &SecretName) -> Result<u64, VaultError> {
        self.change(|change| discard_pending(change, name))
    }

    /// Hides a secret until it is undeleted; nothing is lost.
    ///
    /// # Errors
    ///
    /// [`VaultError::NotFound`].
    pub fn delete(&mut self, name: &SecretName) -> Result<(), VaultError> {
        let now = self.now();
        self.change(|change| {
            let mut secret = change.view.live_secret(name)?;
            secret.deleted = Some(now);
            change.put_secret(&secret)?;
            Ok(((), Event::done("delete").of(name)))
        })
    }

    /// Brings a deleted secret back as it was.
    ///
    /// # Errors
    ///
    /// [`VaultError::NotFound`]; [`VaultError::Refused`] if it is not deleted.
    pub fn undelete(&mut self, name: &SecretName) -> Result<(), VaultError> {
        self.change(|change| {
            let mut secret = change.view.any_secret(name)?;
            if secret.deleted.take().is_none() {
                return Err(VaultError::refused(format!("`{name}` is not deleted")));
            }
            change.put_secret(&secret)?;
            Ok(((), Event::done("undelete").of(name)))
        })
    }

    /// Retires a version: it still opens what it sealed, and never seals again.
    ///
    /// # Errors
    ///
    /// [`VaultError::Refused`] while it is current or pending, or if it is destroyed.
    pub fn retire(&mut self, name: &SecretName, number: u64) -> Result<(), VaultError> {
        self.change(|change| Ok(((), retire(change, name, number)?)))
    }

    /// Destroys a version: its data key and value are gone when this returns, except from older copies of the file.
    ///
    /// For a column key `evidence` says why nothing needs it any more (a sweep newer than the oldest backup, replica and
    /// archive); it is kept in the audit log.
    ///
    /// # Errors
    ///
    /// [`VaultError::Refused`] while it is pending, or current in a secret that is not deleted; for a column key that is
    /// not retired or comes without evidence; if it is destroyed already.
    pub fn destroy(
        &mut self,
        name: &SecretName,
        number: u64,
        evidence: Option<&str>,
    ) -> Result<(), VaultError> {
        self.change(|change| {
            let mut secret = change.view.any_secret(name)?;
            let mut version = change.view.version(&secret, number)?;
            check_destroyable(&secret, &version, evidence)?;
            version.state = VersionState::Destroyed;
            version.data_key = None;
            change.put_version(&secret, &version)?;
            let id = value_record_id(change.keys(), &secret, number);
            change.remove(RecordKind::Value, id)?;
            release_handle(change, &secret, &version)?;
            forget_labels(change, &mut secret, number)?;
            let mut event = Event::done("destroy").of(name).version(number);
            event.detail = evidence.map(str::to_owned);
            Ok(((), event))
        })
    }

    /// Gives a secret another name; its versions and history stay with it.
    ///
    /// # Errors
    ///
    /// [`VaultError::NotFound`]; [`VaultError::Exists`] if the new name is taken.
    pub fn rename(&mut self, from: &SecretName, to: &SecretName) -> Result<(), VaultError> {
        self.change(|change| {
            let mut secret = change.view.live_secret(from)?;
            if change.view.secret(to)?.is_some() {
                return Err(VaultError::Exists { what: Thing::Secret, name: to.to_string() });
            }
            let old_id = secret_record_id(change.keys(), from);
            change.remove(RecordKind::Secret, old_id)?;
            secret.name = to.clone();
            change.put_secret(&secret)?;
            for commitment in change.view.versions(&secret)?.iter().filter_map(VersionRecord::commitment) {
                // A destroyed version let go of its handle, and another secret may have the key by now.
                let held = change.view.handle(commitment.handle())?;
                if let Some(handle) = held.filter(|held| held.secret == secret.id) {
                    change.put_handle(commitment.handle(), &HandleRecord { name: to.clone(), ..handle })?;
                }
            }
            Ok(((), Event::done("rename").of(from).detail(format!("to {to}"))))
        })
    }

    /// Replaces what is said about a secret.
    ///
    /// # Errors
    ///
    /// [`VaultError::NotFound`].
    pub fn set_attributes(&mut self, name: &SecretName, attributes: Attributes) -> Result<(), VaultError> {
        self.change(|change| {
            let mut secret = change.view.live_secret(name)?;
            secret.attributes = attributes;
            change.put_secret(&secret)?;
            Ok(((), Event::done("describe").of(name)))
        })
    }
}

pub(crate) fn revert(
    change: &mut Change<'_>,
    name: &SecretName,
    to: u64,
    now: Timestamp,
) -> Result<(u64, Event), VaultError> {
    let mut secret = change.view.live_secret(name)?;
    let old = change.view.version(&secret, to)?;
    let value = change.view.value(&secret, &old)?;
    let draft = VersionDraft {
        kind: old.kind,
        changed: old.changed,
        expires: old.expires,
        commitment: old.commitment(),
        pending: false,
    };
    let number = append_version(change, &mut secret, draft, &value, now)?;
    Ok((number, Event::done("revert").of(name).version(number).detail(format!("copy of version {to}"))))
}

pub(crate) fn promote(change: &mut Change<'_>, name: &SecretName) -> Result<(u64, Event), VaultError> {
    let mut secret = change.view.live_secret(name)?;
    let number = select(&secret, VersionSelector::Label(crate::Label::Pending))?;
    secret.labels.advance(number);
    change.put_secret(&secret)?;
    Ok((number, Event::done("promote").of(name).version(number)))
}

pub(crate) fn discard_pending(
    change: &mut Change<'_>,
    name: &SecretName,
) -> Result<(u64, Event), VaultError> {
    let mut secret = change.view.live_secret(name)?;
    let number = select(&secret, VersionSelector::Label(crate::Label::Pending))?;
    secret.labels.pending = None;
    change.put_secret(&secret)?;
    Ok((number, Event::done("discard pending").of(name).version(number)))
}

pub(crate) fn retire(change: &mut Change<'_>, name: &SecretName, number: u64) -> Result<Event, VaultError> {
    let secret = change.view.live_secret(name)?;
    let mut version = change.view.version(&secret, number)?;
    refuse_in_use(&secret, number)?;
    if version.state == VersionState::Destroyed {
        return Err(VaultError::refused(format!("{name} version {number} is destroyed")));
    }
    version.state = VersionState::Retired;
    change.put_version(&secret, &version)?;
    Ok(Event::done("retire").of(name).version(number))
}

fn refuse_in_use(secret: &SecretRecord, number: u64) -> Result<(), VaultError> {
    let in_use = [secret.labels.current, secret.labels.pending].contains(&Some(number));
    if in_use {
        return Err(VaultError::refused(format!("{} version {number} is current or pending", secret.name)));
    }
    Ok(())
}

fn check_destroyable(
    secret: &SecretRecord,
    version: &VersionRecord,
    evidence: Option<&str>,
) -> Result<(), VaultError> {
    let VersionRecord { number, kind, state, .. } = *version;
    let refuse = |why: &str| Err(VaultError::refused(format!("{} version {number} {why}", secret.name)));
    if secret.deleted.is_none() {
        refuse_in_use(secret, number)?;
    }
    match (kind, state) {
        (_, VersionState::Destroyed) => refuse("is destroyed already"),
        (SecretKind::Key, VersionState::Live) => refuse("is a key that may still seal: retire it first"),
        (SecretKind::Key, _) if evidence.is_none_or(|why| why.trim().is_empty()) => {
            refuse("is a key: say what shows that no backup, replica or archive needs it any more")
        }
        _ => Ok(()),
    }
}

/// Lets go of the handle of a destroyed key, unless a reverted copy of the key still has it.
fn release_handle(
    change: &mut Change<'_>,
    secret: &SecretRecord,
    destroyed: &VersionRecord,
) -> Result<(), VaultError> {
    let Some(commitment) = destroyed.commitment() else { return Ok(()) };
    let Some(held) = change.view.handle(commitment.handle())? else { return Ok(()) };
    let copies = change.view.versions(secret)?;
    let copy =
        copies.iter().find(|v| v.state != VersionState::Destroyed && v.commitment == destroyed.commitment);
    match copy {
        Some(copy) => change.put_handle(commitment.handle(), &HandleRecord { version: copy.number, ..held }),
        None => {
            let id = crate::shelf::handle_record_id(change.keys(), commitment.handle());
            change.remove(RecordKind::Handle, id).map(|_| ())
        }
    }
}

fn forget_labels(change: &mut Change<'_>, secret: &mut SecretRecord, number: u64) -> Result<(), VaultError> {
    let labels = &mut secret.labels;
    for label in [&mut labels.current, &mut labels.pending, &mut labels.previous] {
        *label = label.filter(|labelled| *labelled != number);
    }
    change.put_secret(secret)
}
