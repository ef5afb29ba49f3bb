//! `EnvironmentFile=`: after systemd's `src/basic/env-file.c`; names that are not valid are dropped, as the manager does.

use crate::Secret;
use crate::error::ReadError;
use crate::readers::is_name;
use crate::reading::{Parts, Variables};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    BeforeName,
    Name,
    BeforeValue,
    Value,
    ValueEscape,
    SingleQuoted,
    DoubleQuoted,
    DoubleQuotedEscape,
    Comment,
    CommentEscape,
}

#[derive(Debug, Default)]
struct Line {
    name: Vec<u8>,
    value: Secret,
    /// Length of the value without the blanks at its end, while there are some.
    trimmed: Option<usize>,
}

impl Line {
    fn finish(&mut self, trims: bool, variables: &mut Variables) {
        let line = std::mem::take(self);
        let name = line.name.trim_ascii_end();
        let end = line.trimmed.filter(|_| trims).unwrap_or(line.value.len());
        let value = &line.value.expose()[..end];
        if is_name(name) && std::str::from_utf8(value).is_ok() {
            variables.insert(name, Parts::literal(value));
        }
    }
}

fn is_blank(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\n' | b'\r')
}

fn is_newline(byte: u8) -> bool {
    matches!(byte, b'\n' | b'\r')
}

pub(crate) fn read(file: &[u8]) -> Result<Variables, ReadError> {
    use State::*;
    let mut variables = Variables::last_wins();
    let (mut state, mut line) = (BeforeName, Line::default());
    for (position, &byte) in file.iter().enumerate() {
        state = match state {
            BeforeName if matches!(byte, b'#' | b';') => Comment,
            BeforeName if is_blank(byte) => BeforeName,
            BeforeName => {
                line.name.push(byte);
                Name
            }
            Name if is_newline(byte) => {
                line = Line::default();
                BeforeName
            }
            Name if byte == b'=' => BeforeValue,
            Name => {
                line.name.push(byte);
                Name
            }
            BeforeValue | Value if is_newline(byte) => {
                line.finish(state == Value, &mut variables);
                BeforeName
            }
            BeforeValue if byte == b'\'' => SingleQuoted,
            BeforeValue if byte == b'"' => DoubleQuoted,
            BeforeValue if byte == b'\\' => ValueEscape,
            BeforeValue if is_blank(byte) => BeforeValue,
            BeforeValue => {
                line.value.push(&[byte]);
                Value
            }
            Value if byte == b'\\' => {
                line.trimmed = None;
                ValueEscape
            }
            Value => {
                let length = line.value.len();
                line.trimmed = if is_blank(byte) { line.trimmed.or(Some(length)) } else { None };
                line.value.push(&[byte]);
                Value
            }
            ValueEscape => {
                if !is_newline(byte) {
                    line.value.push(&[byte]);
                }
                Value
            }
            SingleQuoted if byte == b'\'' => BeforeValue,
            DoubleQuoted if byte == b'"' => BeforeValue,
            DoubleQuoted if byte == b'\\' => DoubleQuotedEscape,
            SingleQuoted | DoubleQuoted => {
                line.value.push(&[byte]);
                state
            }
            DoubleQuotedEscape => {
                match byte {
                    b'"' | b'\\' | b'`' | b'$' => line.value.push(&[byte]),
                    b'\n' => {}
                    _ => line.value.push(&[b'\\', byte]),
                }
                DoubleQuoted
            }
            Comment if byte == b'\\' => CommentEscape,
            Comment if is_newline(byte) => BeforeName,
            // Until version 253 the comment went on in the next line.
            CommentEscape if is_newline(byte) => {
                return Err(ReadError::at(file, position, "is a comment that ends in a backslash"));
            }
            Comment | CommentEscape => Comment,
        };
    }
    match state {
        SingleQuoted | DoubleQuoted | DoubleQuotedEscape => {
            return Err(ReadError::at(file, file.len(), "ends within quotes"));
        }
        BeforeValue | Value | ValueEscape => line.finish(state == Value, &mut variables),
        BeforeName | Name | Comment | CommentEscape => {}
    }
    Ok(variables)
}
