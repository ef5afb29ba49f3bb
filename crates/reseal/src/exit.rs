//! The exit codes: scripts act on them, so a number never changes its meaning.

use std::process::ExitCode;

/// How a command ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Exit {
    /// Everything that was asked is done.
    Done = 0,
    /// Failed; the old state is intact.
    Failed = 1,
    /// The command line or the plan file is wrong.
    Usage = 2,
    /// A secret, version, run or file does not exist.
    NotFound = 3,
    /// Wrong passphrase, or no way to unlock the vault.
    Locked = 4,
    /// Another process holds the vault.
    Busy = 5,
    /// The vault or its run state is damaged, tampered with or rolled back.
    Damaged = 6,
    /// A compare-and-set found another state.
    Conflict = 7,
    /// Refused before any change.
    Refused = 8,
    /// Failed, and everything is back as it was.
    RolledBack = 9,
    /// Something needs a person.
    NeedsAttention = 10,
    /// Something is due; told only where it is asked for.
    Due = 11,
    /// Done, but some values were quarantined or did not open.
    Quarantined = 12,
    /// There was nothing to do; told only where it is asked for.
    NothingToDo = 13,
    /// What was looked at does not hold the value.
    NotHeld = 14,
    /// Stopped by Ctrl-C; state kept.
    Interrupted = 130,
    /// Stopped by a request to terminate; state kept.
    Terminated = 143,
}

impl Exit {
    /// Every code, in the order of its number.
    pub(crate) const ALL: [Self; 17] = [
        Self::Done,
        Self::Failed,
        Self::Usage,
        Self::NotFound,
        Self::Locked,
        Self::Busy,
        Self::Damaged,
        Self::Conflict,
        Self::Refused,
        Self::RolledBack,
        Self::NeedsAttention,
        Self::Due,
        Self::Quarantined,
        Self::NothingToDo,
        Self::NotHeld,
        Self::Interrupted,
        Self::Terminated,
    ];

    /// The one that is told where a command ended in both ways: damage, then what needs a person, then a stop that was
    /// asked for and leaves work undone, then the lowest.
    pub(crate) fn worst(self, other: Self) -> Self {
        let urgency = |exit: &Self| match exit {
            Self::Damaged => 0,
            Self::NeedsAttention => 1,
            Self::Interrupted | Self::Terminated => 2,
            Self::Done => u16::MAX,
            other => 3 + u16::from(other.number()),
        };
        std::cmp::min_by_key(self, other, urgency)
    }

    /// The number that the process returns.
    pub(crate) fn number(self) -> u8 {
        self as u8
    }

    /// The name in JSON output.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::Failed => "failed",
            Self::Usage => "usage",
            Self::NotFound => "not-found",
            Self::Locked => "locked",
            Self::Busy => "busy",
            Self::Damaged => "damaged",
            Self::Conflict => "conflict",
            Self::Refused => "refused",
            Self::RolledBack => "rolled-back",
            Self::NeedsAttention => "needs-attention",
            Self::Due => "due",
            Self::Quarantined => "quarantined",
            Self::NothingToDo => "nothing-to-do",
            Self::NotHeld => "not-held",
            Self::Interrupted => "interrupted",
            Self::Terminated => "terminated",
        }
    }

    /// What it tells a script.
    pub(crate) fn meaning(self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::Failed => "failed; the old state is intact, or the message says what is not",
            Self::Usage => "wrong command line or plan file",
            Self::NotFound => "not found",
            Self::Locked => "wrong passphrase, or the vault is locked",
            Self::Busy => "the vault is busy: another process holds it",
            Self::Damaged => "damaged, tampered with or rolled back",
            Self::Conflict => "conflict: a compare-and-set found another state",
            Self::Refused => "refused before any change",
            Self::RolledBack => "failed and rolled back: everything is as it was",
            Self::NeedsAttention => "needs attention: neither forward nor back without a person",
            Self::Due => "something is due (only with --exit-code)",
            Self::Quarantined => "some values were quarantined or did not open",
            Self::NothingToDo => "there was nothing to do (only with --exit-code)",
            Self::NotHeld => "a target does not hold the current value",
            Self::Interrupted => "interrupted; state kept, the same command goes on",
            Self::Terminated => "terminated; state kept, the same command goes on",
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit.number())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_rise_and_names_differ() {
        for pair in Exit::ALL.windows(2) {
            assert!(pair[0].number() < pair[1].number());
            assert_ne!(pair[0].name(), pair[1].name());
        }
    }

    #[test]
    fn the_worst_of_several_is_told() {
        let order = [
            Exit::Damaged,
            Exit::NeedsAttention,
            Exit::Interrupted,
            Exit::Failed,
            Exit::NotFound,
            Exit::Refused,
            Exit::Quarantined,
            Exit::Done,
        ];
        for (index, worse) in order.into_iter().enumerate() {
            for better in &order[index..] {
                assert_eq!((worse.worst(*better), better.worst(worse)), (worse, worse));
            }
        }
    }
}
