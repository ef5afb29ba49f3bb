//! Rounds of two syncs over files and a program: they begin as one, stop as one, wait as one and end as one.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use reseal_crypto::SecretBytes;
use reseal_engine::CancelToken;
use reseal_rotate::RotateError;
use reseal_rotate::plan::Plan;
use reseal_rotate::process::Runner;
use reseal_rotate::rotation::{
    Claim, Ended, Outside, Rotation, Round, State, Step, Sync, Told, rotations, round_of,
};
use reseal_rotate::scrub::Known;
use reseal_vault::{NewVersion, SecretKind, Vault};
use tempfile::TempDir;

use crate::scenario::{roomy_directory, vault};

const PLAN: &str = r#"schema = 1
[apps.a]
restart = ["./restart"]
[files."a.env"]
readers = ["shell"]
used_by = ["a"]
[secrets.key]
strategy = "in-place"
write = [{ file = "a.env", var = "KEY" }]
[secrets.other]
strategy = "in-place"
write = [{ file = "a.env", var = "OTHER" }]
"#;
const FOUND: &str = "KEY=stale\nOTHER=stale\n";
const CURRENT: &str = "KEY=the-key-of-now\nOTHER=the-other-of-now\n";
const NAMES: [&str; 2] = ["key", "other"];

struct Project {
    base: PathBuf,
    plan: Plan,
    _directory: TempDir,
}

impl Project {
    fn new() -> (Self, Vault) {
        let directory = roomy_directory();
        let base = directory.path().canonicalize().unwrap();
        fs::write(base.join("reseal.toml"), PLAN).unwrap();
        fs::write(base.join("a.env"), FOUND).unwrap();
        fs::write(base.join("restart"), "#!/bin/sh\n[ ! -e broken ] && cat a.env > running\n").unwrap();
        fs::set_permissions(base.join("restart"), fs::Permissions::from_mode(0o755)).unwrap();
        let plan = Plan::load(&base.join("reseal.toml")).unwrap_or_else(|error| panic!("{error}"));
        let mut vault = vault(&base.join("v"));
        NAMES.iter().for_each(|name| put(&mut vault, name, &format!("the-{name}-of-now")));
        (Self { base, plan, _directory: directory }, vault)
    }

    fn outside(&self, vault: &mut Vault, name: &str, steps: &[Step]) -> Outside<'_> {
        let runner = Runner::new(&self.base, std::env::vars_os(), Known::default());
        Outside::new(&self.plan, vault, name, steps, runner).unwrap()
    }

    async fn drafted(&self, vault: &mut Vault) -> Vec<(Sync, Outside<'_>)> {
        let mut drafted = Vec::new();
        for name in NAMES {
            let claim = Claim::of(&self.plan, vault, name, None).unwrap();
            let mut outside = self.outside(vault, name, claim.steps());
            let mut sync = Sync::draft(&self.plan, claim, &mut outside).await.unwrap().0.unwrap();
            sync.rehearse(&mut outside).await.unwrap();
            drafted.push((sync, outside));
        }
        drafted
    }

    async fn begun(&self, vault: &mut Vault) -> Round<'_> {
        let drafted = self.drafted(vault).await;
        Round::begin(vault, drafted, None).unwrap()
    }

    /// The round as another process finds it that is given one of its secrets.
    fn found(&self, vault: &mut Vault, at: usize) -> Round<'_> {
        let all = rotations(vault).unwrap();
        let found = round_of(&all, &all[at]).into_iter().map(|one| {
            let outside = self.outside(vault, &one.name.clone(), &one.steps);
            (one, outside)
        });
        let found = found.collect();
        Round::of(vault, found).unwrap()
    }

    fn read(&self, name: &str) -> String {
        fs::read_to_string(self.base.join(name)).unwrap()
    }

    fn break_it(&self) {
        fs::write(self.base.join("broken"), "").unwrap();
    }

    fn mend(&self) {
        fs::remove_file(self.base.join("broken")).unwrap();
    }
}

fn put(vault: &mut Vault, name: &str, value: &str) {
    let value = SecretBytes::copy_from(value.as_bytes());
    vault.put(&name.parse().unwrap(), NewVersion::new(SecretKind::Password, value)).unwrap();
}

async fn ended(round: &mut Round<'_>, vault: &mut Vault) -> Vec<Ended> {
    round.go_on(vault, &CancelToken::default(), &mut |_, _, _| {}).await.unwrap()
}

/// Both of them, by name, as the vault has them.
fn kept(vault: &mut Vault) -> [Rotation; 2] {
    rotations(vault).unwrap().try_into().unwrap()
}

#[tokio::test]
async fn a_round_begins_whole_or_not_at_all() {
    let (project, mut vault) = Project::new();
    let drafted = project.drafted(&mut vault).await;
    put(&mut vault, "other", "brought meanwhile");
    let refused = Round::begin(&mut vault, drafted, None);
    assert!(matches!(refused, Err(RotateError::Overtaken { .. })), "{refused:?}");
    assert!(rotations(&mut vault).unwrap().is_empty());

    let begun = project.begun(&mut vault).await;
    assert_eq!(begun.rotations().map(|one| one.name.as_str()).collect::<Vec<_>>(), NAMES);
    assert!(kept(&mut vault).iter().all(|one| one.together() == NAMES));
}

#[tokio::test]
async fn a_round_that_is_stopped_anywhere_is_saved_whole() {
    let steps = {
        let (project, mut vault) = Project::new();
        let round = project.begun(&mut vault).await;
        round.rotations().map(|one| one.steps.len()).sum::<usize>()
    };
    let mut stops = 0;
    for stop_after in 1..steps {
        let (project, mut vault) = Project::new();
        let mut round = project.begun(&mut vault).await;
        let cancel = CancelToken::default();
        let mut done = 0;
        let mut watch = |_: &str, _: &Step, told: Told<'_>| {
            done += usize::from(told == Told::Done);
            if done == stop_after {
                cancel.cancel();
            }
        };
        let ended = round.go_on(&mut vault, &cancel, &mut watch).await;
        if ended.is_ok() {
            break;
        }
        assert!(matches!(ended, Err(RotateError::Interrupted { .. })), "{ended:?}");
        let log = vault.audit_log(None, None).unwrap();
        let told = log.iter().filter(|entry| entry.event.detail.as_deref() == Some("interrupted"));
        let of: Vec<_> = told.filter_map(|entry| entry.event.object.clone()).collect();
        assert!(of.len() == 2 && NAMES.iter().all(|name| of.contains(&(*name).to_owned())), "{of:?}");
        // What was done is known to be: no later command has to find it out.
        for (kept, driven) in kept(&mut vault).iter().zip(round.rotations()) {
            let states = |one: &Rotation| one.steps.iter().map(|step| step.state).collect::<Vec<_>>();
            assert_eq!(states(kept), states(driven), "{}", kept.name);
        }
        let mut round = project.found(&mut vault, stop_after % 2);
        assert_eq!(self::ended(&mut round, &mut vault).await, [Ended::Done, Ended::Done]);
        assert_eq!((project.read("a.env"), project.read("running")), (CURRENT.into(), CURRENT.into()));
        assert!(rotations(&mut vault).unwrap().is_empty());
        stops += 1;
    }
    assert!(stops >= 3, "{stops} stops");
}

#[tokio::test]
async fn a_round_ends_whole_or_goes_on_being_one() {
    let (project, mut vault) = Project::new();
    let mut round = project.begun(&mut vault).await;
    put(&mut vault, "other", "brought meanwhile");
    let ended = round.go_on(&mut vault, &CancelToken::default(), &mut |_, _, _| {}).await;
    assert!(matches!(ended, Err(RotateError::SyncOvertaken { .. })), "{ended:?}");
    assert_eq!(project.read("a.env"), FOUND);

    // Another process has ended it.
    let (project, mut vault) = Project::new();
    let mut round = project.begun(&mut vault).await;
    self::ended(&mut project.found(&mut vault, 0), &mut vault).await;
    let ended = round.go_on(&mut vault, &CancelToken::default(), &mut |_, _, _| {}).await;
    assert!(matches!(ended, Err(RotateError::Overtaken { .. })), "{ended:?}");
}

#[tokio::test]
async fn a_round_waits_whole_where_one_is_stuck() {
    let (project, mut vault) = Project::new();
    let mut round = project.begun(&mut vault).await;
    project.break_it();
    let ended = ended(&mut round, &mut vault).await;
    assert!(ended.iter().all(|one| matches!(one, Ended::NeedsAttention { .. })), "{ended:?}");
    for one in kept(&mut vault) {
        assert_eq!(one.state, State::Undoing);
        assert!(one.attention.as_deref().is_some_and(|why| why.contains("bring over a")), "{one:?}");
    }
    project.mend();
    let ended = self::ended(&mut project.found(&mut vault, 1), &mut vault).await;
    assert!(ended.iter().all(|one| matches!(one, Ended::RolledBack { .. })), "{ended:?}");
    assert_eq!((project.read("a.env"), project.read("running")), (FOUND.into(), FOUND.into()));
    assert!(rotations(&mut vault).unwrap().is_empty());
}

#[tokio::test]
async fn a_round_of_one_is_alone_and_an_old_record_too() {
    let (project, mut vault) = Project::new();
    let one = project.drafted(&mut vault).await.into_iter().take(1).collect();
    drop(Round::begin(&mut vault, one, None).unwrap());
    let all = rotations(&mut vault).unwrap();
    assert!(all[0].together().is_empty());
    assert_eq!(round_of(&all, &all[0]).len(), 1);

    let (project, mut vault) = Project::new();
    drop(project.begun(&mut vault).await);
    let old = kept(&mut vault).map(|one| {
        let mut record = serde_json::to_value(&one).unwrap();
        assert!(record.as_object_mut().unwrap().remove("together").is_some());
        serde_json::from_value::<Rotation>(record).unwrap()
    });
    assert_eq!(round_of(&old, &old[0]).len(), 1);
}
