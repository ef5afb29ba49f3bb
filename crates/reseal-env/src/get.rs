//! Reading a value, and whether the readers of a file agree on what it says.

use crate::edit::shape;
use crate::error::EditError;
use crate::reading::Variables;
use crate::{Document, Edit, ReadError, Reader, Secret};

/// Reads what stands at a place, decoded, as every declared reader reads it.
///
/// # Errors
///
/// [`EditError::NoVariable`]; [`EditError::Disagree`] if two readers read different values, [`EditError::Shape`] if the value
/// is not of the shape that the place asks for or depends on what is not in the file, and others of [`edit()`](crate::edit()).
pub fn get(file: &[u8], at: &Edit) -> Result<Secret, EditError> {
    let mut agreed: Option<(Reader, Secret)> = None;
    for &reader in &at.readers {
        let variables = reader.read(file).map_err(|error| EditError::Unreadable { reader, error })?;
        let value = value_of(file, &variables, reader, &at.name)?;
        match &agreed {
            Some((first, known)) if *known != value => {
                return Err(EditError::Disagree { first: *first, second: reader, name: at.name.clone() });
            }
            Some(_) => {}
            None => agreed = Some((reader, value)),
        }
    }
    let (_, value) = agreed.ok_or(EditError::NoReader)?;
    at.place.take(&value).map_err(shape(&at.name))
}

fn value_of(file: &[u8], variables: &Variables, reader: Reader, name: &str) -> Result<Secret, EditError> {
    if !variables.contains(name) {
        let is_there = !Document::parse(file).values(name).is_empty();
        let name = name.to_owned();
        return Err(if is_there { EditError::NotSeen { reader, name } } else { EditError::NoVariable(name) });
    }
    variables.get(name).cloned().ok_or_else(|| shape(name)("depends on what is not in the file"))
}

/// What the readers of a file make of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Check {
    /// The readers that do not read it at all, and why.
    pub unreadable: Vec<(Reader, ReadError)>,
    /// The variables that any of the others reads, in the order of the file.
    pub variables: Vec<Checked>,
}

/// What the readers of a file make of one variable.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checked {
    /// Its name.
    pub name: String,
    /// How many lines set it.
    pub lines: usize,
    /// Whether they read the same.
    pub agreement: Agreement,
}

/// Whether readers read the same value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Agreement {
    /// They do.
    Agreed,
    /// They do not; the first two that differ.
    Differs(Reader, Reader),
    /// This one sees no such variable.
    NotSeen(Reader),
    /// To this one it depends on what is not in the file.
    Outside(Reader),
}

impl Check {
    /// Whether every reader reads the file, and all read the same.
    pub fn is_agreed(&self) -> bool {
        let agreed = |checked: &Checked| checked.agreement == Agreement::Agreed;
        self.unreadable.is_empty() && self.variables.iter().all(agreed)
    }
}

/// Compares what the readers read.
pub fn check(file: &[u8], readers: &[Reader]) -> Check {
    let (mut unreadable, mut read) = (Vec::new(), Vec::new());
    for &reader in readers {
        match reader.read(file) {
            Ok(variables) => read.push((reader, variables)),
            Err(error) => unreadable.push((reader, error)),
        }
    }
    let document = Document::parse(file);
    let mut names: Vec<String> = Vec::new();
    for name in read.iter().flat_map(|(_, variables)| variables.names()) {
        let name = String::from_utf8_lossy(name).into_owned();
        if !names.contains(&name) {
            names.push(name);
        }
    }
    let checked = |name: String| {
        let lines = document.values(&name).len();
        Checked { agreement: agreement(&read, &name), lines, name }
    };
    Check { unreadable, variables: names.into_iter().map(checked).collect() }
}

fn agreement(read: &[(Reader, Variables)], name: &str) -> Agreement {
    let mut first: Option<(Reader, &Secret)> = None;
    for (reader, variables) in read {
        if !variables.contains(name) {
            return Agreement::NotSeen(*reader);
        }
        let Some(value) = variables.get(name) else { return Agreement::Outside(*reader) };
        match first {
            Some((other, known)) if known != value => return Agreement::Differs(other, *reader),
            Some(_) => {}
            None => first = Some((*reader, value)),
        }
    }
    Agreement::Agreed
}
