//! Steps that need the vault themselves: output that is kept, the second copy of a key, columns under a key.

use std::path::Path;

use reseal_vault::VaultError;

use super::saved::{self, NotSaved};
use super::{Halt, Machine};
use crate::columns::find_second_copy;
use crate::error::RotateError;
use crate::rotation::action::Action;
use crate::rotation::connector::{ColumnWork, Standing};

/// How many copies of the vault may stand beside each other.
const COPIES_MAX: u32 = 100;

impl Machine<'_, '_> {
    pub(super) async fn save_output(&mut self, action: &Action, name: &str) -> Result<(), Halt> {
        let output = self.world.output(action, &self.values).await.map_err(|error| self.said(error))?;
        match self.vault.with(|vault| saved::save(vault, name, output, &self.cancel)) {
            Ok(()) => Ok(()),
            Err(NotSaved::Cancelled) => Err(self.interrupted().into()),
            Err(NotSaved::Output(why)) => Err(Halt::Step(why)),
            Err(NotSaved::Vault(error)) => Err(RotateError::from(error).into()),
        }
    }

    /// Copies the vault. A copy that was broken off may have the name already: then the next one gets a number.
    pub(super) fn back_up(&mut self, file: &Path, is_resumed: bool) -> Result<(), Halt> {
        let (secret, to) = (self.rotation.secret.clone(), self.rotation.to);
        if self.vault.with(|vault| find_second_copy(vault, &secret, to))?.is_some() {
            return Ok(());
        }
        let copies = if is_resumed { COPIES_MAX } else { 1 };
        for number in 0..copies {
            let mut path = file.as_os_str().to_owned();
            if number > 0 {
                path.push(format!(".{number}"));
            }
            match self.vault.with(|vault| vault.backup_create(path.as_ref())) {
                Ok(_) => return Ok(()),
                Err(VaultError::Exists { .. }) => {}
                Err(error) => return Err(Halt::Step(error.to_string())),
            }
        }
        Err(Halt::Step(format!("{} is there already", file.display())))
    }

    pub(super) async fn reencrypt(&mut self, columns: &str, stopped: &[String]) -> Result<(), Halt> {
        self.keep_stopped(stopped).await?;
        self.column_work(ColumnWork::Reencrypt { columns }).await
    }

    /// The columns that undoing a step puts under the old key again, and the applications that do not run meanwhile.
    pub(super) fn taken_back(&self, action: &Action) -> Option<(String, Vec<String>)> {
        let columns = action.columns()?.to_owned();
        let is_admission = |action: &Action| matches!(action, Action::AdmitKey { columns: admitted } if *admitted == columns);
        match action {
            Action::Reencrypt { stopped, .. } => {
                // Where applications wrote under the new key before, what let them is undone last.
                let is_admitted = self.rotation.steps.iter().any(|step| is_admission(&step.action));
                (!is_admitted).then(|| (columns, stopped.clone()))
            }
            _ => Some((columns, Vec::new())),
        }
    }

    pub(super) async fn take_back(&mut self, columns: &str, stopped: &[String]) -> Result<(), Halt> {
        self.keep_stopped(stopped).await?;
        let rotation = self.rotation.id();
        self.column_work(ColumnWork::TakeBack { columns, rotation: &rotation }).await
    }

    pub(super) async fn prove_columns(&mut self, columns: &str) -> Result<(), Halt> {
        self.column_work(ColumnWork::Prove { columns }).await
    }

    /// What was stopped may have come up with the machine.
    async fn keep_stopped(&mut self, stopped: &[String]) -> Result<(), Halt> {
        for app in stopped {
            let stop = Action::StopApp { app: app.clone() };
            let nothing = reseal_crypto::SecretBytes::default();
            let standing = self.world.probe(&stop, &self.values, &nothing).await;
            if standing.map_err(|error| self.said(error))? == Standing::NotDone {
                let stopped = self.world.apply(&stop, &self.values, &nothing).await;
                stopped.map_err(|error| self.said(error))?;
            }
        }
        Ok(())
    }

    async fn column_work(&mut self, work: ColumnWork<'_>) -> Result<(), Halt> {
        let cancel = self.cancel.clone();
        match self.world.columns(self.vault, work, &cancel).await {
            Ok(()) => Ok(()),
            Err(_) if cancel.is_cancelled() => Err(self.interrupted().into()),
            Err(error) => Err(self.said(error)),
        }
    }
}
