//! PgBouncer before a private Postgres: each transaction of a client goes to whichever server process is free.

use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use crate::binaries;
use crate::error::SandboxError;
use crate::guard::{Guarded, LastSignal};
use crate::postgres::Server;
use crate::private::{self, write_private};
use crate::user::ServerUser;

/// How long it may take to start.
const PATIENCE: Duration = Duration::from_secs(30);
/// The port in the name of its socket.
const PORT: u16 = 6432;

/// A running transaction pooler; it stops and its directory goes when this value is dropped.
#[derive(Debug)]
pub struct Pooler {
    directory: PathBuf,
    guard: Guarded,
}

impl Pooler {
    /// Starts one before `server`, with up to `processes` server processes for all its clients together.
    ///
    /// # Errors
    ///
    /// [`SandboxError`]: the program is missing, or it says why it does not start.
    pub fn start(server: &Server, processes: u32) -> Result<Self, SandboxError> {
        let program = binaries::pgbouncer()?;
        let user = ServerUser::choose()?;
        let directory = private::make_directory("reseal-pool-", user)?;
        let config = server.config();
        let superuser = config.get_user().unwrap_or_default();
        let port = config.get_ports().first().copied().unwrap_or(5432);
        let text = format!(
            "[databases]\n* = host={server} port={port}\n\
             [pgbouncer]\nunix_socket_dir = {own}\nlisten_port = {PORT}\nauth_type = trust\nauth_file = {own}/users\n\
             pool_mode = transaction\ndefault_pool_size = {processes}\n",
            server = server.socket_dir().display(),
            own = directory.display(),
        );
        write_private(&directory.join("pgbouncer.ini"), text.as_bytes(), user)?;
        write_private(&directory.join("users"), format!("\"{superuser}\" \"\"\n").as_bytes(), user)?;
        let arguments = [program.into(), directory.join("pgbouncer.ini").into()];
        let guard = Guarded::spawn(&directory, user, LastSignal::Kill, &arguments)?;
        let pooler = Self { directory, guard };
        pooler.wait_ready()?;
        Ok(pooler)
    }

    /// The URL of its socket, for the superuser.
    pub fn url(&self) -> String {
        let host = self.directory.to_string_lossy().replace('%', "%25").replace('/', "%2F");
        format!("postgresql://postgres@{host}:{PORT}/postgres")
    }

    fn wait_ready(&self) -> Result<(), SandboxError> {
        let socket = self.directory.join(format!(".s.PGSQL.{PORT}"));
        let log = self.directory.join("log");
        let begin = Instant::now();
        while UnixStream::connect(&socket).is_err() {
            if self.guard.wait_gone(Duration::from_millis(10)) {
                return Err(SandboxError::Failed { program: "pgbouncer", log: private::tail(&log) });
            }
            if begin.elapsed() > PATIENCE {
                let (what, seconds) = ("start", PATIENCE.as_secs());
                return Err(SandboxError::Timeout {
                    program: "pgbouncer",
                    what,
                    seconds,
                    log: private::tail(&log),
                });
            }
        }
        Ok(())
    }
}
