//! The demo's own files: a vault, what opens it, a plan, backups; gone when it ends.

use std::path::{Path, PathBuf};

use reseal_crypto::kdf::KdfParams;
use reseal_crypto::random::{OsRandom, Random};
use reseal_crypto::slot::Opener;
use reseal_crypto::{ColumnId, ColumnKey, KeyMaterial, SecretBytes, Suite};
use reseal_formats::{ColumnType, FormatSpec};
use reseal_sandbox::Directory;
use reseal_sandbox::codec::{CodecSealer, ColumnCodecs};
use reseal_sandbox::stage::PlanNames;
use reseal_sandbox::values::COLUMNS;
use reseal_vault::{
    CreateOptions, NewSlot, NewVersion, OpenOptions, SecretKind, SecretName, ValueFormat, ValueSize, Vault,
    generate,
};
use zeroize::Zeroizing;

use crate::exit::Exit;
use crate::failure::{Failure, Outcome};
use crate::new_file::write_new_file;

/// The secret whose versions are the keys of the demo's columns.
pub(super) const KEY_NAME: &str = "demo/db-key";
/// The columns, by their name in the plan.
pub(super) const COLUMNS_NAME: &str = "client-preferences";

const FROM: &str = r#"{ "format": "pgcrypto", "encoding": "base64" }"#;
const TO: &str = r#"{ "format": "reseal" }"#;

/// The directory of the demo.
#[derive(Debug)]
pub(super) struct Home {
    directory: Directory,
}

/// The two keys of the demo.
#[derive(Debug)]
pub(super) struct Keys {
    /// The passphrase that pgcrypto was given, text.
    pub(super) old: SecretBytes,
    new: ColumnKey,
}

impl Keys {
    /// The old key as the functions of the database take it.
    pub(super) fn old_passphrase(&self) -> &str {
        // EXPOSE: a throw-away key of the demo, for its own private database.
        self.old.expose_str().unwrap_or_default()
    }
}

impl Home {
    /// A new directory with a key file.
    pub(super) fn new() -> Outcome<Self> {
        let directory = Directory::new("reseal-demo-")?;
        let home = Self { directory };
        let mut key = Zeroizing::new([0; 32]);
        OsRandom.fill(&mut *key).map_err(|error| Failure::from_error(Exit::Failed, &error))?;
        write_new_file(&home.key_file(), &*key)?;
        Ok(home)
    }

    pub(super) fn path(&self) -> &Path {
        self.directory.path()
    }

    pub(super) fn key_file(&self) -> PathBuf {
        self.path().join("demo.key")
    }

    pub(super) fn vault(&self) -> PathBuf {
        self.path().join("demo.vault")
    }

    pub(super) fn plan(&self) -> PathBuf {
        self.path().join("reseal.toml")
    }

    /// Creates the vault with the old key current and the new one pending.
    pub(super) fn fill_vault(&self) -> Outcome<Keys> {
        let opener = Opener::KeyFile(crate::input::read_file(&self.key_file())?);
        let created = Vault::create(
            &self.vault(),
            CreateOptions {
                slots: vec![NewSlot { name: "demo".to_owned(), opener }],
                kdf: KdfParams::DEFAULT,
                recovery_code: false,
                suite: Suite::Xaes256Gcm,
                open: OpenOptions::default(),
            },
        )?;
        let mut vault = created.vault;
        let name: SecretName = KEY_NAME.parse()?;
        let old = generate(ValueFormat::Base64Url, ValueSize::Default, &OsRandom)?;
        let new =
            ColumnKey::generate(&OsRandom).map_err(|error| Failure::from_error(Exit::Failed, &error))?;
        vault.put(&name, NewVersion::new(SecretKind::Password, old.clone()))?;
        let text = SecretBytes::copy_from(new.to_text().as_bytes());
        vault.put(&name, NewVersion { pending: true, ..NewVersion::new(SecretKind::Key, text) })?;
        Ok(Keys { old, new })
    }

    /// Writes the plan file.
    pub(super) fn write_plan(&self, names: &PlanNames) -> Outcome<()> {
        let PlanNames { server, table } = names;
        let columns = COLUMNS.map(|column| format!("\"{column}\"")).join(", ");
        let plan = format!(
            "schema = 1\nvault = \"demo.vault\"\nprefix = \"demo/\"\n\n[servers.db]\n{server}\n\n\
             [columns.{COLUMNS_NAME}]\nserver  = \"db\"\ntable   = \"{table}\"\ncolumns = [{columns}]\n\
             key     = \"db-key\"\nonline  = true\nfrom    = {{ format = \"pgcrypto\", encoding = \"base64\" }}\n\
             to      = {{ format = \"reseal\" }}\n\n[secrets.\"db-key\"]\nstrategy = \"columns\"\n"
        );
        write_new_file(&self.plan(), plan.as_bytes())
    }

    /// The application's way of encrypting: pgcrypto under the old key, our envelope under the new one.
    pub(super) fn sealer(&self, keys: &Keys, names: &PlanNames) -> Outcome<CodecSealer> {
        let opener = Opener::KeyFile(crate::input::read_file(&self.key_file())?);
        let mut vault = Vault::open(&self.vault(), &opener, OpenOptions::default())?;
        let mut column = |index: usize| -> Outcome<ColumnCodecs> {
            // The same ids that the plan will find in the vault.
            let id = vault.column_id("db", &names.table, COLUMNS[index])?;
            let old = codec(FROM, &KeyMaterial::Foreign(keys.old.clone()), id)?;
            Ok(ColumnCodecs { old, new: codec(TO, &KeyMaterial::Column(keys.new.clone()), id)? })
        };
        Ok(CodecSealer::new([column(0)?, column(1)?, column(2)?]))
    }
}

fn codec(spec: &str, key: &KeyMaterial, column: ColumnId) -> Outcome<reseal_formats::Codec> {
    let spec: FormatSpec =
        serde_json::from_str(spec).map_err(|error| Failure::from_error(Exit::Failed, &error))?;
    spec.codec(ColumnType::Text, key, column).map_err(|error| Failure::from_error(Exit::Failed, &error))
}
