//! Timers of systemd: a service and a timer for each job, and the key as an encrypted credential.

use std::fs;
use std::path::{Path, PathBuf};

use reseal_crypto::SecretBytes;
use reseal_rotate::process::{Call, Finished, Runner};

use super::jobs::{Job, Schedule, environment};
use crate::app::user_directory;
use crate::exit::Exit;
use crate::failure::{Failure, Outcome};
use crate::new_file::NewFile;
use crate::open::make_parent;

/// Where units and credentials stand.
#[derive(Debug)]
pub(super) struct Systemd {
    is_user: bool,
    units: PathBuf,
    credentials: PathBuf,
}

/// Where a service finds its key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum KeyAt {
    /// In a credential that only this machine can decrypt.
    Credential(PathBuf),
    /// In a file.
    File(String),
}

impl Systemd {
    /// The system's where root asks for it, else that of this user.
    ///
    /// # Errors
    ///
    /// The user has no home.
    pub(super) fn of(is_user: bool) -> Outcome<Self> {
        if !is_user && rustix::process::geteuid().is_root() {
            return Ok(Self {
                is_user: false,
                units: "/etc/systemd/system".into(),
                credentials: "/etc/credstore.encrypted".into(),
            });
        }
        let configuration = user_directory("XDG_CONFIG_HOME", ".config")?;
        let configuration = configuration.parent().map(Path::to_owned).unwrap_or_default();
        Ok(Self {
            is_user: true,
            units: configuration.join("systemd/user"),
            credentials: configuration.join("credstore.encrypted"),
        })
    }

    /// Whether it runs here.
    pub(super) async fn is_running(&self, runner: &Runner) -> bool {
        let asked = runner.run(&self.systemctl(&["is-system-running"])).await;
        // EXPOSE: one word of systemd.
        asked.is_ok_and(|asked| {
            let state = asked.stdout.expose_str().unwrap_or_default().trim().to_owned();
            ["initializing", "starting", "running", "degraded", "maintenance"].contains(&state.as_str())
        })
    }

    /// Where the credential of a schedule would stand.
    pub(super) fn credential(&self, schedule: &Schedule) -> PathBuf {
        self.credentials.join(&schedule.name)
    }

    /// Encrypts the key as a credential for services of this name; `None` where systemd cannot.
    ///
    /// # Errors
    ///
    /// The directory cannot be made.
    pub(super) async fn encrypt(
        &self,
        runner: &Runner,
        schedule: &Schedule,
        key: SecretBytes,
    ) -> Outcome<Option<PathBuf>> {
        let path = self.credential(schedule);
        make_parent(&path)?;
        let mut argv =
            vec!["systemd-creds".to_owned(), "encrypt".into(), format!("--name={}", schedule.name)];
        argv.extend(self.is_user.then(|| "--user".to_owned()));
        argv.extend(["-".to_owned(), path.display().to_string()]);
        let encrypted = runner.run(&Call::new(argv).stdin(key)).await;
        Ok(encrypted.is_ok_and(|encrypted| encrypted.success()).then_some(path))
    }

    /// The files of a schedule: path and text.
    pub(super) fn files(&self, schedule: &Schedule, key: &KeyAt) -> Vec<(PathBuf, String)> {
        let mut files = Vec::new();
        for job in &schedule.jobs {
            let unit = self.units.join(unit(schedule, job.what));
            files.push((unit.with_extension("service"), service(schedule, job, key)));
            files.push((unit.with_extension("timer"), timer(schedule, job)));
        }
        files
    }

    /// Writes the units and starts the timers; those of another installation of the schedule go first.
    ///
    /// # Errors
    ///
    /// The units cannot be written, or systemd does not take them.
    pub(super) async fn install(&self, runner: &Runner, schedule: &Schedule, key: &KeyAt) -> Outcome<()> {
        self.remove_units(runner, schedule).await?;
        for (path, text) in self.files(schedule, key) {
            fs::create_dir_all(&self.units)?;
            let draft = path.with_extension("reseal-new");
            let mut file = NewFile::create(&draft)?;
            file.write(text.as_bytes())?;
            file.rename(&path, true)?;
        }
        self.must(runner, &["daemon-reload"]).await?;
        for job in &schedule.jobs {
            let timer = format!("{}.timer", unit(schedule, job.what));
            self.must(runner, &["enable", "--now", &timer]).await?;
        }
        Ok(())
    }

    /// The timers that are installed.
    pub(super) fn installed(&self, schedule: &Schedule) -> Vec<PathBuf> {
        let timer = |what: &str| self.units.join(unit(schedule, what)).with_extension("timer");
        ["status", "rotate"].into_iter().map(timer).filter(|timer| timer.exists()).collect()
    }

    /// Stops the timers and takes units and credential away; says whether there were any.
    ///
    /// # Errors
    ///
    /// Systemd or the file system does not let go of them.
    pub(super) async fn remove(&self, runner: &Runner, schedule: &Schedule) -> Outcome<bool> {
        let was_there = self.remove_units(runner, schedule).await?;
        let had_credential = removed(&self.credential(schedule))?;
        Ok(was_there || had_credential)
    }

    async fn remove_units(&self, runner: &Runner, schedule: &Schedule) -> Outcome<bool> {
        let timers = self.installed(schedule);
        for timer in &timers {
            let name = timer.file_name().unwrap_or_default().to_string_lossy().into_owned();
            self.must(runner, &["disable", "--now", &name]).await?;
            removed(timer)?;
            removed(&timer.with_extension("service"))?;
        }
        if !timers.is_empty() {
            self.must(runner, &["daemon-reload"]).await?;
        }
        Ok(!timers.is_empty())
    }

    async fn must(&self, runner: &Runner, arguments: &[&str]) -> Outcome<()> {
        let doing = format!("systemctl {}", arguments.join(" "));
        let Finished { status, stderr, .. } = runner
            .run(&self.systemctl(arguments))
            .await
            .map_err(|error| Failure::from_error(Exit::Failed, &error))?;
        if status.success() {
            return Ok(());
        }
        // EXPOSE: complaints, scrubbed.
        let said = runner.known().last_lines(stderr.expose(), 5);
        Err(Failure::new(Exit::Failed, format!("`{doing}` ended with {status}")).because(said))
    }

    fn systemctl(&self, arguments: &[&str]) -> Call {
        let user = self.is_user.then_some("--user");
        Call::new(["systemctl"].into_iter().chain(user).chain(arguments.iter().copied()))
    }
}

fn unit(schedule: &Schedule, what: &str) -> String {
    format!("{}-{what}", schedule.name)
}

fn removed(path: &Path) -> Outcome<bool> {
    match fs::remove_file(path) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(Failure::from(error).while_doing(format!("cannot remove {}", path.display()))),
    }
}

fn service(schedule: &Schedule, job: &Job, key: &KeyAt) -> String {
    let (credential, key_file) = match key {
        KeyAt::Credential(path) => (
            format!("LoadCredentialEncrypted={}:{}\n", schedule.name, escaped(&path.display().to_string())),
            // Expanded by systemd, so it is not escaped.
            format!("%d/{}", schedule.name),
        ),
        KeyAt::File(path) => (String::new(), escaped(path)),
    };
    // A stand-in that nothing escapes, for where the key stands.
    const KEY: &str = "KEY-FILE";
    let commands = schedule.commands(job, KEY);
    let last = commands.len() - 1;
    let started: String = commands
        .iter()
        .enumerate()
        .map(|(index, argv)| {
            let words = argv.iter().map(|word| match word.as_str() {
                KEY => format!("\"{key_file}\""),
                word => format!("\"{}\"", escaped(word)),
            });
            // What fails before the last one is told by its own notice, and keeps the last one from nothing.
            let prefix = if index < last { "-" } else { "" };
            format!("ExecStart={prefix}{}\n", words.collect::<Vec<_>>().join(" "))
        })
        .collect();
    let environment: String =
        environment().map(|(name, value)| format!("Environment=\"{name}={}\"\n", escaped(&value))).collect();
    format!(
        "# Made by `reseal schedule install`.\n[Unit]\nDescription=reseal: {words} ({plan})\n\
         Wants=network-online.target\nAfter=network-online.target\n\n[Service]\nType=oneshot\nUMask=0077\n\
         WorkingDirectory={directory}\n{environment}{credential}{started}",
        words = job.words,
        plan = escaped(&schedule.plan.display().to_string()),
        directory = escaped(&schedule.directory.display().to_string()),
    )
}

fn timer(schedule: &Schedule, job: &Job) -> String {
    let zone = schedule.zone.as_ref().map(|zone| format!(" {zone}")).unwrap_or_default();
    format!(
        "# Made by `reseal schedule install`.\n[Unit]\nDescription=reseal: {words} ({plan})\n\n[Timer]\n\
         OnCalendar={day}*-*-* {at}:00{zone}\nPersistent=true\n\n[Install]\nWantedBy=timers.target\n",
        words = job.words,
        plan = escaped(&schedule.plan.display().to_string()),
        day = job.at.day_name().map(|day| format!("{day} ")).unwrap_or_default(),
        at = job.at.at(),
    )
}

/// As a unit file takes it inside double quotes: specifiers, variables and quotes stand for themselves.
fn escaped(text: &str) -> String {
    text.replace('\\', r"\\").replace('"', "\\\"").replace('%', "%%").replace('$', "$$")
}
