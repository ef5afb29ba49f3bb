//! Takes known values out of text before a person sees it, in every spelling that logs are known to use.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::Range;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard};

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD};
use reseal_crypto::secret::{SecretBytes, reserve_wiping};
use zeroize::Zeroizing;

/// What stands where a value stood.
pub const MASK: &str = "[secret]";

/// The shortest value that is looked for: shorter ones occur in any text.
const SHORTEST: usize = 4;

/// How much of the end of a text last lines are taken from.
const TAIL: usize = 64 << 10;

/// Values that must not be shown: as they are, percent-encoded, escaped for JSON, in hex and in base64.
///
/// Values of fewer than four bytes are not looked for.
#[derive(Clone, Default)]
pub struct Known {
    own: Spellings,
    /// What it and all its clones are told later.
    common: Option<Arc<RwLock<Spellings>>>,
}

/// By their first byte; the longest first, so that a value wins over another one inside it.
#[derive(Clone, Default)]
struct Spellings(BTreeMap<u8, Vec<SecretBytes>>);

/// All that is known at a moment.
struct View<'a> {
    own: &'a Spellings,
    common: Option<RwLockReadGuard<'a, Spellings>>,
}

impl Known {
    /// Looks out for these values.
    pub fn new<'a>(values: impl IntoIterator<Item = &'a SecretBytes>) -> Self {
        let mut known = Self::default();
        values.into_iter().for_each(|value| known.add(value));
        known
    }

    /// The same; its clones from here on share what [`add_for_all`](Self::add_for_all) tells one of them.
    #[must_use]
    pub fn sharing(self) -> Self {
        Self { common: Some(Arc::default()), ..self }
    }

    /// Looks out for one more.
    pub fn add(&mut self, value: &SecretBytes) {
        self.own.add(value);
    }

    /// Lets all that share with it look out for one more.
    pub fn add_for_all(&self, value: &SecretBytes) {
        if let Some(common) = &self.common {
            common.write().unwrap_or_else(PoisonError::into_inner).add(value);
        }
    }

    /// Whether one of the values stands in these bytes, in any spelling.
    pub fn occurs_in(&self, bytes: &[u8]) -> bool {
        let view = self.view();
        (0..bytes.len()).any(|at| view.at(&bytes[at..]).is_some())
    }

    /// The text with [`MASK`] in place of every value, and of every password in a URL, known or not; bytes that are not
    /// UTF-8 become U+FFFD, control characters other than newline and tab become spaces.
    pub fn scrub(&self, bytes: &[u8]) -> String {
        let view = self.view();
        let mut clean = Zeroizing::new(Vec::new());
        let mut password = 0..0;
        let mut at = 0;
        while at < bytes.len() {
            reserve_wiping(&mut clean, MASK.len());
            let rest = &bytes[at..];
            if rest.starts_with(b"://") {
                password = password_of_url(rest).map_or(0..0, |found| at + found.start..at + found.end);
            }
            let masked = if password.contains(&at) { Some(password.end - at) } else { view.at(rest) };
            match masked {
                Some(_) => clean.extend_from_slice(MASK.as_bytes()),
                None => clean.push(bytes[at]),
            }
            at += masked.unwrap_or(1);
        }
        let text = String::from_utf8_lossy(&clean);
        text.chars().map(|c| if c.is_control() && c != '\n' && c != '\t' { ' ' } else { c }).collect()
    }

    /// The last `count` lines that are not empty, scrubbed; each is cut after 400 characters.
    ///
    /// Looks at the last 64 KiB only, and leaves out what a cut may have torn.
    pub fn last_lines(&self, bytes: &[u8], count: usize) -> Vec<String> {
        let text = self.scrub(match bytes.len().checked_sub(TAIL) {
            None | Some(0) => bytes,
            Some(begin) => self.after_cut(&bytes[begin..]),
        });
        let lines = text.lines().map(str::trim_end).filter(|line| !line.is_empty());
        let mut last: Vec<String> =
            lines.rev().take(count).map(|line| line.chars().take(400).collect()).collect();
        last.reverse();
        last
    }

    /// The whole lines at the end of a text whose beginning was cut off: half a value is not recognised.
    pub(crate) fn after_cut<'a>(&self, bytes: &'a [u8]) -> &'a [u8] {
        let torn = self.view().longest().min(bytes.len());
        let newline = bytes[torn..].iter().position(|byte| *byte == b'\n');
        &bytes[newline.map_or(bytes.len(), |at| torn + at + 1)..]
    }

    fn view(&self) -> View<'_> {
        let common = self.common.as_ref();
        let common = common.map(|common| common.read().unwrap_or_else(PoisonError::into_inner));
        View { own: &self.own, common }
    }
}

impl View<'_> {
    /// The length of the value that these bytes begin with.
    fn at(&self, bytes: &[u8]) -> Option<usize> {
        self.all().filter_map(|spellings| spellings.at(bytes)).max()
    }

    fn longest(&self) -> usize {
        self.all()
            .flat_map(|spellings| spellings.0.values().flatten())
            .map(SecretBytes::len)
            .max()
            .unwrap_or(0)
    }

    fn all(&self) -> impl Iterator<Item = &Spellings> {
        [self.own].into_iter().chain(self.common.as_deref())
    }
}

impl Spellings {
    fn add(&mut self, value: &SecretBytes) {
        if value.len() < SHORTEST {
            return;
        }
        for spelling in spellings(value) {
            // EXPOSE: a byte to find it by.
            let alike = self.0.entry(spelling.expose()[0]).or_default();
            if !alike.contains(&spelling) {
                let at = alike.partition_point(|longer| longer.len() >= spelling.len());
                alike.insert(at, spelling);
            }
        }
    }

    fn at(&self, bytes: &[u8]) -> Option<usize> {
        let alike = self.0.get(bytes.first()?)?;
        // EXPOSE: compared with what is to be shown.
        let found = alike.iter().find(|spelling| bytes.starts_with(spelling.expose()));
        found.map(SecretBytes::len)
    }
}

/// Where the password stands in a URL, of which this is the text from `://` on.
fn password_of_url(text: &[u8]) -> Option<Range<usize>> {
    let until = |end: &[u8]| text.iter().skip(3).position(|byte| end.contains(byte)).map(|at| 3 + at);
    let whole = until(b" \t\r\n\"'`<>").unwrap_or(text.len());
    let authority = until(b"/?#").map_or(whole, |end| end.min(whole));
    let colon = 3 + text[3..authority].iter().position(|byte| *byte == b':')?;
    let host = |end: usize| text[colon..end].iter().rposition(|byte| *byte == b'@').map(|at| colon + at);
    // Some write a password that would have to be encoded; what is no port either is one.
    let is_port = text[colon + 1..authority].iter().all(u8::is_ascii_digit);
    let host = host(authority).or_else(|| host(whole).filter(|_| !is_port))?;
    Some(colon + 1..host).filter(|password| !password.is_empty())
}

impl fmt::Debug for Known {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Known").finish_non_exhaustive()
    }
}

fn spellings(value: &SecretBytes) -> Vec<SecretBytes> {
    // EXPOSE: every spelling of a value is as secret as the value, and of the same type.
    let bytes = value.expose();
    let mut all = vec![
        value.clone(),
        SecretBytes::new(percent(bytes, b"0123456789ABCDEF")),
        SecretBytes::new(percent(bytes, b"0123456789abcdef")),
        SecretBytes::new(hex::encode(bytes).into_bytes()),
        SecretBytes::new(STANDARD_NO_PAD.encode(bytes).into_bytes()),
        SecretBytes::new(URL_SAFE_NO_PAD.encode(bytes).into_bytes()),
    ];
    if let Some(json) = value.expose_str().and_then(|text| serde_json::to_vec(text).ok()) {
        let json = Zeroizing::new(json);
        all.push(SecretBytes::copy_from(&json[1..json.len() - 1]));
    }
    all
}

/// Percent-encoding, RFC 3986: everything but the unreserved characters.
fn percent(bytes: &[u8], digits: &[u8; 16]) -> Vec<u8> {
    let mut encoded = Vec::with_capacity(bytes.len() * 3);
    for byte in bytes {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(byte) {
            encoded.push(*byte);
        } else {
            encoded.extend([b'%', digits[usize::from(byte >> 4)], digits[usize::from(byte & 15)]]);
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(value: &str, text: &str, expect: &str) {
        let known = Known::new([&SecretBytes::copy_from(value.as_bytes())]);
        assert_eq!(known.scrub(text.as_bytes()), expect);
        assert_eq!(known.occurs_in(text.as_bytes()), text != expect);
    }

    #[test]
    fn every_spelling_is_masked() {
        check("hunter2", "redis://:hunter2@redis", "redis://:[secret]@redis");
        check("a b/c\"", "url=a%20b%2Fc%22 low=a%20b%2fc%22", "url=[secret] low=[secret]");
        check("a b/c\"", r#"{"p":"a b/c\""}"#, r#"{"p":"[secret]"}"#);
        check("hunter2", "68756e74657232 aHVudGVyMg==", "[secret] [secret]==");
        check("hunter2", "hunter3", "hunter3");
        check("abc", "abc is in any text", "abc is in any text");
    }

    #[test]
    fn passwords_in_urls_are_masked_whoever_knows_them() {
        for (text, expect) in [
            ("db=postgres://app:p@ss@db:5432/x?a=b@c", "db=postgres://app:[secret]@db:5432/x?a=b@c"),
            ("\"redis://:a/b@r:1\", amqp://u:p@q", "\"redis://:[secret]@r:1\", amqp://u:[secret]@q"),
            ("http://web:8080/a@b http://x@y ://", "http://web:8080/a@b http://x@y ://"),
            ("https://[::1]:80/ https://u:@h", "https://[::1]:80/ https://u:@h"),
        ] {
            assert_eq!(Known::default().scrub(text.as_bytes()), expect);
        }
        check("user", "x://user:pw@h x://pw@user:pw@h", "x://[secret]:[secret]@h x://pw@[secret]:[secret]@h");
    }

    #[test]
    fn a_value_inside_another_does_not_leave_its_end() {
        let (short, long) = (SecretBytes::copy_from(b"pass"), SecretBytes::copy_from(b"pass-word"));
        assert_eq!(Known::new([&short, &long]).scrub(b"pass-word pass"), "[secret] [secret]");
    }

    #[test]
    fn what_one_is_told_for_all_its_clones_know() {
        let (short, long) = (SecretBytes::copy_from(b"pass"), SecretBytes::copy_from(b"pass-word"));
        let alone = Known::new([&short]);
        let one = alone.clone().sharing();
        let mut other = one.clone();
        other.add(&SecretBytes::copy_from(b"its own"));
        one.add_for_all(&long);
        assert_eq!(other.scrub(b"pass-word pass its own"), "[secret] [secret] [secret]");
        assert_eq!(other.last_lines(b"pass-word", 1), ["[secret]"]);
        assert_eq!(one.scrub(b"its own"), "its own");
        assert_eq!(alone.scrub(b"pass-word"), "[secret]-word", "who shares nothing is told nothing");
    }

    #[test]
    fn the_last_lines_of_a_long_text() {
        let value = SecretBytes::copy_from(b"two-lines\nof-one-value");
        let known = Known::new([&value]);
        for padding in 0..30 {
            let text = format!("two-lines\nof-one-value\n{}\nlast\n", "\n".repeat(TAIL - 30 + padding));
            let lines = known.last_lines(text.as_bytes(), 9);
            assert_eq!(lines.last().map(String::as_str), Some("last"));
            assert!(!lines.concat().contains("value"), "{padding}: {lines:?}");
        }
    }

    #[test]
    fn terminals_are_not_driven_by_what_a_program_says() {
        assert_eq!(Known::default().scrub(b"a\x1b[2Jb\xff\tc\n"), "a [2Jb\u{fffd}\tc\n");
        assert_eq!(Known::default().last_lines(b"one\n\ntwo\nthree\n", 2), ["two", "three"]);
    }
}
