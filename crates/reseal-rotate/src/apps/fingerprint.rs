//! Which value a running process has, without showing one: keyed fingerprints.

use std::fmt;

use hmac::{Hmac, KeyInit, Mac};
use reseal_crypto::random::{Random, RandomError};
use reseal_crypto::secret::{SecretBytes, SubKey};
use sha2::Sha256;
use subtle::ConstantTimeEq;

/// The key of fingerprints; without it they say nothing.
#[derive(Debug, Clone)]
pub struct FingerprintKey(SubKey);

/// HMAC-SHA-256 of a value, RFC 2104: equal for equal values under one key.
#[derive(Clone, Copy)]
pub struct Fingerprint([u8; 32]);

impl FingerprintKey {
    /// Fingerprints under this key can be compared for as long as it is kept.
    pub fn new(key: SubKey) -> Self {
        Self(key)
    }

    /// For one comparison.
    ///
    /// # Errors
    ///
    /// [`RandomError`] if the generator fails.
    pub fn generate(random: &dyn Random) -> Result<Self, RandomError> {
        SubKey::generate(random).map(Self)
    }

    /// The fingerprint of a value.
    pub fn of(&self, value: &SecretBytes) -> Fingerprint {
        // EXPOSE: the MAC reads the key and the value and keeps neither.
        let mut mac = Hmac::<Sha256>::new_from_slice(self.0.expose()).expect("HMAC takes keys of any length");
        mac.update(value.expose());
        Fingerprint(mac.finalize().into_bytes().into())
    }
}

impl PartialEq for Fingerprint {
    fn eq(&self, other: &Self) -> bool {
        self.0.ct_eq(&other.0).into()
    }
}

impl Eq for Fingerprint {}

impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Fingerprint").finish_non_exhaustive()
    }
}
