//! Docker Compose: after compose-spec/compose-go `dotenv/parser.go` and `template`.
//!
//! Where its versions differ the value counts as unknown, so that no edit relies on it.

use crate::error::ReadError;
use crate::readers::name_length;
use crate::reading::{Parts, Variables};

pub(crate) fn read(file: &str) -> Result<Variables, ReadError> {
    let mut variables = Variables::last_wins();
    let mut rest = file;
    loop {
        rest = rest.trim_start();
        let fail = |reason| ReadError::at(file.as_bytes(), file.len() - rest.len(), reason);
        if rest.is_empty() {
            return Ok(variables);
        }
        if rest.starts_with('#') {
            rest = rest.find('\n').map_or("", |end| &rest[end..]);
            continue;
        }
        let start = skip_export(rest);
        let Some(end) = start.find(['=', ':', '\n']) else {
            return Err(fail("has no value"));
        };
        let name = start[..end].trim_end_matches(is_space);
        let legal = |c: char| c.is_ascii_alphanumeric() || "_.-[]".contains(c);
        if !name.chars().all(legal) || name.is_empty() {
            return Err(fail("has a character that is not allowed in a variable name"));
        }
        let after = start[end + 1..].trim_start_matches(is_space);
        if start[end..].starts_with('\n') {
            let mut parts = Parts::default();
            parts.push_outside(name.as_bytes());
            variables.insert(name.as_bytes(), parts);
            rest = after;
            continue;
        }
        let (parts, left) = value(after).map_err(fail)?;
        variables.insert(name.as_bytes(), parts);
        rest = left;
    }
}

fn skip_export(text: &str) -> &str {
    match text.strip_prefix("export") {
        Some(after) if after.starts_with(|c: char| c.is_ascii_whitespace()) => after.trim_start(),
        _ => text,
    }
}

/// Whitespace that does not end the line.
fn is_space(character: char) -> bool {
    matches!(character, '\t' | '\u{b}' | '\u{c}' | '\r' | ' ' | '\u{85}' | '\u{a0}')
}

fn value(text: &str) -> Result<(Parts, &str), &'static str> {
    let quote = match text.as_bytes().first() {
        Some(&quote @ (b'"' | b'\'')) => quote,
        _ => return bare(text),
    };
    let bytes = text.as_bytes();
    let closes = |&at: &usize| bytes[at] == quote && bytes[at - 1] != b'\\';
    let end = (1..bytes.len()).find(closes).ok_or("has a quote that is not closed")?;
    let (body, left) = (&text[1..end], &text[end + 1..]);
    if quote == b'\'' {
        return Ok((Parts::literal(body.as_bytes()), left));
    }
    Ok((substitute(&unescape(body))?, left))
}

fn bare(text: &str) -> Result<(Parts, &str), &'static str> {
    let (line, left) = text.split_once('\n').unwrap_or((text, ""));
    let value = line.split(" #").next().unwrap_or_default().trim_end();
    if value.contains('#') {
        // Releases before 2.6 cut at any `#`.
        let mut parts = Parts::default();
        parts.push_outside(value.as_bytes());
        return Ok((parts, left));
    }
    Ok((substitute(value)?, left))
}

/// The escapes of double quotes; `\$` becomes `$$`, which the substitution then turns into `$`.
fn unescape(body: &str) -> zeroize::Zeroizing<String> {
    let mut out = zeroize::Zeroizing::new(String::with_capacity(body.len() + 8));
    let mut rest = body;
    while let Some(at) = rest.find('\\') {
        out.push_str(&rest[..at]);
        let after = &rest[at + 1..];
        let Some(escape) = after.chars().next() else {
            rest = &rest[at..];
            break;
        };
        rest = &after[escape.len_utf8()..];
        match escape {
            'a' => out.push('\u{7}'),
            'b' => out.push('\u{8}'),
            'f' => out.push('\u{c}'),
            'n' => out.push('\n'),
            'r' => out.push('\r'),
            't' => out.push('\t'),
            'v' => out.push('\u{b}'),
            '$' => out.push_str("$$"),
            '"' | '\\' => out.push(escape),
            '0' => rest = octal(rest, &mut out),
            other => {
                out.push('\\');
                out.push(other);
            }
        }
    }
    out.push_str(rest);
    out
}

/// What follows `\0`: three octal digits make a character, anything else stays as it is.
fn octal<'a>(rest: &'a str, out: &mut String) -> &'a str {
    let digits = rest.bytes().take(3).take_while(u8::is_ascii_digit).count();
    match u32::from_str_radix(&rest[..digits], 8).ok().filter(|&code| digits == 3 && code < 0x80) {
        Some(code) => out.push(char::from_u32(code).unwrap_or('\0')),
        None => {
            out.push_str("\\0");
            out.push_str(&rest[..digits]);
        }
    }
    &rest[digits..]
}

/// `$$`, `$NAME`, `${NAME}` and `${NAME` followed by an operator.
fn substitute(text: &str) -> Result<Parts, &'static str> {
    const INVALID: &str = "has a `$` that starts no reference";
    let mut parts = Parts::default();
    let mut rest = text;
    while let Some(at) = rest.find('$') {
        parts.push(&rest.as_bytes()[..at]);
        let after = &rest[at + 1..];
        let length = if after.starts_with('$') {
            parts.push(b"$");
            1
        } else if let Some(braced) = after.strip_prefix('{') {
            let end = braced.find('}').ok_or(INVALID)?;
            let name = &braced.as_bytes()[..name_length(braced.as_bytes())];
            let whole = &rest.as_bytes()[at..at + end + 3];
            match name.len() {
                0 => return Err(INVALID),
                length if length == end => parts.push_variable(name, whole),
                // A nested reference ends at a brace of its own; it is not taken apart here.
                _ if braced[..end].contains('$') => {
                    return Err("has a nested reference, which is not modelled");
                }
                _ => parts.push_expression(name, whole),
            }
            end + 2
        } else {
            let length = name_length(after.as_bytes());
            if length == 0 {
                return Err(INVALID);
            }
            parts.push_variable(&after.as_bytes()[..length], &rest.as_bytes()[at..=at + length]);
            length
        };
        rest = &after[length..];
    }
    parts.push(rest.as_bytes());
    Ok(parts)
}
