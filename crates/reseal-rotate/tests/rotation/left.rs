//! What an abandoned rotation left at a service ends with the next one, wherever that is killed.

use reseal_rotate::rotation::Ended;

use crate::scenario::{Command, SHAPES, Stage};
use crate::{deaths, killed};

/// Both values of a rotation that was abandoned let in, and another one has begun.
async fn second() -> Stage {
    let shape = SHAPES.into_iter().find(|shape| shape.name == "service overlap").unwrap();
    let mut stage = Stage::new(shape);
    stage.abandon().await;
    let accepted = &stage.world.outside.accepted;
    assert!(accepted.values().all(|accepted| accepted.len() == 2), "{accepted:?}");
    stage.begin().await.unwrap();
    stage
}

/// The same, once the new value is everywhere.
async fn overlap() -> Stage {
    let mut stage = second().await;
    let ended = stage.ended(Command::Resume).await;
    assert!(matches!(ended, Ended::Overlap { .. }), "{ended:?}");
    stage
}

#[tokio::test]
async fn killed_anywhere_it_ends_or_all_goes_back() {
    let mut stage = overlap().await;
    assert_eq!(stage.ended(Command::Retire).await, Ended::Done);
    stage.check_new(true, "not killed");
    let calls = stage.world.calls;
    for death in deaths(calls) {
        for command in [Command::Resume, Command::RollBack] {
            let context = format!("{death:?} {command:?}");
            let mut stage = overlap().await;
            killed(&mut stage, Command::Retire, death).await;
            stage.ended(command).await;
            match command {
                Command::RollBack => stage.check_old(&context),
                _ => stage.check_new(true, &context),
            }
        }
    }
    assert!(calls > 3, "{calls} calls");
}

/// A rotation that was taken back has ended nothing, and several may be abandoned one after another.
#[tokio::test]
async fn whatever_was_left_ends_with_the_next_one_that_is_done() {
    let mut stage = second().await;
    assert!(matches!(stage.ended(Command::RollBack).await, Ended::RolledBack { .. }));
    stage.check_old("taken back");
    stage.abandon().await;
    assert!(stage.world.outside.accepted.values().all(|accepted| accepted.len() == 3));
    stage.begin().await.unwrap();
    let rotation = stage.rotation();
    assert_eq!(rotation.values(&mut stage.vault).unwrap().left().len(), 2);
    stage.ended(Command::Resume).await;
    assert_eq!(stage.ended(Command::Retire).await, Ended::Done);
    stage.check_new(true, "all of them");
    stage.begin().await.unwrap();
    let rotation = stage.rotation();
    assert!(
        !rotation.values(&mut stage.vault).unwrap().left().is_empty(),
        "a replica may come back with them"
    );
    stage.ended(Command::Resume).await;
    assert_eq!(stage.ended(Command::Retire).await, Ended::Done);
    stage.begin().await.unwrap();
    let rotation = stage.rotation();
    assert!(rotation.values(&mut stage.vault).unwrap().left().is_empty(), "it is over with them");
}
