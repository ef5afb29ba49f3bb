//! The real command rotates a login by two roles that take turns, killed before and after every side effect; at the end
//! of the old value somebody is still logged in with it.

use tokio::sync::Mutex;
use tokio_postgres::Client;

use crate::kill_rotation_desk::{Case, Desk, OLD};
use crate::kill_rotation_services::{
    Postgres, RETIRE, ROOT, ROTATE, Service, kill_everywhere, postgres_plan,
};
use crate::kill_rotation_wire::Wire;

pub(crate) const ALTERNATE: Case = Case {
    name: "Postgres alternate",
    secret: r#"strategy = "alternate"
server = "db"
users = ["app", "app_b"]
owner_role = "app_owner"
write = [{ file = "a.env", var = "DB", part = "url.userinfo" }, { file = "a.env", var = "DB_USER", field = "user" }]"#,
    change: &[("a.env", 1), ("restart", 1)],
    retire: &[],
};

/// Two roles that take turns.
pub(crate) struct Pair {
    pub(crate) postgres: Postgres,
    /// Who stays logged in with the old value.
    session: Mutex<Option<Client>>,
}

impl Pair {
    pub(crate) async fn start() -> Self {
        let postgres = Postgres::start().await;
        let owned = "CREATE ROLE app_owner; GRANT app_owner TO app; ALTER ROLE app SET role TO app_owner;
            CREATE SCHEMA s AUTHORIZATION app_owner; CREATE TABLE s.t (n int); ALTER TABLE s.t OWNER TO app_owner";
        postgres.root.batch_execute(owned).await.expect("a superuser may");
        Self { postgres, session: Mutex::default() }
    }

    async fn text(&self, query: &str) -> String {
        self.postgres.root.query_one(query, &[]).await.expect("answers").get(0)
    }
}

impl Service for Pair {
    async fn reset(&self) {
        let end = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename IN ('app', 'app_b')";
        let back = format!("ALTER ROLE app LOGIN PASSWORD '{}'", self.postgres.verifier);
        self.postgres
            .root
            .batch_execute(&format!("DROP ROLE IF EXISTS app_b; {end}; {back}"))
            .await
            .expect("reset");
    }

    async fn accepts(&self, value: &str) -> bool {
        for role in ["app", "app_b"] {
            if let Some(client) = self.postgres.login(role, value).await {
                client.batch_execute("INSERT INTO s.t VALUES (1)").await.expect("it has every right");
                return true;
            }
        }
        false
    }

    async fn kept(&self) -> String {
        let roles =
            "SELECT string_agg(format('%s %s %s', rolname, rolcanlogin, rolpassword), '; ' ORDER BY rolname)
            FROM pg_authid WHERE rolname LIKE 'app%'";
        self.text(roles).await
    }

    fn wire(&self) -> &Wire {
        self.postgres.wire()
    }

    async fn linger(&self) {
        *self.session.lock().await = Some(self.postgres.login("app", OLD).await.expect("both are valid"));
    }

    async fn check_ended(&self, row: &str) {
        let sessions = "SELECT count(*)::text FROM pg_stat_activity WHERE usename = 'app'";
        assert_eq!(self.text(sessions).await, "0", "{row}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn kill_rotation_of_a_login_by_turns() {
    let pair = Pair::start().await;
    let prepared = Desk::with_servers(&ALTERNATE, &postgres_plan(&format!("url = {}", pair.postgres.url())));
    prepared.put("root", ROOT);
    let change = [("CREATE ROLE", 1), ("ALTER ROLE", 3), ("GRANT \"APP_OWNER\"", 1), ("COMMIT", 1)];
    let retire = [("ALTER ROLE", 1), ("COMMIT", 1), ("END SESSIONS", 1)];
    let rows = kill_everywhere(&ALTERNATE, &prepared, &pair, ROTATE, &change).await
        + kill_everywhere(&ALTERNATE, &prepared, &pair, RETIRE, &retire).await;
    println!("{rows} rows");
    assert!(rows >= 100, "{rows} rows");
}
