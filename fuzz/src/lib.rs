//! What the targets share: codecs under fixed keys, and what must hold for any stored bytes.

use reseal_crypto::random::RandomPool;
use reseal_crypto::{ColumnId, KeyMaterial, OsRandom, SecretBytes};
use reseal_formats::{Codec, ColumnType, FormatSpec, SealError};

/// The key of every foreign format here, for pgcrypto as it is, for others after decoding.
pub const PASSPHRASE: &[u8] = b"key";
/// 32 bytes in base64url: 16 to sign and 16 to encrypt for Fernet, one key for AEADs.
pub const KEY_TEXT: &[u8] = b"AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";

/// The codec that a plan would make of `spec`, in JSON.
pub fn codec(spec: &str, column: ColumnType, key: &[u8]) -> Codec {
    let spec: FormatSpec = serde_json::from_str(spec).expect("the target's own description");
    let key = KeyMaterial::Foreign(SecretBytes::copy_from(key));
    spec.codec(column, &key, ColumnId([7; 16])).expect("the target's own key")
}

/// Both ways of opening agree, a refused value leaves nothing behind, and what opens can be sealed and opened again.
pub fn check(codec: &Codec, stored: &[u8]) {
    let (mut first, mut second) = (b"before".to_vec(), b"before".to_vec());
    let opened = codec.open_many(&[stored], &[None], &mut first).remove(0);
    let reopened = codec.reopen_many(&[stored], &[None], &mut second).remove(0);
    assert_eq!(opened, reopened, "the two ways of opening disagree");
    assert_eq!(first, second, "the two ways of opening disagree");
    let Ok(opened) = opened else {
        assert_eq!(first, b"before", "a refused value left something behind");
        return;
    };
    let mut sealed = Vec::new();
    let mut random = RandomPool::new(&OsRandom);
    match codec.seal_many(&first, std::slice::from_ref(&opened), &[None], &mut random, &mut sealed) {
        Ok(places) => {
            let mut again = Vec::new();
            let value = codec.reopen_many(&[&sealed[places[0].clone()]], &[None], &mut again).remove(0);
            let value = value.expect("what was sealed opens");
            assert_eq!(again[value.plaintext], first[opened.plaintext], "the plaintext changed");
        }
        Err(SealError::ReadOnly(_) | SealError::TooLarge(_)) => {}
        Err(error) => panic!("{error}"),
    }
}
