//! Where the programs of a server are.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::error::SandboxError;

/// The directory that holds `postgres` and `initdb`.
///
/// Looks on `PATH` (through links), then where Debian, Red Hat and Homebrew keep them (newest first), then asks
/// `pg_config`.
///
/// # Errors
///
/// [`SandboxError::MissingProgram`] with the package to install.
pub fn postgres_directory() -> Result<PathBuf, SandboxError> {
    on_path()
        .or_else(|| newest_of(&VERSIONED))
        .or_else(from_pg_config)
        .ok_or(SandboxError::MissingProgram { program: "postgres", package: "postgresql" })
}

/// The program `redis-server`, or `valkey-server`, which is the same for our purposes.
///
/// # Errors
///
/// [`SandboxError::MissingProgram`] with the package to install.
pub fn redis_server() -> Result<PathBuf, SandboxError> {
    usual(&["redis-server", "valkey-server"])
        .ok_or(SandboxError::MissingProgram { program: "redis-server", package: "redis-server" })
}

/// The program `pgbouncer`.
///
/// # Errors
///
/// [`SandboxError::MissingProgram`] with the package to install.
pub fn pgbouncer() -> Result<PathBuf, SandboxError> {
    usual(&["pgbouncer"]).ok_or(SandboxError::MissingProgram { program: "pgbouncer", package: "pgbouncer" })
}

/// A program on `PATH` or where packages put servers.
fn usual(names: &[&str]) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let usual = ["/usr/bin", "/usr/sbin", "/usr/local/bin", "/opt/homebrew/bin"].map(PathBuf::from);
    let directories: Vec<_> = std::env::split_paths(&path).chain(usual).collect();
    find_in(&directories, names)
}

fn find_in(directories: &[PathBuf], names: &[&str]) -> Option<PathBuf> {
    let candidates = directories.iter().flat_map(|directory| names.iter().map(|name| directory.join(name)));
    candidates.into_iter().find(|candidate| candidate.is_file())
}

/// Directories with one entry per version: what stands before the version, and where the programs are below it.
const VERSIONED: [(&str, &str, &str); 4] = [
    ("/usr/lib/postgresql", "", "bin"),
    ("/usr", "pgsql-", "bin"),
    ("/opt/homebrew/opt", "postgresql@", "bin"),
    ("/usr/local/opt", "postgresql@", "bin"),
];

fn holds_server(directory: &Path) -> bool {
    directory.join("postgres").is_file() && directory.join("initdb").is_file()
}

fn on_path() -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).find_map(|directory| {
        if holds_server(&directory) {
            return Some(directory);
        }
        // A lone link to the server names the directory where its companions are.
        let program = directory.join("postgres").canonicalize().ok()?;
        program.parent().filter(|found| holds_server(found)).map(Path::to_path_buf)
    })
}

fn newest_of(places: &[(&str, &str, &str)]) -> Option<PathBuf> {
    let versions = places.iter().flat_map(|&(root, before, below)| {
        let entries = std::fs::read_dir(root).into_iter().flatten().flatten();
        entries.filter_map(move |entry| {
            let name = entry.file_name().into_string().ok()?;
            let version: u32 = name.strip_prefix(before)?.split('.').next()?.parse().ok()?;
            Some((version, entry.path().join(below)))
        })
    });
    versions.filter(|(_, directory)| holds_server(directory)).max().map(|(_, directory)| directory)
}

fn from_pg_config() -> Option<PathBuf> {
    let output = Command::new("pg_config").arg("--bindir").stdin(Stdio::null()).output().ok()?;
    let directory = PathBuf::from(String::from_utf8(output.stdout).ok()?.trim());
    holds_server(&directory).then_some(directory)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn install(root: &Path, version: &str) -> PathBuf {
        let bin = root.join(version).join("bin");
        std::fs::create_dir_all(&bin).unwrap();
        for program in ["postgres", "initdb"] {
            std::fs::write(bin.join(program), "").unwrap();
        }
        bin
    }

    #[test]
    fn newest_version_by_number_wins() {
        let root = tempfile::tempdir().unwrap();
        install(root.path(), "9.6");
        let newest = install(root.path(), "15");
        std::fs::create_dir(root.path().join("18")).unwrap();
        let found = newest_of(&[(root.path().to_str().unwrap(), "", "bin")]);
        assert_eq!(found, Some(newest));
    }

    #[test]
    fn programs_are_found_in_order() {
        let root = tempfile::tempdir().unwrap();
        let [first, second] = ["a", "b"].map(|name| root.path().join(name));
        let directories = [first.clone(), second.clone()];
        assert_eq!(find_in(&directories, &["redis-server"]), None);
        for (directory, program) in [(&second, "redis-server"), (&first, "valkey-server")] {
            std::fs::create_dir(directory).unwrap();
            std::fs::write(directory.join(program), "").unwrap();
        }
        let names = ["redis-server", "valkey-server"];
        assert_eq!(find_in(&directories, &names), Some(first.join("valkey-server")));
        assert_eq!(find_in(&directories[1..], &names), Some(second.join("redis-server")));
    }

    #[test]
    fn missing_server_names_the_package() {
        let error = SandboxError::MissingProgram { program: "postgres", package: "postgresql" };
        assert!(error.to_string().contains("package postgresql"));
    }
}
