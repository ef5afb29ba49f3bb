//! What a step keeps in the sealed journal until it is over: states and hashes, as JSON.

use reseal_crypto::SecretBytes;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::ServiceError;

pub(super) fn pack<T: Serialize>(state: &T) -> SecretBytes {
    SecretBytes::new(serde_json::to_vec(state).expect("texts, numbers and lists are JSON"))
}

/// Reads what [`pack`] wrote.
pub(super) fn unpack<T: DeserializeOwned>(node: &str, kept: &SecretBytes) -> Result<T, ServiceError> {
    // EXPOSE: hashes and names.
    serde_json::from_slice(kept.expose()).map_err(|_| ServiceError::Failed {
        node: node.to_owned(),
        doing: "go on",
        reason: "what was kept of it cannot be read".into(),
    })
}
