//! Where in a variable the secret is: all of it, or a part that is replaced while the rest stays.

use std::fmt;
use std::ops::Range;
use std::str::FromStr;

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
    /// Both, with the colon between them; in the secret too a colon divides them.
    UserInfo,
    /// The value of a query parameter.
    Query(String),
}

/// The text describes no place.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "a place is one of url.password, url.user, url.userinfo, url.query.NAME, list[0], json:/pointer, template:TEXT{{value}}"
)]
pub struct NotAPlace;

impl FromStr for Place {
    type Err = NotAPlace;

    /// Reads the text form, as [`Display`](fmt::Display) writes it. A list is one with commas; see [`Place::separated_by`].
    fn from_str(text: &str) -> Result<Self, NotAPlace> {
        let (kind, rest) = text.split_at(text.find([':', '[', '.']).unwrap_or(text.len()));
        let index = |rest: &str| rest.strip_prefix('[')?.strip_suffix(']')?.parse().ok();
        match (kind, rest) {
            ("url", ".password") => Ok(Self::Url(UrlPart::Password)),
            ("url", ".user") => Ok(Self::Url(UrlPart::User)),
            ("url", ".userinfo") => Ok(Self::Url(UrlPart::UserInfo)),
            ("url", rest) => {
                let name = rest.strip_prefix(".query.").filter(|name| !name.is_empty());
                name.map(|name| Self::Url(UrlPart::Query(name.to_owned()))).ok_or(NotAPlace)
            }
            ("list", rest) => {
                index(rest).map(|index| Self::ListItem { separator: ',', index }).ok_or(NotAPlace)
            }
            ("json", rest) => {
                let pointer = rest.strip_prefix(':').filter(|rest| rest.is_empty() || rest.starts_with('/'));
                pointer.map(|pointer| Self::JsonPointer(pointer.to_owned())).ok_or(NotAPlace)
            }
            ("template", rest) => {
                let template = rest.strip_prefix(':').filter(|rest| rest.contains(SLOT));
                template.map(|template| Self::Template(template.to_owned())).ok_or(NotAPlace)
            }
            _ => Err(NotAPlace),
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Whole => f.write_str("whole value"),
            Self::Template(template) => write!(f, "template:{template}"),
            Self::Url(UrlPart::User) => f.write_str("url.user"),
            Self::Url(UrlPart::Password) => f.write_str("url.password"),
            Self::Url(UrlPart::UserInfo) => f.write_str("url.userinfo"),
            Self::Url(UrlPart::Query(name)) => write!(f, "url.query.{name}"),
            Self::ListItem { index, .. } => write!(f, "list[{index}]"),
            Self::JsonPointer(pointer) => write!(f, "json:{pointer}"),
        }
    }
}

/// What an edit asks for.
pub(crate) enum Wanted {
    Parts(Parts),
    /// The place is a reference to another variable: there is nothing to write.
    Reference(Option<Vec<u8>>),
}

const NO_SLOT: &str = "has a template without `{value}`";

/// What stands for the secret in a template.
const SLOT: &str = "{value}";

/// Stands for a reference in the text that a place is looked up in; no UTF-8 has this byte.
const MARK: u8 = 0xff;

impl Place {
    /// The same place in a list with another separator; any other place is left as it is.
    #[must_use]
    pub fn separated_by(self, separator: char) -> Self {
        match self {
            Self::ListItem { index, .. } => Self::ListItem { separator, index },
            other => other,
        }
    }

    /// What stands at this place of a value, decoded.
    ///
    /// # Errors
    ///
    /// What is missing, as the end of a sentence about the value.
    pub fn take(&self, value: &Secret) -> Result<Secret, &'static str> {
        let text = value.expose();
        match self {
            Self::Whole => Ok(value.clone()),
            Self::Template(template) => from_template(text, template),
            Self::Url(part) => url::decode(&text[url::find(text, part)?]),
            Self::ListItem { separator, index } => {
                let span = item(text, separator.encode_utf8(&mut [0; 4]).as_bytes(), *index)?;
                Ok(Secret::copy_from(&text[span]))
            }
            Self::JsonPointer(pointer) => json::decode(&text[json::find(text, pointer)?]),
        }
    }

    /// Whether the present value does not matter.
    pub(crate) fn is_whole(&self) -> bool {
        matches!(self, Self::Whole | Self::Template(_))
    }

    /// The value as it shall be, from what it is.
    pub(crate) fn put(&self, current: &Parts, value: &[u8]) -> Result<Wanted, &'static str> {
        match self {
            Self::Whole => Ok(Wanted::Parts(Parts::literal(value))),
            Self::Template(template) => {
                if !template.contains(SLOT) {
                    return Err(NO_SLOT);
                }
                let mut parts = Parts::default();
                for (index, text) in template.split(SLOT).enumerate() {
                    parts.push(if index > 0 { value } else { b"" });
                    parts.push(text.as_bytes());
                }
                Ok(Wanted::Parts(parts))
            }
            Self::Url(part) => replace(current, |text| url::find(text, part), url::encode_part(value, part)?),
            Self::ListItem { separator, index } => {
                let mut buffer = [0; 4];
                let separator = separator.encode_utf8(&mut buffer).as_bytes();
                if value.trim_ascii().len() != value.len() {
                    return Err("is a list, in which blanks around an element do not belong to it");
                }
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
    // The new bytes are put in last: they may hold a mark, which is nothing but a byte there.
    let mut parts = Parts::default();
    unflatten(&text.expose()[..span.start], &references, &mut parts);
    parts.push(new.expose());
    unflatten(&text.expose()[span.end..], &references, &mut parts);
    Ok(Wanted::Parts(parts))
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

fn unflatten(text: &[u8], references: &[&Part], parts: &mut Parts) {
    let mut rest = text;
    while let Some(at) = rest.iter().position(|&byte| byte == MARK) {
        parts.push(&rest[..at]);
        parts.push_part(references[usize::from(rest[at + 1])].clone());
        rest = &rest[at + 3..];
    }
    parts.push(rest);
}

/// What has to be put into a template to have this value.
fn from_template(value: &[u8], template: &str) -> Result<Secret, &'static str> {
    const OTHER: &str = "is not made of the template";
    let pieces: Vec<&str> = template.split(SLOT).collect();
    let slots = pieces.len() - 1;
    if slots == 0 {
        return Err(NO_SLOT);
    }
    let rest = value.len().checked_sub(pieces.iter().map(|piece| piece.len()).sum());
    let length = rest.filter(|rest| rest % slots == 0).ok_or(OTHER)? / slots;
    let start = pieces[0].len();
    let secret = Secret::copy_from(&value[start..start + length]);
    let mut again = Secret::default();
    for (index, piece) in pieces.iter().enumerate() {
        again.push(if index > 0 { secret.expose() } else { b"" });
        again.push(piece.as_bytes());
    }
    if again.expose() == value { Ok(secret) } else { Err(OTHER) }
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
