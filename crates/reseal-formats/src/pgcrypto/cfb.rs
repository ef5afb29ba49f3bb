//! AES in cipher feedback mode as OpenPGP uses it, RFC 4880 sections 5.7, 5.13 and 13.9: zero IV, full blocks.

use aes::cipher::{BlockCipherEncrypt, BlockSizeUser, KeyInit, KeyIvInit, consts::U16};
use aes::{Aes128, Aes192, Aes256};

use super::algorithm::Cipher;
use super::s2k::Key;

/// Bytes of a block.
pub(super) const BLOCK: usize = 16;
/// Bytes before the packets: a random block and its last two bytes once more.
pub(super) const PREFIX_LEN: usize = BLOCK + 2;

const ZERO_IV: [u8; BLOCK] = [0; BLOCK];

/// Encrypts `data` in place.
pub(super) fn encrypt(cipher: Cipher, key: &Key, data: &mut [u8]) {
    match cipher {
        Cipher::Aes128 => encrypt_by::<Aes128>(&key[..16], data),
        Cipher::Aes192 => encrypt_by::<Aes192>(&key[..24], data),
        Cipher::Aes256 => encrypt_by::<Aes256>(&key[..32], data),
    }
}

/// Decrypts `data` in place.
pub(super) fn decrypt(cipher: Cipher, key: &Key, data: &mut [u8]) {
    decrypt_from(cipher, key, &ZERO_IV, data);
}

/// Decrypts `data` of a packet without a hash in place: after the prefix the feedback starts anew with the 16
/// ciphertext bytes that end there.
pub(super) fn decrypt_resynchronised(cipher: Cipher, key: &Key, data: &mut [u8]) {
    let Some((prefix, rest)) = data.split_first_chunk_mut::<PREFIX_LEN>() else {
        return decrypt(cipher, key, data);
    };
    let mut iv = ZERO_IV;
    iv.copy_from_slice(&prefix[2..]);
    decrypt(cipher, key, prefix);
    decrypt_from(cipher, key, &iv, rest);
}

fn decrypt_from(cipher: Cipher, key: &Key, iv: &[u8; BLOCK], data: &mut [u8]) {
    match cipher {
        Cipher::Aes128 => decrypt_by::<Aes128>(&key[..16], iv, data),
        Cipher::Aes192 => decrypt_by::<Aes192>(&key[..24], iv, data),
        Cipher::Aes256 => decrypt_by::<Aes256>(&key[..32], iv, data),
    }
}

const KEY_FITS: &str = "the slice has the key length of the cipher";

fn encrypt_by<C: BlockCipherEncrypt + KeyInit + BlockSizeUser<BlockSize = U16>>(key: &[u8], data: &mut [u8]) {
    cfb_mode::Encryptor::<C>::new_from_slices(key, &ZERO_IV).expect(KEY_FITS).encrypt(data);
}

fn decrypt_by<C: BlockCipherEncrypt + KeyInit + BlockSizeUser<BlockSize = U16>>(
    key: &[u8],
    iv: &[u8; BLOCK],
    data: &mut [u8],
) {
    cfb_mode::Decryptor::<C>::new_from_slices(key, iv).expect(KEY_FITS).decrypt(data);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nist_first_block() {
        // SP 800-38A F.3.13 has another IV; with a zero IV the first block is the plaintext xor AES(key, 0).
        // FIPS 197's key schedule examples pin AES itself; AES-128 of the zero block under the zero key is 66e94bd4….
        let mut data = [0; 20];
        encrypt(Cipher::Aes128, &Key::default(), &mut data);
        assert_eq!(hex::encode(&data[..16]), "66e94bd4ef8a2c3b884cfa59ca342b2e");
        decrypt(Cipher::Aes128, &Key::default(), &mut data);
        assert_eq!(data, [0; 20]);
    }

    #[test]
    fn every_cipher_and_length_comes_back() {
        let key = Key::new([7; 32]);
        for cipher in Cipher::ALL {
            for length in 0..70 {
                let plain: Vec<u8> = (0..length).collect();
                let mut data = plain.clone();
                encrypt(cipher, &key, &mut data);
                assert!(length < 4 || data != plain);
                decrypt(cipher, &key, &mut data);
                assert_eq!(data, plain);
            }
        }
    }
}
