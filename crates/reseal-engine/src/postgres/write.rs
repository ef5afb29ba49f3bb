//! Writes a batch: compare-and-set, read-back, comparison and checkpoint in one transaction.

use std::time::{Duration, Instant};

use futures_util::TryStreamExt;
use reseal_formats::ColumnType;
use tokio_postgres::Row;
use tokio_postgres::types::{ToSql, Type};

use super::arrays::{Column, Raw, Source};
use super::circumstances::Circumstances;
use super::leaf::Leaf;
use super::session::PostgresSession;
use super::sql::{begin_write, column_expression, key_expression, quoted, reduce, row_expressions};
use crate::batch::{Batch, KeyCells};
use crate::error::{DatabaseError, EngineError};
use crate::observer::{BatchInfo, Moment, Observer};
use crate::plan::KeyType;
use crate::store::{Committed, MissCause, Missed, QuarantineRecord, WriteOutcome};
use crate::verified::{Lease, VerifiedBatch};

const WRITING: &str = "write rows";
/// How long a table on which locks were met is written past locked rows at once.
const SKIP_LOCKED_FOR: Duration = Duration::from_secs(60);
/// Up to this many rows the sum of lock waits stays below half a deadlock check by itself, so that the statement may
/// take as long as large values need.
const FEW_ROWS: usize = 4;
const FEW_ROWS_MS: u64 = 60_000;
/// How many rows of a batch are compared here where no trigger runs; fewer where some of them were not written.
const COMPARED: usize = 8;

/// How rows held by others are treated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Locking {
    /// Wait for them, for a short time.
    Wait,
    /// Pass them by.
    Skip,
}

/// How one try ended.
enum Try {
    Done(Box<Committed>),
    LeaseLost,
    /// A lock or the statement's time ran out.
    TimedOut,
    /// A deadlock or a moved row: the same may succeed at once.
    Again,
}

/// What the database said about the rows of a batch.
struct Returned {
    /// Per change: whether it was written.
    written: Vec<bool>,
    /// Some of the changes that were written, and where their rows are now; all of them where triggers run.
    places: Vec<(u32, u64)>,
}

impl PostgresSession {
    pub(super) async fn write_batch(
        &mut self,
        lease: &Lease,
        batch: &VerifiedBatch,
        observer: &dyn Observer,
    ) -> Result<WriteOutcome, EngineError> {
        let skip = self.skip_locked_until.is_some_and(|until| Instant::now() < until);
        let first = if skip { Locking::Skip } else { Locking::Wait };
        let mut result = self.try_write(lease, batch, first, observer).await?;
        if matches!(result, Try::TimedOut) && first == Locking::Wait {
            result = self.try_write(lease, batch, Locking::Skip, observer).await?;
            // Time also runs out where a batch is heavy, and then nothing is gained by passing rows by.
            let met_locks = matches!(&result, Try::Done(committed) if !committed.missed.is_empty());
            self.lock_streak = if met_locks { self.lock_streak + 1 } else { 0 };
            if self.lock_streak >= 2 {
                self.skip_locked_until = Some(Instant::now() + SKIP_LOCKED_FOR);
            }
        } else if !skip {
            self.lock_streak = 0;
        }
        Ok(match result {
            Try::Done(committed) => WriteOutcome::Committed(committed),
            Try::LeaseLost => WriteOutcome::LeaseLost,
            Try::TimedOut | Try::Again => WriteOutcome::Busy,
        })
    }

    /// One transaction, which is rolled back unless it is done.
    async fn try_write(
        &mut self,
        lease: &Lease,
        batch: &VerifiedBatch,
        locking: Locking,
        observer: &dyn Observer,
    ) -> Result<Try, EngineError> {
        let result = self.write_transaction(lease, batch, locking, observer).await;
        if matches!(result, Ok(Try::Done(_))) {
            return result;
        }
        let rolled_back = self.client.batch_execute("ROLLBACK").await;
        match result {
            Err(EngineError::Database(error)) => match retry_class(&error) {
                Some(again) => {
                    rolled_back.map_err(|error| reduce(WRITING, error))?;
                    Ok(again)
                }
                None => Err(error.into()),
            },
            other => other,
        }
    }

    async fn write_transaction(
        &mut self,
        lease: &Lease,
        batch: &VerifiedBatch,
        locking: Locking,
        observer: &dyn Observer,
    ) -> Result<Try, EngineError> {
        let leaf = self.leaf(&lease.span.relation).await?;
        let few = batch.changes().len() <= FEW_ROWS;
        let begin = begin_write(&leaf.name, if few { FEW_ROWS_MS } else { self.statement_ms });
        self.client.batch_execute(&begin).await.map_err(writing)?;
        // Sent together: what was true when the session began may have changed, and costs no round trip.
        let (fenced, circumstances) = tokio::join!(self.fence(lease), self.circumstances(&leaf.name));
        if !fenced.map_err(writing)? {
            return Ok(Try::LeaseLost);
        }
        let circumstances = circumstances?;
        let all: Vec<u32> = (0..batch.changes().len() as u32).collect();
        let picked = match locking {
            Locking::Wait => all,
            Locking::Skip => self.lock_rows(&leaf, batch, &all).await?,
        };
        let returned = self.update_rows(&leaf, &circumstances, batch, &picked).await?;
        self.compare_stored(&leaf, &circumstances, batch, &returned).await?;
        let missed = match locking {
            Locking::Wait => self.misses(&leaf, &circumstances, batch, &returned).await?,
            Locking::Skip => {
                not_written(&returned).map(|change| Missed { change, cause: MissCause::Locked }).collect()
            }
        };
        let records: Vec<_> = QuarantineRecord::of_batch(&self.job, &leaf.name, batch).collect();
        let quarantined = self.insert_quarantine(&records).await?;
        let indices: Vec<u32> = missed.iter().map(|missed| missed.change).collect();
        let span = lease.settle(batch, &indices, self.job.plan.run, &self.job.keys)?;
        if !self.checkpoint(lease, &span).await.map_err(writing)? {
            return Ok(Try::LeaseLost);
        }
        observer.at(Moment::Written, BatchInfo { span: &lease.span, batch: batch.batch() }).await;
        self.client.batch_execute("COMMIT").await.map_err(writing)?;
        if let Some(own) =
            self.own.as_ref().filter(|_| circumstances.are_plain() && batch.leaves_whole_rows())
        {
            own.add(&leaf.name, &circumstances.meaning, circumstances.transaction);
        }
        Ok(Try::Done(Box::new(Committed { span: span.record().clone(), missed, quarantined })))
    }

    /// Locks the rows that nobody else holds, and says which.
    async fn lock_rows(
        &self,
        leaf: &Leaf,
        batch: &VerifiedBatch,
        picked: &[u32],
    ) -> Result<Vec<u32>, EngineError> {
        // A foreign-key check holds a row of a unique index against the UPDATE, but not against the weaker lock.
        let strength = if leaf.unique { "UPDATE" } else { "NO KEY UPDATE" };
        let columns = self.row_columns(batch, picked);
        let statement = format!(
            "SELECT u.ord FROM {} JOIN ONLY {} AS t ON {} FOR {strength} OF t SKIP LOCKED",
            changes(&self.row_aliases()),
            leaf.name,
            self.row_match(),
        );
        let rows = self.query(&statement, &columns).await?;
        let ordinals = rows.iter().map(|row| row.get(0));
        let mut obtained: Vec<u32> = ordinals.filter_map(|ord| pick(picked, ord)).collect();
        obtained.sort_unstable();
        Ok(obtained)
    }

    /// The compare-and-set. A row is written only where the very version that was read still stands; what is then
    /// stored is compared with what was sent.
    async fn update_rows(
        &self,
        leaf: &Leaf,
        circumstances: &Circumstances,
        batch: &VerifiedBatch,
        picked: &[u32],
    ) -> Result<Returned, EngineError> {
        let mut returned = Returned { written: vec![false; batch.changes().len()], places: Vec::new() };
        if picked.is_empty() {
            return Ok(returned);
        }
        let mut columns = self.row_columns(batch, picked);
        columns.extend(self.new_columns(batch, picked));
        let every = if circumstances.have_triggers() { 1 } else { picked.len().div_ceil(COMPARED) as i32 };
        // One number for each row, and few places: what comes back costs as much as the comparison itself.
        let statement = format!(
            "UPDATE ONLY {} AS t SET {} FROM {} WHERE {}
             RETURNING {}, CASE WHEN u.ord % ${} = 0 THEN t.ctid END",
            leaf.name,
            self.assignments(),
            changes(&[self.row_aliases(), self.new_aliases()].concat()),
            self.row_match(),
            self.written_or_not(),
            columns.len() + 1,
        );
        let mut parameters: Vec<(&(dyn ToSql + Sync), Type)> =
            columns.iter().map(|(column, ty)| (column as &(dyn ToSql + Sync), ty.clone())).collect();
        parameters.push((&every, Type::INT4));
        let rows = self.statements.stream(&self.client, &statement, &parameters).await.map_err(writing)?;
        let mut rows = std::pin::pin!(rows);
        while let Some(row) = rows.try_next().await.map_err(writing)? {
            let code = row.get(0);
            if code <= 0 {
                return Err(self.not_stored(leaf, code));
            }
            let change = pick(picked, code).ok_or_else(|| strange("an unknown row came back"))?;
            if std::mem::replace(&mut returned.written[change as usize], true) {
                return Err(strange("a row came back twice").into());
            }
            returned.places.extend(place(&row, 1)?.map(|place| (change, place)));
        }
        Ok(returned)
    }

    /// The ordinal of a row that is stored as it was sent; otherwise which part is not: 0 for the key, -1 and so on for
    /// the columns of the plan.
    fn written_or_not(&self) -> String {
        let plan = &self.job.plan;
        let keys = plan.key.iter().map(|key| key_expression(&key.name, key.kind)).enumerate();
        let keys = keys.map(|(index, key)| format!(" WHEN {key} IS DISTINCT FROM u.k{index} THEN 0"));
        let columns = plan.columns.iter().map(|column| column_expression(&column.name, column.column_type));
        let columns = columns
            .enumerate()
            .map(|(index, column)| format!(" WHEN {column} IS DISTINCT FROM u.n{index} THEN -{}", index + 1));
        format!("CASE{} ELSE u.ord END", keys.chain(columns).collect::<String>())
    }

    fn not_stored(&self, leaf: &Leaf, code: i32) -> EngineError {
        let column = usize::try_from(-1 - code).ok().and_then(|index| self.job.plan.columns.get(index));
        let what = column.map_or("the row key".into(), |column| format!("column `{}`", column.name));
        EngineError::NotStored { relation: leaf.name.clone(), what }
    }

    /// Reads rows that were written and compares them here: some of each batch, so that a mix-up in what was sent shows,
    /// or all of them where triggers run, once those have run that wait for the end of the transaction. One that runs
    /// before a row is written may change rows that were written and returned already.
    async fn compare_stored(
        &self,
        leaf: &Leaf,
        circumstances: &Circumstances,
        batch: &VerifiedBatch,
        returned: &Returned,
    ) -> Result<(), EngineError> {
        if circumstances.have_triggers() {
            self.client.batch_execute("SET CONSTRAINTS ALL IMMEDIATE").await.map_err(writing)?;
        }
        if returned.places.is_empty() {
            return Ok(());
        }
        let (written, places): (Vec<u32>, Vec<u64>) = returned.places.iter().copied().unzip();
        let statement = format!(
            "SELECT u.ord, {} FROM {} JOIN ONLY {} AS t ON t.ctid = u.tid",
            row_expressions(&self.job).join(", "),
            changes(&["tid".into()]),
            leaf.name,
        );
        let column = Column::new(Source::Places(&places), batch.changes(), &written);
        let parameters: [(&(dyn ToSql + Sync), Type); 1] = [(&column, Type::TID_ARRAY)];
        let rows = self.statements.rows(&self.client, &statement, &parameters).await.map_err(writing)?;
        for row in &rows {
            let change = pick(&written, row.get(0)).ok_or_else(|| strange("an unknown row came back"))?;
            self.compare(leaf, row, 1, batch, change)?;
        }
        if rows.len() != written.len() {
            let what = "a trigger changed or removed rows after the update".into();
            return Err(EngineError::NotStored { relation: leaf.name.clone(), what });
        }
        Ok(())
    }

    /// Compares a returned row, byte for byte, with the key and the values that were sent.
    fn compare(
        &self,
        leaf: &Leaf,
        row: &Row,
        first: usize,
        batch: &VerifiedBatch,
        change: u32,
    ) -> Result<(), EngineError> {
        let not_stored = |what: String| EngineError::NotStored { relation: leaf.name.clone(), what };
        let read = batch.changes()[change as usize].row as usize;
        for (index, key) in batch.batch().keys.iter().enumerate() {
            if !same_key(key, read, field(row, first + index)?) {
                return Err(not_stored("the row key".into()));
            }
        }
        let first = first + batch.batch().keys.len();
        for (index, sealed) in batch.sealed().iter().enumerate() {
            if field(row, first + index)? != sealed.get(change as usize) {
                return Err(not_stored(format!("column `{}`", self.job.plan.columns[index].name)));
            }
        }
        Ok(())
    }

    /// The changes that were not written though nothing was passed by, and why.
    async fn misses(
        &self,
        leaf: &Leaf,
        circumstances: &Circumstances,
        batch: &VerifiedBatch,
        returned: &Returned,
    ) -> Result<Vec<Missed>, EngineError> {
        let changes: Vec<u32> = not_written(returned).collect();
        let mut suppressed = Vec::new();
        if circumstances.early_triggers && !changes.is_empty() {
            suppressed = self.unchanged(leaf, batch, &changes).await?;
        }
        let cause = |change: u32| match suppressed.contains(&change) {
            true => MissCause::Suppressed,
            false => MissCause::Changed,
        };
        Ok(changes.into_iter().map(|change| Missed { change, cause: cause(change) }).collect())
    }

    /// Which of the changes still stand as they were read.
    async fn unchanged(
        &self,
        leaf: &Leaf,
        batch: &VerifiedBatch,
        picked: &[u32],
    ) -> Result<Vec<u32>, EngineError> {
        let columns = self.row_columns(batch, picked);
        let statement = format!(
            "SELECT u.ord FROM {} JOIN ONLY {} AS t ON {}",
            changes(&self.row_aliases()),
            leaf.name,
            self.row_match(),
        );
        let rows = self.query(&statement, &columns).await?;
        Ok(rows.iter().filter_map(|row| pick(picked, row.get(0))).collect())
    }

    async fn query(&self, statement: &str, columns: &[(Column<'_>, Type)]) -> Result<Vec<Row>, EngineError> {
        let parameters: Vec<(&(dyn ToSql + Sync), Type)> =
            columns.iter().map(|(column, ty)| (column as _, ty.clone())).collect();
        Ok(self.client.query_typed(statement, &parameters).await.map_err(writing)?)
    }

    fn key_types(&self) -> impl Iterator<Item = Type> {
        self.job.plan.key.iter().map(|key| match key.kind {
            KeyType::Integer => Type::INT8_ARRAY,
            KeyType::Text | KeyType::Other => Type::TEXT_ARRAY,
            KeyType::Bytes => Type::BYTEA_ARRAY,
            KeyType::Uuid => Type::UUID_ARRAY,
        })
    }

    fn value_types(&self) -> impl Iterator<Item = Type> {
        self.job.plan.columns.iter().map(|column| match column.column_type {
            ColumnType::Bytes => Type::BYTEA_ARRAY,
            ColumnType::Text => Type::TEXT_ARRAY,
        })
    }

    /// What tells the version of a row that was read, as [`row_match`](Self::row_match) compares it.
    fn row_columns<'a>(&self, batch: &'a VerifiedBatch, picked: &'a [u32]) -> Vec<(Column<'a>, Type)> {
        let Batch { locators, versions, keys, columns, .. } = batch.batch();
        let mut sources =
            vec![(Source::Tids(locators), Type::TID_ARRAY), (Source::Versions(versions), Type::XID_ARRAY)];
        if keys.is_empty() {
            sources.extend(columns.iter().map(Source::Read).zip(self.value_types()));
        } else {
            sources.extend(keys.iter().map(Source::Key).zip(self.key_types()));
        }
        let column = |(source, ty)| (Column::new(source, batch.changes(), picked), ty);
        sources.into_iter().map(column).collect()
    }

    /// What is written.
    fn new_columns<'a>(&self, batch: &'a VerifiedBatch, picked: &'a [u32]) -> Vec<(Column<'a>, Type)> {
        let column = |cells| Column::new(Source::Sealed(cells), batch.changes(), picked);
        batch.sealed().iter().map(column).zip(self.value_types()).collect()
    }

    /// Names of what [`row_columns`](Self::row_columns) sends.
    fn row_aliases(&self) -> Vec<String> {
        let (keys, columns) = (self.job.plan.key.len(), self.job.plan.columns.len());
        let known = (0..if keys == 0 { columns } else { keys }).map(|index| format!("k{index}"));
        ["tid".into(), "version".into()].into_iter().chain(known).collect()
    }

    fn new_aliases(&self) -> Vec<String> {
        (0..self.job.plan.columns.len()).map(|index| format!("n{index}")).collect()
    }

    /// The version of the row that was read is the one that stands: its place, the transaction that wrote it, and its
    /// whole key; without a key every column that is set, byte for byte.
    ///
    /// No later version of a row has its transaction, so place and transaction are enough while the table's file is
    /// the same. The rest keeps a write out of the wrong row if ever it is not.
    fn row_match(&self) -> String {
        let plan = &self.job.plan;
        let rest: String = if plan.key.is_empty() {
            let columns =
                plan.columns.iter().map(|column| column_expression(&column.name, column.column_type));
            let equal = |(index, column)| format!(" AND {column} IS NOT DISTINCT FROM u.k{index}");
            columns.enumerate().map(equal).collect()
        } else {
            let keys = plan.key.iter().map(|key| key_expression(&key.name, key.kind));
            keys.enumerate().map(|(index, key)| format!(" AND {key} = u.k{index}")).collect()
        };
        format!("t.ctid = u.tid AND t.xmin = u.version{rest}")
    }

    fn assignments(&self) -> String {
        let columns = self.job.plan.columns.iter().enumerate();
        let each: Vec<String> =
            columns.map(|(index, column)| format!("{} = u.n{index}", quoted(&column.name))).collect();
        each.join(", ")
    }
}

fn not_written(returned: &Returned) -> impl Iterator<Item = u32> {
    (0..returned.written.len() as u32).filter(|index| !returned.written[*index as usize])
}

fn writing(error: tokio_postgres::Error) -> DatabaseError {
    reduce(WRITING, error)
}

fn strange(what: &'static str) -> DatabaseError {
    DatabaseError::protocol(WRITING, what)
}

/// What to do about a code: 55P03 lock not available, 57014 statement timeout, 40P01 deadlock, 40001 the row moved to
/// another partition.
fn retry_class(error: &DatabaseError) -> Option<Try> {
    match error.code.as_deref()? {
        "55P03" | "57014" => Some(Try::TimedOut),
        "40P01" | "40001" => Some(Try::Again),
        _ => None,
    }
}

/// The changes of a batch as rows: one array per name, and the place in the arrays as `ord`.
///
/// Set-returning functions in a list of expressions hand their rows on one by one; in a FROM clause each of them fills
/// a store of its own first.
fn changes(names: &[String]) -> String {
    let each = names.iter().enumerate().map(|(index, name)| format!("unnest(${}) AS {name}", index + 1));
    let each: Vec<String> = each.collect();
    format!("(SELECT generate_subscripts($1, 1) AS ord, {}) AS u", each.join(", "))
}

/// The change that an ordinal of the server stands for.
fn pick(picked: &[u32], ordinal: i32) -> Option<u32> {
    usize::try_from(ordinal).ok()?.checked_sub(1).and_then(|index| picked.get(index).copied())
}

fn field(row: &Row, index: usize) -> Result<Option<&[u8]>, EngineError> {
    Ok(row.try_get::<_, Raw<'_>>(index).map_err(writing)?.0)
}

fn place(row: &Row, index: usize) -> Result<Option<u64>, EngineError> {
    let Some(bytes) = field(row, index)? else { return Ok(None) };
    let bytes: &[u8; 6] = bytes.try_into().map_err(|_| strange("a ctid has another length"))?;
    Ok(Some(bytes.iter().fold(0, |value, byte| value << 8 | u64::from(*byte))))
}

fn same_key(cells: &KeyCells, row: usize, returned: Option<&[u8]>) -> bool {
    match cells {
        KeyCells::Integer(cells) => returned == Some(&cells[row].to_be_bytes()),
        KeyCells::Text(cells) | KeyCells::Bytes(cells) => returned == cells.get(row),
        KeyCells::Uuid(cells) => returned == Some(&cells[row]),
    }
}
