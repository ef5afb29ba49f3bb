//! The row that `[records]` of the plan asks for, written once per rotation.

use std::collections::BTreeMap;

use jiff::Unit;
use reseal_crypto::SecretBytes;
use reseal_vault::{Timestamp, Vault, VersionSelector};

use super::action::{Action, RecordIn};
use super::connector::{Standing, StepError, Values};
use crate::error::RotateError;
use crate::plan::{Login, Plan, Secret};
use crate::schedule;
use crate::services::postgres::{RotationRow, Session};
use crate::services::{Access, Service, ServiceError};

/// The step, if the plan asks for it.
pub(super) fn step(plan: &Plan, secret: &Secret, by: &str) -> Option<Action> {
    let (records, credential) = (plan.file.records.as_ref()?, secret.record_as.clone()?);
    let every = secret.every.or(plan.file.environment.map(crate::plan::Environment::every));
    let reason =
        every.map_or_else(|| "rotation".to_owned(), |every| format!("scheduled rotation, every {every}"));
    let (server, table) = (records.server.clone(), records.table.clone());
    Some(Action::Record(RecordIn { server, table, credential, by: by.to_owned(), reason }))
}

/// The servers of such tables, and what lets in there.
#[derive(Debug)]
pub(super) struct Records<'a> {
    plan: &'a Plan,
    /// The secret that rotates, by its name in the plan.
    secret: String,
    logins: BTreeMap<String, SecretBytes>,
}

impl<'a> Records<'a> {
    /// Releases the logins of the servers that these actions concern.
    pub(super) fn of<'s>(
        plan: &'a Plan,
        vault: &mut Vault,
        secret: &str,
        actions: impl Iterator<Item = &'s Action>,
    ) -> Result<Self, RotateError> {
        let mut logins = BTreeMap::new();
        for action in actions {
            let Action::Record(at) = action else { continue };
            if let Some(Login::Secret(name)) =
                plan.server(&at.server).and_then(|server| server.login.as_ref())
            {
                let value = vault.get(&plan.secret_name(name).parse()?, VersionSelector::Current)?.value;
                logins.insert(at.server.clone(), value);
            }
        }
        Ok(Self { plan, secret: secret.to_owned(), logins })
    }

    pub(super) async fn rehearse(&self, at: &RecordIn, values: &Values) -> Result<(), StepError> {
        Ok(self.session(at, values).await?.check_records(&at.table).await?)
    }

    /// The row as it is to be, at this moment.
    pub(super) fn capture(&self, at: &RecordIn) -> Result<SecretBytes, StepError> {
        let unfit = |error: &dyn std::fmt::Display| StepError::Failed(error.to_string());
        let now = jiff::Timestamp::now().round(Unit::Microsecond).map_err(|error| unfit(&error))?;
        let due = schedule::next(self.plan, &self.secret, Timestamp(now.as_second()))
            .map_err(|error| unfit(&error))?;
        let due = due.and_then(|due| jiff::Timestamp::from_second(due.0).ok());
        let row = RotationRow {
            credential: at.credential.clone(),
            by: at.by.clone(),
            reason: at.reason.clone(),
            due: due.map(|due| due.to_string()),
            at: now.to_string(),
        };
        serde_json::to_vec(&row).map(SecretBytes::new).map_err(|error| unfit(&error))
    }

    pub(super) async fn probe(
        &self,
        at: &RecordIn,
        values: &Values,
        kept: &SecretBytes,
    ) -> Result<Standing, StepError> {
        let is_there = self.session(at, values).await?.has_record(&at.table, &row(kept)?).await?;
        Ok(if is_there { Standing::Done } else { Standing::NotDone })
    }

    pub(super) async fn apply(
        &self,
        at: &RecordIn,
        values: &Values,
        kept: &SecretBytes,
    ) -> Result<(), StepError> {
        Ok(self.session(at, values).await?.add_record(&at.table, &row(kept)?).await?)
    }

    pub(super) async fn undo(
        &self,
        at: &RecordIn,
        values: &Values,
        kept: &SecretBytes,
    ) -> Result<(), StepError> {
        Ok(self.session(at, values).await?.remove_record(&at.table, &row(kept)?).await?)
    }

    async fn session(&self, at: &RecordIn, values: &Values) -> Result<Session, StepError> {
        let gone = || StepError::Failed(format!("server `{}` is not in the plan any more", at.server));
        let server = self.plan.server(&at.server).ok_or_else(gone)?;
        let Service::Postgres(node) = Service::of(self.plan, &at.server, None)? else {
            return Err(StepError::Failed(format!("server `{}` holds no tables", at.server)));
        };
        let user = server.user_of(server.url.as_deref().unwrap_or_default());
        let is_rotated = matches!(&server.login, Some(Login::Secret(name)) if *name == self.secret);
        let accesses: Vec<Access<'_>> = match self.logins.get(&at.server) {
            None => vec![Access::Peer { user: &user }],
            // Its own login: which of the two lets in depends on how far the rotation is.
            Some(_) if is_rotated => {
                [&values.new, &values.old].map(|value| Access::Value { user: &user, value }).into()
            }
            Some(value) => vec![Access::Value { user: &user, value }],
        };
        let mut refused = None;
        for access in accesses {
            match node.session(access).await {
                Err(error @ ServiceError::LoginRefused { .. }) => refused = Some(error),
                other => return Ok(other?),
            }
        }
        Err(refused.map_or_else(gone, StepError::from))
    }
}

fn row(kept: &SecretBytes) -> Result<RotationRow, StepError> {
    // EXPOSE: a row of a table, no secret.
    serde_json::from_slice(kept.expose()).map_err(|error| StepError::Failed(error.to_string()))
}
