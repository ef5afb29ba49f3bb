//! What a reader makes of a file: variables, and what each is made of.

use crate::Secret;

/// A piece of a value, as one reader understands it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Part {
    /// Bytes that stand for themselves.
    Literal(Secret),
    /// Something that the reader replaces: `${NAME}`, `$(command)`, `~`.
    Reference {
        /// The variable, where it is one.
        name: Option<Vec<u8>>,
        /// Whether it is the variable and nothing else: no default, no operator.
        plain: bool,
        /// As it is written in the file.
        text: Secret,
    },
}

/// The parts of a value, put together from left to right.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Parts(Vec<Part>);

impl Parts {
    pub(crate) fn literal(bytes: &[u8]) -> Self {
        let mut parts = Self::default();
        parts.push(bytes);
        parts
    }

    pub(crate) fn push(&mut self, bytes: &[u8]) {
        if bytes.is_empty() {
            return;
        }
        match self.0.last_mut() {
            Some(Part::Literal(last)) => last.push(bytes),
            _ => self.0.push(Part::Literal(Secret::copy_from(bytes))),
        }
    }

    pub(crate) fn push_char(&mut self, character: char) {
        self.push(character.encode_utf8(&mut [0; 4]).as_bytes());
    }

    /// A variable by its name and nothing else.
    pub(crate) fn push_variable(&mut self, name: &[u8], text: &[u8]) {
        let (name, text) = (Some(name.to_vec()), Secret::copy_from(text));
        self.0.push(Part::Reference { name, plain: true, text });
    }

    /// A variable with a default or an operator.
    pub(crate) fn push_expression(&mut self, name: &[u8], text: &[u8]) {
        let (name, text) = (Some(name.to_vec()), Secret::copy_from(text));
        self.0.push(Part::Reference { name, plain: false, text });
    }

    /// Something whose value the file does not say, or says differently to different versions of the reader.
    pub(crate) fn push_outside(&mut self, text: &[u8]) {
        self.0.push(Part::Reference { name: None, plain: false, text: Secret::copy_from(text) });
    }

    pub(crate) fn push_part(&mut self, part: Part) {
        match part {
            Part::Literal(bytes) => self.push(bytes.expose()),
            reference @ Part::Reference { .. } => self.0.push(reference),
        }
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Part> {
        self.0.iter()
    }

    fn resolve(&self, scope: &[Variable]) -> Option<Secret> {
        let mut value = Secret::default();
        for part in &self.0 {
            match part {
                Part::Literal(bytes) => value.push(bytes.expose()),
                Part::Reference { name: Some(name), plain: true, .. } => {
                    let named = scope.iter().rev().find(|variable| variable.name == *name)?;
                    value.push(named.value.as_ref()?.expose());
                }
                Part::Reference { .. } => return None,
            }
        }
        Some(value)
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Variable {
    name: Vec<u8>,
    parts: Parts,
    value: Option<Secret>,
}

/// Which of several lines with the same name counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Duplicates {
    First,
    Last,
}

/// The variables that one reader reads from one file.
#[derive(Debug, Clone)]
pub struct Variables {
    all: Vec<Variable>,
    duplicates: Duplicates,
}

impl Variables {
    /// A reader whose later lines win.
    pub(crate) fn last_wins() -> Self {
        Self { all: Vec::new(), duplicates: Duplicates::Last }
    }

    /// A reader that keeps a variable once it is set.
    pub(crate) fn first_wins() -> Self {
        Self { all: Vec::new(), duplicates: Duplicates::First }
    }

    /// Adds a line; references are to the lines before it.
    pub(crate) fn insert(&mut self, name: &[u8], parts: Parts) {
        let value = parts.resolve(&self.all);
        self.all.push(Variable { name: name.to_vec(), parts, value });
    }

    fn find(&self, name: &[u8]) -> Option<&Variable> {
        let mut named = self.all.iter().filter(|variable| variable.name == name);
        match self.duplicates {
            Duplicates::First => named.next(),
            Duplicates::Last => named.next_back(),
        }
    }

    /// The names, each once, in the order of their first lines.
    pub fn names(&self) -> Vec<&[u8]> {
        let mut names: Vec<&[u8]> = Vec::new();
        for variable in &self.all {
            if !names.contains(&variable.name.as_slice()) {
                names.push(&variable.name);
            }
        }
        names
    }

    /// Whether the reader reads a variable of this name.
    pub fn contains(&self, name: &str) -> bool {
        self.find(name.as_bytes()).is_some()
    }

    /// The value, or `None` if there is none, or if it depends on what is not in the file.
    ///
    /// References are resolved from the lines above; names of the file are taken not to be set outside it as well.
    pub fn get(&self, name: &str) -> Option<&Secret> {
        self.find(name.as_bytes())?.value.as_ref()
    }

    pub(crate) fn parts(&self, name: &[u8]) -> Option<&Parts> {
        self.find(name).map(|variable| &variable.parts)
    }

    /// Every line, also those that another of the same name hides: later lines may refer to them.
    pub(crate) fn lines(&self) -> impl Iterator<Item = (&[u8], &Parts)> {
        self.all.iter().map(|variable| (variable.name.as_slice(), &variable.parts))
    }
}
