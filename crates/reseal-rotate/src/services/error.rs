//! What a service can say against a change.

use reseal_crypto::random::RandomError;

use crate::error::ErrorKind;

/// Why something at a service was not done. Messages name nodes, users and the server's reasons, never values.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ServiceError {
    /// The address of the plan cannot be used.
    #[error("the address of `{node}` cannot be used: {reason}")]
    Address {
        /// The node.
        node: String,
        /// Why not.
        reason: String,
    },
    /// The server cannot be reached, or does not answer.
    #[error("`{node}` cannot be reached: {reason}")]
    Unreachable {
        /// The node.
        node: String,
        /// Why not.
        reason: String,
    },
    /// The server does not let in the user that was to change something.
    #[error("`{node}` refuses the login of `{user}`")]
    LoginRefused {
        /// The node.
        node: String,
        /// Who was refused.
        user: String,
    },
    /// The server lets in whoever asks (`trust`, `nopass`), so that no login proves a value.
    #[error("`{node}` lets `{user}` in with any value")]
    AcceptsAnything {
        /// The node.
        node: String,
        /// Who is let in.
        user: String,
    },
    /// There is no such user.
    #[error("`{node}` has no user `{user}`")]
    NoUser {
        /// The node.
        node: String,
        /// The user.
        user: String,
    },
    /// Whoever is logged in may not do this.
    #[error("`{node}` does not allow it: {needs}")]
    Rights {
        /// The node.
        node: String,
        /// What is missing.
        needs: String,
    },
    /// The service does not take this value; another may do.
    #[error("`{node}` does not take the new value for `{user}`: {reason}")]
    Policy {
        /// The node.
        node: String,
        /// Whose value it was to be.
        user: String,
        /// The server's reason.
        reason: String,
    },
    /// The node takes its users from another one.
    #[error("`{node}` is a standby: it takes its roles from its primary")]
    Standby {
        /// The node.
        node: String,
    },
    /// The server keeps one value per user.
    #[error("`{node}` cannot hold two values for one user")]
    NoOverlap {
        /// The node.
        node: String,
    },
    /// The change is made, but not in the files that the server starts from.
    #[error("`{node}` has the new value in memory only: {reason}")]
    NotPersistent {
        /// The node.
        node: String,
        /// Why it could not be written.
        reason: String,
    },
    /// Two login roles cannot stand for each other.
    #[error("`{node}`: `{idle}` cannot take the place of `{active}`: {reason}")]
    NotAlike {
        /// The node.
        node: String,
        /// The role that is to be logged in with.
        idle: String,
        /// The role that is logged in with now.
        active: String,
        /// What stands against it.
        reason: String,
    },
    /// Anything else that a server reported.
    #[error("`{node}`: cannot {doing}: {reason}")]
    Failed {
        /// The node.
        node: String,
        /// What was tried.
        doing: &'static str,
        /// The server's code or reason.
        reason: String,
    },
    /// The system's generator failed.
    #[error("no random bytes for a wrong value")]
    Random,
}

impl From<RandomError> for ServiceError {
    fn from(_: RandomError) -> Self {
        Self::Random
    }
}

impl ServiceError {
    /// An address that cannot be used.
    pub(super) fn address(node: &str, reason: impl Into<String>) -> Self {
        Self::Address { node: node.to_owned(), reason: reason.into() }
    }

    /// What kind of failure this is.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Address { .. } => ErrorKind::Usage,
            Self::NoUser { .. } => ErrorKind::NotFound,
            Self::LoginRefused { .. }
            | Self::AcceptsAnything { .. }
            | Self::Rights { .. }
            | Self::Policy { .. }
            | Self::Standby { .. }
            | Self::NoOverlap { .. }
            | Self::NotAlike { .. } => ErrorKind::Refused,
            Self::Unreachable { .. } | Self::NotPersistent { .. } | Self::Failed { .. } | Self::Random => {
                ErrorKind::Failed
            }
        }
    }

    /// Whether another value may be taken: the only error that calls for one.
    pub fn wants_another_value(&self) -> bool {
        matches!(self, Self::Policy { .. })
    }

    /// What is safe to do next, as a sentence.
    pub fn hint(&self) -> Option<String> {
        let hint = match self {
            Self::LoginRefused { user, .. } => {
                format!("the value that the vault holds for `{user}` is not the server's; store the right one with `reseal put`")
            }
            Self::AcceptsAnything { .. } => {
                "ask for a password there (`pg_hba.conf`, `ACL SETUSER`), or give the address that applications use".into()
            }
            Self::Rights { .. } => {
                "name a role that may, with `admin = { user = \"…\", login = \"secret:…\" }` at the server".into()
            }
            Self::Standby { .. } => "leave it out of `nodes`: what changes at the primary changes there".into(),
            Self::NoOverlap { .. } => "write strategy = \"in-place\" for this secret".into(),
            Self::NotPersistent { .. } => {
                "do not restart the server: the old value would be back; let it write its files, or start it with the new value"
                    .into()
            }
            Self::NoUser { user, .. } => format!("create `{user}` first, or correct its name in the plan"),
            _ => return None,
        };
        Some(hint)
    }
}
