//! A secret in every form in which it could turn up, and the search for all of them at once.

use std::collections::HashMap;

use base64::Engine as _;
use base64::alphabet::{STANDARD, URL_SAFE};
use base64::engine::{GeneralPurpose, general_purpose::NO_PAD};

/// Bytes by which forms are looked up; every form is longer.
const HEAD: usize = 6;

/// A secret that is looked for.
#[derive(Debug, Clone)]
pub(crate) struct Canary {
    pub(crate) name: &'static str,
    pub(crate) value: Vec<u8>,
}

/// Every form of every canary.
#[derive(Debug, Default)]
pub(crate) struct Needles {
    forms: Vec<(&'static str, &'static str, Vec<u8>)>,
    by_head: HashMap<[u8; HEAD], Vec<usize>>,
}

impl Needles {
    pub(crate) fn new(canaries: &[Canary]) -> Self {
        let mut needles = Self::default();
        canaries.iter().for_each(|canary| needles.add(canary));
        needles
    }

    /// Adds a secret that is only known later.
    pub(crate) fn add(&mut self, canary: &Canary) {
        for (form, bytes) in forms(&canary.value) {
            let head = bytes[..HEAD].try_into().expect("every form is longer");
            self.by_head.entry(head).or_default().push(self.forms.len());
            self.forms.push((canary.name, form, bytes));
        }
    }

    /// Every form, to be planted.
    pub(crate) fn all(&self) -> impl Iterator<Item = (&'static str, &'static str, &[u8])> {
        self.forms.iter().map(|(name, form, bytes)| (*name, *form, &bytes[..]))
    }

    /// Canaries that occur in `bytes`, but for those that may.
    pub(crate) fn search(&self, bytes: &[u8], allowed: &[&str]) -> std::vec::IntoIter<String> {
        let mut hits = Vec::new();
        for start in 0..bytes.len().saturating_sub(HEAD - 1) {
            let rest = &bytes[start..];
            let head: [u8; HEAD] = rest[..HEAD].try_into().expect("there are so many");
            let Some(candidates) = self.by_head.get(&head) else { continue };
            for (name, form, needle) in candidates.iter().map(|index| &self.forms[*index]) {
                if rest.starts_with(needle) && !allowed.contains(name) {
                    hits.push(format!("{name} ({form})"));
                }
            }
        }
        hits.sort();
        hits.dedup();
        hits.into_iter()
    }
}

fn forms(value: &[u8]) -> Vec<(&'static str, Vec<u8>)> {
    let mut forms = vec![
        ("raw", value.to_vec()),
        ("hex", hex::encode(value).into_bytes()),
        ("HEX", hex::encode_upper(value).into_bytes()),
        ("URL", url_encoded(value)),
    ];
    let alphabets = [
        (["base64", "base64 + 1", "base64 + 2"], STANDARD),
        (["base64url", "base64url + 1", "base64url + 2"], URL_SAFE),
    ];
    for (names, alphabet) in alphabets {
        let engine = GeneralPurpose::new(&alphabet, NO_PAD);
        for (before, name) in names.into_iter().enumerate() {
            let text = engine.encode([vec![0; before], value.to_vec()].concat());
            // Only characters that depend on nothing before and nothing after the value.
            let (first, last) = ((8 * before).div_ceil(6), 8 * (before + value.len()) / 6);
            forms.push((name, text.as_bytes()[first..last].to_vec()));
        }
    }
    forms
}

fn url_encoded(value: &[u8]) -> Vec<u8> {
    let encode = |byte: &u8| match byte {
        b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => vec![*byte],
        _ => format!("%{byte:02X}").into_bytes(),
    };
    value.iter().flat_map(encode).collect()
}
