//! `reencrypt run`, `resume` and `rollback`: the commands that write.

use std::sync::Arc;

use reseal_engine::{Direction, EngineError, Observer, RunOptions, Silent, Survey};
use reseal_rotate::columns::{ColumnRun, DriveOptions, Labels, Purpose, RecordState, RunRecord, records};
use reseal_rotate::rotation;
use reseal_rotate::{RotateError, VaultCell};
use reseal_vault::Vault;

use super::progress::Progress;
use super::{Work, report};
use crate::args::RunArgs;
use crate::commands::ends::Ends;
use crate::exit::Exit;
use crate::failure::{Failure, Outcome};

impl Work<'_> {
    /// Drives the columns that are meant, one after the other.
    pub(super) async fn drive(&self, vault: &mut Vault, args: &RunArgs, purpose: Purpose) -> Outcome {
        let mut ends = Ends::new(self.app.ui, "runs");
        let names = self.names_for(vault, args, purpose)?;
        if matches!(purpose, Purpose::Supersede(_)) && names.len() != 1 {
            let failure = Failure::new(Exit::Usage, "--supersede is about one run");
            return Err(failure.hint("name the columns: `reseal reencrypt run COLUMNS --supersede RUN`"));
        }
        for (index, name) in names.iter().enumerate() {
            let rest = &names[index..];
            if let Some(exit) = self.app.signals.exit() {
                ends.worsen(exit);
            }
            if blocks_the_next(ends.exit()) {
                self.app.ui.warn(format!("not begun: {}", rest.join(", ")));
                break;
            }
            if let Err(failure) = self.drive_one(vault, args, purpose, name, &mut ends).await {
                ends.failed(name, &failure);
            }
        }
        if matches!(purpose, Purpose::Resume | Purpose::Rollback)
            && let Err(failure) = self.check_rolled_back(vault, &names, &mut ends)
        {
            ends.told_only(&failure);
        }
        ends.end()
    }

    async fn drive_one(
        &self,
        vault: &mut Vault,
        args: &RunArgs,
        purpose: Purpose,
        name: &str,
        ends: &mut Ends,
    ) -> Outcome<()> {
        let doing = if purpose == Purpose::Rollback { "take back" } else { "re-encrypt" };
        let failed = |error| self.failed(doing, name, error);
        self.check_not_rotated(vault, name, purpose).map_err(failed)?;
        let mut run =
            ColumnRun::prepare(self.plan, &VaultCell::new(vault), name, purpose).await.map_err(failed)?;
        let survey = run.survey().await.map_err(|error| self.stopped(doing, &run, error))?;
        run.check_other_run(&survey, vault).map_err(failed)?;
        if !survey.refusals().is_empty() {
            return Err(failed(EngineError::Refused(survey.refusals().to_vec()).into()));
        }
        survey.facts.warnings.iter().for_each(|warning| self.app.ui.note(format!("{name}: {warning}")));
        let mut before = 0;
        if run.is_begun() {
            self.app.ui.note(format!("{name}: {} {} goes on", run.record().kind(), run.record().plan.run));
            before = rows_read(&run).await;
        } else {
            self.begin(vault, &mut run, &survey, args)?;
        }
        // From here on there is a clean place to stop at.
        self.app.signals.take_over();
        let progress = Arc::new(Progress::start(self.app.ui, name, "re-encrypts", survey.facts.rows, before));
        let ended = self.drive_and_settle(vault, args, &mut run, &progress).await;
        self.app.signals.give_back();
        let (outcome, labels) = ended.map_err(|error| self.stopped(doing, &run, error))?;
        let done = report::Done {
            run: &run,
            outcome: &outcome,
            labels: &labels,
            rows: progress.rows(),
            seconds: progress.elapsed().as_secs_f64(),
        };
        ends.told(done.exit(), done.object(), || done.words());
        Ok(())
    }

    /// A key that rotates takes its columns along, and back; once it is in use everywhere, what was written under the old one
    /// meanwhile may be brought after it.
    fn check_not_rotated(&self, vault: &mut Vault, name: &str, purpose: Purpose) -> Result<(), RotateError> {
        let Some(columns) = self.plan.columns(name) else { return Ok(()) };
        let Some(last) = rotation::latest(vault, &self.plan.secret_name(&columns.key))? else {
            return Ok(());
        };
        let is_owner = match purpose {
            Purpose::Resume => last.is_unfinished(),
            // The rotation brings the files back as well.
            Purpose::Rollback => {
                let run = records(vault)?.into_iter().rfind(|record| record.is_of(self.plan, name));
                last.is_open() || run.is_some_and(|run| run.rotation.is_some())
            }
            _ => last.is_open(),
        };
        if is_owner {
            return Err(RotateError::Rotated { columns: name.to_owned(), secret: last.name });
        }
        Ok(())
    }

    async fn drive_and_settle(
        &self,
        vault: &mut Vault,
        args: &RunArgs,
        run: &mut ColumnRun,
        progress: &Arc<Progress>,
    ) -> Result<(reseal_engine::Outcome, Labels), RotateError> {
        let (vault, name) = (VaultCell::new(vault), run.record().columns.clone());
        let ended = run.drive(&vault, self.options(args, &name, progress.clone())).await;
        progress.finish();
        let outcome = ended?;
        // The others under the key are proved without a bar: they have nothing to do, as a rule.
        let labels = run.settle(self.plan, &vault, || self.options(args, &name, Arc::new(Silent))).await?;
        Ok((outcome, labels))
    }

    /// Columns that were rolled back while others under their key were not need a person: their application has to read
    /// another version than the current one.
    fn check_rolled_back(&self, vault: &mut Vault, names: &[String], ends: &mut Ends) -> Outcome<()> {
        let known = records(vault)?;
        let waits = |name: &String| {
            let last = known.iter().rfind(|record| record.is_of(self.plan, name));
            last.is_some_and(|last| {
                last.plan.direction == Direction::Rollback && last.state == RecordState::Proved
            })
        };
        if names.iter().any(waits) {
            ends.worsen(Exit::NeedsAttention);
        }
        Ok(())
    }

    /// Asks, and freezes the run.
    fn begin(&self, vault: &mut Vault, run: &mut ColumnRun, survey: &Survey, args: &RunArgs) -> Outcome<()> {
        let name = run.record().columns.clone();
        let failed = |error| self.failed("re-encrypt", &name, error);
        // Before anyone is asked: a yes to what is then refused is a question too many.
        run.check_second_copy(vault, args.no_backup.as_deref()).map_err(failed)?;
        if self.plan.columns(&name).is_some_and(|columns| !columns.online) {
            self.app.ui.note(format!(
                "{name} is not `online`: stop what writes to it, or see that it opens both keys; reseal stops nothing itself"
            ));
        }
        if run.record().plan.direction == Direction::Rollback {
            let others = run.waits_for(self.plan, vault).map_err(failed)?;
            if let Some(words) = report::left_behind(run, &others) {
                self.app.ui.warn(format!("{name}: {words}"));
            }
        }
        self.app.asker().confirm(&report::question(run, survey))?;
        run.begin(vault, args.no_backup.as_deref()).map_err(failed)
    }

    /// Without names, `resume` and `rollback` mean what there is to resume or to take back.
    fn names_for(&self, vault: &mut Vault, args: &RunArgs, purpose: Purpose) -> Outcome<Vec<String>> {
        let names = self.names(&args.which)?;
        if !args.which.columns.is_empty()
            || !matches!(purpose, Purpose::Resume | Purpose::Rollback)
            || names.len() == 1
        {
            return Ok(names);
        }
        let known = records(vault)?;
        let concerned: Vec<_> = names
            .into_iter()
            .filter(|name| {
                let is_concerned = |last: &RunRecord| match purpose {
                    Purpose::Resume => last.is_unfinished(),
                    _ => last.is_open(purpose),
                };
                known.iter().rfind(|record| record.is_of(self.plan, name)).is_some_and(is_concerned)
            })
            .collect();
        if concerned.is_empty() {
            return Err(Failure::new(Exit::NotFound, "no columns have a run to do that with")
                .hint("`reseal reencrypt status` shows the runs"));
        }
        Ok(concerned)
    }

    fn options(&self, args: &RunArgs, name: &str, observer: Arc<dyn Observer>) -> DriveOptions {
        let mut run = RunOptions {
            passes_max: args.passes.get(),
            quarantine_max: args.max_quarantine,
            ..RunOptions::default()
        };
        let limits = self.plan.columns(name).and_then(|columns| columns.limits);
        if let Some(workers) = args.workers.or(limits.and_then(|limits| limits.workers)) {
            run.workers = workers.get();
        }
        DriveOptions { run, observer, on_start: self.canceller() }
    }
}

/// Damage, and a state that only a person can leave, block the next change.
fn blocks_the_next(exit: Exit) -> bool {
    matches!(exit, Exit::Damaged | Exit::NeedsAttention | Exit::Interrupted | Exit::Terminated)
}

/// Rows that an unfinished run has read in its present pass; if the database does not tell, the run itself will say why.
async fn rows_read(run: &ColumnRun) -> u64 {
    let Ok(Some(status)) = run.status().await else { return 0 };
    let spans = status.spans.iter().filter(|span| span.pass == status.standing.pass);
    spans.filter_map(|span| span.tallies.first()).map(|tally| tally.seen).sum()
}
