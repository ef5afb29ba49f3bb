//! The plan file of reseal, and what joins the vault with the world: columns through the engine, credentials through
//! services, files and applications.
//!
//! ```text
//! reseal.toml --> plan --+--> columns: freeze the run in the vault, drive the engine, prove, move the labels
//! vault ------ versions -+--> rotation: freeze the steps in the vault, set, test, write, bring over, check, retire
//! ```
//!
//! What a rotation does outside the vault: [`apps`] brings over what reads values, [`services`] changes
//! them where they log in, [`checks`] proves that it works,
//! [`process`] runs every program so that it learns nothing it was not told, [`scrub`] takes values out of what they say.
//! [`schedule`] says how everything stands and what is due, [`notices`] tells people.

pub mod adopt;
pub mod apps;
pub mod checks;
pub mod columns;
pub mod destinations;
mod error;
pub mod http;
pub mod notices;
pub mod plan;
pub mod process;
pub mod rotation;
pub mod schedule;
pub mod scrub;
pub mod services;
pub mod stream;
mod url;
mod vault_cell;

pub use error::{ErrorKind, RotateError};
pub use vault_cell::VaultCell;
