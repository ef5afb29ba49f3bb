//! Puts the text of some variables back into a file that others have changed meanwhile.

use reseal_crypto::SecretBytes;
use reseal_env::Document;

/// `now` with the values of `names` written as they are in `before`, and everything else as it is now. `None` if the
/// lines of a variable do not correspond any more.
pub(crate) fn put_back<'n>(
    now: &[u8],
    before: &[u8],
    names: impl Iterator<Item = &'n str>,
) -> Option<SecretBytes> {
    let (document, former) = (Document::parse(now), Document::parse(before));
    let mut replacements = Vec::new();
    for name in names {
        let (spans, texts) = (document.values(name), former.values(name));
        if spans.len() != texts.len() || spans.is_empty() {
            return None;
        }
        replacements.extend(spans.into_iter().zip(texts));
    }
    replacements.sort_by_key(|(span, _)| span.start);
    replacements.dedup();
    let mut bytes = Vec::with_capacity(now.len() + before.len());
    let mut at = 0;
    for (span, text) in replacements {
        bytes.extend_from_slice(&now[at..span.start]);
        bytes.extend_from_slice(&before[text]);
        at = span.end;
    }
    bytes.extend_from_slice(&now[at..]);
    Some(SecretBytes::new(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_named_values_go_back() {
        let before = b"A='old'\nB=1 # note\nA=old\n";
        let now = b"C=3\nA=new\nB=2\nA=new\n";
        let back = put_back(now, before, ["A"].into_iter()).unwrap();
        assert_eq!(back.expose(), b"C=3\nA='old'\nB=2\nA=old\n");
        assert!(put_back(b"A=new\n", before, ["A"].into_iter()).is_none(), "a line is gone");
        assert!(put_back(now, before, ["D"].into_iter()).is_none());
    }
}
