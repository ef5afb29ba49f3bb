//! Checks over time, on a real application: healthy, and broken in every way that a health page can be.

use std::fmt::Write as _;
use std::net::TcpListener;
use std::time::{Duration, Instant};

use reseal_crypto::secret::SecretBytes;
use reseal_rotate::apps::{App, Compose};
use reseal_rotate::checks::{Check, Checker, Keys, Report, Window};
use reseal_rotate::http::Http;
use reseal_rotate::plan;
use reseal_rotate::process::Runner;
use reseal_rotate::scrub::Known;
use reseal_sandbox::postgres::{Options, Server};
use reseal_tests::stand_in::{self, StandIn, python_source};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

const NEW: &str = "new-value-of-the-secret";
const OLD: &str = "old-value-of-the-secret";

const WINDOW: Window =
    Window { wait: Duration::from_secs(5), hold: Duration::from_secs(1), every: Duration::from_millis(200) };

/// The web application in compose, started, with what reseal needs to check it.
struct Scene {
    stand_in: StandIn,
    port: u16,
    checker: Checker,
    app: App,
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("a free port").port()
}

fn secret(text: &str) -> SecretBytes {
    SecretBytes::copy_from(text.as_bytes())
}

impl Scene {
    async fn new(environment: &[(&str, &str)]) -> Self {
        let stand_in = StandIn::new(stand_in::Compose::Plugin);
        let port = free_port();
        let mut file = String::new();
        for (name, value) in environment {
            writeln!(file, "{name}={value}").expect("a string takes text");
        }
        stand_in.write(".env", &file);
        let program = python_source("web_app.py");
        let command = [
            stand_in.python().display().to_string(),
            program.display().to_string(),
            format!("--listen=127.0.0.1:{port}"),
            "--fault=fault".into(),
        ];
        let command = serde_json::to_string(&command).expect("text is JSON");
        let compose = format!("services:\n  web:\n    command: {command}\n    env_file: .env\n");
        stand_in.write("docker-compose.yml", &compose);
        stand_in.must(&["docker", "compose", "up", "-d"]);
        let runner = Runner::new(
            &stand_in.project(),
            [("PATH".into(), stand_in.path())],
            Known::new([&secret(NEW), &secret(OLD)]),
        );
        let compose = Compose::find(&runner, None).await.expect("the stand-in is there");
        let plan: plan::App = toml::from_str("compose = 'web'").expect("an app");
        let app = App::new("web", &plan, &runner, Some(&compose)).expect("a compose service");
        let http = Http::new().expect("TLS").limit(Duration::from_secs(2));
        let checker = Checker::new(&runner, &http, Some(&compose));
        let scene = Self { stand_in, port, checker, app };
        let begin = Instant::now();
        while !scene.checker.attempt(&scene.health()).await.passed {
            assert!(begin.elapsed() < Duration::from_secs(30), "the application does not come up");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        scene
    }

    fn health(&self) -> Check {
        check(&format!("http = 'http://127.0.0.1:{}/health'", self.port))
    }

    async fn window(&self, checks: &[Check]) -> Report {
        let before = self.checker.baseline(None, checks).await;
        self.checker.window(Some(&self.app), checks, &before, WINDOW).await
    }

    /// Posts a body with a wrong signature; it is refused and logged.
    async fn post_wrong(&self) {
        let signed = check(&format!(
            "signed = 'http://127.0.0.1:{}/signed/SECRET'\nheader = 'X-Signature'\nmac = 'hmac-sha256-hex'",
            self.port
        ));
        let http = Http::new().expect("TLS");
        signed.signed().expect("a signed request").send(&http, &secret("wrong")).await;
    }
}

fn check(toml: &str) -> Check {
    Check::new(&toml::from_str(toml).expect("a check of a plan")).expect("it makes sense")
}

#[track_caller]
fn assert_failed(report: &Report, words: &str) {
    let failed: Vec<_> = report.failed().collect();
    assert!(failed.iter().any(|seen| seen.saw.contains(words)), "`{words}` in {report:?}");
}

#[tokio::test]
async fn a_healthy_application_passes_from_before_to_after() {
    let scene = Scene::new(&[("SECRET", OLD)]).await;
    let checks = [
        scene.health(),
        check(&format!("tcp = '127.0.0.1:{}'", scene.port)),
        check("command = ['sh', '-c', 'test -n \"$SECRET\"']\nin = 'web'"),
        check("log = 'ERROR'\nexpect = 'absent'\nduring = '3s'"),
        check("log = 'started'\nexpect = 'present'\nduring = '3s'"),
    ];
    let before = scene.checker.baseline(Some(&scene.app), &checks).await;
    assert!(before.passed() && before.seen.len() == 5, "{before:?}");
    scene.stand_in.write(".env", &format!("SECRET={NEW}\n"));
    scene.app.bring_over().await.unwrap();
    let begin = Instant::now();
    let report = scene.checker.window(Some(&scene.app), &checks, &before, WINDOW).await;
    assert!(report.passed() && report.seen.len() == 6 && report.last.is_empty(), "{report:?}");
    assert!(begin.elapsed() >= Duration::from_secs(3), "it is a window, not one shot");
}

/// Brings a new value in that the application does not bear, and then the old one back.
async fn assert_found_out(mode: &str, words: &str, logged: &str) {
    let scene = Scene::new(&[("SECRET", OLD)]).await;
    let before = scene.checker.baseline(Some(&scene.app), &[scene.health()]).await;
    assert!(before.passed(), "{before:?}");
    scene.stand_in.write("fault", &format!("{mode} SECRET {}", digest(OLD)));
    scene.stand_in.write(".env", &format!("SECRET={NEW}\n"));
    scene.app.bring_over().await.expect("compose recreates it");
    let begin = Instant::now();
    let report = scene.checker.window(Some(&scene.app), &[scene.health()], &before, WINDOW).await;
    assert_failed(&report, words);
    assert!(report.last.iter().any(|line| line.contains(logged)), "{report:?}");
    assert!(begin.elapsed() < Duration::from_secs(40), "it took {:?}", begin.elapsed());

    // Under the old value the same application is well: the checks tell the one from the other.
    scene.stand_in.write(".env", &format!("SECRET={OLD}\n"));
    scene.app.bring_over().await.expect("compose recreates it");
    let report = scene.checker.window(Some(&scene.app), &[scene.health()], &before, WINDOW).await;
    assert!(report.passed(), "{report:?}");
}

#[tokio::test]
async fn an_application_that_dies_at_start_is_found_out() {
    assert_found_out("dies", "exited (exit code 3)", "the planted fault: it dies").await;
}

#[tokio::test]
async fn health_that_answers_500_is_found_out() {
    assert_found_out("500", "it answered 500: a planted fault", "ERROR the planted fault").await;
}

#[tokio::test]
async fn health_that_hangs_is_found_out() {
    assert_found_out("hangs", "within 2 s", "started").await;
}

#[tokio::test]
async fn health_that_works_once_and_then_fails_is_found_out() {
    assert_found_out("once", "it passed, and 0 s later it answered 500", "ERROR the planted fault").await;
}

fn digest(text: &str) -> String {
    use sha2::Digest;
    hex::encode(sha2::Sha256::digest(text))
}

#[tokio::test]
async fn an_application_that_starts_anew_by_itself_is_not_up() {
    let scene = Scene::new(&[("SECRET", OLD)]).await;
    let compose = "services:\n  web:\n    command: sleep 0.7\n    restart: always\n";
    scene.stand_in.write("docker-compose.yml", compose);
    scene.app.bring_over().await.unwrap();
    let report = scene.window(&[]).await;
    assert!(!report.passed(), "{report:?}");
    assert_eq!(report.failed().next().unwrap().check, "web runs");
}

#[tokio::test]
async fn a_pattern_in_the_log_of_the_application() {
    let scene = Scene::new(&[("SECRET", OLD)]).await;
    let absent = check("log = 'Invalid signature'\nexpect = 'absent'\nduring = '4s'");
    let late = async {
        tokio::time::sleep(Duration::from_secs(2)).await;
        scene.post_wrong().await;
    };
    let (report, ()) = tokio::join!(scene.window(std::slice::from_ref(&absent)), late);
    assert_failed(&report, "1 matching lines");
    // What was written before the application was brought over is not counted.
    scene.app.bring_over().await.unwrap();
    let report = scene.window(&[scene.health(), absent]).await;
    assert!(report.passed(), "{report:?}");
    let report = scene.window(&[check("log = 'no such line'\nexpect = 'present'\nduring = '1s'")]).await;
    assert_failed(&report, "0 matching lines");
}

#[tokio::test]
async fn no_more_than_before_knows_what_is_usual() {
    let scene = Scene::new(&[("SECRET", OLD)]).await;
    let log = scene.stand_in.project().join("django.log");
    let write = |text: String| {
        use std::io::Write;
        let mut file = std::fs::File::options().create(true).append(true).open(&log).expect("a log");
        file.write_all(text.as_bytes()).expect("a line");
    };
    // 5 refusals a second for the last minute, in the times of another zone.
    for second in 0..60 {
        write(format!("2024-01-01 12:00:{second:02},000 403 Invalid signature\n").repeat(5));
    }
    let checks =
        [check("log = '401|403'\nfrom = 'django.log'\nexpect = 'no-more-than-before'\nduring = '4s'")];
    let before = scene.checker.baseline(Some(&scene.app), &checks).await;
    assert!(before.passed(), "{before:?}");
    for (per_tick, passes) in [(1, true), (6, false)] {
        let watched = scene.checker.window(None, &checks, &before, WINDOW);
        let traffic = async {
            // Five ticks a second.
            loop {
                write("2024-01-01 12:01:00,000 403 Invalid signature\n".repeat(per_tick));
                tokio::time::sleep(Duration::from_millis(200)).await;
            }
        };
        let report = tokio::select! {
            report = watched => report,
            () = traffic => unreachable!("traffic has no end"),
        };
        assert_eq!(report.passed(), passes, "{per_tick} at a time: {report:?}");
    }
    let missing = check("log = 'x'\nfrom = 'no.log'\nduring = '1s'");
    assert!(
        !scene.checker.baseline(None, &[missing]).await.passed(),
        "a log that is not there proves nothing"
    );
}

#[tokio::test]
async fn signed_requests_tell_taken_keys_from_refused_ones() {
    let scene = Scene::new(&[("SECRET", NEW), ("SECRET_OLD", OLD)]).await;
    let signed = |port| {
        check(&format!(
            "signed = 'http://127.0.0.1:{port}/signed/SECRET'\nbody = '{{\"slugs\":[\"test\"]}}'\nheader = 'X-Signature'\nmac = 'hmac-sha256-hex'\nexpect = 200"
        ))
    };
    let checks = [signed(scene.port)];
    let (new, old) = (("the new one".to_owned(), secret(NEW)), ("the old one".to_owned(), secret(OLD)));
    let both = Keys { taken: vec![new.clone(), old.clone()], refused: vec![] };
    let one = Keys { taken: vec![new.clone()], refused: vec![old.clone()] };

    let overlap = scene.checker.clone().keys(both.clone());
    let report = overlap.window(None, &checks, &Default::default(), WINDOW).await;
    assert!(report.passed(), "{report:?}");
    let saw = &report.seen[0].saw;
    assert_eq!(saw, "the new one is taken, the old one is taken, a wrong key is refused (403)");
    let retired = scene.checker.clone().keys(one.clone());
    assert!(!retired.attempt(&checks[0]).await.passed, "the old one is still taken");

    scene.stand_in.write(".env", &format!("SECRET={NEW}\n"));
    scene.app.bring_over().await.unwrap();
    assert!(retired.window(Some(&scene.app), &checks, &Default::default(), WINDOW).await.passed());
    assert!(!overlap.attempt(&checks[0]).await.passed, "the old one is refused now");
    assert!(!scene.checker.attempt(&checks[0]).await.passed, "without a key nothing is proved");

    // A server that takes anything proves nothing.
    let gullible = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = gullible.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = gullible.accept().await {
            let mut request = [0; 4096];
            let _ = stream.read(&mut request).await;
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").await;
        }
    });
    let seen = overlap.attempt(&signed(port)).await;
    assert!(!seen.passed && seen.saw.ends_with("a wrong key is taken"), "{seen:?}");
}

#[tokio::test]
async fn fault_a_pool_hides_a_broken_login_and_the_application_that_asks_anew_does_not() {
    let server = Server::start(Options { listen_tcp: true, ..Options::default() })
        .unwrap_or_else(|error| panic!("{error}"));
    let (client, connection) = server.config().connect(tokio_postgres::NoTls).await.unwrap();
    tokio::spawn(connection);
    client.batch_execute(&format!("CREATE ROLE crm_user LOGIN PASSWORD '{OLD}'")).await.unwrap();
    let port = server.tcp_port().unwrap().to_string();
    let environment = [
        ("DB_HOST", "127.0.0.1"),
        ("DB_PORT", &port),
        ("DB_NAME", "postgres"),
        ("DB_USER", "crm_user"),
        ("DB_PASSWORD", OLD),
    ];
    let scene = Scene::new(&environment).await;
    assert!(scene.checker.attempt(&scene.health()).await.passed);
    client.batch_execute(&format!("ALTER ROLE crm_user PASSWORD '{NEW}'")).await.unwrap();
    let pooled = "SELECT count(*) FROM pg_stat_activity WHERE usename = 'crm_user'";
    let pooled: i64 = client.query_one(pooled, &[]).await.unwrap().get(0);
    assert_eq!(pooled, 1, "the pool goes on");
    let seen = scene.checker.attempt(&scene.health()).await;
    assert!(!seen.passed && seen.saw.contains("password authentication failed"), "{seen:?}");
}
