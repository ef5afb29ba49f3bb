//! Compose services: brought over by recreation, told by fingerprint which value they run with.

use std::ffi::OsString;
use std::time::{Duration, SystemTime};

use reseal_crypto::random::OsRandom;
use reseal_crypto::secret::SecretBytes;
use reseal_rotate::apps::{App, AppError, Brought, Compose, Expected, FingerprintKey, Standing};
use reseal_rotate::plan::{self, Spot};
use reseal_rotate::process::{ProcessError, Runner};
use reseal_rotate::scrub::Known;
use reseal_tests::stand_in::{self, StandIn};

const ONE: &str = "first-value-a$b#c";
const TWO: &str = "second-value-Xy_9";

const SERVICES: &str = r#"
services:
  backend:
    command: ["sh", "-c", "echo started with $$REDIS_PASSWORD; exec sleep 1000"]
    env_file: [backend.env]
    environment:
      REDIS_URL: "redis://:${REDIS_PASSWORD}@redis:6379/0"
      LITERAL: "a$$b"
  worker:
    command: sleep 1000
    depends_on: [redis]
    environment: ["REDIS_PASSWORD=${REDIS_PASSWORD}"]
  redis:
    command: ["sleep", "1000"]
    environment: { ARGUMENT: "${REDIS_PASSWORD}" }
    networks: { default: { ipv4_address: 127.0.9.3 } }
    ports: ["16379:6379"]
    volumes: ["data:/data"]
  dies:
    command: sh -c 'echo last words >&2; exit 3'
"#;

fn secret(text: &str) -> SecretBytes {
    SecretBytes::copy_from(text.as_bytes())
}

/// A project with everything running under the first value.
fn scene(compose: stand_in::Compose) -> StandIn {
    let scene = StandIn::new(compose);
    scene.write("docker-compose.yml", SERVICES);
    write_values(&scene, ONE);
    let up = if compose == stand_in::Compose::Old { &["docker-compose"][..] } else { &["docker", "compose"] };
    scene.must(&[up, &["up", "-d"]].concat());
    scene.forget_calls();
    scene
}

fn write_values(scene: &StandIn, value: &str) {
    scene.write(".env", &format!("REDIS_PASSWORD='{value}'\n"));
    scene.write("backend.env", &format!("REDIS_PASSWORD='{value}'\n"));
}

fn runner(scene: &StandIn, known: Known) -> Runner {
    // Someone has exported an old password in this shell: compose would prefer it to the file.
    let exported = [("REDIS_PASSWORD", OsString::from("stale-value")), ("PATH", scene.path())];
    let exported = exported.map(|(name, value)| (OsString::from(name), value));
    Runner::new(&scene.project(), exported, known)
}

fn known() -> Known {
    Known::new([&secret(ONE), &secret(TWO)])
}

async fn compose(runner: &Runner) -> Compose {
    let plan: plan::Compose = toml_from("files = ['docker-compose.yml']");
    Compose::find(runner, Some(&plan)).await.expect("the stand-in is on the PATH")
}

fn toml_from<T: serde::de::DeserializeOwned>(text: &str) -> T {
    toml::from_str(text).expect("a part of a plan")
}

async fn app(scene: &StandIn, service: &str) -> App {
    let runner = runner(scene, known());
    let plan: plan::App = toml_from(&format!("compose = '{service}'"));
    App::new(service, &plan, &runner, Some(&compose(&runner).await)).expect("a compose service")
}

fn url(value: &str) -> Vec<Expected> {
    let value = secret(&format!("redis://:{value}@redis:6379/0"));
    vec![Expected { variable: "REDIS_URL".into(), spot: Spot::Whole, value }]
}

fn password(value: &str) -> Vec<Expected> {
    vec![Expected { variable: "REDIS_PASSWORD".into(), spot: Spot::Whole, value: secret(value) }]
}

async fn runs_with(app: &App, expected: &[Expected]) -> Brought {
    let key = FingerprintKey::generate(&OsRandom).expect("the system's generator");
    app.runs_with(expected, SystemTime::UNIX_EPOCH, &key).await.expect("docker answers")
}

async fn ids(app: &App) -> Vec<String> {
    match app.standing().await.expect("docker answers") {
        Standing::Up(instances) => instances.into_iter().map(|instance| instance.id).collect(),
        other => panic!("{} is {other:?}", app.name()),
    }
}

#[track_caller]
fn assert_harmless(scene: &StandIn) {
    for called in scene.calls() {
        for wrong in ["restart", "down", "rm", "-v", "-V", "--volumes", "--renew-anon-volumes", "volume"] {
            assert!(!called.names(&[wrong]), "{called:?}");
        }
    }
}

#[tokio::test]
async fn recreated_it_has_the_new_value_and_restarted_the_old_one() {
    for kind in [stand_in::Compose::Plugin, stand_in::Compose::Old] {
        let scene = scene(kind);
        let (backend, worker) = (app(&scene, "backend").await, app(&scene, "worker").await);
        let before = (ids(&backend).await, ids(&worker).await);
        assert_eq!(runs_with(&backend, &[url(ONE), password(ONE)].concat()).await, Brought::Yes);

        write_values(&scene, TWO);
        let other =
            |variable: &str| Brought::No(format!("has another value of {variable} in its environment"));
        assert_eq!(runs_with(&backend, &url(TWO)).await, other("REDIS_URL"));
        assert_harmless(&scene);

        // What people do first. The container starts anew and keeps its environment.
        let command =
            if kind == stand_in::Compose::Old { &["docker-compose"][..] } else { &["docker", "compose"] };
        scene.must(&[command, &["restart", "backend"]].concat());
        assert_ne!(ids(&backend).await, before.0);
        assert_eq!(runs_with(&backend, &password(TWO)).await, other("REDIS_PASSWORD"));
        scene.forget_calls();

        backend.bring_over().await.unwrap();
        assert_eq!(runs_with(&backend, &[url(TWO), password(TWO)].concat()).await, Brought::Yes);
        assert_eq!(ids(&worker).await, before.1, "its neighbours are as they were");
        let ups = scene.calls().into_iter().filter(|called| called.names(&["up"])).count();
        assert_eq!(ups, 1, "one side effect");
        assert_harmless(&scene);
    }
}

#[tokio::test]
async fn what_depends_on_nothing_new_is_left_alone() {
    let scene = scene(stand_in::Compose::Plugin);
    let (redis, worker) = (app(&scene, "redis").await, app(&scene, "worker").await);
    let before = ids(&redis).await;
    write_values(&scene, TWO);
    worker.bring_over().await.unwrap();
    assert_eq!(ids(&redis).await, before, "a dependency whose settings changed stays without --no-deps only");
    // The planted fault: what the flag is for.
    scene.must(&["docker", "compose", "up", "-d", "worker"]);
    assert_ne!(ids(&redis).await, before);
}

#[tokio::test]
async fn stopped_it_is_down_and_started_it_reads_its_files() {
    let scene = scene(stand_in::Compose::Plugin);
    let backend = app(&scene, "backend").await;
    backend.stop().await.unwrap();
    let Standing::Down(why) = backend.standing().await.unwrap() else { panic!("it is stopped") };
    assert_eq!(why, "exited (exit code 143)");
    assert_eq!(
        runs_with(&backend, &url(ONE)).await,
        Brought::No("does not run: exited (exit code 143)".into())
    );
    write_values(&scene, TWO);
    backend.start().await.unwrap();
    assert_eq!(runs_with(&backend, &url(TWO)).await, Brought::Yes);
    assert_harmless(&scene);
}

#[tokio::test]
async fn what_compose_would_start_is_what_it_starts() {
    let scene = scene(stand_in::Compose::Plugin);
    let runner = runner(&scene, known());
    let compose = compose(&runner).await;
    let services = compose.services().await.unwrap();
    assert_eq!(services.keys().collect::<Vec<_>>(), ["backend", "dies", "redis", "worker"]);
    let backend = &services["backend"];
    assert_eq!(backend.env_files, [scene.project().join("backend.env").canonicalize().unwrap()]);
    let container = compose.containers("backend").await.unwrap().remove(0);
    for (name, value) in &backend.environment {
        assert_eq!(container.environment.get(name), value.as_ref(), "{name}");
    }
    assert_eq!(backend.environment["LITERAL"], Some(secret("a$b")));
    assert_eq!(
        backend.environment["REDIS_PASSWORD"],
        Some(secret(ONE)),
        "from the file, whatever is exported"
    );

    let redis = compose.containers("redis").await.unwrap().remove(0);
    assert_eq!(redis.addresses, ["127.0.9.3".parse::<std::net::IpAddr>().unwrap()]);
    assert_eq!(redis.published, [(6379, std::net::IpAddr::from([127, 0, 0, 1]), 16379)]);
    assert_eq!(redis.mounts, [std::path::PathBuf::from("/data")]);
    assert_eq!(redis.argv, [secret("sleep"), secret("1000")]);
    assert!(std::path::Path::new(&format!("/proc/{}", redis.pid.unwrap())).exists());
}

#[tokio::test]
async fn what_is_wrong_is_named() {
    let scene = scene(stand_in::Compose::Plugin);
    let dies = app(&scene, "dies").await;
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!(dies.standing().await.unwrap(), Standing::Down("exited (exit code 3)".into()));
    assert_eq!(dies.last_lines(5).await, ["last words"]);

    let error = app(&scene, "bakend").await.standing().await.unwrap_err();
    assert!(matches!(&error, AppError::NoService { known, .. } if known.len() == 4), "{error}");
    assert_eq!(error.hint().unwrap(), "the compose files have: backend, dies, redis, worker");

    scene.fail(&["up", "backend"], 1);
    let error = app(&scene, "backend").await.bring_over().await.unwrap_err();
    assert!(error.to_string().ends_with(": the daemon says no, as the test wants it"), "{error}");

    let bare = Runner::new(&scene.project(), [("PATH".into(), "/nowhere".into())], Known::default());
    assert!(matches!(Compose::find(&bare, None).await, Err(AppError::NoCompose)));

    let plan: plan::App = toml_from("compose = 'backend'\nbring_over = 'restart'");
    let runner = runner(&scene, known());
    let refused = App::new("backend", &plan, &runner, Some(&compose(&runner).await)).unwrap_err();
    assert!(refused.to_string().contains("keeps its old environment"), "{refused}");
}

#[tokio::test]
async fn no_child_is_told_a_value() {
    let scene = scene(stand_in::Compose::Plugin);
    let told = |needle: &str| {
        let calls = scene.calls();
        assert!(!calls.is_empty());
        calls.iter().any(|called| {
            called.argv.iter().chain(called.environment.values()).any(|text| text.contains(needle))
        })
    };
    // The wrappers see what is planted: in argv, and in the environment.
    let unknowing = Runner::new(
        &scene.project(),
        [("PATH".into(), scene.path()), ("COMPOSE_PLANTED".into(), "planted-in-environment".into())],
        Known::default(),
    );
    let compose_unknowing = compose(&unknowing).await;
    let argv = ["echo".to_owned(), TWO.to_owned()];
    compose_unknowing.exec("backend", &argv, None, Duration::from_secs(20)).await.unwrap();
    assert!(told(TWO) && told("planted-in-environment"));
    scene.forget_calls();

    let exported = [
        ("PATH".into(), scene.path()),
        ("COMPOSE_PLANTED".into(), TWO.into()),
        ("LC_ALL".into(), format!("x{ONE}x").into()),
    ];
    let runner = Runner::new(&scene.project(), exported, known());
    let compose = compose(&runner).await;
    let plan: plan::App = toml_from("compose = 'backend'");
    let backend = App::new("backend", &plan, &runner, Some(&compose)).unwrap();
    write_values(&scene, TWO);
    backend.bring_over().await.unwrap();
    assert_eq!(runs_with(&backend, &url(TWO)).await, Brought::Yes);
    compose.services().await.unwrap();
    // The log says the value; what is shown of it does not.
    let log = compose.logs("backend", SystemTime::UNIX_EPOCH).await.unwrap();
    assert!(log.expose_str().unwrap().contains(TWO));
    assert_eq!(backend.last_lines(1).await, ["started with [secret]"]);
    let cat = ["cat".to_owned()];
    let echoed = compose.exec("backend", &cat, Some(secret(TWO)), Duration::from_secs(20)).await.unwrap();
    assert_eq!(echoed.stdout, secret(TWO), "a value goes in by stdin");
    assert!(!told(TWO) && !told(ONE) && !told("stale-value"));

    let refused = compose.exec("backend", &argv, None, Duration::from_secs(20)).await.unwrap_err();
    assert!(matches!(refused, AppError::Process(ProcessError::SecretInArguments { .. })), "{refused}");
    assert!(!told(TWO));
}
