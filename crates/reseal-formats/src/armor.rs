//! OpenPGP ASCII armor, [RFC 4880] section 6: header lines, base64, CRC-24.
//!
//! Header lines such as `Version:` are skipped on read and not written again.
//!
//! [RFC 4880]: https://www.rfc-editor.org/rfc/rfc4880#section-6

use crate::encoding::{decode_base64, encode_lines};

const BEGIN: &[u8] = b"-----BEGIN PGP MESSAGE-----";
const END: &[u8] = b"-----END PGP MESSAGE-----";

/// Whether the text begins like an armored message.
pub fn looks_armored(text: &[u8]) -> bool {
    text.trim_ascii_start().starts_with(BEGIN)
}

/// Appends the message in `text` to `out`.
///
/// # Errors
///
/// What is wrong with the armor; `out` is left as it was.
pub fn decode(text: &[u8], out: &mut Vec<u8>) -> Result<(), &'static str> {
    let start = out.len();
    decode_to(text, out).inspect_err(|_| out.truncate(start))
}

/// Appends `message` in armor to `out`, as pgcrypto's `armor` writes it.
pub fn encode(message: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(BEGIN);
    out.extend_from_slice(b"\n\n");
    encode_lines(message, out);
    out.extend_from_slice(if message.is_empty() { b"=" } else { b"\n=" });
    encode_lines(&crc24(message).to_be_bytes()[1..], out);
    out.push(b'\n');
    out.extend_from_slice(END);
    out.push(b'\n');
}

/// The length of the armor of `bytes` bytes.
pub fn encoded_len(bytes: usize) -> usize {
    let chars = bytes.div_ceil(3) * 4;
    let body = chars + chars.div_ceil(76);
    BEGIN.len() + 2 + body + "=....\n".len() + END.len() + 1
}

fn decode_to(text: &[u8], out: &mut Vec<u8>) -> Result<(), &'static str> {
    let text = text.trim_ascii();
    let text = text.strip_prefix(BEGIN).ok_or("no armor header line")?;
    let text = text.strip_suffix(END).ok_or("no armor tail line")?;
    let (_, text) = text.split_at(position(text, b"\n").ok_or("no line after the armor header")? + 1);
    let text = skip_headers(text)?;
    // Base64 has its `=` at the end only, so one at the start of a line begins the checksum.
    let (body, checksum) = match position(text, b"\n=") {
        Some(at) => (&text[..at], Some(&text[at + 2..])),
        None if text.starts_with(b"=") => (&text[..0], Some(&text[1..])),
        None => (text, None),
    };
    let start = out.len();
    decode_base64(body, out).ok_or("the armor's body is not base64")?;
    let Some(checksum) = checksum else { return Ok(()) };
    let mut expected = Vec::with_capacity(3);
    decode_base64(checksum, &mut expected).ok_or("the armor's checksum is not base64")?;
    if expected != crc24(&out[start..]).to_be_bytes()[1..] {
        return Err("the armor's checksum is wrong");
    }
    Ok(())
}

/// Skips `Key: value` lines and the empty line that ends them.
fn skip_headers(mut text: &[u8]) -> Result<&[u8], &'static str> {
    loop {
        let end = position(text, b"\n").ok_or("no empty line after the armor headers")?;
        let (line, rest) = (text[..end].trim_ascii_end(), &text[end + 1..]);
        if line.is_empty() {
            return Ok(rest);
        }
        position(line, b":").ok_or("no empty line after the armor headers")?;
        text = rest;
    }
}

fn position(text: &[u8], needle: &[u8]) -> Option<usize> {
    text.windows(needle.len()).position(|window| window == needle)
}

/// CRC-24 of RFC 4880 section 6.1.
fn crc24(bytes: &[u8]) -> u32 {
    bytes.iter().fold(0x00B7_04CE, |crc, byte| {
        (0..8).fold(crc ^ (u32::from(*byte) << 16), |crc, _| {
            let shifted = crc << 1;
            if shifted & 0x0100_0000 != 0 { shifted ^ 0x0186_4CFB } else { shifted }
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decoded(text: &str) -> Result<Vec<u8>, &'static str> {
        let mut out = Vec::new();
        decode(text.as_bytes(), &mut out).map(|()| out)
    }

    #[test]
    fn crc24_has_the_published_check_value() {
        assert_eq!(crc24(b"123456789"), 0x0021_CF02);
    }

    #[test]
    fn headers_and_carriage_returns_are_skipped() {
        let text = "\r\n-----BEGIN PGP MESSAGE-----\r\nVersion: x\r\nComment: a: b\r\n\r\naGVsbG8=\r\n-----END PGP MESSAGE-----";
        assert_eq!(decoded(text).as_deref(), Ok(b"hello".as_slice()));
    }

    #[test]
    fn a_wrong_checksum_is_refused() {
        let mut text = Vec::new();
        encode(b"hello", &mut text);
        let text = String::from_utf8(text).expect("armor is text");
        assert_eq!(decoded(&text).as_deref(), Ok(b"hello".as_slice()));
        assert_eq!(decoded(&text.replace("aGVsbG8=", "aGVsbG9=")), Err("the armor's body is not base64"));
        assert_eq!(decoded(&text.replace("aGVsbG8=", "aGVsbGw=")), Err("the armor's checksum is wrong"));
        assert!(decoded(&text[..text.len() / 2]).is_err());
        assert!(decoded("-----BEGIN PGP MESSAGE-----").is_err());
    }
}
