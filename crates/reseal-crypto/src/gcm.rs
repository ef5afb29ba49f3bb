//! AES-GCM with nonces of 96 bits (SP 800-38D) for values as short as those of database columns.
//!
//! The block cipher is `aes`, the hash `ghash`; what stands here is how they go together. `aes-gcm`, which does the same,
//! sets the cipher up twice for each value and hashes its last blocks one at a time: 200 ns for 45 bytes, of which half is left
//! where all counter blocks of a value, the one that masks the tag included, are encrypted in one call and all blocks
//! under the tag are hashed in one.
//!
//! ```text
//! H = AES(K, 0^128)
//! mask = AES(K, N || 1); keystream = AES(K, N || 2) || AES(K, N || 3) || ...
//! ciphertext = plaintext xor keystream
//! tag = GHASH(H, pad(aad) || pad(ciphertext) || bits of aad || bits of ciphertext) xor mask
//! ```

use aes::Block;
use aes::cipher::common::KeySizeUser;
use aes::cipher::consts::U16;
use aes::cipher::{BlockCipherEncrypt, BlockSizeUser, Key, KeyInit};
use ghash::GHash;
use ghash::universal_hash::UniversalHash;
use subtle::ConstantTimeEq;
use zeroize::{Zeroize, Zeroizing};

use crate::aead::{TAG_LEN, Unauthentic};
use crate::secret::reserve_wiping;

/// Bytes of a nonce.
pub(crate) const NONCE_LEN: usize = 12;
/// Bytes of a block.
const BLOCK: usize = 16;
/// Bytes of the longest value: its last counter is 2^32 - 1 (SP 800-38D, 5.2.1.1).
const LEN_MAX: u64 = (1 << 36) - 32;
/// Up to this many blocks under a tag are gathered and hashed in one call.
const GATHERED: usize = 16;

/// AES with a key of any length.
pub(crate) trait Aes: BlockCipherEncrypt + BlockSizeUser<BlockSize = U16> {}

impl<C: BlockCipherEncrypt + BlockSizeUser<BlockSize = U16>> Aes for C {}

/// A key, its schedule and hash prepared.
#[derive(Clone)]
pub(crate) struct Gcm<C> {
    cipher: C,
    hash: GHash,
}

impl<C: KeySizeUser> KeySizeUser for Gcm<C> {
    type KeySize = C::KeySize;
}

impl<C: Aes + KeyInit> KeyInit for Gcm<C> {
    fn new(key: &Key<Self>) -> Self {
        let cipher = C::new(key);
        let hash = hash_of(&cipher);
        Self { cipher, hash }
    }
}

impl<C: Aes> Gcm<C> {
    /// Appends ciphertext and tag of `plaintext` to `out`.
    pub(crate) fn seal(&self, nonce: &[u8; NONCE_LEN], aad: &[u8], plaintext: &[u8], out: &mut Vec<u8>) {
        seal(&self.cipher, || self.hash.clone(), nonce, aad, plaintext, out);
    }

    /// Appends the plaintext of `sealed` (ciphertext and tag) to `out`.
    ///
    /// # Errors
    ///
    /// [`Unauthentic`] if anything differs; `out` is left as it was.
    pub(crate) fn open(
        &self,
        nonce: &[u8; NONCE_LEN],
        aad: &[u8],
        sealed: &[u8],
        out: &mut Vec<u8>,
    ) -> Result<(), Unauthentic> {
        open(&self.cipher, || self.hash.clone(), nonce, aad, sealed, out)
    }
}

/// [`Gcm::seal`] by a key for one value. Not by way of a [`Gcm`]: a schedule has room for that of every backend, and would
/// be copied.
pub(crate) fn seal_once<C: Aes + KeyInit>(
    key: &Key<C>,
    nonce: &[u8; NONCE_LEN],
    aad: &[u8],
    plaintext: &[u8],
    out: &mut Vec<u8>,
) {
    let cipher = C::new(key);
    seal(&cipher, || hash_of(&cipher), nonce, aad, plaintext, out);
}

/// [`Gcm::open`] by a key for one value.
///
/// # Errors
///
/// [`Unauthentic`] if anything differs; `out` is left as it was.
pub(crate) fn open_once<C: Aes + KeyInit>(
    key: &Key<C>,
    nonce: &[u8; NONCE_LEN],
    aad: &[u8],
    sealed: &[u8],
    out: &mut Vec<u8>,
) -> Result<(), Unauthentic> {
    let cipher = C::new(key);
    open(&cipher, || hash_of(&cipher), nonce, aad, sealed, out)
}

/// The hash of a key, by the subkey that its cipher makes of zeros.
fn hash_of<C: Aes>(cipher: &C) -> GHash {
    let mut subkey = Zeroizing::new([0; BLOCK]);
    cipher.encrypt_block((&mut *subkey).into());
    GHash::new((&*subkey).into())
}

fn seal<C: Aes>(
    cipher: &C,
    hash: impl FnOnce() -> GHash,
    nonce: &[u8; NONCE_LEN],
    aad: &[u8],
    plaintext: &[u8],
    out: &mut Vec<u8>,
) {
    let start = out.len();
    let mut mask = push_keystream(cipher, nonce, plaintext.len(), out);
    let end = start + plaintext.len();
    xor(&mut out[start..end], plaintext);
    truncate_wiping(out, end);
    let tag = tag(hash, &mut mask, aad, &out[start..]);
    out.extend_from_slice(&tag);
}

fn open<C: Aes>(
    cipher: &C,
    hash: impl FnOnce() -> GHash,
    nonce: &[u8; NONCE_LEN],
    aad: &[u8],
    sealed: &[u8],
    out: &mut Vec<u8>,
) -> Result<(), Unauthentic> {
    let (ciphertext, sealed_tag) = sealed.split_last_chunk::<TAG_LEN>().ok_or(Unauthentic)?;
    let start = out.len();
    let mut mask = push_keystream(cipher, nonce, ciphertext.len(), out);
    // As one number: byte for byte the comparison takes as long as the block cipher.
    let expected = u128::from_ne_bytes(tag(hash, &mut mask, aad, ciphertext));
    if !bool::from(expected.ct_eq(&u128::from_ne_bytes(*sealed_tag))) {
        truncate_wiping(out, start);
        return Err(Unauthentic);
    }
    let end = start + ciphertext.len();
    xor(&mut out[start..end], ciphertext);
    truncate_wiping(out, end);
    Ok(())
}

/// Appends keystream for `len` bytes, in whole blocks, and the mask of the tag behind it; gives the mask.
fn push_keystream<C: Aes>(cipher: &C, nonce: &[u8; NONCE_LEN], len: usize, out: &mut Vec<u8>) -> Block {
    assert!(len as u64 <= LEN_MAX, "a value of {len} bytes: its counter would come around");
    let (start, bytes) = (out.len(), (len.div_ceil(BLOCK) + 1) * BLOCK);
    reserve_wiping(out, bytes);
    out.resize(start + bytes, 0);
    let (counters, _) = Block::slice_as_chunks_mut(&mut out[start..]);
    for (counter, block) in (2_u32..).zip(counters.iter_mut()) {
        block[..NONCE_LEN].copy_from_slice(nonce);
        block[NONCE_LEN..].copy_from_slice(&counter.to_be_bytes());
    }
    let last = counters.len() - 1;
    counters[last][NONCE_LEN..].copy_from_slice(&1_u32.to_be_bytes());
    cipher.encrypt_blocks(counters);
    counters[last]
}

/// Uses up the mask. The hash is made here: it is longer than most values, and would be copied on its way.
fn tag(hash: impl FnOnce() -> GHash, mask: &mut Block, aad: &[u8], ciphertext: &[u8]) -> [u8; TAG_LEN] {
    let mut hash = hash();
    let mut lengths = [0; BLOCK];
    lengths[..8].copy_from_slice(&(aad.len() as u64 * 8).to_be_bytes());
    lengths[8..].copy_from_slice(&(ciphertext.len() as u64 * 8).to_be_bytes());
    let place = aad.len().next_multiple_of(BLOCK);
    let end = place + ciphertext.len().next_multiple_of(BLOCK) + BLOCK;
    if end <= GATHERED * BLOCK {
        let mut gathered = [0; GATHERED * BLOCK];
        gathered[..aad.len()].copy_from_slice(aad);
        gathered[place..place + ciphertext.len()].copy_from_slice(ciphertext);
        gathered[end - BLOCK..end].copy_from_slice(&lengths);
        hash.update(Block::slice_as_chunks(&gathered[..end]).0);
    } else {
        hash.update_padded(aad);
        hash.update_padded(ciphertext);
        hash.update(&[lengths.into()]);
    }
    let mut tag: [u8; TAG_LEN] = hash.finalize().into();
    xor(&mut tag, mask);
    // With the tag that is stored it would tell what the hash came to, and so its key.
    mask.as_mut_slice().zeroize();
    tag
}

fn xor(into: &mut [u8], other: &[u8]) {
    into.iter_mut().zip(other).for_each(|(into, other)| *into ^= other);
}

/// What is cut off is keystream and mask.
fn truncate_wiping(out: &mut Vec<u8>, len: usize) {
    out[len..].zeroize();
    out.truncate(len);
}

#[cfg(test)]
mod tests {
    use aes::{Aes128Enc, Aes192Enc, Aes256Enc};
    use aes_gcm::AesGcm;
    use aes_gcm::aead::consts::U12;
    use aes_gcm::aead::{AeadInOut, inout::InOutBuf};
    use proptest::prelude::*;

    use super::*;

    /// Seals with both, holds them against each other, and opens again.
    fn agrees<C: Aes + KeyInit + Clone>(key: &[u8], nonce: [u8; NONCE_LEN], aad: &[u8], plaintext: &[u8]) {
        let ours: Gcm<C> = KeyInit::new_from_slice(key).expect("the length of the cipher");
        let peer: AesGcm<C, U12> = KeyInit::new_from_slice(key).expect("the length of the cipher");
        let mut expected = plaintext.to_vec();
        let tag = peer
            .encrypt_inout_detached(&nonce.into(), aad, InOutBuf::from(&mut expected[..]))
            .expect("short enough");
        expected.extend_from_slice(&tag);
        let mut sealed = b"before".to_vec();
        ours.seal(&nonce, aad, plaintext, &mut sealed);
        assert_eq!(&sealed[6..], expected, "{} and {} bytes", aad.len(), plaintext.len());
        let mut opened = b"before".to_vec();
        ours.open(&nonce, aad, &expected, &mut opened).expect("opens");
        assert_eq!(&opened[6..], plaintext);
        let mut once = Vec::new();
        let key = key.try_into().expect("the length of the cipher");
        seal_once::<C>(key, &nonce, aad, plaintext, &mut once);
        assert_eq!(once, expected);
        open_once::<C>(key, &nonce, aad, &expected, &mut once).expect("opens");
        assert_eq!(&once[expected.len()..], plaintext);
    }

    #[test]
    fn every_short_length_is_as_aes_gcm_has_it() {
        let bytes: Vec<u8> = (0..1000_u32).map(|byte| byte as u8).collect();
        for len in 0..=300 {
            for aad in [0, 1, 15, 16, 17, 100, 250, 300] {
                agrees::<Aes256Enc>(&bytes[..32], [5; NONCE_LEN], &bytes[..aad], &bytes[..len]);
            }
            agrees::<Aes128Enc>(&bytes[..16], [6; NONCE_LEN], b"", &bytes[..len]);
            agrees::<Aes192Enc>(&bytes[..24], [7; NONCE_LEN], b"a", &bytes[..len]);
        }
    }

    #[test]
    fn long_values_are_as_aes_gcm_has_them() {
        let bytes = vec![0xA5; (1 << 20) + 17];
        for len in [1023, 1024, 1025, 65_535, 65_536, 1 << 20, bytes.len()] {
            agrees::<Aes256Enc>(&[3; 32], [9; NONCE_LEN], &bytes[..len / 3], &bytes[..len]);
        }
    }

    proptest! {
        #[test]
        fn any_value_is_as_aes_gcm_has_it(
            key in any::<[u8; 32]>(),
            nonce in any::<[u8; NONCE_LEN]>(),
            aad in prop::collection::vec(any::<u8>(), 0..300),
            plaintext in prop::collection::vec(any::<u8>(), 0..600),
        ) {
            agrees::<Aes256Enc>(&key, nonce, &aad, &plaintext);
        }
    }

    #[test]
    fn no_changed_bit_and_no_cut_authenticates() {
        let key: Gcm<Aes256Enc> = KeyInit::new(&[1; 32].into());
        let mut sealed = Vec::new();
        key.seal(&[2; NONCE_LEN], b"", &[0; 45], &mut sealed);
        for bit in 0..sealed.len() * 8 {
            let mut changed = sealed.clone();
            changed[bit / 8] ^= 1 << (bit % 8);
            let mut out = vec![7];
            assert_eq!(key.open(&[2; NONCE_LEN], b"", &changed, &mut out), Err(Unauthentic));
            assert_eq!(out, [7], "bit {bit}");
        }
        for len in 0..sealed.len() {
            assert_eq!(
                key.open(&[2; NONCE_LEN], b"", &sealed[..len], &mut Vec::new()),
                Err(Unauthentic),
                "cut to {len} bytes"
            );
        }
    }
}
