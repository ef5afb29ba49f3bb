//! What runs by itself, and when.

use std::env;
use std::fs;
use std::path::PathBuf;

use reseal_crypto::hash::sha256;
use reseal_rotate::plan::{Plan, Recurrence};

use crate::app::App;
use crate::exit::Exit;
use crate::failure::{Failure, Outcome};

/// When people are told, where the plan does not say.
const STATUS_AT: &str = "07:00";
/// When due secrets are rotated, where the plan does not say.
const ROTATE_AT: &str = "02:30";

/// Something that runs every day, or every week.
#[derive(Debug)]
pub(super) struct Job {
    /// `status` or `rotate`.
    pub(super) what: &'static str,
    /// In words.
    pub(super) words: &'static str,
    pub(super) at: Recurrence,
    /// The commands, one after the other; all of them run whatever becomes of the first.
    pub(super) commands: Vec<Vec<&'static str>>,
}

/// What is installed for one plan.
#[derive(Debug)]
pub(super) struct Schedule {
    /// What its units, its lines and its key slot are called.
    pub(super) name: String,
    /// The plan file, without links.
    pub(super) plan: PathBuf,
    /// Its directory.
    pub(super) directory: PathBuf,
    /// The zone of its times; the system's without it.
    pub(super) zone: Option<String>,
    /// What every command begins with, but for the key file.
    program: Vec<String>,
    pub(super) jobs: Vec<Job>,
}

impl Schedule {
    /// What the plan asks for; `rotates` asks for rotations where it does not.
    ///
    /// # Errors
    ///
    /// The plan, or this program, cannot be found by an absolute path.
    pub(super) fn of(app: &App, plan: &Plan, rotates: bool) -> Outcome<Self> {
        let path = fs::canonicalize(&plan.path)?;
        let directory = path.parent().map(PathBuf::from).unwrap_or_default();
        let asked = plan.file.schedule.as_ref();
        let time = |asked: Option<Recurrence>, usual: &str| match asked {
            Some(at) => Ok(at),
            None => usual.parse().map_err(|error| Failure::new(Exit::Usage, format!("{error}"))),
        };
        let status = asked.and_then(|schedule| schedule.status);
        let mut jobs = vec![Job {
            what: "status",
            words: "tell how secrets stand",
            at: time(status, STATUS_AT)?,
            commands: vec![match &plan.file.notify {
                Some(_) => vec!["status", "--notify"],
                None => vec!["status"],
            }],
        }];
        let rotate = asked.and_then(|schedule| schedule.rotate);
        if rotates || rotate.is_some() {
            jobs.push(Job {
                what: "rotate",
                words: "rotate what is due, and end old values",
                at: time(rotate, ROTATE_AT)?,
                commands: vec![vec!["rotate", "retire"], vec!["rotate", "--due"]],
            });
        }
        let mut program = vec![text(&env::current_exe()?)?, "--config".into(), text(&path)?];
        // What runs by itself has other surroundings: what they say now is written down.
        program.extend(["--vault".into(), text(&std::path::absolute(app.vault_path()?)?)?]);
        program.push("--no-input".into());
        let zone = plan.file.timezone.as_ref().and_then(|zone| zone.get().iana_name()).map(str::to_owned);
        Ok(Self { name: name(plan, &path), plan: path, directory, zone, program, jobs })
    }

    /// The commands of a job, opened with this key file.
    pub(super) fn commands(&self, job: &Job, key_file: &str) -> Vec<Vec<String>> {
        let with_key = |command: &Vec<&str>| {
            let mut argv = self.program.clone();
            argv.extend(["--key-file".to_owned(), key_file.to_owned()]);
            argv.extend(command.iter().map(|word| (*word).to_owned()));
            argv
        };
        job.commands.iter().map(with_key).collect()
    }
}

/// What the commands of a schedule find things by.
pub(super) fn environment() -> impl Iterator<Item = (&'static str, String)> {
    let names = ["HOME", "PATH", "XDG_DATA_HOME", "XDG_STATE_HOME"];
    names.into_iter().filter_map(|name| Some((name, env::var(name).ok()?)))
}

/// Readable, and another for every plan file: `reseal-crm-3f9a1c`.
fn name(plan: &Plan, path: &std::path::Path) -> String {
    let directory = path.parent().and_then(|parent| parent.file_name()).map(|name| name.to_string_lossy());
    let readable = match plan.file.prefix.trim_matches('/') {
        "" => directory.unwrap_or_default().into_owned(),
        prefix => prefix.to_owned(),
    };
    let plain = |c: char| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '-' };
    let readable: String = readable.chars().map(plain).take(30).collect();
    let digest = sha256(path.as_os_str().as_encoded_bytes());
    let digest: String = digest[..3].iter().map(|byte| format!("{byte:02x}")).collect();
    format!("reseal-{}-{digest}", readable.trim_matches('-'))
}

fn text(path: &std::path::Path) -> Outcome<String> {
    let text = path.to_str().filter(|text| !text.contains(['\n', '\r']));
    text.map(str::to_owned)
        .ok_or_else(|| Failure::new(Exit::Usage, format!("{} cannot stand in a timer", path.display())))
}
