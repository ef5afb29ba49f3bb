//! Canonical bytes for MACs and associated data: no two different inputs share an encoding.
//!
//! Every field is written as `u32` big-endian length and bytes, integers as 8 bytes big-endian, so that moving a
//! byte from one field to its neighbour always changes the result.

/// Builds a canonical byte string, field by field.
///
/// Quiet in `Debug`: what is authenticated may be what a vault seals, such as names.
#[derive(Clone, Default)]
pub struct Canonical(Vec<u8>);

impl Canonical {
    /// Starts with a domain, so that the encodings of two purposes never meet.
    pub fn new(domain: &str) -> Self {
        Self::default().bytes(domain.as_bytes())
    }

    /// Appends a byte string of at most 2^32 - 1 bytes.
    #[must_use]
    pub fn bytes(mut self, field: &[u8]) -> Self {
        let length =
            u32::try_from(field.len()).expect("fields stay far below 4 GiB: values end at 2^28 bytes");
        self.0.extend_from_slice(&length.to_be_bytes());
        self.0.extend_from_slice(field);
        self
    }

    /// Appends text.
    #[must_use]
    pub fn text(self, field: &str) -> Self {
        self.bytes(field.as_bytes())
    }

    /// Appends an unsigned integer.
    #[must_use]
    pub fn u64(self, field: u64) -> Self {
        self.bytes(&field.to_be_bytes())
    }

    /// Appends a signed integer in two's complement.
    #[must_use]
    pub fn i64(self, field: i64) -> Self {
        self.bytes(&field.to_be_bytes())
    }

    /// The encoding so far.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl std::fmt::Debug for Canonical {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Canonical").field("len", &self.0.len()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn encodings_are_injective(
            a in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..6), 0..5),
            b in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..6), 0..5),
        ) {
            let encode = |fields: &[Vec<u8>]| {
                fields.iter().fold(Canonical::new("t"), |c, f| c.bytes(f)).as_bytes().to_vec()
            };
            prop_assert_eq!(a == b, encode(&a) == encode(&b));
        }
    }
}
