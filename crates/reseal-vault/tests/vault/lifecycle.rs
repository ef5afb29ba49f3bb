//! What becomes of versions and secrets, and the journal.

use reseal_crypto::random::SeededRandom;
use reseal_crypto::{ColumnKey, SecretBytes};
use reseal_vault::{
    Attributes, ErrorKind, Event, Label, NamePattern, NewVersion, SecretKind, Timestamp, Vault, VaultError,
    VersionSelector, VersionState,
};

use crate::support::{Home, bytes, kind, name, password};

#[test]
fn revert_copies_an_old_version_forward() {
    let home = Home::with_vault();
    let mut vault = home.open();
    vault.put(&name("a"), NewVersion { changed_at: Some(Timestamp(7)), ..password("one") }).expect("stored");
    vault.put(&name("a"), password("two")).expect("stored");
    assert_eq!(vault.revert(&name("a"), 1).expect("reverted"), 3);
    let current = vault.get(&name("a"), VersionSelector::Current).expect("released");
    assert_eq!((current.version, current.value), (3, bytes("one")));
    let history = vault.history(&name("a")).expect("history");
    assert_eq!((history[2].changed_at, &*history[1].labels), (Some(Timestamp(7)), &[Label::Previous][..]));
    assert_eq!(kind(vault.revert(&name("a"), 9)), Err(ErrorKind::NotFound));
}

#[test]
fn deleted_secrets_come_back_as_they_were() {
    let home = Home::with_vault();
    let mut vault = home.open();
    vault.put(&name("a"), password("one")).expect("stored");
    vault.delete(&name("a")).expect("deleted");
    assert_eq!(kind(vault.get(&name("a"), VersionSelector::Current)), Err(ErrorKind::NotFound));
    assert_eq!(kind(vault.put(&name("a"), password("two"))), Err(ErrorKind::Conflict));
    assert_eq!(kind(vault.delete(&name("a"))), Err(ErrorKind::NotFound));
    assert_eq!(vault.list(&NamePattern::all(), false).expect("listed").len(), 0);
    assert_eq!(vault.list(&NamePattern::all(), true).expect("listed").len(), 1);
    vault.undelete(&name("a")).expect("undeleted");
    assert_eq!(kind(vault.undelete(&name("a"))), Err(ErrorKind::Refused));
    assert_eq!(vault.get(&name("a"), VersionSelector::Current).expect("released").value, bytes("one"));
}

#[test]
fn destroyed_values_are_gone_and_their_numbers_stay() {
    let home = Home::with_vault();
    let mut vault = home.open();
    vault.put(&name("a"), password("one")).expect("stored");
    vault.put(&name("a"), password("two")).expect("stored");
    assert_eq!(kind(vault.destroy(&name("a"), 2, None)), Err(ErrorKind::Refused), "it is current");
    vault.destroy(&name("a"), 1, None).expect("destroyed");
    assert_eq!(kind(vault.destroy(&name("a"), 1, None)), Err(ErrorKind::Refused));
    assert_eq!(kind(vault.get(&name("a"), VersionSelector::Number(1))), Err(ErrorKind::NotFound));
    assert_eq!(kind(vault.revert(&name("a"), 1)), Err(ErrorKind::NotFound));
    let history = vault.history(&name("a")).expect("history");
    assert_eq!((history[0].state, &*history[0].labels), (VersionState::Destroyed, &[][..]));
    vault.audit_verify(None).expect("the walk agrees");
    vault.delete(&name("a")).expect("deleted");
    vault.destroy(&name("a"), 2, None).expect("a deleted secret has nothing in use");
    drop(vault);
    let rows: i64 =
        home.raw().query_row("SELECT count(*) FROM record WHERE kind = 3", (), |r| r.get(0)).expect("count");
    assert_eq!(rows, 0, "no sealed value is left");
}

#[test]
fn a_key_is_destroyed_only_when_retired_and_with_evidence() {
    let home = Home::with_vault();
    let mut vault = home.open();
    let keys = [1, 2].map(|seed| ColumnKey::generate(&SeededRandom::new(seed)).expect("seeded"));
    for key in &keys {
        vault.put(&name("k"), NewVersion::new(SecretKind::Key, bytes(&key.to_text()))).expect("stored");
    }
    assert_eq!(kind(vault.destroy(&name("k"), 1, Some("swept"))), Err(ErrorKind::Refused), "not retired");
    assert_eq!(kind(vault.retire(&name("k"), 2)), Err(ErrorKind::Refused), "current");
    vault.retire(&name("k"), 1).expect("retired");
    let retired = vault.get(&name("k"), VersionSelector::Number(1)).expect("a retired key still opens");
    assert_eq!(retired.state, VersionState::Retired);
    assert_eq!(kind(vault.destroy(&name("k"), 1, None)), Err(ErrorKind::Refused), "no evidence");
    assert_eq!(kind(vault.destroy(&name("k"), 1, Some(" "))), Err(ErrorKind::Refused), "no evidence");
    vault
        .destroy(&name("k"), 1, Some("sweep of 2026-11-20, oldest backup of 2026-11-21"))
        .expect("destroyed");
    assert_eq!(kind(vault.retire(&name("k"), 1)), Err(ErrorKind::Refused));
    assert_eq!(vault.key_by_handle(keys[0].handle()).expect("looked up"), None);
    assert!(vault.key_by_handle(keys[1].handle()).expect("looked up").is_some());
    let log = vault.audit_log(None, None).expect("log");
    let last = log.last().expect("an entry");
    assert_eq!(last.event.action, "destroy");
    assert!(last.event.detail.as_deref().is_some_and(|detail| detail.starts_with("sweep of")));
}

#[test]
fn a_reverted_key_keeps_its_handle_when_the_first_copy_is_destroyed() {
    let home = Home::with_vault();
    let mut vault = home.open();
    let key = ColumnKey::generate(&SeededRandom::new(1)).expect("seeded");
    vault.put(&name("k"), NewVersion::new(SecretKind::Key, bytes(&key.to_text()))).expect("stored");
    vault.put(&name("k"), password("something else")).expect("stored");
    assert_eq!(vault.revert(&name("k"), 1).expect("reverted"), 3);
    vault.retire(&name("k"), 1).expect("retired");
    vault.destroy(&name("k"), 1, Some("version 3 is the same key")).expect("destroyed");
    assert_eq!(vault.key_by_handle(key.handle()).expect("looked up").map(|k| k.version), Some(3));
    assert_eq!(vault.get(&name("k"), VersionSelector::Current).expect("released").column_key(), Some(key));
}

#[test]
fn rename_takes_versions_and_handles_along() {
    let home = Home::with_vault();
    let mut vault = home.open();
    let key = ColumnKey::generate(&SeededRandom::new(1)).expect("seeded");
    vault.put(&name("a"), password("one")).expect("stored");
    vault.put(&name("a"), NewVersion::new(SecretKind::Key, bytes(&key.to_text()))).expect("stored");
    vault.put(&name("taken"), password("x")).expect("stored");
    assert_eq!(kind(vault.rename(&name("a"), &name("taken"))), Err(ErrorKind::Conflict));
    vault.rename(&name("a"), &name("b/c")).expect("renamed");
    assert_eq!(kind(vault.show(&name("a"))), Err(ErrorKind::NotFound));
    assert_eq!(vault.get(&name("b/c"), VersionSelector::Number(1)).expect("released").value, bytes("one"));
    let found = vault.key_by_handle(key.handle()).expect("looked up").expect("known");
    assert_eq!((found.secret.as_str(), found.version), ("b/c", 2));
    vault.audit_verify(None).expect("the walk agrees");
}

#[test]
fn rename_leaves_a_key_to_the_secret_that_has_it_now() {
    let home = Home::with_vault();
    let mut vault = home.open();
    let key = ColumnKey::generate(&SeededRandom::new(1)).expect("seeded");
    let put = |vault: &mut reseal_vault::Vault, secret| {
        vault.put(&name(secret), NewVersion::new(SecretKind::Key, bytes(&key.to_text()))).expect("stored")
    };
    put(&mut vault, "a");
    vault.put(&name("a"), password("something else")).expect("stored");
    vault.retire(&name("a"), 1).expect("retired");
    vault.destroy(&name("a"), 1, Some("it was never used")).expect("destroyed");
    put(&mut vault, "b");
    vault.rename(&name("a"), &name("c")).expect("renamed");
    let found = vault.key_by_handle(key.handle()).expect("looked up").expect("known");
    assert_eq!((found.secret.as_str(), found.version), ("b", 1));
}

#[test]
fn a_discarded_pending_version_makes_room_for_the_next() {
    let home = Home::with_vault();
    let mut vault = home.open();
    let pending = || NewVersion { pending: true, ..password("p") };
    vault.put(&name("a"), pending()).expect("stored");
    assert_eq!(kind(vault.destroy(&name("a"), 1, None)), Err(ErrorKind::Refused), "pending");
    assert_eq!(vault.discard_pending(&name("a")).expect("discarded"), 1);
    assert_eq!(vault.put(&name("a"), pending()).expect("stored"), 2);
    assert_eq!(vault.get(&name("a"), VersionSelector::Number(1)).expect("kept").value, bytes("p"));
}

#[test]
fn attributes_are_replaced_whole() {
    let home = Home::with_vault();
    let mut vault = home.open();
    vault.put(&name("a"), password("x")).expect("stored");
    let attributes = Attributes { env: Some("REDIS_PASSWORD".into()), ..Attributes::default() };
    vault.set_attributes(&name("a"), attributes).expect("described");
    let secret = vault.get(&name("a"), VersionSelector::Current).expect("released");
    assert_eq!(secret.env.as_deref(), Some("REDIS_PASSWORD"));
}

#[test]
fn journal_records_are_kept_listed_and_removed() {
    let home = Home::with_vault();
    let mut vault = home.open();
    let mut put = |kind: &str, id: &str, text: &str| {
        vault.journal_put(kind, id, &bytes(text), Event::done("test").of(id)).expect("stored");
    };
    put("run", "2", "second");
    put("run", "1", "first");
    put("run", "1", "first, changed");
    put("rotation", "1", "another kind");
    drop(vault);
    let mut vault = home.open();
    let listed = vault.journal_list("run").expect("listed");
    let records: Vec<_> =
        listed.iter().map(|r| (r.id.as_str(), r.bytes.expose_str().expect("text"))).collect();
    assert_eq!(records, [("1", "first, changed"), ("2", "second")]);
    assert_eq!(vault.journal_get("rotation", "1").expect("read"), Some(bytes("another kind")));
    vault.journal_remove("run", "1", Event::done("test")).expect("removed");
    assert_eq!(vault.journal_get("run", "1").expect("read"), None);
    assert_eq!(kind(vault.journal_remove("run", "1", Event::done("test"))), Err(ErrorKind::NotFound));
    let too_long = SecretBytes::new(vec![0; reseal_vault::VALUE_MAX + 1]);
    assert_eq!(kind(vault.journal_put("run", "3", &too_long, Event::done("test"))), Err(ErrorKind::Refused));
}

#[test]
fn a_column_has_one_id_for_ever() {
    let home = Home::with_vault();
    let id = home.open().column_id("main", "public.users", "ssn").expect("drawn");
    assert_eq!(home.open().column_id("main", "public.users", "ssn").expect("kept"), id);
    assert_ne!(home.open().column_id("main", "public.users", "email").expect("drawn"), id);
}

#[test]
fn a_batch_is_durable_as_a_whole_or_not_at_all() {
    let home = Home::with_vault();
    let mut vault = home.open();
    let key = name("crm/key");
    vault.put(&key, password("one")).expect("stored");
    let entries = |vault: &mut Vault| vault.audit_log(None, None).expect("a log").len();
    let before = entries(&mut vault);

    let given_up: Result<(), VaultError> = vault.batch(|batch| {
        batch.put(&key, NewVersion { pending: true, ..password("two") })?;
        batch.journal_put("plan", "key", &bytes("for two"))?;
        batch.discard_pending(&name("nobody"))?;
        Ok(((), Event::done("never")))
    });
    assert_eq!(kind(given_up), Err(ErrorKind::NotFound));
    assert_eq!(vault.show(&key).expect("shown").labels.pending, None);
    assert_eq!(vault.journal_get("plan", "key").expect("read"), None);
    assert_eq!(entries(&mut vault), before);

    let number = vault.batch(|batch| {
        let number = batch.put(&key, NewVersion { pending: true, ..password("two") })?;
        batch.journal_put("plan", "key", &bytes("for two"))?;
        Ok::<_, VaultError>((number, Event::intent("rotate").of(&key).version(number)))
    });
    assert_eq!(number.expect("committed"), 2);
    drop(vault);
    let mut vault = home.open();
    assert_eq!(vault.show(&key).expect("shown").labels.pending, Some(2));
    assert_eq!(vault.journal_get("plan", "key").expect("read"), Some(bytes("for two")));
    assert_eq!(entries(&mut vault), before + 2);

    let moved = vault.batch(|batch| {
        batch.promote(&key)?;
        batch.retire(&key, 1)?;
        assert!(batch.journal_remove("plan", "key")?);
        Ok::<_, VaultError>((batch.labels(&key)?.current, Event::done("rotate")))
    });
    assert_eq!(moved.expect("committed"), Some(2));
    let old = vault.version(&key, VersionSelector::Number(1)).expect("there");
    assert_eq!(old.state, VersionState::Retired);
}
