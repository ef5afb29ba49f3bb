//! Backups: a verified online copy, its verification, and a restore that never mixes two vaults.
//!
//! A restore does not rename anything over a vault: a hot journal of the old file would be played into the new one.
//! It writes the backup in through SQLite's backup API, as one transaction over the old file.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use reseal_crypto::slot::Opener;
use rusqlite::backup::{Backup, StepResult};
use rusqlite::{Connection, TransactionBehavior};

use crate::anchor::{self, Anchor};
use crate::audit::{self, Event};
use crate::error::{Thing, VaultError};
use crate::file::{self, Draft};
use crate::record::Keys;
use crate::schema;
use crate::slots;
use crate::store::{self, View};
use crate::tree::Head;
use crate::vault::{LockedVault, OpenOptions, UnlockedKey, Vault, VaultId};
use crate::walk;

/// What a backup was found to hold, after every record of it was opened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BackupReport {
    /// The file.
    pub path: PathBuf,
    /// Its last audit entry.
    pub anchor: Anchor,
    /// Records, values included.
    pub records: u64,
}

/// What a restore may do beyond the harmless.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct RestoreOptions {
    /// Puts a backup in place that the anchors or the living vault know to be older.
    pub accept_older: bool,
    /// Replaces a vault of another id, or the database of another program.
    pub replace_other: bool,
    /// Renames a file away that is no database at all.
    pub move_aside: bool,
}

/// A restored vault.
#[derive(Debug)]
pub struct Restored {
    /// The vault, open.
    pub vault: Vault,
    /// The last audit entry of the backup; the entry after it tells of the restore.
    pub from: Anchor,
    /// The copy of what was there before, if there was something.
    pub kept: Option<PathBuf>,
}

impl Vault {
    /// Copies the vault to a new file and opens every record of the copy before it gets its name.
    ///
    /// # Errors
    ///
    /// [`VaultError::Exists`] if the name is taken; [`VaultError::Tampered`] if anything in the vault does not open.
    pub fn backup_create(&mut self, to: &Path) -> Result<BackupReport, VaultError> {
        let to = file::resolve(to)?;
        if to.symlink_metadata().is_ok() {
            return Err(VaultError::Exists { what: Thing::File, name: to.display().to_string() });
        }
        self.record_event(Event::intent("backup").of(to.display()))?;
        let draft = Draft::beside(&to, self.random())?;
        let mut copy = schema::connect(draft.path(), self.busy_timeout())?;
        copy_pages(self.connection(), &mut copy, self.busy_timeout()).map_err(|error| error.at(&to))?;
        let report = verify(&mut copy, draft.path(), self.keys())?;
        copy.close().map_err(|(_, error)| error)?;
        let path = draft.publish()?;
        self.record_event(Event::done("backup").of(path.display()).detail(report.anchor.to_string()))?;
        Ok(BackupReport { path, ..report })
    }
}

impl LockedVault {
    /// Finds a backup, to be read and never written.
    ///
    /// # Errors
    ///
    /// [`VaultError::NoBackup`], else those of [`find`](Self::find); a backup may belong to anyone and stand anywhere.
    pub fn find_backup(path: &Path, options: OpenOptions) -> Result<Self, VaultError> {
        let path = file::check_backup(path)?;
        let connection = schema::connect_read_only(&path, options.busy_timeout)?;
        Self::over(path, connection, options)
    }

    /// Opens every record and checks the whole audit log.
    ///
    /// # Errors
    ///
    /// [`VaultError::Tampered`] with the first thing that is wrong.
    pub fn verify(mut self, key: &UnlockedKey) -> Result<BackupReport, VaultError> {
        let keys = self.keys(key);
        let path = self.path().to_owned();
        verify(self.connection(), &path, &keys)
    }
}

fn verify(connection: &mut Connection, path: &Path, keys: &Keys) -> Result<BackupReport, VaultError> {
    let mut view = View::begin(connection, keys, TransactionBehavior::Deferred, None)?;
    slots::verified(&view)?;
    audit::walk(&view, None, |_| ())?;
    let records = walk::verify_records(&mut view)?;
    Ok(BackupReport { path: path.to_owned(), anchor: Anchor::of(&view.head), records })
}

/// Puts a backup in the place of the vault at `to`, whether there is one or not; durable when it returns.
///
/// The backup is copied to a private file and verified whole there; the vault that it replaces is kept as a copy. After
/// a crash the vault is the old one or the restored one, never a mixture, and the anchors accept either.
///
/// # Errors
///
/// [`VaultError::RolledBack`] if the anchors know a newer vault, or a newer one stands there, and `accept_older` is not
/// set; [`VaultError::Refused`] if another vault or the database of another program stands there; [`VaultError::NotAVault`] if what stands there is no database and `move_aside` is not
/// set; [`VaultError::Busy`]; those of opening and verifying.
pub fn restore(
    from: &Path,
    to: &Path,
    opener: &Opener,
    options: OpenOptions,
    restore: RestoreOptions,
) -> Result<Restored, VaultError> {
    let to = file::resolve(to)?;
    let draft = Draft::beside(&to, &*options.random)?;
    let busy_timeout = options.busy_timeout;
    let source = schema::connect_read_only(&file::check_backup(from)?, busy_timeout)?;
    let mut copy = schema::connect(draft.path(), busy_timeout)?;
    copy_pages(&source, &mut copy, busy_timeout)?;
    drop((source, copy));

    let private = OpenOptions { anchors: None, ..options.clone() };
    let locked = LockedVault::find(draft.path(), private.clone())?;
    let key = locked.unwrap_key(opener)?;
    let report = locked.verify(&key)?;
    let id = report.anchor.vault_id;

    let living = Living::open(&to, busy_timeout, restore)?;
    living.as_ref().map_or(Ok(()), |living| living.check(id, restore))?;
    // Read under the lock: nobody can add an entry to the old vault from here on.
    let known = options.anchors.as_ref().map_or(Ok(Vec::new()), |directory| directory.read(id))?;
    let mut prepared = LockedVault::find(draft.path(), private)?.unlock(key.clone())?;
    if !restore.accept_older {
        let last = living.as_ref().and_then(|living| living.last_entry(prepared.keys()));
        let view = prepared.view()?;
        anchor::check_any(&view, &known)?;
        last.map_or(Ok(()), |last| view.check_anchor(&last))?;
    }
    let kept = living.as_ref().map(|living| living.keep(&to, &options)).transpose()?;
    let told =
        Event::done("restore").of(from.display()).detail(format!("after entry {}", report.anchor.index));
    prepared.record_event(told)?;
    let restored = prepared.anchor();
    drop(prepared);

    // From here on a crash may leave either vault, so the anchors accept both.
    if let Some(directory) = &options.anchors {
        directory.write_durably(id, &[known.as_slice(), &[restored]].concat())?;
    }
    match living {
        Some(living) => living.overwrite(draft.path(), busy_timeout)?,
        None => drop(draft.publish()?),
    }
    let mut vault = LockedVault::find(&to, options)?.unlock(key)?;
    vault.remember(vault.anchor());
    Ok(Restored { vault, from: report.anchor, kept })
}

/// What stands where a backup is to be restored, locked against every other process.
struct Living(Connection);

impl Living {
    /// Opens and locks it; SQLite settles its journal on the way. `None` if nothing is there.
    fn open(
        path: &Path,
        busy_timeout: Duration,
        restore: RestoreOptions,
    ) -> Result<Option<Self>, VaultError> {
        let path = match file::check_existing(path) {
            Err(VaultError::NoVault(_)) => return Ok(None),
            other => other?,
        };
        match Self::lock(&path, busy_timeout) {
            Ok(living) => Ok(Some(living)),
            Err(VaultError::Tampered(_)) if restore.move_aside => {
                file::move_aside(&path)?;
                Ok(None)
            }
            Err(VaultError::Tampered(_)) => Err(VaultError::NotAVault {
                path,
                reason: "what stands there is no database; move it aside first",
            }),
            Err(other) => Err(other),
        }
    }

    fn lock(path: &Path, busy_timeout: Duration) -> Result<Self, VaultError> {
        let connection = schema::connect(path, busy_timeout)?;
        // In this mode the lock that the first transaction takes stays until the connection is closed.
        connection.pragma_update_and_check(None, "locking_mode", "EXCLUSIVE", |_| Ok(()))?;
        connection.execute_batch("BEGIN EXCLUSIVE; COMMIT")?;
        Ok(Self(connection))
    }

    /// Refuses to replace another vault by mistake. What has no readable head is no vault to protect.
    fn check(&self, id: VaultId, restore: RestoreOptions) -> Result<(), VaultError> {
        if restore.replace_other {
            return Ok(());
        }
        let head = store::read_head(&self.0).ok().and_then(|(body, _)| Head::parse(&body));
        match head {
            Some(head) if head.vault_id != id => {
                Err(VaultError::refused("the backup is of another vault than the one that stands there"))
            }
            None if schema::is_foreign(&self.0) => {
                Err(VaultError::refused("what stands there is the database of another program"))
            }
            _ => Ok(()),
        }
    }

    /// Its last audit entry, if it is the vault of these keys and its head is sound.
    fn last_entry(&self, keys: &Keys) -> Option<Anchor> {
        let (body, mac) = store::read_head(&self.0).ok()?;
        Head::verify(&keys.tree, keys.vault_id, &body, &mac).ok().map(|head| Anchor::of(&head))
    }

    /// Copies it to `NAME.replaced-<seconds>`, durably.
    fn keep(&self, path: &Path, options: &OpenOptions) -> Result<PathBuf, VaultError> {
        let mut name = path.file_name().unwrap_or_default().to_owned();
        name.push(format!(".replaced-{}", options.clock.now().0));
        let draft = Draft::beside(&path.with_file_name(name), &*options.random)?;
        let mut copy = schema::connect(draft.path(), options.busy_timeout)?;
        copy_pages(&self.0, &mut copy, options.busy_timeout)?;
        copy.close().map_err(|(_, error)| error)?;
        draft.publish()
    }

    /// Replaces every page in one transaction.
    fn overwrite(mut self, with: &Path, busy_timeout: Duration) -> Result<(), VaultError> {
        let source = schema::connect(with, busy_timeout)?;
        copy_pages(&source, &mut self.0, busy_timeout)?;
        self.0.close().map_err(|(_, error)| error.into())
    }
}

/// Copies a whole database in one step, so that it is one state of it.
fn copy_pages(from: &Connection, to: &mut Connection, busy_timeout: Duration) -> Result<(), VaultError> {
    let deadline = Instant::now() + busy_timeout;
    let backup = Backup::new(from, to)?;
    loop {
        match backup.step(-1)? {
            StepResult::Done => return Ok(()),
            _ if Instant::now() >= deadline => return Err(VaultError::Busy),
            _ => std::thread::sleep(Duration::from_millis(20)),
        }
    }
}
