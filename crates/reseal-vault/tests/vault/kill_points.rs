//! Every write, sync, link, rename and removal of a step is a point where it is killed; the vault must open after each.
//!
//! `strace` kills the process when it enters the n-th call of a kind, for every kind and every n that the step makes.

use std::collections::BTreeMap;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Command, ExitStatus};

use reseal_vault::{ErrorKind, Event, NamePattern, Vault, VersionSelector};

use crate::child::{NAME, SNAPSHOT_BYTES, STREAM_BYTES, Step, command};
use crate::snapshots::{bytes_of, content};
use crate::support::{Home, key_file, kind, name, new_key_file, password};

/// Every call by which a file or a directory changes or becomes durable.
const CALLS: &str = "write,pwrite64,pwritev,ftruncate,fallocate,fsync,fdatasync,sync_file_range,link,linkat,rename,\
                     renameat,renameat2,unlink,unlinkat,mkdir,mkdirat,chmod,fchmod";

/// Runs a step under `strace` with these options.
fn traced(step: Step, home: &Home, options: &[&str]) -> ExitStatus {
    let child = command(step, home.directory());
    let mut strace = Command::new("strace");
    strace.args(["-f", "-qq"]).args(options).arg(child.get_program()).args(child.get_args());
    strace.envs(child.get_envs().filter_map(|(key, value)| Some((key, value?))));
    strace.env("RUST_BACKTRACE", "0");
    let output = strace.output().expect("strace runs; it is the Debian package `strace`");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(!said.contains("strace: "), "strace cannot trace here: {said}");
    output.status
}

/// How often the thread that works on the vault makes each call.
fn count_calls(step: Step, home: &Home) -> BTreeMap<String, usize> {
    let log = home.directory().join("trace");
    let status = traced(step, home, &["-o", &log.display().to_string(), "-e", &format!("trace={CALLS}")]);
    assert!(status.success(), "the step {step:?} succeeds when nobody kills it");
    let text = std::fs::read_to_string(log).expect("the trace");
    let mut threads: BTreeMap<&str, BTreeMap<String, usize>> = BTreeMap::new();
    for line in text.lines() {
        let Some((thread, call)) = line.split_once(' ') else { continue };
        let Some((call, _)) = call.trim_start().split_once('(') else { continue };
        *threads.entry(thread).or_default().entry(call.to_owned()).or_default() += 1;
    }
    let works = threads.into_values().find(|calls| calls.contains_key("pwrite64"));
    works.expect("one thread writes the database")
}

/// Kills a step at every point and hands what is left to `check`; says how many points there were.
fn kill_everywhere(step: Step, prepared: &Home, check: impl Fn(&Home)) -> usize {
    kill_at_most(usize::MAX, step, prepared, check)
}

/// Kills a step at this many points at most for each kind of call, evenly spread.
fn kill_at_most(points_max: usize, step: Step, prepared: &Home, check: impl Fn(&Home)) -> usize {
    let calls = count_calls(step, &prepared.copied());
    let mut points = 0;
    for (call, count) in &calls {
        for n in (1..=*count).step_by(count.div_ceil(points_max)) {
            let home = prepared.copied();
            let inject = format!("inject={call}:signal=KILL:when={n}");
            let status = traced(step, &home, &["-o", "/dev/null", "-e", &inject]);
            // Which pages a step writes depends on names drawn at random: a run may need fewer calls than the one
            // that was counted. Then it ends whole, and is no kill point.
            if n > 1 && status.success() {
                continue;
            }
            assert_eq!(status.signal(), Some(9), "killed at {call} {n}");
            check(&home);
            points += 1;
        }
    }
    points
}

fn value(home: &Home) -> String {
    let secret = home.open().get(&name(NAME), VersionSelector::Current).expect("released");
    secret.value.expose_str().expect("text").to_owned()
}

/// Everything that can be checked without knowing what should be there.
fn sound(home: &Home) {
    home.open().audit_verify(None).expect("every record and entry is sound");
}

#[test]
fn init_killed_anywhere_leaves_no_vault_or_a_whole_one() {
    let points = kill_everywhere(Step::Init, &Home::new(), |home| {
        match kind(home.try_open()) {
            Ok(mut vault) => assert_eq!(vault.list(&NamePattern::all(), true).expect("listed"), []),
            Err(ErrorKind::NotFound) => drop(home.create()),
            Err(other) => panic!("neither none nor whole: {other:?}"),
        }
        sound(home);
    });
    println!("{points} kill points");
    assert!(points >= 20, "{points}");
}

#[test]
fn put_killed_anywhere_leaves_the_old_or_the_new_value() {
    let home = Home::with_vault();
    home.open().put(&name(NAME), password("old")).expect("stored");
    let points = kill_everywhere(Step::Put, &home, |home| {
        let mut vault = home.open();
        let versions = vault.history(&name(NAME)).expect("history").len();
        drop(vault);
        assert_eq!(value(home), if versions == 1 { "old" } else { "new" });
        sound(home);
    });
    println!("{points} kill points");
    assert!(points >= 20, "{points}");
}

#[test]
fn passwd_killed_anywhere_leaves_the_old_or_the_new_opener() {
    let home = Home::with_vault();
    let points = kill_everywhere(Step::Passwd, &home, |home| {
        let opens = [key_file(), new_key_file()].map(|opener| {
            let opened = kind(Vault::open(&home.path(), &opener, home.options()).map(drop));
            assert!(matches!(opened, Ok(()) | Err(ErrorKind::Locked)), "{opened:?}");
            opened.is_ok()
        });
        assert!(opens.contains(&true), "neither the old nor the new key file opens the vault");
        let opener = if opens[0] { key_file() } else { new_key_file() };
        let mut vault = Vault::open(&home.path(), &opener, home.options()).expect("opens");
        vault.audit_verify(None).expect("sound");
        // The next change clears up whatever this one left.
        vault
            .change_slot("test key", &new_key_file(), reseal_crypto::kdf::KdfParams::FLOOR)
            .expect("changed");
        assert_eq!(vault.slots().expect("slots").len(), 2);
        assert_eq!(kind(home.try_open().map(drop)), Err(ErrorKind::Locked));
    });
    println!("{points} kill points");
    assert!(points >= 40, "{points}");
}

#[test]
fn restore_killed_anywhere_leaves_the_old_or_the_restored_vault() {
    let home = Home::with_vault();
    home.open().put(&name(NAME), password("in the backup")).expect("stored");
    home.open().backup_create(&home.backup()).expect("backed up");
    home.open().put(&name(NAME), password("after the backup")).expect("stored");
    let points = kill_everywhere(Step::Restore, &home, |home| {
        let mut vault = home.open();
        let versions = vault.history(&name(NAME)).expect("history").len();
        drop(vault);
        assert_eq!(value(home), if versions == 1 { "in the backup" } else { "after the backup" });
        sound(home);
    });
    println!("{points} kill points");
    assert!(points >= 60, "{points}");
}

#[test]
fn a_snapshot_killed_anywhere_is_there_or_not() {
    let home = Home::with_vault();
    let expected = bytes_of(1, SNAPSHOT_BYTES);
    let points = kill_everywhere(Step::SnapshotAdd, &home, |home| {
        let mut vault = home.open();
        for info in vault.snapshots().expect("listed") {
            assert!(info.complete, "one batch is one transaction");
            assert!(content(&mut vault, &info) == expected);
        }
        sound(home);
    });
    println!("{points} kill points");
    assert!(points >= 20, "{points}");
}

#[test]
fn a_stream_killed_anywhere_is_whole_or_incomplete_and_goes_without_a_trace() {
    let home = Home::with_vault();
    let expected = bytes_of(2, STREAM_BYTES);
    let points = kill_at_most(6, Step::SnapshotStream, &home, |home| {
        sound(home);
        let mut vault = home.open();
        for info in vault.snapshots().expect("listed") {
            let mut found = Vec::new();
            let read = vault.snapshot_read(info.id, Event::done("test"), &mut found);
            assert_eq!(kind(read), if info.complete { Ok(()) } else { Err(ErrorKind::Refused) });
            assert!(found == expected || !info.complete);
            vault.snapshot_remove(info.id).expect("removed");
        }
        assert_eq!(vault.audit_verify(None).expect("sound").records, 0);
    });
    println!("{points} kill points");
    assert!(points >= 20, "{points}");
}

#[test]
fn removing_a_snapshot_killed_anywhere_leaves_all_of_it_or_nothing() {
    let home = Home::with_vault();
    let mut vault = home.open();
    let expected = bytes_of(1, SNAPSHOT_BYTES);
    vault.snapshot_add(NAME, None, &mut expected.as_slice()).expect("kept");
    drop(vault);
    let points = kill_everywhere(Step::SnapshotRemove, &home, |home| {
        let mut vault = home.open();
        match vault.snapshots().expect("listed").first() {
            Some(info) => assert!(content(&mut vault, info) == expected),
            None => assert_eq!(vault.audit_verify(None).expect("sound").records, 0),
        }
        sound(home);
    });
    println!("{points} kill points");
    assert!(points >= 20, "{points}");
}

#[test]
fn put_with_a_failing_disk_says_so_or_has_succeeded() {
    let home = Home::with_vault();
    home.open().put(&name(NAME), password("old")).expect("stored");
    let calls = count_calls(Step::Put, &home.copied());
    let mut points = 0;
    for error in ["EIO", "ENOSPC"] {
        for (call, count) in &calls {
            for n in 1..=*count {
                let home = home.copied();
                let inject = format!("inject={call}:error={error}:when={n}");
                let status = traced(Step::Put, &home, &["-o", "/dev/null", "-e", &inject]);
                let found = value(&home);
                assert!(["old", "new"].contains(&found.as_str()), "{error} at {call} {n}: {found}");
                assert!(!status.success() || found == "new", "{error} at {call} {n}: success without effect");
                sound(&home);
                points += 1;
            }
        }
    }
    println!("put: {points} failures injected");
    assert!(points >= 40, "{points}");
}

#[test]
fn eight_processes_lose_no_version() {
    let home = Home::with_vault();
    let children: Vec<_> =
        (0..8).map(|_| command(Step::PutMany, home.directory()).spawn().expect("a process")).collect();
    for mut child in children {
        assert!(child.wait().expect("ended").success());
    }
    let versions = home.open().history(&name(NAME)).expect("history");
    let numbers: Vec<u64> = versions.iter().map(|version| version.number).collect();
    assert_eq!(numbers, (1..=200).collect::<Vec<u64>>());
    sound(&home);
    assert!(Path::new(&home.path()).exists());
}
