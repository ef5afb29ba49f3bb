//! `status` and `rotate --due` by the real command: what is due, when, and what is done about it.

use std::time::{SystemTime, UNIX_EPOCH};

use reseal_tests::command::Desk;
use serde_json::Value;

const DAY: i64 = 86_400;

/// An application that reads its file at every restart.
const APP: &str = r#"schema = 1
vault = "v.vault"
prefix = "crm/"
environment = "production"
timezone = "UTC"

[apps.web]
restart = ["true"]

[files.".env"]
readers = ["shell"]
used_by = ["web"]
"#;

fn now() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_secs().cast_signed()
}

/// A day that many days ago, as the calendar of UTC has it.
fn days_ago(days: i64) -> String {
    // Counted from 0000-03-01, in eras of 400 years.
    let day = (now() - days * DAY).div_euclid(DAY) + 719_468;
    let (era, of_era) = (day.div_euclid(146_097), day.rem_euclid(146_097));
    let year = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let month = (5 * of_year + 2) / 153;
    let (day, month) = (of_year - (153 * month + 2) / 5 + 1, if month < 10 { month + 3 } else { month - 9 });
    format!("{:04}-{month:02}-{day:02}", year + era * 400 + i64::from(month <= 2))
}

/// A secret with a variable of its own in `.env`.
fn secret(name: &str, fields: &str) -> String {
    let variable = name.to_ascii_uppercase();
    format!(
        "\n[secrets.{name}]\nstrategy = \"in-place\"\nwrite = [{{ file = \".env\", var = \"{variable}\" }}]\n{fields}\n"
    )
}

fn of<'v>(status: &'v Value, secret: &str) -> &'v Value {
    let secrets = status["secrets"].as_array().expect("secrets");
    secrets.iter().find(|one| one["secret"] == secret).unwrap_or_else(|| panic!("no {secret}: {status}"))
}

#[test]
fn status_joins_the_vault_with_the_plan() {
    let mut plan = APP.to_owned();
    plan.push_str(&secret("fresh", "warn = \"7d\"\nowner = \"DevOps\"\nrisk = \"low\""));
    plan.push_str(&secret("warned", "warn = \"7d\""));
    plan.push_str(&secret("expired", "every = \"3mo\""));
    plan.push_str(&secret("leaked", "every = \"1y\""));
    plan.push_str(&secret("unknown", ""));
    plan.push_str(&secret("never", "every = \"never\""));
    plan.push_str(&secret("missing", ""));
    let desk = Desk::with_vault(&plan);
    desk.write("old.env", "UNKNOWN=value-of-unknown\n");
    desk.run(&["import", "old.env", "--prefix", "crm"]).expect(0);
    for (name, days) in [("fresh", 80), ("warned", 85), ("expired", 200), ("leaked", 1), ("never", 4_000)] {
        let value = format!("value-of-{name}");
        let put = ["put", &format!("crm/{name}"), "-", "--changed-at", &days_ago(days)];
        desk.run_with(&put, &value).expect(0);
    }
    desk.run_with(&["put", "other/thing", "-"], "value-of-other").expect(0);
    desk.run(&["rotate", "owe", "leaked", "--reason", "in a ticket"]).expect(0);

    let told = desk.run(&["status", "--json", "--exit-code"]).expect(11);
    assert!(!told.stdout.contains("value-of"), "{told:?}");
    let status = told.json();
    for (name, state, every, is_due, is_expired) in [
        ("crm/fresh", "ok", Some("90d"), false, false),
        ("crm/warned", "warning", Some("90d"), true, false),
        ("crm/expired", "expired", Some("3mo"), true, true),
        ("crm/leaked", "owed", Some("1y"), true, false),
        ("crm/unknown", "due", Some("90d"), true, false),
        ("crm/never", "ok", Some("never"), false, false),
        ("crm/missing", "no value", Some("90d"), false, false),
        ("other/thing", "ok", None, false, false),
    ] {
        let one = of(&status, name);
        assert_eq!(one["state"], state, "{one}");
        assert_eq!(one["every"].as_str(), every, "{one}");
        assert_eq!(
            (&one["is_rotation_due"], &one["is_expired"]),
            (&is_due.into(), &is_expired.into()),
            "{one}"
        );
    }
    let fresh = of(&status, "crm/fresh");
    assert_eq!(fresh["days_until_rotation"], 10, "{fresh}");
    assert_eq!(fresh["last_rotated_at"], format!("{}T00:00:00Z", days_ago(80)));
    assert_eq!((&fresh["owner"], &fresh["risk"]), (&"DevOps".into(), &"low".into()));
    assert_eq!(fresh["places"], serde_json::json!([".env"]));
    assert_eq!(of(&status, "crm/leaked")["owed_reason"], "in a ticket");
    assert_eq!(of(&status, "crm/unknown")["days_until_rotation"], Value::Null);
    assert_eq!(of(&status, "crm/warned")["next_command"], "reseal rotate warned");

    let table = desk.run(&["status"]).expect(0).stdout;
    let at = |word: &str| table.find(word).unwrap_or_else(|| panic!("no {word}: {table}"));
    assert!(at("\nleaked") < at("\nexpired") && at("\nexpired") < at("\nwarned"), "{table}");
    assert!(table.contains("8 secrets: 1 owed, 1 expired, 1 due, 1 warning, 1 no value, 3 ok"), "{table}");
    let markdown = desk.run(&["status", "--markdown"]).expect(0).stdout;
    assert!(markdown.contains("| fresh | ") && markdown.contains(" | DevOps | low | .env |"), "{markdown}");
    desk.run(&["status", "fresh", "--exit-code"]).expect(0);
    desk.run(&["status", "nothing"]).expect(3);
}

#[test]
fn status_due_rotates_what_is_due_within_its_hours() {
    let hour = |offset: i64| format!("{:02}:00", (now() / 3_600 + offset).rem_euclid(24));
    let (open, closed) = (format!("{}-{}", hour(-1), hour(2)), format!("{}-{}", hour(3), hour(5)));
    let mut plan = APP.to_owned();
    plan.push_str(&secret("open", &format!("window = \"{open}\"")));
    plan.push_str(&secret("closed", &format!("window = \"{closed}\"")));
    plan.push_str(&secret("fresh", ""));
    plan.push_str(&secret("pasted", "").replace("in-place", "paste"));
    let desk = Desk::with_vault(&plan);
    let names = ["open", "closed", "fresh", "pasted"];
    let lines: String = names.map(|name| format!("{}=old-{name}\n", name.to_ascii_uppercase())).concat();
    desk.write(".env", &lines);
    for name in names {
        let changed = days_ago(if name == "fresh" { 1 } else { 100 });
        desk.run_with(
            &["put", &format!("crm/{name}"), "-", "--changed-at", &changed],
            &format!("old-{name}"),
        )
        .expect(0);
    }
    let planned = desk.run(&["rotate", "--due", "--dry-run", "--json"]).expect(0).json();
    assert_eq!(planned["secrets"].as_array().map(Vec::len), Some(1), "{planned}");
    assert_eq!(desk.read(".env"), lines, "a dry run changes nothing");

    let rotated = desk.run(&["rotate", "--due", "--exit-code"]).expect(11);
    assert!(rotated.stderr.contains("closed is due and left: its hours are"), "{rotated:?}");
    assert!(rotated.stderr.contains("pasted is due and left: a person brings"), "{rotated:?}");
    let after = desk.read(".env");
    assert!(!after.contains("old-open"), "{after}");
    for name in ["closed", "fresh", "pasted"] {
        assert!(after.contains(&format!("old-{name}")), "{name} stays: {after}");
    }
    assert_eq!(of(&desk.run(&["status", "--json"]).expect(0).json(), "crm/open")["state"], "ok");

    // What is owed is due at once.
    desk.run(&["rotate", "owe", "fresh", "--reason", "in a screenshot"]).expect(0);
    desk.run(&["rotate", "--due"]).expect(0);
    assert!(!desk.read(".env").contains("old-fresh"));
    assert_eq!(
        of(&desk.run(&["status", "--json"]).expect(0).json(), "crm/fresh")["owed_reason"],
        Value::Null
    );
    for name in ["closed", "pasted"] {
        desk.run_with(&["put", &format!("crm/{name}"), "-", "--vault-only"], "changed by hand").expect(0);
    }
    desk.run(&["rotate", "--due", "--exit-code"]).expect(13);
    desk.run(&["rotate", "--due"]).expect(0);
    desk.run(&["status", "--exit-code"]).expect(0);
}

/// One that cannot be rotated does not keep the others from it, and its failure is told.
#[test]
fn status_due_goes_on_where_one_cannot() {
    let mut plan = APP.to_owned();
    plan.push_str(&secret("good", ""));
    plan.push_str(&secret("lost", ""));
    let desk = Desk::with_vault(&plan);
    desk.write(".env", "GOOD=old-good\nLOST=not-what-the-vault-has\n");
    for name in ["good", "lost"] {
        let put = ["put", &format!("crm/{name}"), "-", "--changed-at", &days_ago(100)];
        desk.run_with(&put, &format!("old-{name}")).expect(0);
    }
    let rotated = desk.run(&["rotate", "--due"]);
    assert_ne!(rotated.code, Some(0), "{rotated:?}");
    assert!(rotated.stderr.contains("cannot rotate `lost`"), "{rotated:?}");
    let after = desk.read(".env");
    assert!(!after.contains("old-good") && after.contains("not-what-the-vault-has"), "{after}");
}

#[test]
fn status_says_how_old_what_was_kept_is() {
    let mut plan = APP.to_owned();
    plan.push_str(&secret(
        "db",
        "every = \"1mo\"\nbefore = [{ save = \"dumps/crm\", command = [\"echo\", \"a dump\"] }]",
    ));
    let desk = Desk::with_vault(&plan);
    desk.write(".env", "DB=old-db\n");
    desk.run_with(&["put", "crm/db", "-"], "old-db").expect(0);
    assert!(desk.run(&["status"]).expect(0).stdout.contains("dumps/crm: never saved yet"));
    assert!(desk.run(&["rotate", "plan"]).expect(0).stdout.contains("dumps/crm: never saved yet"));
    desk.run(&["rotate", "db"]).expect(0);
    let status = desk.run(&["status", "--json"]).expect(0).json();
    let kept = &status["snapshots"][0];
    assert_eq!(
        (&kept["name"], &kept["bytes"], &kept["age_days"]),
        (&"dumps/crm".into(), &7.into(), &0.into())
    );
    let planned = desk.run(&["rotate", "plan", "--json"]).expect(0).json();
    assert_eq!(planned["secrets"][0]["snapshots"][0]["age_days"], 0, "{planned}");
    assert!(desk.run(&["status"]).expect(0).stdout.contains("dumps/crm: saved just now, 7 B"));
}
