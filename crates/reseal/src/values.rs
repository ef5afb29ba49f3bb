//! Values as other programs read them: quoted, escaped, or refused where a format cannot hold them.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use zeroize::Zeroizing;

use crate::exit::Exit;
use crate::failure::{Failure, Outcome};

/// The variable of a name: upper case, everything else an underscore.
pub(crate) fn variable_of(name: &str) -> String {
    let mut variable: String =
        name.chars().map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_uppercase() } else { '_' }).collect();
    if variable.starts_with(|c: char| c.is_ascii_digit()) {
        variable.insert(0, '_');
    }
    variable
}

/// Checks the name of a variable.
///
/// # Errors
///
/// A shell would not take it.
pub(crate) fn check_variable(name: &str) -> Outcome<()> {
    let first_fits = name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_');
    if first_fits && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_') {
        return Ok(());
    }
    // Not repeated: a value may have been typed in its place.
    Err(Failure::new(Exit::Usage, "this is no name of an environment variable")
        .hint("a variable has letters, digits and `_`, and begins with no digit"))
}

/// Base64 of RFC 4648, section 4, with padding.
pub(crate) fn base64(bytes: &[u8]) -> String {
    BASE64_STANDARD.encode(bytes)
}

/// `'value'` for a POSIX shell.
pub(crate) fn shell(text: &str) -> Zeroizing<String> {
    Zeroizing::new(format!("'{}'", Zeroizing::new(text.replace('\'', r"'\''")).as_str()))
}

/// A value of a `.env` file that python-dotenv, node's dotenv, docker compose and a shell's `source` read alike.
///
/// Plain where every character is harmless; in single quotes where possible; in double quotes with line breaks only.
///
/// # Errors
///
/// The readers do not agree on any way to write this value.
pub(crate) fn dotenv(text: &str) -> Outcome<Zeroizing<String>> {
    let harmless = |c: char| c.is_ascii_alphanumeric() || "_-./:@%+,=".contains(c);
    if !text.is_empty() && text.chars().all(harmless) {
        return Ok(Zeroizing::new(text.to_owned()));
    }
    let in_single =
        |c: char| c != '\'' && c != '\\' && c != '\r' && (c == '\n' || c == '\t' || !c.is_control());
    if text.chars().all(in_single) {
        return Ok(Zeroizing::new(format!("'{text}'")));
    }
    let in_double = |c: char| !"\"\\$`\r".contains(c) && (c == '\n' || c == '\t' || !c.is_control());
    if text.chars().all(in_double) {
        return Ok(Zeroizing::new(format!("\"{text}\"")));
    }
    Err(Failure::new(
        Exit::Refused,
        "a value with these characters is read differently by different readers of .env files",
    )
    .hint("use --format shell or json"))
}

/// A value for `docker run --env-file`, which knows no quotes.
///
/// # Errors
///
/// The value has a line break.
pub(crate) fn docker(text: &str) -> Outcome<&str> {
    if text.contains(['\n', '\r']) {
        return Err(Failure::new(Exit::Refused, "docker's --env-file holds no value with a line break")
            .hint("use --format json"));
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_become_variables() {
        assert_eq!(variable_of("crm/redis/password"), "CRM_REDIS_PASSWORD");
        assert_eq!(variable_of("9lives"), "_9LIVES");
        assert!(
            check_variable("A_1").is_ok() && check_variable("1A").is_err() && check_variable("A-B").is_err()
        );
    }

    #[test]
    fn shells_read_back_what_was_written() {
        for value in ["plain", "it's", "a b\n\tc", "$HOME `id` \"x\" \\", "", "'''"] {
            let script = format!("printf %s {}", *shell(value));
            let output = std::process::Command::new("sh").args(["-c", &script]).output().unwrap();
            assert_eq!(output.stdout, value.as_bytes());
        }
    }

    #[test]
    fn dotenv_quotes_only_where_needed() {
        assert_eq!(*dotenv("abc-1_2").unwrap(), "abc-1_2");
        assert_eq!(*dotenv("a b $c #d").unwrap(), "'a b $c #d'");
        assert_eq!(*dotenv("it's").unwrap(), "\"it's\"");
        assert_eq!(*dotenv("").unwrap(), "''");
        assert!(dotenv("it's $5").is_err() && dotenv("a\\b").is_err());
    }
}
