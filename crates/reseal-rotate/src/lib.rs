//! The plan file of reseal, and what joins the vault and the engine.
//!
//! ```text
//! reseal.toml --> plan --+
//!                        +--> columns: freeze the run in the vault, drive the engine, prove, move the labels
//! vault ---------- keys -+
//! ```

pub mod columns;
mod error;
pub mod plan;

pub use error::{ErrorKind, RotateError};
