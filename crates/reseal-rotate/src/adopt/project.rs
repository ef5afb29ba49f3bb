//! The files of a project: what holds variables, what is a forgotten copy, what else may hold a value.

use std::fs;
use std::path::{Path, PathBuf};

use reseal_crypto::SecretBytes;

/// How deep directories are looked into.
const DEPTH: usize = 6;

/// How many files are looked at.
const FILES_MAX: usize = 20_000;

/// The largest file that is searched for values.
const SEARCHED_MAX: u64 = 1 << 20;

/// Directories of other people's files.
const FOREIGN: [&str; 10] = [
    "node_modules",
    "target",
    "venv",
    "__pycache__",
    "site-packages",
    "vendor",
    "dist",
    "build",
    "bower_components",
    "htmlcov",
];

/// What compose reads where no file is named.
const COMPOSE: [&str; 4] = ["compose.yaml", "compose.yml", "docker-compose.yml", "docker-compose.yaml"];

/// The files that matter, relative to the project, in order.
#[derive(Debug, Default)]
pub(super) struct Project {
    /// `.env` files.
    pub(super) env: Vec<PathBuf>,
    /// Copies that somebody kept.
    pub(super) copies: Vec<PathBuf>,
    /// Every other file.
    pub(super) others: Vec<PathBuf>,
    /// Compose files that are not at the top, where compose is run.
    pub(super) compose_below: Vec<PathBuf>,
    /// Whether there is a compose file at the top.
    pub(super) has_compose: bool,
    /// Whether there were too many files to look at all.
    pub(super) is_cut: bool,
}

impl Project {
    /// Looks through a directory; links are not followed.
    pub(super) fn of(directory: &Path) -> Self {
        let mut project = Self::default();
        let (mut count, mut queue) = (0, vec![(PathBuf::new(), 0)]);
        while let Some((folder, depth)) = queue.pop() {
            let Ok(entries) = fs::read_dir(directory.join(&folder)) else { continue };
            for entry in entries.flatten() {
                count += 1;
                if count > FILES_MAX {
                    project.is_cut = true;
                    break;
                }
                let name = entry.file_name().to_string_lossy().into_owned();
                let path = folder.join(&name);
                let Ok(kind) = entry.file_type() else { continue };
                if kind.is_dir() {
                    let is_foreign = name.starts_with('.') || FOREIGN.contains(&name.as_str());
                    if !is_foreign && depth < DEPTH {
                        queue.push((path, depth + 1));
                    }
                } else {
                    project.sort_in(&name, path, kind.is_file());
                }
            }
        }
        for files in [&mut project.env, &mut project.copies, &mut project.others, &mut project.compose_below]
        {
            files.sort();
        }
        project
    }

    fn sort_in(&mut self, name: &str, path: PathBuf, is_regular: bool) {
        if COMPOSE.contains(&name) {
            match path.parent() {
                Some(parent) if parent != Path::new("") => self.compose_below.push(path.clone()),
                _ => self.has_compose = true,
            }
        }
        if is_copy(name) {
            self.copies.push(path);
        } else if is_env(name) {
            self.env.push(path);
        } else if is_regular {
            self.others.push(path);
        }
    }
}

/// The bytes of a file that may hold values in clear; nothing of one that is too large or cannot be read.
pub(super) fn searched(path: &Path) -> Option<SecretBytes> {
    let metadata = fs::symlink_metadata(path).ok()?;
    if !metadata.is_file() || metadata.len() > SEARCHED_MAX {
        return None;
    }
    fs::read(path).ok().map(SecretBytes::new)
}

fn is_env(name: &str) -> bool {
    const EXAMPLES: [&str; 8] =
        ["example", "sample", "template", "dist", "tmpl", "defaults", "schema", "vault"];
    let is_example = name.split(['.', '-', '_']).any(|part| EXAMPLES.contains(&part));
    let is_named = name == ".env" || name.starts_with(".env.") || name.ends_with(".env");
    is_named && !is_example
}

/// A copy by its name: one that an editor or a person made beside a file, or a hidden one that says so. `backup.env`,
/// `pg_backup.yml` and `.env.backup-service` are files in use.
fn is_copy(name: &str) -> bool {
    const ENDS: [&str; 8] = [".bak", ".old", ".orig", ".save", ".swp", "~", "backup.sql", "dump.sql"];
    let is_date = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit() || b".-_".contains(&byte));
    let is_hidden = name.starts_with('.') || name.contains(".env.");
    ENDS.iter().any(|end| name.ends_with(end))
        || is_hidden && name.rsplit_once("backup").is_some_and(|(_, rest)| is_date(rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_told_apart() {
        let directory = tempfile::tempdir().unwrap();
        for file in [
            ".env",
            ".env.example",
            ".env.backup.20260101",
            ".credentials-backup-20260101-020304",
            "docker-compose.yml",
            "backend/.env.prod",
            "backend/settings.py",
            "deploy/web.env",
            "deploy/backup.env",
            "deploy/pg_backup.yml",
            "deploy/.env.backup-service",
            "deploy/web.env.backup",
            "deploy/compose.yaml",
            "node_modules/x/.env",
            ".git/config",
        ] {
            let path = directory.path().join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, "").unwrap();
        }
        let project = Project::of(directory.path());
        let names =
            |paths: &[PathBuf]| paths.iter().map(|path| path.display().to_string()).collect::<Vec<_>>();
        assert_eq!(
            names(&project.env),
            [
                ".env",
                "backend/.env.prod",
                "deploy/.env.backup-service",
                "deploy/backup.env",
                "deploy/web.env"
            ]
        );
        assert_eq!(
            names(&project.copies),
            [".credentials-backup-20260101-020304", ".env.backup.20260101", "deploy/web.env.backup"]
        );
        assert!(names(&project.others).contains(&"deploy/pg_backup.yml".to_owned()));
        assert_eq!(names(&project.compose_below), ["deploy/compose.yaml"]);
        assert!(project.has_compose && !project.is_cut);
        assert!(names(&project.others).contains(&"backend/settings.py".to_owned()));
    }
}
