//! Whose plan file it is: what lies above the working directory may be anyone's.

use std::fs::{self, File, Metadata};
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use super::error::PlanError;

/// Reads a plan file that nobody but this user and root could have put or changed there.
///
/// # Errors
///
/// [`PlanError`] if someone else could, or the file cannot be read.
pub(super) fn read_own(path: &Path) -> Result<String, PlanError> {
    let failed = |source| PlanError::read(path, source);
    // A link is as good as what it names only for whoever made it.
    let link = fs::symlink_metadata(path).map_err(failed)?;
    let mut file = File::open(path).map_err(failed)?;
    let opened = file.metadata().map_err(failed)?;
    let us = rustix::process::geteuid().as_raw();
    if let Some(doubt) = doubt(&link, us).or_else(|| doubt(&opened, us)) {
        return Err(PlanError::untrusted(path, doubt));
    }
    let mut text = String::new();
    file.read_to_string(&mut text).map_err(failed)?;
    Ok(text)
}

fn doubt(metadata: &Metadata, us: u32) -> Option<&'static str> {
    if ![us, 0].contains(&metadata.uid()) {
        return Some("belongs to another user");
    }
    // The mode of a link says nothing.
    let others_write = !metadata.is_symlink() && metadata.mode() & 0o022 != 0;
    others_write.then_some("may be written by others")
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;
    use crate::plan::{FILE_NAME, Plan};

    #[test]
    fn a_plan_that_others_may_write_is_not_obeyed_unless_it_is_named() {
        let directory = tempfile::tempdir().unwrap();
        let below = directory.path().join("below");
        fs::create_dir(&below).unwrap();
        let path = directory.path().join(FILE_NAME);
        fs::write(&path, "schema = 1\n").unwrap();
        for (mode, is_obeyed) in [(0o600, true), (0o644, true), (0o664, false), (0o646, false)] {
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            assert_eq!(Plan::discover(&below).is_ok(), is_obeyed, "{mode:o}");
            assert!(Plan::load(&path).is_ok());
        }
    }

    #[test]
    fn a_plan_of_another_user_is_doubted() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let metadata = file.as_file().metadata().unwrap();
        assert_eq!(doubt(&metadata, metadata.uid()), None);
        let stranger = metadata.uid() + 1;
        let expected = (metadata.uid() != 0).then_some("belongs to another user");
        assert_eq!(doubt(&metadata, stranger), expected, "root's files are obeyed by everyone");
        let null = fs::metadata("/proc/self").unwrap();
        assert_eq!(doubt(&null, null.uid()), None);
    }
}
