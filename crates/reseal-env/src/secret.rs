//! Bytes that wipe themselves and do not print.

use std::fmt;

use zeroize::{Zeroize, Zeroizing};

/// A value, or the text of a file that holds values.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Secret(Zeroizing<Vec<u8>>);

impl Secret {
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

    /// Length in bytes; lengths are not secret here.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are no bytes.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Appends bytes; where the buffer moves, the old one is wiped.
    pub fn push(&mut self, bytes: &[u8]) {
        let needed = self.0.len() + bytes.len();
        if needed > self.0.capacity() {
            let mut larger = Vec::with_capacity(needed.max(self.0.capacity() * 2));
            larger.extend_from_slice(&self.0);
            std::mem::replace(&mut *self.0, larger).zeroize();
        }
        self.0.extend_from_slice(bytes);
    }

    /// Appends one character in UTF-8.
    pub fn push_char(&mut self, character: char) {
        self.push(character.encode_utf8(&mut [0; 4]).as_bytes());
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Secret").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_is_quiet_and_pushing_keeps_the_bytes() {
        let mut secret = Secret::copy_from(b"can");
        (0..200).for_each(|_| secret.push(b"ary"));
        secret.push_char('ä');
        assert!(secret.expose().starts_with(b"canary") && secret.expose().ends_with("yä".as_bytes()));
        assert_eq!(secret.len(), 3 + 600 + 2);
        assert!(!format!("{secret:?}").contains("can"));
    }
}
