//! `[columns.NAME]`: encrypted columns of one table under one key.

use std::num::NonZeroUsize;
use std::ops::Range;

use reseal_engine::TableName;
use reseal_formats::FormatSpec;
use serde::Deserialize;

use super::PlanFile;
use super::error::Finding;
use super::secrets::Strategy;
use super::servers::Kind;

/// Encrypted columns.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Columns {
    /// The server that holds them.
    pub server: String,
    /// The table, with its schema if that is not the usual one.
    pub table: String,
    /// The columns; they change together.
    pub columns: Vec<String>,
    /// The secret whose versions are the old and the new key.
    pub key: String,
    /// What values look like now.
    pub from: FormatSpec,
    /// What they shall look like; as now, if it is left out.
    pub to: Option<FormatSpec>,
    /// The columns of the row key, in the order in which they enter associated data; the primary key otherwise.
    pub row: Option<Vec<String>>,
    /// Whether applications open values under either key, so that nothing stops.
    #[serde(default)]
    pub online: bool,
    /// What changes with it, such as blind indexes.
    #[serde(default)]
    pub companions: Vec<String>,
    /// What every plaintext looks like, for formats that do not notice a wrong key.
    pub plaintext: Option<String>,
    /// How hard the database is driven.
    pub limits: Option<Limits>,
}

/// How hard a database is driven.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Limits {
    /// Connections that work at the same time.
    pub workers: Option<NonZeroUsize>,
}

impl Columns {
    /// What values shall look like.
    pub fn target(&self) -> FormatSpec {
        self.to.clone().unwrap_or_else(|| self.from.as_target())
    }

    /// Whether this is their table. SQLite reads names without regard to case.
    pub(crate) fn is_in(&self, table: &TableName) -> bool {
        let [own, other] = [&self.table, &table.to_string()].map(|name| name.to_ascii_lowercase());
        bare(&own) == bare(&other)
    }

    /// A column that both describe.
    fn shared_with(&self, other: &Self) -> Option<&String> {
        let is_same_table = self.server == other.server && bare(&self.table) == bare(&other.table);
        self.columns.iter().find(|column| is_same_table && other.columns.contains(column))
    }

    pub(super) fn check(&self, name: &str, span: Range<usize>, plan: &PlanFile) -> Result<(), Finding> {
        let Some(server) = plan.servers.get(&self.server) else {
            return Err(Finding::new(
                span,
                format!("columns `{name}` are on server `{}`, which is not there", self.server),
            )
            .among(&self.server, plan.servers.keys().map(String::as_str)));
        };
        if !matches!(server.get_ref().kind, Kind::Postgres | Kind::Sqlite) {
            return Err(Finding::new(span, format!("columns `{name}` are on a server that holds no tables"))
                .remedy("columns live on servers of kind postgres or sqlite"));
        }
        let Some(key) = plan.secrets.get(&self.key) else {
            return Err(Finding::new(
                span,
                format!("columns `{name}` name key `{}`, which is no secret here", self.key),
            )
            .among(&self.key, plan.secrets.keys().map(String::as_str)));
        };
        if key.get_ref().strategy != Some(Strategy::Columns) {
            return Err(Finding::new(
                key.span(),
                format!("secret `{}` is the key of columns `{name}`", self.key),
            )
            .remedy("write strategy = \"columns\" in it"));
        }
        if self.columns.is_empty() || self.table.is_empty() {
            return Err(Finding::new(span, format!("columns `{name}` name no table or no column")));
        }
        let mut sorted = self.columns.clone();
        sorted.sort();
        if sorted.windows(2).any(|pair| pair[0] == pair[1]) {
            return Err(Finding::new(span, format!("columns `{name}` name a column twice")));
        }
        let shared = plan
            .columns
            .iter()
            .take_while(|(other, _)| other.as_str() != name)
            .find_map(|(other, columns)| Some((other, self.shared_with(columns.get_ref())?)));
        if let Some((other, column)) = shared {
            return Err(Finding::new(
                span,
                format!("columns `{other}` and `{name}` both name column `{column}`"),
            )
            .remedy("a value is under one key at a time: name each column once"));
        }
        Ok(())
    }
}

/// The name of a table without the schema that is the usual one.
fn bare(table: &str) -> &str {
    table.strip_prefix("public.").or(table.strip_prefix("main.")).unwrap_or(table)
}
