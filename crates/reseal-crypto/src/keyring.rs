//! The keys of one run, handed to the engine by whoever opened the vault.

use std::collections::BTreeMap;
use std::fmt;

use crate::envelope::{ColumnKey, KeyHandle};
use crate::secret::SecretBytes;

/// Names one version of one secret: what a plan freezes instead of a key.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct KeyRef {
    /// Name of the secret in the vault.
    pub secret: String,
    /// Its version, from 1.
    pub version: u64,
}

impl fmt::Display for KeyRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} version {}", self.secret, self.version)
    }
}

/// A key as the vault holds it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KeyMaterial {
    /// A key of kind `key`: seals our envelope.
    Column(ColumnKey),
    /// Anything else: a passphrase or a foreign key, which opens and seals foreign formats only.
    Foreign(SecretBytes),
}

impl KeyMaterial {
    /// The bytes that a foreign format takes as its key: those of a foreign key, or the text form of a column key.
    pub fn foreign_bytes(&self) -> SecretBytes {
        match self {
            Self::Column(key) => SecretBytes::copy_from(key.to_text().as_bytes()),
            Self::Foreign(bytes) => bytes.clone(),
        }
    }
}

/// Two different column keys share a handle, so that values could not say which one sealed them.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{first} and {second} share the key handle {handle}")]
pub struct HandleClash {
    first: KeyRef,
    second: KeyRef,
    handle: KeyHandle,
}

/// The keys of one run, by name and version.
#[derive(Debug, Clone, Default)]
pub struct Keyring(BTreeMap<KeyRef, KeyMaterial>);

impl Keyring {
    /// Adds a key; replaces the same name and version.
    ///
    /// # Errors
    ///
    /// [`HandleClash`] if another column key has the same handle.
    pub fn insert(&mut self, name: KeyRef, material: KeyMaterial) -> Result<(), HandleClash> {
        if let KeyMaterial::Column(key) = &material {
            let handle = key.handle();
            let clash = self.0.iter().find(|(other, held)| {
                matches!(held, KeyMaterial::Column(held) if held.handle() == handle && held != key)
                    && **other != name
            });
            if let Some((other, _)) = clash {
                return Err(HandleClash { first: other.clone(), second: name, handle });
            }
        }
        self.0.insert(name, material);
        Ok(())
    }

    /// The key of this name and version.
    pub fn get(&self, name: &KeyRef) -> Option<&KeyMaterial> {
        self.0.get(name)
    }

    /// The column key that this handle names.
    pub fn by_handle(&self, handle: KeyHandle) -> Option<(&KeyRef, &ColumnKey)> {
        self.0.iter().find_map(|(name, material)| match material {
            KeyMaterial::Column(key) if key.handle() == handle => Some((name, key)),
            _ => None,
        })
    }

    /// The names of all keys, in order.
    pub fn names(&self) -> impl Iterator<Item = &KeyRef> {
        self.0.keys()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(version: u64) -> KeyRef {
        KeyRef { secret: "crm/db-key".into(), version }
    }

    fn column(byte: u8) -> KeyMaterial {
        KeyMaterial::Column(ColumnKey::from_bytes(&[byte; 32]))
    }

    #[test]
    fn keys_are_found_by_name_and_by_handle() {
        let mut ring = Keyring::default();
        let foreign = KeyMaterial::Foreign(SecretBytes::copy_from(b"passphrase"));
        for (version, key) in [(1, foreign.clone()), (2, column(2)), (3, column(3))] {
            ring.insert(name(version), key).expect("different keys");
        }
        assert_eq!(ring.get(&name(1)), Some(&foreign));
        assert_eq!(ring.get(&name(4)), None);
        for byte in [2, 3] {
            let key = ColumnKey::from_bytes(&[byte; 32]);
            assert_eq!(ring.by_handle(key.handle()), Some((&name(byte.into()), &key)));
        }
        assert_eq!(ring.by_handle(ColumnKey::from_bytes(&[4; 32]).handle()), None);
        assert_eq!(ring.names().map(|name| name.version).collect::<Vec<_>>(), [1, 2, 3]);
    }

    #[test]
    fn one_key_may_have_two_names_and_a_name_may_be_replaced() {
        let mut ring = Keyring::default();
        ring.insert(name(1), column(1)).expect("the first key");
        ring.insert(name(2), column(1)).expect("the same key again is no clash");
        ring.insert(name(1), column(9)).expect("the same name again");
        assert_eq!(ring.get(&name(1)), Some(&column(9)));
    }

    #[test]
    fn foreign_formats_take_the_text_form_of_a_column_key() {
        let text = ColumnKey::from_bytes(&[7; 32]).to_text();
        assert_eq!(column(7).foreign_bytes().expose(), text.as_bytes());
        let passphrase = SecretBytes::copy_from(b"as it is");
        assert_eq!(KeyMaterial::Foreign(passphrase.clone()).foreign_bytes(), passphrase);
    }

    #[test]
    fn debug_of_a_keyring_is_quiet() {
        let mut ring = Keyring::default();
        ring.insert(name(1), KeyMaterial::Foreign(SecretBytes::copy_from(b"canary"))).expect("one key");
        ring.insert(name(2), column(0x63)).expect("another key");
        let printed = format!("{ring:?}");
        assert!(!printed.contains("canary") && !printed.contains("99, 99"), "{printed}");
    }
}
