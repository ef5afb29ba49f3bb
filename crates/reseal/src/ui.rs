//! What goes where: data on stdout, everything else on stderr, colours only where a person reads.

use std::fmt::Display;
use std::io::{self, IsTerminal, Write};
use std::time::Duration;

use anstream::{stderr, stdout};
use indicatif::{ProgressBar, ProgressDrawTarget};
use serde_json::Value;

use crate::failure::Outcome;

/// Version of every JSON object that the command prints.
pub(crate) const SCHEMA_VERSION: u32 = 1;

/// How this invocation talks.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ui {
    json: bool,
    quiet: bool,
}

impl Ui {
    /// Talks in JSON where `json`, and without notes where `quiet`.
    pub(crate) fn new(json: bool, quiet: bool) -> Self {
        Self { json, quiet }
    }

    /// Whether results are JSON objects.
    pub(crate) fn is_json(self) -> bool {
        self.json
    }

    /// Whether progress may be drawn: a person watches stderr and did not ask for silence.
    pub(crate) fn draws(self) -> bool {
        !self.quiet && io::stderr().is_terminal()
    }

    /// Where progress is drawn: on stderr where a person watches, else nowhere.
    pub(crate) fn draw_target(self) -> ProgressDrawTarget {
        if self.draws() && !self.json { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() }
    }

    /// Something that moves while nothing else can be told.
    pub(crate) fn spinner(self, words: &str) -> ProgressBar {
        let spinner = ProgressBar::with_draw_target(None, self.draw_target());
        spinner.set_message(words.to_owned());
        spinner.enable_steady_tick(Duration::from_millis(120));
        spinner
    }

    /// Whether notes are wanted.
    pub(crate) fn is_quiet(self) -> bool {
        self.quiet
    }

    /// Writes one line of data to stdout.
    ///
    /// # Errors
    ///
    /// The output cannot be written. That its reader left is none: the command goes on to its own end.
    pub(crate) fn line(self, line: impl Display) -> Outcome<()> {
        written(writeln!(stdout().lock(), "{line}"))
    }

    /// Writes bytes to stdout as they are.
    ///
    /// # Errors
    ///
    /// The output cannot be written.
    pub(crate) fn bytes(self, bytes: &[u8]) -> Outcome<()> {
        // Not through anstream: a value may contain anything, and it must arrive unchanged.
        let mut out = io::stdout().lock();
        written(out.write_all(bytes).and_then(|()| out.flush()))
    }

    /// Writes the result: the object with `schema_version` under `--json`, the words of `people` otherwise.
    ///
    /// # Errors
    ///
    /// The output cannot be written.
    pub(crate) fn result(self, object: Value, people: impl FnOnce() -> String) -> Outcome<()> {
        if !self.json {
            let mut words = people();
            if !words.is_empty() && !words.ends_with('\n') {
                words.push('\n');
            }
            return written(stdout().lock().write_all(words.as_bytes()));
        }
        self.line(versioned(object))
    }

    /// Writes one object to stderr, for a program that reads along.
    pub(crate) fn event(self, object: Value) {
        // A closed stderr is no reason to fail.
        let _ = writeln!(stderr().lock(), "{}", versioned(object));
    }

    /// Says something on stderr that is no data; silent with `--quiet` and with `--json`.
    pub(crate) fn note(self, words: impl Display) {
        if !self.quiet && !self.json {
            // A closed stderr is no reason to fail.
            let _ = writeln!(stderr().lock(), "{words}");
        }
    }

    /// Says something on stderr that a person should not miss; also with `--quiet`.
    pub(crate) fn warn(self, words: impl Display) {
        let _ = if self.json {
            let object = versioned(serde_json::json!({ "warning": words.to_string() }));
            writeln!(stderr().lock(), "{object}")
        } else {
            writeln!(stderr().lock(), "\x1b[1;33mwarning\x1b[0m: {words}")
        };
    }
}

/// A reader that had enough, as `head` has, is told no more and stops nobody.
fn written(result: io::Result<()>) -> Outcome<()> {
    match result {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        other => Ok(other?),
    }
}

fn versioned(object: Value) -> Value {
    let mut map = serde_json::Map::new();
    map.insert("schema_version".into(), SCHEMA_VERSION.into());
    match object {
        Value::Object(fields) => map.extend(fields),
        other => {
            map.insert("value".into(), other);
        }
    }
    Value::Object(map)
}

/// Rows under a heading, columns aligned, two spaces apart.
#[derive(Debug, Default)]
pub(crate) struct Table {
    rows: Vec<Vec<String>>,
}

impl Table {
    /// A table with these column heads.
    pub(crate) fn new(head: &[&str]) -> Self {
        Self { rows: vec![head.iter().map(|cell| (*cell).to_owned()).collect()] }
    }

    /// Whether there is nothing below the heading.
    pub(crate) fn is_empty(&self) -> bool {
        self.rows.len() <= 1
    }

    /// Adds a row.
    pub(crate) fn row<C: ToString>(&mut self, cells: impl IntoIterator<Item = C>) {
        self.rows.push(cells.into_iter().map(|cell| cell.to_string()).collect());
    }
}

impl Display for Table {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let columns = self.rows.iter().map(Vec::len).max().unwrap_or(0);
        let width = |column: usize| {
            let cells = self.rows.iter().filter_map(|row| row.get(column));
            cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
        };
        let widths: Vec<usize> = (0..columns).map(width).collect();
        for row in &self.rows {
            let cells = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}"));
            writeln!(f, "{}", cells.collect::<Vec<_>>().join("  ").trim_end())?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_align() {
        let mut table = Table::new(&["name", "n"]);
        table.row(["a", "1"]);
        table.row(["longer", "22"]);
        assert_eq!(table.to_string(), "name    n\na       1\nlonger  22\n");
    }

    #[test]
    fn schema_version_comes_with_every_object() {
        assert_eq!(versioned(serde_json::json!({"a": 1})).to_string(), r#"{"a":1,"schema_version":1}"#);
    }
}
