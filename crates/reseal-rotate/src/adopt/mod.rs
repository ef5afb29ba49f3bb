//! From living `.env` and compose files to a plan and the values for a vault.
//!
//! ```text
//! directory --Project--> .env files --Text--> candidates --servers--> logins tried, nothing changed
//! compose   --config---> services  --users--> who reads what      `--secrets--> Adopted, text of the plan
//! ```
//!
//! What is not sure is a comment in the plan and a doubt in the report, and what cannot be brought to every place stands in
//! the plan as a comment only.

mod address;
mod draft;
mod error;
mod names;
mod project;
mod secrets;
mod servers;
mod texts;
mod users;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use reseal_crypto::SecretBytes;

use crate::apps::{Compose, Service};
use crate::plan::{FILE_NAME, Plan};
use crate::process::Runner;
use crate::scrub::Known;

pub use error::AdoptError;
pub use secrets::{Adopted, Placed};
pub use servers::Login;

use project::Project;
use texts::{Candidate, Text};

/// The shortest value that is looked for in other files, and that must not be part of the plan.
const LONG_ENOUGH: usize = 8;

/// What a person says beforehand.
#[derive(Debug, Clone, Default)]
pub struct Wishes {
    /// Files to leave out, relative to the project.
    pub except: Vec<PathBuf>,
    /// Systemd units that read the files of which no compose service is known to.
    pub units: Vec<String>,
    /// What every name in the vault begins with; otherwise the name of the directory.
    pub prefix: Option<String>,
    /// The vault, as the plan is to name it.
    pub vault: Option<String>,
}

/// A plan, and the values that belong in the vault.
#[derive(Debug)]
pub struct Draft {
    /// The text of the plan; no value stands in it.
    pub plan: String,
    /// What every name in the vault begins with.
    pub prefix: String,
    /// What was found.
    pub secrets: Vec<Adopted>,
    /// What nobody can be sure of.
    pub doubts: Vec<String>,
    /// Whether a server refused a value, be it one of several for the same user.
    pub has_refused: bool,
}

/// Looks through a project, and tries every login that it finds. Changes nothing.
///
/// # Errors
///
/// [`AdoptError`].
pub async fn adopt(directory: &Path, wishes: &Wishes, runner: &Runner) -> Result<Draft, AdoptError> {
    let base = directory
        .canonicalize()
        .map_err(|source| AdoptError::Directory { path: directory.to_owned(), source })?;
    let project = Project::of(&base);
    let mut doubts = Vec::new();
    let (compose, services) = services(&project, runner, &mut doubts).await;
    let mut texts = Vec::new();
    for path in project.env.iter().filter(|path| !wishes.except.contains(path)) {
        let by_compose = *path == Path::new(".env") && project.has_compose
            || services.values().any(|service| users::is_env_file(&base, path, service));
        texts.push(Text::read(&base, path, by_compose, &mut doubts)?);
    }
    let candidates: Vec<Candidate> =
        texts.iter().enumerate().flat_map(|(index, text)| text.candidates(index, &mut doubts)).collect();
    if candidates.is_empty() {
        return Err(AdoptError::Nothing { path: directory.to_owned() });
    }
    let (found, rest) = servers::group(&candidates, &texts, &services);
    let mut found = servers::merge(found, compose.as_ref(), &services).await;
    servers::log_in(&mut found, compose.as_ref(), &services, &base).await;
    users::assign(&mut texts, &base, &services, &found, &wishes.units);
    let secrets = secrets::all(&candidates, &texts, &found, &rest, &mut doubts);
    let leftovers = elsewhere(&project, &base, &secrets, &mut doubts);
    in_compose(&services, &secrets, &mut doubts);
    let prefix = wishes.prefix.clone().unwrap_or_else(|| own_prefix(&base));
    let plan = draft::text(&draft::Parts {
        vault: wishes.vault.as_deref(),
        prefix: &prefix,
        leftovers: &leftovers,
        texts: &texts,
        found: &found,
        secrets: &secrets,
        services: &services,
        doubts: &doubts,
    });
    check(&base, &plan, &secrets)?;
    let has_refused = found.iter().flat_map(|one| &one.held).any(|held| held.login == Login::Refused);
    Ok(Draft { plan, prefix, secrets, doubts, has_refused })
}

async fn services(
    project: &Project,
    runner: &Runner,
    doubts: &mut Vec<String>,
) -> (Option<Compose>, BTreeMap<String, Service>) {
    for below in &project.compose_below {
        doubts.push(format!("{} was not looked at: adopt its directory by itself", below.display()));
    }
    if project.is_cut {
        doubts.push("there are too many files to look at all of them".into());
    }
    if !project.has_compose {
        return (None, BTreeMap::new());
    }
    let asked = async {
        let compose = Compose::find(runner, None).await?;
        let services = compose.services().await?;
        Ok::<_, crate::apps::AppError>((compose, services))
    };
    match asked.await {
        Ok((compose, services)) => (Some(compose), services),
        Err(error) => {
            // What compose says of a file may quote it, values and all.
            let why = match error {
                crate::apps::AppError::NoCompose => "it is not installed",
                _ => "`docker compose config` says why",
            };
            doubts.push(format!("compose does not say which services there are: {why}"));
            (None, BTreeMap::new())
        }
    }
}

/// Other files in which a value stands: forgotten copies, and what reseal does not change.
fn elsewhere(project: &Project, base: &Path, secrets: &[Adopted], doubts: &mut Vec<String>) -> Vec<String> {
    let stored: Vec<_> = secrets.iter().filter(|secret| secret.value.len() >= LONG_ENOUGH).collect();
    let known: Vec<Known> = stored.iter().map(|secret| Known::new([&secret.value])).collect();
    let held_by = |path: &PathBuf| -> Vec<&str> {
        let Some(bytes) = project::searched(&base.join(path)) else { return Vec::new() };
        // EXPOSE: searched in memory.
        let holds = |known: &&Known| known.occurs_in(bytes.expose());
        let names = stored.iter().zip(&known).filter(|(_, known)| holds(known));
        names.map(|(secret, _)| secret.name.as_str()).collect()
    };
    for path in &project.others {
        let names = held_by(path);
        if !names.is_empty() {
            let names = names.join("`, `");
            doubts.push(format!(
                "{} holds the value of `{names}` too, and reseal does not change it there",
                path.display()
            ));
        }
    }
    let is_env =
        |path: &Path| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(".env"));
    let is_leftover = |path: &&PathBuf| is_env(path) || !held_by(path).is_empty();
    let leftovers = project.copies.iter().filter(is_leftover).filter(|path| draft::is_plain(path));
    leftovers.map(|path| path.display().to_string()).collect()
}

/// Secrets that stand in the compose file itself.
fn in_compose(services: &BTreeMap<String, Service>, secrets: &[Adopted], doubts: &mut Vec<String>) {
    for (service, found) in services {
        for (name, value) in &found.environment {
            let Some(value) = value.as_ref().filter(|value| !value.is_empty()) else { continue };
            let is_known = |secret: &Adopted| {
                // EXPOSE: compared in memory.
                value
                    .expose()
                    .windows(secret.value.len().max(1))
                    .any(|window| window == secret.value.expose())
            };
            let from_file = found
                .env_files
                .iter()
                .any(|_| secrets.iter().any(|secret| secret.places.iter().any(|place| place.var == *name)));
            if names::sort_of(name).is_some() && !secrets.iter().any(is_known) && !from_file {
                doubts.push(format!(
                    "{name} of compose service `{service}` stands in the compose file or comes from elsewhere, and is left out"
                ));
            }
        }
    }
}

fn own_prefix(base: &Path) -> String {
    let name = base.file_name().map(|name| names::slug(&name.to_string_lossy())).unwrap_or_default();
    if name.is_empty() { name } else { format!("{name}/") }
}

/// What was drafted is a plan, and shows nothing.
fn check(base: &Path, plan: &str, secrets: &[Adopted]) -> Result<(), AdoptError> {
    for secret in secrets.iter().filter(|secret| secret.value.len() >= LONG_ENOUGH) {
        let known = Known::new([&secret.value]);
        if known.occurs_in(plan.as_bytes()) && !is_word(&secret.value) {
            return Err(AdoptError::WouldShow { secret: secret.name.clone() });
        }
    }
    Plan::parse(&base.join(FILE_NAME), plan)?;
    Ok(())
}

/// Whether a value is a name like any other: `postgres` is the password of many a role of that name.
fn is_word(value: &SecretBytes) -> bool {
    let text = value.expose_str().unwrap_or_default();
    text.len() < 16 && text.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_')
}
