//! Faults that others have had, planted at real servers: each is found out before anything is changed, or taken back.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use reseal_sandbox::redis::{Options, PasswordIn, Server};

use crate::kill_rotation_alternate::{ALTERNATE, Pair};
use crate::kill_rotation_desk::{Case, Desk, OLD};
use crate::kill_rotation_services::{
    IN_PLACE, OVERLAP, Postgres, ROOT, ROTATE, Redis, Service, postgres_plan,
};
use crate::kill_rotation_wire::{Fault, Plant};
use crate::side_by_side;

fn desk_at(postgres: &Postgres, case: &Case) -> Desk {
    let desk = Desk::with_servers(case, &postgres_plan(&format!("url = {}", postgres.url())));
    desk.put("root", ROOT);
    desk
}

async fn until(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let begin = Instant::now();
    while !holds().await {
        assert!(begin.elapsed() < Duration::from_secs(60), "{what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Lets every new session check passwords by a rule that refuses as many as a file says.
async fn set_rule(postgres: &Postgres, directory: &Path) {
    fs::set_permissions(directory, fs::Permissions::from_mode(0o755)).expect("it is ours");
    let (library, refusals) = (directory.join("password_rule.so"), directory.join("refusals"));
    refuse(directory, 0);
    let number: String =
        postgres.root.query_one("SHOW server_version_num", &[]).await.expect("it tells").get(0);
    let version = number.parse::<u32>().expect("a number") / 100;
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/rotation/password_rule.c");
    let made = Command::new("cc")
        .args(["-shared", "-fPIC", &format!("-DVERSION={version}")])
        .arg(format!("-DREFUSALS=\"{}\"", refusals.display()))
        .arg("-o")
        .arg(&library)
        .arg(source)
        .status();
    assert!(made.expect("cc runs; it is the Debian package `gcc`").success());
    let preload = format!("ALTER SYSTEM SET session_preload_libraries = '{}'", library.display());
    postgres.root.batch_execute(&preload).await.expect("a superuser may");
    postgres.root.batch_execute("SELECT pg_reload_conf()").await.expect("a superuser may");
    until("new sessions have the rule", async || {
        let session = postgres.login("root", ROOT).await.expect("root logs in");
        let shown = session.query_one("SHOW session_preload_libraries", &[]).await.expect("it tells");
        !shown.get::<_, String>(0).is_empty()
    })
    .await;
}

fn refuse(directory: &Path, times: usize) {
    let file = directory.join("refusals");
    fs::write(&file, times.to_string()).expect("written");
    fs::set_permissions(&file, fs::Permissions::from_mode(0o666)).expect("it is ours");
}

fn refusals_left(directory: &Path) -> usize {
    let left = fs::read_to_string(directory.join("refusals")).expect("it is there");
    left.trim().parse().expect("a number")
}

#[tokio::test(flavor = "multi_thread")]
async fn fault_a_value_against_a_rule_of_the_service() {
    let postgres = Postgres::start().await;
    let directory = tempfile::tempdir().expect("a directory");
    set_rule(&postgres, directory.path()).await;
    let desk = desk_at(&postgres, &IN_PLACE);

    refuse(directory.path(), 50);
    let ended = desk.run(ROTATE).expect(9);
    assert_eq!(ended.stderr.matches("another is drawn").count(), 2, "three values, and no more: {ended:?}");
    assert!(ended.stdout.contains("rules of the house"), "{ended:?}");
    assert_eq!(refusals_left(directory.path()), 47, "nothing but the three was tried");
    desk.check_old("every value is refused");
    assert_eq!(postgres.kept().await, postgres.verifier);

    refuse(directory.path(), 1);
    let ended = desk.run(ROTATE).expect(0);
    assert_eq!(ended.stderr.matches("another is drawn").count(), 1, "{ended:?}");
    assert_eq!(refusals_left(directory.path()), 0);
    desk.check_new("the second value is taken");
    assert!(postgres.accepts(&desk.current()).await && !postgres.accepts(OLD).await);
}

/// What begins before another value is drawn shows neither of the two.
#[tokio::test(flavor = "multi_thread")]
async fn fault_a_value_drawn_late_is_shown_by_nobody() {
    let postgres = Postgres::start().await;
    let directory = tempfile::tempdir().expect("a directory");
    set_rule(&postgres, directory.path()).await;
    let desk = side_by_side::desk("true");
    let server = postgres_plan(&format!("url = {}", postgres.url()));
    let at_server = format!("{server}[secrets.key]\nserver = \"db\"\nuser = \"app\"");
    desk.write("reseal.toml", &desk.read("reseal.toml").replace("[secrets.key]", &at_server), 0o600);
    desk.put("root", ROOT);
    // The other one comes over once this one has, and shows what that runs with.
    let shows = "#!/bin/sh\nif [ \"$1\" = b ] && [ ! -e shown ]; then\n\
        for i in $(seq 3000); do [ -e restarted-a ] && break; sleep 0.02; done\n\
        touch shown; grep KEY running-a >&2; exit 1\nfi\n";
    desk.write("restart", &side_by_side::RESTART.replace("#!/bin/sh\n", shows), 0o755);

    refuse(directory.path(), 1);
    let ended = desk.run(side_by_side::BOTH).expect(9);
    assert_eq!(ended.stderr.matches("another is drawn").count(), 1, "{ended:?}");
    let drawn = desk.current();
    assert!(desk.read("running-a").contains(&drawn) && postgres.accepts(&drawn).await);
    assert!(ended.stdout.contains("KEY='[secret]'"), "{ended:?}");
    let status = desk.run(&["rotate", "status", "--json"]).expect(0);
    for told in [ended.stdout, ended.stderr, status.stdout] {
        assert!(!told.contains(&drawn), "{told}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn fault_trust_lets_anything_in() {
    let postgres = Postgres::start().await;
    let desk = desk_at(&postgres, &IN_PLACE);
    let hba = postgres.root.query_one("SHOW hba_file", &[]).await.expect("it tells").get::<_, String>(0);
    let rules = fs::read_to_string(&hba).expect("rules");
    fs::write(&hba, format!("host all app 127.0.0.1/32 trust\n{rules}")).expect("written");
    postgres.root.batch_execute("SELECT pg_reload_conf()").await.expect("a superuser may");
    until("the rules are read", async || postgres.accepts("anything").await).await;

    let refused = desk.run(ROTATE).expect(8);
    assert!(refused.stderr.contains("with any value"), "{refused:?}");
    desk.check_old("a login proves nothing");
    assert_eq!((desk.rotation(), postgres.kept().await), (None, postgres.verifier.clone()));
}

/// Whoever answers is not the server: that all is well is no proof that anything happened.
#[tokio::test(flavor = "multi_thread")]
async fn fault_a_change_that_never_reaches_the_server() {
    let redis = Redis::start();
    redis.reset().await;
    let desk = Desk::with_servers(&OVERLAP, &redis.plan());
    let before = redis.kept().await;
    redis.wire().begin(Some(Plant { fault: Fault::Swallow, at: 0, after: false }));
    let ended = desk.run(ROTATE).expect(9);
    assert!(ended.stdout.contains("does not let in"), "{ended:?}");
    assert_eq!(redis.wire().seen().first().map(String::as_str), Some("ACL SETUSER"));
    redis.wire().begin(None);
    desk.check_old("nothing happened");
    assert_eq!(redis.kept().await, before);
    desk.run(ROTATE).expect(0);
    desk.check_new("it reaches the server");
}

#[tokio::test(flavor = "multi_thread")]
async fn fault_a_redis_password_that_reverts_at_restart() {
    const DEFAULT: Case = Case {
        name: "Redis, its password among the arguments",
        secret: "strategy = \"overlap\"\nserver = \"cache\"\nwrite = [{ file = \"a.env\", var = \"KEY\" }]",
        change: &[],
        retire: &[],
    };
    let start = |place| Server::start(Options::with(place)).expect("a private Redis (package redis-server)");
    let plan = |server: &Server| {
        format!("[servers.cache]\nkind = \"redis\"\nurl = \"redis://127.0.0.1:{}/0\"\n", server.port())
    };
    let mut server = start(PasswordIn::Arguments);
    server.recreate(OLD).expect("starts");
    let desk = Desk::with_servers(&DEFAULT, &plan(&server));
    let ended = desk.run(ROTATE).expect(0);
    assert!(ended.stderr.contains("a restart brings the old one back"), "{ended:?}");
    desk.run(&["rotate", "retire", "key", "-y"]).expect(0);
    desk.run(&["check"]).expect(0);
    server.restart().expect("starts");
    let told = desk.run(&["check"]).expect(14);
    assert!(told.stdout.contains("the value does not let in"), "{told:?}");
    server.recreate(&desk.current()).expect("starts");
    desk.run(&["check"]).expect(0);

    // A file that the server cannot write would bring it back too: that is no success.
    let redis = Redis::start();
    redis.reset().await;
    let desk = Desk::with_servers(&OVERLAP, &redis.plan());
    let mode = |bits| fs::set_permissions(redis.server.directory(), fs::Permissions::from_mode(bits));
    mode(0o500).expect("it is ours");
    let ended = desk.run(ROTATE);
    mode(0o700).expect("it is ours");
    assert!(matches!(ended.code, Some(9 | 10)) && ended.stdout.contains("in memory only"), "{ended:?}");
    if ended.code == Some(10) {
        desk.run(&["rotate", "rollback", "key", "-y"]).expect(0);
    }
    desk.check_old("it would not outlive a restart");
    assert!(redis.accepts(OLD).await);
}

/// The role that is to take its turn is somebody else's.
#[tokio::test(flavor = "multi_thread")]
async fn fault_a_name_that_is_taken() {
    let mut pair = Pair::start().await;
    let postgres = &pair.postgres;
    let desk = desk_at(postgres, &ALTERNATE);
    let taken = "CREATE ROLE app_b LOGIN CREATEDB PASSWORD 'somebody else''s'";
    postgres.root.batch_execute(taken).await.expect("a superuser may");
    let roles = "SELECT string_agg(r::text, ' ' ORDER BY rolname) FROM pg_authid r WHERE rolname LIKE 'app%'";
    let kept = async || -> String { postgres.root.query_one(roles, &[]).await.expect("it tells").get(0) };
    let before = kept().await;

    let refused = desk.run(ROTATE).expect(8);
    assert!(refused.stderr.contains("`app_b` cannot take the place of `app`"), "{refused:?}");
    assert_eq!((kept().await, desk.rotation()), (before, None));
    desk.check_old("before anything was changed");
    assert!(postgres.login("app_b", "somebody else's").await.is_some());

    // Where nobody says whose turn it is, nothing is known.
    pair.postgres.server.kill_9().expect("it is ours");
    let told = desk.run(&["check"]).expect(1);
    assert!(told.stdout.contains("unknown") && !told.stdout.contains("differs"), "{told:?}");
}
