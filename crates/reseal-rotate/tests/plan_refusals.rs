//! What the parts of a plan allow and the whole does not is refused with the section and a remedy.

#![allow(clippy::unwrap_used, reason = "a test says by panicking what failed")]

use std::path::Path;

use reseal_rotate::plan::Plan;

const PLAN: &str = r#"schema = 1
[servers.redis]
kind = "redis"
url = "redis://localhost:6379/0"
[servers.db]
kind = "postgres"
url = "postgresql://crm@localhost/crm"
[apps.web]
systemd = "web"
[apps.worker]
systemd = "worker"
[files.".env"]
readers = ["shell"]
used_by = ["web", "worker"]
[files."nobody.env"]
readers = ["shell"]
[secrets.one]
strategy = "overlap"
server = "redis"
write = [{ file = ".env", var = "ONE" }, { file = ".env", var = "URL", part = "url.password" }]
[secrets.two]
strategy = "in-place"
server = "db"
order = ["web", "worker"]
generate = { format = "alnum", require = ["digit"] }
write = [{ file = ".env", var = "TWO" }]
"#;

/// Changes the plan and returns line, words and remedy of its refusal.
#[track_caller]
fn refused(text: &str, instead: &str) -> (String, String) {
    assert!(PLAN.contains(text), "the plan has no `{text}`");
    let error = Plan::parse(Path::new("reseal.toml"), &PLAN.replacen(text, instead, 1)).unwrap_err();
    assert!(error.line().is_some(), "{error}");
    (error.to_string(), error.remedy().unwrap_or_else(|| panic!("no remedy: {error}")).to_owned())
}

#[test]
fn the_plan_is_sound_as_it_is() {
    Plan::parse(Path::new("reseal.toml"), PLAN).unwrap();
}

#[test]
fn two_secrets_for_one_role_are_refused() {
    let (error, remedy) = refused("server = \"db\"", "server = \"redis\"");
    assert!(error.contains("`one` and `two` both set role `default` of server `redis`"), "{error}");
    assert!(error.contains("line 21"), "{error}");
    assert!(remedy.contains("keep one"), "{remedy}");
    let both = "server = \"redis\"\nuser = \"other\"";
    Plan::parse(Path::new("reseal.toml"), &PLAN.replacen("server = \"db\"", both, 1)).unwrap();
}

#[test]
fn two_secrets_for_one_place_are_refused() {
    let (error, _) = refused("var = \"TWO\"", "var = \"ONE\"");
    assert!(error.contains("`one` and `two` both write ONE of .env"), "{error}");
    let (error, _) = refused("var = \"TWO\"", "var = \"URL\"");
    assert!(error.contains("both write URL"), "{error}");
    let part = "var = \"URL\", part = \"url.user\"";
    Plan::parse(Path::new("reseal.toml"), &PLAN.replacen("var = \"TWO\"", part, 1)).unwrap();
}

#[test]
fn a_file_that_no_application_reads_is_refused() {
    let (error, remedy) =
        refused("{ file = \".env\", var = \"TWO\" }", "{ file = \"nobody.env\", var = \"TWO\" }");
    assert!(error.contains("nobody.env, which no application reads"), "{error}");
    assert!(remedy.contains("used_by"), "{remedy}");
    refused("{ file = \".env\", var = \"TWO\" }", "{ file = \"undeclared\", var = \"TWO\" }");
    let (_, remedy) = refused("used_by = [\"web\", \"worker\"]", "used_by = [\"web\", \"workr\"]");
    assert_eq!(remedy, "did you mean `worker`?");
    let (_, remedy) = refused("readers = [\"shell\"]", "readers = [\"shel\"]");
    assert_eq!(remedy, "did you mean `shell`?");
    let (error, _) = refused("readers = [\"shell\"]", "readers = []");
    assert!(error.contains("whose readers are not named"), "{error}");
}

#[test]
fn a_reload_needs_a_check_that_sees_the_value() {
    let reload = "systemd = \"web\"\nbring_over = \"reload\"";
    let (error, _) = refused("systemd = \"web\"", reload);
    assert!(error.contains("`web`, which reloads without a check"), "{error}");
    refused("systemd = \"web\"", &format!("{reload}\ncheck = [{{ tcp = \"localhost:80\" }}]"));
    let seen = format!("{reload}\ncheck = [{{ http = \"http://localhost/health\" }}]");
    Plan::parse(Path::new("reseal.toml"), &PLAN.replacen("systemd = \"web\"", &seen, 1)).unwrap();
}

const COLUMNS: &str = r#"schema = 1
[servers.db]
kind = "postgres"
url = "postgresql://crm@localhost/crm"
[apps.web]
systemd = "web"
[apps.worker]
systemd = "worker"
[files.".env"]
readers = ["shell"]
used_by = ["web", "worker"]
[columns.a]
server = "db"
table = "a"
columns = ["value"]
key = "key"
from = { format = "pgcrypto" }
online = true
[columns.b]
server = "db"
table = "b"
columns = ["value"]
key = "key"
from = { format = "pgcrypto" }
online = true
[secrets.key]
strategy = "columns"
write = [{ file = ".env", var = "KEY" }, { file = ".env", var = "NEXT", holds = "pending" }, { file = ".env", var = "OLD", holds = "previous" }]
"#;

#[test]
fn applications_that_could_not_read_everything_are_refused() {
    let parse = |text: &str| Plan::parse(Path::new("reseal.toml"), text);
    parse(COLUMNS).unwrap();
    let refused = |text: &str, instead: &str| {
        assert!(COLUMNS.contains(text), "the plan has no `{text}`");
        parse(&COLUMNS.replacen(text, instead, 1)).unwrap_err().to_string()
    };
    let error = refused("online = true", "online = false");
    assert!(error.contains("`b`, which is online, and of `a`, which is not"), "{error}");
    let error = refused(", { file = \".env\", var = \"OLD\", holds = \"previous\" }", "");
    assert!(error.contains("no place for the key that `a` is under"), "{error}");
    let next = ", { file = \".env\", var = \"NEXT\", holds = \"pending\" }";
    let error = refused(next, "");
    assert!(error.contains("read by several applications"), "{error}");
    parse(&COLUMNS.replacen(next, "", 1).replace("[\"web\", \"worker\"]", "[\"web\"]")).unwrap();
    let offline = COLUMNS.replace("online = true", "online = false");
    assert!(parse(&offline).unwrap_err().to_string().contains("which only an overlap ends"));
}

#[test]
fn what_a_rotation_could_not_do_is_refused_early() {
    let (error, remedy) = refused("strategy = \"in-place\"", "strategy = \"overlap\"");
    assert!(error.contains("a role of Postgres holds one password"), "{error}");
    assert!(remedy.contains("alternate"), "{remedy}");
    let (error, _) = refused("var = \"TWO\" }", "var = \"TWO\", holds = \"previous\" }");
    assert!(error.contains("which only an overlap ends"), "{error}");
    let (error, _) = refused("part = \"url.password\"", "part = \"url.pasword\"");
    assert!(error.contains("unknown `part`"), "{error}");
    let (_, remedy) = refused("order = [\"web\", \"worker\"]", "order = [\"web\"]");
    assert!(remedy.contains("every application"), "{remedy}");
    let (_, remedy) = refused("order = [\"web\", \"worker\"]", "order = [\"web\", \"wrker\"]");
    assert_eq!(remedy, "did you mean `worker`?");
    let (_, remedy) = refused("format = \"alnum\"", "format = \"alphanum\"");
    assert!(remedy.contains("alnum"), "{remedy}");
    let (_, remedy) = refused("\"digit\"", "\"digits\"");
    assert_eq!(remedy, "did you mean `digit`?");
}

#[test]
fn two_roles_that_take_turns_need_an_owner_and_someone_who_prepares_them() {
    let alternate = |more: &str| format!("strategy = \"alternate\"\n{more}");
    let (error, remedy) = refused("strategy = \"in-place\"", &alternate(""));
    assert!(error.contains("an administrator of a Postgres server"), "{error}");
    assert!(remedy.contains("admin = "), "{remedy}");

    let url = "url = \"postgresql://crm@localhost/crm\"";
    let admin = format!("{url}\nadmin = {{ user = \"postgres\", login = \"peer\" }}");
    let whole = |secret: &str, place: &str| {
        let plan = PLAN.replacen(url, &admin, 1).replacen("strategy = \"in-place\"", &alternate(secret), 1);
        Plan::parse(Path::new("reseal.toml"), &plan.replacen("var = \"TWO\"", place, 1))
    };
    let users = "users = [\"crm\", \"crm_b\"]\nowner_role = \"crm_owner\"";
    for wrong in ["", "users = [\"crm\", \"crm\"]\nowner_role = \"o\"", "users = [\"crm\", \"crm_b\"]"] {
        let error = whole(wrong, "var = \"TWO\"").unwrap_err();
        assert!(error.to_string().contains("two roles and their owner"), "{error}");
    }
    let error = whole(users, "var = \"TWO\", part = \"url.password\"").unwrap_err();
    assert!(error.to_string().contains(".env would not learn which role is in use"), "{error}");
    whole(users, "var = \"TWO\", part = \"url.userinfo\"").unwrap();
    whole(users, "var = \"TWO\" }, { file = \".env\", var = \"USER\", field = \"user\"").unwrap();
}
