//! Rowids as positions: 8 bytes that sort as the rowids do, and an end behind the last of them.

use crate::batch::Position;
use crate::error::EngineError;

/// Behind every rowid.
const END: [u8; 9] = [0xFF; 9];

/// The position of a rowid.
pub(super) fn of(rowid: i64) -> Position {
    Position((rowid.cast_unsigned() ^ (1 << 63)).to_be_bytes().to_vec())
}

/// The position behind a rowid.
pub(super) fn after(rowid: i64) -> Position {
    rowid.checked_add(1).map_or_else(|| Position(END.to_vec()), of)
}

/// The rowids from `from` up to, and without, `hi`; `None` if there are none.
pub(super) fn rowids(from: &Position, hi: &Position) -> Result<Option<(i64, i64)>, EngineError> {
    if from >= hi {
        return Ok(None);
    }
    let first = rowid_of(from)?;
    let last = match rowid_of(hi)? {
        Some(end) => end.checked_sub(1),
        None => Some(i64::MAX),
    };
    Ok(first.zip(last))
}

fn rowid_of(position: &Position) -> Result<Option<i64>, EngineError> {
    if position.0 == END {
        return Ok(None);
    }
    let bytes: [u8; 8] = position
        .0
        .as_slice()
        .try_into()
        .map_err(|_| EngineError::Damaged("a position of a span is not a rowid"))?;
    Ok(Some((u64::from_be_bytes(bytes) ^ (1 << 63)).cast_signed()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_sort_as_rowids_do() {
        let rowids = [i64::MIN, -2, -1, 0, 1, 255, 256, i64::MAX - 1, i64::MAX];
        assert!(rowids.map(of).is_sorted());
        assert!(of(i64::MAX) < after(i64::MAX));
    }

    #[test]
    fn ranges_read_back() {
        let range = |lo, hi: Position| rowids(&of(lo), &hi).ok().flatten();
        assert_eq!(range(-5, of(5)), Some((-5, 4)));
        assert_eq!(range(7, after(i64::MAX)), Some((7, i64::MAX)));
        assert_eq!(range(7, of(7)), None);
        assert!(rowids(&Position(vec![1]), &of(3)).is_err());
    }
}
