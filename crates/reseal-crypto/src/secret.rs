//! Types for secrets: wiped on drop, quiet in `Debug`, compared in constant time.
//!
//! `Zeroizing` alone wipes, but it prints its bytes and compares in variable time. These newtypes keep both doors
//! shut; `expose` is the one that opens, so a search for it finds every use.

use std::fmt;

use subtle::ConstantTimeEq;
use zeroize::{Zeroize, Zeroizing};

/// Secret bytes of any length: a value of the vault, a plaintext, a foreign key.
#[derive(Clone, Default)]
pub struct SecretBytes(Zeroizing<Vec<u8>>);

impl SecretBytes {
    /// Takes the buffer over; it is wiped when the secret is dropped.
    pub fn new(bytes: Vec<u8>) -> Self {
        Self(Zeroizing::new(bytes))
    }

    /// Copies the bytes; the caller stays responsible for wiping the original.
    pub fn copy_from(bytes: &[u8]) -> Self {
        Self::new(bytes.to_vec())
    }

    /// The bytes themselves.
    pub fn expose(&self) -> &[u8] {
        &self.0
    }

    /// The bytes as text, or `None` where they are not UTF-8.
    pub fn expose_str(&self) -> Option<&str> {
        std::str::from_utf8(&self.0).ok()
    }

    /// Length in bytes; lengths are not secret here.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are no bytes.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl fmt::Debug for SecretBytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SecretBytes").finish_non_exhaustive()
    }
}

impl PartialEq for SecretBytes {
    fn eq(&self, other: &Self) -> bool {
        self.0.ct_eq(&other.0).into()
    }
}

impl Eq for SecretBytes {}

/// What a person types to open a vault; at least one byte.
#[derive(Clone, PartialEq, Eq)]
pub struct Passphrase(SecretBytes);

impl Passphrase {
    /// A passphrase of the given bytes, or `None` if there are none.
    pub fn new(bytes: SecretBytes) -> Option<Self> {
        (!bytes.is_empty()).then_some(Self(bytes))
    }

    /// The bytes themselves.
    pub fn expose(&self) -> &[u8] {
        self.0.expose()
    }
}

impl fmt::Debug for Passphrase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Passphrase").finish_non_exhaustive()
    }
}

/// Makes room in `buffer` for `additional` more bytes of plaintext or key.
///
/// Where `Vec::reserve` moves a buffer it leaves the old bytes in memory that is free; this wipes them first.
pub fn reserve_wiping(buffer: &mut Vec<u8>, additional: usize) {
    if buffer.capacity() - buffer.len() >= additional {
        return;
    }
    let needed = buffer.len().saturating_add(additional);
    let mut larger = Vec::with_capacity(needed.max(buffer.capacity().saturating_mul(2)));
    larger.extend_from_slice(buffer);
    std::mem::replace(buffer, larger).zeroize();
}

/// Declares a 256-bit key type that says what the key is for, so that one cannot land in another's place.
macro_rules! secret_key {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone)]
        pub struct $name(zeroize::Zeroizing<[u8; 32]>);

        impl $name {
            /// Copies the key from its 32 bytes.
            pub fn from_bytes(bytes: &[u8; 32]) -> Self {
                Self(zeroize::Zeroizing::new(*bytes))
            }

            /// Draws a fresh key.
            ///
            /// # Errors
            ///
            /// [`RandomError`](crate::random::RandomError) if the generator fails; no key is made then.
            pub fn generate(random: &dyn crate::random::Random) -> Result<Self, crate::random::RandomError> {
                let mut bytes = zeroize::Zeroizing::new([0; 32]);
                random.fill(&mut *bytes)?;
                Ok(Self(bytes))
            }

            /// The 32 bytes themselves.
            pub fn expose(&self) -> &[u8; 32] {
                &self.0
            }
        }

        impl std::fmt::Debug for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.debug_struct(stringify!($name)).finish_non_exhaustive()
            }
        }

        impl PartialEq for $name {
            fn eq(&self, other: &Self) -> bool {
                use subtle::ConstantTimeEq;
                self.0.ct_eq(&*other.0).into()
            }
        }

        impl Eq for $name {}
    };
}
pub(crate) use secret_key;

secret_key! {
    /// The random key at the root of a vault: never derived, only wrapped by key slots.
    VaultKey
}

secret_key! {
    /// A key for one purpose, derived from the vault key or drawn for one run: MACs, digests, record wrapping.
    SubKey
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_is_quiet() {
        let printed = format!(
            "{:?} {:?} {:?}",
            SecretBytes::copy_from(b"canary"),
            Passphrase::new(SecretBytes::copy_from(b"canary")),
            SubKey::from_bytes(b"canarycanarycanarycanarycanary!!"),
        );
        assert!(!printed.contains("canary") && !printed.contains("99, 97"), "{printed}");
    }

    #[test]
    fn secrets_are_equal_by_their_bytes() {
        let secret = SecretBytes::copy_from(b"abc");
        assert_eq!(secret, SecretBytes::copy_from(b"abc"));
        for other in ["abd", "ab", "abcd", ""] {
            assert_ne!(secret, SecretBytes::copy_from(other.as_bytes()));
        }
        assert_eq!(SubKey::from_bytes(&[1; 32]), SubKey::from_bytes(&[1; 32]));
        assert_ne!(SubKey::from_bytes(&[1; 32]), SubKey::from_bytes(&[2; 32]));
    }

    #[test]
    fn a_buffer_grows_with_what_it_holds() {
        let mut buffer = b"plaintext".to_vec();
        let mut moves = 0;
        for byte in 0..=255 {
            let before = buffer.as_ptr();
            reserve_wiping(&mut buffer, 1);
            moves += usize::from(buffer.as_ptr() != before);
            buffer.push(byte);
        }
        assert!(buffer.starts_with(b"plaintext") && buffer.ends_with(&[254, 255]));
        assert!(moves < 10, "it doubles: {moves} moves");
        reserve_wiping(&mut buffer, 5000);
        assert!(buffer.capacity() - buffer.len() >= 5000);
    }

    #[test]
    fn empty_passphrase_is_none() {
        assert!(Passphrase::new(SecretBytes::default()).is_none());
    }
}
