//! Any bytes in every text encoding: what decodes has one spelling in the variant that decoding names.
#![no_main]

use libfuzzer_sys::fuzz_target;
use reseal_formats::{Encoding, sniff};

const ENCODINGS: [Encoding; 11] = [
    Encoding::Raw,
    Encoding::Hex { escaped: false, upper: false },
    Encoding::Hex { escaped: false, upper: true },
    Encoding::Hex { escaped: true, upper: false },
    Encoding::Hex { escaped: true, upper: true },
    Encoding::Base64 { lines: false },
    Encoding::Base64 { lines: true },
    Encoding::Base64Url { padded: true },
    Encoding::Base64Url { padded: false },
    Encoding::Armor,
    Encoding::Reseal,
];

fuzz_target!(|bytes: &[u8]| {
    let _ = sniff(bytes);
    let _ = Encoding::detect(bytes);
    for encoding in ENCODINGS {
        let mut text = Vec::new();
        encoding.encode(bytes, &mut text);
        assert!(text.len() <= encoding.encoded_len(bytes.len()), "{encoding:?} promised less");
        let mut back = Vec::new();
        encoding.decode(&text, &mut back).expect("its own text");
        assert_eq!(back, bytes, "{encoding:?}");

        let mut message = b"before".to_vec();
        match encoding.decode(bytes, &mut message) {
            Err(_) => assert_eq!(message, b"before", "{encoding:?} left something behind"),
            Ok(variant) => {
                let decoded = &message[b"before".len()..];
                assert!(decoded.len() <= encoding.decoded_len_max(bytes.len()), "{encoding:?} promised less");
                assert!(variant.same_family(encoding), "{encoding:?} became {variant:?}");
                let (mut again, mut back) = (Vec::new(), Vec::new());
                variant.encode(decoded, &mut again);
                variant.decode(&again, &mut back).expect("its own text");
                assert_eq!(back, decoded, "{encoding:?}");
            }
        }
    }
});
