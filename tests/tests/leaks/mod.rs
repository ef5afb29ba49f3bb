//! Canaries: secrets that are recognised in whatever form they turn up, and places where they must not.

mod needles;
mod watch;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use reseal_tests::command::{Ended, program};

pub(crate) use needles::{Canary, Needles};
use watch::Watch;

/// Where a canary was seen: the place, and in which form.
pub(crate) type Hits = Vec<String>;

/// Runs commands and searches everything that they leave and show.
#[derive(Debug)]
pub(crate) struct Aviary {
    /// Where the commands work: plan, vault, temporary files. Must hold no canary.
    pub(crate) directory: PathBuf,
    /// The secrets.
    pub(crate) needles: Needles,
    /// Commands run so far, and how many of them failed.
    pub(crate) runs: usize,
    pub(crate) failures: usize,
}

/// What one command may show, and whether it is to succeed.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Terms<'a> {
    /// Standard input.
    pub(crate) input: &'a str,
    /// Canaries that its standard output may hold, because they were asked for.
    pub(crate) shows: &'a [&'a str],
    /// Canaries that stand in the arguments, because a person put them there.
    pub(crate) given: &'a [&'a str],
    /// Whether it is to fail.
    pub(crate) fails: bool,
}

impl Aviary {
    pub(crate) fn new(directory: &Path, needles: Needles) -> Self {
        std::fs::create_dir_all(directory.join("tmp")).unwrap();
        Self { directory: directory.to_owned(), needles, runs: 0, failures: 0 }
    }

    /// Runs `reseal` at its most verbose and searches every place.
    #[track_caller]
    pub(crate) fn reseal(&mut self, arguments: &[&str], terms: Terms<'_>) -> Ended {
        let mut command = Command::new(program());
        command.arg("-vvv").args(arguments);
        let (ended, hits) = self.run(command, terms);
        self.runs += 1;
        self.failures += usize::from(terms.fails);
        assert_eq!(ended.code != Some(0), terms.fails, "{arguments:?}: {ended:?}");
        assert!(hits.is_empty(), "{arguments:?} showed {hits:?}");
        ended
    }

    /// Runs any command and says where canaries were seen.
    pub(crate) fn run(&self, mut command: Command, terms: Terms<'_>) -> (Ended, Hits) {
        command
            .current_dir(&self.directory)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let path = std::env::var_os("PATH").unwrap_or_default();
        command.env("PATH", path).env("HOME", &self.directory).env("XDG_RUNTIME_DIR", &self.directory);
        command
            .env("TMPDIR", self.directory.join("tmp"))
            .env_remove("RESEAL_VAULT")
            .env_remove("RESEAL_CONFIG");
        let mut child = command.spawn().unwrap();
        let watch = Watch::start(child.id(), self.directory.clone());
        let mut stdin = child.stdin.take().unwrap();
        // A command that does not read its input may have closed it.
        let _ = std::io::Write::write_all(&mut stdin, terms.input.as_bytes());
        drop(stdin);
        let output = child.wait_with_output().unwrap();
        let mut seen: BTreeMap<String, Vec<u8>> = watch.stop();
        for (place, bytes) in watch::files(&self.directory) {
            seen.insert(format!("{place} afterwards"), bytes);
        }
        let mut hits = Hits::new();
        for (place, bytes) in &seen {
            let allowed = if place.starts_with("cmdline") { terms.given } else { &[] };
            hits.extend(self.needles.search(bytes, allowed).map(|hit| format!("{hit} in {place}")));
        }
        hits.extend(self.needles.search(&output.stdout, terms.shows).map(|hit| format!("{hit} on stdout")));
        hits.extend(self.needles.search(&output.stderr, &[]).map(|hit| format!("{hit} on stderr")));
        let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
        let ended =
            Ended { code: output.status.code(), stdout: text(output.stdout), stderr: text(output.stderr) };
        (ended, hits)
    }
}
