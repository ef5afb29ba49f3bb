//! `unlock` and `lock`: a process that holds the vault key, and nothing else, for a while.

use std::env;
use std::io::{BufRead, BufReader, Read, Write};
use std::path::PathBuf;
use std::process::{Command, Stdio};

use reseal_crypto::secret::VaultKey;
use reseal_vault::agent::{AgentClient, AgentListener, Ended, Limits, harden_process};
use reseal_vault::{LockedVault, UnlockedKey, VaultId};
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
    pub(crate) fn end_agent(&self, vault: VaultId) -> bool {
        let ended = AgentClient::connect(&socket_directory(), vault).and_then(|client| match client {
            Some(client) => client.lock().map(|()| true),
            None => Ok(false),
        });
        ended.unwrap_or_else(|error| {
            self.ui.warn(format!("the agent did not end: {error}"));
            false
        })
    }
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
    app.end_agent(id);
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
/// There is no such vault.
pub(crate) fn lock(app: &App) -> Outcome {
    let path = app.vault_path()?;
    let id = LockedVault::find(&path, app.open_options()?)?.id();
    let ended = app.end_agent(id);
    app.ui.result(json!({ "vault": path, "agent_ended": ended }), || {
        if ended { format!("{} is locked", path.display()) } else { "no agent was running".to_owned() }
    })?;
    Ok(Exit::Done)
}

/// `agent-serve`: what the agent itself does.
///
/// # Errors
///
/// Another agent is running, or the socket cannot be opened.
pub(crate) fn serve(args: &AgentArgs) -> Outcome {
    harden_process()?;
    // Already a leader of its session where a shell gave it one: either way the terminal no longer reaches it.
    let _ = rustix::process::setsid();
    let mut bytes = Zeroizing::new([0; 32]);
    std::io::stdin().lock().read_exact(&mut *bytes)?;
    let id = args.vault_id.parse().map_err(|_| Failure::new(Exit::Usage, "not the id of a vault"))?;
    let listener = AgentListener::bind(&socket_directory(), id)?;
    writeln!(std::io::stdout(), "{READY}")?;
    let limits = Limits {
        idle: std::time::Duration::from_secs(args.idle_secs),
        hard: std::time::Duration::from_secs(args.hard_secs),
    };
    match listener.serve(VaultKey::from_bytes(&bytes), limits)? {
        Ended::Idle | Ended::Expired | Ended::Locked => Ok(Exit::Done),
    }
}

fn start(id: VaultId, key: &VaultKey, args: &UnlockArgs) -> Outcome<()> {
    let failed = |why: String| Failure::new(Exit::Failed, "the agent did not start").while_doing(why);
    let mut child = Command::new(env::current_exe()?)
        .arg("agent-serve")
        .args(["--vault-id", &id.to_string()])
        .args(["--idle-secs", &args.idle.as_secs().to_string()])
        .args(["--hard-secs", &args.hard.as_secs().to_string()])
        .current_dir("/")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()?;
    let (Some(mut stdin), Some(stdout)) = (child.stdin.take(), child.stdout.take()) else {
        return Err(failed("no pipe to the agent".to_owned()));
    };
    // EXPOSE: over a pipe to our own process, which hardened itself before it reads.
    stdin.write_all(key.expose())?;
    drop(stdin);
    let mut line = String::new();
    BufReader::new(stdout).read_line(&mut line)?;
    if line.trim_end() == READY {
        return Ok(());
    }
    let status = child.wait()?;
    Err(failed(format!("cannot hold the vault open ({status})")))
}

/// Where agents have their sockets: the user's runtime directory, else a directory of this user's own in the temporary one.
fn socket_directory() -> PathBuf {
    let runtime = env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from).filter(|path| path.is_absolute());
    runtime.map_or_else(
        || env::temp_dir().join(format!("reseal-{}", rustix::process::getuid().as_raw())),
        |directory| directory.join("reseal"),
    )
}
