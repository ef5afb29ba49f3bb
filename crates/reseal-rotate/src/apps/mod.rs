//! What reads values and must be brought over to new ones: compose services, systemd units, applications of pm2, commands.
//!
//! ```text
//! bring_over: recreate | restart | reload     one side effect each
//! standing:   is it up, since when, as what   from outside: docker inspect, systemctl show, pm2 jlist, /proc
//! runs_with:  which value the running process has: a fingerprint of its environment, or when it was started
//! ```

mod brought;
mod compose;
mod docker_json;
mod error;
mod fingerprint;
mod pm2;
mod proc;
mod systemd;

use std::time::{Duration, SystemTime};

use reseal_crypto::secret::SecretBytes;

pub use brought::{Brought, Expected};
pub use compose::{Compose, Container, Service};
pub use error::AppError;
pub use fingerprint::{Fingerprint, FingerprintKey};

use crate::plan::{self, BringOver};
use crate::process::{Call, Runner};
use pm2::Pm2;
use systemd::Unit;

/// How long a command of the plan may take that starts, stops or restarts something.
const CHANGE: Duration = Duration::from_secs(120);

/// How long an application may take to come up where the plan does not say.
const WAIT: Duration = Duration::from_secs(60);

/// How long what is checked must go on holding.
const HOLD: Duration = Duration::from_secs(10);

/// An application of the plan.
#[derive(Debug, Clone)]
pub struct App {
    name: String,
    kind: Kind,
    bring_over: BringOver,
    wait: Duration,
    hold: Duration,
    runner: Runner,
}

#[derive(Debug, Clone)]
enum Kind {
    Compose { compose: Compose, service: String },
    Systemd(Unit),
    Restart { restart: Vec<String>, pm2: Option<Pm2> },
    StopStart { stop: Vec<String>, start: Vec<String> },
}

/// Whether an application runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Standing {
    /// It runs.
    Up(Vec<Instance>),
    /// It does not; why, in a few words.
    Down(String),
    /// Nobody can tell: the plan has commands for it, but nothing to ask.
    Unseen,
}

/// One running container or main process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Instance {
    /// Another one after every start: the container's id and start, or the process' id and start.
    pub id: String,
    /// When it was started, if that can be seen.
    pub started: Option<SystemTime>,
}

impl App {
    /// An application of the plan; `compose` is needed for those that are compose services.
    ///
    /// # Errors
    ///
    /// [`AppError::NoCompose`] without it; [`AppError::Cannot`] where `bring_over` asks for what the kind of the
    /// application does not do.
    pub fn new(
        name: &str,
        plan: &plan::App,
        runner: &Runner,
        compose: Option<&Compose>,
    ) -> Result<Self, AppError> {
        let kind = match plan {
            plan::App { compose: Some(service), .. } => {
                let compose = compose.cloned().ok_or(AppError::NoCompose)?;
                Kind::Compose { compose, service: service.clone() }
            }
            plan::App { systemd: Some(unit), .. } => Kind::Systemd(Unit::new(runner.clone(), unit)),
            plan::App { restart: Some(restart), .. } => {
                Kind::Restart { restart: restart.clone(), pm2: Pm2::of(runner, restart) }
            }
            plan::App { stop: Some(stop), start: Some(start), .. } => {
                Kind::StopStart { stop: stop.clone(), start: start.clone() }
            }
            _ => return Err(cannot(name, "has no way to restart")),
        };
        let usual =
            if matches!(kind, Kind::Compose { .. }) { BringOver::Recreate } else { BringOver::Restart };
        let bring_over = plan.bring_over.unwrap_or(usual);
        match (&kind, bring_over) {
            (Kind::Compose { .. }, BringOver::Restart) => {
                return Err(cannot(name, "is a compose service: restarted, it keeps its old environment"));
            }
            (Kind::Compose { .. }, BringOver::Reload) => {
                return Err(cannot(name, "is a compose service, which cannot be reloaded"));
            }
            (Kind::Systemd(_) | Kind::StopStart { .. }, BringOver::Recreate) => {
                return Err(cannot(name, "is no compose service: there is nothing to recreate"));
            }
            (Kind::StopStart { .. }, BringOver::Reload) => {
                return Err(cannot(name, "has `stop` and `start`, and no way to reload"));
            }
            _ => {}
        }
        let wait = plan.wait.map_or(WAIT, |wait| wait.0);
        let hold = plan.hold.map_or(HOLD, |hold| hold.0);
        Ok(Self { name: name.to_owned(), kind, bring_over, wait, hold, runner: runner.clone() })
    }

    /// The same, for more known values: those that a rotation has just made.
    pub fn knowing(&self, values: &[&SecretBytes]) -> Self {
        let values = || values.iter().copied();
        let kind = match &self.kind {
            Kind::Compose { compose, service } => {
                Kind::Compose { compose: compose.knowing(values()), service: service.clone() }
            }
            Kind::Systemd(unit) => Kind::Systemd(unit.knowing(values())),
            Kind::Restart { restart, pm2 } => {
                let pm2 = pm2.as_ref().map(|pm2| pm2.knowing(values()));
                Kind::Restart { restart: restart.clone(), pm2 }
            }
            other => other.clone(),
        };
        Self { kind, runner: self.runner.knowing(values()), ..self.clone() }
    }

    /// Its name in the plan.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// How long it may take to come up.
    pub fn wait(&self) -> Duration {
        self.wait
    }

    /// How long what is checked must go on holding.
    pub fn hold(&self) -> Duration {
        self.hold
    }

    /// How it takes new values.
    pub fn way(&self) -> BringOver {
        self.bring_over
    }

    /// Makes it take the values that its files hold now. Returns when that was ordered, not when it answers.
    ///
    /// One side effect: `up -d --force-recreate --no-deps SERVICE`, `systemctl restart|reload UNIT`, the plan's
    /// `restart`, or `stop` and then `start`. May be called again.
    ///
    /// # Errors
    ///
    /// [`AppError::Failed`] with the last lines of what was run.
    pub async fn bring_over(&self) -> Result<(), AppError> {
        match &self.kind {
            Kind::Compose { compose, service } => compose.recreate(service).await,
            Kind::Systemd(unit) if self.bring_over == BringOver::Reload => unit.change("reload").await,
            Kind::Systemd(unit) => unit.change("restart").await,
            Kind::Restart { restart, .. } => self.command("restart", restart).await,
            Kind::StopStart { .. } => {
                self.stop().await?;
                self.start().await
            }
        }
    }

    /// Refuses where the plan has no way to stop it and start it again.
    ///
    /// # Errors
    ///
    /// [`AppError::Cannot`].
    pub fn check_can_stop(&self) -> Result<(), AppError> {
        match &self.kind {
            Kind::Restart { .. } => Err(self.only_restarts()),
            Kind::Compose { .. } | Kind::Systemd(_) | Kind::StopStart { .. } => Ok(()),
        }
    }

    /// Stops it.
    ///
    /// # Errors
    ///
    /// [`AppError::Cannot`] where the plan only has `restart`; [`AppError::Failed`].
    pub async fn stop(&self) -> Result<(), AppError> {
        match &self.kind {
            Kind::Compose { compose, service } => compose.stop(service).await,
            Kind::Systemd(unit) => unit.change("stop").await,
            Kind::Restart { .. } => Err(self.only_restarts()),
            Kind::StopStart { stop, .. } => self.command("stop", stop).await,
        }
    }

    /// Starts it with the values that its files hold now.
    ///
    /// # Errors
    ///
    /// [`AppError::Cannot`] where the plan only has `restart`; [`AppError::Failed`].
    pub async fn start(&self) -> Result<(), AppError> {
        match &self.kind {
            // A container that was stopped has the environment it was made with.
            Kind::Compose { compose, service } => compose.recreate(service).await,
            Kind::Systemd(unit) => unit.change("start").await,
            Kind::Restart { .. } => Err(self.only_restarts()),
            Kind::StopStart { start, .. } => self.command("start", start).await,
        }
    }

    /// Whether it runs, since when, and as what.
    ///
    /// # Errors
    ///
    /// [`AppError`] if that cannot be asked.
    pub async fn standing(&self) -> Result<Standing, AppError> {
        match &self.kind {
            Kind::Compose { compose, service } => Ok(standing_of(&compose.containers(service).await?)),
            Kind::Systemd(unit) => {
                let shown = unit.show().await?;
                let Some(pid) = shown.main_pid.filter(|_| shown.is_up()) else {
                    let result = Some(shown.result).filter(|result| !matches!(&result[..], "" | "success"));
                    let words = [Some(shown.active), Some(shown.sub), result];
                    return Ok(Standing::Down(words.into_iter().flatten().collect::<Vec<_>>().join(", ")));
                };
                let started = proc::started(pid);
                Ok(Standing::Up(vec![Instance { id: pid.to_string(), started }]))
            }
            Kind::Restart { pm2: Some(pm2), .. } => Ok(pm2.standing().await?),
            Kind::Restart { pm2: None, .. } | Kind::StopStart { .. } => Ok(Standing::Unseen),
        }
    }

    /// What it wrote since then, the last 4 MiB; `None` where the plan does not say where its log is.
    ///
    /// # Errors
    ///
    /// [`AppError`] if the log cannot be read.
    pub async fn logs(&self, since: SystemTime) -> Result<Option<SecretBytes>, AppError> {
        match &self.kind {
            Kind::Compose { compose, service } => compose.logs(service, since).await.map(Some),
            Kind::Systemd(unit) => unit.logs(since).await.map(Some),
            Kind::Restart { .. } | Kind::StopStart { .. } => Ok(None),
        }
    }

    /// The last lines it wrote in the last ten minutes, scrubbed: what a failed check shows. Empty if there are none.
    pub async fn last_lines(&self, count: usize) -> Vec<String> {
        let since = SystemTime::now() - Duration::from_secs(600);
        match self.logs(since).await {
            Ok(Some(log)) => self.runner.known().last_lines(log.expose(), count),
            Ok(None) => Vec::new(),
            Err(error) => vec![format!("(its log cannot be read: {error})")],
        }
    }

    fn only_restarts(&self) -> AppError {
        cannot(&self.name, "has `restart` only: it cannot be stopped and started")
    }

    async fn command(&self, what: &str, argv: &[String]) -> Result<(), AppError> {
        let finished = self.runner.run(&Call::new(argv).limit(CHANGE)).await?;
        if finished.success() {
            return Ok(());
        }
        let last = self.runner.known().last_lines(finished.stderr.expose(), 10);
        Err(AppError::Failed { what: format!("{what} of {}", self.name), status: finished.status, last })
    }
}

fn standing_of(containers: &[Container]) -> Standing {
    if containers.is_empty() {
        return Standing::Down("there is no container".into());
    }
    if let Some(down) = containers.iter().find(|container| !container.is_up()) {
        let why = match (&down.status[..], down.health.as_deref()) {
            ("running", health) => health.unwrap_or("not healthy").to_owned(),
            (status, _) => format!("{status} (exit code {})", down.exit_code),
        };
        return Standing::Down(why);
    }
    let instance = |container: &Container| {
        let started = container.started.and_then(|at| at.duration_since(SystemTime::UNIX_EPOCH).ok());
        let id = format!("{} {}", container.id, started.unwrap_or_default().as_nanos());
        Instance { id, started: container.started }
    };
    Standing::Up(containers.iter().map(instance).collect())
}

fn cannot(app: &str, reason: &'static str) -> AppError {
    AppError::Cannot { app: app.to_owned(), reason }
}
