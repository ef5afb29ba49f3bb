//! Key slots as other implementations must make them. The values were computed in Python with PyCA's `cryptography` and
//! `argon2-cffi` from the description at the top of `slot.rs` and in `docs/formats/vault.md`.

use std::sync::atomic::{AtomicU8, Ordering};

use reseal_crypto::kdf::KdfParams;
use reseal_crypto::random::RandomError;
use reseal_crypto::secret::VaultKey;
use reseal_crypto::slot::{Opener, Slot};
use reseal_crypto::{Passphrase, Random, SecretBytes};

/// Hands out 0, 1, 2, and so on: the slot's id, salt and nonce, in this order.
#[derive(Debug, Default)]
struct Counting(AtomicU8);

impl Random for Counting {
    fn fill(&self, dest: &mut [u8]) -> Result<(), RandomError> {
        dest.iter_mut().for_each(|byte| *byte = self.0.fetch_add(1, Ordering::Relaxed));
        Ok(())
    }
}

#[track_caller]
fn check(opener: &Opener, wrapped: &str, commitment: &str) {
    let (vault, key) = ([3; 16], VaultKey::from_bytes(&[0x42; 32]));
    let slot =
        Slot::make(&vault, &key, opener, KdfParams::FLOOR, &Counting::default()).expect("a slot is made");
    assert_eq!(hex::encode(slot.wrapped), wrapped);
    assert_eq!(hex::encode(slot.commitment), commitment);
    assert_eq!(slot.open(&vault, opener).expect("the slot opens"), key);
}

fn code() -> SecretBytes {
    SecretBytes::new(vec![5; 32])
}

#[test]
fn recovery_code() {
    check(
        &Opener::RecoveryCode(code()),
        "8472e71e9980da862565c765bd212378a5348c48222f6e88a1e26ccc36a2d2efd7a185af8b714649826120bb0eebbd08",
        "dfc14e4d2cb5b15c6d9022a3f95edea5896e5ef8a07fb3be2a21104408315002",
    );
}

#[test]
fn key_file() {
    check(
        &Opener::KeyFile(code()),
        "e427fb99fbced61cd0d243abd4213b819e55cbe38d3bbf3123cc173a8f303eee8fa37b32e6cdc483eaa8aa961a99c6cb",
        "44e7c319e67bb6192b270889cb5887327301f8d915c1b63be177005c87a1fb5b",
    );
}

#[test]
fn passphrase_at_the_floor() {
    let passphrase = Passphrase::new(SecretBytes::copy_from(b"correct horse")).expect("not empty");
    check(
        &Opener::Passphrase(passphrase),
        "36ced67d0a39ca8a4799924858c04c9ccecb8c1ba27cb4af829ade23cd35e8da16ce16c72cebbe22c7923cce0f40b1a1",
        "9a2da9d2f7e76f0de98574e0296c49b9450e721d1a98f4214882fdc528e7171a",
    );
}
