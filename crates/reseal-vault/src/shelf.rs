//! Secrets as records: how a name leads to a secret, its versions, and their values.
//!
//! ```text
//! Secret  id = HMAC(K_name, "secret", name)          JSON under K_record
//! Version id = HMAC(K_name, secret id, number)       JSON under K_record, with the wrapped data key
//! Value   id = HMAC(K_name, secret id, number)       the value under its data key
//! Handle  id = HMAC(K_name, key handle)              JSON under K_record
//! ```
//!
//! The secret id is random and stays through renames, so versions and values never move.

use reseal_crypto::{Commitment, KeyHandle, SecretBytes};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::clock::Timestamp;
use crate::error::{Thing, VaultError};
use crate::model::{Attributes, Labels, SecretInfo, SecretKind, VersionInfo, VersionState};
use crate::name::SecretName;
use crate::record::{Keys, Place, RecordId, RecordKind};
use crate::store::{Change, View};

/// Bytes in JSON: as hexadecimal text.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct HexBytes(#[serde(with = "hex::serde")] pub(crate) Vec<u8>);

/// A secret as it is stored.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct SecretRecord {
    pub(crate) name: SecretName,
    pub(crate) id: HexBytes,
    pub(crate) created: Timestamp,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) deleted: Option<Timestamp>,
    pub(crate) latest: u64,
    pub(crate) labels: Labels,
    #[serde(default)]
    pub(crate) attributes: Attributes,
}

/// A version as it is stored.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct VersionRecord {
    pub(crate) number: u64,
    pub(crate) kind: SecretKind,
    pub(crate) state: VersionState,
    pub(crate) created: Timestamp,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) changed: Option<Timestamp>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) expires: Option<Timestamp>,
    pub(crate) len: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) commitment: Option<HexBytes>,
    /// The data key of the value, wrapped; gone when the version is destroyed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) data_key: Option<HexBytes>,
}

/// Which version has the column key of a handle.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct HandleRecord {
    pub(crate) name: SecretName,
    pub(crate) secret: HexBytes,
    pub(crate) version: u64,
    pub(crate) commitment: HexBytes,
}

impl SecretRecord {
    pub(crate) fn info(&self) -> SecretInfo {
        SecretInfo {
            name: self.name.clone(),
            created_at: self.created,
            deleted_at: self.deleted,
            latest: self.latest,
            labels: self.labels,
            attributes: self.attributes.clone(),
        }
    }
}

impl VersionRecord {
    pub(crate) fn commitment(&self) -> Option<Commitment> {
        self.commitment.as_ref().and_then(|hex| hex.0.as_slice().try_into().ok()).map(Commitment)
    }

    pub(crate) fn info(&self, labels: &Labels) -> VersionInfo {
        VersionInfo {
            number: self.number,
            kind: self.kind,
            state: self.state,
            labels: labels.of(self.number).collect(),
            created_at: self.created,
            changed_at: self.changed,
            expires_at: self.expires,
            len: self.len,
            commitment: self.commitment(),
        }
    }
}

pub(crate) fn secret_record_id(keys: &Keys, name: &SecretName) -> RecordId {
    keys.id(RecordKind::Secret, &[name.as_str().as_bytes()])
}

pub(crate) fn version_record_id(keys: &Keys, secret: &SecretRecord, number: u64) -> RecordId {
    keys.id(RecordKind::Version, &[&secret.id.0, &number.to_be_bytes()])
}

pub(crate) fn value_record_id(keys: &Keys, secret: &SecretRecord, number: u64) -> RecordId {
    keys.id(RecordKind::Value, &[&secret.id.0, &number.to_be_bytes()])
}

pub(crate) fn handle_record_id(keys: &Keys, handle: KeyHandle) -> RecordId {
    keys.id(RecordKind::Handle, &[&handle.0])
}

pub(crate) fn parse<'a, T: Deserialize<'a>>(json: &'a [u8]) -> Result<T, VaultError> {
    // The bytes are authentic, so another version of reseal wrote what this one cannot read.
    serde_json::from_slice(json)
        .map_err(|_| VaultError::tampered("a record is not of the form it should have"))
}

pub(crate) fn encode<T: Serialize>(record: &T) -> Zeroizing<Vec<u8>> {
    Zeroizing::new(serde_json::to_vec(record).expect("records are made of text, numbers and lists"))
}

impl View<'_> {
    pub(crate) fn secret(&mut self, name: &SecretName) -> Result<Option<SecretRecord>, VaultError> {
        let id = secret_record_id(self.keys, name);
        self.get(RecordKind::Secret, id)?.map(|json| parse(&json)).transpose()
    }

    /// The secret of this name, unless it is deleted.
    pub(crate) fn live_secret(&mut self, name: &SecretName) -> Result<SecretRecord, VaultError> {
        let secret = self.any_secret(name)?;
        if secret.deleted.is_some() {
            return Err(VaultError::Deleted(name.to_string()));
        }
        Ok(secret)
    }

    /// The secret of this name, deleted or not.
    pub(crate) fn any_secret(&mut self, name: &SecretName) -> Result<SecretRecord, VaultError> {
        self.secret(name)?.ok_or_else(|| VaultError::not_found(Thing::Secret, name))
    }

    pub(crate) fn version(
        &mut self,
        secret: &SecretRecord,
        number: u64,
    ) -> Result<VersionRecord, VaultError> {
        let id = version_record_id(self.keys, secret, number);
        let Some(json) = self.get(RecordKind::Version, id)? else {
            return Err(VaultError::not_found(Thing::Version, format!("{} version {number}", secret.name)));
        };
        parse(&json)
    }

    pub(crate) fn versions(&mut self, secret: &SecretRecord) -> Result<Vec<VersionRecord>, VaultError> {
        (1..=secret.latest).map(|number| self.version(secret, number)).collect()
    }

    pub(crate) fn value(
        &mut self,
        secret: &SecretRecord,
        version: &VersionRecord,
    ) -> Result<SecretBytes, VaultError> {
        let id = value_record_id(self.keys, secret, version.number);
        let Some(wrapped) = &version.data_key else {
            let gone = format!("{} version {}", secret.name, version.number);
            return Err(VaultError::not_found(Thing::DestroyedValue, gone));
        };
        let changed = || VaultError::tampered("a value does not authenticate");
        let data_key = self.keys.bound(Place::DataKey(id)).open(&wrapped.0).ok_or_else(changed)?;
        let data_key: &[u8; 32] = data_key.as_slice().try_into().map_err(|_| changed())?;
        let stored = self.stored(RecordKind::Value, id)?.ok_or_else(changed)?;
        let mut value = self.keys.bound_value(data_key, id).open(&stored).ok_or_else(changed)?;
        Ok(SecretBytes::new(std::mem::take(&mut *value)))
    }

    pub(crate) fn handle(&mut self, handle: KeyHandle) -> Result<Option<HandleRecord>, VaultError> {
        let id = handle_record_id(self.keys, handle);
        self.get(RecordKind::Handle, id)?.map(|json| parse(&json)).transpose()
    }
}

impl Change<'_> {
    pub(crate) fn put_secret(&mut self, secret: &SecretRecord) -> Result<(), VaultError> {
        let id = secret_record_id(self.keys(), &secret.name);
        self.put(RecordKind::Secret, id, &encode(secret))
    }

    pub(crate) fn put_version(
        &mut self,
        secret: &SecretRecord,
        version: &VersionRecord,
    ) -> Result<(), VaultError> {
        let id = version_record_id(self.keys(), secret, version.number);
        self.put(RecordKind::Version, id, &encode(version))
    }

    /// Seals a value under a fresh data key, stores it, and returns the key, wrapped.
    pub(crate) fn put_value(
        &mut self,
        secret: &SecretRecord,
        number: u64,
        value: &SecretBytes,
    ) -> Result<HexBytes, VaultError> {
        let id = value_record_id(self.keys(), secret, number);
        let mut data_key = Zeroizing::new([0; 32]);
        self.random().fill(&mut *data_key)?;
        // EXPOSE: sealed here, and nowhere else kept.
        let sealed = self.keys().bound_value(&data_key, id).seal(value.expose(), self.random())?;
        self.put_sealed(RecordKind::Value, id, &sealed)?;
        Ok(HexBytes(self.keys().bound(Place::DataKey(id)).seal(&*data_key, self.random())?))
    }

    pub(crate) fn put_handle(&mut self, handle: KeyHandle, record: &HandleRecord) -> Result<(), VaultError> {
        let id = handle_record_id(self.keys(), handle);
        self.put(RecordKind::Handle, id, &encode(record))
    }
}
