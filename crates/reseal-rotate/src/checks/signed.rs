//! Requests signed with a shared secret: a service must take some keys and refuse others.

use hmac::{Hmac, KeyInit, Mac};
use reseal_crypto::random::{Random, RandomError};
use reseal_crypto::secret::SecretBytes;
use sha2::Sha256;

use super::{CheckError, Seen, status};
use crate::http::{Http, HttpError, Request, Url};
use crate::plan;

/// A POST whose body is signed: lower-case hex of HMAC-SHA-256 (RFC 2104) in a header.
#[derive(Debug, Clone)]
pub struct SignedRequest {
    url: Url,
    shown: String,
    body: String,
    header: String,
    status: u16,
}

/// Which keys a service must take, and which it must refuse; each with the name that people are told.
#[derive(Debug, Clone, Default)]
pub struct Keys {
    /// Those that must be taken.
    pub taken: Vec<(String, SecretBytes)>,
    /// Those that must be refused. A key that was never in use always belongs to these: a service that takes
    /// anything is found out so, and [`SignedRequest::check`] adds it.
    pub refused: Vec<(String, SecretBytes)>,
}

/// How a service answered one signature.
#[derive(Debug)]
pub enum Reply {
    /// With the expected status.
    Taken,
    /// With another 4xx.
    Refused(u16),
    /// With a status that says neither, such as 500 or 302.
    Unclear(u16),
    /// Not at all.
    Silent(HttpError),
}

impl SignedRequest {
    pub(super) fn new(plan: &plan::Check) -> Result<Self, CheckError> {
        let shown = plan.signed.clone().unwrap_or_default();
        let header = plan.header.clone().ok_or(CheckError::Signed("header"))?;
        match plan.mac.as_deref() {
            Some("hmac-sha256-hex") => {}
            Some(_) => {
                return Err(CheckError::Expect { kind: "signed", takes: "mac = \"hmac-sha256-hex\"" });
            }
            None => return Err(CheckError::Signed("mac")),
        }
        Ok(Self {
            url: Url::parse(&shown).map_err(CheckError::Url)?,
            shown,
            body: plan.body.clone().unwrap_or_default(),
            header,
            status: status(plan.expect.as_ref(), "signed")?,
        })
    }

    pub(super) fn title(&self) -> String {
        format!("{} answers {} to a signature", self.shown, self.status)
    }

    /// Sends the body, signed with this key.
    pub async fn send(&self, http: &Http, key: &SecretBytes) -> Reply {
        let body = SecretBytes::copy_from(self.body.as_bytes());
        let request = Request::post(self.url.clone(), body)
            .header("Content-Type", SecretBytes::copy_from(b"application/json"))
            .header(&self.header, sign(key, self.body.as_bytes()));
        match http.send(&request).await {
            Ok(answer) if answer.status == self.status => Reply::Taken,
            Ok(answer) if (400..500).contains(&answer.status) => Reply::Refused(answer.status),
            Ok(answer) => Reply::Unclear(answer.status),
            Err(error) => Reply::Silent(error),
        }
    }

    /// Proves that the service takes the keys it must take, and refuses the others and one that nobody has.
    ///
    /// # Errors
    ///
    /// [`RandomError`] if no such key can be drawn.
    pub async fn check(&self, http: &Http, keys: &Keys, random: &dyn Random) -> Result<Seen, RandomError> {
        let mut drawn = [0; 32];
        random.fill(&mut drawn)?;
        let wrong = SecretBytes::new(hex::encode(drawn).into_bytes());
        let wrong = ("a wrong key".to_owned(), wrong);
        let taken = keys.taken.iter().map(|key| (key, true));
        let refused = keys.refused.iter().chain([&wrong]).map(|key| (key, false));
        let (mut passed, mut words) = (true, Vec::new());
        for ((name, key), must_take) in taken.chain(refused) {
            let reply = self.send(http, key).await;
            passed &= match reply {
                Reply::Taken => must_take,
                Reply::Refused(_) => !must_take,
                Reply::Unclear(_) | Reply::Silent(_) => false,
            };
            words.push(match reply {
                Reply::Taken => format!("{name} is taken"),
                Reply::Refused(status) => format!("{name} is refused ({status})"),
                Reply::Unclear(status) => format!("{name} is answered with {status}"),
                Reply::Silent(error) => format!("{name}: {error}"),
            });
        }
        Ok(Seen { check: self.title(), passed, saw: words.join(", ") })
    }
}

fn sign(key: &SecretBytes, body: &[u8]) -> SecretBytes {
    // EXPOSE: the MAC reads the key and keeps nothing.
    let mut mac = Hmac::<Sha256>::new_from_slice(key.expose()).expect("HMAC takes keys of any length");
    mac.update(body);
    SecretBytes::new(hex::encode(mac.finalize().into_bytes()).into_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 4231, test case 2.
    #[test]
    fn the_signature_is_hmac_sha256_in_lower_case_hex() {
        let signature = sign(&SecretBytes::copy_from(b"Jefe"), b"what do ya want for nothing?");
        let expect = b"5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843";
        assert_eq!(signature, SecretBytes::copy_from(expect));
    }
}
