//! What is inside the encryption: a literal packet, compressed or not.

use std::io::Read;

use flate2::bufread::{DeflateDecoder, DeflateEncoder, ZlibDecoder, ZlibEncoder};
use reseal_crypto::secret::reserve_wiping;
use zeroize::Zeroizing;

use super::NAME;
use super::algorithm::Compression;
use super::message::malformed;
use super::packet::{self, OpenEnd};
use crate::format::{OpenError, PLAINTEXT_MAX};

/// Bytes of a literal packet beside its data: kind, length of an empty name, time.
const LITERAL_HEADER_LEN: usize = 6;

/// What a literal packet says beside its data.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Literal {
    pub(super) compression: Compression,
    pub(super) kind: u8,
    pub(super) created: u32,
}

/// Appends the data of the literal packet in `packets` to `plaintext`.
///
/// # Errors
///
/// [`OpenError`]; `plaintext` is left as it was.
pub(super) fn read(packets: &[u8], plaintext: &mut Vec<u8>) -> Result<Literal, OpenError> {
    read_within(PLAINTEXT_MAX, packets, plaintext)
}

fn read_within(limit: usize, packets: &[u8], plaintext: &mut Vec<u8>) -> Result<Literal, OpenError> {
    let (tag, body) = read_only_packet(packets)?;
    if tag != packet::COMPRESSED {
        return read_literal(limit, tag, body.bytes(), Compression::None, plaintext);
    }
    let (id, compressed) = body.bytes().split_first().ok_or(malformed("an empty compressed packet"))?;
    let unsupported = |option| Err(OpenError::Unsupported { format: NAME, option });
    let (compression, inflated) = match id {
        0 => (Compression::None, Zeroizing::new(compressed.to_vec())),
        1 => (Compression::Zip, inflate(limit, DeflateDecoder::new(compressed), DeflateDecoder::into_inner)?),
        2 => (Compression::Zlib, inflate(limit, ZlibDecoder::new(compressed), ZlibDecoder::into_inner)?),
        3 => return unsupported("bzip2 compression"),
        _ => return Err(malformed("unknown compression")),
    };
    let (tag, body) = read_only_packet(&inflated)?;
    read_literal(limit, tag, body.bytes(), compression, plaintext)
}

/// Appends the packets that [`read`] reads to `packets`.
pub(super) fn write(literal: &Literal, level: u32, plaintext: &[u8], packets: &mut Zeroizing<Vec<u8>>) {
    packets.reserve(written_len(plaintext.len()));
    let mut body = Zeroizing::new(Vec::with_capacity(LITERAL_HEADER_LEN + plaintext.len()));
    body.extend_from_slice(&[literal.kind, 0]);
    body.extend_from_slice(&literal.created.to_be_bytes());
    body.extend_from_slice(plaintext);
    if literal.compression == Compression::None {
        return packet::write(packet::LITERAL, &body, packets);
    }
    let mut inner = Zeroizing::new(Vec::with_capacity(packet::written_len(body.len())));
    packet::write(packet::LITERAL, &body, &mut inner);
    let mut compressed = Zeroizing::new(Vec::with_capacity(deflated_len_max(inner.len())));
    compressed.push(literal.compression.id());
    let level = flate2::Compression::new(level);
    let written = match literal.compression {
        Compression::Zlib => ZlibEncoder::new(&inner[..], level).read_to_end(&mut compressed),
        _ => DeflateEncoder::new(&inner[..], level).read_to_end(&mut compressed),
    };
    written.expect("reading from memory does not fail");
    packets.reserve(packet::written_len(compressed.len()));
    packet::write(packet::COMPRESSED, &compressed, packets);
}

/// The length of an uncompressed literal packet of `plaintext_len` bytes.
pub(super) fn written_len(plaintext_len: usize) -> usize {
    packet::written_len(LITERAL_HEADER_LEN + plaintext_len)
}

/// The most that [`write`] appends for `plaintext_len` bytes, compressed or not.
pub(super) fn compressed_len_max(plaintext_len: usize) -> usize {
    packet::written_len(1 + deflated_len_max(written_len(plaintext_len)))
}

/// The longest that deflate, within zlib, makes of `bytes` bytes: stored blocks of at most 16 KiB, 5 bytes each.
fn deflated_len_max(bytes: usize) -> usize {
    bytes + 5 * (bytes / (1 << 14) + 1) + 16
}

fn read_only_packet(mut packets: &[u8]) -> Result<(u8, packet::Body<'_>), OpenError> {
    let read = packet::read(&mut packets, OpenEnd::Allowed).map_err(malformed)?;
    if !packets.is_empty() {
        return Err(malformed("more than one packet of data"));
    }
    Ok(read)
}

fn read_literal(
    limit: usize,
    tag: u8,
    mut body: &[u8],
    compression: Compression,
    plaintext: &mut Vec<u8>,
) -> Result<Literal, OpenError> {
    if tag != packet::LITERAL {
        return Err(malformed("no literal packet"));
    }
    let body = &mut body;
    let [kind, name_len] = packet::take_array(body).map_err(malformed)?;
    packet::take(body, name_len.into()).map_err(malformed)?;
    let created = u32::from_be_bytes(packet::take_array(body).map_err(malformed)?);
    if body.len() > limit {
        return Err(OpenError::TOO_LONG);
    }
    reserve_wiping(plaintext, body.len());
    plaintext.extend_from_slice(body);
    Ok(Literal { compression, kind, created })
}

/// Inflates to the end, at most to the limit; nothing may follow the compressed stream.
fn inflate<'a, R: Read>(
    limit: usize,
    mut decoder: R,
    into_inner: impl FnOnce(R) -> &'a [u8],
) -> Result<Zeroizing<Vec<u8>>, OpenError> {
    // Headers of the literal packet and of its parts stand around the plaintext.
    let limit = limit + limit / 64;
    let mut inflated = Zeroizing::new(Vec::new());
    let mut chunk = Zeroizing::new([0; 4096]);
    loop {
        let read = decoder.read(&mut *chunk).map_err(|_| malformed("the compressed data is damaged"))?;
        if read == 0 {
            break;
        }
        if inflated.len() + read > limit {
            return Err(OpenError::TOO_LONG);
        }
        reserve_wiping(&mut inflated, read);
        inflated.extend_from_slice(&chunk[..read]);
    }
    if !into_inner(decoder).is_empty() {
        return Err(malformed("something follows the compressed data"));
    }
    Ok(inflated)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(compression: Compression, plaintext: &[u8]) -> Zeroizing<Vec<u8>> {
        let mut packets = Zeroizing::new(Vec::new());
        write(&Literal { compression, kind: b't', created: 7 }, 6, plaintext, &mut packets);
        packets
    }

    #[test]
    fn every_compression_comes_back() {
        for compression in Compression::ALL {
            for length in [0, 1, 100, 20_000, 100_000] {
                let plaintext: Vec<u8> = (0..length).map(|i: u32| (i.wrapping_mul(i) % 251) as u8).collect();
                let packets = written(compression, &plaintext);
                let mut out = Vec::new();
                let literal = read(&packets, &mut out).expect("own packets");
                assert_eq!(literal, Literal { compression, kind: b't', created: 7 });
                assert_eq!(out, plaintext);
            }
        }
    }

    #[test]
    fn what_does_not_shrink_stays_within_the_bound() {
        let mut noise = vec![0; 100_000];
        reseal_crypto::Random::fill(&reseal_crypto::random::SeededRandom::new(1), &mut noise)
            .expect("seeded");
        for compression in [Compression::Zip, Compression::Zlib] {
            assert!(written(compression, &noise).len() <= compressed_len_max(noise.len()));
        }
    }

    #[test]
    fn a_bomb_is_cut_at_the_limit() {
        let limit = 1 << 20;
        let packets = written(Compression::Zip, &vec![0; 8 * limit]);
        assert!(packets.len() < limit / 64);
        let mut out = Vec::new();
        assert_eq!(read_within(limit, &packets, &mut out), Err(OpenError::TOO_LONG));
        let plain = written(Compression::None, &vec![0; limit + 1]);
        assert_eq!(read_within(limit, &plain, &mut out), Err(OpenError::TOO_LONG));
        assert!(out.is_empty());
        assert!(read_within(limit, &written(Compression::Zlib, &vec![0; limit]), &mut out).is_ok());
    }

    #[test]
    fn names_are_skipped_and_bzip2_is_named() {
        let mut out = Vec::new();
        let named = [0xCB, 11, b'b', 3, b'f', b'o', b'o', 0, 0, 0, 9, b'x', b'y'];
        assert_eq!(read(&named, &mut out).map(|literal| (literal.kind, literal.created)), Ok((b'b', 9)));
        assert_eq!(out, b"xy");
        let unsupported = OpenError::Unsupported { format: NAME, option: "bzip2 compression" };
        assert_eq!(read(&[0xC8, 2, 3, 0], &mut out), Err(unsupported));
        for wrong in [&[][..], &[0xCB, 0], &[0xC8, 0], &[0xC8, 1, 9], &[0xC8, 1, 1], &named[..12]] {
            assert!(read(wrong, &mut out).is_err(), "{wrong:?}");
        }
        assert_eq!(out, b"xy");
    }
}
