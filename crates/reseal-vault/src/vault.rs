//! A vault: created, found locked, opened.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use reseal_crypto::kdf::KdfParams;
use reseal_crypto::secret::VaultKey;
use reseal_crypto::slot::{Opener, SLOTS_MAX, Slot, SlotKdf};
use reseal_crypto::{OsRandom, Random, Suite};
use rusqlite::{Connection, TransactionBehavior};

use crate::anchor::{self, Anchor, AnchorDir};
use crate::audit::{AuditorKey, ChainKey, Event, Stamp};
use crate::clock::{Clock, SystemClock, Timestamp};
use crate::error::{Thing, VaultError};
use crate::record::Keys;
use crate::recovery::RecoveryCode;
use crate::slots::{self, SlotInfo, StoredSlot};
use crate::store::{self, Change, View};
use crate::tree::Head;
use crate::{file, schema};

/// The name of the slot of the recovery code.
const RECOVERY_SLOT: &str = "recovery-code";

/// The random name of a vault, for as long as it lives. Not secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct VaultId(pub [u8; 16]);

impl fmt::Display for VaultId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl FromStr for VaultId {
    type Err = hex::FromHexError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut id = [0; 16];
        hex::decode_to_slice(text, &mut id)?;
        Ok(Self(id))
    }
}

/// Who works with the vault, for the audit log. The caller finds it out; no library asks the system.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Operator {
    /// The system user.
    pub user: String,
    /// Who became that user by `sudo`.
    pub sudo_user: Option<String>,
}

/// How a vault is opened.
#[derive(Debug, Clone)]
pub struct OpenOptions {
    /// Where anchors are kept. Without it an older copy of the vault is accepted.
    pub anchors: Option<AnchorDir>,
    /// Accepts a vault that the anchors refuse, says so in its audit log, and makes it the one to compare with from then on.
    pub accept_older: bool,
    /// Who acts.
    pub operator: Operator,
    /// Why, in the operator's words.
    pub reason: Option<String>,
    /// How long to wait for another process.
    pub busy_timeout: Duration,
    /// Where the time comes from.
    pub clock: Arc<dyn Clock>,
    /// Where randomness comes from.
    pub random: Arc<dyn Random>,
}

impl Default for OpenOptions {
    fn default() -> Self {
        Self {
            anchors: None,
            accept_older: false,
            operator: Operator::default(),
            reason: None,
            busy_timeout: Duration::from_secs(5),
            clock: Arc::new(SystemClock),
            random: Arc::new(OsRandom),
        }
    }
}

/// A key slot to be made.
#[derive(Debug, Clone)]
pub struct NewSlot {
    /// Its name, for the list of slots and the audit log.
    pub name: String,
    /// What will open it.
    pub opener: Opener,
}

/// How a vault is created.
#[derive(Debug, Clone)]
pub struct CreateOptions {
    /// The slots it begins with, besides the recovery code.
    pub slots: Vec<NewSlot>,
    /// The cost of passphrase slots.
    pub kdf: KdfParams,
    /// Whether a recovery code is made.
    pub recovery_code: bool,
    /// The suite of its records.
    pub suite: Suite,
    /// How it is opened afterwards.
    pub open: OpenOptions,
}

/// A new vault, open, and what is shown once.
#[derive(Debug)]
pub struct Created {
    /// The vault.
    pub vault: Vault,
    /// What opens it when everything else is lost.
    pub recovery_code: Option<RecoveryCode>,
    /// What proves every entry of its audit log; to be kept away from this machine.
    pub auditor_key: AuditorKey,
}

/// A vault file that was checked as far as that goes without a key.
#[derive(Debug)]
pub struct LockedVault {
    path: PathBuf,
    connection: Connection,
    id: VaultId,
    suite: Suite,
    slots: Vec<StoredSlot>,
    options: OpenOptions,
}

/// A vault key, and which slot gave it.
#[derive(Debug, Clone)]
pub struct UnlockedKey {
    key: VaultKey,
    slot: Option<[u8; 16]>,
}

impl UnlockedKey {
    /// A key that an agent held.
    pub fn from_agent(key: VaultKey) -> Self {
        Self { key, slot: None }
    }

    /// The key itself, for handing it to an agent.
    pub fn key(&self) -> &VaultKey {
        &self.key
    }
}

impl LockedVault {
    /// Finds a vault and checks the file, its tables and its slots; no key is derived.
    ///
    /// # Errors
    ///
    /// [`VaultError::NoVault`], [`VaultError::UnsafeFile`], [`VaultError::NotAVault`], [`VaultError::Tampered`],
    /// [`VaultError::Busy`].
    pub fn find(path: &Path, options: OpenOptions) -> Result<Self, VaultError> {
        let path = file::resolve(path).map_err(|error| match error {
            VaultError::NoDirectory(_) => VaultError::NoVault(path.to_owned()),
            other => other,
        })?;
        let connection = schema::open(&path, options.busy_timeout)?;
        Self::over(path, connection, options)
    }

    /// Reads id and slots from a database that was opened and not checked further.
    pub(crate) fn over(
        path: PathBuf,
        connection: Connection,
        options: OpenOptions,
    ) -> Result<Self, VaultError> {
        schema::check(&connection)?;
        let (body, _) = store::read_head(&connection)?;
        let head = Head::parse(&body).ok_or_else(|| VaultError::tampered("its head is not one"))?;
        let slots = slots::read(&connection)?;
        Ok(Self { path, connection, id: head.vault_id, suite: head.suite, slots, options })
    }

    /// The vault's id, as the file says: proved only once it is open.
    pub fn id(&self) -> VaultId {
        self.id
    }

    /// What kinds of slots there are, as the file says.
    pub fn slot_kinds(&self) -> impl Iterator<Item = SlotKdf> + '_ {
        self.slots.iter().map(|stored| stored.slot.kdf)
    }

    /// Derives the vault key. May be tried again with something else.
    ///
    /// # Errors
    ///
    /// [`VaultError::Locked`] if no slot opens, [`VaultError::Tampered`] if the right slot was changed.
    pub fn unwrap_key(&self, opener: &Opener) -> Result<UnlockedKey, VaultError> {
        let (key, slot) = slots::unwrap(&self.slots, self.id, opener)?;
        Ok(UnlockedKey { key, slot: Some(slot) })
    }

    /// Opens the vault: checks head, slots, the end of the audit log, and the anchors.
    ///
    /// # Errors
    ///
    /// [`VaultError::Tampered`] (also for a key of another vault), [`VaultError::RolledBack`], [`VaultError::Locked`] if the
    /// slot was removed meanwhile, [`VaultError::Busy`].
    pub fn unlock(self, key: UnlockedKey) -> Result<Vault, VaultError> {
        let keys = self.keys(&key);
        let opened = self.slots.into_iter().find(|stored| Some(stored.slot.id) == key.slot);
        let (path, connection, options) = (self.path, self.connection, self.options);
        let mut vault = Vault { path, connection, keys, options, slot: String::new(), seen: None };
        let directory = vault.anchors().cloned();
        let view = vault.view()?;
        let slot = session_name(&slots::verified(&view)?, opened.as_ref())?;
        let checked = anchor::check_stored(&view, directory.as_ref());
        drop(view);
        vault.slot = slot;
        match checked {
            Err(VaultError::RolledBack { index, .. }) if vault.options.accept_older => {
                vault.record_event(Event::done("accept older").detail(format!("entry {index} was known")))?;
            }
            other => {
                other?;
            }
        }
        Ok(vault)
    }
}

/// The name of the slot that opened the vault, which may have been removed since its key was derived.
fn session_name(held: &[(StoredSlot, SlotInfo)], opened: Option<&StoredSlot>) -> Result<String, VaultError> {
    let Some(StoredSlot { slot, .. }) = opened else { return Ok("agent".to_owned()) };
    let named = held.iter().find(|(stored, _)| stored.slot.id == slot.id);
    named.map(|(_, info)| info.name.clone()).ok_or(VaultError::Locked(slot.kdf.name()))
}

impl LockedVault {
    pub(crate) fn keys(&self, key: &UnlockedKey) -> Keys {
        Keys::new(self.id, key.key.clone(), self.suite)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn connection(&mut self) -> &mut Connection {
        &mut self.connection
    }
}

/// An open vault.
pub struct Vault {
    path: PathBuf,
    connection: Connection,
    keys: Keys,
    options: OpenOptions,
    slot: String,
    seen: Option<Anchor>,
}

impl fmt::Debug for Vault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Vault")
            .field("path", &self.path)
            .field("id", &self.keys.vault_id)
            .finish_non_exhaustive()
    }
}

impl Vault {
    /// Creates a vault; durable when it returns.
    ///
    /// The directory must exist. Nothing is replaced.
    ///
    /// # Errors
    ///
    /// [`VaultError::Exists`] if the name or a side file of it is taken, or two slots have one name; [`VaultError::Refused`] without any slot or with
    /// more than 8; [`VaultError::UnsafeFile`].
    pub fn create(path: &Path, options: CreateOptions) -> Result<Created, VaultError> {
        let CreateOptions { slots, kdf, recovery_code, suite, open } = options;
        check_new_slots(&slots, recovery_code)?;
        let path = file::resolve(path)?;
        if path.symlink_metadata().is_ok() {
            return Err(VaultError::Exists { what: Thing::File, name: path.display().to_string() });
        }
        let random = &*open.random;
        let mut id = [0; 16];
        random.fill(&mut id)?;
        let root = VaultKey::generate(random)?;
        let code = recovery_code.then(|| RecoveryCode::generate(random)).transpose()?;
        let recovery_slot =
            code.as_ref().map(|code| NewSlot { name: RECOVERY_SLOT.to_owned(), opener: code.opener() });
        let made = slots
            .into_iter()
            .chain(recovery_slot)
            .map(|new| Ok((new.name, Slot::make(&id, &root, &new.opener, kdf, random)?)))
            .collect::<Result<Vec<_>, VaultError>>()?;
        let (chain, auditor_key) = ChainKey::first(random)?;

        let keys = Keys::new(VaultId(id), root.clone(), suite);
        let draft = file::Draft::beside(&path, random)?;
        let stamp = stamp(&open, made.first().map_or("", |(name, _)| name));
        write_first(draft.path(), &keys, chain, &made, &open, stamp)?;
        draft.publish()?;

        let mut vault =
            LockedVault::find(&path, open)?.unlock(UnlockedKey { key: root, slot: Some(made[0].1.id) })?;
        vault.remember(vault.anchor());
        Ok(Created { vault, recovery_code: code, auditor_key })
    }

    /// Opens a vault with what a person or a machine brings.
    ///
    /// # Errors
    ///
    /// Those of [`LockedVault::find`], [`LockedVault::unwrap_key`] and [`LockedVault::unlock`].
    pub fn open(path: &Path, opener: &Opener, options: OpenOptions) -> Result<Self, VaultError> {
        let locked = LockedVault::find(path, options)?;
        let key = locked.unwrap_key(opener)?;
        locked.unlock(key)
    }

    /// The vault's id.
    pub fn id(&self) -> VaultId {
        self.keys.vault_id
    }

    /// The file, with every link of its directory resolved.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The name of the slot that opened it, `agent` if an agent did.
    pub fn slot_name(&self) -> &str {
        &self.slot
    }

    /// The last audit entry that this process has seen: what to keep elsewhere.
    pub fn anchor(&self) -> Anchor {
        self.seen.expect("opening a vault reads its head")
    }

    /// Checks an anchor that was kept elsewhere.
    ///
    /// # Errors
    ///
    /// [`VaultError::RolledBack`] if the log does not have its entry.
    pub fn check_anchor(&mut self, anchor: &Anchor) -> Result<(), VaultError> {
        self.view()?.check_anchor(anchor)
    }

    /// The system user that acts, as the audit log has it.
    pub fn operator(&self) -> &str {
        &self.options.operator.user
    }

    /// Says why the following is done, for the audit log.
    pub fn set_reason(&mut self, reason: Option<String>) {
        self.options.reason = reason;
    }

    /// A consistent state to read from, never older than one that was read before.
    pub(crate) fn view(&mut self) -> Result<View<'_>, VaultError> {
        let (keys, seen) = (&self.keys, self.seen.as_ref());
        let view = View::begin(&mut self.connection, keys, TransactionBehavior::Deferred, seen)?;
        self.seen = Some(Anchor::of(&view.head));
        Ok(view)
    }

    /// Runs `work` in one transaction and commits it with the event it returns. Nothing lasts if anything fails, and the
    /// result is handed out only after the commit.
    pub(crate) fn change<T>(
        &mut self,
        work: impl FnOnce(&mut Change<'_>) -> Result<(T, Event), VaultError>,
    ) -> Result<T, VaultError> {
        let changed = self.try_change(work);
        changed.map_err(|error| error.at(self.path()))
    }

    fn try_change<T>(
        &mut self,
        work: impl FnOnce(&mut Change<'_>) -> Result<(T, Event), VaultError>,
    ) -> Result<T, VaultError> {
        let stamp = stamp(&self.options, &self.slot);
        let random = &*self.options.random;
        let mut change = Change::begin(&mut self.connection, &self.keys, random, self.seen.as_ref(), stamp)?;
        let (result, event) = work(&mut change)?;
        let anchor = change.commit(event)?;
        self.remember(anchor);
        Ok(result)
    }

    /// Keeps the anchor of a commit, here and in the state directory.
    pub(crate) fn remember(&mut self, anchor: Anchor) {
        self.seen = Some(anchor);
        let Some(directory) = &self.options.anchors else { return };
        // The commit stands; an anchor that stays behind is safe, it only proves less.
        if let Err(error) = directory.write(anchor.vault_id, &[anchor]) {
            tracing::warn!(%error, "the anchor could not be written");
        }
    }

    pub(crate) fn anchors(&self) -> Option<&AnchorDir> {
        self.options.anchors.as_ref()
    }

    pub(crate) fn keys(&self) -> &Keys {
        &self.keys
    }

    pub(crate) fn connection(&self) -> &Connection {
        &self.connection
    }

    pub(crate) fn random(&self) -> &dyn Random {
        &*self.options.random
    }

    pub(crate) fn now(&self) -> Timestamp {
        self.options.clock.now()
    }

    pub(crate) fn busy_timeout(&self) -> Duration {
        self.options.busy_timeout
    }
}

fn check_new_slots(new: &[NewSlot], recovery_code: bool) -> Result<(), VaultError> {
    new.iter().try_for_each(|slot| slots::check_name(&slot.name))?;
    let mut names: Vec<&str> = new.iter().map(|slot| slot.name.as_str()).collect();
    names.extend(recovery_code.then_some(RECOVERY_SLOT));
    names.sort_unstable();
    if let Some(twice) = names.windows(2).find(|pair| pair[0] == pair[1]) {
        return Err(VaultError::Exists { what: Thing::KeySlot, name: twice[0].to_owned() });
    }
    let count = names.len();
    if count == 0 || count > SLOTS_MAX {
        return Err(VaultError::refused("a vault has 1 to 8 key slots"));
    }
    Ok(())
}

fn stamp(options: &OpenOptions, slot: &str) -> Stamp {
    Stamp {
        time: options.clock.now(),
        slot: slot.to_owned(),
        user: options.operator.user.clone(),
        sudo_user: options.operator.sudo_user.clone(),
        reason: options.reason.clone(),
    }
}

/// Writes tables, slots and the first audit entry into an empty file.
fn write_first(
    path: &Path,
    keys: &Keys,
    chain: ChainKey,
    slots: &[(String, Slot)],
    options: &OpenOptions,
    stamp: Stamp,
) -> Result<(), VaultError> {
    let mut connection = schema::connect(path, options.busy_timeout)?;
    let created = stamp.time;
    let mut change = Change::first(&mut connection, keys, &*options.random, chain, stamp)?;
    schema::create(&change.view.tx)?;
    for (name, slot) in slots {
        slots::insert(&change, name, created, slot)?;
    }
    slots::seal_into_head(&mut change)?;
    change.commit(Event::done("init").detail(format!("suite {}", keys.suite.name())))?;
    connection.close().map_err(|(_, error)| error.into())
}
