//! Child processes: programs that the plan names, run so that they learn nothing they were not told.
//!
//! ```text
//! argv from the plan, searched for known values --> refused if one stands in it
//! environment: a short list of names            --> nothing of what the operator exported, so no stale REDIS_PASSWORD
//! stdin: nothing, or one value                  --> the only way a value goes in
//! output: bounded, wiped, scrubbed when shown
//! time: bounded; then SIGTERM, then SIGKILL, to the whole process group, and also if the call is dropped
//! ```

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fmt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::process::{ExitStatus, Stdio};
use std::sync::Arc;
use std::time::Duration;

use reseal_crypto::secret::{SecretBytes, reserve_wiping};
use rustix::process::{Pid, Signal, kill_process_group};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::process::{Child, Command};
use tokio::time::timeout;
use zeroize::Zeroizing;

use crate::scrub::Known;
use crate::stream::Stream;

/// How long a program may go on after SIGTERM.
const TERM_GRACE: Duration = Duration::from_secs(2);

/// How long output is waited for once a program has ended; what it left behind in the background may hold the pipe.
const OUTPUT_GRACE: Duration = Duration::from_millis(300);

/// The names that a child gets from the environment of whoever runs reseal.
const NAMES: [&str; 21] = [
    "PATH",
    "HOME",
    "USER",
    "LOGNAME",
    "SHELL",
    "LANG",
    "LANGUAGE",
    "TZ",
    "TMPDIR",
    "SSH_AUTH_SOCK",
    "DBUS_SESSION_BUS_ADDRESS",
    "DOCKER_HOST",
    "DOCKER_CONTEXT",
    "DOCKER_CONFIG",
    "DOCKER_CERT_PATH",
    "DOCKER_TLS_VERIFY",
    "DOCKER_API_VERSION",
    "CONTAINER_HOST",
    "VIRTUAL_ENV",
    "KUBECONFIG",
    "PM2_HOME",
];

/// And the beginnings of such names.
const PREFIXES: [&str; 3] = ["LC_", "COMPOSE_", "XDG_"];

/// What could not be done with a program. Holds names and scrubbed lines, never values.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ProcessError {
    /// There is nothing to run.
    #[error("a command without a program")]
    Empty,
    /// A known value stands in the arguments, where every user of the machine reads it.
    #[error("a secret stands in the arguments of `{program}`")]
    SecretInArguments {
        /// The program.
        program: String,
    },
    /// The program could not be started.
    #[error("`{program}` could not be started: {source}")]
    Start {
        /// The program.
        program: String,
        /// Why.
        source: std::io::Error,
    },
    /// It ran for too long, and was ended with all its children.
    #[error("`{program}` did not end within {} s", limit.as_secs_f32())]
    TimedOut {
        /// The program.
        program: String,
        /// How long it had.
        limit: Duration,
        /// The last lines it wrote, scrubbed.
        last: Vec<String>,
    },
    /// It wrote more than can be read, and was ended with all its children.
    #[error("`{program}` wrote more than {limit} bytes")]
    TooMuch {
        /// The program.
        program: String,
        /// How much it may write.
        limit: usize,
    },
    /// Talking to it failed.
    #[error("`{program}`: {source}")]
    Pipe {
        /// The program.
        program: String,
        /// Why.
        source: std::io::Error,
    },
}

/// What to do with output that is longer than the limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Output {
    /// Keep the end of it: what is shown to a person.
    Last(usize),
    /// End the program: half an answer is none.
    Whole(usize),
}

/// One call of a program.
#[derive(Debug, Clone)]
pub struct Call {
    argv: Vec<OsString>,
    stdin: Option<SecretBytes>,
    limit: Duration,
    output: Output,
}

impl Call {
    /// A call with no stdin, 60 s and the last 64 KiB of output.
    pub fn new(argv: impl IntoIterator<Item = impl Into<OsString>>) -> Self {
        let argv = argv.into_iter().map(Into::into).collect();
        Self { argv, stdin: None, limit: Duration::from_secs(60), output: Output::Last(64 << 10) }
    }

    /// Hands this to it on stdin: the only way for a value.
    pub fn stdin(self, value: SecretBytes) -> Self {
        Self { stdin: Some(value), ..self }
    }

    /// Ends it after this time.
    pub fn limit(self, limit: Duration) -> Self {
        Self { limit, ..self }
    }

    /// How much output is kept, of each of stdout and stderr.
    pub fn output(self, output: Output) -> Self {
        Self { output, ..self }
    }

    /// The program, as it is named to people.
    fn program(&self) -> String {
        self.argv.first().map(|program| program.to_string_lossy().into_owned()).unwrap_or_default()
    }
}

/// How a program ended, and what it wrote.
#[derive(Debug)]
pub struct Finished {
    /// How it ended.
    pub status: ExitStatus,
    /// What it wrote; may hold secrets.
    pub stdout: SecretBytes,
    /// What it complained about; may hold secrets.
    pub stderr: SecretBytes,
}

impl Finished {
    /// Whether it ended with 0.
    pub fn success(&self) -> bool {
        self.status.success()
    }
}

/// Runs programs: knows where they start, what environment they get, and what they must not be told.
///
/// Clones share what they know.
#[derive(Clone)]
pub struct Runner(Arc<Surroundings>);

#[derive(Clone)]
struct Surroundings {
    directory: PathBuf,
    environment: BTreeMap<OsString, OsString>,
    /// What programs are not told.
    withheld: Known,
    /// What is not shown of what they say: that, and more.
    known: Known,
}

impl fmt::Debug for Runner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Runner").field("directory", &self.0.directory).finish_non_exhaustive()
    }
}

impl Runner {
    /// Programs start in `directory`, that of the plan file.
    ///
    /// Of `environment`, usually the caller's own, they get `PATH`, `HOME`, the user, the locale, the time zone, and
    /// what leads to Docker, Compose, SSH agents and the session bus; never a variable that holds a known value. The
    /// rest stays behind: compose prefers an exported `REDIS_PASSWORD` to the one in its file.
    pub fn new(
        directory: &Path,
        environment: impl IntoIterator<Item = (OsString, OsString)>,
        known: Known,
    ) -> Self {
        let environment = environment.into_iter().filter(|(name, _)| is_passed_on(name)).collect();
        let (withheld, known) = (known.clone(), known.sharing());
        Self(Arc::new(Surroundings { directory: directory.to_owned(), environment, withheld, known }))
    }

    /// Takes these values out of what programs say too, from now on, whichever of its clones runs them and all that were made
    /// of them. They are no reason to keep a word from one: what is a password somewhere may be a name elsewhere.
    pub fn hide<'a>(&self, values: impl IntoIterator<Item = &'a SecretBytes>) {
        values.into_iter().for_each(|value| self.0.known.add_for_all(value));
    }

    /// The same, for more known values: those that a rotation has just made.
    pub fn knowing<'a>(&self, values: impl IntoIterator<Item = &'a SecretBytes>) -> Self {
        let mut inner = Surroundings::clone(&self.0);
        for value in values {
            inner.withheld.add(value);
            inner.known.add(value);
        }
        Self(Arc::new(inner))
    }

    /// What must not be shown.
    pub fn known(&self) -> &Known {
        &self.0.known
    }

    /// Where programs start, and what relative paths begin at.
    pub fn directory(&self) -> &Path {
        &self.0.directory
    }

    /// Runs a program to its end, whatever that is.
    ///
    /// A program that leaves children in the background is waited for, they are not; but their output goes nowhere.
    /// If the returned future is dropped, the program and all its children are killed.
    ///
    /// # Errors
    ///
    /// [`ProcessError::SecretInArguments`] before anything runs; [`ProcessError::TimedOut`] and
    /// [`ProcessError::TooMuch`] after the whole process group was killed; the rest if it could not be run at all. A
    /// program that fails is no error: see [`Finished::success`].
    pub async fn run(&self, call: &Call) -> Result<Finished, ProcessError> {
        let program = call.program();
        let mut child = self.start(call)?;
        let mut group = Group::of(&child);
        let (mut stdout, mut stderr) = (Captured::new(call.output), Captured::new(call.output));
        let ended = timeout(call.limit, converse(&mut child, call, &mut stdout, &mut stderr)).await;
        match ended {
            Ok(Ok(status)) => {
                group.release();
                let known = self.known();
                Ok(Finished { status, stdout: stdout.finish(known), stderr: stderr.finish(known) })
            }
            Ok(Err(Broken::Pipe(source))) => Err(ProcessError::Pipe { program, source }),
            Ok(Err(Broken::TooMuch(limit))) => Err(ProcessError::TooMuch { program, limit }),
            Err(_) => {
                group.end(&mut child).await;
                let wrote = if stderr.bytes.is_empty() { stdout } else { stderr };
                let last = self.known().last_lines(wrote.finish(self.known()).expose(), 10);
                Err(ProcessError::TimedOut { program, limit: call.limit, last })
            }
        }
    }

    /// Starts a program whose output is read as it comes. It gets no stdin, and the call's limits do not hold for it.
    ///
    /// # Errors
    ///
    /// [`ProcessError::SecretInArguments`], [`ProcessError::Start`].
    pub fn stream(&self, call: &Call) -> Result<Stream, ProcessError> {
        let program = call.program();
        let failed = |source| ProcessError::Start { program: program.clone(), source };
        let child = self.command(call)?.stdin(Stdio::null()).spawn().map_err(failed)?;
        Stream::of(program.clone(), child, self.known().clone()).map_err(failed)
    }

    fn start(&self, call: &Call) -> Result<Child, ProcessError> {
        Command::from(self.command(call)?)
            .stdin(if call.stdin.is_some() { Stdio::piped() } else { Stdio::null() })
            .kill_on_drop(true)
            .spawn()
            .map_err(|source| ProcessError::Start { program: call.program(), source })
    }

    fn command(&self, call: &Call) -> Result<std::process::Command, ProcessError> {
        let (first, arguments) = call.argv.split_first().ok_or(ProcessError::Empty)?;
        if call.argv.iter().any(|argument| self.0.withheld.occurs_in(argument.as_encoded_bytes())) {
            // The program's own name may be where it stands.
            let program = self.0.known.scrub(first.as_encoded_bytes());
            return Err(ProcessError::SecretInArguments { program });
        }
        let environment = self.0.environment.iter();
        let harmless = environment.filter(|(_, value)| !self.0.withheld.occurs_in(value.as_encoded_bytes()));
        let mut command = std::process::Command::new(first);
        command
            .args(arguments)
            .current_dir(&self.0.directory)
            .env_clear()
            .envs(harmless)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            // A group of its own: it can be ended whole, and Ctrl-C on the terminal reaches reseal alone.
            .process_group(0);
        Ok(command)
    }
}

fn is_passed_on(name: &OsStr) -> bool {
    name.to_str()
        .is_some_and(|name| NAMES.contains(&name) || PREFIXES.iter().any(|prefix| name.starts_with(prefix)))
}

/// Why talking to a program ended early.
enum Broken {
    Pipe(std::io::Error),
    TooMuch(usize),
}

async fn converse(
    child: &mut Child,
    call: &Call,
    stdout: &mut Captured,
    stderr: &mut Captured,
) -> Result<ExitStatus, Broken> {
    let (stdin, out, err) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
    let feed = async {
        if let (Some(mut pipe), Some(value)) = (stdin, &call.stdin) {
            // EXPOSE: stdin is the way that a value goes to a program. One that does not read it closes the pipe:
            // its exit status says what that means.
            let _ = pipe.write_all(value.expose()).await;
            let _ = pipe.shutdown().await;
        }
        Ok(())
    };
    let mut talk = pin!(async { tokio::try_join!(feed, stdout.read(out), stderr.read(err)).map(drop) });
    let status = tokio::select! {
        talked = &mut talk => {
            talked?;
            return child.wait().await.map_err(Broken::Pipe);
        }
        status = child.wait() => status.map_err(Broken::Pipe)?,
    };
    // What it left in the background may keep the pipes open for ever.
    timeout(OUTPUT_GRACE, talk).await.unwrap_or(Ok(()))?;
    Ok(status)
}

/// What was read from one pipe.
struct Captured {
    bytes: Zeroizing<Vec<u8>>,
    output: Output,
    is_cut: bool,
}

impl Captured {
    fn new(output: Output) -> Self {
        Self { bytes: Zeroizing::default(), output, is_cut: false }
    }

    async fn read(&mut self, pipe: Option<impl AsyncRead + Unpin>) -> Result<(), Broken> {
        let Some(mut pipe) = pipe else { return Ok(()) };
        let mut chunk = Zeroizing::new(vec![0; 16 << 10]);
        loop {
            let length = pipe.read(&mut chunk).await.map_err(Broken::Pipe)?;
            if length == 0 {
                return Ok(());
            }
            reserve_wiping(&mut self.bytes, length);
            self.bytes.extend_from_slice(&chunk[..length]);
            match self.output {
                Output::Whole(limit) if self.bytes.len() > limit => return Err(Broken::TooMuch(limit)),
                Output::Last(limit) if self.bytes.len() > 2 * limit => self.keep(limit),
                _ => {}
            }
        }
    }

    fn keep(&mut self, count: usize) {
        let surplus = self.bytes.len().saturating_sub(count);
        if surplus > 0 {
            self.bytes.drain(..surplus);
            self.is_cut = true;
        }
    }

    /// What is kept; after a cut it begins with a whole line.
    fn finish(mut self, known: &Known) -> SecretBytes {
        if let Output::Last(limit) = self.output {
            self.keep(limit);
        }
        SecretBytes::copy_from(if self.is_cut { known.after_cut(&self.bytes) } else { &self.bytes })
    }
}

/// A process group that is killed unless it is released.
struct Group(Option<Pid>);

impl Group {
    fn of(child: &Child) -> Self {
        Self(child.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw))
    }

    fn release(&mut self) {
        self.0 = None;
    }

    /// SIGTERM, some time, SIGKILL.
    async fn end(&mut self, child: &mut Child) {
        if let Some(group) = self.0 {
            // A group that is gone is what is wanted.
            let _ = kill_process_group(group, Signal::TERM);
            let _ = timeout(TERM_GRACE, child.wait()).await;
        }
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        if let Some(group) = self.0 {
            let _ = kill_process_group(group, Signal::KILL);
        }
    }
}
