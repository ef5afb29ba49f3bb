//! How a message stands in its column: as bytes, or as text in one of several encodings.

/// How the bytes of a message are written in the column.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Encoding {
    /// As they are, in a byte column.
    #[default]
    Raw,
}
