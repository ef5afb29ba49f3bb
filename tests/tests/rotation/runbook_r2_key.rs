//! Runbook R2's database key by the real command: 50,000 rows come under a new key, with an application that knows one
//! key and stands still meanwhile, and with one that knows two and goes on.

use std::os::unix::process::ExitStatusExt;
use std::time::{Duration, Instant};

use reseal_tests::command::{Ended, finish};
use reseal_tests::crm::{Crm, Found, Keys, OLD, Stats};
use reseal_tests::random::seed;
use rustix::process::{Pid, Signal, kill_process};
use toml::{Table, Value};

const ROWS: i64 = 50_000;
/// Where it is the way back that counts.
const FEW: i64 = 5_000;
const KEY: &str = "db-encryption-key";

/// What the application does per second.
const READS: f64 = 200.0;
const WRITES: f64 = 50.0;

/// Every value of the table.
const VALUES: u64 = 3 * ROWS as u64;

/// The runbook's plan without what this does not concern, at the addresses of this test.
fn plan(crm: &Crm, keys: Keys) -> String {
    let mut plan: Table = toml::from_str(include_str!("../../../crates/reseal-rotate/tests/plans/R2.toml"))
        .expect("the plan is TOML");
    for absent in ["notify", "incident", "evidence"] {
        plan.remove(absent).expect("the runbook's plan has it");
    }
    table(&mut plan, &["servers"]).retain(|name, _| name == "eventdb");
    table(&mut plan, &["secrets"]).retain(|name, _| name == KEY);
    table(&mut plan, &["defaults"]).remove("window").expect("the runbook's plan has one");
    let port = crm.server.tcp_port().expect("it listens");
    set(
        &mut plan,
        &["servers", "eventdb", "url"],
        format!("postgresql://eventuser@127.0.0.1:{port}/eventdb"),
    );
    let check = format!("[{{ http = \"{}\", expect = 200 }}]", crm.health_url());
    for (field, value) in
        [("baseline", check.as_str()), ("check", &check), ("wait", "'5s'"), ("hold", "'1s'")]
    {
        set(&mut plan, &["apps", "api", field], parsed(value));
    }
    let python = crm.stand_in.python().display();
    let check = format!(
        "[{{ command = ['{python}', '-c', 'import dotenv; assert len(dotenv.dotenv_values(\".env\")[\"DB_ENCRYPTION_KEY\"]) >= 32'] }}]"
    );
    set(&mut plan, &["secrets", KEY, "check"], parsed(&check));
    if keys == Keys::Two {
        set(&mut plan, &["columns", "client-preferences", "online"], true);
        set(&mut plan, &["apps", "api", "bring_over"], "reload");
        let place = |var: &str, holds: &str| {
            parsed(&format!("{{ file = '.env', var = '{var}', holds = '{holds}' }}"))
        };
        let write = table(&mut plan, &["secrets", KEY])["write"].as_array_mut().expect("places");
        write.push(place("DB_ENCRYPTION_KEY_NEXT", "pending"));
        write.push(place("DB_ENCRYPTION_KEY_PREVIOUS", "previous"));
    }
    toml::to_string(&plan).expect("it is TOML")
}

fn parsed(value: &str) -> Value {
    let table: Table = toml::from_str(&format!("value = {value}")).expect("a value");
    table["value"].clone()
}

fn table<'t>(plan: &'t mut Table, path: &[&str]) -> &'t mut Table {
    path.iter().fold(plan, |at, name| at[*name].as_table_mut().expect("a table of the runbook's plan"))
}

fn set(plan: &mut Table, path: &[&str], value: impl Into<Value>) {
    let (last, above) = path.split_last().expect("a path");
    table(plan, above).insert((*last).to_owned(), value.into());
}

async fn start(keys: Keys, rows: i64) -> Crm {
    let seed = seed();
    println!("seed {seed}");
    let begin = Instant::now();
    let crm = Crm::start(keys, rows, seed).await;
    crm.make_vault(&plan(&crm, keys));
    println!("ready after {:?}", begin.elapsed());
    crm
}

/// Runs the command and says how long the application was not there for, at most.
async fn watched(crm: &Crm, arguments: &[&str]) -> (Ended, Duration) {
    let mut command = crm.begin(arguments);
    let (mut healthy, mut longest) = (Instant::now(), Duration::ZERO);
    while command.try_wait().expect("it is a child").is_none() {
        if crm.stats().await.is_some() {
            longest = longest.max(healthy.elapsed());
            healthy = Instant::now();
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    (finish(command), longest)
}

#[tokio::test(flavor = "multi_thread")]
async fn runbook_r2_key_with_an_application_that_knows_one_key() {
    let crm = start(Keys::One, ROWS).await;
    let env = || std::fs::read_to_string(crm.stand_in.project().join(".env")).expect("it is there");
    let before = env();

    let (ended, downtime) =
        watched(&crm, &["rotate", KEY, "--backup", "copy.vault", "--reason", "quarterly"]).await;
    let ended = ended.expect(0);
    println!("rotated, not there for {downtime:?}\n{}", ended.stderr);
    crm.until_healthy().await;
    assert_eq!(rows_written(&crm).await, [["db_encryption_key", "quarterly", "90"]]);
    let new = crm.current_key();
    assert_eq!(env(), before.replace(OLD, &new));
    assert_eq!(crm.stats().await.expect("it runs").failures, [""; 0]);
    let refused = crm.run(&["reencrypt", "rollback", "client-preferences", "-y"]).expect(8);
    assert!(refused.stderr.contains("rotate rollback"), "the file would stay: {refused:?}");
    assert_eq!(crm.look(&new).await, Found { new: VALUES, ..Found::default() });
}

/// Health fails with any other key: data, file and label come back, and the application runs with the old one.
#[tokio::test(flavor = "multi_thread")]
async fn runbook_r2_key_comes_back_with_its_data_where_health_fails() {
    let crm = start(Keys::One, FEW).await;
    let env = || std::fs::read_to_string(crm.stand_in.project().join(".env")).expect("it is there");
    let before = env();
    let told = crm.run(&["rotate", "plan", KEY]).expect(0).stdout;
    assert!(told.contains("re-encrypt client-preferences") && told.contains("--backup"), "{told}");
    // Without a second copy of the new key, nothing begins.
    let refused = crm.run(&["rotate", KEY]).expect(8);
    assert!(refused.stderr.contains("--backup"), "{refused:?}");

    crm.plant_fault(OLD);
    let (ended, downtime) = watched(&crm, &["rotate", KEY, "--backup", "first.vault"]).await;
    let ended = ended.expect(9);
    println!("taken back, not there for {downtime:?}\n{}", ended.stderr);
    let calls = crm.stand_in.calls();
    let of_systemd = calls.iter().filter(|call| call.program == "systemctl");
    let changes = of_systemd.filter_map(|call| call.argv.first()).filter(|verb| *verb != "show");
    assert_eq!(changes.collect::<Vec<_>>(), ["stop", "start", "stop", "start"]);
    assert_eq!(crm.stats().await.expect("it runs").failures, [""; 0]);
    assert_eq!((env(), crm.current_key().as_str()), (before.clone(), OLD));
    assert_eq!(crm.look("any").await, Found { old: 3 * FEW as u64, ..Found::default() });
}

/// Killed while the engine works; then the machine starts the application again, which goes on writing under the old key.
#[tokio::test(flavor = "multi_thread")]
async fn runbook_r2_key_stops_again_what_came_up_with_the_machine() {
    let crm = start(Keys::One, FEW).await;
    let client = crm.client().await;
    let mut command = crm.begin(&["rotate", KEY, "--backup", "copy.vault"]);
    let begun = "SELECT to_regclass('reseal.run') IS NOT NULL";
    while !client.query_one(begun, &[]).await.expect("a superuser may").get::<_, bool>(0) {
        assert_eq!(command.try_wait().expect("it is a child"), None);
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    command.kill().expect("it is a child");
    assert_eq!(command.wait().expect("it ends").signal(), Some(9));
    crm.stand_in.must(&["systemctl", "start", "event-planning-api"]);
    crm.stand_in.forget_calls();

    crm.run(&["rotate", "resume", KEY]).expect(0);
    let calls = crm.stand_in.calls();
    let changes = |verb: &str| calls.iter().filter(|call| call.names(&[verb])).count();
    assert_eq!((changes("stop"), changes("start")), (1, 1));
    crm.until_healthy().await;
    let found = crm.look(&crm.current_key()).await;
    assert_eq!(found, Found { new: 3 * FEW as u64, ..Found::default() });
}

/// The rows of the runbook's table: what, why, and how many days until the next.
async fn rows_written(crm: &Crm) -> Vec<[String; 3]> {
    let query = "SELECT credential_type, rotation_reason, round(extract(epoch FROM next_rotation_due - rotated_at) / 86400)::text
        FROM security_credential_rotations WHERE rotated_by <> '' AND rotated_at > now() - interval '1 hour'";
    let rows = crm.client().await.query(query, &[]).await.expect("a superuser may");
    rows.iter().map(|row| [0, 1, 2].map(|column| row.get(column))).collect()
}

/// Runs the command while the application reads and writes as often as it should; the command is held for a moment
/// whenever the application is behind.
async fn beside_traffic(crm: &Crm, arguments: &[&str]) -> Ended {
    let before = crm.stats().await.expect("it runs");
    let (mut command, begin) = (crm.begin(arguments), Instant::now());
    let traffic = |now: &Stats| (now.reads - before.reads, now.writes - before.writes);
    let (mut last, mut seconds) = (before.clone(), 0.0);
    while command.try_wait().expect("it is a child").is_none() {
        (last, seconds) = (crm.stats().await.expect("it never stops"), begin.elapsed().as_secs_f64());
        let (reads, writes) = traffic(&last);
        if (reads as f64) < seconds * READS || (writes as f64) < seconds * WRITES {
            let _ = kill_process(Pid::from_child(&command), Signal::STOP);
            tokio::time::sleep(Duration::from_millis(30)).await;
            let _ = kill_process(Pid::from_child(&command), Signal::CONT);
        } else {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
    let (reads, writes) = traffic(&last);
    println!("{arguments:?}: {reads} reads and {writes} writes in {seconds:.1} s");
    assert!(reads as f64 > 0.9 * READS * seconds && writes as f64 > 0.9 * WRITES * seconds);
    assert_eq!(last.failures, [""; 0]);
    finish(command)
}

#[tokio::test(flavor = "multi_thread")]
async fn runbook_r2_key_with_an_application_that_knows_two_keys() {
    let crm = start(Keys::Two, ROWS).await;
    let env = || std::fs::read_to_string(crm.stand_in.project().join(".env")).expect("it is there");
    let before = env();
    let ended =
        beside_traffic(&crm, &["rotate", KEY, "--no-backup", "a test", "--reason", "quarterly"]).await;
    println!("{}", ended.expect(0).stderr);
    let new = crm.current_key();
    let both = before.replace(OLD, &new).replace("PREVIOUS=\n", &format!("PREVIOUS={OLD}\n"));
    assert_eq!(env(), both);
    assert_eq!(rows_written(&crm).await, [["db_encryption_key", "quarterly", "90"]]);
    for call in crm.stand_in.calls() {
        assert!(!call.names(&["restart"]) && !call.names(&["stop"]), "{call:?}");
        for key in [OLD, &new] {
            assert!(!call.argv.iter().any(|argument| argument.contains(key)), "{:?}", call.argv);
            assert!(!call.environment.values().any(|value| value.contains(key)), "{:?}", call.argv);
        }
    }

    // Somebody who was forgotten writes one more value under the old key.
    let client = crm.client().await;
    let plant = "UPDATE crm_client_preferences SET email_encrypted = encrypt_sensitive_data(
        decrypt_sensitive_data(email_encrypted, $1), $2) WHERE id = 4711";
    client.execute(plant, &[&new, &OLD]).await.expect("a superuser may");
    let refused = crm.run(&["rotate", "retire", KEY, "-y"]).expect(8);
    let said = format!("{}{}", refused.stdout, refused.stderr);
    assert!(said.contains("public.crm_client_preferences.email_encrypted where id = 4711"), "{said}");
    assert_eq!(env(), both, "both keys are there still");
    crm.run(&["reencrypt", "run", "client-preferences", "-y"]).expect(8);

    crm.run(&["reencrypt", "resume", "client-preferences", "-y"]).expect(0);
    beside_traffic(&crm, &["rotate", "retire", KEY, "-y"]).await.expect(0);
    assert_eq!(env(), before.replace(OLD, &new));
    crm.until_healthy().await;
    assert_eq!(crm.look(&new).await, Found { new: VALUES, ..Found::default() });
}
