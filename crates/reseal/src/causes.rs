//! The errors of the libraries as failures: an exit code and a hint for each.

use std::io;

use reseal_engine::{EngineError, ErrorKind as EngineKind};
use reseal_env::{EditError, FileError};
use reseal_rotate::adopt::AdoptError;
use reseal_rotate::plan::PlanError;
use reseal_rotate::{ErrorKind as RotateKind, RotateError};
use reseal_vault::{ErrorKind, NameError, Thing, VaultError};

use crate::exit::Exit;
use crate::failure::Failure;

impl From<VaultError> for Failure {
    fn from(error: VaultError) -> Self {
        let exit = match error.kind() {
            ErrorKind::NotFound => Exit::NotFound,
            ErrorKind::Locked => Exit::Locked,
            ErrorKind::Busy => Exit::Busy,
            ErrorKind::Integrity => Exit::Damaged,
            ErrorKind::Conflict => Exit::Conflict,
            ErrorKind::Refused => Exit::Refused,
            ErrorKind::Other => Exit::Failed,
        };
        let failure = Self::from_error(exit, &error);
        match vault_hint(&error) {
            Some(hint) => failure.hint(hint),
            None => failure,
        }
    }
}

fn vault_hint(error: &VaultError) -> Option<&'static str> {
    let hint = match error {
        VaultError::NoVault(_) => {
            "name it with --vault; where one was lost, `reseal backup restore FILE`; the first one comes from `reseal init`"
        }
        VaultError::NotAVault { .. } => {
            "name the vault with --vault; where this was one, keep the file as it is, and `reseal backup restore FILE`"
        }
        VaultError::NoDirectory(_) => "make it, or mount what belongs there; then repeat the command",
        VaultError::DiskFull(_) => {
            "free a few MiB on that disk, then repeat the command; a copy of the vault elsewhere would be a fork of it"
        }
        VaultError::Deleted(_) => "`reseal undelete NAME` brings it back",
        VaultError::NotFound { what: Thing::Secret, .. } => "`reseal list` shows what there is",
        VaultError::NotFound { what: Thing::Snapshot, .. } => "`reseal snapshot list` shows what there is",
        VaultError::NotFound { what: Thing::KeySlot, .. } => "`reseal key list` shows what there is",
        VaultError::NotFound { .. } => "`reseal history NAME` shows the versions and their labels",
        VaultError::Locked(_) => "a recovery code is accepted wherever a passphrase is",
        VaultError::Busy => "wait for the other command to end, then repeat this one",
        VaultError::Tampered(_) => {
            "keep this file as it is, and restore a backup: `reseal backup restore FILE`"
        }
        VaultError::RolledBack { .. } => {
            "use the newest copy; if this older one is wanted, `reseal backup restore FILE --accept-older`"
        }
        VaultError::VersionConflict { .. } => {
            "someone else stored a version: look with `reseal history NAME`"
        }
        VaultError::Exists { what: Thing::PendingVersion, .. } => {
            "finish what it was made for, for example with `reseal reencrypt run`, or drop it with `reseal discard NAME`"
        }
        VaultError::Exists { what: Thing::DeletedSecret, .. } => {
            "`reseal undelete NAME` brings it back; another version may follow then"
        }
        _ => return None,
    };
    Some(hint)
}

impl From<EditError> for Failure {
    fn from(error: EditError) -> Self {
        let exit = match &error {
            EditError::NoVariable(_) => Exit::NotFound,
            EditError::Name | EditError::NoReader => Exit::Usage,
            _ => Exit::Refused,
        };
        let failure = Self::from_error(exit, &error);
        let hint = match &error {
            EditError::NoVariable(_) => "`reseal env set --add` adds one",
            EditError::Disagree { .. } | EditError::NotSeen { .. } | EditError::Unreadable { .. } => {
                "say who reads the file with --reader"
            }
            EditError::Character { .. } | EditError::NoCommonStyle { .. } | EditError::NotUrlSafe { .. } => {
                "a value of letters, digits, `-` and `_` is read alike by all, such as `reseal generate` makes"
            }
            _ => return failure,
        };
        failure.hint(hint)
    }
}

impl From<FileError> for Failure {
    fn from(error: FileError) -> Self {
        let exit = match &error {
            FileError::Io { source, .. } if source.kind() == io::ErrorKind::NotFound => Exit::NotFound,
            FileError::Io { .. } | FileError::NotDurable(_) => Exit::Failed,
            FileError::Changed => Exit::Conflict,
            _ => Exit::Refused,
        };
        let failure = Self::new(exit, error.to_string());
        match &error {
            FileError::SymbolicLink(_) => failure.hint("name the file itself, or give --follow-links"),
            FileError::HardLinks(_) => failure.hint("the other names would keep the old content"),
            FileError::Changed => failure.hint("look at what changed it, then repeat the command"),
            _ => failure,
        }
    }
}

impl From<NameError> for Failure {
    fn from(error: NameError) -> Self {
        Self::from_error(Exit::Usage, &error).hint("names look like crm/redis/password")
    }
}

impl From<PlanError> for Failure {
    fn from(error: PlanError) -> Self {
        let failure = Self::from_error(Exit::Usage, &error);
        match error.remedy() {
            Some(remedy) => failure.hint(remedy),
            None => failure,
        }
    }
}

impl From<RotateError> for Failure {
    fn from(error: RotateError) -> Self {
        let hint = error.hint();
        let failure = match (error.kind(), error) {
            (_, RotateError::Vault(error)) => error.into(),
            (_, RotateError::Engine(error)) => error.into(),
            (kind, error) => Self::from_error(kind.map_or(Exit::Failed, rotate_exit), &error),
        };
        match hint {
            Some(hint) => failure.hint(hint),
            None => failure,
        }
    }
}

impl From<AdoptError> for Failure {
    fn from(error: AdoptError) -> Self {
        let failure = Self::from_error(rotate_exit(error.kind()), &error);
        match error.hint() {
            Some(hint) => failure.hint(hint),
            None => failure,
        }
    }
}

fn rotate_exit(kind: RotateKind) -> Exit {
    match kind {
        RotateKind::Usage => Exit::Usage,
        RotateKind::NotFound => Exit::NotFound,
        RotateKind::Refused => Exit::Refused,
        RotateKind::Conflict => Exit::Conflict,
        RotateKind::Damaged => Exit::Damaged,
        RotateKind::NeedsAttention => Exit::NeedsAttention,
        RotateKind::Busy => Exit::Busy,
        RotateKind::Interrupted => Exit::Interrupted,
        _ => Exit::Failed,
    }
}

impl From<EngineError> for Failure {
    fn from(error: EngineError) -> Self {
        let exit = match error.kind() {
            EngineKind::Damaged => Exit::Damaged,
            EngineKind::Conflict => Exit::Conflict,
            EngineKind::Refused => Exit::Refused,
            EngineKind::NeedsAttention => Exit::NeedsAttention,
            EngineKind::Interrupted => Exit::Interrupted,
            _ => Exit::Failed,
        };
        match &error {
            EngineError::Refused(refusals) => {
                let causes = refusals.iter().map(ToString::to_string);
                Self::new(exit, "refused; nothing was written").because(causes)
            }
            _ => Self::from_error(exit, &error),
        }
    }
}
