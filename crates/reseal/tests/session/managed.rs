//! A secret that the plan manages is not changed in the vault alone by mistake.

use super::columns::Columns;
use super::{Ended, Session};

#[test]
fn what_is_current_of_a_managed_secret_stays_unless_the_vault_alone_is_meant() {
    let columns = Columns::new();
    let session = &columns.session;
    let refused = "is managed by the plan";
    session.feed(&["put", "crm/db-key", "-"], b"x").code(8).says(refused).says("`prefs`").says("--pending");
    session.run(&["generate", "crm/db-key"]).code(8).says(refused);
    session.run(&["revert", "crm/db-key", "--to", "1"]).code(8).says(refused);
    session.run(&["delete", "crm/db-key"]).code(8).says(refused);
    assert_eq!(session.json(&["show", "crm/db-key"])["latest"], 1);
    session.feed(&["put", "db-key", "-"], b"another secret, without the prefix").done();
    session.feed(&["put", "crm/db-key", "-", "--vault-only"], b"x").done();
    session.run(&["revert", "crm/db-key", "--to", "1", "--vault-only"]).done();
    session.run(&["delete", "crm/db-key", "--vault-only"]).done();
    session.run(&["undelete", "crm/db-key"]).done();
}

#[test]
fn the_key_that_values_are_under_is_brought_and_not_drawn() {
    let columns = Columns::new();
    let session = &columns.session;
    let path = session.path("reseal.toml");
    let plan = std::fs::read_to_string(&path).unwrap();
    // A key that the vault has not got yet.
    std::fs::write(path, plan.replace("\"db-key\"", "\"new-key\"")).unwrap();
    session.run(&["generate", "crm/new-key", "--pending"]).done();
    session.run(&["generate", "crm/new-key"]).code(8).says("opens nothing").says("`reseal put crm/new-key`");
    session.feed(&["put", "crm/new-key", "-"], b"the old passphrase").done();
    session.run(&["reencrypt", "plan"]).done();
}

#[test]
fn the_plan_of_another_vault_does_not_count() {
    let columns = Columns::new();
    let session = &columns.session;
    let plan = std::fs::read_to_string(session.path("reseal.toml")).unwrap();
    std::fs::write(
        session.path("reseal.toml"),
        plan.replacen("schema = 1", "schema = 1\nvault = \"other.vault\"", 1),
    )
    .unwrap();
    session.feed(&["put", "crm/db-key", "-"], b"x").done();
}

#[test]
fn a_pending_key_has_the_kind_that_the_columns_will_need() {
    let columns = Columns::new();
    let session = &columns.session;
    session.run(&["generate", "crm/db-key", "--pending"]).done();
    assert_eq!(session.json(&["history", "crm/db-key"])["versions"][1]["kind"], "key");
    session.run(&["reencrypt", "run", "-y", "--no-backup", "a test"]).done();
}

#[test]
fn a_wedged_key_comes_free() {
    let columns = Columns::new();
    let session = &columns.session;
    session.run(&["generate", "crm/db-key", "--kind", "password", "--pending"]).done();
    session
        .run(&["reencrypt", "run", "-y", "--no-backup", "a test"])
        .code(8)
        .says("is of kind password; the new format takes one of kind key")
        .says("`reseal discard crm/db-key`")
        .says("`reseal generate crm/db-key --kind key --pending`");
    session.run(&["reencrypt", "plan"]).code(8).says("of kind password");
    session.run(&["reencrypt", "verify"]).done();
    session.run(&["discard", "crm/db-key"]).done();
    let plan = session.run(&["reencrypt", "plan"]).done();
    assert!(plan.stdout.contains("`reseal generate crm/db-key --kind key --pending`"), "{plan:?}");
    session
        .run(&["reencrypt", "run", "-y"])
        .code(8)
        .says("`reseal generate crm/db-key --kind key --pending`");
    session.run(&["generate", "crm/db-key", "--kind", "key", "--pending"]).done();
    session.run(&["reencrypt", "run", "-y", "--no-backup", "a test"]).done();
}

#[test]
fn keys_of_an_unfinished_run_stay() {
    let columns = Columns::ready();
    let session = &columns.session;
    let stumble = "CREATE TRIGGER stumble BEFORE UPDATE ON crm_client_preferences WHEN OLD.id > 100 BEGIN SELECT RAISE(FAIL, 'no'); END";
    columns.database.execute_batch(stumble).unwrap();
    let stopped = session.run(&["reencrypt", "run", "-y"]);
    assert_eq!(stopped.code, Some(1), "{stopped:?}");
    columns.database.execute_batch("DROP TRIGGER stumble").unwrap();
    assert_eq!(session.json(&["reencrypt", "status"])["columns"][0]["state"], "active");
    for command in [
        &["discard", "crm/db-key"][..],
        &["delete", "crm/db-key", "--vault-only"],
        &["destroy", "crm/db-key", "--version", "1", "-y", "--reason", "a test"],
    ] {
        session.run(command).code(8).says("needs `crm/db-key` version");
    }
    // A plan that means something else by the name now does not hide it.
    let plan = std::fs::read_to_string(session.path("reseal.toml")).unwrap();
    std::fs::write(session.path("reseal.toml"), plan.replace("crm_client_preferences", "renamed")).unwrap();
    for command in ["run", "resume", "rollback", "verify"] {
        let arguments = ["reencrypt", command, "prefs", "-y"];
        let arguments = if command == "verify" { &arguments[..3] } else { &arguments[..] };
        session.run(arguments).code(7).says("is not over, and is about main.crm_client_preferences");
    }
    std::fs::write(session.path("reseal.toml"), plan.replace("crm_client", "Main.crm_client")).unwrap();
    session.run(&["reencrypt", "resume", "-y"]).done();
}

#[test]
fn an_empty_reason_waives_nothing() {
    let columns = Columns::new();
    columns.session.run(&["generate", "crm/db-key", "--kind", "key", "--pending"]).done();
    for reason in ["", "  "] {
        columns
            .session
            .run(&["reencrypt", "run", "-y", "--no-backup", reason])
            .code(2)
            .says("a reason in words");
    }
}

#[test]
fn a_broken_plan_keeps_nobody_from_the_vault_that_it_names() {
    let session = Session::new();
    session.feed(&["put", "a", "-"], b"value").done();
    let run = |arguments: &[&str]| {
        let mut command = session.bare(&[&["--key-file", "key", "--no-input"], arguments].concat());
        Ended::of(command.env_remove("RESEAL_VAULT").output().unwrap())
    };
    let plan = |text: &str| std::fs::write(session.path("reseal.toml"), text).unwrap();
    plan("schema = 1\nvault = \"v.vault\"\n[secrets.a]\nwrite = 1\n");
    for arguments in [
        &["list"][..],
        &["history", "a"],
        &["key", "list"],
        &["audit", "verify"],
        &["export", "a", "--format", "env"],
        &["backup", "create", "copy"],
    ] {
        run(arguments).done().says("the plan cannot be used");
    }
    assert_eq!(run(&["get", "a"]).done().stdout, "value");
    run(&["init", "--no-recovery-code"]).code(7).says("v.vault");
    run(&["rotate", "plan"]).code(2);
    run(&["delete", "a"]).code(2).says("--vault-only changes the vault all the same");
    run(&["delete", "a", "--vault-only"]).done();
    // Which vault is meant cannot be told: another one would have other values.
    plan("schema = 1\nvault = v.vault\n");
    run(&["list"]).code(2).says("name the vault with --vault");
    session.run(&["list"]).done();
}
