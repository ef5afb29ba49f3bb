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
    /// A column that is set belongs to a unique index: only the stronger row lock keeps foreign-key checks out.
    pub(super) unique: bool,
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

/// Lists table `$1` (as `regclass` text) with its partitions and children; `$2` are the names of the columns that are set.
pub(super) const LEAVES: &str = with_tree!(
    "SELECT format('%I.%I', n.nspname, c.relname),
           coalesce(pg_relation_filenode(c.oid), 0)::int8,
           coalesce(pg_relation_size(c.oid), 0) / current_setting('block_size')::int8,
           coalesce(pg_relation_size(nullif(c.reltoastrelid, 0)), 0) > 0,
           EXISTS (SELECT FROM pg_index x JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum = ANY (x.indkey)
                    WHERE x.indrelid = c.oid AND x.indisunique AND a.attname = ANY ($2::text[])),
           c.relkind::text
      FROM tree JOIN pg_class c ON c.oid = tree.oid JOIN pg_namespace n ON n.oid = c.relnamespace
     ORDER BY 1"
);

impl Leaf {
    pub(super) fn from_row(row: &Row) -> Self {
        let count = |index: usize| u64::try_from(row.get::<_, i64>(index)).unwrap_or(0);
        Self {
            name: row.get(0),
            filenode: count(1),
            blocks: count(2),
            wide: row.get(3),
            unique: row.get(4),
            even_keys: false,
        }
    }
}
