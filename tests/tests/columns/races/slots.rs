//! Another row in the very place of one that the engine has read.

use std::collections::BTreeMap;

use reseal_engine::Batch;
use reseal_sandbox::seal::Key;

use super::actor::{Actor, untouched};
use super::{Expected, KEY_SHIFT, plaintext};

/// A row that goes: its place within its page, its key, and what stands in it.
struct Gone {
    item: u64,
    id: i64,
    a: Vec<u8>,
    b: Vec<u8>,
}

/// Deletes the rows, frees their places and puts others there, page by page: while one page alone has room, the server
/// fills its places in order.
pub(super) async fn reuse(actor: &Actor, batch: &Batch, ids: &[i64], by_another: bool) {
    let mut pages: BTreeMap<u64, Vec<Gone>> = BTreeMap::new();
    for row in 0..batch.len() {
        let id = batch.integer_key(row).unwrap();
        if ids.contains(&id) {
            let cell = |column: usize| batch.columns[column].get(row).unwrap().to_vec();
            let gone = Gone { item: batch.locators[row] & 0xFFFF, id, a: cell(0), b: cell(1) };
            pages.entry(batch.locators[row] >> 16).or_default().push(gone);
        }
    }
    for (page, mut rows) in pages {
        rows.sort_by_key(|row| row.item);
        reuse_page(actor, page, &rows, by_another).await;
    }
}

async fn reuse_page(actor: &Actor, page: u64, rows: &[Gone], by_another: bool) {
    let ids: Vec<i64> = rows.iter().map(|row| row.id).collect();
    let deleted = actor.client.execute("DELETE FROM race WHERE id = ANY ($1)", &[&ids]).await.unwrap();
    assert_eq!(deleted as usize, ids.len());
    actor.client.batch_execute("VACUUM (INDEX_CLEANUP ON, TRUNCATE OFF) race").await.unwrap();
    let insert = "INSERT INTO race (id, a, b) SELECT u.id, u.a, u.b
          FROM unnest($1::int8[], $2::bytea[], $3::bytea[]) WITH ORDINALITY AS u(id, a, b, place) ORDER BY place
        RETURNING ctid::text";
    let (mut new_ids, mut a, mut b) = (Vec::new(), Vec::new(), Vec::new());
    for row in rows {
        let id = if by_another { row.id + KEY_SHIFT } else { row.id };
        new_ids.push(id);
        a.push(if by_another { row.a.clone() } else { actor.new_value(Key::Old, row.id) });
        b.push(row.b.clone());
        let version = u32::from(!by_another);
        let a = Some(plaintext(0, row.id, version));
        actor.note(row.id, Some(Expected { id, a, ..untouched(row.id) }));
    }
    let placed = actor.client.query(insert, &[&new_ids, &a, &b]).await.unwrap();
    for (placed, row) in placed.iter().zip(rows) {
        let expected = format!("({page},{})", row.item);
        assert_eq!(placed.get::<_, String>(0), expected, "the new row took the place of row {}", row.id);
    }
}
