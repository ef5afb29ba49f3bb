//! `env`: the editor of `.env` files.

use reseal_crypto::SecretBytes;
use reseal_env::{Agreement, Check, Checked, Edit, EditError, Links, Outcome as Edited, Target, add, edit};
use serde_json::{Value, json};

use super::secrets::{print_value, value_fields};
use crate::app::App;
use crate::args::{EnvCheckArgs, EnvCommand, EnvFileArgs, EnvGetArgs, EnvSetArgs, PartArgs};
use crate::exit::Exit;
use crate::failure::{Failure, Outcome};
use crate::input;
use crate::readers::Readers;

/// Runs one of them.
///
/// # Errors
///
/// Whatever it failed with.
pub(crate) fn run(app: &App, command: EnvCommand) -> Outcome {
    match command {
        EnvCommand::Get(args) => get(app, &args),
        EnvCommand::Set(args) => set(app, &args),
        EnvCommand::Check(args) => check(app, &args),
    }
}

/// A file that was read, and who reads it.
struct Opened {
    target: Target,
    readers: Readers,
}

impl Opened {
    fn of(app: &App, args: &EnvFileArgs) -> Outcome<Self> {
        let links = if args.follow_links { Links::Follow } else { Links::Refuse };
        let failed = |error| Failure::from(error).while_doing(format!("cannot open {}", args.file.display()));
        let target = Target::open(&args.file, links).map_err(failed)?;
        let readers = Readers::of(app, &args.file, target.bytes(), &args.readers)?;
        readers.tell(app);
        Ok(Self { target, readers })
    }

    fn edit(&self, variable: &str, part: &PartArgs) -> Edit {
        Edit { name: variable.to_owned(), place: part.place(), readers: self.readers.all.clone() }
    }

    /// What stands there now.
    fn value(&self, at: &Edit) -> Result<SecretBytes, EditError> {
        let value = reseal_env::get(self.target.bytes(), at)?;
        // EXPOSE: copied into the command's own type that wipes itself.
        Ok(SecretBytes::copy_from(value.expose()))
    }
}

fn get(app: &App, args: &EnvGetArgs) -> Outcome {
    let opened = Opened::of(app, &args.file)?;
    let value = opened.value(&opened.edit(&args.variable, &args.part))?;
    let mut object = json!({
        "file": args.file.file.display().to_string(),
        "variable": args.variable,
        "readers": opened.readers.names(),
    });
    if let (true, Value::Object(object)) = (args.reveal, &mut object) {
        object.extend(value_fields(&value));
    }
    print_value(app, &value, object)
}

fn set(app: &App, args: &EnvSetArgs) -> Outcome {
    input::check_value_args(&args.value, None)?;
    let opened = Opened::of(app, &args.file)?;
    let wanted = opened.edit(&args.variable, &args.part);
    let value = input::read_value(&args.value, app.asker(), &args.variable)?;
    // EXPOSE: put into the file, which is what was asked for.
    let exposed = value.expose();
    let (outcome, is_added) = match edit(opened.target.bytes(), &wanted, exposed) {
        Err(EditError::NoVariable(_)) if args.add => (add(opened.target.bytes(), &wanted, exposed)?, true),
        other => (other?, false),
    };
    let done = match outcome {
        Edited::Changed(new) => {
            if !args.dry_run {
                // EXPOSE: the file itself.
                opened.target.replace(new.expose())?;
            }
            if is_added { "added" } else { "changed" }
        }
        Edited::Unchanged => "unchanged",
        Edited::Interpolated(from) => {
            check_source(&opened, &from, &value, &args.variable)?;
            "unchanged"
        }
        _ => return Err(Failure::new(Exit::Failed, "the edit came to nothing that this version knows")),
    };
    let file = args.file.file.display();
    let object = json!({
        "file": file.to_string(),
        "variable": args.variable,
        "readers": opened.readers.names(),
        "outcome": done,
        "dry_run": args.dry_run,
    });
    let would = if args.dry_run && done != "unchanged" { "would be " } else { "" };
    app.ui.result(object, || format!("{} {would}{done} in {file}", args.variable))?;
    Ok(Exit::Done)
}

/// The place is a reference: there is nothing to write, as long as what it refers to has the value.
fn check_source(opened: &Opened, from: &str, value: &SecretBytes, variable: &str) -> Outcome<()> {
    let source = opened.edit(from, &PartArgs::default());
    if opened.value(&source)? == *value {
        return Ok(());
    }
    Err(Failure::new(Exit::Refused, format!("{variable} takes this part from {from}"))
        .hint(format!("set {from}: {variable} follows")))
}

fn check(app: &App, args: &EnvCheckArgs) -> Outcome {
    let opened = Opened::of(app, &args.file)?;
    if let Some(variable) = &args.variable
        && args.value.is_given()
    {
        return check_value(app, args, &opened, variable);
    }
    let mut found = reseal_env::check(opened.target.bytes(), &opened.readers.all);
    if let Some(variable) = &args.variable {
        found.variables.retain(|checked| checked.name == *variable);
        if found.variables.is_empty() && found.unreadable.is_empty() {
            return Err(EditError::NoVariable(variable.clone()).into());
        }
    }
    let object = json!({
        "file": args.file.file.display().to_string(),
        "readers": opened.readers.names(),
        "agreed": found.is_agreed(),
        "unreadable": found.unreadable.iter().map(|(reader, error)| {
            json!({ "reader": reader.name(), "line": error.line, "reason": error.reason })
        }).collect::<Vec<_>>(),
        "variables": found.variables.iter().map(|checked| json!({
            "name": checked.name,
            "lines": checked.lines,
            "agreed": checked.agreement == Agreement::Agreed,
            "reason": reason(checked.agreement),
        })).collect::<Vec<_>>(),
    });
    app.ui.result(object, || words(&found))?;
    Ok(if found.is_agreed() { Exit::Done } else { Exit::NeedsAttention })
}

fn check_value(app: &App, args: &EnvCheckArgs, opened: &Opened, variable: &str) -> Outcome {
    input::check_value_args(&args.value, None)?;
    let expected = input::read_value(&args.value, app.asker(), variable)?;
    let holds = opened.value(&opened.edit(variable, &args.part))? == expected;
    let file = args.file.file.display();
    let object = json!({
        "file": file.to_string(),
        "variable": variable,
        "readers": opened.readers.names(),
        "holds": holds,
    });
    let has = if holds { "has" } else { "does not have" };
    app.ui.result(object, || format!("{variable} in {file} {has} this value"))?;
    Ok(if holds { Exit::Done } else { Exit::NotHeld })
}

fn words(found: &Check) -> String {
    let unreadable =
        found.unreadable.iter().map(|(reader, error)| format!("{reader} does not read it: {error}"));
    let differ = |checked: &&Checked| checked.agreement != Agreement::Agreed;
    let differing = found.variables.iter().filter(differ);
    let differing = differing
        .map(|checked| format!("{}: {}", checked.name, reason(checked.agreement).unwrap_or_default()));
    let twice = found.variables.iter().filter(|checked| checked.lines > 1);
    let twice = twice.map(|checked| format!("{}: set on {} lines", checked.name, checked.lines));
    let lines: Vec<_> = unreadable.chain(differing).chain(twice).collect();
    match (found.is_agreed(), lines.is_empty()) {
        (true, true) => format!("{} variables, read alike", found.variables.len()),
        (true, false) => format!("{}\n{} variables, read alike", lines.join("\n"), found.variables.len()),
        (false, _) => lines.join("\n"),
    }
}

fn reason(agreement: Agreement) -> Option<String> {
    match agreement {
        Agreement::Agreed => None,
        Agreement::Differs(one, other) => Some(format!("{one} and {other} read different values")),
        Agreement::NotSeen(reader) => Some(format!("{reader} does not see it")),
        Agreement::Outside(reader) => Some(format!("to {reader} it depends on what is not in the file")),
        _ => Some("the readers do not agree".to_owned()),
    }
}
