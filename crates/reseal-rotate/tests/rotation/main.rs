//! The state machine over a world in memory and a real vault: killed before and after everything it asks of the world,
//! gone on with, taken back, and faced with steps that fail.

#![allow(clippy::unwrap_used, reason = "a test says by panicking what failed")]

mod left;
mod no_return;
mod random;
mod rounds;
mod scenario;
mod world;

use reseal_rotate::RotateError;
use reseal_rotate::rotation::{Act, Ended, State};

use random::{Random, seed};
use scenario::{Command, SHAPES, Shape, Stage};
use world::Death;

/// How many calls a rotation and the end of its old value make.
async fn count_calls(shape: Shape) -> (usize, usize) {
    let mut stage = Stage::new(shape);
    stage.begin().await.unwrap();
    let ended = stage.ended(Command::Resume).await;
    let change = stage.world.calls;
    if ended == Ended::Done {
        stage.check_new(true, shape.name);
        return (change, 0);
    }
    stage.check_new(false, shape.name);
    assert_eq!(stage.ended(Command::Retire).await, Ended::Done);
    stage.check_new(true, shape.name);
    (change, stage.world.calls)
}

fn deaths(calls: usize) -> impl Iterator<Item = Death> {
    (0..calls).flat_map(|call| [false, true].map(|after| Death { call, after }))
}

async fn killed(stage: &mut Stage, command: Command, death: Death) {
    assert!(stage.drive(command, Some(death)).await.is_none(), "{}: {death:?}", stage.shape.name);
}

#[tokio::test]
async fn killed_anywhere_a_rotation_goes_on_or_back() {
    let mut points = 0;
    for shape in SHAPES {
        let (calls, _) = count_calls(shape).await;
        for death in deaths(calls) {
            let context = format!("{} {death:?}", shape.name);
            let mut stage = Stage::new(shape);
            stage.begin().await.unwrap();
            killed(&mut stage, Command::Resume, death).await;
            assert!(
                matches!(stage.begin().await, Err(RotateError::Open { .. })),
                "{context}: it blocks the next"
            );
            stage.ended(Command::Resume).await;
            let is_done = stage.rotation().state == State::Done;
            stage.check_new(is_done, &context);

            let mut stage = Stage::new(shape);
            stage.begin().await.unwrap();
            killed(&mut stage, Command::Resume, death).await;
            let ended = stage.ended(Command::RollBack).await;
            assert!(matches!(ended, Ended::RolledBack { why: None, .. }), "{context}: {ended:?}");
            stage.check_old(&context);
            points += 2;
        }
    }
    println!("{points} points");
    assert!(points > 200, "{points}");
}

#[tokio::test]
async fn killed_on_the_way_back_it_comes_back_all_the_same() {
    for shape in SHAPES {
        let mut calls = 0;
        loop {
            let mut stage = Stage::new(shape);
            stage.begin().await.unwrap();
            stage.ended(Command::Resume).await;
            let death = Death { call: calls / 2, after: calls % 2 == 1 };
            if stage.drive(Command::RollBack, Some(death)).await.is_some() {
                break;
            }
            let ended = stage.ended(Command::Resume).await;
            let context = format!("{} {death:?}", shape.name);
            assert!(matches!(ended, Ended::RolledBack { .. }), "{context}: {ended:?}");
            stage.check_old(&context);
            calls += 1;
        }
        assert!(calls > 3, "{}: {calls} calls", shape.name);
    }
}

#[tokio::test]
async fn killed_while_the_old_value_ends_it_ends_or_all_goes_back() {
    for shape in SHAPES {
        let (_, calls) = count_calls(shape).await;
        for death in deaths(calls) {
            for command in [Command::Resume, Command::RollBack] {
                let context = format!("{} {death:?} {command:?}", shape.name);
                let mut stage = Stage::new(shape);
                stage.begin().await.unwrap();
                stage.ended(Command::Resume).await;
                killed(&mut stage, Command::Retire, death).await;
                stage.ended(command).await;
                match command {
                    Command::RollBack => stage.check_old(&context),
                    _ => stage.check_new(true, &context),
                }
            }
        }
    }
}

#[tokio::test]
async fn a_step_that_fails_takes_everything_back() {
    for shape in SHAPES {
        let steps = Stage::new(shape).begin().await.unwrap().steps;
        for index in (0..steps.len()).filter(|&index| steps[index].act == Act::Change) {
            let mut stage = Stage::new(shape);
            let step = &stage.begin().await.unwrap().steps[index].action.to_string();
            let context = format!("{}: {step} fails", shape.name);
            stage.world.broken = vec![step.clone()];
            let ended = stage.ended(Command::Resume).await;
            // Where the old value cannot be shown to work again, a person has to look.
            match ended {
                Ended::RolledBack { why: Some(why), .. } => {
                    assert!(why.contains(step.as_str()), "{context}: {why}")
                }
                Ended::NeedsAttention { why } => {
                    let late = ["check", "bring over", "old value accepted"];
                    assert!(late.iter().any(|step| why.contains(step)), "{context}: {why}");
                    assert!(
                        matches!(stage.begin().await, Err(RotateError::Open { is_parked: true, .. })),
                        "{context}"
                    );
                    stage.world.broken.clear();
                    let ended = stage.ended(Command::Resume).await;
                    assert!(matches!(ended, Ended::RolledBack { .. }), "{context}: {ended:?}");
                }
                other => panic!("{context}: {other:?}"),
            }
            stage.check_old(&context);
            assert!(stage.begin().await.is_ok(), "{context}: and the next may begin");
        }
    }
}

/// Anything may happen to a rotation, and then the outside is mended: one command more and it is at an end.
#[tokio::test]
async fn whatever_happens_one_value_works_everywhere_in_the_end() {
    let seed = seed();
    println!("seed {seed}");
    let mut random = Random::new(seed);
    for _ in 0..200 {
        let shape = *random.pick(&SHAPES);
        let mut stage = Stage::new(shape);
        let steps = stage.begin().await.unwrap().steps;
        let mut history = vec![shape.name.to_owned()];
        for _ in 0..random.below(5) {
            stage.world.broken.clear();
            if random.below(2) == 0 {
                let undo = if random.below(2) == 0 { "undo " } else { "" };
                stage.world.broken.push(format!("{undo}{}", random.pick(&steps).action));
            }
            let command =
                *random.pick(&[Command::Resume, Command::Resume, Command::RollBack, Command::Retire]);
            let death = Death { call: random.below(30), after: random.below(2) == 0 };
            history.push(format!("{command:?} {death:?} broken {:?}", stage.world.broken));
            // What is refused or fails here is of no interest: only what can be made of it.
            let _ = stage.drive(command, Some(death)).await;
        }
        stage.world.broken.clear();
        let command = *random.pick(&[Command::Resume, Command::RollBack]);
        history.push(format!("{command:?} at last"));
        let _ = stage.drive(command, None).await;
        let context = history.join("\n");
        match stage.rotation().state {
            State::Overlap => stage.check_new(false, &context),
            State::Done => stage.check_new(true, &context),
            State::RolledBack => stage.check_old(&context),
            other => panic!("{context}\nleft at {other:?}"),
        }
    }
}

#[tokio::test]
async fn neither_forward_nor_back_is_parked_until_one_works() {
    for shape in SHAPES.into_iter().filter(|shape| shape.name.starts_with("service")) {
        for (healed, command) in
            [(true, Command::Resume), (true, Command::RollBack), (false, Command::Resume)]
        {
            let mut stage = Stage::new(shape);
            stage.begin().await.unwrap();
            stage.world.broken = vec!["check".into(), "undo write".into()];
            let ended = stage.ended(Command::Resume).await;
            assert!(
                matches!(&ended, Ended::NeedsAttention { why } if why.contains("undo write")),
                "{ended:?}"
            );
            assert!(stage.rotation().is_open());
            if healed {
                stage.world.broken.clear();
                assert!(matches!(stage.ended(command).await, Ended::RolledBack { .. }));
                stage.check_old(shape.name);
            } else {
                assert!(matches!(stage.ended(command).await, Ended::NeedsAttention { .. }));
            }
        }
    }
}

#[tokio::test]
async fn an_end_of_the_old_value_that_fails_leaves_both() {
    let shape = SHAPES[4];
    let mut stage = Stage::new(shape);
    stage.begin().await.unwrap();
    stage.ended(Command::Resume).await;
    stage.world.broken = vec!["bring over b".into()];
    let ended = stage.ended(Command::Retire).await;
    assert!(matches!(ended, Ended::NeedsAttention { .. }), "{ended:?}");
    stage.world.broken.clear();
    let ended = stage.ended(Command::Resume).await;
    assert!(matches!(ended, Ended::RolledBack { why: Some(_), .. }), "{ended:?}");
    stage.check_new(false, shape.name);
    assert_eq!(stage.ended(Command::Retire).await, Ended::Done);
    stage.check_new(true, shape.name);
}
