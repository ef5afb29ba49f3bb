//! What is wrong with a plan file, where, and what to write instead.

use std::fmt;
use std::ops::Range;
use std::path::{Path, PathBuf};

/// A plan file that cannot be used. Shows names and lines of the file; there are no secrets in one.
#[derive(Debug)]
pub struct PlanError {
    path: PathBuf,
    line: Option<usize>,
    message: String,
    remedy: Option<String>,
    source: Option<std::io::Error>,
}

impl PlanError {
    /// The line, from 1, if it is known.
    pub fn line(&self) -> Option<usize> {
        self.line
    }

    /// What to write instead, as a sentence.
    pub fn remedy(&self) -> Option<&str> {
        self.remedy.as_deref()
    }

    pub(super) fn read(path: &Path, source: std::io::Error) -> Self {
        let message = "cannot be read".to_owned();
        Self { path: path.to_owned(), line: None, message, remedy: None, source: Some(source) }
    }

    pub(super) fn untrusted(path: &Path, doubt: &str) -> Self {
        let remedy =
            "take it away, make it yours and writable by you alone, or name it with --config if it is meant";
        Self {
            path: path.to_owned(),
            line: None,
            message: format!("was found, not named, and {doubt}"),
            remedy: Some(remedy.to_owned()),
            source: None,
        }
    }

    pub(super) fn toml(path: &Path, text: &str, error: &toml::de::Error) -> Self {
        let (message, remedy) = reword(error.message());
        let line = error.span().map(|span| line_of(text, span.start));
        Self { path: path.to_owned(), line, message, remedy, source: None }
    }
}

impl fmt::Display for PlanError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.path.display())?;
        if let Some(line) = self.line {
            write!(f, ", line {line}")?;
        }
        write!(f, ": {}", self.message)
    }
}

impl std::error::Error for PlanError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.source.as_ref().map(|source| source as _)
    }
}

/// Something that the schema allows and the plan should not say, at its place in the text.
#[derive(Debug)]
pub(super) struct Finding {
    span: Range<usize>,
    message: String,
    remedy: Option<String>,
}

impl Finding {
    pub(super) fn new(span: Range<usize>, message: impl Into<String>) -> Self {
        Self { span, message: message.into(), remedy: None }
    }

    pub(super) fn remedy(self, remedy: impl Into<String>) -> Self {
        Self { remedy: Some(remedy.into()), ..self }
    }

    /// Names the nearest of the names that exist, or all of them.
    pub(super) fn among<'a>(self, wrong: &str, names: impl Iterator<Item = &'a str>) -> Self {
        let remedy = suggest(wrong, &names.collect::<Vec<_>>());
        Self { remedy, ..self }
    }

    pub(super) fn locate(self, path: &Path, text: &str) -> PlanError {
        let line = Some(line_of(text, self.span.start));
        PlanError { path: path.to_owned(), line, message: self.message, remedy: self.remedy, source: None }
    }
}

fn line_of(text: &str, offset: usize) -> usize {
    text.as_bytes().iter().take(offset).filter(|byte| **byte == b'\n').count() + 1
}

/// Splits serde's "unknown field `x`, expected one of `a`, `b`" into what is wrong and what is near.
fn reword(message: &str) -> (String, Option<String>) {
    let message = message.trim_end();
    let Some((wrong, expected)) = message.split_once(", expected ") else {
        return (message.to_owned(), None);
    };
    let is_unknown = wrong.starts_with("unknown field") || wrong.starts_with("unknown variant");
    let (Some(name), true) = (quoted(wrong).next(), is_unknown) else {
        return (message.to_owned(), None);
    };
    (wrong.to_owned(), suggest(name, &quoted(expected).collect::<Vec<_>>()))
}

fn quoted(text: &str) -> impl Iterator<Item = &str> {
    text.split('`').skip(1).step_by(2)
}

fn suggest(wrong: &str, names: &[&str]) -> Option<String> {
    let near = names.iter().map(|name| (distance(wrong, name), *name)).min();
    match near {
        Some((steps, name)) if steps <= 1 + name.len() / 3 => Some(format!("did you mean `{name}`?")),
        Some(_) => Some(format!("known here: {}", names.join(", "))),
        None => None,
    }
}

/// Levenshtein's distance.
fn distance(one: &str, other: &str) -> usize {
    let other: Vec<char> = other.chars().collect();
    let mut row: Vec<usize> = (0..=other.len()).collect();
    for (i, a) in one.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, b) in other.iter().enumerate() {
            let cost = diagonal + usize::from(a != *b);
            diagonal = row[j + 1];
            row[j + 1] = cost.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[other.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unknown_names_get_the_nearest() {
        let (message, remedy) = reword("unknown field `colums`, expected one of `server`, `columns`");
        assert_eq!(message, "unknown field `colums`");
        assert_eq!(remedy.as_deref(), Some("did you mean `columns`?"));
        let (_, remedy) = reword("unknown field `zzzzzz`, expected `url` or `kind`");
        assert_eq!(remedy.as_deref(), Some("known here: url, kind"));
    }

    #[test]
    fn distances_count_edits() {
        assert_eq!(distance("kitten", "sitting"), 3);
        assert_eq!(distance("", "abc"), 3);
    }
}
