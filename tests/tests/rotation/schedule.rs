//! `schedule` by the real command: what cron and systemd are given works as they run it, and goes away whole.

use std::process::{Command, Stdio};

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use reseal_tests::command::{Desk, Ended, finish, program};

const PLAN: &str = r#"schema = 1
vault = "v.vault"
environment = "production"

[apps.web]
restart = ["true"]

[files.".env"]
readers = ["shell"]
used_by = ["web"]

[secrets.key]
strategy = "in-place"
write = [{ file = ".env", var = "KEY" }]

[schedule]
status = "Mon 06:45"
rotate = "03:10"
"#;

/// What stands in the crontab already, with a percent sign and without a last newline.
const CRONTAB: &str = "MAILTO=ops@example.com\n5 4 * * * /usr/bin/backup --day $(date +\\%d)";

/// A project of a user whose crontab and systemd are stand-ins that keep what they are given.
struct World {
    desk: Desk,
}

impl World {
    fn new() -> Self {
        let desk = Desk::with_vault(PLAN);
        std::fs::create_dir(desk.path().join("bin")).expect("a directory");
        let here = desk.path().display().to_string();
        desk.program(
            "bin/crontab",
            &format!("#!/bin/sh\ncd '{here}'\ncase $1 in -l) cat crontab;; -) cat > crontab;; esac\n"),
        );
        desk.program(
            "bin/systemctl",
            &format!("#!/bin/sh\necho \"$*\" >> '{here}/systemctl'\ncase $* in *is-system-running) echo degraded; exit 1;; esac\n"),
        );
        // What is encrypted can be had back here, unlike in life.
        desk.program("bin/systemd-creds", "#!/bin/sh\nfor to; do :; done\nbase64 -w0 > \"$to\"\n");
        desk.write(".env", "KEY=old-value-1234567\n");
        let put = ["put", "key", "-", "--changed-at", "2020-01-01"];
        desk.run_with(&put, "old-value-1234567").expect(0);
        Self { desk }
    }

    fn run(&self, arguments: &[&str]) -> Ended {
        let mut command = self.desk.command(arguments);
        command.env("PATH", self.path()).stdin(Stdio::null());
        finish(command.spawn().expect("it starts"))
    }

    fn path(&self) -> String {
        let others = std::env::var("PATH").unwrap_or_default();
        format!("{}/bin:{others}", self.desk.path().display())
    }

    fn slots(&self) -> Vec<String> {
        let told = self.run(&["key", "list", "--json"]).expect(0).json();
        let slots = told["slots"].as_array().expect("slots").iter();
        let mut names: Vec<_> = slots.map(|slot| slot["name"].as_str().expect("a name").to_owned()).collect();
        names.sort();
        names
    }

    fn is_rotated(&self) -> bool {
        !self.desk.read(".env").contains("old-value-1234567")
    }
}

/// Runs a line of a crontab as cron does: by `sh`, with nothing but a home.
fn as_cron(line: &str, home: &std::path::Path) -> Ended {
    let command = line.splitn(6, ' ').nth(5).expect("five fields and a command").replace("\\%", "%");
    let mut shell = Command::new("/bin/sh");
    shell.args(["-c", &command]).env_clear().env("HOME", home).env("PATH", "/usr/bin:/bin").current_dir("/");
    shell.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    finish(shell.spawn().expect("a shell"))
}

#[test]
fn schedule_in_the_crontab_runs_and_goes_away() {
    let world = World::new();
    world.desk.write("crontab", CRONTAB);
    let dry = world.run(&["schedule", "install", "--cron", "--dry-run"]).expect(0);
    assert!(dry.stdout.contains("45 6 * * 1 ") && dry.stdout.contains("10 3 * * * "), "{dry:?}");
    assert_eq!(
        (world.desk.read("crontab").as_str(), world.slots().len()),
        (CRONTAB, 1),
        "nothing is installed"
    );

    world.run(&["schedule", "install", "--cron"]).expect(0);
    let again = world.run(&["schedule", "install", "--cron", "--json"]).expect(0).json();
    let crontab = world.desk.read("crontab");
    assert!(crontab.starts_with(CRONTAB), "{crontab}");
    let is_job = |line: &&str| line.contains("/reseal ") && !line.starts_with('#');
    let jobs: Vec<_> = crontab.lines().filter(is_job).collect();
    assert_eq!(jobs.len(), 2, "installed twice, there once: {crontab}");
    let name = again["name"].as_str().expect("a name");
    assert_eq!(world.slots(), ["key-file", name]);
    let key = std::path::Path::new(again["key"].as_str().expect("a path"));
    let mode = std::os::unix::fs::PermissionsExt::mode(&key.metadata().expect("a file").permissions());
    assert_eq!(mode & 0o7777, 0o600);

    let status = as_cron(jobs[0], world.desk.path()).expect(0);
    assert!(status.stdout.contains("expired"), "{status:?}");
    assert!(!world.is_rotated());
    as_cron(jobs[1], world.desk.path()).expect(0);
    assert!(world.is_rotated());
    let log = world.run(&["audit", "log", "--json"]).expect(0).stdout;
    assert!(log.contains(&format!("\"slot\":\"{name}\"")), "the audit log says which slot opened the vault");
    let shown = world.run(&["schedule", "show"]).expect(0).stdout;
    assert_eq!(shown.lines().count(), 2, "{shown}");

    world.run(&["schedule", "remove"]).expect(0);
    assert_eq!(world.desk.read("crontab"), format!("{CRONTAB}\n"));
    assert!(!key.exists());
    assert_eq!(world.slots(), ["key-file"]);
    assert!(world.run(&["schedule", "remove"]).expect(0).stdout.contains("nothing was installed"));
}

/// What a service of systemd would start, with its credential in place.
fn as_systemd(service: &str, credentials: &std::path::Path) -> Vec<Ended> {
    let starts = service.lines().filter_map(|line| line.strip_prefix("ExecStart="));
    let run = |start: &str| {
        let words = start.trim_start_matches('-').split('"').skip(1).step_by(2);
        let words: Vec<_> =
            words.map(|word| word.replace("%d", &credentials.display().to_string())).collect();
        let mut command = Command::new(&words[0]);
        command.args(&words[1..]).env_clear().current_dir("/");
        for line in service.lines().filter_map(|line| line.strip_prefix("Environment=\"")) {
            let (name, value) = line.trim_end_matches('"').split_once('=').expect("a variable");
            command.env(name, value);
        }
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        finish(command.spawn().expect("the command"))
    };
    starts.map(run).collect()
}

#[test]
fn schedule_by_systemd_has_an_encrypted_credential() {
    let world = World::new();
    let state = world.desk.path().join("state");
    let mut install = world.desk.command(&["schedule", "install", "--user", "--json"]);
    install.env("PATH", world.path()).env("XDG_STATE_HOME", &state).stdin(Stdio::null());
    let installed = finish(install.spawn().expect("it starts")).expect(0).json();
    let name = installed["name"].as_str().expect("a name");
    assert_eq!(world.slots(), ["key-file", name]);
    let unit = |what: &str| world.desk.read(&format!(".config/systemd/user/{name}-{what}"));
    assert!(unit("rotate.timer").contains("OnCalendar=*-*-* 03:10:00\nPersistent=true\n"));
    assert!(unit("status.timer").contains("OnCalendar=Mon *-*-* 06:45:00\n"));
    let service = unit("rotate.service");
    let credential = world.desk.path().join(".config/credstore.encrypted").join(name);
    assert!(
        service.contains(&format!("LoadCredentialEncrypted={name}:{}", credential.display())),
        "{service}"
    );
    let encrypted = std::fs::read_to_string(&credential).expect("a credential");
    let key = BASE64_STANDARD.decode(encrypted).expect("what the stand-in writes");
    world.desk.write(name, std::str::from_utf8(&key).expect("text"));
    for text in [service.clone(), unit("status.service"), world.desk.read("systemctl")] {
        assert!(!text.contains(std::str::from_utf8(&key).expect("text").trim_end()), "the key: {text}");
    }
    assert!(service.contains(&program().display().to_string()), "{service}");
    let vault = format!("\"--vault\" \"{}/v.vault\"", world.desk.path().display());
    let state = format!("Environment=\"XDG_STATE_HOME={}\"", state.display());
    assert!(service.contains(&vault) && service.contains(&state), "{service}");
    let calls = world.desk.read("systemctl");
    assert!(calls.contains(&format!("--user enable --now {name}-rotate.timer")), "{calls}");

    let ended = as_systemd(&service, world.desk.path());
    assert!(ended.len() == 2 && ended.iter().all(|ended| ended.code == Some(0)), "{ended:?}");
    assert!(world.is_rotated());
    world.run(&["schedule", "remove", "--user"]).expect(0);
    assert!(
        !credential.exists()
            && world.run(&["schedule", "show", "--user"]).expect(0).stdout.contains("nothing")
    );
    assert!(world.desk.read("systemctl").contains(&format!("--user disable --now {name}-rotate.timer")));
    assert_eq!(world.slots(), ["key-file"]);
}
