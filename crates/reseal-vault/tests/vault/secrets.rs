//! Putting secrets in and taking them out.

use crate::support::{Home, bytes, name, password};
use reseal_vault::{ErrorKind, Expect, NamePattern, NewVersion, VersionSelector};

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
fn compare_and_set_refuses_what_it_does_not_expect() {
    let home = Home::with_vault();
    let mut vault = home.open();
    let expecting = |expect| NewVersion { expect, ..password("x") };
    let kind = |result: Result<u64, reseal_vault::VaultError>| result.map_err(|error| error.kind());
    assert_eq!(kind(vault.put(&name("a"), expecting(Expect::IfVersion(1)))), Err(ErrorKind::Conflict));
    assert_eq!(kind(vault.put(&name("a"), expecting(Expect::CreateOnly))), Ok(1));
    assert_eq!(kind(vault.put(&name("a"), expecting(Expect::CreateOnly))), Err(ErrorKind::Conflict));
    assert_eq!(kind(vault.put(&name("a"), expecting(Expect::IfVersion(1)))), Ok(2));
    assert_eq!(kind(vault.put(&name("a"), expecting(Expect::IfVersion(1)))), Err(ErrorKind::Conflict));
    assert_eq!(vault.history(&name("a")).expect("history").len(), 2);
}
