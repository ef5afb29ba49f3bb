//! Names of secrets, and patterns over them.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// The longest name, in bytes.
pub const NAME_MAX: usize = 200;

/// The name of a secret: segments joined by `/`, like `crm/redis/password`.
///
/// A segment has letters, digits, `.`, `_`, `-` and `@`, begins with a letter, a digit or `_`, and is never empty, so
/// that a name can stand in a URL, a file name or a shell word without quoting. Case matters.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct SecretName(String);

/// Why a text cannot be the name of a secret.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{name}` is not a name for a secret: {reason}")]
pub struct NameError {
    name: String,
    reason: &'static str,
}

impl SecretName {
    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The last segment.
    pub fn base(&self) -> &str {
        self.0.rsplit('/').next().unwrap_or(&self.0)
    }
}

impl FromStr for SecretName {
    type Err = NameError;

    fn from_str(name: &str) -> Result<Self, NameError> {
        match refusal(name) {
            None => Ok(Self(name.to_owned())),
            // A mistyped command may bring anything here, also a value, so only a short start of it is repeated.
            Some(reason) => Err(NameError { name: name.chars().take(20).collect(), reason }),
        }
    }
}

fn refusal(name: &str) -> Option<&'static str> {
    if name.is_empty() {
        return Some("it is empty");
    }
    if name.len() > NAME_MAX {
        return Some("it is longer than 200 bytes");
    }
    name.split('/').find_map(segment_refusal)
}

fn segment_refusal(segment: &str) -> Option<&'static str> {
    let Some(first) = segment.bytes().next() else {
        return Some("a segment between `/` is empty");
    };
    if !(first.is_ascii_alphanumeric() || first == b'_') {
        return Some("a segment begins with something else than a letter, a digit or `_`");
    }
    let legal = |b: u8| b.is_ascii_alphanumeric() || b"._-@".contains(&b);
    (!segment.bytes().all(legal))
        .then_some("it has something else than letters, digits, `.`, `_`, `-`, `@` and `/`")
}

impl TryFrom<String> for SecretName {
    type Error = NameError;

    fn try_from(name: String) -> Result<Self, NameError> {
        name.parse()
    }
}

impl From<SecretName> for String {
    fn from(name: SecretName) -> Self {
        name.0
    }
}

impl fmt::Display for SecretName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A pattern over names: `*` stands for any part of one segment, `**` for anything, and a pattern that ends before a
/// `/` of the name also covers what is below it (`crm` covers `crm/redis/password`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NamePattern(String);

impl NamePattern {
    /// A pattern of this text.
    pub fn new(pattern: impl Into<String>) -> Self {
        Self(pattern.into())
    }

    /// The pattern that covers every name.
    pub fn all() -> Self {
        Self::new("**")
    }

    /// Whether the pattern covers `name`.
    pub fn covers(&self, name: &SecretName) -> bool {
        let name = name.as_str();
        let starts = name.char_indices().filter(|&(_, c)| c == '/').map(|(at, _)| at);
        let mut covered = starts.chain([name.len()]).map(|end| &name[..end]);
        covered.any(|start| glob(self.0.trim_end_matches('/'), start))
    }
}

/// Runs the pattern as a small automaton: `reached[i]` says that the first `i` tokens can match what was read.
fn glob(pattern: &str, text: &str) -> bool {
    let tokens = tokens(pattern);
    let mut reached = vec![false; tokens.len() + 1];
    reached[0] = true;
    pass_empty_stars(&tokens, &mut reached);
    for byte in text.bytes() {
        let mut next = vec![false; tokens.len() + 1];
        for (i, token) in tokens.iter().enumerate().filter(|&(i, _)| reached[i]) {
            match *token {
                Token::Byte(b) => next[i + 1] |= b == byte,
                Token::Segment => next[i] |= byte != b'/',
                Token::Any => next[i] = true,
            }
        }
        reached = next;
        pass_empty_stars(&tokens, &mut reached);
    }
    reached[tokens.len()]
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Token {
    Byte(u8),
    /// `*`
    Segment,
    /// `**`
    Any,
}

fn tokens(pattern: &str) -> Vec<Token> {
    let mut bytes = pattern.bytes().peekable();
    let mut tokens = Vec::new();
    while let Some(byte) = bytes.next() {
        tokens.push(match byte {
            b'*' if bytes.next_if_eq(&b'*').is_some() => Token::Any,
            b'*' => Token::Segment,
            other => Token::Byte(other),
        });
    }
    tokens
}

fn pass_empty_stars(tokens: &[Token], reached: &mut [bool]) {
    for (i, token) in tokens.iter().enumerate() {
        reached[i + 1] |= reached[i] && !matches!(token, Token::Byte(_));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_checked() {
        for good in ["a", "crm/redis/password", "_X", "a.b-c_d@e", "0/1"] {
            assert!(good.parse::<SecretName>().is_ok(), "{good}");
        }
        let long = "a".repeat(NAME_MAX + 1);
        for bad in ["", "/a", "a/", "a//b", "-a", ".a", "a/../b", "a b", "ä", "a\n", "a*", &long] {
            assert!(bad.parse::<SecretName>().is_err(), "{bad}");
        }
    }

    #[test]
    fn a_refused_name_is_not_repeated_whole() {
        let error = "pa$$word that was pasted into the wrong place".parse::<SecretName>().unwrap_err();
        assert!(!error.to_string().contains("wrong place"), "{error}");
    }

    #[test]
    fn patterns_cover_names() {
        let cases = [
            ("**", "crm/redis/password", true),
            ("crm", "crm/redis/password", true),
            ("crm/", "crm/redis/password", true),
            ("crm", "crmx/redis", false),
            ("crm/*/password", "crm/redis/password", true),
            ("crm/*/password", "crm/a/b/password", false),
            ("crm/**/password", "crm/a/b/password", true),
            ("**password", "crm/redis/password", true),
            ("*password", "crm/redis/password", false),
            ("*/redis", "crm/redis/password", true),
            ("crm/redis/password/x", "crm/redis/password", false),
            ("", "crm", false),
        ];
        for (pattern, name, covers) in cases {
            let name = name.parse().expect("a good name");
            assert_eq!(NamePattern::new(pattern).covers(&name), covers, "{pattern} over {name}");
        }
    }
}
