//! The key of encrypted columns rotates by the real command, with applications that stand still and with applications
//! that know two keys. It is killed before and after its side effects, at the database, in files, at applications and in
//! the vault, and goes on or goes back: files, applications, values and the vault are always of one mind.

use std::collections::BTreeSet;
use std::os::unix::process::ExitStatusExt;

use reseal_sandbox::postgres::{Options, Server};
use tokio_postgres::Client;

use crate::kill_rotation_desk::{Case, Desk, Effect, Killed, OLD, Traced, Way};
use crate::kill_rotation_wire::{Fault, Plant, Protocol, Wire};

const ROWS: i64 = 40;
const PASSWORD: &str = "app-of-the-tests-0123";

const ROTATE: &[&str] = &["rotate", "key", "--no-backup", "a test"];
const RETIRE: &[&str] = &["rotate", "retire", "key", "-y"];

/// Everything that the engine asks of the database to be changed: its account, and the rows.
const AT_DATABASE: [&str; 6] =
    ["COMMIT", "CREATE SCHEMA", "INSERT INTO", "UPDATE ONLY", "UPDATE RESEAL.RUN", "UPDATE RESEAL.SPAN"];

const OFFLINE: Case = Case {
    name: "columns, applications stopped",
    secret: r#"strategy = "columns"
record_as = "key"
write = [{ file = "a.env", var = "KEY" }, { file = "b.env", var = "KEY" }]"#,
    change: &[("a.env", 1), ("b.env", 1), ("stop", 2), ("start", 2)],
    retire: &[],
};

const ONLINE: Case = Case {
    name: "columns, applications that know two keys",
    secret: r#"strategy = "columns"
record_as = "key"
write = [
  { file = "a.env", var = "KEY" },
  { file = "b.env", var = "KEY" },
  { file = "b.env", var = "KEY_NEXT", holds = "pending" },
  { file = "b.env", var = "KEY_OLD", holds = "previous" },
]"#,
    change: &[("a.env", 1), ("b.env", 2), ("restart", 3)],
    retire: &[("b.env", 1), ("restart", 1)],
};

/// A table with one encrypted column, and what its values say.
struct Database {
    _server: Server,
    root: Client,
    wire: Wire,
}

impl Database {
    async fn start() -> Self {
        let options = Options { listen_tcp: true, durable: false, ..Options::default() };
        let server = Server::start(options).expect("a private Postgres (package postgresql)");
        let root = reseal_tests::scene::connect(&server.config()).await;
        let made = format!(
            "CREATE ROLE app LOGIN PASSWORD '{PASSWORD}';
             GRANT CREATE ON DATABASE postgres TO app;
             CREATE EXTENSION pgcrypto;
             CREATE TABLE t (id bigint PRIMARY KEY, said text NOT NULL, value text);
             CREATE TABLE before AS SELECT id, 'said ' || id AS said,
                 encode(pgp_sym_encrypt('said ' || id, '{OLD}'), 'base64') AS value FROM generate_series(1, {ROWS}) id;
             CREATE TABLE rotations (credential_type text, rotated_by text, rotation_reason text,
                 next_rotation_due timestamptz, rotated_at timestamptz);
             ALTER TABLE t OWNER TO app; ALTER TABLE rotations OWNER TO app;
             CREATE FUNCTION says(value text, key text) RETURNS text LANGUAGE plpgsql AS $$
             BEGIN
                 RETURN pgp_sym_decrypt(decode(value, 'base64'), key);
             EXCEPTION WHEN external_routine_invocation_exception THEN RETURN NULL;
             END $$"
        );
        root.batch_execute(&made).await.expect("a superuser may");
        let wire = Wire::to(Protocol::Postgres, server.tcp_port().expect("it listens"));
        Self { _server: server, root, wire }
    }

    fn plan(&self, online: bool) -> String {
        format!(
            "[servers.db]\nkind = \"postgres\"\nurl = \"postgresql://app@127.0.0.1:{}/postgres\"\n\
             login = \"secret:db\"\n[secrets.db]\nstrategy = \"paste\"\n\
             [records]\nserver = \"db\"\ntable = \"rotations\"\n\
             [columns.values]\nserver = \"db\"\ntable = \"t\"\ncolumns = [\"value\"]\nkey = \"key\"\n\
             from = {{ format = \"pgcrypto\", encoding = \"base64\" }}\nonline = {online}\nlimits = {{ workers = 1 }}\n",
            self.wire.port()
        )
    }

    async fn reset(&self) {
        self.wire.begin(None);
        // The sessions of a command that was killed may not have ended yet.
        let reset = "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE usename = 'app';
            DROP SCHEMA IF EXISTS reseal CASCADE; TRUNCATE t, rotations; INSERT INTO t SELECT * FROM before";
        self.root.batch_execute(reset).await.expect("a superuser may");
    }

    /// How many values say under this key what they should.
    async fn under(&self, key: &str) -> i64 {
        let query = "SELECT count(*) FROM t WHERE says(value, $1) = said";
        self.root.query_one(query, &[&key]).await.expect("a superuser may").get(0)
    }

    async fn recorded(&self) -> i64 {
        let query = "SELECT count(*) FROM rotations WHERE credential_type = 'key'";
        self.root.query_one(query, &[]).await.expect("a superuser may").get(0)
    }
}

/// A place to kill the command at.
#[derive(Clone, Copy)]
enum Point<'a> {
    /// A request on the wire.
    Request(usize, &'a str),
    /// A call that was traced.
    Call(usize, &'a Traced),
}

#[tokio::test(flavor = "multi_thread")]
async fn kill_rotation_of_a_key_while_applications_are_stopped() {
    let database = Database::start().await;
    let prepared = Desk::with_way(&OFFLINE, &database.plan(false), Way::StopStart);
    prepared.put("db", PASSWORD);
    let rows = kill_everywhere(&OFFLINE, &prepared, &database, ROTATE).await;
    println!("{rows} rows");
    assert!(rows >= 60, "{rows} rows");
}

#[tokio::test(flavor = "multi_thread")]
async fn kill_rotation_of_a_key_that_applications_know_beside_the_old_one() {
    let database = Database::start().await;
    let prepared = Desk::with_way(&ONLINE, &database.plan(true), Way::Restart);
    prepared.put("db", PASSWORD);
    let rows = kill_everywhere(&ONLINE, &prepared, &database, ROTATE).await
        + kill_everywhere(&ONLINE, &prepared, &database, RETIRE).await;
    println!("{rows} rows");
    assert!(rows >= 80, "{rows} rows");
}

/// Until the new key exists twice nothing may change outside, and a copy that was broken off is no copy.
#[tokio::test(flavor = "multi_thread")]
async fn kill_rotation_while_the_vault_is_copied() {
    const COPIES: &[&str] = &["rotate", "key", "--backup", "copy.vault"];
    let database = Database::start().await;
    let prepared = Desk::with_way(&OFFLINE, &database.plan(false), Way::StopStart);
    prepared.put("db", PASSWORD);
    let desk = ready(&prepared, &database, false).await;
    let effects = desk.count(COPIES);
    let first_stop = effects.iter().position(|traced| traced.effect == Effect::Starts("stop".into()));
    for at in 0..first_stop.expect("applications stop") {
        for after in [false, true] {
            let row = format!("vault copied × {at:02} {} × after {after}", effects[at].effect);
            let desk = ready(&prepared, &database, false).await;
            assert_eq!(desk.kill(COPIES, &effects, at, after), Killed, "{row}");
            assert_eq!(database.under(OLD).await, ROWS, "{row}");
            let goes_on: &[&str] =
                if desk.rotation().is_some() { &["rotate", "resume", "key"] } else { COPIES };
            desk.run(goes_on).expect(0);
            desk.check_new(&row);
            assert_eq!(database.under(&desk.current()).await, ROWS, "{row}");
            println!("{row}");
        }
    }
}

/// Kills the command and goes on and goes back; returns how often.
async fn kill_everywhere(case: &Case, prepared: &Desk, database: &Database, arguments: &[&str]) -> usize {
    let retires = arguments == RETIRE;
    let desk = ready(prepared, database, retires).await;
    let effects = desk.count(arguments);
    case.check_counted(&effects, if retires { case.retire } else { case.change });
    let requests = database.wire.seen();
    let counted: BTreeSet<&str> = requests.iter().map(String::as_str).collect();
    let expected = if retires { BTreeSet::new() } else { AT_DATABASE.into() };
    assert_eq!(counted, expected, "{}", case.name);
    let mut rows = BTreeSet::new();
    for point in points(&requests, &effects) {
        for (after, back) in [(false, false), (false, true), (true, false), (true, true)] {
            let at = match point {
                Point::Request(at, request) => format!("{at:02} {request}"),
                Point::Call(at, traced) => format!("{at:02} {}", traced.effect),
            };
            let when = if after { "after" } else { "before" };
            let then = if back { "RollBack" } else { "Resume" };
            let row = format!("{} × {} × {when} {at} × {then}", case.name, arguments[1..2].join(" "));
            let desk = ready(prepared, database, retires).await;
            match point {
                Point::Request(at, _) => {
                    database.wire.begin(Some(Plant { fault: Fault::Kill, at, after }));
                    let mut child = desk.start(arguments);
                    database.wire.aim(child.id());
                    assert_eq!(child.wait().expect("it ends").signal(), Some(9), "{row}");
                }
                Point::Call(at, _) => {
                    database.wire.begin(None);
                    assert_eq!(desk.kill(arguments, &effects, at, after), Killed, "{row}");
                }
            }
            database.wire.begin(None);
            check(&desk, database, (retires, back), &row).await;
            println!("{row}");
            assert!(rows.insert(row));
        }
    }
    rows.len()
}

/// Every effect on files and applications, the first and the last of each kind at the database, and every third
/// transaction of the vault: what lies between two of those is the same for every strategy.
fn points<'a>(requests: &'a [String], effects: &'a [Traced]) -> Vec<Point<'a>> {
    let at_ends = |at: &usize| {
        let same = |other: &usize| requests[*other] == requests[*at];
        (0..requests.len()).find(same) == Some(*at) || (0..requests.len()).rfind(same) == Some(*at)
    };
    let requested = (0..requests.len()).filter(at_ends).map(|at| Point::Request(at, &requests[at]));
    let mut commits = 0;
    let traced = effects.iter().enumerate().filter(|(_, traced)| {
        commits += usize::from(traced.effect == Effect::Commits);
        traced.effect != Effect::Commits || commits % 3 == 1
    });
    requested.chain(traced.map(|(at, traced)| Point::Call(at, traced))).collect()
}

async fn ready(prepared: &Desk, database: &Database, retires: bool) -> Desk {
    database.reset().await;
    let desk = prepared.copied();
    if retires {
        desk.run(ROTATE).expect(0);
        database.wire.begin(None);
    }
    desk
}

async fn check(desk: &Desk, database: &Database, (retires, back): (bool, bool), row: &str) {
    let stands = desk.rotation();
    let is_over = retires && stands.as_deref() == Some("done");
    match (back, is_over, stands.is_some()) {
        (true, false, true) => drop(desk.run(&["rotate", "rollback", "key", "-y"]).expect(0)),
        (false, false, true) if retires => drop(desk.run(RETIRE).expect(0)),
        (false, false, true) => drop(desk.run(&["rotate", "resume", "key"]).expect(0)),
        (false, false, false) => drop(desk.run(ROTATE).expect(0)),
        _ => {}
    }
    let run = desk.run(&["reencrypt", "status", "--json"]).expect(0).json()["columns"][0].clone();
    let (way, state) = (run["direction"].as_str(), run["state"].as_str());
    if back && !is_over {
        desk.check_old(row);
        assert_eq!((database.under(OLD).await, database.recorded().await), (ROWS, 0), "{row}");
        let is_back =
            matches!((way, state), (Some("rollback"), Some("done")) | (_, Some("rolled-back") | None));
        assert!(is_back, "{row}: {run}");
        return;
    }
    if retires {
        desk.check_retired(row);
    } else {
        desk.check_new(row);
    }
    assert_eq!((database.under(&desk.current()).await, database.recorded().await), (ROWS, 1), "{row}");
    assert_eq!((way, state), (Some("forward"), Some("done")), "{row}");
}
