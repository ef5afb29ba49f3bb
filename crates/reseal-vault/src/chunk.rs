//! Content cut into chunks, as much at a time as one transaction stores.

use std::io::{self, Read};

use zeroize::Zeroizing;

/// The length of a chunk; only the last one of a batch may be shorter.
pub(crate) const CHUNK_BYTES: usize = 1 << 20;
/// The most that is in memory, and in one transaction.
const BATCH_BYTES: usize = 16 * CHUNK_BYTES;

/// The next part of a stream.
pub(crate) struct Batch(Zeroizing<Vec<u8>>);

impl Batch {
    /// Reads until a batch is full or the stream ends.
    pub(crate) fn read(content: &mut dyn Read) -> io::Result<Self> {
        // Small files are the rule: the buffer grows with them, by copies that are wiped, and never moves within `read`.
        let mut bytes = Zeroizing::new(vec![0; CHUNK_BYTES]);
        let mut filled = 0;
        while filled < BATCH_BYTES {
            if filled == bytes.len() {
                let mut larger = Zeroizing::new(vec![0; BATCH_BYTES]);
                larger[..filled].copy_from_slice(&bytes);
                bytes = larger;
            }
            match content.read(&mut bytes[filled..]) {
                Ok(0) => break,
                Ok(count) => filled += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        bytes.truncate(filled);
        Ok(Self(bytes))
    }

    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether the stream ended. One that ends with a full batch is followed by an empty one.
    pub(crate) fn is_last(&self) -> bool {
        self.0.len() < BATCH_BYTES
    }

    pub(crate) fn chunks(&self) -> impl Iterator<Item = &[u8]> {
        self.0.chunks(CHUNK_BYTES)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_is_cut_whatever_it_gives_at_a_time() {
        for len in [0, 1, CHUNK_BYTES, CHUNK_BYTES + 1, BATCH_BYTES - 1, BATCH_BYTES, BATCH_BYTES + 5] {
            let mut stream = io::repeat(7).take(len as u64).chain(io::empty());
            let first = Batch::read(&mut stream).expect("read");
            assert_eq!(first.len(), len.min(BATCH_BYTES));
            assert_eq!(first.is_last(), len < BATCH_BYTES, "{len}");
            assert_eq!(first.chunks().count(), first.len().div_ceil(CHUNK_BYTES));
            if !first.is_last() {
                let second = Batch::read(&mut stream).expect("read");
                assert_eq!((second.len(), second.is_last()), (len - BATCH_BYTES, true));
            }
        }
    }
}
