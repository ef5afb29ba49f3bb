//! The engine in a process of its own, as a test holds it: heard, told, killed.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use crate::protocol::{Assignment, Line, Order};

/// How long a process may say nothing.
const PATIENCE: Duration = Duration::from_secs(90);

/// A running engine.
#[derive(Debug)]
pub struct EngineProcess {
    child: Child,
    stdin: ChildStdin,
    lines: Receiver<Line>,
    /// Everything it said so far.
    pub heard: Vec<Line>,
}

impl EngineProcess {
    /// Starts the program and gives it its assignment.
    ///
    /// # Panics
    ///
    /// If it does not start.
    pub fn start(program: &Path, assignment: &Assignment) -> Self {
        let mut child = Command::new(program)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("{} does not start: {error}", program.display()));
        let mut stdin = child.stdin.take().expect("it is piped");
        let assignment = serde_json::to_string(assignment).expect("an assignment is JSON");
        writeln!(stdin, "{assignment}").expect("the process reads its assignment");
        let stdout = BufReader::new(child.stdout.take().expect("it is piped"));
        let (sender, lines) = channel();
        std::thread::spawn(move || {
            // A line that was cut short by the kill is no line.
            let told =
                stdout.lines().map_while(Result::ok).map_while(|line| serde_json::from_str(&line).ok());
            for line in told {
                if sender.send(line).is_err() {
                    break;
                }
            }
        });
        Self { child, stdin, lines, heard: Vec::new() }
    }

    /// Listens until a line for which `stop` holds; `false` if the process ended before.
    ///
    /// # Panics
    ///
    /// If it says nothing for too long.
    pub fn listen_until(&mut self, mut stop: impl FnMut(&Line) -> bool) -> bool {
        loop {
            match self.lines.recv_timeout(PATIENCE) {
                Ok(line) => {
                    let stops = stop(&line);
                    self.heard.push(line);
                    if stops {
                        return true;
                    }
                }
                Err(RecvTimeoutError::Disconnected) => return false,
                Err(RecvTimeoutError::Timeout) => panic!("the engine says nothing for {PATIENCE:?}"),
            }
        }
    }

    /// Tells it something.
    ///
    /// # Panics
    ///
    /// If it ended.
    pub fn tell(&mut self, order: Order) {
        let order = serde_json::to_string(&order).expect("an order is JSON");
        writeln!(self.stdin, "{order}").expect("the process takes orders");
    }

    /// Kills it with SIGKILL and hears out what it said before.
    ///
    /// # Panics
    ///
    /// If it ended by itself before.
    pub fn kill_9(&mut self) {
        self.child.kill().expect("it can be killed");
        let status = self.child.wait().expect("it can be waited for");
        assert_eq!(
            std::os::unix::process::ExitStatusExt::signal(&status),
            Some(9),
            "it ended before the kill"
        );
        let begin = Instant::now();
        while begin.elapsed() < PATIENCE {
            match self.lines.recv_timeout(PATIENCE) {
                Ok(line) => self.heard.push(line),
                Err(_) => return,
            }
        }
    }

    /// Hears it out; the last line says how it ended.
    ///
    /// # Panics
    ///
    /// If it ended without a word.
    pub fn finish(&mut self) -> Line {
        self.listen_until(|line| matches!(line, Line::Done { .. } | Line::Failed(_)));
        self.heard.last().cloned().expect("the engine says how it ended")
    }
}

impl Drop for EngineProcess {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
