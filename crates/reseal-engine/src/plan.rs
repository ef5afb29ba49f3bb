//! What a run writes, frozen before its first row: the plan, and the plan joined with its keys.

use reseal_crypto::{Binding, ColumnId, KeyRef, Keyring};
use reseal_formats::{Codec, ColumnType, FormatSpec};
use serde::{Deserialize, Serialize};

use crate::error::EngineError;
use crate::ledger::{LedgerKeys, RunId, RunKey, SealedSpan, SpanRecord};
use crate::suppressed::Suppressed;

/// Most columns of one run: they change together in one statement, and one word says which of a row changed.
pub const COLUMNS_MAX: usize = 32;

/// Most columns of a row key, whose count is one byte.
pub const KEY_COLUMNS_MAX: usize = 255;

/// Which way a run goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Direction {
    /// From the old key to the new one.
    Forward,
    /// Back: the keys of a forward run swapped.
    Rollback,
}

impl Direction {
    /// The word in the database.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Forward => "forward",
            Self::Rollback => "rollback",
        }
    }
}

/// The type of a key column, as it enters the row key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum KeyType {
    /// An integer of any width.
    Integer,
    /// Text.
    Text,
    /// A byte string.
    Bytes,
    /// A UUID.
    Uuid,
    /// Anything else, compared by its text form; cannot be bound to.
    Other,
}

/// A column of the row key.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct KeyColumn {
    /// Its name.
    pub name: String,
    /// Its type.
    pub kind: KeyType,
}

/// A table by schema and name, without quotes. SQLite tables stand in `main`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct TableName {
    /// The schema.
    pub schema: String,
    /// The name.
    pub name: String,
}

impl std::fmt::Display for TableName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}.{}", self.schema, self.name)
    }
}

/// What a plan needs to know of a table before there is a run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TableShape {
    /// The name as the database spells it.
    pub table: TableName,
    /// The row key that was asked for; else the primary key, or a unique key that cannot be NULL, without the columns
    /// of the run; empty if there is none.
    pub key: Vec<KeyColumn>,
    /// How the columns of the run hold their values.
    pub columns: Vec<ColumnType>,
    /// The ids under which the database knows them. Whoever may write there may have put them there: an id is to be
    /// believed once a value opens under it.
    pub ids: Vec<Option<ColumnId>>,
}

/// One column of a run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ColumnPlan {
    /// Its name.
    pub name: String,
    /// How it holds values.
    pub column_type: ColumnType,
    /// Its random id, part of the associated data of envelopes.
    #[serde(with = "column_id")]
    pub id: ColumnId,
    /// The id under which the database knows it and no value is sealed: the run puts its own in that place.
    #[serde(default, skip_serializing_if = "Option::is_none", with = "replaced_id")]
    pub replaces: Option<ColumnId>,
    /// What it holds before the run.
    pub from: Side,
    /// What it holds after it.
    pub to: Side,
}

/// A format under a key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Side {
    /// The format.
    pub spec: FormatSpec,
    /// The key, by name and version: a run never looks up labels again.
    #[serde(with = "KeyRefFields")]
    pub key: KeyRef,
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "KeyRef")]
struct KeyRefFields {
    secret: String,
    version: u64,
}

/// Everything that decides what a run writes. Frozen by the caller before the run exists anywhere else.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunPlan {
    /// Names the run.
    pub run: RunId,
    /// Which way it goes.
    pub direction: Direction,
    /// The run in whose place this one stands: the forward run that a rollback takes back, or one whose vault is lost.
    pub supersedes: Option<RunId>,
    /// The table; its partitions are found when the run starts.
    pub table: TableName,
    /// The row key, in the order in which it enters associated data; empty where there is none.
    pub key: Vec<KeyColumn>,
    /// The columns; they change together.
    pub columns: Vec<ColumnPlan>,
}

impl RunPlan {
    /// The run that takes this one back: the same columns with their sides swapped.
    #[must_use]
    pub fn reversed(&self, run: RunId) -> Self {
        let swap = |column: &ColumnPlan| ColumnPlan {
            from: column.to.clone(),
            to: column.from.clone(),
            ..column.clone()
        };
        Self {
            run,
            direction: Direction::Rollback,
            supersedes: Some(self.run),
            columns: self.columns.iter().map(swap).collect(),
            ..self.clone()
        }
    }

    /// Whether any value is bound to its row, before or after the run.
    pub fn row_bound(&self) -> bool {
        let sides = self.columns.iter().flat_map(|column| [&column.from, &column.to]);
        sides.into_iter().any(|side| side.spec.binding() == Binding::Row)
    }
}

/// The two ways of storing one column: what is read and what is written.
#[derive(Debug)]
pub struct Codecs {
    /// Under the old key.
    pub from: Codec,
    /// Under the new key.
    pub to: Codec,
    /// Whether either side needs the row key to open a value.
    pub row_bound: bool,
    new_prefix: Option<Vec<u8>>,
}

impl Codecs {
    /// Joins the two sides of a column.
    pub fn new(from: Codec, to: Codec, row_bound: bool) -> Self {
        let new_prefix = to.stored_prefix();
        Self { from, to, row_bound, new_prefix }
    }

    /// What every stored value under the new key begins with, if its format names its key.
    pub fn new_prefix(&self) -> Option<&[u8]> {
        self.new_prefix.as_deref()
    }

    /// Whether values under the new key are recognised without opening them.
    pub fn names_new_key(&self) -> bool {
        self.new_prefix.is_some()
    }

    /// Whether a stored value names the new key.
    pub fn names_new(&self, stored: &[u8]) -> bool {
        self.new_prefix.as_ref().is_some_and(|prefix| stored.starts_with(prefix))
    }
}

/// A plan joined with its keys: what every part of the engine works from.
#[derive(Debug)]
pub struct Job {
    /// The frozen plan.
    pub plan: RunPlan,
    /// The codecs, one pair per column of the plan.
    pub codecs: Vec<Codecs>,
    /// The keys of the account.
    pub keys: LedgerKeys,
    /// Values whose writes vanish.
    pub(crate) suppressed: Suppressed,
}

impl Job {
    /// Joins a plan with the keys it names.
    ///
    /// # Errors
    ///
    /// [`EngineError::Plan`] if a key is missing or does not serve its format.
    pub fn new(plan: RunPlan, keyring: &Keyring, key: &RunKey) -> Result<Self, EngineError> {
        let codecs = plan.columns.iter().map(|column| {
            let from = codec(column, &column.from, keyring)?;
            let to = codec(column, &column.to, keyring)?;
            let row_bound = [&column.from, &column.to].iter().any(|side| side.spec.binding() == Binding::Row);
            Ok(Codecs::new(from, to, row_bound))
        });
        let codecs = codecs.collect::<Result<_, EngineError>>()?;
        Self::with_codecs(plan, codecs, key)
    }

    /// Joins a plan with codecs that the caller made.
    ///
    /// # Errors
    ///
    /// [`EngineError::Plan`] if they do not belong together, if the plan has no or too many columns, or if its row key
    /// has too many or one that the run writes.
    pub fn with_codecs(plan: RunPlan, codecs: Vec<Codecs>, key: &RunKey) -> Result<Self, EngineError> {
        if plan.columns.len() != codecs.len() {
            return Err(EngineError::Plan("the plan has another number of columns than codecs".into()));
        }
        if plan.columns.is_empty() || plan.columns.len() > COLUMNS_MAX {
            return Err(EngineError::Plan(format!("a run has 1 to {COLUMNS_MAX} columns")));
        }
        if plan.key.len() > KEY_COLUMNS_MAX {
            return Err(EngineError::Plan(format!("a row key has at most {KEY_COLUMNS_MAX} columns")));
        }
        let written = |key: &&KeyColumn| plan.columns.iter().any(|column| column.name == key.name);
        if let Some(key) = plan.key.iter().find(written) {
            return Err(EngineError::Plan(format!(
                "column `{}` is encrypted and cannot be part of the row key; name another key",
                key.name
            )));
        }
        Ok(Self { plan, codecs, keys: LedgerKeys::new(key), suppressed: Suppressed::default() })
    }

    /// Seals a span's record with its MAC, for the store to keep.
    pub fn seal_span(&self, record: SpanRecord) -> SealedSpan {
        SealedSpan::new(record, self.plan.run, &self.keys)
    }

    /// The names of the columns.
    pub fn column_names(&self) -> impl Iterator<Item = &str> {
        self.plan.columns.iter().map(|column| column.name.as_str())
    }

    /// Whether opening any column takes the row key.
    pub fn row_bound(&self) -> bool {
        self.codecs.iter().any(|codecs| codecs.row_bound)
    }

    /// Whether every column's new format names its key, so that old values are found without opening any.
    pub fn names_new_key(&self) -> bool {
        self.codecs.iter().all(Codecs::names_new_key)
    }
}

/// A name in quotes, as SQL takes it.
pub(crate) fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

fn codec(column: &ColumnPlan, side: &Side, keyring: &Keyring) -> Result<Codec, EngineError> {
    let key = keyring
        .get(&side.key)
        .ok_or_else(|| EngineError::Plan(format!("the keyring has no {}", side.key)))?;
    side.spec
        .codec(column.column_type, key, column.id)
        .map_err(|error| EngineError::Plan(format!("column `{}` with {}: {error}", column.name, side.key)))
}

/// A column id as 32 hex digits.
mod column_id {
    use reseal_crypto::ColumnId;
    use serde::de::{Deserialize, Deserializer, Error};
    use serde::ser::Serializer;

    use crate::ledger::RunId;

    pub(super) fn serialize<S: Serializer>(id: &ColumnId, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(id)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<ColumnId, D::Error> {
        let text = String::deserialize(deserializer)?;
        // Run ids have the same form.
        let id = RunId::from_hex(&text).ok_or_else(|| D::Error::custom("a column id has 32 hex digits"))?;
        Ok(ColumnId(id.0))
    }
}

/// A column id that may be missing.
mod replaced_id {
    use reseal_crypto::ColumnId;
    use serde::de::{Deserialize, Deserializer};
    use serde::ser::Serializer;

    use super::column_id;

    pub(super) fn serialize<S: Serializer>(id: &Option<ColumnId>, serializer: S) -> Result<S::Ok, S::Error> {
        match id {
            Some(id) => column_id::serialize(id, serializer),
            None => serializer.serialize_none(),
        }
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<ColumnId>, D::Error> {
        #[derive(serde::Deserialize)]
        struct Id(#[serde(with = "column_id")] ColumnId);
        Ok(Option::<Id>::deserialize(deserializer)?.map(|Id(id)| id))
    }
}
