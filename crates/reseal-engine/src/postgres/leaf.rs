//! The tables that hold rows: a table itself, its partitions, its children.

use tokio_postgres::Row;

/// What a worker must know about a leaf table to read and write it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Leaf {
    /// Schema and name, quoted.
    pub(super) name: String,
    /// Changes when the table is rewritten as a whole.
    pub(super) filenode: u64,
    /// Blocks of the main fork.
    pub(super) blocks: u64,
    /// Whether values stand outside their rows, so that one row may be very large.
    pub(super) wide: bool,
    /// Something runs after the UPDATE and may change what is stored.
    pub(super) late_triggers: bool,
    /// A trigger may suppress the write, or change rows that are written already.
    pub(super) early_triggers: bool,
    /// A column that is set belongs to a unique index: only the stronger row lock keeps foreign-key checks out.
    pub(super) unique: bool,
    /// A column that is set is one that foreign keys refer to: setting it may set more, by `ON UPDATE CASCADE`.
    pub(super) referenced: bool,
    /// The last bits of the key tell stripes of the same size; asked for where a pass in stripes is laid out.
    pub(super) even_keys: bool,
}

/// Opens a statement: `tree` is table `$1` (as `regclass` text) with its partitions and children; empty if there is none.
macro_rules! with_tree {
    ($statement:expr) => {
        concat!(
            "WITH RECURSIVE tree AS (
                 SELECT to_regclass($1::text)::oid AS oid
                 UNION ALL
                 SELECT i.inhrelid FROM pg_inherits i JOIN tree ON i.inhparent = tree.oid) ",
            $statement
        )
    };
}
pub(super) use with_tree;

/// Whether anything runs after an UPDATE of the table with this oid: triggers, or checks of unique and exclusion
/// constraints put off until then. Not foreign keys: they change nothing.
///
/// `tgtype` bits: 1 row, 2 before, 4 insert, 8 delete, 16 update, 64 instead.
macro_rules! late_triggers {
    ($oid:literal) => {
        concat!(
            "EXISTS (SELECT FROM pg_trigger g WHERE g.tgrelid = ",
            $oid,
            " AND g.tgenabled <> 'D' AND g.tgtype & 16 <> 0 AND g.tgtype & 2 = 0
               AND (NOT g.tgisinternal OR (g.tgconstraint <> 0 AND NOT EXISTS
                    (SELECT FROM pg_constraint k WHERE k.oid = g.tgconstraint AND k.contype = 'f'))))"
        )
    };
}

/// Whether a trigger runs before an UPDATE of the table with this oid.
macro_rules! early_triggers {
    ($oid:literal) => {
        concat!(
            "EXISTS (SELECT FROM pg_trigger g WHERE g.tgrelid = ",
            $oid,
            " AND g.tgenabled <> 'D' AND g.tgtype & 18 = 18 AND NOT g.tgisinternal)"
        )
    };
}

/// What runs after and before an UPDATE of table `$1` (as `regclass` text), and the id of the transaction. Under the
/// lock of a batch the answer stands: making, changing and enabling triggers conflict with it.
pub(super) const TRIGGERS: &str = concat!(
    "SELECT ",
    late_triggers!("$1::text::regclass"),
    ", ",
    early_triggers!("$1::text::regclass"),
    ", pg_current_xact_id()::text::int8"
);

/// Lists table `$1` (as `regclass` text) with its partitions and children; `$2` are the names of the columns that are set.
pub(super) const LEAVES: &str = with_tree!(concat!(
    "SELECT format('%I.%I', n.nspname, c.relname),
           coalesce(pg_relation_filenode(c.oid), 0)::int8,
           coalesce(pg_relation_size(c.oid), 0) / current_setting('block_size')::int8,
           coalesce(pg_relation_size(nullif(c.reltoastrelid, 0)), 0) > 0,
           ",
    late_triggers!("c.oid"),
    ",
           ",
    early_triggers!("c.oid"),
    ",
           EXISTS (SELECT FROM pg_index x JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum = ANY (x.indkey)
                    WHERE x.indrelid = c.oid AND x.indisunique AND a.attname = ANY ($2::text[])),
           c.relkind::text,
           EXISTS (SELECT FROM pg_constraint k JOIN pg_attribute a
                    ON a.attrelid = k.confrelid AND a.attnum = ANY (k.confkey)
                    WHERE k.contype = 'f' AND k.confrelid = c.oid AND a.attname = ANY ($2::text[]))
      FROM tree JOIN pg_class c ON c.oid = tree.oid JOIN pg_namespace n ON n.oid = c.relnamespace
     ORDER BY 1"
));

impl Leaf {
    /// Whether an UPDATE writes what it says and nothing else.
    pub(super) fn is_plain(&self) -> bool {
        !(self.late_triggers || self.early_triggers || self.referenced)
    }

    pub(super) fn from_row(row: &Row) -> Self {
        let count = |index: usize| u64::try_from(row.get::<_, i64>(index)).unwrap_or(0);
        Self {
            name: row.get(0),
            filenode: count(1),
            blocks: count(2),
            wide: row.get(3),
            late_triggers: row.get(4),
            early_triggers: row.get(5),
            unique: row.get(6),
            referenced: row.get(8),
            even_keys: false,
        }
    }
}
