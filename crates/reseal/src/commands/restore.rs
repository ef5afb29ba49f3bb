//! `snapshot restore`: a file as it was. What stands in its place is kept first.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, fchown};
use std::path::{Path, PathBuf};

use reseal_vault::{Event, SnapshotInfo, Vault};

use super::snapshots::object;
use crate::app::App;
use crate::args::SnapshotRestoreArgs;
use crate::exit::Exit;
use crate::failure::{Failure, Outcome};
use crate::new_file::NewFile;
use crate::whole_file::WholeFile;

/// Puts a file back.
///
/// # Errors
///
/// Nobody says yes to replacing what stands there, the owner cannot be given, or the file cannot be written.
pub(crate) fn run(app: &App, args: &SnapshotRestoreArgs) -> Outcome {
    let mut vault = app.vault()?;
    let info = vault.snapshot(&args.which.snapshot)?;
    let origin = info.origin.as_ref().map(|origin| PathBuf::from(&origin.path));
    let Some(path) = args.to.clone().or(origin) else {
        return Err(Failure::new(Exit::Usage, format!("{} was a stream, not a file", info.name))
            .hint("say where with --to, or use `reseal snapshot cat`"));
    };
    let doing = format!("cannot restore {}", path.display());
    let is_own_place = args.to.is_none();
    let restored = put_back(app, &mut vault, &info, &path, is_own_place);
    let kept = restored.map_err(|failure| failure.while_doing(doing))?;
    let mut found = object(&info);
    found["restored"] = path.display().to_string().into();
    found["replaced"] = kept.as_ref().map(|kept| kept.id.to_string()).into();
    app.ui.result(found, || match &kept {
        Some(kept) => format!("{} is restored; what it replaced is snapshot {}", path.display(), kept.id),
        None => format!("{} is restored", path.display()),
    })?;
    Ok(Exit::Done)
}

/// Says what stood there before, as a snapshot.
fn put_back(
    app: &App,
    vault: &mut Vault,
    info: &SnapshotInfo,
    path: &Path,
    is_own_place: bool,
) -> Outcome<Option<SnapshotInfo>> {
    let present = match WholeFile::open(path) {
        Ok(file) => Some(file),
        Err(failure) if failure.exit() == Exit::NotFound => None,
        Err(failure) => return Err(failure),
    };
    let kept = match present {
        None => None,
        Some(mut file) => {
            app.asker().confirm(&format!("replace {}?", path.display()))?;
            let kept = vault.snapshot_add(
                &format!("before restoring {}", info.id),
                Some(file.origin()?),
                file.content()?,
            )?;
            Some((kept, file))
        }
    };
    vault.record_event(Event::intent("snapshot restore").of(path.display()).detail(info.id.to_string()))?;
    let draft = draft(vault, info, path, is_own_place)?;
    let kept = match kept {
        None => {
            draft.rename(path, false)?;
            None
        }
        Some((kept, mut file)) => {
            // The last look: is it still what was kept?
            if !vault.snapshot_is(kept.id, file.content()?)? || !file.is_unchanged()? {
                return Err(Failure::new(Exit::Conflict, "it changed meanwhile; it is left as it is"));
            }
            draft.rename(path, true)?;
            Some(kept)
        }
    };
    vault.record_event(Event::done("snapshot restore").of(path.display()).detail(info.id.to_string()))?;
    Ok(kept)
}

/// The file under another name beside its place, whole and durable.
fn draft(vault: &mut Vault, info: &SnapshotInfo, path: &Path, is_own_place: bool) -> Outcome<NewFile> {
    let mut draft = NewFile::beside(path, "restore")?;
    vault.snapshot_read(info.id, Event::done("snapshot read"), draft.content())?;
    if let Some(origin) = &info.origin {
        let file = draft.content();
        let now = file.metadata()?;
        if is_own_place && (now.uid(), now.gid()) != (origin.user, origin.group) {
            fchown(&mut *file, Some(origin.user), Some(origin.group)).map_err(|error| {
                Failure::from(error)
                    .with_exit(Exit::Refused)
                    .while_doing(format!("cannot give it to its owner {}:{}", origin.user, origin.group))
                    .hint("run this as root, or restore it as a file of yours with --to")
            })?;
        }
        // The owner first: a change of owner takes bits of the mode away.
        file.set_permissions(fs::Permissions::from_mode(origin.mode))?;
    }
    draft.sync()?;
    Ok(draft)
}
