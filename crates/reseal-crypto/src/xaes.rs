//! XAES-256-GCM: AES-256-GCM with a 192-bit nonce, after the [C2SP specification].
//!
//! A key of its own is derived for every nonce by CMAC (SP 800-108 counter mode with one block per half), so random
//! nonces are safe for 2^80 messages. Composed over `aes` and [`crate::gcm`], which do the work.
//!
//! ```text
//! L = AES(K, 0^128); K1 = double(L)
//! Kx = AES(K, 00 01 'X' 00 || N[..12] xor K1) || AES(K, 00 02 'X' 00 || N[..12] xor K1)
//! ciphertext = AES-256-GCM(Kx, N[12..], plaintext, aad)
//! ```
//!
//! [C2SP specification]: https://c2sp.org/XAES-256-GCM

use aes::Aes256Enc;
use aes::cipher::{BlockCipherEncrypt, KeyInit};
use zeroize::{Zeroize, Zeroizing};

use crate::aead::Unauthentic;
use crate::gcm;

/// The long-lived key: its schedule and the CMAC subkey K1, computed once.
#[derive(Clone)]
pub(crate) struct XaesKey {
    cipher: Aes256Enc,
    k1: Zeroizing<[u8; 16]>,
}

impl XaesKey {
    pub(crate) fn new(key: &[u8; 32]) -> Self {
        let cipher = Aes256Enc::new(key.into());
        let mut block = aes::Block::default();
        cipher.encrypt_block(&mut block);
        let doubled = u128::from_be_bytes(block.into()) << 1;
        // The carry is secret, so it selects the reduction constant without a branch.
        let carry = u128::from(block[0] >> 7).wrapping_neg() & 0x87;
        let k1 = Zeroizing::new((doubled ^ carry).to_be_bytes());
        block.as_mut_slice().zeroize();
        Self { cipher, k1 }
    }

    /// Appends ciphertext and tag of `plaintext` to `out`.
    pub(crate) fn seal(&self, nonce: &[u8; 24], aad: &[u8], plaintext: &[u8], out: &mut Vec<u8>) {
        let mut key = Zeroizing::new([0; 32]);
        let nonce = self.derive(nonce, &mut key);
        gcm::seal_once::<Aes256Enc>((&*key).into(), &nonce, aad, plaintext, out);
    }

    /// Appends the plaintext of `sealed` (ciphertext and tag) to `out`.
    ///
    /// # Errors
    ///
    /// [`Unauthentic`] if anything differs; `out` is left as it was.
    pub(crate) fn open(
        &self,
        nonce: &[u8; 24],
        aad: &[u8],
        sealed: &[u8],
        out: &mut Vec<u8>,
    ) -> Result<(), Unauthentic> {
        let mut key = Zeroizing::new([0; 32]);
        let nonce = self.derive(nonce, &mut key);
        gcm::open_once::<Aes256Enc>((&*key).into(), &nonce, aad, sealed, out)
    }

    /// Writes the AES-256-GCM key of this nonce to `key`, and gives the 96 bits that key takes as its own nonce.
    fn derive(&self, nonce: &[u8; 24], key: &mut [u8; 32]) -> [u8; 12] {
        let (halves, _) = aes::Block::slice_as_chunks_mut(key);
        for (counter, half) in (1..).zip(halves.iter_mut()) {
            half[..4].copy_from_slice(&[0, counter, b'X', 0]);
            half[4..].copy_from_slice(&nonce[..12]);
            half.iter_mut().zip(self.k1.iter()).for_each(|(b, k)| *b ^= k);
        }
        self.cipher.encrypt_blocks(halves);
        let mut short = [0; 12];
        short.copy_from_slice(&nonce[12..]);
        short
    }
}
