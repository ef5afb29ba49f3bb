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
///
/// Nothing of the text is repeated: a mistyped command may bring anything here, also a value.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("this is not a name for a secret: {0}")]
pub struct NameError(String);

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
            Some(reason) => Err(NameError(reason)),
        }
    }
}

fn refusal(name: &str) -> Option<String> {
    if name.is_empty() {
        return Some("it is empty".to_owned());
    }
    if name.len() > NAME_MAX {
        return Some(format!("it is longer than {NAME_MAX} bytes"));
    }
    let mut begins = true;
    for (number, c) in (1..).zip(name.chars()) {
        let legal = c.is_ascii_alphanumeric() || c == '_' || (!begins && "./-@".contains(c));
        if !legal {
            let place = if begins { ", where a segment begins," } else { "" };
            return Some(format!("character {number}{place} is {}", class(c)));
        }
        begins = c == '/';
    }
    begins.then(|| "its last segment is empty".to_owned())
}

/// What sort of character it is, without saying which.
fn class(c: char) -> &'static str {
    match c {
        ' ' => "a space",
        c if c.is_control() => "a control character",
        c if !c.is_ascii() => "outside of ASCII",
        _ => "punctuation",
    }
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
    fn nothing_of_a_refused_name_is_repeated() {
        for (canary, says) in [
            ("S3cr3t!pw", "character 7 is punctuation"),
            ("pa ssword", "character 3 is a space"),
            ("a/-canary", "character 3, where a segment begins, is punctuation"),
            ("caf\u{e9}", "character 4 is outside of ASCII"),
            ("canary/", "its last segment is empty"),
        ] {
            let error = format!("{:?}", canary.parse::<SecretName>().unwrap_err());
            assert!(error.contains(says), "{error}");
            let parts = canary.split(|c: char| !c.is_ascii_alphanumeric()).filter(|part| part.len() > 2);
            for part in parts {
                assert!(!error.contains(part), "{error}");
            }
        }
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
