//! No secret shows where nobody asked for it: commands at their most verbose, half of them on error paths, and every
//! place that they write to or that others can look at.

mod leaks;

use std::path::Path;
use std::process::Command;

use leaks::{Aviary, Canary, Needles, Terms};
use reseal_engine::postgres::{PostgresStore, PostgresTarget};
use reseal_engine::{Codecs, Engine, Job, RunId, RunOptions};
use reseal_formats::{Codec, ColumnType};
use reseal_sandbox::postgres::{Options, Server};
use reseal_sandbox::seal::Key;
use reseal_sandbox::values::Cell;
use reseal_tests::erring::{Broken, Erring};
use reseal_tests::scheme::{Scheme, Stored, key_text, run_key};
use serde_json::json;
use tempfile::TempDir;
use tokio_postgres::Client;

const PASSPHRASE: &str = "passphrase: käfig & finch 7";
const WRONG_PASSPHRASE: &str = "wrong passphrase: robin+wren 3";
const NEXT_PASSPHRASE: &str = "next passphrase: heron/stork 9";
const PASSWORD: &str = "password=lark&thrush%2F+4";
const NEXT_PASSWORD: &str = "password=dove?pigeon #5";
const TOKEN: &str = "token_EAAG_nightjar_0f3";
const FILE: &str = "-----BEGIN FILE-----\nsnow goose\n\"quoted\" file-end";
const NOTE: &str = "note: lives in the oak";
const OLD_KEY: &str = "old DB key: magpie~jackdaw";
const WRONG_KEY: &str = "wrong DB key: rook&raven";
const LOGIN: &str = "login of app: plover*8";
const WRONG_LOGIN: &str = "wrong login: avocet*9";
const PLAINTEXT: &str = "plaintext of the client: Mrs. Bunting";
const NOT_A_KEY: &str = "not a key: sandpiper 44";
const URL_PASSWORD: &str = "urlpassword-curlew-51";

fn canaries(key: &str) -> Vec<Canary> {
    let texts = [
        ("passphrase", PASSPHRASE),
        ("wrong passphrase", WRONG_PASSPHRASE),
        ("next passphrase", NEXT_PASSPHRASE),
        ("password", PASSWORD),
        ("next password", NEXT_PASSWORD),
        ("token", TOKEN),
        ("file", FILE),
        ("note", NOTE),
        ("old key", OLD_KEY),
        ("wrong key", WRONG_KEY),
        ("login", LOGIN),
        ("wrong login", WRONG_LOGIN),
        ("plaintext", PLAINTEXT),
        ("not a key", NOT_A_KEY),
        ("URL password", URL_PASSWORD),
        ("column key", key),
    ];
    texts.iter().map(|(name, text)| Canary { name, value: text.as_bytes().to_vec() }).collect()
}

/// Files with secrets that commands are given, outside of the directory that is searched.
struct Inputs(TempDir);

impl Inputs {
    fn new() -> Self {
        let inputs = Self(tempfile::tempdir().unwrap());
        let files = [
            ("passphrase", PASSPHRASE),
            ("wrong", WRONG_PASSPHRASE),
            ("next", NEXT_PASSPHRASE),
            ("password", PASSWORD),
            ("file", FILE),
        ];
        files.iter().for_each(|(name, text)| std::fs::write(inputs.0.path().join(name), text).unwrap());
        inputs
    }

    fn path(&self, name: &str) -> String {
        self.0.path().join(name).to_str().unwrap().to_owned()
    }
}

/// The commands of one vault.
struct Session {
    aviary: Aviary,
    inputs: Inputs,
}

impl Session {
    /// With the key file, which needs no derivation.
    #[track_caller]
    fn good(&mut self, arguments: &[&str], input: &str, shows: &[&str]) -> reseal_tests::command::Ended {
        self.with("key", arguments, Terms { input, shows, ..Terms::default() })
    }

    #[track_caller]
    fn bad(&mut self, arguments: &[&str], input: &str) {
        self.with("key", arguments, Terms { input, fails: true, ..Terms::default() });
    }

    #[track_caller]
    fn with(&mut self, key: &str, arguments: &[&str], terms: Terms<'_>) -> reseal_tests::command::Ended {
        let key = self.inputs.path(key);
        let all = [&["--no-input", "--key-file", &key], arguments].concat();
        self.aviary.reseal(&all, terms)
    }

    /// With a passphrase file.
    #[track_caller]
    fn by_passphrase(&mut self, file: &str, arguments: &[&str], fails: bool) {
        let file = self.inputs.path(file);
        let all = [&["--no-input", "--passphrase-file", &file], arguments].concat();
        self.aviary.reseal(&all, Terms { fails, ..Terms::default() });
    }
}

fn plan(url: &str) -> String {
    let columns = |name: &str, key: &str, server: &str| {
        format!(
            "[columns.{name}]\nserver = \"{server}\"\ntable = \"public.{name}\"\ncolumns = [\"a\"]\nkey = \"{key}\"\n\
             from = {{ format = \"pgcrypto\" }}\nto = {{ format = \"reseal\" }}\nonline = true\n\n\
             [secrets.\"{key}\"]\nstrategy = \"columns\"\n\n"
        )
    };
    let server = |name: &str, login: &str| {
        format!("[servers.{name}]\nkind = \"postgres\"\nurl = \"{url}\"\nlogin = \"secret:{login}\"\n\n")
    };
    [
        "schema = 1\nvault = \"crm.vault\"\nprefix = \"crm/\"\nenvironment = \"production\"\n\n".to_owned(),
        server("db", "login"),
        server("locked", "wrong-login"),
        columns("good", "key-good", "db"),
        columns("raising", "key-raising", "db"),
        columns("changing", "key-changing", "db"),
        columns("checked", "key-checked", "db"),
        columns("wrongly", "key-wrongly", "db"),
        columns("unreachable", "key-unreachable", "locked"),
    ]
    .concat()
}

/// Tables of values under the old key; some of them refuse what is written.
async fn load(client: &Client) {
    let scheme = Scheme {
        old: Stored::new(json!({ "format": "pgcrypto" }), OLD_KEY),
        column_type: ColumnType::Text,
        ..Scheme::pgcrypto_to_envelope()
    };
    let keys = scheme.two_keys(1);
    // The password of the role is set in a session that is not logged.
    let role =
        format!("SET log_statement = 'none'; CREATE ROLE app LOGIN PASSWORD '{LOGIN}'; RESET log_statement");
    client.batch_execute(&role).await.unwrap();
    client.batch_execute("GRANT CREATE ON DATABASE postgres TO app").await.unwrap();
    for table in ["good", "raising", "changing", "checked", "wrongly", "unreachable"] {
        let make =
            format!("CREATE TABLE {table} (id int8 PRIMARY KEY, a text); ALTER TABLE {table} OWNER TO app");
        client.batch_execute(&make).await.unwrap();
        for id in 1..=60_i64 {
            let value = keys.seal(Key::Old, Cell { id, column: 0 }, &format!("{PLAINTEXT} {id}"));
            let value = String::from_utf8(value).unwrap();
            client.execute(&format!("INSERT INTO {table} VALUES ($1, $2)"), &[&id, &value]).await.unwrap();
        }
    }
    let refusing = "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
            RAISE EXCEPTION 'refused: %', NEW.a USING DETAIL = NEW::text; END $$;
        CREATE TRIGGER refuse BEFORE UPDATE ON raising FOR EACH ROW EXECUTE FUNCTION refuse();
        CREATE FUNCTION change() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
            NEW.a := OLD.a; RETURN NEW; END $$;
        CREATE TRIGGER change BEFORE UPDATE ON changing FOR EACH ROW EXECUTE FUNCTION change();
        ALTER TABLE checked ADD CHECK (left(a, 3) = 'ww0')";
    client.batch_execute(refusing).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn canary_of_every_kind_in_no_place_but_where_it_was_asked_for() {
    let options = Options { listen_tcp: true, ..Options::default() }.set("log_statement", "all");
    let server = Server::start(options).unwrap_or_else(|error| panic!("{error}"));
    let client = server.connect().await.unwrap();
    load(&client).await;
    let column_key = key_text(0x5D);
    let mut needles = Needles::new(&canaries(&column_key));
    let new_key = key_text(0x5E);
    needles.add(&Canary { name: "new key", value: new_key.as_bytes().to_vec() });
    needles.add(&Canary { name: "new key bytes", value: b"^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^".to_vec() });
    needles.add(&Canary { name: "column key bytes", value: b"]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]".to_vec() });
    let desk = tempfile::tempdir().unwrap();
    let url = server.tcp_url().unwrap().replace("postgres@", "app@");
    std::fs::write(desk.path().join("reseal.toml"), plan(&url)).unwrap();
    let mut session = Session { aviary: Aviary::new(desk.path(), needles), inputs: Inputs::new() };

    planted_canaries_are_found(&session.aviary);
    let planted = server_log(&server).len();
    client.batch_execute(&format!("SELECT $planted${}$planted$", forms(&session.aviary))).await.unwrap();
    let found: Vec<String> = session.aviary.needles.search(&server_log(&server)[planted..], &[]).collect();
    for (name, form, _) in session.aviary.needles.all() {
        assert!(found.contains(&format!("{name} ({form})")), "a planted {name} as {form} is not in the log");
    }
    let from = server_log(&server).len();

    vault_commands(&mut session, &column_key);
    refused_vault_commands(&mut session);
    column_commands(&mut session, &new_key);

    let hits: Vec<String> = session.aviary.needles.search(&server_log(&server)[from..], &[]).collect();
    assert!(server_log(&server).len() > from + 10_000, "the server logs every statement");
    assert!(hits.is_empty(), "the server's log shows {hits:?}");
    let (runs, failures) = (session.aviary.runs, session.aviary.failures);
    println!("{runs} commands, {failures} of them on error paths");
    assert!(runs >= 60 && failures * 2 >= runs, "{runs} commands, {failures} failed");
}

/// What a person sees of an error, and what a log would.
#[tokio::test(flavor = "multi_thread")]
async fn canary_in_no_error_of_the_engine() {
    let server = Server::start(Options::default()).unwrap_or_else(|error| panic!("{error}"));
    let client = server.connect().await.unwrap();
    load(&client).await;
    let telling = format!(
        "CREATE OR REPLACE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
            RAISE EXCEPTION 'refused: {PLAINTEXT}' USING ERRCODE = '42501', HINT = '{PLAINTEXT}'; END $$;
         CREATE FUNCTION cast_it() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
            PERFORM '{PLAINTEXT}'::int; RETURN NEW; END $$;
         CREATE TABLE typed AS SELECT * FROM good; ALTER TABLE typed ADD PRIMARY KEY (id);
         CREATE TRIGGER cast_it BEFORE UPDATE ON typed FOR EACH ROW EXECUTE FUNCTION cast_it()"
    );
    client.batch_execute(&telling).await.unwrap();
    let needles = Needles::new(&canaries(&key_text(0x22)));
    let scheme = Scheme {
        old: Stored::new(json!({ "format": "pgcrypto" }), OLD_KEY),
        ..Scheme::pgcrypto_to_envelope()
    };
    let engine = |table: &str, scheme: &Scheme, broken: Option<Broken>| {
        // One run for each table.
        let run = RunId([table.len() as u8 ^ table.as_bytes()[0]; 16]);
        let plan = scheme.plan(run, "public", table, &["a"]);
        let job = match broken {
            None => scheme.job(plan),
            Some(broken) => {
                let from = scheme.old.codec(ColumnType::Text, scheme.id(0));
                let inner = scheme.new.codec(ColumnType::Text, scheme.id(0));
                let encoding = inner.encoding();
                let erring = Erring { inner, broken, at: format!("{PLAINTEXT} 7").into_bytes() };
                let to = Codec::new(Box::new(erring), encoding);
                Job::with_codecs(plan, vec![Codecs::new(from, to, false)], &run_key()).unwrap()
            }
        };
        let target = PostgresTarget::parse(&server.url(), None).unwrap();
        Engine::new(PostgresStore::new(target), job, RunOptions::default())
    };
    let wrong = Scheme { old: Stored::new(json!({ "format": "pgcrypto" }), WRONG_KEY), ..scheme.clone() };
    for (table, scheme, broken) in [
        ("good", &scheme, Some(Broken::Damages)),
        ("wrongly", &scheme, Some(Broken::SealsAnotherValue)),
        ("unreachable", &wrong, None),
        ("raising", &scheme, None),
        ("typed", &scheme, None),
        ("changing", &scheme, None),
        ("checked", &scheme, None),
        ("not_there", &scheme, None),
    ] {
        let error = engine(table, scheme, broken).run().await.unwrap_err();
        let shown = format!("{error} {error:?}");
        println!("{table}: {error}");
        let hits: Vec<String> = needles.search(shown.as_bytes(), &[]).collect();
        assert!(hits.is_empty(), "{table}: {hits:?} in {shown}");
    }
}

/// The log as it was meant: the server puts a tab behind each line end in a statement.
fn server_log(server: &Server) -> Vec<u8> {
    let mut log = std::fs::read(server.log_path()).unwrap();
    let after_line_end: Vec<bool> =
        (0..log.len()).map(|index| index > 0 && log[index - 1] == b'\n' && log[index] == b'\t').collect();
    let mut added = after_line_end.into_iter();
    log.retain(|_| !added.next().unwrap());
    log
}

/// Every form of every canary, in every kind of place that is searched.
fn planted_canaries_are_found(aviary: &Aviary) {
    let text = forms(aviary);
    let script = "printf %s \"$1\"; printf %s \"$1\" >&2
        for file in stays tmp/goes planted.vault planted.vault-journal; do printf %s \"$1\" > $file; done
        sh -c 'sleep 0.2' child \"$1\"; rm tmp/goes planted.vault-journal";
    let mut command = Command::new("sh");
    command.args(["-c", script, "sh", &text]).env("PLANTED", &text);
    let (_, hits) = aviary.run(command, Terms::default());
    let places = [
        "on stdout",
        "on stderr",
        "in cmdline of",
        "in environ of",
        "/stays",
        "/tmp/goes",
        "/planted.vault",
        "/planted.vault-journal",
    ];
    for (name, form, _) in aviary.needles.all() {
        for place in places {
            let expected = format!("{name} ({form}) ");
            let found = hits.iter().any(|hit| hit.starts_with(&expected) && hit.contains(place));
            assert!(found, "a planted {name} as {form} is not found {place}");
        }
    }
    for file in ["stays", "planted.vault"] {
        std::fs::remove_file(aviary.directory.join(file)).unwrap();
    }
}

/// Every form of every canary, a line each.
fn forms(aviary: &Aviary) -> String {
    let forms = aviary.needles.all().map(|form| String::from_utf8(form.2.to_vec()).unwrap());
    forms.collect::<Vec<_>>().join("\n")
}

fn vault_commands(session: &mut Session, column_key: &str) {
    let recovery = session.inputs.path("recovery");
    session.by_passphrase(
        "passphrase",
        &["init", "--kdf-memory", "64", "--recovery-code-file", &recovery],
        false,
    );
    let code = std::fs::read(&recovery).unwrap();
    session.aviary.needles.add(&Canary { name: "recovery code", value: code.trim_ascii().to_vec() });
    let key = session.inputs.path("key");
    session.by_passphrase("passphrase", &["key", "add", "--name", "ops", "--new-key-file", &key], false);
    session
        .aviary
        .needles
        .add(&Canary { name: "key file", value: std::fs::read(&key).unwrap().trim_ascii().to_vec() });

    let (password, file, out) =
        (session.inputs.path("password"), session.inputs.path("file"), session.inputs.path("out"));
    session.good(&["put", "crm/password", "--value-file", &password], "", &[]);
    session.good(&["put", "crm/token", "-", "--kind", "token"], TOKEN, &[]);
    session.with(
        "key",
        &["put", "crm/file", "--value-file", &file, "--kind", "file", "--note", NOTE],
        Terms { given: &["note"], ..Terms::default() },
    );
    session.good(&["put", "crm/column", "-", "--kind", "key"], column_key, &[]);
    session.good(&["put", "crm/password", "-"], NEXT_PASSWORD, &[]);
    session.good(&["get", "crm/password"], "", &["next password"]);
    session.good(&["get", "crm/password", "--version", "1"], "", &["password"]);
    session.good(&["get", "crm/password", "--json"], "", &[]);
    session.good(&["get", "crm/token", "--json", "--reveal"], "", &["token"]);
    session.good(&["get", "crm/file", "--output", &out], "", &[]);
    session.good(&["list"], "", &[]);
    session.good(&["list", "--json"], "", &["note"]);
    session.good(&["show", "crm/password", "--json"], "", &[]);
    session.good(&["show", "crm/file"], "", &["note"]);
    session.good(&["history", "crm/password"], "", &[]);
    session.good(&["export", "--json"], "", &[]);
    let shown = ["next password", "token", "file", "column key", "column key bytes"];
    session.good(&["export", "--format", "shell"], "", &shown);
    session.good(&["revert", "crm/password", "--to", "1"], "", &[]);
    session.good(&["generate", "crm/made"], "", &[]);
    session.good(&["backup", "create", "copy.vault"], "", &[]);
    session.good(&["backup", "verify", "copy.vault"], "", &[]);
    session.good(&["audit", "log", "--json"], "", &[]);
    session.good(&["audit", "verify"], "", &[]);
    let command = format!("cat '{}'", session.inputs.path("passphrase"));
    session.aviary.reseal(&["--passphrase-command", &command, "key", "list"], Terms::default());
    session.by_passphrase("passphrase", &["unlock"], false);
    session.aviary.reseal(&["get", "crm/token"], Terms { shows: &["token"], ..Terms::default() });
    session.aviary.reseal(&["lock"], Terms::default());
    let next = session.inputs.path("next");
    session.by_passphrase("passphrase", &["key", "passwd", "--new-passphrase-file", &next], false);
}

fn refused_vault_commands(session: &mut Session) {
    for arguments in [
        &["get", "crm/password"][..],
        &["list"],
        &["export"],
        &["put", "crm/password", "--value-file", "reseal.toml"],
        &["backup", "create", "other.vault"],
        &["audit", "log"],
        &["reencrypt", "plan"],
    ] {
        session.by_passphrase("wrong", arguments, true);
    }
    session.by_passphrase("passphrase", &["get", "crm/password"], true);
    let (file, out) = (session.inputs.path("file"), session.inputs.path("out"));
    let terms = Terms { fails: true, ..Terms::default() };
    // A password is no key file.
    for arguments in
        [["get", "crm/password"], ["show", "crm/password"], ["history", "crm/file"], ["audit", "verify"]]
    {
        session.with("password", &arguments, terms);
    }
    session.bad(&["put", "crm/column", "-", "--kind", "key"], NOT_A_KEY);
    session.bad(&["put", "crm/password", "-", "--create-only"], PASSWORD);
    session.bad(&["put", "crm/password", "-", "--if-version", "99"], PASSWORD);
    session.bad(&["put", "crm/password", "-", "--expires", "tomorrow"], PASSWORD);
    session.bad(&["put", "a name with spaces", "-"], PASSWORD);
    let given = Terms { given: &["password"], ..terms };
    session.with("key", &["put", "crm/password", PASSWORD], given);
    session.bad(&["put", "crm/password", "-", "--changed-at", "yesterday"], PASSWORD);
    session.bad(&["generate", "crm/password", "--create-only"], "");
    session.bad(&["get", "crm/nothing"], "");
    session.bad(&["get", "crm/password", "--version", "99"], "");
    session.bad(&["get", "crm/password", "--label", "pending"], "");
    session.bad(&["get", "crm/file", "--output", &out], "");
    session.bad(&["export", "--format", "docker"], "");
    session.bad(&["revert", "crm/password", "--to", "99"], "");
    session.bad(&["history", "crm/nothing"], "");
    session.bad(&["backup", "create", "copy.vault"], "");
    session.bad(&["backup", "verify", &file], "");
    session.bad(&["backup", "restore", "copy.vault"], "");
    session.bad(&["--vault", &file, "list"], "");
    let failing = format!("cat '{}'; exit 3", session.inputs.path("passphrase"));
    session.aviary.reseal(&["--passphrase-command", &failing, "list"], terms);
    let url = format!("postgresql://u:{URL_PASSWORD}@127.0.0.1:1/x");
    let given = Terms { given: &["URL password"], ..terms };
    session.aviary.reseal(&["demo", "--postgres", &url], given);
    for (name, line) in [
        ("url.toml", format!("schema = 1\n[servers.x]\nkind = \"postgres\"\nurl = \"{url}\"\n")),
        ("field.toml", format!("schema = 1\npassword = \"{PASSWORD}\"\n")),
        ("syntax.toml", format!("schema = 1\nprefix = \"{TOKEN}\n")),
    ] {
        std::fs::write(session.inputs.path(name), line).unwrap();
        let config = session.inputs.path(name);
        session.bad(&["--config", &config, "reencrypt", "plan"], "");
    }
}

fn column_commands(session: &mut Session, new_key: &str) {
    session.good(&["put", "crm/login", "-"], LOGIN, &[]);
    session.good(&["put", "crm/wrong-login", "-"], WRONG_LOGIN, &[]);
    for name in ["good", "raising", "changing", "checked", "unreachable", "wrongly"] {
        let key = if name == "wrongly" { WRONG_KEY } else { OLD_KEY };
        let secret = format!("crm/key-{name}");
        session.good(&["put", &secret, "-"], key, &[]);
    }
    session.bad(&["reencrypt", "run", "good", "-y"], "");
    session.good(&["put", "crm/key-good", "-", "--pending", "--kind", "key"], new_key, &[]);
    for name in ["raising", "changing", "checked", "unreachable", "wrongly"] {
        session.good(&["generate", &format!("crm/key-{name}"), "--pending", "--kind", "key"], "", &[]);
    }
    session.bad(&["reencrypt", "resume", "good"], "");
    session.bad(&["reencrypt", "rollback", "good", "-y"], "");
    session.bad(&["reencrypt", "run", "good", "-y"], "");
    let waived = ["-y", "--no-backup", "a test"];
    for name in ["raising", "changing", "checked", "unreachable", "wrongly"] {
        session.bad(&[&["reencrypt", "run", name], &waived[..]].concat(), "");
    }
    session.bad(&["reencrypt", "plan", "wrongly"], "");
    session.bad(&["reencrypt", "plan", "unreachable", "--json"], "");
    session.bad(&["reencrypt", "verify", "unreachable"], "");
    session.bad(&["reencrypt", "plan", "nothing"], "");
    session.good(&["reencrypt", "plan", "good"], "", &[]);
    session.good(&[&["reencrypt", "run", "good"], &waived[..]].concat(), "", &[]);
    session.good(&["reencrypt", "status", "good", "--json"], "", &[]);
    session.good(&["reencrypt", "verify", "good"], "", &[]);
    session.good(&["reencrypt", "rollback", "good", "-y", "--json"], "", &[]);
    assert!(Path::new(&session.aviary.directory).join("crm.vault").exists());
}
