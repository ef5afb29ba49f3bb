//! `reencrypt`: database columns under a new key.

mod drive;
mod failed;
mod progress;
mod report;

use std::sync::Arc;
use std::time::Duration;

use reseal_engine::{CancelToken, QuarantineRecord, RunOptions, Status};
use reseal_rotate::columns::{ColumnRun, DriveOptions, Purpose, RunRecord, records};
use reseal_rotate::plan::Plan;
use reseal_rotate::{RotateError, VaultCell};
use reseal_vault::Vault;
use serde_json::json;

use super::ends::Ends;
use crate::app::App;
use crate::args::{ColumnsArg, ReencryptCommand, RunsArgs};
use crate::exit::Exit;
use crate::failure::{Failure, Outcome};

use progress::Progress;

/// `reencrypt`: looks, runs, goes on, tells, checks, takes back.
///
/// # Errors
///
/// There is no plan, the vault does not open, or the engine stopped.
pub(crate) fn run(app: &App, command: &ReencryptCommand) -> Outcome {
    let plan = app.needed_plan()?;
    let runtime = app.runtime()?;
    let mut vault = app.vault()?;
    let work = Work { app, plan: &plan };
    runtime.block_on(async {
        match command {
            ReencryptCommand::Plan(which) => work.plan(&mut vault, which).await,
            ReencryptCommand::Run(args) => {
                let purpose = args.supersede.map_or(Purpose::Run, Purpose::Supersede);
                work.drive(&mut vault, &args.run, purpose).await
            }
            ReencryptCommand::Resume(args) => work.drive(&mut vault, args, Purpose::Resume).await,
            ReencryptCommand::Rollback(args) => work.drive(&mut vault, args, Purpose::Rollback).await,
            ReencryptCommand::Status(args) => work.status(&mut vault, args).await,
            ReencryptCommand::Verify(which) => work.verify(&mut vault, which).await,
        }
    })
}

/// One invocation of `reencrypt`.
#[derive(Debug, Clone, Copy)]
struct Work<'a> {
    app: &'a App,
    plan: &'a Plan,
}

impl Work<'_> {
    async fn plan(&self, vault: &mut Vault, which: &ColumnsArg) -> Outcome {
        let mut ends = Ends::new(self.app.ui, "columns");
        for name in self.names(which)? {
            if let Err(error) = self.plan_one(vault, &name, &mut ends).await {
                ends.failed(&name, &self.failed("plan", &name, error));
            }
        }
        ends.end()
    }

    async fn plan_one(&self, vault: &mut Vault, name: &str, ends: &mut Ends) -> Result<(), RotateError> {
        let run = ColumnRun::prepare(self.plan, &VaultCell::new(vault), name, Purpose::Look).await?;
        let survey = run.survey().await?;
        let copy = if run.has_new_key() { run.second_copy(vault)? } else { None };
        let exit = if survey.refusals().is_empty() { Exit::Done } else { Exit::Refused };
        ends.told(exit, report::plan_object(&run, &survey, copy.as_ref()), || {
            report::plan_words(&run, &survey, copy.as_ref())
        });
        Ok(())
    }

    async fn status(&self, vault: &mut Vault, args: &RunsArgs) -> Outcome {
        let known = records(vault)?;
        let mut left = String::new();
        let mut ends = Ends::new(self.app.ui, "columns");
        let mut table = report::status_table();
        for name in self.names(&args.which)? {
            let Some(last) = known.iter().rfind(|record| record.is_of(self.plan, &name)) else {
                if self.plan.columns(&name).is_none() {
                    let known = self.plan.column_names().map(str::to_owned).collect();
                    let error = RotateError::UnknownColumns { name: name.clone(), known };
                    ends.failed(&name, &self.failed("show", &name, error));
                    continue;
                }
                table.row([name.as_str(), "-", "no run yet"]);
                ends.told(Exit::Done, json!({ "name": name, "state": null }), String::new);
                continue;
            };
            let told = self.told_by_database(vault, last, args.quarantine).await;
            // What the vault knows is shown all the same.
            let (told, list) = told.unwrap_or_else(|error| {
                ends.told_only(&self.failed("ask the database about", &name, error));
                (None, None)
            });
            report::status_row(&mut table, last, told.as_ref());
            left += &report::left_words(last, told.as_ref(), list.as_deref());
            ends.told(Exit::Done, report::status_object(last, told.as_ref(), list.as_deref()), String::new);
        }
        if !self.app.ui.is_json() && !table.is_empty() {
            self.app.ui.line(format!("{table}{left}").trim_end())?;
        }
        ends.end()
    }

    async fn told_by_database(
        &self,
        vault: &mut Vault,
        record: &RunRecord,
        with_list: bool,
    ) -> Result<(Option<Status>, Option<Vec<QuarantineRecord>>), RotateError> {
        let run =
            ColumnRun::prepare(self.plan, &VaultCell::new(vault), &record.columns, Purpose::Verify).await?;
        let status = run.status().await?;
        let list = match &status {
            Some(_) if with_list => Some(run.quarantined(report::LISTED_MAX).await?),
            _ => None,
        };
        Ok((status, list))
    }

    async fn verify(&self, vault: &mut Vault, which: &ColumnsArg) -> Outcome {
        self.app.signals.take_over();
        let mut ends = Ends::new(self.app.ui, "columns");
        for name in self.names(which)? {
            if let Some(exit) = self.app.signals.exit() {
                ends.worsen(exit);
                break;
            }
            if let Err(error) = self.verify_one(vault, &name, &mut ends).await {
                ends.failed(&name, &self.failed("verify", &name, error));
            }
        }
        ends.end()
    }

    async fn verify_one(&self, vault: &mut Vault, name: &str, ends: &mut Ends) -> Result<(), RotateError> {
        let run = ColumnRun::prepare(self.plan, &VaultCell::new(vault), name, Purpose::Verify).await?;
        let survey = run.survey().await?;
        let progress = Arc::new(Progress::start(self.app.ui, name, "opens", survey.facts.rows, 0));
        let options = DriveOptions {
            run: RunOptions::default(),
            observer: progress.clone(),
            on_start: self.canceller(),
        };
        let ended = run.verify(options).await;
        progress.finish();
        let found = ended?;
        let exit = match (found.census.old(), found.census.unopened() + found.census.suppressed()) {
            (0, 0) => Exit::Done,
            (0, _) => Exit::Quarantined,
            (_, _) => Exit::NeedsAttention,
        };
        ends.told(exit, report::verify_object(&run, &found), || report::verify_words(&run, &found));
        Ok(())
    }

    /// The columns that are meant: those named, else all of the plan.
    fn names(&self, which: &ColumnsArg) -> Outcome<Vec<String>> {
        if !which.columns.is_empty() {
            return Ok(which.columns.clone());
        }
        let all: Vec<_> = self.plan.column_names().map(str::to_owned).collect();
        if all.is_empty() {
            return Err(Failure::new(Exit::NotFound, format!("{} has no columns", self.plan.path.display()))
                .hint("describe them in [columns.NAME]"));
        }
        Ok(all)
    }

    /// Lets Ctrl-C stop the engine after the batches in flight.
    fn canceller(&self) -> Box<dyn FnOnce(CancelToken) + Send> {
        let signals = self.app.signals.clone();
        let ui = self.app.ui;
        Box::new(move |token| {
            tokio::spawn(async move {
                signals.stopped().await;
                ui.note("stopping after the batches in flight");
                token.cancel();
            });
        })
    }
}

/// Rows per second, for people and for JSON.
fn rate(rows: u64, time: Duration) -> f64 {
    let seconds = time.as_secs_f64();
    if seconds > 0.0 { rows as f64 / seconds } else { 0.0 }
}
