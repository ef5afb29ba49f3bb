//! Whole files and streams: kept once, given back byte for byte, and nothing of them left when removed.

use std::io::{self, Read};

use reseal_vault::{
    ErrorKind, Event, NamePattern, Origin, SNAPSHOT_NAME_MAX, SnapshotInfo, Timestamp, Vault,
};

use crate::child::{Step, command};
use crate::support::{Home, NOW, kind};

const MIB: usize = 1 << 20;

/// Bytes that repeat nowhere, always the same for a seed.
struct Words(u64);

impl Read for Words {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        // In pieces of whole words, so that the bytes do not depend on how they are asked for, and as a pipe gives its own.
        let len = if buffer.len() > 8 { buffer.len().min(65536) / 8 * 8 } else { buffer.len() };
        for eight in buffer[..len].chunks_mut(8) {
            self.0 ^= self.0 << 13;
            self.0 ^= self.0 >> 7;
            self.0 ^= self.0 << 17;
            eight.copy_from_slice(&self.0.to_le_bytes()[..eight.len()]);
        }
        Ok(len)
    }
}

pub(crate) fn stream(seed: u64, len: usize) -> impl Read {
    Words(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1).take(len as u64)
}

pub(crate) fn bytes_of(seed: u64, len: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    stream(seed, len).read_to_end(&mut bytes).expect("read");
    bytes
}

fn add(vault: &mut Vault, name: &str, content: &[u8]) -> SnapshotInfo {
    vault.snapshot_add(name, None, &mut &*content).expect("kept")
}

pub(crate) fn content(vault: &mut Vault, info: &SnapshotInfo) -> Vec<u8> {
    let mut found = Vec::new();
    vault.snapshot_read(info.id, Event::done("test"), &mut found).expect("read");
    found
}

fn records(vault: &mut Vault) -> u64 {
    vault.audit_verify(None).expect("sound").records
}

#[test]
fn a_file_is_given_back_as_it_was() {
    let home = Home::with_vault();
    let origin = Origin {
        path: "/srv/app/.env.backup.1".into(),
        mode: 0o640,
        user: 1000,
        group: 33,
        modified: Timestamp(1_600_000_000),
    };
    let added =
        home.open().snapshot_add("before", Some(origin.clone()), &mut b"A=1\n".as_slice()).expect("kept");
    let mut vault = home.open();
    let listed = vault.snapshots().expect("listed");
    assert_eq!(listed, std::slice::from_ref(&added));
    let expected = ("before", Some(origin), 4, NOW, true);
    assert_eq!(
        (added.name.as_str(), added.origin.clone(), added.len, added.created_at, added.complete),
        expected
    );
    assert_eq!(content(&mut vault, &added), b"A=1\n");
    assert!(vault.snapshot_is(added.id, &mut b"A=1\n".as_slice()).expect("compared"));
    for other in ["A=2\n", "A=1", "A=1\n\n", ""] {
        assert!(!vault.snapshot_is(added.id, &mut other.as_bytes()).expect("compared"), "{other:?}");
    }
    assert_eq!(vault.list(&NamePattern::all(), true).expect("listed"), [], "a snapshot is no secret");
}

#[test]
fn every_length_comes_back() {
    let home = Home::with_vault();
    let mut vault = home.open();
    for len in [0, 1, MIB - 1, MIB, MIB + 1, 16 * MIB, 16 * MIB + 5] {
        let expected = bytes_of(len as u64, len);
        let added = add(&mut vault, "stream", &expected);
        assert_eq!((added.len, added.complete), (len as u64, true));
        assert!(content(&mut vault, &added) == expected, "{len} bytes");
        vault.snapshot_remove(added.id).expect("removed");
    }
    assert_eq!(records(&mut vault), 0, "nothing is left");
}

#[test]
fn the_same_content_is_kept_once_and_as_long_as_anybody_has_it() {
    let home = Home::with_vault();
    let mut vault = home.open();
    let long = bytes_of(1, 5 * MIB);
    let first = add(&mut vault, "monday", &long);
    let size = || std::fs::metadata(home.path()).expect("there").len();
    let (size_once, records_once) = (size(), records(&mut vault));
    assert_eq!(records_once, 1 + 1 + 5, "a header, a part, five chunks");
    let second = add(&mut vault, "tuesday", &[&long[..4 * MIB], b"another end"].concat());
    assert_eq!(records(&mut vault), records_once + 1 + 1 + 1, "one chunk is new");
    assert!(size() - size_once < 200_000, "{} bytes more", size() - size_once);
    vault.snapshot_remove(first.id).expect("removed");
    assert!(content(&mut vault, &second).starts_with(&long[..4 * MIB]));
    assert_eq!(records(&mut vault), 1 + 1 + 5);
    vault.snapshot_remove(second.id).expect("removed");
    assert_eq!(records(&mut vault), 0);
    assert_eq!(kind(vault.snapshot_remove(second.id)), Err(ErrorKind::NotFound));
}

#[test]
fn the_newest_of_a_name_or_path_is_meant() {
    let home = Home::with_vault();
    let mut vault = home.open();
    let origin = |path: &str| Origin { path: path.into(), mode: 0o600, user: 0, group: 0, modified: NOW };
    let old = vault.snapshot_add("env", Some(origin("/a/.env")), &mut b"1".as_slice()).expect("kept");
    home.clock.set(Timestamp(NOW.0 + 60));
    let new = vault.snapshot_add("env", Some(origin("/b/.env")), &mut b"2".as_slice()).expect("kept");
    assert_eq!(vault.snapshot("env").expect("found"), new);
    assert_eq!(vault.snapshot("/a/.env").expect("found"), old);
    assert_eq!(vault.snapshot(&old.id.to_string()).expect("found"), old);
    assert_eq!(kind(vault.snapshot("other")), Err(ErrorKind::NotFound));
    assert_eq!(old.id.to_string().parse(), Ok(old.id));
}

#[test]
fn what_cannot_be_kept_leaves_nothing() {
    struct Failing(usize);
    impl Read for Failing {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            let len = buffer.len().min(self.0);
            self.0 -= len;
            if len == 0 { Err(io::Error::other("torn")) } else { Ok(len) }
        }
    }
    let home = Home::with_vault();
    let mut vault = home.open();
    for len in [0, MIB, 17 * MIB] {
        let torn = vault.snapshot_add("dump", None, &mut Failing(len)).expect_err("it fails");
        assert_eq!(torn.to_string(), "cannot read dump");
        assert_eq!(vault.snapshots().expect("listed"), []);
        assert_eq!(records(&mut vault), 0, "after {len} bytes");
    }
    for name in ["", "two\nlines", &"x".repeat(SNAPSHOT_NAME_MAX + 1)] {
        let refused = vault.snapshot_add(name, None, &mut io::empty());
        assert_eq!(kind(refused).map(drop), Err(ErrorKind::Refused), "{name:?}");
    }
}

#[test]
fn what_is_done_with_snapshots_stands_in_the_log() {
    let home = Home::with_vault();
    let mut vault = home.open();
    let added = add(&mut vault, "dump", &bytes_of(3, 17 * MIB));
    vault.snapshot_read(added.id, Event::done("snapshot cat"), &mut io::sink()).expect("read");
    vault.snapshot_remove(added.id).expect("removed");
    let log = vault.audit_log(None, None).expect("the log");
    let entries: Vec<_> = log[1..]
        .iter()
        .map(|entry| (entry.event.action.as_str(), entry.event.outcome, entry.event.object.as_deref()))
        .collect();
    use reseal_vault::Outcome::{Done, Intent};
    let expected = [
        ("snapshot add", Intent, Some("dump")),
        ("snapshot add", Done, Some("dump")),
        ("snapshot cat", Done, Some("dump")),
        ("snapshot remove", Done, Some("dump")),
    ];
    assert_eq!(entries, expected);
}

#[test]
fn a_long_stream_needs_little_memory() {
    let home = Home::with_vault();
    let status = command(Step::LongStream, home.directory()).status().expect("a process");
    assert!(status.success(), "it says itself how much it took");
    let listed = home.open().snapshots().expect("listed");
    assert_eq!(listed[0].len, LONG_BYTES as u64);
}

/// More than twice what the process may take.
const LONG_BYTES: usize = 160 * MIB;

/// Keeps a long stream, reads it back, and fails if that took memory in proportion.
pub(crate) fn keep_long_stream(home: &Home) {
    let mut vault = home.open();
    let added = vault.snapshot_add("long", None, &mut stream(9, LONG_BYTES)).expect("kept");
    assert!(vault.snapshot_is(added.id, &mut stream(9, LONG_BYTES)).expect("compared"));
    let status = std::fs::read_to_string("/proc/self/status").expect("Linux says what a process takes");
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("the peak");
    let peak_kib: usize = peak.trim().trim_end_matches(" kB").parse().expect("a number");
    assert!(peak_kib < 64 * 1024, "{peak_kib} KiB for {} KiB", LONG_BYTES / 1024);
}
