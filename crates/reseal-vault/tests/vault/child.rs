//! One step of work in a process of its own, so that other tests can kill it.

use std::path::Path;
use std::process::Command;

use reseal_vault::{NamePattern, RestoreOptions, Vault, VersionSelector, restore};

use crate::snapshots::{keep_long_stream, stream};
use crate::support::{Home, key_file, name, new_key_file, password};

const STEP: &str = "VAULT_TEST_STEP";
const DIRECTORY: &str = "VAULT_TEST_DIRECTORY";

/// The secret that steps work on.
pub(crate) const NAME: &str = "app/password";

/// The length of the file that is kept: of one batch.
pub(crate) const SNAPSHOT_BYTES: usize = 40_000;
/// The length of the stream that is kept: of two batches.
pub(crate) const STREAM_BYTES: usize = (16 << 20) + 50_000;

/// What a process of its own can be told to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Step {
    Init,
    Put,
    Passwd,
    Restore,
    PutMany,
    SnapshotAdd,
    SnapshotStream,
    SnapshotRemove,
    LongStream,
}

impl Step {
    const ALL: [Self; 9] = [
        Self::Init,
        Self::Put,
        Self::Passwd,
        Self::Restore,
        Self::PutMany,
        Self::SnapshotAdd,
        Self::SnapshotStream,
        Self::SnapshotRemove,
        Self::LongStream,
    ];

    fn run(self, home: &Home) {
        let path = home.path();
        match self {
            Self::Init => drop(home.create()),
            Self::Put => drop(home.open().put(&name(NAME), password("new")).expect("stored")),
            Self::Passwd => {
                let params = reseal_crypto::kdf::KdfParams::FLOOR;
                home.open().change_slot("test key", &new_key_file(), params).expect("changed");
            }
            Self::Restore => {
                let accept = RestoreOptions { accept_older: true, ..RestoreOptions::default() };
                restore(&home.backup(), &path, &key_file(), home.options(), accept).expect("restored");
            }
            Self::PutMany => {
                let mut vault = home.open();
                for _ in 0..25 {
                    vault.put(&name(NAME), password("one of many")).expect("stored");
                }
            }
            Self::SnapshotAdd => {
                home.open().snapshot_add(NAME, None, &mut stream(1, SNAPSHOT_BYTES)).expect("kept");
            }
            Self::SnapshotStream => {
                home.open().snapshot_add(NAME, None, &mut stream(2, STREAM_BYTES)).expect("kept");
            }
            Self::SnapshotRemove => {
                let mut vault = home.open();
                let kept = vault.snapshot(NAME).expect("there");
                vault.snapshot_remove(kept.id).expect("removed");
            }
            Self::LongStream => keep_long_stream(home),
        }
    }

    fn name(self) -> String {
        format!("{self:?}")
    }
}

/// The command that runs one step in `directory`.
pub(crate) fn command(step: Step, directory: &Path) -> Command {
    let mut command = Command::new(std::env::current_exe().expect("this test has a file"));
    command
        .args(["--exact", "child::does_as_told", "--nocapture"])
        .env(STEP, step.name())
        .env(DIRECTORY, directory);
    command
}

/// Does the step that the environment names; told nothing, all of them, one after the other.
#[test]
fn does_as_told() {
    if let (Ok(step), Ok(directory)) = (std::env::var(STEP), std::env::var(DIRECTORY)) {
        let step = Step::ALL.into_iter().find(|known| known.name() == step).expect("a known step");
        return step.run(&Home::at(Path::new(&directory)));
    }
    let home = Home::new();
    Step::Init.run(&home);
    home.open().backup_create(&home.backup()).expect("backed up");
    Step::Put.run(&home);
    Step::PutMany.run(&home);
    assert_eq!(home.open().history(&name(NAME)).expect("history").len(), 26);
    Step::SnapshotAdd.run(&home);
    Step::SnapshotRemove.run(&home);
    Step::SnapshotStream.run(&home);
    assert_eq!(home.open().snapshots().expect("listed").len(), 1);
    Step::Restore.run(&home);
    assert_eq!(home.open().list(&NamePattern::all(), true).expect("listed"), []);
    Step::Passwd.run(&home);
    assert!(home.try_open().is_err());
    let mut vault = Vault::open(&home.path(), &new_key_file(), home.options()).expect("opens by the new key");
    assert!(vault.get(&name(NAME), VersionSelector::Current).is_err());
}
