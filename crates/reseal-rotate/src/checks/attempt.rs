//! One attempt at one check.

use std::time::Duration;

use reseal_crypto::random::OsRandom;
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::{Check, Keys, Kind, Seen};
use crate::apps::{AppError, Compose};
use crate::http::{Http, Request};
use crate::process::{Call, Finished, Runner};

/// How long a connection may take.
const CONNECT: Duration = Duration::from_secs(5);

/// How long a command may take.
const COMMAND: Duration = Duration::from_secs(60);

/// Makes checks.
#[derive(Debug, Clone)]
pub struct Checker {
    pub(super) runner: Runner,
    http: Http,
    compose: Option<Compose>,
    keys: Keys,
}

impl Checker {
    /// Makes checks from here; `compose` is needed for commands inside a service.
    pub fn new(runner: &Runner, http: &Http, compose: Option<&Compose>) -> Self {
        let (runner, http) = (runner.clone(), http.clone());
        Self { runner, http, compose: compose.cloned(), keys: Keys::default() }
    }

    /// The same, with the keys that signed requests are made with.
    pub fn keys(self, keys: Keys) -> Self {
        Self { keys, ..self }
    }

    /// Tries a check once; a pattern in a log is not one that is tried, and fails here.
    pub async fn attempt(&self, check: &Check) -> Seen {
        let (passed, saw) = match &check.0 {
            Kind::Http { url, status, .. } => match self.http.send(&Request::get(url.clone())).await {
                Ok(answer) if answer.status == *status => (true, format!("it answered {status}")),
                Ok(answer) => {
                    let said = self.runner.known().last_lines(answer.body.expose(), 1).pop();
                    let said = said.map(|said| format!(": {said}")).unwrap_or_default();
                    (false, format!("it answered {}{said}", answer.status))
                }
                Err(error) => (false, error.to_string()),
            },
            Kind::Tcp { address } => match timeout(CONNECT, TcpStream::connect(address)).await {
                Ok(Ok(_)) => (true, "it accepted".to_owned()),
                Ok(Err(error)) => (false, error.to_string()),
                Err(_) => (false, format!("no connection within {} s", CONNECT.as_secs())),
            },
            Kind::Command { argv, inside } => match self.command(argv, inside.as_deref()).await {
                Ok(finished) if finished.success() => (true, "it succeeded".to_owned()),
                Ok(finished) => (false, self.failure(&finished)),
                Err(error) => (false, error.to_string()),
            },
            Kind::Signed(_) if self.keys.taken.is_empty() => {
                (false, "there is no key to sign with".to_owned())
            }
            Kind::Signed(request) => match request.check(&self.http, &self.keys, &OsRandom).await {
                Ok(seen) => return seen,
                Err(error) => (false, error.to_string()),
            },
            Kind::Log(_) => (false, "a log is watched, not tried once".to_owned()),
        };
        Seen { check: check.title(), passed, saw }
    }

    async fn command(&self, argv: &[String], inside: Option<&str>) -> Result<Finished, AppError> {
        let Some(service) = inside else {
            return Ok(self.runner.run(&Call::new(argv).limit(COMMAND)).await?);
        };
        let compose = self.compose.as_ref().ok_or(AppError::NoCompose)?;
        compose.exec(service, argv, None, COMMAND).await
    }

    fn failure(&self, finished: &Finished) -> String {
        let wrote = if finished.stderr.is_empty() { &finished.stdout } else { &finished.stderr };
        let last = self.runner.known().last_lines(wrote.expose(), 1).pop();
        let last = last.map(|line| format!(": {line}")).unwrap_or_default();
        format!("it failed ({}){last}", finished.status)
    }
}
