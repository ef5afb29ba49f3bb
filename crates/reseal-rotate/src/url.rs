//! Addresses of servers, with what the plan says about their protection.

use std::path::Path;

use crate::plan::Tls;

/// A Postgres URL with `tls` of the plan as parameters, which take precedence over what stands there.
pub(crate) fn with_tls(url: &str, tls: Option<&Tls>, directory: &Path) -> String {
    let Some(tls) = tls else { return url.to_owned() };
    let mode = tls.mode.as_ref().map(|mode| format!("sslmode={mode}"));
    let ca =
        tls.ca.as_ref().map(|ca| format!("sslrootcert={}", encoded(&directory.join(ca).to_string_lossy())));
    [mode, ca].into_iter().flatten().fold(url.to_owned(), |url, parameter| {
        let separator = if url.contains('?') { '&' } else { '?' };
        format!("{url}{separator}{parameter}")
    })
}

/// Percent-encodes what has a meaning in a URL.
fn encoded(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"/._-~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tls_of_the_plan_comes_last() {
        let tls = Tls { mode: Some("verify-ca".into()), ca: Some("ca certs/a&b.pem".into()) };
        let url = with_tls("postgres://u@h/d?sslmode=disable", Some(&tls), Path::new("/etc"));
        let expected =
            "postgres://u@h/d?sslmode=disable&sslmode=verify-ca&sslrootcert=/etc/ca%20certs/a%26b.pem";
        assert_eq!(url, expected);
        assert_eq!(with_tls("postgres://u@h/d", None, Path::new("/etc")), "postgres://u@h/d");
    }
}
