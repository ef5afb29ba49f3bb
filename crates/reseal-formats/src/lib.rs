//! What ciphertext looks like elsewhere: parse it, open it, seal it. No I/O, no async.
//!
//! ```text
//! bytes of the database --Encoding--> message --Format--> plaintext
//!   "ww0EBwMC…\n…"        (base64)    packets   (pgcrypto)
//! ```
//!
//! A [`Format`] is one ciphertext format under one key. A [`Codec`] adds the text [`Encoding`] and is what the engine
//! holds: stored bytes in, plaintext out, and back.

pub mod codec;
pub mod encoding;
pub mod format;

pub use codec::{Codec, Opened};
pub use encoding::Encoding;
pub use format::{Format, OpenError, SealError, Shape};
