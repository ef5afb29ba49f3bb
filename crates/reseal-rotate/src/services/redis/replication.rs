//! Replicas: each has users of its own and a login at its primary, `masterauth`.

use reseal_crypto::SecretBytes;
use serde::{Deserialize, Serialize};

use super::{DEFAULT_USER, Persistence, Session};
use crate::services::ServiceError;

/// A replica as its primary sees it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Replica {
    /// Its address.
    pub host: String,
    /// Its port.
    pub port: u16,
}

impl Session {
    /// The replicas that follow this server, as it sees them. One that is down is not among them.
    ///
    /// # Errors
    ///
    /// [`ServiceError`] if the server does not say.
    pub async fn replicas(&self) -> Result<Vec<Replica>, ServiceError> {
        let info = self.info("replication").await?;
        let mut replicas: Vec<Replica> =
            info.iter().filter_map(|(name, value)| replica(name, value)).collect();
        replicas.sort();
        Ok(replicas)
    }

    /// Whether this server follows another one; with it, whether it is in touch.
    ///
    /// # Errors
    ///
    /// [`ServiceError`] if the server does not say.
    pub async fn follows(&self) -> Result<Option<bool>, ServiceError> {
        let info = self.info("replication").await?;
        let field =
            |name: &str| info.iter().find(|(field, _)| field == name).map(|(_, value)| value.as_str());
        Ok((field("role") == Some("slave")).then(|| field("master_link_status") == Some("up")))
    }

    /// The user that this server logs in as at its primary.
    ///
    /// # Errors
    ///
    /// [`ServiceError`] if the server does not say.
    pub async fn primary_user(&self) -> Result<String, ServiceError> {
        let user = self.setting("masteruser").await?.unwrap_or_default();
        Ok(user.expose_str().filter(|user| !user.is_empty()).unwrap_or(DEFAULT_USER).to_owned())
    }

    /// Whether this is the value that the server logs in with at its primary.
    ///
    /// # Errors
    ///
    /// [`ServiceError`] if the server does not say.
    pub async fn has_primary_login(&self, value: &SecretBytes) -> Result<bool, ServiceError> {
        Ok(self.setting("masterauth").await?.unwrap_or_default() == *value)
    }

    /// Sets the value that the server logs in with at its primary, and writes it to the configuration file, the only
    /// place for it. The link that is open stays open: that the login works, a login at the primary shows.
    ///
    /// # Errors
    ///
    /// [`ServiceError::NotPersistent`], [`ServiceError::Rights`], [`ServiceError::Failed`].
    pub async fn set_primary_login(&self, value: &SecretBytes) -> Result<Persistence, ServiceError> {
        self.set_value("set masterauth", "masterauth", value).await?;
        self.persist_settings().await
    }
}

/// `slave0:ip=10.0.0.2,port=6379,state=online,…`
fn replica(name: &str, value: &str) -> Option<Replica> {
    let number = name.strip_prefix("slave")?;
    number.parse::<u32>().ok()?;
    let field = |name: &str| value.split(',').find_map(|part| part.strip_prefix(name)?.strip_prefix('='));
    Some(Replica { host: field("ip")?.to_owned(), port: field("port")?.parse().ok()? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replicas_are_read_from_info() {
        let expected = Replica { host: "10.0.0.2".into(), port: 6380 };
        let line = "ip=10.0.0.2,port=6380,state=online,offset=42,lag=0";
        assert_eq!(replica("slave0", line), Some(expected));
        assert_eq!(replica("slave_read_only", "1"), None);
        assert_eq!(replica("connected_slaves", "1"), None);
    }
}
