//! Ctrl-C and requests to terminate: the first asks, the second insists.
//!
//! A command that can stop at a clean place calls [`Signals::take_over`] and watches [`Signals::stopped`]. For every
//! other command the process ends at once; the vault survives that, as it survives a crash.

use std::fs::File;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};

use rustix::termios::{OptionalActions, Termios, tcgetattr, tcsetattr};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

use crate::exit::Exit;
use crate::failure::{Failure, Outcome};

/// What the process was told from outside.
#[derive(Debug, Clone)]
pub(crate) struct Signals {
    taken_over: Arc<AtomicBool>,
    first: Arc<AtomicU8>,
    stop: watch::Receiver<bool>,
}

impl Signals {
    /// Begins to listen, on a thread of its own.
    ///
    /// # Errors
    ///
    /// The system gives no signal handler or no thread.
    pub(crate) fn listen() -> Outcome<Self> {
        let (sender, stop) = watch::channel(false);
        let signals = Self { taken_over: Arc::default(), first: Arc::default(), stop };
        let listener = signals.clone();
        let terminal = Terminal::found();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
        let (ready_sender, ready) = std::sync::mpsc::channel();
        std::thread::Builder::new().name("signals".into()).spawn(move || {
            runtime.block_on(listener.serve(&sender, terminal, &ready_sender));
        })?;
        match ready.recv() {
            Ok(Ok(())) => Ok(signals),
            Ok(Err(error)) => Err(error.into()),
            Err(_) => Err(Failure::new(Exit::Failed, "cannot listen for signals")),
        }
    }

    /// From now on the first signal only asks; the caller stops by itself.
    pub(crate) fn take_over(&self) {
        self.taken_over.store(true, Ordering::Relaxed);
    }

    /// From now on a signal ends the process at once again.
    pub(crate) fn give_back(&self) {
        self.taken_over.store(false, Ordering::Relaxed);
    }

    /// Resolves when the process is asked to stop.
    pub(crate) async fn stopped(&self) {
        let mut stop = self.stop.clone();
        // The sender lives as long as the listening thread, which is as long as the process.
        let _ = stop.wait_for(|stop| *stop).await;
    }

    /// The exit of a command that stopped because it was asked to, if it was.
    pub(crate) fn exit(&self) -> Option<Exit> {
        [Exit::Interrupted, Exit::Terminated]
            .into_iter()
            .find(|exit| exit.number() == self.first.load(Ordering::Relaxed))
    }

    async fn serve(
        self,
        sender: &watch::Sender<bool>,
        terminal: Option<Terminal>,
        ready: &std::sync::mpsc::Sender<std::io::Result<()>>,
    ) {
        let streams = (|| {
            Ok((
                signal(SignalKind::interrupt())?,
                signal(SignalKind::terminate())?,
                signal(SignalKind::hangup())?,
            ))
        })();
        let (mut interrupt, mut terminate, mut hangup) = match streams {
            Ok(streams) => streams,
            Err(error) => {
                let _ = ready.send(Err(error));
                return;
            }
        };
        let _ = ready.send(Ok(()));
        loop {
            let exit = tokio::select! {
                _ = interrupt.recv() => Exit::Interrupted,
                _ = terminate.recv() => Exit::Terminated,
                _ = hangup.recv() => Exit::Terminated,
            };
            let again = self.first.swap(exit.number(), Ordering::Relaxed) != 0;
            if again || !self.taken_over.load(Ordering::Relaxed) {
                leave(exit, terminal.as_ref());
            }
            sender.send_replace(true);
        }
    }
}

/// How the terminal that prompts are asked on was found; stdin may be something else. It is not held open: an agent lives
/// longer than the terminal.
#[derive(Debug)]
struct Terminal(Termios);

impl Terminal {
    const PATH: &str = "/dev/tty";

    fn found() -> Option<Self> {
        let tty = File::open(Self::PATH).ok()?;
        tcgetattr(&tty).ok().map(Self)
    }

    fn put_back(&self) {
        if let Ok(tty) = File::open(Self::PATH) {
            let _ = tcsetattr(&tty, OptionalActions::Now, &self.0);
        }
    }
}

/// Ends the process; a prompt may have turned the echo of the terminal off.
fn leave(exit: Exit, terminal: Option<&Terminal>) -> ! {
    if let Some(terminal) = terminal {
        terminal.put_back();
    }
    std::process::exit(exit.number().into())
}
