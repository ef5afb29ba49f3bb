//! Which applications read a file.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use reseal_crypto::SecretBytes;

use super::servers::{Found, is_server};
use super::texts::Text;
use crate::apps::Service;

/// Whether compose names a file as one that a service gets its environment from.
pub(super) fn is_env_file(base: &Path, path: &Path, service: &Service) -> bool {
    let Ok(file) = base.join(path).canonicalize() else { return false };
    service.env_files.iter().any(|named| base.join(named).canonicalize().is_ok_and(|named| named == file))
}

/// Finds the applications of every file: by what compose says, then by what it puts into containers, then by what stands
/// beside the file.
pub(super) fn assign(
    texts: &mut [Text],
    base: &Path,
    services: &BTreeMap<String, Service>,
    found: &[Found],
    units: &[String],
) {
    let servers: BTreeSet<&String> = found.iter().filter_map(|one| one.service(services)).collect();
    let is_app = |name: &&String, service: &&Service| !servers.contains(*name) && !is_server(service);
    let apps: BTreeMap<&String, &Service> =
        services.iter().filter(|(name, service)| is_app(name, service)).collect();
    for text in texts {
        let read = |service: &&Service| is_env_file(base, &text.path, service);
        let mut users = chosen(&apps, read);
        if text.path == Path::new(".env") && !services.is_empty() {
            // Compose reads it itself, and puts what it says where the compose file refers to it.
            users.extend(chosen(&apps, |service| text.secret_values().any(|value| holds(service, value))));
        }
        if users.is_empty() && !units.is_empty() {
            users.extend(units.iter().cloned());
        }
        if users.is_empty() {
            (users, text.guessed) = guessed(text, base, &apps);
        }
        text.used_by = users;
    }
}

fn chosen(apps: &BTreeMap<&String, &Service>, is_meant: impl Fn(&&Service) -> bool) -> BTreeSet<String> {
    let meant = apps.iter().filter(|(_, service)| is_meant(service));
    meant.map(|(name, _)| (*name).clone()).collect()
}

fn holds(service: &Service, value: &SecretBytes) -> bool {
    // EXPOSE: compared in memory.
    let stands_in =
        |text: &SecretBytes| text.expose().windows(value.len()).any(|window| window == value.expose());
    service.environment.values().flatten().chain(&service.argv).any(stands_in)
}

/// Services that read another file of the directory, or are built from it, or have it mounted.
fn guessed(text: &Text, base: &Path, apps: &BTreeMap<&String, &Service>) -> (BTreeSet<String>, Vec<String>) {
    let folder = base.join(text.path.parent().unwrap_or(Path::new("")));
    let is_here = |path: &Path| base.join(path).canonicalize().is_ok_and(|path| path == folder);
    let beside = chosen(apps, |service| {
        service.env_files.iter().any(|file| base.join(file).parent().is_some_and(is_here))
    });
    let mut said = text.guessed.clone();
    let from = |service: &&Service| service.sources.iter().any(|source| is_here(source));
    let users = if beside.is_empty() { chosen(apps, from) } else { beside.clone() };
    if !users.is_empty() {
        said.push(match beside.is_empty() {
            true => "its applications are guessed: they are made from this directory".to_owned(),
            false => "its applications are guessed: they read another file of this directory".to_owned(),
        });
    }
    (users, said)
}
