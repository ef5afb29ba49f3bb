//! Who reads a `.env` file, where nobody said so.
//!
//! First what stands beside the file: a compose file, a Python, Node or Rust project; else every common reader that reads
//! the file as it is, so that what they do not agree on is refused. `docker run --env-file` and systemd are never guessed:
//! they take quotes, comments or `export` otherwise, so whoever uses them has to say so.

use std::path::Path;

use crate::document::Kind;
use crate::{Document, Reader};

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

/// Readers that a file has by the look of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Guess {
    /// The readers, each once.
    pub readers: Vec<Reader>,
    /// The files beside it that tell; none if its own text does.
    pub signs: Vec<&'static str>,
}

/// Guesses who reads a file that stands in `directory`; `None` if nothing common reads it as it is.
pub fn guess(directory: &Path, file: &[u8]) -> Option<Guess> {
    let found = SIGNS.into_iter().filter(|(name, _)| directory.join(name).is_file());
    let (signs, mut readers): (Vec<_>, Vec<_>) = found.unzip();
    if readers.is_empty() {
        readers = able(file);
    }
    readers.sort_unstable();
    readers.dedup();
    (!readers.is_empty()).then_some(Guess { readers, signs })
}

/// The common readers that read the file.
fn able(file: &[u8]) -> Vec<Reader> {
    let has_values = Document::parse(file).tokens().iter().any(|token| token.kind == Kind::Value);
    // Some pass over what they do not understand: they read such a file, and nothing in it.
    let reads = |reader: &Reader| match reader.read(file) {
        Ok(variables) => variables.names().is_empty() != has_values,
        Err(_) => false,
    };
    COMMON.into_iter().filter(reads).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn guessed(files: &[&str], text: &str) -> Vec<&'static str> {
        let directory = tempfile::tempdir().unwrap();
        files.iter().for_each(|file| std::fs::write(directory.path().join(file), "").unwrap());
        let guess = guess(directory.path(), text.as_bytes()).unwrap();
        guess.readers.into_iter().map(Reader::name).collect()
    }

    #[test]
    fn what_is_beside_the_file_tells_who_reads_it() {
        assert_eq!(guessed(&["compose.yaml", "manage.py"], "A=1\n"), ["compose", "python-dotenv"]);
        assert_eq!(guessed(&["package.json"], "A=1\n"), ["node-dotenv"]);
    }

    #[test]
    fn else_those_that_read_it_do() {
        let all = ["compose", "python-dotenv", "node-dotenv", "dotenvy", "shell"];
        assert_eq!(guessed(&[], "A=1\nB='x y'\n"), all);
        assert_eq!(guessed(&[], "A=x y # c\n"), all[..3]);
        assert_eq!(guessed(&[], "A=\"x\n"), ["node-dotenv"]);
        assert_eq!(guessed(&[], "# nothing\n"), all);
    }
}
