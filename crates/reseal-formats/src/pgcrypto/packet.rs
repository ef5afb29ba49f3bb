//! OpenPGP packets, RFC 4880 section 4.2: a tag, a length in one of several forms, a body.
//!
//! pgcrypto writes new-format headers and cuts bodies into parts of 16,384 bytes, the last one shorter; GnuPG writes
//! old-format headers. Both are read; pgcrypto's are written.

use zeroize::Zeroizing;

/// Bytes of a part of a long body, and the octet that announces it.
const PART_LEN: usize = 1 << 14;
const PART_OCTET: u8 = 0xE0 | 14;

/// Packet tags.
pub(super) const SYMMETRIC_KEY: u8 = 3;
pub(super) const COMPRESSED: u8 = 8;
pub(super) const ENCRYPTED: u8 = 9;
pub(super) const MARKER: u8 = 10;
pub(super) const LITERAL: u8 = 11;
pub(super) const ENCRYPTED_MDC: u8 = 18;
/// Header of the packet that holds the hash: tag 19, 20 bytes.
pub(super) const MDC_HEADER: [u8; 2] = [0xD3, 20];

/// A body: a stretch of the input, or its parts joined.
#[derive(Clone, PartialEq, Eq)]
pub(super) enum Body<'a> {
    Whole(&'a [u8]),
    Joined(Zeroizing<Vec<u8>>),
}

impl Body<'_> {
    pub(super) fn bytes(&self) -> &[u8] {
        match self {
            Self::Whole(bytes) => bytes,
            Self::Joined(bytes) => bytes,
        }
    }
}

// A body may be plaintext.
impl std::fmt::Debug for Body<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Body").field("len", &self.bytes().len()).finish()
    }
}

/// Whether a packet may say that it lasts to the end of what surrounds it. Only GnuPG's old-format compressed packets
/// do, inside encrypted data.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum OpenEnd {
    Allowed,
    Refused,
}

/// Takes one packet from the front of `input`.
pub(super) fn read<'a>(input: &mut &'a [u8], open_end: OpenEnd) -> Result<(u8, Body<'a>), &'static str> {
    let header = take_byte(input)?;
    if header & 0x80 == 0 {
        return Err("no packet header");
    }
    if header & 0x40 != 0 {
        return Ok((header & 0x3F, read_new_body(input)?));
    }
    let length = match header & 3 {
        0 => usize::from(take_byte(input)?),
        1 => usize::from(u16::from_be_bytes(take_array(input)?)),
        2 => length_of(u32::from_be_bytes(take_array(input)?))?,
        _ if open_end == OpenEnd::Allowed => input.len(),
        _ => return Err("a packet without a length"),
    };
    Ok(((header >> 2) & 0x0F, Body::Whole(take(input, length)?)))
}

fn read_new_body<'a>(input: &mut &'a [u8]) -> Result<Body<'a>, &'static str> {
    let (length, more) = read_new_length(input)?;
    let first = take(input, length)?;
    if !more {
        return Ok(Body::Whole(first));
    }
    // The parts are no longer than what is left, so a false length cannot ask for memory.
    let mut joined = Zeroizing::new(Vec::with_capacity(first.len() + input.len()));
    joined.extend_from_slice(first);
    loop {
        let (length, more) = read_new_length(input)?;
        joined.extend_from_slice(take(input, length)?);
        if !more {
            return Ok(Body::Joined(joined));
        }
    }
}

/// The length of a body or of a part of it, and whether another part follows.
fn read_new_length(input: &mut &[u8]) -> Result<(usize, bool), &'static str> {
    Ok(match take_byte(input)? {
        first @ 0..=191 => (usize::from(first), false),
        first @ 192..=223 => ((usize::from(first) - 192) * 256 + 192 + usize::from(take_byte(input)?), false),
        255 => (length_of(u32::from_be_bytes(take_array(input)?))?, false),
        first => (1 << (first & 0x1F), true),
    })
}

/// Appends a packet, cut as pgcrypto cuts it.
pub(super) fn write(tag: u8, body: &[u8], out: &mut Vec<u8>) {
    out.push(0xC0 | tag);
    let parts = body.chunks_exact(PART_LEN);
    let last = parts.remainder();
    for part in parts {
        out.push(PART_OCTET);
        out.extend_from_slice(part);
    }
    write_short_length(last.len(), out);
    out.extend_from_slice(last);
}

/// The length of a packet with a body of `body_len` bytes as [`write`] writes it.
pub(super) fn written_len(body_len: usize) -> usize {
    let parts = body_len / PART_LEN;
    1 + parts + short_length_len(body_len % PART_LEN) + body_len
}

fn write_short_length(length: usize, out: &mut Vec<u8>) {
    let octets = u32::try_from(length).expect("the last part is shorter than 16,384 bytes").to_be_bytes();
    match length {
        0..=191 => out.push(octets[3]),
        192..=8383 => {
            let [.., high, low] = (u16::from_be_bytes([octets[2], octets[3]]) - 192).to_be_bytes();
            out.extend_from_slice(&[192 + high, low]);
        }
        _ => {
            out.push(255);
            out.extend_from_slice(&octets);
        }
    }
}

fn short_length_len(length: usize) -> usize {
    match length {
        0..=191 => 1,
        192..=8383 => 2,
        _ => 5,
    }
}

pub(super) fn take_byte(input: &mut &[u8]) -> Result<u8, &'static str> {
    take_array::<1>(input).map(|[byte]| byte)
}

pub(super) fn take_array<const N: usize>(input: &mut &[u8]) -> Result<[u8; N], &'static str> {
    let (taken, rest) = input.split_first_chunk().ok_or("cut short")?;
    *input = rest;
    Ok(*taken)
}

pub(super) fn take<'a>(input: &mut &'a [u8], length: usize) -> Result<&'a [u8], &'static str> {
    let (taken, rest) = input.split_at_checked(length).ok_or("cut short")?;
    *input = rest;
    Ok(taken)
}

fn length_of(length: u32) -> Result<usize, &'static str> {
    usize::try_from(length).map_err(|_| "longer than memory")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(body: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        write(LITERAL, body, &mut out);
        out
    }

    #[test]
    fn every_length_form_reads_back() {
        for length in [0, 1, 191, 192, 8383, 8384, 16383, 16384, 16385, 32768, 40000] {
            let body = vec![0xAB; length];
            let packet = written(&body);
            assert_eq!(packet.len(), written_len(length));
            let mut input = &packet[..];
            let (tag, back) = read(&mut input, OpenEnd::Refused).expect("own packet");
            assert_eq!((tag, back.bytes(), input), (LITERAL, &body[..], &[][..]));
            for cut in [0, 1, packet.len() / 2, packet.len() - 1] {
                assert!(read(&mut &packet[..cut], OpenEnd::Refused).is_err(), "{length} cut at {cut}");
            }
        }
    }

    #[test]
    fn parts_of_other_sizes_and_a_last_part_of_any_form_are_joined() {
        let mut packet = vec![0xC0 | LITERAL, 0xE1, 1, 2, 0xE0, 3, 255, 0, 0, 0, 2, 4, 5];
        let (_, body) = read(&mut &packet[..], OpenEnd::Refused).expect("parts");
        assert_eq!(body.bytes(), [1, 2, 3, 4, 5]);
        packet.truncate(6);
        assert!(read(&mut &packet[..], OpenEnd::Refused).is_err(), "the last part must not be partial");
        let huge = [0xC0 | LITERAL, 0xFE, 0];
        assert!(read(&mut &huge[..], OpenEnd::Refused).is_err());
    }

    #[test]
    fn old_headers_are_read() {
        for packet in [&[0xAC, 2, 7, 8][..], &[0xAD, 0, 2, 7, 8], &[0xAE, 0, 0, 0, 2, 7, 8]] {
            let (tag, body) = read(&mut &packet[..], OpenEnd::Refused).expect("old format");
            assert_eq!((tag, body.bytes()), (LITERAL, &[7, 8][..]));
        }
        assert!(read(&mut &[0xAF, 7, 8][..], OpenEnd::Refused).is_err());
        let (_, body) = read(&mut &[0xAF, 7, 8][..], OpenEnd::Allowed).expect("lasts to the end");
        assert_eq!(body.bytes(), [7, 8]);
    }
}
