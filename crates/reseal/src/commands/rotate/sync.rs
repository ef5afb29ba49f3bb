//! `sync`: the current values, where the plan wants them.

use std::collections::BTreeSet;

use reseal_rotate::RotateError;
use reseal_rotate::rotation::{
    Claim, Member, Outside, Rotation, RotationLock, Step, Sync, Told, go_together, latest,
};
use reseal_vault::Vault;
use serde_json::json;

use super::drive::{Order, tell_step};
use super::{Ends, Work, report, telling};
use crate::args::SyncArgs;
use crate::commands::notices::Herald;
use crate::exit::Exit;
use crate::failure::{Failure, Outcome};

/// What is to be done about a secret.
enum Todo<'a> {
    /// It is true already.
    Nothing,
    /// A sync, rehearsed.
    Begin(Box<Sync>, Box<Outside<'a>>),
    /// One that was interrupted.
    GoOn(Box<Rotation>),
}

impl Work<'_> {
    pub(super) async fn sync(&self, args: &SyncArgs) -> Outcome {
        let mut vault = self.app.vault()?;
        vault.set_reason(args.reason.clone());
        let _lock = if args.dry_run { None } else { Some(RotationLock::take(&vault)?) };
        let mut ends = Ends::new(self.app.ui, "secrets");
        // All of them are looked at and rehearsed before the first changes anything.
        let mut todo = Vec::new();
        let names: BTreeSet<_> = self.names_or_all(&args.names)?.into_iter().collect();
        for name in names {
            match self.rehearsed(&mut vault, &name).await {
                Ok(one) => todo.push((name, one)),
                Err(error) => ends.failed(&name, &self.not_synced(&name, error)),
            }
        }
        if args.dry_run {
            todo.iter().for_each(|(name, todo)| tell_todo(&mut ends, name, todo));
        }
        if args.dry_run || ends.exit() != Exit::Done {
            return ends.end();
        }
        let mut herald = Herald::of(self.app.ui, self.plan, &mut vault)?;
        let done = self.sync_all(&mut vault, todo, args, &mut ends, &mut herald).await;
        herald.end(&mut vault).await;
        done?;
        ends.end()
    }

    /// Brings all of them out together: a check may need more than one of the values.
    async fn sync_all(
        &self,
        vault: &mut Vault,
        todo: Vec<(String, Todo<'_>)>,
        args: &SyncArgs,
        ends: &mut Ends,
        herald: &mut Herald,
    ) -> Outcome<()> {
        let (mut names, mut members) = (Vec::new(), Vec::new());
        for (name, todo) in todo {
            match self.begun(vault, &name, todo, args) {
                Ok(Some(member)) => {
                    herald.know(member.values());
                    members.push(member);
                    names.push(name);
                }
                Ok(None) => tell_todo(ends, &name, &Todo::Nothing),
                // Nothing outside has changed yet; those that have begun go on with the next command.
                Err(error) => return Err(self.not_synced(&name, error)),
            }
        }
        if members.is_empty() {
            return Ok(());
        }
        self.app.signals.take_over();
        let (cancel, ui) = (self.cancel_token(), self.app.ui);
        let mut watch = |name: &str, step: &Step, told: Told<'_>| tell_step(ui, name, step, told);
        let ended = go_together(vault, &mut members, &cancel, &mut watch).await;
        self.app.signals.give_back();
        let ended = ended.map_err(|error| self.not_synced(&names.join("`, `"), error))?;
        for (member, ended) in members.iter().zip(ended) {
            let rotation = member.rotation();
            telling::ended(self.plan, rotation, &ended).into_iter().for_each(|notice| herald.send(notice));
            self.tell(rotation, &ended, Order::GoOn, ends);
        }
        Ok(())
    }

    /// A sync that has begun; `None` where there is nothing to do.
    fn begun<'a>(
        &'a self,
        vault: &mut Vault,
        name: &str,
        todo: Todo<'a>,
        args: &SyncArgs,
    ) -> Result<Option<Member<'a>>, RotateError> {
        let (rotation, outside) = match todo {
            Todo::Nothing => return Ok(None),
            Todo::Begin(sync, outside) => (sync.begin(vault, args.reason.clone())?, *outside),
            Todo::GoOn(rotation) => {
                self.note_changed_plan(&rotation)?;
                let mut outside = self.outside(vault, name, &rotation.steps)?;
                outside.remember(&rotation);
                (*rotation, outside)
            }
        };
        Member::new(vault, rotation, outside).map(Some)
    }

    async fn rehearsed(&self, vault: &mut Vault, name: &str) -> Result<Todo<'_>, RotateError> {
        let unfinished = latest(vault, &self.plan.secret_name(name))?.filter(|last| last.is_sync);
        if let Some(rotation) = unfinished {
            return Ok(Todo::GoOn(Box::new(rotation)));
        }
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
        let Some(mut sync) = sync else { return Ok(Todo::Nothing) };
        sync.rehearse(&mut outside).await?;
        Ok(Todo::Begin(Box::new(sync), Box::new(outside)))
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

fn tell_todo(ends: &mut Ends, name: &str, todo: &Todo<'_>) {
    match todo {
        Todo::Nothing => {
            let object = json!({ "name": name, "steps": [] });
            ends.told(Exit::Done, object, || format!("{name}: true already"));
        }
        Todo::Begin(sync, _) => {
            ends.told(Exit::Done, report::sync_object(sync), || report::sync_steps(sync));
        }
        Todo::GoOn(rotation) => {
            ends.told(Exit::Done, report::rotation_object(rotation), || {
                format!("{name}: a sync was interrupted: `reseal sync {name}` goes on with it")
            });
        }
    }
}
