//! Changing one value, proved before anything is written: every declared reader must read exactly what is wanted.

use crate::error::EditError;
use crate::place::Wanted;
use crate::proof::{Proof, Site};
use crate::readers::is_name;
use crate::reading::Parts;
use crate::url::is_plain_in_userinfo;
use crate::{Place, Reader, Secret};

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
    check_value(value)?;
    let proof = Proof::new(file, edit)?;
    let site = Site::lines_of(&proof, edit)?;
    let wanted = match proof.wanted(edit, value)? {
        Wanted::Parts(parts) => parts,
        Wanted::Reference(name) => return interpolated(edit, name, value),
    };
    proof.check_dependents(value)?;
    if proof.reads(&wanted) {
        return Ok(Outcome::Unchanged);
    }
    changed(&proof, &site, &wanted, edit)
}

/// Puts a variable that is not there yet on a line of its own at the end of a file; nothing else of the file changes, but
/// that a missing last line end is added.
///
/// # Errors
///
/// Those of [`edit()`]; [`EditError::Present`] if there is a line for it, [`EditError::Name`] if it is no name that every
/// reader takes, [`EditError::Shape`] for a place within a value that is not there.
pub fn add(file: &[u8], edit: &Edit, value: &[u8]) -> Result<Outcome, EditError> {
    check_value(value)?;
    if !is_name(edit.name.as_bytes()) {
        return Err(EditError::Name);
    }
    let proof = Proof::new(file, edit)?;
    let site = Site::end_of(&proof, edit)?;
    let Wanted::Parts(wanted) = edit.place.put(&Parts::default(), value).map_err(shape(&edit.name))? else {
        return Err(shape(&edit.name)("is not there"));
    };
    proof.check_dependents(value)?;
    changed(&proof, &site, &wanted, edit)
}

fn check_value(value: &[u8]) -> Result<(), EditError> {
    if value.contains(&0) { Err(EditError::Nul) } else { Ok(()) }
}

fn changed(proof: &Proof<'_>, site: &Site, wanted: &Parts, edit: &Edit) -> Result<Outcome, EditError> {
    match proof.write(site, wanted, &edit.readers) {
        Some(new) => Ok(Outcome::Changed(new)),
        None => Err(proof.refusal(site, wanted, &edit.readers)),
    }
}

/// Why the value of `name` is not of the expected shape.
pub(crate) fn shape(name: &str) -> impl Fn(&'static str) -> EditError + '_ {
    |reason| EditError::Shape { name: name.to_owned(), reason }
}

fn interpolated(edit: &Edit, name: Option<Vec<u8>>, value: &[u8]) -> Result<Outcome, EditError> {
    let name = name
        .and_then(|name| String::from_utf8(name).ok())
        .ok_or_else(|| shape(&edit.name)("comes from outside the file"))?;
    let is_url = matches!(edit.place, Place::Url(_));
    match first_reserved(value).filter(|_| is_url) {
        Some(character) => Err(EditError::NotUrlSafe { dependent: edit.name.clone(), name, character }),
        None => Ok(Outcome::Interpolated(name)),
    }
}

/// The first character that would have to be encoded in a URL.
pub(crate) fn first_reserved(value: &[u8]) -> Option<char> {
    String::from_utf8_lossy(value).chars().find(|&character| !is_plain_in_userinfo(character))
}
