//! pgcrypto messages from elsewhere, and properties of our own. The messages of `VECTORS` and below are quoted from
//! PostgreSQL's `contrib/pgcrypto/sql/pgp-decrypt.sql` (PostgreSQL Licence); GnuPG made most of them.

use proptest::prelude::*;
use reseal_crypto::random::{OsRandom, Random, RandomPool, SeededRandom};
use reseal_crypto::{ColumnId, KeyMaterial, SecretBytes};
use reseal_formats::pgcrypto::{Cipher, Compression, Digest, MessageShape, S2kMode};
use reseal_formats::{Codec, ColumnType, Encoding, FormatSpec, OpenError, Opened, Shape};

/// Cipher, hash and mode as the header says (one comment in the original says MD5 of a message with SHA-1), body of
/// the armor, passphrase.
const VECTORS: [(&str, &str, &str); 20] = [
    (
        "aes.sha1.s2k3",
        "jA0EBwMCci97v0Q6Z0Zg0kQBsVf5Oe3iC+FBzUmuMV9KxmAyOMyjCc/5i8f1EestUTAsG35A1vYs02VARKzGz6xI2UHwFUirP+brPBg3Ee7muOx8pA==",
        "foobar",
    ),
    (
        "aes192.sha1.s2k3",
        "jA0ECAMCI7YQpWqp3D1g0kQBCjB7GlX7+SQeXNleXeXQ78ZAPNliquGDq9u378zI5FPTqAhIB2/2fjY8QEIs1ai00qphjX2NitxV/3Wn+6dufB4Q4g==",
        "foobar",
    ),
    (
        "aes256.sha1.s2k3",
        "jA0ECQMC4f/5djqCC1Rg0kQBTHEPsD+Sw7biBsM2er3vKyGPAQkuTBGKC5ie7hT/lceMfQdbAg6oTFyJpk/wH18GzRDphCofg0X8uLgkAKMrpcmgog==",
        "foobar",
    ),
    (
        "aes.sha1.s2k3",
        "jA0EBwMCEeP3idNjQ1Bg0kQBf4G0wX+2QNzLh2YNwYkQgQkfYhn/hLXjV4nK9nsE8Ex1Dsdt5UPvOz8W8VKQRS6loOfOe+yyXil8W3IYFwUpdDUi+Q==",
        "foobar",
    ),
    (
        "aes.sha1.s2k3",
        "jA0EBwMClrXXtOXetohg0kQBn0Kl1ymevQZRHkdoYRHgzCwSQEiss7zYff2UNzgOKyRrHf7zEBuZiZ2AG34jNVMOLToj1jJUg5zTSdecUzQVCykWTA==",
        "foobar",
    ),
    (
        "aes.sha1.s2k3",
        "jA0EBwMCApbdlrURoWJg0kQBzHM/E0o7djY82bNuspjxjAcPFrrtp0uvDdMQ4z2m/PM8jhgI5vxFYfNQjLl8y3fHYIomk9YflN9K/Q13iq8A8sjeTw==",
        "foobar",
    ),
    (
        "aes.sha1.s2k0",
        "jAQEBwAC0kQBKTaLAKE3xzps+QIZowqRNb2eAdzBw2LxEW2YD5PgNlbhJdGg+dvwAh9GXjGS1TVALzTImJbz1uHUZRfhJlFbc5yGQw==",
        "foobar",
    ),
    (
        "aes.sha1.s2k1",
        "jAwEBwEC/QTByBLI3b/SRAHPxKzI6SZBo5lAEOD+EsvKQWO4adL9tDY+++Iqy1xK4IaWXVKEj9R2Lr2xntWWMGZtcKtjD2lFFRXXd9dZp1ZThNDz",
        "foobar",
    ),
    (
        "aes.sha1.s2k3",
        "jA0EBwMCEq4Su3ZqNEJg0kQB4QG5jBTKF0i04xtH+avzmLhstBNRxvV3nsmB3cwlz+9ZaA/XdSx5ZiFnMym8P6r8uY9rLjjNptvvRHlxIReF+p9MNg==",
        "foobar",
    ),
    (
        "aes192.sha1.s2k0",
        "jAQECAAC0kQBBDnQWkgsx9YFaqDfWmpsiyAJ6y2xG/sBvap1dySYEMuZ+wJTXQ9ECr3i2M7TgVZ0M4jp4QL0adG1lpN5iK7aQeOwMw==",
        "foobar",
    ),
    (
        "aes192.sha1.s2k1",
        "jAwECAECruOfyNDFiTnSRAEVoGXm4A9UZKkWljdzjEO/iaE7mIraltIpQMkiqCh97h8uZ2u9uRBOv222fZodGvc6bvq/4R4hAa/6qSHtm8mdmvGt",
        "foobar",
    ),
    (
        "aes192.sha1.s2k3",
        "jA0ECAMCjFn6SRi3SONg0kQBqtSHPaD0m7rXfDAhCWU/ypAsI93GuHGRyM99cvMvq6eF6859ZVnli3BFSDSk3a4e/pXhglxmDYCfjAXkozKNYLo6yw==",
        "foobar",
    ),
    (
        "aes256.sha1.s2k0",
        "jAQECQAC0kQB4L1eMbani07XF2ZYiXNK9LW3v8w41oUPl7dStmrJPQFwsdxmrDHurQr3WbdKdY9ufjOE5+mXI+EFkSPrF9rL9NCq6w==",
        "foobar",
    ),
    (
        "aes256.sha1.s2k1",
        "jAwECQECKHhrou7ZOIXSRAHWIVP+xjVQcjAVBTt+qh9SNzYe248xFTwozkwev3mO+KVJW0qhk0An+Y2KF99/bYFl9cL5D3Tl43fC8fXGl3x3m7pR",
        "foobar",
    ),
    (
        "aes256.sha1.s2k3",
        "jA0ECQMCjc8lwZu8Fz1g0kQBkEzjImi21liep5jj+3dAJ2aZFfUkohi8b3n9z+7+4+NRzL7cMW2RLAFnJbiqXDlRHMwleeuLN1up2WIxsxtYYuaBjA==",
        "foobar",
    ),
    (
        "aes.sha1.s2k3",
        "jA0EBwMCx6dBiuqrYNRg0kQBEo63AvA1SCslxP7ayanLf1H0/hlk2nONVhTwVEWitTGup1mMz6Cfh1uDRErUuXpx9A0gdMu7zX0o5XjrL7WGDAZdSw==",
        "0123456789abcdefghij",
    ),
    (
        "aes.sha1.s2k3",
        "jA0EBwMCBDvYuS990iFg0kQBW31UK5OiCjWf5x6KJ8qNNT2HZWQCjCBZMU0XsOC6CMxFKadf144H/vpoV9GA0f22keQgCl0EsTE4V4lweVOPTKCMJg==",
        "0123456789abcdefghij2jk4h5g2j54khg23h54g2kh54g2khj54g23hj54",
    ),
    (
        "aes.sha1.s2k3",
        "jA0EBwMCqXbFafC+ofVg0kQBejyiPqH0QMERVGfmPOjtAxvyG5KDIJPYojTgVSDtFwsDabdQUz5O7bgNSnxfmyw1OifGF+W2bIn/8W+0rDf8u3+O+Q==",
        "x",
    ),
    (
        "aes.sha1.s2k3",
        "jA0EBwMCGJ+SpuOysINg0kQBJfSjzsW0x4OVcAyr17O7FBvMTwIGeGcJd99oTQU8Xtx3kDqnhUq9Z1fS3qPbi5iNP2A9NxOBxPWz2JzxhydANlgbxg==",
        "0123456789abcdefghij",
    ),
    (
        "aes256.sha1.s2k3",
        "ww0ECQMCt7VAtby6l4Bi0lgB5KMIZiiF/b3CfMfUyY0eDncsGXtkbu1X+l9brjpMP8eJnY79Ammsa3nsOzKTXUfS9VyaXo8IrncM6n7fdaXpwba/3tNsAhJG4lDv1k4g9v8Ix2dfv6Rs",
        "key",
    ),
];

fn codec(toml: &str, passphrase: &[u8]) -> Codec {
    let spec: FormatSpec = toml::from_str(&format!("format = \"pgcrypto\"\n{toml}")).expect(toml);
    let key = KeyMaterial::Foreign(SecretBytes::copy_from(passphrase));
    spec.codec(ColumnType::Bytes, &key, ColumnId([0; 16])).expect("a passphrase")
}

fn base64(text: &str) -> Vec<u8> {
    let mut message = Vec::new();
    Encoding::Base64 { lines: false }.decode(text.as_bytes(), &mut message).expect("base64");
    message
}

fn open(codec: &Codec, message: &[u8]) -> Result<(Vec<u8>, Shape), OpenError> {
    let mut plaintext = Vec::new();
    let opened = codec.open_many(&[message], &[None], &mut plaintext).remove(0)?;
    let mut again = Vec::new();
    assert_eq!(codec.reopen_many(&[message], &[None], &mut again).remove(0).as_ref(), Ok(&opened));
    assert_eq!(plaintext, again);
    Ok((plaintext, opened.shape))
}

fn seal(codec: &Codec, plaintext: &[u8], shape: Shape, random: &dyn Random) -> Vec<u8> {
    let value = Opened { plaintext: 0..plaintext.len(), shape, encoding: Encoding::Raw };
    let mut out = Vec::new();
    codec.seal_many(plaintext, &[value], &[None], &mut RandomPool::new(random), &mut out).expect("seals");
    out
}

fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    SeededRandom::new(seed).fill(&mut bytes).expect("seeded");
    bytes
}

#[test]
fn messages_of_gnupg_open() {
    for (name, message, passphrase) in VECTORS {
        let message = base64(message);
        let (plaintext, shape) = open(&codec("", passphrase.as_bytes()), &message).expect(name);
        if passphrase != "key" {
            assert_eq!(plaintext, b"Secret message.", "{name}");
        }
        let Shape::Pgcrypto(shape) = shape else { panic!("{shape:?}") };
        let cipher = match shape.cipher {
            Cipher::Aes128 => "aes",
            Cipher::Aes192 => "aes192",
            Cipher::Aes256 => "aes256",
        };
        let digest = if shape.digest == Digest::Md5 { "md5" } else { "sha1" };
        assert_eq!(format!("{cipher}.{digest}.s2k{}", shape.s2k.id()), name);
        assert_eq!(open(&codec("", b"another"), &message), Err(OpenError::Unopened));
    }
}

#[test]
fn line_ends_are_bytes_like_others() {
    let (_, message, passphrase) = VECTORS[19];
    let (plaintext, _) = open(&codec("", passphrase.as_bytes()), &base64(message)).expect("opens");
    assert!(plaintext.windows(2).any(|pair| pair == b"\r\n"), "nothing is converted");
}

#[test]
fn a_wrong_key_that_seems_to_give_a_packet_fails_as_any_other() {
    // Under 'wrong-key' the first decrypts to what looks like a binary literal packet, the second like bzip2.
    for message in [
        "ww0EBwMCxf8PTrQBmJdl0jcB6y2joE7GSLKRv7trbNsF5Z8ou5NISLUg31llVH/S0B2wl4bvzZjVVsxxqLSPzNLAeIspJk5G",
        "ww0EBwMC9rK/dMkF5Zlt0jcBlzAQ1mQY2qYbKYbw8h3EZ5Jk0K2IiY92R82TRhWzBIF/8cmXDPtPGXsd65oYJZp3Khz0qfyn",
    ] {
        assert_eq!(open(&codec("", b"wrong-key"), &base64(message)), Err(OpenError::Unopened));
        assert_eq!(open(&codec("", b"key"), &base64(message)).expect("opens").0, b"secret");
    }
}

#[test]
fn a_nul_in_text_is_kept() {
    let message = base64(
        "jA0EBwMCLd9OvySmZNZg0jgBe7vGTmnje5HGXI+zsIQ99WPZu4Zs/P6pQcZ+HZ4nSZQHOfE8tagjB6Rqow82QpSBiOfWn4qjhQ==",
    );
    let (plaintext, _) = open(&codec("", b"key"), &message).expect("opens");
    assert_eq!(plaintext, b"a\0\x0c");
}

#[test]
fn unsupported_options_are_named() {
    let unsupported = |option| Err(OpenError::Unsupported { format: "pgcrypto", option });
    let blowfish = "jA0EBAMCfFNwxnvodX9g0jwB4n4s26/g5VmKzVab1bX1SmwY7gvgvlWdF3jKisvSyA6Ce1QTMK3KdL2MPfamsTUSAML8huCJMwYQFfE=";
    assert_eq!(open(&codec("", b"foobar"), &base64(blowfish)), unsupported("the cipher Blowfish"));
    let bzip2 = "jA0EBwMCRhFrAKNcLVJg0mMBLJG1cCASNk/x/3dt1zJ+2eo7jHfjgg3N6wpB3XIeQCwkWJwlBG5pzbO5gu7xuPQN+TbPJ7aQ2sLx3bAHhtYb0i3vV9RO10Gw++yUyd4RUCAAw2JRIISttRHMfDpDuZJpvYo=";
    assert_eq!(open(&codec("", b"key"), &base64(bzip2)), unsupported("bzip2 compression"));
    assert_eq!(open(&codec("", b"Key"), &base64(bzip2)), Err(OpenError::Unopened), "the key is proved first");
}

#[test]
fn messages_without_a_hash_open_only_if_the_plan_allows_it() {
    let message =
        base64("jA0EBwMCnv07rlXqWctgyS2Dm2JfOKCRL4sLSLJUC8RS2cH7cIhKSuLitOtyquB+u9YkgfJfsuRJmgQ9tmo=");
    let option = "no integrity protection (disable-mdc)";
    let refused = Err(OpenError::Unsupported { format: "pgcrypto", option });
    assert_eq!(open(&codec("", b"foobar"), &message), refused);
    let allowing = codec("allow-no-mdc = true", b"foobar");
    let (plaintext, shape) = open(&allowing, &message).expect("opens");
    assert_eq!(plaintext, b"Secret message.");
    assert_eq!(open(&codec("allow-no-mdc = true", b"Foobar"), &message), Err(OpenError::Unopened));
    let rewritten = seal(&codec("", b"new"), &plaintext, shape, &OsRandom);
    assert_eq!(open(&codec("", b"new"), &rewritten).expect("is written with a hash").0, plaintext);
}

#[test]
fn sizes_around_every_length_form_come_back() {
    let sizes =
        [0, 1, 15, 16, 17, 125, 126, 127, 191, 192, 8335, 8383, 8384, 16383, 16384, 16385, 65530, 1 << 20];
    for options in ["s2k-count = 1024", "s2k-mode = 0\ncompress-algo = 2", "s2k-mode = 1\nsess-key = true"] {
        let codec = codec(options, b"k");
        for size in sizes {
            for plaintext in [noise(7, size), vec![b'x'; size]] {
                let message = seal(&codec, &plaintext, Shape::Plain, &OsRandom);
                assert!(open(&codec, &message).expect("opens").0 == plaintext, "{options} {size}");
                let mut flipped = message.clone();
                *flipped.last_mut().expect("not empty") ^= 1;
                assert_eq!(open(&codec, &flipped), Err(OpenError::Unopened), "{options} {size}");
            }
        }
    }
}

prop_compose! {
    fn shapes()(
        cipher in 0..3_usize, session in proptest::option::of(0..3_usize), mode in 0..4_u8, code in 0..30_u8,
        digest in 0..6_usize, compression in 0..3_usize, kind in 0..3_usize, created: u32,
    ) -> MessageShape {
        MessageShape {
            cipher: Cipher::ALL[cipher],
            session: session.map(|which| Cipher::ALL[which]),
            s2k: [S2kMode::Simple, S2kMode::Salted, S2kMode::Iterated(code), S2kMode::Iterated(code)][usize::from(mode)],
            digest: Digest::ALL[digest],
            compression: Compression::ALL[compression],
            kind: b"tub"[kind],
            created,
        }
    }
}

proptest! {
    #[test]
    fn a_message_comes_back_as_it_was_under_its_key_only(
        plaintext in proptest::collection::vec(any::<u8>(), 0..400),
        passphrase in proptest::collection::vec(any::<u8>(), 1..150),
        shape in shapes(),
    ) {
        let own = codec("", &passphrase);
        let message = seal(&own, &plaintext, Shape::Pgcrypto(shape), &OsRandom);
        prop_assert_eq!(open(&own, &message), Ok((plaintext, Shape::Pgcrypto(shape))));
        let other = codec("", &[&passphrase[..], b"\0"].concat());
        prop_assert_eq!(open(&other, &message), Err(OpenError::Unopened));
    }

    #[test]
    fn a_changed_message_never_opens_as_something_else(
        plaintext in proptest::collection::vec(any::<u8>(), 0..100),
        shape in shapes(),
        changes in proptest::collection::vec((any::<prop::sample::Index>(), 1_u8..), 1..4),
        cut in any::<prop::sample::Index>(),
    ) {
        let own = codec("", b"passphrase");
        let message = seal(&own, &plaintext, Shape::Pgcrypto(shape), &OsRandom);
        let mut bad = message.clone();
        // The octet of the count is left alone: it can ask for 65 MB of hashing.
        changes.iter().for_each(|(at, bits)| {
            let at = at.index(bad.len());
            if at != 14 { bad[at] ^= bits }
        });
        if bad != message {
            prop_assert!(open(&own, &bad).is_err());
        }
        prop_assert!(open(&own, &message[..cut.index(message.len())]).is_err());
    }

    #[test]
    fn no_bytes_panic(mut bytes in proptest::collection::vec(any::<u8>(), 0..200), packet in 0..4_usize) {
        let heads: [&[u8]; 4] = [b"", b"\xC3\x04\x04\x07\x00\x02", b"\xC3\x0D\x04\x09\x03\x02saltsalt\x00\xD2", b"\x8C"];
        bytes.splice(0..0, heads[packet].iter().copied());
        let _ = open(&codec("allow-no-mdc = true", b"k"), &bytes);
    }
}
