//! How the application encrypts: by functions of the caller, or by those of the database.

use std::error::Error;
use std::fmt;
use std::sync::Arc;

use crate::values::Cell;

/// Which of the two keys of a rotation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Key {
    /// The one that is being replaced.
    Old,
    /// The one that replaces it.
    New,
}

/// A stored value that opened.
#[derive(Clone, PartialEq, Eq)]
pub struct Opened {
    /// The one key that opens it.
    pub key: Key,
    /// What it says.
    pub plaintext: Vec<u8>,
}

impl fmt::Debug for Opened {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Opened").field("key", &self.key).finish_non_exhaustive()
    }
}

/// Why a value was not sealed.
pub type SealerError = Box<dyn Error + Send + Sync>;

/// Encrypts and decrypts values as the application does. Many at once, so that it can use all cores.
pub trait Sealer: Send + Sync {
    /// Seals each plaintext under a key; the results stand in the same order.
    ///
    /// # Errors
    ///
    /// Whatever keeps it from sealing; the writer stops with it.
    fn seal_many(&self, key: Key, values: &[(Cell, &str)]) -> Result<Vec<Vec<u8>>, SealerError>;

    /// Opens each stored value under whichever key opens it; `None` where neither does, or where both do.
    fn open_many(&self, values: &[(Cell, &[u8])]) -> Vec<Option<Opened>>;
}

/// The two ways of an application to encrypt.
#[derive(Clone)]
pub enum Sealing {
    /// In the application, before the value goes to the database.
    Client(Arc<dyn Sealer>),
    /// By `encrypt_sensitive_data(text, key)` of the database, as the runbook's application does.
    Functions {
        /// The key that is being replaced.
        old: String,
        /// The key that replaces it.
        new: String,
    },
}

impl Sealing {
    /// The text of a key for the functions of the database, if those encrypt.
    pub(crate) fn function_key(&self, key: Key) -> Option<&str> {
        match (self, key) {
            (Self::Client(_), _) => None,
            (Self::Functions { old, .. }, Key::Old) => Some(old),
            (Self::Functions { new, .. }, Key::New) => Some(new),
        }
    }
}

impl fmt::Debug for Sealing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Client(_) => "Client",
            Self::Functions { .. } => "Functions",
        })
    }
}
