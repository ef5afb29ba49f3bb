//! Whose value changes at a server: one user's, or that of two roles which take turns.

use reseal_crypto::SecretBytes;
use reseal_crypto::random::OsRandom;

use super::action::LoginAt;
use super::connector::Values;
use crate::services::postgres::Turn;
use crate::services::{Account, Change, Exchange, Note, Service, ServiceError, Standing};

/// Whoever a value lets in, with one set of ways to look, do and take back.
#[derive(Debug)]
pub(super) enum Party {
    One(Account),
    Turn(Turn),
}

impl Party {
    /// Shows that a change is possible; changes nothing.
    pub(super) async fn rehearse(
        &self,
        change: Change,
        old: &SecretBytes,
    ) -> Result<Vec<Note>, ServiceError> {
        match self {
            Self::One(account) => account.rehearse(change, old, &OsRandom).await,
            Self::Turn(turn) => turn.rehearse(old, &OsRandom).await,
        }
    }

    /// Whether whoever would make the next change may, now that `values.new` is the one in use.
    pub(super) async fn may_change(
        &self,
        change: Change,
        values: &Values,
    ) -> Result<Vec<Note>, ServiceError> {
        match self {
            Self::One(account) => account.may_change(change, &values.new).await,
            Self::Turn(turn) => turn.may_change().await,
        }
    }

    /// Every node that keeps the user, and how it is told: a server, and its replicas where they can be asked for.
    pub(super) async fn everywhere(&self, values: &Values, at: &LoginAt) -> Vec<(String, Service)> {
        let account = match self {
            Self::One(account) => account,
            Self::Turn(turn) => return vec![(at.to_string(), turn.service())],
        };
        let mut nodes = vec![(at.to_string(), account.service().clone())];
        // Who is not let in cannot ask; that is told of the server itself.
        for replica in account.replicas(values.exchange()).await.unwrap_or_default() {
            nodes.push((format!("{} at {}", at.user, replica.name()), replica));
        }
        nodes
    }

    pub(super) async fn capture(&self, values: Exchange<'_>) -> Result<SecretBytes, ServiceError> {
        match self {
            Self::One(account) => account.capture(values).await,
            Self::Turn(turn) => turn.capture(values).await,
        }
    }

    pub(super) async fn standing(
        &self,
        change: Change,
        values: Exchange<'_>,
        kept: &SecretBytes,
    ) -> Result<Standing, ServiceError> {
        match self {
            Self::One(account) => account.standing(change, values, kept).await,
            Self::Turn(turn) => turn.standing(change, values).await,
        }
    }

    pub(super) async fn apply(
        &self,
        change: Change,
        values: Exchange<'_>,
        kept: &SecretBytes,
    ) -> Result<(), ServiceError> {
        match self {
            Self::One(account) => account.apply(change, values, kept).await,
            Self::Turn(turn) => turn.apply(change, kept).await,
        }
    }

    /// Whether sessions could be ended; where two roles take turns, that is part of their change.
    pub(super) async fn may_end_sessions(&self, values: Exchange<'_>) -> Result<(), ServiceError> {
        match self {
            Self::One(account) => account.may_end_sessions(values).await,
            Self::Turn(_) => Ok(()),
        }
    }

    pub(super) async fn end_sessions(&self, values: Exchange<'_>) -> Result<(), ServiceError> {
        match self {
            Self::One(account) => account.end_sessions(values).await.map(drop),
            Self::Turn(_) => Ok(()),
        }
    }

    pub(super) async fn undo(&self, values: Exchange<'_>, kept: &SecretBytes) -> Result<(), ServiceError> {
        match self {
            Self::One(account) => account.undo(values, kept).await,
            Self::Turn(turn) => turn.undo(kept).await,
        }
    }
}
