//! A changed file is refused, whatever was changed; hostile files are refused without harm.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};

use reseal_crypto::Random;
use reseal_crypto::random::SeededRandom;
use reseal_vault::{ErrorKind, Event, NamePattern, NewSlot, OpenOptions, Vault, VaultError, VersionSelector};
use rusqlite::Connection;
use rusqlite::types::Value;

use crate::support::{Home, bytes, key_file, kind, name, password};

/// Every table, its key and the columns that hold bytes.
const TABLES: [(&str, &str, &[&str]); 7] = [
    ("head", "id", &["body", "mac"]),
    ("slot", "id", &["id", "salt", "nonce", "wrapped", "commitment", "label"]),
    ("record", "id", &["id", "body"]),
    ("leaf", "number", &["entries"]),
    ("node", "number", &["digests"]),
    ("audit", "number", &["body", "mac"]),
    ("chain", "id", &["body"]),
];

fn filled(secrets: usize) -> Home {
    let home = Home::with_vault();
    let mut vault = home.open();
    let new = (0..secrets).map(|n| (name(&format!("s/{n}")), password(&format!("value {n}"))));
    vault.put_all(new).expect("stored");
    vault.journal_put("run", "1", &bytes("a record"), Event::done("test")).expect("stored");
    vault.snapshot_add("file", None, &mut b"of a snapshot".as_slice()).expect("kept");
    home
}

/// Opens the vault and looks at everything in it.
fn inspect(home: &Home) -> Result<(), VaultError> {
    home.try_open()?.audit_verify(None).map(drop)
}

#[track_caller]
fn assert_refused(home: &Home, what: &str) {
    let found = kind(inspect(home));
    // A changed slot may look like a wrong key file.
    assert!(matches!(found, Err(ErrorKind::Integrity | ErrorKind::Locked)), "{what}: {found:?}");
}

fn keys_of(raw: &Connection, table: &str, key: &str) -> Vec<Value> {
    let mut statement = raw.prepare(&format!("SELECT {key} FROM {table} ORDER BY {key}")).expect("prepared");
    statement.query_map((), |row| row.get(0)).expect("rows").collect::<Result<_, _>>().expect("keys")
}

#[test]
fn a_sound_vault_is_accepted() {
    let home = filled(3);
    let report = home.open().audit_verify(None).expect("sound");
    // Three records a secret, the journal's, three of the snapshot; created, three puts, the import, journal, snapshot.
    assert_eq!((report.records, report.entries, report.anchors), (13, 7, 1));
}

#[test]
fn every_removed_row_is_noticed() {
    let home = filled(4);
    let mut removed = 0;
    for (table, key, _) in TABLES {
        for row in keys_of(&home.raw(), table, key) {
            let copy = home.copied();
            copy.raw().execute(&format!("DELETE FROM {table} WHERE {key} = ?1"), [&row]).expect("removed");
            assert_refused(&copy, &format!("{table} without {row:?}"));
            removed += 1;
        }
    }
    println!("{removed} rows removed one by one");
    assert!(removed > 30, "{removed}");
}

#[test]
fn every_field_has_bits_that_count() {
    let home = filled(2);
    let raw = home.raw();
    let mut flips = 0;
    for (table, key, columns) in TABLES {
        for row in keys_of(&raw, table, key) {
            for column in columns {
                let get = format!("SELECT {column} FROM {table} WHERE {key} = ?1");
                let original: Vec<u8> = raw.query_row(&get, [&row], |r| r.get(0)).expect("the field");
                // About sixteen places in each field, another bit in each.
                for (n, byte) in (0..original.len()).step_by(original.len().div_ceil(16)).enumerate() {
                    let mut changed = original.clone();
                    changed[byte] ^= 1 << (n % 8);
                    let set = format!("UPDATE {table} SET {column} = ?2 WHERE {column} = ?1");
                    raw.execute(&set, [&original, &changed]).expect("changed");
                    assert_refused(&home, &format!("byte {byte} of {table}.{column}, row {row:?}"));
                    raw.execute(&set, [&changed, &original]).expect("changed back");
                    flips += 1;
                }
            }
        }
    }
    inspect(&home).expect("changed back");
    println!("{flips} bits flipped");
    assert!(flips > 500, "{flips}");
}

/// Exchanges everything but the keys of two rows.
pub(crate) fn swap(raw: &Connection, table: &str, key: &str, [a, b]: [&Value; 2]) {
    let others = if table == "record" { "kind, body" } else { "body, mac" };
    let get = |row: &Value| -> [Value; 2] {
        let sql = format!("SELECT {others} FROM {table} WHERE {key} = ?1");
        raw.query_row(&sql, [row], |r| Ok([r.get(0)?, r.get(1)?])).expect("the row")
    };
    let set = |row: &Value, [first, second]: [Value; 2]| {
        let sql = format!("UPDATE {table} SET ({others}) = (?2, ?3) WHERE {key} = ?1");
        assert_eq!(raw.execute(&sql, [row, &first, &second]).expect("changed"), 1);
    };
    let (of_a, of_b) = (get(a), get(b));
    set(a, of_b);
    set(b, of_a);
}

#[test]
fn records_do_not_open_in_each_others_place() {
    let home = filled(7);
    let raw = home.raw();
    let records = keys_of(&raw, "record", "id");
    let mut swaps = 0;
    for (i, a) in records.iter().enumerate() {
        for b in &records[i + 1..] {
            swap(&raw, "record", "id", [a, b]);
            assert_refused(&home, "two records swapped");
            swap(&raw, "record", "id", [a, b]);
            swaps += 1;
        }
    }
    inspect(&home).expect("swapped back");
    println!("{swaps} swaps");
    assert_eq!(swaps, records.len() * (records.len() - 1) / 2);
}

#[test]
fn a_duplicated_record_is_noticed() {
    let home = filled(2);
    home.tamper("INSERT INTO record SELECT zeroblob(16), kind, body FROM record LIMIT 1");
    assert_refused(&home, "one record twice");
    let listed = home.open().list(&NamePattern::all(), true);
    println!("{listed:?}");
}

#[test]
fn a_removed_secret_is_not_taken_for_one_that_never_was() {
    let home = filled(3);
    // Of kind secret; which of the three it is cannot be seen.
    home.tamper("DELETE FROM record WHERE id = (SELECT id FROM record WHERE kind = 1 LIMIT 1)");
    let mut vault = home.open();
    let found: Vec<_> = (0..3)
        .map(|n| kind(vault.get(&name(&format!("s/{n}")), VersionSelector::Current).map(|s| s.version)))
        .collect();
    assert_eq!(found.iter().filter(|f| **f == Err(ErrorKind::Integrity)).count(), 1, "{found:?}");
    assert_eq!(found.iter().filter(|f| **f == Ok(1)).count(), 2, "{found:?}");
    assert_eq!(kind(vault.list(&NamePattern::all(), false)), Err(ErrorKind::Integrity));
    assert_eq!(kind(vault.get(&name("never/was"), VersionSelector::Current)), Err(ErrorKind::NotFound));
}

type Rows = BTreeMap<(usize, Vec<u8>), Vec<Value>>;

fn snapshot(raw: &Connection) -> Rows {
    let mut rows = Rows::new();
    for (at, (table, key, _)) in TABLES.iter().enumerate() {
        let mut statement =
            raw.prepare(&format!("SELECT CAST({key} AS BLOB), * FROM {table}")).expect("prepared");
        let width = statement.column_count();
        let read = |row: &rusqlite::Row<'_>| {
            let values = (1..width).map(|i| row.get(i)).collect::<Result<Vec<Value>, _>>()?;
            Ok(((at, row.get(0)?), values))
        };
        rows.extend(statement.query_map((), read).expect("rows").map(|row| row.expect("a row")));
    }
    rows
}

#[test]
fn no_single_row_can_be_put_back_to_what_it_was() {
    let home = filled(3);
    let before = snapshot(&home.raw());
    home.open().put(&name("s/1"), password("newer")).expect("stored");
    home.open().journal_put("run", "1", &bytes("newer"), Event::done("test")).expect("stored");
    home.open().change_slot("test key", &key_file(), reseal_crypto::kdf::KdfParams::FLOOR).expect("changed");
    let after = snapshot(&home.raw());
    let older: Vec<_> = before.iter().filter(|(key, row)| after.get(*key) != Some(*row)).collect();
    for ((at, key), row) in &older {
        let copy = home.copied();
        let table = TABLES[*at].0;
        let marks = vec!["?"; row.len()].join(", ");
        let insert = format!("INSERT OR REPLACE INTO {table} VALUES ({marks})");
        copy.raw().execute(&insert, rusqlite::params_from_iter(row.iter())).expect("put back");
        assert_refused(&copy, &format!("{table} {key:?} put back"));
    }
    println!("{} rows put back one by one", older.len());
    assert!(older.len() >= 8, "{}", older.len());
}

#[test]
fn another_schema_is_refused_before_it_is_used() {
    let changes = [
        "CREATE TABLE extra (x)",
        "CREATE INDEX extra ON record (body)",
        "CREATE VIEW extra AS SELECT 1",
        "CREATE TRIGGER extra AFTER INSERT ON audit BEGIN DELETE FROM audit; END",
        "ALTER TABLE record ADD COLUMN extra BLOB",
        "DROP INDEX record_kind",
        "PRAGMA application_id = 1",
        "PRAGMA user_version = 2",
    ];
    for change in changes {
        let home = filled(1);
        home.raw().execute_batch(change).expect("changed");
        let found = home.try_open();
        assert!(matches!(found, Err(VaultError::NotAVault { .. })), "{change}: {found:?}");
    }
}

#[test]
fn a_schema_that_changes_under_an_open_vault_is_noticed() {
    let home = filled(1);
    let mut vault = home.open();
    home.raw()
        .execute_batch("CREATE TRIGGER extra AFTER INSERT ON audit BEGIN DELETE FROM leaf; END")
        .expect("changed");
    let written = vault.record_event(Event::done("test"));
    assert!(matches!(written, Err(VaultError::NotAVault { .. })), "{written:?}");
    let listed = vault.list(&NamePattern::all(), true);
    assert!(matches!(listed, Err(VaultError::NotAVault { .. })), "{listed:?}");
}

#[test]
fn files_that_are_not_safe_are_refused() {
    let home = filled(1);
    let open_at = |path: &std::path::Path| kind(Vault::open(path, &key_file(), home.options()).map(drop));
    let beside = |name: &str| home.directory().join(name);
    assert_eq!(open_at(&beside("missing")), Err(ErrorKind::NotFound));
    assert_eq!(open_at(&beside("no/directory")), Err(ErrorKind::NotFound));
    symlink(home.path(), beside("link")).expect("linked");
    assert_eq!(open_at(&beside("link")), Err(ErrorKind::Refused), "a link");
    assert_eq!(open_at(home.directory()), Err(ErrorKind::Refused), "a directory");
    let mode = |path: &std::path::Path, mode| {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("set")
    };
    mode(&home.path(), 0o620);
    assert_eq!(open_at(&home.path()), Err(ErrorKind::Refused), "others may write");
    mode(&home.path(), 0o600);
    mode(home.directory(), 0o777);
    assert_eq!(open_at(&home.path()), Err(ErrorKind::Refused), "everyone may replace it");
    mode(home.directory(), 0o1777);
    assert_eq!(open_at(&home.path()), Ok(()), "the sticky bit protects it");
    // A linked directory on the way is resolved once, not refused.
    symlink(home.directory(), beside("here")).expect("linked");
    assert_eq!(open_at(&beside("here").join("test.vault")), Ok(()));
}

#[test]
fn a_new_vault_is_private_and_replaces_nothing() {
    let home = Home::with_vault();
    assert_eq!(fs::metadata(home.path()).expect("there").permissions().mode() & 0o777, 0o600);
    let again = Vault::create(&home.path(), home.create_options()).map(drop);
    assert_eq!(kind(again), Err(ErrorKind::Conflict));
    for side in ["-journal", "-wal", "-shm"] {
        let home = Home::new();
        fs::write(format!("{}{side}", home.path().display()), b"hot").expect("written");
        let created = Vault::create(&home.path(), home.create_options()).map(drop);
        assert_eq!(kind(created), Err(ErrorKind::Conflict), "{side} would be played into the new vault");
        assert_eq!(fs::read_dir(home.directory()).expect("listed").count(), 1, "nothing is left behind");
    }
    for taken in ["test key", "recovery-code"] {
        let mut twice = home.create_options();
        twice.slots.push(NewSlot { name: taken.into(), opener: key_file() });
        assert_eq!(
            kind(Vault::create(&home.directory().join("x"), twice).map(drop)),
            Err(ErrorKind::Conflict)
        );
    }
    let mut none = home.create_options();
    (none.slots, none.recovery_code) = (Vec::new(), false);
    assert_eq!(kind(Vault::create(&home.directory().join("x"), none).map(drop)), Err(ErrorKind::Refused));
}

#[test]
fn garbage_is_refused_without_harm() {
    println!("seed 11");
    let random = SeededRandom::new(11);
    let home = filled(2);
    let whole = fs::read(home.path()).expect("the file");
    let cut = |len: usize| whole[..len].to_vec();
    let mut noise = vec![0; 5000];
    random.fill(&mut noise).expect("seeded");
    let files = [
        vec![],
        vec![0; 100],
        noise,
        cut(1),
        cut(99),
        cut(100),
        cut(4096),
        cut(whole.len() - 4096),
        cut(whole.len() / 2),
    ];
    for (n, content) in files.into_iter().enumerate() {
        fs::write(home.path(), content).expect("written");
        assert_eq!(kind(inspect(&home)), Err(ErrorKind::Integrity), "file {n}");
    }
}

#[test]
fn damage_anywhere_in_the_file_never_gives_a_wrong_value() {
    println!("seed 12");
    let random = SeededRandom::new(12);
    let home = filled(2);
    let whole = fs::read(home.path()).expect("the file");
    // Without anchors, or the first success would make every other round one of an older vault.
    let forgetful = OpenOptions { anchors: None, ..home.options() };
    let (mut refused, mut harmless) = (0, 0);
    for round in 0..400 {
        let mut place = [0; 5];
        random.fill(&mut place).expect("seeded");
        let mut damaged = whole.clone();
        let at = u32::from_be_bytes([place[0], place[1], place[2], place[3]]) as usize % damaged.len();
        damaged[at] ^= place[4].max(1);
        fs::write(home.path(), damaged).expect("written");
        let opened = Vault::open(&home.path(), &key_file(), forgetful.clone());
        let got = opened.and_then(|mut v| v.get(&name("s/1"), VersionSelector::Current));
        match got {
            Ok(secret) => {
                assert_eq!(secret.value, bytes("value 1"), "round {round}, byte {at}");
                harmless += 1;
            }
            Err(error) => {
                assert!(matches!(error.kind(), ErrorKind::Integrity | ErrorKind::Locked), "{at}: {error:?}");
                refused += 1;
            }
        }
    }
    println!("{refused} refused, {harmless} in places that are not read");
    assert!(refused > 25, "{refused}");
}
