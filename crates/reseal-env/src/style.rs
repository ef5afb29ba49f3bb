//! Ways of writing a value: quotes and escapes. Which of them a reader understands is for the readers to say.

use crate::Secret;
use crate::reading::{Part, Parts};

/// What stands around the value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Quotes {
    None,
    Single,
    Double,
    Backtick,
}

/// How one character of the value is written.
type Escape = fn(char) -> Option<&'static str>;

/// One way of writing.
#[derive(Clone, Copy)]
pub(crate) struct Style {
    quotes: Quotes,
    escape: Escape,
    /// Whether every character that `escape` does not write, and that is not plain, gets a backslash.
    backslash_rest: bool,
}

const fn style(quotes: Quotes, escape: Escape) -> Style {
    Style { quotes, escape, backslash_rest: false }
}

fn as_is(_: char) -> Option<&'static str> {
    None
}

fn dollar_twice(c: char) -> Option<&'static str> {
    (c == '$').then_some("$$")
}

fn quote_spliced(c: char) -> Option<&'static str> {
    (c == '\'').then_some("'\\''")
}

fn quote_and_backslash(c: char) -> Option<&'static str> {
    match c {
        '\'' => Some("\\'"),
        '\\' => Some("\\\\"),
        _ => None,
    }
}

fn line_ends(c: char) -> Option<&'static str> {
    match c {
        '\n' => Some("\\n"),
        '\r' => Some("\\r"),
        _ => None,
    }
}

fn double_quote(c: char) -> Option<&'static str> {
    match c {
        '"' => Some("\\\""),
        '\\' => Some("\\\\"),
        _ => None,
    }
}

fn double_quote_and_line_ends(c: char) -> Option<&'static str> {
    double_quote(c).or(line_ends(c))
}

fn double_quote_and_expansions(c: char) -> Option<&'static str> {
    match c {
        '$' => Some("\\$"),
        '`' => Some("\\`"),
        _ => double_quote(c),
    }
}

fn double_quote_and_dollar(c: char) -> Option<&'static str> {
    if c == '$' { Some("\\$") } else { double_quote(c) }
}

fn double_quote_dollar_and_line_ends(c: char) -> Option<&'static str> {
    double_quote_and_dollar(c).or(line_ends(c))
}

/// The least first.
const STYLES: [Style; 15] = [
    style(Quotes::None, as_is),
    style(Quotes::None, dollar_twice),
    style(Quotes::Single, as_is),
    style(Quotes::Double, as_is),
    style(Quotes::Double, line_ends),
    style(Quotes::Backtick, as_is),
    style(Quotes::Single, quote_and_backslash),
    style(Quotes::Single, quote_spliced),
    style(Quotes::Double, double_quote),
    style(Quotes::Double, double_quote_and_dollar),
    style(Quotes::Double, double_quote_and_expansions),
    style(Quotes::Double, double_quote_and_line_ends),
    style(Quotes::Double, double_quote_dollar_and_line_ends),
    style(Quotes::None, line_ends),
    Style { quotes: Quotes::None, escape: as_is, backslash_rest: true },
];

/// All ways, those with the quotes of the present text first; a backslash before every other character is the last resort.
pub(crate) fn least_different(present: &[u8]) -> Vec<Style> {
    let quotes = match present.first() {
        Some(b'\'') => Quotes::Single,
        Some(b'"') => Quotes::Double,
        Some(b'`') => Quotes::Backtick,
        _ => Quotes::None,
    };
    let (same, other): (Vec<Style>, Vec<Style>) =
        STYLES.iter().partition(|style| style.quotes == quotes && !style.backslash_rest);
    same.into_iter().chain(other).collect()
}

impl Style {
    /// Writes a value; references stay as they are. `None` where it cannot: literal bytes that are not UTF-8.
    pub(crate) fn write(self, parts: &Parts) -> Option<Secret> {
        let quote: &[u8] = match self.quotes {
            Quotes::None => b"",
            Quotes::Single => b"'",
            Quotes::Double => b"\"",
            Quotes::Backtick => b"`",
        };
        let mut text = Secret::copy_from(quote);
        for part in parts.iter() {
            match part {
                Part::Literal(bytes) => {
                    self.write_literal(std::str::from_utf8(bytes.expose()).ok()?, &mut text)
                }
                Part::Reference { text: reference, .. } => text.push(reference.expose()),
            }
        }
        text.push(quote);
        Some(text)
    }

    fn write_literal(self, literal: &str, text: &mut Secret) {
        for character in literal.chars() {
            match (self.escape)(character) {
                Some(escaped) => text.push(escaped.as_bytes()),
                None => {
                    if self.backslash_rest && character.is_ascii() && !is_plain(character) {
                        text.push(b"\\");
                    }
                    text.push_char(character);
                }
            }
        }
    }
}

/// Whether no reader gives the character a meaning.
fn is_plain(character: char) -> bool {
    character.is_ascii_alphanumeric() || "_-./:@%+,=".contains(character)
}
