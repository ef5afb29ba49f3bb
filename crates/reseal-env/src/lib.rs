//! Lossless editing of `.env` files, proved against models of the programs that read them.
//!
//! ```text
//! bytes --Document::parse--> tokens (every byte in one) --+
//! value --place, quoting style----------------------------+--> new bytes --every Reader reads them--> accepted or refused
//! ```
//!
//! No two readers agree on what a `.env` file says, so an edit names its readers and is accepted only if each of them reads
//! the wanted value, and every other variable as before. Everything but the value stays byte for byte.
//!
//! Start with [`edit()`] for changing a value, with [`get()`] for reading one, with [`Reader`] for who reads what, and with [`Target`] for how a file is replaced.
//! Values are secret: they are wiped, not printed, and not told in errors.

mod attributes;
pub mod document;
mod draft;
pub mod edit;
pub mod error;
pub mod file;
pub mod get;
pub mod guess;
mod json;
pub mod place;
mod proof;
pub mod reader;
mod readers;
pub mod reading;
pub mod secret;
mod style;
mod url;

pub use document::Document;
pub use edit::{Edit, Outcome, add, edit};
pub use error::{EditError, FileError, ReadError};
pub use file::{Links, Target};
pub use get::{Agreement, Check, Checked, check, get};
pub use guess::{Guess, guess};
pub use place::{NotAPlace, Place, UrlPart};
pub use reader::Reader;
pub use reading::Variables;
pub use secret::Secret;
