//! One invocation: how it talks, which files it means, who runs it.

use std::cell::OnceCell;
use std::env;
use std::path::PathBuf;

use reseal_vault::agent::harden_process;
use tokio::runtime::Runtime;

use crate::args::Global;
use crate::exit::Exit;
use crate::failure::{Failure, Outcome};
use crate::input::Asker;
use crate::signals::Signals;
use crate::ui::Ui;

/// Everything that the commands share.
#[derive(Debug)]
pub(crate) struct App {
    /// How it talks.
    pub(crate) ui: Ui,
    /// The flags of every command.
    pub(crate) global: Global,
    /// Ctrl-C and its like.
    pub(crate) signals: Signals,
    /// The vault that the plan names, once that was read.
    pub(crate) planned_vault: OnceCell<Option<PathBuf>>,
}

impl App {
    /// Sets the invocation up: directory, log, hardening, signals.
    ///
    /// # Errors
    ///
    /// The directory of `-C` cannot be entered, or the system gives no signal handler.
    pub(crate) fn new(global: Global) -> Outcome<Self> {
        if let Some(directory) = &global.directory {
            env::set_current_dir(directory).map_err(|error| {
                Failure::from(error).while_doing(format!("cannot enter {}", directory.display()))
            })?;
        }
        global.opener()?;
        crate::log::start(global.verbose);
        // Before any key is there: every command may come to hold one.
        if let Err(error) = harden_process() {
            tracing::warn!(%error, "debuggers and core dumps are not kept away");
        }
        let ui = Ui::new(global.json, global.quiet);
        Ok(Self { ui, signals: Signals::listen()?, global, planned_vault: OnceCell::new() })
    }

    /// The runtime of commands that talk to databases.
    ///
    /// # Errors
    ///
    /// The system gives no threads.
    pub(crate) fn runtime(&self) -> Outcome<Runtime> {
        Ok(tokio::runtime::Builder::new_multi_thread().enable_all().build()?)
    }

    /// Who can be asked.
    pub(crate) fn asker(&self) -> Asker {
        Asker::new(!self.global.no_input, self.global.yes)
    }
}

/// A directory of this user: `$VARIABLE/reseal`, or `$HOME/FALLBACK/reseal`.
///
/// # Errors
///
/// Neither is known.
pub(crate) fn user_directory(variable: &str, fallback: &str) -> Outcome<PathBuf> {
    let absolute = |path: PathBuf| path.is_absolute().then_some(path);
    let base = env::var_os(variable).map(PathBuf::from).and_then(absolute).or_else(|| {
        env::var_os("HOME").map(PathBuf::from).and_then(absolute).map(|home| home.join(fallback))
    });
    base.map(|base| base.join("reseal")).ok_or_else(|| {
        Failure::new(Exit::Usage, format!("neither {variable} nor HOME is set"))
            .hint("name the vault with --vault")
    })
}
