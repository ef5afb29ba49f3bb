//! HKDF and HMAC over SHA-256, and the table of every purpose a key is derived for.

use hkdf::Hkdf;
use hmac::{Hmac, KeyInit, Mac};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

use crate::secret::{SubKey, VaultKey};

/// What a key is derived for. One purpose per derived key; the labels are unique.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Purpose {
    /// Wraps the data key of each secret version.
    Wrap,
    /// Seals records that are not secret values: names, metadata, journal.
    Record,
    /// Look-up identifiers of names.
    Name,
    /// The integrity tree of the vault.
    Tree,
    /// Seals what audit entries say.
    Audit,
}

impl Purpose {
    /// Every purpose, for the test that labels are unique.
    pub const ALL: [Self; 5] = [Self::Wrap, Self::Record, Self::Name, Self::Tree, Self::Audit];

    /// The label that enters HKDF.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Wrap => "reseal/v1/vault/wrap",
            Self::Record => "reseal/v1/vault/record",
            Self::Name => "reseal/v1/vault/name",
            Self::Tree => "reseal/v1/vault/tree",
            Self::Audit => "reseal/v1/vault/audit",
        }
    }
}

impl VaultKey {
    /// `HKDF-SHA-256(vault key, salt = vault id, info = label)`, 32 bytes.
    pub fn derive(&self, purpose: Purpose, vault_id: &[u8; 16]) -> SubKey {
        let mut key = Zeroizing::new([0; 32]);
        hkdf_sha256(self.expose(), vault_id, purpose.label().as_bytes(), &mut *key);
        SubKey::from_bytes(&key)
    }
}

/// `HKDF-SHA-256(ikm, salt, info)`, [RFC 5869](https://www.rfc-editor.org/rfc/rfc5869), filling `okm`.
///
/// # Panics
///
/// If `okm` is longer than 8,160 bytes, the most HKDF-SHA-256 can give; callers ask for at most 64.
pub fn hkdf_sha256(ikm: &[u8], salt: &[u8], info: &[u8], okm: &mut [u8]) {
    Hkdf::<Sha256>::new(Some(salt), ikm).expand(info, okm).expect("okm is at most 255 hashes long");
}

/// `HMAC-SHA-256(key, message)`, [RFC 2104](https://www.rfc-editor.org/rfc/rfc2104).
pub fn hmac_sha256(key: &[u8], message: &[u8]) -> [u8; 32] {
    MacKey::new(key).mac(&[message])
}

/// An HMAC-SHA-256 key with its padding already absorbed: half the work per short message.
#[derive(Clone)]
pub struct MacKey(Hmac<Sha256>);

impl MacKey {
    /// Prepares `key`, of any length.
    pub fn new(key: &[u8]) -> Self {
        Self(Hmac::new_from_slice(key).expect("HMAC takes keys of any length"))
    }

    /// The MAC of the concatenation of `parts`; make them unambiguous first.
    pub fn mac(&self, parts: &[&[u8]]) -> [u8; 32] {
        let mut state = self.0.clone();
        parts.iter().for_each(|part| state.update(part));
        state.finalize().into_bytes().into()
    }
}

impl std::fmt::Debug for MacKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("MacKey").finish_non_exhaustive()
    }
}

/// `SHA-256(message)`, FIPS 180-4.
pub fn sha256(message: &[u8]) -> [u8; 32] {
    Sha256::digest(message).into()
}

/// Compares in time that depends on the lengths only.
pub fn equal(a: &[u8], b: &[u8]) -> bool {
    a.ct_eq(b).into()
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn purposes_are_unique() {
        let labels: HashSet<_> = Purpose::ALL.iter().map(|p| p.label()).collect();
        assert_eq!(labels.len(), Purpose::ALL.len());
    }

    #[test]
    fn subkeys_depend_on_key_vault_and_purpose() {
        let derive = |key: u8, vault: u8, purpose| {
            *VaultKey::from_bytes(&[key; 32]).derive(purpose, &[vault; 16]).expose()
        };
        let mut expected = [0; 32];
        hkdf_sha256(&[1; 32], &[2; 16], b"reseal/v1/vault/record", &mut expected);
        assert_eq!(derive(1, 2, Purpose::Record), expected);
        let others =
            [derive(3, 2, Purpose::Record), derive(1, 3, Purpose::Record), derive(1, 2, Purpose::Wrap)];
        assert!(!others.contains(&expected));
    }
}
