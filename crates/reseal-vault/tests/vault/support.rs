//! A vault in a temporary directory that opens by a key file: no Argon2, so tests may open it often.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use reseal_crypto::kdf::KdfParams;
use reseal_crypto::slot::Opener;
use reseal_crypto::{SecretBytes, Suite};
use reseal_vault::{
    AnchorDir, CreateOptions, Created, ErrorKind, FixedClock, NewSlot, NewVersion, OpenOptions, Operator,
    SecretKind, SecretName, Timestamp, Vault, VaultError,
};
use tempfile::TempDir;

pub(crate) const NOW: Timestamp = Timestamp(1_700_000_000);

/// A directory for a vault, its anchors and its backup.
pub(crate) struct Home {
    directory: PathBuf,
    pub(crate) clock: Arc<FixedClock>,
    _temporary: Option<TempDir>,
}

pub(crate) fn key_file() -> Opener {
    Opener::KeyFile(SecretBytes::copy_from(&[0x4B; 32]))
}

pub(crate) fn new_key_file() -> Opener {
    Opener::KeyFile(SecretBytes::copy_from(&[0x4E; 32]))
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

/// The class of the error, for comparing.
pub(crate) fn kind<T>(result: Result<T, VaultError>) -> Result<T, ErrorKind> {
    result.map_err(|error| error.kind())
}

impl Home {
    pub(crate) fn new() -> Self {
        let temporary = tempfile::tempdir().expect("a temporary directory");
        Self { _temporary: Some(temporary), ..Self::at(Path::new("")) }.settled()
    }

    fn settled(mut self) -> Self {
        if let Some(temporary) = &self._temporary {
            self.directory = temporary.path().to_owned();
        }
        self
    }

    /// A directory that someone else made and removes.
    pub(crate) fn at(directory: &Path) -> Self {
        Self { directory: directory.to_owned(), clock: Arc::new(FixedClock::new(NOW)), _temporary: None }
    }

    /// A home with a new vault, closed again.
    pub(crate) fn with_vault() -> Self {
        let home = Self::new();
        home.create();
        home
    }

    /// A copy of everything, in a directory of its own.
    pub(crate) fn copied(&self) -> Self {
        let copy = Self::new();
        copy_tree(&self.directory, &copy.directory);
        copy
    }

    pub(crate) fn directory(&self) -> &Path {
        &self.directory
    }

    pub(crate) fn path(&self) -> PathBuf {
        self.directory.join("test.vault")
    }

    pub(crate) fn backup(&self) -> PathBuf {
        self.directory.join("backup.vault")
    }

    pub(crate) fn options(&self) -> OpenOptions {
        OpenOptions {
            anchors: Some(AnchorDir::new(self.directory.join("state"))),
            operator: Operator { user: "alice".into(), sudo_user: None },
            clock: self.clock.clone(),
            // Eight processes that write at once on a slow disk take longer than a person would wait.
            busy_timeout: std::time::Duration::from_secs(60),
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

    /// The file through SQLite, behind the vault's back and without its care.
    pub(crate) fn raw(&self) -> rusqlite::Connection {
        let connection = rusqlite::Connection::open(self.path()).expect("SQLite opens the file");
        connection.execute_batch("PRAGMA synchronous = OFF; PRAGMA journal_mode = MEMORY").expect("settings");
        connection
    }

    /// Runs one statement behind the vault's back and says how many rows it changed.
    pub(crate) fn tamper(&self, sql: &str) -> usize {
        self.raw().execute(sql, ()).expect("the statement runs")
    }
}

fn copy_tree(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).expect("the directory is made");
    for entry in std::fs::read_dir(from).expect("the directory is read") {
        let entry = entry.expect("an entry");
        let target = to.join(entry.file_name());
        if entry.file_type().expect("a type").is_dir() {
            copy_tree(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).expect("the file is copied");
        }
    }
}
