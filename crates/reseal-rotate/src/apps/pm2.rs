//! Applications that pm2 keeps, by `pm2 jlist`: it keeps the environment of the shell that started them, unless it is
//! told otherwise, so what they run with is looked at.

use std::path::Path;
use std::time::Duration;

use reseal_crypto::secret::SecretBytes;
use serde::Deserialize;

use super::{AppError, Instance, Standing, proc};
use crate::process::{Call, Output, Runner};

/// How long the question may take.
const ASK: Duration = Duration::from_secs(30);

/// An application, by its name in pm2.
#[derive(Debug, Clone)]
pub(super) struct Pm2 {
    runner: Runner,
    program: String,
    name: String,
}

/// One process, as pm2 lists it.
#[derive(Debug, Clone, Deserialize)]
struct Process {
    name: String,
    pid: u32,
    pm2_env: State,
}

#[derive(Debug, Clone, Deserialize)]
struct State {
    status: String,
}

impl Pm2 {
    /// The application that a command restarts, where that is one application of pm2.
    pub(super) fn of(runner: &Runner, restart: &[String]) -> Option<Self> {
        let [program, verb, name, ..] = restart else { return None };
        let is_pm2 = Path::new(program).file_name().is_some_and(|file| file == "pm2");
        let is_restart = matches!(verb.as_str(), "reload" | "restart");
        // Anything else is a number, all of them, or a file that names several.
        let is_name = name != "all"
            && !name.starts_with('-')
            && !name.bytes().all(|byte| byte.is_ascii_digit())
            && ![".js", ".cjs", ".json", ".yml", ".yaml"].iter().any(|end| name.ends_with(end));
        (is_pm2 && is_restart && is_name).then(|| Self {
            runner: runner.clone(),
            program: program.clone(),
            name: name.clone(),
        })
    }

    pub(super) fn knowing<'a>(&self, values: impl IntoIterator<Item = &'a SecretBytes>) -> Self {
        Self { runner: self.runner.knowing(values), ..self.clone() }
    }

    /// Whether all its processes run.
    pub(super) async fn standing(&self) -> Result<Standing, AppError> {
        let processes = self.processes().await?;
        if processes.is_empty() {
            return Ok(Standing::Down(format!("pm2 has no `{}`", self.name)));
        }
        let is_up = |process: &Process| process.pm2_env.status == "online" && process.pid != 0;
        if let Some(down) = processes.iter().find(|process| !is_up(process)) {
            return Ok(Standing::Down(down.pm2_env.status.clone()));
        }
        let instance =
            |process: &Process| Instance { id: process.pid.to_string(), started: proc::started(process.pid) };
        Ok(Standing::Up(processes.iter().map(instance).collect()))
    }

    /// The process ids of those that run.
    pub(super) async fn pids(&self) -> Result<Vec<u32>, AppError> {
        let processes = self.processes().await?;
        Ok(processes.into_iter().map(|process| process.pid).filter(|pid| *pid != 0).collect())
    }

    /// Its processes. What pm2 tells holds their environments, and is wiped.
    async fn processes(&self) -> Result<Vec<Process>, AppError> {
        let call = Call::new([&self.program, "jlist"]).limit(ASK).output(Output::Whole(16 << 20));
        let finished = self.runner.run(&call).await?;
        if !finished.success() {
            let last = self.runner.known().last_lines(finished.stderr.expose(), 10);
            return Err(AppError::Failed { what: "pm2 jlist".into(), status: finished.status, last });
        }
        let unreadable =
            |reason: &str| AppError::Unreadable { what: "pm2 jlist".into(), reason: reason.to_owned() };
        // EXPOSE: names and numbers are taken out of it. What pm2 has to say besides comes on lines before the list.
        let lines = finished.stdout.expose().split(|byte| *byte == b'\n');
        let list = lines.rev().find(|line| line.starts_with(b"[{") || line.starts_with(b"[]"));
        let list = list.ok_or_else(|| unreadable("it is no list"))?;
        let all: Vec<Process> =
            serde_json::from_slice(list).map_err(|_| unreadable("it is no list of processes"))?;
        Ok(all.into_iter().filter(|process| process.name == self.name).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scrub::Known;

    #[test]
    fn commands_that_restart_one_application_of_pm2_are_known() {
        let runner = Runner::new(Path::new("/"), [], Known::default());
        let of = |command: &str| {
            let words: Vec<String> = command.split(' ').map(str::to_owned).collect();
            Pm2::of(&runner, &words).map(|pm2| pm2.name)
        };
        assert_eq!(of("pm2 reload next --update-env").as_deref(), Some("next"));
        assert_eq!(of("/usr/local/bin/pm2 restart next").as_deref(), Some("next"));
        for other in [
            "pm2 reload all",
            "pm2 reload 0",
            "pm2 reload ecosystem.config.js",
            "pm2 start next",
            "make reload next",
            "pm2 reload",
        ] {
            assert_eq!(of(other), None, "{other}");
        }
    }
}
