//! The file under a vault: what is refused before SQLite sees it, and how a new one comes to be.
//!
//! A new vault is built and synced under a temporary name in its own directory and then linked, never renamed: a
//! link does not replace anything, and the hot journal of another file is never played into ours.

use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use reseal_crypto::Random;

use crate::error::{Thing, VaultError};

/// What SQLite may put beside a database.
const SIDE_FILES: [&str; 3] = ["-journal", "-wal", "-shm"];

/// Checks an existing vault file and returns its path with every link of the directory part resolved.
///
/// # Errors
///
/// [`VaultError::NoVault`] if there is none; [`VaultError::UnsafeFile`] if it is not a regular file, belongs to someone
/// else, or others may write to it or replace it.
pub(crate) fn check_existing(path: &Path) -> Result<PathBuf, VaultError> {
    let path = resolve(path)?;
    let metadata = regular(&path)?;
    let unsafe_because = |reason| Err(VaultError::UnsafeFile { path: path.clone(), reason });
    let us = rustix::process::geteuid();
    if !us.is_root() && metadata.uid() != us.as_raw() {
        return unsafe_because("belongs to another user");
    }
    if metadata.mode() & 0o022 != 0 {
        return unsafe_because("may be written by others: set its mode to 0600");
    }
    Ok(path)
}

/// Checks a file that is only to be read: that it is one, and no link. Returns its path as [`check_existing`] does.
///
/// # Errors
///
/// [`VaultError::NoBackup`] if there is none, [`VaultError::UnsafeFile`].
pub(crate) fn check_backup(path: &Path) -> Result<PathBuf, VaultError> {
    let found = directory_of(path).and_then(|(_, path)| regular(&path).map(|_| path));
    found.map_err(|error| match error {
        VaultError::NoVault(_) | VaultError::NoDirectory(_) => VaultError::NoBackup(path.to_owned()),
        other => other,
    })
}

fn regular(path: &Path) -> Result<fs::Metadata, VaultError> {
    let metadata = fs::symlink_metadata(path).map_err(|error| match error.kind() {
        std::io::ErrorKind::NotFound => VaultError::NoVault(path.to_owned()),
        _ => VaultError::io("look at", path)(error),
    })?;
    let unsafe_because = |reason| Err(VaultError::UnsafeFile { path: path.to_owned(), reason });
    if metadata.is_symlink() {
        return unsafe_because("is a symbolic link");
    }
    if metadata.is_file() { Ok(metadata) } else { unsafe_because("is not a regular file") }
}

/// Resolves the directory of `path` and checks that strangers cannot replace files in it.
///
/// # Errors
///
/// [`VaultError::NoDirectory`], [`VaultError::UnsafeFile`].
pub(crate) fn resolve(path: &Path) -> Result<PathBuf, VaultError> {
    let (directory, path) = directory_of(path)?;
    let mode = fs::metadata(&directory).map_err(VaultError::io("look at", &directory))?.mode();
    if mode & 0o002 != 0 && mode & 0o1000 == 0 {
        return Err(VaultError::UnsafeFile { path: directory, reason: "may be written by everyone" });
    }
    Ok(path)
}

/// The directory of `path` with every link resolved, and the file in it.
fn directory_of(path: &Path) -> Result<(PathBuf, PathBuf), VaultError> {
    let Some(name) = path.file_name() else {
        return Err(VaultError::UnsafeFile { path: path.to_owned(), reason: "does not name a file" });
    };
    let parent = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    let directory = fs::canonicalize(parent).map_err(|error| match error.kind() {
        std::io::ErrorKind::NotFound => VaultError::NoDirectory(parent.to_owned()),
        _ => VaultError::io("look at", parent)(error),
    })?;
    let path = directory.join(name);
    Ok((directory, path))
}

/// Renames a file and what SQLite left beside it to `NAME.damaged-<n>`, so that nothing is lost.
pub(crate) fn move_aside(path: &Path) -> Result<(), VaultError> {
    let aside = |n: u32, path: &Path| {
        let mut name = path.as_os_str().to_owned();
        name.push(format!(".damaged-{n}"));
        PathBuf::from(name)
    };
    let exists = |path: &Path| fs::symlink_metadata(path).is_ok();
    // Side files first: a crash in between leaves no journal that could be played into another file.
    let files: Vec<PathBuf> = side_files(path).chain([path.to_owned()]).collect();
    let free = |n: &u32| !files.iter().any(|file| exists(&aside(*n, file)));
    let free = (1..).find(free).unwrap_or(u32::MAX);
    for file in files.iter().filter(|file| exists(file)) {
        fs::rename(file, aside(free, file)).map_err(VaultError::io("move aside", file))?;
    }
    sync_directory_of(path)
}

/// A private file under construction, in the directory where it will live; removed on drop unless published.
#[derive(Debug)]
pub(crate) struct Draft {
    path: PathBuf,
    target: PathBuf,
}

impl Draft {
    /// Creates an empty file of mode 0600 beside `target` (resolved), under a random name.
    pub(crate) fn beside(target: &Path, random: &dyn Random) -> Result<Self, VaultError> {
        let mut tag = [0; 8];
        random.fill(&mut tag)?;
        let name = target.file_name().unwrap_or_default().to_string_lossy();
        let path = target.with_file_name(format!(".{name}.{}.draft", hex::encode(tag)));
        OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&path)
            .map_err(VaultError::io("create", &path))?;
        Ok(Self { path, target: target.to_owned() })
    }

    /// Where to build.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Syncs the file and gives it its name; durable when this returns.
    ///
    /// # Errors
    ///
    /// [`VaultError::Exists`] if the name, or a side file that SQLite would take for its own, exists.
    pub(crate) fn publish(self) -> Result<PathBuf, VaultError> {
        sync(&self.path)?;
        let taken = || VaultError::Exists { what: Thing::File, name: self.target.display().to_string() };
        if side_files(&self.target).any(|side| fs::symlink_metadata(side).is_ok()) {
            return Err(taken());
        }
        fs::hard_link(&self.path, &self.target).map_err(|error| match error.kind() {
            std::io::ErrorKind::AlreadyExists => taken(),
            _ => VaultError::io("link", &self.target)(error),
        })?;
        let target = self.target.clone();
        drop(self);
        sync_directory_of(&target)?;
        Ok(target)
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        for path in side_files(&self.path).chain([self.path.clone()]) {
            // What is already gone needs no removing; what cannot be removed is sealed and harmless.
            let _ = fs::remove_file(path);
        }
    }
}

/// The names that SQLite gives to files beside the database `path`.
pub(crate) fn side_files(path: &Path) -> impl Iterator<Item = PathBuf> {
    SIDE_FILES.into_iter().map(move |suffix| {
        let mut name = path.as_os_str().to_owned();
        name.push(suffix);
        PathBuf::from(name)
    })
}

/// Makes the contents of a file durable.
pub(crate) fn sync(path: &Path) -> Result<(), VaultError> {
    File::open(path).and_then(|file| file.sync_all()).map_err(VaultError::io("sync", path))
}

/// Makes the names in the directory of `path` durable.
pub(crate) fn sync_directory_of(path: &Path) -> Result<(), VaultError> {
    let directory = path.parent().unwrap_or(Path::new("/"));
    sync(directory)
}
