//! A vault file with any bytes changed, cut anywhere, or replaced: a clean error or the same values, never others.
#![no_main]

use std::path::Path;
use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use reseal_crypto::SecretBytes;
use reseal_crypto::kdf::KdfParams;
use reseal_crypto::slot::Opener;
use reseal_vault::{
    CreateOptions, NamePattern, NewSlot, NewVersion, OpenOptions, SecretKind, SecretName, Vault,
    VersionSelector,
};

const NAME: &str = "crm/redis/password";
const VALUE: &[u8] = b"correct horse battery staple";

/// The file of a small vault that a key file opens.
static ORIGINAL: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let path = directory.path().join("original.vault");
    let slot = NewSlot { name: "key file".into(), opener: opener() };
    let options = CreateOptions {
        slots: vec![slot],
        kdf: KdfParams::FLOOR,
        recovery_code: false,
        suite: reseal_crypto::Suite::Xaes256Gcm,
        open: OpenOptions::default(),
    };
    let mut vault = Vault::create(&path, options).expect("a new vault").vault;
    let value = NewVersion::new(SecretKind::Password, SecretBytes::copy_from(VALUE));
    vault.put(&name(), value).expect("a small secret");
    drop(vault);
    std::fs::read(&path).expect("the file of the vault")
});

fn opener() -> Opener {
    Opener::KeyFile(SecretBytes::new(vec![5; 32]))
}

fn name() -> SecretName {
    NAME.parse().expect("a name")
}

fuzz_target!(|edits: &[u8]| {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let path = directory.path().join("edited.vault");
    write_private(&path, &edited(edits));
    let Ok(mut vault) = Vault::open(&path, &opener(), OpenOptions::default()) else { return };
    if let Ok(list) = vault.list(&NamePattern::all(), true) {
        assert!(list.iter().all(|info| info.name.as_str() == NAME), "a secret appeared");
    }
    let _ = vault.audit_verify(None);
    if let Ok(secret) = vault.get(&name(), VersionSelector::Current) {
        assert_eq!(secret.value.expose(), VALUE, "another value came out");
    }
});

/// `0xFF` and a whole file, or four bytes for each edit (an offset and what to flip there), or three for a cut.
fn edited(edits: &[u8]) -> Vec<u8> {
    if let Some((0xFF, file)) = edits.split_first() {
        return file.to_vec();
    }
    let mut file = ORIGINAL.clone();
    for edit in edits.chunks(4) {
        let offset = edit.iter().take(3).fold(0, |offset, byte| offset << 8 | usize::from(*byte));
        match edit {
            [_, _, _, flip] if !file.is_empty() => {
                let at = offset % file.len();
                file[at] ^= flip;
            }
            [_, _, _] => file.truncate(offset),
            _ => {}
        }
    }
    file
}

fn write_private(path: &Path, bytes: &[u8]) {
    use std::os::unix::fs::PermissionsExt as _;
    std::fs::write(path, bytes).expect("a temporary file");
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600)).expect("our own file");
}
