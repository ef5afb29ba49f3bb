//! What a batch is written under: what else runs in its transaction, and what its columns mean.

use tokio_postgres::Row;
use tokio_postgres::types::{ToSql, Type};

use super::session::PostgresSession;
use super::sql::reduce;
use crate::error::{DatabaseError, EngineError};

const LOOKING: &str = "look at what a batch is written under";

/// The circumstances of one batch. Under its lock they stand: making, changing and enabling triggers, foreign keys, rules
/// and columns conflict with it.
#[derive(Debug)]
pub(super) struct Circumstances {
    /// Something runs after the UPDATE and may change what is stored.
    pub(super) late_triggers: bool,
    /// A trigger may suppress the write, or change rows that are written already.
    pub(super) early_triggers: bool,
    /// Something else may write in this transaction: a cascade of a foreign key, a rule.
    follows: bool,
    /// The id of the transaction, epoch and all.
    pub(super) transaction: u64,
    /// What the columns of the plan mean.
    pub(super) meaning: Meaning,
}

/// Which columns of which table the names of a plan stand for: the table's oid and the columns' numbers. Another table
/// may take a name over, and so may another column, without any row being written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Meaning(pub(super) String);

/// `$2` are the names.
macro_rules! meaning {
    () => {
        "(SELECT concat_ws(' ', $1::text::regclass::oid, string_agg(a.attnum::text, ' ' ORDER BY a.attname))
            FROM pg_attribute a WHERE a.attrelid = $1::text::regclass AND a.attname = ANY ($2::text[]))"
    };
}

const MEANING: &str = concat!("SELECT ", meaning!());

/// Of table `$1` (as `regclass` text). Before and after: triggers, and checks of unique and exclusion constraints put off
/// until then; a foreign key that only checks changes nothing. One that follows is looked for at computed columns too,
/// whatever they are computed from.
///
/// `tgtype` bits: 1 row, 2 before, 4 insert, 8 delete, 16 update, 64 instead.
const CIRCUMSTANCES: &str = concat!(
    "SELECT EXISTS (SELECT FROM pg_trigger g WHERE g.tgrelid = $1::text::regclass
                AND g.tgenabled <> 'D' AND g.tgtype & 16 <> 0 AND g.tgtype & 2 = 0
                AND (NOT g.tgisinternal OR (g.tgconstraint <> 0 AND NOT EXISTS
                     (SELECT FROM pg_constraint k WHERE k.oid = g.tgconstraint AND k.contype = 'f')))),
           EXISTS (SELECT FROM pg_trigger g WHERE g.tgrelid = $1::text::regclass
                AND g.tgenabled <> 'D' AND g.tgtype & 18 = 18 AND NOT g.tgisinternal),
           EXISTS (SELECT FROM pg_constraint k JOIN pg_attribute a ON a.attrelid = k.confrelid AND a.attnum = ANY (k.confkey)
                WHERE k.contype = 'f' AND k.confrelid = $1::text::regclass AND k.confupdtype IN ('c', 'n', 'd')
                  AND (a.attgenerated <> '' OR a.attname = ANY ($2::text[])))
           OR (SELECT relhasrules FROM pg_class WHERE oid = $1::text::regclass),
           pg_current_xact_id()::text::int8, ",
    meaning!()
);

impl Circumstances {
    /// Whether the UPDATE writes what it says and nothing else is written with it.
    pub(super) fn are_plain(&self) -> bool {
        !(self.have_triggers() || self.follows)
    }

    /// Whether a trigger may change what the UPDATE writes.
    pub(super) fn have_triggers(&self) -> bool {
        self.late_triggers || self.early_triggers
    }

    fn from_row(row: &Row) -> Result<Self, EngineError> {
        let transaction = u64::try_from(row.get::<_, i64>(3));
        Ok(Self {
            late_triggers: row.get(0),
            early_triggers: row.get(1),
            follows: row.get(2),
            transaction: transaction
                .map_err(|_| DatabaseError::protocol(LOOKING, "a negative transaction id"))?,
            meaning: Meaning(row.get(4)),
        })
    }
}

impl PostgresSession {
    /// The circumstances of a batch, in its transaction.
    pub(super) async fn circumstances(&self, relation: &str) -> Result<Circumstances, EngineError> {
        Circumstances::from_row(&self.about(CIRCUMSTANCES, relation).await?)
    }

    /// What the columns of the plan mean at present, or in the snapshot that is open.
    pub(super) async fn meaning(&self, relation: &str) -> Result<Meaning, EngineError> {
        Ok(Meaning(self.about(MEANING, relation).await?.get(0)))
    }

    async fn about(&self, statement: &str, relation: &str) -> Result<Row, EngineError> {
        let plan = &self.job.plan;
        let names: Vec<&str> =
            plan.key.iter().map(|key| key.name.as_str()).chain(self.job.column_names()).collect();
        let parameters: [(&(dyn ToSql + Sync), Type); 2] =
            [(&relation, Type::TEXT), (&names, Type::TEXT_ARRAY)];
        let rows = self.statements.rows(&self.client, statement, &parameters).await;
        let row = rows.map_err(|error| reduce(LOOKING, error))?.pop();
        Ok(row.ok_or_else(|| DatabaseError::protocol(LOOKING, "no answer"))?)
    }
}
