//! Vaults that a key file opens: what stretching a passphrase takes says nothing about the work.

use std::fs;
use std::path::Path;

use reseal_crypto::kdf::KdfParams;
use reseal_crypto::slot::Opener;
use reseal_crypto::{SecretBytes, Suite};
use reseal_vault::{CreateOptions, NewSlot, OpenOptions, Vault};

use crate::BoxError;

/// The name of every vault here.
pub(crate) const VAULT: &str = "v.vault";

/// The key of every vault here.
const KEY: &[u8; 32] = b"a key that opens benchmarks only";

/// Makes a vault, and the key file beside it.
pub(crate) fn create(directory: &Path) -> Result<Vault, BoxError> {
    fs::write(directory.join("key-file"), KEY)?;
    let options = CreateOptions {
        slots: vec![NewSlot { name: "key-file".into(), opener: opener() }],
        kdf: KdfParams::DEFAULT,
        recovery_code: false,
        suite: Suite::Xaes256Gcm,
        open: OpenOptions::default(),
    };
    Ok(Vault::create(&directory.join(VAULT), options)?.vault)
}

/// Opens it.
pub(crate) fn open(directory: &Path) -> Result<Vault, BoxError> {
    Ok(Vault::open(&directory.join(VAULT), &opener(), OpenOptions::default())?)
}

fn opener() -> Opener {
    Opener::KeyFile(SecretBytes::copy_from(KEY))
}
