//! The log of `-v`: what reseal does, on stderr.

use tracing_subscriber::EnvFilter;

/// Starts the log: warnings by default, then info, debug and trace of reseal's own crates.
///
/// Other crates are left out at every level: some of them print what they are given, and they are given secrets.
pub(crate) fn start(verbose: u8) {
    let level = match verbose {
        0 => "warn",
        1 => "info",
        2 => "debug",
        _ => "trace",
    };
    let own = ["reseal", "reseal_vault", "reseal_engine", "reseal_rotate", "reseal_formats", "reseal_crypto"];
    let filter =
        own.iter().fold(EnvFilter::new("off"), |filter, name| match format!("{name}={level}").parse() {
            Ok(directive) => filter.add_directive(directive),
            Err(_) => filter,
        });
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(false)
        .with_target(verbose > 1)
        .init();
}
