//! Where in a variable the secret is: all of it, or a part that is replaced while the rest stays.

use std::ops::Range;

use crate::Secret;
use crate::reading::{Part, Parts};
use crate::{json, url};

/// Where in the value of a variable the secret is.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Place {
    /// The secret is the value.
    Whole,
    /// The value is this text with the secret for every `{value}`.
    Template(String),
    /// A part of a URL, percent-encoded.
    Url(UrlPart),
    /// One element of a list, counted from 0.
    ListItem {
        /// What is between the elements.
        separator: char,
        /// Which element.
        index: usize,
    },
    /// A string in a JSON document, by its JSON pointer (RFC 6901).
    JsonPointer(String),
}

/// A part of a URL that may hold a secret.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum UrlPart {
    /// Before the colon of the user part.
    User,
    /// After the colon of the user part.
    Password,
    /// The value of a query parameter.
    Query(String),
}

/// What an edit asks for.
pub(crate) enum Wanted {
    Parts(Parts),
    /// The place is a reference to another variable: there is nothing to write.
    Reference(Option<Vec<u8>>),
}

/// Stands for a reference in the text that a place is looked up in; no UTF-8 has this byte.
const MARK: u8 = 0xff;

impl Place {
    /// Whether the present value does not matter.
    pub(crate) fn is_whole(&self) -> bool {
        matches!(self, Self::Whole | Self::Template(_))
    }

    /// The value as it shall be, from what it is.
    pub(crate) fn put(&self, current: &Parts, value: &[u8]) -> Result<Wanted, &'static str> {
        match self {
            Self::Whole => Ok(Wanted::Parts(Parts::literal(value))),
            Self::Template(template) => {
                if !template.contains("{value}") {
                    return Err("has a template without `{value}`");
                }
                let mut parts = Parts::default();
                for (index, text) in template.split("{value}").enumerate() {
                    parts.push(if index > 0 { value } else { b"" });
                    parts.push(text.as_bytes());
                }
                Ok(Wanted::Parts(parts))
            }
            Self::Url(part) => replace(current, |text| url::find(text, part), url::encode(value)),
            Self::ListItem { separator, index } => {
                let mut buffer = [0; 4];
                let separator = separator.encode_utf8(&mut buffer).as_bytes();
                if value.windows(separator.len()).any(|window| window == separator) {
                    return Err("is a list whose separator is in the new element");
                }
                replace(current, |text| item(text, separator, *index), Secret::copy_from(value))
            }
            Self::JsonPointer(pointer) => {
                replace(current, |text| json::find(text, pointer), json::encode(value)?)
            }
        }
    }
}

fn replace(
    current: &Parts,
    find: impl Fn(&[u8]) -> Result<Range<usize>, &'static str>,
    new: Secret,
) -> Result<Wanted, &'static str> {
    let (text, references) = flatten(current)?;
    let span = find(text.expose())?;
    match &text.expose()[span.clone()] {
        [MARK, index, MARK] => {
            let Part::Reference { name, .. } = references[usize::from(*index)] else {
                return Err("is mixed up");
            };
            return Ok(Wanted::Reference(name.clone()));
        }
        old if old.contains(&MARK) => return Err("has a reference within the part to be replaced"),
        _ => {}
    }
    let mut replaced = Secret::copy_from(&text.expose()[..span.start]);
    replaced.push(new.expose());
    replaced.push(&text.expose()[span.end..]);
    Ok(Wanted::Parts(unflatten(&replaced, &references)))
}

fn flatten(parts: &Parts) -> Result<(Secret, Vec<&Part>), &'static str> {
    let (mut text, mut references) = (Secret::default(), Vec::new());
    for part in parts.iter() {
        match part {
            Part::Literal(bytes) if std::str::from_utf8(bytes.expose()).is_err() => {
                return Err("is not UTF-8");
            }
            Part::Literal(bytes) => text.push(bytes.expose()),
            reference => {
                let index = u8::try_from(references.len()).ok().filter(|&index| index < MARK);
                text.push(&[MARK, index.ok_or("has too many references")?, MARK]);
                references.push(reference);
            }
        }
    }
    Ok((text, references))
}

fn unflatten(text: &Secret, references: &[&Part]) -> Parts {
    let mut parts = Parts::default();
    let mut rest = text.expose();
    while let Some(at) = rest.iter().position(|&byte| byte == MARK) {
        parts.push(&rest[..at]);
        parts.push_part(references[usize::from(rest[at + 1])].clone());
        rest = &rest[at + 3..];
    }
    parts.push(rest);
    parts
}

fn item(text: &[u8], separator: &[u8], index: usize) -> Result<Range<usize>, &'static str> {
    let mut start = 0;
    let mut ends = (0..text.len()).filter(|&at| text[at..].starts_with(separator)).chain([text.len()]);
    for _ in 0..index {
        start = ends.next().filter(|&end| end < text.len()).ok_or("has fewer elements")? + separator.len();
    }
    let end = ends.next().ok_or("has fewer elements")?;
    // Blanks around an element belong to the list.
    let element = &text[start..end];
    let start = start + (element.len() - element.trim_ascii_start().len());
    Ok(start..start + element.trim_ascii().len())
}
