//! The one place that turns an error into words, a hint and an exit code.
//!
//! ```text
//! error: cannot re-encrypt `client-preferences`: 3 of 120000 values did not open
//! caused by: row 88121: no key in the keyring opens this value
//! hint: run `reseal reencrypt plan` to see which formats and keys are present
//! ```

use std::error::Error;
use std::io::{self, Write};

use anstream::stderr;
use serde_json::{Value, json};

use crate::exit::Exit;
use crate::ui::SCHEMA_VERSION;

/// How every command ends: with an exit code, or with a failure that has one.
pub(crate) type Outcome<T = Exit> = Result<T, Failure>;

/// An error as it is told to a person, or to a program with `--json`.
#[derive(Debug)]
pub(crate) struct Failure {
    exit: Exit,
    message: String,
    causes: Vec<String>,
    hint: Option<String>,
    /// Whoever would be told ended the command.
    silent: bool,
}

impl Failure {
    /// A failure with its heading: lower case, no full stop.
    pub(crate) fn new(exit: Exit, message: impl Into<String>) -> Self {
        Self { exit, message: message.into(), causes: Vec::new(), hint: None, silent: false }
    }

    /// A failure whose heading is `error` and whose causes are the sources of `error`.
    pub(crate) fn from_error(exit: Exit, error: &(dyn Error + 'static)) -> Self {
        let mut failure = Self::new(exit, error.to_string());
        failure.add_sources(error);
        failure
    }

    /// Puts what was being done above what went wrong.
    #[must_use]
    pub(crate) fn while_doing(mut self, doing: impl Into<String>) -> Self {
        let cause = std::mem::replace(&mut self.message, doing.into());
        self.causes.insert(0, cause);
        self
    }

    /// Adds what is safe to do next; an earlier hint is closer to the cause and stays.
    #[must_use]
    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint.get_or_insert_with(|| hint.into());
        self
    }

    /// Adds causes, each on a line of its own.
    #[must_use]
    pub(crate) fn because(mut self, causes: impl IntoIterator<Item = String>) -> Self {
        self.causes.extend(causes);
        self
    }

    /// Gives it another exit code.
    #[must_use]
    pub(crate) fn with_exit(self, exit: Exit) -> Self {
        Self { exit, ..self }
    }

    /// The exit code of the process.
    pub(crate) fn exit(&self) -> Exit {
        self.exit
    }

    /// The end of the command because a person pressed Ctrl-C at a prompt: they know.
    pub(crate) fn interrupted() -> Self {
        Self { silent: true, ..Self::new(Exit::Interrupted, "interrupted") }
    }

    /// What it says itself, a line each: the heading, and what is safe to do next. Causes may quote programs.
    pub(crate) fn own_words(&self) -> Vec<String> {
        [&self.message].into_iter().chain(&self.hint).cloned().collect()
    }

    /// Tells it on stderr, as words or as one JSON object.
    pub(crate) fn report(&self, as_json: bool) {
        if self.silent {
            return;
        }
        let mut err = stderr().lock();
        // A closed stderr leaves the exit code to tell it.
        let _ = if as_json { writeln!(err, "{}", self.to_json()) } else { self.write_words(&mut err) };
    }

    fn write_words(&self, out: &mut impl Write) -> io::Result<()> {
        writeln!(out, "\x1b[1;31merror\x1b[0m: {}", self.message)?;
        for cause in &self.causes {
            writeln!(out, "caused by: {cause}")?;
        }
        if let Some(hint) = &self.hint {
            writeln!(out, "\x1b[36mhint\x1b[0m: {hint}")?;
        }
        Ok(())
    }

    /// The fields of the object that tells it.
    pub(crate) fn object(&self) -> Value {
        json!({
            "code": self.exit.number(),
            "kind": self.exit.name(),
            "message": self.message,
            "causes": self.causes,
            "hint": self.hint,
        })
    }

    fn to_json(&self) -> Value {
        json!({ "schema_version": SCHEMA_VERSION, "error": self.object() })
    }

    /// The failure that another process of ours told by [`report`](Self::report) as JSON, if this line is one.
    pub(crate) fn from_json(line: &str) -> Option<Self> {
        let object: Value = serde_json::from_str(line).ok()?;
        let error = object.get("error")?;
        let code = error["code"].as_u64()?;
        let exit = Exit::ALL.into_iter().find(|exit| u64::from(exit.number()) == code)?;
        let texts = error["causes"].as_array().into_iter().flatten();
        let causes = texts.filter_map(Value::as_str).map(str::to_owned).collect();
        let hint = error["hint"].as_str().map(str::to_owned);
        Some(Self { causes, hint, ..Self::new(exit, error["message"].as_str()?) })
    }

    fn add_sources(&mut self, error: &(dyn Error + 'static)) {
        let mut above = self.message.clone();
        let mut next = error.source();
        while let Some(source) = next {
            let words = source.to_string();
            // Transparent wrappers repeat their source's words, and so do some libraries' headings.
            if !above.contains(&words) {
                self.causes.push(words.clone());
            }
            above = words;
            next = source.source();
        }
    }
}

/// Failures of reading and writing that need no special words.
impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        let exit = if error.kind() == io::ErrorKind::NotFound { Exit::NotFound } else { Exit::Failed };
        Self::from_error(exit, &error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(failure: &Failure) -> String {
        let mut out = Vec::new();
        failure.write_words(&mut out).unwrap();
        anstream::adapter::strip_bytes(&out).into_vec().try_into().unwrap()
    }

    #[test]
    fn says_what_why_and_what_next() {
        let failure = Failure::new(Exit::NotFound, "no secret `crm/key`")
            .while_doing("cannot read `crm/key`")
            .hint("run `reseal list`")
            .hint("an outer, vaguer hint");
        assert_eq!(
            words(&failure),
            "error: cannot read `crm/key`\ncaused by: no secret `crm/key`\nhint: run `reseal list`\n"
        );
        assert_eq!(failure.to_json()["error"]["code"], 3);
    }

    #[test]
    fn sources_that_repeat_the_heading_are_left_out() {
        #[derive(Debug, thiserror::Error)]
        #[error("cannot open: {0}")]
        struct Outer(#[source] io::Error);
        let failure = Failure::from_error(Exit::Failed, &Outer(io::Error::other("disk on fire")));
        assert_eq!(words(&failure), "error: cannot open: disk on fire\n");
    }
}
