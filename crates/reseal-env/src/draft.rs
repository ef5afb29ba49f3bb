//! The file that is written beside its target before it takes its name.
//!
//! Whoever writes one holds a lock on it (`flock`), which ends with the process. A draft that nobody holds was left by a
//! process that was killed: the next replacement in that directory removes it.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;

use rustix::fs::{self, AtFlags, FileType, FlockOperation, Mode, OFlags, Stat};
use rustix::io::Errno;

use crate::error::FileError;

/// What every name of a draft begins with; 16 digits follow.
const PREFIX: &str = ".reseal-";

/// How often a draft is made anew because somebody took it for one that was left.
const TRIES: usize = 8;

/// A new file of mode 0600 that is held.
pub(crate) struct Draft {
    pub(crate) name: OsString,
    pub(crate) file: File,
}

impl Draft {
    /// Makes one in a directory.
    pub(crate) fn create(directory: &OwnedFd) -> Result<Self, FileError> {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        for _ in 0..TRIES {
            let name = random_name()?;
            let file = fs::openat(directory, &name, flags, Mode::RUSR | Mode::WUSR)
                .map_err(|errno| failed("creating a file beside it", errno))?;
            match fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
                // Whoever holds it now removes it.
                Err(Errno::WOULDBLOCK) => continue,
                // A file system without locks: nobody removes anything there.
                Err(_) => {}
                Ok(()) if !is_still(directory, &name, &file) => continue,
                Ok(()) => {}
            }
            return Ok(Self { name, file: File::from(file) });
        }
        Err(failed("holding a file beside it", Errno::BUSY))
    }
}

/// Removes the drafts in a directory that nobody holds: regular files of this user, or of the owner of the target. What
/// stands in the way of that stands in the way of nothing else.
pub(crate) fn sweep(directory: &OwnedFd, target: &Stat) {
    let owners = [rustix::process::geteuid().as_raw(), target.st_uid];
    let Ok(entries) = fs::Dir::read_from(directory) else { return };
    for entry in entries.flatten() {
        let name = OsStr::from_bytes(entry.file_name().to_bytes());
        if is_name(name) {
            // Another process may be at it as well.
            let _ = remove_unheld(directory, name, &owners);
        }
    }
}

fn remove_unheld(directory: &OwnedFd, name: &OsStr, owners: &[u32]) -> Result<(), Errno> {
    let look = fs::statat(directory, name, AtFlags::SYMLINK_NOFOLLOW)?;
    if FileType::from_raw_mode(look.st_mode) != FileType::RegularFile || !owners.contains(&look.st_uid) {
        return Ok(());
    }
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let file = fs::openat(directory, name, flags, Mode::empty())?;
    fs::flock(&file, FlockOperation::NonBlockingLockExclusive)?;
    if is_still(directory, name, &file) {
        fs::unlinkat(directory, name, AtFlags::empty())?;
    }
    Ok(())
}

/// Whether the name still leads to the file that was opened by it.
fn is_still(directory: &OwnedFd, name: &OsStr, file: impl AsFd) -> bool {
    let identity = |stat: Stat| (stat.st_dev, stat.st_ino);
    let named = fs::statat(directory, name, AtFlags::SYMLINK_NOFOLLOW).map(identity);
    named.is_ok() && named == fs::fstat(file).map(identity)
}

fn random_name() -> Result<OsString, FileError> {
    let mut random = [0; 8];
    getrandom::fill(&mut random).map_err(|error| FileError::Io {
        action: "drawing a random name",
        source: io::Error::other(error.to_string()),
    })?;
    Ok(OsString::from(format!("{PREFIX}{:016x}", u64::from_le_bytes(random))))
}

fn is_name(name: &OsStr) -> bool {
    let digits = name.as_bytes().strip_prefix(PREFIX.as_bytes());
    let is_digit = |byte: &u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(byte);
    digits.is_some_and(|digits| digits.len() == 16 && digits.iter().all(is_digit))
}

fn failed(action: &'static str, errno: Errno) -> FileError {
    FileError::Io { action, source: errno.into() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_drafts_are_known() {
        assert!(is_name(&random_name().unwrap()));
        for other in
            [".reseal-", ".reseal-0123456789ABCDEF", ".reseal-0123456789abcdef0", "reseal-0123456789abcdef"]
        {
            assert!(!is_name(OsStr::new(other)), "{other}");
        }
    }

    #[test]
    fn what_is_held_or_no_draft_stays() {
        let folder = tempfile::tempdir().unwrap();
        let directory = OwnedFd::from(File::open(folder.path()).unwrap());
        let target = fs::fstat(&directory).unwrap();
        let held = Draft::create(&directory).unwrap();
        let left = Draft::create(&directory).unwrap().name;
        std::fs::create_dir(folder.path().join(".reseal-0000000000000001")).unwrap();
        std::os::unix::fs::symlink("x", folder.path().join(".reseal-0000000000000002")).unwrap();
        std::fs::write(folder.path().join(".reseal-000000000000003"), "").unwrap();
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 5);
        sweep(&directory, &target);
        assert!(!folder.path().join(&left).exists() && folder.path().join(&held.name).exists());
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 4);
        drop(held.file);
        assert!(remove_unheld(&directory, &held.name, &[target.st_uid + 1]).is_ok());
        assert!(folder.path().join(&held.name).exists(), "the file of another user");
    }
}
