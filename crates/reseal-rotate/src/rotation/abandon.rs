//! The last way out of a rotation that needs attention: a person takes the place of the state machine.

use reseal_vault::{Event, SecretName, Vault, VaultBatch};

use super::owed;
use super::record::{Act, Rotation, State};
use crate::error::RotateError;

/// Gives up a rotation that neither went on nor came back, or a whole round of syncs, as [`round_of`](super::round_of)
/// finds it. Nothing outside is touched: what stands there is between the two values, and whoever put it right by hand, or
/// will, says so in `reason`. Both values stay in the history. A pending one waits no longer: past the point of no return it
/// becomes the current one, since it is everywhere, unless the rotation was on its way back. The secret is owed a rotation
/// from here on, since both values may be known where they should not.
///
/// # Errors
///
/// [`RotateError::NothingToAbandon`] once it is over; [`RotateError::NotAbandoned`] unless a person is needed, and where
/// columns may be under either key; [`RotateError::Vault`]. Then nothing of it is given up.
pub fn abandon(
    vault: &mut Vault,
    mut round: Vec<Rotation>,
    reason: &str,
) -> Result<Vec<Rotation>, RotateError> {
    round.iter().try_for_each(check)?;
    let Some((last, others)) = round.split_last_mut() else { return Ok(round) };
    vault.batch(|batch| -> Result<_, RotateError> {
        for rotation in others {
            let event = give_up(batch, rotation, reason)?;
            batch.audit(event)?;
        }
        Ok(((), give_up(batch, last, reason)?))
    })?;
    Ok(round)
}

fn check(rotation: &Rotation) -> Result<(), RotateError> {
    let refused = |why| Err(RotateError::NotAbandoned { secret: rotation.name.clone(), why });
    if !rotation.is_unfinished() {
        return Err(RotateError::NothingToAbandon { secret: rotation.name.clone() });
    }
    if rotation.attention.is_none() {
        return refused("it can go on, or be taken back");
    }
    // However far it came: the run belongs to it, and applications may have written under the new key.
    if rotation.steps.iter().any(|step| step.action.columns().is_some()) {
        return refused("values of columns may be under either of its keys");
    }
    Ok(())
}

fn give_up(
    batch: &mut VaultBatch<'_, '_>,
    rotation: &mut Rotation,
    reason: &str,
) -> Result<Event, RotateError> {
    let secret: SecretName = rotation.secret.parse()?;
    // A step without return stays done on the way back, too.
    let is_new_everywhere = rotation.state == State::Changing && rotation.past_return(Act::Change).is_some();
    rotation.attention = None;
    rotation.failure = Some(format!("abandoned: {reason}"));
    rotation.state = State::Abandoned;
    rotation.forget_kept();
    if rotation.is_sync {
        rotation.forget(batch)?;
    } else {
        if batch.labels(&secret)?.pending == Some(rotation.to) {
            match is_new_everywhere {
                true => batch.promote(&secret)?,
                false => batch.discard_pending(&secret)?,
            };
        }
        rotation.ended_at = Some(batch.now());
        rotation.store(batch)?;
    }
    owed::put(batch, &secret, "a rotation was abandoned between two values")?;
    Ok(rotation.event(Event::done("abandon")).detail(reason))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn rotation(attention: Option<&str>, action: Value) -> Rotation {
        let step = json!({ "act": "change", "phase": "set", "turn": 0, "action": action, "state": "done" });
        let rotation = json!({
            "number": 1, "secret": "crm/key", "name": "key", "strategy": "in-place", "from": 1, "to": 2,
            "state": "changing", "attention": attention, "begun_at": 0, "overlap": 0,
            "plan_digest": "", "steps": [step], "epoch": 1,
        });
        serde_json::from_value(rotation).expect("a record")
    }

    #[track_caller]
    fn is_refused(rotation: &Rotation, expected: &str) {
        let refused = check(rotation).expect_err("is not to be abandoned").to_string();
        assert!(refused.contains("`key`") && refused.contains(expected), "{refused}");
    }

    #[test]
    fn only_a_rotation_that_waits_for_a_person() {
        let backup = json!({ "do": "back-up", "file": "copy.vault" });
        is_refused(&rotation(None, backup.clone()), "it can go on, or be taken back");
        let mut over = rotation(None, backup.clone());
        over.state = State::RolledBack;
        is_refused(&over, "is over");
        check(&rotation(Some("the disk is full"), backup)).expect("a person decides");
    }

    #[test]
    fn keys_of_columns_are_never_abandoned() {
        let reencrypt = json!({ "do": "reencrypt", "columns": "prefs", "stopped": [] });
        for action in [reencrypt, json!({ "do": "admit-key", "columns": "prefs" })] {
            is_refused(&rotation(Some("the server is down"), action), "under either of its keys");
        }
    }
}
