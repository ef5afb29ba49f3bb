//! Plans of every shape that the state machine treats differently, and the world that each begins in.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use reseal_crypto::random::OsRandom;
use reseal_crypto::slot::Opener;
use reseal_crypto::{SecretBytes, Suite};
use reseal_engine::CancelToken;
use reseal_rotate::plan::Plan;
use reseal_rotate::rotation::{Ended, Machine, NewValue, Proposal, Rotation, abandon, latest};
use reseal_rotate::{RotateError, VaultCell};
use reseal_vault::{
    CreateOptions, NewSlot, NewVersion, OpenOptions, SecretKind, SecretName, Vault, VersionSelector,
};
use tempfile::TempDir;

use crate::world::{Death, Outside, World};

pub(crate) const OLD: &str = "the-old-value-of-the-key";
const NAME: &str = "key";

/// A plan by its secret, with the files and applications that it needs.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Shape {
    pub(crate) name: &'static str,
    pub(crate) secret: &'static str,
    /// Names of variables besides KEY, by file.
    pub(crate) previous: &'static [&'static str],
    pub(crate) has_service: bool,
}

pub(crate) const SHAPES: [Shape; 5] = [
    Shape {
        name: "generic in-place",
        secret: r#"strategy = "in-place"
write = [{ command = ["store"] }, { file = "a.env", var = "KEY" }, { file = "b.env", var = "KEY" }]"#,
        previous: &[],
        has_service: false,
    },
    Shape {
        name: "service in-place",
        secret: r#"strategy = "in-place"
server = "db"
write = [{ file = "a.env", var = "KEY" }, { file = "b.env", var = "KEY" }]"#,
        previous: &[],
        has_service: true,
    },
    Shape {
        name: "service overlap",
        secret: r#"strategy = "overlap"
server = "db"
write = [{ file = "a.env", var = "KEY" }, { file = "b.env", var = "KEY" }]"#,
        previous: &[],
        has_service: true,
    },
    Shape {
        name: "service overlap by turns",
        secret: r#"strategy = "overlap"
server = "db"
order = ["b", "a"]
write = [{ file = "a.env", var = "KEY" }, { file = "b.env", var = "KEY" }]"#,
        previous: &[],
        has_service: true,
    },
    Shape {
        name: "verifier, then signer",
        secret: r#"strategy = "overlap"
order = ["b", "a"]
write = [
  { file = "a.env", var = "KEY" },
  { file = "b.env", var = "KEY" },
  { file = "b.env", var = "KEY_OLD", holds = "previous" },
]"#,
        previous: &["b.env"],
        has_service: false,
    },
];

/// A vault, a plan and a world.
pub(crate) struct Stage {
    pub(crate) shape: Shape,
    pub(crate) plan: Plan,
    pub(crate) vault: Vault,
    pub(crate) world: World,
    before: Outside,
    _directory: TempDir,
}

impl Stage {
    pub(crate) fn new(shape: Shape) -> Self {
        let directory = roomy_directory();
        let base = directory.path().canonicalize().unwrap();
        let path = base.join("reseal.toml");
        std::fs::write(&path, plan_text(shape.secret)).unwrap();
        let plan = Plan::load(&path).unwrap_or_else(|error| panic!("{error}"));
        let mut vault = vault(&base.join("v"));
        let value = SecretBytes::copy_from(OLD.as_bytes());
        vault.put(&name(), NewVersion::new(SecretKind::Password, value)).unwrap();
        let mut world = world(shape, &base);
        world.holds_one = !shape.secret.contains("overlap");
        let before = world.outside.clone();
        Self { shape, plan, vault, world, before, _directory: directory }
    }

    pub(crate) async fn begin(&mut self) -> Result<Rotation, RotateError> {
        let drafted = Proposal::draft(
            &self.plan,
            &VaultCell::new(&mut self.vault),
            NAME,
            NewValue::Drawn,
            false,
            &OsRandom,
        )
        .await?;
        Ok(drafted.begin(&mut self.vault, None)?.0)
    }

    /// A rotation is abandoned on its way back, and all is mended by hand but what the service lets in.
    pub(crate) async fn abandon(&mut self) {
        self.begin().await.unwrap();
        self.world.broken = vec!["check a".to_owned(), "undo let the new value in".to_owned()];
        let parked = self.ended(Command::Resume).await;
        assert!(matches!(parked, Ended::NeedsAttention { .. }), "{parked:?}");
        self.world.broken.clear();
        let rotation = self.rotation();
        abandon(&mut self.vault, vec![rotation], "it goes neither way").unwrap();
        self.before.accepted.clone_from(&self.world.outside.accepted);
        self.world.outside.clone_from(&self.before);
    }

    pub(crate) fn rotation(&mut self) -> Rotation {
        latest(&mut self.vault, NAME).unwrap().unwrap()
    }

    /// Drives the rotation as a process does that may die; `None` if it died.
    pub(crate) async fn drive(
        &mut self,
        command: Command,
        death: Option<Death>,
    ) -> Option<Result<Ended, RotateError>> {
        let rotation = self.rotation();
        let values = rotation.values(&mut self.vault).unwrap();
        self.world.death = death;
        self.world.calls = 0;
        let died = self.world.died.clone();
        let mut watch = |_: &_, _: reseal_rotate::rotation::Told<'_>| {};
        let cancel = CancelToken::default();
        let vault = VaultCell::new(&mut self.vault);
        let mut machine = Machine::new(&vault, &mut self.world, rotation, values, cancel, &mut watch);
        let driven = async {
            match command {
                Command::Resume => machine.go_on().await,
                Command::RollBack => machine.roll_back().await,
                Command::Retire => machine.retire().await,
            }
        };
        tokio::select! {
            biased;
            () = died.notified() => None,
            ended = driven => Some(ended),
        }
    }

    pub(crate) async fn ended(&mut self, command: Command) -> Ended {
        self.drive(command, None).await.unwrap().unwrap_or_else(|error| panic!("{error}"))
    }

    fn value(&mut self, version: VersionSelector) -> String {
        self.vault.get(&name(), version).unwrap().value.expose_str().unwrap().to_owned()
    }

    /// New works everywhere, and old as long as it should.
    #[track_caller]
    pub(crate) fn check_new(&mut self, is_retired: bool, context: &str) {
        let rotation = self.rotation();
        let labels = self.vault.show(&name()).unwrap().labels;
        assert_eq!((labels.current, labels.pending), (Some(rotation.to), None), "{context}");
        let new = self.value(VersionSelector::Current);
        let outside = &self.world.outside;
        for (path, variables) in &outside.files {
            assert_eq!(variables["KEY"], new, "{context}: {}", path.display());
            let old = if is_retired { "" } else { OLD };
            assert!(variables.get("KEY_OLD").is_none_or(|value| value == old), "{context}: {variables:?}");
        }
        let both = BTreeSet::from([OLD.to_owned(), new.clone()]);
        let only_new = BTreeSet::from([new.clone()]);
        let expected = if is_retired || self.world.holds_one { only_new } else { both };
        assert!(outside.accepted.values().all(|accepted| *accepted == expected), "{context}: {outside:?}");
        assert!(outside.fed.values().all(|fed| *fed == new), "{context}: {outside:?}");
        self.check_apps(context);
    }

    /// Old works everywhere, and everything is as it was.
    #[track_caller]
    pub(crate) fn check_old(&mut self, context: &str) {
        let labels = self.vault.show(&name()).unwrap().labels;
        assert_eq!(labels.pending, None, "{context}");
        assert_eq!(self.value(VersionSelector::Current), OLD, "{context}");
        assert_eq!(self.world.outside, self.before, "{context}");
        self.check_apps(context);
    }

    fn check_apps(&self, context: &str) {
        for (app, running) in &self.world.outside.running {
            let files = self.world.reads[app].iter();
            let now: BTreeMap<_, _> =
                files.map(|file| (file.clone(), self.world.outside.files[file].clone())).collect();
            assert_eq!(*running, now, "{context}: {app}");
        }
        assert_eq!(self.world.outages, Vec::<String>::new(), "{context}");
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Command {
    Resume,
    RollBack,
    Retire,
}

fn name() -> SecretName {
    NAME.parse().unwrap()
}

fn plan_text(secret: &str) -> String {
    format!(
        r#"schema = 1
[servers.db]
kind = "redis"
url = "redis://localhost:6379"
[apps.a]
restart = ["true"]
[apps.b]
restart = ["true"]
[files."a.env"]
readers = ["shell"]
used_by = ["a"]
[files."b.env"]
readers = ["shell"]
used_by = ["b"]
[secrets.{NAME}]
{secret}
"#
    )
}

fn world(shape: Shape, base: &Path) -> World {
    let mut world = World::default();
    for app in ["a", "b"] {
        let name = format!("{app}.env");
        let file: PathBuf = base.join(&name);
        let mut variables = BTreeMap::from([("KEY".to_owned(), OLD.to_owned())]);
        if shape.previous.contains(&name.as_str()) {
            variables.insert("KEY_OLD".to_owned(), "older still".to_owned());
        }
        world.outside.files.insert(file.clone(), variables.clone());
        world.outside.running.insert(app.to_owned(), BTreeMap::from([(file.clone(), variables)]));
        world.reads.insert(app.to_owned(), vec![file]);
    }
    if shape.has_service {
        world.outside.accepted.insert("default at db".to_owned(), BTreeSet::from([OLD.to_owned()]));
    }
    if shape.secret.contains("\"store\"") {
        world.outside.fed.insert("store".to_owned(), OLD.to_owned());
    }
    world
}

/// In memory where the system has room there: these tests make tens of thousands of durable transactions.
pub(crate) fn roomy_directory() -> TempDir {
    tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap()
}

pub(crate) fn vault(path: &Path) -> Vault {
    let opener = Opener::KeyFile(SecretBytes::copy_from(&[1; 32]));
    let options = CreateOptions {
        slots: vec![NewSlot { name: "key".to_owned(), opener }],
        kdf: reseal_crypto::kdf::KdfParams::FLOOR,
        recovery_code: false,
        suite: Suite::Xaes256Gcm,
        open: OpenOptions::default(),
    };
    Vault::create(path, options).unwrap().vault
}
