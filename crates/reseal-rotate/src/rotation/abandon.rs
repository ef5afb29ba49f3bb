//! The last way out of a rotation that needs attention: a person takes the place of the state machine.

use reseal_vault::{Event, SecretName, Vault};

use super::action::Action;
use super::owed;
use super::record::{Rotation, State};
use crate::error::RotateError;

/// Gives a rotation up that neither went on nor came back. Nothing outside is touched: what stands there is between the
/// two values, and whoever put it right by hand, or will, says so in `reason`. Both values stay in the history; a pending
/// one waits no longer. The secret is owed a rotation from here on, since both values may be known where they should not.
///
/// # Errors
///
/// [`RotateError::NotAbandoned`] unless a person is needed, and where columns may be under either key;
/// [`RotateError::Vault`].
pub fn abandon(vault: &mut Vault, mut rotation: Rotation, reason: &str) -> Result<Rotation, RotateError> {
    let refused = |why| RotateError::NotAbandoned { secret: rotation.name.clone(), why };
    if rotation.attention.is_none() {
        return Err(refused("it can go on, or be taken back"));
    }
    let may_be_under_either = |action: &Action| matches!(action, Action::Reencrypt { .. });
    if rotation.steps.iter().any(|step| step.is_begun() && may_be_under_either(&step.action)) {
        return Err(refused("values of columns may be under either of its keys"));
    }
    let secret: SecretName = rotation.secret.parse()?;
    rotation.attention = None;
    rotation.failure = Some(format!("abandoned: {reason}"));
    rotation.state = State::Abandoned;
    rotation.forget_kept();
    vault.batch(|batch| -> Result<_, RotateError> {
        if rotation.is_sync {
            rotation.forget(batch)?;
        } else {
            if batch.labels(&secret)?.pending == Some(rotation.to) {
                batch.discard_pending(&secret)?;
            }
            rotation.ended_at = Some(batch.now());
            rotation.store(batch)?;
        }
        owed::put(batch, &secret, "a rotation was abandoned between two values")?;
        Ok(((), rotation.event(Event::done("abandon")).detail(reason)))
    })?;
    Ok(rotation)
}
