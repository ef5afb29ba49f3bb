//! Two Postgres roles by turns.

use reseal_crypto::OsRandom;
use reseal_rotate::services::postgres::alternate::{self, Pair};
use reseal_rotate::services::postgres::{Session, Turn, Verifier};
use reseal_rotate::services::{Access, Admin, Change, Exchange, Login, Proof, ServiceError, Standing};

use super::postgres::{OLD, Scene};
use crate::{logins, prove, value};

const PAIR: Pair<'_> = Pair { active: "app", idle: "app_b", owner: "app_owner" };

/// A pair as the plan wants it: everything belongs to the owner.
async fn scene() -> (Scene, Session) {
    let scene = Scene::new(&[]).await;
    scene
        .sql("CREATE ROLE app_owner; GRANT app_owner TO app; ALTER ROLE app SET role TO app_owner; ALTER DATABASE app OWNER TO app_owner")
        .await;
    let session = scene.as_root().await;
    (scene, session)
}

#[tokio::test]
async fn a_turn_changes_nobodys_rights() {
    let (scene, session) = scene().await;
    scene
        .sql(
            "CREATE ROLE readers; GRANT readers TO app; ALTER ROLE app CONNECTION LIMIT 7;
             ALTER ROLE app SET search_path = \"$user\", 'odd name', public;
             ALTER ROLE app SET \"my.setting\" = 'it''s \\ here'; ALTER ROLE app IN DATABASE app SET work_mem = '8MB'",
        )
        .await;
    let first = scene.open("app", OLD).await;
    first
        .batch_execute("CREATE SCHEMA s; CREATE TABLE s.t (n int); INSERT INTO s.t VALUES (1)")
        .await
        .unwrap();

    alternate::check(&session, PAIR).await.unwrap();
    assert_eq!(session.state(PAIR.idle).await.unwrap(), None);
    for _ in 0..2 {
        alternate::prepare(&session, PAIR, &Verifier::of(&value("second"))).await.unwrap();
    }
    assert_eq!(prove(&scene.service, "app", OLD).await, Proof::Holds, "both let in");
    assert_eq!(prove(&scene.service, "app_b", "second").await, Proof::Holds);
    let second = scene.open("app_b", "second").await;
    second
        .batch_execute(
            "INSERT INTO s.t VALUES (2); CREATE TABLE s.u (n int); DROP TABLE s.u; ALTER TABLE s.t ADD m int",
        )
        .await
        .unwrap();
    second.batch_execute("CREATE TABLE s.v (n int)").await.unwrap();
    first.batch_execute("DROP TABLE s.v").await.expect("what one makes the other may change");
    let configured = |role: &str| {
        format!(
            "SELECT string_agg(format('%s %s', setdatabase, c), '; ' ORDER BY setdatabase, c)
                 || (SELECT rolconnlimit FROM pg_roles WHERE rolname = '{role}')
             FROM pg_db_role_setting, unnest(setconfig) AS c WHERE setrole = '{role}'::regrole"
        )
    };
    let wanted = scene.text(&configured("app")).await.expect("there are settings");
    assert_eq!(scene.text(&configured("app_b")).await.as_ref(), Some(&wanted));
    let path = second.query_one("SHOW search_path", &[]).await.unwrap().get::<_, String>(0);
    assert_eq!(path, first.query_one("SHOW search_path", &[]).await.unwrap().get::<_, String>(0));

    // The next turn goes the other way, and the old half lets nobody in.
    session.retire("app").await.unwrap();
    session.end_sessions("app").await.unwrap();
    assert_eq!(logins(&scene.service, "app", &[OLD]).await, [Login::Refused]);
    let back = Pair { active: "app_b", idle: "app", owner: "app_owner" };
    alternate::check(&session, back).await.unwrap();
    alternate::prepare(&session, back, &Verifier::of(&value("third"))).await.unwrap();
    assert_eq!(logins(&scene.service, "app", &[OLD, "third"]).await, [Login::Refused, Login::Accepted]);
    assert_eq!(scene.text(&configured("app")).await, Some(wanted));
}

#[tokio::test]
async fn a_turn_is_taken_back() {
    let (scene, session) = scene().await;
    let verifier = Verifier::of(&value("second"));
    alternate::prepare(&session, PAIR, &verifier).await.unwrap();
    for _ in 0..2 {
        alternate::undo(&session, PAIR.idle, None, &verifier).await.unwrap();
        assert_eq!(session.state(PAIR.idle).await.unwrap(), None, "a role that was not there goes");
    }
    alternate::prepare(&session, PAIR, &verifier).await.unwrap();
    session.retire(PAIR.idle).await.unwrap();
    let before = session.state(PAIR.idle).await.unwrap();
    alternate::prepare(&session, PAIR, &verifier).await.unwrap();
    alternate::undo(&session, PAIR.idle, before.as_ref(), &verifier).await.unwrap();
    assert_eq!(session.state(PAIR.idle).await.unwrap(), before);
    assert_eq!(logins(&scene.service, PAIR.idle, &["second"]).await, [Login::Refused]);
}

#[tokio::test]
async fn what_a_role_owns_by_now_stays_when_its_turn_is_taken_back() {
    let (scene, session) = scene().await;
    let verifier = Verifier::of(&value("second"));
    alternate::prepare(&session, PAIR, &verifier).await.unwrap();
    let _used = scene.open(PAIR.idle, "second").await;
    scene.sql("CREATE SCHEMA own AUTHORIZATION app_b").await;
    for _ in 0..2 {
        alternate::undo(&session, PAIR.idle, None, &verifier).await.unwrap();
        assert_eq!(session.sessions(PAIR.idle).await.unwrap(), 0);
        assert_eq!(logins(&scene.service, PAIR.idle, &["second"]).await, [Login::Refused]);
        let owner = "SELECT nspowner::regrole::text FROM pg_namespace WHERE nspname = 'own'";
        assert_eq!(scene.text(owner).await.as_deref(), Some("app_b"));
    }
}

#[tokio::test]
async fn roles_that_are_not_alike_do_not_alternate() {
    let (scene, session) = scene().await;
    let refusal = async |change: &str, back: &str| {
        scene.sql(change).await;
        let refused = alternate::check(&session, PAIR).await.unwrap_err();
        scene.sql(back).await;
        alternate::check(&session, PAIR).await.unwrap_or_else(|error| panic!("after {back}: {error}"));
        refused.to_string()
    };
    let told = refusal("ALTER ROLE app RESET role", "ALTER ROLE app SET role TO app_owner").await;
    assert!(told.contains("SET role TO \"app_owner\""), "{told}");
    let told = refusal("REVOKE app_owner FROM app", "GRANT app_owner TO app").await;
    assert!(told.contains("GRANT \"app_owner\" TO \"app\""), "{told}");
    let told = refusal("ALTER ROLE app CREATEDB", "ALTER ROLE app NOCREATEDB").await;
    assert!(told.contains("attributes"), "{told}");
    let told = refusal("CREATE SCHEMA own AUTHORIZATION app", "DROP SCHEMA own").await;
    assert!(told.contains("1 objects"), "{told}");
    let grant = "CREATE TABLE granted (n int); GRANT SELECT ON granted TO app";
    assert!(refusal(grant, "DROP TABLE granted").await.contains("1 objects"));
    scene.sql("CREATE ROLE app_b LOGIN PASSWORD 'its own'; CREATE ROLE others").await;
    let told = refusal("ALTER ROLE app_b CREATEROLE", "ALTER ROLE app_b NOCREATEROLE").await;
    assert!(told.contains("the idle role has attributes"), "{told}");
    let told = refusal("GRANT others TO app_b", "REVOKE others FROM app_b").await;
    assert!(told.contains("REVOKE \"others\" FROM \"app_b\""), "{told}");
    let used = scene.open("app_b", "its own").await;
    let refused = alternate::check(&session, PAIR).await.unwrap_err();
    assert!(refused.to_string().contains("1 open sessions: somebody uses it"), "{refused}");
    drop(used);
    scene.sql("DROP ROLE app_b").await;
    // Who may change passwords may not do for making members.
    scene
        .sql("CREATE ROLE helper LOGIN CREATEROLE PASSWORD 'helps'; GRANT app TO helper WITH ADMIN OPTION")
        .await;
    let helper = value("helps");
    let helper = scene.node.session(Access::Value { user: "helper", value: &helper }).await.unwrap();
    let refused = alternate::check(&helper, PAIR).await;
    let is_old = scene.text("SELECT (current_setting('server_version_num')::int < 160000)::text").await;
    if is_old.as_deref() == Some("false") {
        let refused = refused.unwrap_err();
        assert!(refused.to_string().contains("ADMIN option on `app_owner`"), "{refused}");
    }
    scene.sql("GRANT app_owner TO helper WITH ADMIN OPTION").await;
    alternate::check(&helper, PAIR).await.unwrap();
    let no_owner = Pair { owner: "nobody", ..PAIR };
    assert!(matches!(alternate::check(&session, no_owner).await, Err(ServiceError::NoUser { .. })));
}

#[tokio::test]
async fn a_turn_as_a_rotation_takes_it() {
    let (scene, session) = scene().await;
    let admin = Admin { user: "postgres".into(), value: Some(value(scene.server.password())) };
    let turn = Turn::new(scene.node.clone(), admin, PAIR);
    let (old, new) = (value(OLD), value("second"));
    let values = Exchange { old: &old, new: &new, left: &[] };
    let roles =
        "SELECT string_agg(format('%s %s %s', rolname, rolcanlogin, rolpassword), '; ' ORDER BY rolname)
        FROM pg_authid WHERE rolname LIKE 'app%'";
    let before = scene.text(roles).await;
    assert_eq!(turn.rehearse(&old, &OsRandom).await, Ok(Vec::new()));
    let refused = turn.rehearse(&new, &OsRandom).await.unwrap_err();
    assert!(matches!(refused, ServiceError::LoginRefused { .. }), "{refused}");
    let kept = turn.capture(values).await.unwrap();
    assert_eq!(scene.text(roles).await, before, "nothing was changed");
    turn.undo(&kept).await.unwrap();
    assert_eq!(scene.text(roles).await, before, "not made yet");

    assert_eq!(turn.standing(Change::Add, values).await, Ok(Standing::NotDone));
    for _ in 0..2 {
        turn.apply(Change::Add, &kept).await.unwrap();
        assert_eq!(turn.standing(Change::Add, values).await, Ok(Standing::Done));
        assert_eq!(turn.standing(Change::Remove, values).await, Ok(Standing::NotDone));
    }
    let lingers = scene.open("app", OLD).await;
    session.retire("app").await.unwrap();
    assert_eq!(turn.standing(Change::Remove, values).await, Ok(Standing::NotDone), "somebody is still in");
    for _ in 0..2 {
        turn.apply(Change::Remove, &kept).await.unwrap();
        assert_eq!(turn.standing(Change::Remove, values).await, Ok(Standing::Done));
        assert!(lingers.simple_query("SELECT 1").await.is_err());
    }
    assert_eq!(prove(&scene.service, turn.idle(), "second").await, Proof::Holds);
    for _ in 0..2 {
        turn.undo(&kept).await.unwrap();
        assert_eq!(scene.text(roles).await, before, "even after the old value was removed");
    }
    assert_eq!(prove(&scene.service, "app", OLD).await, Proof::Holds);
}
