//! A command that runs last cannot be taken back: what fails from there on waits for a person.

use reseal_rotate::rotation::{Ended, State};

use crate::scenario::{Command, Shape, Stage};

const IN_PLACE: Shape = Shape {
    name: "in place with a last command",
    secret: r#"strategy = "in-place"
server = "db"
before = [{ command = ["first"] }]
after = [{ command = ["last"] }, { command = ["very-last"] }]
write = [{ file = "a.env", var = "KEY" }, { file = "b.env", var = "KEY" }]"#,
    previous: &[],
    has_service: true,
};

const OVERLAP: Shape = Shape {
    name: "overlap with a last command",
    secret: r#"strategy = "overlap"
server = "db"
after = [{ command = ["last"] }]
write = [{ file = "a.env", var = "KEY" }, { file = "b.env", var = "KEY" }]"#,
    ..IN_PLACE
};

#[tokio::test]
async fn what_fails_after_it_waits_and_goes_on() {
    for broken in ["run `last`", "run `very-last`"] {
        for back in [false, true] {
            let mut stage = Stage::new(IN_PLACE);
            stage.begin().await.unwrap();
            stage.world.broken = vec![broken.to_owned()];
            let ended = stage.ended(Command::Resume).await;
            assert!(
                matches!(&ended, Ended::NeedsAttention { why }
                    if why.contains(broken) && why.contains("run `last` cannot be taken back")),
                "{ended:?}"
            );
            assert_eq!(stage.rotation().state, State::Changing);
            if back {
                assert!(matches!(stage.ended(Command::RollBack).await, Ended::RolledBack { .. }));
                stage.check_old(broken);
            } else {
                stage.world.broken.clear();
                assert_eq!(stage.ended(Command::Resume).await, Ended::Done);
                stage.check_new(true, broken);
            }
        }
    }
}

/// What fails before it is taken back by itself, and commands that came first are not in the way.
#[tokio::test]
async fn what_fails_before_it_is_taken_back() {
    let mut stage = Stage::new(IN_PLACE);
    stage.begin().await.unwrap();
    stage.world.broken = vec!["write KEY in".to_owned()];
    assert!(matches!(stage.ended(Command::Resume).await, Ended::RolledBack { why: Some(_), .. }));
    assert!(stage.world.effects.iter().any(|effect| effect == "run `first`"));
    stage.check_old(IN_PLACE.name);
}

/// The end of the old value is another half: it goes back as far as it came.
#[tokio::test]
async fn the_end_of_the_old_value_is_taken_back_all_the_same() {
    let mut stage = Stage::new(OVERLAP);
    stage.begin().await.unwrap();
    assert!(matches!(stage.ended(Command::Resume).await, Ended::Overlap { .. }));
    stage.world.broken = vec!["end the old value".to_owned()];
    let ended = stage.ended(Command::Retire).await;
    assert!(matches!(ended, Ended::RolledBack { .. }), "{ended:?}");
    stage.check_new(false, OVERLAP.name);
    stage.world.broken.clear();
    assert!(matches!(stage.ended(Command::RollBack).await, Ended::RolledBack { .. }));
    stage.check_old(OVERLAP.name);
}
