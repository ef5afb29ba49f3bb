//! Project Wycheproof's cases through our own wrappers, with the number of cases asserted so that none vanishes.

#![allow(clippy::print_stdout, reason = "the number of cases is printed")]

use reseal_crypto::aead::{AeadKey, ForeignKey, ForeignSuite, NONCE_LEN, Nonce, Suite, TAG_LEN, Unauthentic};
use reseal_crypto::hash::{MacKey, equal, hkdf_sha256, hmac_sha256};
use wycheproof::{TestResult, aead, hkdf, mac};

/// How the cases of one file went: those that ran, and those whose sizes our wrapper refuses to be asked for.
#[derive(Debug, Default, PartialEq, Eq)]
struct Count {
    valid: usize,
    invalid: usize,
    refused_size: usize,
}

impl Count {
    fn add(&mut self, result: TestResult) {
        match result {
            TestResult::Valid => self.valid += 1,
            TestResult::Invalid => self.invalid += 1,
            TestResult::Acceptable => panic!("none of these files has cases that are a matter of taste"),
        }
    }

    #[track_caller]
    fn check(self, name: &str, expected: Self) {
        println!("{name}: {self:?}");
        assert_eq!(self, expected, "{name}: cases appeared or vanished");
    }
}

type Opened = Result<Vec<u8>, Unauthentic>;
/// What one wrapper makes of a case: the sealed bytes, and what opening the case's own bytes gives.
type Run = fn(test: &aead::Test, sealed: &[u8]) -> Option<(Vec<u8>, Opened)>;

fn aead_file(name: aead::TestName, run: Run) -> Count {
    let mut count = Count::default();
    let file = aead::TestSet::load(name).expect("the crate carries the file");
    for group in file.test_groups {
        for test in group.tests {
            let case = format!("{name:?} case {}: {}", test.tc_id, test.comment);
            let sealed = [test.ct.as_slice(), &test.tag].concat();
            let Some((our_sealed, opened)) = run(&test, &sealed) else {
                count.refused_size += 1;
                continue;
            };
            count.add(test.result);
            if test.result.must_fail() {
                assert_eq!(opened, Err(Unauthentic), "{case}");
            } else {
                assert_eq!(opened.as_deref(), Ok(test.pt.as_slice()), "{case}");
                assert_eq!(our_sealed, sealed, "{case}");
            }
        }
    }
    count
}

fn foreign(suite: ForeignSuite, test: &aead::Test, sealed: &[u8]) -> Option<(Vec<u8>, Opened)> {
    let key = ForeignKey::new(suite, &test.key, test.nonce.len()).ok()?;
    let mut ours = Vec::new();
    key.seal(&test.nonce, &test.aad, &test.pt, &mut ours);
    let mut opened = Vec::new();
    Some((ours, key.open(&test.nonce, &test.aad, sealed, &mut opened).map(|()| opened)))
}

#[test]
fn aes_gcm() {
    let count = aead_file(aead::TestName::AesGcm, |test, sealed| {
        let suite = match test.key.len() {
            16 => ForeignSuite::Aes128Gcm,
            24 => ForeignSuite::Aes192Gcm,
            32 => ForeignSuite::Aes256Gcm,
            other => panic!("AES has no keys of {other} bytes"),
        };
        foreign(suite, test, sealed)
    });
    // Nonces of other lengths than 96 and 128 bits are what the wrapper refuses to be prepared for.
    count.check("aes-gcm", Count { valid: 174, invalid: 81, refused_size: 61 });
}

#[test]
fn chacha20_poly1305() {
    let count = aead_file(aead::TestName::ChaCha20Poly1305, |test, sealed| {
        foreign(ForeignSuite::ChaCha20Poly1305, test, sealed)
    });
    count.check("chacha20-poly1305", Count { valid: 256, invalid: 60, refused_size: 9 });
}

#[test]
fn xchacha20_poly1305() {
    let count = aead_file(aead::TestName::XChaCha20Poly1305, |test, sealed| {
        let key: &[u8; 32] = test.key.as_slice().try_into().ok()?;
        let nonce: [u8; NONCE_LEN] = test.nonce.as_slice().try_into().ok()?;
        let key = AeadKey::new(Suite::XChaCha20Poly1305, key);
        let mut ours = Vec::new();
        key.seal(&Nonce(nonce), &test.aad, &test.pt, &mut ours);
        let mut opened = Vec::new();
        Some((ours, key.open(&Nonce(nonce), &test.aad, sealed, &mut opened).map(|()| opened)))
    });
    count.check("xchacha20-poly1305", Count { valid: 246, invalid: 60, refused_size: 9 });
}

#[test]
fn a_refused_value_leaves_the_buffer_alone() {
    for (name, suites) in [
        (aead::TestName::ChaCha20Poly1305, &[ForeignSuite::ChaCha20Poly1305][..]),
        (
            aead::TestName::AesGcm,
            &[ForeignSuite::Aes128Gcm, ForeignSuite::Aes192Gcm, ForeignSuite::Aes256Gcm],
        ),
    ] {
        let file = aead::TestSet::load(name).expect("the crate carries the file");
        let invalid =
            file.test_groups.iter().flat_map(|group| &group.tests).filter(|test| test.result.must_fail());
        for test in invalid {
            let prepare = |suite: &ForeignSuite| ForeignKey::new(*suite, &test.key, test.nonce.len()).ok();
            let Some(key) = suites.iter().find_map(prepare) else { continue };
            let mut out = b"before".to_vec();
            let sealed = [test.ct.as_slice(), &test.tag].concat();
            assert_eq!(key.open(&test.nonce, &test.aad, &sealed, &mut out), Err(Unauthentic));
            assert_eq!(out, b"before", "{name:?} case {}", test.tc_id);
        }
    }
}

#[test]
fn hmac_sha256_cases() {
    let mut count = Count::default();
    let file = mac::TestSet::load(mac::TestName::HmacSha256).expect("the crate carries the file");
    for group in file.test_groups {
        for test in group.tests {
            let ours = hmac_sha256(&test.key, &test.msg);
            // Half of the file truncates its tags; a caller that truncates compares that many bytes.
            let holds = equal(&ours[..group.tag_size / 8], &test.tag);
            assert_eq!(holds, !test.result.must_fail(), "case {}: {}", test.tc_id, test.comment);
            let middle = test.msg.len() / 2;
            let in_parts = MacKey::new(&test.key).mac(&[&test.msg[..middle], b"", &test.msg[middle..]]);
            assert_eq!(in_parts, ours, "case {} in parts", test.tc_id);
            count.add(test.result);
        }
    }
    count.check("hmac-sha-256", Count { valid: 66, invalid: 108, refused_size: 0 });
}

#[test]
fn hkdf_sha256_cases() {
    let mut count = Count::default();
    let file = hkdf::TestSet::load(hkdf::TestName::HkdfSha256).expect("the crate carries the file");
    for test in file.test_groups.into_iter().flat_map(|group| group.tests) {
        // More than 255 hashes is the one thing HKDF cannot give; our wrapper documents a panic for it.
        if test.size > 255 * 32 {
            assert!(test.result.must_fail(), "case {}", test.tc_id);
            count.refused_size += 1;
            continue;
        }
        let mut okm = vec![0; test.size];
        hkdf_sha256(&test.ikm, &test.salt, &test.info, &mut okm);
        assert_eq!(okm == test.okm.as_slice(), !test.result.must_fail(), "case {}", test.tc_id);
        count.add(test.result);
    }
    count.check("hkdf-sha-256", Count { valid: 83, invalid: 0, refused_size: 3 });
}

#[test]
fn sealed_values_shorter_than_a_tag_are_refused() {
    for suite in Suite::ALL {
        let key = AeadKey::new(suite, &[1; 32]);
        for length in 0..TAG_LEN {
            let mut out = Vec::new();
            assert_eq!(key.open(&Nonce([0; NONCE_LEN]), b"", &vec![0; length], &mut out), Err(Unauthentic));
        }
    }
}
