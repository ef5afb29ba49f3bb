//! `rotate` of several secrets: those that share nothing go side by side, in one thread.

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use reseal_engine::CancelToken;
use reseal_rotate::VaultCell;
use reseal_rotate::process::Runner;
use reseal_rotate::rotation::{Ended, Footprint, NewValue, Outside, Proposal, Queue, Rotation};

use super::drive::{Order, blocks_the_next};
use super::{Ends, Work, telling};
use crate::args::RotateArgs;
use crate::commands::notices::Herald;
use crate::exit::Exit;
use crate::failure::{Failure, Outcome};

/// How often another value is drawn where a service refuses one by its own rules.
const VALUES_MAX: usize = 3;

/// A rotation that was rehearsed, and the world that knows how it was before.
pub(super) type Rehearsed<'a> = (Proposal, Outside<'a>);

/// What all of them have in common.
struct Company<'c, 'v> {
    vault: &'c VaultCell<'v>,
    args: &'c RotateArgs,
    runner: Runner,
    cancel: CancelToken,
    herald: &'c Herald,
}

impl Work<'_> {
    /// Drives rotations that were rehearsed. Once a step of one has failed nothing else begins; what runs comes to its end.
    pub(super) async fn rotate_all(
        &self,
        vault: &VaultCell<'_>,
        rehearsed: Vec<Rehearsed<'_>>,
        args: &RotateArgs,
        ends: &mut Ends,
        herald: &Herald,
    ) -> Outcome<()> {
        if rehearsed.is_empty() {
            return Ok(());
        }
        let footprint =
            |(proposal, _): &Rehearsed<'_>| Footprint::of(self.plan, proposal.name(), proposal.steps());
        let mut queue = Queue::new(&rehearsed.iter().map(footprint).collect::<Vec<_>>());
        // What others show of a log from here on may hold the new values of these.
        let runner = vault.with(|vault| self.runner(vault))?;
        runner.hide(rehearsed.iter().map(|(proposal, _)| &proposal.values().new));
        let company = &Company { vault, args, runner, cancel: self.cancel_token(), herald };
        let mut waiting: Vec<_> = rehearsed.into_iter().map(Some).collect();
        let (mut running, mut so_far) = (FuturesUnordered::new(), Exit::Done);
        loop {
            if queue.is_waiting()
                && let Some(exit) = self.app.signals.exit()
            {
                ends.worsen(exit);
                so_far = so_far.worst(exit);
            }
            while !blocks_the_next(so_far)
                && self.failing.borrow().is_empty()
                && let Some(at) = queue.begin_next()
                && let Some(one) = waiting[at].take()
            {
                let name = one.0.name().to_owned();
                herald.send(telling::before(self.plan, &name, args.reason.as_deref()));
                running.push(async move { (at, self.rotate_one(one, company).await, name) });
            }
            let Some((at, rotated, name)) = running.next().await else { break };
            queue.end(at);
            so_far = so_far.worst(self.tell_rotated(&name, rotated, ends, herald));
        }
        self.app.signals.give_back();
        for (proposal, _) in waiting.into_iter().flatten() {
            self.app.ui.warn(format!("not begun: {}", proposal.name()));
        }
        Ok(())
    }

    /// Drives one, with another value where the service refuses one by its rules.
    async fn rotate_one(
        &self,
        (proposal, outside): Rehearsed<'_>,
        company: &Company<'_, '_>,
    ) -> Result<(Rotation, Ended), Failure> {
        let Company { vault, args, runner, cancel, herald } = company;
        let name = proposal.name().to_owned();
        let failed = |error| self.failed(&name, error);
        let can_draw = proposal.is_drawn();
        let mut rehearsed = (proposal, outside);
        let mut draws = 1;
        loop {
            let (proposal, mut outside) = rehearsed;
            let reason = args.reason.clone();
            vault.with(|vault| outside.log_in_anew(vault, proposal.steps())).map_err(failed)?;
            let (rotation, _) = vault.with(|vault| proposal.begin(vault, reason)).map_err(failed)?;
            let driven = self.drive(vault, &mut outside, rotation, Order::GoOn, cancel, herald).await;
            let (rotation, ended) = driven.map_err(failed)?;
            let is_refused_by_rule = matches!(ended, Ended::RolledBack { by_policy: true, .. });
            if !is_refused_by_rule || !can_draw || draws == VALUES_MAX || cancel.is_cancelled() {
                return Ok((rotation, ended));
            }
            self.app.ui.note(format!("{name}: the service refuses this value; another is drawn"));
            draws += 1;
            rehearsed = self.rehearse(vault, &name, NewValue::Drawn, Some(args)).await.map_err(failed)?;
            runner.hide([&rehearsed.0.values().new]);
            if cancel.is_cancelled() {
                return Ok((rotation, ended));
            }
            self.failing.borrow_mut().remove(&name);
        }
    }

    fn tell_rotated(
        &self,
        name: &str,
        rotated: Result<(Rotation, Ended), Failure>,
        ends: &mut Ends,
        herald: &Herald,
    ) -> Exit {
        match rotated {
            Ok((rotation, ended)) => {
                telling::ended(self.plan, &rotation, &ended).into_iter().for_each(|one| herald.send(one));
                self.tell(&rotation, &ended, Order::GoOn, ends)
            }
            Err(failure) => {
                herald.send(telling::failed(self.plan, name, &failure));
                ends.failed(name, &failure);
                failure.exit()
            }
        }
    }
}
