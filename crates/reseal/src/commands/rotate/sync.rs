//! `sync`: the current values, where the plan wants them. Several secrets go as one round, and so do all commands that are
//! given to one of them later.

use std::collections::BTreeSet;

use reseal_rotate::RotateError;
use reseal_rotate::rotation::{
    Claim, Outside, Rotation, RotationLock, Round, Step, Sync, Told, rotations, round_of,
};
use reseal_vault::Vault;
use serde_json::json;

use super::drive::{Order, blocks_the_next, tell_step};
use super::{Ends, Work, report, telling};
use crate::args::SyncArgs;
use crate::commands::notices::Herald;
use crate::exit::Exit;
use crate::failure::{Failure, Outcome};

/// What there is to do about secrets that are named.
pub(super) struct Open {
    /// Syncs that are not over, by the round in which they began.
    pub(super) rounds: Vec<Vec<Rotation>>,
    /// All other secrets, by their names in the plan.
    pub(super) others: Vec<String>,
}

/// A sync that would be possible, and the world that knows how it was before.
type Rehearsed<'a> = (Sync, Outside<'a>);

impl<'a> Work<'a> {
    pub(super) async fn sync(&self, args: &SyncArgs) -> Outcome {
        let mut vault = self.app.vault()?;
        vault.set_reason(args.reason.clone());
        let _lock = if args.dry_run { None } else { Some(RotationLock::take(&vault)?) };
        let mut ends = Ends::new(self.app.ui, "secrets");
        let names: BTreeSet<_> = self.names_or_all(&args.names)?.into_iter().collect();
        let open = self.open(&mut vault, names)?;
        if args.dry_run {
            open.rounds.iter().flatten().for_each(|sync| tell_interrupted(&mut ends, sync));
            for (sync, _) in self.rehearsed(&mut vault, &open.others, &mut ends).await {
                ends.told(Exit::Done, report::sync_object(&sync), || report::sync_steps(&sync));
            }
            return ends.end();
        }
        let herald = Herald::of(self.app.ui, self.plan, &mut vault)?;
        self.sync_all(&mut vault, open, args, &mut ends, &herald).await;
        herald.end(&mut vault).await;
        ends.end()
    }

    /// What was interrupted comes first, and nothing is begun beside what did not come to its end.
    async fn sync_all(
        &self,
        vault: &mut Vault,
        Open { rounds, others }: Open,
        args: &SyncArgs,
        ends: &mut Ends,
        herald: &Herald,
    ) {
        for round in rounds {
            self.go_on_together(vault, round, Order::GoOn, ends, herald).await;
        }
        if let Some(exit) = self.app.signals.exit() {
            ends.worsen(exit);
        }
        if blocks_the_next(ends.exit()) {
            others.iter().for_each(|name| self.app.ui.warn(format!("not begun: {name}")));
            return;
        }
        // All of them are looked at and rehearsed before the first changes anything.
        let rehearsed = self.rehearsed(vault, &others, ends).await;
        if ends.exit() != Exit::Done || rehearsed.is_empty() {
            return;
        }
        let names = rehearsed.iter().map(|(sync, _)| sync.name().to_owned()).collect();
        match Round::begin(vault, rehearsed, args.reason.as_deref()) {
            Ok(round) => self.drive_round(vault, round, Order::GoOn, ends, herald).await,
            Err(error) => self.not_driven(names, error, ends),
        }
    }

    /// The rounds of these secrets that are not over, with all that belong to them, and the secrets without one.
    pub(super) fn open(
        &self,
        vault: &mut Vault,
        names: impl IntoIterator<Item = String>,
    ) -> Result<Open, RotateError> {
        let all = rotations(vault)?;
        let (mut rounds, mut others): (Vec<Vec<Rotation>>, Vec<String>) = (Vec::new(), Vec::new());
        for name in names {
            let secret = self.plan.secret_name(&name);
            let is_found = rounds.iter().flatten().any(|sync| sync.secret == secret);
            match all.iter().find(|one| one.is_sync && one.secret == secret) {
                Some(_) if is_found => {}
                Some(sync) => rounds.push(round_of(&all, sync)),
                None => others.push(name),
            }
        }
        Ok(Open { rounds, others })
    }

    /// Gives an order to every sync of a round that is not over.
    pub(super) async fn go_on_together(
        &self,
        vault: &mut Vault,
        round: Vec<Rotation>,
        order: Order,
        ends: &mut Ends,
        herald: &Herald,
    ) {
        let names: Vec<_> = round.iter().map(|sync| sync.name.clone()).collect();
        if blocks_the_next(ends.exit()) {
            names.iter().for_each(|name| self.app.ui.warn(format!("not begun: {name}")));
            return;
        }
        self.note_together(&names);
        match self.round(vault, round) {
            Ok(round) => self.drive_round(vault, round, order, ends, herald).await,
            Err(error) => self.not_driven(names, error, ends),
        }
    }

    /// Says which syncs go together; most go alone.
    pub(super) fn note_together(&self, names: &[String]) {
        if names.len() > 1 {
            self.app.ui.note(format!("{} were begun as one, and go together", names.join(", ")));
        }
    }

    fn round(&self, vault: &mut Vault, round: Vec<Rotation>) -> Result<Round<'a>, RotateError> {
        let mut syncs = Vec::new();
        for rotation in round {
            self.note_changed_plan(&rotation)?;
            let outside = self.outside(vault, &rotation.name, &rotation.steps)?;
            syncs.push((rotation, outside));
        }
        Round::of(vault, syncs)
    }

    /// Brings all of them out, or back, together: a check may need more than one of the values.
    async fn drive_round(
        &self,
        vault: &mut Vault,
        mut round: Round<'a>,
        order: Order,
        ends: &mut Ends,
        herald: &Herald,
    ) {
        round.values().for_each(|values| herald.know(values));
        // From here on there is a clean place to stop at.
        self.app.signals.take_over();
        let (cancel, ui) = (self.cancel_token(), self.app.ui);
        let mut watch = |name: &str, step: &Step, told: Told<'_>| tell_step(ui, name, step, told);
        let ended = if order == Order::RollBack {
            round.roll_back(vault, &cancel, &mut watch).await
        } else {
            round.go_on(vault, &cancel, &mut watch).await
        };
        self.app.signals.give_back();
        let ended = match ended {
            Ok(ended) => ended,
            Err(error) => {
                let names = round.rotations().map(|one| one.name.clone()).collect();
                return self.not_driven(names, error, ends);
            }
        };
        for (rotation, ended) in round.rotations().zip(ended) {
            telling::ended(self.plan, rotation, &ended).into_iter().for_each(|notice| herald.send(notice));
            self.tell(rotation, &ended, order, ends);
        }
    }

    /// What is to be done, rehearsed; what is true already, and what cannot be made so, is told.
    async fn rehearsed(&self, vault: &mut Vault, names: &[String], ends: &mut Ends) -> Vec<Rehearsed<'a>> {
        let mut rehearsed = Vec::new();
        for name in names {
            match self.rehearse_sync(vault, name).await {
                Ok(Some(one)) => rehearsed.push(one),
                Ok(None) => {
                    let object = json!({ "name": name, "steps": [] });
                    ends.told(Exit::Done, object, || format!("{name}: true already"));
                }
                Err(error) => ends.failed(name, &self.not_synced(name, error)),
            }
        }
        rehearsed
    }

    /// `None` where there is nothing to do.
    async fn rehearse_sync(
        &self,
        vault: &mut Vault,
        name: &str,
    ) -> Result<Option<Rehearsed<'a>>, RotateError> {
        let claim = Claim::of(self.plan, vault, name, None)?;
        let mut outside = self.outside(vault, name, claim.steps())?;
        let (sync, found) = Sync::draft(self.plan, claim, &mut outside).await?;
        for finding in found.iter().filter(|finding| !finding.saw.is_empty()) {
            self.app.ui.note(format!(
                "{name}: {} {}: {}",
                finding.subject.name(),
                finding.target,
                finding.saw
            ));
        }
        let Some(mut sync) = sync else { return Ok(None) };
        sync.rehearse(&mut outside).await?;
        Ok(Some((sync, outside)))
    }

    fn not_driven(&self, names: Vec<String>, error: RotateError, ends: &mut Ends) {
        ends.told_only(&self.not_synced(&names.join("`, `"), error));
    }

    fn not_synced(&self, name: &str, error: RotateError) -> Failure {
        let interrupted = matches!(error, RotateError::Interrupted { .. });
        let failure = Failure::from(error).while_doing(format!("cannot sync `{name}`"));
        match self.app.signals.exit() {
            Some(exit) if interrupted => failure.with_exit(exit),
            _ => failure,
        }
    }
}

fn tell_interrupted(ends: &mut Ends, sync: &Rotation) {
    let name = &sync.name;
    ends.told(Exit::Done, report::rotation_object(sync), || {
        format!("{name}: a sync was interrupted: `reseal sync {name}` goes on with it")
    });
}
