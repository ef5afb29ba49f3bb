//! Processes and directories that do not outlive the process that started them.
//!
//! ```text
//! this process --pipe--> sh --child--> server
//! ```
//!
//! The shell waits for a word on the pipe. When this process is gone, however it went, the pipe closes: the shell then
//! ends the server and removes its directory. The shell never waits for the server before that, so the server's process
//! id stays its own, and a signal cannot reach a stranger.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, ChildStderr, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use crate::error::SandboxError;
use crate::user::ServerUser;

/// Descriptor 3 is the pipe that tells when the last process of the server has gone: all of them inherit it. Until its
/// shell has waited for it, such a process is still known to the system, and a server that starts again takes it for a
/// running one: `reap` waits, and says so.
const SCRIPT: &str = r#"
directory=$1
signal=$2
shift 2
"$@" </dev/null 3>&1 >>"$directory/log" 2>&1 &
pid=$!
trap '' HUP INT TERM
echo "$pid"
exec >/dev/null
read -r word
[ "$word" = reap ] || kill -"$signal" "$pid"
wait "$pid"
if [ "$word" = reap ]; then echo reaped >&2; read -r word; fi
[ "$word" = keep ] || rm -rf -- "$directory"
"#;

/// What ends a server for good when its guard does. A shell has its children ignore `QUIT` and `INT`, so only a server
/// that listens to them ends so.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum LastSignal {
    /// The postmaster takes its children along.
    Quit,
    /// For a server of one process.
    Kill,
}

/// What a child of the sandbox gets to see of this process' environment: enough to start, nothing to leak.
const ENVIRONMENT: [&str; 4] = ["PATH", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH", "TMPDIR"];

/// A process that ends, and whose directory goes, when this process ends.
#[derive(Debug)]
pub(crate) struct Guarded {
    shell: Child,
    pipe: Option<ChildStdin>,
    said: BufReader<ChildStderr>,
    pid: Pid,
    gone: Receiver<()>,
}

impl Guarded {
    /// Starts `arguments` with what it prints in the file `log` of `directory`.
    pub(crate) fn spawn(
        directory: &Path,
        user: ServerUser,
        last: LastSignal,
        arguments: &[std::ffi::OsString],
    ) -> Result<Self, SandboxError> {
        let mut command = Command::new("/bin/sh");
        let last = match last {
            LastSignal::Quit => "QUIT",
            LastSignal::Kill => "KILL",
        };
        command.arg("-c").arg(SCRIPT).arg("reseal-sandbox").arg(directory).arg(last).args(arguments);
        command.env_clear().envs(ENVIRONMENT.iter().filter_map(|name| Some((name, std::env::var_os(name)?))));
        command.env("LC_ALL", "C").env("TZ", "UTC").current_dir(directory);
        // A group of its own: Ctrl-C is for this process, which then goes and takes the server along.
        command.process_group(0).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        user.apply(&mut command);
        let mut shell = command.spawn().map_err(SandboxError::io("start", "/bin/sh"))?;
        let pipe = shell.stdin.take();
        let said = BufReader::new(shell.stderr.take().expect("standard error was piped above"));
        let mut output = BufReader::new(shell.stdout.take().expect("standard output was piped above"));
        let mut line = String::new();
        output.read_line(&mut line).map_err(SandboxError::io("read from", "/bin/sh"))?;
        let pid = line.trim().parse().ok().and_then(Pid::from_raw);
        let pid = pid.ok_or_else(|| SandboxError::Failed { program: "sh", log: line })?;
        Ok(Self { shell, pipe, said, pid, gone: watch(output) })
    }

    /// The process id of the guarded process, which stays its own as long as this value lives.
    pub(crate) fn pid(&self) -> Pid {
        self.pid
    }

    /// Sends a signal to the guarded process only.
    pub(crate) fn signal(&self, signal: Signal) {
        // The process may be gone already: then there is nobody to tell.
        let _ = kill_process(self.pid, signal);
    }

    /// Waits until the process and all that it started are gone; `false` if they are not in time.
    pub(crate) fn wait_gone(&self, timeout: Duration) -> bool {
        matches!(self.gone.recv_timeout(timeout), Ok(()) | Err(RecvTimeoutError::Disconnected))
    }

    /// Has the system forget a process that is gone; what is left is the watch over the directory.
    pub(crate) fn reap(mut self) -> Result<Reaped, SandboxError> {
        let io = || SandboxError::io("talk to", "/bin/sh");
        if let Some(pipe) = &mut self.pipe {
            pipe.write_all(b"reap\n").map_err(io())?;
        }
        self.said.read_line(&mut String::new()).map_err(io())?;
        Ok(Reaped(self))
    }
}

/// The watch over the directory of a process that is gone.
#[derive(Debug)]
pub(crate) struct Reaped(Guarded);

impl Reaped {
    /// Ends the watch; the directory stays.
    pub(crate) fn release(mut self) {
        if let Some(pipe) = &mut self.0.pipe {
            let _ = pipe.write_all(b"keep\n");
        }
    }
}

/// Waits for the end of the process that started it, then removes a directory.
const REMOVAL: &str = r#"trap '' HUP INT TERM; read -r word; rm -rf -- "$1""#;

/// A directory that goes with this process, also when that is killed.
#[derive(Debug)]
pub struct Directory {
    directory: TempDir,
    shell: Child,
}

impl Directory {
    /// Makes one for this user alone, in the system's place for temporary files.
    ///
    /// # Errors
    ///
    /// [`SandboxError::Io`].
    pub fn new(prefix: &str) -> Result<Self, SandboxError> {
        let base = std::env::temp_dir();
        let directory = tempfile::Builder::new().prefix(prefix).tempdir_in(&base);
        let directory = directory.map_err(SandboxError::io("make a directory in", &base))?;
        let mut command = Command::new("/bin/sh");
        command.arg("-c").arg(REMOVAL).arg("reseal-sandbox").arg(directory.path());
        command.env_clear().envs(std::env::var_os("PATH").map(|path| ("PATH", path)));
        command.process_group(0).stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
        let shell = command.spawn().map_err(SandboxError::io("start", "/bin/sh"))?;
        Ok(Self { directory, shell })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        self.directory.path()
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        drop(self.shell.stdin.take());
        let _ = self.shell.wait();
    }
}

impl Drop for Guarded {
    fn drop(&mut self) {
        drop(self.pipe.take());
        let _ = self.shell.wait();
    }
}

/// Reports when the last holder of the other end has closed it.
fn watch(mut output: impl BufRead + Send + 'static) -> Receiver<()> {
    let (tell, gone) = channel();
    std::thread::spawn(move || {
        let _ = std::io::copy(&mut output, &mut std::io::sink());
        let _ = tell.send(());
    });
    gone
}
