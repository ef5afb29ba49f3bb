//! Prompts on a terminal: a person answers, or presses Ctrl-C.

use std::fs::File;
use std::io::{Read, Write};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{LocalModes, tcgetattr};

use super::Session;
use super::columns::Columns;

/// A terminal, as a terminal emulator holds it, and the side that programs see.
struct Terminal {
    master: File,
    slave: File,
}

impl Terminal {
    fn new() -> Self {
        let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
        grantpt(&master).unwrap();
        unlockpt(&master).unwrap();
        let name = ptsname(&master, Vec::new()).unwrap().into_string().unwrap();
        let slave = File::options().read(true).write(true).open(name).unwrap();
        Self { master: File::from(master), slave }
    }

    /// The command with this as its controlling terminal, which `setsid` makes it, and `stdin` to read from.
    fn command(&self, session: &Session, stdin: &str, arguments: &[&str]) -> Command {
        let bare = session.bare(arguments);
        let side = || Stdio::from(self.slave.try_clone().unwrap());
        let mut command = Command::new("setsid");
        command
            .args(["--ctty", "--wait", "sh", "-c", "exec \"$@\" < \"$0\"", stdin])
            .arg(bare.get_program())
            .args(bare.get_args())
            .env_clear();
        command.envs(bare.get_envs().filter_map(|(name, value)| Some((name, value?))));
        command.current_dir(bare.get_current_dir().unwrap()).stdin(side()).stdout(side()).stderr(side());
        command
    }

    /// Reads until the program has shown this.
    fn wait_for(&mut self, words: &str) {
        let mut shown = Vec::new();
        while !String::from_utf8_lossy(&shown).contains(words) {
            let mut some = [0; 256];
            let len = self.master.read(&mut some).unwrap();
            shown.extend_from_slice(&some[..len]);
        }
    }

    fn echoes(&self) -> bool {
        tcgetattr(&self.slave).unwrap().local_modes.contains(LocalModes::ECHO)
    }
}

/// The exit code; a command that does not end within 20 seconds has none.
fn ended(child: &mut Child) -> Option<i32> {
    let deadline = Instant::now() + Duration::from_secs(20);
    while Instant::now() < deadline {
        if let Some(status) = child.try_wait().unwrap() {
            return status.code();
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    child.kill().unwrap();
    None
}

#[test]
fn ctrl_c_at_a_hidden_prompt_interrupts_and_leaves_the_terminal_as_it_was() {
    let session = Session::new();
    // Two threads end the command, and either may come first.
    for round in 0..10 {
        let mut terminal = Terminal::new();
        assert!(terminal.echoes());
        // Prompts ask on the terminal also where stdin is something else.
        let mut child = terminal.command(&session, "/dev/null", &["list"]).spawn().unwrap();
        terminal.wait_for("Passphrase of ");
        while terminal.echoes() {
            std::thread::yield_now();
        }
        terminal.master.write_all(b"\x03").unwrap();
        assert_eq!(ended(&mut child), Some(130), "round {round}");
        assert!(terminal.echoes(), "round {round}: the echo stays off");
    }
}

#[test]
fn ctrl_c_at_a_confirmation_interrupts() {
    let session = Session::new();
    session.feed(&["put", "a", "-"], b"one").done();
    session.feed(&["put", "a", "-"], b"two").done();
    let mut terminal = Terminal::new();
    let arguments = ["--key-file", "key", "destroy", "a", "--version", "1"];
    let mut child = terminal.command(&session, "/dev/tty", &arguments).spawn().unwrap();
    terminal.wait_for("[y/N]");
    terminal.master.write_all(b"\x03").unwrap();
    assert_eq!(ended(&mut child), Some(130));
    assert_eq!(session.json(&["history", "a"])["versions"][0]["state"], "live");
}

#[test]
fn an_answer_confirms() {
    let session = Session::new();
    session.feed(&["put", "a", "-"], b"one").done();
    session.feed(&["put", "a", "-"], b"two").done();
    for (answer, code) in [("n\n", 8), ("y\n", 0)] {
        let mut terminal = Terminal::new();
        let arguments = ["--key-file", "key", "destroy", "a", "--version", "1"];
        let mut child = terminal.command(&session, "/dev/tty", &arguments).spawn().unwrap();
        terminal.wait_for("[y/N]");
        terminal.master.write_all(answer.as_bytes()).unwrap();
        assert_eq!(ended(&mut child), Some(code), "{answer}");
    }
}

#[test]
fn ctrl_c_at_the_question_of_a_run_begins_nothing() {
    let columns = Columns::ready();
    let mut terminal = Terminal::new();
    let arguments = ["--key-file", "key", "reencrypt", "run"];
    let mut child = terminal.command(&columns.session, "/dev/tty", &arguments).spawn().unwrap();
    terminal.wait_for("[y/N]");
    terminal.master.write_all(b"\x03").unwrap();
    assert_eq!(ended(&mut child), Some(130));
    let status = columns.session.json(&["reencrypt", "status"]);
    assert_eq!(status["columns"][0]["state"], serde_json::Value::Null);
}

#[test]
fn an_agent_lets_go_of_the_terminal() {
    let session = Session::new();
    let Terminal { master, slave } = Terminal::new();
    let bare = session.bare(&["--key-file", "key", "unlock", "--for", "1m"]);
    let mut command = Command::new("setsid");
    // Who leads the session stays, and has the terminal open no more: its end would take it from everybody.
    let leader = "\"$@\" < /dev/null > /dev/null 2>&1 || exit; exec sleep 100 < /dev/null > /dev/null 2>&1";
    command
        .args(["--ctty", "sh", "-c", leader, "sh"])
        .arg(bare.get_program())
        .args(bare.get_args())
        .env_clear();
    command.envs(bare.get_envs().filter_map(|(name, value)| Some((name, value?))));
    command.current_dir(bare.get_current_dir().unwrap()).stdin(slave.try_clone().unwrap());
    command.stdout(slave.try_clone().unwrap()).stderr(slave);
    let mut child = command.spawn().unwrap();
    drop(command);
    let mut ends = [PollFd::new(&master, PollFlags::empty())];
    let hung_up = poll(&mut ends, Some(&Timespec { tv_sec: 20, tv_nsec: 0 })).unwrap();
    let is_led = child.try_wait().unwrap().is_none();
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(is_led, "the agent starts");
    session.run(&["lock"]).done();
    assert!(hung_up == 1 && ends[0].revents().contains(PollFlags::HUP), "somebody holds the terminal");
}
