//! Who reads a `.env` file, where nobody said so.
//!
//! First what the plan file declares; else what stands beside the file: a compose file, a Python, Node or Rust project; else
//! every common reader that reads the file as it is, so that what they do not agree on is refused. `docker run --env-file` and
//! systemd are never guessed: they take quotes, comments or `export` otherwise, so whoever uses them has to say so.

use std::fmt;
use std::fs;
use std::path::Path;

use reseal_env::document::Kind;
use reseal_env::{Document, Reader};

use crate::app::App;
use crate::exit::Exit;
use crate::failure::{Failure, Outcome};

/// The readers of a file, and how they are known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Readers {
    pub(crate) all: Vec<Reader>,
    source: Source,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Source {
    Declared,
    Plan,
    Beside(Vec<&'static str>),
    Content,
}

/// What beside a file tells of its readers.
const SIGNS: [(&str, Reader); 12] = [
    ("compose.yaml", Reader::Compose),
    ("compose.yml", Reader::Compose),
    ("docker-compose.yaml", Reader::Compose),
    ("docker-compose.yml", Reader::Compose),
    ("pyproject.toml", Reader::PythonDotenv),
    ("requirements.txt", Reader::PythonDotenv),
    ("setup.py", Reader::PythonDotenv),
    ("Pipfile", Reader::PythonDotenv),
    ("manage.py", Reader::PythonDotenv),
    ("package.json", Reader::NodeDotenv),
    ("Cargo.toml", Reader::Dotenvy),
    (".envrc", Reader::Shell),
];

/// Those that are asked where nothing is known.
const COMMON: [Reader; 5] =
    [Reader::Compose, Reader::PythonDotenv, Reader::NodeDotenv, Reader::Dotenvy, Reader::Shell];

impl Readers {
    /// Those that were given, else those that are known or guessed.
    ///
    /// # Errors
    ///
    /// The plan is wrong, or nothing reads the file.
    pub(crate) fn of(app: &App, file: &Path, bytes: &[u8], given: &[Reader]) -> Outcome<Self> {
        if !given.is_empty() {
            let mut all = given.to_vec();
            all.sort_unstable();
            all.dedup();
            return Ok(Self { all, source: Source::Declared });
        }
        let planned = planned(app, file)?;
        if !planned.is_empty() {
            return Ok(Self { all: planned, source: Source::Plan });
        }
        Self::guess(file.parent().unwrap_or(Path::new("")), bytes).ok_or_else(|| {
            Failure::new(Exit::Refused, format!("no known program reads {} as it is", file.display()))
                .hint("say who reads it with --reader")
        })
    }

    fn guess(directory: &Path, bytes: &[u8]) -> Option<Self> {
        let found = SIGNS.into_iter().filter(|(name, _)| directory.join(name).is_file());
        let (signs, mut all): (Vec<_>, Vec<_>) = found.unzip();
        if !all.is_empty() {
            all.sort_unstable();
            all.dedup();
            return Some(Self { all, source: Source::Beside(signs) });
        }
        let all = able(bytes);
        (!all.is_empty()).then_some(Self { all, source: Source::Content })
    }

    /// Tells how they are known, unless they were given.
    pub(crate) fn tell(&self, app: &App) {
        if self.source != Source::Declared {
            app.ui.note(self);
        }
    }

    /// Their names.
    pub(crate) fn names(&self) -> Vec<&'static str> {
        self.all.iter().map(|reader| reader.name()).collect()
    }
}

impl fmt::Display for Readers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "read by {}", self.names().join(", "))?;
        match &self.source {
            Source::Declared => Ok(()),
            Source::Plan => f.write_str(" (declared in the plan)"),
            Source::Beside(signs) => {
                write!(f, " (guessed from {}; --reader says it for certain)", signs.join(", "))
            }
            Source::Content => f.write_str(" (guessed: they read it as it is; --reader says it for certain)"),
        }
    }
}

/// The readers that the plan declares for a file.
fn planned(app: &App, file: &Path) -> Outcome<Vec<Reader>> {
    let Some(plan) = app.plan()? else { return Ok(Vec::new()) };
    let folder = plan.path.parent().unwrap_or(Path::new(""));
    let meant = fs::canonicalize(file).ok();
    for (path, entry) in &plan.file.files {
        if meant.is_none() || fs::canonicalize(folder.join(path)).ok() != meant {
            continue;
        }
        let known = |name: &String| {
            Reader::from_name(name).ok_or_else(|| {
                let names = Reader::ALL.map(Reader::name).join(", ");
                Failure::new(Exit::Usage, format!("the plan names a reader `{name}`"))
                    .hint(format!("readers are {names}"))
            })
        };
        return entry.get_ref().readers.iter().map(known).collect();
    }
    Ok(Vec::new())
}

/// The common readers that read the file.
fn able(bytes: &[u8]) -> Vec<Reader> {
    let has_values = Document::parse(bytes).tokens().iter().any(|token| token.kind == Kind::Value);
    // Some pass over what they do not understand: they read such a file, and nothing in it.
    let reads = |reader: &Reader| match reader.read(bytes) {
        Ok(variables) => variables.names().is_empty() != has_values,
        Err(_) => false,
    };
    COMMON.into_iter().filter(reads).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn guessed(files: &[&str], bytes: &str) -> Option<Vec<&'static str>> {
        let directory = tempfile::tempdir().unwrap();
        files.iter().for_each(|file| fs::write(directory.path().join(file), "").unwrap());
        Readers::guess(directory.path(), bytes.as_bytes()).map(|readers| readers.names())
    }

    #[test]
    fn what_is_beside_the_file_tells_who_reads_it() {
        assert_eq!(guessed(&["compose.yaml", "manage.py"], "A=1\n"), Some(vec!["compose", "python-dotenv"]));
        assert_eq!(guessed(&["package.json"], "A=1\n"), Some(vec!["node-dotenv"]));
    }

    #[test]
    fn else_those_that_read_it_do() {
        let all = ["compose", "python-dotenv", "node-dotenv", "dotenvy", "shell"];
        assert_eq!(guessed(&[], "A=1\nB='x y'\n"), Some(all.to_vec()));
        assert_eq!(guessed(&[], "A=x y # c\n"), Some(all[..3].to_vec()));
        assert_eq!(guessed(&[], "A=\"x\n"), Some(vec!["node-dotenv"]));
        assert_eq!(guessed(&[], "# nothing\n"), Some(all.to_vec()));
    }
}
