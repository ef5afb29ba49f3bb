//! Key slots in the file: reading, adding, removing, and changing a passphrase.

use reseal_crypto::Nonce;
use reseal_crypto::canonical::Canonical;
use reseal_crypto::hash::equal;
use reseal_crypto::kdf::KdfParams;
use reseal_crypto::secret::VaultKey;
use reseal_crypto::slot::{Opener, SLOTS_MAX, Slot, SlotError, SlotKdf};
use rusqlite::{Connection, params};
use serde::{Deserialize, Serialize};

use crate::audit::Event;
use crate::clock::Timestamp;
use crate::error::{Thing, VaultError};
use crate::record::{Keys, Place};
use crate::schema;
use crate::store::{Change, View};
use crate::tree::Digest;
use crate::vault::{Vault, VaultId};

/// A slot with its sealed label, as stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct StoredSlot {
    pub(crate) slot: Slot,
    label: Vec<u8>,
}

/// What the label of a slot says.
#[derive(Debug, Serialize, Deserialize)]
struct Label {
    name: String,
    created: Timestamp,
}

/// A slot as `key list` shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SlotInfo {
    /// Its name, unique in the vault.
    pub name: String,
    /// What opens it, and at which cost.
    pub kdf: SlotKdf,
    /// When it was made.
    pub created_at: Timestamp,
}

/// Reads the slots without believing them. At most 9 rows are read, and no key is derived for more than 8.
pub(crate) fn read(connection: &Connection) -> Result<Vec<StoredSlot>, VaultError> {
    let mut statement = connection.prepare(
        "SELECT id, kdf, memory_kib, passes, lanes, salt, nonce, wrapped, commitment, label FROM slot ORDER BY id LIMIT 9",
    )?;
    let mut rows = statement.query(())?;
    let mut slots = Vec::new();
    while let Some(row) = rows.next()? {
        let params = [row.get(2)?, row.get(3)?, row.get(4)?];
        let slot = Slot {
            id: row.get(0)?,
            kdf: parse_kdf(row.get(1)?, params)?,
            salt: row.get(5)?,
            nonce: Nonce(row.get(6)?),
            wrapped: row.get(7)?,
            commitment: row.get(8)?,
        };
        slots.push(StoredSlot { slot, label: row.get(9)? });
    }
    match slots.len() {
        0 => Err(VaultError::tampered("it has no key slot")),
        n if n > SLOTS_MAX => Err(VaultError::tampered("it has more than 8 key slots")),
        _ => Ok(slots),
    }
}

fn parse_kdf(kdf: i64, [memory_kib, passes, lanes]: [u32; 3]) -> Result<SlotKdf, VaultError> {
    match (kdf, [memory_kib, passes, lanes]) {
        (1, _) => Ok(SlotKdf::Passphrase(KdfParams::new(memory_kib, passes, lanes)?)),
        (2, [0, 0, 0]) => Ok(SlotKdf::RecoveryCode),
        (3, [0, 0, 0]) => Ok(SlotKdf::KeyFile),
        _ => Err(VaultError::tampered("a key slot is of an unknown kind")),
    }
}

/// Memory in KiB, passes and lanes, as they are stored.
fn cost(kdf: SlotKdf) -> [u32; 3] {
    match kdf {
        SlotKdf::Passphrase(params) => [params.memory_kib(), params.passes(), params.lanes()],
        SlotKdf::RecoveryCode | SlotKdf::KeyFile => [0; 3],
    }
}

/// Tries the slots of the opener's kind in order.
///
/// # Errors
///
/// [`VaultError::Locked`] if none opens, [`VaultError::Tampered`] if the right one was changed.
pub(crate) fn unwrap(
    slots: &[StoredSlot],
    vault_id: VaultId,
    opener: &Opener,
) -> Result<(VaultKey, [u8; 16]), VaultError> {
    for StoredSlot { slot, .. } in slots {
        match slot.open(&vault_id.0, opener) {
            Ok(key) => return Ok((key, slot.id)),
            Err(SlotError::Wrong(_)) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Err(VaultError::Locked(match opener {
        Opener::Passphrase(_) => "passphrase",
        Opener::RecoveryCode(_) => "recovery code",
        Opener::KeyFile(_) => "key file",
    }))
}

impl From<SlotError> for VaultError {
    fn from(error: SlotError) -> Self {
        match error {
            SlotError::Wrong(what) => Self::Locked(what),
            SlotError::Kdf(error) => error.into(),
            SlotError::Random(error) => error.into(),
            SlotError::CodeLength(..) => Self::refused(error.to_string()),
            _ => Self::tampered("a key slot was changed"),
        }
    }
}

/// The digest of all slots that the head holds.
pub(crate) fn digest(keys: &Keys, slots: &[StoredSlot]) -> Digest {
    let encoded =
        slots.iter().fold(Canonical::new("reseal/v1/vault/slots"), |list, StoredSlot { slot, label }| {
            cost(slot.kdf)
                .into_iter()
                .fold(list.bytes(&slot.id).u64(slot.kdf.id().into()), |list, n| list.u64(n.into()))
                .bytes(&slot.salt)
                .bytes(&slot.nonce.0)
                .bytes(&slot.wrapped)
                .bytes(&slot.commitment)
                .bytes(label)
        });
    keys.tree.mac(&[encoded.as_bytes()])
}

/// The slots, checked against the head.
pub(crate) fn verified(view: &View<'_>) -> Result<Vec<(StoredSlot, SlotInfo)>, VaultError> {
    let slots = read(&view.tx)?;
    if !equal(&digest(view.keys, &slots), &view.head.slots) {
        return Err(VaultError::tampered("the key slots are not those that the head names"));
    }
    slots.into_iter().map(|slot| info(view.keys, &slot).map(|info| (slot, info))).collect()
}

fn info(keys: &Keys, stored: &StoredSlot) -> Result<SlotInfo, VaultError> {
    let label = keys.bound(Place::Slot(&stored.slot.id)).open(&stored.label);
    let label: Option<Label> = label.and_then(|json| serde_json::from_slice(&json).ok());
    let Label { name, created } =
        label.ok_or_else(|| VaultError::tampered("the name of a key slot was changed"))?;
    Ok(SlotInfo { name, kdf: stored.slot.kdf, created_at: created })
}

/// Adds a slot to the rows; [`seal_into_head`] follows before the commit.
pub(crate) fn insert(
    change: &Change<'_>,
    name: &str,
    created: Timestamp,
    slot: &Slot,
) -> Result<(), VaultError> {
    let label = serde_json::to_vec(&Label { name: name.to_owned(), created }).expect("text and a number");
    let label = change.keys().bound(Place::Slot(&slot.id)).seal(&label, change.random())?;
    let [memory_kib, passes, lanes] = cost(slot.kdf);
    change
        .view
        .tx
        .prepare(
            "INSERT INTO slot (id, kdf, memory_kib, passes, lanes, salt, nonce, wrapped, commitment, label) \
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)",
        )?
        .execute(params![
            slot.id,
            slot.kdf.id(),
            memory_kib,
            passes,
            lanes,
            slot.salt,
            slot.nonce.0,
            slot.wrapped,
            slot.commitment,
            label
        ])?;
    Ok(())
}

/// Puts the digest of the slots, as they are now, into the head.
pub(crate) fn seal_into_head(change: &mut Change<'_>) -> Result<(), VaultError> {
    change.view.head.slots = digest(change.keys(), &read(&change.view.tx)?);
    Ok(())
}

/// Checks the name of a slot: short, printable, one line.
pub(crate) fn check_name(name: &str) -> Result<(), VaultError> {
    let legal = |c: char| c.is_alphanumeric() || "._-@ ".contains(c);
    if name.is_empty() || name.len() > 64 || name.trim() != name || !name.chars().all(legal) {
        return Err(VaultError::refused(
            "a key slot's name has 1 to 64 letters, digits, `.`, `_`, `-`, `@` or spaces",
        ));
    }
    Ok(())
}

impl Vault {
    /// The key slots, in the order of their ids.
    ///
    /// # Errors
    ///
    /// [`VaultError::Tampered`].
    pub fn slots(&mut self) -> Result<Vec<SlotInfo>, VaultError> {
        Ok(verified(&self.view()?)?.into_iter().map(|(_, info)| info).collect())
    }

    /// Adds a slot that `opener` opens. `params` is the cost for passphrases.
    ///
    /// # Errors
    ///
    /// [`VaultError::Exists`] if the name is taken, [`VaultError::Refused`] if there are 8 slots.
    pub fn add_slot(&mut self, name: &str, opener: &Opener, params: KdfParams) -> Result<(), VaultError> {
        check_name(name)?;
        let slot = self.make_slot(opener, params)?;
        let now = self.now();
        self.change(|change| {
            let held = verified(&change.view)?;
            if held.iter().any(|(_, info)| info.name == name) {
                return Err(VaultError::Exists { what: Thing::KeySlot, name: name.to_owned() });
            }
            if held.len() >= SLOTS_MAX {
                return Err(VaultError::refused("a vault has at most 8 key slots: remove one first"));
            }
            insert(change, name, now, &slot)?;
            seal_into_head(change)?;
            Ok(((), Event::done("key add").of(name).detail(slot.kdf.name())))
        })
    }

    /// Removes a slot. Whoever knew the vault key still does: the caller says so and owes new values.
    ///
    /// # Errors
    ///
    /// [`VaultError::NotFound`]; [`VaultError::Refused`] for the last one.
    pub fn remove_slot(&mut self, name: &str) -> Result<(), VaultError> {
        self.change(|change| {
            let held = verified(&change.view)?;
            let named: Vec<_> = held.iter().filter(|(_, info)| info.name == name).collect();
            if named.is_empty() {
                return Err(VaultError::not_found(Thing::KeySlot, name));
            }
            if held.len() == named.len() {
                return Err(VaultError::refused(
                    "the last key slot stays: without it nothing opens the vault",
                ));
            }
            named.into_iter().try_for_each(|(stored, _)| delete(change, &stored.slot))?;
            seal_into_head(change)?;
            Ok(((), Event::done("key remove").of(name)))
        })
    }

    /// Changes what opens a slot: the new slot is durable and proved before the old one goes.
    ///
    /// A crash leaves the old, or both under the same name, of which either opens; the next `change_slot` removes what
    /// is too much.
    ///
    /// # Errors
    ///
    /// [`VaultError::NotFound`]; [`VaultError::Refused`] if there are 8 slots and no room for the new one.
    pub fn change_slot(&mut self, name: &str, opener: &Opener, params: KdfParams) -> Result<(), VaultError> {
        let slot = self.make_slot(opener, params)?;
        let now = self.now();
        self.change(|change| {
            let held = verified(&change.view)?;
            if !held.iter().any(|(_, info)| info.name == name) {
                return Err(VaultError::not_found(Thing::KeySlot, name));
            }
            if held.len() >= SLOTS_MAX {
                return Err(VaultError::refused(
                    "changing a key slot needs room for one more: remove one first",
                ));
            }
            insert(change, name, now, &slot)?;
            seal_into_head(change)?;
            Ok(((), Event::intent("key passwd").of(name).detail(slot.kdf.name())))
        })?;
        self.prove_slot(&slot.id, opener)?;
        self.change(|change| {
            for (old, _) in
                verified(&change.view)?.iter().filter(|(s, i)| i.name == name && s.slot.id != slot.id)
            {
                delete(change, &old.slot)?;
            }
            seal_into_head(change)?;
            Ok(((), Event::done("key passwd").of(name)))
        })
    }

    fn make_slot(&self, opener: &Opener, params: KdfParams) -> Result<Slot, VaultError> {
        let keys = self.keys();
        Ok(Slot::make(&keys.vault_id.0, &keys.root, opener, params, self.random())?)
    }

    /// Reads the file anew and opens the slot, as the next process would.
    fn prove_slot(&self, id: &[u8; 16], opener: &Opener) -> Result<(), VaultError> {
        let connection = schema::open(self.path(), self.busy_timeout())?;
        schema::check(&connection)?;
        let slots = read(&connection)?;
        let stored = slots.iter().find(|stored| stored.slot.id == *id);
        let stored = stored.ok_or_else(|| VaultError::tampered("the new key slot is not in the file"))?;
        let key = stored.slot.open(&self.id().0, opener)?;
        if key == self.keys().root {
            Ok(())
        } else {
            Err(VaultError::tampered("the new key slot holds another key"))
        }
    }
}

fn delete(change: &Change<'_>, slot: &Slot) -> Result<(), VaultError> {
    change.view.tx.execute("DELETE FROM slot WHERE id = ?1", [&slot.id])?;
    Ok(())
}
