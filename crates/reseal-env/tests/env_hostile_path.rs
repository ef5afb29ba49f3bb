//! Replacing a file, on paths that somebody else prepared.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use reseal_env::{FileError, Links, Target};
use tempfile::TempDir;

/// A folder with `.env`, mode 640, whose path has no link in it.
fn folder() -> TempDir {
    let temporary = std::env::temp_dir().canonicalize().expect("the folder for temporary files");
    let folder = tempfile::tempdir_in(temporary).expect("a folder");
    write(&folder.path().join(".env"), "A=old\n", 0o640);
    folder
}

fn write(path: &Path, text: &str, mode: u32) {
    fs::write(path, text).expect("written");
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("a mode");
}

#[track_caller]
fn check_refused(path: &Path, expected: &str) {
    let error = Target::open(path, Links::Refuse).expect_err("it is refused");
    assert_eq!(error.to_string(), expected);
}

#[track_caller]
fn check_only_env(folder: &TempDir) {
    let names: Vec<_> =
        fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("one").file_name()).collect();
    assert_eq!(names, [".env"], "nothing is left behind");
}

#[test]
fn mode_and_owner_are_kept_and_nothing_is_left_behind() {
    let folder = folder();
    let path = folder.path().join(".env");
    let before = fs::metadata(&path).expect("it is there");
    let target = Target::open(&path, Links::Refuse).expect("it opens");
    assert_eq!(target.bytes(), b"A=old\n");
    target.replace(b"A=new\n").expect("it is replaced");
    let after = fs::metadata(&path).expect("it is there");
    assert_eq!(fs::read(&path).expect("readable"), b"A=new\n");
    assert_eq!((after.mode(), after.uid(), after.gid()), (before.mode(), before.uid(), before.gid()));
    assert_ne!(after.ino(), before.ino(), "replaced, not written over");
    check_only_env(&folder);
}

/// The bytes of an access control list (`acl(5)`, version 2): the owner, one user, the group, the mask, others.
fn access_list(user: u32) -> Vec<u8> {
    let nobody = u32::MAX;
    let entries: [(u16, u16, u32); 5] =
        [(0x01, 6, nobody), (0x02, 4, user), (0x04, 0, nobody), (0x10, 4, nobody), (0x20, 0, nobody)];
    let mut bytes = 2_u32.to_le_bytes().to_vec();
    for (tag, rights, id) in entries {
        bytes.extend(tag.to_le_bytes());
        bytes.extend(rights.to_le_bytes());
        bytes.extend(id.to_le_bytes());
    }
    bytes
}

fn attribute(path: &Path, name: &str) -> Option<Vec<u8>> {
    let mut buffer = [0; 256];
    let length = rustix::fs::getxattr(path, name, &mut buffer).ok()?;
    Some(buffer[..length].to_vec())
}

#[test]
fn access_lists_and_other_attributes_are_kept() {
    const LIST: &str = "system.posix_acl_access";
    let folder = folder();
    let path = folder.path().join(".env");
    let set = |path: &Path, name: &str, value: &[u8]| {
        rustix::fs::setxattr(path, name, value, rustix::fs::XattrFlags::empty()).expect("an attribute");
    };
    set(&path, "user.origin", b"deployment");
    set(&path, LIST, &access_list(4711));
    // A list that the directory hands down to new files is not one that the old file has.
    set(folder.path(), "system.posix_acl_default", &access_list(815));
    let mode = fs::metadata(&path).expect("it is there").mode();
    Target::open(&path, Links::Refuse).expect("it opens").replace(b"A=new\n").expect("it is replaced");
    assert_eq!(attribute(&path, "user.origin").as_deref(), Some(b"deployment".as_slice()));
    assert_eq!(attribute(&path, LIST), Some(access_list(4711)));
    assert_eq!(fs::metadata(&path).expect("it is there").mode(), mode);
    check_only_env(&folder);

    let plain = folder.path().join("plain");
    write(&plain, "A=old\n", 0o600);
    rustix::fs::removexattr(&plain, LIST).expect("without the list it was born with");
    Target::open(&plain, Links::Refuse).expect("it opens").replace(b"A=new\n").expect("it is replaced");
    assert_eq!(attribute(&plain, LIST), None, "nobody gets in who was not in before");
}

#[test]
fn a_change_in_between_is_not_lost() {
    let folder = folder();
    let path = folder.path().join(".env");
    let target = Target::open(&path, Links::Refuse).expect("it opens");
    fs::write(&path, "A=own\n").expect("written");
    assert!(matches!(target.replace(b"A=new\n"), Err(FileError::Changed)));
    assert_eq!(fs::read(&path).expect("readable"), b"A=own\n");
    check_only_env(&folder);
    let target = Target::open(&path, Links::Refuse).expect("it opens");
    fs::remove_file(&path).expect("removed");
    assert!(matches!(target.replace(b"A=new\n"), Err(FileError::Changed)));
}

#[test]
fn env_hostile_path_links_and_special_files_are_refused() {
    let folder = folder();
    let at = |name: &str| folder.path().join(name);
    symlink(".env", at("link")).expect("a link");
    check_refused(&at("link"), "link is a symbolic link");
    symlink(folder.path(), at("dir")).expect("a link");
    check_refused(&at("dir/.env"), "dir is a symbolic link");
    check_refused(Path::new("/dev/null"), "not a regular file");
    check_refused(folder.path(), "not a regular file");
    let mode = rustix::fs::Mode::RUSR;
    rustix::fs::mknodat(rustix::fs::CWD, at("fifo"), rustix::fs::FileType::Fifo, mode, 0).expect("a FIFO");
    check_refused(&at("fifo"), "not a regular file");
    fs::hard_link(at(".env"), at("second")).expect("a second name");
    check_refused(&at(".env"), "the file has 2 names (hard links)");
}

#[test]
fn a_link_is_followed_where_that_is_asked_for() {
    let folder = folder();
    let link = folder.path().join("link");
    symlink(".env", &link).expect("a link");
    Target::open(&link, Links::Follow).expect("it opens").replace(b"A=new\n").expect("it is replaced");
    assert_eq!(fs::read(folder.path().join(".env")).expect("readable"), b"A=new\n");
    assert!(fs::symlink_metadata(&link).expect("it is there").is_symlink(), "the link stays");
}

/// While a thread swaps the directory with a link to another one, only the first is ever read or written.
#[test]
fn env_hostile_path_a_swapped_directory_leads_nowhere() {
    let root = folder();
    let at = |name: &str| root.path().join(name);
    for (name, text) in [("real", "A=old\n"), ("victim", "A=victim\n")] {
        fs::create_dir(at(name)).expect("a folder");
        write(&at(name).join(".env"), text, 0o600);
    }
    symlink("victim", at("link")).expect("a link");
    let is_done = AtomicBool::new(false);
    let (mut replaced, mut refused) = (0_u32, 0_u32);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            // EXCHANGE swaps both names at once, so one of them is always there.
            let directory = rustix::fs::CWD;
            while !is_done.load(Ordering::Relaxed) {
                let flags = rustix::fs::RenameFlags::EXCHANGE;
                rustix::fs::renameat_with(directory, at("real"), directory, at("link"), flags)
                    .expect("swapped");
            }
        });
        for attempt in 0..100_000 {
            let Ok(target) = Target::open(&at("real/.env"), Links::Refuse) else {
                refused += 1;
                continue;
            };
            assert_ne!(target.bytes(), b"A=victim\n");
            // Each of these waits for the disk.
            if attempt % 100 == 0 {
                target.replace(b"A=new\n").expect("it is replaced");
                replaced += 1;
            }
        }
        is_done.store(true, Ordering::Relaxed);
    });
    assert!(replaced > 0 && refused > 0, "both happened: {replaced} and {refused}");
    assert_eq!(fs::read(at("victim/.env")).expect("readable"), b"A=victim\n");
    assert_eq!(fs::read_dir(at("victim")).expect("a folder").count(), 1, "nothing was put there");
}
