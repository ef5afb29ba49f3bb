//! Notices by the real command: a mail server, web hooks and a program are told, nothing secret is, and nobody waits for
//! them.

use std::time::{Duration, Instant};

use reseal_tests::command::{Desk, Ended};
use reseal_tests::listeners::{Listener, Told};
use serde_json::Value;

const MAIL_PASSWORD: &str = "canary-mail-password-31415";
const HOOK: &str = "/services/canary-hook-path-27182";
const ROUTING_KEY: &str = "canary-routing-key-16180";
const OLD: &str = "canary-old-value-14142";
/// Another secret of the same file, which reseal does not know.
const OTHER: &str = "canary-other-value-57721";
/// A word that everybody is told: what is looked for can be found.
const PLANTED: &str = "planted-word-17320";

/// A project whose application shows all it reads when it breaks, and everybody who is told.
struct World {
    desk: Desk,
    mail: Listener,
    slack: Listener,
    pagerduty: Listener,
}

fn plan(mail: &Listener, more: &str) -> String {
    format!(
        r#"schema = 1
vault = "v.vault"
environment = "production"

[apps.web]
restart = ["./restart"]

[files.".env"]
readers = ["shell"]
used_by = ["web"]

[secrets.key]
strategy = "in-place"
impact = "all sessions end"
owner = "DevOps"
write = [{{ file = ".env", var = "KEY" }}]

[notify]
from    = "reseal@example.com"
smtp    = {{ url = "smtp://{}", user = "reseal", password = "secret:smtp/reseal" }}
contact = "ops@example.com"
to = [
  {{ email = "ops@example.com", on = ["before", "after", "failed", "due", "expired"] }},
  {{ webhook = "secret:slack/ops", on = ["before", "after", "failed"] }},
  {{ webhook = "secret:pagerduty/events", on = ["after", "failed"], format = "pagerduty" }},
  {{ command = ["./told"], on = ["before", "after", "failed", "owed"], format = "json" }},
{more}]
"#,
        mail.address()
    )
}

impl World {
    fn new(mail: Listener, slack: Listener, more: &str) -> Self {
        let pagerduty = Listener::hook();
        let desk = Desk::with_vault(&plan(&mail, more));
        desk.write(".env", &format!("KEY={OLD}\nOTHER={OTHER}\n"));
        desk.program(
            "restart",
            "#!/bin/sh\n[ ! -e broken ] || { rm broken; echo $(cat .env) >&2; exit 1; }\n",
        );
        desk.program("told", "#!/bin/sh\n{ cat; echo; } >> heard\n");
        let put = |name: &str, value: &str| drop(desk.run_with(&["put", name, "-"], value).expect(0));
        put("key", OLD);
        put("smtp/reseal", MAIL_PASSWORD);
        put("slack/ops", &format!("http://{}{HOOK}", slack.address()));
        put("pagerduty/events", &format!("http://{}/v2/enqueue#{ROUTING_KEY}", pagerduty.address()));
        Self { desk, mail, slack, pagerduty }
    }

    fn rotate(&self) -> Ended {
        self.desk.run(&["rotate", "key", "--reason", PLANTED])
    }

    fn audit_log(&self) -> String {
        self.desk.run(&["audit", "log", "--json"]).expect(0).stdout
    }

    fn heard(&self) -> Vec<Value> {
        let heard = self.desk.read("heard");
        heard.lines().map(|line| serde_json::from_str(line).expect("an object a line")).collect()
    }
}

fn has(told: &[Told], words: &[&str]) -> bool {
    told.iter().any(|told| words.iter().all(|word| told.text.contains(word)))
}

#[test]
fn notices_tell_before_after_and_failed_and_no_value() {
    let world = World::new(Listener::mail(), Listener::hook(), "");
    let mut ended = vec![world.rotate().expect(0)];
    let new = world.desk.run(&["get", "key"]).expect(0).stdout.trim_end().to_owned();
    world.desk.write("broken", "");
    ended.push(world.rotate().expect(9));
    ended.push(world.desk.run(&["rotate", "owe", "key", "--reason", PLANTED]).expect(0));

    let (mail, slack, pagerduty) = (world.mail.told(), world.slack.told(), world.pagerduty.told());
    for heading in ["key: a rotation begins", "key: rotated", "key: the rotation failed and was taken back"] {
        assert!(
            has(&mail, &[&format!("Subject: {heading}"), PLANTED, "Contact: ops@example.com"]),
            "{mail:#?}"
        );
        assert!(has(&slack, &["\"text\":", heading, PLANTED]), "{slack:#?}");
    }
    // Whoever is told of due secrets is told of those that are owed.
    assert!(has(&mail, &["Subject: key: has to change at once"]) && !has(&slack, &["at once"]));
    assert!(has(&mail, &["the rotation failed", "Failed at: ", "Everything is as it was."]), "{mail:#?}");
    assert!(has(&mail, &["Impact: all sessions end", "Owner: DevOps"]), "{mail:#?}");
    assert!(mail.iter().all(|mail| mail.login == Some(("reseal".into(), MAIL_PASSWORD.into()))));
    assert!(mail.iter().all(|mail| mail.to == "ops@example.com"));
    assert!(slack.iter().all(|told| told.to == HOOK), "{slack:#?}");
    let events: Vec<Value> =
        pagerduty.iter().map(|told| serde_json::from_str(&told.text).expect("JSON")).collect();
    let actions: Vec<_> = events.iter().map(|event| event["event_action"].as_str().expect("text")).collect();
    assert_eq!(actions, ["resolve", "trigger"], "{events:#?}");
    assert!(events.iter().all(|event| event["routing_key"] == ROUTING_KEY));
    assert!(pagerduty.iter().all(|told| told.to == "/v2/enqueue"), "the key is no part of the address");
    let heard = world.heard();
    let occasions: Vec<_> = heard.iter().map(|told| told["occasion"].as_str().expect("text")).collect();
    assert_eq!(occasions, ["before", "after", "before", "failed", "owed"]);

    // What each place holds is searched once for what must be there, and then for what must not.
    let texts = |told: &[Told]| told.iter().map(|told| told.text.clone()).collect::<String>();
    let events = texts(&pagerduty).replace(ROUTING_KEY, "");
    let places = [("mail", texts(&mail)), ("slack", texts(&slack)), ("pagerduty", events)];
    let own = [("command", world.desk.read("heard")), ("audit log", world.audit_log())];
    for (place, text) in places.into_iter().chain(own) {
        assert!(text.contains(PLANTED), "{place} has what was planted: {text}");
        // What the application said is told to the operator and to the log of the vault, to nobody else.
        let others = if place == "audit log" { [OLD; 1] } else { [OTHER; 1] };
        for canary in [OLD, &new, MAIL_PASSWORD, HOOK, ROUTING_KEY].into_iter().chain(others) {
            assert!(!text.contains(canary), "{place} tells {canary}: {text}");
        }
    }
    let said: String = ended.iter().map(|ended| ended.stderr.clone() + &ended.stdout).collect();
    assert!(
        said.contains("[secret]") && said.contains(OTHER),
        "the application showed its file, and the value is masked: {said}"
    );
    for canary in [OLD, &new, MAIL_PASSWORD, HOOK, ROUTING_KEY] {
        assert!(!said.contains(canary), "the command tells {canary}: {said}");
    }
    assert!(world.audit_log().contains("\"notify\""), "the audit log says who was told");
}

#[test]
fn notices_of_an_emergency_are_an_incident() {
    let more = "  { email = \"security@example.com\", on = [\"incident\"] },\n  \
                { webhook = \"secret:pagerduty/events\", on = [\"incident\"], format = \"pagerduty\" },\n";
    let world = World::new(Listener::mail(), Listener::hook(), more);
    world.rotate().expect(0);
    let to_security = || -> Vec<Told> {
        world.mail.told().into_iter().filter(|mail| mail.to == "security@example.com").collect()
    };
    assert!(to_security().is_empty(), "an ordinary rotation is none");
    // Told also where the rotation does not succeed.
    world.desk.write("broken", "");
    world.desk.run(&["rotate", "key", "--emergency", "--reason", PLANTED]).expect(9);
    let told = to_security();
    assert_eq!(told.len(), 1, "{told:#?}");
    let words = ["Subject: EMERGENCY: key has to change now", PLANTED, "Impact: all sessions end"];
    assert!(has(&told, &words), "{told:#?}");
    let pages = world.pagerduty.told();
    assert!(has(&pages, &["EMERGENCY: key", "\"trigger\"", "\"critical\""]), "{pages:#?}");
    let new = world.desk.run(&["get", "key"]).expect(0).stdout;
    for text in told.iter().chain(&pages).map(|told| &told.text) {
        assert!(!text.contains(OLD) && !text.contains(new.trim_end()), "{text}");
    }
}

#[test]
fn notices_that_fail_or_hang_hold_no_rotation_up() {
    let more = "  { webhook = \"secret:not/there\", on = [\"after\"] },\n  { command = [\"false\"], on = [\"after\"] },\n";
    let world = World::new(Listener::silent(), Listener::refusing_hook(), more);
    let begun = Instant::now();
    let mut child = world.desk.command(&["rotate", "key", "--reason", PLANTED]).spawn().expect("it starts");
    while world.desk.read(".env").contains(OLD) {
        assert!(begun.elapsed() < Duration::from_secs(8), "the rotation waits for its notices");
        std::thread::sleep(Duration::from_millis(20));
    }
    drop(child.stdin.take());
    let ended = reseal_tests::command::finish(child).expect(0);
    assert!(begun.elapsed() < Duration::from_secs(20), "and its end waits no longer than they may take");
    for words in [
        "ops@example.com was not told (before key): not told within 10 s",
        "ops@example.com was not told (after key): not told within 10 s",
        "web hook slack/ops was not told (before key): 127.0.0.1:",
        " answered 500",
        "web hook not/there was not told (after key): the vault has no value of `not/there`",
        "command false was not told (after key): `false` ended with exit status: 1",
    ] {
        assert!(ended.stderr.contains(words), "{words}: {}", ended.stderr);
    }
    let log = world.audit_log();
    assert!(log.contains("not told within 10 s") && log.contains("answered 500"), "{log}");
    for canary in [HOOK, MAIL_PASSWORD, ROUTING_KEY] {
        assert!(!log.contains(canary) && !ended.stderr.contains(canary), "{canary}");
    }
    assert_eq!(world.heard().len(), 2, "the others are told all the same");
    let current = world.desk.run(&["get", "key"]).expect(0).stdout;
    assert!(world.desk.read(".env").contains(current.trim_end()));
}

#[test]
fn notices_of_the_status_say_what_is_due_and_expired() {
    let world = World::new(Listener::mail(), Listener::hook(), "");
    world.desk.run(&["status", "--notify"]).expect(0);
    assert!(world.mail.told().is_empty(), "nothing is due");
    let put = ["put", "key", "-", "--vault-only", "--changed-at", "2020-01-01"];
    world.desk.run_with(&put, OLD).expect(0);
    world.desk.run(&["status", "--notify", "--exit-code"]).expect(11);
    let mail = world.mail.told();
    assert_eq!(mail.len(), 1, "{mail:#?}");
    let words = ["Subject: CRITICAL: a secret has EXPIRED: key", "key: expired ", "next: reseal rotate key"];
    assert!(has(&mail, &words), "{mail:#?}");
    world.desk.run(&["rotate", "owe", "key", "--reason", PLANTED]).expect(0);
    world.desk.run(&["status", "--notify"]).expect(0);
    assert!(has(&world.mail.told(), &["a secret has to change at once: key", PLANTED]));
}
