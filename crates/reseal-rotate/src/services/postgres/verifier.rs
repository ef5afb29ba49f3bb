//! What Postgres stores in place of a password.

use std::fmt;

use reseal_crypto::SecretBytes;
use serde::{Deserialize, Serialize};

/// A SCRAM-SHA-256 verifier (RFC 5803 as Postgres writes it), or an older hash that was found.
///
/// It lets nobody in, but whoever has it can guess passwords offline and pose as the server to clients. It belongs in
/// the sealed journal: made once, it is the same on every node and after every resume, which poolers that pass SCRAM
/// through depend on.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Verifier(String);

impl Verifier {
    /// Computes one with a fresh salt and 4,096 rounds, Postgres' own default; takes a few milliseconds.
    pub fn of(value: &SecretBytes) -> Self {
        // EXPOSE: the hash of the value is what this is for.
        Self(postgres_protocol::password::scram_sha_256(value.expose()))
    }

    /// One that was found in a server.
    pub(super) fn found(text: String) -> Self {
        Self(text)
    }

    /// Whether it is a SCRAM verifier; clients without SCRAM can log in only while it is not.
    pub fn is_scram(&self) -> bool {
        self.0.starts_with("SCRAM-SHA-256$")
    }

    pub(super) fn text(&self) -> &str {
        &self.0
    }

    /// As an SQL literal.
    pub(super) fn literal(&self) -> String {
        format!("'{}'", self.0.replace('\'', "''"))
    }
}

impl fmt::Debug for Verifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Verifier").finish_non_exhaustive()
    }
}

/// What a server holds for a role.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Stored {
    /// Only a superuser may see it.
    Hidden,
    /// No password.
    Nothing,
    /// This.
    Verifier(Verifier),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_verifier_holds_no_value_and_a_salt_of_its_own() {
        let value = SecretBytes::copy_from(b"canary");
        let [first, second] = [Verifier::of(&value), Verifier::of(&value)];
        assert!(first != second && first.is_scram());
        assert!(!first.text().contains("canary"));
        assert!(!format!("{first:?}").contains("SCRAM"));
        assert!(first.text().bytes().all(|byte| byte.is_ascii_graphic() && byte != b'\'' && byte != b'\\'));
    }
}
