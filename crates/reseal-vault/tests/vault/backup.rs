//! Backups are whole, and a restore never mixes two vaults.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use reseal_crypto::kdf::KdfParams;
use reseal_vault::{ErrorKind, LockedVault, RestoreOptions, Vault, VaultError, VersionSelector, restore};

use crate::child::{NAME, Step, command};
use crate::support::{Home, key_file, kind, name, new_key_file, password};

const ACCEPT_OLDER: RestoreOptions =
    RestoreOptions { accept_older: true, replace_other: false, move_aside: false };

/// A vault that was backed up at version 1 and went on to version 2.
fn backed_up() -> Home {
    let home = Home::with_vault();
    home.open().put(&name(NAME), password("one")).expect("stored");
    home.open().backup_create(&home.backup()).expect("backed up");
    home.open().put(&name(NAME), password("two")).expect("stored");
    home
}

fn verify(home: &Home) -> Result<u64, VaultError> {
    let locked = LockedVault::find_backup(&home.backup(), home.options())?;
    let key = locked.unwrap_key(&key_file())?;
    Ok(locked.verify(&key)?.records)
}

fn value(vault: &mut Vault) -> String {
    let secret = vault.get(&name(NAME), VersionSelector::Current).expect("released");
    secret.value.expose_str().expect("text").to_owned()
}

fn restored(home: &Home, options: RestoreOptions) -> Result<(Vault, Option<PathBuf>), VaultError> {
    let restored = restore(&home.backup(), &home.path(), &key_file(), home.options(), options)?;
    Ok((restored.vault, restored.kept))
}

#[test]
fn a_backup_is_verified_and_replaces_nothing() {
    let home = backed_up();
    assert_eq!(verify(&home).expect("sound"), 3);
    assert_eq!(kind(home.open().backup_create(&home.backup()).map(drop)), Err(ErrorKind::Conflict));
    let log = home.open().audit_log(None, None).expect("log");
    let actions: Vec<_> = log.iter().map(|e| (e.event.action.as_str(), e.event.outcome)).collect();
    use reseal_vault::Outcome::{Done, Intent};
    assert_eq!(actions[2..4], [("backup", Intent), ("backup", Done)]);
}

#[test]
fn a_damaged_backup_is_refused_and_the_vault_stays() {
    let home = backed_up();
    let raw = rusqlite::Connection::open(home.backup()).expect("opens");
    raw.execute("UPDATE record SET body = zeroblob(length(body)) WHERE kind = 3", ()).expect("changed");
    drop(raw);
    assert_eq!(kind(verify(&home)), Err(ErrorKind::Integrity));
    assert_eq!(kind(restored(&home, ACCEPT_OLDER).map(drop)), Err(ErrorKind::Integrity));
    assert_eq!(value(&mut home.open()), "two");
    let drafts = fs::read_dir(home.directory()).expect("listed").flatten();
    assert_eq!(drafts.filter(|e| e.file_name().to_string_lossy().ends_with(".draft")).count(), 0);
}

#[test]
fn a_damaged_vault_is_not_backed_up() {
    let home = Home::with_vault();
    home.open().put(&name(NAME), password("one")).expect("stored");
    home.tamper("UPDATE record SET body = zeroblob(length(body)) WHERE kind = 3");
    assert_eq!(kind(home.open().backup_create(&home.backup()).map(drop)), Err(ErrorKind::Integrity));
    assert!(!home.backup().exists());
}

#[test]
fn an_older_backup_is_restored_on_demand_and_the_vault_is_kept() {
    let home = backed_up();
    let refused = restored(&home, RestoreOptions::default());
    assert!(matches!(refused, Err(VaultError::RolledBack { .. })), "{refused:?}");
    assert_eq!(value(&mut home.open()), "two");
    let (mut vault, kept) = restored(&home, ACCEPT_OLDER).expect("restored");
    assert_eq!(value(&mut vault), "one");
    let entry = vault.audit_log(None, None).expect("log").into_iter().find(|e| e.event.action == "restore");
    assert!(entry.expect("the restore is told").event.detail.is_some());
    drop(vault);
    assert_eq!(value(&mut home.open()), "one");
    let kept = kept.expect("the old vault");
    let options = reseal_vault::OpenOptions { anchors: None, ..home.options() };
    assert_eq!(value(&mut Vault::open(&kept, &key_file(), options).expect("opens")), "two");
    // The replaced vault is the other history from now on.
    fs::copy(kept, home.path()).expect("put back");
    assert!(matches!(home.try_open(), Err(VaultError::RolledBack { .. })));
}

#[test]
fn a_lost_vault_comes_back_from_its_backup() {
    let home = backed_up();
    fs::remove_file(home.path()).expect("lost");
    assert_eq!(kind(restored(&home, RestoreOptions::default()).map(drop)), Err(ErrorKind::Integrity));
    assert!(!home.path().exists());
    let (mut vault, kept) = restored(&home, ACCEPT_OLDER).expect("restored");
    assert_eq!((value(&mut vault), kept), ("one".into(), None));
}

#[test]
fn a_lost_vault_comes_back_on_a_new_machine_without_a_flag() {
    let home = backed_up();
    let new_machine = Home::new();
    fs::copy(home.backup(), new_machine.backup()).expect("carried over");
    let (mut vault, _) = restored(&new_machine, RestoreOptions::default()).expect("restored");
    assert_eq!(value(&mut vault), "one");
}

#[test]
fn a_backup_opens_by_the_slots_it_was_made_with() {
    let home = backed_up();
    home.open().change_slot("test key", &new_key_file(), KdfParams::FLOOR).expect("changed");
    let by =
        |opener| kind(restore(&home.backup(), &home.path(), &opener, home.options(), ACCEPT_OLDER).map(drop));
    assert_eq!(by(new_key_file()), Err(ErrorKind::Locked));
    assert_eq!(by(key_file()), Ok(()));
}

#[test]
fn another_vault_is_not_replaced_by_mistake() {
    let (home, other) = (backed_up(), Home::with_vault());
    fs::copy(home.backup(), other.backup()).expect("put beside the wrong vault");
    assert_eq!(kind(restored(&other, ACCEPT_OLDER).map(drop)), Err(ErrorKind::Refused));
    let (mut vault, kept) =
        restored(&other, RestoreOptions { replace_other: true, ..ACCEPT_OLDER }).expect("restored");
    assert_eq!(value(&mut vault), "one");
    assert!(kept.is_some());
}

#[test]
fn the_database_of_another_program_is_not_replaced_by_mistake() {
    let home = backed_up();
    fs::remove_file(home.path()).expect("lost");
    let theirs = rusqlite::Connection::open(home.path()).expect("opens");
    theirs.execute_batch("CREATE TABLE theirs (x); INSERT INTO theirs VALUES (1)").expect("written");
    assert_eq!(kind(restored(&home, ACCEPT_OLDER).map(drop)), Err(ErrorKind::Refused));
    let rows: i64 = theirs.query_row("SELECT count(*) FROM theirs", (), |row| row.get(0)).expect("counted");
    assert_eq!(rows, 1);
    drop(theirs);
    let replace = RestoreOptions { replace_other: true, ..ACCEPT_OLDER };
    assert_eq!(value(&mut restored(&home, replace).expect("restored").0), "one");
}

#[test]
fn a_newer_vault_is_not_replaced_by_mistake_where_no_anchor_is_left() {
    let home = backed_up();
    fs::remove_dir_all(home.directory().join("state")).expect("anchors lost");
    let refused = restored(&home, RestoreOptions::default());
    assert!(matches!(refused, Err(VaultError::RolledBack { .. })), "{refused:?}");
    assert_eq!(value(&mut restored(&home, ACCEPT_OLDER).expect("restored").0), "one");
}

#[test]
fn what_is_no_database_is_moved_aside_on_demand() {
    let home = backed_up();
    fs::write(home.path(), vec![0x5A; 9000]).expect("overwritten");
    let journal = PathBuf::from(format!("{}-journal", home.path().display()));
    fs::write(&journal, b"of the file that was there").expect("written");
    let earlier = home.directory().join("test.vault-journal.damaged-1");
    fs::write(&earlier, b"moved aside before").expect("written");
    assert!(matches!(restored(&home, ACCEPT_OLDER), Err(VaultError::NotAVault { .. })));
    let (mut vault, _) =
        restored(&home, RestoreOptions { move_aside: true, ..ACCEPT_OLDER }).expect("restored");
    assert_eq!(value(&mut vault), "one");
    let aside = home.directory().join("test.vault.damaged-2");
    assert_eq!(fs::read(aside).expect("kept"), vec![0x5A; 9000]);
    assert_eq!(fs::read(earlier).expect("kept"), b"moved aside before");
    assert!(!journal.exists());
}

/// A process killed in a commit leaves a hot journal. Renaming a backup over the vault would play it into the backup.
#[test]
fn a_hot_journal_of_the_replaced_vault_is_not_played_into_the_restored_one() {
    let home = backed_up();
    let writer = command(Step::Put, home.directory());
    // Late enough that database pages were written over; the journal has what they were.
    let killed = Command::new("strace")
        .args(["-f", "-qq", "-o", "/dev/null", "-e", "inject=unlink:signal=KILL:when=1"])
        .arg(writer.get_program())
        .args(writer.get_args())
        .envs(writer.get_envs().filter_map(|(key, value)| Some((key, value?))))
        .output()
        .expect("strace runs; it is the Debian package `strace`");
    assert!(!killed.status.success());
    let journal = PathBuf::from(format!("{}-journal", home.path().display()));
    assert!(journal.exists(), "the killed process left its journal");
    let (mut vault, kept) = restored(&home, ACCEPT_OLDER).expect("restored");
    assert!(!journal.exists());
    assert_eq!(value(&mut vault), "one");
    vault.audit_verify(None).expect("nothing of the old vault is in it");
    let options = reseal_vault::OpenOptions { anchors: None, ..home.options() };
    let mut kept = Vault::open(&kept.expect("kept"), &key_file(), options).expect("opens");
    assert_eq!(value(&mut kept), "two", "the unfinished commit was taken back");
}
