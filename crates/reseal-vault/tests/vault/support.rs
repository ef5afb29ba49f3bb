//! A vault in a temporary directory that opens by a key file: no Argon2, so tests may open it often.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use reseal_crypto::kdf::KdfParams;
use reseal_crypto::slot::Opener;
use reseal_crypto::{SecretBytes, Suite};
use reseal_vault::{
    AnchorDir, CreateOptions, Created, FixedClock, NewSlot, NewVersion, OpenOptions, Operator, SecretKind,
    SecretName, Timestamp, Vault, VaultError,
};
use tempfile::TempDir;

pub(crate) const NOW: Timestamp = Timestamp(1_700_000_000);

/// A directory with a vault in it, and what opens it.
pub(crate) struct Home {
    pub(crate) dir: TempDir,
    pub(crate) clock: Arc<FixedClock>,
}

pub(crate) fn key_file() -> Opener {
    Opener::KeyFile(SecretBytes::copy_from(&[0x4B; 32]))
}

pub(crate) fn name(text: &str) -> SecretName {
    text.parse().expect("a good name")
}

pub(crate) fn bytes(text: &str) -> SecretBytes {
    SecretBytes::copy_from(text.as_bytes())
}

pub(crate) fn password(text: &str) -> NewVersion {
    NewVersion::new(SecretKind::Password, bytes(text))
}

impl Home {
    pub(crate) fn new() -> Self {
        Self {
            dir: tempfile::tempdir().expect("a temporary directory"),
            clock: Arc::new(FixedClock::new(NOW)),
        }
    }

    /// A home with a new vault, closed again.
    pub(crate) fn with_vault() -> Self {
        let home = Self::new();
        home.create();
        home
    }

    pub(crate) fn path(&self) -> PathBuf {
        self.dir.path().join("test.vault")
    }

    pub(crate) fn options(&self) -> OpenOptions {
        OpenOptions {
            anchors: Some(AnchorDir::new(self.dir.path().join("state"))),
            operator: Operator { user: "alice".into(), sudo_user: None },
            clock: self.clock.clone(),
            ..OpenOptions::default()
        }
    }

    pub(crate) fn create_options(&self) -> CreateOptions {
        CreateOptions {
            slots: vec![NewSlot { name: "test key".into(), opener: key_file() }],
            kdf: KdfParams::FLOOR,
            recovery_code: true,
            suite: Suite::Xaes256Gcm,
            open: self.options(),
        }
    }

    pub(crate) fn create(&self) -> Created {
        Vault::create(&self.path(), self.create_options()).expect("the vault is created")
    }

    pub(crate) fn try_open(&self) -> Result<Vault, VaultError> {
        Vault::open(&self.path(), &key_file(), self.options())
    }

    pub(crate) fn open(&self) -> Vault {
        self.try_open().expect("the vault opens")
    }

    /// Changes the file behind the vault's back.
    pub(crate) fn tamper(&self, sql: &str) -> usize {
        tamper(&self.path(), sql)
    }
}

/// Runs one statement over a file behind the vault's back and says how many rows it changed.
pub(crate) fn tamper(path: &Path, sql: &str) -> usize {
    let connection = rusqlite::Connection::open(path).expect("SQLite opens the file");
    connection.execute(sql, ()).expect("the statement runs")
}
