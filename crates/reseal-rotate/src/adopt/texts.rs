//! `.env` files as their readers read them, and the values in them that are secrets.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use reseal_crypto::SecretBytes;
use reseal_env::{Agreement, Document, Edit, Links, Outcome, Place, Reader, Target, UrlPart};

use super::address::Address;
use super::error::AdoptError;
use super::names::{self, Sort};
use crate::plan::Spot;

/// A value as reseal draws it: where this can be written, every later one can.
const DRAWN_ALIKE: &[u8] = b"AZaz09-_AZaz09-_AZaz09-_AZaz09-_AZaz09-_abc";

/// A `.env` file.
#[derive(Debug)]
pub(super) struct Text {
    /// Relative to the project.
    pub(super) path: PathBuf,
    bytes: SecretBytes,
    pub(super) readers: Vec<Reader>,
    /// The variables that every reader reads alike, in the order of the file.
    variables: Vec<(String, SecretBytes)>,
    /// The applications that read it.
    pub(super) used_by: BTreeSet<String>,
    /// How readers and applications are known, where they were guessed.
    pub(super) guessed: Vec<String>,
}

/// A value in a file that is a secret.
#[derive(Debug)]
pub(super) struct Candidate {
    /// Which of the files.
    pub(super) text: usize,
    pub(super) var: String,
    pub(super) spot: Spot,
    pub(super) value: SecretBytes,
    pub(super) sort: Sort,
    /// Where it lets in, if it is in a URL that says so.
    pub(super) address: Option<Address>,
    /// The variable that holds the value in use before.
    pub(super) previous: Option<String>,
}

impl Text {
    /// Reads a file; `by_compose` where compose is known to read it.
    pub(super) fn read(
        base: &Path,
        path: &Path,
        by_compose: bool,
        doubts: &mut Vec<String>,
    ) -> Result<Self, AdoptError> {
        let file = |source| AdoptError::File { path: path.to_owned(), source };
        let target = Target::open(&base.join(path), Links::Refuse).map_err(file)?;
        let bytes = SecretBytes::copy_from(target.bytes());
        let (readers, guessed) = readers(base, path, &bytes, by_compose)?;
        // EXPOSE: taken apart into values that wipe themselves.
        let checked = reseal_env::check(bytes.expose(), &readers);
        if let Some((reader, source)) = checked.unreadable.first() {
            return Err(AdoptError::Unreadable { path: path.to_owned(), reader: *reader, source: *source });
        }
        let mut text = Self {
            path: path.to_owned(),
            bytes,
            readers,
            variables: Vec::new(),
            used_by: BTreeSet::new(),
            guessed,
        };
        for checked in checked.variables {
            match checked.agreement {
                Agreement::Agreed => {
                    text.variables.extend(text.at(&checked.name, Place::Whole).zip_name(checked.name))
                }
                // It follows a variable that stands elsewhere.
                Agreement::Outside(_) => {}
                _ if names::sort_of(&checked.name).is_some() => doubts.push(format!(
                    "{} of {} is left out: its readers do not read the same",
                    checked.name,
                    path.display()
                )),
                _ => {}
            }
        }
        Ok(text)
    }

    /// What a variable says.
    pub(super) fn get(&self, name: &str) -> Option<&SecretBytes> {
        self.variables.iter().find(|(known, _)| known == name).map(|(_, value)| value)
    }

    /// What a variable says, where that is text.
    pub(super) fn word(&self, name: &str) -> Option<&str> {
        self.get(name)?.expose_str().filter(|text| !text.is_empty())
    }

    fn at(&self, name: &str, place: Place) -> Option<SecretBytes> {
        let at = Edit { name: name.to_owned(), place, readers: self.readers.clone() };
        // EXPOSE: copied into the type that wipes itself.
        let value = reseal_env::get(self.bytes.expose(), &at).ok()?;
        Some(SecretBytes::copy_from(value.expose()))
    }

    /// Why no new value could be written to a place; nothing if one could.
    pub(super) fn refusal(&self, var: &str, spot: &Spot) -> Option<String> {
        let edit = Edit { name: var.to_owned(), place: spot.to_place()?, readers: self.readers.clone() };
        // EXPOSE: proved on a copy that is dropped.
        reseal_env::edit(self.bytes.expose(), &edit, DRAWN_ALIKE).err().map(|error| error.to_string())
    }

    /// The values that are secrets; says of what looks like one and is not known.
    pub(super) fn candidates(&self, text: usize, doubts: &mut Vec<String>) -> Vec<Candidate> {
        let mut found = Vec::new();
        for (var, value) in &self.variables {
            let is_holder = names::previous_of(var).is_some_and(|stem| self.get(stem).is_some());
            if value.is_empty() || is_holder || self.refers(var) {
                continue;
            }
            if let Some(url) = value.expose_str().filter(|url| has_password(url)) {
                found.extend(self.in_url(text, var, url, doubts));
                continue;
            }
            let previous = self.previous_of(var);
            let sort = match (names::sort_of(var), &previous) {
                (None | Some(Sort::Brought), Some(_)) => Sort::Own,
                (Some(sort), _) => sort,
                (None, None) => {
                    // EXPOSE: only how it looks.
                    if names::looks_random(value.expose()) {
                        doubts.push(format!(
                            "{var} of {} looks like a secret, and is left out",
                            self.path.display()
                        ));
                    }
                    continue;
                }
            };
            if is_switch(value) {
                continue;
            }
            let (var, value) = (var.clone(), value.clone());
            found.push(Candidate { text, var, spot: Spot::Whole, value, sort, address: None, previous });
        }
        found
    }

    fn in_url(&self, text: usize, var: &str, url: &str, doubts: &mut Vec<String>) -> Option<Candidate> {
        let place = Place::Url(UrlPart::Password);
        let edit = Edit { name: var.to_owned(), place: place.clone(), readers: self.readers.clone() };
        // EXPOSE: proved on a copy that is dropped.
        if let Ok(Outcome::Interpolated(_)) = reseal_env::edit(self.bytes.expose(), &edit, DRAWN_ALIKE) {
            return None;
        }
        let Some(value) = self.at(var, place) else {
            doubts.push(format!("{var} of {} is left out: its URL is not understood", self.path.display()));
            return None;
        };
        let address = Address::parse(url);
        let sort = address.as_ref().map_or(Sort::Brought, |address| Sort::Password(Some(address.kind)));
        let (var, spot) = (var.to_owned(), Spot::UrlPassword);
        Some(Candidate { text, var, spot, value, sort, address, previous: None })
            .filter(|found| !found.value.is_empty())
    }

    fn previous_of(&self, var: &str) -> Option<String> {
        let mut names = self.variables.iter().map(|(name, _)| name);
        let is_of = |name: &&String| {
            names::previous_of(name) == Some(var)
                // Django's setting has no prefix, whatever the variable of the key is called.
                || *name == "SECRET_KEY_FALLBACKS" && var.ends_with("SECRET_KEY") && self.get("SECRET_KEY").is_none()
        };
        names.find(is_of).cloned()
    }

    /// Whether the value is made of another variable of the file, and changes with it.
    fn refers(&self, var: &str) -> bool {
        // EXPOSE: searched for names of variables.
        let bytes = self.bytes.expose();
        let spans = Document::parse(bytes).values(var);
        let written = spans.last().map(|span| String::from_utf8_lossy(&bytes[span.clone()]).into_owned());
        let Some(written) = written.filter(|text| text.contains('$') && !text.starts_with('\'')) else {
            return false;
        };
        let others = self.variables.iter().filter(|(name, _)| name != var);
        let is_url = self.word(var).is_some_and(has_password);
        // What a URL is made of is asked for part by part.
        !is_url
            && others.into_iter().any(|(name, _)| {
                written.contains(&format!("${{{name}")) || written.contains(&format!("${name}"))
            })
    }

    /// Whether one of the secrets of this file stands in these bytes.
    pub(super) fn secret_values(&self) -> impl Iterator<Item = &SecretBytes> {
        let is_secret = |(name, value): &&(String, SecretBytes)| {
            names::sort_of(name).is_some() || value.expose_str().is_some_and(has_password)
        };
        self.variables.iter().filter(is_secret).map(|(_, value)| value).filter(|value| value.len() >= 6)
    }
}

/// Pairs a value with its name.
trait ZipName {
    fn zip_name(self, name: String) -> Option<(String, SecretBytes)>;
}

impl ZipName for Option<SecretBytes> {
    fn zip_name(self, name: String) -> Option<(String, SecretBytes)> {
        self.map(|value| (name, value))
    }
}

fn readers(
    base: &Path,
    path: &Path,
    bytes: &SecretBytes,
    by_compose: bool,
) -> Result<(Vec<Reader>, Vec<String>), AdoptError> {
    let is_plain = path.file_name().is_some_and(|name| name == ".env");
    if by_compose && !is_plain {
        return Ok((vec![Reader::Compose], Vec::new()));
    }
    let folder = base.join(path);
    // EXPOSE: looked at for how it is written.
    let guess = reseal_env::guess(folder.parent().unwrap_or(base), bytes.expose());
    let guess = guess.ok_or_else(|| AdoptError::NoReader { path: path.to_owned() })?;
    let (mut readers, mut said) = (guess.readers, Vec::new());
    if by_compose {
        readers = match guess.signs.is_empty() {
            true => vec![Reader::Compose],
            false => {
                readers.into_iter().chain([Reader::Compose]).collect::<BTreeSet<_>>().into_iter().collect()
            }
        };
    } else if guess.signs.is_empty() {
        said.push("its readers are guessed: these read it as it is".to_owned());
    } else {
        said.push(format!("its readers are guessed from {} beside it", guess.signs.join(", ")));
    }
    Ok((readers, said))
}

/// Whether a URL has a password between its user and its host.
fn has_password(url: &str) -> bool {
    let Some((scheme, rest)) = url.split_once("://") else { return false };
    let is_scheme = scheme.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte));
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    let user = authority.rsplit_once('@').map(|(user, _)| user);
    is_scheme && user.and_then(|user| user.split_once(':')).is_some_and(|(_, password)| !password.is_empty())
}

/// Whether a value is a switch or a small number, whatever its name says.
fn is_switch(value: &SecretBytes) -> bool {
    let word = value.expose_str().unwrap_or_default().to_ascii_lowercase();
    ["true", "false", "yes", "no", "none", "null"].contains(&word.as_str())
        || word.len() < 4 && word.bytes().all(|byte| byte.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(text: &str) -> (Vec<(String, String)>, Vec<String>) {
        let directory = tempfile::tempdir().unwrap();
        let base = directory.path().canonicalize().unwrap();
        std::fs::write(base.join(".env"), text).unwrap();
        let mut doubts = Vec::new();
        let text = Text::read(&base, Path::new(".env"), true, &mut doubts).unwrap();
        let found = text.candidates(0, &mut doubts).into_iter();
        let shown = found.map(|found| (found.var, found.value.expose_str().unwrap().to_owned()));
        (shown.collect(), doubts)
    }

    #[test]
    fn what_follows_another_variable_has_no_place_of_its_own() {
        let (found, doubts) = found(
            "REDIS_PASSWORD=p!w\nREDIS_URL=redis://:${REDIS_PASSWORD}@redis/0\nCACHE_PASSWORD=${REDIS_PASSWORD}\n\
             CELERY_BROKER_URL=redis://:p%21w@redis/1\nDB_PASSWORD=\nDB_HOST=db\nOTHER=x$y\n",
        );
        let expected = [("REDIS_PASSWORD", "p!w"), ("CELERY_BROKER_URL", "p!w")];
        assert_eq!(found, expected.map(|(name, value)| (name.to_owned(), value.to_owned())));
        assert_eq!(doubts, Vec::<String>::new());
    }

    #[test]
    fn what_is_not_known_is_said() {
        let (found, doubts) = found("WIDGET=9f8e7d6c5b4a39281706f5e4\nUSE_TOKEN=true\nX=1\nX_OLD=\n");
        assert_eq!(found, []);
        assert_eq!(doubts, ["WIDGET of .env looks like a secret, and is left out"]);
    }
}
