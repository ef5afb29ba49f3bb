//! Records: what a vault stores, each sealed by itself and bound to its place.
//!
//! ```text
//! stored = nonce(24) || AEAD(key, nonce, aad, plaintext)
//! aad    = canonical("reseal/v1/vault/sealed", vault id, place, id, kind)
//! ```

use std::borrow::Cow;

use reseal_crypto::aead::{NONCE_LEN, TAG_LEN};
use reseal_crypto::canonical::Canonical;
use reseal_crypto::hash::{MacKey, Purpose};
use reseal_crypto::secret::VaultKey;
use reseal_crypto::{AeadKey, Nonce, Random, Suite};
use zeroize::Zeroizing;

use crate::error::VaultError;
use crate::vault::VaultId;

/// What a record holds. The number stands beside the record in the file; how many there are of each is visible.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub(crate) enum RecordKind {
    /// A secret: its name, labels and attributes.
    Secret = 1,
    /// One version of a secret: its kind, dates, and its wrapped data key.
    Version = 2,
    /// The value of a version, under its data key.
    Value = 3,
    /// Which version a column key's handle names.
    Handle = 4,
    /// Something that another part keeps here: runs, rotations, column ids.
    Journal = 5,
    /// A whole file or stream: its name and where it was.
    Snapshot = 6,
    /// Which chunks come next in a snapshot.
    Part = 7,
    /// Content of snapshots.
    Chunk = 8,
}

impl RecordKind {
    pub(crate) const ALL: [Self; 8] = [
        Self::Secret,
        Self::Version,
        Self::Value,
        Self::Handle,
        Self::Journal,
        Self::Snapshot,
        Self::Part,
        Self::Chunk,
    ];
}

/// How many counters a head has; the rest is for kinds to come.
pub(crate) const KINDS_MAX: usize = 16;

/// The name of a record: an HMAC of what it is about, so that the file shows no names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct RecordId(pub(crate) [u8; 16]);

impl RecordId {
    /// The leaf of the integrity tree that has this record: the first 12 bits.
    pub(crate) fn leaf(self) -> u16 {
        u16::from_be_bytes([self.0[0], self.0[1]]) >> 4
    }
}

fn id_of(kind: RecordKind) -> Canonical {
    Canonical::new("reseal/v1/vault/id").u64(kind as u64)
}

fn first_half(mac: [u8; 32]) -> RecordId {
    let mut id = [0; 16];
    id.copy_from_slice(&mac[..16]);
    RecordId(id)
}

/// The keys of an open vault, one per purpose.
#[derive(Debug)]
pub(crate) struct Keys {
    pub(crate) vault_id: VaultId,
    pub(crate) root: VaultKey,
    pub(crate) suite: Suite,
    pub(crate) tree: MacKey,
    name: MacKey,
    record: AeadKey,
    wrap: AeadKey,
    audit: AeadKey,
}

impl Keys {
    pub(crate) fn new(vault_id: VaultId, root: VaultKey, suite: Suite) -> Self {
        let derive = |purpose| root.derive(purpose, &vault_id.0);
        let aead = |purpose| AeadKey::new(suite, derive(purpose).expose());
        let mac = |purpose| MacKey::new(derive(purpose).expose());
        Self {
            tree: mac(Purpose::Tree),
            name: mac(Purpose::Name),
            record: aead(Purpose::Record),
            wrap: aead(Purpose::Wrap),
            audit: aead(Purpose::Audit),
            vault_id,
            root,
            suite,
        }
    }

    /// The id of the record of this kind about these things.
    pub(crate) fn id(&self, kind: RecordKind, about: &[&[u8]]) -> RecordId {
        let encoded = about.iter().fold(id_of(kind), |c, part| c.bytes(part));
        first_half(self.name.mac(&[encoded.as_bytes()]))
    }

    /// The id of the chunk with this content, as [`id`](Self::id) makes it, but without a copy of the content.
    pub(crate) fn chunk_id(&self, content: &[u8]) -> RecordId {
        let len = u32::try_from(content.len()).expect("a chunk has at most 1 MiB").to_be_bytes();
        first_half(self.name.mac(&[id_of(RecordKind::Chunk).as_bytes(), &len, content]))
    }

    /// Binds sealed bytes to this vault and to one place in it.
    pub(crate) fn bound<'a>(&'a self, place: Place<'_>) -> Bound<'a> {
        let key = match place {
            Place::Record(..) | Place::Slot(_) | Place::Chain(_) => &self.record,
            Place::DataKey(_) => &self.wrap,
            Place::Audit { .. } => &self.audit,
        };
        Bound { key: Cow::Borrowed(key), aad: place.aad(self.vault_id) }
    }

    /// Binds a value to its place under its own data key.
    pub(crate) fn bound_value(&self, data_key: &[u8; 32], id: RecordId) -> Bound<'static> {
        let key = AeadKey::new(self.suite, data_key);
        let aad = Place::Record(RecordKind::Value, id).aad(self.vault_id);
        Bound { key: Cow::Owned(key), aad }
    }
}

/// Where sealed bytes stand.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Place<'a> {
    Record(RecordKind, RecordId),
    /// The data key of the value with this id.
    DataKey(RecordId),
    /// The label of a key slot.
    Slot(&'a [u8; 16]),
    /// The audit key that seals the entry of this number next.
    Chain(u64),
    /// The audit entry of this number, after an entry with this MAC.
    Audit {
        number: u64,
        previous: &'a [u8; 32],
    },
}

impl Place<'_> {
    fn aad(self, vault_id: VaultId) -> Canonical {
        let aad = Canonical::new("reseal/v1/vault/sealed").bytes(&vault_id.0);
        match self {
            Self::Record(kind, id) => aad.text("record").bytes(&id.0).u64(kind as u64),
            Self::DataKey(id) => aad.text("data-key").bytes(&id.0),
            Self::Slot(id) => aad.text("slot").bytes(id),
            Self::Chain(number) => aad.text("chain").u64(number),
            Self::Audit { number, previous } => aad.text("audit").u64(number).bytes(previous),
        }
    }
}

/// A key and the place it seals for.
pub(crate) struct Bound<'a> {
    key: Cow<'a, AeadKey>,
    aad: Canonical,
}

impl Bound<'_> {
    /// Seals under a fresh nonce.
    pub(crate) fn seal(&self, plaintext: &[u8], random: &dyn Random) -> Result<Vec<u8>, VaultError> {
        let mut nonce = Nonce([0; NONCE_LEN]);
        random.fill(&mut nonce.0)?;
        let mut sealed = Vec::with_capacity(NONCE_LEN + plaintext.len() + TAG_LEN);
        sealed.extend_from_slice(&nonce.0);
        self.key.seal(&nonce, self.aad.as_bytes(), plaintext, &mut sealed);
        Ok(sealed)
    }

    /// Opens what [`seal`](Self::seal) made for the same place, or `None`.
    pub(crate) fn open(&self, sealed: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
        let (nonce, sealed) = sealed.split_first_chunk::<NONCE_LEN>()?;
        // Room for the tag too: the cipher works in place, and a buffer that grows would leave a copy behind.
        let mut plaintext = Zeroizing::new(Vec::with_capacity(sealed.len()));
        self.key.open(&Nonce(*nonce), self.aad.as_bytes(), sealed, &mut plaintext).ok()?;
        Some(plaintext)
    }
}
