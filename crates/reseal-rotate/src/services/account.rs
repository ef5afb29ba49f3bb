//! One user at one node, as the steps of a rotation need it: look, do, take back, each as often as one likes.
//!
//! ```text
//! rehearse --> capture --> apply <--> standing
//!                 `--kept--> undo
//! ```

use reseal_crypto::{Random, SecretBytes};
use serde::{Deserialize, Serialize};

use super::postgres::{RoleState, Verifier};
use super::redis::{Group, GroupState, Persistence, Replica};
use super::{Access, Service, ServiceError, kept, postgres};

/// Another user that may change this one, and what lets that in; nothing for a peer.
#[derive(Debug, Clone)]
pub struct Admin {
    /// Its name.
    pub user: String,
    /// Its value; `None`: the system vouches for it.
    pub value: Option<SecretBytes>,
}

/// A change of what lets a user in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Change {
    /// The new value instead of the old.
    Set,
    /// The new value beside the old.
    Add,
    /// The new value without the old, and without what was left besides.
    Remove,
}

/// How far a change is, seen from outside.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Standing {
    /// It is made.
    Done,
    /// It is not made, or not everywhere.
    NotDone,
    /// It is made, but nothing shows whether it would outlive the server: it has to be made again, which is harmless.
    DoneInMemory,
}

/// What to know before a change.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Note {
    /// The server starts from its arguments: a restart brings the old value back.
    RevertsAtRestart,
    /// The server does not tell what it starts from.
    PersistenceUnknown,
    /// Statements that the server logs show the verifier, because whoever makes the change is no superuser.
    VerifierInLog,
}

impl std::fmt::Display for Note {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::RevertsAtRestart => {
                "the password stands among the server's arguments: a restart brings the old one back until it is started anew with the new one"
            }
            Self::PersistenceUnknown => "the server does not tell whether a change outlives a restart",
            Self::VerifierInLog => "a server that logs statements logs the verifier (never the value)",
        })
    }
}

/// Old and new value of a user.
#[derive(Debug, Clone, Copy)]
pub struct Exchange<'a> {
    /// What let in before.
    pub old: &'a SecretBytes,
    /// What shall let in.
    pub new: &'a SecretBytes,
    /// What may let in besides, left by rotations that were given up, and ends with the old value.
    pub left: &'a [SecretBytes],
}

impl<'a> Exchange<'a> {
    /// What lets in before the change, and not after it.
    pub(super) fn before(&self) -> impl Iterator<Item = &'a SecretBytes> {
        std::iter::once(self.old).chain(self.left)
    }
}

/// A user at a node.
#[derive(Debug, Clone)]
pub struct Account {
    service: Service,
    user: String,
    admin: Option<Admin>,
}

/// What is needed to make a change at Postgres the same way again, and to take it back.
#[derive(Serialize, Deserialize)]
struct RoleKept {
    before: RoleState,
    old: Verifier,
    new: Verifier,
}

impl Account {
    /// That user, changed by `admin`, or by the user itself.
    pub fn new(service: Service, user: &str, admin: Option<Admin>) -> Self {
        Self { service, user: user.to_owned(), admin }
    }

    /// Where it is.
    pub fn service(&self) -> &Service {
        &self.service
    }

    /// Its name.
    pub fn user(&self) -> &str {
        &self.user
    }

    /// Shows that a change is possible: the old value lets in, a wrong one does not, the rights are there. Changes
    /// nothing.
    ///
    /// # Errors
    ///
    /// [`ServiceError`] with what stands against it.
    pub async fn rehearse(
        &self,
        change: Change,
        old: &SecretBytes,
        random: &dyn Random,
    ) -> Result<Vec<Note>, ServiceError> {
        self.service.prove(&self.user, old, random).await?.held(self.service.name(), &self.user)?;
        self.may_change(change, old).await
    }

    /// Whether the rights for a change are there, while this value lets in. Changes nothing.
    ///
    /// # Errors
    ///
    /// [`ServiceError`] with what stands against it.
    pub async fn may_change(&self, change: Change, value: &SecretBytes) -> Result<Vec<Note>, ServiceError> {
        let values = Exchange { old: value, new: value, left: &[] };
        match &self.service {
            Service::Postgres(_) => {
                self.refuse_overlap(change)?;
                let session = self.role_session(values).await?;
                session.may_set(&self.user).await?;
                Ok(if session.is_quiet() { Vec::new() } else { vec![Note::VerifierInLog] })
            }
            Service::Redis(_) => {
                let group = self.group(values, None).await?;
                let found = group.rehearse(&self.user, change).await?;
                let note = |persistence| match persistence {
                    Persistence::AclFile | Persistence::ConfigFile => None,
                    Persistence::Arguments => Some(Note::RevertsAtRestart),
                    Persistence::Unknown => Some(Note::PersistenceUnknown),
                };
                Ok(found.into_iter().filter_map(note).collect())
            }
        }
    }

    /// The replicas that the server names, which have users of their own.
    ///
    /// # Errors
    ///
    /// [`ServiceError`] if the server does not say.
    pub async fn replicas(&self, values: Exchange<'_>) -> Result<Vec<Service>, ServiceError> {
        let Service::Redis(node) = &self.service else { return Ok(Vec::new()) };
        let found = Group::first(node, &self.accesses(values)).await?.replicas().await?;
        let beside = |replica: &Replica| Service::Redis(node.beside(&replica.host, replica.port));
        Ok(found.iter().map(beside).collect())
    }

    /// What [`apply`](Self::apply) and [`undo`](Self::undo) need. Belongs in the sealed journal, before anything changes.
    ///
    /// # Errors
    ///
    /// [`ServiceError`] if the server does not say.
    pub async fn capture(&self, values: Exchange<'_>) -> Result<SecretBytes, ServiceError> {
        match &self.service {
            Service::Postgres(_) => {
                let session = self.role_session(values).await?;
                let before = session.state(&self.user).await?.ok_or_else(|| self.no_user())?;
                let (old, new) = (Verifier::of(values.old), Verifier::of(values.new));
                Ok(kept::pack(&RoleKept { before, old, new }))
            }
            Service::Redis(_) => {
                Ok(kept::pack(&self.group(values, None).await?.state(&self.user, values).await?))
            }
        }
    }

    /// How far a change is, by logins on new connections.
    ///
    /// # Errors
    ///
    /// [`ServiceError::Unreachable`]: then nothing is known.
    pub async fn standing(
        &self,
        change: Change,
        values: Exchange<'_>,
        kept: &SecretBytes,
    ) -> Result<Standing, ServiceError> {
        let nodes = match &self.service {
            Service::Postgres(_) => vec![self.service.clone()],
            Service::Redis(node) => {
                let state: GroupState = kept::unpack(self.service.name(), kept)?;
                state.nodes(node).into_iter().map(Service::Redis).collect()
            }
        };
        for node in nodes {
            let old_lets_in = self.lets_in(&node, values.old).await?;
            let as_wanted = old_lets_in == (change == Change::Add) && self.lets_in(&node, values.new).await?;
            if !as_wanted || (change != Change::Add && self.any_lets_in(&node, values.left).await?) {
                return Ok(Standing::NotDone);
            }
        }
        Ok(if matches!(self.service, Service::Redis(_)) { Standing::DoneInMemory } else { Standing::Done })
    }

    /// Makes a change, and writes it where the server starts from. A second time changes nothing.
    ///
    /// # Errors
    ///
    /// [`ServiceError::Policy`] if another value may do; [`ServiceError::NotPersistent`] if it is made in memory only;
    /// otherwise what stands against it.
    pub async fn apply(
        &self,
        change: Change,
        values: Exchange<'_>,
        kept: &SecretBytes,
    ) -> Result<(), ServiceError> {
        match &self.service {
            Service::Postgres(_) => {
                self.refuse_overlap(change)?;
                let kept: RoleKept = kept::unpack(self.service.name(), kept)?;
                self.role_session(values).await?.set(&self.user, &kept.new).await
            }
            Service::Redis(_) => {
                let state: GroupState = kept::unpack(self.service.name(), kept)?;
                self.group(values, Some(&state)).await?.apply(&self.user, change, values, &state).await
            }
        }
    }

    /// Takes a change back, whether it was made wholly, partly or not at all.
    ///
    /// # Errors
    ///
    /// [`ServiceError`] if it cannot be taken back now.
    pub async fn undo(&self, values: Exchange<'_>, kept: &SecretBytes) -> Result<(), ServiceError> {
        match &self.service {
            Service::Postgres(_) => {
                let kept: RoleKept = kept::unpack(self.service.name(), kept)?;
                self.role_session(values).await?.restore(&self.user, &kept.before, &kept.old).await
            }
            Service::Redis(_) => {
                let state: GroupState = kept::unpack(self.service.name(), kept)?;
                self.group(values, Some(&state)).await?.restore(&self.user, values.old, &state).await
            }
        }
    }

    /// Whether [`end_sessions`](Self::end_sessions) would be allowed, without trying it.
    ///
    /// # Errors
    ///
    /// [`ServiceError::Rights`].
    pub async fn may_end_sessions(&self, values: Exchange<'_>) -> Result<(), ServiceError> {
        match &self.service {
            Service::Postgres(_) => self.role_session(values).await?.may_end_sessions(&self.user).await,
            Service::Redis(_) => self.group(values, None).await?.may_end_clients(&self.user).await,
        }
    }

    /// Ends all that the user has open, whatever value opened it; returns how much that was.
    ///
    /// # Errors
    ///
    /// [`ServiceError`] if the server does not.
    pub async fn end_sessions(&self, values: Exchange<'_>) -> Result<u64, ServiceError> {
        match &self.service {
            Service::Postgres(_) => self.role_session(values).await?.end_sessions(&self.user).await,
            Service::Redis(_) => self.group(values, None).await?.end_clients(&self.user).await,
        }
    }

    async fn lets_in(&self, node: &Service, value: &SecretBytes) -> Result<bool, ServiceError> {
        node.login(&self.user, value).await.is_let_in(node.name())
    }

    async fn any_lets_in(&self, node: &Service, values: &[SecretBytes]) -> Result<bool, ServiceError> {
        for value in values {
            if self.lets_in(node, value).await? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Without an administrator the user logs in with whichever value lets in now.
    fn accesses<'a>(&'a self, values: Exchange<'a>) -> Vec<Access<'a>> {
        match &self.admin {
            Some(Admin { user, value: Some(value) }) => vec![Access::Value { user, value }],
            Some(Admin { user, value: None }) => vec![Access::Peer { user }],
            None => [values.old, values.new].map(|value| Access::Value { user: &self.user, value }).into(),
        }
    }

    async fn role_session(&self, values: Exchange<'_>) -> Result<postgres::Session, ServiceError> {
        let Service::Postgres(node) = &self.service else { return Err(self.no_user()) };
        let mut refused = self.no_user();
        for access in self.accesses(values) {
            match node.session(access).await {
                Err(error @ ServiceError::LoginRefused { .. }) => refused = error,
                other => return other,
            }
        }
        Err(refused)
    }

    async fn group(&self, values: Exchange<'_>, known: Option<&GroupState>) -> Result<Group, ServiceError> {
        let Service::Redis(node) = &self.service else { return Err(self.no_user()) };
        Group::open(node, &self.accesses(values), known).await
    }

    fn refuse_overlap(&self, change: Change) -> Result<(), ServiceError> {
        if change == Change::Set {
            return Ok(());
        }
        Err(ServiceError::NoOverlap { node: self.service.name().to_owned() })
    }

    fn no_user(&self) -> ServiceError {
        ServiceError::NoUser { node: self.service.name().to_owned(), user: self.user.clone() }
    }
}
