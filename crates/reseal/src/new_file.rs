//! New files for something secret: private from birth, durable, and never half there.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use reseal_crypto::Random;
use reseal_crypto::random::OsRandom;
use rustix::fs::{CWD, RenameFlags};
use rustix::io::Errno;

use crate::exit::Exit;
use crate::failure::{Failure, Outcome};

/// A new file of mode 0600. It is removed on drop unless it is kept, so that what fails later leaves nothing behind.
#[derive(Debug)]
pub(crate) struct NewFile {
    path: PathBuf,
    file: File,
    is_kept: bool,
}

impl NewFile {
    /// Creates it, empty.
    ///
    /// # Errors
    ///
    /// The name is taken, or the directory takes no file.
    pub(crate) fn create(path: &Path) -> Outcome<Self> {
        let opened = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
        let file = opened.map_err(|error| match error.kind() {
            io::ErrorKind::AlreadyExists => {
                Failure::new(Exit::Refused, format!("{} exists already", path.display()))
                    .hint("name a new file")
            }
            _ => cannot_write(path)(error),
        })?;
        Ok(Self { path: path.to_owned(), file, is_kept: false })
    }

    /// Creates it under a name that nobody else thinks of, hidden in the directory of `path`, for a
    /// [`rename`](Self::rename) to that.
    ///
    /// # Errors
    ///
    /// The directory takes no file, or the system has no random bytes.
    pub(crate) fn beside(path: &Path, purpose: &str) -> Outcome<Self> {
        let mut tag = [0; 8];
        OsRandom.fill(&mut tag).map_err(|error| Failure::from_error(Exit::Failed, &error))?;
        Self::create(&path.with_file_name(format!(".reseal-{purpose}-{:016x}", u64::from_be_bytes(tag))))
    }

    /// Writes all of it; durable when it returns, name included.
    ///
    /// # Errors
    ///
    /// The file cannot be written.
    pub(crate) fn write(&mut self, bytes: &[u8]) -> Outcome<()> {
        self.file.write_all(bytes).map_err(cannot_write(&self.path))?;
        self.sync()
    }

    /// What is written to piece by piece; [`sync`](Self::sync) follows.
    pub(crate) fn content(&mut self) -> &mut File {
        &mut self.file
    }

    /// Makes it durable, name included.
    ///
    /// # Errors
    ///
    /// The disk does not take it.
    pub(crate) fn sync(&self) -> Outcome<()> {
        let synced = self.file.sync_all().and_then(|()| sync_directory_of(&self.path));
        synced.map_err(cannot_write(&self.path))
    }

    /// Gives it another name in its directory, durably; a file of that name is replaced where `replaces`.
    ///
    /// # Errors
    ///
    /// There is a file of that name that is not to be replaced, or the system does not rename.
    pub(crate) fn rename(mut self, path: &Path, replaces: bool) -> Outcome<()> {
        let flags = if replaces { RenameFlags::empty() } else { RenameFlags::NOREPLACE };
        match rustix::fs::renameat_with(CWD, &self.path, CWD, path, flags) {
            Ok(()) => self.is_kept = true,
            // NFS and some others cannot rename so; a second name never replaces, and the first one goes on drop.
            Err(Errno::INVAL | Errno::NOSYS) if !replaces => {
                fs::hard_link(&self.path, path).map_err(cannot_write(path))?;
            }
            Err(errno) => return Err(cannot_write(path)(errno.into())),
        }
        sync_directory_of(path).map_err(cannot_write(path))
    }

    /// Lets it stay.
    pub(crate) fn keep(mut self) {
        self.is_kept = true;
    }
}

impl Drop for NewFile {
    fn drop(&mut self) {
        if !self.is_kept {
            // What cannot be removed was told: the failure names the file.
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// Writes something secret to a new file that only this user can read; durable when it returns.
///
/// # Errors
///
/// The file exists, or cannot be written.
pub(crate) fn write_new_file(path: &Path, bytes: &[u8]) -> Outcome<()> {
    let mut file = NewFile::create(path)?;
    file.write(bytes)?;
    file.keep();
    Ok(())
}

fn sync_directory_of(path: &Path) -> io::Result<()> {
    let directory = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    File::open(directory)?.sync_all()
}

fn cannot_write(path: &Path) -> impl FnOnce(io::Error) -> Failure {
    let doing = format!("cannot write {}", path.display());
    move |error| Failure::from(error).while_doing(doing)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_kept_is_gone() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("new");
        let mut file = NewFile::create(&path).unwrap();
        file.write(b"half of a secret").unwrap();
        drop(file);
        assert!(!path.exists());
        write_new_file(&path, b"all of it").unwrap();
        assert_eq!(NewFile::create(&path).unwrap_err().exit(), Exit::Refused);
        assert_eq!(fs::read(&path).unwrap(), b"all of it");
    }
}
