//! Transactions: a [`View`] reads with proof, a [`Change`] writes records, tree, audit and head as one.

use std::collections::{BTreeMap, BTreeSet};

use reseal_crypto::Random;
use reseal_crypto::hash::{equal, sha256};
use rusqlite::{Connection, OptionalExtension, Transaction, TransactionBehavior, params};
use zeroize::Zeroizing;

use crate::anchor::Anchor;
use crate::audit::{ChainKey, Entry, Event, Stamp};
use crate::error::VaultError;
use crate::record::{Keys, Place, RecordId, RecordKind};
use crate::schema;
use crate::tree::{Digests, Fingerprint, Head, Leaf};

/// A consistent, verified state of the vault, for as long as it lives.
#[derive(Debug)]
pub(crate) struct View<'v> {
    pub(crate) tx: Transaction<'v>,
    pub(crate) keys: &'v Keys,
    pub(crate) head: Head,
    nodes: BTreeMap<u16, Digests>,
    leaves: BTreeMap<u16, Leaf>,
}

impl<'v> View<'v> {
    /// Starts a transaction and checks the schema, the head, the end of the audit log, and that `seen` is part of the log.
    pub(crate) fn begin(
        connection: &'v mut Connection,
        keys: &'v Keys,
        behavior: TransactionBehavior,
        seen: Option<&Anchor>,
    ) -> Result<Self, VaultError> {
        let tx = connection.transaction_with_behavior(behavior)?;
        // Every time: whoever can write to the file can add a trigger while it is open.
        schema::check(&tx)?;
        let (body, mac) = read_head(&tx)?;
        let head = Head::verify(&keys.tree, keys.vault_id, &body, &mac)?;
        let view = Self { tx, keys, head, nodes: BTreeMap::new(), leaves: BTreeMap::new() };
        view.check_audit_end()?;
        seen.map_or(Ok(()), |anchor| view.check_anchor(anchor))?;
        Ok(view)
    }

    fn check_audit_end(&self) -> Result<(), VaultError> {
        let last: Option<(i64, Vec<u8>)> = self
            .tx
            .prepare_cached("SELECT number, mac FROM audit ORDER BY number DESC LIMIT 1")?
            .query_row((), |row| Ok((row.get(0)?, row.get(1)?)))
            .optional()?;
        let whole = last.is_some_and(|(number, mac)| {
            let len = u64::try_from(number).ok().and_then(|number| number.checked_add(1));
            len == Some(self.head.audit_len) && equal(&mac, &self.head.audit_mac)
        });
        if whole {
            Ok(())
        } else {
            Err(VaultError::tampered("the audit log does not end where the head says"))
        }
    }

    /// The record of this id, or the proof that there is none.
    pub(crate) fn get(
        &mut self,
        kind: RecordKind,
        id: RecordId,
    ) -> Result<Option<Zeroizing<Vec<u8>>>, VaultError> {
        let Some(body) = self.stored(kind, id)? else { return Ok(None) };
        let bound = self.keys.bound(Place::Record(kind, id));
        bound.open(&body).map(Some).ok_or_else(|| VaultError::tampered("a record does not authenticate"))
    }

    /// The stored bytes of a record, compared with the tree.
    pub(crate) fn stored(&mut self, kind: RecordKind, id: RecordId) -> Result<Option<Vec<u8>>, VaultError> {
        let expected = self.leaf(id.leaf())?.find(id);
        let row: Option<(u8, Vec<u8>)> = self
            .tx
            .prepare_cached("SELECT kind, body FROM record WHERE id = ?1")?
            .query_row([&id.0], |row| Ok((row.get(0)?, row.get(1)?)))
            .optional()?;
        match (expected, row) {
            (None, None) => Ok(None),
            (Some(print), Some((stored_kind, body)))
                if stored_kind == kind as u8 && equal(&print, &fingerprint(stored_kind, &body)) =>
            {
                Ok(Some(body))
            }
            (Some(_), None) => Err(VaultError::tampered("a record was removed")),
            (None, Some(_)) => Err(VaultError::tampered("a record was added")),
            (Some(_), Some(_)) => Err(VaultError::tampered("a record was replaced")),
        }
    }

    /// Every record of a kind, opened. Complete: the head says how many there are.
    pub(crate) fn all(&mut self, kind: RecordKind) -> Result<Vec<Zeroizing<Vec<u8>>>, VaultError> {
        // A map, because a forged file may have the same row twice in the place of another; and one row more than there
        // should be is enough to know.
        let limit = i64::try_from(self.head.count(kind)).unwrap_or(i64::MAX).saturating_add(1);
        let rows = self
            .tx
            .prepare_cached("SELECT id, body FROM record WHERE kind = ?1 LIMIT ?2")?
            .query_map(params![kind as u8, limit], |row| Ok((RecordId(row.get(0)?), row.get(1)?)))?
            .collect::<Result<BTreeMap<RecordId, Vec<u8>>, _>>()?;
        if rows.len() as u64 != self.head.count(kind) {
            return Err(VaultError::tampered("the number of records is not what the head says"));
        }
        rows.into_iter().map(|(id, body)| self.open_known(kind, id, &body)).collect()
    }

    fn open_known(
        &mut self,
        kind: RecordKind,
        id: RecordId,
        body: &[u8],
    ) -> Result<Zeroizing<Vec<u8>>, VaultError> {
        let print = fingerprint(kind as u8, body);
        let known = self.leaf(id.leaf())?.find(id).is_some_and(|expected| equal(&expected, &print));
        let opened = known.then(|| self.keys.bound(Place::Record(kind, id)).open(body)).flatten();
        opened.ok_or_else(|| VaultError::tampered("a record does not authenticate"))
    }

    /// A leaf of the tree, checked up to the head.
    pub(crate) fn leaf(&mut self, number: u16) -> Result<&mut Leaf, VaultError> {
        if !self.leaves.contains_key(&number) {
            let digest = self.node(number / 64)?.0[usize::from(number % 64)];
            let leaf = match read_list(&self.tx, "SELECT entries FROM leaf WHERE number = ?1", number)? {
                Some(bytes) => Leaf::parse(number, &bytes),
                None => Some(Leaf::default()),
            };
            let leaf = leaf
                .filter(|leaf| equal(&leaf.digest(&self.keys.tree, number), &digest))
                .ok_or_else(|| VaultError::tampered("a leaf of the integrity tree was changed"))?;
            self.leaves.insert(number, leaf);
        }
        Ok(self.leaves.get_mut(&number).expect("it was there or has just been inserted"))
    }

    fn node(&mut self, number: u16) -> Result<&mut Digests, VaultError> {
        if !self.nodes.contains_key(&number) {
            let digest = self.head.nodes.0[usize::from(number)];
            let node = match read_list(&self.tx, "SELECT digests FROM node WHERE number = ?1", number)? {
                Some(bytes) => Digests::parse(&bytes),
                None => Some(Digests::default()),
            };
            let node = node
                .filter(|node| equal(&node.digest(&self.keys.tree, number), &digest))
                .ok_or_else(|| VaultError::tampered("a node of the integrity tree was changed"))?;
            self.nodes.insert(number, node);
        }
        Ok(self.nodes.get_mut(&number).expect("it was there or has just been inserted"))
    }
}

/// A change to the vault: nothing of it lasts unless [`commit`](Self::commit) returns.
#[derive(Debug)]
pub(crate) struct Change<'v> {
    pub(crate) view: View<'v>,
    random: &'v dyn Random,
    chain: ChainKey,
    stamp: Stamp,
    dirty: BTreeSet<u16>,
}

impl<'v> Change<'v> {
    /// Takes the write lock of the vault.
    ///
    /// # Errors
    ///
    /// [`VaultError::Busy`] if another process keeps it for longer than the time limit.
    pub(crate) fn begin(
        connection: &'v mut Connection,
        keys: &'v Keys,
        random: &'v dyn Random,
        seen: Option<&Anchor>,
        stamp: Stamp,
    ) -> Result<Self, VaultError> {
        let view = View::begin(connection, keys, TransactionBehavior::Immediate, seen)?;
        let chain = ChainKey::load(&view)?;
        Ok(Self { view, random, chain, stamp, dirty: BTreeSet::new() })
    }

    /// The first change of a new vault, whose head is not stored yet.
    pub(crate) fn first(
        connection: &'v mut Connection,
        keys: &'v Keys,
        random: &'v dyn Random,
        chain: ChainKey,
        stamp: Stamp,
    ) -> Result<Self, VaultError> {
        let tx = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let head = Head::empty(keys.vault_id, keys.suite);
        let view = View { tx, keys, head, nodes: BTreeMap::new(), leaves: BTreeMap::new() };
        Ok(Self { view, random, chain, stamp, dirty: BTreeSet::new() })
    }

    pub(crate) fn keys(&self) -> &'v Keys {
        self.view.keys
    }

    pub(crate) fn random(&self) -> &'v dyn Random {
        self.random
    }

    /// Seals and stores a record, new or in the place of the one with the same id.
    pub(crate) fn put(&mut self, kind: RecordKind, id: RecordId, plaintext: &[u8]) -> Result<(), VaultError> {
        let sealed = self.keys().bound(Place::Record(kind, id)).seal(plaintext, self.random)?;
        self.put_sealed(kind, id, &sealed)
    }

    /// Stores a record that is sealed already.
    pub(crate) fn put_sealed(
        &mut self,
        kind: RecordKind,
        id: RecordId,
        sealed: &[u8],
    ) -> Result<(), VaultError> {
        let new = self.view.leaf(id.leaf())?.set(id, fingerprint(kind as u8, sealed));
        self.dirty.insert(id.leaf());
        if new {
            self.view.head.add(kind);
        }
        self.view
            .tx
            .prepare_cached(
                "INSERT INTO record (id, kind, body) VALUES (?1, ?2, ?3) \
                 ON CONFLICT (id) DO UPDATE SET kind = excluded.kind, body = excluded.body",
            )?
            .execute(params![id.0, kind as u8, sealed])?;
        Ok(())
    }

    /// Removes a record; says whether it was there.
    pub(crate) fn remove(&mut self, kind: RecordKind, id: RecordId) -> Result<bool, VaultError> {
        if !self.view.leaf(id.leaf())?.remove(id) {
            return Ok(false);
        }
        self.dirty.insert(id.leaf());
        self.view.head.subtract(kind);
        self.view.tx.prepare_cached("DELETE FROM record WHERE id = ?1")?.execute([&id.0])?;
        Ok(true)
    }

    /// Appends an audit entry and returns its number. Every commit brings one; more are possible before it.
    pub(crate) fn audit(&mut self, event: Event) -> Result<u64, VaultError> {
        let number = self.view.head.audit_len;
        let entry = Entry { stamp: self.stamp.clone(), event };
        let mac = self.chain.append(&self.view, self.random, &entry)?;
        self.view.head.audit_mac = mac;
        self.view.head.audit_len += 1;
        Ok(number)
    }

    /// Goes on with another audit key: what an intruder would do.
    #[cfg(test)]
    pub(crate) fn replace_chain(&mut self, chain: ChainKey) {
        self.chain = chain;
    }

    /// Appends an audit entry, writes the tree and the head, and makes it all durable.
    ///
    /// # Errors
    ///
    /// [`VaultError::Busy`] if readers stay for longer than the time limit; nothing has changed then.
    pub(crate) fn commit(mut self, event: Event) -> Result<Anchor, VaultError> {
        self.audit(event)?;
        self.chain.store(&self.view, self.random)?;
        self.write_tree()?;
        self.view.head.epoch += 1;
        write_head(&self.view.tx, self.keys(), &self.view.head)?;
        let anchor = Anchor::of(&self.view.head);
        self.view.tx.commit()?;
        Ok(anchor)
    }

    fn write_tree(&mut self) -> Result<(), VaultError> {
        let mut nodes = BTreeSet::new();
        for &number in &self.dirty {
            let key = &self.view.keys.tree;
            let leaf = self.view.leaf(number)?;
            let (digest, bytes) = (leaf.digest(key, number), leaf.to_bytes());
            self.view.node(number / 64)?.0[usize::from(number % 64)] = digest;
            nodes.insert(number / 64);
            let sql = ["DELETE FROM leaf WHERE number = ?1", UPSERT_LEAF];
            write_list(&self.view.tx, sql, number, &bytes, bytes.is_empty())?;
        }
        for number in nodes {
            let key = &self.view.keys.tree;
            let node = self.view.node(number)?;
            let (digest, bytes, empty) =
                (node.digest(key, number), node.as_bytes().to_vec(), node.is_empty());
            self.view.head.nodes.0[usize::from(number)] = digest;
            write_list(
                &self.view.tx,
                ["DELETE FROM node WHERE number = ?1", UPSERT_NODE],
                number,
                &bytes,
                empty,
            )?;
        }
        Ok(())
    }
}

const UPSERT_LEAF: &str = "INSERT INTO leaf (number, entries) VALUES (?1, ?2) \
                           ON CONFLICT (number) DO UPDATE SET entries = excluded.entries";
const UPSERT_NODE: &str = "INSERT INTO node (number, digests) VALUES (?1, ?2) \
                           ON CONFLICT (number) DO UPDATE SET digests = excluded.digests";

/// What a leaf holds about a record: half of SHA-256 over its kind and stored bytes.
pub(crate) fn fingerprint(kind: u8, stored: &[u8]) -> Fingerprint {
    let digest = sha256(&[&[kind], stored].concat());
    let mut print = [0; 16];
    print.copy_from_slice(&digest[..16]);
    print
}

/// The head as it is stored, not believed yet: body and MAC.
pub(crate) fn read_head(connection: &Connection) -> Result<(Vec<u8>, Vec<u8>), VaultError> {
    connection
        .prepare_cached("SELECT body, mac FROM head WHERE id = 1")?
        .query_row((), |row| Ok((row.get(0)?, row.get(1)?)))
        .optional()?
        .ok_or_else(|| VaultError::tampered("it has no head"))
}

fn write_head(tx: &Transaction<'_>, keys: &Keys, head: &Head) -> Result<(), VaultError> {
    let body = head.to_bytes();
    let mac = Head::mac(&keys.tree, &body);
    tx.prepare_cached(
        "INSERT INTO head (id, body, mac) VALUES (1, ?1, ?2) \
         ON CONFLICT (id) DO UPDATE SET body = excluded.body, mac = excluded.mac",
    )?
    .execute(params![body, mac])?;
    Ok(())
}

fn read_list(tx: &Transaction<'_>, sql: &str, number: u16) -> Result<Option<Vec<u8>>, VaultError> {
    Ok(tx.prepare_cached(sql)?.query_row([number], |row| row.get(0)).optional()?)
}

fn write_list(
    tx: &Transaction<'_>,
    [delete, upsert]: [&str; 2],
    number: u16,
    bytes: &[u8],
    empty: bool,
) -> Result<(), VaultError> {
    if empty {
        tx.prepare_cached(delete)?.execute([number])?;
    } else {
        tx.prepare_cached(upsert)?.execute(params![number, bytes])?;
    }
    Ok(())
}
