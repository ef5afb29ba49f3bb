//! The vault through its public face, on real files.

mod secrets;
mod support;
