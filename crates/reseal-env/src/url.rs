//! Parts of a URL, found without decoding anything else (RFC 3986).

use std::ops::Range;

use crate::Secret;
use crate::place::UrlPart;

/// Whether the character stands for itself everywhere in a URL.
pub(crate) fn is_unreserved(character: char) -> bool {
    character.is_ascii_alphanumeric() || "-._~".contains(character)
}

/// Whether the character means itself in the user or password of a URL. More do than are unreserved: these are what RFC 2396
/// calls marks, but for the quote, and nothing that reads URLs gives them another meaning.
pub(crate) fn is_plain_in_userinfo(character: char) -> bool {
    is_unreserved(character) || "!*()".contains(character)
}

/// Percent-encodes everything that is not unreserved.
pub(crate) fn encode(value: &[u8]) -> Secret {
    let mut encoded = Secret::default();
    for &byte in value {
        if is_unreserved(char::from(byte)) {
            encoded.push(&[byte]);
        } else {
            let digit = |nibble: u8| b"0123456789ABCDEF"[usize::from(nibble)];
            encoded.push(&[b'%', digit(byte >> 4), digit(byte & 15)]);
        }
    }
    encoded
}

/// Encodes what is to stand at a part.
pub(crate) fn encode_part(value: &[u8], part: &UrlPart) -> Result<Secret, &'static str> {
    if *part != UrlPart::UserInfo {
        return Ok(encode(value));
    }
    let colon = value.iter().position(|&byte| byte == b':').ok_or("would have no password in its URL")?;
    let mut encoded = encode(&value[..colon]);
    encoded.push(b":");
    encoded.push(encode(&value[colon + 1..]).expose());
    Ok(encoded)
}

/// Percent-decodes.
pub(crate) fn decode(text: &[u8]) -> Result<Secret, &'static str> {
    const BROKEN: &str = "has a `%` in its URL that begins no encoded byte";
    let mut decoded = Secret::default();
    let mut rest = text;
    while let Some((&byte, after)) = rest.split_first() {
        if byte != b'%' {
            decoded.push(&[byte]);
            rest = after;
            continue;
        }
        let (digits, after) = after.split_first_chunk::<2>().ok_or(BROKEN)?;
        let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
        let (high, low) = (digit(digits[0]).ok_or(BROKEN)?, digit(digits[1]).ok_or(BROKEN)?);
        decoded.push(&[high << 4 | low]);
        rest = after;
    }
    Ok(decoded)
}

/// Where a part is, in bytes.
pub(crate) fn find(url: &[u8], part: &UrlPart) -> Result<Range<usize>, &'static str> {
    let scheme = url.windows(3).position(|three| three == b"://").ok_or("is not a URL")?;
    let legal = |byte: &u8| byte.is_ascii_alphanumeric() || b"+.-".contains(byte);
    if scheme == 0 || !url[..scheme].iter().all(legal) {
        return Err("is not a URL");
    }
    let start = scheme + 3;
    let end = position(url, start, b"/?#").unwrap_or(url.len());
    if let UrlPart::Query(name) = part {
        return query(url, end, name.as_bytes());
    }
    let at = url[start..end].iter().rposition(|&byte| byte == b'@').ok_or("has no user part in its URL")?;
    let user_info = start..start + at;
    let colon = position(url, start, b":").filter(|&colon| colon < user_info.end);
    match (part, colon) {
        (UrlPart::Password, Some(colon)) => Ok(colon + 1..user_info.end),
        (UrlPart::UserInfo, _) => Ok(user_info),
        (UrlPart::Password, None) => Err("has no password in its URL"),
        (_, colon) => Ok(start..colon.unwrap_or(user_info.end)),
    }
}

fn query(url: &[u8], authority_end: usize, name: &[u8]) -> Result<Range<usize>, &'static str> {
    const MISSING: &str = "has no such parameter in its URL";
    let end = position(url, authority_end, b"#").unwrap_or(url.len());
    let mut at = position(url, authority_end, b"?").filter(|&at| at < end).ok_or(MISSING)? + 1;
    loop {
        let next = position(url, at, b"&").filter(|&next| next < end).unwrap_or(end);
        if url[at..next].strip_prefix(name).is_some_and(|rest| rest.starts_with(b"=")) {
            return Ok(at + name.len() + 1..next);
        }
        if next == end {
            return Err(MISSING);
        }
        at = next + 1;
    }
}

fn position(bytes: &[u8], from: usize, any: &[u8]) -> Option<usize> {
    bytes[from..].iter().position(|byte| any.contains(byte)).map(|at| from + at)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(url: &str, part: UrlPart, expected: Result<&str, &'static str>) {
        assert_eq!(find(url.as_bytes(), &part).map(|span| &url[span]), expected, "{url}");
    }

    #[test]
    fn parts_are_found() {
        let query = |name: &str| UrlPart::Query(name.to_owned());
        check("redis://:pw@h:6379/0", UrlPart::Password, Ok("pw"));
        check("redis://:@h", UrlPart::Password, Ok(""));
        check("postgres://u:p@q@h/db?password=x&b=2#f", UrlPart::Password, Ok("p@q"));
        check("postgres://u:p@h/db?b=2&password=x#f", query("password"), Ok("x"));
        check("postgres://u@h/db", UrlPart::User, Ok("u"));
        check("postgres://u@h/db", UrlPart::Password, Err("has no password in its URL"));
        check("postgres://h:5432/a@b", UrlPart::User, Err("has no user part in its URL"));
        check("postgres://h/db?pass=1", query("password"), Err("has no such parameter in its URL"));
        check("u:p@h", UrlPart::Password, Err("is not a URL"));
    }

    #[test]
    fn marks_need_no_encoding_between_user_and_host() {
        assert!("aZ9-._~!*()".chars().all(is_plain_in_userinfo));
        assert!(!"'\"@:/?#%&+=,;$[] ü".chars().any(is_plain_in_userinfo));
    }

    #[test]
    fn everything_but_unreserved_is_encoded() {
        assert_eq!(encode("aZ0-._~+#@/% ä".as_bytes()).expose(), b"aZ0-._~%2B%23%40%2F%25%20%C3%A4");
    }
}
