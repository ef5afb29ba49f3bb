//! Services on real servers: what lets in before and after each change, what survives a restart, what the servers show.

mod services {
    mod account;
    mod alternate;
    mod postgres;
    mod quiet;
    mod redis;
    mod redis_files;
    mod redis_old;
}

use std::path::Path;

use reseal_crypto::{OsRandom, SecretBytes};
use reseal_rotate::plan::Kind;
use reseal_rotate::services::{Access, Login, Proof, Service};

fn value(text: &str) -> SecretBytes {
    SecretBytes::copy_from(text.as_bytes())
}

fn with<'a>(user: &'a str, value: &'a SecretBytes) -> Access<'a> {
    Access::Value { user, value }
}

fn service(kind: Kind, url: &str) -> Service {
    Service::new(kind, "node", url, None, Path::new("/")).expect("an address")
}

/// What a login with each of the texts comes to, in their order.
async fn logins(service: &Service, user: &str, texts: &[&str]) -> Vec<Login> {
    let mut logins = Vec::new();
    for text in texts {
        logins.push(service.login(user, &value(text)).await);
    }
    logins
}

async fn prove(service: &Service, user: &str, text: &str) -> Proof {
    service.prove(user, &value(text), &OsRandom).await.expect("random bytes")
}
