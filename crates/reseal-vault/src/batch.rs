//! Several changes as one transaction: a pending version together with the journal record that says what it is for.

use reseal_crypto::SecretBytes;

use crate::audit::Event;
use crate::clock::Timestamp;
use crate::error::VaultError;
use crate::journal;
use crate::lifecycle;
use crate::model::{Labels, NewVersion};
use crate::name::SecretName;
use crate::secrets;
use crate::store::Change;
use crate::vault::Vault;

/// Changes that become durable together, or not at all.
pub struct VaultBatch<'a, 'v> {
    change: &'a mut Change<'v>,
    now: Timestamp,
}

impl std::fmt::Debug for VaultBatch<'_, '_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("VaultBatch").finish_non_exhaustive()
    }
}

impl Vault {
    /// Runs `work` in one transaction and commits what it did with the event that it returns. Nothing lasts if it fails.
    ///
    /// # Errors
    ///
    /// Those of `work`; [`VaultError::Busy`], [`VaultError::Tampered`].
    pub fn batch<T, E: From<VaultError>>(
        &mut self,
        work: impl FnOnce(&mut VaultBatch<'_, '_>) -> Result<(T, Event), E>,
    ) -> Result<T, E> {
        let now = self.now();
        let mut refusal = None;
        let changed = self.change(|change| {
            work(&mut VaultBatch { change, now }).map_err(|error| {
                refusal = Some(error);
                VaultError::refused("the batch was given up")
            })
        });
        match refusal {
            Some(error) => Err(error),
            None => changed.map_err(E::from),
        }
    }
}

impl VaultBatch<'_, '_> {
    /// The moment of the transaction.
    pub fn now(&self) -> Timestamp {
        self.now
    }

    /// Which versions the labels of a secret stand on.
    ///
    /// # Errors
    ///
    /// [`VaultError::NotFound`], also for a deleted one.
    pub fn labels(&mut self, name: &SecretName) -> Result<Labels, VaultError> {
        Ok(self.change.view.live_secret(name)?.labels)
    }

    /// As [`Vault::put`].
    ///
    /// # Errors
    ///
    /// Those of [`Vault::put`].
    pub fn put(&mut self, name: &SecretName, new: NewVersion) -> Result<u64, VaultError> {
        let number = secrets::put(self.change, name, new, self.now)?;
        self.change.audit(Event::done("put").of(name).version(number))?;
        Ok(number)
    }

    /// As [`Vault::promote`].
    ///
    /// # Errors
    ///
    /// Those of [`Vault::promote`].
    pub fn promote(&mut self, name: &SecretName) -> Result<u64, VaultError> {
        let (number, event) = lifecycle::promote(self.change, name)?;
        self.change.audit(event)?;
        Ok(number)
    }

    /// As [`Vault::discard_pending`].
    ///
    /// # Errors
    ///
    /// Those of [`Vault::discard_pending`].
    pub fn discard_pending(&mut self, name: &SecretName) -> Result<u64, VaultError> {
        let (number, event) = lifecycle::discard_pending(self.change, name)?;
        self.change.audit(event)?;
        Ok(number)
    }

    /// As [`Vault::revert`].
    ///
    /// # Errors
    ///
    /// Those of [`Vault::revert`].
    pub fn revert(&mut self, name: &SecretName, to: u64) -> Result<u64, VaultError> {
        let (number, event) = lifecycle::revert(self.change, name, to, self.now)?;
        self.change.audit(event)?;
        Ok(number)
    }

    /// As [`Vault::retire`].
    ///
    /// # Errors
    ///
    /// Those of [`Vault::retire`].
    pub fn retire(&mut self, name: &SecretName, number: u64) -> Result<(), VaultError> {
        let event = lifecycle::retire(self.change, name, number)?;
        self.change.audit(event)?;
        Ok(())
    }

    /// Reads a journal record as this transaction sees it.
    ///
    /// # Errors
    ///
    /// [`VaultError::Tampered`].
    pub fn journal_get(&mut self, kind: &str, id: &str) -> Result<Option<SecretBytes>, VaultError> {
        journal::read(&mut self.change.view, kind, id)
    }

    /// Stores a journal record, new or in the place of the one with the same kind and id.
    ///
    /// # Errors
    ///
    /// [`VaultError::Refused`] above 16 MiB.
    pub fn journal_put(&mut self, kind: &str, id: &str, bytes: &SecretBytes) -> Result<(), VaultError> {
        journal::write(self.change, kind, id, bytes)
    }

    /// Removes a journal record; says whether it was there.
    ///
    /// # Errors
    ///
    /// [`VaultError::Tampered`].
    pub fn journal_remove(&mut self, kind: &str, id: &str) -> Result<bool, VaultError> {
        journal::remove(self.change, kind, id)
    }

    /// Adds an audit entry before the one that the batch ends with.
    ///
    /// # Errors
    ///
    /// [`VaultError::Tampered`].
    pub fn audit(&mut self, event: Event) -> Result<(), VaultError> {
        self.change.audit(event).map(drop)
    }
}
