//! The audit chain: who did what, when and why; entries are added and never changed.
//!
//! ```text
//! body_i   = nonce || AEAD(K_audit, nonce, aad = (vault id, i, mac_{i-1}), JSON)
//! mac_i    = HMAC-SHA-256(K_i, canonical("reseal/v1/vault/audit", i, mac_{i-1}, body_i)),  mac_{-1} = 32 zero bytes
//! K_{i+1}  = HKDF-SHA-256(K_i, salt "", "reseal/v1/audit/next");  K_0 is random
//! ```
//!
//! `K_i` is overwritten by `K_{i+1}` in the transaction that adds entry `i`, so whoever takes the vault key later cannot
//! rewrite what came before, unless an older copy of the file gives an older `K_j` away. `K_0` belongs to the auditor.
//! Without it the log is still checked: numbers are dense, every body names its predecessor's MAC, and the head names
//! the last.

use reseal_crypto::Random;
use reseal_crypto::canonical::Canonical;
use reseal_crypto::hash::{equal, hkdf_sha256, hmac_sha256};
use reseal_crypto::secret::SubKey;
use reseal_crypto::text;
use rusqlite::{OptionalExtension, params};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::clock::Timestamp;
use crate::error::VaultError;
use crate::record::Place;
use crate::store::View;
use crate::tree::Digest;
use crate::vault::Vault;

/// Whether an entry announces something or reports it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum Outcome {
    /// About to be tried, where something outside of the vault changes.
    Intent,
    /// It happened.
    Done,
    /// It was tried and did not happen.
    Failed,
}

/// What happened: the part of an entry that the caller of the log says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// A short verb: `get`, `put`, `rotate`.
    pub action: String,
    /// What it happened to: the name of a secret, a slot, a file, a column.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub object: Option<String>,
    /// The version of the secret.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<u64>,
    /// Intent or result.
    pub outcome: Outcome,
    /// The run, rotation or incident it belongs to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run: Option<String>,
    /// Anything else worth knowing; never a secret.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
}

impl Event {
    /// Something that happened.
    pub fn done(action: impl Into<String>) -> Self {
        Self {
            action: action.into(),
            object: None,
            version: None,
            outcome: Outcome::Done,
            run: None,
            detail: None,
        }
    }

    /// Something that is about to be tried.
    pub fn intent(action: impl Into<String>) -> Self {
        Self { outcome: Outcome::Intent, ..Self::done(action) }
    }

    /// Says what it happened to.
    #[must_use]
    pub fn of(mut self, object: impl ToString) -> Self {
        self.object = Some(object.to_string());
        self
    }

    /// Says to which version.
    #[must_use]
    pub fn version(mut self, version: u64) -> Self {
        self.version = Some(version);
        self
    }

    /// Adds a detail.
    #[must_use]
    pub fn detail(mut self, detail: impl Into<String>) -> Self {
        self.detail = Some(detail.into());
        self
    }

    /// Says to which run it belongs.
    #[must_use]
    pub fn run(mut self, run: impl Into<String>) -> Self {
        self.run = Some(run.into());
        self
    }
}

/// Who acted, when and why: the part of an entry that the vault adds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stamp {
    /// When.
    pub time: Timestamp,
    /// The key slot that opened the vault.
    pub slot: String,
    /// The system user.
    pub user: String,
    /// Who became that user by `sudo`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sudo_user: Option<String>,
    /// Why, as the operator put it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// An entry as it is sealed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Entry {
    #[serde(flatten)]
    pub(crate) stamp: Stamp,
    #[serde(flatten)]
    pub(crate) event: Event,
}

/// An entry of the log as it is read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogEntry {
    /// Its number, from 0, without gaps.
    pub number: u64,
    /// Its MAC, which anchors name.
    pub mac: [u8; 32],
    /// Who, when and why.
    pub stamp: Stamp,
    /// What.
    pub event: Event,
}

/// The first key of a chain: with it every MAC of the log can be computed again. Belongs to the auditor, not to the host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuditorKey(SubKey);

impl AuditorKey {
    /// Reads the text form: 43 characters of base64url.
    pub fn from_text(text: &[u8]) -> Option<Self> {
        text::decode_key(text).map(|key| Self(SubKey::from_bytes(&key)))
    }

    /// The text form.
    pub fn to_text(&self) -> Zeroizing<String> {
        text::encode_key(self.0.expose())
    }
}

/// What [`Vault::audit_verify`] found; that it returns at all says that nothing is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuditReport {
    /// Entries, all numbered without gaps and each naming its predecessor.
    pub entries: u64,
    /// Records, all of them present, opened and covered by the integrity tree.
    pub records: u64,
    /// Whether every MAC was computed again with the auditor's key.
    pub macs_verified: bool,
    /// Anchors that were found in the log.
    pub anchors: usize,
}

impl Vault {
    /// Adds an entry of the caller's own: an intent before something outside changes, its result after.
    ///
    /// Returns the number of the entry; durable when it returns.
    ///
    /// # Errors
    ///
    /// [`VaultError::Busy`], [`VaultError::Tampered`], and failures of the disk. Do not act if an intent fails.
    pub fn record_event(&mut self, event: Event) -> Result<u64, VaultError> {
        self.change(|change| Ok((change.view.head.audit_len, event)))
    }

    /// The entries from `since` (inclusive) to `until` (exclusive), in order. `None` is without limit.
    ///
    /// # Errors
    ///
    /// [`VaultError::Tampered`] with the first bad entry; nothing is returned then.
    pub fn audit_log(
        &mut self,
        since: Option<Timestamp>,
        until: Option<Timestamp>,
    ) -> Result<Vec<LogEntry>, VaultError> {
        let mut entries = Vec::new();
        walk(&self.view()?, None, |entry| {
            let time = entry.stamp.time;
            if since.is_none_or(|since| time >= since) && until.is_none_or(|until| time < until) {
                entries.push(entry);
            }
        })?;
        Ok(entries)
    }

    /// Checks the whole log and every record of the vault; with the auditor's key also every MAC.
    ///
    /// # Errors
    ///
    /// [`VaultError::Tampered`] naming the first thing that is wrong, [`VaultError::RolledBack`] if an anchor is not part
    /// of the log.
    pub fn audit_verify(&mut self, auditor: Option<&AuditorKey>) -> Result<AuditReport, VaultError> {
        let directory = self.anchors().cloned();
        let mut view = self.view()?;
        let mut entries = 0;
        walk(&view, auditor, |_| entries += 1)?;
        let records = crate::walk::verify_records(&mut view)?;
        let anchors = crate::anchor::check_stored(&view, directory.as_ref())?;
        Ok(AuditReport { entries, records, macs_verified: auditor.is_some(), anchors })
    }
}

/// Visits every entry in order, checking numbers, order, seals, the end, and with the auditor's key each MAC.
pub(crate) fn walk(
    view: &View<'_>,
    auditor: Option<&AuditorKey>,
    mut visit: impl FnMut(LogEntry),
) -> Result<(), VaultError> {
    let mut statement = view.tx.prepare("SELECT number, body, mac FROM audit ORDER BY number")?;
    let mut rows = statement.query(())?;
    let mut chain = auditor.map(|key| ChainKey { number: 0, key: key.0.clone() });
    let (mut number, mut previous) = (0, [0; 32]);
    while let Some(row) = rows.next()? {
        let (stored_number, body, mac): (i64, Vec<u8>, Vec<u8>) = (row.get(0)?, row.get(1)?, row.get(2)?);
        let bad = |what: &str| VaultError::tampered(format!("audit entry {number} {what}"));
        if u64::try_from(stored_number) != Ok(number) {
            return Err(bad("is missing"));
        }
        let mac: Digest = mac.try_into().map_err(|_| bad("was changed"))?;
        let entry = open_entry(view, number, &previous, &body).ok_or_else(|| bad("was changed or moved"))?;
        if let Some(chain) = &mut chain {
            let expected = chain.mac(&previous, &body);
            if !equal(&expected, &mac) {
                return Err(bad("does not authenticate under the auditor's key"));
            }
            chain.advance();
        }
        visit(LogEntry { number, mac, stamp: entry.stamp, event: entry.event });
        previous = mac;
        number += 1;
    }
    if number != view.head.audit_len || previous != view.head.audit_mac {
        return Err(VaultError::tampered(format!(
            "the audit log ends at entry {number}, not where the head says"
        )));
    }
    let next = ChainKey::load(view)?;
    if chain.is_some_and(|chain| chain.key != next.key) {
        return Err(VaultError::tampered(
            "the key of the next audit entry does not follow from the auditor's key",
        ));
    }
    Ok(())
}

fn open_entry(view: &View<'_>, number: u64, previous: &Digest, body: &[u8]) -> Option<Entry> {
    let plain = view.keys.bound(Place::Audit { number, previous }).open(body)?;
    serde_json::from_slice(&plain).ok()
}

/// The key of the next entry. It moves on with every entry and never back.
#[derive(Debug)]
pub(crate) struct ChainKey {
    number: u64,
    key: SubKey,
}

impl ChainKey {
    /// The first key of a new vault, and the same for its auditor.
    pub(crate) fn first(random: &dyn Random) -> Result<(Self, AuditorKey), VaultError> {
        let key = SubKey::generate(random)?;
        Ok((Self { number: 0, key: key.clone() }, AuditorKey(key)))
    }

    pub(crate) fn load(view: &View<'_>) -> Result<Self, VaultError> {
        let number = view.head.audit_len;
        let sealed: Option<Vec<u8>> = view
            .tx
            .prepare_cached("SELECT body FROM chain WHERE id = 1")?
            .query_row((), |row| row.get(0))
            .optional()?;
        let opened = sealed.and_then(|sealed| view.keys.bound(Place::Chain(number)).open(&sealed));
        let key = opened
            .as_ref()
            .and_then(|key| <&[u8; 32]>::try_from(key.as_slice()).ok())
            .ok_or_else(|| VaultError::tampered("the key of the audit log was changed"))?;
        Ok(Self { number, key: SubKey::from_bytes(key) })
    }

    pub(crate) fn store(&self, view: &View<'_>, random: &dyn Random) -> Result<(), VaultError> {
        // EXPOSE: sealed at once under the vault's own key.
        let sealed = view.keys.bound(Place::Chain(self.number)).seal(self.key.expose(), random)?;
        view.tx
            .prepare_cached(
                "INSERT INTO chain (id, body) VALUES (1, ?1) ON CONFLICT (id) DO UPDATE SET body = excluded.body",
            )?
            .execute([sealed])?;
        Ok(())
    }

    /// Writes the entry after the last one of `view` and returns its MAC.
    pub(crate) fn append(
        &mut self,
        view: &View<'_>,
        random: &dyn Random,
        entry: &Entry,
    ) -> Result<Digest, VaultError> {
        let previous = view.head.audit_mac;
        let json = serde_json::to_vec(entry).expect("an entry is made of text and numbers");
        let body =
            view.keys.bound(Place::Audit { number: self.number, previous: &previous }).seal(&json, random)?;
        let mac = self.mac(&previous, &body);
        let number = i64::try_from(self.number).expect("nobody makes 2^63 entries");
        view.tx
            .prepare_cached("INSERT INTO audit (number, body, mac) VALUES (?1, ?2, ?3)")?
            .execute(params![number, body, mac])?;
        self.advance();
        Ok(mac)
    }

    fn mac(&self, previous: &Digest, body: &[u8]) -> Digest {
        let message = Canonical::new("reseal/v1/vault/audit").u64(self.number).bytes(previous).bytes(body);
        hmac_sha256(self.key.expose(), message.as_bytes())
    }

    fn advance(&mut self) {
        let mut next = Zeroizing::new([0; 32]);
        hkdf_sha256(self.key.expose(), b"", b"reseal/v1/audit/next", &mut *next);
        self.key = SubKey::from_bytes(&next);
        self.number += 1;
    }
}

#[cfg(test)]
mod tests {
    use reseal_crypto::SecretBytes;
    use reseal_crypto::slot::Opener;

    use super::*;
    use crate::vault::{CreateOptions, NewSlot, OpenOptions};

    /// Rewrites the whole log as an intruder would who has the vault key and the file: every body and MAC follows from the
    /// one before, the head names the last, but the keys of the past are gone, so the MACs are made with another.
    fn forge(vault: &mut Vault) {
        vault
            .change(|change| {
                let mut entries = Vec::new();
                walk(&change.view, None, |entry| entries.push(entry)).expect("sound so far");
                let (mut chain, _) = ChainKey::first(change.random())?;
                change.view.tx.execute("DELETE FROM audit", ())?;
                (change.view.head.audit_len, change.view.head.audit_mac) = (0, [0; 32]);
                for LogEntry { stamp, event, .. } in entries {
                    let forged = Entry { stamp, event: event.detail("nothing to see here") };
                    change.view.head.audit_mac = chain.append(&change.view, change.random(), &forged)?;
                    change.view.head.audit_len += 1;
                }
                change.replace_chain(chain);
                Ok(((), Event::done("tick")))
            })
            .expect("the vault key allows it");
    }

    #[test]
    fn a_log_forged_with_the_vault_key_does_not_pass_the_auditor() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let opener = Opener::KeyFile(SecretBytes::copy_from(&[1; 32]));
        let options = CreateOptions {
            slots: vec![NewSlot { name: "key".to_owned(), opener }],
            kdf: reseal_crypto::kdf::KdfParams::FLOOR,
            recovery_code: false,
            suite: reseal_crypto::Suite::Xaes256Gcm,
            open: OpenOptions::default(),
        };
        let created = Vault::create(&directory.path().join("v"), options).expect("created");
        let (mut vault, auditor) = (created.vault, created.auditor_key);
        for _ in 0..3 {
            vault.record_event(Event::done("tick")).expect("recorded");
        }
        let kept = vault.anchor();
        vault.audit_verify(Some(&auditor)).expect("sound");
        forge(&mut vault);
        assert!(vault.audit_verify(None).is_ok(), "without the auditor's key the forgery is consistent");
        let found = vault.audit_verify(Some(&auditor)).expect_err("forged").to_string();
        assert!(found.contains("audit entry 0 "), "{found}");
        assert!(vault.check_anchor(&kept).is_err(), "an anchor kept elsewhere notices it too");
    }
}
