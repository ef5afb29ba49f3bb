//! The journal: sealed records that other parts keep in the vault, such as frozen runs with their keys, and column ids.
//!
//! ```text
//! id = HMAC(K_name, kind, id)      plaintext = u32 length || kind || u32 length || id || bytes
//! ```

use reseal_crypto::canonical::Canonical;
use reseal_crypto::{ColumnId, SecretBytes};
use zeroize::Zeroizing;

use crate::audit::Event;
use crate::error::{Thing, VaultError};
use crate::model::VALUE_MAX;
use crate::record::{Keys, RecordId, RecordKind};
use crate::store::{Change, View};
use crate::vault::Vault;

/// The kind of the records that hold column ids.
const COLUMN_ID: &str = "column-id";

/// A record of the journal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JournalRecord {
    /// Its id, unique within its kind.
    pub id: String,
    /// What it holds.
    pub bytes: SecretBytes,
}

impl Vault {
    /// Stores a record, new or in the place of the one with the same kind and id, together with an audit entry.
    ///
    /// # Errors
    ///
    /// [`VaultError::Refused`] above 16 MiB; [`VaultError::Busy`], [`VaultError::Tampered`].
    pub fn journal_put(
        &mut self,
        kind: &str,
        id: &str,
        bytes: &SecretBytes,
        event: Event,
    ) -> Result<(), VaultError> {
        self.change(|change| {
            write(change, kind, id, bytes)?;
            Ok(((), event))
        })
    }

    /// Reads a record.
    ///
    /// # Errors
    ///
    /// [`VaultError::Tampered`].
    pub fn journal_get(&mut self, kind: &str, id: &str) -> Result<Option<SecretBytes>, VaultError> {
        read(&mut self.view()?, kind, id)
    }

    /// Every record of a kind, in the order of their ids.
    ///
    /// # Errors
    ///
    /// [`VaultError::Tampered`].
    pub fn journal_list(&mut self, kind: &str) -> Result<Vec<JournalRecord>, VaultError> {
        let mut records = Vec::new();
        for plaintext in self.view()?.all(RecordKind::Journal)? {
            let (of_kind, record) = parse(&plaintext)?;
            if of_kind == kind {
                records.push(record);
            }
        }
        records.sort_by(|a, b| a.id.cmp(&b.id));
        Ok(records)
    }

    /// Removes a record, together with an audit entry.
    ///
    /// # Errors
    ///
    /// [`VaultError::NotFound`]; [`VaultError::Busy`], [`VaultError::Tampered`].
    pub fn journal_remove(&mut self, kind: &str, id: &str, event: Event) -> Result<(), VaultError> {
        self.change(|change| {
            if !remove(change, kind, id)? {
                return Err(VaultError::not_found(Thing::JournalRecord, format!("{kind} {id}")));
            }
            Ok(((), event))
        })
    }

    /// The id of a column of a database, if it has one.
    ///
    /// # Errors
    ///
    /// [`VaultError::Tampered`].
    pub fn known_column_id(
        &mut self,
        server: &str,
        table: &str,
        column: &str,
    ) -> Result<Option<ColumnId>, VaultError> {
        let key = column_key(server, table, column);
        self.journal_get(COLUMN_ID, &key)?.map(|bytes| column_id(&bytes)).transpose()
    }

    /// Gives a column the id that its values are bound to: a vault that was restored may not know it, or have drawn another.
    ///
    /// # Errors
    ///
    /// [`VaultError::Refused`] if it is the id of another column: then values of one could pass for those of the other.
    /// [`VaultError::Busy`], [`VaultError::Tampered`].
    pub fn adopt_column_id(
        &mut self,
        server: &str,
        table: &str,
        column: &str,
        id: ColumnId,
    ) -> Result<(), VaultError> {
        let key = column_key(server, table, column);
        // EXPOSE: column ids are not secret.
        let is_others = |known: &JournalRecord| known.id != key && known.bytes.expose() == id.0;
        if self.journal_list(COLUMN_ID)?.iter().any(is_others) {
            return Err(VaultError::refused("another column has this column id"));
        }
        let event = Event::done("column id adopted").of(format!("{server} {table}.{column}"));
        let bytes = SecretBytes::copy_from(&id.0);
        self.journal_put(COLUMN_ID, &key, &bytes, event.detail(id.to_string()))
    }

    /// The id of a column of a database: drawn when it is first asked for, the same ever after.
    ///
    /// # Errors
    ///
    /// [`VaultError::Busy`], [`VaultError::Tampered`].
    pub fn column_id(&mut self, server: &str, table: &str, column: &str) -> Result<ColumnId, VaultError> {
        let key = column_key(server, table, column);
        if let Some(known) = self.journal_get(COLUMN_ID, &key)? {
            return column_id(&known);
        }
        self.change(|change| {
            // Another process may have been first, between the look and the lock.
            let record = record_id(change.keys(), COLUMN_ID, &key);
            let event = Event::done("column id").of(format!("{server} {table}.{column}"));
            if let Some(plaintext) = change.view.get(RecordKind::Journal, record)? {
                return Ok((column_id(&parse(&plaintext)?.1.bytes)?, event));
            }
            let mut id = [0; 16];
            change.random().fill(&mut id)?;
            let header = Canonical::default().text(COLUMN_ID).text(&key);
            change.put(RecordKind::Journal, record, &[header.as_bytes(), &id].concat())?;
            Ok((ColumnId(id), event))
        })
    }
}

pub(crate) fn write(
    change: &mut Change<'_>,
    kind: &str,
    id: &str,
    bytes: &SecretBytes,
) -> Result<(), VaultError> {
    if bytes.len() > VALUE_MAX {
        return Err(VaultError::refused("a journal record has at most 16 MiB"));
    }
    let header = Canonical::default().text(kind).text(id);
    // EXPOSE: sealed at once.
    let plaintext = Zeroizing::new([header.as_bytes(), bytes.expose()].concat());
    change.put(RecordKind::Journal, record_id(change.keys(), kind, id), &plaintext)
}

pub(crate) fn read(view: &mut View<'_>, kind: &str, id: &str) -> Result<Option<SecretBytes>, VaultError> {
    let Some(plaintext) = view.get(RecordKind::Journal, record_id(view.keys, kind, id))? else {
        return Ok(None);
    };
    Ok(Some(parse(&plaintext)?.1.bytes))
}

pub(crate) fn remove(change: &mut Change<'_>, kind: &str, id: &str) -> Result<bool, VaultError> {
    let record = record_id(change.keys(), kind, id);
    change.remove(RecordKind::Journal, record)
}

fn column_key(server: &str, table: &str, column: &str) -> String {
    serde_json::to_string(&[server, table, column]).expect("a list of texts")
}

fn record_id(keys: &Keys, kind: &str, id: &str) -> RecordId {
    keys.id(RecordKind::Journal, &[kind.as_bytes(), id.as_bytes()])
}

fn column_id(bytes: &SecretBytes) -> Result<ColumnId, VaultError> {
    // EXPOSE: column ids are not secret.
    bytes.expose().try_into().map(ColumnId).map_err(|_| malformed())
}

fn parse(plaintext: &[u8]) -> Result<(&str, JournalRecord), VaultError> {
    let (kind, rest) = take_text(plaintext).ok_or_else(malformed)?;
    let (id, bytes) = take_text(rest).ok_or_else(malformed)?;
    Ok((kind, JournalRecord { id: id.to_owned(), bytes: SecretBytes::copy_from(bytes) }))
}

fn take_text(bytes: &[u8]) -> Option<(&str, &[u8])> {
    let (len, rest) = bytes.split_first_chunk::<4>()?;
    let (text, rest) = rest.split_at_checked(usize::try_from(u32::from_be_bytes(*len)).ok()?)?;
    Some((std::str::from_utf8(text).ok()?, rest))
}

fn malformed() -> VaultError {
    VaultError::tampered("a journal record is not of the form it should have")
}
