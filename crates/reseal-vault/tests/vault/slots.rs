//! Key slots: what opens a vault, and that nothing else does.

use std::time::{Duration, Instant};

use reseal_crypto::kdf::KdfParams;
use reseal_crypto::slot::Opener;
use reseal_crypto::{Passphrase, SecretBytes};
use reseal_vault::{ErrorKind, LockedVault, NewSlot, RecoveryCode, Vault};
use rusqlite::Connection;

use crate::support::{Home, bytes, key_file, kind, new_key_file};

fn passphrase(text: &str) -> Opener {
    Opener::Passphrase(Passphrase::new(bytes(text)).expect("not empty"))
}

fn opens(home: &Home, opener: &Opener) -> Result<(), ErrorKind> {
    kind(Vault::open(&home.path(), opener, home.options()).map(drop))
}

#[test]
fn each_kind_of_slot_opens_the_vault() {
    let home = Home::new();
    let mut options = home.create_options();
    options.slots.push(NewSlot { name: "alice".into(), opener: passphrase("correct horse") });
    let created = Vault::create(&home.path(), options).expect("created");
    let code = created.recovery_code.expect("made").to_text();
    let typed = RecoveryCode::parse(&code.to_lowercase()).expect("read back");
    drop(created.vault);
    assert_eq!(opens(&home, &key_file()), Ok(()));
    assert_eq!(opens(&home, &typed.opener()), Ok(()));
    assert_eq!(opens(&home, &passphrase("correct horse")), Ok(()));
    assert_eq!(opens(&home, &passphrase("wrong horse")), Err(ErrorKind::Locked));
    assert_eq!(opens(&home, &new_key_file()), Err(ErrorKind::Locked));
    assert_eq!(
        opens(&home, &Opener::RecoveryCode(SecretBytes::copy_from(&[0x4B; 32]))),
        Err(ErrorKind::Locked)
    );
    let vault = Vault::open(&home.path(), &passphrase("correct horse"), home.options()).expect("opens");
    assert_eq!(vault.slot_name(), "alice");
}

#[test]
fn slots_are_added_listed_and_removed() {
    let home = Home::with_vault();
    let mut vault = home.open();
    let add = |vault: &mut Vault, n: u8| {
        let opener = Opener::KeyFile(SecretBytes::copy_from(&[n; 32]));
        kind(vault.add_slot(&format!("slot {n}"), &opener, KdfParams::FLOOR))
    };
    for n in 0..6 {
        assert_eq!(add(&mut vault, n), Ok(()));
    }
    assert_eq!(add(&mut vault, 6), Err(ErrorKind::Refused), "there are eight");
    let rename = vault.change_slot("slot 1", &new_key_file(), KdfParams::FLOOR);
    assert_eq!(kind(rename), Err(ErrorKind::Refused), "no room to change one safely");
    let mut names: Vec<_> = vault.slots().expect("slots").into_iter().map(|slot| slot.name).collect();
    names.sort();
    let expected = ["recovery-code", "slot 0", "slot 1", "slot 2", "slot 3", "slot 4", "slot 5", "test key"];
    assert_eq!(names, expected);
    for name in ["slot 0", "slot 1", "slot 2", "slot 3", "slot 4", "slot 5", "recovery-code"] {
        vault.remove_slot(name).expect("removed");
    }
    assert_eq!(kind(vault.remove_slot("test key")), Err(ErrorKind::Refused), "the last one");
    assert_eq!(kind(vault.remove_slot("slot 0")), Err(ErrorKind::NotFound));
    assert_eq!(kind(vault.add_slot("test key", &new_key_file(), KdfParams::FLOOR)), Err(ErrorKind::Conflict));
    for bad in ["", " x", "a\nb", &"x".repeat(65)] {
        assert_eq!(
            kind(vault.add_slot(bad, &new_key_file(), KdfParams::FLOOR)),
            Err(ErrorKind::Refused),
            "{bad:?}"
        );
    }
    let short = Opener::KeyFile(SecretBytes::copy_from(b"too short"));
    assert_eq!(kind(vault.add_slot("short", &short, KdfParams::FLOOR)), Err(ErrorKind::Refused));
    assert_eq!(opens(&home, &key_file()), Ok(()));
}

#[test]
fn after_passwd_only_the_new_passphrase_opens() {
    let home = Home::with_vault();
    home.open().change_slot("test key", &passphrase("new one"), KdfParams::FLOOR).expect("changed");
    assert_eq!(opens(&home, &key_file()), Err(ErrorKind::Locked));
    assert_eq!(opens(&home, &passphrase("new one")), Ok(()));
    let vault = Vault::open(&home.path(), &passphrase("new one"), home.options()).expect("opens");
    assert_eq!(vault.slot_name(), "test key");
}

#[test]
fn a_slot_that_is_removed_while_its_passphrase_is_typed_opens_nothing() {
    let home = Home::new();
    let code = home.create().recovery_code.expect("made").opener();
    let locked = LockedVault::find(&home.path(), home.options()).expect("found");
    let key = locked.unwrap_key(&key_file()).expect("unwrapped");
    let mut other = Vault::open(&home.path(), &code, home.options()).expect("opens");
    other.remove_slot("test key").expect("removed");
    assert_eq!(kind(locked.unlock(key).map(drop)), Err(ErrorKind::Locked));
}

const BLOBS: [&str; 6] = ["id", "salt", "nonce", "wrapped", "commitment", "label"];
const NUMBERS: [&str; 4] = ["kdf", "memory_kib", "passes", "lanes"];

/// Runs `check` with every bit of one slot flipped, one after the other; says how many there were.
fn flip_every_bit(raw: &Connection, kdf: i64, mut check: impl FnMut(&str, usize)) -> usize {
    let id: Vec<u8> =
        raw.query_row("SELECT id FROM slot WHERE kdf = ?1", [kdf], |row| row.get(0)).expect("the slot");
    let mut flipped = 0;
    for column in BLOBS {
        let get = format!("SELECT {column} FROM slot WHERE id = ?1");
        let original: Vec<u8> = raw.query_row(&get, [&id], |row| row.get(0)).expect("the field");
        for bit in 0..original.len() * 8 {
            let mut changed = original.clone();
            changed[bit / 8] ^= 1 << (bit % 8);
            let set = format!("UPDATE slot SET {column} = ?2 WHERE {column} = ?1");
            assert_eq!(raw.execute(&set, [&original, &changed]).expect("changed"), 1);
            check(column, bit);
            assert_eq!(raw.execute(&set, [&changed, &original]).expect("changed back"), 1);
            flipped += 1;
        }
    }
    for column in NUMBERS {
        for bit in 0..64 {
            // `^` is not an operator of SQLite.
            let set = format!("UPDATE slot SET {column} = ({column} | ?1) - ({column} & ?1) WHERE id = ?2");
            let flip = || raw.execute(&set, rusqlite::params![1_i64 << bit, id]).is_ok();
            // Some flips leave what a 64-bit number can hold; SQLite then makes it a float, which the table refuses.
            if flip() {
                check(column, bit);
                assert!(flip());
            }
            flipped += 1;
        }
    }
    flipped
}

#[test]
fn every_flipped_bit_of_the_code_slots_is_refused_with_its_kind() {
    let home = Home::new();
    let code = home.create().recovery_code.expect("made").opener();
    let raw = home.raw();
    for (kdf, opener) in [(3, key_file()), (2, code)] {
        assert_eq!(opens(&home, &opener), Ok(()));
        let flipped = flip_every_bit(&raw, kdf, |column, bit| {
            let expected = match column {
                // Another derived key: the commitment does not fit, as with a wrong key file.
                "salt" | "commitment" => ErrorKind::Locked,
                // One code becomes the other kind: nothing is there that this opener opens.
                "kdf" if bit == 0 => ErrorKind::Locked,
                _ => ErrorKind::Integrity,
            };
            assert_eq!(opens(&home, &opener), Err(expected), "bit {bit} of {column}, slot of kind {kdf}");
        });
        assert_eq!(opens(&home, &opener), Ok(()), "changed back");
        println!("slot of kind {kdf}: {flipped} bits");
        assert!(flipped > 1700, "{flipped}");
    }
}

#[test]
fn changed_costs_of_a_passphrase_slot_are_refused_before_the_memory_is_taken() {
    let home = Home::new();
    let mut options = home.create_options();
    options.slots = vec![NewSlot { name: "alice".into(), opener: passphrase("pw") }];
    drop(Vault::create(&home.path(), options).expect("created"));
    let raw = home.raw();
    let set =
        |values: &str| raw.execute(&format!("UPDATE slot SET {values} WHERE kdf = 1"), ()).expect("changed");
    let refused = [
        "memory_kib = 65535",
        "memory_kib = 0",
        "memory_kib = 4294967295",
        "memory_kib = 4398046511104",
        "passes = 2",
        "passes = 33",
        "passes = -1",
        "lanes = 0",
        "lanes = 17",
    ];
    for values in refused {
        set(values);
        let start = Instant::now();
        assert_eq!(opens(&home, &passphrase("pw")), Err(ErrorKind::Integrity), "{values}");
        assert!(start.elapsed() < Duration::from_millis(500), "{values}: {:?}", start.elapsed());
        set("memory_kib = 65536, passes = 3, lanes = 4");
    }
    for values in ["memory_kib = 65537", "passes = 4", "lanes = 3"] {
        set(values);
        assert_eq!(opens(&home, &passphrase("pw")), Err(ErrorKind::Locked), "{values}");
        set("memory_kib = 65536, passes = 3, lanes = 4");
    }
    assert_eq!(opens(&home, &passphrase("pw")), Ok(()));
}

#[test]
fn thousands_of_forged_slots_cost_nothing() {
    let home = Home::with_vault();
    let forge = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 10000) \
                 INSERT INTO slot SELECT CAST(printf('%016d', i) AS BLOB), 1, 2097152, 32, 16, salt, nonce, wrapped, \
                 commitment, label FROM n, (SELECT * FROM slot WHERE kdf = 3)";
    assert_eq!(home.tamper(forge), 10_000);
    let start = Instant::now();
    assert_eq!(opens(&home, &passphrase("pw")), Err(ErrorKind::Integrity));
    assert!(start.elapsed() < Duration::from_millis(500), "{:?}", start.elapsed());
}

#[test]
fn slots_of_another_vault_do_not_fit() {
    let (home, other) = (Home::with_vault(), Home::with_vault());
    let raw = home.raw();
    raw.execute("ATTACH ?1 AS other", [other.path().to_str().expect("text")]).expect("attached");
    raw.execute_batch("DELETE FROM slot; INSERT INTO slot SELECT * FROM other.slot").expect("exchanged");
    assert_eq!(opens(&home, &key_file()), Err(ErrorKind::Integrity));
}

#[test]
fn a_locked_vault_says_what_opens_it() {
    let home = Home::with_vault();
    let locked = LockedVault::find(&home.path(), home.options()).expect("found");
    let mut kinds: Vec<_> = locked.slot_kinds().map(|kdf| kdf.name()).collect();
    kinds.sort_unstable();
    assert_eq!(kinds, ["key file", "recovery code"]);
    let key = locked.unwrap_key(&new_key_file()).map(drop);
    assert_eq!(kind(key), Err(ErrorKind::Locked));
    let key = locked.unwrap_key(&key_file()).expect("a second try");
    assert_eq!(locked.unlock(key).expect("opens").slot_name(), "test key");
}
