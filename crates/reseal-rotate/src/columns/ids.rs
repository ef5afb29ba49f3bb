//! The ids of columns, where vault and database do not agree: one of them was restored from an older copy.
//!
//! Whoever may write to the database may put any id there, and one that belongs to another column would let its values
//! be moved here. So the id of the database counts once a value opens under it, and only then.

use reseal_crypto::{Binding, ColumnId};
use reseal_engine::{Census, ColumnPlan, Reason, TableName};
use reseal_vault::Vault;

use super::record::records;
use crate::error::RotateError;

/// The columns of one table, on a server of the plan.
#[derive(Debug, Clone, Copy)]
pub(super) struct Place<'a> {
    pub(super) server: &'a str,
    pub(super) table: &'a TableName,
}

impl Place<'_> {
    /// The id to look at a column with: the vault's, or the one that the database knows and the vault does not, and
    /// whether it is to be believed only once a value opens under it.
    pub(super) fn candidate(
        self,
        vault: &mut Vault,
        column: &str,
        in_database: Option<ColumnId>,
    ) -> Result<(ColumnId, bool), RotateError> {
        let table = self.table.to_string();
        let known = vault.known_column_id(self.server, &table, column)?;
        let Some(id) = in_database.filter(|id| Some(*id) != known) else {
            return Ok((vault.column_id(self.server, &table, column)?, false));
        };
        match known {
            // Values were sealed under it, so it is the database that changed.
            Some(own) if is_used(vault, own)? => Ok((own, false)),
            _ => Ok((id, true)),
        }
    }

    /// Settles on an id for a column, from what the table holds when it is read with the id of the database: that one if
    /// values open under it; the vault's if none could be bound to it.
    pub(super) fn settle(
        self,
        vault: &mut Vault,
        column: &mut ColumnPlan,
        found: &Census,
        index: usize,
    ) -> Result<(), RotateError> {
        let (table, counts) = (self.table.to_string(), &found.columns[index]);
        let is_bound = |side: &reseal_engine::Side| side.spec.binding() != Binding::None;
        let opened = if is_bound(&column.from) { counts.old } else { 0 }
            + if is_bound(&column.to) { counts.new } else { 0 };
        let damaged = counts.left.of(Reason::Corrupt);
        if opened > damaged {
            return Ok(vault.adopt_column_id(self.server, &table, &column.name, column.id)?);
        }
        // What names a key and does not open may be bound to the id, or to one that nobody knows any more.
        if opened + damaged + counts.left.of(Reason::UnknownKey) > 0 {
            return Err(RotateError::ColumnId { column: format!("{table}.{}", column.name), id: column.id });
        }
        let own = vault.column_id(self.server, &table, &column.name)?;
        column.replaces = Some(std::mem::replace(&mut column.id, own));
        Ok(())
    }
}

/// Whether any run of this vault sealed values under an id.
fn is_used(vault: &mut Vault, id: ColumnId) -> Result<bool, RotateError> {
    let runs = records(vault)?;
    Ok(runs.iter().flat_map(|record| &record.plan.columns).any(|column| column.id == id))
}
