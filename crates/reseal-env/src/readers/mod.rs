//! One model per reader: the bytes of a file in, what this reader reads out.

pub(crate) mod compose;
pub(crate) mod docker;
pub(crate) mod dotenvy;
pub(crate) mod node;
pub(crate) mod python;
pub(crate) mod shell;
pub(crate) mod systemd;

const BOM: char = '\u{feff}';

/// Whether this is a name that every reader takes: a letter or `_`, then letters, digits and `_`.
pub(crate) fn is_name(bytes: &[u8]) -> bool {
    let letter = |byte: u8| byte.is_ascii_alphabetic() || byte == b'_';
    bytes.first().is_some_and(|&first| letter(first))
        && bytes.iter().all(|&byte| letter(byte) || byte.is_ascii_digit())
}

/// Length of the name at the start of `bytes`, 0 if there is none.
pub(crate) fn name_length(bytes: &[u8]) -> usize {
    let end = bytes.iter().position(|byte| !byte.is_ascii_alphanumeric() && *byte != b'_');
    let length = end.unwrap_or(bytes.len());
    if is_name(&bytes[..length]) { length } else { 0 }
}
