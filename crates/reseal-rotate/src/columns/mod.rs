//! Re-encrypting columns: from a plan file and an open vault to a proved run.
//!
//! ```text
//! plan + vault --prepare--> ColumnRun --survey--> Survey               nothing written
//!                              |------begin--> frozen in the vault     the new key has a second copy
//!                              |------drive--> proved                  the engine, as often as it takes
//!                              `-----settle--> labels moved            with the last columns under the key
//! ```
//!
//! A run that was frozen goes on with what was frozen, whatever the plan file says by then.

mod ids;
mod keys;
mod record;
mod rotated;
mod run;
mod second_copy;
mod settle;
mod target;

pub(crate) use keys::{is_kept, needed_kind};
pub use record::{RecordState, RunRecord, records};
pub(crate) use rotated::{Settlement, prove, reencrypt, take_back};
pub use run::{ColumnRun, DriveOptions, Purpose};
pub(crate) use second_copy::waiver;
pub use second_copy::{SecondCopy, find_second_copy};
pub use settle::Labels;
