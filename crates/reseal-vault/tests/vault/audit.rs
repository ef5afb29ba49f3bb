//! The audit chain: what it says, and that nothing of it can be changed.

use reseal_crypto::SecretBytes;
use reseal_vault::{
    AuditorKey, ErrorKind, Event, LogEntry, OpenOptions, Operator, Outcome, Timestamp, Vault, VersionSelector,
};

use crate::integrity::swap;
use crate::support::{Home, NOW, key_file, kind, name, password};

fn log(home: &Home) -> Vec<LogEntry> {
    home.open().audit_log(None, None).expect("log")
}

#[test]
fn entries_say_who_did_what_when_and_why() {
    let home = Home::with_vault();
    home.clock.set(Timestamp(NOW.0 + 100));
    let options = OpenOptions {
        operator: Operator { user: "root".into(), sudo_user: Some("bob".into()) },
        reason: Some("ticket 7".into()),
        ..home.options()
    };
    let mut vault = Vault::open(&home.path(), &key_file(), options).expect("opens");
    vault.put(&name("a"), password("x")).expect("stored");
    vault.set_reason(None);
    let number =
        vault.record_event(Event::intent("rotate").of("a").run("run 1").detail("redis")).expect("recorded");
    assert_eq!(number, 2);
    let entries = log(&home);
    assert_eq!(entries.iter().map(|e| e.number).collect::<Vec<_>>(), [0, 1, 2]);
    let [init, put, rotate] = &entries[..] else { panic!("three entries") };
    assert_eq!(
        (init.event.action.as_str(), init.stamp.user.as_str(), init.stamp.time),
        ("init", "alice", NOW)
    );
    assert_eq!(put.stamp.time, Timestamp(NOW.0 + 100));
    assert_eq!((put.stamp.slot.as_str(), put.stamp.user.as_str()), ("test key", "root"));
    assert_eq!(
        (put.stamp.sudo_user.as_deref(), put.stamp.reason.as_deref()),
        (Some("bob"), Some("ticket 7"))
    );
    assert_eq!(
        (put.event.object.as_deref(), put.event.version, put.event.outcome),
        (Some("a"), Some(1), Outcome::Done)
    );
    assert_eq!((rotate.event.outcome, rotate.stamp.reason.as_deref()), (Outcome::Intent, None));
    assert_eq!((rotate.event.run.as_deref(), rotate.event.detail.as_deref()), (Some("run 1"), Some("redis")));
}

#[test]
fn the_log_is_cut_by_time() {
    let home = Home::with_vault();
    for seconds in [10, 20, 30] {
        home.clock.set(Timestamp(NOW.0 + seconds));
        home.open().record_event(Event::done("tick")).expect("recorded");
    }
    let at = |seconds: i64| Some(Timestamp(NOW.0 + seconds));
    let numbers = |since, until| {
        let entries = home.open().audit_log(since, until).expect("log");
        entries.iter().map(|entry| entry.number).collect::<Vec<_>>()
    };
    assert_eq!(numbers(at(10), at(30)), [1, 2]);
    assert_eq!(numbers(at(11), None), [2, 3]);
    assert_eq!(numbers(None, at(10)), [0]);
}

#[test]
fn a_released_value_has_exactly_one_entry_and_looking_has_none() {
    let home = Home::with_vault();
    home.open().put(&name("a"), password("x")).expect("stored");
    let before = log(&home).len();
    let mut vault = home.open();
    vault.get(&name("a"), VersionSelector::Current).expect("released");
    assert!(vault.get(&name("b"), VersionSelector::Current).is_err());
    vault.show(&name("a")).expect("shown");
    vault.history(&name("a")).expect("history");
    let entries = log(&home);
    assert_eq!(entries.len(), before + 1);
    assert_eq!((entries[before].event.action.as_str(), entries[before].event.version), ("get", Some(1)));
}

#[test]
fn without_an_entry_no_value_is_released() {
    let home = Home::with_vault();
    home.open().put(&name("a"), password("x")).expect("stored");
    let mut vault = Vault::open(
        &home.path(),
        &key_file(),
        OpenOptions { busy_timeout: std::time::Duration::from_millis(50), ..home.options() },
    )
    .expect("opens");
    let raw = home.raw();
    raw.execute_batch("BEGIN IMMEDIATE").expect("the write lock");
    assert_eq!(kind(vault.get(&name("a"), VersionSelector::Current)), Err(ErrorKind::Busy));
    vault.history(&name("a")).expect("reading needs no lock");
    raw.execute_batch("ROLLBACK; DELETE FROM chain").expect("the audit key is gone");
    assert_eq!(kind(vault.get(&name("a"), VersionSelector::Current)), Err(ErrorKind::Integrity));
}

/// A vault with this many entries, and the key of its auditor.
fn with_entries(count: usize) -> (Home, AuditorKey) {
    let home = Home::new();
    let created = home.create();
    let mut vault = created.vault;
    for n in 1..count {
        vault.record_event(Event::done("tick").of(n)).expect("recorded");
    }
    (home, created.auditor_key)
}

const ENTRIES: usize = 24;

#[track_caller]
fn assert_first_bad(home: &Home, entry: usize, what: &str) {
    let found = home.open().audit_verify(None).expect_err(what).to_string();
    assert!(found.contains(&format!("audit entry {entry} ")), "{what} at {entry}: {found}");
    assert_eq!(
        kind(home.open().audit_log(None, None).map(|log| log.len())),
        Err(ErrorKind::Integrity),
        "{what}"
    );
}

#[test]
fn entries_removed_changed_swapped_or_doubled_are_named() {
    let (home, _) = with_entries(ENTRIES);
    for n in 0..ENTRIES - 1 {
        let removed = home.copied();
        removed.tamper(&format!("DELETE FROM audit WHERE number = {n}"));
        assert_first_bad(&removed, n, "removed");

        let changed = home.copied();
        changed.tamper(&format!("UPDATE audit SET body = zeroblob(length(body)) WHERE number = {n}"));
        assert_first_bad(&changed, n, "changed");

        let mac = home.copied();
        mac.tamper(&format!("UPDATE audit SET mac = zeroblob(32) WHERE number = {n}"));
        assert_first_bad(&mac, n + 1, "another MAC, so the next does not follow");

        let doubled = home.copied();
        doubled.tamper(&format!(
            "UPDATE audit SET (body, mac) = (SELECT a.body, a.mac FROM audit a WHERE a.number = {n}) WHERE number = {n} + 1"
        ));
        if n + 2 < ENTRIES {
            assert_first_bad(&doubled, n + 1, "doubled");
        } else {
            assert_eq!(kind(doubled.try_open().map(drop)), Err(ErrorKind::Integrity), "the last one doubled");
        }

        let swapped = home.copied();
        let numbers = [n, n + 1].map(|number| rusqlite::types::Value::Integer(number as i64));
        swap(&swapped.raw(), "audit", "number", [&numbers[0], &numbers[1]]);
        if n + 2 < ENTRIES {
            assert_first_bad(&swapped, n, "swapped");
        } else {
            assert_eq!(kind(swapped.try_open().map(drop)), Err(ErrorKind::Integrity), "the last two swapped");
        }
    }
}

#[test]
fn a_tail_cut_at_any_length_is_refused() {
    let (home, _) = with_entries(ENTRIES);
    for keep in 0..ENTRIES {
        let cut = home.copied();
        cut.tamper(&format!("DELETE FROM audit WHERE number >= {keep}"));
        assert_eq!(kind(cut.try_open().map(drop)), Err(ErrorKind::Integrity), "cut to {keep}");
    }
}

#[test]
fn the_auditor_recomputes_every_mac() {
    let (home, auditor) = with_entries(5);
    let (_, of_another) = with_entries(1);
    assert!(!home.open().audit_verify(None).expect("sound").macs_verified);
    let kept = AuditorKey::from_text(auditor.to_text().as_bytes()).expect("read back");
    let report = home.open().audit_verify(Some(&kept)).expect("sound");
    assert_eq!((report.macs_verified, report.entries), (true, 5));
    let refused = home.open().audit_verify(Some(&of_another)).expect_err("another key").to_string();
    assert!(refused.contains("audit entry 0 "), "{refused}");
}

#[test]
fn errors_and_debug_output_hold_no_value() {
    let home = Home::with_vault();
    let mut vault = home.open();
    vault.put(&name("a"), password("canary")).expect("stored");
    let secret = vault.get(&name("a"), VersionSelector::Current).expect("released");
    let wrong =
        reseal_vault::NewVersion::new(reseal_vault::SecretKind::Key, SecretBytes::copy_from(b"canary"));
    let error = vault.put(&name("k"), wrong.clone()).expect_err("no key");
    let printed = format!("{secret:?} {wrong:?} {error:?} {error} {vault:?}");
    assert!(!printed.contains("canary") && !printed.contains("99, 97, 110"), "{printed}");
}
