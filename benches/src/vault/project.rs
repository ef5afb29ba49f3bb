//! A directory with a plan, files and a vault that a key file opens.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use reseal_crypto::SecretBytes;
use reseal_vault::{NewVersion, SecretKind, SecretName, Timestamp};
use tempfile::TempDir;

use crate::{BoxError, key_file};

/// How many files the places of a large plan are spread over.
const FILES: usize = 100;

/// What every plan begins with.
const HEAD: &str = "schema = 1\nvault = \"v.vault\"\nenvironment = \"production\"\n\n[defaults]\nwarn = \"7d\"\nowner = \"DevOps\"\n\n[apps.web]\nrestart = [\"true\"]\n";

/// A project.
#[derive(Debug)]
pub(crate) struct Project {
    directory: TempDir,
    files: Vec<String>,
}

impl Project {
    /// Many secrets with many versions, in many places.
    pub(crate) fn large(secrets: usize, versions: usize, places: usize) -> Result<Self, BoxError> {
        let files: Vec<_> = (0..FILES.min(secrets)).map(|file| format!("f{file}.env")).collect();
        let mut plan = head(&files)?;
        for secret in 0..secrets {
            let mut write = String::new();
            for place in 0..places {
                let file = &files[(secret + place) % files.len()];
                write!(write, "{{ file = \"{file}\", var = \"V{secret}_{place}\" }}, ")?;
            }
            write!(plan, "\n[secrets.\"s/{secret}\"]\nstrategy = \"in-place\"\nwrite = [{write}]\n")?;
        }
        let project = Self { directory: tempfile::tempdir()?, files };
        let names = (0..secrets).map(|secret| format!("s/{secret}").parse());
        let names: Vec<SecretName> = names.collect::<Result<_, _>>()?;
        project.fill(&plan, &names, versions)?;
        Ok(project)
    }

    /// Some secrets, each in the same number of files that no other one stands in.
    pub(crate) fn many(secrets: usize, files: usize) -> Result<Self, BoxError> {
        let files: Vec<_> = (0..files).map(|file| format!("f{file}.env")).collect();
        let mut plan = head(&files)?;
        let project = Self { directory: tempfile::tempdir()?, files: files.clone() };
        let mut names: Vec<SecretName> = Vec::new();
        for secret in 0..secrets {
            names.push(format!("s/{secret}").parse()?);
            let mut write = String::new();
            for file in files.iter().skip(secret).step_by(secrets) {
                write!(write, "{{ file = \"{file}\", var = \"VALUE\" }}, ")?;
                let text = format!("# kept\nBEFORE=1\nVALUE={}\nAFTER=2\n", value(secret, 1));
                fs::write(project.path().join(file), text)?;
            }
            write!(plan, "\n[secrets.\"s/{secret}\"]\nstrategy = \"in-place\"\nwrite = [{write}]\n")?;
        }
        project.fill(&plan, &names, 1)?;
        Ok(project)
    }

    /// Its directory.
    pub(crate) fn path(&self) -> &Path {
        self.directory.path()
    }

    /// How large its vault is.
    pub(crate) fn vault_bytes(&self) -> Result<u64, BoxError> {
        Ok(fs::metadata(self.path().join(key_file::VAULT))?.len())
    }

    /// What its files hold.
    pub(crate) fn values(&self) -> Result<Vec<String>, BoxError> {
        self.files.iter().map(|file| Ok(fs::read_to_string(self.path().join(file))?)).collect()
    }

    /// Every file has another value, and is as before otherwise.
    pub(crate) fn check_all_changed(&self, before: &[String]) -> Result<(), BoxError> {
        for (old, new) in before.iter().zip(self.values()?) {
            let rest = |text: &str| {
                text.lines().filter(|line| !line.starts_with("VALUE=")).map(str::to_owned).collect::<Vec<_>>()
            };
            if *old == new || rest(old) != rest(&new) {
                return Err("a file was not rotated, or more than its value changed".into());
            }
        }
        Ok(())
    }

    fn fill(&self, plan: &str, names: &[SecretName], versions: usize) -> Result<(), BoxError> {
        fs::write(self.path().join("reseal.toml"), plan)?;
        let mut vault = key_file::create(self.path())?;
        for version in 1..=versions {
            vault.put_all(names.iter().enumerate().map(|(secret, name)| {
                let text = value(secret, version);
                let new = NewVersion::new(SecretKind::Password, SecretBytes::copy_from(text.as_bytes()));
                // Days apart, so that some are due and some are not.
                let changed_at = Timestamp(1_700_000_000 + (secret % 1_000) as i64 * 86_400);
                (name.clone(), NewVersion { changed_at: Some(changed_at), ..new })
            }))?;
        }
        Ok(())
    }
}

/// The beginning of a plan with these files.
fn head(files: &[String]) -> Result<String, BoxError> {
    let mut plan = HEAD.to_owned();
    for file in files {
        write!(plan, "\n[files.\"{file}\"]\nreaders = [\"shell\"]\nused_by = [\"web\"]\n")?;
    }
    Ok(plan)
}

fn value(secret: usize, version: usize) -> String {
    format!("a-value-of-secret-{secret}-version-{version}")
}
