//! What can go wrong with an application.

use std::process::ExitStatus;

use crate::process::ProcessError;

/// What can go wrong with an application. Holds names and scrubbed lines, never values.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AppError {
    /// A program could not be run, or not to its end.
    #[error(transparent)]
    Process(#[from] ProcessError),
    /// A program failed.
    #[error("`{what}` failed ({status}){}", shown(last))]
    Failed {
        /// What was asked for, in a few words.
        what: String,
        /// How it ended.
        status: ExitStatus,
        /// The last lines it wrote, scrubbed.
        last: Vec<String>,
    },
    /// Neither `docker compose` nor `docker-compose` runs.
    #[error("there is no compose: neither `docker compose` nor `docker-compose` runs")]
    NoCompose,
    /// The compose files have no such service.
    #[error("compose has no service `{service}`")]
    NoService {
        /// The service.
        service: String,
        /// The services there are.
        known: Vec<String>,
    },
    /// There is no such unit.
    #[error("systemd has no unit `{unit}`")]
    NoUnit {
        /// The unit.
        unit: String,
    },
    /// A program said something that cannot be understood. What it said may hold values and stays unsaid.
    #[error("`{what}` said something that cannot be read: {reason}")]
    Unreadable {
        /// What was asked for.
        what: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The application cannot do this.
    #[error("app `{app}` {reason}")]
    Cannot {
        /// The application.
        app: String,
        /// What it cannot do, as the rest of a sentence.
        reason: &'static str,
    },
}

impl AppError {
    /// What is safe to do next, as a sentence.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::NoCompose => {
                Some("install the compose plugin of docker, or name what runs it in [compose] command".into())
            }
            Self::NoService { known, .. } if !known.is_empty() => {
                Some(format!("the compose files have: {}", known.join(", ")))
            }
            Self::NoUnit { .. } => Some("list the units with `systemctl list-units --type=service`".into()),
            Self::Process(ProcessError::SecretInArguments { .. }) => {
                Some("let the command read the value on stdin or from its file".into())
            }
            _ => None,
        }
    }
}

fn shown(last: &[String]) -> String {
    last.last().map(|line| format!(": {line}")).unwrap_or_default()
}
