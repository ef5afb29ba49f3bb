//! `unlock` and `lock`: a process that holds the vault key, and nothing else, for a while.

use std::env;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::path::PathBuf;
use std::process::{Command, Stdio};

use reseal_crypto::secret::VaultKey;
use reseal_vault::agent::{AgentClient, AgentListener, Ended, Limits, harden_process, socket_path};
use reseal_vault::{LockedVault, UnlockedKey, VaultError, VaultId};
use serde_json::json;
use zeroize::Zeroizing;

use crate::app::App;
use crate::args::{AgentArgs, UnlockArgs};
use crate::exit::Exit;
use crate::failure::{Failure, Outcome};
use crate::units;

/// What the agent says when clients can find it.
const READY: &str = "ready";

impl App {
    /// The vault key that an agent holds, if one does.
    pub(crate) fn agent_key(&self, vault: VaultId) -> Option<UnlockedKey> {
        let answer = AgentClient::connect(&socket_directory(), vault).and_then(|client| match client {
            Some(mut client) => client.key(),
            None => Ok(None),
        });
        match answer {
            Ok(answer) => answer.map(|(key, _)| key),
            Err(error) => {
                self.ui.warn(format!("the agent is not used: {error}"));
                None
            }
        }
    }

    /// Ends the agent of a vault, if there is one: its key is of no use any more.
    pub(crate) fn end_agent_or_warn(&self, vault: VaultId) {
        if let Err(error) = end_agent(vault) {
            self.ui.warn(format!("the agent did not end: {error}"));
        }
    }
}

/// Ends the agent of a vault; says whether there was one.
fn end_agent(vault: VaultId) -> Result<bool, VaultError> {
    match AgentClient::connect(&socket_directory(), vault)? {
        Some(client) => client.lock().map(|()| true),
        None => Ok(false),
    }
}

/// An agent that could not be ended.
fn still_held(error: VaultError, vault: VaultId) -> Failure {
    let socket = socket_path(&socket_directory(), vault);
    Failure::from(error)
        .while_doing("the agent did not end, and may still hold the key")
        .hint(format!("end the process that listens on {}", socket.display()))
}

/// `unlock`: starts an agent.
///
/// # Errors
///
/// The vault does not open, or the agent does not start.
pub(crate) fn unlock(app: &App, args: &UnlockArgs) -> Outcome {
    let path = app.vault_path()?;
    let options = app.open_options()?;
    let locked = LockedVault::find(&path, options)?;
    let id = locked.id();
    let key = app.key_of(&locked, &path)?;
    // A key that opens a slot is proved only by the head of the vault.
    locked.unlock(key.clone())?;
    start(id, key.key(), args)?;
    let object = json!({
        "vault": path,
        "seconds": args.hard.as_secs(),
        "idle_seconds": args.idle.as_secs(),
    });
    app.ui.result(object, || {
        format!(
            "{} is open for {}, or until it was not used for {}",
            path.display(),
            units::span(args.hard),
            units::span(args.idle)
        )
    })?;
    Ok(Exit::Done)
}

/// `lock`: ends the agent.
///
/// # Errors
///
/// There is no such vault, or its agent does not end.
pub(crate) fn lock(app: &App) -> Outcome {
    let path = app.vault_path()?;
    let id = LockedVault::find(&path, app.open_options()?)?.id();
    let ended = end_agent(id).map_err(|error| still_held(error, id))?;
    app.ui.result(json!({ "vault": path, "agent_ended": ended }), || {
        if ended { format!("{} is locked", path.display()) } else { "no agent was running".to_owned() }
    })?;
    Ok(Exit::Done)
}

/// `agent-serve`: what the agent itself does.
///
/// # Errors
///
/// The agent that is there does not end, or the socket cannot be opened.
pub(crate) fn serve(args: &AgentArgs) -> Outcome {
    harden_process()?;
    // Already a leader of its session where a shell gave it one: either way the terminal no longer reaches it.
    let _ = rustix::process::setsid();
    let mut bytes = Zeroizing::new([0; 32]);
    std::io::stdin().lock().read_exact(&mut *bytes)?;
    let id = args.vault_id.parse().map_err(|_| Failure::new(Exit::Usage, "not the id of a vault"))?;
    // The last thing before its own socket: until here the agent that is there goes on.
    end_agent(id).map_err(|error| still_held(error, id))?;
    let listener = AgentListener::bind(&socket_directory(), id)?;
    writeln!(std::io::stdout(), "{READY}")?;
    let_go_of_the_caller()?;
    let limits = Limits {
        idle: std::time::Duration::from_secs(args.idle_secs),
        hard: std::time::Duration::from_secs(args.hard_secs),
    };
    match listener.serve(VaultKey::from_bytes(&bytes), limits)? {
        Ended::Idle | Ended::Expired | Ended::Locked => Ok(Exit::Done),
    }
}

/// Closes the pipes to whoever started the agent: what it says later is for nobody.
fn let_go_of_the_caller() -> Outcome<()> {
    let null = File::options().write(true).open("/dev/null")?;
    rustix::stdio::dup2_stdout(&null)
        .and_then(|()| rustix::stdio::dup2_stderr(&null))
        .map_err(io::Error::from)?;
    Ok(())
}

fn start(id: VaultId, key: &VaultKey, args: &UnlockArgs) -> Outcome<()> {
    let mut child = Command::new(env::current_exe()?)
        .args(["agent-serve", "--json"])
        .args(["--vault-id", &id.to_string()])
        .args(["--idle-secs", &args.idle.as_secs().to_string()])
        .args(["--hard-secs", &args.hard.as_secs().to_string()])
        .current_dir("/")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()?;
    let (Some(mut stdin), Some(stdout), Some(mut stderr)) =
        (child.stdin.take(), child.stdout.take(), child.stderr.take())
    else {
        return Err(Failure::new(Exit::Failed, "there is no pipe to the agent"));
    };
    // EXPOSE: over a pipe to our own process, which hardened itself before it reads. If it is gone already, it says why.
    let _ = stdin.write_all(key.expose());
    drop(stdin);
    let mut line = String::new();
    BufReader::new(stdout).read_line(&mut line)?;
    if line.trim_end() == READY {
        return Ok(());
    }
    let mut said = String::new();
    stderr.read_to_string(&mut said)?;
    let status = child.wait()?;
    let failure = said.lines().find_map(Failure::from_json);
    let failure = failure.unwrap_or_else(|| Failure::new(Exit::Failed, format!("it ended with {status}")));
    Err(failure.while_doing("the agent did not start"))
}

/// Where agents have their sockets: the user's runtime directory, else a directory of this user's own in the temporary one.
fn socket_directory() -> PathBuf {
    let runtime = env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from).filter(|path| path.is_absolute());
    runtime.map_or_else(
        || env::temp_dir().join(format!("reseal-{}", rustix::process::getuid().as_raw())),
        |directory| directory.join("reseal"),
    )
}
