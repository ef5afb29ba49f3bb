//! Notices to people: by mail, by web hook, by a command. No value ever stands in one, and none holds a rotation up.
//!
//! ```text
//! [notify] + vault --Notifier::of--> recipients, each with the occasions that it is told of
//! Notice --deliver--> every recipient that wants it, at the same time, 10 s each --> Delivery each
//! ```
//!
//! The address of a web hook is a secret: it stands in the vault, and no error, log or report names more than its name
//! there.

mod body;
mod mail;
mod recipient;

use std::fmt;
use std::time::Duration;

use futures_util::future::join_all;
use reseal_vault::Vault;

use crate::error::RotateError;
use crate::http::HttpError;
use crate::plan::{Occasion, Plan};
use crate::process::{ProcessError, Runner};
use crate::scrub::Known;

use recipient::Recipient;

/// How long one recipient may take to be told.
const LIMIT: Duration = Duration::from_secs(10);

/// What people are told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Notice {
    /// On which occasion.
    pub occasion: Occasion,
    /// The secrets that it is about, by their names in the plan.
    pub secrets: Vec<String>,
    /// In one line.
    pub heading: String,
    /// What else to know, a line each.
    pub lines: Vec<String>,
}

impl Notice {
    /// The same without these values, wherever they may have come from.
    #[must_use]
    pub fn without(self, known: &Known) -> Self {
        let clean = |line: String| known.scrub(line.as_bytes());
        Self {
            heading: clean(self.heading),
            lines: self.lines.into_iter().map(clean).collect(),
            secrets: self.secrets,
            occasion: self.occasion,
        }
    }
}

/// Why a recipient was not told. Names hosts and programs, never the address of a web hook or a password.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum NoticeError {
    /// What is needed to reach it is missing or wrong.
    #[error("{0}")]
    Unusable(String),
    /// The mail server did not take it.
    #[error("the mail server {host}: {why}")]
    Mail {
        /// Host and port.
        host: String,
        /// What it said.
        why: String,
    },
    /// The web hook did not answer.
    #[error(transparent)]
    Http(#[from] HttpError),
    /// The web hook did not take it.
    #[error("{host} answered {status}")]
    Status {
        /// Host and port.
        host: String,
        /// What it answered.
        status: u16,
    },
    /// The command did not run.
    #[error(transparent)]
    Process(#[from] ProcessError),
    /// The command failed.
    #[error("`{program}` ended with {status}")]
    Failed {
        /// The program.
        program: String,
        /// How it ended.
        status: std::process::ExitStatus,
    },
    /// It took too long, now or a moment ago.
    #[error("not told within {} s", LIMIT.as_secs())]
    TimedOut,
}

/// What became of one notice to one recipient.
#[derive(Debug)]
pub struct Delivery {
    /// The recipient, as people may read it.
    pub to: String,
    /// What it was about.
    pub occasion: Occasion,
    /// And which secrets.
    pub secrets: Vec<String>,
    /// Whether it was told.
    pub outcome: Result<(), NoticeError>,
}

/// Tells the recipients of a plan.
pub struct Notifier {
    recipients: Vec<Recipient>,
    /// Who took too long: not waited for again.
    is_slow: Vec<bool>,
    contact: Option<String>,
}

impl fmt::Debug for Notifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Notifier").field("recipients", &self.recipients.len()).finish_non_exhaustive()
    }
}

impl Notifier {
    /// The recipients of this plan; releases the password of the mail server and the addresses of web hooks. What is
    /// missing there keeps its recipient from being told, and nothing else.
    ///
    /// # Errors
    ///
    /// [`RotateError::Vault`] if the vault fails; [`RotateError::Http`] if the system has no certificates.
    pub fn of(plan: &Plan, vault: &mut Vault, runner: &Runner) -> Result<Self, RotateError> {
        let recipients = match &plan.file.notify {
            Some(notify) => recipient::all(plan, notify, vault, runner)?,
            None => Vec::new(),
        };
        let contact = plan.file.notify.as_ref().and_then(|notify| notify.contact.clone());
        Ok(Self { is_slow: vec![false; recipients.len()], recipients, contact })
    }

    /// Tells everyone who wants to know; takes 10 s at most.
    pub async fn deliver(&mut self, notice: &Notice) -> Vec<Delivery> {
        let contact = self.contact.as_deref();
        let told = self.recipients.iter().zip(&mut self.is_slow).filter(|(to, _)| to.wants(notice.occasion));
        join_all(told.map(|(recipient, is_slow)| async move {
            let outcome = if *is_slow {
                Err(NoticeError::TimedOut)
            } else {
                let told = tokio::time::timeout(LIMIT, recipient.tell(notice, contact)).await;
                told.unwrap_or(Err(NoticeError::TimedOut))
            };
            *is_slow |= matches!(outcome, Err(NoticeError::TimedOut));
            let Notice { occasion, secrets, .. } = notice.clone();
            Delivery { to: recipient.label().to_owned(), occasion, secrets, outcome }
        }))
        .await
    }
}
