//! `adopt`

use std::path::PathBuf;

use clap::Args;

/// `adopt`
#[derive(Debug, Args)]
pub(crate) struct AdoptArgs {
    /// The directory of the project; here, if none is given
    #[arg(value_name = "DIR", default_value = ".")]
    pub(crate) dir: PathBuf,
    /// Show the plan, and store and write nothing
    #[arg(long, short = 'n')]
    pub(crate) dry_run: bool,
    /// What every name in the vault begins with; otherwise the name of the directory
    #[arg(long, value_name = "PREFIX")]
    pub(crate) prefix: Option<String>,
    /// Leave a file of the project out; may be given several times
    #[arg(long, value_name = "FILE")]
    pub(crate) except: Vec<PathBuf>,
    /// A systemd unit that reads the files of which no compose service is known to; may be given several times
    #[arg(long, value_name = "UNIT")]
    pub(crate) systemd: Vec<String>,
    /// When the values came into being; otherwise their age is unknown, and they are due
    #[arg(long, value_name = "DATE")]
    pub(crate) changed_at: Option<String>,
}
