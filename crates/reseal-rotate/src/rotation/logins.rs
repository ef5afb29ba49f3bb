//! The accounts that a rotation changes, found by the plan.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use reseal_crypto::SecretBytes;
use reseal_crypto::random::OsRandom;
use reseal_vault::{Vault, VersionSelector};

use super::action::{Action, LoginAt, Which};
use super::connector::{Standing, StepError, Values};
use super::finding::{Finding, Subject, Truth};
use super::party::Party;
use crate::apps::{Compose, Container};
use crate::error::RotateError;
use crate::plan::{Login as PlanLogin, Plan, Server};
use crate::services::postgres::{Turn, alternate::Pair};
use crate::services::{self, Account, Admin, Change, Login, Note, Proof, Service, ServiceError};

/// The servers of a plan, and the values of the roles that may change others.
#[derive(Debug)]
pub(super) struct Logins<'a> {
    plan: &'a Plan,
    admins: BTreeMap<String, SecretBytes>,
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
            let Some(admin) = admin.filter(|admin| admin.user != at.user) else { continue };
            if let PlanLogin::Secret(name) = &admin.login
                && !admins.contains_key(&at.server)
            {
                let value = vault.get(&plan.secret_name(name).parse()?, VersionSelector::Current)?.value;
                admins.insert(at.server.clone(), value);
            }
        }
        Ok(Self { plan, admins })
    }

    /// Shows that a change would work, and says what to know before it.
    pub(super) async fn rehearse(
        &self,
        action: &Action,
        values: &Values,
        compose: Option<&Compose>,
    ) -> Result<Vec<Note>, StepError> {
        if let Action::EndSessions(at) = action {
            self.party(at, compose).await?.may_end_sessions(values.exchange()).await?;
            return Ok(Vec::new());
        }
        let Some((at, change)) = changed(action) else { return Ok(Vec::new()) };
        Ok(self.party(at, compose).await?.rehearse(change, &values.old).await?)
    }

    /// Whether logins come to what a step wants of them, at every node that keeps the user; or whether whoever would
    /// change the value there may.
    pub(super) async fn look(
        &self,
        action: &Action,
        values: &Values,
        compose: Option<&Compose>,
    ) -> Vec<Finding> {
        if let Action::TestLogin { at, value, accepted } = action {
            let subject = if *value == Which::New { Subject::Login } else { Subject::OldValue };
            return match self.party(at, compose).await {
                Err(error) => vec![Finding::new(subject, at.to_string(), Truth::Unknown, error.to_string())],
                Ok(party) => {
                    let mut found = Vec::new();
                    for (place, service) in party.everywhere(values, at).await {
                        let (truth, saw) = tried(&service, at, values.get(*value), *accepted).await;
                        let lingers = !accepted && truth == Truth::Differs;
                        let finding = Finding::new(subject, place, truth, saw);
                        found.push(if lingers { finding.lingering() } else { finding });
                    }
                    found
                }
            };
        }
        let Some((at, change)) = changed(action) else { return Vec::new() };
        let seen = match self.party(at, compose).await {
            Ok(party) => party.may_change(change, values).await.map_err(StepError::from),
            Err(error) => Err(error),
        };
        let (truth, saw) = match seen {
            Ok(notes) => (Truth::Holds, notes.iter().map(Note::to_string).collect::<Vec<_>>().join("; ")),
            // The look at the login itself tells that.
            Err(StepError::Service(ServiceError::LoginRefused { user, .. })) if user == at.user => {
                return Vec::new();
            }
            Err(error) if error.is_unreachable() => (Truth::Unknown, error.to_string()),
            Err(error) => (Truth::Differs, error.to_string()),
        };
        vec![Finding::new(Subject::Rights, at.to_string(), truth, saw)]
    }

    /// Whether a value lets in now.
    pub(super) async fn lets_in(
        &self,
        at: &LoginAt,
        value: &SecretBytes,
        compose: Option<&Compose>,
    ) -> Result<bool, StepError> {
        let service = self.service(at, compose).await?;
        Ok(service.login(&at.user, value).await.is_let_in(service.name())?)
    }

    pub(super) async fn capture(
        &self,
        at: &LoginAt,
        values: &Values,
        compose: Option<&Compose>,
    ) -> Result<SecretBytes, StepError> {
        Ok(self.party(at, compose).await?.capture(values.exchange()).await?)
    }

    pub(super) async fn probe(
        &self,
        action: &Action,
        values: &Values,
        kept: &SecretBytes,
        compose: Option<&Compose>,
    ) -> Result<Standing, StepError> {
        let Some((at, change)) = changed(action) else { return Ok(Standing::Unknown) };
        let party = self.party(at, compose).await?;
        Ok(match party.standing(change, values.exchange(), kept).await? {
            services::Standing::Done => Standing::Done,
            services::Standing::NotDone => Standing::NotDone,
            services::Standing::DoneInMemory => Standing::Unknown,
        })
    }

    pub(super) async fn apply(
        &self,
        action: &Action,
        values: &Values,
        kept: &SecretBytes,
        compose: Option<&Compose>,
    ) -> Result<(), StepError> {
        if let Action::TestLogin { at, value, accepted } = action {
            let service = self.service(at, compose).await?;
            test(&service, at, values.get(*value), *accepted).await?;
            return if *accepted { Ok(()) } else { test_left(&service, at, values.left()).await };
        }
        if let Action::EndSessions(at) = action {
            return Ok(self.party(at, compose).await?.end_sessions(values.exchange()).await?);
        }
        let Some((at, change)) = changed(action) else { return Ok(()) };
        Ok(self.party(at, compose).await?.apply(change, values.exchange(), kept).await?)
    }

    pub(super) async fn undo(
        &self,
        at: &LoginAt,
        values: &Values,
        kept: &SecretBytes,
        compose: Option<&Compose>,
    ) -> Result<(), StepError> {
        Ok(self.party(at, compose).await?.undo(values.exchange(), kept).await?)
    }

    async fn party(&self, at: &LoginAt, compose: Option<&Compose>) -> Result<Party, StepError> {
        let service = self.service(at, compose).await?;
        let admin = self.plan.server(&at.server).and_then(|server| self.admin(at, server));
        let Some(turn) = &at.turn else { return Ok(Party::One(Account::new(service, &at.user, admin))) };
        let pair = Pair { active: &turn.active, idle: &turn.idle, owner: &turn.owner };
        match (service, admin) {
            (Service::Postgres(node), Some(admin)) => Ok(Party::Turn(Turn::new(node, admin, pair))),
            (service, _) => Err(StepError::Failed(format!(
                "`{}` has no `admin` besides the two roles, who prepares them",
                service.name()
            ))),
        }
    }

    async fn service(&self, at: &LoginAt, compose: Option<&Compose>) -> Result<Service, StepError> {
        let gone = || StepError::Failed(format!("server `{}` is not in the plan any more", at.server));
        let server = self.plan.server(&at.server).ok_or_else(gone)?;
        let url = match &at.node {
            Some(node) => server.nodes.as_ref().and_then(|nodes| nodes.get(node)),
            None => server.url.as_ref(),
        };
        let url = way(server, url.ok_or_else(gone)?, at, compose).await?;
        let name = at.node.as_ref().unwrap_or(&at.server);
        Ok(Service::new(server.kind, name, &url, server.tls.as_ref(), self.plan.directory())?)
    }

    /// A role that may change others, unless it is the one that changes.
    fn admin(&self, at: &LoginAt, server: &Server) -> Option<Admin> {
        let admin = server.admin.as_ref().filter(|admin| admin.user != at.user)?;
        let value = match &admin.login {
            PlanLogin::Peer => None,
            _ => Some(self.admins.get(&at.server)?.clone()),
        };
        Some(Admin { user: admin.user.clone(), value })
    }
}

fn changed(action: &Action) -> Option<(&LoginAt, Change)> {
    match action {
        Action::SetLogin(at) => Some((at, Change::Set)),
        Action::AddLogin(at) => Some((at, Change::Add)),
        Action::RemoveLogin(at) => Some((at, Change::Remove)),
        _ => None,
    }
}

/// What trying a value comes to, and a wrong one where it should let in.
async fn tried(service: &Service, at: &LoginAt, value: &SecretBytes, accepted: bool) -> (Truth, String) {
    let unknown = |why: &dyn std::fmt::Display| (Truth::Unknown, why.to_string());
    if !accepted {
        return match service.login(&at.user, value).await {
            Login::Refused => (Truth::Holds, String::new()),
            Login::Accepted => (Truth::Differs, "it still lets in".to_owned()),
            Login::Unreachable(why) => unknown(&why),
        };
    }
    match service.prove(&at.user, value, &OsRandom).await {
        Ok(Proof::Holds) => (Truth::Holds, String::new()),
        Ok(Proof::Refused) => (Truth::Differs, "the value does not let in".to_owned()),
        Ok(Proof::AcceptsAnything) => (Truth::Differs, "any value lets in".to_owned()),
        Ok(Proof::Unreachable(why)) => unknown(&why),
        Err(error) => unknown(&error),
    }
}

async fn test(service: &Service, at: &LoginAt, value: &SecretBytes, accepted: bool) -> Result<(), StepError> {
    let why = if accepted {
        match service.prove(&at.user, value, &OsRandom).await? {
            Proof::Holds => return Ok(()),
            Proof::Refused => "the value does not let in".to_owned(),
            Proof::AcceptsAnything => {
                let (node, user) = (service.name().to_owned(), at.user.clone());
                return Err(ServiceError::AcceptsAnything { node, user }.into());
            }
            Proof::Unreachable(why) => why,
        }
    } else {
        match service.login(&at.user, value).await {
            Login::Refused => return Ok(()),
            Login::Accepted => "the value still lets in".to_owned(),
            Login::Unreachable(why) => why,
        }
    };
    Err(StepError::Failed(format!("{at}: {why}")))
}

/// Where the old value has ended, what abandoned rotations left has ended too.
async fn test_left(service: &Service, at: &LoginAt, left: &[SecretBytes]) -> Result<(), StepError> {
    for at in at.everyone() {
        for value in left {
            if service.login(&at.user, value).await.is_let_in(service.name())? {
                let words = format!("{at}: a value that an abandoned rotation left still lets in");
                return Err(StepError::Failed(words));
            }
        }
    }
    Ok(())
}

/// The URL at which a server is reached from here.
async fn way(
    server: &Server,
    url: &str,
    at: &LoginAt,
    compose: Option<&Compose>,
) -> Result<String, StepError> {
    let Some(via) = &server.via else { return Ok(url.to_owned()) };
    let (Some(service), Some(compose)) = (&via.compose, compose) else {
        let words = format!("server `{}` is reached by ssh, which this version does not do", at.server);
        return Err(StepError::Failed(words));
    };
    let containers = compose.containers(service).await;
    let containers = containers.map_err(|error| StepError::Failed(error.to_string()))?;
    reached(url, containers.first()).ok_or_else(|| {
        StepError::Failed(format!("compose service `{service}` has no container with an address"))
    })
}

/// The URL with the address at which a container is reached from here: its published port, or its own address.
pub(crate) fn reached(url: &str, container: Option<&Container>) -> Option<String> {
    let container = container?;
    let (scheme, rest) = url.split_once("://")?;
    let (authority, tail) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
    let (user, host) = authority.rsplit_once('@').unwrap_or(("", authority));
    let usual = if scheme.starts_with("redis") { 6379 } else { 5432 };
    let port = host.rsplit_once(':').and_then(|(_, port)| port.parse().ok()).unwrap_or(usual);
    let (ip, port) = match container.published.iter().find(|(inside, ..)| *inside == port) {
        Some((_, ip, outside)) => (here(*ip), *outside),
        None => (*container.addresses.first()?, port),
    };
    let host = if ip.is_ipv6() { format!("[{ip}]") } else { ip.to_string() };
    let user = if user.is_empty() { String::new() } else { format!("{user}@") };
    Some(format!("{scheme}://{user}{host}:{port}{tail}"))
}

/// What is published on every address is published on this machine's own.
fn here(ip: IpAddr) -> IpAddr {
    match ip {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use reseal_sandbox::redis::{Options, Server as Redis};

    use super::super::left::LeftOver;
    use super::*;

    /// Somebody may put a password back between its end and the proof of that.
    #[tokio::test(flavor = "multi_thread")]
    async fn the_end_of_an_old_value_is_proved_of_what_was_left_too() {
        let server = Redis::start(Options::default()).expect("a private Redis starts (package redis-server)");
        let directory = tempfile::tempdir().unwrap();
        let text = format!("schema = 1\n[servers.cache]\nkind = \"redis\"\nurl = \"{}\"\n", server.url());
        let plan = Plan::parse(&directory.path().join("reseal.toml"), &text).unwrap();
        let logins = Logins { plan: &plan, admins: BTreeMap::new() };
        let value = |text: &str| SecretBytes::copy_from(text.as_bytes());
        let at = LoginAt { server: "cache".into(), node: None, user: "default".into(), turn: None };
        let ended = Action::TestLogin { at, value: Which::Old, accepted: false };
        let kept = SecretBytes::default();
        let values = Values::new(value("old"), value("new"));
        let with = |left| values.clone().with_left(vec![LeftOver { version: 2, value: left }]);
        logins.apply(&ended, &with(value("gone")), &kept, None).await.unwrap();
        let still = value(server.password());
        let error = logins.apply(&ended, &with(still), &kept, None).await.unwrap_err();
        assert!(error.to_string().contains("an abandoned rotation left still lets in"), "{error}");
    }

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
