//! Extended attributes of a file: access control lists, security labels, what users put there.

use std::ffi::{CStr, CString};

use rustix::fd::AsFd;
use rustix::fs::{self, XattrFlags};
use rustix::io::Errno;

use crate::error::FileError;

/// The largest list of names, and the largest value, that Linux has (`XATTR_LIST_MAX`, `XATTR_SIZE_MAX`).
const BYTES_MAX: usize = 64 * 1024;

/// The extended attributes of a file, by name.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Attributes(Vec<(CString, Vec<u8>)>);

impl Attributes {
    /// Reads those of a file; a file system without any has none.
    pub(crate) fn of(file: impl AsFd) -> Result<Self, FileError> {
        let failed =
            |errno: Errno| FileError::Io { action: "reading extended attributes", source: errno.into() };
        let mut buffer = vec![0; BYTES_MAX];
        let length = match fs::flistxattr(&file, &mut buffer) {
            Err(Errno::NOTSUP) => return Ok(Self::default()),
            listed => listed.map_err(failed)?,
        };
        let names: Vec<CString> = buffer[..length]
            .split_inclusive(|&byte| byte == 0)
            .filter_map(|name| CStr::from_bytes_with_nul(name).ok().map(CStr::to_owned))
            .collect();
        let mut found = Vec::with_capacity(names.len());
        for name in names {
            let length = fs::fgetxattr(&file, &*name, &mut buffer).map_err(failed)?;
            found.push((name, buffer[..length].to_vec()));
        }
        found.sort();
        Ok(Self(found))
    }

    /// Gives them to a new file, and takes from it what it has besides, such as a list that its directory hands down.
    pub(crate) fn give_to(&self, file: impl AsFd) -> Result<(), FileError> {
        let present = Self::of(&file)?;
        for (name, value) in self.0.iter().filter(|wanted| !present.0.contains(wanted)) {
            fs::fsetxattr(&file, &**name, value, XattrFlags::empty()).map_err(|_| refused(name))?;
        }
        for (name, _) in present.0.iter().filter(|(name, _)| self.0.iter().all(|(kept, _)| kept != name)) {
            fs::fremovexattr(&file, &**name).map_err(|_| refused(name))?;
        }
        Ok(())
    }
}

fn refused(name: &CStr) -> FileError {
    FileError::Attribute(name.to_string_lossy().into_owned())
}
