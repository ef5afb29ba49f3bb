//! Our Argon2id against the reference implementation, at and above our floors, with 64 bytes of output.
//!
//! The values were computed by the C reference code through Python's `argon2-cffi`:
//! `hash_secret_raw(passphrase, salt, passes, memory_kib, lanes, 64, Type.ID)`.

use reseal_crypto::kdf::{KdfParams, SALT_LEN, derive};
use reseal_crypto::{Passphrase, SecretBytes};

#[track_caller]
fn check(passphrase: &[u8], salt: [u8; SALT_LEN], cost: (u32, u32, u32), expected: &str) {
    let passphrase = Passphrase::new(SecretBytes::copy_from(passphrase)).expect("not empty");
    let params = KdfParams::new(cost.0, cost.1, cost.2).expect("within the limits");
    let derived = derive(&passphrase, &salt, params).expect("the machine has the memory");
    assert_eq!(hex::encode(*derived), expected);
}

fn counting(from: u8) -> [u8; SALT_LEN] {
    std::array::from_fn(|i| from + i as u8)
}

#[test]
fn at_the_floor() {
    check(
        b"correct horse battery staple",
        counting(0),
        (65_536, 3, 4),
        "3d737ff81a31548baccfc3d51b863e5f5eb52b435baa0aba1ccf8b23778337cb\
         3328fd4c8e42700d30c5fe82c2cc498dc1982089251f1aa6a815cec7f70e0b59",
    );
}

#[test]
fn one_lane_and_a_binary_passphrase() {
    check(
        &[0x00, 0xFF].repeat(50),
        [0xA5; SALT_LEN],
        (65_536, 3, 1),
        "951384cd1d4d8957e5695262fd58e335824aa21ca3b507e70559cbc1a1252b7e\
         0ba5830125f7041b51336e77bca314ec0c0678e0eae586bdb92e487559e5bfcf",
    );
}

#[test]
fn memory_that_is_not_a_multiple_of_the_lanes() {
    check(
        "pässword".as_bytes(),
        [0; SALT_LEN],
        (65_537, 4, 3),
        "f38d23dc46d0a7d634a9330a62ab93051c5a275562172921488ca42da76a0465\
         db9aaba3aa61814111d29068f3a6c55feb6ffe11ae2b132baa16e4ef453902dd",
    );
}

#[test]
fn the_most_lanes() {
    check(
        b"x",
        counting(32),
        (131_072, 3, 16),
        "d13d4f21a7b098309cedb7e38b11fbf8a0ede974c67ec8efb453a4fbbb132ac9\
         3896e12b2c701b1a7de8acd3c36490fed92bca7104b250b807595806e1e0f380",
    );
}
