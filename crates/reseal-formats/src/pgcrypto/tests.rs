use reseal_crypto::OsRandom;
use reseal_crypto::random::SeededRandom;

use super::*;
use crate::encoding::Encoding;

fn format(passphrase: &str, options: Options) -> PgcryptoFormat {
    PgcryptoFormat::new(SecretBytes::copy_from(passphrase.as_bytes()), options, Unhashed::Refused, || {
        1_700_000_000
    })
}

fn cheap() -> Options {
    Options { s2k_code: Some(0), ..Options::default() }
}

fn sealed(format: &PgcryptoFormat, plaintext: &[u8], like: &Shape) -> Vec<u8> {
    let mut out = Vec::new();
    format.seal(plaintext, like, None, &mut RandomPool::new(&OsRandom), &mut out).expect("seals");
    out
}

fn open(format: &PgcryptoFormat, message: &[u8]) -> Result<(Vec<u8>, Shape), OpenError> {
    let mut out = b"before".to_vec();
    let shape = format.open(message, None, &mut out);
    if shape.is_err() {
        assert_eq!(out, b"before", "a refused message leaves the buffer alone");
    }
    shape.map(|shape| (out[6..].to_vec(), shape))
}

fn from_base64(text: &str) -> Vec<u8> {
    let mut message = Vec::new();
    Encoding::Base64 { lines: false }.decode(text.as_bytes(), &mut message).expect("base64");
    message
}

#[test]
fn a_message_that_pgcrypto_made() {
    // select encode(pgp_sym_encrypt('secret', 'key'), 'base64') on PostgreSQL.
    let message = from_base64(
        "ww0EBwMCxf8PTrQBmJdl0jcB6y2joE7GSLKRv7trbNsF5Z8ou5NISLUg31llVH/S0B2wl4bvzZjVVsxxqLSPzNLAeIspJk5G",
    );
    let (plaintext, shape) = open(&format("key", Options::default()), &message).expect("opens");
    assert_eq!(plaintext, b"secret");
    let Shape::Pgcrypto(shape) = shape else { panic!("{shape:?}") };
    assert_eq!((shape.cipher, shape.digest, shape.kind), (Cipher::Aes128, Digest::Sha1, b't'));
    assert_eq!((shape.session, shape.compression), (None, Compression::None));
    assert!(matches!(shape.s2k, S2kMode::Iterated(96..=127)), "{shape:?}");
    assert_eq!(open(&format("Key", Options::default()), &message), Err(OpenError::Unopened));
}

#[test]
fn a_message_keeps_its_options_and_nothing_random() {
    for cipher in Cipher::ALL {
        for digest in Digest::ALL {
            for s2k_mode in [0, 1, 3] {
                for session in [None, Some(false), Some(true)] {
                    for compression in Compression::ALL {
                        let options = Options {
                            cipher: Some(cipher),
                            digest: Some(digest),
                            s2k_mode: Some(s2k_mode),
                            s2k_code: Some(3),
                            session,
                            session_cipher: Some(Cipher::Aes256),
                            compression: Some(compression),
                            ..Options::default()
                        };
                        let first = sealed(&format("old", options), b"plaintext", &Shape::Plain);
                        let (plaintext, shape) = open(&format("old", options), &first).expect("opens");
                        assert_eq!(plaintext, b"plaintext");
                        let again = sealed(&format("new", Options::default()), &plaintext, &shape);
                        let (plaintext, kept) =
                            open(&format("new", Options::default()), &again).expect("opens");
                        assert_eq!((plaintext.as_slice(), kept), (b"plaintext".as_slice(), shape));
                        assert_eq!(first.len(), again.len());
                        assert_ne!(first, again);
                        assert!(first.len() <= options.message_len_max(9));
                        assert!(open(&format("old", options), &again).is_err());
                    }
                }
            }
        }
    }
}

#[test]
fn the_plan_overrides_a_messages_options() {
    let first = sealed(&format("k", cheap()), "é".as_bytes(), &Shape::Plain);
    let (plaintext, shape) = open(&format("k", cheap()), &first).expect("opens");
    let options = Options {
        cipher: Some(Cipher::Aes256),
        s2k_mode: Some(1),
        digest: Some(Digest::Sha512),
        session: Some(true),
        compression: Some(Compression::Zlib),
        unicode: Some(true),
        ..Options::default()
    };
    let second = sealed(&format("k", options), &plaintext, &shape);
    let (_, Shape::Pgcrypto(shape)) = open(&format("k", cheap()), &second).expect("opens") else {
        panic!("a pgcrypto message has its shape");
    };
    let expected = MessageShape {
        cipher: Cipher::Aes256,
        session: Some(Cipher::Aes256),
        s2k: S2kMode::Salted,
        digest: Digest::Sha512,
        compression: Compression::Zlib,
        kind: b'u',
        created: 1_700_000_000,
    };
    assert_eq!(shape, expected);
    let back = Options { s2k_mode: Some(3), session: Some(false), unicode: Some(false), ..cheap() };
    let third = sealed(&format("k", back), &plaintext, &Shape::Pgcrypto(shape));
    let (_, Shape::Pgcrypto(shape)) = open(&format("k", cheap()), &third).expect("opens") else {
        panic!("a pgcrypto message has its shape");
    };
    assert_eq!((shape.s2k, shape.session, shape.kind), (S2kMode::Iterated(0), None, b't'));
}

#[test]
fn values_from_elsewhere_are_text_where_postgres_can_show_them_as_text() {
    for (plaintext, kind) in
        [(&b"plain"[..], b't'), (b"", b't'), ("ü\n".as_bytes(), b't'), (b"a\0b", b'b'), (b"\xFF", b'b')]
    {
        let message = sealed(&format("k", cheap()), plaintext, &Shape::Fernet { created: 77 });
        let (_, Shape::Pgcrypto(shape)) = open(&format("k", cheap()), &message).expect("opens") else {
            panic!("a pgcrypto message has its shape");
        };
        assert_eq!((shape.kind, shape.created), (kind, 77));
    }
}

#[test]
fn every_flipped_bit_and_every_cut_is_refused() {
    let own = Options { cipher: Some(Cipher::Aes192), session: Some(true), ..cheap() };
    for options in [cheap(), own, Options { compression: Some(Compression::Zip), ..cheap() }] {
        let format = format("k", options);
        let message = sealed(&format, b"twenty bytes of text", &Shape::Plain);
        for bit in 0..message.len() * 8 {
            let mut bad = message.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            // A flipped bit in the count can ask for 65 MB of hashing; one such value is enough.
            let count_octet = message[4] == 3 && bit / 8 == 14 && bit % 8 > 5;
            assert!(count_octet || open(&format, &bad).is_err(), "bit {bit} of {options:?}");
        }
        for length in 0..message.len() {
            assert!(open(&format, &message[..length]).is_err(), "cut at {length}");
        }
        assert!(open(&format, &[&message[..], b"\0"].concat()).is_err());
    }
}

#[test]
fn many_at_once_give_what_one_at_a_time_gives() {
    let seed = 20;
    println!("seed {seed}");
    let random = SeededRandom::new(seed);
    let mut random = RandomPool::new(&random);
    let format = format("a passphrase of forty-three characters, say", Options::default());
    let all = [Cipher::Aes128, Cipher::Aes256];
    let plaintexts: Vec<u8> = (0..200).collect();
    let mut values = Vec::new();
    for number in 0_u8..40 {
        let cipher = all[usize::from(number) % 2];
        let shape = MessageShape {
            cipher,
            session: (number % 5 == 0).then_some(cipher),
            s2k: S2kMode::Iterated(40 + number % 20),
            digest: if number % 7 == 0 { Digest::Md5 } else { Digest::Sha1 },
            compression: Compression::None,
            kind: b'b',
            created: 1,
        };
        values.push((usize::from(number)..usize::from(number) * 3, Shape::Pgcrypto(shape)));
    }
    let rows = vec![None; values.len()];
    let mut sealed = Vec::new();
    let places = format.seal_many(&plaintexts, &values, &rows, &mut random, &mut sealed).expect("seals");
    let mut messages: Vec<&[u8]> = places.iter().map(|place| &sealed[place.clone()]).collect();
    messages.insert(3, b"not a message");
    let rows = vec![None; messages.len()];
    let (mut many, mut single) = (Vec::new(), Vec::new());
    let opened = format.open_many(&messages, &rows, &mut many);
    assert_eq!(opened, crate::format::open_each(&format, &messages, &rows, &mut single));
    assert_eq!(many, single);
    assert!(matches!(opened[3], Err(OpenError::Malformed { .. })));
    let good = opened.into_iter().flatten();
    for ((place, shape), (expected_place, expected_shape)) in good.zip(values) {
        assert_eq!((&many[place], shape), (&plaintexts[expected_place], expected_shape));
    }
}

#[test]
fn legacy_ciphers_and_missing_hashes_are_named() {
    let message = sealed(&format("k", cheap()), b"x", &Shape::Plain);
    for (id, option) in [
        (2, "the cipher 3DES"),
        (3, "the cipher CAST5"),
        (4, "the cipher Blowfish"),
        (10, "the cipher Twofish"),
    ] {
        let mut legacy = message.clone();
        legacy[3] = id;
        assert_eq!(
            open(&format("k", cheap()), &legacy),
            Err(OpenError::Unsupported { format: NAME, option })
        );
    }
    let mut unhashed = message;
    unhashed[15] = 0xC9;
    let refused = open(&format("k", cheap()), &unhashed);
    assert!(matches!(refused, Err(OpenError::Unsupported { format: NAME, .. })), "{refused:?}");
}

#[test]
fn marker_packets_are_skipped() {
    let message = sealed(&format("k", cheap()), b"x", &Shape::Plain);
    let marked = [b"\xCA\x03PGP", &message[..15], b"\xCA\x03PGP", &message[15..]].concat();
    assert_eq!(open(&format("k", cheap()), &marked).expect("opens").0, b"x");
}

#[test]
fn lengths_are_those_that_pgcrypto_writes() {
    // octet_length(pgp_sym_encrypt(repeat('x', n), 'k', 's2k-count=1024')) on PostgreSQL 15.
    for (length, octets) in [(0, 66), (6, 72), (1, 67)] {
        let plaintext = vec![b'x'; length];
        assert_eq!(sealed(&format("k", cheap()), &plaintext, &Shape::Plain).len(), octets);
    }
}

#[test]
fn wrong_keys_that_pass_the_quick_check_fail() {
    let seed = 3;
    println!("seed {seed}");
    let random = SeededRandom::new(seed);
    let mut random = RandomPool::new(&random);
    // One hash for each key: the quick check lets one in 65,536 through.
    let options = Options { s2k_mode: Some(0), ..Options::default() };
    let session = Options { session: Some(true), ..options };
    for (options, wanted) in [(options, 8), (session, 0)] {
        let message = sealed(&format("right", options), b"sixteen byte msg", &Shape::Plain);
        let parsed = Message::parse(&message).expect("own message");
        let mut passed = 0;
        for _ in 0..900_000 {
            let wrong = SecretBytes::copy_from(&random.take::<8>().expect("seeded"));
            let key = parsed.s2k.derive(&wrong, parsed.key_len());
            let data_key = parsed.data_key(&key);
            let mut prefix = parsed.data.bytes()[..cfb::PREFIX_LEN].to_vec();
            cfb::decrypt(data_key.cipher, &data_key.key, &mut prefix);
            if data_key.plausible && bool::from(repeats(&prefix)) {
                passed += 1;
                let wrong = PgcryptoFormat::new(wrong, options, Unhashed::Refused, || 0);
                assert_eq!(open(&wrong, &message), Err(OpenError::Unopened));
            }
        }
        println!("{passed} of 900,000 wrong keys passed the quick check");
        assert!(passed >= wanted, "too few to prove anything");
    }
}
