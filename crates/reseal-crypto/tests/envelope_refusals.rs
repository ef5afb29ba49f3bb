//! What an envelope refuses besides changed bytes: policy, size, and a row key that is not there.

use reseal_crypto::envelope::{
    Envelope, EnvelopeError, EnvelopeKey, MAGIC, OVERHEAD, PLAINTEXT_MAX, VERSION,
};
use reseal_crypto::{Binding, ColumnId, ColumnKey, Nonce, RowKey, Suite};

const NONCE: Nonce = Nonce([9; 24]);

fn prepared(suite: Suite, binding: Binding) -> EnvelopeKey {
    EnvelopeKey::new(&ColumnKey::from_bytes(&[1; 32]), suite, binding, ColumnId([7; 16]))
}

fn sealed(suite: Suite, binding: Binding) -> Vec<u8> {
    let mut out = Vec::new();
    prepared(suite, binding)
        .seal(&NONCE, Some(&RowKey::default().integer(5)), b"x", &mut out)
        .expect("seals");
    out
}

#[test]
fn another_suite_or_binding_is_named_even_under_the_same_key() {
    let row = RowKey::default().integer(5);
    for suite in Suite::ALL {
        for binding in Binding::ALL {
            let value = sealed(suite, binding);
            for told_suite in Suite::ALL {
                for told_binding in Binding::ALL {
                    let opened = prepared(told_suite, told_binding).open(Some(&row), &value, &mut Vec::new());
                    let expected = match (told_suite == suite, told_binding == binding) {
                        (true, true) => Ok(()),
                        (true, false) => Err(EnvelopeError::BindingMismatch),
                        (false, _) => Err(EnvelopeError::SuiteMismatch),
                    };
                    assert_eq!(opened, expected);
                }
            }
        }
    }
}

#[test]
fn a_row_bound_value_needs_its_row_key() {
    for suite in Suite::ALL {
        let mut out = b"before".to_vec();
        let key = prepared(suite, Binding::Row);
        assert_eq!(key.seal(&NONCE, None, b"x", &mut out), Err(EnvelopeError::RowKeyMissing));
        let value = sealed(suite, Binding::Row);
        assert_eq!(key.open(None, &value, &mut out), Err(EnvelopeError::RowKeyMissing));
        assert_eq!(out, b"before");
        let other = RowKey::default().integer(6);
        assert_eq!(key.open(Some(&other), &value, &mut out), Err(EnvelopeError::Unauthentic));
    }
}

#[test]
fn more_than_256_mib_is_refused_before_any_work() {
    let long = vec![0; PLAINTEXT_MAX + 1];
    let mut out = Vec::new();
    let key = prepared(Suite::Xaes256Gcm, Binding::Column);
    assert_eq!(key.seal(&NONCE, None, &long, &mut out), Err(EnvelopeError::TooLong));
    drop(long);
    let mut value = vec![0; PLAINTEXT_MAX + OVERHEAD];
    value[..4].copy_from_slice(&[MAGIC, VERSION, Suite::Xaes256Gcm.id(), Binding::Column.id()]);
    assert!(Envelope::parse(&value).is_ok());
    value.push(0);
    assert_eq!(Envelope::parse(&value), Err(EnvelopeError::TooLong));
}
