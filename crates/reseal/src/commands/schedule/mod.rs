//! `schedule`: lets the system run reseal every day.

mod cron;
mod jobs;
mod systemd;

use std::fs;
use std::path::PathBuf;

use reseal_crypto::kdf::KdfParams;
use reseal_crypto::random::OsRandom;
use reseal_crypto::secret::SubKey;
use reseal_crypto::slot::Opener;
use reseal_crypto::{SecretBytes, text};
use reseal_rotate::plan::Plan;
use reseal_rotate::process::Runner;
use reseal_rotate::scrub::Known;
use reseal_vault::Vault;
use serde_json::json;
use zeroize::Zeroizing;

use crate::app::{App, user_directory};
use crate::args::{ScheduleCommand, ScheduleInstallArgs, ScheduleWhereArgs};
use crate::exit::Exit;
use crate::failure::{Failure, Outcome};
use crate::new_file::NewFile;
use crate::open::make_parent;

use jobs::Schedule;
use systemd::{KeyAt, Systemd};

/// `schedule`.
///
/// # Errors
///
/// There is no plan, or the system does not take or let go of the schedule.
pub(crate) fn run(app: &App, command: &ScheduleCommand) -> Outcome {
    let plan = app.needed_plan()?;
    app.runtime()?.block_on(async {
        match command {
            ScheduleCommand::Install(args) if args.dry_run => dry_run(app, &plan, args),
            ScheduleCommand::Install(args) => install(app, &plan, args).await,
            ScheduleCommand::Show(args) => show(app, &plan, args).await,
            ScheduleCommand::Remove(args) => remove(app, &plan, args).await,
        }
    })
}

fn dry_run(app: &App, plan: &Plan, args: &ScheduleInstallArgs) -> Outcome {
    let schedule = Schedule::of(app, plan, args.rotate)?;
    let files = if args.cron {
        vec![("crontab".to_owned(), cron::lines(&schedule, &key_path(&schedule)?.display().to_string()))]
    } else {
        let systemd = Systemd::of(args.place.user)?;
        let key = KeyAt::Credential(systemd.credential(&schedule));
        let files = systemd.files(&schedule, &key).into_iter();
        files.map(|(path, text)| (path.display().to_string(), text)).collect()
    };
    let objects: Vec<_> = files.iter().map(|(path, text)| json!({ "file": path, "text": text })).collect();
    app.ui.result(json!({ "name": schedule.name, "slot": schedule.name, "files": objects }), || {
        let told = files.iter().map(|(path, text)| format!("--- {path}\n{text}"));
        told.collect::<Vec<_>>().join("\n")
    })?;
    app.ui.note(format!("nothing is installed; the vault would get the key slot `{}`", schedule.name));
    Ok(Exit::Done)
}

async fn install(app: &App, plan: &Plan, args: &ScheduleInstallArgs) -> Outcome {
    let schedule = Schedule::of(app, plan, args.rotate)?;
    let systemd = Systemd::of(args.place.user)?;
    let key = SubKey::generate(&OsRandom).map_err(|error| Failure::from_error(Exit::Failed, &error))?;
    // EXPOSE: the text form goes to the credential or the file, the bytes to the key slot.
    let key_text = Zeroizing::new(format!("{}\n", *text::encode_key(key.expose())));
    let key_text = SecretBytes::copy_from(key_text.as_bytes());
    let runner = runner(plan, &key_text);
    if !args.cron && !systemd.is_running(&runner).await {
        return Err(Failure::new(Exit::Refused, "systemd does not run here")
            .hint("give --cron for lines in the crontab, or --dry-run to see the units"));
    }
    let mut vault = app.vault()?;
    let credential = match args.cron {
        true => None,
        false => systemd.encrypt(&runner, &schedule, key_text.clone()).await?,
    };
    let key_at = match credential {
        Some(path) => KeyAt::Credential(path),
        None => KeyAt::File(store_key(&schedule, &key_text)?),
    };
    // EXPOSE: copied into a type that wipes itself.
    take_slot(&mut vault, &schedule.name, &Opener::KeyFile(SecretBytes::copy_from(key.expose())))?;
    match (&key_at, args.cron) {
        (KeyAt::File(path), true) => cron::install(&runner, &schedule, path).await?,
        _ => systemd.install(&runner, &schedule, &key_at).await?,
    }
    let (kept, path) = match &key_at {
        KeyAt::Credential(path) => ("an encrypted credential", path.display().to_string()),
        KeyAt::File(path) => ("a file that only this user can read", path.clone()),
    };
    let jobs: Vec<_> =
        schedule.jobs.iter().map(|job| json!({ "job": job.what, "at": job.at.to_string() })).collect();
    app.ui.result(json!({ "name": schedule.name, "key": path, "cron": args.cron, "jobs": jobs }), || {
        let jobs = schedule.jobs.iter().map(|job| format!("{}: {}\n", job.at, job.words));
        jobs.chain([format!("key slot `{}`, in {kept}: {path}\n", schedule.name)]).collect()
    })?;
    if args.cron && schedule.zone.is_some() {
        app.ui.note("cron runs by the clock of the system, not by `timezone` of the plan");
    }
    if schedule.jobs.len() == 1 {
        app.ui.note(
            "nothing is rotated by itself: --rotate, or `rotate = \"02:30\"` in [schedule], asks for that",
        );
    }
    Ok(Exit::Done)
}

async fn show(app: &App, plan: &Plan, args: &ScheduleWhereArgs) -> Outcome {
    let schedule = Schedule::of(app, plan, false)?;
    let runner = runner(plan, &SecretBytes::default());
    let lines = cron::installed(&runner, &schedule).await;
    let timers = Systemd::of(args.user)?.installed(&schedule);
    let timers: Vec<_> = timers.iter().map(|timer| timer.display().to_string()).collect();
    app.ui.result(json!({ "name": schedule.name, "timers": timers, "crontab": lines }), || {
        if timers.is_empty() && lines.is_empty() {
            return "nothing is installed for this plan\n".to_owned();
        }
        let all = timers.iter().chain(&lines);
        all.map(|line| format!("{line}\n")).collect()
    })?;
    Ok(Exit::Done)
}

async fn remove(app: &App, plan: &Plan, args: &ScheduleWhereArgs) -> Outcome {
    let schedule = Schedule::of(app, plan, false)?;
    let runner = runner(plan, &SecretBytes::default());
    let had_lines = cron::remove(&runner, &schedule).await?;
    let had_timers = Systemd::of(args.user)?.remove(&runner, &schedule).await?;
    let key = key_path(&schedule)?;
    let had_key = fs::remove_file(&key).is_ok();
    let mut vault = app.vault()?;
    let had_slot = vault.slots()?.iter().any(|slot| slot.name == schedule.name);
    if had_slot {
        vault.remove_slot(&schedule.name)?;
    }
    let removed = had_lines || had_timers || had_key || had_slot;
    app.ui.result(json!({ "name": schedule.name, "removed": removed, "slot_removed": had_slot }), || {
        match removed {
            true => "the schedule of this plan and its key are removed\n".to_owned(),
            false => "nothing was installed for this plan\n".to_owned(),
        }
    })?;
    Ok(Exit::Done)
}

/// Programs that install and remove; none of them is told the key in words.
fn runner(plan: &Plan, key: &SecretBytes) -> Runner {
    Runner::new(plan.directory(), std::env::vars_os(), Known::new([key]))
}

fn key_path(schedule: &Schedule) -> Outcome<PathBuf> {
    Ok(user_directory("XDG_DATA_HOME", ".local/share")?.join(format!("{}.key", schedule.name)))
}

/// Stores the key as a file of this user, in the place of an earlier one.
fn store_key(schedule: &Schedule, key: &SecretBytes) -> Outcome<String> {
    let path = key_path(schedule)?;
    make_parent(&path)?;
    let draft = path.with_extension("new");
    // What an interrupted installation left is of no use to anyone.
    let _ = fs::remove_file(&draft);
    let mut file = NewFile::create(&draft)?;
    // EXPOSE: the file is what the key is for.
    file.write(key.expose())?;
    file.rename(&path, true)?;
    Ok(path.display().to_string())
}

/// The slot opens with the new key from now on, and with no earlier one.
fn take_slot(vault: &mut Vault, name: &str, opener: &Opener) -> Outcome<()> {
    if vault.slots()?.iter().any(|slot| slot.name == name) {
        vault.change_slot(name, opener, KdfParams::DEFAULT)?;
    } else {
        vault.add_slot(name, opener, KdfParams::DEFAULT)?;
    }
    Ok(())
}
