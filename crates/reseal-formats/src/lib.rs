//! What ciphertext looks like elsewhere: parse it, open it, seal it. No I/O, no async.
//!
//! ```text
//! bytes of the database --Encoding--> message --Format--> plaintext
//!   "ww0EBwMC…\n…"        (base64)    packets   (pgcrypto)
//! ```
//!
//! A [`FormatSpec`] is what a plan file says. With a key it becomes a [`Codec`], which the engine holds: stored bytes
//! in, plaintext out, and back. A codec is a [`Format`] under one key, joined with the text [`Encoding`] of a column.

pub mod aead;
pub mod armor;
pub mod codec;
pub mod encoding;
pub mod envelope;
pub mod fernet;
pub mod format;
pub mod key;
pub mod pgcrypto;
pub mod sniff;
pub mod spec;
pub mod spec_pgcrypto;

pub use codec::{Codec, Opened};
pub use encoding::Encoding;
pub use format::{Format, OpenError, SealError, Shape};
pub use key::KeyError;
pub use sniff::sniff;
pub use spec::{ColumnType, FormatSpec, SpecError};
pub use spec_pgcrypto::PgcryptoSpec;
