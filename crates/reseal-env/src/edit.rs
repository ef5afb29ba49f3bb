//! Changing one value, proved before anything is written: every declared reader must read exactly what is wanted.

use crate::error::EditError;
use crate::place::Wanted;
use crate::reading::{Part, Parts, Variables};
use crate::style::least_different;
use crate::url::is_unreserved;
use crate::{Document, Place, Reader, Secret};

/// What to change, and who must read it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Edit {
    /// The variable; all its lines are changed, since readers do not agree on which one counts.
    pub name: String,
    /// Where in its value.
    pub place: Place,
    /// The readers of the file.
    pub readers: Vec<Reader>,
}

/// What an edit comes to.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Outcome {
    /// The file with the new value.
    Changed(Secret),
    /// Every reader reads the wanted value already.
    Unchanged,
    /// The place is a reference to this variable, so there is nothing to write here; the value is fit for the place.
    Interpolated(String),
}

/// Puts `value` into a file, in the way of writing that differs least from the present one and that every reader reads right.
///
/// # Errors
///
/// [`EditError`] if no way of writing does, if a reader does not read the file, or if the present value is not of the shape
/// that the place asks for. It names the character and the reader, never a value.
pub fn edit(file: &[u8], edit: &Edit, value: &[u8]) -> Result<Outcome, EditError> {
    if value.contains(&0) {
        return Err(EditError::Nul);
    }
    let proof = Proof::new(file, edit)?;
    let wanted = match proof.wanted(edit, value)? {
        Wanted::Parts(parts) => parts,
        Wanted::Reference(name) => return interpolated(edit, name, value),
    };
    proof.check_dependents(value)?;
    if proof.reads(&proof.before, &wanted) {
        return Ok(Outcome::Unchanged);
    }
    match proof.write(&wanted, &edit.readers) {
        Some(new) => Ok(Outcome::Changed(new)),
        None => Err(proof.refusal(&wanted, &edit.readers)),
    }
}

fn interpolated(edit: &Edit, name: Option<Vec<u8>>, value: &[u8]) -> Result<Outcome, EditError> {
    let name = name
        .and_then(|name| String::from_utf8(name).ok())
        .ok_or_else(|| EditError::Shape { name: edit.name.clone(), reason: "comes from outside the file" })?;
    let is_url = matches!(edit.place, Place::Url(_));
    match first_reserved(value).filter(|_| is_url) {
        Some(character) => Err(EditError::NotUrlSafe { dependent: edit.name.clone(), name, character }),
        None => Ok(Outcome::Interpolated(name)),
    }
}

fn first_reserved(value: &[u8]) -> Option<char> {
    String::from_utf8_lossy(value).chars().find(|&character| !is_unreserved(character))
}

/// A file as its readers read it before the edit.
struct Proof<'a> {
    name: &'a str,
    document: Document,
    before: Vec<(Reader, Variables)>,
}

impl<'a> Proof<'a> {
    fn new(file: &[u8], edit: &'a Edit) -> Result<Self, EditError> {
        let document = Document::parse(file);
        if document.values(&edit.name).is_empty() {
            return Err(EditError::NoVariable(edit.name.clone()));
        }
        if edit.readers.is_empty() {
            return Err(EditError::NoReader);
        }
        let mut before = Vec::new();
        for &reader in &edit.readers {
            let variables = reader.read(file).map_err(|error| EditError::Unreadable { reader, error })?;
            if !variables.contains(&edit.name) {
                return Err(EditError::NotSeen { reader, name: edit.name.clone() });
            }
            before.push((reader, variables));
        }
        Ok(Self { name: &edit.name, document, before })
    }

    fn parts<'v>(&self, variables: &'v Variables) -> &'v Parts {
        variables.parts(self.name.as_bytes()).expect("it was looked up when the proof was made")
    }

    fn wanted(&self, edit: &Edit, value: &[u8]) -> Result<Wanted, EditError> {
        let (first, variables) = &self.before[0];
        let current = self.parts(variables);
        if !edit.place.is_whole() {
            let other = self.before.iter().find(|(_, variables)| self.parts(variables) != current);
            if let Some((second, _)) = other {
                let name = edit.name.clone();
                return Err(EditError::Disagree { first: *first, second: *second, name });
            }
        }
        let shape = |reason| EditError::Shape { name: edit.name.clone(), reason };
        edit.place.put(current, value).map_err(shape)
    }

    /// A variable that puts this one into a URL gets it as it is, so it must not need encoding.
    fn check_dependents(&self, value: &[u8]) -> Result<(), EditError> {
        let Some(character) = first_reserved(value) else { return Ok(()) };
        for (_, variables) in &self.before {
            let dependent = variables.lines().find(|(_, parts)| is_in_url(parts, self.name.as_bytes()));
            if let Some((dependent, _)) = dependent {
                let dependent = String::from_utf8_lossy(dependent).into_owned();
                return Err(EditError::NotUrlSafe { dependent, name: self.name.to_owned(), character });
            }
        }
        Ok(())
    }

    /// Whether every line of the variable is read as wanted.
    fn reads(&self, read: &[(Reader, Variables)], wanted: &Parts) -> bool {
        let named = |(name, _): &(&[u8], &Parts)| *name == self.name.as_bytes();
        read.iter().all(|(_, variables)| variables.lines().filter(named).all(|(_, parts)| parts == wanted))
    }

    /// The new file in the first way of writing that these readers accept.
    fn write(&self, wanted: &Parts, readers: &[Reader]) -> Option<Secret> {
        let spans = self.document.values(self.name);
        let styles = least_different(self.document.text(&spans[0]));
        styles.into_iter().find_map(|style| {
            let text = style.write(wanted)?;
            let replacements: Vec<_> = spans.iter().map(|span| (span.clone(), text.clone())).collect();
            let new = self.document.replace(&replacements);
            readers.iter().all(|&reader| self.accepts(reader, &new, wanted)).then_some(new)
        })
    }

    /// Whether the reader reads the wanted value in every line of the variable, and every other line as before.
    fn accepts(&self, reader: Reader, new: &Secret, wanted: &Parts) -> bool {
        let Some((_, before)) = self.before.iter().find(|(known, _)| *known == reader) else { return false };
        let Ok(after) = reader.read(new.expose()) else { return false };
        let expected = before.lines().map(|(name, parts)| {
            let is_target = name == self.name.as_bytes();
            (name, if is_target { wanted } else { parts })
        });
        after.lines().eq(expected)
    }

    /// Says which character stands in the way, for the first reader that it does.
    fn refusal(&self, wanted: &Parts, readers: &[Reader]) -> EditError {
        let name = self.name.to_owned();
        for &reader in readers {
            if self.write(&Parts::literal(b"a"), &[reader]).is_none() {
                return EditError::Surroundings { reader, name };
            }
            if self.write(wanted, &[reader]).is_none() {
                return EditError::Character { reader, character: self.culprit(wanted, &[reader]), name };
            }
        }
        let character = self.culprit(wanted, readers);
        EditError::NoCommonStyle { readers: readers.to_vec(), character, name }
    }

    /// The last character of the shortest beginning of the value that cannot be written.
    fn culprit(&self, wanted: &Parts, readers: &[Reader]) -> char {
        let (mut start, mut last) = (Parts::default(), char::REPLACEMENT_CHARACTER);
        for part in wanted.iter() {
            let Part::Literal(bytes) = part else {
                start.push_part(part.clone());
                continue;
            };
            for character in String::from_utf8_lossy(bytes.expose()).chars() {
                start.push_char(character);
                last = character;
                if !character.is_ascii_alphanumeric() && self.write(&start, readers).is_none() {
                    return character;
                }
            }
        }
        last
    }
}

/// Whether the variable is put behind a `://`.
fn is_in_url(parts: &Parts, name: &[u8]) -> bool {
    let mut is_url = false;
    for part in parts.iter() {
        match part {
            Part::Literal(bytes) => is_url |= bytes.expose().windows(3).any(|three| three == b"://"),
            Part::Reference { name: Some(named), .. } if is_url && named == name => return true,
            Part::Reference { .. } => {}
        }
    }
    false
}
