//! Passwords where none belongs: in an address that anyone may read.

/// What a password is called as a parameter of an address.
const PARAMETERS: [&str; 2] = ["password", "sslpassword"];

/// Whether an address carries a password: in the user part of a URL, in its query, or among libpq's `key=value` pairs.
pub fn holds_password(address: &str) -> bool {
    let in_user_part = address.split_once("://").is_some_and(|(_, rest)| has_password_of_user(rest));
    in_user_part || has_parameter(address)
}

fn has_password_of_user(rest: &str) -> bool {
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    if let Some((user, _)) = authority.rsplit_once('@') {
        return user.split_once(':').is_some_and(|(_, password)| !password.is_empty());
    }
    // A password with an unescaped slash or question mark ends the authority early: what looks like a port is none.
    let is_port = |text: &str| text.ends_with(']') || text.bytes().all(|byte| byte.is_ascii_digit());
    rest.contains('@') && authority.rsplit_once(':').is_some_and(|(_, port)| !is_port(port))
}

/// Whether one of the parameters stands there with a value; libpq allows spaces around the sign.
fn has_parameter(address: &str) -> bool {
    let lower = address.to_ascii_lowercase();
    PARAMETERS.iter().any(|name| {
        lower.match_indices(name).any(|(start, _)| {
            let begins = lower[..start].chars().next_back().is_none_or(|before| {
                before.is_whitespace() || matches!(before, '?' | '&' | ';' | '\'' | '"')
            });
            let value = lower[start + name.len()..].trim_start().strip_prefix('=').map(str::trim_start);
            begins && value.is_some_and(|value| !is_empty_value(value))
        })
    })
}

fn is_empty_value(value: &str) -> bool {
    value.is_empty() || value.starts_with("''") || value.starts_with('&')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passwords_are_found_however_they_are_written() {
        for address in [
            "postgres://u:p@h/d",
            "postgresql://u:p%40@h:5432/d",
            "postgresql://u:p/q@h:5432/d",
            "redis://:p@h",
            "postgres://h/d?user=u&password=p",
            "postgres://h/d?sslpassword=p",
            "--x=postgres://u:a@b@h",
            "host=h user=u password=x",
            "password='with space' host=h",
            "host=h\tpassword = x",
            "host=h sslpassword=x",
            "host=h PASSWORD=x",
        ] {
            assert!(holds_password(address), "{address}");
        }
    }

    #[test]
    fn addresses_without_one_are_not_refused() {
        for address in [
            "postgres://u@h/d",
            "http://localhost:8000/",
            "http://localhost:8000/a@b",
            "postgres://[::1]/d?application_name=a@b",
            "postgres://u:@h",
            "postgres:///d?host=/tmp",
            "postgres://h/d?password=&user=u",
            "host=h user=u passfile=/run/pass",
            "host=h password='' user=u",
            "crm/redis/password",
            "--passphrase-file=x",
            "u:p@h",
        ] {
            assert!(!holds_password(address), "{address}");
        }
    }
}
