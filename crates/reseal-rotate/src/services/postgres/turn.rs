//! A turn of two login roles, as the steps of a rotation need it: look, do, take back, each as often as one likes.

use reseal_crypto::{Random, SecretBytes};
use serde::{Deserialize, Serialize};

use super::alternate::{self, Pair};
use super::{Node, RoleState, Session, Verifier};
use crate::services::account::{Admin, Change, Exchange, Note, Standing};
use crate::services::{Access, Service, ServiceError, kept};

/// Two login roles at a node: the active one has the old value, the idle one gets the new.
#[derive(Debug, Clone)]
pub struct Turn {
    node: Node,
    admin: Admin,
    active: String,
    idle: String,
    owner: String,
}

#[derive(Serialize, Deserialize)]
struct Kept {
    active: RoleState,
    idle: Option<RoleState>,
    old: Verifier,
    new: Verifier,
}

impl Turn {
    /// The turn of that pair, made by a role that may create roles.
    pub fn new(node: Node, admin: Admin, pair: Pair<'_>) -> Self {
        let [active, idle, owner] = [pair.active, pair.idle, pair.owner].map(str::to_owned);
        Self { node, admin, active, idle, owner }
    }

    /// The role that the new value lets in.
    pub fn idle(&self) -> &str {
        &self.idle
    }

    /// Shows that the turn is possible: the old value lets the active role in, a wrong one does not, and the idle role
    /// can take its place. Changes nothing.
    ///
    /// # Errors
    ///
    /// [`ServiceError`] with what stands against it.
    pub async fn rehearse(&self, old: &SecretBytes, random: &dyn Random) -> Result<Vec<Note>, ServiceError> {
        let proof = Service::Postgres(self.node.clone()).prove(&self.active, old, random).await?;
        proof.held(self.node.name(), &self.active)?;
        self.may_change().await
    }

    /// Where it is.
    pub fn service(&self) -> Service {
        Service::Postgres(self.node.clone())
    }

    /// Shows that the idle role can take the place of the active one, without a login of either. Changes nothing.
    ///
    /// # Errors
    ///
    /// [`ServiceError`] with what stands against it.
    pub async fn may_change(&self) -> Result<Vec<Note>, ServiceError> {
        let session = self.session().await?;
        alternate::check(&session, self.pair()).await?;
        Ok(if session.is_quiet() { Vec::new() } else { vec![Note::VerifierInLog] })
    }

    /// What the other methods need. Belongs in the sealed journal, before anything changes.
    ///
    /// # Errors
    ///
    /// [`ServiceError`] if the server does not say.
    pub async fn capture(&self, values: Exchange<'_>) -> Result<SecretBytes, ServiceError> {
        let session = self.session().await?;
        let active = session.state(&self.active).await?.ok_or_else(|| session.no_user(&self.active))?;
        let idle = session.state(&self.idle).await?;
        let (old, new) = (Verifier::of(values.old), Verifier::of(values.new));
        Ok(kept::pack(&Kept { active, idle, old, new }))
    }

    /// How far a change is, by logins on new connections: [`Change::Add`] lets both roles in, [`Change::Remove`] only the
    /// idle one, and the other has no session left.
    ///
    /// # Errors
    ///
    /// [`ServiceError::Unreachable`]: then nothing is known.
    pub async fn standing(&self, change: Change, values: Exchange<'_>) -> Result<Standing, ServiceError> {
        let is_made = self.lets_in(&self.active, values.old).await? == (change == Change::Add)
            && self.lets_in(&self.idle, values.new).await?
            && (change == Change::Add || self.session().await?.sessions(&self.active).await? == 0);
        Ok(if is_made { Standing::Done } else { Standing::NotDone })
    }

    /// Makes a change. A second time changes nothing. The end of the old value ends what it opened.
    ///
    /// # Errors
    ///
    /// [`ServiceError::Policy`] if another value may do; otherwise what stands against it.
    pub async fn apply(&self, change: Change, kept: &SecretBytes) -> Result<(), ServiceError> {
        let session = self.session().await?;
        if change != Change::Remove {
            let kept: Kept = kept::unpack(self.node.name(), kept)?;
            alternate::prepare(&session, self.pair(), &kept.new).await?;
        }
        if change != Change::Add {
            session.retire(&self.active).await?;
            session.end_sessions(&self.active).await?;
        }
        Ok(())
    }

    /// Takes the turn back, however far it is: the active role is as it was, the idle one too, or gone if it was not
    /// there.
    ///
    /// # Errors
    ///
    /// [`ServiceError`] if it cannot be taken back now.
    pub async fn undo(&self, kept: &SecretBytes) -> Result<(), ServiceError> {
        let session = self.session().await?;
        let kept: Kept = kept::unpack(self.node.name(), kept)?;
        session.restore(&self.active, &kept.active, &kept.old).await?;
        alternate::undo(&session, &self.idle, kept.idle.as_ref(), &kept.new).await
    }

    async fn lets_in(&self, role: &str, value: &SecretBytes) -> Result<bool, ServiceError> {
        Service::Postgres(self.node.clone()).login(role, value).await.is_let_in(self.node.name())
    }

    async fn session(&self) -> Result<Session, ServiceError> {
        let user = &self.admin.user;
        let access = match &self.admin.value {
            Some(value) => Access::Value { user, value },
            None => Access::Peer { user },
        };
        self.node.session(access).await
    }

    fn pair(&self) -> Pair<'_> {
        Pair { active: &self.active, idle: &self.idle, owner: &self.owner }
    }
}
