//! The integrity tree: 4,096 leaves, 64 nodes, one head. It proves that a record is there, and that one is not.
//!
//! ```text
//! leaf    the sorted list of  id(16) || SHA-256(kind || stored bytes)[..16]  of its records
//! node    the digests of 64 leaves
//! head    the digests of 64 nodes, and everything else that must not change behind our back; MACed
//! digest  HMAC-SHA-256(K_tree, level || index || list), 32 zero bytes for an empty list
//! ```
//!
//! A read follows head, node, leaf, record; a change rewrites one of each in the same transaction.

use reseal_crypto::Suite;
use reseal_crypto::hash::{MacKey, equal};

use crate::error::VaultError;
use crate::record::{KINDS_MAX, RecordId, RecordKind};
use crate::vault::VaultId;

/// Leaves of the tree.
pub(crate) const LEAVES: u16 = 4096;

/// What stands for a list in the level above.
pub(crate) type Digest = [u8; 32];
/// What stands for a record in its leaf.
pub(crate) type Fingerprint = [u8; 16];

const ENTRY_LEN: usize = 32;

#[derive(Debug, Clone, Copy)]
#[repr(u8)]
enum Level {
    Leaf = 0,
    Node = 1,
    Head = 2,
}

fn digest(key: &MacKey, level: Level, index: u16, list: &[u8]) -> Digest {
    key.mac(&[&[level as u8], &index.to_be_bytes(), list])
}

/// The records whose ids begin with the same 12 bits.
#[derive(Debug, Clone, Default)]
pub(crate) struct Leaf(Vec<(RecordId, Fingerprint)>);

impl Leaf {
    /// Parses the stored list of leaf `number`, or `None` if it is not one that [`to_bytes`](Self::to_bytes) writes.
    pub(crate) fn parse(number: u16, bytes: &[u8]) -> Option<Self> {
        let (entries, rest) = bytes.as_chunks::<ENTRY_LEN>();
        let entries: Vec<_> = entries.iter().map(parse_entry).collect();
        let ours = entries.iter().all(|(id, _)| id.leaf() == number);
        let ascending = entries.is_sorted_by(|(a, _), (b, _)| a < b);
        (rest.is_empty() && ours && ascending).then_some(Self(entries))
    }

    pub(crate) fn to_bytes(&self) -> Vec<u8> {
        self.0.iter().flat_map(|(id, print)| id.0.into_iter().chain(*print)).collect()
    }

    pub(crate) fn digest(&self, key: &MacKey, number: u16) -> Digest {
        if self.0.is_empty() { [0; 32] } else { digest(key, Level::Leaf, number, &self.to_bytes()) }
    }

    pub(crate) fn entries(&self) -> &[(RecordId, Fingerprint)] {
        &self.0
    }

    pub(crate) fn find(&self, id: RecordId) -> Option<Fingerprint> {
        self.position(id).ok().map(|at| self.0[at].1)
    }

    /// Adds or replaces an entry; says whether it is new.
    pub(crate) fn set(&mut self, id: RecordId, print: Fingerprint) -> bool {
        match self.position(id) {
            Ok(at) => {
                self.0[at].1 = print;
                false
            }
            Err(at) => {
                self.0.insert(at, (id, print));
                true
            }
        }
    }

    /// Removes an entry; says whether it was there.
    pub(crate) fn remove(&mut self, id: RecordId) -> bool {
        self.position(id).map(|at| self.0.remove(at)).is_ok()
    }

    fn position(&self, id: RecordId) -> Result<usize, usize> {
        self.0.binary_search_by_key(&id, |(id, _)| *id)
    }
}

fn parse_entry(entry: &[u8; ENTRY_LEN]) -> (RecordId, Fingerprint) {
    let (mut id, mut print) = ([0; 16], [0; 16]);
    id.copy_from_slice(&entry[..16]);
    print.copy_from_slice(&entry[16..]);
    (RecordId(id), print)
}

/// 64 digests: of the leaves under a node, or of the nodes under the head.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Digests(pub(crate) Box<[Digest; 64]>);

impl Default for Digests {
    fn default() -> Self {
        Self(Box::new([[0; 32]; 64]))
    }
}

impl Digests {
    pub(crate) const LEN: usize = 64 * 32;

    pub(crate) fn parse(bytes: &[u8]) -> Option<Self> {
        let (digests, rest) = bytes.as_chunks::<32>();
        let digests: &[Digest; 64] = digests.try_into().ok()?;
        rest.is_empty().then(|| Self(Box::new(*digests)))
    }

    pub(crate) fn as_bytes(&self) -> &[u8] {
        self.0.as_flattened()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.iter().all(|digest| *digest == [0; 32])
    }

    /// The digest of these as node `number`.
    pub(crate) fn digest(&self, key: &MacKey, number: u16) -> Digest {
        if self.is_empty() { [0; 32] } else { digest(key, Level::Node, number, self.as_bytes()) }
    }
}

/// The root of everything: what one MAC covers.
///
/// | offset | bytes | field |
/// |---|---|---|
/// | 0 | 1 | version, 1 |
/// | 1 | 1 | suite of the records |
/// | 2 | 16 | vault id |
/// | 18 | 8 | epoch, one more with every commit |
/// | 26 | 128 | number of records per kind, 16 of 8 bytes |
/// | 154 | 32 | digest of the key slots |
/// | 186 | 8 | number of audit entries |
/// | 194 | 32 | MAC of the last audit entry |
/// | 226 | 2048 | digests of the nodes |
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Head {
    pub(crate) suite: Suite,
    pub(crate) vault_id: VaultId,
    pub(crate) epoch: u64,
    counts: [u64; KINDS_MAX],
    pub(crate) slots: Digest,
    pub(crate) audit_len: u64,
    pub(crate) audit_mac: Digest,
    pub(crate) nodes: Digests,
}

const HEAD_VERSION: u8 = 1;
const HEAD_LEN: usize = 226 + Digests::LEN;

impl Head {
    /// The head of a vault that has nothing yet.
    pub(crate) fn empty(vault_id: VaultId, suite: Suite) -> Self {
        Self {
            suite,
            vault_id,
            epoch: 0,
            counts: [0; KINDS_MAX],
            slots: [0; 32],
            audit_len: 0,
            audit_mac: [0; 32],
            nodes: Digests::default(),
        }
    }

    /// Reads the fields without believing them: the id and the suite are needed to derive the key of the MAC.
    pub(crate) fn parse(body: &[u8]) -> Option<Self> {
        if body.len() != HEAD_LEN || body[0] != HEAD_VERSION {
            return None;
        }
        let mut fields = Fields(&body[1..]);
        let [suite] = fields.take()?;
        let suite = Suite::from_id(suite)?;
        let vault_id = VaultId(fields.take()?);
        let epoch = u64::from_be_bytes(fields.take()?);
        let mut counts = [0; KINDS_MAX];
        for count in &mut counts {
            *count = u64::from_be_bytes(fields.take()?);
        }
        Some(Self {
            suite,
            vault_id,
            epoch,
            counts,
            slots: fields.take()?,
            audit_len: u64::from_be_bytes(fields.take()?),
            audit_mac: fields.take()?,
            nodes: Digests::parse(fields.0)?,
        })
    }

    pub(crate) fn to_bytes(&self) -> Vec<u8> {
        let mut body = Vec::with_capacity(HEAD_LEN);
        body.extend([HEAD_VERSION, self.suite.id()]);
        body.extend(self.vault_id.0);
        body.extend(self.epoch.to_be_bytes());
        body.extend(self.counts.iter().flat_map(|count| count.to_be_bytes()));
        body.extend(self.slots);
        body.extend(self.audit_len.to_be_bytes());
        body.extend(self.audit_mac);
        body.extend(self.nodes.as_bytes());
        body
    }

    /// The MAC over the encoded head.
    pub(crate) fn mac(key: &MacKey, body: &[u8]) -> Digest {
        digest(key, Level::Head, 0, body)
    }

    /// Parses a head and checks its MAC and whose it is.
    pub(crate) fn verify(
        key: &MacKey,
        vault_id: VaultId,
        body: &[u8],
        mac: &[u8],
    ) -> Result<Self, VaultError> {
        let head =
            Self::parse(body).filter(|head| head.vault_id == vault_id && equal(&Self::mac(key, body), mac));
        head.ok_or_else(|| VaultError::tampered("the head does not authenticate"))
    }

    /// How many records of this kind there are.
    pub(crate) fn count(&self, kind: RecordKind) -> u64 {
        self.counts[kind as usize]
    }

    /// How many records there are.
    pub(crate) fn total(&self) -> u64 {
        self.counts.iter().fold(0, |sum, count| sum.saturating_add(*count))
    }

    pub(crate) fn add(&mut self, kind: RecordKind) {
        self.counts[kind as usize] += 1;
    }

    pub(crate) fn subtract(&mut self, kind: RecordKind) {
        self.counts[kind as usize] = self.counts[kind as usize].saturating_sub(1);
    }
}

/// Takes fields of fixed length off the front of a slice.
struct Fields<'a>(&'a [u8]);

impl Fields<'_> {
    fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (field, rest) = self.0.split_first_chunk::<N>()?;
        self.0 = rest;
        Some(*field)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head() -> Head {
        let mut head = Head::empty(VaultId([7; 16]), Suite::Xaes256Gcm);
        head.epoch = 3;
        head.audit_len = 9;
        head.add(RecordKind::Value);
        head.nodes.0[5] = [1; 32];
        head
    }

    #[test]
    fn a_head_is_read_as_written() {
        let body = head().to_bytes();
        assert_eq!(body.len(), HEAD_LEN);
        assert_eq!(Head::parse(&body), Some(head()));
    }

    #[test]
    fn every_bit_of_a_head_counts() {
        let key = MacKey::new(b"tree");
        let body = head().to_bytes();
        let mac = Head::mac(&key, &body);
        assert!(Head::verify(&key, VaultId([7; 16]), &body, &mac).is_ok());
        for bit in 0..body.len() * 8 {
            let mut changed = body.clone();
            changed[bit / 8] ^= 1 << (bit % 8);
            assert!(Head::verify(&key, VaultId([7; 16]), &changed, &mac).is_err(), "bit {bit}");
        }
    }

    #[test]
    fn a_leaf_refuses_what_it_does_not_write() {
        let mut leaf = Leaf::default();
        for id in [3, 1, 2] {
            let mut bytes = [0; 16];
            bytes[15] = id;
            assert!(leaf.set(RecordId(bytes), [id; 16]));
        }
        let bytes = leaf.to_bytes();
        assert!(Leaf::parse(0, &bytes).is_some());
        assert!(Leaf::parse(1, &bytes).is_none(), "of another leaf");
        assert!(Leaf::parse(0, &bytes[1..]).is_none(), "cut");
        let swapped = [&bytes[32..64], &bytes[..32], &bytes[64..]].concat();
        assert!(Leaf::parse(0, &swapped).is_none(), "not sorted");
        let doubled = [&bytes[..32], &bytes[..32]].concat();
        assert!(Leaf::parse(0, &doubled).is_none(), "twice the same");
    }
}
