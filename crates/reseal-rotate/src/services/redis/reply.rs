//! What a server's error means, and what of it may be repeated.

use ::redis::{RedisError, RedisResult};

use crate::services::Login;

/// What stands before the arguments that a server repeats; a renamed `CONFIG SET` would repeat a value.
const ARGUMENTS: &str = ", with args beginning";
/// From this length on, hexadecimal digits are taken for a hash of a password.
const HASH_DIGITS: usize = 32;

/// Whether the server says that it does not know the command.
pub(super) fn is_unknown_command(error: &RedisError) -> bool {
    error.code() == Some("ERR")
        && error.detail().is_some_and(|detail| detail.to_ascii_lowercase().starts_with("unknown command"))
}

/// Whether the server does not know logins with a user, as before version 6.
pub(super) fn takes_no_user(error: &RedisError) -> bool {
    error.code() == Some("ERR")
        && error.detail().is_some_and(|detail| detail.starts_with("wrong number of arguments for 'auth'"))
}

/// What an answer to `AUTH` means.
pub(super) fn login(answer: RedisResult<()>) -> RedisResult<Login> {
    let Err(error) = answer else { return Ok(Login::Accepted) };
    match (error.code(), error.detail().unwrap_or_default()) {
        (Some("WRONGPASS"), _) => Ok(Login::Refused),
        (Some("ERR"), "invalid password") => Ok(Login::Refused),
        // Versions 6 and before 6: the default user has no password, so every value is as good as this one.
        (Some("ERR"), detail) if detail.starts_with("AUTH <password> called without any password") => {
            Ok(Login::Accepted)
        }
        (Some("ERR"), detail) if detail.starts_with("Client sent AUTH, but no password is set") => {
            Ok(Login::Accepted)
        }
        _ => Err(error),
    }
}

/// The reason of an error, without arguments of the command and without hashes.
pub(super) fn reason(error: &RedisError) -> String {
    let Some(code) = error.code() else {
        // Not an answer: the connection's own words.
        return if error.is_timeout() { "no answer in time".into() } else { shown(&error.to_string()) };
    };
    match error.detail() {
        Some(detail) => format!("{code} {}", shown(detail)),
        None => code.to_owned(),
    }
}

fn shown(detail: &str) -> String {
    let detail = detail.split(ARGUMENTS).next().unwrap_or_default();
    let is_hash = |word: &str| word.len() >= HASH_DIGITS && word.bytes().all(|byte| byte.is_ascii_hexdigit());
    let words = detail.split_inclusive(|letter: char| !letter.is_ascii_alphanumeric());
    words
        .map(
            |word| {
                if is_hash(word.trim_end_matches(|l: char| !l.is_ascii_alphanumeric())) {
                    "…"
                } else {
                    word
                }
            },
        )
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(code: &str, detail: &str) -> RedisError {
        ::redis::make_extension_error(code.into(), Some(detail.into()))
    }

    #[test]
    fn answers_of_old_and_new_servers_to_a_login() {
        for (code, detail, expected) in [
            ("WRONGPASS", "invalid username-password pair or user is disabled.", Some(Login::Refused)),
            ("ERR", "invalid password", Some(Login::Refused)),
            ("ERR", "Client sent AUTH, but no password is set", Some(Login::Accepted)),
            (
                "ERR",
                "AUTH <password> called without any password configured for the default user. Are you sure your configuration is correct?",
                Some(Login::Accepted),
            ),
            ("ERR", "max number of clients reached", None),
            ("DENIED", "Redis is running in protected mode", None),
        ] {
            assert_eq!(login(Err(error(code, detail))).ok(), expected, "{detail}");
        }
        assert!(takes_no_user(&error("ERR", "wrong number of arguments for 'auth' command")));
        assert!(is_unknown_command(&error(
            "ERR",
            "unknown command `ACL`, with args beginning with: `WHOAMI`, "
        )));
        assert!(is_unknown_command(&error(
            "ERR",
            "unknown command 'ACL', with args beginning with: 'WHOAMI' "
        )));
    }

    #[test]
    fn reasons_repeat_neither_arguments_nor_hashes() {
        let repeated = "unknown command 'CONFIG', with args beginning with: 'SET' 'requirepass' 'canary'";
        assert_eq!(reason(&error("ERR", repeated)), "ERR unknown command 'CONFIG'");
        let hash = "c".repeat(64);
        let told = reason(&error("ERR", &format!("Error in ACL SETUSER modifier '#{hash}': no such thing")));
        assert_eq!(told, "ERR Error in ACL SETUSER modifier '#…: no such thing");
    }
}
