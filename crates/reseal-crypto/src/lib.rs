//! Secrets and the cryptography of reseal: no I/O, no async, no formats but our own.
//!
//! ```text
//! passphrase --Argon2id--> slot key --unwrap--> vault key --HKDF, one purpose each--> subkeys
//! column key --HKDF--> commitment (its first 8 bytes are the handle) and one AEAD key per suite
//! ```
//!
//! Start with [`envelope`] for what an encrypted column value looks like, with [`slot`] for how a vault opens,
//! and with [`Keyring`] for how keys reach the engine.

pub mod aead;
pub mod canonical;
pub mod envelope;
mod gcm;
pub mod hash;
pub mod kdf;
pub mod keyring;
pub mod random;
pub mod secret;
pub mod slot;
pub mod text;
mod xaes;

pub use aead::{AeadKey, Nonce, Suite};
pub use envelope::{Binding, ColumnId, ColumnKey, Commitment, KeyHandle, RowKey};
pub use keyring::{KeyMaterial, KeyRef, Keyring};
pub use random::{OsRandom, Random};
pub use secret::{Passphrase, SecretBytes};
