//! A batch of rows in flat buffers: one allocation per column, none per value.

use std::fmt;

use reseal_crypto::RowKey;

/// Byte strings and NULLs, back to back in one buffer.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Cells {
    bytes: Vec<u8>,
    extents: Vec<Extent>,
}

/// Where a cell stands; a length of `u32::MAX` is NULL. Batches end far below 4 GiB.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Extent {
    start: u32,
    len: u32,
}

const NULL: u32 = u32::MAX;

impl Cells {
    /// An empty column with room for `rows` cells of `bytes` bytes together.
    pub fn with_capacity(rows: usize, bytes: usize) -> Self {
        Self { bytes: Vec::with_capacity(bytes), extents: Vec::with_capacity(rows) }
    }

    /// Appends a cell.
    ///
    /// # Panics
    ///
    /// If the column grows beyond 4 GiB; a batch ends at its byte limit long before.
    pub fn push(&mut self, cell: Option<&[u8]>) {
        let start = u32::try_from(self.bytes.len()).expect("a batch ends far below 4 GiB");
        let len = match cell {
            None => NULL,
            Some(bytes) => {
                self.bytes.extend_from_slice(bytes);
                u32::try_from(bytes.len())
                    .ok()
                    .filter(|len| *len != NULL)
                    .expect("a value ends far below 4 GiB")
            }
        };
        self.extents.push(Extent { start, len });
    }

    /// The cell of a row; `None` is NULL.
    ///
    /// # Panics
    ///
    /// If there is no such row.
    pub fn get(&self, row: usize) -> Option<&[u8]> {
        let Extent { start, len } = self.extents[row];
        (len != NULL).then(|| &self.bytes[start as usize..start as usize + len as usize])
    }

    /// Number of cells.
    pub fn len(&self) -> usize {
        self.extents.len()
    }

    /// Whether there are no cells.
    pub fn is_empty(&self) -> bool {
        self.extents.is_empty()
    }

    /// Keeps the first `rows` cells.
    pub(crate) fn truncate(&mut self, rows: usize) {
        if let Some(first) = self.extents.get(rows) {
            self.bytes.truncate(first.start as usize);
            self.extents.truncate(rows);
        }
    }

    /// Bytes of all cells together.
    pub fn bytes_len(&self) -> usize {
        self.bytes.len()
    }

    /// The cells in order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = Option<&[u8]>> {
        (0..self.len()).map(|row| self.get(row))
    }

    /// Appends the cells of another column.
    pub fn append(&mut self, other: &Self) {
        let base = u32::try_from(self.bytes.len()).expect("a batch ends far below 4 GiB");
        self.bytes.extend_from_slice(&other.bytes);
        let moved = |extent: &Extent| Extent { start: extent.start + base, len: extent.len };
        self.extents.extend(other.extents.iter().map(moved));
    }
}

impl fmt::Debug for Cells {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cells").field("len", &self.len()).finish_non_exhaustive()
    }
}

/// One column of the row key.
#[derive(Clone, PartialEq, Eq)]
pub enum KeyCells {
    /// Integers of any width.
    Integer(Vec<i64>),
    /// Text, as stored.
    Text(Cells),
    /// Byte strings.
    Bytes(Cells),
    /// UUIDs.
    Uuid(Vec<[u8; 16]>),
}

impl KeyCells {
    /// Appends the canonical form of this column's cell, as [`RowKey`] writes it.
    fn extend(&self, row: usize, key: RowKey) -> RowKey {
        match self {
            Self::Integer(cells) => key.integer(cells[row]),
            Self::Text(cells) => {
                let stored = cells.get(row).unwrap_or_default();
                // Text that is not UTF-8 has no form as text; its bytes keep it apart from every other key.
                match std::str::from_utf8(stored) {
                    Ok(text) => key.text(text),
                    Err(_) => key.bytes(stored),
                }
            }
            Self::Bytes(cells) => key.bytes(cells.get(row).unwrap_or_default()),
            Self::Uuid(cells) => key.uuid(&cells[row]),
        }
    }

    fn truncate(&mut self, rows: usize) {
        match self {
            Self::Integer(cells) => cells.truncate(rows),
            Self::Text(cells) | Self::Bytes(cells) => cells.truncate(rows),
            Self::Uuid(cells) => cells.truncate(rows),
        }
    }

    /// Appends the cells of the same key column of another batch.
    fn append(&mut self, other: &Self) {
        match (self, other) {
            (Self::Integer(whole), Self::Integer(part)) => whole.extend(part),
            (Self::Text(whole), Self::Text(part)) | (Self::Bytes(whole), Self::Bytes(part)) => {
                whole.append(part)
            }
            (Self::Uuid(whole), Self::Uuid(part)) => whole.extend(part),
            _ => unreachable!("both batches were made for the same plan"),
        }
    }

    /// The first row whose text no application could name: it is not UTF-8.
    fn first_unnameable(&self) -> Option<usize> {
        let Self::Text(cells) = self else { return None };
        cells.iter().position(|cell| std::str::from_utf8(cell.unwrap_or_default()).is_err())
    }

    fn len(&self) -> usize {
        match self {
            Self::Integer(cells) => cells.len(),
            Self::Text(cells) | Self::Bytes(cells) => cells.len(),
            Self::Uuid(cells) => cells.len(),
        }
    }

    fn bytes_len(&self) -> usize {
        match self {
            Self::Integer(cells) => cells.len() * 8,
            Self::Text(cells) | Self::Bytes(cells) => cells.bytes_len(),
            Self::Uuid(cells) => cells.len() * 16,
        }
    }
}

impl fmt::Debug for KeyCells {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeyCells").field("len", &self.len()).finish_non_exhaustive()
    }
}

/// The fields of a canonical row key as text; `None` if it is none.
pub(crate) fn key_fields(key: &[u8]) -> Option<Vec<String>> {
    let (&count, mut rest) = key.split_first()?;
    let mut fields = Vec::with_capacity(count.into());
    for _ in 0..count {
        let (&kind, after) = rest.split_first()?;
        let (len, after) = after.split_first_chunk::<4>()?;
        let (field, after) = after.split_at_checked(u32::from_be_bytes(*len) as usize)?;
        fields.push(match kind {
            1 => i64::from_be_bytes(field.try_into().ok()?).to_string(),
            2 => format!("{:?}", String::from_utf8_lossy(field)),
            4 => uuid(field.try_into().ok()?),
            _ => format!("\\x{}", field.iter().map(|byte| format!("{byte:02x}")).collect::<String>()),
        });
        rest = after;
    }
    Some(fields)
}

/// A UUID in its usual form.
fn uuid(bytes: &[u8; 16]) -> String {
    let digits: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    [&digits[..8], &digits[8..12], &digits[12..16], &digits[16..20], &digits[20..]].join("-")
}

/// A place in a table, in the store's own order: block and item for Postgres, rowid for SQLite.
///
/// Ordered bytewise, also by the database that keeps it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Position(pub Vec<u8>);

/// Rows as they were read: where they are, their keys, and the stored bytes of every column of the plan.
#[derive(Debug, Clone)]
pub struct Batch {
    /// Where the store finds each row quickly. A hint: safety never rests on it.
    pub locators: Vec<u64>,
    /// Which version of each row was read, where the store numbers them: the inserting transaction (`xmin`) for
    /// Postgres; empty for SQLite.
    pub versions: Vec<u32>,
    /// The row key, column by column; empty where the table has none.
    pub keys: Vec<KeyCells>,
    /// The stored bytes, column by column, in the order of the plan.
    pub columns: Vec<Cells>,
    /// Where the next read goes on; the end of the range once nothing is left in it.
    pub end: Position,
}

impl Batch {
    /// Number of rows.
    pub fn len(&self) -> usize {
        self.locators.len()
    }

    /// Whether there are no rows.
    pub fn is_empty(&self) -> bool {
        self.locators.is_empty()
    }

    /// The canonical key of a row, as associated data and quarantine records carry it.
    pub fn row_key(&self, row: usize) -> RowKey {
        self.keys.iter().fold(RowKey::default(), |key, column| column.extend(row, key))
    }

    /// What names a row in records: its key, or in a table without one its place, where rows keep theirs; empty otherwise.
    pub(crate) fn record_key(&self, row: usize) -> Vec<u8> {
        let keeps_places = self.versions.is_empty();
        let key = match self.keys.is_empty() && keeps_places {
            true => RowKey::default().integer(self.locators[row].cast_signed()),
            false => self.row_key(row),
        };
        key.as_bytes().to_vec()
    }

    /// The key of a row for people; `…` for what is neither a number nor an id.
    pub(crate) fn row_name<'n>(&self, row: usize, names: impl Iterator<Item = &'n str>) -> String {
        let field = |(name, column): (&str, &KeyCells)| match column {
            KeyCells::Integer(cells) => format!("{name} = {}", cells[row]),
            KeyCells::Uuid(cells) => format!("{name} = {}", uuid(&cells[row])),
            KeyCells::Text(_) | KeyCells::Bytes(_) => format!("{name} = …"),
        };
        names.zip(&self.keys).map(field).collect::<Vec<_>>().join(", ")
    }

    /// The first key column with text that is not UTF-8, which no value can be bound to.
    pub(crate) fn unnameable_key(&self) -> Option<usize> {
        self.keys.iter().position(|column| column.first_unnameable().is_some())
    }

    /// Appends what identifies a row in a digest: as many fields as the key has, each with its length.
    pub(crate) fn write_row_key(&self, row: usize, out: &mut Vec<u8>) {
        for column in &self.keys {
            let mut field = |bytes: &[u8]| {
                out.extend_from_slice(&(bytes.len() as u64).to_be_bytes());
                out.extend_from_slice(bytes);
            };
            match column {
                KeyCells::Integer(cells) => field(&cells[row].to_be_bytes()),
                KeyCells::Text(cells) | KeyCells::Bytes(cells) => field(cells.get(row).unwrap_or_default()),
                KeyCells::Uuid(cells) => field(&cells[row]),
            }
        }
    }

    /// At least as many bytes as [`write_row_key`](Self::write_row_key) appends.
    pub(crate) fn bytes_of_key(&self, row: usize) -> usize {
        let field = |column: &KeyCells| match column {
            KeyCells::Integer(_) => 16,
            KeyCells::Text(cells) | KeyCells::Bytes(cells) => 8 + cells.get(row).unwrap_or_default().len(),
            KeyCells::Uuid(_) => 24,
        };
        self.keys.iter().map(field).sum()
    }

    /// The integer in the first key column, for tests and messages that name rows.
    pub fn integer_key(&self, row: usize) -> Option<i64> {
        match self.keys.first()? {
            KeyCells::Integer(cells) => cells.get(row).copied(),
            _ => None,
        }
    }

    /// Appends the rows of another batch of the same plan.
    pub(crate) fn append(&mut self, other: Self) {
        self.locators.extend(other.locators);
        self.versions.extend(other.versions);
        self.keys.iter_mut().zip(&other.keys).for_each(|(whole, part)| whole.append(part));
        self.columns.iter_mut().zip(&other.columns).for_each(|(whole, part)| whole.append(part));
    }

    /// Keeps the first `rows` rows.
    pub(crate) fn truncate(&mut self, rows: usize) {
        self.locators.truncate(rows);
        self.versions.truncate(rows);
        self.keys.iter_mut().for_each(|column| column.truncate(rows));
        self.columns.iter_mut().for_each(|column| column.truncate(rows));
    }

    /// Bytes of all cells and keys together.
    pub fn bytes_len(&self) -> usize {
        self.columns.iter().map(Cells::bytes_len).sum::<usize>()
            + self.keys.iter().map(KeyCells::bytes_len).sum::<usize>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cells_keep_null_and_empty_apart() {
        let mut cells = Cells::default();
        cells.push(Some(b"ab"));
        cells.push(None);
        cells.push(Some(b""));
        let mut all = Cells::default();
        all.push(Some(b"x"));
        all.append(&cells);
        let found: Vec<_> = all.iter().collect();
        assert_eq!(found, [Some(b"x".as_slice()), Some(b"ab"), None, Some(b"")]);
    }

    #[test]
    fn keys_that_are_not_utf8_stay_apart() {
        let mut cells = Cells::default();
        [b"a\xfe".as_slice(), b"a\xff", "a\u{fffd}".as_bytes()].iter().for_each(|key| cells.push(Some(key)));
        let batch = Batch {
            locators: vec![1, 2, 3],
            versions: Vec::new(),
            keys: vec![KeyCells::Text(cells)],
            columns: Vec::new(),
            end: Position::default(),
        };
        let keys: Vec<_> = (0..3).map(|row| batch.row_key(row).as_bytes().to_vec()).collect();
        assert!(keys[0] != keys[1] && keys[1] != keys[2] && keys[0] != keys[2]);
        assert_eq!(batch.unnameable_key(), Some(0));
        let key = RowKey::default().integer(-7).text("a\nb").bytes(&[1, 0xAB]).uuid(&[0x11; 16]);
        let fields = key_fields(key.as_bytes()).expect("a key");
        assert_eq!(fields, ["-7", "\"a\\nb\"", "\\x01ab", "11111111-1111-1111-1111-111111111111"]);
        assert_eq!(key_fields(&key.as_bytes()[..9]), None);
    }

    #[test]
    fn debug_shows_no_bytes() {
        let mut cells = Cells::default();
        cells.push(Some(b"canary"));
        let printed = format!("{cells:?} {:?}", KeyCells::Text(cells.clone()));
        assert!(!printed.contains("canary") && !printed.contains("99"), "{printed}");
    }
}
