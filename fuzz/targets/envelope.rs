//! Any bytes as an envelope: parsing never panics, and nothing opens that its key did not seal.
#![no_main]

use libfuzzer_sys::fuzz_target;
use reseal_crypto::envelope::{Envelope, EnvelopeKey, OVERHEAD};
use reseal_crypto::{Binding, ColumnId, ColumnKey, RowKey, Suite};

fuzz_target!(|bytes: &[u8]| {
    let row = RowKey::default().integer(5);
    let parsed = Envelope::parse(bytes);
    assert_eq!(parsed.is_ok(), parsed.is_ok_and(|envelope| envelope.sealed.len() + 36 == bytes.len()));
    for suite in Suite::ALL {
        for binding in Binding::ALL {
            let key = EnvelopeKey::new(&ColumnKey::from_bytes(&[1; 32]), suite, binding, ColumnId([7; 16]));
            let mut out = b"before".to_vec();
            if key.open(Some(&row), bytes, &mut out).is_ok() {
                // Only what the corpus was seeded with authenticates: a real value of this key.
                assert!(parsed.is_ok() && out.len() + OVERHEAD == bytes.len() + b"before".len());
            } else {
                assert_eq!(out, b"before", "a refused value left something behind");
            }
        }
    }
});
