//! Rotating a secret: the service, every place that holds the value, every application that reads it.
//!
//! ```text
//! plan + vault --draft--> Proposal --rehearse--> nothing written
//!                            `------begin--> Rotation frozen in the vault, with the pending version
//!                                                |--Machine::go_on-----> overlap or done, or all back
//!                                                |--Machine::roll_back-> all back
//!                                                `--Machine::retire----> the old value ends
//! plan + vault --Claim::of--> what is to be true now --look--> Findings
//!                                 `--Sync::draft--> Round::begin --> Rotations of current values, driven by the same machine
//! ```
//!
//! Several rotations of one call: what each touches is its [`Footprint`], and a [`Queue`] of these says which may go side by side.
//!
//! Steps are frozen when a rotation begins; how an application or a server is reached is read from the plan each time.

mod abandon;
mod action;
mod claim;
mod connector;
mod finding;
mod freeze;
mod independent;
mod left;
mod lock;
mod logins;
mod machine;
mod outside;
mod owed;
mod party;
mod proposal;
mod record;
mod records;
mod round;
mod sync;

pub use abandon::abandon;
pub use action::{Action, EnvEdit, Field, LoginAt, RecordIn, TakesTurns, Which};
pub use claim::Claim;
pub use connector::{ColumnWork, Connector, Standing, StepError, Values};
pub use finding::{Finding, Subject, Truth};
pub use independent::{Footprint, Queue};
pub use left::left_versions;
pub use lock::RotationLock;
pub(crate) use logins::reached;
pub use machine::{Ended, Machine, Told, Watch};
pub use outside::Outside;
pub use owed::{Owed, owe, owed};
pub use proposal::{KeyCopy, NewValue, Proposal};
pub use record::{Act, Phase, Rotation, State, Step, StepState, latest, rotations};
pub use round::{NamedWatch, Round, round_of};
pub use sync::Sync;
