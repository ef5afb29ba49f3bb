//! python-dotenv: after `src/dotenv/parser.py` and `variables.py`; a line it cannot parse is skipped.

use crate::Secret;
use crate::error::ReadError;
use crate::readers::BOM;
use crate::reading::{Parts, Variables};

pub(crate) fn read(file: &str) -> Result<Variables, ReadError> {
    let mut variables = Variables::last_wins();
    let mut rest = file.strip_prefix(BOM).unwrap_or(file);
    while !rest.is_empty() {
        let start = rest.trim_start_matches(is_space);
        match binding(start) {
            Some((found, left)) => {
                if let Some((name, parts)) = found {
                    variables.insert(name.as_bytes(), parts);
                }
                rest = left;
            }
            None => rest = skip_line(start, rest),
        }
    }
    Ok(variables)
}

/// Python's idea of whitespace in text has four control characters that Unicode's has not.
fn is_space(character: char) -> bool {
    character.is_whitespace() || matches!(character, '\u{1c}'..='\u{1f}')
}

fn is_blank(character: char) -> bool {
    is_space(character) && character != '\r' && character != '\n'
}

fn is_newline(character: char) -> bool {
    character == '\r' || character == '\n'
}

/// After an error the parser goes on behind the next line end, from where it stopped.
fn skip_line<'a>(stopped: &'a str, before: &'a str) -> &'a str {
    let rest = if stopped.is_empty() { before } else { stopped };
    rest.find(is_newline).map_or("", |end| &rest[end + 1..])
}

type Binding<'a> = (Option<(&'a str, Parts)>, &'a str);

fn binding(text: &str) -> Option<Binding<'_>> {
    if text.is_empty() {
        return Some((None, text));
    }
    let text = skip_export(text);
    if text.starts_with('#') {
        return Some((None, end_of_line(text)?));
    }
    let (name, rest) = key(text)?;
    let rest = rest.trim_start_matches(is_blank);
    let Some(after) = rest.strip_prefix('=') else {
        return Some((None, end_of_line(rest)?));
    };
    let start = after.trim_start_matches(is_blank);
    let is_comment = start.len() < after.len() && start.starts_with('#');
    let (raw, rest) = if is_comment { (Secret::default(), start) } else { value(start)? };
    let raw = std::str::from_utf8(raw.expose()).ok()?;
    Some((Some((name, interpolate(raw))), end_of_line(rest)?))
}

fn skip_export(text: &str) -> &str {
    match text.strip_prefix("export") {
        Some(after) if after.starts_with(is_blank) => after.trim_start_matches(is_blank),
        _ => text,
    }
}

fn key(text: &str) -> Option<(&str, &str)> {
    if let Some(quoted) = text.strip_prefix('\'') {
        let end = quoted.find('\'').filter(|&end| end > 0)?;
        return Some((&quoted[..end], &quoted[end + 1..]));
    }
    let end = text.find(|c: char| c == '=' || c == '#' || is_space(c)).unwrap_or(text.len());
    (end > 0).then(|| text.split_at(end))
}

/// A comment, blanks and the end of the line; `None` if anything else comes first.
fn end_of_line(text: &str) -> Option<&str> {
    let mut rest = text.trim_start_matches(is_blank);
    if rest.starts_with('#') {
        rest = rest.trim_start_matches(|c| !is_newline(c));
    }
    if rest.is_empty() {
        return Some(rest);
    }
    rest.strip_prefix("\r\n").or_else(|| rest.strip_prefix(is_newline))
}

fn value(text: &str) -> Option<(Secret, &str)> {
    match text.chars().next() {
        Some(quote @ ('\'' | '"')) => quoted(&text[1..], quote),
        _ => {
            let (line, rest) = text.split_at(text.find(is_newline).unwrap_or(text.len()));
            Some((Secret::copy_from(bare(line).as_bytes()), rest))
        }
    }
}

fn bare(line: &str) -> &str {
    let comment = line.char_indices().find(|&(at, c)| {
        let after = line[at..].trim_start_matches(is_space);
        is_space(c) && after.starts_with('#')
    });
    line[..comment.map_or(line.len(), |(at, _)| at)].trim_end_matches(is_space)
}

fn quoted(text: &str, quote: char) -> Option<(Secret, &str)> {
    let mut value = Secret::default();
    let mut characters = text.char_indices();
    while let Some((at, character)) = characters.next() {
        if character == quote {
            return Some((value, &text[at + 1..]));
        }
        if character != '\\' {
            value.push_char(character);
            continue;
        }
        let (_, escaped) = characters.next()?;
        match unescape(escaped, quote) {
            Some(meant) => value.push_char(meant),
            None => {
                value.push(b"\\");
                value.push_char(escaped);
            }
        }
    }
    None
}

fn unescape(escaped: char, quote: char) -> Option<char> {
    match escaped {
        '\\' | '\'' => Some(escaped),
        _ if quote == '\'' => None,
        '"' => Some('"'),
        'a' => Some('\u{7}'),
        'b' => Some('\u{8}'),
        'f' => Some('\u{c}'),
        'n' => Some('\n'),
        'r' => Some('\r'),
        't' => Some('\t'),
        'v' => Some('\u{b}'),
        _ => None,
    }
}

/// `${NAME}` and `${NAME:-default}`, whatever the quotes; there is no way to write them literally.
fn interpolate(value: &str) -> Parts {
    let mut parts = Parts::default();
    let mut rest = value;
    while let Some(at) = rest.find("${") {
        parts.push(&rest.as_bytes()[..at]);
        let braced = &rest[at + 2..];
        let end = braced.find('}');
        let name = &braced[..braced.find(['}', ':']).unwrap_or(0)];
        match end {
            Some(end) if name.len() == end => {
                parts.push_variable(name.as_bytes(), &rest.as_bytes()[at..at + end + 3]);
                rest = &braced[end + 1..];
            }
            Some(end) if braced[name.len()..].starts_with(":-") => {
                parts.push_expression(name.as_bytes(), &rest.as_bytes()[at..at + end + 3]);
                rest = &braced[end + 1..];
            }
            _ => {
                parts.push(b"${");
                rest = braced;
            }
        }
    }
    parts.push(rest.as_bytes());
    parts
}
