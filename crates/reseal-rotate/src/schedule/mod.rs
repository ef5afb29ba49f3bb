//! When secrets are to change, and how each of them stands: the vault joined with the plan.

mod calendar;
mod overview;
mod stands;

pub(crate) use calendar::next;
pub use calendar::{due, interval};
pub use overview::{KeptOutput, Overview, kept_outputs};
pub use stands::{Condition, Stands};
