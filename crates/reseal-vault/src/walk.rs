//! The full walk over a vault: every leaf, every record, every value.

use std::collections::BTreeMap;

use crate::error::VaultError;
use crate::record::{Place, RecordId, RecordKind};
use crate::shelf::{SecretRecord, parse};
use crate::snapshot::verify_snapshots;
use crate::store::View;
use crate::tree::LEAVES;

/// Opens every record and checks that the tree, the head and the rows name the same ones. Returns how many.
///
/// # Errors
///
/// [`VaultError::Tampered`] with the first thing that is wrong.
pub(crate) fn verify_records(view: &mut View<'_>) -> Result<u64, VaultError> {
    let kinds = kinds(view)?;
    let mut covered = 0;
    for number in 0..LEAVES {
        for (id, _) in view.leaf(number)?.entries().to_vec() {
            let kind = kinds.get(&id).copied().ok_or_else(|| VaultError::tampered("a record was removed"))?;
            verify_record(view, kind, id)?;
            covered += 1;
        }
    }
    if covered != kinds.len() as u64 || covered != view.head.total() {
        return Err(VaultError::tampered("the number of records is not what the head says"));
    }
    verify_secrets(view)?;
    verify_snapshots(view)?;
    Ok(covered)
}

fn kinds(view: &View<'_>) -> Result<BTreeMap<RecordId, RecordKind>, VaultError> {
    // One row more than there should be is enough to know.
    let limit = i64::try_from(view.head.total()).unwrap_or(i64::MAX).saturating_add(1);
    let mut statement = view.tx.prepare("SELECT id, kind FROM record LIMIT ?1")?;
    let rows = statement.query_map([limit], |row| Ok((RecordId(row.get(0)?), row.get::<_, i64>(1)?)))?;
    rows.map(|row| {
        let (id, kind) = row?;
        let known = RecordKind::ALL.into_iter().find(|known| *known as i64 == kind);
        Ok((id, known.ok_or_else(|| VaultError::tampered("a record is of an unknown kind"))?))
    })
    .collect()
}

/// Values are opened through their versions, which hold the keys.
fn verify_record(view: &mut View<'_>, kind: RecordKind, id: RecordId) -> Result<(), VaultError> {
    let stored = view.stored(kind, id)?.ok_or_else(|| VaultError::tampered("a record was removed"))?;
    let opens = kind == RecordKind::Value || view.keys.bound(Place::Record(kind, id)).open(&stored).is_some();
    if opens { Ok(()) } else { Err(VaultError::tampered("a record does not authenticate")) }
}

fn verify_secrets(view: &mut View<'_>) -> Result<(), VaultError> {
    let (mut versions, mut values) = (0, 0);
    for json in view.all(RecordKind::Secret)? {
        let secret: SecretRecord = parse(&json)?;
        for version in view.versions(&secret)? {
            versions += 1;
            if version.data_key.is_some() {
                view.value(&secret, &version)?;
                values += 1;
            }
        }
    }
    let head = &view.head;
    if versions != head.count(RecordKind::Version) || values != head.count(RecordKind::Value) {
        return Err(VaultError::tampered("there are versions or values that belong to no secret"));
    }
    Ok(())
}
