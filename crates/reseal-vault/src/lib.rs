//! The vault of reseal: one SQLite file of sealed records that holds versioned secrets and snapshots of files, with an
//! integrity tree, an audit chain, key slots, backup, and an agent.
//!
//! ```text
//! passphrase, key file, recovery code --slot--> vault key --HKDF--> K_name, K_record, K_wrap, K_tree, K_audit
//! head (MAC) --> 64 nodes --> 4,096 leaves --> records          head --> last audit entry --> ... --> first
//! ```
//!
//! A [`LockedVault`] is found and checked as far as that goes without a key; [`unlock`](LockedVault::unlock) makes it a
//! [`Vault`]. Every change is one SQLite transaction with at least one audit entry, durable when the call returns. The
//! bytes are described in `docs/formats/vault.md`.

pub mod agent;
mod anchor;
mod audit;
mod backup;
mod batch;
mod chunk;
mod clock;
mod error;
mod file;
mod generate;
mod journal;
mod lifecycle;
mod model;
mod name;
mod record;
mod recovery;
mod schema;
mod secrets;
mod shelf;
mod slots;
mod snapshot;
mod store;
mod tree;
mod vault;
mod walk;

pub use anchor::{Anchor, AnchorDir, NotAnAnchor};
pub use audit::{AuditReport, AuditorKey, Event, LogEntry, Outcome, Stamp};
pub use backup::{BackupReport, RestoreOptions, Restored, restore};
pub use batch::VaultBatch;
pub use clock::{Clock, FixedClock, SystemClock, Timestamp};
pub use error::{ErrorKind, Thing, VaultError};
pub use generate::{UnknownFormat, ValueFormat, ValueSize, generate};
pub use journal::JournalRecord;
pub use model::{
    Attributes, Expect, Label, Labels, NewVersion, SECRETS_MAX, Secret, SecretInfo, SecretKind, UnknownWord,
    VALUE_MAX, VersionInfo, VersionSelector, VersionState,
};
pub use name::{NAME_MAX, NameError, NamePattern, SecretName};
pub use recovery::{RecoveryCode, RecoveryCodeError};
pub use secrets::ToMask;
pub use slots::SlotInfo;
pub use snapshot::{Origin, SNAPSHOT_BYTES_MAX, SNAPSHOT_NAME_MAX, SnapshotId, SnapshotInfo};
pub use vault::{
    CreateOptions, Created, LockedVault, NewSlot, OpenOptions, Operator, UnlockedKey, Vault, VaultId,
};
