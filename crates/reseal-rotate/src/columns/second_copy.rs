//! Promise 3: a new key exists twice, in a backup made and verified after it, before anything is sealed under it.

use reseal_vault::{Anchor, Event, LogEntry, Outcome, Vault};

use crate::error::RotateError;

/// Where the second copy of a key is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SecondCopy {
    /// In this backup, every record of which was opened when it was made.
    Backup {
        /// The file.
        file: String,
    },
    /// Nowhere: someone answers for that, with this reason.
    Waived {
        /// The reason.
        reason: String,
    },
}

/// Finds the second copy of a version in the audit log: the last backup that holds it, or a waiver for it.
///
/// # Errors
///
/// [`RotateError::Vault`].
pub fn find_second_copy(
    vault: &mut Vault,
    secret: &str,
    version: u64,
) -> Result<Option<SecondCopy>, RotateError> {
    let log = vault.audit_log(None, None)?;
    let is_of_version = |entry: &&LogEntry| {
        entry.event.object.as_deref() == Some(secret) && entry.event.version == Some(version)
    };
    let Some(stored) = log.iter().find(|entry| is_of_version(entry) && entry.event.action != "get") else {
        return Ok(None);
    };
    let backup = log.iter().rev().filter(|entry| is_done(entry, "backup")).find_map(|entry| {
        let anchor: Anchor = entry.event.detail.as_deref()?.parse().ok()?;
        (anchor.index >= stored.number)
            .then(|| SecondCopy::Backup { file: entry.event.object.clone().unwrap_or_default() })
    });
    let waived = || {
        let entry = log.iter().rev().filter(is_of_version).find(|entry| is_done(entry, WAIVER))?;
        Some(SecondCopy::Waived { reason: entry.event.detail.clone().unwrap_or_default() })
    };
    Ok(backup.or_else(waived))
}

/// That a version is used without a second copy.
pub(crate) fn waiver(secret: &str, version: u64, reason: &str) -> Event {
    Event::done(WAIVER).of(secret).version(version).detail(reason)
}

const WAIVER: &str = "backup waived";

fn is_done(entry: &LogEntry, action: &str) -> bool {
    entry.event.action == action && entry.event.outcome == Outcome::Done
}
