//! Docker Compose, by its command line: `docker compose`, the old `docker-compose`, or what the plan names.
//!
//! Containers are recreated, never restarted: a restarted container keeps the environment it was made with. Nothing
//! here stops a project as a whole, and nothing names a volume.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use jiff::Timestamp;
use reseal_crypto::secret::SecretBytes;

use super::AppError;
use super::docker_json::{ConfigJson, InspectJson};
use crate::plan;
use crate::process::{Call, Finished, Output, Runner};
use crate::stream::Stream;

/// How long a question may take.
const ASK: Duration = Duration::from_secs(60);

/// How long making or stopping a container may take; pulling an image may be part of it.
const CHANGE: Duration = Duration::from_secs(600);

/// The largest answer that is read.
const ANSWER_MAX: usize = 16 << 20;

/// The compose project of the plan.
#[derive(Debug, Clone)]
pub struct Compose {
    runner: Runner,
    /// What runs compose, with its files and its project.
    command: Vec<String>,
    /// What answers `inspect`.
    engine: String,
}

/// A service as compose would start it now.
#[derive(Debug, Clone)]
pub struct Service {
    /// The environment that a new container gets, from files and from the service itself, interpolated; `None` for
    /// names without a value.
    pub environment: BTreeMap<String, Option<SecretBytes>>,
    /// The files named by `env_file`; empty where this compose does not tell (before 2.32).
    pub env_files: Vec<PathBuf>,
    /// What it is made from, unless it is built.
    pub image: Option<String>,
    /// Program and arguments, as far as the compose file says them, interpolated.
    pub argv: Vec<SecretBytes>,
    /// Where its image is built, and the directories and files that are mounted into it.
    pub sources: Vec<PathBuf>,
}

/// A container of a service.
#[derive(Debug, Clone)]
pub struct Container {
    /// Its id: another one after every recreation.
    pub id: String,
    /// Its main process on the machine that Docker runs on, while it runs.
    pub pid: Option<u32>,
    /// `running`, `exited`, `restarting` …
    pub status: String,
    /// `healthy`, `unhealthy`, `starting`, where the image says how to find out.
    pub health: Option<String>,
    /// The exit code of its last process.
    pub exit_code: i32,
    /// When its process started.
    pub started: Option<SystemTime>,
    /// The environment it was made with.
    pub environment: BTreeMap<String, SecretBytes>,
    /// Program and arguments.
    pub argv: Vec<SecretBytes>,
    /// Its addresses on its networks.
    pub addresses: Vec<IpAddr>,
    /// Published ports: the container's, and where it is reached on this machine.
    pub published: Vec<(u16, IpAddr, u16)>,
    /// Where volumes and directories are mounted: data outside of these is gone with the container.
    pub mounts: Vec<PathBuf>,
}

impl Container {
    /// Whether it runs, and is not known to be unhealthy or still starting.
    pub fn is_up(&self) -> bool {
        self.status == "running" && self.health.as_deref().is_none_or(|health| health == "healthy")
    }
}

impl Compose {
    /// Finds what runs compose here.
    ///
    /// # Errors
    ///
    /// [`AppError::NoCompose`], or what running it says.
    pub async fn find(runner: &Runner, plan: Option<&plan::Compose>) -> Result<Self, AppError> {
        let mut command = match plan.and_then(|plan| plan.command.clone()) {
            Some(command) => command,
            None => detect(runner).await?,
        };
        let engine = engine_of(&command);
        if let Some(plan) = plan {
            for file in &plan.files {
                command.extend(["-f".to_owned(), file.display().to_string()]);
            }
            if let Some(project) = &plan.project {
                command.extend(["-p".to_owned(), project.clone()]);
            }
        }
        Ok(Self { runner: runner.clone(), command, engine })
    }

    /// The same, for more known values.
    pub fn knowing<'a>(&self, values: impl IntoIterator<Item = &'a SecretBytes>) -> Self {
        Self { runner: self.runner.knowing(values), ..self.clone() }
    }

    /// What every service would be started with now, by `config`.
    ///
    /// # Errors
    ///
    /// [`AppError::Failed`] where the files are wrong or this compose is too old to say it as JSON.
    pub async fn services(&self) -> Result<BTreeMap<String, Service>, AppError> {
        let resolved = self.ask(&["config", "--format", "json"]).await?;
        let resolved = ConfigJson::read(&resolved)?;
        // Resolved, the files are gone from the answer. Older composes refuse to show them; then they stay unknown.
        let named = self.ask(&["config", "--format", "json", "--no-env-resolution"]).await;
        let named = named.ok().and_then(|named| ConfigJson::read(&named).ok());
        let mut files = named.map(|named| named.env_files(self.runner.directory())).unwrap_or_default();
        let services = resolved.services.into_iter().map(|(name, service)| {
            let env_files = files.remove(&name).unwrap_or_default();
            (name, service.service(env_files))
        });
        Ok(services.collect())
    }

    /// The containers of a service, also those that do not run.
    ///
    /// # Errors
    ///
    /// [`AppError::NoService`], or what compose says.
    pub async fn containers(&self, service: &str) -> Result<Vec<Container>, AppError> {
        let listed = match self.ask(&["ps", "-a", "-q", service]).await {
            Err(AppError::Failed { last, .. })
                if last.iter().any(|line| line.contains("no such service")) =>
            {
                let known = self.services().await.map(|services| services.into_keys().collect());
                return Err(AppError::NoService {
                    service: service.to_owned(),
                    known: known.unwrap_or_default(),
                });
            }
            listed => listed?,
        };
        let ids: Vec<&str> = listed.expose_str().unwrap_or_default().split_whitespace().collect();
        if ids.is_empty() {
            return Ok(Vec::new());
        }
        let argv = [&self.engine[..], "inspect"].into_iter().chain(ids);
        let call = Call::new(argv).limit(ASK).output(Output::Whole(ANSWER_MAX));
        let finished = self.runner.run(&call).await?;
        let inspected = self.succeeded("inspect", finished)?.stdout;
        Ok(InspectJson::read(&inspected)?.into_iter().map(InspectJson::container).collect())
    }

    /// Makes the containers of a service anew, with what the files say now; other services stay as they are.
    ///
    /// One side effect: `up -d --force-recreate --no-deps SERVICE`. Also starts a service that was stopped.
    ///
    /// # Errors
    ///
    /// [`AppError::Failed`] with the last lines of compose.
    pub async fn recreate(&self, service: &str) -> Result<(), AppError> {
        self.change(&["up", "-d", "--force-recreate", "--no-deps", service]).await
    }

    /// Stops the containers of a service and leaves them there. One side effect: `stop SERVICE`.
    ///
    /// # Errors
    ///
    /// [`AppError::Failed`] with the last lines of compose.
    pub async fn stop(&self, service: &str) -> Result<(), AppError> {
        self.change(&["stop", service]).await
    }

    /// Runs a program inside the running container of a service.
    ///
    /// # Errors
    ///
    /// If compose does not run; a program that fails is an answer.
    pub async fn exec(
        &self,
        service: &str,
        argv: &[String],
        stdin: Option<SecretBytes>,
        limit: Duration,
    ) -> Result<Finished, AppError> {
        let mut call = self.exec_call(service, argv);
        if let Some(stdin) = stdin {
            call = call.stdin(stdin);
        }
        Ok(self.runner.run(&call.limit(limit)).await?)
    }

    /// Runs a program inside the running container of a service; its output is read as it comes.
    ///
    /// # Errors
    ///
    /// If compose does not start.
    pub fn stream(&self, service: &str, argv: &[String]) -> Result<Stream, AppError> {
        Ok(self.runner.stream(&self.exec_call(service, argv))?)
    }

    fn exec_call(&self, service: &str, argv: &[String]) -> Call {
        let words = ["exec", "-T", service].map(str::to_owned);
        Call::new(self.command.iter().cloned().chain(words).chain(argv.iter().cloned()))
    }

    /// What the containers of a service wrote since then, the last 4 MiB of it; may hold secrets.
    ///
    /// # Errors
    ///
    /// [`AppError::Failed`] with the last lines of compose.
    pub async fn logs(&self, service: &str, since: SystemTime) -> Result<SecretBytes, AppError> {
        let since = Timestamp::try_from(since).unwrap_or(Timestamp::UNIX_EPOCH).to_string();
        let words = ["logs", "--no-color", "--no-log-prefix", "--since", &since, service];
        let call = self.call(&words).limit(ASK).output(Output::Last(4 << 20));
        let finished = self.runner.run(&call).await?;
        Ok(self.succeeded("logs", finished)?.stdout)
    }

    fn call(&self, words: &[&str]) -> Call {
        Call::new(self.command.iter().map(String::as_str).chain(words.iter().copied()))
    }

    async fn ask(&self, words: &[&str]) -> Result<SecretBytes, AppError> {
        let call = self.call(words).limit(ASK).output(Output::Whole(ANSWER_MAX));
        let finished = self.runner.run(&call).await?;
        Ok(self.succeeded(words[0], finished)?.stdout)
    }

    async fn change(&self, words: &[&str]) -> Result<(), AppError> {
        let finished = self.runner.run(&self.call(words).limit(CHANGE)).await?;
        self.succeeded(&words.join(" "), finished).map(drop)
    }

    fn succeeded(&self, what: &str, finished: Finished) -> Result<Finished, AppError> {
        if finished.success() {
            return Ok(finished);
        }
        let last = self.runner.known().last_lines(finished.stderr.expose(), 10);
        Err(AppError::Failed { what: format!("compose {what}"), status: finished.status, last })
    }
}

async fn detect(runner: &Runner) -> Result<Vec<String>, AppError> {
    for words in [&["docker", "compose"][..], &["docker-compose"][..]] {
        let call = Call::new(words.iter().copied().chain(["version"])).limit(ASK);
        if runner.run(&call).await.is_ok_and(|finished| finished.success()) {
            return Ok(words.iter().map(|word| (*word).to_owned()).collect());
        }
    }
    Err(AppError::NoCompose)
}

/// `docker` of `docker compose` and of `docker-compose`; `podman` likewise.
fn engine_of(command: &[String]) -> String {
    let first = command.first().map_or("docker", String::as_str);
    first.strip_suffix("-compose").unwrap_or(first).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_engine_is_named_by_what_runs_compose() {
        for (command, engine) in [
            (&["docker", "compose"][..], "docker"),
            (&["docker-compose"], "docker"),
            (&["/opt/bin/podman-compose"], "/opt/bin/podman"),
            (&["podman", "compose"], "podman"),
        ] {
            let command: Vec<_> = command.iter().map(|word| (*word).to_owned()).collect();
            assert_eq!(engine_of(&command), engine);
        }
    }
}
