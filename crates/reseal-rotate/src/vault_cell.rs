//! The vault, lent for one transaction at a time.

use std::cell::RefCell;
use std::fmt;

use reseal_vault::Vault;

/// A vault that several rotations of one thread work with.
///
/// Whoever has it cannot wait for anything meanwhile: what is done with it is a plain function, so nobody else finds it taken.
pub struct VaultCell<'v>(RefCell<&'v mut Vault>);

impl fmt::Debug for VaultCell<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("VaultCell")
    }
}

impl<'v> VaultCell<'v> {
    /// Lends this vault.
    pub fn new(vault: &'v mut Vault) -> Self {
        Self(RefCell::new(vault))
    }

    /// Does something with the vault.
    ///
    /// # Panics
    ///
    /// If `work` asks for it once more.
    pub fn with<T>(&self, work: impl FnOnce(&mut Vault) -> T) -> T {
        work(&mut self.0.borrow_mut())
    }
}
