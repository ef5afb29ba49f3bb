//! Who reads a `.env` file, where nobody said so.
//!
//! What the plan file declares, else what [`reseal_env::guess()`] makes of the file and of what stands beside it.

use std::fmt;
use std::fs;
use std::path::Path;

use reseal_env::{Guess, Reader};

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
        let guess = reseal_env::guess(file.parent().unwrap_or(Path::new("")), bytes);
        let Guess { readers: all, signs } = guess.ok_or_else(|| {
            Failure::new(Exit::Refused, format!("no known program reads {} as it is", file.display()))
                .hint("say who reads it with --reader")
        })?;
        let source = if signs.is_empty() { Source::Content } else { Source::Beside(signs) };
        Ok(Self { all, source })
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
