//! Users and their passwords, by hash: `ACL SETUSER` from version 6, `requirepass` before.

use std::fmt;

use ::redis::Value;
use reseal_crypto::SecretBytes;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::{DEFAULT_USER, Session};
use crate::services::ServiceError;

/// SHA-256 of a password in lower-case hexadecimal, which is how Redis keeps it.
///
/// It lets nobody in, but a weak password can be guessed from it: it belongs in the sealed journal.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct PasswordHash(String);

impl PasswordHash {
    /// The hash of a value.
    pub fn of(value: &SecretBytes) -> Self {
        // EXPOSE: the hash of the value is what this is for.
        Self(hex(&Sha256::digest(value.expose())))
    }
}

impl fmt::Debug for PasswordHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PasswordHash").finish_non_exhaustive()
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// What lets a user in, in the server's order: enough to bring it back exactly.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UserState {
    /// The passwords.
    pub passwords: Vec<PasswordHash>,
    /// Whether any password lets in (`nopass`).
    pub takes_anything: bool,
    /// Whether the user may log in.
    pub is_on: bool,
}

impl UserState {
    /// Whether this password is one of the user's own.
    pub fn holds(&self, hash: &PasswordHash) -> bool {
        self.passwords.contains(hash)
    }
}

impl Session {
    /// What lets a user in now; `None` if there is no such user.
    ///
    /// # Errors
    ///
    /// [`ServiceError::Rights`], [`ServiceError::Failed`].
    pub async fn state(&self, user: &str) -> Result<Option<UserState>, ServiceError> {
        if !self.has_overlap() {
            return self.single_state(user).await;
        }
        let answer: Value = self.ask("look at the user", &["ACL", "GETUSER", user]).await?;
        let Value::Array(fields) = answer else { return Ok(None) };
        let field = |name: &str| {
            let position = fields.iter().step_by(2).position(|field| text(field) == Some(name))?;
            fields.get(2 * position + 1)
        };
        let words = |name| field(name).map(texts).unwrap_or_default();
        let flags = words("flags");
        Ok(Some(UserState {
            passwords: words("passwords").into_iter().map(PasswordHash).collect(),
            takes_anything: flags.iter().any(|flag| flag == "nopass"),
            is_on: flags.iter().any(|flag| flag == "on"),
        }))
    }

    async fn single_state(&self, user: &str) -> Result<Option<UserState>, ServiceError> {
        if user != DEFAULT_USER {
            return Ok(None);
        }
        let password = self.setting("requirepass").await?.unwrap_or_default();
        let passwords = if password.is_empty() { Vec::new() } else { vec![PasswordHash::of(&password)] };
        Ok(Some(UserState { takes_anything: passwords.is_empty(), passwords, is_on: true }))
    }

    /// Whether a user's passwords can be changed here, without trying it.
    ///
    /// # Errors
    ///
    /// [`ServiceError::NoUser`], [`ServiceError::Rights`].
    pub async fn may_set(&self, user: &str) -> Result<(), ServiceError> {
        self.state(user).await?.ok_or_else(|| self.no_user(user))?;
        if !self.has_overlap() {
            return Ok(());
        }
        self.may(&["ACL", "SETUSER", user]).await
    }

    /// Whether connections of a user can be ended here, without trying it.
    ///
    /// # Errors
    ///
    /// [`ServiceError::Rights`].
    pub async fn may_end_clients(&self, user: &str) -> Result<(), ServiceError> {
        if !self.has_overlap() {
            return Ok(());
        }
        self.may(&["CLIENT", "KILL", "USER", user]).await
    }

    /// From version 7 the server tells; before, a user who may look may change, unless subcommands were split.
    async fn may(&self, command: &[&str]) -> Result<(), ServiceError> {
        let rehearsal = [&["ACL", "DRYRUN", self.user()], command].concat();
        match self.ask::<String>("rehearse the change", &rehearsal).await {
            Ok(answer) if answer != "OK" => {
                Err(ServiceError::Rights { node: self.node().to_owned(), needs: answer })
            }
            Ok(_) | Err(ServiceError::Failed { .. }) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Lets one more password in. One that is there already stays.
    ///
    /// # Errors
    ///
    /// [`ServiceError::NoOverlap`] before version 6, [`ServiceError::NoUser`], [`ServiceError::Rights`].
    pub async fn add(&self, user: &str, hash: &PasswordHash) -> Result<(), ServiceError> {
        if !self.has_overlap() {
            return Err(ServiceError::NoOverlap { node: self.node().to_owned() });
        }
        // The command would make a user that does not exist.
        self.state(user).await?.ok_or_else(|| self.no_user(user))?;
        self.ask("add a password", &["ACL", "SETUSER", user, &format!("#{}", hash.0)]).await
    }

    /// Takes passwords away, all at once. One that is gone already is no error; connections that they opened stay.
    ///
    /// # Errors
    ///
    /// [`ServiceError::Failed`] if the user has no other, [`ServiceError::NoUser`], [`ServiceError::Rights`].
    pub async fn remove(&self, user: &str, hashes: &[PasswordHash]) -> Result<(), ServiceError> {
        let doing = "remove a password";
        let state = self.state(user).await?.ok_or_else(|| self.no_user(user))?;
        let (ended, kept): (Vec<_>, Vec<_>) =
            state.passwords.iter().partition(|password| hashes.contains(password));
        if ended.is_empty() {
            return Ok(());
        }
        if kept.is_empty() {
            let reason = "it is the only one".to_owned();
            return Err(ServiceError::Failed { node: self.node().to_owned(), doing, reason });
        }
        let words: Vec<_> = ended.iter().map(|password| format!("!{}", password.0)).collect();
        let words = words.iter().map(String::as_str);
        self.ask(doing, &["ACL", "SETUSER", user].into_iter().chain(words).collect::<Vec<_>>()).await
    }

    /// Lets this value in and no other, at once. Before version 6 the value itself is sent, as `requirepass`.
    ///
    /// # Errors
    ///
    /// [`ServiceError::NoUser`], [`ServiceError::Rights`], [`ServiceError::Failed`].
    pub async fn set(&self, user: &str, value: &SecretBytes) -> Result<(), ServiceError> {
        self.state(user).await?.ok_or_else(|| self.no_user(user))?;
        let doing = "set the password";
        if !self.has_overlap() {
            return self.set_value(doing, "requirepass", value).await;
        }
        let hash = format!("#{}", PasswordHash::of(value).0);
        self.ask(doing, &["ACL", "SETUSER", user, "resetpass", &hash]).await
    }

    /// Brings a user's passwords back to what they were. `value`, the one the user had, is needed before version 6 only.
    ///
    /// # Errors
    ///
    /// As [`Session::set`].
    pub async fn restore(
        &self,
        user: &str,
        before: &UserState,
        value: &SecretBytes,
    ) -> Result<(), ServiceError> {
        let doing = "bring the passwords back";
        if !self.has_overlap() {
            let none = SecretBytes::default();
            return self
                .set_value(doing, "requirepass", if before.takes_anything { &none } else { value })
                .await;
        }
        let mut words = vec!["ACL".to_owned(), "SETUSER".to_owned(), user.to_owned(), "resetpass".to_owned()];
        words.extend(before.passwords.iter().map(|hash| format!("#{}", hash.0)));
        if before.takes_anything {
            words.push("nopass".to_owned());
        }
        words.push(if before.is_on { "on" } else { "off" }.to_owned());
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        self.ask(doing, &words).await
    }

    fn no_user(&self, user: &str) -> ServiceError {
        ServiceError::NoUser { node: self.node().to_owned(), user: user.to_owned() }
    }
}

fn text(value: &Value) -> Option<&str> {
    match value {
        Value::BulkString(bytes) => std::str::from_utf8(bytes).ok(),
        Value::SimpleString(text) => Some(text),
        _ => None,
    }
}

fn texts(value: &Value) -> Vec<String> {
    let Value::Array(values) = value else { return Vec::new() };
    values.iter().filter_map(text).map(str::to_owned).collect()
}
