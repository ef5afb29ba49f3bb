//! Snapshots: whole files and streams, as they were, kept in the vault.
//!
//! ```text
//! Snapshot id = HMAC(K_name, snapshot id)            JSON: name, where the file was, mode, owner, length, number of parts
//! Part     id = HMAC(K_name, snapshot id, number)    the ids of up to 16 chunks
//! Chunk    id = HMAC(K_name, content)                1 MiB of content; the same content is stored once
//! ```
//!
//! A stream goes in 16 MiB at a time, a transaction each, so neither memory nor a lock depends on its length. Until the last
//! of them a snapshot is incomplete: listed as such, never read, and removed as any other.

use std::collections::BTreeSet;
use std::fmt;
use std::io::{Read, Write};
use std::path::PathBuf;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::audit::Event;
use crate::chunk::{Batch, CHUNK_BYTES};
use crate::clock::Timestamp;
use crate::error::{Thing, VaultError};
use crate::record::{Keys, RecordId, RecordKind};
use crate::shelf::{HexBytes, encode, parse};
use crate::store::{Change, View};
use crate::vault::Vault;

/// The longest name of a snapshot, in bytes.
pub const SNAPSHOT_NAME_MAX: usize = 4096;
/// The longest content of a snapshot: 64 GiB.
pub const SNAPSHOT_BYTES_MAX: u64 = 64 << 30;

/// What a snapshot is called for as long as it lives: 8 hexadecimal digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SnapshotId([u8; 4]);

impl fmt::Display for SnapshotId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl FromStr for SnapshotId {
    type Err = hex::FromHexError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut id = [0; 4];
        hex::decode_to_slice(text, &mut id)?;
        Ok(Self(id))
    }
}

/// Where a file was, and what it was besides its bytes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Origin {
    /// Its absolute path.
    pub path: String,
    /// Its mode, the lower 12 bits.
    pub mode: u32,
    /// The number of its owner.
    pub user: u32,
    /// The number of its group.
    pub group: u32,
    /// When it was last written.
    pub modified: Timestamp,
}

/// A snapshot without its content.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SnapshotInfo {
    /// Its id.
    pub id: SnapshotId,
    /// Its name; of a file, the path unless another one was given. Many snapshots may have the same.
    pub name: String,
    /// The file it was; none for a stream.
    pub origin: Option<Origin>,
    /// Length in bytes.
    pub len: u64,
    /// When it was taken.
    pub created_at: Timestamp,
    /// Whether all of it is there. Not while it is being taken, nor after that was interrupted.
    pub complete: bool,
}

/// A snapshot as it is stored.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct SnapshotRecord {
    id: HexBytes,
    name: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    origin: Option<Origin>,
    created: Timestamp,
    len: u64,
    parts: u32,
    complete: bool,
}

impl SnapshotRecord {
    fn id(&self) -> Result<SnapshotId, VaultError> {
        let id = self.id.0.as_slice().try_into().map(SnapshotId);
        id.map_err(|_| VaultError::tampered("a snapshot has no id"))
    }

    fn info(&self) -> Result<SnapshotInfo, VaultError> {
        Ok(SnapshotInfo {
            id: self.id()?,
            name: self.name.clone(),
            origin: self.origin.clone(),
            len: self.len,
            created_at: self.created,
            complete: self.complete,
        })
    }

    fn event(&self, event: Event) -> Result<Event, VaultError> {
        Ok(event.of(&self.name).detail(format!("snapshot {}, {} bytes", self.id()?, self.len)))
    }
}

impl Vault {
    /// Keeps a file or a stream; durable when it returns. Content that the vault has already is not stored again.
    ///
    /// # Errors
    ///
    /// [`VaultError::Refused`] for a name that is empty, too long or not on one line, and for content above 64 GiB;
    /// [`VaultError::Io`] if the content cannot be read. Nothing of the snapshot stays then.
    pub fn snapshot_add(
        &mut self,
        name: &str,
        origin: Option<Origin>,
        content: &mut dyn Read,
    ) -> Result<SnapshotInfo, VaultError> {
        check_name(name)?;
        let mut record = SnapshotRecord {
            id: HexBytes(Vec::new()),
            name: name.to_owned(),
            origin,
            created: self.now(),
            len: 0,
            parts: 0,
            complete: false,
        };
        loop {
            let added = read_batch(&record, content).and_then(|batch| self.append(&mut record, &batch));
            if let Err(error) = added {
                if !record.id.0.is_empty() {
                    // What came before is told as incomplete if even this fails; the first error is the one to tell.
                    let _ = self.snapshot_remove(record.id()?);
                }
                return Err(error);
            }
            if record.complete {
                return record.info();
            }
        }
    }

    /// Stores one batch. The record is only changed when that is durable.
    fn append(&mut self, record: &mut SnapshotRecord, batch: &Batch) -> Result<(), VaultError> {
        let mut next = record.clone();
        let next = self.change(|change| {
            if next.id.0.is_empty() {
                next.id = HexBytes(fresh_id(change)?.0.to_vec());
            } else {
                change.view.snapshot(next.id()?)?;
            }
            let id = next.id()?;
            let chunks =
                batch.chunks().map(|chunk| change.put_chunk(chunk)).collect::<Result<Vec<_>, _>>()?;
            if !chunks.is_empty() {
                change.put_part(id, next.parts, &chunks)?;
                next.parts += 1;
            }
            next.len += batch.len() as u64;
            next.complete = batch.is_last();
            change.put_snapshot(id, &next)?;
            let event =
                if next.complete { Event::done("snapshot add") } else { Event::intent("snapshot add") };
            let event = next.event(event)?;
            Ok((next, event))
        })?;
        *record = next;
        Ok(())
    }

    /// Every snapshot, the oldest first.
    ///
    /// # Errors
    ///
    /// [`VaultError::Tampered`].
    pub fn snapshots(&mut self) -> Result<Vec<SnapshotInfo>, VaultError> {
        let records = self.view()?.all_snapshots()?;
        let mut infos = records.iter().map(SnapshotRecord::info).collect::<Result<Vec<_>, _>>()?;
        infos.sort_by_key(|info| (info.created_at, info.id));
        Ok(infos)
    }

    /// The snapshot of this id, else the newest complete one of this name or of the file at this path.
    ///
    /// # Errors
    ///
    /// [`VaultError::NotFound`], [`VaultError::Tampered`].
    pub fn snapshot(&mut self, which: &str) -> Result<SnapshotInfo, VaultError> {
        let infos = self.snapshots()?;
        if let Some(info) = infos.iter().find(|info| info.id.to_string() == which) {
            return Ok(info.clone());
        }
        let is_meant = |info: &SnapshotInfo| {
            let path = info.origin.as_ref().map(|origin| origin.path.as_str());
            info.complete && (info.name == which || path == Some(which))
        };
        let found = infos.into_iter().rfind(is_meant);
        found.ok_or_else(|| VaultError::not_found(Thing::Snapshot, which))
    }

    /// Writes the content of a snapshot out. Its audit entry, to which `event` adds what it is for, is durable before.
    ///
    /// # Errors
    ///
    /// [`VaultError::NotFound`]; [`VaultError::Refused`] if it is incomplete; [`VaultError::Io`] if `out` takes no more;
    /// [`VaultError::Tampered`], after whatever was sound before.
    pub fn snapshot_read(
        &mut self,
        id: SnapshotId,
        event: Event,
        out: &mut dyn Write,
    ) -> Result<(), VaultError> {
        let record = self.change(|change| {
            let record = change.view.snapshot(id)?;
            if !record.complete {
                return Err(VaultError::refused(format!("the snapshot {id} is incomplete")));
            }
            let event = record.event(event)?;
            Ok((record, event))
        })?;
        let mut written = 0;
        for part in 0..record.parts {
            // A view for each part: whoever reads slowly keeps nobody from writing.
            let mut view = self.view()?;
            for chunk in view.part(id, part)? {
                let content = view.chunk(chunk)?;
                written += content.len() as u64;
                out.write_all(&content).map_err(io_error("write", &record.name))?;
            }
        }
        if written != record.len {
            return Err(VaultError::tampered("a snapshot is not as long as it should be"));
        }
        out.flush().map_err(io_error("write", &record.name))
    }

    /// Reads a snapshot back and says whether its content is this.
    ///
    /// # Errors
    ///
    /// Those of [`snapshot_read`](Self::snapshot_read); [`VaultError::Io`] if the content cannot be read.
    pub fn snapshot_is(&mut self, id: SnapshotId, content: &mut dyn Read) -> Result<bool, VaultError> {
        // What is still in memory would prove nothing.
        self.connection().execute_batch("PRAGMA shrink_memory")?;
        let mut comparison = Comparison { content, is_same: true };
        self.snapshot_read(id, Event::done("snapshot verify"), &mut comparison)?;
        let Comparison { content, is_same } = comparison;
        let at_end = is_same && content.read(&mut [0]).map_err(io_error("read", &id.to_string()))? == 0;
        Ok(at_end)
    }

    /// Removes a snapshot, and of its content what no other one has.
    ///
    /// # Errors
    ///
    /// [`VaultError::NotFound`], [`VaultError::Busy`], [`VaultError::Tampered`].
    pub fn snapshot_remove(&mut self, id: SnapshotId) -> Result<(), VaultError> {
        self.change(|change| {
            let record = change.view.snapshot(id)?;
            let mut chunks = change.view.chunks_of(&record)?;
            for other in change.view.all_snapshots()? {
                if !chunks.is_empty() && other.id()? != id {
                    let held = change.view.chunks_of(&other)?;
                    chunks.retain(|chunk| !held.contains(chunk));
                }
            }
            for chunk in chunks {
                change.remove(RecordKind::Chunk, chunk)?;
            }
            for part in 0..record.parts {
                let part = part_id(change.keys(), id, part);
                change.remove(RecordKind::Part, part)?;
            }
            let header = snapshot_id(change.keys(), id);
            change.remove(RecordKind::Snapshot, header)?;
            let event = record.event(Event::done("snapshot remove"))?;
            Ok(((), event))
        })
    }
}

/// Checks that snapshots, parts and chunks name each other and nothing else is there; each was opened already.
///
/// # Errors
///
/// [`VaultError::Tampered`].
pub(crate) fn verify_snapshots(view: &mut View<'_>) -> Result<(), VaultError> {
    let (mut parts, mut chunks) = (0, BTreeSet::new());
    for record in view.all_snapshots()? {
        parts += u64::from(record.parts);
        chunks.append(&mut view.chunks_of(&record)?);
    }
    let head = &view.head;
    if parts != head.count(RecordKind::Part) || chunks.len() as u64 != head.count(RecordKind::Chunk) {
        return Err(VaultError::tampered("there are parts of snapshots that belong to none"));
    }
    Ok(())
}

fn check_name(name: &str) -> Result<(), VaultError> {
    if name.is_empty() || name.len() > SNAPSHOT_NAME_MAX || name.chars().any(char::is_control) {
        return Err(VaultError::refused("a snapshot's name has 1 to 4096 bytes and no control characters"));
    }
    Ok(())
}

fn read_batch(record: &SnapshotRecord, content: &mut dyn Read) -> Result<Batch, VaultError> {
    let batch = Batch::read(content).map_err(io_error("read", &record.name))?;
    if record.len + batch.len() as u64 > SNAPSHOT_BYTES_MAX {
        return Err(VaultError::refused("a snapshot has at most 64 GiB"));
    }
    Ok(batch)
}

fn io_error(action: &'static str, name: &str) -> impl FnOnce(std::io::Error) -> VaultError {
    let path = PathBuf::from(name);
    move |source| VaultError::Io { action, path, source }
}

fn snapshot_id(keys: &Keys, id: SnapshotId) -> RecordId {
    keys.id(RecordKind::Snapshot, &[&id.0])
}

fn part_id(keys: &Keys, id: SnapshotId, number: u32) -> RecordId {
    keys.id(RecordKind::Part, &[&id.0, &number.to_be_bytes()])
}

fn fresh_id(change: &mut Change<'_>) -> Result<SnapshotId, VaultError> {
    loop {
        let mut id = [0; 4];
        change.random().fill(&mut id)?;
        let record = snapshot_id(change.keys(), SnapshotId(id));
        if change.view.get(RecordKind::Snapshot, record)?.is_none() {
            return Ok(SnapshotId(id));
        }
    }
}

impl View<'_> {
    fn snapshot(&mut self, id: SnapshotId) -> Result<SnapshotRecord, VaultError> {
        let record = snapshot_id(self.keys, id);
        let Some(json) = self.get(RecordKind::Snapshot, record)? else {
            return Err(VaultError::not_found(Thing::Snapshot, id));
        };
        parse(&json)
    }

    fn all_snapshots(&mut self) -> Result<Vec<SnapshotRecord>, VaultError> {
        self.all(RecordKind::Snapshot)?.iter().map(|json| parse(json)).collect()
    }

    /// The chunks of one part, in order.
    fn part(&mut self, id: SnapshotId, number: u32) -> Result<Vec<RecordId>, VaultError> {
        let record = part_id(self.keys, id, number);
        let malformed = || VaultError::tampered("a part of a snapshot is not of the form it should have");
        let ids =
            self.get(RecordKind::Part, record)?.ok_or_else(|| VaultError::not_found(Thing::Snapshot, id))?;
        let (ids, rest) = ids.as_chunks::<16>();
        if rest.is_empty() { Ok(ids.iter().copied().map(RecordId).collect()) } else { Err(malformed()) }
    }

    fn chunks_of(&mut self, record: &SnapshotRecord) -> Result<BTreeSet<RecordId>, VaultError> {
        let id = record.id()?;
        let mut chunks = BTreeSet::new();
        for number in 0..record.parts {
            chunks.extend(self.part(id, number)?);
        }
        Ok(chunks)
    }

    fn chunk(&mut self, id: RecordId) -> Result<zeroize::Zeroizing<Vec<u8>>, VaultError> {
        let content = self.get(RecordKind::Chunk, id)?;
        content.ok_or_else(|| VaultError::tampered("a chunk of a snapshot was removed"))
    }
}

impl Change<'_> {
    fn put_snapshot(&mut self, id: SnapshotId, record: &SnapshotRecord) -> Result<(), VaultError> {
        let header = snapshot_id(self.keys(), id);
        self.put(RecordKind::Snapshot, header, &encode(record))
    }

    fn put_part(&mut self, id: SnapshotId, number: u32, chunks: &[RecordId]) -> Result<(), VaultError> {
        let record = part_id(self.keys(), id, number);
        let ids: Vec<u8> = chunks.iter().flat_map(|chunk| chunk.0).collect();
        self.put(RecordKind::Part, record, &ids)
    }

    /// Stores a chunk unless the vault has it, and says which it is.
    fn put_chunk(&mut self, content: &[u8]) -> Result<RecordId, VaultError> {
        debug_assert!(content.len() <= CHUNK_BYTES);
        let id = self.keys().chunk_id(content);
        if self.view.stored(RecordKind::Chunk, id)?.is_none() {
            self.put(RecordKind::Chunk, id, content)?;
        }
        Ok(id)
    }
}

/// Takes what a snapshot has and compares it with what something else has.
struct Comparison<'a> {
    content: &'a mut dyn Read,
    is_same: bool,
}

impl Write for Comparison<'_> {
    fn write(&mut self, expected: &[u8]) -> std::io::Result<usize> {
        if self.is_same {
            let mut found = zeroize::Zeroizing::new(vec![0; expected.len()]);
            self.is_same = match self.content.read_exact(&mut found) {
                Ok(()) => *found == expected,
                Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => false,
                Err(error) => return Err(error),
            };
        }
        Ok(expected.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}
