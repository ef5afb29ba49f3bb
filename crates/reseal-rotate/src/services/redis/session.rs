//! A login that changes users: how commands are sent and what of their errors is told.

use ::redis::aio::MultiplexedConnection;
use ::redis::{Cmd, FromRedisValue, RedisError};
use reseal_crypto::SecretBytes;

use super::reply;
use crate::services::ServiceError;

/// A connection of someone who may change users.
pub struct Session {
    node: String,
    user: String,
    connection: MultiplexedConnection,
    has_acl: bool,
}

impl std::fmt::Debug for Session {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Session").field("node", &self.node).field("user", &self.user).finish_non_exhaustive()
    }
}

impl Session {
    pub(super) async fn new(
        node: &str,
        user: &str,
        connection: MultiplexedConnection,
    ) -> Result<Self, ServiceError> {
        let (node, user) = (node.to_owned(), user.to_owned());
        let mut session = Self { node, user, connection, has_acl: true };
        let asked = session.send::<String>(command(&["ACL", "WHOAMI"])).await;
        // What counts is whether the command is there, not what the version is called.
        session.has_acl = !matches!(&asked, Err(error) if reply::is_unknown_command(error));
        Ok(session)
    }

    /// The user that is logged in.
    pub fn user(&self) -> &str {
        &self.user
    }

    /// Whether a user may hold two values here: from version 6, unless `ACL` is renamed away.
    pub fn has_overlap(&self) -> bool {
        self.has_acl
    }

    /// How many connections a user has, this one included. Before version 6: how many there are.
    ///
    /// # Errors
    ///
    /// [`ServiceError`] if the server does not say.
    pub async fn clients(&self, user: &str) -> Result<u64, ServiceError> {
        let list: String = self.ask("list clients", &["CLIENT", "LIST"]).await?;
        let field = format!("user={user}");
        let is_his = |line: &&str| !self.has_acl || line.split(' ').any(|word| word == field);
        Ok(list.lines().filter(is_his).count() as u64)
    }

    /// Ends all connections of a user but this one; returns how many there were. Before version 6: all clients'.
    ///
    /// A removed password does not end what it opened. Replicas that log in as this user come back by themselves.
    ///
    /// # Errors
    ///
    /// [`ServiceError::Rights`], [`ServiceError::Failed`].
    pub async fn end_clients(&self, user: &str) -> Result<u64, ServiceError> {
        let his = ["CLIENT", "KILL", "USER", user];
        let all = ["CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes"];
        self.ask("end connections", if self.has_acl { &his } else { &all }).await
    }

    pub(super) fn node(&self) -> &str {
        &self.node
    }

    /// Sends a command and takes its answer.
    pub(super) async fn ask<T: FromRedisValue>(
        &self,
        doing: &'static str,
        words: &[&str],
    ) -> Result<T, ServiceError> {
        self.send(command(words)).await.map_err(|error| self.failed(doing, &error))
    }

    /// `CONFIG SET` of a value, where nothing but a value will do. From version 6.2 the slow log leaves it out.
    pub(super) async fn set_value(
        &self,
        doing: &'static str,
        name: &str,
        value: &SecretBytes,
    ) -> Result<(), ServiceError> {
        let mut set = command(&["CONFIG", "SET", name]);
        // EXPOSE: these settings take no hash.
        set.arg(value.expose());
        self.send::<()>(set).await.map_err(|error| self.failed(doing, &error))
    }

    /// The value of a setting; `None` if there is no such setting.
    pub(super) async fn setting(&self, name: &str) -> Result<Option<SecretBytes>, ServiceError> {
        let pair: Vec<Vec<u8>> = self.ask("read the configuration", &["CONFIG", "GET", name]).await?;
        Ok(pair.into_iter().nth(1).map(SecretBytes::new))
    }

    /// A field of a section of `INFO`.
    pub(super) async fn info(&self, section: &str) -> Result<Vec<(String, String)>, ServiceError> {
        let text: String = self.ask("read INFO", &["INFO", section]).await?;
        let fields = text.lines().filter_map(|line| line.trim_end().split_once(':'));
        Ok(fields.map(|(name, value)| (name.to_owned(), value.to_owned())).collect())
    }

    async fn send<T: FromRedisValue>(&self, command: Cmd) -> Result<T, RedisError> {
        command.query_async(&mut self.connection.clone()).await
    }

    pub(super) fn failed(&self, doing: &'static str, error: &RedisError) -> ServiceError {
        let (node, reason) = (self.node.clone(), reply::reason(error));
        match error.code() {
            Some("NOPERM" | "NOAUTH") => ServiceError::Rights { node, needs: reason },
            Some(_) => ServiceError::Failed { node, doing, reason },
            None if error.is_io_error() || error.is_timeout() => ServiceError::Unreachable { node, reason },
            None => ServiceError::Failed { node, doing, reason: error.category().to_owned() },
        }
    }
}

fn command(words: &[&str]) -> Cmd {
    let mut command = Cmd::new();
    for word in words {
        command.arg(*word);
    }
    command
}
