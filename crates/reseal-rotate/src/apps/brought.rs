//! Whether a running application has the values it should have.

use std::collections::BTreeMap;
use std::time::SystemTime;

use reseal_crypto::secret::SecretBytes;

use super::{App, AppError, FingerprintKey, Instance, Kind, Standing, proc};
use crate::plan::{BringOver, Spot};

/// A variable that a process should have if it has it at all.
#[derive(Debug, Clone)]
pub struct Expected {
    /// Its name.
    pub variable: String,
    /// Where in it the value stands.
    pub spot: Spot,
    /// The value, decoded, as the reader of its file sees it.
    pub value: SecretBytes,
}

impl Expected {
    /// What stands in the place of the value; `None` where the variable has no such place.
    fn taken(&self, found: &SecretBytes) -> Option<SecretBytes> {
        let Some(place) = self.spot.to_place().filter(|_| self.spot != Spot::Whole) else {
            return Some(found.clone());
        };
        // EXPOSE: taken apart, and wiped.
        let whole = reseal_env::Secret::copy_from(found.expose());
        place.take(&whole).ok().map(|part| SecretBytes::copy_from(part.expose()))
    }
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

/// Where the variables are to be seen that a process was started with.
enum Environment {
    /// Told by whoever started it.
    Told(BTreeMap<String, SecretBytes>),
    /// In what the system keeps of this process.
    Of(u32),
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
        let environments = if expected.is_empty() { Vec::new() } else { self.environments().await? };
        if environments.is_empty() && !expected.is_empty() {
            return Ok(Brought::No("does not run any more".into()));
        }
        for (wanted, environment) in
            expected.iter().flat_map(|one| environments.iter().map(move |of| (one, of)))
        {
            match environment.has(wanted, key).await {
                Has::Expected => {}
                Has::Other => {
                    let variable = &wanted.variable;
                    return Ok(Brought::No(format!("has another value of {variable} in its environment")));
                }
                Has::Unset => reads_itself = true,
                Has::Unreadable => is_unreadable = true,
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

    /// Where the variables of each running process are to be seen.
    async fn environments(&self) -> Result<Vec<Environment>, AppError> {
        Ok(match &self.kind {
            // What docker says, not /proc: its processes may run on another machine.
            Kind::Compose { compose, service } => {
                let containers = compose.containers(service).await?.into_iter();
                containers.map(|container| Environment::Told(container.environment)).collect()
            }
            Kind::Systemd(unit) => unit.show().await?.main_pid.into_iter().map(Environment::Of).collect(),
            Kind::Restart { pm2: Some(pm2), .. } => {
                pm2.pids().await?.into_iter().map(Environment::Of).collect()
            }
            Kind::Restart { pm2: None, .. } | Kind::StopStart { .. } => Vec::new(),
        })
    }
}

impl Environment {
    /// What a process has of a variable.
    async fn has(&self, wanted: &Expected, key: &FingerprintKey) -> Has {
        let found = match self {
            Self::Told(variables) => variables.get(&wanted.variable).cloned(),
            Self::Of(pid) => match proc::variable(*pid, &wanted.variable).await {
                Ok(found) => found,
                Err(_) => return Has::Unreadable,
            },
        };
        match found {
            None => Has::Unset,
            Some(found) if wanted.taken(&found).is_some_and(|it| key.of(&it) == key.of(&wanted.value)) => {
                Has::Expected
            }
            Some(_) => Has::Other,
        }
    }
}
