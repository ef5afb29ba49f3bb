//! `adopt`: from living `.env` and compose files to a plan and a filled vault.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use reseal_rotate::adopt::{Adopted, Draft, Login, Placed, Wishes, adopt};
use reseal_rotate::plan::{FILE_NAME, Spot, Strategy};
use reseal_rotate::process::Runner;
use reseal_rotate::scrub::Known;
use reseal_vault::{
    Attributes, ErrorKind, Expect, NewVersion, SecretKind, SecretName, Timestamp, Vault, VersionSelector,
};
use serde_json::{Value, json};

use crate::app::{App, user_directory};
use crate::args::AdoptArgs;
use crate::exit::Exit;
use crate::failure::{Failure, Outcome};
use crate::new_file::NewFile;
use crate::{values, when};

/// Writes a plan for a project, and stores the values that it was found to use: all or none.
///
/// # Errors
///
/// There is a plan already, a file is not what it should be, or the vault holds other values.
pub(crate) fn run(app: &App, args: &AdoptArgs) -> Outcome {
    if app.global.config.is_some() {
        return Err(Failure::new(
            Exit::Usage,
            "`adopt` writes `reseal.toml` into the directory of the project",
        )
        .hint("leave --config out"));
    }
    let changed_at = args.changed_at.as_deref().map(when::parse).transpose()?;
    let path = args.dir.join(FILE_NAME);
    if path.symlink_metadata().is_ok() && !args.dry_run {
        return Err(Failure::new(Exit::Refused, format!("{} exists already", path.display()))
            .hint("`reseal adopt --dry-run` shows what would be in a new one"));
    }
    let wishes = Wishes {
        except: args.except.iter().map(|file| relative(&args.dir, file)).collect(),
        units: args.systemd.clone(),
        prefix: args.prefix.clone(),
        vault: planned_vault(app, &args.dir)?,
    };
    let runner = Runner::new(&args.dir, std::env::vars_os(), Known::default());
    let draft = app.runtime()?.block_on(adopt(&args.dir, &wishes, &runner))?;
    let stored = if args.dry_run { 0 } else { keep(app, &draft, &path, changed_at)? };
    tell(app, args, &draft, &path, stored)
}

/// A file as paths of the project begin: below its directory.
fn relative(directory: &Path, file: &Path) -> PathBuf {
    let below = |base: &Path| file.strip_prefix(base).ok().map(Path::to_owned);
    let canonical = || directory.canonicalize().ok().and_then(|base| below(&base));
    below(directory).or_else(canonical).unwrap_or_else(|| file.components().collect())
}

/// The vault as the plan has to name it; none where it is this user's default.
fn planned_vault(app: &App, directory: &Path) -> Outcome<Option<String>> {
    let path = app.vault_path()?;
    if path == user_directory("XDG_DATA_HOME", ".local/share")?.join("default.vault") {
        return Ok(None);
    }
    let path = std::path::absolute(&path)?;
    let base = directory.canonicalize()?;
    let resolved = path.canonicalize().unwrap_or(path);
    Ok(Some(relative(&base, &resolved).display().to_string()))
}

/// Stores the values, then gives the plan its name: one that is there is true. Killed in between, the same command goes on.
fn keep(app: &App, draft: &Draft, path: &Path, changed_at: Option<Timestamp>) -> Outcome<usize> {
    let mut vault = app.vault()?;
    let mut new = Vec::new();
    for secret in draft.secrets.iter().filter(|secret| secret.is_stored) {
        let name: SecretName = format!("{}{}", draft.prefix, secret.name).parse()?;
        if let Some(expect) = expected(&mut vault, &name, secret)? {
            let attributes = Attributes { env: variable(&name, secret), ..Attributes::default() };
            let version = NewVersion::new(SecretKind::Password, secret.value.clone());
            new.push((name, NewVersion { expect, changed_at, attributes, ..version }));
        }
    }
    let mut plan = NewFile::beside(path, "adopt")?;
    // Everyone who runs reseal here reads it, and nobody else may write it.
    plan.content().set_permissions(PermissionsExt::from_mode(0o644))?;
    plan.write(draft.plan.as_bytes())?;
    let stored = if new.is_empty() { 0 } else { vault.put_all(new)?.len() };
    plan.rename(path, false)?;
    Ok(stored)
}

/// What has to be there for the value to be stored; `None` if it is the current one already.
fn expected(vault: &mut Vault, name: &SecretName, secret: &Adopted) -> Outcome<Option<Expect>> {
    match vault.get(name, VersionSelector::Current) {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(Some(Expect::CreateOnly)),
        Err(error) => Err(error.into()),
        Ok(held) if held.value == secret.value => Ok(None),
        Ok(_) => Err(Failure::new(Exit::Conflict, format!("the vault holds another value of {name}"))
            .hint("give another --prefix, or bring the vault up to date with `reseal put`")),
    }
}

/// The variable that an export would not find out by itself.
fn variable(name: &SecretName, secret: &Adopted) -> Option<String> {
    let whole = secret.places.iter().find(|place| place.spot == Spot::Whole).map(|place| &place.var);
    whole
        .filter(|var| values::check_variable(var).is_ok() && values::variable_of(name.as_str()) != **var)
        .cloned()
}

fn tell(app: &App, args: &AdoptArgs, draft: &Draft, path: &Path, stored: usize) -> Outcome {
    let object = json!({
        "plan": path.display().to_string(),
        "dry_run": args.dry_run,
        "text": draft.plan,
        "prefix": draft.prefix,
        "secrets": draft.secrets.iter().map(object).collect::<Vec<_>>(),
        "doubts": draft.doubts,
        "stored": stored,
    });
    app.ui.result(object, || if args.dry_run { draft.plan.clone() } else { words(draft, path, stored) })?;
    draft.doubts.iter().for_each(|doubt| app.ui.warn(doubt));
    let left_out = draft.secrets.iter().filter_map(|secret| Some((secret, secret.withheld.as_ref()?)));
    left_out
        .for_each(|(secret, why)| app.ui.warn(format!("{} is a comment in the plan: {why}", secret.name)));
    if !args.dry_run {
        app.ui.note("next: read the plan, then `reseal rotate plan`");
    }
    Ok(if draft.has_refused { Exit::NotHeld } else { Exit::Done })
}

fn words(draft: &Draft, path: &Path, stored: usize) -> String {
    let mut lines = Vec::new();
    for secret in &draft.secrets {
        let places: Vec<_> = secret.places.iter().map(place).collect();
        lines.push(format!("{}{}: {}, {}", draft.prefix, secret.name, strategy(secret), login(secret)));
        lines.push(format!("  {}", places.join(", ")));
    }
    lines.push(format!("{stored} values stored, and {} written", path.display()));
    lines.join("\n")
}

fn place(place: &Placed) -> String {
    let part = if place.spot == Spot::UrlPassword { " (in its URL)" } else { "" };
    format!("{} {}{part}", place.file.display(), place.var)
}

fn strategy(secret: &Adopted) -> &'static str {
    match secret.strategy {
        Strategy::Overlap => "two values while it changes",
        Strategy::Paste => "a person brings new values",
        Strategy::Columns => "the key of stored data",
        _ => "changed in place",
    }
}

fn login(secret: &Adopted) -> String {
    match &secret.login {
        None => "no login".into(),
        Some(Login::Verified(..)) => "login verified".into(),
        Some(Login::Unchangeable(why)) => format!("login verified, but {why}"),
        Some(Login::Refused) => "LOGIN REFUSED, not stored".into(),
        Some(Login::Unreachable(why)) => format!("login not verified ({why})"),
    }
}

fn object(secret: &Adopted) -> Value {
    let places = secret.places.iter().map(|place| {
        let part = (place.spot == Spot::UrlPassword).then_some("url.password");
        json!({ "file": place.file.display().to_string(), "var": place.var, "part": part, "holds": place.holds })
    });
    let (login, why) = match &secret.login {
        None => (None, None),
        Some(Login::Verified(..)) => (Some("verified"), None),
        Some(Login::Unchangeable(why)) => (Some("unchangeable"), Some(why)),
        Some(Login::Refused) => (Some("refused"), None),
        Some(Login::Unreachable(why)) => (Some("unreachable"), Some(why)),
    };
    json!({
        "name": secret.name,
        "strategy": secret.strategy,
        "server": secret.server,
        "login": login,
        "login_reason": why,
        "places": places.collect::<Vec<_>>(),
        "left_out": secret.withheld,
        "stored": secret.is_stored,
    })
}
