//! Schema `reseal` of the target database: whose it may be, which version it has, which rights it takes.

use tokio_postgres::types::Type;

use super::session::PostgresSession;
use super::sql::reduce;
use crate::error::EngineError;
use crate::finding::Refusal;
use crate::ledger::RunId;
use crate::survey::TableFacts;

/// The statements that make schema `reseal`, for a database administrator to read or to run beforehand.
pub const DDL: &str = "\
CREATE SCHEMA IF NOT EXISTS reseal;
CREATE TABLE IF NOT EXISTS reseal.version (version int PRIMARY KEY);
INSERT INTO reseal.version VALUES (1) ON CONFLICT DO NOTHING;
CREATE TABLE IF NOT EXISTS reseal.run (
    run_id bytea PRIMARY KEY,
    relation text NOT NULL,
    direction text NOT NULL,
    system_identifier text NOT NULL,
    database_oid int8 NOT NULL,
    state text NOT NULL,
    pass int8 NOT NULL,
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    mac bytea NOT NULL);
CREATE UNIQUE INDEX IF NOT EXISTS run_active ON reseal.run (relation) WHERE state = 'active';
CREATE TABLE IF NOT EXISTS reseal.span (
    run_id bytea NOT NULL REFERENCES reseal.run,
    pass int8 NOT NULL,
    number int8 NOT NULL,
    relation text NOT NULL,
    incarnation int8 NOT NULL,
    lo bytea NOT NULL,
    hi bytea NOT NULL,
    next bytea NOT NULL,
    seq int8 NOT NULL,
    tallies int8[] NOT NULL,
    digest bytea NOT NULL,
    mac bytea NOT NULL,
    lease bytea,
    lease_until timestamptz,
    PRIMARY KEY (run_id, pass, number)) WITH (fillfactor = 50);
CREATE TABLE IF NOT EXISTS reseal.quarantine (
    run_id bytea NOT NULL REFERENCES reseal.run,
    relation text NOT NULL,
    column_name text NOT NULL,
    row_key bytea NOT NULL,
    value_mac bytea NOT NULL,
    reason text NOT NULL,
    seen_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (run_id, relation, column_name, row_key, value_mac));
CREATE TABLE IF NOT EXISTS reseal.column (
    relation text NOT NULL,
    column_name text NOT NULL,
    column_id bytea NOT NULL,
    PRIMARY KEY (relation, column_name));
CREATE TABLE IF NOT EXISTS reseal.anchor (
    vault_id bytea PRIMARY KEY,
    audit_index int8 NOT NULL,
    mac bytea NOT NULL,
    written_at timestamptz NOT NULL DEFAULT clock_timestamp());
";

const LOOKING: &str = "look at schema `reseal`";
/// The version that [`DDL`] makes.
const VERSION: i32 = 1;

impl PostgresSession {
    /// Whether the schema is there. Its owner can make anything run with our rights, so it has to be one who could
    /// anyway: ourselves, a superuser, the owner of the table, or for a role without such rights one that it belongs to.
    ///
    /// # Errors
    ///
    /// [`EngineError::Refused`] if it belongs to someone else, is not ours to read, or has another version.
    pub(super) async fn has_schema(&self) -> Result<bool, EngineError> {
        let refused = |refusal| Err(EngineError::Refused(vec![refusal]));
        let table = self.table();
        let stranger = self.client.query_typed_opt(STRANGER, &[(&table, Type::TEXT)]).await;
        if let Some(row) = stranger.map_err(|error| reduce(LOOKING, error))? {
            return refused(Refusal::SchemaOwner { what: row.get(0), owner: row.get(1), role: row.get(2) });
        }
        match self.flag("SELECT has_schema_privilege(to_regnamespace('reseal')::oid, 'USAGE')").await? {
            None => return Ok(false),
            Some(false) => return refused(self.lacks("USAGE ON SCHEMA reseal").await?),
            Some(true) => {}
        }
        // The last of its tables: without it, whoever made the others did not end.
        if self.flag("SELECT to_regclass('reseal.anchor') IS NOT NULL").await? != Some(true) {
            return Ok(false);
        }
        if self.flag("SELECT has_table_privilege('reseal.version', 'SELECT')").await? != Some(true) {
            return refused(self.lacks(TABLE_RIGHTS).await?);
        }
        let rows = self.rows("SELECT version FROM reseal.version", &[]).await?;
        let versions: Vec<i32> = rows.iter().map(|row| row.get(0)).collect();
        match versions[..] {
            [VERSION] => Ok(true),
            _ => refused(Refusal::SchemaVersion(format!("{versions:?}"))),
        }
    }

    /// Whether runs can be recorded here, and whether another one is active on the table.
    pub(super) async fn judge_schema(&self, facts: &mut TableFacts) -> Result<(), EngineError> {
        let needed = match self.has_schema().await {
            Err(EngineError::Refused(refusals)) => {
                facts.refusals.extend(refusals);
                return Ok(());
            }
            Err(error) => return Err(error),
            Ok(true) => self.flag(MAY_WRITE).await?,
            Ok(false) => self.flag(MAY_MAKE).await?,
        };
        if needed != Some(true) {
            let made = self.flag("SELECT to_regnamespace('reseal') IS NOT NULL").await? == Some(true);
            let database =
                self.rows("SELECT format('CREATE ON DATABASE %I', current_database())", &[]).await?;
            let grant = match (made, database.first()) {
                (false, Some(row)) => row.get(0),
                _ => TABLE_RIGHTS,
            };
            facts.refusals.push(self.lacks(grant).await?);
            return Ok(());
        }
        self.judge_other_runs(facts).await
    }

    /// One run per table: another one has to end first, or this one supersedes it.
    async fn judge_other_runs(&self, facts: &mut TableFacts) -> Result<(), EngineError> {
        if !self.has_schema().await? {
            return Ok(());
        }
        if let Some(run) = self.other_run().await? {
            facts.refusals.push(Refusal::OtherRun { relation: self.job.plan.table.to_string(), run });
        }
        Ok(())
    }

    /// The run that is active on the table, if it is neither this one nor superseded by it.
    pub(super) async fn other_run(&self) -> Result<Option<RunId>, EngineError> {
        let plan = &self.job.plan;
        let superseded = plan.supersedes.map(|run| run.0.to_vec());
        let row = self
            .client
            .query_typed_opt(
                "SELECT run_id FROM reseal.run WHERE relation = $1 AND state = 'active' AND run_id <> $2
                    AND run_id IS DISTINCT FROM $3",
                &[
                    (&self.table(), Type::TEXT),
                    (&plan.run.0.as_slice(), Type::BYTEA),
                    (&superseded, Type::BYTEA),
                ],
            )
            .await
            .map_err(|error| reduce(LOOKING, error))?;
        let Some(row) = row else { return Ok(None) };
        let id = row
            .get::<_, &[u8]>(0)
            .try_into()
            .map_err(|_| EngineError::Damaged("a run id of another length"))?;
        Ok(Some(RunId(id)))
    }

    /// That the role has not got this right.
    async fn lacks(&self, grant: &str) -> Result<Refusal, EngineError> {
        let role = self.client.query_typed_one("SELECT format('%I', current_user)", &[]).await;
        let role = role.map_err(|error| reduce(LOOKING, error))?.get(0);
        Ok(Refusal::Grant { grant: grant.into(), role })
    }

    /// One truth value; `None` is NULL.
    async fn flag(&self, statement: &str) -> Result<Option<bool>, EngineError> {
        Ok(self.rows(statement, &[]).await?.first().and_then(|row| row.get(0)))
    }
}

const TABLE_RIGHTS: &str = "SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA reseal";

/// What belongs to someone whom nothing gave our rights before. A superuser is a member of every role, so that to one
/// membership says nothing.
const STRANGER: &str = "
    SELECT what, pg_get_userbyid(owner)::text, format('%I', current_user)
      FROM (SELECT 'schema reseal' AS what, nspowner AS owner FROM pg_namespace WHERE nspname = 'reseal'
            UNION ALL
            SELECT format('reseal.%I', relname), relowner FROM pg_class
             WHERE relnamespace = to_regnamespace('reseal') AND relkind IN ('r', 'p', 'v', 'm', 'f')) AS owned
      JOIN pg_roles me ON me.rolname = current_user
     WHERE owner <> me.oid AND NOT EXISTS (SELECT FROM pg_roles o WHERE o.oid = owner AND o.rolsuper)
       AND owner IS DISTINCT FROM (SELECT relowner FROM pg_class WHERE oid = to_regclass($1))
       AND (me.rolsuper OR NOT pg_has_role(owner, 'MEMBER'))
     ORDER BY what DESC LIMIT 1";

const MAY_WRITE: &str = "
    SELECT bool_and(has_table_privilege(format('reseal.%I', t), p))
      FROM unnest(ARRAY['run', 'span', 'quarantine', 'column']) AS t,
           unnest(ARRAY['SELECT', 'INSERT', 'UPDATE', 'DELETE']) AS p";

const MAY_MAKE: &str = "
    SELECT coalesce(has_schema_privilege(to_regnamespace('reseal')::oid, 'CREATE'),
                    has_database_privilege(current_database(), 'CREATE'))";
