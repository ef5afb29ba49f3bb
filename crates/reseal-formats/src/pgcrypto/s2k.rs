//! String to key, RFC 4880 section 3.7: how a passphrase becomes a key.
//!
//! ```text
//! simple    hash(0^i || passphrase)
//! salted    hash(0^i || salt || passphrase)
//! iterated  hash(0^i || first `count` octets of salt || passphrase || salt || passphrase || …)
//! ```
//!
//! `i` is 0 for the first hash, 1 for the second, and so on until there are enough key bytes. The iterated form with
//! SHA-1 is nearly all the work of a pgcrypto value: 144,384 octets on average for AES-128, twice that for AES-256.
//! [`S2k::derive`] hashes one value; [`derive_many`] hashes 16 side by side, and [`derive_again`] proves what it did.

use reseal_crypto::SecretBytes;
use zeroize::Zeroizing;

use super::algorithm::Digest;
use super::lanes;

/// Bytes of a salt.
pub(super) const SALT_LEN: usize = 8;
/// A key of any supported cipher; only its first bytes are used.
pub(super) type Key = Zeroizing<[u8; 32]>;

/// Octets hashed in one call, at least: enough that the calls cost nothing beside the hashing.
const RUN_LEN: usize = 8192;

/// Of so many sealed values one has its key proved by the `sha1` crate.
const PROVED_ALONE: usize = 4;

/// How often the salt and passphrase are repeated.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum S2kMode {
    /// No salt, once. Equal passphrases give equal keys.
    Simple,
    /// Salt, once.
    Salted,
    /// Salt, repeated; the octet encodes how many octets are hashed: see [`S2kMode::count`].
    Iterated(u8),
}

impl S2kMode {
    /// The number in messages.
    pub const fn id(self) -> u8 {
        match self {
            Self::Simple => 0,
            Self::Salted => 1,
            Self::Iterated(_) => 3,
        }
    }

    /// Octets that are hashed at least: 1,024 to 65,011,712 for the iterated mode, else 0 (the input once).
    pub const fn count(self) -> usize {
        match self {
            Self::Simple | Self::Salted => 0,
            Self::Iterated(code) => (16 + (code as usize & 15)) << ((code as usize >> 4) + 6),
        }
    }

    /// The smallest code for at least `count` octets, as pgcrypto chooses it for `s2k-count`.
    pub fn code_for(count: usize) -> u8 {
        (0..=255).find(|code| Self::Iterated(*code).count() >= count).unwrap_or(255)
    }
}

/// One value's way from passphrase to key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct S2k {
    pub(super) mode: S2kMode,
    pub(super) digest: Digest,
    pub(super) salt: [u8; SALT_LEN],
}

impl S2k {
    /// Derives the first `key_len` bytes of the key, one hash after the other.
    pub(super) fn derive(&self, passphrase: &SecretBytes, key_len: usize) -> Key {
        match self.digest {
            Digest::Md5 => self.derive_by::<md5::Md5>(passphrase, key_len),
            Digest::Sha1 => self.derive_by::<sha1::Sha1>(passphrase, key_len),
            Digest::Ripemd160 => self.derive_by::<ripemd::Ripemd160>(passphrase, key_len),
            Digest::Sha256 => self.derive_by::<sha2::Sha256>(passphrase, key_len),
            Digest::Sha384 => self.derive_by::<sha2::Sha384>(passphrase, key_len),
            Digest::Sha512 => self.derive_by::<sha2::Sha512>(passphrase, key_len),
        }
    }

    fn derive_by<D: sha1::Digest>(&self, passphrase: &SecretBytes, key_len: usize) -> Key {
        let pattern = self.pattern(passphrase);
        let octets = self.mode.count().max(pattern.len());
        let repeats = RUN_LEN.min(octets).div_ceil(pattern.len().max(1)).max(1);
        let run = Zeroizing::new(pattern.repeat(repeats));
        let mut key = Key::default();
        for (pass, part) in key[..key_len].chunks_mut(<D as sha1::Digest>::output_size()).enumerate() {
            let mut hasher = D::new();
            hasher.update(&[0; 2][..pass]);
            let mut left = octets;
            while left > 0 {
                let length = left.min(run.len());
                hasher.update(&run[..length]);
                left -= length;
            }
            part.copy_from_slice(&hasher.finalize()[..part.len()]);
        }
        key
    }

    /// What is repeated. EXPOSE: the hash takes bytes; this copy is wiped.
    pub(super) fn pattern(&self, passphrase: &SecretBytes) -> Zeroizing<Vec<u8>> {
        let salt: &[u8] = if self.mode == S2kMode::Simple { &[] } else { &self.salt };
        let mut pattern = Zeroizing::new(Vec::with_capacity(salt.len() + passphrase.len()));
        pattern.extend_from_slice(salt);
        pattern.extend_from_slice(passphrase.expose());
        pattern
    }
}

/// Derives a key for each of `jobs` (how, and how many bytes), in order; those that can go side by side do.
pub(super) fn derive_many(passphrase: &SecretBytes, jobs: &[(S2k, usize)]) -> Vec<Key> {
    let mut keys = vec![Key::default(); jobs.len()];
    let (mut side_by_side, single): (Vec<usize>, Vec<usize>) =
        (0..jobs.len()).partition(|job| lanes::suits(&jobs[*job].0, passphrase.len()));
    // Lanes of equal length finish together.
    side_by_side.sort_unstable_by_key(|job| (jobs[*job].1, jobs[*job].0.mode.count()));
    let mut alone = single;
    let mut workspace = lanes::Workspace::default();
    for group in side_by_side.chunk_by(|a, b| jobs[*a].1 == jobs[*b].1) {
        for lanes in group.chunks(lanes::LANES) {
            if lanes.len() < lanes::WORTHWHILE {
                alone.extend_from_slice(lanes);
                continue;
            }
            let specs: Vec<&S2k> = lanes.iter().map(|job| &jobs[*job].0).collect();
            let derived = lanes::derive(passphrase, &specs, jobs[lanes[0]].1, &mut workspace);
            lanes.iter().zip(derived).for_each(|(job, key)| keys[*job] = key);
        }
    }
    alone.into_iter().for_each(|job| keys[job] = jobs[job].0.derive(passphrase, jobs[job].1));
    keys
}

/// Derives the keys of messages that were just sealed once more: each by a second calculation, and one of
/// [`PROVED_ALONE`] by code that shares nothing with the lanes.
pub(super) fn derive_again(passphrase: &SecretBytes, jobs: &[(S2k, usize)]) -> Vec<Key> {
    let (alone, side_by_side): (Vec<usize>, Vec<usize>) =
        (0..jobs.len()).partition(|job| job % PROVED_ALONE == 0);
    let mut keys = vec![Key::default(); jobs.len()];
    let in_lanes: Vec<(S2k, usize)> = side_by_side.iter().map(|job| jobs[*job]).collect();
    side_by_side.into_iter().zip(derive_many(passphrase, &in_lanes)).for_each(|(job, key)| keys[job] = key);
    alone.into_iter().for_each(|job| keys[job] = jobs[job].0.derive(passphrase, jobs[job].1));
    keys
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn derived(mode: S2kMode, digest: Digest, passphrase: &str, key_len: usize) -> String {
        let s2k = S2k { mode, digest, salt: *b"saltsalt" };
        hex::encode(&s2k.derive(&SecretBytes::copy_from(passphrase.as_bytes()), key_len)[..key_len])
    }

    #[test]
    fn counts_are_those_of_the_rfc() {
        assert_eq!(S2kMode::Iterated(0).count(), 1024);
        assert_eq!(S2kMode::Iterated(96).count(), 65_536);
        assert_eq!(S2kMode::Iterated(127).count(), 253_952);
        assert_eq!(S2kMode::Iterated(255).count(), 65_011_712);
        assert_eq!(S2kMode::code_for(1024), 0);
        assert_eq!(S2kMode::code_for(1025), 1);
        assert_eq!(S2kMode::code_for(usize::MAX), 255);
    }

    #[test]
    fn one_hash_of_the_input_in_the_modes_without_a_count() {
        // SHA-1 of "abc" and of "saltsaltabc"; MD5 of "abc" and of a zero octet and "abc".
        assert_eq!(derived(S2kMode::Simple, Digest::Sha1, "abc", 16), "a9993e364706816aba3e25717850c26c");
        let hash = hex::encode(<sha1::Sha1 as sha1::Digest>::digest(b"saltsaltabc"));
        assert_eq!(derived(S2kMode::Salted, Digest::Sha1, "abc", 16), hash[..32]);
        let second = hex::encode(<md5::Md5 as sha1::Digest>::digest(b"\0abc"));
        let expected = format!("900150983cd24fb0d6963f7d28e17f72{second}");
        assert_eq!(derived(S2kMode::Simple, Digest::Md5, "abc", 32), expected);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]
        #[test]
        fn many_side_by_side_equal_one_after_the_other(
            passphrase in proptest::collection::vec(any::<u8>(), 0..130),
            jobs in proptest::collection::vec((any::<[u8; 8]>(), 44_u8..70, 0_u8..6, 0..3_usize), 1..60),
        ) {
            let passphrase = SecretBytes::new(passphrase);
            let jobs: Vec<(S2k, usize)> = jobs.into_iter().map(|(salt, code, kind, key)| {
                let mode = match kind {
                    0 => S2kMode::Simple,
                    1 => S2kMode::Salted,
                    _ => S2kMode::Iterated(code),
                };
                let digest = if kind == 2 { Digest::Sha256 } else { Digest::Sha1 };
                (S2k { mode, digest, salt }, [16, 24, 32][key])
            }).collect();
            let (many, again) = (derive_many(&passphrase, &jobs), derive_again(&passphrase, &jobs));
            for ((s2k, key_len), key) in jobs.iter().chain(&jobs).zip(many.iter().chain(&again)) {
                prop_assert_eq!(&key[..*key_len], &s2k.derive(&passphrase, *key_len)[..*key_len]);
            }
        }
    }
}
