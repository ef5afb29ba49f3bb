//! dotenvy 0.15 as `dotenv()` uses it: what is set first stays, and one bad line is an error.
//!
//! After its `iter.rs`, which joins lines while quotes are open, and `parse.rs`, which takes a line apart.

use crate::error::ReadError;
use crate::readers::BOM;
use crate::reading::{Parts, Variables};

pub(crate) fn read(file: &str) -> Result<Variables, ReadError> {
    let mut variables = Variables::first_wins();
    let mut rest = file.strip_prefix(BOM).unwrap_or(file);
    while !rest.is_empty() {
        let fail = |reason| ReadError::at(file.as_bytes(), file.len() - rest.len(), reason);
        let (line, left) = logical_line(rest).map_err(fail)?;
        if let Some((name, parts)) = assignment(line.trim_end()).map_err(fail)? {
            variables.insert(name.as_bytes(), parts);
        }
        rest = left;
    }
    Ok(variables)
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Complete,
    Whitespace,
    Escape,
    Single,
    SingleEscape,
    Double,
    DoubleEscape,
}

/// One line, or several where quotes or a backslash reach over the line end; up to a comment, if it has one.
fn logical_line(text: &str) -> Result<(&str, &str), &'static str> {
    let mut state = State::Complete;
    let mut end = 0;
    for physical in text.split_inclusive('\n') {
        let start = end;
        end += physical.len();
        if text[..end].trim_start().starts_with('#') {
            return Ok(("", &text[end..]));
        }
        for (at, character) in physical.char_indices() {
            state = match (state, character) {
                (State::Whitespace, '#') => return Ok((&text[..start + at], &text[end..])),
                (State::Complete, c) if c.is_whitespace() && c != '\n' && c != '\r' => State::Whitespace,
                (State::Complete | State::Whitespace, '\\') => State::Escape,
                (State::Complete | State::Whitespace, '"') => State::Double,
                (State::Complete | State::Whitespace, '\'') => State::Single,
                (State::Complete | State::Whitespace | State::Escape, _) => State::Complete,
                (State::Single, '\\') => State::SingleEscape,
                (State::Single, '\'') => State::Complete,
                (State::Single | State::SingleEscape, _) => State::Single,
                (State::Double, '\\') => State::DoubleEscape,
                (State::Double, '"') => State::Complete,
                (State::Double | State::DoubleEscape, _) => State::Double,
            };
        }
        if state == State::Complete {
            return Ok((&text[..end], &text[end..]));
        }
    }
    Err("starts something that is not closed, or the file ends in a blank")
}

fn assignment(line: &str) -> Result<Option<(&str, Parts)>, &'static str> {
    let line = line.trim_start();
    if line.is_empty() || line.starts_with('#') {
        return Ok(None);
    }
    const NO_EQUALS: &str = "has no `=` after the name";
    let (mut name, mut rest) = key(line)?;
    if name == "export" && !rest.starts_with('=') {
        (name, rest) = key(rest)?;
    }
    let value = rest.strip_prefix('=').ok_or(NO_EQUALS)?.trim_start();
    let parts = if value.starts_with('#') { Parts::default() } else { parse_value(value)? };
    Ok(Some((name, parts)))
}

fn key(text: &str) -> Result<(&str, &str), &'static str> {
    if !text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_') {
        return Err("has no variable name");
    }
    let end = text.find(|c: char| !c.is_ascii_alphanumeric() && c != '_' && c != '.');
    let (name, rest) = text.split_at(end.unwrap_or(text.len()));
    Ok((name, rest.trim_start()))
}

fn parse_value(text: &str) -> Result<Parts, &'static str> {
    let mut parts = Parts::default();
    let (mut single, mut double) = (false, false);
    let mut rest = text;
    while let Some(character) = rest.chars().next() {
        let after = &rest[character.len_utf8()..];
        rest = after;
        match character {
            '\'' if single => single = false,
            _ if single => parts.push_char(character),
            '$' => rest = reference(after, &mut parts)?,
            '\\' => {
                let escaped = after.chars().next();
                match escaped {
                    Some(c @ ('\\' | '\'' | '"' | '$' | ' ')) => parts.push_char(c),
                    Some('n') => parts.push(b"\n"),
                    Some(_) => return Err("has an escape that is not known"),
                    None => {}
                }
                rest = &after[escaped.map_or(0, char::len_utf8)..];
            }
            '"' => double = !double,
            _ if double => parts.push_char(character),
            '\'' => single = true,
            ' ' | '\t' => {
                let tail = after.trim_start_matches([' ', '\t']);
                if tail.is_empty() || tail.starts_with('#') {
                    break;
                }
                return Err("has text after the value");
            }
            other => parts.push_char(other),
        }
    }
    if single || double { Err("has a quote that is not closed") } else { Ok(parts) }
}

/// `$name` ends at the first character that is neither letter nor digit, an underscore too; it is kept unless it is another
/// `$`. Whatever it is, quotes included, it has no meaning of its own there.
fn reference<'a>(after: &'a str, parts: &mut Parts) -> Result<&'a str, &'static str> {
    if let Some(braced) = after.strip_prefix('{') {
        let end = braced.find('}').ok_or("has a reference that is not closed")?;
        parts.push_variable(&braced.as_bytes()[..end], &[b"${", &braced.as_bytes()[..=end]].concat());
        return Ok(&braced[end + 1..]);
    }
    let end = after.find(|c: char| !c.is_alphanumeric()).unwrap_or(after.len());
    let name = &after.as_bytes()[..end];
    parts.push_variable(name, &[b"$", name].concat());
    match after[end..].chars().next() {
        None | Some('$') => Ok(&after[end..]),
        Some(literal) => {
            parts.push_char(literal);
            Ok(&after[end + literal.len_utf8()..])
        }
    }
}
