//! systemd units and commands: a reload keeps the environment, and that is seen.

use std::time::{Duration, SystemTime};

use reseal_crypto::random::OsRandom;
use reseal_crypto::secret::SecretBytes;
use reseal_rotate::apps::{App, AppError, Brought, Expected, FingerprintKey, Standing};
use reseal_rotate::plan;
use reseal_rotate::process::Runner;
use reseal_rotate::scrub::Known;
use reseal_tests::stand_in::{Compose, StandIn};

/// Takes SIGHUP as a server does that makes new workers: it goes on.
const SERVER: &str = "/bin/sh -c \"trap 'echo reloaded' HUP; while :; do sleep 0.1; done\"";

fn scene() -> StandIn {
    let scene = StandIn::new(Compose::Plugin);
    scene.write("app.env", "SECRET_KEY=first-value\n");
    let file = scene.project().join("app.env");
    let reload = "ExecReload=/bin/kill -HUP $MAINPID";
    scene.unit(
        "gunicorn",
        &format!("[Service]\nEnvironmentFile={}\nExecStart={SERVER}\n{reload}\n", file.display()),
    );
    scene.unit("reads-itself", &format!("[Service]\nExecStart={SERVER}\n{reload}\n"));
    scene.unit("dies", "[Service]\nExecStart=/bin/sh -c 'echo last words; exit 3'\n");
    for unit in ["gunicorn", "reads-itself", "dies"] {
        scene.must(&["systemctl", "start", unit]);
    }
    scene.forget_calls();
    scene
}

fn app(scene: &StandIn, plan: &str) -> App {
    let plan: plan::App = toml::from_str(plan).expect("an app of a plan");
    let runner = Runner::new(&scene.project(), [("PATH".into(), scene.path())], Known::default());
    App::new("app", &plan, &runner, None).expect("it can be brought over")
}

async fn runs_with(app: &App, value: &str, edited: SystemTime) -> Brought {
    let key = FingerprintKey::generate(&OsRandom).expect("the system's generator");
    let value = SecretBytes::copy_from(value.as_bytes());
    let expected = [Expected { variable: "SECRET_KEY".into(), spot: plan::Spot::Whole, value }];
    app.runs_with(&expected, edited, &key).await.expect("systemd answers")
}

async fn pid(app: &App) -> String {
    match app.standing().await.expect("systemd answers") {
        Standing::Up(instances) => instances[0].id.clone(),
        other => panic!("{other:?}"),
    }
}

/// Writes the file and gives the time from which on a process has it.
async fn edit(scene: &StandIn, value: &str) -> SystemTime {
    scene.write("app.env", &format!("SECRET_KEY={value}\n"));
    // A process' start is known to a hundredth of a second.
    tokio::time::sleep(Duration::from_millis(20)).await;
    scene.project().join("app.env").metadata().and_then(|file| file.modified()).expect("it was just written")
}

#[tokio::test]
async fn fault_a_reload_keeps_the_environment_and_is_found_out() {
    let scene = scene();
    let reloaded = app(&scene, "systemd = 'gunicorn'\nbring_over = 'reload'");
    let restarted = app(&scene, "systemd = 'gunicorn'");
    assert_eq!(runs_with(&reloaded, "first-value", SystemTime::now()).await, Brought::Yes);
    let before = pid(&reloaded).await;
    let edited = edit(&scene, "second-value").await;

    reloaded.bring_over().await.unwrap();
    assert_eq!(pid(&reloaded).await, before, "it is the same process");
    let old = Brought::No("has another value of SECRET_KEY in its environment".into());
    assert_eq!(runs_with(&reloaded, "second-value", edited).await, old);

    restarted.bring_over().await.unwrap();
    assert_ne!(pid(&reloaded).await, before);
    assert_eq!(runs_with(&reloaded, "second-value", edited).await, Brought::Yes);
    let changes = |verb| scene.calls().iter().filter(|called| called.names(&[verb])).count();
    assert_eq!((changes("reload"), changes("restart")), (1, 1), "one side effect each");
}

#[tokio::test]
async fn one_that_reads_its_file_itself_counts_by_when_it_was_started() {
    let scene = scene();
    let edited = edit(&scene, "second-value").await;
    let restarted = app(&scene, "systemd = 'reads-itself'");
    let reloaded = app(&scene, "systemd = 'reads-itself'\nbring_over = 'reload'");
    let older = Brought::No("was started before its files were written".into());
    assert_eq!(runs_with(&restarted, "second-value", edited).await, older);
    assert!(matches!(runs_with(&reloaded, "second-value", edited).await, Brought::Unseen(_)));
    restarted.bring_over().await.unwrap();
    assert_eq!(runs_with(&restarted, "second-value", edited).await, Brought::Yes);
}

#[tokio::test]
async fn what_is_down_says_why() {
    let scene = scene();
    let dies = app(&scene, "systemd = 'dies'");
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert_eq!(dies.standing().await.unwrap(), Standing::Down("failed, failed, exit-code".into()));
    assert_eq!(dies.last_lines(3).await, ["last words"]);
    let gunicorn = app(&scene, "systemd = 'gunicorn'");
    gunicorn.stop().await.unwrap();
    assert_eq!(gunicorn.standing().await.unwrap(), Standing::Down("inactive, dead".into()));
    gunicorn.start().await.unwrap();
    pid(&gunicorn).await;
    let missing = app(&scene, "systemd = 'gunicor'").standing().await.unwrap_err();
    assert!(matches!(missing, AppError::NoUnit { .. }), "{missing}");
}

#[tokio::test]
async fn logs_begin_where_they_are_asked_for() {
    let scene = scene();
    let gunicorn = app(&scene, "systemd = 'gunicorn'\nbring_over = 'reload'");
    gunicorn.bring_over().await.unwrap();
    tokio::time::sleep(Duration::from_millis(400)).await;
    let all = gunicorn.logs(SystemTime::UNIX_EPOCH).await.unwrap().unwrap();
    assert_eq!(all, SecretBytes::copy_from(b"reloaded\n"));
    assert!(gunicorn.logs(SystemTime::now()).await.unwrap().unwrap().is_empty());
}

/// What was exported where pm2 started an application stays with it, and wins over its file.
#[tokio::test]
async fn pm2_keeps_the_environment_unless_it_is_told_otherwise() {
    let scene = scene();
    let started =
        ["/usr/bin/env", "SECRET_KEY=first-value", "pm2", "start", "sleep", "1000", "--name", "next"];
    scene.must(&started);
    let keeps = app(&scene, "restart = ['pm2', 'reload', 'next']");
    let updates = app(&scene, "restart = ['pm2', 'reload', 'next', '--update-env']");
    assert_eq!(runs_with(&keeps, "first-value", SystemTime::now()).await, Brought::Yes);
    let edited = edit(&scene, "second-value").await;
    keeps.bring_over().await.unwrap();
    let old = Brought::No("has another value of SECRET_KEY in its environment".into());
    assert_eq!(runs_with(&keeps, "second-value", edited).await, old);
    updates.bring_over().await.unwrap();
    // It reads the file itself, and was started after that was written.
    assert_eq!(runs_with(&updates, "second-value", edited).await, Brought::Yes);
    let edited = edit(&scene, "third-value").await;
    let older = Brought::No("was started before its files were written".into());
    assert_eq!(runs_with(&updates, "third-value", edited).await, older);
}

#[tokio::test]
async fn commands_of_the_plan_are_run_as_they_stand() {
    let scene = scene();
    let next = app(&scene, "restart = ['pm2', 'reload', 'nextjs-app', '--update-env']");
    let error = next.bring_over().await.unwrap_err();
    assert!(error.to_string().contains("nextjs-app not found"), "{error}");
    assert_eq!(next.standing().await.unwrap(), Standing::Down("pm2 has no `nextjs-app`".into()));
    scene.must(&["pm2", "start", "sleep", "1000", "--name", "nextjs-app"]);
    next.bring_over().await.unwrap();
    assert!(matches!(next.standing().await.unwrap(), Standing::Up(instances) if instances.len() == 1));
    assert!(matches!(next.stop().await, Err(AppError::Cannot { .. })));
    let other = app(&scene, "restart = ['true']");
    assert_eq!(other.standing().await.unwrap(), Standing::Unseen);

    scene.write("says", "");
    let both =
        app(&scene, "stop = ['sh', '-c', 'echo stop >> says']\nstart = ['sh', '-c', 'echo start >> says']");
    both.bring_over().await.unwrap();
    assert_eq!(std::fs::read_to_string(scene.project().join("says")).unwrap(), "stop\nstart\n");
}
