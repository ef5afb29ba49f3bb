//! A file that is kept whole: found without following a link, and removed only if it is still the one that was read.

use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::io::{Seek, SeekFrom};
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use reseal_vault::{Origin, Timestamp};
use rustix::fs::{AtFlags, Mode, OFlags};

use crate::exit::Exit;
use crate::failure::{Failure, Outcome};

/// A regular file, open for reading.
#[derive(Debug)]
pub(crate) struct WholeFile {
    path: PathBuf,
    directory: OwnedFd,
    name: OsString,
    file: File,
    found: fs::Metadata,
}

impl WholeFile {
    /// Opens a file. Links in the path of its directory are resolved; the file itself must be none.
    ///
    /// # Errors
    ///
    /// There is none, or it is a link, a directory or something else that has no bytes of its own.
    pub(crate) fn open(path: &Path) -> Outcome<Self> {
        let opened = Self::try_open(path);
        opened.map_err(|failure| failure.while_doing(format!("cannot open {}", path.display())))
    }

    fn try_open(path: &Path) -> Outcome<Self> {
        let name = path.file_name().ok_or_else(|| Failure::new(Exit::Usage, "this names no file"))?;
        let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
        let folder = fs::canonicalize(parent.unwrap_or(Path::new("."))).map_err(not_found)?;
        let flags = OFlags::RDONLY | OFlags::CLOEXEC;
        let directory = rustix::fs::open(&folder, flags | OFlags::DIRECTORY, Mode::empty())
            .map_err(|errno| not_found(errno.into()))?;
        // Without waiting: whoever opens a FIFO would.
        let careful = flags | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY;
        let file =
            rustix::fs::openat(&directory, name, careful, Mode::empty()).map_err(|errno| match errno {
                rustix::io::Errno::LOOP => refused("a symbolic link"),
                errno => not_found(errno.into()),
            })?;
        let file = File::from(file);
        let found = file.metadata()?;
        if !found.is_file() {
            return Err(refused("no regular file"));
        }
        Ok(Self { path: folder.join(name), directory, name: name.to_owned(), file, found })
    }

    /// Its absolute path.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Where it is and what it is.
    ///
    /// # Errors
    ///
    /// Its path is not UTF-8.
    pub(crate) fn origin(&self) -> Outcome<Origin> {
        let path = self.path.to_str().ok_or_else(|| refused("a file whose path is not UTF-8"))?;
        Ok(Origin {
            path: path.to_owned(),
            mode: self.found.mode() & 0o7777,
            user: self.found.uid(),
            group: self.found.gid(),
            modified: Timestamp(self.found.mtime()),
        })
    }

    /// Its content, from the beginning.
    ///
    /// # Errors
    ///
    /// The system does not go there.
    pub(crate) fn content(&mut self) -> Outcome<&mut File> {
        self.file.seek(SeekFrom::Start(0))?;
        Ok(&mut self.file)
    }

    /// Says whether removing its name removes it.
    ///
    /// # Errors
    ///
    /// It has other names.
    pub(crate) fn check_only_name(&self) -> Outcome<()> {
        match self.found.nlink() {
            1 => Ok(()),
            names => Err(Failure::new(
                Exit::Refused,
                format!("{} has {names} names (hard links)", self.path.display()),
            )
            .hint(
                "the others would keep the content: remove them, or keep the file without --delete-source",
            )),
        }
    }

    /// Removes it, durably, if it is still what was read.
    ///
    /// # Errors
    ///
    /// Somebody changed or replaced it, or it cannot be removed.
    pub(crate) fn remove(self) -> Outcome<()> {
        if !self.is_unchanged()? {
            return Err(Failure::new(Exit::Conflict, format!("{} changed meanwhile", self.path.display()))
                .hint("it is left as it is: look at what changed it, then repeat the command"));
        }
        let name: &OsStr = &self.name;
        rustix::fs::unlinkat(&self.directory, name, AtFlags::empty()).map_err(std::io::Error::from)?;
        rustix::fs::fsync(&self.directory).map_err(std::io::Error::from)?;
        Ok(())
    }

    /// Whether its name still stands for it, and nobody wrote to it.
    ///
    /// # Errors
    ///
    /// There is no such name any more.
    pub(crate) fn is_unchanged(&self) -> Outcome<bool> {
        let name: &OsStr = &self.name;
        let now = rustix::fs::statat(&self.directory, name, AtFlags::SYMLINK_NOFOLLOW)
            .map_err(|errno| not_found(errno.into()))?;
        let open = rustix::fs::fstat(&self.file).map_err(std::io::Error::from)?;
        let found = &self.found;
        let is_same_file = (now.st_dev, now.st_ino) == (open.st_dev, open.st_ino);
        let is_unchanged = (open.st_mtime, open.st_ctime) == (found.mtime(), found.ctime())
            && u64::try_from(open.st_size).ok() == Some(found.len())
            && i64::try_from(open.st_mtime_nsec).ok() == Some(found.mtime_nsec())
            && i64::try_from(open.st_ctime_nsec).ok() == Some(found.ctime_nsec());
        Ok(is_same_file && is_unchanged)
    }
}

fn refused(what: &str) -> Failure {
    Failure::new(Exit::Refused, format!("it is {what}"))
}

fn not_found(error: std::io::Error) -> Failure {
    let is_missing = error.kind() == std::io::ErrorKind::NotFound;
    let failure = Failure::from(error);
    if is_missing { failure.with_exit(Exit::NotFound) } else { failure }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn only_what_was_read_is_removed() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("f");
        let open = || {
            fs::write(&path, "one").unwrap();
            WholeFile::open(&path).unwrap()
        };
        open().remove().unwrap();
        assert!(!path.exists());
        let file = open();
        fs::write(&path, "two").unwrap();
        assert_eq!(file.remove().unwrap_err().exit(), Exit::Conflict);
        let file = open();
        fs::rename(&path, directory.path().join("other")).unwrap();
        fs::write(&path, "one").unwrap();
        assert_eq!(file.remove().unwrap_err().exit(), Exit::Conflict);
        assert!(path.exists());
        fs::hard_link(&path, directory.path().join("second")).unwrap();
        assert_eq!(WholeFile::open(&path).unwrap().check_only_name().unwrap_err().exit(), Exit::Refused);
    }

    #[test]
    fn what_is_no_file_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let at = |name: &str| directory.path().join(name);
        symlink("f", at("link")).unwrap();
        let exit = |path: &Path| WholeFile::open(path).unwrap_err().exit();
        assert_eq!(exit(&at("link")), Exit::Refused);
        assert_eq!(exit(directory.path()), Exit::Refused);
        assert_eq!(exit(Path::new("/dev/null")), Exit::Refused);
        assert_eq!(exit(&at("missing")), Exit::NotFound);
        assert_eq!(exit(&at("missing/f")), Exit::NotFound);
    }
}
