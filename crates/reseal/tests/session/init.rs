//! `init` and what it shows once: the vault is made only where code and key can be kept.

use super::{Ended, Session};

#[test]
fn a_vault_is_not_made_where_its_code_or_key_cannot_be_kept() {
    let session = Session::without_vault();
    std::fs::write(session.path("taken"), "mine").unwrap();
    for arguments in [
        &["init", "--recovery-code-file", "taken", "--auditor-key-file", "auditor"][..],
        &["init", "--recovery-code-file", "code", "--auditor-key-file", "taken"],
        &["init", "--recovery-code-file", "same", "--auditor-key-file", "same"],
    ] {
        session.run(arguments).code(8).says("exists already");
    }
    session.run(&["init", "--recovery-code-file", "nowhere/code"]).code(3).says("nowhere/code");
    session.run(&["--json", "init", "--recovery-code-file", "code"]).code(2).says("--auditor-key-file");
    for left in ["v.vault", "auditor", "code", "same"] {
        assert!(!session.path(left).exists(), "{left}");
    }
    assert_eq!(std::fs::read(session.path("taken")).unwrap(), b"mine");
}

#[test]
fn a_vault_that_is_there_costs_no_files() {
    let session = Session::new();
    session.run(&["init", "--recovery-code-file", "code", "--auditor-key-file", "auditor"]).code(7);
    assert!(!session.path("code").exists() && !session.path("auditor").exists());
}

#[test]
fn code_and_key_are_kept_and_work() {
    let session = Session::without_vault();
    let made = session.json(&["init", "--recovery-code-file", "code", "--auditor-key-file", "auditor"]);
    assert_eq!(made["recovery_code"], true);
    session.run(&["audit", "verify", "--auditor-key", "auditor"]).done();
    Ended::of(session.bare(&["--passphrase-file", "code", "list"]).output().unwrap()).done();
}

#[test]
fn a_mistyped_recovery_code_is_told_from_a_wrong_passphrase() {
    let session = Session::without_vault();
    session.run(&["init", "--recovery-code-file", "code"]).done();
    let code = std::fs::read_to_string(session.path("code")).unwrap();
    let open = |typed: &str| {
        std::fs::write(session.path("typed"), typed).unwrap();
        Ended::of(session.bare(&["--passphrase-file", "typed", "list"]).output().unwrap())
    };
    let (last, replaced) = (code.len() - 1, if code.ends_with('0') { "1" } else { "0" });
    open(&format!("{}{replaced}", &code[..last])).code(4).says("its checksum does not fit");
    open(&code[..last]).code(4).says("this has 55");
    let wrong = open("correct horse battery staple").code(4);
    assert!(!wrong.stderr.contains("recovery code was"), "{wrong:?}");
}

#[test]
fn where_nobody_can_be_asked_the_hint_says_what_to_give() {
    let session = Session::without_vault();
    let bare = |arguments: &[&str]| Ended::of(session.bare(arguments).output().unwrap());
    bare(&["init", "--no-input"]).code(2).says("hint: give --passphrase-file");
    std::fs::write(session.path("old"), "old passphrase").unwrap();
    let made = bare(&["--passphrase-file", "old", "init", "--no-recovery-code", "--kdf-memory", "64"]).done();
    assert!(!made.stderr.contains("soon guessed"), "{made:?}");
    std::fs::write(session.path("short"), "a").unwrap();
    let short =
        ["--vault", "w", "--passphrase-file", "short", "init", "--no-recovery-code", "--kdf-memory", "64"];
    bare(&short).done().says("soon guessed");
    bare(&["--passphrase-file", "old", "key", "passwd", "--no-input"])
        .code(2)
        .says("hint: give --new-passphrase-file");
}
