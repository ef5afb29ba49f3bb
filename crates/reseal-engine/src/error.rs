//! What can stop the engine, reduced to what may be shown: no value, no key, no detail line of a database error.

use std::fmt;

use reseal_crypto::random::RandomError;

use crate::finding::Refusal;

/// What kind of failure this is: what an exit code is made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// It did not work; the state is kept and the same call goes on.
    Failed,
    /// The run's own records in the target database were changed by someone else.
    Damaged,
    /// Another run, or another engine on the same run, stands in the way.
    Conflict,
    /// Refused before anything was written.
    Refused,
    /// Only a person can decide what is next.
    NeedsAttention,
    /// Stopped on request; the state is kept.
    Interrupted,
}

/// Why the engine stopped.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EngineError {
    /// The plan or the target does not allow the run; nothing was written.
    #[error("{}", Sentences(.0))]
    Refused(Vec<Refusal>),
    /// The server, or the way to it, failed.
    #[error(transparent)]
    Database(#[from] DatabaseError),
    /// The run's record in the target does not carry this run's MAC.
    #[error("the record of the run in the target database was changed: {0}")]
    Damaged(&'static str),
    /// Someone else holds what this run needs.
    #[error("{0}")]
    Conflict(String),
    /// The run cannot end by itself.
    #[error("{0}")]
    NeedsAttention(String),
    /// More values than the options allow are left as they are: likely the wrong key or format for a part of the table.
    #[error(
        "more than {max} values open under neither key or are not taken by the database; the run stopped, its state is kept"
    )]
    Quarantine {
        /// The limit.
        max: u64,
    },
    /// The database does not hold what was sent; the batch was rolled back.
    #[error("{relation}: the database holds other bytes than were sent ({what}); the batch was rolled back")]
    NotStored {
        /// The table.
        relation: String,
        /// What differs: names a column or a row key, never a value.
        what: String,
    },
    /// A sealed value did not open again to its plaintext; nothing of its batch was written.
    #[error("a value of column `{column}` sealed under the new key did not open again to its plaintext")]
    NotReopened {
        /// The column.
        column: String,
    },
    /// The plan names something that cannot be: a missing key, a codec that does not fit.
    #[error("{0}")]
    Plan(String),
    /// The address of the server, or what it names for TLS, cannot be used. Never repeats the address.
    #[error("{0}")]
    Address(String),
    /// A fault of the engine itself, or of a format; what was committed before stands.
    #[error("internal fault: {0}")]
    Internal(String),
    /// The system's generator failed.
    #[error(transparent)]
    Random(#[from] RandomError),
    /// Stopped on request.
    #[error("interrupted; the state is kept")]
    Interrupted,
}

impl EngineError {
    /// What kind of failure this is.
    pub fn kind(&self) -> ErrorKind {
        match self {
            // Refused too, but what stands in the way may go away by itself.
            Self::Refused(refusals) if refusals.iter().any(Refusal::is_conflict) => ErrorKind::Conflict,
            Self::Refused(_) | Self::Plan(_) | Self::Address(_) => ErrorKind::Refused,
            Self::Damaged(_) => ErrorKind::Damaged,
            Self::Conflict(_) => ErrorKind::Conflict,
            Self::NeedsAttention(_) | Self::Quarantine { .. } => ErrorKind::NeedsAttention,
            Self::Interrupted => ErrorKind::Interrupted,
            Self::Database(_)
            | Self::NotStored { .. }
            | Self::NotReopened { .. }
            | Self::Internal(_)
            | Self::Random(_) => ErrorKind::Failed,
        }
    }

    /// Whether a new connection and another try may help.
    pub fn is_connection(&self) -> bool {
        matches!(self, Self::Database(error) if error.is_connection())
    }

    /// Whether it may be over by itself the next time: a connection, a lock, a cancelled statement.
    pub fn passes_by(&self) -> bool {
        matches!(self, Self::Database(error) if error.passes_by())
    }

    /// Says where the database failed, as a phrase such as `of public.t`; what stands there already is closer.
    #[must_use]
    pub(crate) fn in_place(self, place: impl FnOnce() -> String) -> Self {
        match self {
            Self::Database(mut error) => {
                error.place.get_or_insert_with(place);
                Self::Database(error)
            }
            other => other,
        }
    }
}

struct Sentences<'a>(&'a [Refusal]);

impl fmt::Display for Sentences<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().enumerate().try_for_each(|(index, refusal)| {
            if index > 0 {
                write!(f, "; ")?;
            }
            write!(f, "{refusal}")
        })
    }
}

/// A failure of the database or of the connection to it.
///
/// Keeps the code and what cannot hold a value of a row: of Postgres no detail line, and its message only where it is
/// about connections, rights, names or locks and no function wrote it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "cannot {doing}{}: {message}{}",
    .place.as_deref().map(|place| format!(" {place}")).unwrap_or_default(),
    .code.as_deref().map(|code| format!(" ({code})")).unwrap_or_default()
)]
pub struct DatabaseError {
    /// What the engine was doing, as a phrase that follows "cannot".
    pub doing: &'static str,
    /// Where, as a phrase that follows it: the table, or the address, the database and the role.
    pub place: Option<String>,
    /// SQLSTATE, or the name of a SQLite result code; `None` where the connection itself failed.
    pub code: Option<String>,
    /// The server's message, or our own words where that may hold values of rows.
    pub message: String,
    connection: bool,
}

impl DatabaseError {
    /// An error that the server reported.
    pub fn reported(doing: &'static str, code: impl Into<String>, message: impl Into<String>) -> Self {
        let code = code.into();
        // Class 08: connection exception. 57P0x: shut down, crashed, starting up. 25P03: ended by our own limit on
        // idle transactions. 53300: too many connections.
        let connection =
            code.starts_with("08") || code.starts_with("57P0") || code == "25P03" || code == "53300";
        Self { doing, place: None, code: Some(code), message: message.into(), connection }
    }

    /// A connection that failed or ended.
    pub fn connection(doing: &'static str, message: impl Into<String>) -> Self {
        Self { doing, place: None, code: None, message: message.into(), connection: true }
    }

    /// An answer of the server that makes no sense.
    pub fn protocol(doing: &'static str, message: impl Into<String>) -> Self {
        Self { doing, place: None, code: None, message: message.into(), connection: false }
    }

    /// Whether a new connection may help.
    pub fn is_connection(&self) -> bool {
        self.connection
    }

    /// Whether it may be over by itself: a connection that a new one replaces, a lock, a deadlock, a cancelled statement.
    pub fn passes_by(&self) -> bool {
        self.connection
            || ["40001", "40P01", "55P03", "57014", "SQLITE_BUSY"].iter().any(|code| self.has_code(code))
    }

    /// Whether the server reported this code.
    pub fn has_code(&self, code: &str) -> bool {
        self.code.as_deref() == Some(code)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lost_connections_are_told_from_refusals() {
        for (code, lost) in
            [("08006", true), ("57P01", true), ("25P03", true), ("53300", true), ("25006", false)]
        {
            assert_eq!(DatabaseError::reported("write rows", code, "").is_connection(), lost, "{code}");
        }
    }

    #[test]
    fn what_passes_by_is_told_from_what_has_to_be_mended() {
        for (code, passes) in
            [("08006", true), ("55P03", true), ("57014", true), ("23503", false), ("P0001", false)]
        {
            let error = EngineError::from(DatabaseError::reported("write rows", code, "why"));
            assert_eq!(error.passes_by(), passes, "{code}");
            let placed = error.in_place(|| "of public.t".into()).in_place(|| "of another".into());
            assert_eq!(placed.to_string(), format!("cannot write rows of public.t: why ({code})"));
        }
    }

    #[test]
    fn fault_of_the_engine_is_no_refusal() {
        assert_eq!(EngineError::Internal("a fault".into()).kind(), ErrorKind::Failed);
    }
}
