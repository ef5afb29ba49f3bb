//! Wrong and mixed input on Postgres: what does not open is counted by its reason and left as it is, the rest of its row
//! is rewritten; and what must not be started is refused before anything is written.

use std::sync::Arc;

use reseal_engine::postgres::{PostgresStore, PostgresTarget};
use reseal_engine::{Codecs, Engine, EngineError, ErrorKind, Job, Refusal, RunOptions};
use reseal_formats::{Codec, ColumnType};
use reseal_sandbox::postgres::{Options, Server};
use reseal_sandbox::seal::Key;
use reseal_sandbox::values::Cell;
use reseal_tests::erring::{Broken, Erring};
use reseal_tests::mixture::{Mixture, RUN, StoredRow};
use reseal_tests::scheme::{Scheme, Stored, TwoKeys, key_text, run_key};
use serde_json::json;
use tokio_postgres::Client;

/// A table of mixed input on a server.
struct Bench {
    server: Server,
    client: Client,
    scheme: Scheme,
    keys: Arc<TwoKeys>,
}

impl Bench {
    /// An empty table `mixed (id, a, b)` whose encrypted columns have this type.
    async fn new(scheme: Scheme, sql_type: &str) -> Self {
        let server = Server::start(Options::default()).unwrap_or_else(|error| panic!("{error}"));
        let client = server.connect().await.unwrap();
        let table = format!("CREATE TABLE mixed (id int8 PRIMARY KEY, a {sql_type}, b {sql_type})");
        client.batch_execute(&table).await.unwrap();
        let keys = Arc::new(scheme.two_keys(2));
        Self { server, client, scheme, keys }
    }

    async fn load(&self, rows: &[StoredRow]) {
        let ids: Vec<i64> = rows.iter().map(|row| row.0).collect();
        let a: Vec<Option<&[u8]>> = rows.iter().map(|row| row.1.as_deref()).collect();
        let b: Vec<Option<&[u8]>> = rows.iter().map(|row| row.2.as_deref()).collect();
        let cast = match self.scheme.column_type {
            ColumnType::Text => ["convert_from(a, 'UTF8')", "convert_from(b, 'UTF8')"],
            ColumnType::Bytes => ["a", "b"],
        };
        let statement = format!(
            "INSERT INTO mixed SELECT id, {}, {} FROM unnest($1::int8[], $2::bytea[], $3::bytea[]) AS u(id, a, b)",
            cast[0], cast[1]
        );
        self.client.execute(&statement, &[&ids, &a, &b]).await.unwrap();
        self.client.batch_execute("VACUUM ANALYZE mixed").await.unwrap();
    }

    /// Rows that are all good, with plaintexts of at most 20 bytes.
    async fn load_good(&self, count: i64) {
        let rows: Vec<_> = (1..=count)
            .map(|id| {
                let value = |column| Some(self.keys.seal(Key::Old, Cell { id, column }, &plaintext(id)));
                (id, value(0), value(1))
            })
            .collect();
        self.load(&rows).await;
    }

    async fn stored(&self) -> Vec<StoredRow> {
        let cast = if self.scheme.column_type == ColumnType::Text {
            "convert_to(a, 'UTF8'), convert_to(b, 'UTF8')"
        } else {
            "a, b"
        };
        let rows =
            self.client.query(&format!("SELECT id, {cast} FROM mixed ORDER BY id"), &[]).await.unwrap();
        rows.iter().map(|row| (row.get(0), row.get(1), row.get(2))).collect()
    }

    fn job(&self) -> Job {
        self.scheme.job(self.scheme.plan(RUN, "public", "mixed", &["a", "b"]))
    }

    fn engine_as(&self, user: &str, job: Job) -> Engine {
        let url = self.server.url().replace("postgres@", &format!("{user}@"));
        let store = PostgresStore::new(PostgresTarget::parse(&url, None).unwrap());
        Engine::new(store, job, RunOptions::default())
    }

    fn engine(&self, job: Job) -> Engine {
        self.engine_as("postgres", job)
    }

    /// The run is refused as a whole, and neither table nor schema shows a trace of it.
    async fn refused(&self, engine: &Engine) -> Vec<Refusal> {
        let before = self.stored().await;
        let error = engine.run().await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Refused, "{error}");
        assert_eq!(self.stored().await, before, "nothing was written");
        let made = "SELECT count(*) FROM pg_namespace WHERE nspname = 'reseal'";
        assert_eq!(self.client.query_one(made, &[]).await.unwrap().get::<_, i64>(0), 0, "nothing was made");
        match error {
            EngineError::Refused(refusals) => refusals,
            other => panic!("{other}"),
        }
    }
}

fn plaintext(id: i64) -> String {
    format!("value {id:014}")
}

async fn mixture_is_sorted_out(scheme: Scheme, sql_type: &str) {
    let bench = Bench::new(scheme, sql_type).await;
    let mixture = Mixture::new(&bench.scheme, &bench.keys, 10_000);
    bench.load(&mixture.rows).await;
    let engine = bench.engine(bench.job());
    let outcome = engine.run().await.unwrap();
    let verified = engine.verify().await.unwrap();
    mixture.check_counts(&outcome, &engine.status().await.unwrap().unwrap(), &verified.census);
    mixture.check_rows(&bench.keys, &bench.stored().await);
}

#[tokio::test(flavor = "multi_thread")]
async fn mixed_input_of_pgcrypto_messages_to_envelopes() {
    mixture_is_sorted_out(Scheme::pgcrypto_to_envelope(), "text").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn mixed_input_where_no_value_names_its_key() {
    mixture_is_sorted_out(Scheme::aes_gcm_to_aes_gcm(), "bytea").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn mixed_input_wrong_key_at_the_start_is_refused() {
    let bench = Bench::new(Scheme::pgcrypto_to_envelope(), "text").await;
    bench.load_good(500).await;
    let wrong = Scheme {
        old: Stored::new(json!({ "format": "pgcrypto" }), "not the old passphrase"),
        ..bench.scheme.clone()
    };
    let job = wrong.job(wrong.plan(RUN, "public", "mixed", &["a", "b"]));
    let refusals = bench.refused(&bench.engine(job)).await;
    let wrong_key = |refusal: &Refusal| matches!(refusal, Refusal::WrongKey { opened: 0, sampled: 1.., .. });
    assert!(refusals.len() == 2 && refusals.iter().all(wrong_key), "{refusals:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn mixed_input_rows_hidden_by_row_security_are_refused() {
    let bench = Bench::new(Scheme::fernet_to_envelope(), "text").await;
    bench.load_good(500).await;
    let policy = "CREATE ROLE app LOGIN; GRANT SELECT, UPDATE ON mixed TO app;
        GRANT CREATE ON DATABASE postgres TO app; ALTER TABLE mixed ENABLE ROW LEVEL SECURITY;
        CREATE POLICY tenant ON mixed USING (id % 10 = 0)";
    bench.client.batch_execute(policy).await.unwrap();
    let refusals = bench.refused(&bench.engine_as("app", bench.job())).await;
    assert!(matches!(&refusals[..], [Refusal::RowSecurity(_)]), "{refusals:?}");
    // Its owner sees every row.
    let outcome = bench.engine(bench.job()).run().await.unwrap();
    assert_eq!((outcome.rewritten(), outcome.proof.old()), (1000, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn mixed_input_column_too_narrow_is_refused_with_the_size_it_needs() {
    let scheme = Scheme {
        old: Stored::new(json!({ "format": "aes-gcm", "encoding": "base64" }), &key_text(0x12)),
        ..Scheme::fernet_to_envelope()
    };
    // 20 bytes make 48 with nonce and tag, and 64 characters; our envelope makes 72 of them, and 4 + 96 characters.
    let bench = Bench::new(scheme, "varchar(64)").await;
    bench.load_good(500).await;
    for limit in [64, 99] {
        let widen = format!("ALTER TABLE mixed ALTER a TYPE varchar({limit}), ALTER b TYPE varchar(100)");
        bench.client.batch_execute(&widen).await.unwrap();
        let refusals = bench.refused(&bench.engine(bench.job())).await;
        let expected = Refusal::TooNarrow { column: "a".into(), limit, needed: 100 };
        assert_eq!(refusals, [expected]);
        assert!(refusals[0].to_string().contains("100"), "{}", refusals[0]);
    }
    bench.client.batch_execute("ALTER TABLE mixed ALTER a TYPE varchar(100)").await.unwrap();
    let outcome = bench.engine(bench.job()).run().await.unwrap();
    assert_eq!((outcome.rewritten(), outcome.proof.old()), (1000, 0));
}

/// What is sealed is opened again before it is written: a cipher that errs stops the run, and its batch is not written.
#[tokio::test(flavor = "multi_thread")]
async fn mixed_input_of_a_cipher_that_errs_is_not_written() {
    for broken in [Broken::Damages, Broken::SealsAnotherValue] {
        let bench = Bench::new(Scheme::aes_gcm_to_aes_gcm(), "bytea").await;
        bench.load_good(300).await;
        let before = bench.stored().await;
        let plan = bench.scheme.plan(RUN, "public", "mixed", &["a", "b"]);
        let codecs = (0..2).map(|column| {
            let from = bench.scheme.old.codec(ColumnType::Bytes, bench.scheme.id(column));
            let to = bench.scheme.new.codec(ColumnType::Bytes, bench.scheme.id(column));
            let erring = Erring { inner: to, broken, at: plaintext(123).into_bytes() };
            Codecs::new(from, Codec::new(Box::new(erring), reseal_formats::Encoding::Raw), false)
        });
        let job = Job::with_codecs(plan, codecs.collect(), &run_key()).unwrap();
        let error = bench.engine(job).run().await.unwrap_err();
        assert!(matches!(error, EngineError::NotReopened { .. }), "{broken:?}: {error}");
        assert_eq!(bench.stored().await, before, "{broken:?}: nothing of the batch is written");
    }
}

/// What the database then holds is compared with what was sent before the commit.
#[tokio::test(flavor = "multi_thread")]
async fn mixed_input_by_a_trigger_is_not_committed() {
    let triggers = [
        "BEFORE UPDATE ON mixed FOR EACH ROW EXECUTE FUNCTION meddle()",
        "AFTER UPDATE ON mixed FOR EACH ROW WHEN (pg_trigger_depth() = 0) EXECUTE FUNCTION meddle()",
    ];
    for trigger in triggers {
        let bench = Bench::new(Scheme::aes_gcm_to_aes_gcm(), "bytea").await;
        bench.load_good(300).await;
        let before = bench.stored().await;
        let function = "CREATE FUNCTION meddle() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
            IF TG_WHEN = 'BEFORE' THEN NEW.b := NEW.a; RETURN NEW; END IF;
            UPDATE public.mixed SET b = a WHERE id = NEW.id; RETURN NULL; END $$;";
        bench.client.batch_execute(&format!("{function} CREATE TRIGGER meddle {trigger}")).await.unwrap();
        let error = bench.engine(bench.job()).run().await.unwrap_err();
        assert!(matches!(error, EngineError::NotStored { .. }), "{trigger}: {error}");
        assert_eq!(bench.stored().await, before, "{trigger}: nothing is committed");
    }
}
