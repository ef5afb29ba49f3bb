//! Runbook R4 by the real command, with the plan that the runbook has: secrets with which one application signs and the
//! other verifies, and a database login by two roles that take turns. Its checks are made for seconds instead of minutes.

use std::collections::BTreeMap;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use reseal_crypto::SecretBytes;
use reseal_rotate::checks::{Check, Reply};
use reseal_rotate::http::Http;
use reseal_tests::command::{Ended, finish, program};
use reseal_tests::leather::{
    ANALYTICS_SECRET, DB_PASSWORD, Leather, REVALIDATE_SECRET, Reload, SECRET_KEY, here,
};
use reseal_tests::scene::connect;
use reseal_tests::web;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::interval;

const SIGNED: [(&str, &str, &str); 2] = [
    ("revalidate-secret", "/api/revalidate/", r#"{"slugs":["test"]}"#),
    ("analytics-secret", "/api/track-view/", r#"{"slug":"test"}"#),
];

/// The stack with the runbook's plan and a vault that holds its values.
struct R4 {
    stack: Leather,
}

impl R4 {
    async fn start(reload: Reload) -> Self {
        Self::start_with(reload, |plan| plan).await
    }

    /// With another plan.
    async fn start_with(reload: Reload, edit: impl Fn(String) -> String) -> Self {
        let r4 = Self { stack: Leather::start(reload).await };
        let plan = include_str!("../../../crates/reseal-rotate/tests/plans/R4.toml");
        let stack = &r4.stack;
        let plan = plan
            .replace("https://api.example.com", &format!("http://127.0.0.1:{}", stack.api))
            .replace("https://www.example.com", &format!("http://127.0.0.1:{}", stack.web))
            .replace("localhost:5432/leather_api", &stack.database())
            .replace("login = \"peer\"", "login = \"secret:postgres\"")
            .replace("during = \"5m\"", "during = \"3s\"")
            .replace("bring_over = \"reload\"", "hold = \"4s\"\nbring_over = \"reload\"")
            .replace("[apps.nextjs]\n", "[apps.nextjs]\nhold = \"2s\"\n");
        assert_eq!(plan.matches("hold = ").count(), 2);
        let admin = "[secrets.postgres]\nstrategy = \"paste\"\nevery = \"never\"\n\n[notify]";
        stack.stand_in.write("reseal.toml", &edit(plan.replace("[notify]", admin)));
        stack.stand_in.write("key-file", &"7".repeat(32));
        let key_file = stack.stand_in.project().join("key-file");
        std::fs::set_permissions(key_file, std::os::unix::fs::PermissionsExt::from_mode(0o600))
            .expect("ours");
        r4.run(&["init", "--no-recovery-code"]).expect(0);
        let root = stack.postgres.password().to_owned();
        for (name, value) in [
            ("secret-key", SECRET_KEY),
            ("revalidate-secret", REVALIDATE_SECRET),
            ("analytics-secret", ANALYTICS_SECRET),
            ("database-url", DB_PASSWORD),
            ("postgres", &root),
        ] {
            r4.run_with(&["put", &format!("leather/{name}"), "-"], value).expect(0);
        }
        r4
    }

    fn start_command(&self, arguments: &[&str]) -> Command {
        let project = self.stack.stand_in.project();
        let mut command = Command::new(program());
        command.current_dir(&project).args(["--key-file", "key-file", "--no-input"]).args(arguments);
        command.env_clear().env("PATH", self.stack.stand_in.path());
        command.env("HOME", &project).env("XDG_RUNTIME_DIR", &project);
        // What an operator has exported must not reach an application.
        command.env("REVALIDATE_SECRET", "exported-long-ago");
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    fn run(&self, arguments: &[&str]) -> Ended {
        self.run_with(arguments, "")
    }

    fn run_with(&self, arguments: &[&str], input: &str) -> Ended {
        let mut child = self.start_command(arguments).spawn().expect("the command starts");
        let mut stdin = child.stdin.take().expect("it is piped");
        let _ = std::io::Write::write_all(&mut stdin, input.as_bytes());
        drop(stdin);
        finish(child)
    }

    /// Runs the command while the tasks of the test go on.
    async fn run_beside(&self, arguments: &[&str]) -> Ended {
        let mut command = self.start_command(arguments);
        command.stdin(Stdio::null());
        let ended = move || finish(command.spawn().expect("the command starts"));
        tokio::task::spawn_blocking(ended).await.expect("it is waited for")
    }

    fn current(&self, name: &str) -> String {
        self.run(&["get", &format!("leather/{name}")]).expect(0).stdout.trim_end().to_owned()
    }

    fn files(&self) -> BTreeMap<&'static str, String> {
        let project = self.stack.stand_in.project();
        let read = |file| (file, std::fs::read_to_string(project.join(file)).expect("it is text"));
        ["django/.env", "nextjs/.env"].map(read).into()
    }

    /// Whether the API takes what is signed with this value.
    async fn takes(&self, path: &str, value: &str) -> bool {
        let check = format!(
            "signed = 'http://127.0.0.1:{}{path}'\nheader = 'X-Signature'\nmac = 'hmac-sha256-hex'",
            self.stack.api
        );
        let check = Check::new(&toml::from_str(&check).expect("a check")).expect("it makes sense");
        let key = SecretBytes::copy_from(value.as_bytes());
        match check.signed().expect("a signed request").send(&Http::new().expect("TLS"), &key).await {
            Reply::Taken => true,
            Reply::Refused(403) => false,
            other => panic!("{path}: {other:?}"),
        }
    }
}

/// Requests that go on in the background until somebody has seen enough.
struct Traffic {
    ends: Arc<AtomicBool>,
    sent: Arc<AtomicUsize>,
    begun: Instant,
    /// What was not answered as it should be.
    wrong: JoinHandle<Vec<String>>,
}

impl Traffic {
    /// Makes a request every `every`, and notes what comes instead of `expected`.
    fn begin<F>(every: Duration, request: impl Fn(usize) -> F + Send + 'static) -> Self
    where
        F: Future<Output = Result<(), String>> + Send + 'static,
    {
        let (ends, sent) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
        let (is_over, count) = (ends.clone(), sent.clone());
        let wrong = tokio::spawn(async move {
            let mut ticks = interval(every);
            let (mut running, mut wrong) = (JoinSet::new(), Vec::new());
            while !is_over.load(Ordering::SeqCst) {
                ticks.tick().await;
                let asked = request(count.fetch_add(1, Ordering::SeqCst));
                let begun = Instant::now();
                running.spawn(async move {
                    asked.await.map_err(|why| format!("{why} after {} ms", begun.elapsed().as_millis()))
                });
                while let Some(ended) = running.try_join_next() {
                    wrong.extend(ended.expect("it does not panic").err());
                }
            }
            wrong.extend(running.join_all().await.into_iter().filter_map(Result::err));
            wrong
        });
        Self { ends, sent, begun: Instant::now(), wrong }
    }

    async fn until(&self, count: usize) {
        while self.sent.load(Ordering::SeqCst) < count {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Ends it, and says how many requests there were, how many of them a second, and what was wrong.
    async fn end(self) -> (usize, f64, Vec<String>) {
        self.ends.store(true, Ordering::SeqCst);
        let took = self.begun.elapsed().as_secs_f64();
        let wrong = self.wrong.await.expect("it does not panic");
        let sent = self.sent.load(Ordering::SeqCst);
        (sent, sent as f64 / took, wrong)
    }
}

/// What a browser sends to the front end, 50 times a second: the front end signs it, and the API has to take it.
fn signed(stack: &Leather) -> Traffic {
    let web = stack.web;
    Traffic::begin(Duration::from_millis(20), move |at| async move {
        let (_, path, body) = SIGNED[at % SIGNED.len()];
        match web::ask(here(web), &format!("POST /send{path}"), &[], body).await {
            Some((200, _)) => Ok(()),
            other => Err(format!("{path}: {other:?}")),
        }
    })
}

/// What somebody without the secret sends, ten times a second.
fn forged(stack: &Leather) -> Traffic {
    let api = stack.api;
    Traffic::begin(Duration::from_millis(100), move |at| async move {
        let (_, path, body) = SIGNED[at % SIGNED.len()];
        let signature = format!("{at:064x}");
        match web::ask(here(api), &format!("POST {path}"), &[("X-Signature", &signature)], body).await {
            Some((403, _)) => Ok(()),
            other => Err(format!("{path}: {other:?}")),
        }
    })
}

const DUAL: [&str; 3] = ["revalidate-secret", "analytics-secret", "secret-key"];

#[tokio::test(flavor = "multi_thread")]
async fn runbook_r4_no_signature_is_refused() {
    let r4 = R4::start(Reload::Reads).await;
    let (good, bad) = (signed(&r4.stack), forged(&r4.stack));
    // The log has what is usual.
    good.until(200).await;
    r4.run_beside(&[&["rotate"][..], &DUAL].concat()).await.expect(0);
    let calls = r4.stack.stand_in.calls();
    let brought: Vec<&str> = calls
        .iter()
        .filter(|call| call.names(&["reload"]))
        .map(|call| if call.program == "pm2" { "signer" } else { "verifier" })
        .collect();
    assert_eq!(brought, ["verifier", "signer", "verifier", "signer", "verifier"]);
    for (name, path, _) in SIGNED {
        let old = if name == "revalidate-secret" { REVALIDATE_SECRET } else { ANALYTICS_SECRET };
        assert!(r4.takes(path, &r4.current(name)).await && r4.takes(path, old).await, "{name}: both");
    }
    r4.run_beside(&[&["rotate", "retire"][..], &DUAL, &["-y"]].concat()).await.expect(0);
    good.until(3_000).await;
    let (sent, a_second, refused) = good.end().await;
    println!("{sent} signed requests, {a_second:.1} a second, {} refused", refused.len());
    let (forgeries, _, taken) = bad.end().await;
    println!("{forgeries} forgeries, {} not refused", taken.len());
    assert!(refused.is_empty(), "{refused:?}");
    assert!(taken.is_empty() && forgeries >= 300, "{forgeries}: {taken:?}");
    assert!(sent >= 3_000 && a_second > 40.0);
    check_only_new(&r4).await;
}

/// Of each secret one value is taken, and it is what the vault, the files and both applications have.
async fn check_only_new(r4: &R4) {
    let files = r4.files();
    for (name, path, _) in SIGNED {
        let new = r4.current(name);
        let (variable, old) = match name {
            "revalidate-secret" => ("REVALIDATE_SECRET", REVALIDATE_SECRET),
            _ => ("ANALYTICS_SECRET", ANALYTICS_SECRET),
        };
        assert!(r4.takes(path, &new).await && !r4.takes(path, old).await, "{name}");
        assert!(new.len() == 64 && !files.values().any(|text| text.contains(old)), "{files:?}");
        for port in [r4.stack.api, r4.stack.web] {
            assert!(r4.stack.has(port, variable, &new).await, "{name}: {port}");
        }
        assert!(r4.stack.has(r4.stack.api, &format!("{variable}_OLD"), "").await);
    }
    assert!(r4.stack.has(r4.stack.api, "SECRET_KEY", &r4.current("secret-key")).await);
    assert!(r4.stack.has(r4.stack.api, "SECRET_KEY_FALLBACKS", "").await);
}

/// A rotation of the secret with which pages are revalidated fails, and no request on the way.
async fn is_taken_back(r4: &R4, words: &str) {
    let before = r4.files();
    let (good, bad) = (signed(&r4.stack), forged(&r4.stack));
    good.until(200).await;
    let ended = r4.run_beside(&["rotate", "revalidate-secret"]).await.expect(9);
    assert!(ended.stdout.contains(words), "{ended:?}");
    let (sent, _, refused) = good.end().await;
    println!("{sent} signed requests, {} refused", refused.len());
    assert!(refused.is_empty(), "{refused:?}");
    let (_, _, taken) = bad.end().await;
    assert!(taken.is_empty(), "{taken:?}");
    assert_eq!(r4.files(), before);
    assert_eq!(r4.current("revalidate-secret"), REVALIDATE_SECRET);
    let shown = r4.run(&["show", "leather/revalidate-secret", "--json"]).expect(0).json();
    assert_eq!(shown["labels"]["pending"], serde_json::Value::Null, "{shown}");
    assert!(r4.takes("/api/revalidate/", REVALIDATE_SECRET).await);
    for port in [r4.stack.api, r4.stack.web] {
        assert!(r4.stack.has(port, "REVALIDATE_SECRET", REVALIDATE_SECRET).await);
    }
}

/// The signer is not touched before the verifier takes both.
#[tokio::test(flavor = "multi_thread")]
async fn runbook_r4_a_verifier_that_keeps_the_old_value_is_taken_back() {
    let r4 = R4::start(Reload::Keeps).await;
    is_taken_back(&r4, "the new value is refused (403)").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn runbook_r4_a_signer_that_keeps_the_old_value_is_taken_back() {
    let r4 = R4::start_with(Reload::Reads, |plan| plan.replace(", \"--update-env\"", "")).await;
    is_taken_back(&r4, "has another value of REVALIDATE_SECRET in its environment").await;
}

/// A login by what the `.env` file of the API says now.
async fn login_by_file(file: std::path::PathBuf) -> Result<(), String> {
    let text = std::fs::read_to_string(&file).map_err(|error| error.to_string())?;
    let line = text.lines().find_map(|line| line.strip_prefix("DATABASE_URL=")).ok_or("no such variable")?;
    let url = line.split(' ').next().unwrap_or_default();
    let config: tokio_postgres::Config = url.parse().map_err(|_| "no URL".to_owned())?;
    let user = config.get_user().unwrap_or_default().to_owned();
    let login = config.connect(tokio_postgres::NoTls).await;
    let (client, connection) = login.map_err(|error| format!("{user}: {error}"))?;
    let running = tokio::spawn(connection);
    let insert = client.batch_execute("INSERT INTO seen VALUES (now())").await;
    insert.map_err(|error| format!("{user}: {error}"))?;
    drop(client);
    let _ = running.await;
    Ok(())
}

impl R4 {
    /// Which roles a value lets in.
    async fn lets_in(&self, value: &str) -> Vec<&'static str> {
        let mut found = Vec::new();
        for role in ["leather_api", "leather_api_new"] {
            let mut config = tokio_postgres::Config::new();
            config.host("127.0.0.1").port(self.stack.postgres.tcp_port().expect("it listens"));
            config.user(role).password(value).dbname("leather_api");
            if config.connect(tokio_postgres::NoTls).await.is_ok() {
                found.push(role);
            }
        }
        found
    }

    async fn roles(&self) -> String {
        let root = connect(&self.stack.postgres.config()).await;
        let query =
            "SELECT string_agg(format('%s %s %s', rolname, rolcanlogin, rolpassword), '; ' ORDER BY rolname)
            FROM pg_authid WHERE rolname LIKE 'leather%'";
        root.query_one(query, &[]).await.expect("a superuser may").get(0)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn runbook_r4_no_login_is_refused() {
    let r4 = R4::start(Reload::Reads).await;
    let file = r4.stack.stand_in.project().join("django/.env");
    let probe = Traffic::begin(Duration::from_millis(50), move |_| login_by_file(file.clone()));
    let api = r4.stack.api;
    let health = Traffic::begin(Duration::from_millis(200), move |_| async move {
        match web::ask(here(api), "GET /api/healthcheck/", &[], "").await {
            Some((200, _)) => Ok(()),
            other => Err(format!("{other:?}")),
        }
    });
    let before = (r4.roles().await, r4.files());
    r4.run_beside(&["rotate", "database-url", "--dry-run"]).await.expect(0);
    assert_eq!((r4.roles().await, r4.files()), before, "a dry run changes nothing");

    r4.run_beside(&["rotate", "database-url"]).await.expect(0);
    let new = r4.current("database-url");
    assert!(r4.files()["django/.env"].contains(&format!("//leather_api_new:{new}@")));
    assert_eq!(r4.lets_in(&new).await, ["leather_api_new"]);
    assert_eq!(r4.lets_in(DB_PASSWORD).await, ["leather_api"], "both, for a day");
    r4.run_beside(&["rotate", "rollback", "database-url", "-y"]).await.expect(0);
    assert_eq!((r4.roles().await, r4.files()), before, "taken back");

    // There, and then the other way.
    let mut old = r4.current("database-url");
    assert_eq!(old, DB_PASSWORD);
    for active in ["leather_api_new", "leather_api"] {
        r4.run_beside(&["rotate", "database-url"]).await.expect(0);
        r4.run_beside(&["rotate", "retire", "database-url", "-y"]).await.expect(0);
        let new = r4.current("database-url");
        assert_eq!(r4.lets_in(&new).await, [active]);
        for value in [&old, "wrong"] {
            assert!(r4.lets_in(value).await.is_empty(), "exactly one value is accepted");
        }
        assert!(
            r4.stack
                .has(api, "DATABASE_URL", &format!("postgresql://{active}:{new}@{}", r4.stack.database()))
                .await
        );
        old = new;
    }
    let (logins, a_second, refused) = probe.end().await;
    println!("{logins} logins, {a_second:.1} a second, {} refused", refused.len());
    let (seen, _, unhealthy) = health.end().await;
    println!("{seen} looks at its health, {} bad", unhealthy.len());
    assert!(refused.is_empty() && logins >= 300, "{logins}: {refused:?}");
    assert!(unhealthy.is_empty(), "{unhealthy:?}");
}
