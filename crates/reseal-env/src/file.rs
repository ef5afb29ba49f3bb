//! Replacing a file: atomic, durable, with the mode, owner and extended attributes it had, and never anywhere else than where it was read.
//!
//! ```text
//! open the directory, no link on the way --> open the file in it, read it
//! drafts of killed processes go --> temporary file in that directory, 0600, locked --> write, owner, attributes, mode, fsync --> is the file still what was read? --> rename --> fsync
//! ```
//!
//! The directory is held open and everything is named relative to it, so whoever swaps a directory of the path meanwhile
//! moves nothing.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;
use std::path::{Component, Path};

use rustix::fs::{self, AtFlags, FileType, Mode, OFlags, Stat};
use rustix::io::Errno;

use crate::Secret;
use crate::attributes::Attributes;
use crate::draft::{self, Draft};
use crate::error::FileError;

/// The largest file that is read, in bytes.
pub const FILE_BYTES_MAX: u64 = 16 * 1024 * 1024;

/// Whether symbolic links in a path are followed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Links {
    /// A link anywhere in the path is an error.
    Refuse,
    /// Links are resolved once; what they lead to is edited, and the links stay.
    Follow,
}

/// A file that was read and may be replaced.
#[derive(Debug)]
pub struct Target {
    directory: OwnedFd,
    name: OsString,
    found: Found,
}

/// What was read, and of what.
#[derive(Debug)]
struct Found {
    stat: Stat,
    attributes: Attributes,
    bytes: Secret,
}

impl Target {
    /// Opens and reads a file.
    ///
    /// # Errors
    ///
    /// [`FileError`] if a link is on the way and not to be followed, if it is no regular file, if it has several names, or if
    /// it cannot be read.
    pub fn open(path: &Path, links: Links) -> Result<Self, FileError> {
        match links {
            Links::Refuse => Self::open_directly(path),
            Links::Follow => {
                let resolved =
                    path.canonicalize().map_err(|source| io_error("resolving the path", source))?;
                Self::open_directly(&resolved)
            }
        }
    }

    fn open_directly(path: &Path) -> Result<Self, FileError> {
        let name = path.file_name().ok_or(FileError::NoName)?.to_owned();
        let directory = open_directory(path.parent().unwrap_or(Path::new("")))?;
        let found = read(&directory, &name)?;
        Ok(Self { directory, name, found })
    }

    /// What the file held when it was opened.
    pub fn bytes(&self) -> &[u8] {
        self.found.bytes.expose()
    }

    /// Replaces the file. It has the mode, owner and extended attributes (access control lists among them) of the old one; readers see the old or the new bytes, never a mixture.
    ///
    /// # Errors
    ///
    /// [`FileError::Changed`] if the file is no longer what was read; the others if a system call fails, such as for a full
    /// disk or an owner or attribute that may not be given. The old file stands then, and nothing is left beside it, but for
    /// [`FileError::NotDurable`].
    pub fn replace(self, new: &[u8]) -> Result<(), FileError> {
        draft::sweep(&self.directory, &self.found.stat);
        let Draft { name: temporary, file } = Draft::create(&self.directory)?;
        let written = self.fill(&file, new).and_then(|()| self.check_unchanged()).and_then(|()| {
            fs::renameat(&self.directory, &temporary, &self.directory, &self.name)
                .map_err(|errno| io_error("renaming", errno.into()))
        });
        if let Err(error) = written {
            // The first error is the one to tell; what may stay behind is for no more eyes than the file itself.
            let _ = fs::unlinkat(&self.directory, &temporary, AtFlags::empty());
            return Err(error);
        }
        // Held until it has its name.
        drop(file);
        fs::fsync(&self.directory).map_err(|errno| FileError::NotDurable(errno.into()))
    }

    /// Writes while only we may read; the mode that others may have comes last.
    fn fill(&self, mut file: &File, new: &[u8]) -> Result<(), FileError> {
        file.write_all(new).map_err(|source| io_error("writing", source))?;
        let owner = fs::fstat(file).map_err(|errno| io_error("looking at the new file", errno.into()))?;
        let old = &self.found.stat;
        if (owner.st_uid, owner.st_gid) != (old.st_uid, old.st_gid) {
            let user = fs::Uid::from_raw(old.st_uid);
            let group = fs::Gid::from_raw(old.st_gid);
            fs::fchown(file, Some(user), Some(group))
                .map_err(|errno| io_error("giving the new file the owner of the old one", errno.into()))?;
        }
        // Before the mode: with a list, the bits of the group say what everybody on it may at most.
        self.found.attributes.give_to(file)?;
        fs::fchmod(file, Mode::from_raw_mode(old.st_mode))
            .map_err(|errno| io_error("giving the new file the mode of the old one", errno.into()))?;
        file.sync_all().map_err(|source| io_error("syncing", source))
    }

    /// The last look before the rename: same file, same times, same bytes.
    fn check_unchanged(&self) -> Result<(), FileError> {
        match read(&self.directory, &self.name) {
            Ok(now) if is_same(&now.stat, &self.found.stat) && now.bytes == self.found.bytes => Ok(()),
            Err(error @ FileError::Io { .. }) if !is_missing(&error) => Err(error),
            _ => Err(FileError::Changed),
        }
    }
}

fn is_missing(error: &FileError) -> bool {
    matches!(error, FileError::Io { source, .. } if source.kind() == io::ErrorKind::NotFound)
}

fn is_same(a: &Stat, b: &Stat) -> bool {
    let identity =
        |stat: &Stat| (stat.st_dev, stat.st_ino, stat.st_mode, stat.st_uid, stat.st_gid, stat.st_size);
    let times = |stat: &Stat| (stat.st_mtime, stat.st_mtime_nsec, stat.st_ctime, stat.st_ctime_nsec);
    identity(a) == identity(b) && times(a) == times(b)
}

fn io_error(action: &'static str, source: io::Error) -> FileError {
    FileError::Io { action, source }
}

/// Opens a directory step by step, so that a link at any step is seen.
fn open_directory(path: &Path) -> Result<OwnedFd, FileError> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let failed = |errno: Errno| io_error("opening the directory", errno.into());
    let start = if path.is_absolute() { "/" } else { "." };
    let mut directory = fs::open(start, flags, Mode::empty()).map_err(failed)?;
    for component in path.components() {
        let step = match component {
            Component::Normal(step) => step,
            Component::ParentDir => OsStr::new(".."),
            Component::RootDir | Component::CurDir | Component::Prefix(_) => continue,
        };
        let opened = fs::openat(&directory, step, flags, Mode::empty());
        directory = opened.map_err(|errno| link_or(&directory, step, failed(errno)))?;
    }
    Ok(directory)
}

/// Says that the name is a link if it is one; the system's own answer for that differs from call to call.
fn link_or(directory: &OwnedFd, name: &OsStr, error: FileError) -> FileError {
    match fs::statat(directory, name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(stat) if FileType::from_raw_mode(stat.st_mode) == FileType::Symlink => {
            FileError::SymbolicLink(name.to_string_lossy().into_owned())
        }
        _ => error,
    }
}

/// Reads a regular file with one name. The type is looked at first: opening a device may do something.
fn read(directory: &OwnedFd, name: &OsStr) -> Result<Found, FileError> {
    let look = fs::statat(directory, name, AtFlags::SYMLINK_NOFOLLOW)
        .map_err(|errno| io_error("looking at the file", errno.into()))?;
    check_kind(&look, name)?;
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let file = fs::openat(directory, name, flags, Mode::empty())
        .map_err(|errno| link_or(directory, name, io_error("opening the file", errno.into())))?;
    let stat = fs::fstat(&file).map_err(|errno| io_error("looking at the file", errno.into()))?;
    check_kind(&stat, name)?;
    let size = u64::try_from(stat.st_size).unwrap_or(u64::MAX);
    if size > FILE_BYTES_MAX {
        return Err(FileError::TooLarge(FILE_BYTES_MAX));
    }
    // With room for all of it, so that reading moves no buffer with secrets; one more byte shows growth.
    let room = usize::try_from(size).unwrap_or_default() + 1;
    let mut bytes = zeroize::Zeroizing::new(vec![0; room]);
    let mut filled = 0;
    let mut file = File::from(file);
    while filled < room {
        match file.read(&mut bytes[filled..]) {
            Ok(0) => break,
            Ok(count) => filled += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(source) => return Err(io_error("reading", source)),
        }
    }
    if filled == room {
        return Err(FileError::Changed);
    }
    let attributes = Attributes::of(&file)?;
    Ok(Found { stat, attributes, bytes: Secret::copy_from(&bytes[..filled]) })
}

fn check_kind(stat: &Stat, name: &OsStr) -> Result<(), FileError> {
    match FileType::from_raw_mode(stat.st_mode) {
        FileType::RegularFile if stat.st_nlink > 1 => Err(FileError::HardLinks(stat.st_nlink)),
        FileType::RegularFile => Ok(()),
        FileType::Symlink => Err(FileError::SymbolicLink(name.to_string_lossy().into_owned())),
        _ => Err(FileError::NotRegular),
    }
}
