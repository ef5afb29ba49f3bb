//! The complete plan files of the five runbooks parse, and what is wrong in one is said with line and remedy.

#![allow(clippy::unwrap_used, reason = "a test says by panicking what failed")]

use std::path::{Path, PathBuf};

use reseal_rotate::plan::{Interval, Kind, Login, Plan, PlanError, Strategy};

fn plans() -> Vec<PathBuf> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/plans");
    let mut plans: Vec<_> =
        std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path()).collect();
    plans.sort();
    plans
}

fn runbook(name: &str) -> Plan {
    let path = plans().into_iter().find(|path| path.ends_with(name)).unwrap();
    Plan::load(&path).unwrap_or_else(|error| panic!("{error}"))
}

#[test]
fn every_runbook_parses() {
    let plans = plans();
    assert_eq!(plans.len(), 5);
    for path in plans {
        let plan = Plan::load(&path).unwrap_or_else(|error| panic!("{error}: {:?}", error.remedy()));
        assert!(!plan.file.secrets.is_empty());
    }
}

#[test]
fn the_reference_shows_a_plan_that_parses() {
    let reference = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/plan.md");
    let text = std::fs::read_to_string(reference).unwrap();
    let example = text.split("```toml\n").nth(1).and_then(|rest| rest.split("```").next()).unwrap();
    let plan = Plan::parse(Path::new("reseal.toml"), example).unwrap_or_else(|error| panic!("{error}"));
    assert_eq!((plan.file.servers.len(), plan.file.apps.len(), plan.file.columns.len()), (2, 2, 1));
}

#[test]
fn r2_says_what_is_re_encrypted() {
    let plan = runbook("R2.toml");
    let columns = plan.columns("client-preferences").unwrap();
    assert_eq!(columns.columns.len(), 3);
    assert!(!columns.online && columns.to.is_none());
    let server = plan.server(&columns.server).unwrap();
    assert_eq!(server.kind, Kind::Postgres);
    assert_eq!(server.login, Some(Login::Secret("postgres/eventuser".into())));
    assert_eq!(plan.secret_name(&columns.key), "crm/db-encryption-key");
    assert_eq!(plan.file.secrets[&columns.key].get_ref().strategy, Some(Strategy::Columns));
    assert_eq!(plan.file.defaults.as_ref().unwrap().every, Some(Interval::Days(90)));
}

fn r2() -> String {
    std::fs::read_to_string(plans().into_iter().find(|path| path.ends_with("R2.toml")).unwrap()).unwrap()
}

/// Replaces one line of R2 and returns what is said about it; the line in the error must be the changed one.
#[track_caller]
fn refused(line: &str, instead: &str) -> PlanError {
    let (error, number) = refused_at(line, instead);
    assert_eq!(error.line(), Some(number), "{error}");
    assert!(!error.to_string().contains("canary"), "{error}");
    error
}

/// The same for what only the section as a whole can say: the line in the error must be that of its heading.
#[track_caller]
fn refused_section(line: &str, instead: &str) -> PlanError {
    let (error, number) = refused_at(line, instead);
    let text = r2();
    let heading = text.lines().take(number).enumerate().filter(|(_, line)| line.starts_with('[')).last();
    assert_eq!(error.line(), heading.map(|(index, _)| index + 1), "{error}");
    error
}

#[track_caller]
fn refused_at(line: &str, instead: &str) -> (PlanError, usize) {
    let text = r2();
    let start = text.find(line).unwrap_or_else(|| panic!("R2 has no `{line}`"));
    let number = text[..start].matches('\n').count() + 1;
    (Plan::parse(Path::new("reseal.toml"), &text.replacen(line, instead, 1)).unwrap_err(), number)
}

#[test]
fn unknown_fields_get_line_and_nearest_name() {
    let error = refused("window = \"02:00-04:00\"", "windows = \"02:00-04:00\"");
    assert!(error.to_string().contains("unknown field `windows`"), "{error}");
    assert_eq!(error.remedy(), Some("did you mean `window`?"));
    assert_eq!(refused("prefix      =", "perfix =").remedy(), Some("did you mean `prefix`?"));
    assert_eq!(
        refused("gitignored = true", "git_ignored = true").remedy(),
        Some("did you mean `gitignored`?")
    );
    assert_eq!(
        refused("strategy  = \"columns\"", "strategy = \"column\"").remedy(),
        Some("did you mean `columns`?")
    );
}

#[test]
fn names_that_lead_nowhere_are_refused() {
    let error = refused_section("server  = \"eventdb\"", "server = \"evendb\"");
    assert_eq!(error.remedy(), Some("did you mean `eventdb`?"));
    let error = refused_section("key     = \"db-encryption-key\"", "key = \"db-encription-key\"");
    assert_eq!(error.remedy(), Some("did you mean `db-encryption-key`?"));
}

#[test]
fn passwords_have_no_place_in_a_plan() {
    refused("postgresql://eventuser@", "postgresql://eventuser:canary@");
    let url = "postgresql://eventuser@localhost:5432/eventdb";
    assert!(r2().contains(url));
    refused(url, "host=localhost user=eventuser password=canary");
    let error = refused("\"secret:postgres/eventuser\"", "\"canary\"");
    assert!(!error.to_string().contains("canary"), "{error}");
}

#[test]
fn values_are_checked_where_they_stand() {
    for (line, instead) in [
        ("every  = \"90d\"", "every = \"90 days\""),
        ("warn   = \"7d\"", "warn = \"7\""),
        ("schema      = 1", "schema = 2"),
        ("environment = \"production\"", "environment = \"prod\""),
        ("kind = \"smtp\"", "kind = \"smpt\""),
        ("window = \"02:00-04:00\"", "window = \"2-4\""),
        ("timezone    = \"Europe/London\"", "timezone = \"Europe/Londn\""),
        ("\"secret:slack/security-ops\"", "\"https://hooks.example.com/canary\""),
        ("url = \"smtp://localhost:25\"", "url = \"smtp://u:canary@localhost:25\""),
        ("url = \"smtp://localhost:25\"", "url = \"localhost:25\""),
        ("url = \"smtp://localhost:25\"", "url = \"smtp://localhost:25\", user = \"half\""),
        ("on = [\"due\", \"expired\", \"failed\"]", "on = []"),
        (
            "{ webhook = \"secret:slack/security-ops\",  ",
            "{ email = \"a@b.c\", webhook = \"secret:slack/security-ops\", ",
        ),
    ] {
        refused(line, instead);
    }
    for (line, instead) in [
        ("systemd = \"event-planning-api\" ", "# no way to restart"),
        ("columns = [\"email_encrypted\",", "columns = [\"full_name_encrypted\","),
    ] {
        refused_section(line, instead);
    }
}
