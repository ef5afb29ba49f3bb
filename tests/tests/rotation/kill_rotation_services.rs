//! The real command rotates what services let in: Postgres in place, Redis with an overlap. It is killed before and after
//! every side effect, at the services, in the files and in the vault, and then goes on or goes back; and the second of
//! two servers goes down at each of its own.

use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::process::ExitStatusExt;

use redis::aio::MultiplexedConnection;
use reseal_sandbox::postgres::{Options, Server};
use reseal_sandbox::redis as sandbox_redis;

use crate::kill_rotation_desk::{Case, Desk, Killed, OLD, Traced};
use crate::kill_rotation_wire::{Fault, Plant, Protocol, Wire};

/// A service with one user whose value stands in two files.
#[allow(async_fn_in_trait, reason = "for this test alone")]
pub(crate) trait Service {
    /// Puts everything back to how it was before any rotation.
    async fn reset(&self);
    /// Whether a new connection gets in with this value.
    async fn accepts(&self, value: &str) -> bool;
    /// What the service keeps for the user: to be the same after a rollback.
    async fn kept(&self) -> String;
    /// What the command reaches it by.
    fn wire(&self) -> &Wire;
    /// Logs in with the old value, and stays.
    async fn linger(&self) {}
    /// Checks that nobody is logged in with the old value any more, where its end ends that.
    async fn check_ended(&self, _row: &str) {}
}

pub(crate) struct Postgres {
    pub(crate) server: Server,
    pub(crate) root: tokio_postgres::Client,
    pub(crate) verifier: String,
    wire: Wire,
}

/// The administrator's password at every server.
pub(crate) const ROOT: &str = "root-of-the-tests-0123";

impl Postgres {
    pub(crate) async fn start() -> Self {
        let options = Options { listen_tcp: true, durable: false, ..Options::default() };
        let server = Server::start(options).expect("a private Postgres (package postgresql)");
        let root = reseal_tests::scene::connect(&server.config()).await;
        let made = format!(
            "CREATE ROLE app LOGIN PASSWORD '{OLD}'; CREATE ROLE root LOGIN SUPERUSER PASSWORD '{ROOT}'"
        );
        root.batch_execute(&made).await.expect("two roles");
        let wire = Wire::to(Protocol::Postgres, server.tcp_port().expect("listens"));
        let mut postgres = Self { server, root, verifier: String::new(), wire };
        postgres.verifier = postgres.kept().await;
        postgres
    }

    /// A new connection with this value.
    pub(crate) async fn login(&self, user: &str, value: &str) -> Option<tokio_postgres::Client> {
        let mut config = tokio_postgres::Config::new();
        let port = self.server.tcp_port().expect("listens");
        config.host("127.0.0.1").port(port).user(user).password(value).dbname("postgres");
        let (client, connection) = config.connect(tokio_postgres::NoTls).await.ok()?;
        tokio::spawn(connection);
        Some(client)
    }

    pub(crate) fn url(&self) -> String {
        format!("\"postgresql://app@127.0.0.1:{}/postgres\"", self.wire.port())
    }
}

/// A server of a plan, with what may change its roles.
pub(crate) fn postgres_plan(address: &str) -> String {
    format!(
        "[servers.db]\nkind = \"postgres\"\n{address}\n\
         admin = {{ user = \"root\", login = \"secret:root\" }}\n[secrets.root]\nstrategy = \"paste\"\n"
    )
}

impl Service for Postgres {
    async fn reset(&self) {
        let statement = format!("ALTER ROLE app PASSWORD '{}'", self.verifier);
        self.root.batch_execute(&statement).await.expect("set");
    }

    async fn accepts(&self, value: &str) -> bool {
        self.login("app", value).await.is_some()
    }

    async fn kept(&self) -> String {
        let query = "SELECT rolpassword FROM pg_authid WHERE rolname = 'app'";
        self.root.query_one(query, &[]).await.expect("answers").get(0)
    }

    fn wire(&self) -> &Wire {
        &self.wire
    }
}

pub(crate) struct Redis {
    pub(crate) server: sandbox_redis::Server,
    wire: Wire,
}

impl Redis {
    pub(crate) fn start() -> Self {
        let server = sandbox_redis::Server::start(sandbox_redis::Options::default());
        let server = server.expect("a private Redis (package redis-server)");
        let wire = Wire::to(Protocol::Redis, server.port());
        Self { server, wire }
    }

    pub(crate) async fn admin(&self) -> MultiplexedConnection {
        self.server.connect(self.server.password()).await.expect("connects")
    }

    pub(crate) fn plan(&self) -> String {
        let port = self.wire.port();
        format!("[servers.cache]\nkind = \"redis\"\nurl = \"redis://app@127.0.0.1:{port}/0\"\n")
    }
}

pub(crate) async fn ask<T: redis::FromRedisValue>(
    connection: &mut MultiplexedConnection,
    words: &[&str],
) -> T {
    let mut command = redis::Cmd::new();
    for word in words {
        command.arg(*word);
    }
    command.query_async(connection).await.expect("Redis answers")
}

/// Gives user `app` of a server the old value and no other.
pub(crate) async fn reset_user(server: &sandbox_redis::Server) {
    let mut connection = server.connect(server.password()).await.expect("connects");
    let password = format!(">{OLD}");
    let words = ["ACL", "SETUSER", "app", "reset", "on", "~*", "&*", "+@all", &password];
    ask::<()>(&mut connection, &words).await;
    ask::<()>(&mut connection, &["CONFIG", "REWRITE"]).await;
}

pub(crate) async fn lets_in(server: &sandbox_redis::Server, value: &str) -> bool {
    let client = redis::Client::open(format!("redis://app:{value}@127.0.0.1:{}/0", server.port()));
    client.expect("an address").get_multiplexed_async_connection().await.is_ok()
}

/// What a server keeps for user `app`, in memory and in the file that it starts from.
pub(crate) async fn kept_user(server: &sandbox_redis::Server) -> String {
    let mut connection = server.connect(server.password()).await.expect("connects");
    let list: Vec<String> = ask(&mut connection, &["ACL", "LIST"]).await;
    let config = std::fs::read_to_string(server.config_path()).expect("its file");
    let of_user = |line: &&str| line.starts_with("user app ");
    let lines: Vec<&str> = list.iter().map(String::as_str).chain(config.lines()).filter(of_user).collect();
    assert_eq!(lines.len(), 2, "{lines:?}");
    assert_eq!(lines[0], lines[1], "what is in memory is in the file");
    lines.join("\n")
}

impl Service for Redis {
    async fn reset(&self) {
        reset_user(&self.server).await;
    }

    async fn accepts(&self, value: &str) -> bool {
        lets_in(&self.server, value).await
    }

    async fn kept(&self) -> String {
        kept_user(&self.server).await
    }

    fn wire(&self) -> &Wire {
        &self.wire
    }
}

pub(crate) const IN_PLACE: Case = Case {
    name: "Postgres in-place",
    secret: r#"strategy = "in-place"
server = "db"
user = "app"
write = [{ file = "a.env", var = "KEY" }, { file = "b.env", var = "KEY" }]"#,
    change: &[("a.env", 1), ("b.env", 1), ("restart", 2)],
    retire: &[],
};

pub(crate) const OVERLAP: Case = Case {
    name: "Redis overlap",
    secret: r#"strategy = "overlap"
server = "cache"
write = [{ file = "a.env", var = "KEY" }, { file = "b.env", var = "KEY" }]"#,
    change: &[("a.env", 1), ("b.env", 1), ("restart", 2)],
    retire: &[],
};

/// The side effects of one command at a service: every one that a wire may see, and how often.
pub(crate) type AtService<'a> = &'a [(&'a str, usize)];

pub(crate) const ROTATE: &[&str] = &["rotate", "key"];
pub(crate) const EMERGENCY: &[&str] = &["rotate", "key", "--emergency", "--reason", "it leaked"];
pub(crate) const RETIRE: &[&str] = &["rotate", "retire", "key", "-y"];

#[tokio::test(flavor = "multi_thread")]
async fn kill_rotation_of_a_postgres_password() {
    let postgres = Postgres::start().await;
    let prepared = Desk::with_servers(&IN_PLACE, &postgres_plan(&format!("url = {}", postgres.url())));
    prepared.put("root", ROOT);
    let at_service = [("ALTER ROLE", 1), ("COMMIT", 1)];
    let rows = kill_everywhere(&IN_PLACE, &prepared, &postgres, ROTATE, &at_service).await;
    println!("{rows} rows");
    assert!(rows >= 60, "{rows} rows");
}

#[tokio::test(flavor = "multi_thread")]
async fn kill_rotation_of_a_redis_password() {
    let redis = Redis::start();
    let prepared = Desk::with_servers(&OVERLAP, &redis.plan());
    let at_service = [("ACL SETUSER", 1), ("CONFIG REWRITE", 1)];
    let rows = kill_everywhere(&OVERLAP, &prepared, &redis, ROTATE, &at_service).await
        + kill_everywhere(&OVERLAP, &prepared, &redis, RETIRE, &at_service).await;
    println!("{rows} rows");
    assert!(rows >= 80, "{rows} rows");
}

#[tokio::test(flavor = "multi_thread")]
async fn kill_rotation_in_an_emergency_at_postgres() {
    let postgres = Postgres::start().await;
    let prepared = Desk::with_servers(&IN_PLACE, &postgres_plan(&format!("url = {}", postgres.url())));
    prepared.put("root", ROOT);
    let at_service = [("ALTER ROLE", 1), ("COMMIT", 1), ("END SESSIONS", 1)];
    let rows = kill_everywhere(&IN_PLACE, &prepared, &postgres, EMERGENCY, &at_service).await;
    println!("{rows} rows");
    assert!(rows >= 60, "{rows} rows");
}

#[tokio::test(flavor = "multi_thread")]
async fn kill_rotation_in_an_emergency_at_redis() {
    let redis = Redis::start();
    let prepared = Desk::with_servers(&OVERLAP, &redis.plan());
    let at_service = [("ACL SETUSER", 2), ("CONFIG REWRITE", 2), ("CLIENT KILL", 1)];
    let rows = kill_everywhere(&OVERLAP, &prepared, &redis, EMERGENCY, &at_service).await;
    println!("{rows} rows");
    assert!(rows >= 80, "{rows} rows");
}

/// A place to kill the command at.
#[derive(Clone, Copy)]
enum Point<'a> {
    /// A request on the wire.
    Request(usize, &'a str),
    /// A call that was traced.
    Call(usize, &'a Traced),
}

/// Kills the command at every effect, goes on and goes back, and asks the service each time; returns how often.
pub(crate) async fn kill_everywhere(
    case: &Case,
    prepared: &Desk,
    service: &impl Service,
    arguments: &[&str],
    at_service: AtService<'_>,
) -> usize {
    let retires = arguments == RETIRE;
    let desk = ready(prepared, service, retires).await;
    service.wire().begin(None);
    let effects = desk.count(arguments);
    let counted = service.wire().counted();
    let expected = at_service.iter().map(|&(request, times)| (request.to_owned(), times));
    assert_eq!(counted, expected.collect::<BTreeMap<_, _>>(), "{}", case.name);
    case.check_counted(&effects, if retires { case.retire } else { case.change });
    let requests = service.wire().seen();
    let requests = requests.iter().enumerate().map(|(at, request)| Point::Request(at, request));
    let points: Vec<Point<'_>> =
        requests.chain(effects.iter().enumerate().map(|(at, effect)| Point::Call(at, effect))).collect();
    let mut rows = BTreeSet::new();
    for point in points {
        for (after, back) in [(false, false), (false, true), (true, false), (true, true)] {
            let at = match point {
                Point::Request(at, request) => format!("{at:02} {request}"),
                Point::Call(at, traced) => format!("{at:02} {}", traced.effect),
            };
            let when = if after { "after" } else { "before" };
            let then = if back { "RollBack" } else { "Resume" };
            let row = format!("{} × {} × {when} {at} × {then}", case.name, arguments.join(" "));
            let desk = ready(prepared, service, retires).await;
            let before = service.kept().await;
            match point {
                Point::Request(at, _) => {
                    service.wire().begin(Some(Plant { fault: Fault::Kill, at, after }));
                    let mut child = desk.start(arguments);
                    service.wire().aim(child.id());
                    assert_eq!(child.wait().expect("it ends").signal(), Some(9), "{row}");
                }
                Point::Call(at, _) => {
                    service.wire().begin(None);
                    assert_eq!(desk.kill(arguments, &effects, at, after), Killed, "{row}");
                }
            }
            service.wire().begin(None);
            let ends = retires || (arguments == EMERGENCY && !stands_for_itself(&desk));
            check(&desk, service, (retires, ends, back), arguments, &before, &row).await;
            println!("{row}");
            assert!(rows.insert(row));
        }
    }
    rows.len()
}

async fn ready(prepared: &Desk, service: &impl Service, retires: bool) -> Desk {
    service.reset().await;
    service.wire().begin(None);
    let desk = prepared.copied();
    if retires {
        desk.run(ROTATE).expect(0);
        service.linger().await;
    }
    desk
}

/// Goes on or back: `retires` if the command only ends the old value, `ends` if that has ended with it.
async fn check(
    desk: &Desk,
    service: &impl Service,
    (retires, ends, back): (bool, bool, bool),
    arguments: &[&str],
    before: &str,
    row: &str,
) {
    let stands = desk.rotation();
    let is_over = ends && stands.as_deref() == Some("done");
    match (back, is_over, stands.is_some()) {
        (true, false, true) => drop(desk.run(&["rotate", "rollback", "key", "-y"]).expect(0)),
        (false, false, true) if retires => drop(desk.run(RETIRE).expect(0)),
        (false, false, true) => drop(desk.run(&["rotate", "resume", "key"]).expect(0)),
        (false, false, false) => drop(desk.run(arguments).expect(0)),
        _ => {}
    }
    if back && !is_over {
        desk.check_old(row);
        assert!(service.accepts(OLD).await, "{row}");
        if !retires {
            assert_eq!(service.kept().await, before, "{row}");
        }
        return;
    }
    desk.check_new(row);
    assert!(service.accepts(&desk.current()).await, "{row}");
    let has_two = desk.rotation().as_deref() == Some("overlap");
    assert_eq!(has_two, service.accepts(OLD).await, "{row}");
    assert_eq!(ends || stands_for_itself(desk), !has_two, "{row}");
    if retires {
        service.check_ended(row).await;
    }
}

/// Whether the strategy holds one value at a time.
fn stands_for_itself(desk: &Desk) -> bool {
    desk.has_strategy("in-place")
}

/// Two servers, one role at each: the second goes down before and after each of its effects.
#[tokio::test(flavor = "multi_thread")]
async fn kill_rotation_while_the_second_node_goes_down() {
    let (first, second) = (Postgres::start().await, Postgres::start().await);
    let nodes = format!("nodes = {{ a = {}, b = {} }}", first.url(), second.url());
    let prepared = Desk::with_servers(&IN_PLACE, &postgres_plan(&nodes));
    prepared.put("root", ROOT);
    let begin = |planted| {
        first.wire.begin(None);
        second.wire.begin(planted);
    };
    begin(None);
    prepared.copied().run(ROTATE).expect(0);
    let requests = second.wire.seen();
    assert_eq!(requests, ["ALTER ROLE", "COMMIT"]);
    for (at, request) in requests.iter().enumerate() {
        for (after, back) in [(false, false), (false, true), (true, false), (true, true)] {
            let when = if after { "after" } else { "before" };
            let then = if back { "RollBack" } else { "Resume" };
            let row = format!("second node down × rotate key × {when} {at:02} {request} × {then}");
            first.reset().await;
            second.reset().await;
            let desk = prepared.copied();
            begin(Some(Plant { fault: Fault::Down, at, after }));
            // It can be neither set nor brought back there: a person is needed.
            let ended = desk.run(ROTATE).expect(10);
            assert!(ended.stderr.contains("db (b)") || ended.stdout.contains("db (b)"), "{row}: {ended:?}");
            desk.run(ROTATE).expect(10);
            begin(None);
            let way: &[&str] =
                if back { &["rotate", "rollback", "key", "-y"] } else { &["rotate", "resume", "key"] };
            let ended = desk.run(way);
            assert_eq!(ended.code, Some(if back { 0 } else { 9 }), "{row}: {ended:?}");
            desk.check_old(&row);
            for node in [&first, &second] {
                assert_eq!(node.kept().await, node.verifier, "{row}");
                assert!(node.accepts(OLD).await, "{row}");
            }
            println!("{row}");
        }
    }
}
