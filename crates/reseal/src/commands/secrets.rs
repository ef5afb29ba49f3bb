//! Commands on secrets: `put`, `get`, `list`, `show`, `history`, `generate`.

use reseal_crypto::SecretBytes;
use reseal_crypto::random::OsRandom;
use reseal_vault::{
    Attributes, Expect, Label, NamePattern, NewVersion, Secret, SecretInfo, SecretKind, SecretName,
    Timestamp, ValueFormat, ValueSize, Vault, VersionInfo, VersionSelector, VersionState, generate,
};
use serde_json::{Map, Value, json};
use std::io::IsTerminal;

use crate::app::App;
use crate::args::{
    GenerateArgs, GenerateFormat, GetArgs, KindArg, LabelArg, ListArgs, NameArg, PutArgs, VersionArgs,
};
use crate::exit::Exit;
use crate::failure::{Failure, Outcome};
use crate::input;
use crate::new_file::write_new_file;
use crate::ui::Table;
use crate::{values, when};

/// `put`: the next version of a secret.
///
/// # Errors
///
/// There is no value, another version than expected is there, or the vault does not open.
pub(crate) fn put(app: &App, args: &PutArgs) -> Outcome {
    let name: SecretName = args.name.parse()?;
    input::check_value_args(&args.value, app.global.opener()?.as_ref())?;
    let mut vault = app.vault()?;
    check_replaceable(app, &mut vault, &name, &args.version)?;
    // Asked for only now: nobody types a value for a vault that does not open or take it.
    let kind = kind_of(app, &mut vault, &name, &args.version)?;
    let value = match (&args.value.stdin, kind) {
        // Every byte of a file is part of it.
        (Some(_), SecretKind::File) => input::read_all(std::io::stdin().lock(), "stdin")?,
        _ => input::read_value(&args.value, app.asker(), name.as_str())?,
    };
    let number = store(&mut vault, &name, kind, value, &args.version)?;
    told_stored(app, &name, number, args.version.pending)
}

/// `generate`: a new value, stored or printed.
///
/// # Errors
///
/// The policy cannot be met, or the vault does not take the value.
pub(crate) fn generate_value(app: &App, args: &GenerateArgs) -> Outcome {
    let format = match (args.format, args.version.kind) {
        (None | Some(GenerateFormat::Base64url), _) => ValueFormat::Base64Url,
        (Some(_), Some(KindArg::Key)) => {
            return Err(Failure::new(Exit::Usage, "a column key is 32 bytes as base64url, nothing else"));
        }
        (Some(GenerateFormat::Hex), _) => ValueFormat::Hex,
        (Some(GenerateFormat::Base64), _) => ValueFormat::Base64,
        (Some(GenerateFormat::Alnum), _) => ValueFormat::Alnum,
        (Some(GenerateFormat::Django), _) => ValueFormat::Django,
        (Some(GenerateFormat::Words), _) => ValueFormat::Words,
    };
    let size = match (args.bytes, args.length) {
        (Some(bytes), _) => ValueSize::Bytes(bytes.into()),
        (None, Some(length)) => ValueSize::Length(length.into()),
        (None, None) => ValueSize::Default,
    };
    let Some(name) = &args.name else {
        if app.ui.is_json() && !args.reveal {
            return Err(Failure::new(Exit::Usage, "the value would be drawn and thrown away")
                .hint("give a NAME to store it under, or --reveal to have it in the object"));
        }
        let value = generate(format, size, &OsRandom)?;
        let object = if args.reveal { value_fields(&value) } else { Map::new() };
        return print_value(app, &value, Value::Object(object));
    };
    let name: SecretName = name.parse()?;
    let mut vault = app.vault()?;
    check_replaceable(app, &mut vault, &name, &args.version)?;
    app.guard_drawn(&mut vault, &name, args.version.vault_only || args.version.pending)?;
    let kind = kind_of(app, &mut vault, &name, &args.version)?;
    let number = store(&mut vault, &name, kind, generate(format, size, &OsRandom)?, &args.version)?;
    told_stored(app, &name, number, args.version.pending)
}

/// `get`: a value on stdout, or in a new file.
///
/// # Errors
///
/// There is no such version, or the vault does not open.
pub(crate) fn get(app: &App, args: &GetArgs) -> Outcome {
    let name: SecretName = args.name.parse()?;
    let selector = match (args.version, args.label) {
        (Some(number), _) => VersionSelector::Number(number),
        (None, Some(label)) => VersionSelector::Label(label.into()),
        (None, None) => VersionSelector::Current,
    };
    let secret = app.vault()?.get(&name, selector)?;
    let mut object = Map::new();
    object.insert("name".into(), name.as_str().into());
    object.insert("version".into(), secret.version.into());
    object.insert("kind".into(), secret.kind.name().into());
    if let Some(path) = &args.output {
        // EXPOSE: the file is what was asked for.
        write_new_file(path, secret.value.expose())?;
        object.insert("output".into(), path.display().to_string().into());
        app.ui.result(Value::Object(object), || format!("written to {}", path.display()))?;
        return Ok(Exit::Done);
    }
    if args.reveal {
        object.extend(value_fields(&secret.value));
    }
    print_value(app, &secret.value, Value::Object(object))
}

/// `list`: names, versions, dates.
///
/// # Errors
///
/// The vault does not open.
pub(crate) fn list(app: &App, args: &ListArgs) -> Outcome {
    let secrets = app.vault()?.list(&pattern(args.pattern.as_deref()), args.deleted)?;
    app.ui.result(json!({ "secrets": secrets.iter().map(info_object).collect::<Vec<_>>() }), || {
        let mut table = Table::new(&["name", "current", "pending", "owner", "tags"]);
        for secret in &secrets {
            let number =
                |version: Option<u64>| version.map_or_else(|| "-".to_owned(), |number| number.to_string());
            table.row([
                secret.name.as_str().to_owned(),
                number(secret.labels.current),
                number(secret.labels.pending),
                secret.attributes.owner.clone().unwrap_or_default(),
                secret.attributes.tags.join(","),
            ]);
        }
        table.to_string()
    })?;
    Ok(Exit::Done)
}

/// `show`: what is known about a secret.
///
/// # Errors
///
/// There is no such secret, or the vault does not open.
pub(crate) fn show(app: &App, args: &NameArg) -> Outcome {
    let name: SecretName = args.name.parse()?;
    let mut vault = app.vault()?;
    let info = vault.show(&name)?;
    let versions = vault.history(&name)?;
    app.ui.result(info_object(&info), || {
        let mut lines = vec![format!("name      {name}")];
        if let Some(deleted_at) = info.deleted_at {
            lines.push(format!("deleted   {}", when::show(deleted_at)));
        }
        for label in Label::ALL {
            let version =
                info.labels.get(label).and_then(|number| versions.iter().find(|v| v.number == number));
            lines.extend(version.map(|version| format!("{:<9} {}", label.name(), version_words(version))));
        }
        let attributes = &info.attributes;
        let fields = [("owner", &attributes.owner), ("env", &attributes.env), ("notes", &attributes.notes)];
        lines.extend(fields.iter().filter_map(|(name, text)| Some(format!("{name:<9} {}", text.as_ref()?))));
        if !attributes.tags.is_empty() {
            lines.push(format!("tags      {}", attributes.tags.join(", ")));
        }
        lines.push(format!("versions  {}", versions.len()));
        lines.push(format!("made      {}", when::show(info.created_at)));
        lines.join("\n")
    })?;
    Ok(Exit::Done)
}

/// `history`: every version.
///
/// # Errors
///
/// There is no such secret, or the vault does not open.
pub(crate) fn history(app: &App, args: &NameArg) -> Outcome {
    let name: SecretName = args.name.parse()?;
    let versions = app.vault()?.history(&name)?;
    let objects = versions.iter().map(version_object).collect::<Vec<_>>();
    app.ui.result(json!({ "name": name.as_str(), "versions": objects }), || {
        let mut table = Table::new(&["version", "label", "kind", "state", "bytes", "stored", "expires"]);
        for version in &versions {
            table.row([
                version.number.to_string(),
                label_words(version),
                version.kind.name().to_owned(),
                state_name(version.state).to_owned(),
                version.len.to_string(),
                when::show(version.created_at),
                version.expires_at.map(when::show).unwrap_or_default(),
            ]);
        }
        table.to_string()
    })?;
    Ok(Exit::Done)
}

/// The names that are meant; all of them without a pattern.
pub(crate) fn pattern(text: Option<&str>) -> NamePattern {
    text.map_or_else(NamePattern::all, NamePattern::new)
}

fn store(
    vault: &mut Vault,
    name: &SecretName,
    kind: SecretKind,
    value: SecretBytes,
    args: &VersionArgs,
) -> Outcome<u64> {
    let expect = match (args.create_only, args.if_version) {
        (true, _) => Expect::CreateOnly,
        (false, Some(number)) => Expect::IfVersion(number),
        (false, None) => Expect::Any,
    };
    let changed_at = match &args.changed_at {
        Some(text) => when::parse(text)?,
        None => Timestamp(jiff::Timestamp::now().as_second()),
    };
    let attributes = Attributes {
        notes: args.note.clone(),
        tags: args.tags.clone(),
        owner: args.owner.clone(),
        env: args.env.clone(),
    };
    if let Some(env) = &args.env {
        values::check_variable(env)?;
    }
    let new = NewVersion {
        pending: args.pending,
        expect,
        changed_at: Some(changed_at),
        expires_at: args.expires.as_deref().map(when::parse).transpose()?,
        attributes,
        ..NewVersion::new(kind, value)
    };
    Ok(vault.put(name, new)?)
}

/// Refuses a new current value of a secret that the plan manages; a pending one changes nothing yet.
fn check_replaceable(app: &App, vault: &mut Vault, name: &SecretName, args: &VersionArgs) -> Outcome<()> {
    app.guard_managed(vault, name, args.vault_only || args.pending)
}

/// The kind that is asked for, else a key for what is to seal reseal's own format, else that of the newest version, which
/// for a current one is not the pending one, else a password.
fn kind_of(app: &App, vault: &mut Vault, name: &SecretName, args: &VersionArgs) -> Outcome<SecretKind> {
    if let Some(kind) = args.kind {
        return Ok(kind.into());
    }
    if args.pending && app.managed(vault, name)?.is_some_and(|managed| managed.seals_envelopes()) {
        return Ok(SecretKind::Key);
    }
    match vault.history(name) {
        Ok(versions) => {
            // A new key that waits may be of another kind than the one that values are under.
            let is_like = |version: &&VersionInfo| args.pending || !version.labels.contains(&Label::Pending);
            Ok(versions.iter().rfind(is_like).map_or(SecretKind::Password, |version| version.kind))
        }
        Err(error) if error.kind() == reseal_vault::ErrorKind::NotFound => Ok(SecretKind::Password),
        Err(error) => Err(error.into()),
    }
}

fn told_stored(app: &App, name: &SecretName, number: u64, pending: bool) -> Outcome {
    let label = if pending { "pending" } else { "current" };
    app.ui.result(json!({ "name": name.as_str(), "version": number, "label": label }), || {
        format!("{name} version {number} ({label})")
    })?;
    Ok(Exit::Done)
}

/// Prints the value, or under `--json` the object.
pub(crate) fn print_value(app: &App, value: &SecretBytes, object: Value) -> Outcome {
    if app.ui.is_json() {
        app.ui.result(object, String::new)?;
        return Ok(Exit::Done);
    }
    // EXPOSE: stdout is what was asked for.
    app.ui.bytes(value.expose())?;
    // EXPOSE: looked at only. The next prompt of a shell begins on a line of its own; a program gets the value and nothing else.
    if std::io::stdout().is_terminal() && !value.expose().ends_with(b"\n") {
        app.ui.line("")?;
    }
    Ok(Exit::Done)
}

/// The fields that a value is in an object.
pub(crate) fn value_fields(value: &SecretBytes) -> Map<String, Value> {
    let mut fields = Map::new();
    // EXPOSE: `--reveal` was given.
    match value.expose_str() {
        Some(text) => fields.insert("value".into(), text.into()),
        None => fields.insert("value_base64".into(), values::base64(value.expose()).into()),
    };
    fields
}

fn info_object(info: &SecretInfo) -> Value {
    json!({
        "name": info.name.as_str(),
        "latest": info.latest,
        "current": info.labels.current,
        "pending": info.labels.pending,
        "previous": info.labels.previous,
        "created_at": when::show(info.created_at),
        "deleted_at": info.deleted_at.map(when::show),
        "owner": info.attributes.owner,
        "env": info.attributes.env,
        "notes": info.attributes.notes,
        "tags": info.attributes.tags,
    })
}

fn version_object(version: &VersionInfo) -> Value {
    json!({
        "version": version.number,
        "labels": version.labels.iter().map(|label| label.name()).collect::<Vec<_>>(),
        "kind": version.kind.name(),
        "state": state_name(version.state),
        "bytes": version.len,
        "created_at": when::show(version.created_at),
        "changed_at": version.changed_at.map(when::show),
        "expires_at": version.expires_at.map(when::show),
        "key_handle": version.commitment.as_ref().map(|commitment| commitment.handle().to_string()),
    })
}

fn version_words(version: &VersionInfo) -> String {
    let changed = version.changed_at.map_or_else(|| "unknown".to_owned(), when::show);
    let expires = version.expires_at.map(|at| format!(", expires {}", when::show(at))).unwrap_or_default();
    let handle = version
        .commitment
        .as_ref()
        .map(|commitment| format!(", handle {}", commitment.handle()))
        .unwrap_or_default();
    format!("version {}, {}, value of {changed}{expires}{handle}", version.number, version.kind.name())
}

fn label_words(version: &VersionInfo) -> String {
    version.labels.iter().map(|label| label.name()).collect::<Vec<_>>().join(",")
}

fn state_name(state: VersionState) -> &'static str {
    match state {
        VersionState::Live => "live",
        VersionState::Retired => "retired",
        VersionState::Destroyed => "destroyed",
    }
}

impl From<KindArg> for SecretKind {
    fn from(kind: KindArg) -> Self {
        match kind {
            KindArg::Password => Self::Password,
            KindArg::Key => Self::Key,
            KindArg::Token => Self::Token,
            KindArg::File => Self::File,
        }
    }
}

impl From<LabelArg> for Label {
    fn from(label: LabelArg) -> Self {
        match label {
            LabelArg::Current => Self::Current,
            LabelArg::Pending => Self::Pending,
            LabelArg::Previous => Self::Previous,
        }
    }
}

/// The variable that a secret stands in: its own, else its name in capitals.
pub(crate) fn variable(secret: &Secret) -> String {
    secret.env.clone().unwrap_or_else(|| values::variable_of(secret.name.as_str()))
}
