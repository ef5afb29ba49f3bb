//! Races that are forced, not hoped for: the application acts, over a connection of its own, on chosen rows of a batch
//! after the engine read them and before it writes them. What the application wrote is what stands in the end.

use crate::races::{Action, Contest};

/// The engine loses every one of these races: it writes none of the rows, and counts each once.
async fn every_race_is_missed(action: Action) {
    let contest = Contest::run(action).await;
    contest.check_account();
    contest.check_table().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn forced_race_new_value_under_the_old_key() {
    every_race_is_missed(Action::OldValue).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn forced_race_new_value_under_the_new_key() {
    every_race_is_missed(Action::NewValue).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn forced_race_null() {
    every_race_is_missed(Action::Null).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn forced_race_delete() {
    every_race_is_missed(Action::Delete).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn forced_race_changed_primary_key() {
    every_race_is_missed(Action::ChangeKey).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn forced_race_other_column_only() {
    every_race_is_missed(Action::OtherColumn).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn forced_race_row_deleted_and_its_slot_reused_by_another_key() {
    every_race_is_missed(Action::ReuseSlotByAnother).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn forced_race_row_deleted_and_its_slot_reused_by_the_same_key() {
    every_race_is_missed(Action::ReuseSlotBySame).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn forced_race_rows_held_while_the_engine_writes() {
    every_race_is_missed(Action::Hold).await;
}

#[test]
fn forced_race_ten_thousand_in_all() {
    let kinds = [
        Action::OldValue,
        Action::NewValue,
        Action::Null,
        Action::Delete,
        Action::ChangeKey,
        Action::OtherColumn,
        Action::ReuseSlotByAnother,
        Action::ReuseSlotBySame,
    ];
    let races: usize = kinds.into_iter().map(Action::races).sum();
    println!("{races} races");
    assert!(races >= 10_000);
}
