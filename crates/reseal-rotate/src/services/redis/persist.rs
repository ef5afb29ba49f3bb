//! Whether a change outlives the server: users are in memory until someone writes them.

use super::Session;
use crate::services::ServiceError;

/// Where a server starts from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Persistence {
    /// A file of users (`aclfile`), written by `ACL SAVE`.
    AclFile,
    /// Its configuration file, written by `CONFIG REWRITE`.
    ConfigFile,
    /// Its arguments alone: a restart brings the old value back. The new one has to stand where the arguments are made,
    /// and the server is then started anew with them.
    Arguments,
    /// The server does not tell: a provider keeps its configuration.
    Unknown,
}

impl Session {
    /// Where this server starts from.
    ///
    /// # Errors
    ///
    /// [`ServiceError::Unreachable`].
    pub async fn persistence(&self) -> Result<Persistence, ServiceError> {
        match self.setting("aclfile").await {
            Ok(Some(path)) if !path.is_empty() => return Ok(Persistence::AclFile),
            Ok(_) => {}
            Err(error @ ServiceError::Unreachable { .. }) => return Err(error),
            Err(_) => return Ok(Persistence::Unknown),
        }
        let server = self.info("server").await?;
        let file = server.iter().find(|(name, _)| name == "config_file").map(|(_, path)| path.as_str());
        Ok(match file {
            Some("") => Persistence::Arguments,
            Some(_) => Persistence::ConfigFile,
            None => Persistence::Unknown,
        })
    }

    /// Writes users and settings to the file that the server starts from, and says which that is. Nothing is written for
    /// [`Persistence::Arguments`] and [`Persistence::Unknown`]. May be repeated.
    ///
    /// `CONFIG REWRITE` also keeps every other setting that was changed while the server ran.
    ///
    /// # Errors
    ///
    /// [`ServiceError::NotPersistent`] if the server cannot write its file.
    pub async fn persist(&self) -> Result<Persistence, ServiceError> {
        let persistence = self.persistence().await?;
        let command: &[&str] = match persistence {
            // Logins of replicas stand in the configuration file all the same.
            Persistence::AclFile => &["ACL", "SAVE"],
            Persistence::ConfigFile => &["CONFIG", "REWRITE"],
            Persistence::Arguments | Persistence::Unknown => return Ok(persistence),
        };
        self.write_file(command).await?;
        Ok(persistence)
    }

    /// Writes settings, which are never in the file of users.
    pub(super) async fn persist_settings(&self) -> Result<Persistence, ServiceError> {
        let server = self.info("server").await?;
        let has_file = server.iter().any(|(name, path)| name == "config_file" && !path.is_empty());
        if !has_file {
            return Ok(Persistence::Arguments);
        }
        self.write_file(&["CONFIG", "REWRITE"]).await?;
        Ok(Persistence::ConfigFile)
    }

    async fn write_file(&self, command: &[&str]) -> Result<(), ServiceError> {
        match self.ask::<()>("write the file", command).await {
            Err(ServiceError::Failed { node, reason, .. } | ServiceError::Rights { node, needs: reason }) => {
                Err(ServiceError::NotPersistent { node, reason })
            }
            other => other,
        }
    }
}
