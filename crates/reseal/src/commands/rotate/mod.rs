//! `rotate`, `check` and `sync`: credentials at their services, in their files, in their applications.

mod check;
mod drive;
mod due;
mod report;
mod side_by_side;
mod sync;
mod telling;

use std::cell::RefCell;
use std::collections::BTreeSet;

use reseal_crypto::SecretBytes;
use reseal_crypto::random::OsRandom;
use reseal_rotate::plan::{Plan, Strategy};
use reseal_rotate::process::Runner;
use reseal_rotate::rotation::{
    NewValue, Outside, Proposal, Rotation, RotationLock, Step, abandon, latest, owe, owed, rotations,
};
use reseal_rotate::schedule::{due, interval, kept_outputs};
use reseal_rotate::scrub::Known;
use reseal_rotate::{RotateError, VaultCell};
use reseal_vault::{SecretName, Vault};
use serde_json::json;

use super::ends::Ends;
use super::notices::Herald;
use crate::app::App;
use crate::args::{
    CheckArgs, OweArgs, RotateAction, RotateArgs, RotateCommand, RotateNames, SyncArgs, ValueArgs,
};
use crate::exit::Exit;
use crate::failure::{Failure, Outcome};
use crate::input;

/// `rotate`: rehearses, changes, goes on, takes back, ends old values.
///
/// # Errors
///
/// There is no plan, the vault does not open, or another process rotates.
pub(crate) fn run(app: &App, command: &RotateCommand) -> Outcome {
    let plan = app.needed_plan()?;
    let work = Work::new(app, &plan);
    let runtime = app.runtime()?;
    runtime.block_on(async {
        match &command.action {
            None if command.args.dry_run => work.plan_meant(&command.args).await,
            None => work.rotate(&command.args).await,
            Some(RotateAction::Plan(which)) => {
                let names = match which.names.as_slice() {
                    [] => work.all_that_reseal_makes()?,
                    names => work.names_or_all(names)?,
                };
                work.plan(&mut app.vault()?, &names).await
            }
            Some(RotateAction::Resume(which)) => work.resume(which).await,
            Some(RotateAction::Rollback(args)) => work.roll_back(args).await,
            Some(RotateAction::Abandon(args)) => work.abandon(args).await,
            Some(RotateAction::Retire(which)) => work.retire(which).await,
            Some(RotateAction::Owe(args)) => work.owe(args).await,
            Some(RotateAction::Status(which)) => work.status(which),
        }
    })
}

/// `check`: is the plan true now?
///
/// # Errors
///
/// There is no plan, or the vault does not open.
pub(crate) fn check(app: &App, args: &CheckArgs) -> Outcome {
    let plan = app.needed_plan()?;
    let runtime = app.runtime()?;
    runtime.block_on(Work::new(app, &plan).check(&args.names))
}

/// `sync`: makes the plan true with the current values.
///
/// # Errors
///
/// There is no plan, the vault does not open, or another process rotates.
pub(crate) fn sync(app: &App, args: &SyncArgs) -> Outcome {
    let plan = app.needed_plan()?;
    let runtime = app.runtime()?;
    runtime.block_on(Work::new(app, &plan).sync(args))
}

/// One invocation of `rotate`.
#[derive(Debug)]
struct Work<'a> {
    app: &'a App,
    plan: &'a Plan,
    /// Runs what the plan names; made once the vault is open. All that share it learn of new values as they are drawn.
    runner: RefCell<Option<Runner>>,
    /// The secrets of which a step failed, also while they are being taken back.
    failing: RefCell<BTreeSet<String>>,
}

/// Longer values are files as a rule: no line of a log is one.
const LONGEST_MASKED: usize = 16 << 10;

/// The secrets that are meant, and how the value of one is brought.
struct Meant {
    names: Vec<String>,
    value: Option<ValueArgs>,
}

impl<'a> Work<'a> {
    fn new(app: &'a App, plan: &'a Plan) -> Self {
        Self { app, plan, runner: RefCell::default(), failing: RefCell::default() }
    }

    /// Rehearses what `rotate` would do.
    async fn plan_meant(&self, args: &RotateArgs) -> Outcome {
        if !args.due {
            let names = self.meant(args)?.names;
            return self.plan(&mut self.app.vault()?, &names).await;
        }
        let mut vault = self.app.vault()?;
        let names = self.due_now(&mut vault)?.names;
        self.plan(&mut vault, &names).await
    }

    /// Rehearses each: nothing is written but what the audit log says about released values.
    async fn plan(&self, vault: &mut Vault, names: &[String]) -> Outcome {
        let kept = kept_outputs(self.plan, vault)?;
        let vault = VaultCell::new(vault);
        let mut ends = Ends::new(self.app.ui, "secrets");
        for name in names {
            match self.rehearse(&vault, name, NewValue::Drawn, None).await {
                Ok((proposal, _)) => {
                    let kept: Vec<_> = kept.iter().filter(|kept| kept.secrets.contains(name)).collect();
                    ends.told(Exit::Done, report::proposal_object(&proposal, &kept), || {
                        report::proposal_words(&proposal, &kept)
                    });
                }
                Err(error) => ends.failed(name, &self.failed(name, error)),
            }
        }
        ends.end()
    }

    /// A rotation that would work, and the world that knows how it was before. One that is to begin says by its arguments where
    /// the second copy of a new key comes from.
    async fn rehearse(
        &self,
        vault: &VaultCell<'_>,
        name: &str,
        new: NewValue,
        args: Option<&RotateArgs>,
    ) -> Result<(Proposal, Outside<'a>), RotateError> {
        let emergency = args.is_some_and(|args| args.emergency);
        let mut proposal = Proposal::draft(self.plan, vault, name, new, emergency, &OsRandom).await?;
        if let Some(args) = args {
            proposal.set_key_copy(&drive::key_copy(args))?;
        }
        let mut outside = vault.with(|vault| self.outside(vault, name, proposal.steps()))?;
        proposal.rehearse(&mut outside).await?;
        outside.notes().iter().for_each(|note| self.app.ui.note(format!("{name}: {note}")));
        Ok((proposal, outside))
    }

    async fn abandon(&self, args: &OweArgs) -> Outcome {
        let mut vault = self.app.vault()?;
        let (meant, _) = self.to_abandon(&mut vault, args)?;
        drop(vault);
        let meant: Vec<&str> = meant.iter().flatten().map(|rotation| rotation.name.as_str()).collect();
        if !meant.is_empty() {
            let question = format!("Give up the rotation of {} between its two values?", meant.join(", "));
            self.app.asker().confirm(&question)?;
        }
        let mut vault = self.app.vault()?;
        vault.set_reason(Some(args.reason.clone()));
        let _lock = RotationLock::take(&vault)?;
        let herald = Herald::of(self.app.ui, self.plan, &mut vault)?;
        let mut ends = Ends::new(self.app.ui, "rotations");
        let (rounds, never) = self.to_abandon(&mut vault, args)?;
        for name in never {
            ends.failed(&name, &Failure::new(Exit::NotFound, format!("`{name}` was never rotated")));
        }
        for round in rounds {
            let names: Vec<_> = round.iter().map(|one| one.name.clone()).collect();
            self.note_together(&names);
            match abandon(&mut vault, round, &args.reason) {
                Ok(round) => {
                    for rotation in round {
                        let secret: SecretName = rotation.secret.parse()?;
                        let current = vault.show(&secret)?.labels.current;
                        herald.send(telling::owed(self.plan, &rotation.name, &args.reason));
                        ends.told(Exit::Done, report::rotation_object(&rotation), || {
                            report::abandoned_words(&rotation, current)
                        });
                    }
                }
                Err(error) => ends.failed(&names.join(", "), &Failure::from(error)),
            }
        }
        herald.end(&mut vault).await;
        ends.end()
    }

    /// The rotations that are meant, each with the others of its round; and the names of those that were never rotated.
    fn to_abandon(
        &self,
        vault: &mut Vault,
        args: &OweArgs,
    ) -> Result<(Vec<Vec<Rotation>>, Vec<String>), Failure> {
        let open = self.open(vault, self.names_or_all(&args.names)?)?;
        let (mut rounds, mut never) = (open.rounds, Vec::new());
        for name in open.others {
            match latest(vault, &self.plan.secret_name(&name))? {
                Some(last) => rounds.push(vec![last]),
                None => never.push(name),
            }
        }
        Ok((rounds, never))
    }

    async fn owe(&self, args: &OweArgs) -> Outcome {
        let mut vault = self.app.vault()?;
        let herald = Herald::of(self.app.ui, self.plan, &mut vault)?;
        let mut ends = Ends::new(self.app.ui, "owed");
        for name in &args.names {
            let short = self.short_name(name)?;
            let secret: SecretName = self.plan.secret_name(short).parse()?;
            owe(&mut vault, &secret, &args.reason)?;
            herald.send(telling::owed(self.plan, short, &args.reason));
            ends.told(
                Exit::Done,
                json!({ "name": name, "secret": secret.as_str(), "reason": args.reason }),
                || format!("{name} is due at once: {}", args.reason),
            );
        }
        herald.end(&mut vault).await;
        ends.end()
    }

    fn status(&self, which: &RotateNames) -> Outcome {
        let mut vault = self.app.vault()?;
        let known = rotations(&mut vault)?;
        let owed = owed(&mut vault)?;
        let mut ends = Ends::new(self.app.ui, "secrets");
        let mut table = report::status_table();
        let mut stuck = Vec::new();
        for name in self.names_or_all(&which.names)? {
            let secret = self.plan.secret_name(&name);
            let last = known.iter().rfind(|rotation| rotation.secret == secret);
            let owed = owed.iter().find(|owed| owed.secret == secret);
            let every = interval(self.plan, &name)?;
            let due = due(self.plan, &mut vault, &name)?;
            let stands = report::Stands { name: &name, every, due, last, owed };
            report::status_row(&mut table, &stands);
            stuck.extend(last.and_then(report::stuck_words));
            ends.told(Exit::Done, report::status_object(&stands), String::new);
        }
        if !self.app.ui.is_json() && !table.is_empty() {
            self.app.ui.line(table.to_string().trim_end())?;
            stuck.iter().try_for_each(|words| self.app.ui.line(words))?;
        }
        ends.end()
    }

    fn outside(&self, vault: &mut Vault, name: &str, steps: &[Step]) -> Result<Outside<'a>, RotateError> {
        let runner = self.runner(vault)?;
        Outside::new(self.plan, vault, name, steps, runner)
    }

    /// What a check shows of a file or a log may hold any value of the plan.
    fn runner(&self, vault: &mut Vault) -> Result<Runner, RotateError> {
        if let Some(runner) = &*self.runner.borrow() {
            return Ok(runner.clone());
        }
        let names =
            self.plan.names_in_vault().iter().map(|name| name.parse()).collect::<Result<Vec<_>, _>>()?;
        let to_mask = vault.get_to_mask(&names, LONGEST_MASKED)?;
        for name in &to_mask.unread {
            self.app.ui.warn(format!(
                "`{name}` cannot be read, so its values are not masked in what commands print; `reseal audit verify` says what was changed"
            ));
        }
        let runner = Runner::new(self.plan.directory(), std::env::vars_os(), Known::default());
        runner.hide(&to_mask.values);
        Ok(self.runner.borrow_mut().insert(runner).clone())
    }

    /// What `rotate NAME… [-]` means.
    fn meant(&self, args: &RotateArgs) -> Outcome<Meant> {
        let mut names = Vec::new();
        for name in args.names.iter().filter(|name| *name != "-") {
            names.push(self.short_name(name)?.to_owned());
        }
        if args.all {
            names = self.all_that_reseal_makes()?;
            names.retain(|name| {
                let is_key = self.strategy(name) == Some(Strategy::Columns);
                if is_key {
                    self.app.ui.note(format!("{name} is left out: columns are re-encrypted by name only"));
                }
                !is_key
            });
        }
        let stdin = (names.len() < args.names.len()).then(|| "-".to_owned());
        let value = ValueArgs { stdin, value_file: args.value_file.clone(), value_fd: args.value_fd };
        let ways =
            [value.stdin.is_some(), value.value_file.is_some(), value.value_fd.is_some()].map(usize::from);
        match (ways.iter().sum::<usize>(), names.len()) {
            (0, 1..) => Ok(Meant { names, value: None }),
            (1, 1) => Ok(Meant { names, value: Some(value) }),
            (0, 0) if args.all => {
                Err(Failure::new(Exit::NotFound, "the plan has no secret that reseal makes values of"))
            }
            (0 | 1, 0) => Err(Failure::new(Exit::Usage, "no secret is named")),
            (1, _) => Err(Failure::new(Exit::Usage, "one value is for one secret")),
            _ => Err(Failure::new(Exit::Usage, "one way to bring the value is enough")),
        }
    }

    fn all_that_reseal_makes(&self) -> Outcome<Vec<String>> {
        let mut names = Vec::new();
        for name in self.plan.file.secrets.keys() {
            if matches!(self.strategy(name), Some(Strategy::Paste | Strategy::Issue)) {
                self.app.ui.note(format!("{name} is left out: reseal does not make its value"));
            } else {
                names.push(name.clone());
            }
        }
        if names.is_empty() {
            return Err(Failure::new(Exit::NotFound, "the plan has no secret that reseal makes values of"));
        }
        Ok(names)
    }

    fn strategy(&self, name: &str) -> Option<Strategy> {
        self.plan.secret(name).ok().and_then(|secret| secret.strategy)
    }

    fn names_or_all(&self, names: &[String]) -> Outcome<Vec<String>> {
        if names.is_empty() {
            return Ok(self.plan.file.secrets.keys().cloned().collect());
        }
        names.iter().map(|name| self.short_name(name).map(str::to_owned)).collect()
    }

    /// The name in the plan; the name in the vault will do as well.
    fn short_name<'n>(&self, name: &'n str) -> Outcome<&'n str> {
        let short = name.strip_prefix(&self.plan.file.prefix).unwrap_or(name);
        let known = [name, short].into_iter().find(|name| self.plan.file.secrets.contains_key(*name));
        known.ok_or_else(|| match self.plan.secret(name) {
            Err(error) => error.into(),
            Ok(_) => Failure::new(Exit::NotFound, format!("the plan has no secret `{name}`")),
        })
    }

    fn imposed(&self, name: &str, args: &ValueArgs) -> Outcome<SecretBytes> {
        input::check_value_args(args, self.app.global.opener()?.as_ref())?;
        input::read_value(args, self.app.asker(), name)
    }

    fn failed(&self, name: &str, error: RotateError) -> Failure {
        let interrupted = matches!(error, RotateError::Interrupted { .. });
        let failure = Failure::from(error).while_doing(format!("cannot rotate `{name}`"));
        match self.app.signals.exit() {
            Some(exit) if interrupted => failure.with_exit(exit),
            _ => failure,
        }
    }
}
