//! `reencrypt`: database columns under a new key.

mod progress;
mod report;

use std::sync::Arc;
use std::time::{Duration, Instant};

use reseal_engine::{CancelToken, EngineError, RunOptions};
use reseal_rotate::RotateError;
use reseal_rotate::columns::{ColumnRun, DriveOptions, Purpose, RunRecord, records};
use reseal_rotate::plan::Plan;
use reseal_vault::Vault;
use serde_json::{Value, json};

use crate::app::App;
use crate::args::{ColumnsArg, ReencryptCommand, RunArgs};
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
            ReencryptCommand::Run(args) => work.drive(&mut vault, args, Purpose::Run).await,
            ReencryptCommand::Resume(args) => work.drive(&mut vault, args, Purpose::Resume).await,
            ReencryptCommand::Rollback(args) => work.drive(&mut vault, args, Purpose::Rollback).await,
            ReencryptCommand::Status(which) => work.status(&mut vault, which).await,
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
        let mut objects = Vec::new();
        let mut words = String::new();
        let mut exit = Exit::Done;
        for name in self.names(which)? {
            let looked = async {
                let run = ColumnRun::prepare(self.plan, vault, &name, Purpose::Look).await?;
                let survey = run.survey().await?;
                let copy = if run.has_new_key() { run.second_copy(vault)? } else { None };
                Ok::<_, RotateError>((run, survey, copy))
            };
            let (run, survey, copy) = looked.await.map_err(|error| self.failed("plan", &name, error))?;
            if !survey.refusals().is_empty() {
                exit = Exit::Refused;
            }
            objects.push(report::plan_object(&run, &survey, copy.as_ref()));
            words.push_str(&report::plan_words(&run, &survey, copy.as_ref()));
        }
        self.app.ui.result(json!({ "columns": objects }), || words)?;
        Ok(exit)
    }

    async fn drive(&self, vault: &mut Vault, args: &RunArgs, purpose: Purpose) -> Outcome {
        self.app.signals.take_over();
        let mut objects = Vec::new();
        let mut exit = Exit::Done;
        for name in self.names_for(vault, &args.which, purpose)? {
            let (object, ended) = self.drive_one(vault, args, purpose, &name).await?;
            objects.push(object);
            if ended != Exit::Done {
                exit = ended;
            }
        }
        if self.app.ui.is_json() {
            self.app.ui.result(json!({ "runs": objects }), String::new)?;
        }
        Ok(exit)
    }

    async fn drive_one(
        &self,
        vault: &mut Vault,
        args: &RunArgs,
        purpose: Purpose,
        name: &str,
    ) -> Outcome<(Value, Exit)> {
        let failed = |error| self.failed("re-encrypt", name, error);
        let mut run = ColumnRun::prepare(self.plan, vault, name, purpose).await.map_err(failed)?;
        let survey = run.survey().await.map_err(failed)?;
        if !survey.refusals().is_empty() {
            return Err(failed(EngineError::Refused(survey.refusals().to_vec()).into()));
        }
        survey.facts.warnings.iter().for_each(|warning| self.app.ui.note(format!("{name}: {warning}")));
        if run.is_begun() {
            self.app.ui.note(format!("{name}: {} {} goes on", run.record().kind(), run.record().plan.run));
        } else {
            if self.plan.columns(name).is_some_and(|columns| !columns.online) {
                self.app.ui.note(format!(
                    "{name} is not `online`: stop what writes to it, or see that it opens both keys; reseal stops nothing itself"
                ));
            }
            self.app.asker().confirm(&report::question(&run, &survey))?;
            run.begin(vault, args.no_backup.as_deref()).map_err(failed)?;
        }
        let started = Instant::now();
        let progress = Arc::new(Progress::start(self.app.ui, name, survey.facts.rows));
        let ended = run.drive(vault, self.options(args, name, &progress)).await;
        progress.finish();
        let outcome = ended.map_err(failed)?;
        let settled = run.settle(self.plan, vault).map_err(failed)?;
        let done =
            report::Done { run: &run, outcome: &outcome, settled, seconds: started.elapsed().as_secs_f64() };
        if !self.app.ui.is_json() {
            self.app.ui.result(Value::Null, || done.words())?;
        }
        let exit = if outcome.quarantined() > 0 { Exit::Quarantined } else { Exit::Done };
        Ok((done.object(), exit))
    }

    async fn status(&self, vault: &mut Vault, which: &ColumnsArg) -> Outcome {
        let known = records(vault)?;
        let mut objects = Vec::new();
        let mut table = report::status_table();
        for name in self.names(which)? {
            let Some(last) = known.iter().rfind(|record| record.columns == name) else {
                table.row([name.as_str(), "-", "no run yet"]);
                objects.push(json!({ "columns": name, "state": null }));
                continue;
            };
            let told = self.told_by_database(vault, last).await;
            if let Err(error) = &told {
                self.app.ui.warn(format!("{name}: the database does not tell: {error}"));
            }
            let told = told.ok().flatten();
            report::status_row(&mut table, last, told.as_ref());
            objects.push(report::status_object(last, told.as_ref()));
        }
        self.app.ui.result(json!({ "columns": objects }), || table.to_string())?;
        Ok(Exit::Done)
    }

    async fn told_by_database(
        &self,
        vault: &mut Vault,
        record: &RunRecord,
    ) -> Result<Option<reseal_engine::Status>, RotateError> {
        let run = ColumnRun::prepare(self.plan, vault, &record.columns, Purpose::Verify).await?;
        run.status().await
    }

    async fn verify(&self, vault: &mut Vault, which: &ColumnsArg) -> Outcome {
        self.app.signals.take_over();
        let mut objects = Vec::new();
        let mut words = String::new();
        let mut exit = Exit::Done;
        for name in self.names(which)? {
            let failed = |error| self.failed("verify", &name, error);
            let run = ColumnRun::prepare(self.plan, vault, &name, Purpose::Verify).await.map_err(failed)?;
            let survey = run.survey().await.map_err(failed)?;
            let progress = Arc::new(Progress::start(self.app.ui, &name, survey.facts.rows));
            let options = DriveOptions {
                run: RunOptions::default(),
                observer: progress.clone(),
                on_start: self.canceller(),
            };
            let ended = run.verify(options).await;
            progress.finish();
            let found = ended.map_err(failed)?;
            exit = match (found.census.old(), found.census.unopened()) {
                (0, 0) => exit,
                (0, _) => Exit::Quarantined,
                (_, _) => Exit::NeedsAttention,
            };
            objects.push(report::verify_object(&run, &found));
            words.push_str(&report::verify_words(&run, &found));
        }
        self.app.ui.result(json!({ "columns": objects }), || words)?;
        Ok(exit)
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

    /// Without names, `resume` and `rollback` mean what there is to resume or to take back.
    fn names_for(&self, vault: &mut Vault, which: &ColumnsArg, purpose: Purpose) -> Outcome<Vec<String>> {
        let names = self.names(which)?;
        if !which.columns.is_empty() || purpose == Purpose::Run || names.len() == 1 {
            return Ok(names);
        }
        let known = records(vault)?;
        let concerned: Vec<_> = names
            .into_iter()
            .filter(|name| {
                known.iter().rfind(|record| record.columns == *name).is_some_and(|last| last.is_open(purpose))
            })
            .collect();
        if concerned.is_empty() {
            return Err(Failure::new(Exit::NotFound, "no columns have a run to do that with")
                .hint("`reseal reencrypt status` shows the runs"));
        }
        Ok(concerned)
    }

    fn options(&self, args: &RunArgs, name: &str, progress: &Arc<Progress>) -> DriveOptions {
        let mut run = RunOptions { passes_max: args.passes.get(), ..RunOptions::default() };
        let limits = self.plan.columns(name).and_then(|columns| columns.limits);
        if let Some(workers) = args.workers.or(limits.and_then(|limits| limits.workers)) {
            run.workers = workers.get();
        }
        DriveOptions { run, observer: progress.clone(), on_start: self.canceller() }
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

    fn failed(&self, doing: &str, name: &str, error: RotateError) -> Failure {
        let interrupted = matches!(error, RotateError::Engine(EngineError::Interrupted));
        let failure = Failure::from(error).while_doing(format!("cannot {doing} `{name}`"));
        match self.app.signals.exit() {
            Some(exit) if interrupted => failure.with_exit(exit),
            _ => failure,
        }
    }
}

/// Rows per second, for people and for JSON.
fn rate(rows: u64, time: Duration) -> f64 {
    let seconds = time.as_secs_f64();
    if seconds > 0.0 { rows as f64 / seconds } else { 0.0 }
}
