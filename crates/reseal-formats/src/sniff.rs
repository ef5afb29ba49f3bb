//! Names what a stored value looks like, for a census and for refusals. A guess, never a decision.

use reseal_crypto::envelope;

use crate::encoding::Encoding;

/// What values of well-known formats begin with.
const PREFIXES: [(&[u8], &str); 27] = [
    (envelope::TEXT_PREFIX.as_bytes(), "reseal"),
    (b"-----BEGIN PGP MESSAGE-----", "pgcrypto"),
    (b"\xC3\x0D\x04", "pgcrypto"),
    (b"\xC3\x1E\x04", "pgcrypto"),
    (b"\xC3\x26\x04", "pgcrypto"),
    (b"\xC3\x2E\x04", "pgcrypto"),
    (b"\xC3\x04\x04", "pgcrypto"),
    (b"\xC3\x0C\x04", "pgcrypto"),
    (b"\x8C\x0D\x04", "OpenPGP"),
    (b"gAAAAA", "fernet"),
    (b"eyJpdiI6", "Laravel"),
    (b"{\"p\":\"", "Rails ActiveRecord encryption"),
    (b"vault:v", "Vault transit"),
    (b"brng:", "CipherSweet"),
    (b"nacl:", "CipherSweet"),
    (b"fips:", "CipherSweet"),
    (b"v1.aesgcm256.", "prisma-field-encryption"),
    (b"QEVuQ", "symmetric-encryption"),
    (b"@EnC", "symmetric-encryption"),
    (b"\"\"\"\"\"\"\"\"", "AcraStruct"),
    (b"\"\"\"\"", "AcraBlock"),
    (b"%%%", "Acra container"),
    (b"U2FsdGVkX1", "OpenSSL salted"),
    (b"Salted__", "OpenSSL salted"),
    (b"enc:v2:", "Twenty"),
    (b"$argon2", "password hash"),
    (b"$2b$", "password hash"),
];

/// Names the format that `stored` looks like, looking through hex and base64, or `None`.
pub fn sniff(stored: &[u8]) -> Option<&'static str> {
    sniff_message(stored).or_else(|| sniff_decoded(stored))
}

fn sniff_message(message: &[u8]) -> Option<&'static str> {
    if let [envelope::MAGIC, envelope::VERSION, ..] = message {
        return Some("reseal");
    }
    if message.ends_with(b"<ENC>") {
        return Some("doctrine-encrypt");
    }
    PREFIXES.iter().find(|(prefix, _)| message.starts_with(prefix)).map(|(_, name)| *name)
}

fn sniff_decoded(stored: &[u8]) -> Option<&'static str> {
    // The fingerprints are short: so much text decodes to enough of them. 76 characters are a line without its break.
    let head = &stored[..stored.len().min(72)];
    let head = if head.starts_with(b"\\x") { &stored[..stored.len().min(74)] } else { head };
    if head.is_empty() || !head.is_ascii() {
        return None;
    }
    let mut message = Vec::with_capacity(72);
    let mut encoding = Encoding::detect(head);
    if let Encoding::Base64Url { .. } = encoding {
        encoding = Encoding::Base64Url { padded: head.len().is_multiple_of(4) };
    }
    encoding.decode(head, &mut message).ok()?;
    sniff_message(&message)
        .or_else(|| (message.first() == Some(&0x80) && looks_dated(&message)).then_some("fernet"))
}

/// Whether the time of a Fernet token lies between 1970 and 2106.
fn looks_dated(message: &[u8]) -> bool {
    message.len() > 9 && message[1..5] == [0; 4]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(stored: &[u8], name: Option<&str>) {
        assert_eq!(sniff(stored), name, "{:?}", String::from_utf8_lossy(stored));
    }

    #[test]
    fn fingerprints_are_seen_through_their_encodings() {
        let pgp =
            b"\xC3\x0D\x04\x07\x03\x02saltsalt\x60\xD2\x40and so on and so on and so on and so on and so on";
        check(pgp, Some("pgcrypto"));
        for encoding in [
            Encoding::Hex { escaped: true, upper: false },
            Encoding::Hex { escaped: false, upper: true },
            Encoding::Base64 { lines: true },
            Encoding::Base64 { lines: false },
            Encoding::Base64Url { padded: true },
            Encoding::Base64Url { padded: false },
            Encoding::Armor,
        ] {
            let mut text = Vec::new();
            encoding.encode(pgp, &mut text);
            check(&text, Some("pgcrypto"));
        }
        check(b"gAAAAABh1234", Some("fernet"));
        check(b"\xFB\x01\x02\x01", Some("reseal"));
        check(b"rs1.-wEC", Some("reseal"));
        check(b"vault:v1:abc", Some("Vault transit"));
        check(b"halite<ENC>", Some("doctrine-encrypt"));
    }

    #[test]
    fn plain_values_have_no_name() {
        for plain in
            [&b""[..], b"hello", b"user@example.com", b"+4917012345", b"\xFF\xFE", b"abcd", b"2024-01-01"]
        {
            check(plain, None);
        }
    }
}
