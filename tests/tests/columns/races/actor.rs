//! The application that acts while the engine is between its read and its write.

use std::collections::{BTreeMap, HashSet};
use std::sync::{Arc, Mutex};

use futures_util::future::{BoxFuture, FutureExt};
use reseal_engine::{BatchInfo, Moment, Observer};
use reseal_sandbox::seal::Key;
use reseal_sandbox::values::Cell;
use reseal_tests::scheme::TwoKeys;
use tokio_postgres::Client;

use super::{Action, Expected, KEY_SHIFT, plaintext, slots};

/// Acts on the rows it was given, once each: on one half right after they were read, on the other after they were
/// sealed.
pub(super) struct Actor {
    action: Action,
    pub(super) client: Client,
    pub(super) keys: Arc<TwoKeys>,
    raced: HashSet<i64>,
    done: Mutex<BTreeMap<i64, Option<Expected>>>,
}

impl Actor {
    pub(super) fn new(action: Action, client: Client, keys: Arc<TwoKeys>, raced: HashSet<i64>) -> Self {
        Self { action, client, keys, raced, done: Mutex::default() }
    }

    /// Rows that it acted on.
    pub(super) fn acted(&self) -> usize {
        self.done.lock().unwrap().len()
    }

    /// What must stand in the end of a row that was loaded.
    pub(super) fn expected(&self, id: i64) -> Option<Expected> {
        self.done.lock().unwrap().get(&id).cloned().unwrap_or_else(|| Some(untouched(id)))
    }

    /// Notes what a row has become.
    pub(super) fn note(&self, id: i64, after: Option<Expected>) {
        assert!(self.done.lock().unwrap().insert(id, after).is_none(), "a row is raced once");
    }

    /// A new value of column `a`.
    pub(super) fn new_value(&self, key: Key, id: i64) -> Vec<u8> {
        self.keys.seal(key, Cell { id, column: 0 }, &plaintext(0, id, 1))
    }

    async fn act_at(&self, moment: Moment, info: BatchInfo<'_>) {
        match (self.action, moment) {
            (Action::Hold, Moment::Sealed) => {
                let ids = self.due(info, |_| true);
                if !ids.is_empty() {
                    self.client.batch_execute("BEGIN").await.unwrap();
                    self.act(info, ids).await;
                }
            }
            (Action::Hold, Moment::Written) => self.client.batch_execute("COMMIT").await.unwrap(),
            (Action::Hold, _) | (_, Moment::Written | Moment::Committed) => {}
            (_, Moment::Read) => self.act(info, self.due(info, |id| id % 2 == 0)).await,
            (_, Moment::Sealed) => self.act(info, self.due(info, |id| id % 2 == 1)).await,
        }
    }

    /// Rows of the batch that are raced and were not yet.
    fn due(&self, info: BatchInfo<'_>, which: impl Fn(i64) -> bool) -> Vec<i64> {
        let done = self.done.lock().unwrap();
        let ids = (0..info.batch.len()).filter_map(|row| info.batch.integer_key(row));
        ids.filter(|id| self.raced.contains(id) && !done.contains_key(id) && which(*id)).collect()
    }

    async fn act(&self, info: BatchInfo<'_>, ids: Vec<i64>) {
        if ids.is_empty() {
            return;
        }
        match self.action {
            Action::OldValue | Action::Hold => self.set_values(&ids, Key::Old).await,
            Action::NewValue => self.set_values(&ids, Key::New).await,
            Action::Null => {
                self.change("UPDATE race SET a = NULL WHERE id = ANY ($1)", &ids).await;
                ids.iter().for_each(|id| self.note(*id, Some(Expected { a: None, ..untouched(*id) })));
            }
            Action::Delete => {
                self.change("DELETE FROM race WHERE id = ANY ($1)", &ids).await;
                ids.iter().for_each(|id| self.note(*id, None));
            }
            Action::ChangeKey => {
                let statement = format!("UPDATE race SET id = id + {KEY_SHIFT} WHERE id = ANY ($1)");
                self.change(&statement, &ids).await;
                let moved = |id: i64| Expected { id: id + KEY_SHIFT, ..untouched(id) };
                ids.iter().for_each(|id| self.note(*id, Some(moved(*id))));
            }
            Action::OtherColumn => {
                self.change("UPDATE race SET other = 7 WHERE id = ANY ($1)", &ids).await;
                ids.iter().for_each(|id| self.note(*id, Some(Expected { other: 7, ..untouched(*id) })));
            }
            Action::ReuseSlotByAnother => slots::reuse(self, info.batch, &ids, true).await,
            Action::ReuseSlotBySame => slots::reuse(self, info.batch, &ids, false).await,
        }
    }

    async fn set_values(&self, ids: &[i64], key: Key) {
        let values: Vec<Vec<u8>> = ids.iter().map(|id| self.new_value(key, *id)).collect();
        let statement =
            "UPDATE race SET a = u.a FROM unnest($1::int8[], $2::bytea[]) AS u(id, a) WHERE race.id = u.id";
        let changed = self.client.execute(statement, &[&ids, &values]).await.unwrap();
        assert_eq!(changed as usize, ids.len());
        for (&id, value) in ids.iter().zip(values) {
            let a_bytes = (key == Key::New).then_some(value);
            self.note(id, Some(Expected { a: Some(plaintext(0, id, 1)), a_bytes, ..untouched(id) }));
        }
    }

    async fn change(&self, statement: &str, ids: &[i64]) {
        assert_eq!(self.client.execute(statement, &[&ids]).await.unwrap() as usize, ids.len());
    }
}

/// A row that nobody but the engine changed.
pub(super) fn untouched(id: i64) -> Expected {
    Expected { id, other: 0, a: Some(plaintext(0, id, 0)), b: plaintext(1, id, 0), a_bytes: None }
}

impl Observer for Actor {
    fn at<'a>(&'a self, moment: Moment, info: BatchInfo<'a>) -> BoxFuture<'a, ()> {
        if info.span.pass > 1 {
            return std::future::ready(()).boxed();
        }
        self.act_at(moment, info).boxed()
    }
}
