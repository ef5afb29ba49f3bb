//! The proof of an edit: the new file, read by the model of every reader, before anything is written.

use std::ops::Range;

use crate::document::Kind;
use crate::edit::{first_reserved, shape};
use crate::error::EditError;
use crate::place::Wanted;
use crate::reading::{Part, Parts, Variables};
use crate::style::least_different;
use crate::{Document, Edit, Reader, Secret};

/// A file as its readers read it before the edit.
pub(crate) struct Proof<'a> {
    name: &'a str,
    document: Document,
    before: Vec<(Reader, Variables)>,
}

/// Where the new text of the value goes.
pub(crate) enum Site {
    /// In the place of every present one.
    Lines(Vec<Range<usize>>),
    /// Behind the end of the file, between these.
    End { before: Vec<u8>, after: &'static [u8] },
}

impl Site {
    /// The values that the variable has.
    pub(crate) fn lines_of(proof: &Proof<'_>, edit: &Edit) -> Result<Self, EditError> {
        let spans = proof.document.values(&edit.name);
        if spans.is_empty() {
            return Err(EditError::NoVariable(edit.name.clone()));
        }
        let unseen = proof.before.iter().find(|(_, variables)| !variables.contains(&edit.name));
        if let Some((reader, _)) = unseen {
            return Err(EditError::NotSeen { reader: *reader, name: edit.name.clone() });
        }
        Ok(Self::Lines(spans))
    }

    /// A new line, written as the others are: with their line end, and with `export` if all of them have it.
    pub(crate) fn end_of(proof: &Proof<'_>, edit: &Edit) -> Result<Self, EditError> {
        let is_there = !proof.document.values(&edit.name).is_empty()
            || proof.before.iter().any(|(_, variables)| variables.contains(&edit.name));
        if is_there {
            return Err(EditError::Present(edit.name.clone()));
        }
        let tokens = proof.document.tokens();
        let of_kind = |kind| tokens.iter().filter(move |token| token.kind == kind);
        let mut ends = of_kind(Kind::LineEnd);
        let after: &[u8] = match ends.next() {
            Some(end) if proof.document.text(&end.span) == b"\r\n" => b"\r\n",
            _ => b"\n",
        };
        let is_open = tokens.last().is_some_and(|last| !matches!(last.kind, Kind::LineEnd | Kind::Bom));
        let names = of_kind(Kind::Name).count();
        let is_exported = names > 0 && of_kind(Kind::Export).count() == names;
        let parts: [&[u8]; 4] = [
            if is_open { after } else { b"" },
            if is_exported { b"export " } else { b"" },
            edit.name.as_bytes(),
            b"=",
        ];
        Ok(Self::End { before: parts.concat(), after })
    }

    /// The present text of the value, whose way of writing is to be kept.
    fn present<'d>(&self, document: &'d Document) -> &'d [u8] {
        match self {
            Self::Lines(spans) => spans.first().map_or(b"", |span| document.text(span)),
            Self::End { .. } => b"",
        }
    }

    /// The file with this text of the value.
    fn fill(&self, document: &Document, text: &Secret) -> Secret {
        match self {
            Self::Lines(spans) => {
                let replacements: Vec<_> = spans.iter().map(|span| (span.clone(), text.clone())).collect();
                document.replace(&replacements)
            }
            Self::End { before, after } => {
                let mut new = document.to_bytes();
                [before, text.expose(), after].into_iter().for_each(|piece| new.push(piece));
                new
            }
        }
    }
}

impl<'a> Proof<'a> {
    pub(crate) fn new(file: &[u8], edit: &'a Edit) -> Result<Self, EditError> {
        if edit.readers.is_empty() {
            return Err(EditError::NoReader);
        }
        let read = |&reader: &Reader| {
            let variables = reader.read(file).map_err(|error| EditError::Unreadable { reader, error })?;
            Ok((reader, variables))
        };
        let before = edit.readers.iter().map(read).collect::<Result<_, EditError>>()?;
        Ok(Self { name: &edit.name, document: Document::parse(file), before })
    }

    fn parts<'v>(&self, variables: &'v Variables) -> &'v Parts {
        variables.parts(self.name.as_bytes()).expect("the site of the edit was found in every reading")
    }

    /// What the readers are to read.
    pub(crate) fn wanted(&self, edit: &Edit, value: &[u8]) -> Result<Wanted, EditError> {
        let (first, variables) = &self.before[0];
        let current = self.parts(variables);
        if !edit.place.is_whole() {
            let other = self.before.iter().find(|(_, variables)| self.parts(variables) != current);
            if let Some((second, _)) = other {
                let name = edit.name.clone();
                return Err(EditError::Disagree { first: *first, second: *second, name });
            }
        }
        edit.place.put(current, value).map_err(shape(&edit.name))
    }

    /// A variable that puts this one into a URL, be it by way of others, gets it as it is, so it must not need encoding.
    pub(crate) fn check_dependents(&self, value: &[u8]) -> Result<(), EditError> {
        let Some(character) = first_reserved(value) else { return Ok(()) };
        for (_, variables) in &self.before {
            if let Some(dependent) = url_with(variables, self.name.as_bytes()) {
                let dependent = String::from_utf8_lossy(dependent).into_owned();
                return Err(EditError::NotUrlSafe { dependent, name: self.name.to_owned(), character });
            }
        }
        Ok(())
    }

    /// Whether every line of the variable is read as wanted.
    pub(crate) fn reads(&self, wanted: &Parts) -> bool {
        let named = |(name, _): &(&[u8], &Parts)| *name == self.name.as_bytes();
        self.before
            .iter()
            .all(|(_, variables)| variables.lines().filter(named).all(|(_, parts)| parts == wanted))
    }

    /// The new file in the first way of writing that these readers accept.
    pub(crate) fn write(&self, site: &Site, wanted: &Parts, readers: &[Reader]) -> Option<Secret> {
        let styles = least_different(site.present(&self.document));
        styles.into_iter().find_map(|style| {
            let new = site.fill(&self.document, &style.write(wanted)?);
            readers.iter().all(|&reader| self.accepts(reader, site, &new, wanted)).then_some(new)
        })
    }

    /// Whether the reader reads the wanted value in every line of the variable, and every other line as before.
    fn accepts(&self, reader: Reader, site: &Site, new: &Secret, wanted: &Parts) -> bool {
        let Some((_, before)) = self.before.iter().find(|(known, _)| *known == reader) else { return false };
        let Ok(after) = reader.read(new.expose()) else { return false };
        let expected = before.lines().map(|(name, parts)| {
            let is_target = name == self.name.as_bytes();
            (name, if is_target { wanted } else { parts })
        });
        let added = matches!(site, Site::End { .. }).then_some((self.name.as_bytes(), wanted));
        after.lines().eq(expected.chain(added))
    }

    /// Says which character stands in the way, for the first reader that it does.
    pub(crate) fn refusal(&self, site: &Site, wanted: &Parts, readers: &[Reader]) -> EditError {
        let name = self.name.to_owned();
        for &reader in readers {
            if self.write(site, &Parts::literal(b"a"), &[reader]).is_none() {
                return EditError::Surroundings { reader, name };
            }
            if self.write(site, wanted, &[reader]).is_none() {
                return EditError::Character {
                    reader,
                    character: self.culprit(site, wanted, &[reader]),
                    name,
                };
            }
        }
        let character = self.culprit(site, wanted, readers);
        EditError::NoCommonStyle { readers: readers.to_vec(), character, name }
    }

    /// The last character of the shortest beginning of the value that cannot be written.
    fn culprit(&self, site: &Site, wanted: &Parts, readers: &[Reader]) -> char {
        let (mut start, mut last) = (Parts::default(), char::REPLACEMENT_CHARACTER);
        for part in wanted.iter() {
            let Part::Literal(bytes) = part else {
                start.push_part(part.clone());
                continue;
            };
            for character in String::from_utf8_lossy(bytes.expose()).chars() {
                start.push_char(character);
                last = character;
                if !character.is_ascii_alphanumeric() && self.write(site, &start, readers).is_none() {
                    return character;
                }
            }
        }
        last
    }
}

/// The first variable whose value has `name`, or what is made of it, behind a `://`.
fn url_with<'v>(variables: &'v Variables, name: &'v [u8]) -> Option<&'v [u8]> {
    let mut made_of: Vec<&[u8]> = vec![name];
    for (dependent, parts) in variables.lines() {
        match use_of(parts, &made_of) {
            Some(Use::InUrl) => return Some(dependent),
            Some(Use::Plain) => made_of.push(dependent),
            None => {}
        }
    }
    None
}

enum Use {
    InUrl,
    Plain,
}

fn use_of(parts: &Parts, names: &[&[u8]]) -> Option<Use> {
    let (mut is_url, mut is_used) = (false, false);
    for part in parts.iter() {
        match part {
            Part::Literal(bytes) => is_url |= bytes.expose().windows(3).any(|three| three == b"://"),
            Part::Reference { name: Some(named), .. } if names.contains(&named.as_slice()) => {
                is_used = true;
                if is_url {
                    return Some(Use::InUrl);
                }
            }
            Part::Reference { .. } => {}
        }
    }
    is_used.then_some(Use::Plain)
}
