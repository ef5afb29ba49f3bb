//! Steps at services: a login's value set, added, removed and tried, each asked of the server and not of the journal.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::Path;

use reseal_crypto::SecretBytes;
use reseal_crypto::random::OsRandom;
use reseal_vault::{Vault, VersionSelector};
use serde::de::DeserializeOwned;

use super::action::{Action, LoginAt, Which};
use super::connector::{Standing, StepError, Values};
use crate::apps::{Compose, Container};
use crate::error::RotateError;
use crate::plan::{self, Plan};
use crate::services::postgres::{self, Verifier};
use crate::services::redis::{self, PasswordHash, Persistence};
use crate::services::{Access, Login, Proof, Service, ServiceError};

/// The servers of a plan, and the values of the roles that may change others.
#[derive(Debug)]
pub(super) struct Logins<'a> {
    plan: &'a Plan,
    admins: BTreeMap<String, SecretBytes>,
}

/// What to know of a server that is started with its password as an argument.
const REVERTS: &str = "the password is an argument of the server: a restart brings the old one back until it is started anew with the new one";

/// A login that changes something.
enum Session {
    Postgres(postgres::Session),
    Redis(redis::Session),
}

impl<'a> Logins<'a> {
    /// Releases the logins of `admin` for the servers that these actions concern.
    pub(super) fn of<'s>(
        plan: &'a Plan,
        vault: &mut Vault,
        actions: impl Iterator<Item = &'s Action>,
    ) -> Result<Self, RotateError> {
        let mut admins = BTreeMap::new();
        for at in actions.filter_map(Action::login) {
            let admin = plan.server(&at.server).and_then(|server| server.admin.as_ref());
            let Some(plan::Login::Secret(name)) = admin.map(|admin| &admin.login) else { continue };
            if !admins.contains_key(&at.server) {
                let value = vault.get(&plan.secret_name(name).parse()?, VersionSelector::Current)?.value;
                admins.insert(at.server.clone(), value);
            }
        }
        Ok(Self { plan, admins })
    }

    /// Shows that the value that is current lets in, that a wrong one does not, and that another could be set; says what
    /// to know before that.
    pub(super) async fn rehearse(
        &self,
        action: &Action,
        values: &Values,
        compose: Option<&Compose>,
    ) -> Result<Option<&'static str>, StepError> {
        let (Action::SetLogin(at) | Action::AddLogin(at)) = action else { return Ok(None) };
        let service = self.service(at, compose).await?;
        prove(&service, at, &values.old).await?;
        match self.session(&service, at, values).await? {
            Session::Postgres(session) => session.may_set(&at.user).await?,
            Session::Redis(session) => {
                session.may_set(&at.user).await?;
                if matches!(action, Action::AddLogin(_)) && !session.has_overlap() {
                    return Err(ServiceError::NoOverlap { node: service.name().to_owned() }.into());
                }
                return Ok(match session.persistence().await? {
                    Persistence::AclFile | Persistence::ConfigFile => None,
                    Persistence::Arguments => Some(REVERTS),
                    Persistence::Unknown => {
                        Some("the server does not tell whether a change outlives a restart")
                    }
                });
            }
        }
        Ok(None)
    }

    /// What lets a role in now.
    pub(super) async fn capture(
        &self,
        at: &LoginAt,
        values: &Values,
        compose: Option<&Compose>,
    ) -> Result<SecretBytes, StepError> {
        let service = self.service(at, compose).await?;
        let json = match self.session(&service, at, values).await? {
            Session::Postgres(session) => serde_json::to_vec(&session.state(&at.user).await?),
            Session::Redis(session) => serde_json::to_vec(&session.state(&at.user).await?),
        };
        json.map(SecretBytes::new).map_err(|error| StepError::Failed(error.to_string()))
    }

    pub(super) async fn probe(
        &self,
        action: &Action,
        values: &Values,
        compose: Option<&Compose>,
    ) -> Result<Standing, StepError> {
        let Some(at) = action.login() else { return Ok(Standing::Unknown) };
        let service = self.service(at, compose).await?;
        let (value, wanted) = match action {
            Action::RemoveLogin(_) => (&values.old, Login::Refused),
            _ => (&values.new, Login::Accepted),
        };
        match service.login(&at.user, value).await {
            // What is in memory may not be in the file yet: done once more, it is.
            found if found == wanted && matches!(service, Service::Redis(_)) => Ok(Standing::Unknown),
            found if found == wanted => Ok(Standing::Done),
            Login::Unreachable(why) => Err(StepError::Failed(format!("{at}: {why}"))),
            _ => Ok(Standing::NotDone),
        }
    }

    pub(super) async fn apply(
        &self,
        action: &Action,
        values: &Values,
        compose: Option<&Compose>,
    ) -> Result<(), StepError> {
        let Some(at) = action.login() else { return Ok(()) };
        let service = self.service(at, compose).await?;
        if let Action::TestLogin { value, accepted, .. } = action {
            return test(&service, at, values.get(*value), *accepted).await;
        }
        match (self.session(&service, at, values).await?, action) {
            (Session::Postgres(session), Action::SetLogin(_)) => {
                Ok(session.set(&at.user, &Verifier::of(&values.new)).await?)
            }
            (Session::Postgres(_), _) => {
                Err(ServiceError::NoOverlap { node: service.name().to_owned() }.into())
            }
            (Session::Redis(session), Action::SetLogin(_)) => {
                session.set(&at.user, &values.new).await?;
                Ok(persisted(&session).await?)
            }
            (Session::Redis(session), Action::RemoveLogin(_)) => {
                session.remove(&at.user, &PasswordHash::of(&values.old)).await?;
                Ok(persisted(&session).await?)
            }
            (Session::Redis(session), _) => {
                session.add(&at.user, &PasswordHash::of(&values.new)).await?;
                persisted(&session).await?;
                self.tell_replicas(&service, &session, at, values, Which::New).await
            }
        }
    }

    pub(super) async fn undo(
        &self,
        at: &LoginAt,
        values: &Values,
        kept: &SecretBytes,
        compose: Option<&Compose>,
    ) -> Result<(), StepError> {
        let service = self.service(at, compose).await?;
        match self.session(&service, at, values).await? {
            Session::Postgres(session) => {
                Ok(session.restore(&at.user, &parsed(kept)?, &Verifier::of(&values.old)).await?)
            }
            Session::Redis(session) => {
                self.tell_replicas(&service, &session, at, values, Which::Old).await?;
                session.restore(&at.user, &parsed(kept)?, &values.old).await?;
                Ok(persisted(&session).await?)
            }
        }
    }

    /// Replicas that log in at their primary with this value get the other one: their open link stays.
    async fn tell_replicas(
        &self,
        service: &Service,
        session: &redis::Session,
        at: &LoginAt,
        values: &Values,
        which: Which,
    ) -> Result<(), StepError> {
        let Service::Redis(primary) = service else { return Ok(()) };
        for replica in session.replicas().await? {
            let node = primary.beside(&replica.host, replica.port);
            let replica = self.redis_session(&node, at, values).await?;
            if replica.primary_user().await? != at.user {
                continue;
            }
            let other = if which == Which::New { &values.old } else { &values.new };
            if replica.has_primary_login(other).await? {
                replica.set_primary_login(values.get(which)).await?;
            }
        }
        Ok(())
    }

    async fn session(&self, service: &Service, at: &LoginAt, values: &Values) -> Result<Session, StepError> {
        match service {
            Service::Redis(node) => Ok(Session::Redis(self.redis_session(node, at, values).await?)),
            Service::Postgres(node) => {
                if let Some(access) = self.admin(at) {
                    return Ok(Session::Postgres(node.session(access).await?));
                }
                let own = |value| Access::Value { user: &at.user, value };
                match node.session(own(&values.old)).await {
                    Err(ServiceError::LoginRefused { .. }) => {
                        Ok(Session::Postgres(node.session(own(&values.new)).await?))
                    }
                    other => Ok(Session::Postgres(other?)),
                }
            }
        }
    }

    async fn redis_session(
        &self,
        node: &redis::Node,
        at: &LoginAt,
        values: &Values,
    ) -> Result<redis::Session, StepError> {
        if let Some(access) = self.admin(at) {
            return Ok(node.session(access).await?);
        }
        let own = |value| Access::Value { user: &at.user, value };
        match node.session(own(&values.new)).await {
            Err(ServiceError::LoginRefused { .. }) => Ok(node.session(own(&values.old)).await?),
            other => Ok(other?),
        }
    }

    /// A role that may change others, unless it is the one that changes.
    fn admin<'s>(&'s self, at: &LoginAt) -> Option<Access<'s>> {
        let admin = self.plan.server(&at.server)?.admin.as_ref().filter(|admin| admin.user != at.user)?;
        match &admin.login {
            plan::Login::Peer => Some(Access::Peer { user: &admin.user }),
            _ => Some(Access::Value { user: &admin.user, value: self.admins.get(&at.server)? }),
        }
    }

    async fn service(&self, at: &LoginAt, compose: Option<&Compose>) -> Result<Service, StepError> {
        let gone = || StepError::Failed(format!("server `{}` is not in the plan any more", at.server));
        let server = self.plan.server(&at.server).ok_or_else(gone)?;
        let url = match &at.node {
            Some(node) => server.nodes.as_ref().and_then(|nodes| nodes.get(node)),
            None => server.url.as_ref(),
        };
        let url = url.ok_or_else(gone)?;
        let via = server.via.as_ref();
        if via.is_some_and(|via| via.ssh.is_some()) {
            return Err(StepError::Failed(format!(
                "server `{}` is reached by ssh, which this version does not do",
                at.server
            )));
        }
        let url = match (via.and_then(|via| via.compose.as_ref()), compose) {
            (Some(service), Some(compose)) => {
                let containers = compose.containers(service).await;
                let containers = containers.map_err(|error| StepError::Failed(error.to_string()))?;
                reached(url, containers.first()).ok_or_else(|| {
                    StepError::Failed(format!("compose service `{service}` has no container with an address"))
                })?
            }
            _ => url.clone(),
        };
        let directory: &Path = self.plan.directory();
        let name = at.node.as_ref().unwrap_or(&at.server);
        Ok(Service::new(server.kind, name, &url, server.tls.as_ref(), directory)?)
    }
}

/// The URL with the address at which a container is reached from here: its published port, or its own address.
fn reached(url: &str, container: Option<&Container>) -> Option<String> {
    let container = container?;
    let (scheme, rest) = url.split_once("://")?;
    let end = rest.find(['/', '?']).unwrap_or(rest.len());
    let (authority, tail) = rest.split_at(end);
    let (user, host) = authority.rsplit_once('@').map_or(("", authority), |(user, host)| (user, host));
    let usual = if scheme.starts_with("redis") { 6379 } else { 5432 };
    let port = host.rsplit_once(':').and_then(|(_, port)| port.parse().ok()).unwrap_or(usual);
    let published = container.published.iter().find(|(inside, ..)| *inside == port);
    let (ip, port) = match published {
        Some((_, ip, outside)) => (if ip.is_unspecified() { local(ip) } else { *ip }, *outside),
        None => (*container.addresses.first()?, port),
    };
    let host = if ip.is_ipv6() { format!("[{ip}]") } else { ip.to_string() };
    let user = if user.is_empty() { String::new() } else { format!("{user}@") };
    Some(format!("{scheme}://{user}{host}:{port}{tail}"))
}

fn local(ip: &IpAddr) -> IpAddr {
    match ip {
        IpAddr::V4(_) => std::net::Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(_) => std::net::Ipv6Addr::LOCALHOST.into(),
    }
}

async fn persisted(session: &redis::Session) -> Result<(), ServiceError> {
    session.persist().await.map(drop)
}

async fn test(service: &Service, at: &LoginAt, value: &SecretBytes, accepted: bool) -> Result<(), StepError> {
    if accepted {
        return prove(service, at, value).await;
    }
    match service.login(&at.user, value).await {
        Login::Refused => Ok(()),
        Login::Accepted => Err(StepError::Failed(format!("{at}: it still lets in"))),
        Login::Unreachable(why) => Err(StepError::Failed(format!("{at}: {why}"))),
    }
}

async fn prove(service: &Service, at: &LoginAt, value: &SecretBytes) -> Result<(), StepError> {
    let why = match service.prove(&at.user, value, &OsRandom).await? {
        Proof::Holds => return Ok(()),
        Proof::Refused => "the value does not let in".to_owned(),
        Proof::AcceptsAnything => "the server lets in with any value, so no login proves anything".to_owned(),
        Proof::Unreachable(why) => why,
    };
    Err(StepError::Failed(format!("{at}: {why}")))
}

fn parsed<T: DeserializeOwned>(kept: &SecretBytes) -> Result<T, StepError> {
    // EXPOSE: parsed into a type that does not print itself.
    let state: Option<T> = serde_json::from_slice(kept.expose())
        .map_err(|_| StepError::Failed("what the server held before cannot be read".into()))?;
    state.ok_or_else(|| StepError::Failed("the server did not know the user before".into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn container(addresses: &[&str], published: &[(u16, &str, u16)]) -> Container {
        Container {
            id: String::new(),
            pid: None,
            status: "running".into(),
            health: None,
            exit_code: 0,
            started: None,
            environment: BTreeMap::new(),
            argv: Vec::new(),
            addresses: addresses.iter().map(|ip| ip.parse().unwrap()).collect(),
            published: published.iter().map(|(a, ip, b)| (*a, ip.parse().unwrap(), *b)).collect(),
            mounts: Vec::new(),
        }
    }

    #[test]
    fn containers_are_reached_where_they_are() {
        let own = container(&["172.18.0.3"], &[]);
        let url = "redis://default@redis:6379/0";
        assert_eq!(reached(url, Some(&own)).unwrap(), "redis://default@172.18.0.3:6379/0");
        let published = container(&["172.18.0.3"], &[(5432, "0.0.0.0", 15432)]);
        let url = "postgresql://crm_user@db/crm?sslmode=disable";
        let expected = "postgresql://crm_user@127.0.0.1:15432/crm?sslmode=disable";
        assert_eq!(reached(url, Some(&published)).unwrap(), expected);
        assert_eq!(reached(url, Some(&container(&[], &[]))), None);
        assert_eq!(reached(url, None), None);
    }
}
