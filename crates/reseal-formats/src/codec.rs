//! Format and text encoding together: stored bytes in, plaintext out, and back.

use std::ops::Range;

use reseal_crypto::RowKey;
use reseal_crypto::random::RandomPool;
use reseal_crypto::secret::reserve_wiping;

use crate::encoding::Encoding;
use crate::format::{Format, OpenError, SealError, Shape};

/// A value that opened: where its plaintext stands in the buffer, and what to keep when it is sealed again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Opened {
    /// The plaintext within the buffer that was given.
    pub plaintext: Range<usize>,
    /// The options of the message.
    pub shape: Shape,
    /// The text encoding it stood in.
    pub encoding: Encoding,
}

/// One column's way of storing values under one key.
#[derive(Debug)]
pub struct Codec {
    format: Box<dyn Format>,
    encoding: Encoding,
    reading: Reading,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Reading {
    /// The column's encoding, with or without line breaks, in small or capital digits.
    Declared,
    /// Whatever text encoding each value looks like.
    Detected,
}

impl Codec {
    /// Joins a format under its key with the encoding of the column.
    pub fn new(format: Box<dyn Format>, encoding: Encoding) -> Self {
        Self { format, encoding, reading: Reading::Declared }
    }

    /// Joins a format with a text column whose values may stand in any text encoding; those that stood in none yet
    /// are written in `encoding`.
    pub fn detecting(format: Box<dyn Format>, encoding: Encoding) -> Self {
        Self { format, encoding, reading: Reading::Detected }
    }

    /// The format under its key.
    pub fn format(&self) -> &dyn Format {
        &*self.format
    }

    /// The encoding of values that come from elsewhere.
    pub fn encoding(&self) -> Encoding {
        self.encoding
    }

    /// The first bytes of every stored value under this key, as they stand in the column, if the format names its
    /// key: 12 bytes, or 20 characters of text.
    pub fn stored_prefix(&self) -> Option<Vec<u8>> {
        let prefix = self.format.key_prefix()?;
        // Three bytes make four characters: a shorter or longer prefix would share its last one with what follows.
        debug_assert_eq!(prefix.len() % 3, 0);
        let mut stored = Vec::new();
        self.encoding.encode(prefix, &mut stored);
        Some(stored)
    }

    /// Opens every value of `stored` that belongs to `rows` at the same place, appending plaintexts to `plaintexts`.
    ///
    /// Many at once, because some formats derive keys for 16 values in the time of one.
    ///
    /// # Panics
    ///
    /// If there are not as many rows as values: a value without a result would be one that nobody proved.
    pub fn open_many(
        &self,
        stored: &[&[u8]],
        rows: &[Option<&RowKey>],
        plaintexts: &mut Vec<u8>,
    ) -> Vec<Result<Opened, OpenError>> {
        self.open_with(stored, rows, plaintexts, |messages, rows, plaintexts| {
            self.format.open_many(messages, rows, plaintexts)
        })
    }

    /// Does what [`Codec::open_many`] does, as the proof of what [`Codec::seal_many`] wrote: see
    /// [`Format::reopen_many`].
    ///
    /// # Panics
    ///
    /// If there are not as many rows as values.
    pub fn reopen_many(
        &self,
        stored: &[&[u8]],
        rows: &[Option<&RowKey>],
        plaintexts: &mut Vec<u8>,
    ) -> Vec<Result<Opened, OpenError>> {
        self.open_with(stored, rows, plaintexts, |messages, rows, plaintexts| {
            self.format.reopen_many(messages, rows, plaintexts)
        })
    }

    /// Seals the plaintexts at `opened` within `plaintexts`, appending stored bytes to `out`; one range each.
    ///
    /// # Errors
    ///
    /// The first [`SealError`].
    ///
    /// # Panics
    ///
    /// If there are not as many rows as values.
    pub fn seal_many(
        &self,
        plaintexts: &[u8],
        opened: &[Opened],
        rows: &[Option<&RowKey>],
        random: &mut RandomPool<'_>,
        out: &mut Vec<u8>,
    ) -> Result<Vec<Range<usize>>, SealError> {
        assert_eq!(opened.len(), rows.len(), "each value has its row");
        let values: Vec<_> = opened.iter().map(|value| (value.plaintext.clone(), value.shape)).collect();
        if self.encoding == Encoding::Raw && self.reading == Reading::Declared {
            return self.format.seal_many(plaintexts, &values, rows, random, out);
        }
        let mut messages = Vec::with_capacity(values.iter().map(|(place, _)| place.len() + 128).sum());
        let places = self.format.seal_many(plaintexts, &values, rows, random, &mut messages)?;
        let encode = |(place, value): (Range<usize>, &Opened)| {
            let start = out.len();
            self.encoding_for(value).encode(&messages[place], out);
            start..out.len()
        };
        Ok(places.into_iter().zip(opened).map(encode).collect())
    }

    fn open_with(
        &self,
        stored: &[&[u8]],
        rows: &[Option<&RowKey>],
        plaintexts: &mut Vec<u8>,
        open: impl FnOnce(
            &[&[u8]],
            &[Option<&RowKey>],
            &mut Vec<u8>,
        ) -> Vec<Result<(Range<usize>, Shape), OpenError>>,
    ) -> Vec<Result<Opened, OpenError>> {
        assert_eq!(stored.len(), rows.len(), "each value has its row");
        reserve_wiping(plaintexts, stored.iter().map(|value| value.len()).sum());
        if self.encoding == Encoding::Raw && self.reading == Reading::Declared {
            let opened = open(stored, rows, plaintexts).into_iter();
            return opened.map(|result| result.map(|value| self.opened(value, Encoding::Raw))).collect();
        }
        let mut buffer = Vec::with_capacity(stored.iter().map(|value| value.len()).sum());
        let decoded: Vec<Result<(Range<usize>, Encoding), OpenError>> =
            stored.iter().map(|value| self.decode(value, &mut buffer)).collect();
        let good = decoded.iter().zip(rows).filter_map(|(result, row)| Some((result.as_ref().ok()?, *row)));
        let (messages, rows): (Vec<&[u8]>, Vec<_>) =
            good.map(|((place, _), row)| (&buffer[place.clone()], row)).unzip();
        let mut opened = open(&messages, &rows, plaintexts).into_iter();
        let join = |result: Result<(Range<usize>, Encoding), OpenError>| {
            let (_, encoding) = result?;
            let value = opened.next().expect("there is one result for every message that was decoded");
            // Other text may look like base64url too; what opens is.
            let unnamed = self.reading == Reading::Detected && matches!(encoding, Encoding::Base64Url { .. });
            match value {
                Ok(_) if unnamed => Err(OpenError::EncodingNotNamed),
                Err(_) if unnamed => {
                    let reason = "neither base64 nor hex, nor does it open as base64url";
                    Err(OpenError::Malformed { format: self.format.name(), reason })
                }
                value => Ok(self.opened(value?, encoding)),
            }
        };
        decoded.into_iter().map(join).collect()
    }

    fn opened(&self, (plaintext, shape): (Range<usize>, Shape), encoding: Encoding) -> Opened {
        Opened { plaintext, shape, encoding }
    }

    fn decode(&self, stored: &[u8], buffer: &mut Vec<u8>) -> Result<(Range<usize>, Encoding), OpenError> {
        let start = buffer.len();
        let encoding = match self.reading {
            Reading::Declared => self.encoding,
            Reading::Detected => match (Encoding::detect(stored), self.encoding) {
                // What looks like either is what the column writes.
                (Encoding::Base64 { lines }, Encoding::Base64 { lines: own }) => {
                    Encoding::Base64 { lines: lines || own }
                }
                (detected, _) => detected,
            },
        };
        let found = encoding
            .decode(stored, buffer)
            .map_err(|reason| OpenError::Malformed { format: self.format.name(), reason })?;
        Ok((start..buffer.len(), found))
    }

    /// A value of this format keeps the look it had; one from elsewhere gets the column's.
    fn encoding_for(&self, value: &Opened) -> Encoding {
        let possible = match self.reading {
            Reading::Declared => value.encoding.same_family(self.encoding),
            Reading::Detected => value.encoding.known_by_look(),
        };
        if possible && self.format.continues(&value.shape) { value.encoding } else { self.encoding }
    }
}

#[cfg(test)]
mod tests {
    use reseal_crypto::OsRandom;

    use super::*;
    use crate::format::open_each;

    /// Keeps values as they are and says by which way they were opened.
    #[derive(Debug)]
    struct TwoWays;

    impl Format for TwoWays {
        fn name(&self) -> &'static str {
            "two ways"
        }

        fn authenticated(&self) -> bool {
            true
        }

        fn key_prefix(&self) -> Option<&[u8]> {
            Some(b"KEY")
        }

        fn open(&self, message: &[u8], _: Option<&RowKey>, out: &mut Vec<u8>) -> Result<Shape, OpenError> {
            if message == b"bad" {
                return Err(OpenError::Unopened);
            }
            out.extend_from_slice(message);
            Ok(Shape::Fernet { created: 1 })
        }

        fn open_many(
            &self,
            messages: &[&[u8]],
            rows: &[Option<&RowKey>],
            out: &mut Vec<u8>,
        ) -> Vec<Result<(Range<usize>, Shape), OpenError>> {
            let many = open_each(self, messages, rows, out).into_iter();
            many.map(|result| result.map(|(place, _)| (place, Shape::Fernet { created: 2 }))).collect()
        }

        fn seal(
            &self,
            plaintext: &[u8],
            _: &Shape,
            _: Option<&RowKey>,
            _: &mut RandomPool<'_>,
            out: &mut Vec<u8>,
        ) -> Result<(), SealError> {
            out.extend_from_slice(plaintext);
            Ok(())
        }
    }

    #[test]
    fn the_proof_goes_another_way() {
        for encoding in [Encoding::Raw, Encoding::Base64 { lines: true }] {
            let codec = Codec::new(Box::new(TwoWays), encoding);
            let mut stored = Vec::new();
            encoding.encode(b"value", &mut stored);
            let created =
                |mut opened: Vec<Result<Opened, OpenError>>| opened.remove(0).map(|o| o.shape.created());
            assert_eq!(created(codec.open_many(&[&stored], &[None], &mut Vec::new())), Ok(Some(2)));
            assert_eq!(created(codec.reopen_many(&[&stored], &[None], &mut Vec::new())), Ok(Some(1)));
        }
    }

    #[test]
    fn what_does_not_decode_leaves_the_others_in_their_places() {
        let codec = Codec::new(Box::new(TwoWays), Encoding::Hex { escaped: false, upper: false });
        let (rows, mut plaintexts) = ([None; 5], b"before".to_vec());
        let opened = codec.open_many(&[b"6f6e65", b"zz", b"626164", b"74776f", b"7"], &rows, &mut plaintexts);
        let texts: Vec<Option<&[u8]>> =
            opened.iter().map(|o| o.as_ref().ok().map(|o| &plaintexts[o.plaintext.clone()])).collect();
        assert_eq!(texts, [Some(&b"one"[..]), None, None, Some(b"two"), None]);
        assert_eq!(opened[2], Err(OpenError::Unopened));
        assert!(matches!(opened[1], Err(OpenError::Malformed { format: "two ways", .. })));
        assert!(matches!(opened[4], Err(OpenError::Malformed { .. })));
    }

    #[test]
    fn base64url_is_not_guessed() {
        let codec = Codec::detecting(Box::new(TwoWays), Encoding::Base64 { lines: false });
        let refused = |text: &[u8]| {
            let mut opened = codec.open_many(&[text], &[None], &mut Vec::new());
            match opened.remove(0) {
                Err(OpenError::EncodingNotNamed) => true,
                Err(OpenError::Malformed { reason, .. }) => reason.contains("base64url"),
                _ => false,
            }
        };
        // Of one column with padding and of one without; the last could be of either, or base64.
        for (text, expected) in
            [(&b"_-8="[..], true), (b"aGVsbG8", true), (b"aGVsbG8_", true), (b"aGVsbG8h", false)]
        {
            assert_eq!(refused(text), expected, "{}", String::from_utf8_lossy(text));
        }
    }

    #[test]
    #[should_panic(expected = "each value has its row")]
    fn a_value_without_a_row_is_not_left_out_in_silence() {
        let codec = Codec::new(Box::new(TwoWays), Encoding::Raw);
        codec.reopen_many(&[b"one", b"two"], &[None], &mut Vec::new());
    }

    #[test]
    fn places_of_sealed_values_follow_what_was_there() {
        for encoding in [Encoding::Raw, Encoding::Base64 { lines: false }] {
            let codec = Codec::new(Box::new(TwoWays), encoding);
            let value = |plaintext| Opened { plaintext, shape: Shape::Plain, encoding: Encoding::Raw };
            let mut out = b"before".to_vec();
            let mut random = RandomPool::new(&OsRandom);
            let values = [value(3..6), value(0..3)];
            let places =
                codec.seal_many(b"onetwo", &values, &[None; 2], &mut random, &mut out).expect("seals");
            let mut expected = [Vec::new(), Vec::new()];
            encoding.encode(b"two", &mut expected[0]);
            encoding.encode(b"one", &mut expected[1]);
            assert_eq!(places.iter().map(|place| out[place.clone()].to_vec()).collect::<Vec<_>>(), expected);
            assert!(out.starts_with(b"before"));
        }
    }
}
