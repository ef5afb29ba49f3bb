//! The seam between the state machine and the world.

use std::io::Read;

use async_trait::async_trait;
use reseal_crypto::SecretBytes;
use reseal_engine::CancelToken;

use super::action::{Action, Field, TakesTurns, Which};
use super::left::LeftOver;
use crate::destinations::DestinationError;
pub use crate::destinations::Standing;
use crate::services::{Exchange, ServiceError};
use crate::vault_cell::VaultCell;

/// The values of a rotation.
#[derive(Debug, Clone)]
pub struct Values {
    /// What was current when it began.
    pub old: SecretBytes,
    /// What it brings out.
    pub new: SecretBytes,
    left: Vec<SecretBytes>,
    nothing: SecretBytes,
    /// The roles that old and new let in, where a place holds them too.
    users: Option<[String; 2]>,
}

impl Values {
    /// Old and new.
    pub fn new(old: SecretBytes, new: SecretBytes) -> Self {
        Self { old, new, left: Vec::new(), nothing: SecretBytes::default(), users: None }
    }

    /// The values of two roles that take turns, if there are such.
    #[must_use]
    pub(super) fn of_turn(self, turn: Option<&TakesTurns>) -> Self {
        Self { users: turn.map(|turn| [turn.active.clone(), turn.idle.clone()]), ..self }
    }

    /// With what abandoned rotations left.
    #[must_use]
    pub(super) fn with_left(self, left: Vec<LeftOver>) -> Self {
        Self { left: left.into_iter().map(|left| left.value).collect(), ..self }
    }

    /// What abandoned rotations left: it ends with the old value, and is refused where that is.
    pub fn left(&self) -> &[SecretBytes] {
        &self.left
    }

    /// All that a service may let in.
    pub fn known(&self) -> impl Iterator<Item = &SecretBytes> {
        [&self.old, &self.new].into_iter().chain(&self.left)
    }

    /// As services take them.
    pub(super) fn exchange(&self) -> Exchange<'_> {
        Exchange { old: &self.old, new: &self.new, left: &self.left }
    }

    /// One of them.
    pub fn get(&self, which: Which) -> &SecretBytes {
        match which {
            Which::Old => &self.old,
            Which::New => &self.new,
            Which::Nothing => &self.nothing,
        }
    }

    /// What of one of them stands in a place.
    pub fn field(&self, which: Which, field: Field) -> SecretBytes {
        let value = self.get(which);
        let user = match (&self.users, which) {
            (Some([old, _]), Which::Old) => old,
            (Some([_, new]), Which::New) => new,
            _ => return value.clone(),
        };
        match field {
            Field::Value => value.clone(),
            Field::User => SecretBytes::copy_from(user.as_bytes()),
            Field::Userinfo => {
                // EXPOSE: put together, and wiped with what it is put into.
                let value = value.expose();
                let mut both = Vec::with_capacity(user.len() + 1 + value.len());
                both.extend_from_slice(user.as_bytes());
                both.push(b':');
                both.extend_from_slice(value);
                SecretBytes::new(both)
            }
        }
    }
}

/// Why a step did not happen, or is not known to have happened. Tells no value.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StepError {
    /// A file or another place.
    #[error(transparent)]
    Destination(#[from] DestinationError),
    /// A service.
    #[error(transparent)]
    Service(#[from] ServiceError),
    /// Anything else, in words.
    #[error("{0}")]
    Failed(String),
}

impl StepError {
    /// Whether the service takes no value like this one, so that another may do.
    pub fn wants_another_value(&self) -> bool {
        matches!(self, Self::Service(error) if error.wants_another_value())
    }

    /// What is safe to do next about a secret, by its names in the plan and in the vault.
    pub(super) fn hint(&self, name: &str, secret: &str) -> Option<String> {
        match self {
            Self::Service(error) => error.hint(),
            Self::Destination(DestinationError::Drifted { .. }) => Some(format!(
                "`reseal check {name}` says what stands where. If the vault is right, `reseal sync {name}` writes its value; \
                 else store the one that is in use first: `reseal put {secret} --vault-only`"
            )),
            _ => None,
        }
    }

    /// Whether nothing is known of the service, because it is not reached.
    pub(super) fn is_unreachable(&self) -> bool {
        matches!(self, Self::Service(ServiceError::Unreachable { .. }) | Self::Failed(_))
    }
}

/// What is done with encrypted columns, whose runs and keys are in the vault.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ColumnWork<'a> {
    /// Put every value under the new key, and prove it.
    Reencrypt {
        /// The columns, by their name in the plan.
        columns: &'a str,
    },
    /// Put every value under the old key again, and prove it.
    TakeBack {
        /// The columns.
        columns: &'a str,
        /// The rotation, by its id in the vault.
        rotation: &'a str,
    },
    /// Show that no value is under the old key.
    Prove {
        /// The columns.
        columns: &'a str,
    },
}

/// What the state machine asks of the world. The world is what is true: after a crash it is probed, and not the journal.
#[async_trait(?Send)]
pub trait Connector {
    /// Reads what [`undo`](Self::undo) will need to bring everything back byte for byte. Changes nothing.
    async fn capture(&mut self, action: &Action, values: &Values) -> Result<SecretBytes, StepError>;

    /// Whether the step is done, seen from outside; `kept` is what was captured before it.
    async fn probe(
        &mut self,
        action: &Action,
        values: &Values,
        kept: &SecretBytes,
    ) -> Result<Standing, StepError>;

    /// Does the step; `kept` is what was captured before it, nothing for a proof. Doing it twice is the same as once.
    async fn apply(&mut self, action: &Action, values: &Values, kept: &SecretBytes) -> Result<(), StepError>;

    /// Does its part with encrypted columns; begun again, it goes on. `cancel` stops it at a place to go on from.
    async fn columns(
        &mut self,
        vault: &VaultCell<'_>,
        work: ColumnWork<'_>,
        cancel: &CancelToken,
    ) -> Result<(), StepError>;

    /// Begins the command of an [`Action::SaveOutput`]. What it writes is read to its end, which comes only if it succeeds.
    async fn output(&mut self, action: &Action, values: &Values) -> Result<Box<dyn Read>, StepError>;

    /// Brings back what was captured, whether the step was done wholly, partly or not at all. Twice is the same as once.
    async fn undo(&mut self, action: &Action, values: &Values, kept: &SecretBytes) -> Result<(), StepError>;
}
