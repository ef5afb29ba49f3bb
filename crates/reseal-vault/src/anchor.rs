//! Anchors: what is remembered outside of a vault, so that an older copy of it is not taken for the vault.
//!
//! An anchor names one audit entry. Entries are never deleted, so a healthy vault has the entry of every anchor that was
//! ever made of it, however old; an older copy is too short, and a copy that went its own way has another entry there.

use std::fmt;
use std::fs::{self, DirBuilder, OpenOptions};
use std::io::{ErrorKind, Write as _};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::atomic::{AtomicU64, Ordering};

use reseal_crypto::hash::equal;
use rusqlite::OptionalExtension;

use crate::error::VaultError;
use crate::file;
use crate::store::View;
use crate::tree::Head;
use crate::vault::VaultId;

const PREFIX: &str = "reseal-anchor-1";

/// The name of one audit entry of one vault. Not secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Anchor {
    /// Which vault.
    pub vault_id: VaultId,
    /// The number of the entry.
    pub index: u64,
    /// The MAC of the entry.
    pub mac: [u8; 32],
}

impl Anchor {
    /// The last entry of a vault with this head.
    pub(crate) fn of(head: &Head) -> Self {
        Self { vault_id: head.vault_id, index: head.audit_len.saturating_sub(1), mac: head.audit_mac }
    }
}

impl fmt::Display for Anchor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{PREFIX} {} {} {}", self.vault_id, self.index, hex::encode(self.mac))
    }
}

/// The text is not an anchor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not an anchor: it reads `reseal-anchor-1 <vault id> <entry> <mac>`")]
pub struct NotAnAnchor;

impl FromStr for Anchor {
    type Err = NotAnAnchor;

    fn from_str(line: &str) -> Result<Self, NotAnAnchor> {
        let mut words = line.split(' ');
        let mut word = || words.next().ok_or(NotAnAnchor);
        if word()? != PREFIX {
            return Err(NotAnAnchor);
        }
        let vault_id = word()?.parse().map_err(|_| NotAnAnchor)?;
        let index = word()?.parse().map_err(|_| NotAnAnchor)?;
        let mut mac = [0; 32];
        hex::decode_to_slice(word()?, &mut mac).map_err(|_| NotAnAnchor)?;
        words.next().is_none().then_some(Self { vault_id, index, mac }).ok_or(NotAnAnchor)
    }
}

impl View<'_> {
    /// Checks that the log has the entry of the anchor.
    pub(crate) fn check_anchor(&self, anchor: &Anchor) -> Result<(), VaultError> {
        let rolled_back = |found| Err(VaultError::RolledBack { index: anchor.index, found });
        if anchor.vault_id != self.keys.vault_id {
            return Err(VaultError::refused("the anchor belongs to another vault"));
        }
        let Some(number) = i64::try_from(anchor.index).ok().filter(|_| anchor.index < self.head.audit_len)
        else {
            return rolled_back("missing");
        };
        let mac: Option<Vec<u8>> = self
            .tx
            .prepare_cached("SELECT mac FROM audit WHERE number = ?1")?
            .query_row([number], |row| row.get(0))
            .optional()?;
        match mac {
            Some(mac) if equal(&mac, &anchor.mac) => Ok(()),
            Some(_) => rolled_back("another one"),
            None => rolled_back("missing"),
        }
    }
}

/// Accepts a vault that has the entry of any of these anchors, or if there is none yet. Returns how many it has.
///
/// There are two while a restore is under way: of the vault that is replaced, and of the one that replaces it.
pub(crate) fn check_any(view: &View<'_>, anchors: &[Anchor]) -> Result<usize, VaultError> {
    let (mut found, mut refusal) = (0, None);
    for anchor in anchors {
        match view.check_anchor(anchor) {
            Ok(()) => found += 1,
            Err(error) => refusal = Some(error),
        }
    }
    refusal.filter(|_| found == 0).map_or(Ok(found), Err)
}

/// Does what [`check_any`] does with the anchors of a directory.
///
/// They are read while the view keeps others from committing: none of them can be newer than what it is compared with.
pub(crate) fn check_stored(view: &View<'_>, directory: Option<&AnchorDir>) -> Result<usize, VaultError> {
    let anchors = directory.map_or(Ok(Vec::new()), |directory| directory.read(view.keys.vault_id))?;
    check_any(view, &anchors)
}

/// Numbers the drafts of this process: two of its threads may write at once.
static DRAFTS: AtomicU64 = AtomicU64::new(0);

/// A directory that remembers one anchor file per vault: the state directory of the caller.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AnchorDir(PathBuf);

impl AnchorDir {
    /// Anchors in `directory`, which is created with mode 0700 when the first is written.
    pub fn new(directory: impl Into<PathBuf>) -> Self {
        Self(directory.into())
    }

    /// The directory.
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// The anchors of a vault: none before the first commit, two during a restore.
    ///
    /// # Errors
    ///
    /// [`VaultError::Io`] if a file that exists cannot be read.
    pub(crate) fn read(&self, vault_id: VaultId) -> Result<Vec<Anchor>, VaultError> {
        let path = self.file(vault_id);
        let bytes = match fs::read(&path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(VaultError::io("read", &path)(error)),
        };
        // A file that a power cut spoilt must not refuse a healthy vault; whoever can garble it can remove it too.
        let text = String::from_utf8_lossy(&bytes);
        let anchors: Vec<Anchor> = text.lines().filter_map(|line| line.parse().ok()).collect();
        if anchors.is_empty() {
            tracing::warn!(path = %path.display(), "the anchor file is not readable: an older vault would be accepted");
        }
        Ok(anchors.into_iter().filter(|anchor| anchor.vault_id == vault_id).collect())
    }

    /// Replaces the anchors of a vault and makes them last: while two vaults are possible, an older anchor is not safe.
    pub(crate) fn write_durably(&self, vault_id: VaultId, anchors: &[Anchor]) -> Result<(), VaultError> {
        self.write(vault_id, anchors)?;
        let path = self.file(vault_id);
        file::sync(&path)?;
        file::sync_directory_of(&path)
    }

    /// Replaces the anchors of a vault. Not synced: an older anchor is safe.
    pub(crate) fn write(&self, vault_id: VaultId, anchors: &[Anchor]) -> Result<(), VaultError> {
        let path = self.file(vault_id);
        let number = DRAFTS.fetch_add(1, Ordering::Relaxed);
        let draft = path.with_extension(format!("draft.{}.{number}", std::process::id()));
        let text: String = anchors.iter().map(|anchor| format!("{anchor}\n")).collect();
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&self.0)
            .map_err(VaultError::io("create", &self.0))?;
        // One that a killed process with the same number left; then `create_new`, which follows no link.
        let _ = fs::remove_file(&draft);
        let written = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&draft)
            .and_then(|mut file| file.write_all(text.as_bytes()))
            .and_then(|()| fs::rename(&draft, &path));
        written.map_err(VaultError::io("write", &path))
    }

    fn file(&self, vault_id: VaultId) -> PathBuf {
        self.0.join(format!("{vault_id}.anchor"))
    }
}
