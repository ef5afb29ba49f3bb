//! `snapshot diff`: what changed, told by names and numbers; values only on demand.

use std::collections::BTreeMap;
use std::path::Path;

use reseal_env::Document;
use reseal_env::document::Kind;
use reseal_vault::{Event, SnapshotInfo, Vault};
use serde_json::json;
use zeroize::Zeroizing;

use crate::app::App;
use crate::args::SnapshotDiffArgs;
use crate::exit::Exit;
use crate::failure::{Failure, Outcome};
use crate::input;

/// The longest content that is compared line by line.
const BYTES_MAX: u64 = 16 << 20;

/// Compares a snapshot with the file it was, another file, or another snapshot.
///
/// # Errors
///
/// One of them is not there, or is too long to be shown line by line.
pub(crate) fn run(app: &App, args: &SnapshotDiffArgs) -> Outcome {
    let mut vault = app.vault()?;
    let info = vault.snapshot(&args.which.snapshot)?;
    let (other_name, new) = match (&args.to, &args.file, &info.origin) {
        (Some(to), _, _) => {
            let other = vault.snapshot(to)?;
            (other.id.to_string(), content(&mut vault, &other)?)
        }
        (None, Some(file), _) => (file.display().to_string(), file_content(file)?),
        (None, None, Some(origin)) => (origin.path.clone(), file_content(Path::new(&origin.path))?),
        (None, None, None) => {
            return Err(Failure::new(Exit::Usage, format!("{} was a stream, not a file", info.name))
                .hint("say what to compare it with: --file or --to"));
        }
    };
    let old = content(&mut vault, &info)?;
    let found = Difference::between(&old, &new);
    let object = json!({
        "snapshot": info.id.to_string(),
        "other": other_name,
        "same": found.is_same(),
        "variables": { "changed": found.changed, "added": found.added, "removed": found.removed },
        "lines": { "removed": found.old.len(), "added": found.new.len() },
    });
    app.ui.result(object, || found.words(&info.id.to_string(), &other_name))?;
    if args.reveal && !app.ui.is_json() {
        found.old.iter().try_for_each(|line| show(app, b"-", line))?;
        found.new.iter().try_for_each(|line| show(app, b"+", line))?;
    }
    Ok(Exit::Done)
}

fn show(app: &App, sign: &[u8], line: &[u8]) -> Outcome<()> {
    app.ui.bytes(&Zeroizing::new([sign, line, b"\n"].concat()))
}

fn content(vault: &mut Vault, info: &SnapshotInfo) -> Outcome<Zeroizing<Vec<u8>>> {
    if info.len > BYTES_MAX {
        return Err(Failure::new(Exit::Refused, format!("{} is longer than 16 MiB", info.id))
            .hint("compare such with `reseal snapshot cat` and a tool made for it"));
    }
    // All the room at once, so that growing leaves no copies behind.
    let mut bytes = Zeroizing::new(Vec::with_capacity(usize::try_from(info.len).unwrap_or_default()));
    vault.snapshot_read(info.id, Event::done("snapshot diff"), &mut *bytes)?;
    Ok(bytes)
}

fn file_content(path: &Path) -> Outcome<Zeroizing<Vec<u8>>> {
    let bytes = input::read_file(path)?;
    // EXPOSE: compared, and shown on demand only.
    Ok(Zeroizing::new(bytes.expose().to_vec()))
}

/// What is different: variables by name, and the lines between the first and the last that differ.
struct Difference<'a> {
    changed: Vec<String>,
    added: Vec<String>,
    removed: Vec<String>,
    old: Vec<&'a [u8]>,
    new: Vec<&'a [u8]>,
}

impl<'a> Difference<'a> {
    fn between(old: &'a [u8], new: &'a [u8]) -> Self {
        let (before, after) = (variables(old), variables(new));
        let missing = |from: &BTreeMap<_, _>, name: &String| !from.contains_key(name);
        let names = |of: &BTreeMap<String, Zeroizing<Vec<u8>>>, pick: &dyn Fn(&String) -> bool| {
            of.keys().filter(|name| pick(name)).cloned().collect::<Vec<_>>()
        };
        let changed = |name: &String| after.get(name).is_some_and(|value| before[name] != *value);
        let (old_lines, new_lines) = differing_lines(old, new);
        Self {
            changed: names(&before, &changed),
            added: names(&after, &|name| missing(&before, name)),
            removed: names(&before, &|name| missing(&after, name)),
            old: old_lines,
            new: new_lines,
        }
    }

    fn is_same(&self) -> bool {
        self.old.is_empty() && self.new.is_empty()
    }

    fn words(&self, snapshot: &str, other: &str) -> String {
        if self.is_same() {
            return format!("{snapshot} and {other} are the same");
        }
        let named = [("changed", &self.changed), ("added", &self.added), ("removed", &self.removed)];
        let mut lines: Vec<_> = named
            .into_iter()
            .filter(|(_, names)| !names.is_empty())
            .map(|(what, names)| format!("{what:<8} {}", names.join(", ")))
            .collect();
        lines.push(format!("lines    -{} +{}", self.old.len(), self.new.len()));
        lines.join("\n")
    }
}

/// How the values of each variable are written, if it is a `.env` file at all.
fn variables(bytes: &[u8]) -> BTreeMap<String, Zeroizing<Vec<u8>>> {
    let document = Document::parse(bytes);
    let mut found = BTreeMap::new();
    let mut name = None;
    for token in document.tokens() {
        let text = &bytes[token.span.clone()];
        match token.kind {
            Kind::Name => name = Some(String::from_utf8_lossy(text).into_owned()),
            Kind::Value => {
                if let Some(name) = name.take() {
                    let values: &mut Zeroizing<Vec<u8>> = found.entry(name).or_default();
                    values.extend_from_slice(text);
                    values.push(0);
                }
            }
            _ => {}
        }
    }
    found
}

fn differing_lines<'a>(old: &'a [u8], new: &'a [u8]) -> (Vec<&'a [u8]>, Vec<&'a [u8]>) {
    let lines = |bytes: &'a [u8]| bytes.split(|&byte| byte == b'\n').collect::<Vec<_>>();
    let (mut old, mut new) = (lines(old), lines(new));
    let same_start = old.iter().zip(&new).take_while(|(a, b)| a == b).count();
    old.drain(..same_start);
    new.drain(..same_start);
    let same_end = old.iter().rev().zip(new.iter().rev()).take_while(|(a, b)| a == b).count();
    old.truncate(old.len() - same_end);
    new.truncate(new.len() - same_end);
    (old, new)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_lines_that_differ() {
        let found = Difference::between(b"A=1\nB=2\nC=3\n", b"A=1\nB=x\nD=4\n");
        assert_eq!((&found.changed[..], &found.added[..]), (&["B".to_owned()][..], &["D".to_owned()][..]));
        assert_eq!(found.removed, ["C"]);
        assert_eq!(
            (found.old, found.new),
            (vec![b"B=2".as_slice(), b"C=3"], vec![b"B=x".as_slice(), b"D=4"])
        );
        assert!(Difference::between(b"x\n", b"x\n").is_same());
        assert!(!Difference::between(b"x\n", b"x").is_same());
        assert!(!Difference::between(b"x\nx\n", b"x\n").is_same());
    }
}
