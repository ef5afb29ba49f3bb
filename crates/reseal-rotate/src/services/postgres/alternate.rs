//! Two login roles by turns: while one is in use the other gets the next password, so that for a while both let in.
//!
//! ```text
//! owner (NOLOGIN) owns everything <-- member -- active   LOGIN, role = owner
//!                                 <-- member -- idle     LOGIN with the new password, role = owner
//! ```
//!
//! Both act as the owner from the first statement on (`ALTER ROLE … SET role`), so that what one makes the other may
//! change, and a turn changes nobody's rights.

use super::session::{RoleState, Session, literal, quoted};
use super::verifier::Verifier;
use crate::services::ServiceError;

/// Settings that the server keeps as lists with quotes of their own.
const LISTS: [&str; 6] = [
    "local_preload_libraries",
    "search_path",
    "session_preload_libraries",
    "shared_preload_libraries",
    "temp_tablespaces",
    "unix_socket_directories",
];

const ATTRIBUTES: &str =
    "SELECT rolconnlimit, rolsuper OR rolcreaterole OR rolcreatedb OR rolreplication OR rolbypassrls
    FROM pg_catalog.pg_roles WHERE rolname = $1";

/// Objects of any database that belong to a role or are granted to it by name.
const OWN_OBJECTS: &str = "SELECT count(*) FROM pg_catalog.pg_shdepend
    WHERE refclassid = 'pg_catalog.pg_authid'::pg_catalog.regclass AND deptype IN ('o', 'a')
      AND classid <> 'pg_catalog.pg_auth_members'::pg_catalog.regclass
      AND refobjid = (SELECT oid FROM pg_catalog.pg_roles WHERE rolname = $1)";

const MEMBERSHIPS: &str = "SELECT g.rolname::text, bool_or(m.admin_option)
    FROM pg_catalog.pg_auth_members m JOIN pg_catalog.pg_roles g ON g.oid = m.roleid
    JOIN pg_catalog.pg_roles r ON r.oid = m.member WHERE r.rolname = $1 GROUP BY g.rolname ORDER BY g.rolname";

const SETTINGS: &str = "SELECT d.datname::text, split_part(c, '=', 1), substr(c, strpos(c, '=') + 1)
    FROM pg_catalog.pg_db_role_setting s JOIN pg_catalog.pg_roles r ON r.oid = s.setrole
    LEFT JOIN pg_catalog.pg_database d ON d.oid = s.setdatabase, unnest(s.setconfig) AS c
    WHERE r.rolname = $1 ORDER BY 1 NULLS FIRST, 2";

/// Two login roles and the role that owns what both use.
#[derive(Debug, Clone, Copy)]
pub struct Pair<'a> {
    /// The role that is in use.
    pub active: &'a str,
    /// The role that gets the new password.
    pub idle: &'a str,
    /// The role that owns everything.
    pub owner: &'a str,
}

/// Looks whether the idle role can take the place of the active one without loss of rights. Changes nothing.
///
/// # Errors
///
/// [`ServiceError::NotAlike`] with what to change first, [`ServiceError::NoUser`], [`ServiceError::Standby`].
pub async fn check(session: &Session, pair: Pair<'_>) -> Result<(), ServiceError> {
    let not_alike = |reason: String| ServiceError::NotAlike {
        node: session.node().to_owned(),
        idle: pair.idle.to_owned(),
        active: pair.active.to_owned(),
        reason,
    };
    session.may_set(pair.active).await?;
    session.state(pair.owner).await?.ok_or_else(|| session.no_user(pair.owner))?;
    for (role, which) in [(pair.active, "active"), (pair.idle, "idle")] {
        let row = session.first("look at the role", ATTRIBUTES, &[role]).await?;
        if row.map_or(Ok(false), |row| session.column(&row, 1))? {
            return Err(not_alike(format!("the {which} role has attributes such as SUPERUSER or CREATEDB")));
        }
    }
    let memberships = session.rows("look at the role", MEMBERSHIPS, &[pair.active]).await?;
    let groups: Vec<String> =
        memberships.iter().map(|row| session.column(row, 0)).collect::<Result<_, _>>()?;
    let [active, owner] = [pair.active, pair.owner].map(quoted);
    if !groups.iter().any(|group| group == pair.owner) {
        return Err(not_alike(format!(
            "the active role is no member of the owner; GRANT {owner} TO {active}"
        )));
    }
    for group in &groups {
        session.may_grant(group).await?;
    }
    check_idle(session, pair, &groups).await?.map_or(Ok(()), |reason| Err(not_alike(reason)))?;
    let settings = settings(session, pair.active).await?;
    if !settings.iter().any(|set| set.database.is_none() && set.name == "role" && set.value == pair.owner) {
        let remedy = format!("ALTER ROLE {active} SET role TO {owner}");
        return Err(not_alike(format!("what the active role makes would be its own; {remedy}")));
    }
    let row = session.first("look at the role's objects", OWN_OBJECTS, &[pair.active]).await?;
    let count: i64 = row.map(|row| session.column(&row, 0)).transpose()?.unwrap_or_default();
    if count > 0 {
        return Err(not_alike(format!(
            "{count} objects belong to the active role or are granted to it; REASSIGN OWNED BY {active} TO {owner}, and grant to {owner} instead"
        )));
    }
    Ok(())
}

/// What stands against giving the idle role another password, where it is there already.
async fn check_idle(
    session: &Session,
    pair: Pair<'_>,
    groups: &[String],
) -> Result<Option<String>, ServiceError> {
    if session.state(pair.idle).await?.is_none() {
        return Ok(None);
    }
    session.may_set(pair.idle).await?;
    let sessions = session.sessions(pair.idle).await?;
    if sessions > 0 {
        return Ok(Some(format!("it has {sessions} open sessions: somebody uses it")));
    }
    for row in session.rows("look at the role", MEMBERSHIPS, &[pair.idle]).await? {
        let group: String = session.column(&row, 0)?;
        if !groups.contains(&group) {
            let remedy = format!("REVOKE {} FROM {}", quoted(&group), quoted(pair.idle));
            return Ok(Some(format!("it is a member of `{group}`, and the active role is not; {remedy}")));
        }
    }
    Ok(None)
}

/// Makes the idle role one that can take the place of the active one, with the new password. May be repeated.
///
/// What was there before is [`Session::state`]'s answer: `None` where this creates the role.
///
/// # Errors
///
/// As [`Session::set`].
pub async fn prepare(session: &Session, pair: Pair<'_>, verifier: &Verifier) -> Result<(), ServiceError> {
    let idle = quoted(pair.idle);
    let row = session.first("look at the role", ATTRIBUTES, &[pair.active]).await?;
    let row = row.ok_or_else(|| session.no_user(pair.active))?;
    let limit: i32 = session.column(&row, 0)?;
    let mut statements = Vec::new();
    let before = session.state(pair.idle).await?;
    if before.is_none() {
        statements.push(format!("CREATE ROLE {idle}"));
    }
    statements.push(format!("ALTER ROLE {idle} RESET ALL"));
    for database in settings(session, pair.idle).await?.into_iter().filter_map(|set| set.database) {
        statements.push(format!("ALTER ROLE {idle} IN DATABASE {} RESET ALL", quoted(&database)));
    }
    for group in session.rows("look at the role", MEMBERSHIPS, &[pair.active]).await? {
        let name: String = session.column(&group, 0)?;
        let admin = if session.column(&group, 1)? { " WITH ADMIN OPTION" } else { "" };
        statements.push(format!("GRANT {} TO {idle}{admin}", quoted(&name)));
    }
    for set in settings(session, pair.active).await? {
        statements.extend(set.copied_to(&idle));
    }
    // Last: until here the role lets nobody in.
    let password = verifier.literal();
    let until = if before.is_some_and(|before| before.valid_until.is_some()) {
        " VALID UNTIL 'infinity'"
    } else {
        ""
    };
    statements.push(format!("ALTER ROLE {idle} LOGIN CONNECTION LIMIT {limit}{until} PASSWORD {password}"));
    session.change("prepare the role", pair.idle, Some(verifier), &statements).await
}

/// Takes [`prepare`] back: the role goes if it was not there before, and lets in whom it let in otherwise. One that owns
/// objects by now stays and lets nobody in.
///
/// # Errors
///
/// As [`Session::set`].
pub async fn undo(
    session: &Session,
    idle: &str,
    before: Option<&RoleState>,
    verifier: &Verifier,
) -> Result<(), ServiceError> {
    match before {
        Some(before) => session.restore(idle, before, verifier).await,
        None if session.state(idle).await?.is_none() => Ok(()),
        None => {
            session.retire(idle).await?;
            session.end_sessions(idle).await?;
            session.drop_role(idle).await
        }
    }
}

/// A setting that a role starts with.
struct Setting {
    database: Option<String>,
    name: String,
    value: String,
}

impl Setting {
    fn copied_to(&self, role: &str) -> Vec<String> {
        let name = self.name.split('.').map(quoted).collect::<Vec<_>>().join(".");
        let database = self.database.as_deref().map(|name| format!(" IN DATABASE {}", quoted(name)));
        let alter = format!("ALTER ROLE {role}{} SET {name}", database.unwrap_or_default());
        let value = literal(&self.value);
        if !LISTS.contains(&self.name.as_str()) {
            return vec![format!("{alter} TO {value}")];
        }
        // As a literal the whole list would be one name.
        let set = format!("SELECT pg_catalog.set_config({}, {value}, true)", literal(&self.name));
        vec![set, format!("{alter} FROM CURRENT")]
    }
}

async fn settings(session: &Session, role: &str) -> Result<Vec<Setting>, ServiceError> {
    let rows = session.rows("look at the role's settings", SETTINGS, &[role]).await?;
    let setting = |row| {
        Ok(Setting {
            database: session.column(row, 0)?,
            name: session.column(row, 1)?,
            value: session.column(row, 2)?,
        })
    };
    rows.iter().map(setting).collect()
}
