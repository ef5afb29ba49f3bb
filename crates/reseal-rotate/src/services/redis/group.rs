//! A server with its replicas: each has users of its own, and the replicas log in at the server.

use reseal_crypto::SecretBytes;
use serde::{Deserialize, Serialize};

use super::{Node, PasswordHash, Persistence, Replica, Session, UserState};
use crate::services::account::{Change, Exchange};
use crate::services::{Access, ServiceError};

/// The server first, then its replicas.
#[derive(Debug)]
pub struct Group {
    members: Vec<(Option<Replica>, Session)>,
}

/// What lets a user in at each of them, before a change.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GroupState {
    members: Vec<Member>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Member {
    /// Where it is; nothing for the server itself.
    replica: Option<Replica>,
    before: UserState,
    /// Whether it logs in at its primary with the user's value.
    follows_as_user: bool,
}

impl GroupState {
    /// The nodes of the group.
    pub fn nodes(&self, server: &Node) -> Vec<Node> {
        let node = |replica: &Option<Replica>| match replica {
            Some(replica) => server.beside(&replica.host, replica.port),
            None => server.clone(),
        };
        self.members.iter().map(|member| node(&member.replica)).collect()
    }
}

impl Group {
    /// Logs in everywhere, with the first of the accesses that is let in: at the replicas that are `known`, or that the
    /// server names now.
    ///
    /// # Errors
    ///
    /// [`ServiceError`] of the first member that does not let in or is not reached.
    pub async fn open(
        server: &Node,
        accesses: &[Access<'_>],
        known: Option<&GroupState>,
    ) -> Result<Self, ServiceError> {
        let first = open(server, accesses).await?;
        let replicas = match known {
            Some(state) => state.members.iter().filter_map(|member| member.replica.clone()).collect(),
            None => first.replicas().await?,
        };
        let mut members = vec![(None, first)];
        for replica in replicas {
            let session = open(&server.beside(&replica.host, replica.port), accesses).await?;
            members.push((Some(replica), session));
        }
        Ok(Self { members })
    }

    /// Logs in at the server alone.
    ///
    /// # Errors
    ///
    /// [`ServiceError`] if it does not let in or is not reached.
    pub(in crate::services) async fn first(
        server: &Node,
        accesses: &[Access<'_>],
    ) -> Result<Session, ServiceError> {
        open(server, accesses).await
    }

    /// Whether a change is possible everywhere, and where each member starts from.
    ///
    /// # Errors
    ///
    /// [`ServiceError::NoOverlap`], [`ServiceError::Rights`], [`ServiceError::NoUser`].
    pub async fn rehearse(&self, user: &str, change: Change) -> Result<Vec<Persistence>, ServiceError> {
        let mut found = Vec::new();
        for session in self.sessions() {
            if change != Change::Set && !session.has_overlap() {
                return Err(ServiceError::NoOverlap { node: session.node().to_owned() });
            }
            session.may_set(user).await?;
            found.push(session.persistence().await?);
        }
        found.sort();
        found.dedup();
        Ok(found)
    }

    /// What lets the user in everywhere, and which replicas log in as this user, with the old value or what was left.
    ///
    /// # Errors
    ///
    /// [`ServiceError::NoUser`], [`ServiceError::Rights`].
    pub async fn state(&self, user: &str, values: Exchange<'_>) -> Result<GroupState, ServiceError> {
        let mut members = Vec::new();
        for (replica, session) in &self.members {
            let missing = || ServiceError::NoUser { node: session.node().to_owned(), user: user.to_owned() };
            let before = session.state(user).await?.ok_or_else(missing)?;
            let follows_as_user = replica.is_some() && follows_as(session, user, values).await?;
            members.push(Member { replica: replica.clone(), before, follows_as_user });
        }
        Ok(GroupState { members })
    }

    /// Makes a change everywhere and writes it down. The new value is let in everywhere before a replica uses it.
    ///
    /// # Errors
    ///
    /// [`ServiceError`] of the first member that stands against it; the rest is as it was.
    pub async fn apply(
        &self,
        user: &str,
        change: Change,
        values: Exchange<'_>,
        state: &GroupState,
    ) -> Result<(), ServiceError> {
        for session in self.sessions() {
            match change {
                Change::Set => session.set(user, values.new).await?,
                Change::Add => session.add(user, &PasswordHash::of(values.new)).await?,
                Change::Remove => {
                    let ended: Vec<_> = values.before().map(PasswordHash::of).collect();
                    session.remove(user, &ended).await?;
                }
            }
        }
        self.follow(values.new, state).await
    }

    /// Brings everything back to what it was, and writes it down.
    ///
    /// # Errors
    ///
    /// [`ServiceError`] of the first member that stands against it.
    pub async fn restore(
        &self,
        user: &str,
        old: &SecretBytes,
        state: &GroupState,
    ) -> Result<(), ServiceError> {
        for (session, member) in self.sessions().zip(&state.members) {
            session.restore(user, &member.before, old).await?;
        }
        self.follow(old, state).await
    }

    /// Whether [`end_clients`](Self::end_clients) would be allowed everywhere.
    ///
    /// # Errors
    ///
    /// [`ServiceError::Rights`].
    pub async fn may_end_clients(&self, user: &str) -> Result<(), ServiceError> {
        for session in self.sessions() {
            session.may_end_clients(user).await?;
        }
        Ok(())
    }

    /// Ends all connections of the user; returns how many there were.
    ///
    /// # Errors
    ///
    /// [`ServiceError::Rights`], [`ServiceError::Failed`].
    pub async fn end_clients(&self, user: &str) -> Result<u64, ServiceError> {
        let mut count = 0;
        for session in self.sessions() {
            count += session.end_clients(user).await?;
        }
        Ok(count)
    }

    /// Has replicas log in with a value, and every member write its files.
    async fn follow(&self, value: &SecretBytes, state: &GroupState) -> Result<(), ServiceError> {
        for (session, member) in self.sessions().zip(&state.members) {
            if member.follows_as_user {
                session.set_primary_login(value).await?;
            }
            session.persist().await?;
        }
        Ok(())
    }

    fn sessions(&self) -> impl Iterator<Item = &Session> {
        self.members.iter().map(|(_, session)| session)
    }
}

/// Whether a replica logs in at its primary as this user, with a value that lets in before a change.
async fn follows_as(session: &Session, user: &str, values: Exchange<'_>) -> Result<bool, ServiceError> {
    if session.primary_user().await? != user {
        return Ok(false);
    }
    for value in values.before() {
        if session.has_primary_login(value).await? {
            return Ok(true);
        }
    }
    Ok(false)
}

async fn open(node: &Node, accesses: &[Access<'_>]) -> Result<Session, ServiceError> {
    let mut refused = ServiceError::address(node.name(), "there is no login for it");
    for access in accesses {
        match node.session(*access).await {
            Err(error @ ServiceError::LoginRefused { .. }) => refused = error,
            other => return other,
        }
    }
    Err(refused)
}
