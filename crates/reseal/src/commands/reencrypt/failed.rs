//! What a failure of `reencrypt` says: what was being done, where, and what is safe to do next.

use reseal_engine::{DatabaseError, Direction, EngineError};
use reseal_rotate::RotateError;
use reseal_rotate::columns::ColumnRun;
use reseal_rotate::plan::Login;

use super::Work;
use crate::failure::Failure;

impl Work<'_> {
    /// A failure of a command that leaves no state behind, or none that matters to it.
    pub(super) fn failed(&self, doing: &str, name: &str, error: RotateError) -> Failure {
        let is_interrupted = matches!(error, RotateError::Engine(EngineError::Interrupted));
        let (place, hint) = match &error {
            RotateError::Engine(EngineError::Database(cause)) => self.place_and_hint(name, cause),
            _ => (String::new(), None),
        };
        let failure = Failure::from(error).while_doing(format!("cannot {doing} `{name}`{place}"));
        let failure = hint.into_iter().fold(failure, Failure::hint);
        match self.app.signals.exit() {
            Some(exit) if is_interrupted => failure.with_exit(exit),
            _ => failure,
        }
    }

    /// A failure of a run that is frozen, or was about to be.
    pub(super) fn stopped(&self, doing: &str, run: &ColumnRun, error: RotateError) -> Failure {
        let next = run.is_begun().then(|| next_for(run, &error)).flatten();
        let failure = self.failed(doing, &run.record().columns, error);
        next.into_iter().fold(failure, Failure::hint)
    }

    /// The server by its name in the plan, and what a person can do about a way in that is closed.
    fn place_and_hint(&self, name: &str, error: &DatabaseError) -> (String, Option<String>) {
        let Some(columns) = self.plan.columns(name) else { return Default::default() };
        let server = &columns.server;
        let login = self.plan.server(server).and_then(|server| server.login.as_ref());
        let hint = match (error.code.as_deref(), login) {
            (Some("28P01"), Some(Login::Secret(secret))) => Some(format!(
                "if the password was changed on the server, store the one that is valid now: `reseal put {} --vault-only`",
                self.plan.secret_name(secret)
            )),
            (Some("28P01"), _) => Some(format!(
                "say which secret holds the password: `login = \"secret:NAME\"` in [servers.{server}]"
            )),
            (Some("28000" | "3D000"), _) => {
                Some(format!("see that the url in [servers.{server}] of the plan is right"))
            }
            _ => None,
        };
        (format!(" on server `{server}`"), hint)
    }
}

/// What is next for a run that stopped half-way.
fn next_for(run: &ColumnRun, error: &RotateError) -> Option<String> {
    let RotateError::Engine(error) = error else { return None };
    if error.passes_by() {
        return Some("the state is kept: the same command goes on where this one stopped".into());
    }
    if !matches!(error, EngineError::Database(_) | EngineError::NotStored { .. }) {
        return None;
    }
    let record = run.record();
    let mend = "nothing of this batch was written: mend what stands in the way, then repeat the command";
    Some(match record.plan.direction {
        Direction::Forward if record.rotation.is_none() => {
            format!("{mend}, or take the run back with `reseal reencrypt rollback {}`", record.columns)
        }
        _ => mend.into(),
    })
}
