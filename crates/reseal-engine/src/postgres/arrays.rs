//! Parameters of a batch as Postgres arrays, written from the batch's own buffers without a copy in between.
//!
//! tokio-postgres prints parameters with `{:?}` at debug level; these types say only what they are.

use std::error::Error;
use std::fmt;

use bytes::{BufMut, BytesMut};
use postgres_protocol::IsNull as ProtocolNull;
use postgres_protocol::types::{ArrayDimension, array_to_sql};
use tokio_postgres::types::{FromSql, IsNull, Kind, ToSql, Type, to_sql_checked};

use crate::batch::{Cells, KeyCells};
use crate::verified::Change;

/// One array of a batch: an element per picked change.
pub(super) struct Column<'a> {
    source: Source<'a>,
    /// All changes of the batch.
    changes: &'a [Change],
    /// Indices of the changes that take part.
    picked: &'a [u32],
}

/// What an array is made of.
#[derive(Clone, Copy)]
pub(super) enum Source<'a> {
    /// Row locations, by row.
    Tids(&'a [u64]),
    /// Versions of the rows, by row.
    Versions(&'a [u32]),
    /// Key cells, by row.
    Key(&'a KeyCells),
    /// Cells as they were read, by row.
    Read(&'a Cells),
    /// Cells to write, by change.
    Sealed(&'a Cells),
    /// Row locations after the write, by picked change.
    Places(&'a [u64]),
}

impl<'a> Column<'a> {
    pub(super) fn new(source: Source<'a>, changes: &'a [Change], picked: &'a [u32]) -> Self {
        Self { source, changes, picked }
    }

    /// About how many bytes the elements take, with their lengths: a buffer that grows is copied each time.
    fn size(&self) -> usize {
        let cell = match self.source {
            Source::Read(cells) | Source::Sealed(cells) => cells.bytes_len() / cells.len().max(1),
            _ => 8,
        };
        32 + self.picked.len() * (cell + 8)
    }

    fn write(&self, index: usize, buf: &mut BytesMut) -> ProtocolNull {
        let change = self.picked[index] as usize;
        let row = self.changes[change].row as usize;
        match self.source {
            Source::Tids(locators) => put_tid(locators[row], buf),
            Source::Versions(versions) => buf.put_u32(versions[row]),
            Source::Places(places) => put_tid(places[index], buf),
            Source::Key(cells) => return put_key(cells, row, buf),
            Source::Read(cells) => return put_cell(cells.get(row), buf),
            Source::Sealed(cells) => return put_cell(cells.get(change), buf),
        }
        ProtocolNull::No
    }
}

fn put_tid(locator: u64, buf: &mut BytesMut) {
    buf.put_u32((locator >> 16) as u32);
    buf.put_u16(locator as u16);
}

fn put_cell(cell: Option<&[u8]>, buf: &mut BytesMut) -> ProtocolNull {
    match cell {
        None => ProtocolNull::Yes,
        Some(bytes) => {
            buf.put_slice(bytes);
            ProtocolNull::No
        }
    }
}

fn put_key(cells: &KeyCells, row: usize, buf: &mut BytesMut) -> ProtocolNull {
    match cells {
        KeyCells::Integer(cells) => buf.put_i64(cells[row]),
        KeyCells::Text(cells) | KeyCells::Bytes(cells) => return put_cell(cells.get(row), buf),
        KeyCells::Uuid(cells) => buf.put_slice(&cells[row]),
    }
    ProtocolNull::No
}

impl ToSql for Column<'_> {
    fn to_sql(&self, ty: &Type, out: &mut BytesMut) -> Result<IsNull, Box<dyn Error + Sync + Send>> {
        let Kind::Array(element) = ty.kind() else { return Err("not an array type".into()) };
        out.reserve(self.size());
        let dimension = ArrayDimension { len: i32::try_from(self.picked.len())?, lower_bound: 1 };
        let serialize = |index: usize, buf: &mut BytesMut| Ok(self.write(index, buf));
        array_to_sql(Some(dimension), element.oid(), 0..self.picked.len(), serialize, out)?;
        Ok(IsNull::No)
    }

    fn accepts(ty: &Type) -> bool {
        matches!(ty.kind(), Kind::Array(_))
    }

    to_sql_checked!();
}

impl fmt::Debug for Column<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Column").field("len", &self.picked.len()).finish_non_exhaustive()
    }
}

/// The bytes of a returned field, of whatever type.
pub(super) struct Raw<'a>(pub(super) Option<&'a [u8]>);

impl<'a> FromSql<'a> for Raw<'a> {
    fn from_sql(_: &Type, raw: &'a [u8]) -> Result<Self, Box<dyn Error + Sync + Send>> {
        Ok(Self(Some(raw)))
    }

    fn from_sql_null(_: &Type) -> Result<Self, Box<dyn Error + Sync + Send>> {
        Ok(Self(None))
    }

    fn accepts(_: &Type) -> bool {
        true
    }
}
