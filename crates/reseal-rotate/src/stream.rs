//! The output of a program as it comes, of any length, read by whoever keeps it.

use std::fmt;
use std::io::{self, Read};
use std::process::{Child, ChildStdout};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, Signal, kill_process_group};
use zeroize::Zeroizing;

use crate::scrub::Known;

/// How long a program may be silent.
const SILENCE: Duration = Duration::from_secs(600);

/// How often whoever reads can look up.
const SLICE: Timespec = Timespec { tv_sec: 0, tv_nsec: 100_000_000 };

/// How much of its complaints is kept.
const COMPLAINTS: usize = 64 << 10;

/// What a program writes to stdout. The end of it is told only once the program has ended with 0: half an answer is an
/// error and never the end. Dropped before that, the program and all its children are killed.
///
/// While nothing comes, a read ends with [`io::ErrorKind::Interrupted`] every 100 ms.
pub struct Stream {
    program: String,
    child: Child,
    stdout: ChildStdout,
    complaints: Option<JoinHandle<Zeroizing<Vec<u8>>>>,
    known: Known,
    silent_since: Instant,
    is_over: bool,
}

impl fmt::Debug for Stream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Stream").field("program", &self.program).finish_non_exhaustive()
    }
}

impl Stream {
    /// Of a child that leads a process group and whose stdout and stderr are piped.
    pub(crate) fn of(program: String, mut child: Child, known: Known) -> io::Result<Self> {
        let missing = || io::Error::other("its output is not piped");
        let stdout = child.stdout.take().ok_or_else(missing)?;
        let mut stderr = child.stderr.take().ok_or_else(missing)?;
        let complaints = Some(std::thread::spawn(move || last_of(&mut stderr)));
        Ok(Self { program, child, stdout, complaints, known, silent_since: Instant::now(), is_over: false })
    }

    /// The program has closed its output: how it ended says whether that was all.
    fn end(&mut self) -> io::Result<()> {
        let status = self.child.wait()?;
        self.is_over = true;
        if status.success() {
            return Ok(());
        }
        let wrote = self.complaints.take().and_then(|reader| reader.join().ok()).unwrap_or_default();
        let lines = self.known.last_lines(&wrote, 5).join("; ");
        Err(io::Error::other(format!("`{}` ended with {status}: {lines}", self.program)))
    }
}

impl Read for Stream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.is_over {
            return Ok(0);
        }
        if poll(&mut [PollFd::new(&self.stdout, PollFlags::IN)], Some(&SLICE))? == 0 {
            if self.silent_since.elapsed() > SILENCE {
                let words = format!("`{}` wrote nothing for {} s", self.program, SILENCE.as_secs());
                return Err(io::Error::new(io::ErrorKind::TimedOut, words));
            }
            return Err(io::ErrorKind::Interrupted.into());
        }
        self.silent_since = Instant::now();
        match self.stdout.read(buffer)? {
            0 => self.end().map(|()| 0),
            count => Ok(count),
        }
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        if self.is_over {
            return;
        }
        if let Some(group) = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw) {
            // A group that is gone is what is wanted.
            let _ = kill_process_group(group, Signal::KILL);
        }
        let _ = self.child.wait();
    }
}

/// Reads to the end, so that the program is never held up, and keeps the last of it.
fn last_of(pipe: &mut impl Read) -> Zeroizing<Vec<u8>> {
    let mut kept = Zeroizing::new(Vec::with_capacity(3 * COMPLAINTS));
    let mut chunk = Zeroizing::new(vec![0; COMPLAINTS]);
    while let Ok(count @ 1..) = pipe.read(&mut chunk) {
        kept.extend_from_slice(&chunk[..count]);
        let surplus = kept.len().saturating_sub(COMPLAINTS);
        kept.drain(..surplus);
    }
    kept
}
