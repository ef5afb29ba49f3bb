//! The database of a run: found by the plan, reached with a login of the vault, driven by the engine.

use std::path::PathBuf;
use std::sync::Arc;

use reseal_engine::postgres::{self, PostgresStore, PostgresTarget};
use reseal_engine::sqlite::{self, SqliteStore};
use reseal_engine::{Engine, EngineError, Job, Observer, RunOptions, TableName, TableShape};
use reseal_vault::{Vault, VersionSelector};

use crate::error::RotateError;
use crate::plan::{Columns, Kind, Login, Plan};
use crate::url::with_tls;

/// Where the columns are.
#[derive(Debug, Clone)]
pub(super) enum Target {
    /// A Postgres server.
    Postgres(Box<PostgresTarget>),
    /// A SQLite file.
    Sqlite(PathBuf),
}

impl Target {
    /// The database of a server of the plan. Releases the login from the vault.
    pub(super) fn of(plan: &Plan, name: &str, vault: &mut Vault) -> Result<Self, RotateError> {
        let wrong = |reason| RotateError::Server { server: name.to_owned(), reason };
        let server = plan.server(name).ok_or_else(|| wrong("is not in the plan any more"))?;
        match server.kind {
            Kind::Sqlite => {
                let path = server.path.as_ref().ok_or_else(|| wrong("has no `path`"))?;
                Ok(Self::Sqlite(plan.directory().join(path)))
            }
            Kind::Postgres => {
                let url =
                    server.url.as_deref().ok_or_else(|| wrong("has no `url`; columns are on one server"))?;
                if server.via.is_some() {
                    return Err(wrong(
                        "is reached `via` another host, which is not possible for columns yet",
                    ));
                }
                let password = match &server.login {
                    Some(Login::Secret(secret)) => {
                        Some(vault.get(&plan.secret_name(secret).parse()?, VersionSelector::Current)?.value)
                    }
                    Some(Login::Environment) => {
                        return Err(wrong("logs in with a secret of the vault, or as a peer"));
                    }
                    Some(Login::Peer) | None => None,
                };
                let address = with_tls(url, server.tls.as_ref(), plan.directory());
                Ok(Self::Postgres(Box::new(PostgresTarget::parse(&address, password.as_ref())?)))
            }
            _ => Err(wrong("holds no tables")),
        }
    }

    /// Reads what the table looks like.
    pub(super) async fn describe(&self, columns: &Columns) -> Result<TableShape, EngineError> {
        let (table, key) = (self.table(&columns.table), columns.row.as_deref());
        match self {
            Self::Postgres(target) => postgres::describe(target, &table, &columns.columns, key).await,
            Self::Sqlite(path) => sqlite::describe(path, &table, &columns.columns, key),
        }
    }

    /// A table of this database by the name in the plan.
    fn table(&self, name: &str) -> TableName {
        let usual = match self {
            Self::Postgres(_) => "public",
            Self::Sqlite(_) => "main",
        };
        let (schema, name) = name.split_once('.').unwrap_or((usual, name));
        TableName { schema: schema.to_owned(), name: name.to_owned() }
    }

    /// The engine for a job here.
    pub(super) fn engine(&self, job: Job, options: RunOptions, observer: Arc<dyn Observer>) -> Engine {
        let engine = match self {
            Self::Postgres(target) => Engine::new(PostgresStore::new((**target).clone()), job, options),
            Self::Sqlite(path) => Engine::new(SqliteStore::new(path), job, options),
        };
        engine.observed_by(observer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_get_the_usual_schema() {
        let target = Target::Sqlite("app.db".into());
        assert_eq!(target.table("t").to_string(), "main.t");
        assert_eq!(target.table("other.t").to_string(), "other.t");
    }
}
