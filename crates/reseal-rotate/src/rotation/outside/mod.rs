//! The world as it is: files, commands, applications and their checks.

mod brought;
mod look;

use std::collections::BTreeMap;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use reseal_crypto::SecretBytes;
use reseal_crypto::random::OsRandom;
use reseal_engine::{CancelToken, RunOptions, Silent};
use reseal_vault::Vault;

use super::action::{Action, EnvEdit, LoginAt, Which};
use super::connector::{ColumnWork, Connector, Standing, StepError, Values};
use super::logins::Logins;
use super::record::{Rotation, Step};
use super::records::Records;
use crate::apps::{self, App, AppError, Brought, Compose, FingerprintKey};
use crate::checks::{Baseline, Check, Checker, Keys, Report, Seen, Window};
use crate::columns::{self, DriveOptions};
use crate::destinations::env_file::{EnvFile, EnvValue};
use crate::destinations::plain_file::PlainFile;
use crate::error::RotateError;
use crate::http::Http;
use crate::plan::{self, Plan};
use crate::process::{Call, Runner};
use crate::vault_cell::VaultCell;
use brought::Measure;

/// What a rotation changes, reached as the plan says.
#[derive(Debug)]
pub struct Outside<'a> {
    plan: &'a Plan,
    runner: Runner,
    http: Http,
    fingerprints: FingerprintKey,
    logins: Logins<'a>,
    records: Records<'a>,
    /// What rehearsals found that people should know.
    notes: Vec<String>,
    /// Found when the first application or check needs it.
    compose: Option<Compose>,
    /// The files that each compose service reads its environment from, once they were asked for.
    env_files: Option<BTreeMap<String, Vec<PathBuf>>>,
    /// What the checks of applications saw before anything changed.
    baselines: BTreeMap<String, Baseline>,
    /// The secret whose own checks are made.
    secret: String,
    /// What the rotation writes: what a running process is held to.
    writes: Vec<Action>,
    /// Whether what is wrong before it is what it is for.
    mends: bool,
}

impl<'a> Outside<'a> {
    /// The world of this plan for a rotation of `secret`, by its name in the plan, that takes these steps; `runner` runs
    /// what the plan names. Releases the logins of roles that change others.
    ///
    /// # Errors
    ///
    /// [`RotateError::Vault`]; [`RotateError::Step`] if the system has no certificates or no random bytes.
    pub fn new(
        plan: &'a Plan,
        vault: &mut Vault,
        secret: &str,
        steps: &[Step],
        runner: Runner,
    ) -> Result<Self, RotateError> {
        let actions = || steps.iter().map(|step| &step.action);
        Ok(Self {
            plan,
            runner,
            http: Http::new().map_err(failed)?,
            fingerprints: FingerprintKey::generate(&OsRandom).map_err(failed)?,
            logins: Logins::of(plan, vault, actions())?,
            records: Records::of(plan, vault, secret, actions())?,
            notes: Vec::new(),
            compose: None,
            env_files: None,
            baselines: BTreeMap::new(),
            secret: secret.to_owned(),
            writes: actions().filter(|action| action.is_write()).cloned().collect(),
            mends: false,
        })
    }

    /// For a sync: what files hold and what checks see before it may be what it is to mend.
    pub(super) fn mending(&mut self) {
        self.mends = true;
    }

    /// Shows that a step would work, without doing it.
    ///
    /// # Errors
    ///
    /// [`StepError`] with what would stand in its way.
    pub async fn rehearse(&mut self, action: &Action, values: &Values) -> Result<(), StepError> {
        match action {
            Action::EditFile { file, readers, edits } => {
                let env = EnvFile::new(file, readers)?;
                let now = env.read()?;
                if !self.mends {
                    env.check_holds(&now, &current(edits, values))?;
                }
                env.edited(&now, &all(edits, values))?;
                self.check_readers(file).await?;
            }
            Action::FillFile { file, value: Which::New } if !self.mends => {
                let plain = PlainFile::new(file);
                plain.check_holds(&plain.read()?, &values.old)?;
            }
            Action::FillFile { file, .. } => drop(PlainFile::new(file).read()?),
            Action::BringOver { app } => drop(self.app(app, values).await?),
            Action::StopApp { app } => self.app(app, values).await?.check_can_stop().map_err(of_app)?,
            Action::BackUp { file } if file.symlink_metadata().is_ok() => {
                return Err(StepError::Failed(format!("{} is there already", file.display())));
            }
            Action::CheckApp { app } => self.take_baseline(app, values).await?,
            Action::CheckSecret { .. } => drop(self.secret_checks()?),
            Action::RunCommand { inside: Some(_), .. } | Action::SaveOutput { inside: Some(_), .. } => {
                drop(self.compose().await?);
            }
            Action::Record(at) => self.records.rehearse(at, values).await?,
            Action::SetLogin(at) | Action::AddLogin(at) | Action::EndSessions(at) => {
                let compose = self.way_to(at).await?;
                let notes = self.logins.rehearse(action, values, compose.as_ref()).await?;
                self.notes.extend(notes.iter().map(|note| format!("{at}: {note}")));
            }
            _ => {}
        }
        Ok(())
    }

    /// Whether a value lets in now, where a step is about it.
    async fn lets_in(&mut self, at: &LoginAt, value: &SecretBytes) -> Result<bool, StepError> {
        let compose = self.way_to(at).await?;
        self.logins.lets_in(at, value, compose.as_ref()).await
    }

    /// What the checks of applications saw before anything changed.
    pub(super) fn baselines(&self) -> &BTreeMap<String, Baseline> {
        &self.baselines
    }

    /// Takes what the checks of applications saw before a rotation that goes on where it was left, and what it found
    /// written already.
    pub fn remember(&mut self, rotation: &Rotation) {
        self.baselines.clone_from(rotation.baselines());
        self.writes.extend(rotation.stands().iter().cloned());
        self.mends = rotation.is_sync;
    }

    /// Which of two roles that take turns a value lets in: whether it is the other one than `expected`; `None` if neither.
    pub(super) async fn is_turned(
        &mut self,
        at: &LoginAt,
        expected: Which,
        value: &SecretBytes,
    ) -> Result<Option<bool>, StepError> {
        let other = if expected == Which::Old { Which::New } else { Which::Old };
        for (which, is_turned) in [(expected, false), (other, true)] {
            if self.lets_in(&at.of(which), value).await? {
                return Ok(Some(is_turned));
            }
        }
        Ok(None)
    }

    /// Lets the checks of applications look anew at what is usual.
    pub(super) fn forget_baselines(&mut self) {
        self.baselines.clear();
    }

    pub(super) fn note(&mut self, notes: impl Iterator<Item = String>) {
        self.notes.extend(notes);
    }

    /// Releases anew what servers are logged in to with: another rotation may have changed it since this was made.
    ///
    /// # Errors
    ///
    /// Those of [`new`](Self::new).
    pub fn log_in_anew(&mut self, vault: &mut Vault, steps: &[Step]) -> Result<(), RotateError> {
        let actions = || steps.iter().map(|step| &step.action);
        self.logins = Logins::of(self.plan, vault, actions())?;
        self.records = Records::of(self.plan, vault, &self.secret, actions())?;
        Ok(())
    }

    /// What the rehearsals found that people should know before.
    pub fn notes(&self) -> &[String] {
        &self.notes
    }

    async fn app(&mut self, name: &str, values: &Values) -> Result<App, StepError> {
        let app = self.plan_app(name)?;
        let compose = if app.compose.is_some() { Some(self.compose().await?) } else { None };
        let runner = self.runner.knowing(values.known());
        let app = App::new(name, app, &runner, compose.as_ref()).map_err(of_app)?;
        Ok(app.knowing(&values.known().collect::<Vec<_>>()))
    }

    fn plan_app(&self, name: &str) -> Result<&'a plan::App, StepError> {
        let app = self.plan.file.apps.get(name).map(toml::Spanned::get_ref);
        app.ok_or_else(|| StepError::Failed(format!("app `{name}` is not in the plan any more")))
    }

    async fn compose(&mut self) -> Result<Compose, StepError> {
        if self.compose.is_none() {
            let found = Compose::find(&self.runner, self.plan.file.compose.as_ref()).await;
            self.compose = Some(found.map_err(of_app)?);
        }
        self.compose.clone().ok_or_else(|| StepError::Failed("there is no compose here".into()))
    }

    /// A file that a compose service reads which the plan does not bring over would leave that one with the old value.
    async fn check_readers(&mut self, file: &Path) -> Result<(), StepError> {
        let apps = || self.plan.file.apps.iter().map(|(name, app)| (name, app.get_ref()));
        if apps().all(|(_, app)| app.compose.is_none()) {
            return Ok(());
        }
        let is_brought_over = |service: &String| {
            apps().any(|(name, app)| app.compose.as_ref() == Some(service) && self.is_read_by(file, name))
        };
        let brought_over: Vec<String> =
            apps().filter_map(|(_, app)| app.compose.clone()).filter(is_brought_over).collect();
        if self.env_files.is_none() {
            let services = self.compose().await?.services().await.map_err(of_app)?;
            let files = services.into_iter().map(|(service, found)| (service, found.env_files));
            self.env_files = Some(files.collect());
        }
        let base = self.plan.directory();
        let reads = |files: &Vec<PathBuf>| {
            files.iter().any(|path| base.join(path).canonicalize().is_ok_and(|path| path == file))
        };
        let mut services = self.env_files.iter().flatten();
        match services.find(|(service, files)| reads(files) && !brought_over.contains(service)) {
            Some((service, _)) => Err(StepError::Failed(format!(
                "{} is read by compose service `{service}` too, which no app in its `used_by` is",
                file.display()
            ))),
            None => Ok(()),
        }
    }

    /// What finds the container of a server that is one.
    async fn way_to(&mut self, at: &LoginAt) -> Result<Option<Compose>, StepError> {
        let via = self.plan.server(&at.server).and_then(|server| server.via.as_ref());
        if via.is_some_and(|via| via.compose.is_some()) { self.compose().await.map(Some) } else { Ok(None) }
    }

    fn secret_checks(&self) -> Result<Vec<Check>, StepError> {
        let secret = self.plan.secret(&self.secret).map_err(failed)?;
        checks(&secret.check)
    }

    async fn checker(&mut self, checks: &[plan::Check], values: &Values) -> Result<Checker, StepError> {
        let inside = checks.iter().any(|check| check.inside.is_some());
        let compose = if inside { Some(self.compose().await?) } else { None };
        let runner = self.runner.knowing(values.known());
        let compose = compose.map(|compose| compose.knowing(values.known()));
        Ok(Checker::new(&runner, &self.http, compose.as_ref()))
    }

    /// What holds before the change; if it does not, nothing is changed.
    async fn take_baseline(&mut self, name: &str, values: &Values) -> Result<(), StepError> {
        if self.baselines.contains_key(name) {
            return Ok(());
        }
        let (first, baseline) = self.baseline_of(name, values).await?;
        let seen = first.iter().chain(&baseline.seen).find(|seen| !seen.passed);
        if let Some(seen) = seen.filter(|_| !self.mends) {
            return Err(StepError::Failed(format!("before the change: {}: {}", seen.check, seen.saw)));
        }
        self.baselines.insert(name.to_owned(), baseline);
        Ok(())
    }

    /// What the checks of an application see now: those that are made before a change only, and the others.
    async fn baseline_of(&mut self, name: &str, values: &Values) -> Result<(Vec<Seen>, Baseline), StepError> {
        let plan = self.plan_app(name)?;
        let app = self.app(name, values).await?;
        let checker = self.checker(&[plan.check.clone(), plan.baseline.clone()].concat(), values).await?;
        let mut first = Vec::new();
        if !plan.baseline.is_empty() {
            first = checker.baseline(Some(&app), &checks(&plan.baseline)?).await.seen;
        }
        Ok((first, checker.baseline(Some(&app), &checks(&plan.check)?).await))
    }

    async fn check_app(&mut self, name: &str, values: &Values) -> Result<(), StepError> {
        let plan = self.plan_app(name)?;
        let app = self.app(name, values).await?;
        let checker = self.checker(&plan.check, values).await?;
        let baseline = self.baselines.get(name).cloned().unwrap_or_default();
        let mut window = Window::of(&app);
        if plan.check.is_empty() && plan.wait.is_none() && !self.is_seen(&app).await {
            // Nothing to look at, so nothing to wait for.
            window.hold = Duration::ZERO;
        }
        told(&checker.window(Some(&app), &checks(&plan.check)?, &baseline, window).await)?;
        match self.brought(name, values, Measure::Files).await? {
            None | Some(Brought::Yes | Brought::Unseen(_)) => Ok(()),
            Some(Brought::No(why)) => Err(StepError::Failed(format!("{name} {why}"))),
        }
    }

    async fn is_seen(&self, app: &App) -> bool {
        !matches!(app.standing().await, Ok(apps::Standing::Unseen))
    }

    async fn check_secret(&mut self, old_works: bool, values: &Values) -> Result<(), StepError> {
        let seen = self.attempt_secret(old_works, values).await?;
        match seen.iter().find(|seen| !seen.passed) {
            Some(seen) => Err(StepError::Failed(format!("{}: {}", seen.check, seen.saw))),
            None => Ok(()),
        }
    }

    /// Makes the checks of the secret itself, as far as they pass.
    async fn attempt_secret(&mut self, old_works: bool, values: &Values) -> Result<Vec<Seen>, StepError> {
        let old = ("the old value".to_owned(), values.old.clone());
        let new = ("the new value".to_owned(), values.new.clone());
        let keys = if old_works {
            Keys { taken: vec![new, old], refused: Vec::new() }
        } else {
            let named =
                |left: &SecretBytes| ("a value that an abandoned rotation left".to_owned(), left.clone());
            let left = values.left().iter().map(named);
            Keys { taken: vec![new], refused: [old].into_iter().chain(left).collect() }
        };
        let plan = self.plan.secret(&self.secret).map_err(failed)?.check;
        let checker = self.checker(&plan, values).await?.keys(keys);
        let mut attempts = Vec::new();
        for check in self.secret_checks()? {
            attempts.push(checker.attempt(&check).await);
            if attempts.last().is_some_and(|seen| !seen.passed) {
                break;
            }
        }
        Ok(attempts)
    }

    async fn stop(&mut self, name: &str, values: &Values) -> Result<(), StepError> {
        let app = self.app(name, values).await?;
        app.stop().await.map_err(of_app)?;
        match app.standing().await.map_err(of_app)? {
            apps::Standing::Up(_) => Err(StepError::Failed(format!("{name} still runs"))),
            apps::Standing::Down(_) | apps::Standing::Unseen => Ok(()),
        }
    }

    /// How the engine goes about columns: as their limits say, until the rotation is to stop.
    fn drive_options(&self, columns: &str, cancel: &CancelToken) -> DriveOptions {
        let mut run = RunOptions::default();
        let limits = self.plan.columns(columns).and_then(|columns| columns.limits);
        if let Some(workers) = limits.and_then(|limits| limits.workers) {
            run.workers = workers.get();
        }
        let asked = cancel.clone();
        let on_start = Box::new(move |engine: CancelToken| {
            tokio::spawn(async move {
                asked.cancelled().await;
                engine.cancel();
            });
        });
        DriveOptions { run, observer: Arc::new(Silent), on_start }
    }

    async fn call(
        &self,
        command: &[String],
        stdin: Option<&SecretBytes>,
        values: &Values,
    ) -> Result<(), StepError> {
        let runner = self.runner.knowing(values.known());
        let mut call = Call::new(command);
        if let Some(value) = stdin {
            call = call.stdin(value.clone());
        }
        let ended = runner.run(&call).await.map_err(failed)?;
        if ended.success() {
            return Ok(());
        }
        let wrote = if ended.stderr.is_empty() { &ended.stdout } else { &ended.stderr };
        // EXPOSE: scrubbed of every known value.
        let lines = runner.known().last_lines(wrote.expose(), 5).join("; ");
        let program = command.first().map_or("", String::as_str);
        Err(StepError::Failed(format!("`{program}` ended with {}: {lines}", ended.status)))
    }

    async fn run(
        &mut self,
        command: &[String],
        inside: Option<&str>,
        values: &Values,
    ) -> Result<(), StepError> {
        let Some(service) = inside else { return self.call(command, None, values).await };
        let compose = self.compose().await?.knowing(values.known());
        let ended = compose.exec(service, command, None, COMMAND).await.map_err(of_app)?;
        if ended.success() {
            return Ok(());
        }
        let program = command.first().map_or("", String::as_str);
        Err(StepError::Failed(format!("`{program}` in {service} ended with {}", ended.status)))
    }
}

/// How long a command of the plan may take inside a service.
const COMMAND: Duration = Duration::from_secs(120);

#[async_trait(?Send)]
impl Connector for Outside<'_> {
    async fn capture(&mut self, action: &Action, values: &Values) -> Result<SecretBytes, StepError> {
        Ok(match action {
            Action::EditFile { file, readers, .. } => EnvFile::new(file, readers)?.read()?,
            Action::FillFile { file, .. } => PlainFile::new(file).read()?,
            Action::Record(at) => self.records.capture(at)?,
            Action::SetLogin(at) | Action::AddLogin(at) | Action::RemoveLogin(at) => {
                let compose = self.way_to(at).await?;
                self.logins.capture(at, values, compose.as_ref()).await?
            }
            _ => SecretBytes::default(),
        })
    }

    async fn probe(
        &mut self,
        action: &Action,
        values: &Values,
        kept: &SecretBytes,
    ) -> Result<Standing, StepError> {
        Ok(match action {
            Action::EditFile { file, readers, edits } => {
                EnvFile::new(file, readers)?.standing(kept, &all(edits, values))?
            }
            Action::FillFile { file, value } => PlainFile::new(file).standing(kept, values.get(*value))?,
            Action::SetLogin(at) | Action::AddLogin(at) | Action::RemoveLogin(at) => {
                let compose = self.way_to(at).await?;
                self.logins.probe(action, values, kept, compose.as_ref()).await?
            }
            Action::Record(at) => self.records.probe(at, values, kept).await?,
            Action::StopApp { app } => match self.app(app, values).await?.standing().await.map_err(of_app)? {
                apps::Standing::Down(_) => Standing::Done,
                apps::Standing::Up(_) => Standing::NotDone,
                apps::Standing::Unseen => Standing::Unknown,
            },
            _ => Standing::Unknown,
        })
    }

    async fn apply(&mut self, action: &Action, values: &Values, kept: &SecretBytes) -> Result<(), StepError> {
        match action {
            Action::EditFile { file, readers, edits } => {
                Ok(EnvFile::new(file, readers)?.write(&all(edits, values))?)
            }
            Action::FillFile { file, value } => Ok(PlainFile::new(file).write(values.get(*value))?),
            Action::FeedCommand { command, value } => {
                self.call(command, Some(values.get(*value)), values).await
            }
            Action::RunCommand { command, inside } => self.run(command, inside.as_deref(), values).await,
            Action::BringOver { app } => {
                let app = self.app(app, values).await?;
                app.bring_over().await.map_err(of_app)
            }
            Action::Record(at) => self.records.apply(at, values, kept).await,
            Action::StopApp { app } => self.stop(app, values).await,
            Action::StartApp { app } => self.app(app, values).await?.start().await.map_err(of_app),
            Action::CheckApp { app } => self.check_app(app, values).await,
            Action::CheckSecret { old_works } => self.check_secret(*old_works, values).await,
            // The vault has its part in these.
            Action::SaveOutput { .. }
            | Action::BackUp { .. }
            | Action::Reencrypt { .. }
            | Action::ProveColumns { .. } => Ok(()),
            // Says in the journal what the next steps may do.
            Action::AdmitKey { .. } => Ok(()),
            Action::SetLogin(at)
            | Action::AddLogin(at)
            | Action::RemoveLogin(at)
            | Action::EndSessions(at)
            | Action::TestLogin { at, .. } => {
                let compose = self.way_to(at).await?;
                self.logins.apply(action, values, kept, compose.as_ref()).await
            }
        }
    }

    async fn columns(
        &mut self,
        vault: &VaultCell<'_>,
        work: ColumnWork<'_>,
        cancel: &CancelToken,
    ) -> Result<(), StepError> {
        let (ColumnWork::Reencrypt { columns }
        | ColumnWork::TakeBack { columns, .. }
        | ColumnWork::Prove { columns }) = work;
        let options = self.drive_options(columns, cancel);
        let done = match work {
            ColumnWork::Reencrypt { .. } => columns::reencrypt(self.plan, vault, columns, options).await,
            ColumnWork::TakeBack { rotation, .. } => {
                columns::take_back(self.plan, vault, columns, rotation, options).await
            }
            ColumnWork::Prove { .. } => columns::prove(self.plan, vault, columns, options).await,
        };
        done.map_err(|error| match error.hint() {
            Some(hint) => StepError::Failed(format!("{error}; {hint}")),
            None => failed(error),
        })
    }

    async fn output(&mut self, action: &Action, values: &Values) -> Result<Box<dyn Read>, StepError> {
        let Action::SaveOutput { command, inside, .. } = action else {
            return Ok(Box::new(std::io::empty()));
        };
        let stream = match inside {
            Some(service) => {
                self.compose().await?.knowing(values.known()).stream(service, command).map_err(of_app)?
            }
            None => self.runner.knowing(values.known()).stream(&Call::new(command)).map_err(failed)?,
        };
        Ok(Box::new(stream))
    }

    async fn undo(&mut self, action: &Action, values: &Values, kept: &SecretBytes) -> Result<(), StepError> {
        match action {
            Action::EditFile { file, readers, edits } => {
                Ok(EnvFile::new(file, readers)?.put_back(kept, &all(edits, values))?)
            }
            Action::FillFile { file, value } => Ok(PlainFile::new(file).put_back(kept, values.get(*value))?),
            Action::FeedCommand { command, .. } => self.call(command, Some(&values.old), values).await,
            Action::SetLogin(at) | Action::AddLogin(at) | Action::RemoveLogin(at) => {
                let compose = self.way_to(at).await?;
                self.logins.undo(at, values, kept, compose.as_ref()).await
            }
            Action::Record(at) => self.records.undo(at, values, kept).await,
            Action::StopApp { app } => self.app(app, values).await?.start().await.map_err(of_app),
            Action::StartApp { app } => self.stop(app, values).await,
            _ => Ok(()),
        }
    }
}

/// The values that edits put into a file.
fn all<'v>(edits: &'v [EnvEdit], values: &Values) -> Vec<EnvValue<'v>> {
    edits.iter().map(|edit| put(edit, edit.value, values)).collect()
}

/// What the file has to hold before: the old value wherever the new one goes.
fn current<'v>(edits: &'v [EnvEdit], values: &Values) -> Vec<EnvValue<'v>> {
    let in_use = edits.iter().filter(|edit| edit.value == Which::New && edit.holds == plan::Holds::Current);
    in_use.map(|edit| put(edit, Which::Old, values)).collect()
}

fn put<'v>(edit: &'v EnvEdit, which: Which, values: &Values) -> EnvValue<'v> {
    EnvValue { var: &edit.var, spot: &edit.spot, value: values.field(which, edit.field) }
}

fn checks(plan: &[plan::Check]) -> Result<Vec<Check>, StepError> {
    plan.iter().map(|check| Check::new(check).map_err(failed)).collect()
}

fn told(report: &Report) -> Result<(), StepError> {
    let Some(seen) = report.failed().next() else { return Ok(()) };
    let mut words = format!("{}: {}", seen.check, seen.saw);
    for line in &report.last {
        words.push_str("\n    ");
        words.push_str(line);
    }
    Err(StepError::Failed(words))
}

fn failed(error: impl std::fmt::Display) -> StepError {
    StepError::Failed(error.to_string())
}

fn of_app(error: AppError) -> StepError {
    failed(error)
}
