//! `snapshot`: whole files and streams in the vault.

use std::io;
use std::path::{Path, PathBuf};

use reseal_vault::{Event, SnapshotInfo, Vault};
use serde_json::{Value, json};

use super::{difference, restore};
use crate::app::App;
use crate::args::{SnapshotAddArgs, SnapshotArg, SnapshotCatArgs, SnapshotCommand};
use crate::exit::Exit;
use crate::failure::{Failure, Outcome};
use crate::input;
use crate::new_file::NewFile;
use crate::ui::Table;
use crate::units::size;
use crate::when;
use crate::whole_file::WholeFile;

/// Runs one of them.
///
/// # Errors
///
/// Whatever it failed with.
pub(crate) fn run(app: &App, command: &SnapshotCommand) -> Outcome {
    match command {
        SnapshotCommand::Add(args) => add(app, args),
        SnapshotCommand::List => list(app),
        SnapshotCommand::Show(args) => show(app, args),
        SnapshotCommand::Cat(args) => cat(app, args),
        SnapshotCommand::Diff(args) => difference::run(app, args),
        SnapshotCommand::Restore(args) => restore::run(app, args),
        SnapshotCommand::Remove(args) => remove(app, args),
    }
}

fn add(app: &App, args: &SnapshotAddArgs) -> Outcome {
    let is_stream = args.sources.last().is_some_and(|last| last == Path::new("-"));
    let added = if is_stream { vec![add_stream(app, args)?] } else { add_files(app, args)? };
    let objects: Vec<_> = added.iter().map(object).collect();
    app.ui.result(json!({ "snapshots": objects, "deleted_source": args.delete_source }), || {
        let removed = if args.delete_source { "; the file is removed" } else { "" };
        let words = |info: &SnapshotInfo| format!("{} {} ({}){removed}", info.id, info.name, size(info.len));
        added.iter().map(words).collect::<Vec<_>>().join("\n")
    })?;
    Ok(Exit::Done)
}

fn add_stream(app: &App, args: &SnapshotAddArgs) -> Outcome<SnapshotInfo> {
    let usage = |words| Err(Failure::new(Exit::Usage, words));
    if args.leftovers || args.delete_source {
        return usage("stdin has no file to look for or to remove");
    }
    let name = match (&args.sources[..], &args.name) {
        ([name, _], None) => name.to_string_lossy().into_owned(),
        ([_], Some(name)) => name.clone(),
        _ => return usage("what comes on stdin needs one name: `reseal snapshot add NAME -`"),
    };
    input::check_stdin_free(app.global.opener()?.as_ref())?;
    Ok(app.vault()?.snapshot_add(&name, None, &mut io::stdin().lock())?)
}

fn add_files(app: &App, args: &SnapshotAddArgs) -> Outcome<Vec<SnapshotInfo>> {
    let mut paths = args.sources.clone();
    if args.leftovers {
        paths.extend(leftovers(app)?);
    }
    if args.name.is_some() && paths.len() != 1 {
        return Err(Failure::new(Exit::Usage, "one name is for one file"));
    }
    // All of them are looked at before the first is kept or removed.
    let files = paths.iter().map(|path| WholeFile::open(path)).collect::<Outcome<Vec<_>>>()?;
    if args.delete_source {
        files.iter().try_for_each(WholeFile::check_only_name)?;
    }
    let mut vault = app.vault()?;
    files.into_iter().map(|file| keep(&mut vault, file, args)).collect()
}

fn keep(vault: &mut Vault, mut file: WholeFile, args: &SnapshotAddArgs) -> Outcome<SnapshotInfo> {
    let origin = file.origin()?;
    let name = args.name.clone().unwrap_or_else(|| origin.path.clone());
    let info = vault.snapshot_add(&name, Some(origin), file.content()?)?;
    if args.delete_source {
        if !vault.snapshot_is(info.id, file.content()?)? {
            return Err(Failure::new(
                Exit::Conflict,
                format!("{} changed while it was read", file.path().display()),
            )
            .hint("it is left as it is: repeat the command when nothing writes to it"));
        }
        remove_kept(vault, file, &format!("kept as snapshot {}", info.id))?;
    }
    Ok(info)
}

/// Removes a file whose content the vault has given back, with intent and result in the log.
///
/// # Errors
///
/// The file is no longer what was read, or cannot be removed.
pub(crate) fn remove_kept(vault: &mut Vault, file: WholeFile, why: &str) -> Outcome<()> {
    let path = file.path().display().to_string();
    vault.record_event(Event::intent("remove file").of(&path).detail(why))?;
    let removed = file.remove();
    let outcome = match &removed {
        Ok(()) => Event::done("remove file"),
        Err(_) => Event { outcome: reseal_vault::Outcome::Failed, ..Event::done("remove file") },
    };
    let logged = vault.record_event(outcome.of(&path));
    removed.map_err(|failure| failure.while_doing(format!("cannot remove {path}")))?;
    logged?;
    Ok(())
}

/// The files that match the patterns of the plan, beside it.
fn leftovers(app: &App) -> Outcome<Vec<PathBuf>> {
    let plan = app.needed_plan()?;
    let beside = plan.path.parent().unwrap_or(Path::new(""));
    let mut found = Vec::new();
    for pattern in &plan.file.leftovers {
        let pattern = beside.join(pattern);
        let (Some(folder), Some(wanted)) = (pattern.parent(), pattern.file_name()) else { continue };
        let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
        let Ok(entries) = folder.read_dir() else { continue };
        for entry in entries {
            let entry = entry?;
            if matches(&wanted.to_string_lossy(), &entry.file_name().to_string_lossy()) {
                found.push(folder.join(entry.file_name()));
            }
        }
    }
    found.sort();
    found.dedup();
    if found.is_empty() {
        app.ui.note("no file matches `leftovers` of the plan: nothing is lying around");
    }
    Ok(found)
}

/// Whether a name is what a pattern says, in which `*` stands for any characters.
fn matches(pattern: &str, name: &str) -> bool {
    let Some((start, rest)) = pattern.split_once('*') else { return pattern == name };
    let Some(name) = name.strip_prefix(start) else { return false };
    (0..=name.len()).filter(|&at| name.is_char_boundary(at)).any(|at| matches(rest, &name[at..]))
}

fn list(app: &App) -> Outcome {
    let snapshots = app.vault()?.snapshots()?;
    app.ui.result(json!({ "snapshots": snapshots.iter().map(object).collect::<Vec<_>>() }), || {
        let mut table = Table::new(&["id", "taken", "size", "name", "state"]);
        for info in &snapshots {
            let state = if info.complete { "" } else { "incomplete" };
            let taken = when::show(info.created_at);
            table.row([info.id.to_string(), taken, size(info.len), info.name.clone(), state.to_owned()]);
        }
        table.to_string()
    })?;
    Ok(Exit::Done)
}

fn show(app: &App, args: &SnapshotArg) -> Outcome {
    let info = app.vault()?.snapshot(&args.snapshot)?;
    app.ui.result(object(&info), || {
        let mut lines = vec![
            format!("id        {}", info.id),
            format!("name      {}", info.name),
            format!("taken     {}", when::show(info.created_at)),
            format!("bytes     {}", info.len),
        ];
        if let Some(origin) = &info.origin {
            lines.push(format!("path      {}", origin.path));
            lines.push(format!("mode      {:04o}", origin.mode));
            lines.push(format!("owner     {}:{}", origin.user, origin.group));
            lines.push(format!("written   {}", when::show(origin.modified)));
        }
        if !info.complete {
            lines.push("state     incomplete: its taking was interrupted, or goes on".to_owned());
        }
        lines.join("\n")
    })?;
    Ok(Exit::Done)
}

fn cat(app: &App, args: &SnapshotCatArgs) -> Outcome {
    let mut vault = app.vault()?;
    let info = vault.snapshot(&args.which.snapshot)?;
    let event = Event::done("snapshot cat");
    let Some(path) = &args.output else {
        if app.ui.is_json() {
            return Err(Failure::new(Exit::Usage, "the content of a snapshot is no JSON")
                .hint("leave --json out, or name a file with --output"));
        }
        let mut out = io::stdout().lock();
        return match vault.snapshot_read(info.id, event, &mut out) {
            // A reader that had enough is no failure.
            Err(reseal_vault::VaultError::Io { source, .. })
                if source.kind() == io::ErrorKind::BrokenPipe =>
            {
                Ok(Exit::Done)
            }
            other => Ok(other.map(|()| Exit::Done)?),
        };
    };
    let mut file = NewFile::create(path)?;
    vault.snapshot_read(info.id, event, file.content())?;
    file.sync()?;
    file.keep();
    let mut found = object(&info);
    found["output"] = path.display().to_string().into();
    app.ui.result(found, || format!("written to {}", path.display()))?;
    Ok(Exit::Done)
}

fn remove(app: &App, args: &SnapshotArg) -> Outcome {
    let mut vault = app.vault()?;
    let info = vault.snapshot(&args.snapshot)?;
    let taken = when::show(info.created_at);
    let question = format!("remove the snapshot {} of {}, taken {taken}, for good?", info.id, info.name);
    app.asker().confirm(&question)?;
    vault.snapshot_remove(info.id)?;
    app.ui.result(json!({ "removed": info.id.to_string() }), || format!("{} is removed", info.id))?;
    Ok(Exit::Done)
}

/// What is known about a snapshot.
pub(crate) fn object(info: &SnapshotInfo) -> Value {
    let origin = info.origin.as_ref();
    json!({
        "id": info.id.to_string(),
        "name": info.name,
        "bytes": info.len,
        "created_at": when::show(info.created_at),
        "complete": info.complete,
        "path": origin.map(|origin| &origin.path),
        "mode": origin.map(|origin| format!("{:04o}", origin.mode)),
        "user": origin.map(|origin| origin.user),
        "group": origin.map(|origin| origin.group),
        "modified_at": origin.map(|origin| when::show(origin.modified)),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_of_leftovers() {
        for (pattern, name, expected) in [
            (".env.backup.*", ".env.backup.1", true),
            (".env.backup.*", ".env.backup.", true),
            (".env.backup.*", ".env.backup", false),
            (".env.backup.*", "x.env.backup.1", false),
            ("*-backup-*", "a-backup-b", true),
            ("backup.sql", "backup.sql", true),
            ("backup.sql", "backup.sql.gz", false),
            ("*", "ä", true),
        ] {
            assert_eq!(matches(pattern, name), expected, "{pattern} {name}");
        }
    }
}
