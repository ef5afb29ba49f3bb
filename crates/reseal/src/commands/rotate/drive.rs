//! The commands that change the world: `rotate`, `resume`, `rollback`, `retire`.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use reseal_engine::CancelToken;
use reseal_rotate::plan::Strategy;
use reseal_rotate::rotation::{
    Action, Ended, KeyCopy, Machine, NewValue, Outside, Rotation, RotationLock, State, Step, Told, latest,
};
use reseal_rotate::{RotateError, VaultCell};
use reseal_vault::{Clock, SystemClock, Vault};

use super::due::DueNow;
use super::{Ends, Meant, Work, report, telling};
use crate::args::{RollbackArgs, RotateArgs, RotateNames};
use crate::commands::notices::Herald;
use crate::exit::Exit;
use crate::failure::{Failure, Outcome};
use crate::ui::Ui;

/// What the state machine is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Order {
    GoOn,
    RollBack,
    Retire,
}

impl Work<'_> {
    pub(super) async fn rotate(&self, args: &RotateArgs) -> Outcome {
        let meant = if args.due { Meant { names: Vec::new(), value: None } } else { self.meant(args)? };
        let mut vault = self.app.vault()?;
        vault.set_reason(args.reason.clone());
        let _lock = RotationLock::take(&vault)?;
        let herald = Herald::of(self.app.ui, self.plan, &mut vault)?;
        let ended = if args.due {
            self.rotate_due(&mut vault, args, &herald).await
        } else {
            let ends = Ends::new(self.app.ui, "rotations");
            self.rotate_meant(&VaultCell::new(&mut vault), meant, args, ends, &herald).await
        };
        herald.end(&mut vault).await;
        ended
    }

    async fn rotate_due(&self, vault: &mut Vault, args: &RotateArgs, herald: &Herald) -> Outcome {
        let due = self.due_now(vault)?;
        let mut ends = Ends::new(self.app.ui, "rotations");
        due.stuck.iter().for_each(|(name, failure)| ends.failed(name, failure));
        let DueNow { names, left, .. } = due;
        let none_left = if names.is_empty() { Exit::NothingToDo } else { Exit::Done };
        if names.is_empty() && ends.exit() == Exit::Done {
            self.app.ui.note("nothing is due that can be rotated now");
        }
        let (vault, meant) = (VaultCell::new(vault), Meant { names, value: None });
        let exit = self.rotate_meant(&vault, meant, args, ends, herald).await?;
        match exit {
            Exit::Done if args.exit_code => Ok(if left > 0 { Exit::Due } else { none_left }),
            exit => Ok(exit),
        }
    }

    async fn rotate_meant(
        &self,
        vault: &VaultCell<'_>,
        Meant { names, value }: Meant,
        args: &RotateArgs,
        mut ends: Ends,
        herald: &Herald,
    ) -> Outcome {
        if args.emergency {
            // Whether or not it then succeeds: a value is in other hands.
            names
                .iter()
                .for_each(|name| herald.send(telling::incident(self.plan, name, args.reason.as_deref())));
        }
        // All of them are rehearsed before the first changes anything.
        let mut rehearsed = Vec::new();
        for name in &names {
            let new = match &value {
                Some(value) => NewValue::Imposed(self.imposed(name, value)?),
                None => vault.with(|vault| self.new_value(vault, name))?,
            };
            match self.rehearse(vault, name, new, Some(args)).await {
                Ok(one) => rehearsed.push(one),
                Err(error) => {
                    let failure = self.failed(name, error);
                    if args.due {
                        herald.send(telling::failed(self.plan, name, &failure));
                    }
                    ends.failed(name, &failure);
                }
            }
        }
        // Who asks for what is due, by a timer more often than not, wants every secret that can be rotated.
        if ends.exit() != Exit::Done && !args.due {
            return ends.end();
        }
        self.rotate_all(vault, rehearsed, args, &mut ends, herald).await?;
        ends.end()
    }

    /// A person is asked for what only a person can bring.
    fn new_value(&self, vault: &mut Vault, name: &str) -> Outcome<NewValue> {
        let secret = self.plan.secret(name)?;
        let full_name = self.plan.secret_name(name).parse()?;
        let is_pending = vault.show(&full_name).is_ok_and(|info| info.labels.pending.is_some());
        if secret.strategy != Some(Strategy::Paste) || is_pending || !self.app.asker().can_ask() {
            return Ok(NewValue::Drawn);
        }
        for line in [secret.how, secret.console].into_iter().flatten() {
            self.app.ui.note(line);
        }
        Ok(NewValue::Imposed(self.app.asker().secret(&format!("New value of {name}"))?))
    }

    pub(super) async fn resume(&self, which: &RotateNames) -> Outcome {
        self.each(which, Order::GoOn, |rotation| rotation.is_unfinished()).await
    }

    pub(super) async fn roll_back(&self, args: &RollbackArgs) -> Outcome {
        let mut vault = self.app.vault()?;
        let open = self.open(&mut vault, self.names_or_all(&args.names)?)?;
        let mut meant: Vec<Rotation> = open.rounds.into_iter().flatten().collect();
        for name in open.others {
            meant.extend(latest(&mut vault, &self.plan.secret_name(&name))?);
        }
        drop(vault);
        if !meant.is_empty() {
            self.app.asker().confirm(&report::rollback_question(&meant))?;
        }
        let which = RotateNames { names: args.names.clone() };
        self.each_with(&which, Order::RollBack, |_| true, args.reason.clone()).await
    }

    pub(super) async fn retire(&self, which: &RotateNames) -> Outcome {
        let now = SystemClock.now();
        let is_due = |rotation: &Rotation| rotation.retire_due().is_some_and(|due| due <= now);
        if which.names.is_empty() {
            return self.each(which, Order::Retire, is_due).await;
        }
        let mut vault = self.app.vault()?;
        for name in self.names_or_all(&which.names)? {
            let Some(last) = latest(&mut vault, &self.plan.secret_name(&name))? else { continue };
            if let Some(due) = last.retire_due().filter(|due| *due > now) {
                let rest = Duration::from_secs(due.0.abs_diff(now.0));
                self.app.asker().confirm(&format!(
                    "The old value of {name} is to work for another {}. End it now?",
                    report::span(rest)
                ))?;
            }
        }
        drop(vault);
        self.each(which, Order::Retire, |_| true).await
    }

    async fn each(
        &self,
        which: &RotateNames,
        order: Order,
        is_concerned: impl Fn(&Rotation) -> bool,
    ) -> Outcome {
        self.each_with(which, order, is_concerned, None).await
    }

    /// Gives an order to the last rotation of every secret that is named, or without names of all that are concerned.
    async fn each_with(
        &self,
        which: &RotateNames,
        order: Order,
        is_concerned: impl Fn(&Rotation) -> bool,
        reason: Option<String>,
    ) -> Outcome {
        let mut vault = self.app.vault()?;
        vault.set_reason(reason);
        let _lock = RotationLock::take(&vault)?;
        let herald = Herald::of(self.app.ui, self.plan, &mut vault)?;
        let mut ends = Ends::new(self.app.ui, "rotations");
        let mut names = self.names_or_all(&which.names)?;
        let mut is_idle = true;
        if order != Order::Retire {
            let open = self.open(&mut vault, names)?;
            is_idle = open.rounds.is_empty();
            for round in open.rounds {
                self.go_on_together(&mut vault, round, order, &mut ends, &herald).await;
            }
            names = open.others;
        }
        let (cell, cancel) = (VaultCell::new(&mut vault), self.cancel_token());
        for name in names {
            let last = cell.with(|vault| latest(vault, &self.plan.secret_name(&name)))?;
            let Some(rotation) = last.filter(|last| !which.names.is_empty() || is_concerned(last)) else {
                if !which.names.is_empty() {
                    ends.failed(&name, &Failure::new(Exit::NotFound, format!("`{name}` was never rotated")));
                }
                continue;
            };
            is_idle = false;
            if blocks_the_next(ends.exit()) {
                self.app.ui.warn(format!("not begun: {name}"));
                continue;
            }
            let outside = cell.with(|vault| self.outside(vault, &name, &rotation.steps));
            let mut outside = match outside {
                Ok(outside) => outside,
                Err(error) => {
                    ends.failed(&name, &self.failed(&name, error));
                    continue;
                }
            };
            outside.remember(&rotation);
            let driven = self.drive(&cell, &mut outside, rotation, order, &cancel, &herald).await;
            self.app.signals.give_back();
            match driven {
                Ok((rotation, ended)) => {
                    telling::ended(self.plan, &rotation, &ended).into_iter().for_each(|one| herald.send(one));
                    self.tell(&rotation, &ended, order, &mut ends);
                }
                Err(error) => {
                    let failure = self.failed(&name, error);
                    herald.send(telling::failed(self.plan, &name, &failure));
                    ends.failed(&name, &failure);
                }
            }
        }
        if is_idle && which.names.is_empty() {
            self.app.ui.note(match order {
                Order::Retire => "no old value is due to end",
                _ => "no rotation is open",
            });
        }
        herald.end(&mut vault).await;
        ends.end()
    }

    /// Lets the state machine do its part. From its first step on a signal only asks, until the caller gives that back.
    pub(super) async fn drive(
        &self,
        vault: &VaultCell<'_>,
        outside: &mut Outside<'_>,
        mut rotation: Rotation,
        order: Order,
        cancel: &CancelToken,
        herald: &Herald,
    ) -> Result<(Rotation, Ended), RotateError> {
        self.note_changed_plan(&rotation)?;
        let values = vault.with(|vault| rotation.values(vault))?;
        herald.know(&values);
        if order == Order::Retire && rotation.state == State::Overlap {
            vault.with(|vault| rotation.check_current(vault, &values))?;
            rotation.rehearse_end(outside, &values).await?;
        }
        let (ui, name) = (self.app.ui, rotation.name.clone());
        let mut stopped = BTreeMap::new();
        let mut watch = |step: &Step, told: Told<'_>| {
            tell_step(ui, &name, step, told);
            match (told, &step.action) {
                (Told::Failed(_), _) => {
                    self.failing.borrow_mut().insert(name.clone());
                }
                (Told::Begun, Action::StopApp { app }) => drop(stopped.insert(app.clone(), Instant::now())),
                (Told::Done, Action::StartApp { app }) => {
                    if let Some(since) = stopped.remove(app) {
                        let still = since.elapsed().as_secs_f64();
                        ui.note(format!("{name}: {app} stood still for {still:.1} s"));
                    }
                }
                _ => {}
            }
        };
        // From here on there is a clean place to stop at.
        self.app.signals.take_over();
        let mut machine = Machine::new(vault, outside, rotation, values, cancel.clone(), &mut watch);
        let ended = match order {
            Order::GoOn => machine.go_on().await,
            Order::RollBack => machine.roll_back().await,
            Order::Retire => machine.retire().await,
        };
        let ended = match ended {
            // No overlap was asked for: the old value ends at once.
            Ok(Ended::Overlap { .. }) if order == Order::GoOn && machine.rotation().overlap == 0 => {
                machine.retire().await
            }
            other => other,
        };
        let rotation = machine.rotation().clone();
        Ok((rotation, ended?))
    }

    pub(super) fn note_changed_plan(&self, rotation: &Rotation) -> Result<(), RotateError> {
        if rotation.plan_changed(self.plan)? {
            self.app.ui.note(format!(
                "{}: the plan file is another than when this rotation began; its steps stay as they were",
                rotation.name
            ));
        }
        Ok(())
    }

    pub(super) fn tell(&self, rotation: &Rotation, ended: &Ended, order: Order, ends: &mut Ends) -> Exit {
        let exit = match (ended, order) {
            (Ended::Done | Ended::Overlap { .. }, _) => Exit::Done,
            (Ended::RolledBack { .. }, Order::RollBack) => Exit::Done,
            (Ended::RolledBack { .. }, _) => Exit::RolledBack,
            (Ended::Refused { .. }, _) => Exit::Refused,
            (Ended::NeedsAttention { .. }, _) => Exit::NeedsAttention,
        };
        if rotation.state == State::Overlap && matches!(ended, Ended::RolledBack { .. }) {
            self.app.ui.note(format!("{}: both values work", rotation.name));
        }
        ends.told(exit, report::rotation_object(rotation), || report::ended_words(rotation, ended));
        exit
    }

    pub(super) fn cancel_token(&self) -> CancelToken {
        let (token, signals, ui) = (CancelToken::default(), self.app.signals.clone(), self.app.ui);
        let asked = token.clone();
        tokio::spawn(async move {
            signals.stopped().await;
            ui.note("stopping after the step in hand");
            asked.cancel();
        });
        token
    }
}

pub(super) fn tell_step(ui: Ui, name: &str, step: &Step, told: Told<'_>) {
    match told {
        Told::Begun => {}
        Told::Done => ui.note(format!("{name}: {} (done)", step.action)),
        Told::Undone => ui.note(format!("{name}: {} (taken back)", step.action)),
        Told::Failed(why) => ui.note(format!("{name}: {} failed: {why}", step.action)),
    }
}

pub(super) fn key_copy(args: &RotateArgs) -> KeyCopy {
    match (&args.backup, &args.no_backup) {
        (Some(file), _) => KeyCopy::BackUp(file.clone()),
        (None, Some(reason)) => KeyCopy::Waived(reason.clone()),
        (None, None) => KeyCopy::Needed,
    }
}

/// Damage, and a state that only a person can leave, block the next change; so does a failure that was taken back.
pub(super) fn blocks_the_next(exit: Exit) -> bool {
    exit != Exit::Done
}
