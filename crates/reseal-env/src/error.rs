//! Why a file is not read, an edit not made, a file not replaced. No error tells a value.

use std::io;

use crate::Reader;

/// A reader does not read the file, or it is not known what it would read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("line {line} {reason}")]
pub struct ReadError {
    /// Counted from 1.
    pub line: usize,
    /// What is wrong with that line.
    pub reason: &'static str,
}

impl ReadError {
    pub(crate) fn at(file: &[u8], position: usize, reason: &'static str) -> Self {
        let before = &file[..position.min(file.len())];
        Self { line: 1 + before.iter().filter(|&&byte| byte == b'\n').count(), reason }
    }
}

/// An edit is refused; nothing has been changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum EditError {
    /// The file has no line for that name.
    #[error("there is no variable {0}")]
    NoVariable(String),
    /// The file has a line, or a reader sees one, for a variable that was to be added.
    #[error("there is a variable {0} already")]
    Present(String),
    /// Not a name that every reader takes.
    // Not repeated: a value may have been given in its place.
    #[error("this is no name of a variable: letters, digits and `_`, no digit first")]
    Name,
    /// No reader is declared, so nothing would prove the edit.
    #[error("no reader is declared for the file")]
    NoReader,
    /// The reader already fails on the file as it is.
    #[error("{reader} does not read the file: {error}")]
    Unreadable {
        /// Who reads it.
        reader: Reader,
        /// Why not.
        error: ReadError,
    },
    /// There is a line, but this reader sees no such variable in it.
    #[error("{reader} does not see {name}")]
    NotSeen {
        /// Who reads it.
        reader: Reader,
        /// The variable.
        name: String,
    },
    /// A part of the value is to be replaced, and the readers do not agree on what it is now.
    #[error("{first} and {second} read different values of {name}")]
    Disagree {
        /// One of them.
        first: Reader,
        /// The other.
        second: Reader,
        /// The variable.
        name: String,
    },
    /// The current value is not of the expected shape.
    #[error("the value of {name} {reason}")]
    Shape {
        /// The variable.
        name: String,
        /// What is missing.
        reason: &'static str,
    },
    /// No way of quoting lets this reader read this character.
    #[error("{reader} cannot read {character:?} in the value of {name}")]
    Character {
        /// Who cannot.
        reader: Reader,
        /// The first such character of the value.
        character: char,
        /// The variable.
        name: String,
    },
    /// Every reader can read the value, but no way of quoting serves all of them, or its characters do not go together.
    #[error("no way of writing the value of {name} is read alike by {}; {character:?} is in the way", list(.readers))]
    NoCommonStyle {
        /// Who must read it.
        readers: Vec<Reader>,
        /// The character that none of the ways serves.
        character: char,
        /// The variable.
        name: String,
    },
    /// What stands around the value keeps the reader from reading any value right.
    #[error(
        "{reader} reads more than the value on the line of {name}, such as a comment or a carriage return"
    )]
    Surroundings {
        /// Who does.
        reader: Reader,
        /// The variable.
        name: String,
    },
    /// Another variable puts this one into a URL, where this character would mean something else.
    #[error("{dependent} puts {name} into a URL, where {character:?} has a meaning of its own")]
    NotUrlSafe {
        /// The variable with the URL.
        dependent: String,
        /// The variable to be changed.
        name: String,
        /// The first such character.
        character: char,
    },
    /// The value has a byte that no environment variable may have.
    #[error("the value has a NUL byte")]
    Nul,
}

fn list(readers: &[Reader]) -> String {
    readers.iter().map(|reader| reader.name()).collect::<Vec<_>>().join(", ")
}

/// A file is not opened or not replaced. Unless the variant says otherwise, the old file stands.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FileError {
    /// A part of the path is a symbolic link, and following links was not asked for.
    #[error("{0} is a symbolic link")]
    SymbolicLink(String),
    /// A directory, FIFO, socket or device.
    #[error("not a regular file")]
    NotRegular,
    /// The file has other names, which would keep the old content.
    #[error("the file has {0} names (hard links)")]
    HardLinks(u64),
    /// Larger than any `.env` file.
    #[error("larger than {0} bytes")]
    TooLarge(u64),
    /// No file name at the end of the path.
    #[error("the path does not end in a file name")]
    NoName,
    /// Somebody changed or replaced the file after it was read.
    #[error("the file changed after it was read")]
    Changed,
    /// The new file cannot have an extended attribute, such as an access control list, as the old one has it.
    #[error("the extended attribute {0} cannot be given to the new file")]
    Attribute(String),
    /// A system call failed.
    #[error("{action} failed: {source}")]
    Io {
        /// What was being done.
        action: &'static str,
        /// The system's answer.
        source: io::Error,
    },
    /// The new file is in place, but it is not known to survive a power failure.
    #[error("the file was replaced, but syncing its directory failed: {0}")]
    NotDurable(io::Error),
}
