//! A file that is replaced on a disk that fails, or by a process that is killed: the old file stands, or the new one does.
//!
//! `strace` lets the n-th call of a kind fail, or kills the process at it, for every kind and every n that a replacement makes.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Command, ExitStatus};

use reseal_env::{Links, Target};
use rustix::fs::XattrFlags;
use tempfile::TempDir;

const DIRECTORY: &str = "ENV_TEST_DIRECTORY";
const OLD: &[u8] = b"A=old\n";
/// More than a disk of 8 KiB holds.
const NEW_BYTES: usize = 20_000;

fn new_bytes() -> Vec<u8> {
    [b"A=new\n".as_slice(), &vec![b'#'; NEW_BYTES], b"\n"].concat()
}

/// Every call by which a file or a directory changes or becomes durable.
const CALLS: &str = "write,fchmod,fchown,fsetxattr,fsync,renameat,unlinkat";

fn folder() -> TempDir {
    let temporary = std::env::temp_dir().canonicalize().expect("the folder for temporary files");
    let folder = tempfile::tempdir_in(temporary).expect("a folder");
    let path = folder.path().join(".env");
    fs::write(&path, OLD).expect("written");
    // With an attribute, so that giving it to the new file is one of the calls.
    let file = fs::File::open(&path).expect("it opens");
    rustix::fs::fsetxattr(&file, c"user.reseal-test", b"1", XattrFlags::empty()).expect("an attribute");
    folder
}

/// What the other tests run as a process of its own; on its own it does nothing.
#[test]
fn replaces_as_told() {
    let Some(directory) = std::env::var_os(DIRECTORY) else { return };
    // `strace` counts the calls of each thread: so the numbers of the writes below are none that the test's own output has.
    let mut nowhere = fs::OpenOptions::new().write(true).open("/dev/null").expect("it opens");
    (0..50).for_each(|_| nowhere.write_all(b"-").expect("written"));
    let path = Path::new(&directory).join(".env");
    let target = Target::open(&path, Links::Refuse).expect("it opens");
    if let Err(error) = target.replace(&new_bytes()) {
        eprintln!("{error}");
        std::process::exit(8);
    }
    std::process::exit(0);
}

/// The arguments of this test program that make it replace the file.
const AS_TOLD: [&str; 4] = ["--exact", "replaces_as_told", "--nocapture", "--test-threads=1"];

fn traced(folder: &TempDir, options: &[&str]) -> ExitStatus {
    let output = Command::new("strace")
        .args(["-f", "-qq"])
        .args(options)
        .arg(std::env::current_exe().expect("this test has a file"))
        .args(AS_TOLD)
        .env(DIRECTORY, folder.path())
        .output()
        .expect("strace runs; it is the Debian package `strace`");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(!said.contains("strace: "), "strace cannot trace here: {said}");
    output.status
}

/// The calls on files of the folder, by the number that each has among those of its kind and thread, as `strace` counts them.
fn calls(folder: &TempDir) -> BTreeMap<String, Vec<usize>> {
    let log = tempfile::NamedTempFile::new().expect("a file for the trace");
    let status =
        traced(folder, &["-y", "-o", &log.path().display().to_string(), "-e", &format!("trace={CALLS}")]);
    assert!(status.success(), "nobody disturbs it: {status}");
    let here = folder.path().display().to_string();
    let mut counts = BTreeMap::<(String, String), usize>::new();
    let mut found = BTreeMap::<String, Vec<usize>>::new();
    for line in fs::read_to_string(log.path()).expect("the trace").lines() {
        let Some((thread, rest)) = line.split_once(' ') else { continue };
        let Some((call, arguments)) = rest.trim_start().split_once('(') else { continue };
        let count = counts.entry((thread.to_owned(), call.to_owned())).or_default();
        *count += 1;
        if arguments.contains(&here) {
            found.entry(call.to_owned()).or_default().push(*count);
        }
    }
    found
}

/// Nothing but the file is there, or what a killed process could not remove.
#[track_caller]
fn check_whole(folder: &TempDir, case: &str, may_leave: bool) -> bool {
    let bytes = fs::read(folder.path().join(".env")).expect("there always is a file");
    let is_new = bytes == new_bytes();
    assert!(is_new || bytes == OLD, "{case}: a mixture of {} bytes", bytes.len());
    let beside = fs::read_dir(folder).expect("a folder").count() - 1;
    assert!(beside == 0 || may_leave, "{case}: {beside} files are left behind");
    is_new
}

/// What lies beside the file.
fn left(folder: &TempDir) -> Vec<String> {
    let entries = fs::read_dir(folder).expect("a folder").flatten();
    let names = entries.map(|entry| entry.file_name().to_string_lossy().into_owned());
    names.filter(|name| name != ".env").collect()
}

#[test]
fn every_call_may_fail() {
    let calls = calls(&folder());
    for kind in ["write", "fchmod", "fsetxattr", "fsync", "renameat"] {
        assert!(calls.contains_key(kind), "{kind} is not among {calls:?}");
    }
    let mut points = 0;
    for error in ["EIO", "ENOSPC", "EPERM"] {
        for (call, numbers) in &calls {
            for number in numbers {
                let folder = folder();
                let case = format!("{error} at {call} {number}");
                let inject = format!("inject={call}:error={error}:when={number}");
                let status = traced(&folder, &["-o", "/dev/null", "-e", &inject]);
                let is_new = check_whole(&folder, &case, false);
                // The last sync is the directory's: then the new file is in place, and the error says so.
                let is_last_sync = call == "fsync" && Some(number) == numbers.last();
                assert_eq!(status.code(), Some(8), "{case} is told");
                assert_eq!(is_new, is_last_sync, "{case}");
                points += 1;
            }
        }
    }
    println!("{points} failures injected");
    assert!(points >= 15, "{points}");
}

#[test]
fn every_call_may_be_the_last() {
    let (mut points, mut drafts) = (0, 0);
    for (call, numbers) in calls(&folder()) {
        for number in numbers {
            let folder = folder();
            let case = format!("killed at {call} {number}");
            let inject = format!("inject={call}:signal=KILL:when={number}");
            let status = traced(&folder, &["-o", "/dev/null", "-e", &inject]);
            assert_eq!(status.signal(), Some(9), "{case}");
            check_whole(&folder, &case, true);
            let was_left = left(&folder);
            drafts += was_left.len();
            // The next replacement finds what the killed one left, and takes it away.
            let target = Target::open(&folder.path().join(".env"), Links::Refuse).expect("it opens");
            target.replace(b"A=next\n").unwrap_or_else(|error| panic!("{case}: {error}"));
            assert_eq!(left(&folder), Vec::<String>::new(), "{case}: of {was_left:?}");
            points += 1;
        }
    }
    println!("{points} kill points, {drafts} of them left a draft");
    assert!(points >= 5 && drafts >= 3, "{points}, {drafts}");
}

/// A limit on the size of files stands for a full disk, since every user may set one. The signal that comes with it is
/// ignored, as a disk that is full sends none.
#[test]
fn a_full_disk_leaves_the_old_file() {
    let folder = folder();
    let script = "trap '' XFSZ; ulimit -f 16; exec \"$0\" \"$@\"";
    let output = Command::new("bash")
        .args(["-c", script])
        .arg(std::env::current_exe().expect("this test has a file"))
        .args(AS_TOLD)
        .env(DIRECTORY, folder.path())
        .output()
        .expect("bash runs");
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(8), "{said}");
    assert!(said.contains("writing failed: File too large"), "{said}");
    assert!(!check_whole(&folder, "a full disk", false), "the old file stands");
}
