//! Connection strings: the options that the driver does not know, taken out of a URL or a `key=value` string.

use crate::error::EngineError;

/// How much the connection insists on TLS, as libpq names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum SslMode {
    /// Never.
    Disable,
    /// Only where the server refuses anything else.
    Allow,
    /// Where the server has it; nothing is verified.
    Prefer,
    /// Always; the chain is verified only if a root certificate is named.
    Require,
    /// Always, with a chain to a known root.
    VerifyCa,
    /// Always, with a chain to a known root and the name of the host.
    VerifyFull,
}

impl SslMode {
    fn from_name(name: &str) -> Option<Self> {
        Some(match name {
            "disable" => Self::Disable,
            "allow" => Self::Allow,
            "prefer" => Self::Prefer,
            "require" => Self::Require,
            "verify-ca" => Self::VerifyCa,
            "verify-full" => Self::VerifyFull,
            _ => return None,
        })
    }
}

/// A connection string in two parts.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Address {
    /// What the driver reads.
    pub(super) driver: String,
    /// `sslmode`, if it is written.
    pub(super) ssl_mode: Option<SslMode>,
    /// `sslrootcert`: a file of certificates in PEM, or `system`.
    pub(super) root_cert: Option<String>,
}

impl Address {
    /// Splits a URL or a connection string.
    ///
    /// # Errors
    ///
    /// [`EngineError::Address`] names the option that does not fit, never the string: it may hold a password.
    pub(super) fn split(text: &str) -> Result<Self, EngineError> {
        let is_url = text.starts_with("postgresql://") || text.starts_with("postgres://");
        let mut address = Self::default();
        if is_url {
            address.split_url(text)?
        } else {
            address.split_pairs(text)?
        }
        Ok(address)
    }

    fn split_url(&mut self, text: &str) -> Result<(), EngineError> {
        let (place, query) = text.split_once('?').unwrap_or((text, ""));
        let mut kept = Vec::new();
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let (key, value) = pair.split_once('=').ok_or_else(malformed)?;
            let value = percent_decoded(value).ok_or_else(malformed)?;
            if !self.take(key, &value)? {
                kept.push(pair);
            }
        }
        self.driver = place.to_owned();
        if !kept.is_empty() {
            self.driver = format!("{place}?{}", kept.join("&"));
        }
        Ok(())
    }

    fn split_pairs(&mut self, text: &str) -> Result<(), EngineError> {
        let mut rest = text.trim_start();
        while !rest.is_empty() {
            let (key, after) = rest.split_once('=').ok_or_else(malformed)?;
            let (value, end) = quoted_value(after.trim_start()).ok_or_else(malformed)?;
            let pair_len = rest.len() - end.len();
            if !self.take(key.trim(), &value)? {
                self.driver.push_str(rest[..pair_len].trim_end());
                self.driver.push(' ');
            }
            rest = end.trim_start();
        }
        Ok(())
    }

    /// Takes an option that is ours; `false` leaves it to the driver.
    fn take(&mut self, key: &str, value: &str) -> Result<bool, EngineError> {
        match key {
            "sslmode" => {
                let unknown = || EngineError::Address("sslmode is none of libpq's six values".into());
                self.ssl_mode = Some(SslMode::from_name(value).ok_or_else(unknown)?);
            }
            "sslrootcert" => self.root_cert = Some(value.to_owned()),
            "sslcert" | "sslkey" | "sslcrl" | "sslcrldir" | "sslpassword" => {
                return Err(EngineError::Address(format!("connection option {key} is not supported")));
            }
            _ => return Ok(false),
        }
        Ok(true)
    }
}

pub(super) fn malformed() -> EngineError {
    EngineError::Address("not a Postgres URL or connection string".into())
}

/// A value of a `key=value` string, with or without quotes, and what follows it.
fn quoted_value(text: &str) -> Option<(String, &str)> {
    let quoted = text.starts_with('\'');
    let mut value = String::new();
    let mut chars = text.char_indices().skip(usize::from(quoted));
    while let Some((index, letter)) = chars.next() {
        match letter {
            '\\' => value.push(chars.next()?.1),
            '\'' if quoted => return Some((value, &text[index + 1..])),
            _ if !quoted && letter.is_whitespace() => return Some((value, &text[index..])),
            _ => value.push(letter),
        }
    }
    (!quoted).then_some((value, ""))
}

fn percent_decoded(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&byte, after)) = rest.split_first() {
        rest = after;
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        let (digits, after) = rest.split_at_checked(2)?;
        bytes.push(u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()?);
        rest = after;
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, driver: &str, mode: Option<SslMode>, root: Option<&str>) {
        let address = Address::split(text).expect("splits");
        assert_eq!(address.driver.trim_end(), driver);
        assert_eq!((address.ssl_mode, address.root_cert.as_deref()), (mode, root));
    }

    #[test]
    fn tls_options_come_out_of_urls() {
        check("postgresql://u@h/db", "postgresql://u@h/db", None, None);
        check(
            "postgres://u:p%40@h:5433/db?sslmode=verify-full&connect_timeout=3&sslrootcert=%2Fetc%2Fca.pem",
            "postgres://u:p%40@h:5433/db?connect_timeout=3",
            Some(SslMode::VerifyFull),
            Some("/etc/ca.pem"),
        );
    }

    #[test]
    fn tls_options_come_out_of_pairs() {
        check("host=h sslmode=require user=u", "host=h user=u", Some(SslMode::Require), None);
        check(
            r"host = h password='a b\'c' sslrootcert='/a b/ca.pem' sslmode=verify-ca",
            r"host = h password='a b\'c'",
            Some(SslMode::VerifyCa),
            Some("/a b/ca.pem"),
        );
    }

    #[test]
    fn errors_do_not_repeat_the_string() {
        for text in ["postgres://u:canary@h/db?sslmode=canary", "password=canary sslmode", "password='canary"]
        {
            let error = Address::split(text).expect_err("refused").to_string();
            assert!(!error.contains("canary"), "{error}");
        }
    }
}
