//! What the name of a variable, and the look of its value, say about whether it is a secret and who makes it.

use crate::plan::Kind;

/// What a secret is, as far as its name tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sort {
    /// A password; of a server of this kind, where the name says so.
    Password(Option<Kind>),
    /// Of the application alone: whoever runs it may draw another.
    Own,
    /// Made elsewhere: a person brings it.
    Brought,
    /// A key that stored data are under.
    DataKey,
}

/// Names of values that an application makes use of by itself.
const OWN: [&str; 13] = [
    "SECRET_KEY",
    "DJANGO_SECRET_KEY",
    "FLASK_SECRET_KEY",
    "SECRET_KEY_BASE",
    "SESSION_SECRET",
    "SESSION_SECRET_KEY",
    "COOKIE_SECRET",
    "CSRF_SECRET",
    "JWT_SECRET",
    "JWT_SECRET_KEY",
    "JWT_SIGNING_KEY",
    "NEXTAUTH_SECRET",
    "AUTH_SECRET",
];

/// Ends of names of what a provider or another program makes.
const BROUGHT: [&str; 14] = [
    "TOKEN",
    "SECRET",
    "SECRET_KEY",
    "API_KEY",
    "APIKEY",
    "ACCESS_KEY",
    "AUTH_KEY",
    "PRIVATE_KEY",
    "SIGNING_KEY",
    "SERVICE_KEY",
    "ACCOUNT_KEY",
    "LICENSE_KEY",
    "DSN",
    "WEBHOOK_URL",
];

/// What stands at the end of the name of the value that was in use before.
const PREVIOUS: [&str; 3] = ["_OLD", "_PREVIOUS", "_FALLBACKS"];

/// What a name says; `None` for names of what is no secret.
pub(super) fn sort_of(name: &str) -> Option<Sort> {
    let name = name.to_ascii_uppercase();
    let words: Vec<&str> = name.split('_').collect();
    let has = |any: &[&str]| words.iter().any(|word| any.contains(word));
    let is_password = words
        .last()
        .is_some_and(|last| ["PASSWORD", "PASSWD", "PASS", "PWD", "PGPASSWORD", "PASSPHRASE"].contains(last));
    if is_password {
        return Some(match () {
            () if has(&["SMTP", "EMAIL", "MAIL", "IMAP", "MYSQL", "MARIADB", "MONGO", "MONGODB"]) => {
                Sort::Brought
            }
            () if has(&["REDIS", "VALKEY"]) => Sort::Password(Some(Kind::Redis)),
            () if has(&["DB", "DATABASE", "PG", "PGPASSWORD", "POSTGRES", "POSTGRESQL"]) => {
                Sort::Password(Some(Kind::Postgres))
            }
            () => Sort::Password(None),
        });
    }
    if (has(&["ENCRYPTION", "ENCRYPT", "FERNET", "CRYPTO"]) && has(&["KEY", "KEYS", "SECRET"]))
        || name == "APP_KEY"
    {
        return Some(Sort::DataKey);
    }
    if OWN.contains(&name.as_str()) {
        return Some(Sort::Own);
    }
    let is_public = has(&["PUBLIC", "PUBLISHABLE", "SITE"]);
    let ends = |end: &&str| name == **end || name.ends_with(&format!("_{end}"));
    (!is_public && BROUGHT.iter().any(ends)).then_some(Sort::Brought)
}

/// The variable whose former value this one is for, by its name.
pub(super) fn previous_of(name: &str) -> Option<&str> {
    PREVIOUS.iter().find_map(|end| name.strip_suffix(end)).filter(|stem| !stem.is_empty())
}

/// Whether a value looks drawn at random, so that a person should look at it whatever its name.
pub(super) fn looks_random(value: &[u8]) -> bool {
    let has = |test: fn(&u8) -> bool| value.iter().any(test);
    let is_plain = value.iter().all(|byte| byte.is_ascii_alphanumeric() || b"+/=_-".contains(byte));
    value.len() >= 20
        && is_plain
        && !value.starts_with(b"/")
        && has(u8::is_ascii_digit)
        && has(u8::is_ascii_alphabetic)
        && !value.windows(2).all(|two| two[0] == two[1])
}

/// The name as names of secrets are written: `DB_PASSWORD` is `db-password`.
pub(super) fn slug(text: &str) -> String {
    let mut slug = String::new();
    for character in text.chars() {
        match character {
            'a'..='z' | '0'..='9' => slug.push(character),
            'A'..='Z' => slug.push(character.to_ascii_lowercase()),
            _ if !slug.is_empty() && !slug.ends_with('-') => slug.push('-'),
            _ => {}
        }
    }
    slug.trim_end_matches('-').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_say_what_values_are() {
        for (name, expected) in [
            ("REDIS_PASSWORD", Some(Sort::Password(Some(Kind::Redis)))),
            ("DB_PASSWORD", Some(Sort::Password(Some(Kind::Postgres)))),
            ("PGPASSWORD", Some(Sort::Password(Some(Kind::Postgres)))),
            ("ADMIN_PASS", Some(Sort::Password(None))),
            ("EMAIL_HOST_PASSWORD", Some(Sort::Brought)),
            ("DJANGO_SECRET_KEY", Some(Sort::Own)),
            ("STRIPE_SECRET_KEY", Some(Sort::Brought)),
            ("AWS_SECRET_ACCESS_KEY", Some(Sort::Brought)),
            ("TWILIO_AUTH_TOKEN", Some(Sort::Brought)),
            ("SENTRY_DSN", Some(Sort::Brought)),
            ("DB_ENCRYPTION_KEY", Some(Sort::DataKey)),
            ("RECAPTCHA_SITE_KEY", None),
            ("STRIPE_PUBLISHABLE_KEY", None),
            ("DB_HOST", None),
            ("TOKEN_LIFETIME", None),
            ("POSTGRES_PASSWORD_FILE", None),
            ("BYPASS", None),
        ] {
            assert_eq!(sort_of(name), expected, "{name}");
        }
        assert_eq!(previous_of("SECRET_KEY_FALLBACKS"), Some("SECRET_KEY"));
        assert_eq!(previous_of("REVALIDATE_SECRET_OLD"), Some("REVALIDATE_SECRET"));
        assert_eq!(previous_of("THRESHOLD"), None);
    }

    #[test]
    fn values_look_random_or_do_not() {
        assert!(looks_random(b"9f8e7d6c5b4a39281706f5e4"));
        for value in ["true", "/var/lib/app/data-0123456789", "redis://localhost:6379/0", "smtp.example.com"]
        {
            assert!(!looks_random(value.as_bytes()), "{value}");
        }
    }

    #[test]
    fn slugs_are_names() {
        assert_eq!(slug("WhatsApp CRM_v2"), "whatsapp-crm-v2");
        assert_eq!(slug(".env.prod"), "env-prod");
        assert_eq!(slug("__"), "");
    }
}
