//! Binary COPY, parsed straight into a batch. Layout: the "Binary Format" section of the COPY manual page.

use super::position::locator;
use crate::batch::{Batch, Cells, KeyCells, Position};
use crate::error::{DatabaseError, EngineError};
use crate::plan::{Job, KeyType};

const SIGNATURE: &[u8; 11] = b"PGCOPY\n\xFF\r\n\0";

/// Collects the rows of one COPY: `ctid`, `xmin`, key columns, columns of the plan.
pub(super) struct Collector {
    batch: Batch,
    started: bool,
    bytes: usize,
}

impl Collector {
    /// With room for `rows` rows whose columns of the plan take `bytes` bytes together.
    pub(super) fn new(job: &Job, rows: usize, bytes: usize) -> Self {
        let keys = job.plan.key.iter().map(|key| match key.kind {
            KeyType::Integer => KeyCells::Integer(Vec::with_capacity(rows)),
            KeyType::Text | KeyType::Other => KeyCells::Text(Cells::default()),
            KeyType::Bytes => KeyCells::Bytes(Cells::default()),
            KeyType::Uuid => KeyCells::Uuid(Vec::with_capacity(rows)),
        });
        let share = bytes / job.plan.columns.len();
        let columns = job.plan.columns.iter().map(|_| Cells::with_capacity(rows, share));
        Self {
            batch: Batch {
                locators: Vec::with_capacity(rows),
                versions: Vec::with_capacity(rows),
                keys: keys.collect(),
                columns: columns.collect(),
                end: Position::default(),
            },
            started: false,
            bytes: 0,
        }
    }

    /// Bytes of all cells so far.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(super) fn rows(&self) -> usize {
        self.batch.len()
    }

    /// Takes one message of the stream: the server never splits a row over two.
    pub(super) fn take(&mut self, message: &[u8]) -> Result<(), EngineError> {
        let mut fields = Fields(message);
        if !self.started {
            fields.header()?;
            self.started = true;
        }
        while !fields.0.is_empty() {
            let count = fields.i16()?;
            if count == -1 {
                return Ok(());
            }
            if usize::from(count.unsigned_abs()) != 2 + self.batch.keys.len() + self.batch.columns.len() {
                return Err(broken("a row has another number of fields"));
            }
            self.row(&mut fields)?;
        }
        Ok(())
    }

    fn row(&mut self, fields: &mut Fields<'_>) -> Result<(), EngineError> {
        let tid = fields.field()?.ok_or_else(|| broken("a row has no ctid"))?;
        let place = locator(tid)?;
        // The next read goes on after the last row, so one that comes late would never be read.
        if self.batch.locators.last().is_some_and(|last| *last >= place) {
            return Err(broken("rows did not come in the order of their places"));
        }
        self.batch.locators.push(place);
        let version = fields.field()?.ok_or_else(|| broken("a row has no xmin"))?;
        self.batch.versions.push(u32::from_be_bytes(exact(version)?));
        for column in &mut self.batch.keys {
            let cell = fields.field()?;
            let bytes = cell.ok_or_else(|| broken("a row key is NULL"))?;
            self.bytes += bytes.len();
            match column {
                KeyCells::Integer(cells) => cells.push(i64::from_be_bytes(exact(bytes)?)),
                KeyCells::Text(cells) | KeyCells::Bytes(cells) => cells.push(Some(bytes)),
                KeyCells::Uuid(cells) => cells.push(exact(bytes)?),
            }
        }
        for column in &mut self.batch.columns {
            let cell = fields.field()?;
            self.bytes += cell.map_or(0, <[u8]>::len);
            column.push(cell);
        }
        Ok(())
    }

    /// The batch, which ends before `end`.
    pub(super) fn finish(mut self, end: Position) -> Batch {
        self.batch.end = end;
        self.batch
    }

    /// The locator after the last row.
    pub(super) fn after_last(&self) -> Option<u64> {
        self.batch.locators.last().map(|locator| locator + 1)
    }

    /// Drops the rows of the last block, unless they are all there is: the block is read again as a whole. Says where
    /// the next read begins.
    pub(super) fn end_with_block(&mut self) -> Option<u64> {
        let last = *self.batch.locators.last()?;
        let block = last >> 16 << 16;
        let rows = self.batch.locators.partition_point(|locator| *locator < block);
        if rows == 0 {
            return Some(last + 1);
        }
        self.batch.truncate(rows);
        Some(block)
    }
}

fn exact<const N: usize>(bytes: &[u8]) -> Result<[u8; N], EngineError> {
    bytes.try_into().map_err(|_| broken("a field has another length than its type"))
}

fn broken(what: &'static str) -> EngineError {
    DatabaseError::protocol("read rows", what).into()
}

struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    fn header(&mut self) -> Result<(), EngineError> {
        if self.bytes(SIGNATURE.len())? != SIGNATURE {
            return Err(broken("the stream is not binary COPY"));
        }
        self.bytes(4)?;
        let extension = self.i32()?;
        self.bytes(usize::try_from(extension).map_err(|_| broken("a negative length"))?)?;
        Ok(())
    }

    fn bytes(&mut self, len: usize) -> Result<&'a [u8], EngineError> {
        let (bytes, rest) = self.0.split_at_checked(len).ok_or_else(|| broken("the stream is cut short"))?;
        self.0 = rest;
        Ok(bytes)
    }

    fn i16(&mut self) -> Result<i16, EngineError> {
        Ok(i16::from_be_bytes(exact(self.bytes(2)?)?))
    }

    fn i32(&mut self) -> Result<i32, EngineError> {
        Ok(i32::from_be_bytes(exact(self.bytes(4)?)?))
    }

    fn field(&mut self) -> Result<Option<&'a [u8]>, EngineError> {
        match self.i32()? {
            -1 => Ok(None),
            len => Ok(Some(self.bytes(usize::try_from(len).map_err(|_| broken("a negative length"))?)?)),
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use reseal_crypto::{ColumnId, ColumnKey, KeyMaterial, KeyRef, Keyring};
    use reseal_formats::ColumnType;

    use super::*;
    use crate::ledger::{RunId, RunKey};
    use crate::plan::{ColumnPlan, Direction, KeyColumn, RunPlan, Side, TableName};

    /// A plan for one column of a table with this key.
    pub(in crate::postgres) fn job(key: Vec<(&str, KeyType)>) -> Job {
        let side = |version| Side {
            spec: serde_json::from_str(r#"{"format": "aes-gcm", "encoding": "raw"}"#).expect("a format"),
            key: KeyRef { secret: "crm/columns".into(), version },
        };
        let mut keyring = Keyring::default();
        for version in [1, 2] {
            let key = KeyMaterial::Column(ColumnKey::from_bytes(&[version as u8; 32]));
            keyring.insert(side(version).key, key).expect("handles differ");
        }
        let column = ColumnPlan {
            name: "a".into(),
            column_type: ColumnType::Bytes,
            id: ColumnId([1; 16]),
            replaces: None,
            from: side(1),
            to: side(2),
        };
        let plan = RunPlan {
            run: RunId([1; 16]),
            direction: Direction::Forward,
            supersedes: None,
            table: TableName { schema: "public".into(), name: "clients".into() },
            key: key.into_iter().map(|(name, kind)| KeyColumn { name: name.into(), kind }).collect(),
            columns: vec![column],
        };
        Job::new(plan, &keyring, &RunKey::from_bytes(&[7; 32])).expect("the plan holds together")
    }

    fn row(block: u32, item: u16) -> Vec<u8> {
        let mut row = 3_i16.to_be_bytes().to_vec();
        row.extend(6_i32.to_be_bytes());
        row.extend(block.to_be_bytes());
        row.extend(item.to_be_bytes());
        row.extend([0, 0, 0, 4, 0, 0, 0, 9]);
        row.extend((-1_i32).to_be_bytes());
        row
    }

    fn stream(rows: &[(u32, u16)]) -> Vec<u8> {
        let mut stream = SIGNATURE.to_vec();
        stream.extend([0; 8]);
        rows.iter().for_each(|(block, item)| stream.extend(row(*block, *item)));
        stream
    }

    #[test]
    fn last_block_is_dropped_unless_it_is_the_only_one() {
        let job = job(Vec::new());
        let mut rows = Collector::new(&job, 0, 0);
        rows.take(&stream(&[(3, 1), (3, 2), (5, 1), (5, 2)])).expect("rows");
        assert_eq!((rows.end_with_block(), rows.rows()), (Some(5 << 16), 2));
        assert_eq!((rows.end_with_block(), rows.rows()), (Some((3 << 16) + 3), 2));
        assert_eq!(Collector::new(&job, 0, 0).end_with_block(), None);
    }

    #[test]
    fn rows_out_of_order_are_refused() {
        let job = job(Vec::new());
        let take = |rows: &[(u32, u16)]| Collector::new(&job, 0, 0).take(&stream(rows));
        assert!(take(&[(0, 1), (0, 2), (1, 1)]).is_ok());
        assert!(take(&[(1, 1), (0, 2)]).is_err());
        assert!(take(&[(0, 2), (0, 2)]).is_err());
    }
}
