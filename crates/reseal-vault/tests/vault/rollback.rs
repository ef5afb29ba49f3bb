//! Older copies of a vault, and copies that went their own way, are refused; healthy vaults never are.

use std::fs;

use reseal_vault::{Anchor, ErrorKind, Event, OpenOptions, Vault, VaultError};

use crate::support::{Home, key_file, kind};

const STATES: usize = 30;

fn tick(home: &Home) {
    home.open().record_event(Event::done("tick")).expect("recorded");
}

fn anchor_file(home: &Home) -> std::path::PathBuf {
    let state = home.directory().join("state");
    fs::read_dir(state).expect("listed").map(|e| e.expect("an entry").path()).next().expect("an anchor")
}

#[test]
fn every_older_state_is_refused() {
    let home = Home::with_vault();
    let mut states = vec![fs::read(home.path()).expect("read")];
    for _ in 0..STATES {
        tick(&home);
        states.push(fs::read(home.path()).expect("read"));
    }
    let newest = states.pop().expect("the newest");
    for (n, older) in states.iter().enumerate() {
        fs::write(home.path(), older).expect("put back");
        let found = home.try_open();
        assert!(
            matches!(found, Err(VaultError::RolledBack { found: "missing", .. })),
            "state {n}: {found:?}"
        );
        assert_eq!(kind(found.map(drop)), Err(ErrorKind::Integrity));
    }
    fs::write(home.path(), newest).expect("put back");
    home.open();
}

#[test]
fn an_older_state_is_accepted_on_demand_and_then_is_the_one() {
    let home = Home::with_vault();
    let older = fs::read(home.path()).expect("read");
    tick(&home);
    tick(&home);
    let newer = fs::read(home.path()).expect("read");
    fs::write(home.path(), older).expect("put back");
    let accepting = OpenOptions { accept_older: true, ..home.options() };
    let mut vault = Vault::open(&home.path(), &key_file(), accepting).expect("accepted");
    let log = vault.audit_log(None, None).expect("log");
    assert_eq!(log.last().expect("an entry").event.action, "accept older");
    drop(vault);
    home.open();
    fs::write(home.path(), newer).expect("put back");
    let found = home.try_open();
    assert!(
        matches!(found, Err(VaultError::RolledBack { .. })),
        "the other history is refused now: {found:?}"
    );
}

#[test]
fn a_copy_that_went_its_own_way_is_refused() {
    let home = Home::with_vault();
    let fork = home.copied();
    tick(&home);
    tick(&fork);
    fs::copy(fork.path(), home.path()).expect("put in place");
    let found = home.try_open();
    assert!(matches!(found, Err(VaultError::RolledBack { found: "another one", .. })), "{found:?}");
}

#[test]
fn an_anchor_that_stayed_behind_is_no_alarm() {
    let home = Home::with_vault();
    let mut anchors = Vec::new();
    for _ in 0..STATES {
        anchors.push(fs::read(anchor_file(&home)).expect("read"));
        tick(&home);
    }
    // A crash between commit and anchor leaves any of these beside the newest vault.
    for anchor in anchors {
        fs::write(anchor_file(&home), anchor).expect("put back");
        home.open();
    }
    // So does a power cut that empties the file, and a new machine without one.
    fs::write(anchor_file(&home), b"").expect("emptied");
    home.open();
    for garbage in [&b"reseal-anchor-1 garbage"[..], b"\xFF\xFE\0\0"] {
        fs::write(anchor_file(&home), garbage).expect("garbled");
        home.open();
    }
    fs::remove_file(anchor_file(&home)).expect("removed");
    home.open();
}

#[test]
fn an_anchor_kept_elsewhere_is_checked() {
    let home = Home::with_vault();
    let older = fs::read(home.path()).expect("read");
    tick(&home);
    let printed = home.open().anchor().to_string();
    let kept: Anchor = printed.parse().expect("read back");
    tick(&home);
    home.open().check_anchor(&kept).expect("part of the log");
    let forged = Anchor { mac: [0; 32], ..kept };
    assert_eq!(kind(home.open().check_anchor(&forged)), Err(ErrorKind::Integrity));
    let (other, untouched) = (Home::with_vault(), Home::new());
    assert_eq!(kind(other.open().check_anchor(&kept)), Err(ErrorKind::Refused), "of another vault");
    fs::write(untouched.path(), older).expect("put elsewhere");
    let mut elsewhere = untouched.open();
    assert_eq!(kind(elsewhere.check_anchor(&kept)), Err(ErrorKind::Integrity), "without any local anchor");
    for bad in
        ["", "reseal-anchor-1", "reseal-anchor-2 x", &format!("{printed} x"), &printed[..printed.len() - 2]]
    {
        assert!(bad.parse::<Anchor>().is_err(), "{bad}");
    }
}

#[test]
fn a_vault_that_is_replaced_while_it_is_open_is_noticed() {
    let home = Home::with_vault();
    let older = fs::read(home.path()).expect("read");
    let mut vault = home.open();
    vault.record_event(Event::done("tick")).expect("recorded");
    fs::write(home.path(), older).expect("put back under the open vault");
    assert_eq!(kind(vault.record_event(Event::done("tick"))), Err(ErrorKind::Integrity));
}

#[test]
fn what_was_read_may_not_become_older_either() {
    let home = Home::with_vault();
    let mut reader = home.open();
    let older = fs::read(home.path()).expect("read");
    tick(&home);
    assert_eq!(reader.audit_log(None, None).expect("log").len(), 2);
    assert_eq!(reader.anchor().index, 1, "the last entry that this process has seen");
    fs::write(home.path(), older).expect("put back under the open vault");
    assert_eq!(kind(reader.audit_log(None, None).map(drop)), Err(ErrorKind::Integrity));
}
