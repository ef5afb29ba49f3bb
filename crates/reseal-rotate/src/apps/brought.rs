//! Whether a running application has the values it should have.

use std::time::SystemTime;

use reseal_crypto::secret::SecretBytes;

use super::{App, AppError, Container, FingerprintKey, Instance, Kind, Standing, proc};
use crate::plan::BringOver;

/// A variable that a process should have if it has it at all.
#[derive(Debug, Clone)]
pub struct Expected {
    /// Its name.
    pub variable: String,
    /// Its whole value, as the reader of its file sees it.
    pub value: SecretBytes,
}

/// Whether a running application has the values it should have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Brought {
    /// Every process has them in its environment, or was started after the files were written.
    Yes,
    /// It does not run, has another value, or was started before; which, as a sentence about it.
    No(String),
    /// Nobody can tell from here; why, as a sentence about it.
    Unseen(String),
}

/// What a process has of one variable.
enum Has {
    Expected,
    Other,
    Unset,
    Unreadable,
}

impl App {
    /// Whether the running processes have these values.
    ///
    /// A variable in the environment that a process was started with is compared by its fingerprint under `key`: with
    /// another value there, no. A process that does not have the variable reads the file itself: then it counts
    /// whether it was started after `edited`, the time at which the files were last written. After a reload the main
    /// process is the old one, and only a check of the application can tell.
    ///
    /// # Errors
    ///
    /// [`AppError`] if the application cannot be asked about.
    pub async fn runs_with(
        &self,
        expected: &[Expected],
        edited: SystemTime,
        key: &FingerprintKey,
    ) -> Result<Brought, AppError> {
        let instances = match self.standing().await? {
            Standing::Up(instances) => instances,
            Standing::Down(why) => return Ok(Brought::No(format!("does not run: {why}"))),
            Standing::Unseen => return Ok(Brought::Unseen("has no process that could be looked at".into())),
        };
        let mut is_unreadable = false;
        let mut reads_itself = expected.is_empty();
        for Expected { variable, value } in expected {
            let found = self.have(variable, value, key).await?;
            if found.is_empty() {
                return Ok(Brought::No("does not run any more".into()));
            }
            for has in found {
                match has {
                    Has::Expected => {}
                    Has::Other => {
                        return Ok(Brought::No(format!(
                            "has another value of {variable} in its environment"
                        )));
                    }
                    Has::Unset => reads_itself = true,
                    Has::Unreadable => is_unreadable = true,
                }
            }
        }
        if !reads_itself && !is_unreadable {
            return Ok(Brought::Yes);
        }
        Ok(self.judged_by_start(&instances, edited, is_unreadable))
    }

    fn judged_by_start(&self, instances: &[Instance], edited: SystemTime, is_unreadable: bool) -> Brought {
        if instances.iter().any(|instance| instance.started.is_none()) {
            return Brought::Unseen("does not show when it was started".into());
        }
        let is_newer = instances.iter().all(|instance| instance.started.is_some_and(|at| at > edited));
        match (is_newer, self.bring_over) {
            (true, _) if is_unreadable => Brought::Unseen(
                "was started after the edit, but its environment belongs to another user".into(),
            ),
            (true, _) => Brought::Yes,
            (false, BringOver::Reload) => {
                Brought::Unseen("is reloaded: what it read since then only its checks can tell".into())
            }
            (false, _) => Brought::No("was started before its files were written".into()),
        }
    }

    /// What each running process has of a variable.
    async fn have(
        &self,
        variable: &str,
        value: &SecretBytes,
        key: &FingerprintKey,
    ) -> Result<Vec<Has>, AppError> {
        let expected = key.of(value);
        let judge = |found: Option<&SecretBytes>| match found.map(|found| key.of(found) == expected) {
            Some(true) => Has::Expected,
            Some(false) => Has::Other,
            None => Has::Unset,
        };
        match &self.kind {
            // What docker says, not /proc: its processes may run on another machine.
            Kind::Compose { compose, service } => {
                let containers = compose.containers(service).await?;
                let found = |container: &Container| judge(container.environment.get(variable));
                Ok(containers.iter().map(found).collect())
            }
            Kind::Systemd(unit) => {
                let Some(pid) = unit.show().await?.main_pid else { return Ok(Vec::new()) };
                let found = proc::variable(pid, variable).await;
                Ok(vec![found.map_or(Has::Unreadable, |found| judge(found.as_ref()))])
            }
            Kind::Restart { pm2: Some(pm2), .. } => {
                let mut found = Vec::new();
                for pid in pm2.pids().await? {
                    let variable = proc::variable(pid, variable).await;
                    found.push(variable.map_or(Has::Unreadable, |variable| judge(variable.as_ref())));
                }
                Ok(found)
            }
            Kind::Restart { pm2: None, .. } | Kind::StopStart { .. } => Ok(Vec::new()),
        }
    }
}
