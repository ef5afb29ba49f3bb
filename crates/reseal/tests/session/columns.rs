//! `reencrypt` by plan file, on a SQLite database of an application.

use std::sync::Arc;

use reseal_crypto::{ColumnId, ColumnKey, KeyMaterial, SecretBytes};
use reseal_formats::{ColumnType, FormatSpec};
use reseal_sandbox::codec::{CodecSealer, ColumnCodecs};
use reseal_sandbox::stage::{SqliteStage, Stage};
use rusqlite::Connection;
use serde_json::Value;

use super::Session;

pub(crate) const TABLE: &str = "crm_client_preferences";
pub(crate) const OLD_KEY: &str = "the old passphrase";

/// A session with a plan, an old and a pending key, and 200 rows under the old one.
pub(crate) struct Columns {
    pub(crate) session: Session,
    pub(crate) database: Connection,
    _stage: SqliteStage,
}

impl Columns {
    pub(crate) fn new() -> Self {
        let session = Session::new();
        let mut stage = SqliteStage::private().unwrap();
        let spec: FormatSpec = serde_json::from_str(r#"{"format":"pgcrypto","encoding":"base64"}"#).unwrap();
        let old = KeyMaterial::Foreign(SecretBytes::copy_from(OLD_KEY.as_bytes()));
        // The application of this test never writes under the new key.
        let new = KeyMaterial::Column(ColumnKey::from_bytes(&[1; 32]));
        let codec = |key| spec.codec(ColumnType::Text, key, ColumnId([0; 16])).unwrap();
        let column = || ColumnCodecs { old: codec(&old), new: codec(&new) };
        let sealer = Arc::new(CodecSealer::new([column(), column(), column()]));
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(stage.load(200, OLD_KEY, sealer)).unwrap();
        let server = stage.plan_names().server;
        let path = server.split('"').nth(3).unwrap().to_owned();
        let plan = format!(
            "schema = 1\nprefix = \"crm/\"\n[servers.db]\n{server}\n[secrets.\"db-key\"]\nstrategy = \"columns\"\n\
             [columns.prefs]\nserver = \"db\"\ntable = \"{TABLE}\"\nkey = \"db-key\"\n\
             columns = [\"email_encrypted\", \"phone_number_encrypted\", \"full_name_encrypted\"]\n\
             from = {{ format = \"pgcrypto\", encoding = \"base64\" }}\nto = {{ format = \"reseal\" }}\n"
        );
        std::fs::write(session.path("reseal.toml"), plan).unwrap();
        session.feed(&["put", "crm/db-key", "-"], OLD_KEY.as_bytes()).done();
        Self { session, database: Connection::open(path).unwrap(), _stage: stage }
    }

    /// With the new key pending, and backed up.
    pub(crate) fn ready() -> Self {
        let columns = Self::new();
        columns.session.run(&["generate", "crm/db-key", "--kind", "key", "--pending"]).done();
        columns.session.run(&["backup", "create", "b.vault"]).done();
        columns
    }

    /// With the third column as columns of their own, `names`, under the same key.
    pub(crate) fn two() -> Self {
        let columns = Self::ready();
        let path = columns.session.path("reseal.toml");
        let plan = std::fs::read_to_string(&path).unwrap().replace(", \"full_name_encrypted\"", "");
        let second = plan[plan.find("[columns.prefs]").unwrap()..].replace("prefs", "names");
        let (start, end) = (second.find("columns = ").unwrap(), second.find("from = ").unwrap());
        let second = format!("{}columns = [\"full_name_encrypted\"]\n{}", &second[..start], &second[end..]);
        std::fs::write(path, format!("{plan}{second}")).unwrap();
        columns
    }

    pub(crate) fn run_object(&self, code: i32) -> Value {
        let ended = self.session.run(&["--json", "reencrypt", "run", "-y"]).code(code);
        serde_json::from_str::<Value>(&ended.stdout).unwrap()["runs"][0].take()
    }

    pub(crate) fn email(&self, id: i64) -> String {
        self.stored("email_encrypted", id)
    }

    pub(crate) fn set_email(&self, id: i64, stored: &str) {
        self.set("email_encrypted", id, stored);
    }

    pub(crate) fn name(&self, id: i64) -> String {
        self.stored("full_name_encrypted", id)
    }

    pub(crate) fn set_name(&self, id: i64, stored: &str) {
        self.set("full_name_encrypted", id, stored);
    }

    fn stored(&self, column: &str, id: i64) -> String {
        let statement = format!("SELECT {column} FROM {TABLE} WHERE id = ?1");
        self.database.query_row(&statement, [id], |row| row.get(0)).unwrap()
    }

    fn set(&self, column: &str, id: i64, stored: &str) {
        let statement = format!("UPDATE {TABLE} SET {column} = ?1, version = version + 1 WHERE id = ?2");
        assert_eq!(self.database.execute(&statement, (stored, id)).unwrap(), 1);
    }
}

#[test]
fn a_run_goes_from_plan_to_proof() {
    let columns = Columns::ready();
    let session = &columns.session;
    let plan = session.json(&["reencrypt", "plan"]);
    assert_eq!(plan["columns"][0]["census"][0]["from"], "pgcrypto");
    assert_eq!(plan["columns"][0]["refusals"], serde_json::json!([]));
    let before = columns.email(5);
    let run = columns.run_object(0);
    assert_eq!(
        (&run["rewritten"], &run["quarantined"], &run["old_left"]),
        (&600.into(), &0.into(), &0.into())
    );
    assert_eq!(run["labels_moved"], true);
    assert_ne!(columns.email(5), before);
    assert!(columns.email(5).starts_with("rs1."));
    let labels = session.json(&["show", "crm/db-key"]);
    assert_eq!((&labels["current"], &labels["previous"]), (&2.into(), &1.into()));
    let verified = session.json(&["reencrypt", "verify"]);
    assert_eq!(verified["columns"][0]["new"], 600);
    assert_eq!(verified["columns"][0]["same_plaintexts_as_run"], true);
    assert_eq!(session.json(&["reencrypt", "status"])["columns"][0]["state"], "done");
}

#[test]
fn a_rollback_brings_the_old_key_back() {
    let columns = Columns::ready();
    columns.run_object(0);
    columns.session.run(&["reencrypt", "rollback", "-y"]).done();
    assert!(!columns.email(5).starts_with("rs1."));
    let key = columns.session.run(&["get", "crm/db-key"]).done().stdout;
    assert_eq!(key, OLD_KEY);
    let status = columns.session.json(&["reencrypt", "status"]);
    assert_eq!(status["columns"][0]["direction"], "rollback");
}

#[test]
fn a_key_that_nothing_is_under_any_more_is_not_missed() {
    let columns = Columns::ready();
    let session = &columns.session;
    columns.run_object(0);
    session.run(&["reencrypt", "rollback", "-y"]).done();
    // What is current now is a copy of the first version.
    session.run(&["destroy", "crm/db-key", "--version", "1", "-y", "--reason", "unused"]).done();
    assert!(session.run(&["reencrypt", "verify"]).done().stdout.contains("200 rows read"));
    assert!(session.run(&["reencrypt", "status"]).done().stdout.contains("rollback"));

    let columns = Columns::ready();
    let session = &columns.session;
    columns.run_object(0);
    session.run(&["destroy", "crm/db-key", "--version", "1", "-y", "--reason", "nothing is under it"]).done();
    let verified = session.json(&["reencrypt", "verify"]);
    assert_eq!(
        (&verified["columns"][0]["new"], &verified["columns"][0]["unopened"]),
        (&600.into(), &0.into())
    );
}

#[test]
fn nothing_begins_without_a_new_key_or_its_second_copy() {
    let columns = Columns::new();
    let session = &columns.session;
    let plan = session.run(&["reencrypt", "plan"]).done().stdout;
    assert!(plan.contains("reseal generate crm/db-key --kind key --pending"), "{plan}");
    session
        .run(&["reencrypt", "run", "-y"])
        .code(8)
        .says("no pending version")
        .says("reseal generate crm/db-key");
    session.run(&["generate", "crm/db-key", "--kind", "key", "--pending"]).done();
    session.run(&["reencrypt", "run", "-y"]).code(8).says("is in no backup").says("--no-backup");
    assert!(!columns.email(5).starts_with("rs1."));
    // Refused before anyone is asked.
    session.run(&["reencrypt", "run"]).code(8).says("is in no backup");
    session.run(&["reencrypt", "run", "--no-backup", "a test"]).code(8).says("not confirmed");
    session.run(&["reencrypt", "run", "-y", "--no-backup", "a test"]).done();
    let log = session.json(&["audit", "log"]).to_string();
    assert!(log.contains("backup waived") && log.contains("a test"), "{log}");
}

#[test]
fn the_old_key_is_not_a_new_one() {
    let columns = Columns::new();
    let session = &columns.session;
    let path = session.path("reseal.toml");
    let plan = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, plan.replace("to = { format = \"reseal\" }\n", "")).unwrap();
    session.feed(&["put", "crm/db-key", "-", "--pending"], OLD_KEY.as_bytes()).done();
    session.run(&["reencrypt", "plan"]).code(8).says("are the same key");
    session.run(&["discard", "crm/db-key"]).done();
    session.feed(&["put", "crm/db-key", "-", "--pending"], b"another passphrase").done();
    session.run(&["reencrypt", "plan"]).done();
}

#[test]
fn a_backup_made_before_the_key_does_not_count() {
    let columns = Columns::new();
    columns.session.run(&["backup", "create", "early.vault"]).done();
    columns.session.run(&["generate", "crm/db-key", "--kind", "key", "--pending"]).done();
    columns.session.run(&["reencrypt", "run", "-y"]).code(8).says("is in no backup");
}

#[test]
fn values_that_do_not_open_are_quarantined_untouched() {
    let columns = Columns::ready();
    columns.set_email(7, "not a ciphertext");
    let run = columns.run_object(12);
    assert_eq!((&run["rewritten"], &run["quarantined"]), (&599.into(), &1.into()));
    assert_eq!(columns.email(7), "not a ciphertext");
    columns.session.run(&["reencrypt", "verify"]).code(12);
}

#[test]
fn an_old_value_after_the_run_needs_attention() {
    let columns = Columns::ready();
    let old = columns.email(9);
    columns.run_object(0);
    columns.set_email(9, &old);
    columns.session.run(&["reencrypt", "verify"]).code(10);
}

#[test]
fn the_wrong_key_is_refused_before_anything_is_written() {
    let columns = Columns::ready();
    let before = columns.email(5);
    columns
        .session
        .feed(&["put", "crm/db-key", "-", "--kind", "password"], b"another passphrase")
        .code(8)
        .says("is managed by the plan");
    columns
        .session
        .feed(&["put", "crm/db-key", "-", "--kind", "password", "--vault-only"], b"another passphrase")
        .done();
    columns.session.run(&["reencrypt", "plan"]).code(8);
    columns.session.run(&["reencrypt", "run", "-y"]).code(8).says("open under the keys of the plan");
    assert_eq!(columns.email(5), before);
}

#[test]
fn a_server_that_is_not_there_is_named() {
    let columns = Columns::ready();
    let plan = std::fs::read_to_string(columns.session.path("reseal.toml")).unwrap();
    let start = plan.find("kind = ").unwrap();
    let end = plan.find("[secrets").unwrap();
    let server = "kind = \"postgres\"\nurl = \"postgresql://nobody@127.0.0.1:1/none\"\n";
    std::fs::write(
        columns.session.path("reseal.toml"),
        format!("{}{server}{}", &plan[..start], &plan[end..]),
    )
    .unwrap();
    let ended = columns.session.run(&["reencrypt", "plan"]).code(1);
    let ended = ended
        .says("cannot plan `prefs` on server `db`")
        .says("at 127.0.0.1:1 (database none, role nobody): ");
    // Nothing was begun.
    assert!(!ended.stderr.contains("state"), "{}", ended.stderr);
}

#[test]
fn a_trigger_that_raises_names_its_table_and_the_way_back() {
    let columns = Columns::ready();
    let before = columns.email(150);
    let raises = format!(
        "CREATE TRIGGER no BEFORE UPDATE ON {TABLE} WHEN NEW.id = 150 BEGIN SELECT raise(ABORT, OLD.id); END"
    );
    columns.database.execute_batch(&raises).unwrap();
    let session = &columns.session;
    session
        .run(&["reencrypt", "run", "-y"])
        .code(1)
        .says(&format!("of main.{TABLE}: a trigger of the table raised an error"))
        .says("nothing of this batch was written")
        .says("`reseal reencrypt rollback prefs`");
    assert_eq!(columns.email(150), before);
    columns.database.execute_batch("DROP TRIGGER no").unwrap();
    session.run(&["reencrypt", "rollback", "-y"]).done();
    session.run(&["reencrypt", "rollback", "-y"]).code(3).says("cannot take back `prefs`");
}

#[test]
fn what_this_version_does_not_do_is_not_passed_over() {
    let columns = Columns::ready();
    let plan = std::fs::read_to_string(columns.session.path("reseal.toml")).unwrap();
    let with = plan.replace("key = \"db-key\"\n", "key = \"db-key\"\ncompanions = [\"email_index\"]\n");
    std::fs::write(columns.session.path("reseal.toml"), with).unwrap();
    columns.session.run(&["reencrypt", "run", "-y"]).code(8).says("ask for `companions`");
}

#[test]
fn a_column_is_described_once() {
    let columns = Columns::two();
    let path = columns.session.path("reseal.toml");
    let plan = std::fs::read_to_string(&path).unwrap();
    let twice = plan.replace("columns = [\"full_name_encrypted\"]", "columns = [\"email_encrypted\"]");
    std::fs::write(
        path,
        twice.replacen(&format!("table = \"{TABLE}\""), &format!("table = \"main.{TABLE}\""), 1),
    )
    .unwrap();
    columns.session.run(&["reencrypt", "plan"]).code(2).says("both name column `email_encrypted`");
}

#[test]
fn empty_values_are_no_fault() {
    let columns = Columns::ready();
    columns.set_email(7, "");
    let run = columns.run_object(0);
    assert_eq!(
        ["rewritten", "quarantined", "empty"].map(|count| run[count].as_u64()),
        [Some(599), Some(0), Some(1)]
    );
    assert_eq!(columns.email(7), "");
    let session = &columns.session;
    assert!(session.run(&["reencrypt", "verify"]).done().stdout.contains("1 empty value left as it is"));
    let listed = session.run(&["reencrypt", "status", "--quarantine"]).done().stdout;
    assert!(listed.contains("id = 7  empty"), "{listed}");
    // Not even one of them is too many.
    let back = session.run(&["reencrypt", "rollback", "-y", "--max-quarantine", "0"]).done().stdout;
    assert!(back.contains("1 empty value"), "{back}");
}

#[test]
fn names_that_are_not_there_are_not_found() {
    let columns = Columns::ready();
    columns.session.run(&["reencrypt", "plan", "nonsense"]).code(3).says("the plan has: prefs");
    columns.session.run(&["reencrypt", "resume"]).code(3).says("no unfinished run");
    columns.session.run(&["reencrypt", "status", "nonsense"]).code(3).says("the plan has: prefs");
    Session::new().run(&["reencrypt", "plan"]).code(3).says("no plan file");
}

/// Puts the vault back to what it was in `b.vault`: with the pending key, and before any run.
fn lose_the_vault(columns: &Columns) {
    columns.session.run(&["backup", "restore", "b.vault", "--accept-older", "-y"]).done();
}

const RUN: [&str; 6] = ["--json", "reencrypt", "run", "-y", "--no-backup", "a test"];

#[test]
fn a_restored_vault_takes_over_the_run_that_it_does_not_know() {
    let columns = Columns::ready();
    let session = &columns.session;
    let old = columns.email(9);
    let run = columns.run_object(0)["run"].as_str().unwrap().to_owned();
    // As if the run had stopped half-way.
    columns.set_email(9, &old);
    columns.database.execute("UPDATE reseal_run SET state = 'active'", ()).unwrap();
    lose_the_vault(&columns);
    let next = format!("reseal reencrypt run prefs --supersede {run}");
    session.run(&RUN).code(7).says("this vault does not know it").says(&next);
    let supersede = [&RUN[..], &["prefs", "--supersede", &run]].concat();
    let ended: Value = serde_json::from_str(&session.run(&supersede).done().stdout).unwrap();
    assert_eq!(ended["runs"][0]["rewritten"], 1, "{ended}");
    // Values are bound to ids that only the database knew: they were taken over, and every value opens.
    assert_eq!(session.json(&["reencrypt", "verify"])["columns"][0]["new"], 600);
    let own = ended["runs"][0]["run"].as_str().unwrap();
    session
        .run(&[&RUN[..], &["prefs", "--supersede", own]].concat())
        .code(7)
        .says("belongs to columns `prefs`");
    session.run(&["reencrypt", "rollback", "-y"]).done();
}

#[test]
fn an_id_of_the_database_that_no_value_opens_under_is_not_believed() {
    let columns = Columns::ready();
    columns.run_object(0);
    columns.database.execute("UPDATE reseal_column SET column_id = randomblob(16)", ()).unwrap();
    lose_the_vault(&columns);
    columns.session.run(&RUN).code(8).says("no value opens under it").says("newer backup");
}

#[test]
fn an_id_of_the_database_that_nothing_is_bound_to_gives_way() {
    let columns = Columns::ready();
    columns.run_object(0);
    columns.session.run(&["reencrypt", "rollback", "-y"]).done();
    lose_the_vault(&columns);
    let known = || {
        let first = "SELECT column_id FROM reseal_column ORDER BY column_name LIMIT 1";
        columns.database.query_row(first, [], |row| row.get::<_, Vec<u8>>(0)).unwrap()
    };
    let before = known();
    columns.session.run(&RUN).done();
    assert_ne!(known(), before);
    columns.session.run(&["reencrypt", "verify"]).done();
}
