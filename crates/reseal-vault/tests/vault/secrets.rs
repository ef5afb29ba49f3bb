//! Putting secrets in and taking them out.

use std::time::Instant;

use reseal_crypto::random::SeededRandom;
use reseal_crypto::{ColumnKey, KeyMaterial, SecretBytes};
use reseal_vault::{
    Attributes, ErrorKind, Expect, Label, NamePattern, NewVersion, SECRETS_MAX, SecretKind, Timestamp,
    VALUE_MAX, VersionSelector,
};

use crate::support::{Home, NOW, bytes, kind, name, password};

fn column_key(seed: u64) -> NewVersion {
    let key = ColumnKey::generate(&SeededRandom::new(seed)).expect("seeded");
    NewVersion::new(SecretKind::Key, bytes(&key.to_text()))
}

#[test]
fn what_was_put_is_got_by_the_next_process() {
    let home = Home::with_vault();
    let number = home.open().put(&name("crm/redis/password"), password("hunter2")).expect("stored");
    assert_eq!(number, 1);
    let secret = home.open().get(&name("crm/redis/password"), VersionSelector::Current).expect("released");
    assert_eq!((secret.version, secret.value), (1, bytes("hunter2")));
    let listed = home.open().list(&NamePattern::all(), false).expect("listed");
    assert_eq!(listed.iter().map(|info| info.name.as_str()).collect::<Vec<_>>(), ["crm/redis/password"]);
}

#[test]
fn nothing_of_a_secret_is_readable_in_the_file() {
    let home = Home::with_vault();
    let new = NewVersion {
        attributes: Attributes {
            notes: Some("canary-notes".into()),
            tags: vec!["canary-tag".into()],
            owner: Some("canary-owner".into()),
            env: Some("CANARY_ENV".into()),
        },
        ..password("canary-value")
    };
    let mut vault = home.open();
    vault.set_reason(Some("canary-reason".into()));
    vault.put(&name("canary-name/x"), new).expect("stored");
    drop(vault);
    let file = std::fs::read(home.path()).expect("the file");
    let found =
        |canary: &str| file.windows(canary.len()).any(|at| at.eq_ignore_ascii_case(canary.as_bytes()));
    assert!(found("CREATE TABLE"), "the search finds what is there");
    assert!(!found("canary"));
}

#[test]
fn compare_and_set_refuses_what_it_does_not_expect() {
    let home = Home::with_vault();
    let mut vault = home.open();
    let expecting = |expect| NewVersion { expect, ..password("x") };
    assert_eq!(kind(vault.put(&name("a"), expecting(Expect::IfVersion(1)))), Err(ErrorKind::Conflict));
    assert_eq!(kind(vault.put(&name("a"), expecting(Expect::CreateOnly))), Ok(1));
    assert_eq!(kind(vault.put(&name("a"), expecting(Expect::CreateOnly))), Err(ErrorKind::Conflict));
    assert_eq!(kind(vault.put(&name("a"), expecting(Expect::IfVersion(1)))), Ok(2));
    assert_eq!(kind(vault.put(&name("a"), expecting(Expect::IfVersion(1)))), Err(ErrorKind::Conflict));
    assert_eq!(vault.history(&name("a")).expect("history").len(), 2);
}

#[test]
fn labels_move_when_a_pending_version_is_promoted() {
    let home = Home::with_vault();
    let mut vault = home.open();
    let pending = |text| NewVersion { pending: true, ..password(text) };
    vault.put(&name("a"), password("one")).expect("stored");
    assert_eq!(vault.put(&name("a"), pending("two")).expect("stored"), 2);
    assert_eq!(kind(vault.put(&name("a"), pending("three"))), Err(ErrorKind::Conflict));
    let value = |vault: &mut reseal_vault::Vault, selector| {
        kind(vault.get(&name("a"), selector))
            .map(|secret| secret.value.expose_str().expect("text").to_owned())
    };
    assert_eq!(value(&mut vault, VersionSelector::Current), Ok("one".into()));
    assert_eq!(value(&mut vault, VersionSelector::Label(Label::Pending)), Ok("two".into()));
    assert_eq!(value(&mut vault, VersionSelector::Label(Label::Previous)), Err(ErrorKind::NotFound));
    assert_eq!(vault.promote(&name("a")).expect("promoted"), 2);
    assert_eq!(value(&mut vault, VersionSelector::Current), Ok("two".into()));
    assert_eq!(value(&mut vault, VersionSelector::Label(Label::Previous)), Ok("one".into()));
    assert_eq!(value(&mut vault, VersionSelector::Number(1)), Ok("one".into()));
    assert_eq!(value(&mut vault, VersionSelector::Number(3)), Err(ErrorKind::NotFound));
    assert_eq!(kind(vault.promote(&name("a"))), Err(ErrorKind::NotFound));
}

#[test]
fn metadata_is_kept_and_updated() {
    let home = Home::with_vault();
    let mut vault = home.open();
    let first = Attributes { notes: Some("n".into()), owner: Some("o".into()), ..Attributes::default() };
    let new = NewVersion {
        changed_at: Some(Timestamp(5)),
        expires_at: Some(Timestamp(9)),
        attributes: first,
        ..password("x")
    };
    vault.put(&name("a"), new).expect("stored");
    home.clock.set(Timestamp(NOW.0 + 60));
    let second = Attributes { owner: Some("p".into()), tags: vec!["t".into()], ..Attributes::default() };
    vault.put(&name("a"), NewVersion { attributes: second, ..password("yy") }).expect("stored");
    let info = vault.show(&name("a")).expect("shown");
    let expected =
        Attributes { notes: Some("n".into()), owner: Some("p".into()), tags: vec!["t".into()], env: None };
    assert_eq!((info.attributes, info.created_at, info.latest), (expected, NOW, 2));
    let history = vault.history(&name("a")).expect("history");
    let dates = |i: usize| (history[i].created_at.0 - NOW.0, history[i].changed_at, history[i].expires_at);
    assert_eq!(dates(0), (0, Some(Timestamp(5)), Some(Timestamp(9))));
    assert_eq!(dates(1), (60, None, None));
    assert_eq!((history[0].len, history[1].len), (1, 2));
    assert_eq!((&*history[0].labels, &*history[1].labels), (&[Label::Previous][..], &[Label::Current][..]));
}

#[test]
fn a_key_is_exactly_32_bytes_and_stands_in_one_place() {
    let home = Home::with_vault();
    let mut vault = home.open();
    for wrong in ["", "short", &"A".repeat(44), &format!("{}=", "A".repeat(43)), &"B".repeat(43)] {
        let refused = vault.put(&name("k"), NewVersion::new(SecretKind::Key, bytes(wrong)));
        assert_eq!(kind(refused), Err(ErrorKind::Refused), "{wrong:?}");
    }
    vault.put(&name("k"), column_key(1)).expect("stored");
    assert_eq!(kind(vault.put(&name("k2"), column_key(1))), Err(ErrorKind::Refused), "the same key twice");
    vault.put(&name("k"), column_key(2)).expect("stored");
    let secret = vault.get(&name("k"), VersionSelector::Current).expect("released");
    let KeyMaterial::Column(key) = secret.key_material() else { panic!("a column key") };
    assert_eq!(
        vault.version(&name("k"), VersionSelector::Number(2)).expect("v").commitment,
        Some(key.commitment())
    );
    let found = vault.key_by_handle(key.handle()).expect("looked up").expect("known");
    assert_eq!((found.secret.as_str(), found.version), ("k", 2));
    assert_eq!(vault.get_ref(&found).expect("released").value, secret.value);
}

#[test]
fn kind_belongs_to_the_version() {
    let home = Home::with_vault();
    let mut vault = home.open();
    vault.put(&name("pii"), password("a pgcrypto passphrase")).expect("stored");
    vault.put(&name("pii"), column_key(1)).expect("stored");
    let kinds: Vec<_> = vault.history(&name("pii")).expect("history").iter().map(|v| v.kind).collect();
    assert_eq!(kinds, [SecretKind::Password, SecretKind::Key]);
    let old = vault.get(&name("pii"), VersionSelector::Number(1)).expect("released");
    assert!(matches!(old.key_material(), KeyMaterial::Foreign(_)));
}

#[test]
fn values_end_at_16_mib() {
    let home = Home::with_vault();
    let mut vault = home.open();
    let file = |len| NewVersion::new(SecretKind::File, SecretBytes::new(vec![0xA5; len]));
    assert_eq!(kind(vault.put(&name("big"), file(VALUE_MAX + 1))), Err(ErrorKind::Refused));
    vault.put(&name("big"), file(VALUE_MAX)).expect("stored");
    vault.put(&name("empty"), file(0)).expect("stored");
    drop(vault);
    let got = home.open().get(&name("big"), VersionSelector::Current).expect("released");
    assert!(got.value == SecretBytes::new(vec![0xA5; VALUE_MAX]));
    assert!(home.open().get(&name("empty"), VersionSelector::Current).expect("released").value.is_empty());
}

#[test]
fn a_vault_holds_100_000_secrets_and_no_more() {
    let home = Home::with_vault();
    let mut vault = home.open();
    let start = Instant::now();
    let many = (0..SECRETS_MAX).map(|n| (name(&format!("bulk/{:03}/{n}", n % 997)), password("x")));
    assert_eq!(vault.put_all(many).expect("stored").len() as u64, SECRETS_MAX);
    println!("100,000 secrets stored in {:?}", start.elapsed());
    assert_eq!(kind(vault.put(&name("one/more"), password("x"))), Err(ErrorKind::Refused));
    let start = Instant::now();
    let got = vault.get(&name("bulk/500/500"), VersionSelector::Current).expect("released");
    println!("one released in {:?}", start.elapsed());
    assert_eq!(got.value, bytes("x"));
    let start = Instant::now();
    assert_eq!(vault.list(&NamePattern::new("bulk/042"), false).expect("listed").len(), 101);
    println!("listed in {:?}", start.elapsed());
    assert_eq!(kind(vault.put(&name("bulk/500/500"), password("y"))), Ok(2), "versions go on");
}

#[test]
fn import_is_all_or_nothing() {
    let home = Home::with_vault();
    let mut vault = home.open();
    let entries = vault.audit_log(None, None).expect("log").len();
    let bad = NewVersion::new(SecretKind::Key, bytes("no key"));
    let refused = vault.put_all([(name("a"), password("1")), (name("b"), bad)]);
    assert_eq!(kind(refused), Err(ErrorKind::Refused));
    assert_eq!(vault.list(&NamePattern::all(), true).expect("listed"), []);
    assert_eq!(vault.audit_log(None, None).expect("log").len(), entries);
}

#[test]
fn get_all_releases_what_the_pattern_covers_with_an_entry_each() {
    let home = Home::with_vault();
    let mut vault = home.open();
    let new = ["crm/a", "crm/b", "shop/a"].map(|n| (name(n), password(n)));
    vault.put_all(new).expect("stored");
    vault.put(&name("crm/new"), NewVersion { pending: true, ..password("p") }).expect("stored");
    let before = vault.audit_log(None, None).expect("log").len();
    let released = vault.get_all(&NamePattern::new("crm")).expect("released");
    let values: Vec<_> =
        released.iter().map(|s| (s.name.as_str(), s.value.expose_str().expect("text"))).collect();
    assert_eq!(values, [("crm/a", "crm/a"), ("crm/b", "crm/b")]);
    let log = vault.audit_log(None, None).expect("log");
    let actions: Vec<_> =
        log[before..].iter().map(|e| (e.event.action.as_str(), e.event.object.as_deref())).collect();
    assert_eq!(actions, [("get", Some("crm/a")), ("get", Some("crm/b")), ("export", None)]);
}

#[test]
fn an_empty_value_is_refused_unless_it_is_a_file() {
    let home = Home::with_vault();
    let mut vault = home.open();
    for empty_kind in SecretKind::ALL {
        let stored = vault.put(&name("a"), NewVersion::new(empty_kind, bytes("")));
        let expected = if empty_kind == SecretKind::File { Ok(1) } else { Err(ErrorKind::Refused) };
        assert_eq!(kind(stored), expected, "{empty_kind}");
    }
}
