//! `init` and `key`: a vault, and the ways to open it.

use std::fs;
use std::time::Duration;

use reseal_crypto::kdf::KdfParams;
use reseal_crypto::random::OsRandom;
use reseal_crypto::slot::{Opener as VaultOpener, SlotKdf};
use reseal_crypto::{SecretBytes, Suite, text};
use reseal_vault::{CreateOptions, Created, NewSlot, RecoveryCode, SlotInfo, Thing, Vault, VaultError};
use serde_json::json;
use zeroize::Zeroizing;

use crate::app::App;
use crate::args::{InitArgs, KeyAddArgs, KeyCommand, KeyPasswdArgs};
use crate::exit::Exit;
use crate::failure::{Failure, Outcome};
use crate::input;
use crate::new_file::NewFile;
use crate::open::{make_parent, vault_opener};
use crate::ui::Table;
use crate::when;

/// How long a passphrase derivation should take.
const KDF_TARGET: Duration = Duration::from_millis(700);

/// A passphrase of fewer bytes is warned of.
const SHORT: usize = 12;

/// `init`: a new vault with one slot and a recovery code.
///
/// # Errors
///
/// The name is taken, or there is no passphrase.
pub(crate) fn init(app: &App, args: &InitArgs) -> Outcome {
    let recovery_code = !args.no_recovery_code;
    if app.ui.is_json() && recovery_code && args.recovery_code_file.is_none() {
        return Err(Failure::new(Exit::Usage, "a recovery code is not shown in JSON")
            .hint("give --recovery-code-file FILE or --no-recovery-code"));
    }
    if app.ui.is_json() && args.auditor_key_file.is_none() {
        return Err(Failure::new(Exit::Usage, "the auditor's key is not shown in JSON")
            .hint("give --auditor-key-file FILE"));
    }
    let path = app.vault_path()?;
    if path.symlink_metadata().is_ok() {
        // Before anybody is asked for anything.
        return Err(VaultError::Exists { what: Thing::File, name: path.display().to_string() }.into());
    }
    let opener = match app.global.opener()? {
        Some(named) => vault_opener(&named)?.opener,
        None => VaultOpener::Passphrase(input::passphrase(asked(
            app.asker().secret_twice(&format!("Passphrase of the new vault {}", path.display())),
            "give --passphrase-file, --passphrase-command, --passphrase-fd or --key-file",
        )?)?),
    };
    // EXPOSE: only its length is looked at.
    if let VaultOpener::Passphrase(passphrase) = &opener
        && passphrase.expose().len() < SHORT
    {
        app.ui.warn(format!(
            "a passphrase of fewer than {SHORT} characters is soon guessed by whoever has the file; `reseal key passwd` changes it"
        ));
    }
    make_parent(&path)?;
    // Code and key exist once, in this process: whatever may stand in the way of keeping them comes before the vault.
    let mut code_file = args.recovery_code_file.as_deref().map(NewFile::create).transpose()?;
    let mut auditor_file = args.auditor_key_file.as_deref().map(NewFile::create).transpose()?;
    let slot = NewSlot { name: slot_name(&opener).to_owned(), opener };
    let created = Vault::create(
        &path,
        CreateOptions {
            kdf: kdf_for(&slot.opener, args.kdf_memory)?,
            slots: vec![slot],
            recovery_code,
            suite: Suite::Xaes256Gcm,
            open: app.open_options()?,
        },
    )?;
    let written = keep_once(&created, code_file.as_mut(), auditor_file.as_mut());
    if let Err(failure) = written {
        // It holds nothing yet, and a vault whose recovery code nobody has looks like one that has it.
        fs::remove_file(created.vault.path())?;
        return Err(failure);
    }
    code_file.into_iter().chain(auditor_file).for_each(NewFile::keep);
    let shown = created.recovery_code.as_ref().filter(|_| args.recovery_code_file.is_none());
    let id = created.vault.id().to_string();
    app.ui.result(json!({ "vault": path, "vault_id": id, "recovery_code": recovery_code }), || {
        format!("vault  {}\nid     {id}\n", path.display())
    })?;
    if args.auditor_key_file.is_none() && !app.ui.is_json() {
        app.ui.note("\nThe auditor's key proves every entry of the audit log. It is shown once and belongs away from this machine:");
        app.ui.line(&*created.auditor_key.to_text())?;
    }
    show_recovery_code(app, shown)?;
    Ok(Exit::Done)
}

/// Writes down what exists once.
fn keep_once(
    created: &Created,
    code_file: Option<&mut NewFile>,
    auditor_file: Option<&mut NewFile>,
) -> Outcome<()> {
    if let Some(file) = auditor_file {
        file.write(created.auditor_key.to_text().as_bytes())?;
    }
    match (&created.recovery_code, code_file) {
        (Some(code), Some(file)) => file.write(code.to_text().as_bytes()),
        _ => Ok(()),
    }
}

/// `key`: the slots.
///
/// # Errors
///
/// The vault does not open, or a slot does not exist.
pub(crate) fn key(app: &App, command: KeyCommand) -> Outcome {
    match command {
        KeyCommand::List => list(app),
        KeyCommand::Add(args) => add(app, &args),
        KeyCommand::Remove { slot } => remove(app, &slot),
        KeyCommand::Passwd(args) => passwd(app, &args),
    }
}

fn list(app: &App) -> Outcome {
    let slots = app.vault()?.slots()?;
    let object = |slot: &SlotInfo| json!({ "name": slot.name, "kind": kind_name(slot), "created_at": when::show(slot.created_at) });
    app.ui.result(json!({ "slots": slots.iter().map(object).collect::<Vec<_>>() }), || {
        let mut table = Table::new(&["name", "opens with", "made"]);
        for slot in &slots {
            table.row([slot.name.clone(), cost(&slot.kdf), when::show(slot.created_at)]);
        }
        table.to_string()
    })?;
    Ok(Exit::Done)
}

/// The kind of a slot as `key add` calls it too.
fn kind_name(slot: &SlotInfo) -> String {
    slot.kdf.name().replace(' ', "-")
}

fn add(app: &App, args: &KeyAddArgs) -> Outcome {
    if app.ui.is_json() && args.recovery_code {
        return Err(Failure::new(Exit::Usage, "a recovery code is not shown in JSON"));
    }
    let mut vault = app.vault()?;
    let random = OsRandom;
    let mut shown = None;
    let mut key_file = None;
    let opener = if let Some(file) = &args.new_key_file {
        let key = reseal_crypto::secret::SubKey::generate(&random)
            .map_err(|error| Failure::from_error(Exit::Failed, &error))?;
        let mut file = NewFile::create(file)?;
        // EXPOSE: the file is what was asked for; removed again if the vault does not take the slot.
        file.write(Zeroizing::new(format!("{}\n", *text::encode_key(key.expose()))).as_bytes())?;
        key_file = Some(file);
        // EXPOSE: copied into a type that wipes itself.
        VaultOpener::KeyFile(SecretBytes::copy_from(key.expose()))
    } else if args.recovery_code {
        let code = RecoveryCode::generate(&random)?;
        let opener = code.opener();
        shown = Some(code);
        opener
    } else {
        new_passphrase(app, args.new_passphrase_file.as_deref())?
    };
    let name = args.name.clone().unwrap_or_else(|| slot_name(&opener).to_owned());
    vault.add_slot(&name, &opener, kdf_for(&opener, None)?)?;
    key_file.into_iter().for_each(NewFile::keep);
    app.ui
        .result(json!({ "slot": name, "kind": slot_name(&opener) }), || format!("key slot `{name}` added"))?;
    show_recovery_code(app, shown.as_ref())?;
    Ok(Exit::Done)
}

fn remove(app: &App, slot: &str) -> Outcome {
    let mut vault = app.vault()?;
    app.asker().confirm(&format!("remove key slot `{slot}`?"))?;
    vault.remove_slot(slot)?;
    app.ui.result(json!({ "slot": slot, "removed": true }), || format!("key slot `{slot}` removed"))?;
    app.ui.note("whoever opened the vault with it may have kept copies: change the values it protected");
    Ok(Exit::Done)
}

fn passwd(app: &App, args: &KeyPasswdArgs) -> Outcome {
    let mut vault = app.vault()?;
    let slot = passphrase_slot(&mut vault)?;
    let opener = new_passphrase(app, args.new_passphrase_file.as_deref())?;
    vault.change_slot(&slot, &opener, kdf_for(&opener, None)?)?;
    app.end_agent_or_warn(vault.id());
    app.ui.result(json!({ "slot": slot, "changed": true }), || {
        format!("passphrase of key slot `{slot}` changed")
    })?;
    app.ui.note("copies and backups of the vault still open with the old one");
    Ok(Exit::Done)
}

/// The slot whose passphrase changes: the one that opened the vault, or the only one with a passphrase.
fn passphrase_slot(vault: &mut Vault) -> Outcome<String> {
    let used = vault.slot_name().to_owned();
    let slots = vault.slots()?;
    let mut with_passphrase: Vec<_> = slots
        .into_iter()
        .filter(|slot| matches!(slot.kdf, SlotKdf::Passphrase(_)))
        .map(|slot| slot.name)
        .collect();
    with_passphrase.dedup();
    if with_passphrase.contains(&used) {
        return Ok(used);
    }
    match with_passphrase.as_slice() {
        [only] => Ok(only.clone()),
        [] => Err(Failure::new(Exit::NotFound, "no key slot of this vault has a passphrase")
            .hint("add one with `reseal key add`")),
        _ => Err(Failure::new(
            Exit::Refused,
            "several key slots have a passphrase, and none of them opened the vault",
        )
        .hint("open the vault with the passphrase that changes")),
    }
}

fn new_passphrase(app: &App, file: Option<&std::path::Path>) -> Outcome<VaultOpener> {
    let passphrase = match file {
        Some(file) => input::passphrase_from_file(file)?,
        None => input::passphrase(asked(
            app.asker().secret_twice("New passphrase"),
            "give --new-passphrase-file; `key add` also takes --new-key-file and --recovery-code",
        )?)?,
    };
    Ok(VaultOpener::Passphrase(passphrase))
}

/// What was answered, or what to give where nobody can be asked.
fn asked<T>(answer: Outcome<T>, instead: &str) -> Outcome<T> {
    answer.map_err(|failure| failure.hint(instead))
}

fn show_recovery_code(app: &App, code: Option<&RecoveryCode>) -> Outcome<()> {
    let Some(code) = code else { return Ok(()) };
    app.ui.note(
        "\nThis recovery code opens the vault when everything else is lost. It is shown once: write it down.",
    );
    app.ui.line(&*code.to_text())
}

fn kdf_for(opener: &VaultOpener, memory_mib: Option<u32>) -> Outcome<KdfParams> {
    let params = match (opener, memory_mib) {
        (VaultOpener::Passphrase(_), None) => KdfParams::calibrated(KDF_TARGET),
        (_, Some(mib)) => KdfParams::new(mib * 1024, KdfParams::PASSES_MIN, KdfParams::DEFAULT.lanes()),
        // Codes and key files hold 256 random bits: nothing is gained by a slow derivation.
        (_, None) => Ok(KdfParams::DEFAULT),
    };
    params.map_err(|error| Failure::from_error(Exit::Failed, &error))
}

fn slot_name(opener: &VaultOpener) -> &'static str {
    match opener {
        VaultOpener::Passphrase(_) => "passphrase",
        VaultOpener::RecoveryCode(_) => "recovery-code",
        VaultOpener::KeyFile(_) => "key-file",
    }
}

fn cost(kdf: &SlotKdf) -> String {
    match kdf {
        SlotKdf::Passphrase(params) => {
            format!("passphrase (Argon2id, {} MiB, {} passes)", params.memory_kib() / 1024, params.passes())
        }
        other => other.name().to_owned(),
    }
}
