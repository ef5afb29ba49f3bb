//! Which vault is meant, and the ways to open it: named on the command line, by an agent, or asked for.

use std::fs;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use reseal_crypto::slot::Opener as VaultOpener;
use reseal_crypto::{Passphrase, SecretBytes, text};
use reseal_rotate::plan::{NamedVault, Plan, PlanError};
use reseal_vault::{
    AnchorDir, ErrorKind, LockedVault, OpenOptions, Operator, RecoveryCode, RecoveryCodeError, UnlockedKey,
    Vault, VaultError,
};

use crate::app::{App, user_directory};
use crate::args::Opener;
use crate::exit::Exit;
use crate::failure::{Failure, Outcome};
use crate::input;

/// How often a mistyped passphrase is asked for again.
const TRIES: usize = 3;

impl App {
    /// The plan file that is meant, if there is one.
    ///
    /// # Errors
    ///
    /// It cannot be read, is wrong, or was found where others could have put it.
    pub(crate) fn plan(&self) -> Outcome<Option<Plan>> {
        let plan = self.read_plan()??;
        self.planned_vault.get_or_init(|| plan.as_ref().and_then(Plan::vault));
        Ok(plan)
    }

    fn read_plan(&self) -> Outcome<Result<Option<Plan>, PlanError>> {
        Ok(match &self.global.config {
            Some(path) => Plan::load(path).map(Some),
            None => Plan::discover(&std::env::current_dir()?),
        })
    }

    /// The plan file, which this command cannot do without.
    ///
    /// # Errors
    ///
    /// There is none, it cannot be read, or is wrong.
    pub(crate) fn needed_plan(&self) -> Outcome<Plan> {
        self.plan()?.ok_or_else(|| {
            Failure::new(Exit::NotFound, "there is no plan file `reseal.toml` here or in a directory above")
                .hint("write one, or name it with --config")
        })
    }

    /// The vault that is meant: by name, by the plan, or the default one of this user. A plan that is wrong elsewhere than
    /// where it names its vault keeps nobody from it.
    ///
    /// # Errors
    ///
    /// The plan does not say which vault it means, or the user has no home.
    pub(crate) fn vault_path(&self) -> Outcome<PathBuf> {
        if let Some(path) = &self.global.vault {
            return Ok(path.clone());
        }
        if self.planned_vault.get().is_none() {
            let planned = match self.read_plan()? {
                Ok(plan) => plan.as_ref().and_then(Plan::vault),
                Err(error) => self.vault_of_broken_plan(error)?,
            };
            self.planned_vault.get_or_init(|| planned);
        }
        if let Some(path) = self.planned_vault.get().cloned().flatten() {
            return Ok(path);
        }
        Ok(user_directory("XDG_DATA_HOME", ".local/share")?.join("default.vault"))
    }

    fn vault_of_broken_plan(&self, error: PlanError) -> Outcome<Option<PathBuf>> {
        let vault = match error.vault() {
            NamedVault::Named(vault) => Some(vault.clone()),
            NamedVault::NotNamed => None,
            NamedVault::Unknown => return Err(Failure::from(error).hint("or name the vault with --vault")),
        };
        self.ui.warn(format!("the plan cannot be used: {error}"));
        Ok(vault)
    }

    /// How a vault is opened: who acts, and which anchors count.
    ///
    /// # Errors
    ///
    /// The user has no home.
    pub(crate) fn open_options(&self) -> Outcome<OpenOptions> {
        let anchors = user_directory("XDG_STATE_HOME", ".local/state")?.join("anchors");
        Ok(OpenOptions {
            anchors: Some(AnchorDir::new(anchors)),
            operator: operator(),
            ..OpenOptions::default()
        })
    }

    /// Opens the vault.
    ///
    /// # Errors
    ///
    /// There is none, or nothing opens it.
    pub(crate) fn vault(&self) -> Outcome<Vault> {
        self.vault_with(self.open_options()?)
    }

    /// Opens the vault with these options.
    ///
    /// # Errors
    ///
    /// There is none, or nothing opens it.
    pub(crate) fn vault_with(&self, options: OpenOptions) -> Outcome<Vault> {
        let path = self.vault_path()?;
        let locked = LockedVault::find(&path, options)?;
        let key = self.key_of(&locked, &path)?;
        Ok(locked.unlock(key)?)
    }

    /// Derives the key of a vault or backup: from what the command line names, from an agent, or from what is typed.
    ///
    /// # Errors
    ///
    /// Nothing opens it.
    pub(crate) fn key_of(&self, locked: &LockedVault, path: &Path) -> Outcome<UnlockedKey> {
        if self.global.opener()?.is_none()
            && let Some(key) = self.agent_key(locked.id())
        {
            return Ok(key);
        }
        let mut key = None;
        self.try_openers(path, |opener| {
            key = Some(locked.unwrap_key(opener)?);
            Ok(())
        })?;
        key.ok_or_else(|| Failure::new(Exit::Locked, "the vault stays locked"))
    }

    /// Finds what opens a vault or backup, where a key alone is not enough.
    ///
    /// # Errors
    ///
    /// Nothing opens it.
    pub(crate) fn opener_for(&self, locked: &LockedVault, path: &Path) -> Outcome<VaultOpener> {
        self.try_openers(path, |opener| locked.unwrap_key(opener).map(drop))
    }

    fn try_openers(
        &self,
        path: &Path,
        mut open: impl FnMut(&VaultOpener) -> Result<(), VaultError>,
    ) -> Outcome<VaultOpener> {
        if let Some(named) = self.global.opener()? {
            let key = vault_opener(&named)?;
            open(&key.opener).map_err(|error| key.explain(error))?;
            return Ok(key.opener);
        }
        let asker = self.asker();
        if !asker.can_ask() {
            return Err(Failure::new(Exit::Locked, format!("the vault {} is locked", path.display())).hint(
                "give --passphrase-file, --passphrase-command, --passphrase-fd or --key-file, or run `reseal unlock`",
            ));
        }
        for left in (0..TRIES).rev() {
            let typed = asker.secret(&format!("Passphrase of {}", path.display()))?;
            let key = OpeningKey::typed(input::passphrase(typed)?);
            match open(&key.opener) {
                Ok(()) => return Ok(key.opener),
                Err(error) if error.kind() == ErrorKind::Locked && left > 0 => {
                    self.ui.warn(error);
                    key.misread.into_iter().for_each(|misread| self.ui.warn(misread));
                }
                Err(error) => return Err(key.explain(error)),
            }
        }
        Err(Failure::new(Exit::Locked, "the vault stays locked"))
    }
}

/// What was given to open a vault.
#[derive(Debug)]
pub(crate) struct OpeningKey {
    /// What it is.
    pub(crate) opener: VaultOpener,
    /// What is wrong with it, if it was meant to be a recovery code.
    misread: Option<RecoveryCodeError>,
}

impl OpeningKey {
    /// A recovery code is accepted wherever a passphrase is: its checksum tells it apart.
    fn typed(passphrase: Passphrase) -> Self {
        // EXPOSE: parsed in place; a recovery code has a type of its own.
        let parsed =
            std::str::from_utf8(passphrase.expose()).ok().map(|typed| (typed, RecoveryCode::parse(typed)));
        let misread = match parsed {
            Some((_, Ok(code))) => return Self { opener: code.opener(), misread: None },
            Some((typed, Err(error))) if looks_like_a_code(typed) => Some(error),
            _ => None,
        };
        Self { opener: VaultOpener::Passphrase(passphrase), misread }
    }

    /// A vault that did not open, and what may be wrong with the code.
    fn explain(&self, error: VaultError) -> Failure {
        let is_locked = error.kind() == ErrorKind::Locked;
        let misread = self.misread.filter(|_| is_locked).map(|misread| misread.to_string());
        Failure::from(error).because(misread)
    }
}

/// Whether someone who typed this had a recovery code before them: its length and its hyphens, more or less.
fn looks_like_a_code(typed: &str) -> bool {
    let groups: Vec<_> = typed.trim().split(['-', ' ']).collect();
    (6..=10).contains(&groups.len())
        && groups
            .iter()
            .all(|group| (5..=9).contains(&group.len()) && group.bytes().all(|b| b.is_ascii_alphanumeric()))
}

/// What opens a vault, from what the command line names.
///
/// # Errors
///
/// The source cannot be read, or a key file is none.
pub(crate) fn vault_opener(opener: &Opener) -> Outcome<OpeningKey> {
    match (input::read_passphrase(opener)?, opener) {
        (Some(passphrase), _) => Ok(OpeningKey::typed(passphrase)),
        (None, Opener::KeyFile(path)) => Ok(OpeningKey { opener: key_file_opener(path)?, misread: None }),
        (None, _) => Err(Failure::new(Exit::Usage, "no passphrase")),
    }
}

/// What a key file opens: 32 bytes, or their 43 characters of base64url.
fn key_file_opener(path: &Path) -> Outcome<VaultOpener> {
    let bytes = input::read_file(path)?;
    // EXPOSE: decoded into a type that wipes itself.
    let exposed = bytes.expose();
    if exposed.len() == 32 {
        return Ok(VaultOpener::KeyFile(bytes));
    }
    match text::decode_key(exposed.strip_suffix(b"\n").unwrap_or(exposed)) {
        Some(key) => Ok(VaultOpener::KeyFile(SecretBytes::copy_from(&*key))),
        None => Err(Failure::new(Exit::Usage, format!("{} is no key file", path.display()))
            .hint("a key file has 32 bytes, or 43 characters of base64url")),
    }
}

/// Creates the directory of a file for this user alone, where it is missing.
///
/// # Errors
///
/// It cannot be created.
pub(crate) fn make_parent(path: &Path) -> Outcome<()> {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() && !parent.exists() => {
            Ok(fs::DirBuilder::new().recursive(true).mode(0o700).create(parent)?)
        }
        _ => Ok(()),
    }
}

/// Who runs this command, for the audit log.
fn operator() -> Operator {
    let uid = rustix::process::getuid().as_raw();
    let name = fs::read_to_string("/etc/passwd").ok().and_then(|users| user_name(&users, uid));
    let sudo_user = std::env::var("SUDO_USER").ok().filter(|user| !user.is_empty());
    Operator { user: name.unwrap_or_else(|| format!("uid {uid}")), sudo_user }
}

fn user_name(users: &str, uid: u32) -> Option<String> {
    users.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        (fields.nth(1)?.parse() == Ok(uid)).then(|| name.to_owned())
    })
}

#[cfg(test)]
mod tests {
    use reseal_crypto::random::OsRandom;

    use super::*;

    #[test]
    fn a_mistyped_code_is_told_from_a_passphrase() {
        let code = RecoveryCode::generate(&OsRandom).unwrap().to_text();
        let misread = |typed: &str| {
            let passphrase = Passphrase::new(SecretBytes::copy_from(typed.as_bytes())).unwrap();
            OpeningKey::typed(passphrase).misread
        };
        assert_eq!(misread(&code), None);
        assert_eq!(misread(&code[..code.len() - 1]), Some(RecoveryCodeError::Length(55)));
        let swapped = format!("{}{}{}", &code[1..2], &code[..1], &code[2..]);
        assert!(swapped == *code || misread(&swapped) == Some(RecoveryCodeError::Checksum));
        for passphrase in ["correct horse battery staple", "x", "six words that are a pass phrase"] {
            assert_eq!(misread(passphrase), None, "{passphrase}");
        }
    }

    #[test]
    fn users_are_found_by_number() {
        let users = "root:x:0:0:root:/root:/bin/sh\nada:x:1000:1000::/home/ada:/bin/sh\n";
        assert_eq!(user_name(users, 1000).as_deref(), Some("ada"));
        assert_eq!(user_name(users, 7), None);
    }
}
