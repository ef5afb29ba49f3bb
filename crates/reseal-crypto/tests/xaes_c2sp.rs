//! XAES-256-GCM against every vector of the [C2SP specification](https://c2sp.org/XAES-256-GCM).

use reseal_crypto::{AeadKey, Nonce, Suite};
use shake::digest::{ExtendableOutput, Update, XofReader};
use shake::{Shake128, Shake128Reader};

fn seal(key: &[u8; 32], nonce: &[u8; 24], aad: &[u8], plaintext: &[u8]) -> Vec<u8> {
    let mut sealed = Vec::new();
    AeadKey::new(Suite::Xaes256Gcm, key).seal(&Nonce(*nonce), aad, plaintext, &mut sealed);
    sealed
}

#[track_caller]
fn check(key: u8, aad: &[u8], expected: &str) {
    let (key, nonce, plaintext) = ([key; 32], b"ABCDEFGHIJKLMNOPQRSTUVWX", b"XAES-256-GCM");
    let sealed = seal(&key, nonce, aad, plaintext);
    assert_eq!(hex::encode(&sealed), expected);
    let mut opened = Vec::new();
    AeadKey::new(Suite::Xaes256Gcm, &key).open(&Nonce(*nonce), aad, &sealed, &mut opened).expect("own value");
    assert_eq!(opened, plaintext);
}

#[test]
fn first_bit_of_l_clear() {
    check(1, b"", "ce546ef63c9cc60765923609b33a9a1974e96e52daf2fcf7075e2271");
}

#[test]
fn first_bit_of_l_set() {
    check(3, b"c2sp.org/XAES-256-GCM", "986ec1832593df5443a179437fd083bf3fdb41abd740a21f71eb769d");
}

/// Reads a byte string with one byte of length before it, RFC 8446 section 3.
fn short_bytes(random: &mut Shake128Reader) -> Vec<u8> {
    let mut length = [0];
    random.read(&mut length);
    let mut bytes = vec![0; usize::from(length[0])];
    random.read(&mut bytes);
    bytes
}

/// Seals `iterations` random values from a stream of SHAKE-128 and hashes what comes out, opening each again.
fn accumulated(iterations: usize) -> String {
    let mut random = Shake128::default().finalize_xof();
    let mut hash = Shake128::default();
    for iteration in 0..iterations {
        let (mut key, mut nonce) = ([0; 32], [0; 24]);
        random.read(&mut key);
        random.read(&mut nonce);
        let (plaintext, aad) = (short_bytes(&mut random), short_bytes(&mut random));
        let sealed = seal(&key, &nonce, &aad, &plaintext);
        let mut opened = Vec::new();
        AeadKey::new(Suite::Xaes256Gcm, &key)
            .open(&Nonce(nonce), &aad, &sealed, &mut opened)
            .unwrap_or_else(|error| panic!("iteration {iteration}: {error}"));
        assert_eq!(opened, plaintext, "iteration {iteration}");
        hash.update(&sealed);
    }
    let mut digest = [0; 32];
    hash.finalize_xof().read(&mut digest);
    hex::encode(digest)
}

#[test]
fn the_random_stream_is_the_one_of_the_specification() {
    let mut start = [0; 16];
    Shake128::default().finalize_xof().read(&mut start);
    assert_eq!(hex::encode(start), "7f9c2ba4e88f827d616045507605853e");
}

#[test]
fn accumulated_10_000() {
    let expected = "e6b9edf2df6cec60c8cbd864e2211b597fb69a529160cd040d56c0c210081939";
    assert_eq!(accumulated(10_000), expected);
}
