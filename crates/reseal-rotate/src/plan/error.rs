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
    vault: NamedVault,
    source: Option<std::io::Error>,
}

/// What a plan that cannot be used says about the vault.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NamedVault {
    /// It names this one.
    Named(PathBuf),
    /// It names none.
    NotNamed,
    /// That cannot be told, or is not to be believed.
    Unknown,
}

impl NamedVault {
    /// The names at the top of a plan end where its first table begins; all of them have to make sense. A vault that is
    /// named further down may be meant for the top.
    fn of(path: &Path, text: &str) -> Self {
        const KNOWN: [&str; 6] = ["schema", "vault", "prefix", "environment", "timezone", "leftovers"];
        let is_table = |line: &str| line.trim_start().starts_with('[');
        let names_vault = |line: &str| {
            let name = line.split_once('=').map(|(name, _)| name.trim().trim_matches(['"', '\'']));
            name == Some("vault")
        };
        if text.lines().skip_while(|line| !is_table(line)).any(names_vault) {
            return Self::Unknown;
        }
        let top = text.lines().take_while(|line| !is_table(line));
        let Ok(top) = toml::from_str::<toml::Table>(&top.collect::<Vec<_>>().join("\n")) else {
            return Self::Unknown;
        };
        match top.get("vault") {
            _ if top.keys().any(|name| !KNOWN.contains(&name.as_str())) => Self::Unknown,
            None => Self::NotNamed,
            Some(toml::Value::String(vault)) => Self::Named(path.parent().unwrap_or(path).join(vault)),
            Some(_) => Self::Unknown,
        }
    }
}

impl PlanError {
    /// What the file says about the vault all the same.
    pub fn vault(&self) -> &NamedVault {
        &self.vault
    }

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
        Self {
            path: path.to_owned(),
            line: None,
            message,
            remedy: None,
            vault: NamedVault::Unknown,
            source: Some(source),
        }
    }

    pub(super) fn untrusted(path: &Path, doubt: &str) -> Self {
        let remedy =
            "take it away, make it yours and writable by you alone, or name it with --config if it is meant";
        Self {
            path: path.to_owned(),
            line: None,
            message: format!("was found, not named, and {doubt}"),
            remedy: Some(remedy.to_owned()),
            vault: NamedVault::Unknown,
            source: None,
        }
    }

    pub(super) fn toml(path: &Path, text: &str, error: &toml::de::Error) -> Self {
        let (message, remedy) = reword(error.message());
        let line = error.span().map(|span| line_of(text, span.start));
        let vault = NamedVault::of(path, text);
        Self { path: path.to_owned(), line, message, remedy, vault, source: None }
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
    /// The field of the table that it is about.
    field: Option<&'static str>,
    message: String,
    remedy: Option<String>,
}

impl Finding {
    pub(super) fn new(span: Range<usize>, message: impl Into<String>) -> Self {
        Self { span, field: None, message: message.into(), remedy: None }
    }

    /// About this field of the table at whose place it is.
    pub(super) fn at(self, field: &'static str) -> Self {
        Self { field: Some(field), ..self }
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
        let line = Some(
            line_of(text, self.span.start)
                + self.field.map_or(0, |field| below(text, self.span.start, field)),
        );
        let vault = NamedVault::of(path, text);
        let Self { message, remedy, .. } = self;
        PlanError { path: path.to_owned(), line, message, remedy, vault, source: None }
    }
}

/// How many lines below the head of a table a field stands; none if it is in the same line, or not found.
fn below(text: &str, head: usize, field: &str) -> usize {
    let lines = text.get(head..).unwrap_or_default().lines().enumerate();
    let mut table = lines.take_while(|(at, line)| *at == 0 || !line.trim_start().starts_with('['));
    let is_field = |line: &str| {
        line.trim_start().strip_prefix(field).is_some_and(|rest| rest.trim_start().starts_with('='))
    };
    table.find(|(_, line)| is_field(line)).map_or(0, |(at, _)| at)
}

fn line_of(text: &str, offset: usize) -> usize {
    text.as_bytes().iter().take(offset).filter(|byte| **byte == b'\n').count() + 1
}

/// Splits serde's "unknown field `x`, expected one of `a`, `b`" into what is wrong and what is near.
fn reword(message: &str) -> (String, Option<String>) {
    let message = message.trim_end();
    if message.starts_with("invalid type: string") && message.ends_with("expected a sequence") {
        let remedy = "write its words in brackets, each in quotes: [\"program\", \"argument\"]";
        return ("a list belongs here, not a text".to_owned(), Some(remedy.to_owned()));
    }
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
    fn a_field_is_found_below_the_head_of_its_table() {
        assert_eq!(below("[a]\nkind = 1\n url= 2\n[b]\nurl = 3", 0, "url"), 2);
        assert_eq!(below("[a]\n[b]\nurl = 1", 0, "url"), 0);
    }

    #[test]
    fn a_broken_plan_still_names_its_vault() {
        let named = |text| NamedVault::of(Path::new("/plan/reseal.toml"), text);
        let vault = NamedVault::Named("/plan/v".into());
        assert_eq!(named("vault = 'v'\n[secrets.a]\nno = such\n[["), vault);
        assert_eq!(named("schema = 1\n[secrets.a]\nstrategy = 'v"), NamedVault::NotNamed);
        let misplaced =
            ["schema = 1\n[apps.a]\nvault = 'v'", "[a]\n \"vault\"= 'v'", "leftovers = [\n[1]]\nvault = 'v'"];
        for text in ["valt = 'v'\n", "vault = \n[a]", "vault = 1"].into_iter().chain(misplaced) {
            assert_eq!(named(text), NamedVault::Unknown, "{text}");
        }
    }

    #[test]
    fn distances_count_edits() {
        assert_eq!(distance("kitten", "sitting"), 3);
        assert_eq!(distance("", "abc"), 3);
    }
}
