//! The way back: which steps are undone, in which order, and what shows that the old value works again.

use std::cmp::Reverse;
use std::collections::BTreeSet;

use crate::rotation::action::{Action, Which};
use crate::rotation::record::{Act, Step, StepState};

/// The steps that may have changed the world, in the order in which they are taken back.
///
/// Where a service holds one value at a time, all files go back first, then the service, then the applications. Where
/// it holds two, applications go back turn by turn while both values work, and the service comes last. Columns go back in
/// the turn in which they came.
pub(super) fn undo_order(steps: &[Step], acts: &[Act]) -> Vec<usize> {
    let holds_one = steps.iter().any(|step| matches!(step.action, Action::SetLogin(_)));
    let rank = |action: &Action| match action {
        Action::RemoveLogin(_) => 0,
        Action::SetLogin(_) => 2,
        Action::BringOver { .. } if holds_one => 3,
        Action::AddLogin(_) => 4,
        _ => 1,
    };
    let mut order: Vec<usize> = (0..steps.len())
        .filter(|&index| {
            let step = &steps[index];
            acts.contains(&step.act) && step.is_begun() && !step.action.is_proof() && !is_kept(step)
        })
        .collect();
    order.sort_by_key(|&index| {
        let step = &steps[index];
        let turn = if holds_one && step.action.is_write() { 0 } else { step.turn };
        (
            step.act == Act::Change,
            rank(&step.action),
            Reverse(turn),
            step.action.follows_files(),
            Reverse(index),
        )
    });
    order
}

/// Whether what a step did stays: it cannot be taken back, or need not. A copy does no harm, a command that came first
/// prepared what did not come to be, and sessions that ended are opened by whoever needs them.
fn is_kept(step: &Step) -> bool {
    step.no_return
        || matches!(
            step.action,
            Action::BackUp { .. }
                | Action::SaveOutput { .. }
                | Action::RunCommand { .. }
                | Action::EndSessions(_)
        )
}

/// What shows that the old value works again wherever the new one may have been.
pub(super) fn proofs_of_old(steps: &[Step], acts: &[Act]) -> Vec<Action> {
    let touched = steps.iter().filter(|step| acts.contains(&step.act) && step.state != StepState::Todo);
    let (mut logins, mut apps) = (Vec::new(), BTreeSet::new());
    for step in touched {
        match &step.action {
            Action::SetLogin(at) | Action::AddLogin(at) | Action::RemoveLogin(at) => {
                logins.push(Action::TestLogin { at: at.of(Which::Old), value: Which::Old, accepted: true });
            }
            Action::BringOver { app } | Action::StopApp { app } => drop(apps.insert(app.clone())),
            _ => {}
        }
    }
    logins.into_iter().chain(apps.into_iter().map(|app| Action::CheckApp { app })).collect()
}
