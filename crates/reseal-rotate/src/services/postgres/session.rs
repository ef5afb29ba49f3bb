//! A login that changes roles. Everything happens in transactions with settings of their own, so that a transaction
//! pooler in between does no harm.

use serde::{Deserialize, Serialize};
use tokio_postgres::types::Type;
use tokio_postgres::{Client, Error, Row};

use super::verifier::{Stored, Verifier};
use crate::services::ServiceError;

/// Opens a transaction. `ROLE NONE`: a login role may be set up to act as another one from the start.
const BEGIN: &str = "BEGIN ISOLATION LEVEL READ COMMITTED;
    SET LOCAL ROLE NONE; SET LOCAL search_path = pg_catalog, pg_temp; SET LOCAL client_encoding = 'UTF8';
    SET LOCAL lock_timeout = '5s'; SET LOCAL statement_timeout = '30s';
    SET LOCAL idle_in_transaction_session_timeout = '30s'";

/// Keeps a change through a crash of the server that follows it.
const DURABLE: &str = "SELECT set_config('synchronous_commit', 'on', true)
    WHERE current_setting('synchronous_commit') IN ('off', 'local')";

/// Keeps the verifier out of the server's log and statistics, failing statements included. Superusers only.
const QUIET: &str = "SELECT set_config(name,
        CASE name WHEN 'log_statement' THEN 'none' WHEN 'log_min_error_statement' THEN 'panic'
                  WHEN 'pg_stat_statements.track_utility' THEN 'off'
                  WHEN 'log_transaction_sample_rate' THEN '0' ELSE '-1' END, true)
    FROM pg_settings
    WHERE name IN ('log_statement', 'log_min_error_statement', 'log_min_duration_statement',
                   'log_min_duration_sample', 'log_transaction_sample_rate', 'pg_stat_statements.track_utility')";

const ACTOR: &str = "SELECT rolname::text, rolsuper, rolcreaterole, pg_is_in_recovery(),
        current_setting('server_version_num')::int4
    FROM pg_roles WHERE rolname = session_user";

/// Ends the sessions of a role, waiting for each; one that is gone already counts as ended.
const END_SESSIONS: &str =
    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = $1 AND pid <> pg_backend_pid()";

/// How often and how long the end of sessions is waited for.
const SESSION_POLLS: u32 = 100;
const SESSION_POLL: std::time::Duration = std::time::Duration::from_millis(50);

/// What a role looks like before a change: enough to bring it back exactly.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RoleState {
    /// Whether it may log in.
    pub can_login: bool,
    /// What it logs in with.
    pub stored: Stored,
    /// Until when its password counts, as the server writes it.
    pub valid_until: Option<String>,
}

/// A connection of someone who may change roles.
pub struct Session {
    node: String,
    pub(super) client: Client,
    user: String,
    is_superuser: bool,
    creates_roles: bool,
    is_standby: bool,
    version: i32,
}

impl std::fmt::Debug for Session {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Session").field("node", &self.node).field("user", &self.user).finish_non_exhaustive()
    }
}

impl Session {
    pub(super) async fn new(node: &str, client: Client) -> Result<Self, ServiceError> {
        let mut session = Self {
            node: node.to_owned(),
            client,
            user: String::new(),
            is_superuser: false,
            creates_roles: false,
            is_standby: false,
            version: 0,
        };
        let row = session.one("look at the server", ACTOR, &[]).await?;
        session.user = session.column(&row, 0)?;
        session.is_superuser = session.column(&row, 1)?;
        session.creates_roles = session.column(&row, 2)?;
        session.is_standby = session.column(&row, 3)?;
        session.version = session.column(&row, 4)?;
        Ok(session)
    }

    /// The role that is logged in.
    pub fn user(&self) -> &str {
        &self.user
    }

    /// Whether changes stay out of the server's log and statistics altogether.
    pub fn is_quiet(&self) -> bool {
        self.is_superuser
    }

    /// Whether this server takes everything from a primary, its roles included.
    pub fn is_standby(&self) -> bool {
        self.is_standby
    }

    /// What a role looks like now; `None` if there is no such role.
    ///
    /// # Errors
    ///
    /// [`ServiceError`] if the server does not say.
    pub async fn state(&self, role: &str) -> Result<Option<RoleState>, ServiceError> {
        let statement = "SELECT rolcanlogin, rolvaliduntil::text,
                has_table_privilege(session_user, 'pg_catalog.pg_authid', 'SELECT')
            FROM pg_catalog.pg_roles WHERE rolname = $1";
        let Some(row) = self.first("look at the role", statement, &[role]).await? else { return Ok(None) };
        let may_see: bool = self.column(&row, 2)?;
        let stored = if may_see { self.stored(role).await? } else { Stored::Hidden };
        let [can_login, valid_until] = [0, 1];
        Ok(Some(RoleState {
            can_login: self.column(&row, can_login)?,
            stored,
            valid_until: self.column(&row, valid_until)?,
        }))
    }

    async fn stored(&self, role: &str) -> Result<Stored, ServiceError> {
        let statement = "SELECT rolpassword FROM pg_catalog.pg_authid WHERE rolname = $1";
        let row = self.first("read the verifier", statement, &[role]).await?;
        let text: Option<String> = row.map(|row| self.column(&row, 0)).transpose()?.flatten();
        Ok(text.map_or(Stored::Nothing, |text| Stored::Verifier(Verifier::found(text))))
    }

    /// Whether a new password can be set here for `role`, without trying it.
    ///
    /// # Errors
    ///
    /// [`ServiceError::Standby`], [`ServiceError::NoUser`], [`ServiceError::Rights`].
    pub async fn may_set(&self, role: &str) -> Result<(), ServiceError> {
        if self.is_standby {
            return Err(ServiceError::Standby { node: self.node.clone() });
        }
        let statement = "SELECT rolsuper, rolname = session_user,
                pg_has_role(session_user, oid, 'MEMBER WITH ADMIN OPTION')
            FROM pg_catalog.pg_roles WHERE rolname = $1";
        let found = self.first("look at the role", statement, &[role]).await?;
        let row = found.ok_or_else(|| self.no_user(role))?;
        let (is_super, is_own, has_admin): (bool, bool, bool) =
            (self.column(&row, 0)?, self.column(&row, 1)?, self.column(&row, 2)?);
        if is_own || self.is_superuser {
            return Ok(());
        }
        let user = &self.user;
        if is_super {
            return Err(self.rights(format!("`{role}` is a superuser, and `{user}` is none")));
        }
        if !self.creates_roles {
            return Err(self.rights(format!("`{user}` lacks CREATEROLE to change `{role}`")));
        }
        if self.version >= 160_000 && !has_admin {
            return Err(self.rights(format!("`{user}` lacks the ADMIN option on `{role}`")));
        }
        Ok(())
    }

    /// Whether a role can be made a member of `group` here, without trying it.
    ///
    /// # Errors
    ///
    /// [`ServiceError::NoUser`], [`ServiceError::Rights`].
    pub async fn may_grant(&self, group: &str) -> Result<(), ServiceError> {
        let statement = "SELECT rolsuper, pg_has_role(session_user, oid, 'MEMBER WITH ADMIN OPTION')
            FROM pg_catalog.pg_roles WHERE rolname = $1";
        let found = self.first("look at the role", statement, &[group]).await?;
        let row = found.ok_or_else(|| self.no_user(group))?;
        let (is_super, has_admin): (bool, bool) = (self.column(&row, 0)?, self.column(&row, 1)?);
        let by_attribute = self.version < 160_000 && self.creates_roles && !is_super;
        if self.is_superuser || has_admin || by_attribute {
            return Ok(());
        }
        Err(self.rights(format!("`{}` lacks the ADMIN option on `{group}`, to grant it", self.user)))
    }

    /// Sets the password of a role. Setting the same verifier again changes nothing.
    ///
    /// # Errors
    ///
    /// [`ServiceError::Policy`] if a rule of the server is against the value, [`ServiceError::Rights`],
    /// [`ServiceError::NoUser`], [`ServiceError::Standby`].
    pub async fn set(&self, role: &str, verifier: &Verifier) -> Result<(), ServiceError> {
        let statement = format!("ALTER ROLE {} PASSWORD {}", quoted(role), verifier.literal());
        self.change("set the password", role, Some(verifier), &[statement]).await
    }

    /// Brings a role back to what it was. `verifier`, of the value it had, stands in where the server hides the old one.
    ///
    /// # Errors
    ///
    /// As [`Session::set`].
    pub async fn restore(
        &self,
        role: &str,
        before: &RoleState,
        verifier: &Verifier,
    ) -> Result<(), ServiceError> {
        let now = self.state(role).await?.ok_or_else(|| self.no_user(role))?;
        if now == *before && before.stored != Stored::Hidden {
            // Nothing was changed; and a rule of the server may be against the value of before by now.
            return Ok(());
        }
        let mut statement = format!("ALTER ROLE {}", quoted(role));
        // Only what differs: a role without further rights may change its own password and nothing else.
        if now.can_login != before.can_login {
            statement.push_str(if before.can_login { " LOGIN" } else { " NOLOGIN" });
        }
        if now.valid_until != before.valid_until {
            let until = before.valid_until.as_deref().unwrap_or("infinity");
            statement.push_str(&format!(" VALID UNTIL {}", literal(until)));
        }
        match &before.stored {
            Stored::Nothing => statement.push_str(" PASSWORD NULL"),
            Stored::Verifier(found) => statement.push_str(&format!(" PASSWORD {}", found.literal())),
            Stored::Hidden => statement.push_str(&format!(" PASSWORD {}", verifier.literal())),
        }
        self.change("bring the role back", role, Some(verifier), &[statement]).await
    }

    /// Drops a role, or lets nobody in with it where it owns objects by now: those stay. Its sessions must have ended.
    ///
    /// # Errors
    ///
    /// As [`Session::set`].
    pub async fn drop_role(&self, role: &str) -> Result<(), ServiceError> {
        let statement = "SELECT EXISTS (SELECT FROM pg_catalog.pg_shdepend
            WHERE refclassid = 'pg_catalog.pg_authid'::pg_catalog.regclass
              AND refobjid = (SELECT oid FROM pg_catalog.pg_roles WHERE rolname = $1)
              AND classid <> 'pg_catalog.pg_auth_members'::pg_catalog.regclass)";
        let row = self.one("look at the role's objects", statement, &[role]).await?;
        if self.column(&row, 0)? {
            return self.retire(role).await;
        }
        let statement = format!("DROP ROLE {}", quoted(role));
        self.change("drop the role", role, None, &[statement]).await
    }

    /// Lets a role log in no more and forgets its password; its open sessions stay.
    ///
    /// # Errors
    ///
    /// As [`Session::set`].
    pub async fn retire(&self, role: &str) -> Result<(), ServiceError> {
        let statement = format!("ALTER ROLE {} NOLOGIN PASSWORD NULL", quoted(role));
        self.change("retire the role", role, None, &[statement]).await
    }

    /// How many sessions a role has, without this one.
    ///
    /// # Errors
    ///
    /// [`ServiceError`] if the server does not say.
    pub async fn sessions(&self, role: &str) -> Result<u64, ServiceError> {
        let statement = "SELECT count(*) FROM pg_catalog.pg_stat_activity
            WHERE usename = $1 AND pid <> pg_catalog.pg_backend_pid()";
        let row = self.one("count sessions", statement, &[role]).await?;
        Ok(self.column::<i64>(&row, 0)?.unsigned_abs())
    }

    /// Whether the sessions of a role can be ended here, without trying it.
    ///
    /// # Errors
    ///
    /// [`ServiceError::Rights`].
    pub async fn may_end_sessions(&self, role: &str) -> Result<(), ServiceError> {
        let statement = "SELECT pg_has_role(session_user, $1, 'USAGE')
                OR (pg_has_role(session_user, 'pg_signal_backend', 'USAGE')
                    AND NOT (SELECT rolsuper FROM pg_catalog.pg_roles WHERE rolname = $1))";
        let row = self.one("look at the role", statement, &[role]).await?;
        if self.is_superuser || self.column::<bool>(&row, 0)? {
            return Ok(());
        }
        Err(self.rights(format!(
            "`{}` may not end sessions of `{role}`: GRANT pg_signal_backend to it",
            self.user
        )))
    }

    /// Ends all sessions of a role and waits until they are gone; returns how many there were.
    ///
    /// A new password does not end what the old one opened. Applications see a broken connection.
    ///
    /// # Errors
    ///
    /// [`ServiceError::Rights`], or [`ServiceError::Failed`] if a session stays for five seconds.
    pub async fn end_sessions(&self, role: &str) -> Result<u64, ServiceError> {
        let doing = "end sessions";
        let count = self.sessions(role).await?;
        self.rows(doing, END_SESSIONS, &[role]).await?;
        for _ in 0..SESSION_POLLS {
            if self.sessions(role).await? == 0 {
                return Ok(count);
            }
            tokio::time::sleep(SESSION_POLL).await;
        }
        Err(ServiceError::Failed { node: self.node.clone(), doing, reason: "some stay".into() })
    }

    /// Makes a change in one transaction that shows as little of it as the server lets us hide.
    pub(super) async fn change(
        &self,
        doing: &'static str,
        role: &str,
        verifier: Option<&Verifier>,
        statements: &[String],
    ) -> Result<(), ServiceError> {
        if self.is_standby {
            return Err(ServiceError::Standby { node: self.node.clone() });
        }
        let settings = if self.is_superuser { [BEGIN, DURABLE, QUIET].as_slice() } else { &[BEGIN, DURABLE] };
        let all = settings.iter().copied().chain(statements.iter().map(String::as_str)).chain(["COMMIT"]);
        // One message each: the server decides about logging a message as a whole.
        for statement in all {
            if let Err(error) = self.client.batch_execute(statement).await {
                let _ = self.client.batch_execute("ROLLBACK").await;
                return Err(self.refused(doing, role, verifier, &error));
            }
        }
        Ok(())
    }

    pub(super) async fn rows(
        &self,
        doing: &'static str,
        statement: &str,
        parameters: &[&str],
    ) -> Result<Vec<Row>, ServiceError> {
        let typed: Vec<_> = parameters
            .iter()
            .map(|text| (text as &(dyn tokio_postgres::types::ToSql + Sync), Type::TEXT))
            .collect();
        let failed = |error: Error| self.failed(doing, &error);
        self.client.batch_execute(BEGIN).await.map_err(failed)?;
        let rows = self.client.query_typed(statement, &typed).await;
        let ended = self.client.batch_execute(if rows.is_ok() { "COMMIT" } else { "ROLLBACK" }).await;
        let rows = rows.map_err(failed)?;
        ended.map_err(failed)?;
        Ok(rows)
    }

    pub(super) async fn first(
        &self,
        doing: &'static str,
        statement: &str,
        parameters: &[&str],
    ) -> Result<Option<Row>, ServiceError> {
        Ok(self.rows(doing, statement, parameters).await?.into_iter().next())
    }

    async fn one(
        &self,
        doing: &'static str,
        statement: &str,
        parameters: &[&str],
    ) -> Result<Row, ServiceError> {
        let row = self.first(doing, statement, parameters).await?;
        let empty = || ServiceError::Failed { node: self.node.clone(), doing, reason: "no answer".into() };
        row.ok_or_else(empty)
    }

    pub(super) fn column<'r, T: tokio_postgres::types::FromSql<'r>>(
        &self,
        row: &'r Row,
        index: usize,
    ) -> Result<T, ServiceError> {
        row.try_get(index).map_err(|error| self.failed("read the answer", &error))
    }

    pub(super) fn node(&self) -> &str {
        &self.node
    }

    pub(super) fn no_user(&self, role: &str) -> ServiceError {
        ServiceError::NoUser { node: self.node.clone(), user: role.to_owned() }
    }

    fn rights(&self, needs: String) -> ServiceError {
        ServiceError::Rights { node: self.node.clone(), needs }
    }

    /// An error of a statement that changes a role.
    fn refused(
        &self,
        doing: &'static str,
        role: &str,
        verifier: Option<&Verifier>,
        error: &Error,
    ) -> ServiceError {
        let Some(db) = error.as_db_error() else { return self.failed(doing, error) };
        let mut reason = db.message().to_owned();
        if let Some(verifier) = verifier {
            reason = reason.replace(verifier.text(), "…");
        }
        match db.code().code() {
            "42501" => self.rights(reason),
            "25006" => ServiceError::Standby { node: self.node.clone() },
            "42704" => self.no_user(role),
            // What password checks raise: an invalid parameter or authorization, a plain exception of a function.
            code if code.starts_with("22") || code.starts_with("28") || code == "P0001" => {
                ServiceError::Policy { node: self.node.clone(), user: role.to_owned(), reason }
            }
            _ => self.failed(doing, error),
        }
    }

    fn failed(&self, doing: &'static str, error: &Error) -> ServiceError {
        let node = self.node.clone();
        match error.as_db_error() {
            Some(db) if db.code().code() == "42501" => self.rights(db.message().to_owned()),
            Some(db) if db.code().code().starts_with("57P0") => {
                ServiceError::Unreachable { node, reason: db.message().to_owned() }
            }
            Some(db) => {
                ServiceError::Failed { node, doing, reason: format!("SQLSTATE {}", db.code().code()) }
            }
            None if error.is_closed() => {
                ServiceError::Unreachable { node, reason: "the connection was closed".into() }
            }
            None => ServiceError::Unreachable { node, reason: "the connection failed".into() },
        }
    }
}

/// An identifier in quotes.
pub(super) fn quoted(identifier: &str) -> String {
    format!("\"{}\"", identifier.replace('"', "\"\""))
}

/// A text as an SQL literal, whatever `standard_conforming_strings` says.
pub(super) fn literal(text: &str) -> String {
    format!("E'{}'", text.replace('\\', "\\\\").replace('\'', "''"))
}
