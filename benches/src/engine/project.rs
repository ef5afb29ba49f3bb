//! A plan for the table, and a vault with its old and its new key.

use std::fs;
use std::path::Path;

use reseal_crypto::{ColumnId, KeyMaterial};
use reseal_formats::FormatSpec;
use reseal_rotate::columns::records;
use reseal_rotate::plan::Plan;
use reseal_vault::{NewVersion, SecretKind, SecretName, Vault};

use super::data::{COLUMNS, Stock, TABLE};
use crate::{BoxError, key_file};

/// The name of the columns in the plan.
pub(super) const NAME: &str = "bench";
const KEY: &str = "column-key";
const PLAN: &str = "reseal.toml";

/// Writes both for rows of `stock` that become values of the format `to` under `new_key`.
pub(super) fn create(
    directory: &Path,
    url: &str,
    (stock, to): (Stock, &FormatSpec),
    new_key: &KeyMaterial,
) -> Result<(), BoxError> {
    let from = toml::Value::try_from(stock.spec()?)?;
    let to = toml::Value::try_from(to)?;
    let vault = key_file::VAULT;
    let plan = format!(
        r#"
schema = 1
vault = "{vault}"

[servers.db]
kind = "postgres"
url = "{url}"

[columns.{NAME}]
server = "db"
table = "{TABLE}"
columns = {COLUMNS:?}
key = "{KEY}"
from = {from}
to = {to}

[secrets.{KEY}]
strategy = "columns"
"#
    );
    fs::write(directory.join(PLAN), plan)?;
    let name: SecretName = KEY.parse()?;
    let mut vault = key_file::create(directory)?;
    vault.put(&name, version(&stock.old_key()))?;
    vault.put(&name, NewVersion { pending: true, ..version(new_key) })?;
    Ok(())
}

/// Opens both.
pub(super) fn open(directory: &Path) -> Result<(Plan, Vault), BoxError> {
    Ok((Plan::load(&directory.join(PLAN))?, key_file::open(directory)?))
}

/// What the columns are called in the envelopes of the last run.
pub(super) fn column_ids(directory: &Path) -> Result<Vec<ColumnId>, BoxError> {
    let known = records(&mut key_file::open(directory)?)?;
    let last = known.last().ok_or("the vault knows of no run")?;
    Ok(last.plan.columns.iter().map(|column| column.id).collect())
}

fn version(key: &KeyMaterial) -> NewVersion {
    let kind = match key {
        KeyMaterial::Column(_) => SecretKind::Key,
        KeyMaterial::Foreign(_) => SecretKind::Password,
    };
    NewVersion::new(kind, key.foreign_bytes())
}
