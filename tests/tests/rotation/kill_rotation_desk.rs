//! A project with files, applications and a vault, and the real command in it: traced, killed, gone on with.

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use reseal_tests::command::{Ended, finish, program};
use tempfile::TempDir;

/// The value that every project begins with.
pub(crate) const OLD: &str = "old-value-0123456789";

/// What a plan saves before a change.
const DUMP: &str = "a dump of everything";

/// Calls that change the outside, and those that follow one at once: only the thread that rotates makes them.
const CALLS: &str = "rename,renameat,renameat2,unlink,unlinkat,fsync,fdatasync";

const APPS: [(&str, &str); 3] = [("a", "a.env"), ("b", "b.env"), ("c", "token")];

/// A strategy and the effects that it has.
pub(crate) struct Case {
    pub(crate) name: &'static str,
    /// The secret of the plan.
    pub(crate) secret: &'static str,
    /// Files that are replaced and programs that are started by a rotation, and how often.
    pub(crate) change: &'static [(&'static str, usize)],
    /// And by the end of the old value.
    pub(crate) retire: &'static [(&'static str, usize)],
}

impl Case {
    /// What was counted is what the table says, and nothing else.
    #[track_caller]
    pub(crate) fn check_counted(&self, effects: &[Traced], expected: &[(&str, usize)]) {
        let mut counted: BTreeMap<&str, usize> = BTreeMap::new();
        for Traced { effect, .. } in effects {
            if let Effect::Replaces(what) | Effect::Starts(what) = effect {
                *counted.entry(what).or_default() += 1;
            }
        }
        let expected: BTreeMap<&str, usize> = expected.iter().copied().collect();
        assert_eq!(counted, expected, "{}", self.name);
    }
}

/// How the applications of a project take new values.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Way {
    /// By one command.
    Restart,
    /// By one that stops them and one that starts them.
    StopStart,
}

/// Something that a command does to the outside.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Effect {
    /// Another file of this name takes the place of the one that was there.
    Replaces(String),
    /// A program of the plan runs.
    Starts(String),
    /// A transaction of the vault becomes durable.
    Commits,
}

impl fmt::Display for Effect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Replaces(file) => write!(f, "replace {file}"),
            Self::Starts(program) => write!(f, "run {program}"),
            Self::Commits => f.write_str("commit"),
        }
    }
}

/// That a command was ended by SIGKILL.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Killed;

/// An effect as it was traced, and the calls to kill the process at: when it is entered, and the one that follows.
#[derive(Debug, Clone)]
pub(crate) struct Traced {
    pub(crate) effect: Effect,
    before: Option<(String, usize)>,
    after: Option<(String, usize)>,
}

/// A project.
pub(crate) struct Desk {
    directory: TempDir,
}

impl Desk {
    pub(crate) fn new(case: &Case) -> Self {
        Self::with_servers(case, "")
    }

    /// A project whose plan has these servers too.
    pub(crate) fn with_servers(case: &Case, servers: &str) -> Self {
        Self::with_way(case, servers, Way::Restart)
    }

    /// A project whose applications are brought over in this way.
    pub(crate) fn with_way(case: &Case, servers: &str, way: Way) -> Self {
        let desk = Self { directory: directory() };
        desk.write("key-file", &"7".repeat(32), 0o600);
        desk.write("reseal.toml", &plan(case.secret, servers, way), 0o600);
        for (name, content) in files() {
            desk.write(name, &content, 0o640);
        }
        for (app, file) in APPS {
            desk.write(&format!("running-{app}"), &desk.read(file), 0o600);
        }
        desk.write("stored", OLD, 0o600);
        desk.write("pasted", "what-a-person-brought-0123", 0o600);
        desk.write("restart", &wrapper("cp \"$2\" \"running-$1\""), 0o755);
        desk.write("start", &wrapper("cp \"$2\" \"running-$1\""), 0o755);
        desk.write("stop", &wrapper("echo stopped > \"running-$1\""), 0o755);
        desk.write("dump", &wrapper(&format!("echo '{DUMP}'")), 0o755);
        desk.write("store", &wrapper("cat > stored"), 0o755);
        desk.run(&["init", "--no-recovery-code"]).expect(0);
        desk.put("key", OLD);
        desk
    }

    /// Another project just like this one.
    pub(crate) fn copied(&self) -> Self {
        let directory = directory();
        let mut copy = Command::new("cp");
        copy.arg("-a").arg(self.path().join(".")).arg(directory.path());
        assert!(copy.status().expect("cp runs").success());
        Self { directory }
    }

    pub(crate) fn path(&self) -> &Path {
        self.directory.path()
    }

    pub(crate) fn write(&self, name: &str, content: &str, mode: u32) {
        let path = self.path().join(name);
        fs::write(&path, content).expect("a file can be written");
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).expect("its mode can be set");
    }

    pub(crate) fn read(&self, name: &str) -> String {
        fs::read_to_string(self.path().join(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
    }

    pub(crate) fn has(&self, name: &str) -> bool {
        self.path().join(name).exists()
    }

    pub(crate) fn remove(&self, name: &str) {
        fs::remove_file(self.path().join(name)).unwrap_or_else(|error| panic!("{name}: {error}"));
    }

    /// Waits until a program of the plan has made this file.
    #[track_caller]
    pub(crate) fn wait_for(&self, name: &str) {
        let begun = Instant::now();
        while !self.has(name) {
            assert!(begun.elapsed() < Duration::from_secs(60), "{name} is not made");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    fn arguments<'a>(&self, arguments: &[&'a str]) -> Vec<&'a str> {
        [&["--key-file", "key-file", "--no-input"], arguments].concat()
    }

    fn prepared(&self, mut command: Command) -> Command {
        command.current_dir(self.path()).env_clear();
        command.env("PATH", std::env::var_os("PATH").unwrap_or_default());
        command.env("HOME", self.path()).env("XDG_RUNTIME_DIR", self.path());
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    /// Runs the command.
    pub(crate) fn run(&self, arguments: &[&str]) -> Ended {
        self.run_with(arguments, "")
    }

    fn run_with(&self, arguments: &[&str], input: &str) -> Ended {
        let mut command = Command::new(program());
        command.args(self.arguments(arguments));
        let mut child = self.prepared(command).spawn().expect("the command starts");
        let mut stdin = child.stdin.take().expect("it is piped");
        // A command that does not read its input may have closed it.
        let _ = std::io::Write::write_all(&mut stdin, input.as_bytes());
        drop(stdin);
        finish(child)
    }

    fn traced(&self, arguments: &[&str], options: &[&str]) -> ExitStatus {
        let mut strace = Command::new("strace");
        let trace = format!("trace={CALLS},execve");
        strace.args(["-f", "-qq", "-y", "-s", "400", "-e", &trace]).args(options).arg(program());
        strace.args(self.arguments(arguments));
        let output = self.prepared(strace).output().expect("strace runs; it is the Debian package `strace`");
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(!said.contains("strace: "), "strace cannot trace here: {said}");
        output.status
    }

    /// Begins to run the command, with its output thrown away.
    pub(crate) fn start(&self, arguments: &[&str]) -> Child {
        self.start_telling(arguments, Stdio::null())
    }

    /// The same, but what it says on stderr goes here.
    pub(crate) fn start_telling(&self, arguments: &[&str], stderr: Stdio) -> Child {
        let mut command = Command::new(program());
        command.args(self.arguments(arguments));
        let command = &mut self.prepared(command);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(stderr);
        command.spawn().expect("the command starts")
    }

    /// Runs the command with the call of this effect failing, and says how it ended.
    pub(crate) fn fail(&self, arguments: &[&str], effect: &Traced, error: &str) -> Option<i32> {
        let (call, ordinal) = effect.before.as_ref().expect("a call that can be named");
        let inject = format!("inject={call}:error={error}:when={ordinal}");
        self.traced(arguments, &["-o", "/dev/null", "-e", &inject]).code()
    }

    /// Runs the command and says which effects it had, in order.
    pub(crate) fn count(&self, arguments: &[&str]) -> Vec<Traced> {
        let log = self.path().join("trace");
        let status = self.traced(arguments, &["-o", &log.display().to_string()]);
        assert!(status.success(), "{arguments:?} succeeds when nobody kills it");
        effects(&self.read("trace"), self.path())
    }

    /// Runs the command and kills it at this effect.
    pub(crate) fn kill(&self, arguments: &[&str], effects: &[Traced], at: usize, after: bool) -> Killed {
        let Traced { effect, before, after: following } = &effects[at];
        let status = match effect {
            Effect::Starts(name) => {
                let same = |one: &&Traced| one.effect == *effect;
                let ordinal = effects[..=at].iter().filter(same).count();
                let when = if after { "after" } else { "before" };
                let _ = fs::remove_file(self.path().join(format!("count-{name}")));
                self.write("kill", &format!("{name} {ordinal} {when}"), 0o600);
                let mut command = Command::new(program());
                command.args(self.arguments(arguments));
                self.prepared(command).output().expect("the command starts").status
            }
            _ => {
                let point = if after { following } else { before };
                let (call, ordinal) = point.as_ref().expect("a call that can be named");
                let inject = format!("inject={call}:signal=KILL:when={ordinal}");
                self.traced(arguments, &["-o", "/dev/null", "-e", &inject])
            }
        };
        assert_eq!(status.signal(), Some(9), "{arguments:?} at {at} {effect} after {after}: {status}");
        let _ = fs::remove_file(self.path().join("kill"));
        Killed
    }

    /// The state of the last rotation; `None` if there was none.
    pub(crate) fn rotation(&self) -> Option<String> {
        let told = self.run(&["rotate", "status", "key", "--json"]).expect(0).json();
        told["secrets"][0]["rotation"]["state"].as_str().map(str::to_owned)
    }

    /// Whether the secret changes in this way.
    pub(crate) fn has_strategy(&self, strategy: &str) -> bool {
        self.read("reseal.toml").contains(&format!("[secrets.key]\nstrategy = \"{strategy}\""))
    }

    /// Stores a value.
    pub(crate) fn put(&self, name: &str, value: &str) {
        self.run_with(&["put", name, "-"], value).expect(0);
    }

    /// The value that the vault says is current.
    pub(crate) fn current(&self) -> String {
        self.run(&["get", "key"]).expect(0).stdout.trim_end().to_owned()
    }

    /// The new value is everywhere, and the old one where it should be.
    #[track_caller]
    pub(crate) fn check_new(&self, row: &str) {
        let new = self.current();
        assert_ne!(new, OLD, "{row}");
        let has_both =
            self.rotation().as_deref() == Some("overlap") && self.read("reseal.toml").contains("KEY_OLD");
        self.check_files(&new, if has_both { OLD } else { "" }, row);
    }

    /// The new value is everywhere, and the old one nowhere.
    #[track_caller]
    pub(crate) fn check_retired(&self, row: &str) {
        let new = self.current();
        assert_ne!(new, OLD, "{row}");
        self.check_files(&new, "", row);
    }

    #[track_caller]
    fn check_files(&self, new: &str, previous: &str, row: &str) {
        let secret = self.read("reseal.toml");
        for (name, before) in files() {
            let expected = match name {
                "a.env" if secret.contains("url.userinfo") => before
                    .replace(&format!("app:{OLD}@"), &format!("app_b:{new}@"))
                    .replace("DB_USER=app\n", "DB_USER=app_b\n"),
                "a.env" if secret.contains("url.password") => before.replacen(OLD, new, 2),
                "a.env" => before.replacen(OLD, new, 1),
                "b.env" if secret.contains("file = \"b.env\"") => {
                    before.replacen(OLD, new, 1).replace("KEY_OLD=\n", &format!("KEY_OLD={previous}\n"))
                }
                _ if secret.contains("file = \"token\"") => before.replace(OLD, new),
                _ => before,
            };
            assert_eq!(self.read(name), expected, "{row}: {name}");
        }
        if secret.contains("./dump") {
            let dump = self.run(&["snapshot", "cat", "dumps/all"]).expect(0).stdout;
            assert_eq!(dump.trim_end(), DUMP, "{row}");
        }
        if secret.contains("./store") {
            assert_eq!(self.read("stored"), new, "{row}");
        }
        self.check_running(row);
    }

    /// Everything is as it was.
    #[track_caller]
    pub(crate) fn check_old(&self, row: &str) {
        assert_eq!(self.current(), OLD, "{row}");
        for (name, before) in files() {
            assert_eq!(self.read(name), before, "{row}: {name}");
            let mode = fs::metadata(self.path().join(name)).expect("it is there").permissions().mode();
            assert_eq!(mode & 0o777, 0o640, "{row}: {name}");
        }
        assert_eq!(self.read("stored"), OLD, "{row}");
        self.check_running(row);
        let told = self.run(&["show", "key", "--json"]).expect(0).json();
        assert_eq!(told["labels"]["pending"], serde_json::Value::Null, "{row}");
    }

    #[track_caller]
    fn check_running(&self, row: &str) {
        for (app, file) in APPS {
            assert_eq!(self.read(&format!("running-{app}")), self.read(file), "{row}: {app}");
        }
        let left = fs::read_dir(self.path()).expect("listed").flatten();
        let mut left = left.filter(|entry| entry.file_name().to_string_lossy().starts_with(".reseal-"));
        // What is left of a replacement that was killed is read by whoever reads the file that it was for.
        assert!(
            left.all(|entry| entry.metadata().expect("there").permissions().mode() & 0o777 & !0o640 == 0),
            "{row}: a file of an unfinished replacement is open to others"
        );
    }
}

/// In memory where that is possible: what the kernel has outlives a killed process on any file system.
fn directory() -> TempDir {
    let made = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir());
    made.expect("a temporary directory")
}

fn files() -> Vec<(&'static str, String)> {
    vec![
        (
            "a.env",
            format!(
                "# first\nexport KEY='{OLD}'\nURL=redis://:{OLD}@localhost:6379/0 # kept\n\
                 DB=postgresql://app:{OLD}@localhost/app\nDB_USER=app\n"
            ),
        ),
        ("b.env", format!("KEY={OLD}\nKEY_OLD=\nKEY_NEXT=\nOTHER=1")),
        ("token", format!("{OLD}\n")),
    ]
}

fn plan(secret: &str, servers: &str, way: Way) -> String {
    let mut plan = "schema = 1\nvault = \"v.vault\"\n".to_owned();
    for (app, file) in APPS {
        plan.push_str(&match way {
            Way::Restart => format!("[apps.{app}]\nrestart = [\"./restart\", \"{app}\", \"{file}\"]\n"),
            Way::StopStart => format!(
                "[apps.{app}]\nstop = [\"./stop\", \"{app}\"]\nstart = [\"./start\", \"{app}\", \"{file}\"]\n"
            ),
        });
        plan.push_str(&format!("[files.\"{file}\"]\nreaders = [\"shell\"]\nused_by = [\"{app}\"]\n"));
    }
    format!("{plan}{servers}[secrets.key]\n{secret}\n")
}

/// A program of the plan that can kill whoever started it, before or after it does what it is for.
pub(crate) fn wrapper(effect: &str) -> String {
    format!(
        r#"#!/bin/sh
me=$(basename "$0")
n=$(cat "count-$me" 2>/dev/null || echo 0)
n=$((n + 1))
echo $n > "count-$me"
if [ "$(cat kill 2>/dev/null)" = "$me $n before" ]; then kill -9 $PPID; exit 1; fi
{effect}
if [ "$(cat kill 2>/dev/null)" = "$me $n after" ]; then kill -9 $PPID; fi
"#
    )
}

/// Reads the effects out of what `strace -f -y` wrote.
fn effects(trace: &str, directory: &Path) -> Vec<Traced> {
    let main = trace.split_whitespace().next().expect("a first call").to_owned();
    let directory = directory.canonicalize().expect("it is there");
    let (mut counts, mut found): (BTreeMap<String, usize>, Vec<Traced>) = (BTreeMap::new(), Vec::new());
    for line in trace.lines() {
        let Some((process, call)) = line.split_once(' ') else { continue };
        let Some((name, arguments)) = call.trim_start().split_once('(') else { continue };
        if name == "execve" {
            let started = Path::new(quoted(arguments).next().unwrap_or_default()).file_name();
            let started = started
                .and_then(|name| name.to_str())
                .filter(|name| ["restart", "start", "stop", "store", "dump"].contains(name));
            found.extend(started.map(|name| Traced {
                effect: Effect::Starts(name.to_owned()),
                before: None,
                after: None,
            }));
            continue;
        }
        if process != main {
            continue;
        }
        let count = counts.entry(name.to_owned()).or_default();
        *count += 1;
        let point = (name.to_owned(), *count);
        if let Some(last) = found.last_mut().filter(|last| last.before.is_some()) {
            last.after.get_or_insert_with(|| point.clone());
        }
        if let Some(effect) = effect(name, arguments, &directory) {
            found.push(Traced { effect, before: Some(point), after: None });
        }
    }
    found
}

fn effect(call: &str, arguments: &str, directory: &Path) -> Option<Effect> {
    let last = quoted(arguments).last()?;
    // What this machine last saw of the vault: it follows every commit.
    if arguments.contains("/anchors/") {
        return None;
    }
    match call {
        "rename" | "renameat" | "renameat2" => {
            let of_desk = arguments.contains(&directory.display().to_string());
            assert!(of_desk, "a file outside of the project is replaced: {arguments}");
            Some(Effect::Replaces(last.to_owned()))
        }
        "unlink" | "unlinkat" if last.ends_with("v.vault-journal") => Some(Effect::Commits),
        // What a copy of the vault is built in.
        "unlink" | "unlinkat" if last.contains(".draft") => None,
        "unlink" | "unlinkat" => panic!("a file is removed: {arguments}"),
        _ => None,
    }
}

fn quoted(text: &str) -> impl Iterator<Item = &str> {
    text.split('"').skip(1).step_by(2)
}
