//! `import`: the values of a file, as secrets.

use std::path::Path;

use reseal_crypto::SecretBytes;
use reseal_env::{Agreement, Edit, Place};
use reseal_vault::{
    Attributes, ErrorKind, Expect, NewVersion, SecretKind, SecretName, Vault, VersionSelector,
};
use serde_json::{Value, json};
use zeroize::{Zeroize, Zeroizing};

use super::snapshots::remove_kept;
use crate::app::App;
use crate::args::{ImportArgs, ImportFormat};
use crate::exit::Exit;
use crate::failure::{Failure, Outcome};
use crate::readers::Readers;
use crate::whole_file::WholeFile;
use crate::{input, values, when};

/// A value of the file.
struct Entry {
    /// The variable, or the keys that lead to it.
    keys: Vec<String>,
    value: SecretBytes,
}

/// What becomes of an entry.
struct Import {
    key: String,
    name: SecretName,
    new: Option<NewVersion>,
    value: SecretBytes,
}

/// Stores the values of a file, all or none.
///
/// # Errors
///
/// The file is not what it should be, its readers do not agree, or a secret is there already.
pub(crate) fn run(app: &App, args: &ImportArgs) -> Outcome {
    let mut file = match args.file == Path::new("-") {
        true => None,
        false => Some(WholeFile::open(&args.file)?),
    };
    if args.delete_source {
        check_whole(args, file.as_ref())?;
    }
    let bytes = match &mut file {
        Some(file) => input::read_all(file.content()?, &args.file.display().to_string())?,
        None => {
            input::check_stdin_free(app.global.opener()?.as_ref())?;
            input::read_all(std::io::stdin().lock(), "stdin")?
        }
    };
    let failed = |failure: Failure| failure.while_doing(format!("cannot import {}", args.file.display()));
    let (entries, empty) = entries(app, args, &bytes).map_err(failed)?;
    let mut vault = app.vault()?;
    let imports = plan(app, &mut vault, args, entries)?;
    let stored = if args.dry_run { 0 } else { store(&mut vault, &imports)? };
    if args.delete_source && !args.dry_run {
        check_read_back(&mut vault, &imports)?;
        remove_kept(
            &mut vault,
            file.expect("it was checked that there is one"),
            "every value is in the vault",
        )?;
    }
    tell(app, args, &imports, &empty, stored)?;
    Ok(Exit::Done)
}

fn check_whole(args: &ImportArgs, file: Option<&WholeFile>) -> Outcome<()> {
    let Some(file) = file else {
        return Err(Failure::new(Exit::Usage, "stdin is no file that could be removed"));
    };
    if !args.only.is_empty() {
        return Err(Failure::new(Exit::Usage, "what is not imported would be lost with the file")
            .hint("import all of it, or leave --delete-source out"));
    }
    file.check_only_name()
}

/// The values that are meant, and the names of those that are empty.
fn entries(app: &App, args: &ImportArgs, bytes: &SecretBytes) -> Outcome<(Vec<Entry>, Vec<String>)> {
    // EXPOSE: taken apart into values that wipe themselves.
    let exposed = bytes.expose();
    let all = match format(args)? {
        ImportFormat::Dotenv => dotenv(app, args, exposed)?,
        ImportFormat::Json => from_object(serde_json::from_slice(exposed).map_err(|error| {
            Failure::new(Exit::Refused, format!("it is no JSON, at line {}", error.line()))
        })?)?,
        ImportFormat::Toml => {
            let text = std::str::from_utf8(exposed).map_err(|_| not_text())?;
            // The parser's own message would repeat the line, and the value in it.
            from_object(toml::from_str(text).map_err(|_| Failure::new(Exit::Refused, "it is no TOML"))?)?
        }
    };
    let unknown = args.only.iter().find(|wanted| all.iter().all(|entry| entry.keys.join("/") != **wanted));
    if let Some(unknown) = unknown {
        return Err(Failure::new(Exit::NotFound, format!("there is no {unknown} in it")));
    }
    let is_meant = |entry: &Entry| args.only.is_empty() || args.only.contains(&entry.keys.join("/"));
    // EXPOSE: only whether there is anything.
    let (empty, full): (Vec<_>, Vec<_>) =
        all.into_iter().filter(is_meant).partition(|entry| entry.value.expose().is_empty());
    if full.is_empty() {
        return Err(Failure::new(Exit::NotFound, "there is no value in it"));
    }
    Ok((full, empty.into_iter().map(|entry| entry.keys.join("/")).collect()))
}

fn format(args: &ImportArgs) -> Outcome<ImportFormat> {
    if let Some(format) = args.format {
        return Ok(format);
    }
    let name = args.file.file_name().unwrap_or_default().to_string_lossy();
    match args.file.extension().and_then(|extension| extension.to_str()) {
        Some("json") => Ok(ImportFormat::Json),
        Some("toml") => Ok(ImportFormat::Toml),
        _ if name.contains("env") => Ok(ImportFormat::Dotenv),
        _ => Err(Failure::new(Exit::Usage, "the name of the file does not tell what it is")
            .hint("say it with --format dotenv, json or toml")),
    }
}

fn not_text() -> Failure {
    Failure::new(Exit::Refused, "it is no UTF-8 text")
}

fn dotenv(app: &App, args: &ImportArgs, bytes: &[u8]) -> Outcome<Vec<Entry>> {
    let readers = Readers::of(app, &args.file, bytes, &args.readers)?;
    readers.tell(app);
    let found = reseal_env::check(bytes, &readers.all);
    if let Some((reader, error)) = found.unreadable.first() {
        return Err(Failure::new(Exit::Refused, format!("{reader} does not read it: {error}"))
            .hint("say who reads the file with --reader"));
    }
    let read = |name: &str| {
        let at = Edit { name: name.to_owned(), place: Place::Whole, readers: readers.all.clone() };
        let value = reseal_env::get(bytes, &at)?;
        // EXPOSE: copied into the type that the vault takes.
        Ok(Entry { keys: vec![name.to_owned()], value: SecretBytes::copy_from(value.expose()) })
    };
    let is_meant = |name: &String| args.only.is_empty() || args.only.contains(name);
    let meant = found.variables.iter().filter(|checked| is_meant(&checked.name));
    meant
        .map(|checked| match checked.agreement {
            Agreement::Outside(_) => Err(Failure::new(
                Exit::Refused,
                format!("the value of {} depends on what is not in the file", checked.name),
            )
            .hint("name the variables that are to be imported")),
            _ => read(&checked.name),
        })
        .collect()
}

/// Strings, numbers and truth values of an object and the objects in it; the object is wiped.
fn from_object(mut object: Value) -> Outcome<Vec<Entry>> {
    let mut entries = Vec::new();
    let collected = match object.is_object() {
        true => collect(&object, &mut Vec::new(), &mut entries),
        false => Err(Failure::new(Exit::Refused, "it is no object of names and values")),
    };
    wipe(&mut object);
    collected.map(|()| entries)
}

fn collect(value: &Value, keys: &mut Vec<String>, entries: &mut Vec<Entry>) -> Outcome<()> {
    let mut push = |text: &str| {
        entries.push(Entry { keys: keys.clone(), value: SecretBytes::copy_from(text.as_bytes()) });
    };
    match value {
        Value::Null => {}
        Value::String(text) => push(text),
        Value::Bool(_) | Value::Number(_) => push(&Zeroizing::new(value.to_string())),
        Value::Array(_) => {
            return Err(Failure::new(Exit::Refused, format!("{} is a list", keys.join("/")))
                .hint("name the keys that are to be imported, or put lists in by `reseal put`"));
        }
        Value::Object(members) => {
            for (key, member) in members {
                keys.push(key.clone());
                collect(member, keys, entries)?;
                keys.pop();
            }
        }
    }
    Ok(())
}

fn wipe(value: &mut Value) {
    match value {
        Value::String(text) => text.zeroize(),
        Value::Array(elements) => elements.iter_mut().for_each(wipe),
        Value::Object(members) => members.values_mut().for_each(wipe),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

/// The name in the vault: `REDIS_PASSWORD` is `redis-password`, the key `password` in `redis` is `redis/password`.
fn name_of(prefix: &str, keys: &[String]) -> Outcome<SecretName> {
    let parts = keys.iter().map(|key| key.to_lowercase().replace('_', "-"));
    let prefix = prefix.trim_end_matches('/');
    let all: Vec<_> = (!prefix.is_empty()).then(|| prefix.to_owned()).into_iter().chain(parts).collect();
    Ok(all.join("/").parse::<SecretName>()?)
}

fn plan(app: &App, vault: &mut Vault, args: &ImportArgs, entries: Vec<Entry>) -> Outcome<Vec<Import>> {
    let changed_at = args.changed_at.as_deref().map(when::parse).transpose()?;
    let mut imports: Vec<Import> = Vec::with_capacity(entries.len());
    for Entry { keys, value } in entries {
        let key = keys.join("/");
        let name = name_of(&args.prefix, &keys)?;
        if let Some(other) = imports.iter().find(|other| other.name == name) {
            return Err(Failure::new(Exit::Refused, format!("{} and {key} would both be {name}", other.key)));
        }
        let new = new_version(app, vault, args, &name, &value)?.map(|expect| NewVersion {
            expect,
            changed_at,
            attributes: Attributes { env: variable(&name, &key), ..Attributes::default() },
            ..NewVersion::new(SecretKind::Password, value.clone())
        });
        imports.push(Import { key, name, new, value });
    }
    Ok(imports)
}

/// What has to be there for the value to be stored; `None` if it is the current one already.
fn new_version(
    app: &App,
    vault: &mut Vault,
    args: &ImportArgs,
    name: &SecretName,
    value: &SecretBytes,
) -> Outcome<Option<Expect>> {
    match vault.get(name, VersionSelector::Current) {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(Some(Expect::CreateOnly)),
        Err(error) => Err(error.into()),
        Ok(held) if held.value == *value => Ok(None),
        Ok(_) if !args.update => {
            Err(Failure::new(Exit::Conflict, format!("the vault holds another value of {name}"))
                .hint("--update stores this one as a new version"))
        }
        Ok(held) => {
            app.guard_managed(vault, name, args.vault_only)?;
            Ok(Some(Expect::IfVersion(held.version)))
        }
    }
}

/// The variable that an export would not find out by itself.
fn variable(name: &SecretName, key: &str) -> Option<String> {
    let is_variable = values::check_variable(key).is_ok() && !key.contains(|c: char| c.is_lowercase());
    (is_variable && values::variable_of(name.as_str()) != key).then(|| key.to_owned())
}

fn store(vault: &mut Vault, imports: &[Import]) -> Outcome<usize> {
    let new = imports.iter().filter_map(|import| Some((import.name.clone(), import.new.clone()?)));
    let new: Vec<_> = new.collect();
    if new.is_empty() {
        return Ok(0);
    }
    Ok(vault.put_all(new)?.len())
}

fn check_read_back(vault: &mut Vault, imports: &[Import]) -> Outcome<()> {
    for import in imports {
        if vault.get(&import.name, VersionSelector::Current)?.value != import.value {
            return Err(Failure::new(Exit::Conflict, format!("{} is another value already", import.name))
                .hint("the file is left as it is"));
        }
    }
    Ok(())
}

fn tell(app: &App, args: &ImportArgs, imports: &[Import], empty: &[String], stored: usize) -> Outcome<()> {
    let (new, same): (Vec<_>, Vec<_>) = imports.iter().partition(|import| import.new.is_some());
    let object = |import: &&Import| json!({ "key": import.key, "name": import.name.as_str() });
    let object = json!({
        "file": args.file.display().to_string(),
        "imported": new.iter().map(object).collect::<Vec<_>>(),
        "unchanged": same.iter().map(object).collect::<Vec<_>>(),
        "empty": empty,
        "dry_run": args.dry_run,
        "deleted_source": args.delete_source && !args.dry_run,
    });
    app.ui.result(object, || {
        let words = |import: &&Import| format!("{} <- {}", import.name, import.key);
        let mut lines: Vec<_> = new.iter().map(words).collect();
        lines.extend(same.iter().map(|import| format!("{} has this value already", import.name)));
        lines.extend(empty.iter().map(|key| format!("{key} is empty and left out")));
        lines.push(match args.dry_run {
            true => format!("{} values would be stored", new.len()),
            false => format!("{stored} values stored"),
        });
        lines.join("\n")
    })
}
