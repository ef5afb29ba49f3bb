//! The real command is killed before and after compose recreates a container, at a change and at the end of the old value,
//! and then goes on or goes back; that is the one thing that docker is asked to change.

use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use rayon::prelude::*;
use reseal_tests::command::{Ended, finish, program};
use reseal_tests::stand_in::{Compose, StandIn};

const OLD: &str = "old-value-0123456789";

const PLAN: &str = r#"schema = 1
vault = "v.vault"
[apps.web]
compose = "web"
wait = "20s"
hold = "1s"
[files."app.env"]
readers = ["compose"]
used_by = ["web"]
[secrets.key]
strategy = "overlap"
write = [{ file = "app.env", var = "KEY" }, { file = "app.env", var = "KEY_OLD", holds = "previous" }]
"#;

const ROTATE: &[&str] = &["rotate", "key"];
const RETIRE: &[&str] = &["rotate", "retire", "key", "-y"];
const ROLL_BACK: &[&str] = &["rotate", "rollback", "key", "-y"];

/// A container whose environment comes from a file, a vault, and a `docker` that can kill whoever called it.
struct Stack {
    stand_in: StandIn,
}

impl Stack {
    fn new() -> Self {
        let stack = Self { stand_in: StandIn::new(Compose::Plugin) };
        let web = "services:\n  web:\n    command: sleep 100000\n    env_file: app.env\n";
        stack.stand_in.write("docker-compose.yml", web);
        stack.stand_in.write("app.env", &format!("KEY={OLD}\nKEY_OLD=\n"));
        stack.stand_in.write("reseal.toml", PLAN);
        stack.stand_in.write("key-file", &"7".repeat(32));
        let key_file = stack.stand_in.project().join("key-file");
        std::fs::set_permissions(key_file, PermissionsExt::from_mode(0o600)).expect("it is ours");
        stack.stand_in.must(&["docker", "compose", "up", "-d"]);
        stack.wrap_docker();
        stack.run_with(&["init", "--no-recovery-code"], "").expect(0);
        stack.run_with(&["put", "key", "-"], OLD).expect(0);
        stack.stand_in.forget_calls();
        stack
    }

    /// `kill` in the project says on which side of an `up` the caller dies.
    fn wrap_docker(&self) {
        let path = self.stand_in.path();
        let programs: PathBuf = std::env::split_paths(&path).next().expect("the stand-ins come first");
        let itself = std::fs::read_to_string(programs.join("docker")).expect("it is a script");
        self.stand_in.program("docker-itself", &itself);
        let wrapper = r#"#!/bin/sh
case " $* " in *" up "*) ;; *) exec docker-itself "$@" ;; esac
if [ "$(cat kill 2>/dev/null)" = before ]; then kill -9 $PPID; exit 1; fi
docker-itself "$@"
code=$?
if [ "$(cat kill 2>/dev/null)" = after ]; then kill -9 $PPID; fi
exit $code
"#;
        self.stand_in.program("docker", wrapper);
    }

    fn start(&self, arguments: &[&str]) -> Child {
        let project = self.stand_in.project();
        let mut command = Command::new(program());
        command.current_dir(&project).args(["--key-file", "key-file", "--no-input"]).args(arguments);
        command.env_clear().env("PATH", self.stand_in.path());
        command.env("HOME", &project).env("XDG_RUNTIME_DIR", &project);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command.spawn().expect("the command starts")
    }

    fn run_with(&self, arguments: &[&str], input: &str) -> Ended {
        let mut child = self.start(arguments);
        let mut stdin = child.stdin.take().expect("it is piped");
        let _ = std::io::Write::write_all(&mut stdin, input.as_bytes());
        drop(stdin);
        finish(child)
    }

    fn run(&self, arguments: &[&str]) -> Ended {
        self.run_with(arguments, "")
    }

    /// How often docker was asked to change something, which is nothing but `up` for this service alone.
    fn recreated(&self) -> usize {
        let calls = self.stand_in.calls();
        for word in ["restart", "down", "rm", "stop", "start", "kill", "create", "run", "volume"] {
            assert!(!calls.iter().any(|call| call.names(&[word])), "docker was asked for {word}");
        }
        calls.iter().filter(|call| call.names(&["up", "--force-recreate", "--no-deps", "web"])).count()
    }

    /// The vault, the file and the running container are of one mind.
    #[track_caller]
    fn check(&self, is_old: bool, previous: &str, row: &str) {
        let current = self.run(&["get", "key"]).expect(0).stdout.trim_end().to_owned();
        assert_eq!(current == OLD, is_old, "{row}");
        let file = std::fs::read_to_string(self.stand_in.project().join("app.env")).expect("it is there");
        assert_eq!(file, format!("KEY={current}\nKEY_OLD={previous}\n"), "{row}");
        let runs = ["docker", "compose", "exec", "-T", "web", "sh", "-c", "echo $KEY:$KEY_OLD"];
        assert_eq!(self.stand_in.must(&runs).trim_end(), format!("{current}:{previous}"), "{row}");
    }
}

fn kill(retires: bool, when: &str, back: bool) -> String {
    let (command, what) = if retires { (RETIRE, "retire") } else { (ROTATE, "rotate") };
    let then = if back { "RollBack" } else { "Resume" };
    let row = format!("compose overlap × {what} × {when} up × {then}");
    let stack = Stack::new();
    if retires {
        stack.run(ROTATE).expect(0);
        assert_eq!(stack.recreated(), 1, "{row}");
    }
    stack.stand_in.write("kill", when);
    let ended = stack.start(command).wait_with_output().expect("it ends");
    assert_eq!(ended.status.signal(), Some(9), "{row}: {ended:?}");
    std::fs::remove_file(stack.stand_in.project().join("kill")).expect("it is there");
    match (back, retires) {
        (true, _) => drop(stack.run(ROLL_BACK).expect(0)),
        (false, true) => drop(stack.run(RETIRE).expect(0)),
        (false, false) => drop(stack.run(&["rotate", "resume", "key"]).expect(0)),
    }
    let previous = if back || retires { "" } else { OLD };
    stack.check(back, previous, &row);
    stack.recreated();
    row
}

#[test]
fn kill_rotation_of_a_compose_service() {
    let rows: Vec<_> = [false, true]
        .into_iter()
        .flat_map(|retires| ["before", "after"].map(|when| (retires, when)))
        .flat_map(|(retires, when)| [false, true].map(|back| (retires, when, back)))
        .collect();
    let rows: Vec<String> =
        rows.into_par_iter().map(|(retires, when, back)| kill(retires, when, back)).collect();
    rows.iter().for_each(|row| println!("{row}"));
    println!("{} rows", rows.len());
    assert_eq!(rows.len(), 8);
}
