//! The servers that values let in: found by URLs and by variables beside the passwords, and asked.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;

use reseal_crypto::SecretBytes;
use reseal_crypto::random::OsRandom;

use super::address::Address;
use super::names::Sort;
use super::texts::{Candidate, Text};
use crate::apps::{Compose, Container, Service as ComposeService};
use crate::plan::{Kind, Strategy};
use crate::rotation::reached;
use crate::services::{Account, Change, Service, ServiceError};

/// A server, and the values that its user may have.
#[derive(Debug)]
pub(super) struct Found {
    /// What the plan calls it.
    pub(super) name: String,
    /// Where it may be; the one that is used comes to be the first.
    ways: Vec<Address>,
    pub(super) held: Vec<Held>,
}

/// A value, and where it stands.
#[derive(Debug)]
pub(super) struct Held {
    pub(super) value: SecretBytes,
    /// Indices of candidates.
    pub(super) places: Vec<usize>,
    pub(super) login: Login,
}

/// What a login with a value came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Login {
    /// It lets in, a wrong one does not, and it can be changed in this way; with what to know before.
    Verified(Strategy, Vec<String>),
    /// It lets in, but it cannot be changed like this.
    Unchangeable(String),
    /// The server does not let it in.
    Refused,
    /// Nothing is known.
    Unreachable(String),
}

impl Found {
    /// Where it is.
    pub(super) fn address(&self) -> &Address {
        &self.ways[0]
    }

    /// The compose service that it is, if it is one.
    pub(super) fn service<'s>(&self, services: &'s BTreeMap<String, ComposeService>) -> Option<&'s String> {
        services.get_key_value(&self.address().host).map(|(name, _)| name)
    }

    /// The value in use, and how sure that is; `None` where nobody can tell.
    pub(super) fn current(&self) -> Option<&Held> {
        let lets_in = |held: &&Held| matches!(held.login, Login::Verified(..) | Login::Unchangeable(_));
        let many = self.held.iter().filter(lets_in).max_by_key(|held| held.places.len());
        let only = || match &self.held[..] {
            [only] if matches!(only.login, Login::Unreachable(_)) => Some(only),
            _ => None,
        };
        many.or_else(only)
    }

    fn shares_a_value(&self, other: &Self) -> bool {
        self.held.iter().any(|held| other.held.iter().any(|other| held.value == other.value))
    }

    fn join(&mut self, other: Self) {
        self.ways.extend(other.ways);
        for held in other.held {
            held.places.iter().for_each(|&index| self.hold(&held.value, index));
        }
    }

    fn hold(&mut self, value: &SecretBytes, candidate: usize) {
        match self.held.iter_mut().find(|held| held.value == *value) {
            Some(held) => held.places.push(candidate),
            None => self.held.push(Held {
                value: value.clone(),
                places: vec![candidate],
                login: Login::Unreachable("not tried".into()),
            }),
        }
    }
}

/// Which candidates let in where; those that let in nowhere are left.
pub(super) fn group(
    candidates: &[Candidate],
    texts: &[Text],
    services: &BTreeMap<String, ComposeService>,
) -> (Vec<Found>, Vec<usize>) {
    let (mut found, mut rest): (Vec<Found>, Vec<usize>) = (Vec::new(), Vec::new());
    for (index, candidate) in candidates.iter().enumerate() {
        if let Some(address) = &candidate.address {
            hold(&mut found, vec![address.clone()], &candidate.value, index);
        }
    }
    for (index, candidate) in
        candidates.iter().enumerate().filter(|(_, candidate)| candidate.address.is_none())
    {
        let Sort::Password(kind) = candidate.sort else {
            rest.push(index);
            continue;
        };
        // A short password may be that of several.
        let fits = |one: &&mut Found| {
            kind.map_or(candidate.value.len() >= 12, |kind| one.address().kind == kind)
                && one.held.iter().any(|held| held.value == candidate.value)
        };
        let mut fitting = found.iter_mut().filter(fits);
        if let (Some(one), None) = (fitting.next(), fitting.next()) {
            one.hold(&candidate.value, index);
            continue;
        }
        let ways = kind.map(|kind| ways(kind, candidate, texts, services)).unwrap_or_default();
        if ways.is_empty() {
            rest.push(index);
        } else {
            hold(&mut found, ways, &candidate.value, index);
        }
    }
    (found, rest)
}

/// Makes one of servers that go by several host names, where a user of the same name logs in; then names all of them.
///
/// Behind one public address and port there may be many servers, told apart by the name that a client asks for. They are
/// one only where they have a value in common: no password is ever tried on somebody else's server.
pub(super) async fn merge(
    found: Vec<Found>,
    compose: Option<&Compose>,
    services: &BTreeMap<String, ComposeService>,
) -> Vec<Found> {
    let mut merged: Vec<(Found, Reached)> = Vec::new();
    for one in found {
        let reached = reached_by(&one.ways, compose, services).await;
        let is_same = |(known, others): &&mut (Found, Reached)| {
            let mut common = others.keys().filter(|socket| reached.contains_key(socket)).peekable();
            known.address().kind == one.address().kind
                && known.address().user() == one.address().user()
                && common.peek().is_some()
                && (known.shares_a_value(&one) || common.all(|socket| others[socket]))
        };
        match merged.iter_mut().find(is_same) {
            Some((known, others)) => {
                known.join(one);
                for (socket, is_here) in reached {
                    *others.entry(socket).or_insert(is_here) &= is_here;
                }
            }
            None => merged.push((one, reached)),
        }
    }
    let mut merged: Vec<Found> = merged.into_iter().map(|(one, _)| one).collect();
    name(&mut merged, services);
    merged
}

/// Where a server is reached, and whether that is on this machine.
type Reached = BTreeMap<SocketAddr, bool>;

async fn reached_by(
    ways: &[Address],
    compose: Option<&Compose>,
    services: &BTreeMap<String, ComposeService>,
) -> Reached {
    let mut reached = Reached::new();
    for way in ways {
        let url = url(way, compose, services).await.ok();
        if let Some(address) = url.and_then(|url| Address::parse(&url)) {
            let is_container = compose.is_some() && services.contains_key(&way.host);
            let sockets = address.resolved().await.into_iter();
            reached.extend(sockets.map(|socket| (socket, is_container || socket.ip().is_loopback())));
        }
    }
    reached
}

fn hold(found: &mut Vec<Found>, ways: Vec<Address>, value: &SecretBytes, index: usize) {
    let known = |one: &&mut Found| ways.iter().any(|way| one.ways.iter().any(|known| known.is_same(way)));
    match found.iter_mut().find(known) {
        Some(one) => one.hold(value, index),
        None => {
            let mut one = Found { name: String::new(), ways, held: Vec::new() };
            one.hold(value, index);
            found.push(one);
        }
    }
}

/// The compose service, or what it is; several of a kind are counted.
fn name(found: &mut [Found], services: &BTreeMap<String, ComposeService>) {
    let mut taken: Vec<String> = Vec::new();
    for one in found {
        let kind = if one.address().kind == Kind::Redis { "redis" } else { "postgres" };
        let plain = one.service(services).cloned().unwrap_or_else(|| kind.to_owned());
        let name = (1..).map(|count| if count == 1 { plain.clone() } else { format!("{plain}-{count}") });
        let name = name.into_iter().find(|name| !taken.contains(name)).expect("there is always a next one");
        taken.push(name.clone());
        one.name = name;
    }
}

/// Where the server of a password may be, by variables beside it, in the environment of services, and in other files.
fn ways(
    kind: Kind,
    candidate: &Candidate,
    texts: &[Text],
    services: &BTreeMap<String, ComposeService>,
) -> Vec<Address> {
    let near = near(candidate, texts, services);
    let scopes: Vec<_> = near.iter().copied().chain(far(candidate, texts, services)).collect();
    let own = candidate.var.to_ascii_uppercase();
    let own = own.find("PASS").map(|at| &own[..at]).filter(|prefix| !prefix.is_empty()).unwrap_or_default();
    let usual: &[&str] = match kind {
        Kind::Redis => &["REDIS_", "VALKEY_"],
        _ => &["DB_", "POSTGRES_", "PG", "DATABASE_", "SQL_"],
    };
    let prefixes: Vec<&str> =
        std::iter::once(own).chain(usual.iter().copied()).filter(|one| !one.is_empty()).collect();
    let in_scope = |scope: Scope<'_>, ends: &[&str]| {
        let names = prefixes.iter().flat_map(|prefix| ends.iter().map(move |end| format!("{prefix}{end}")));
        names.into_iter().find_map(|name| scope.word(&name).map(str::to_owned))
    };
    let anywhere = |ends: &[&str]| scopes.iter().find_map(|scope| in_scope(*scope, ends));
    let user = anywhere(&["USER", "USERNAME"]);
    let database = anywhere(&["NAME", "DB", "DATABASE", "DBNAME"]).filter(|_| kind == Kind::Postgres);
    let of =
        |host: &str, port: Option<&str>| Address::of(kind, host, port, user.as_deref(), database.as_deref());
    let named_in = |scopes: &[Scope<'_>]| {
        let mut found: Vec<Address> = Vec::new();
        for &scope in scopes {
            let Some(host) = in_scope(scope, &["HOST", "HOSTNAME"]) else { continue };
            let way = of(&host, in_scope(scope, &["PORT"]).as_deref());
            if !found.contains(&way) {
                found.push(way);
            }
        }
        found
    };
    let mut found = named_in(&near);
    // A password is not shown to the server of another environment: the host of another file counts where it is a
    // service of this project, or the only one that there is.
    let mut others = named_in(&scopes);
    if !found.is_empty() || others.len() > 1 {
        others.retain(|way| services.contains_key(&way.host) && !found.contains(way));
    }
    found.append(&mut others);
    // In a container `localhost` is the container; the name of a service leads to one.
    found.sort_by_key(|way| !services.contains_key(&way.host));
    if found.is_empty() {
        let of_kind = services.iter().filter(|(_, service)| image_kind(service) == Some(kind));
        found.extend(of_kind.map(|(name, _)| of(name, None)));
    }
    found
}

/// Where variables are looked for.
#[derive(Clone, Copy)]
enum Scope<'a> {
    File(&'a Text),
    Environment(&'a ComposeService),
}

impl<'a> Scope<'a> {
    fn word(self, name: &str) -> Option<&'a str> {
        match self {
            Self::File(text) => text.word(name),
            Self::Environment(service) => {
                let value = service.environment.get(name)?.as_ref()?.expose_str();
                value.filter(|value| !value.is_empty())
            }
        }
    }
}

/// Its own file, and the environment of services that have the value.
fn near<'a>(
    candidate: &Candidate,
    texts: &'a [Text],
    services: &'a BTreeMap<String, ComposeService>,
) -> Vec<Scope<'a>> {
    let has_it = |service: &&ComposeService| {
        let mut values = service.environment.values().flatten();
        values.any(|value| *value == candidate.value)
    };
    let mut scopes = vec![Scope::File(&texts[candidate.text])];
    scopes.extend(services.values().filter(has_it).map(Scope::Environment));
    scopes
}

/// The other files, and what an image of a server is told when it makes its first user.
fn far<'a>(
    candidate: &Candidate,
    texts: &'a [Text],
    services: &'a BTreeMap<String, ComposeService>,
) -> impl Iterator<Item = Scope<'a>> {
    let own = candidate.text;
    let others = texts.iter().enumerate().filter(move |(index, _)| *index != own).map(|(_, other)| other);
    let servers = services.values().filter(|service| image_kind(service).is_some());
    others.map(Scope::File).chain(servers.map(Scope::Environment))
}

/// What runs in a container of this image, where reseal logs in to that.
pub(super) fn image_kind(service: &ComposeService) -> Option<Kind> {
    let image = image_name(service)?;
    if ["postgres", "postgis", "timescaledb", "pgvector"].iter().any(|known| image.starts_with(known)) {
        return Some(Kind::Postgres);
    }
    ["redis", "valkey"].iter().any(|known| image.starts_with(known)).then_some(Kind::Redis)
}

/// Whether a service is a server that others log in to, by its image.
pub(super) fn is_server(service: &ComposeService) -> bool {
    const OTHERS: [&str; 7] =
        ["mysql", "mariadb", "mongo", "rabbitmq", "memcached", "minio", "elasticsearch"];
    let other = |image: &str| OTHERS.iter().any(|known| image.starts_with(known));
    image_kind(service).is_some() || image_name(service).is_some_and(other)
}

fn image_name(service: &ComposeService) -> Option<&str> {
    service.image.as_deref()?.rsplit('/').next()?.split([':', '@']).next()
}

/// Tries every value; changes nothing.
pub(super) async fn log_in(
    found: &mut [Found],
    compose: Option<&Compose>,
    services: &BTreeMap<String, ComposeService>,
    base: &Path,
) {
    for one in found {
        let mut best = (0, 0);
        let mut logins = Vec::new();
        for (index, way) in one.ways.iter().enumerate() {
            let url = url(way, compose, services).await;
            let mut tried = Vec::new();
            for held in &one.held {
                tried.push(match &url {
                    Ok(url) => try_value(way, url, &held.value, base).await,
                    Err(why) => Login::Unreachable(why.clone()),
                });
            }
            let rank = tried.iter().map(rank).max().unwrap_or_default();
            if index == 0 || rank > best.1 {
                best = (index, rank);
                logins = tried;
            }
            if rank == RANK_MAX {
                break;
            }
        }
        one.ways.swap(0, best.0);
        for (held, login) in one.held.iter_mut().zip(logins) {
            held.login = login;
        }
    }
}

const RANK_MAX: u8 = 3;

fn rank(login: &Login) -> u8 {
    match login {
        Login::Verified(..) => RANK_MAX,
        Login::Unchangeable(_) => 2,
        Login::Refused => 1,
        Login::Unreachable(_) => 0,
    }
}

/// The URL at which a server is reached from here.
async fn url(
    way: &Address,
    compose: Option<&Compose>,
    services: &BTreeMap<String, ComposeService>,
) -> Result<String, String> {
    let Some(compose) = compose.filter(|_| services.contains_key(&way.host)) else { return Ok(way.url()) };
    let containers = compose.containers(&way.host).await.map_err(|error| error.to_string())?;
    let container: Option<&Container> = containers.first();
    reached(&way.url(), container)
        .ok_or_else(|| format!("compose service `{}` has no container with an address", way.host))
}

async fn try_value(way: &Address, url: &str, value: &SecretBytes, base: &Path) -> Login {
    let service = match Service::new(way.kind, &way.host, url, None, base) {
        Ok(service) => service,
        Err(error) => return Login::Unreachable(error.to_string()),
    };
    let account = Account::new(service, way.user(), None);
    let changes: &[(Change, Strategy)] = match way.kind {
        Kind::Redis => &[(Change::Add, Strategy::Overlap), (Change::Set, Strategy::InPlace)],
        _ => &[(Change::Set, Strategy::InPlace)],
    };
    let mut last = Login::Refused;
    for &(change, strategy) in changes {
        last = match account.rehearse(change, value, &OsRandom).await {
            Ok(notes) => return Login::Verified(strategy, notes.iter().map(ToString::to_string).collect()),
            Err(ServiceError::LoginRefused { .. }) => return Login::Refused,
            Err(ServiceError::Unreachable { reason, .. }) => return Login::Unreachable(reason),
            Err(error) => Login::Unchangeable(match error.hint() {
                Some(hint) => format!("{error}; {hint}"),
                None => error.to_string(),
            }),
        };
    }
    last
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How many servers are left of two that are found by these URLs with these passwords.
    fn left(one: (&str, &str), other: (&str, &str)) -> usize {
        let found = [one, other].into_iter().enumerate().map(|(index, (url, password))| {
            let ways = vec![Address::parse(url).expect("an address")];
            let mut one = Found { name: String::new(), ways, held: Vec::new() };
            one.hold(&SecretBytes::copy_from(password.as_bytes()), index);
            one
        });
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime");
        runtime.block_on(merge(found.collect(), None, &BTreeMap::new())).len()
    }

    #[test]
    fn a_public_address_is_one_server_only_with_a_value_in_common() {
        // The second spelling is another name of the same address.
        let (one, other) = ("redis://:x@203.0.113.7:6379", "redis://:x@0xcb007107:6379");
        assert_eq!(left((one, "first password"), (other, "second password")), 2);
        assert_eq!(left((one, "first password"), (other, "first password")), 1);
        assert_eq!(left((one, "first password"), ("redis://:x@203.0.113.8:6379", "first password")), 2);
        assert_eq!(left((one, "first password"), ("redis://app:x@0xcb007107:6379", "first password")), 2);
    }

    #[test]
    fn this_machine_has_one_server_behind_a_port() {
        let (one, other) = ("redis://:x@127.0.0.1:6379", "redis://:x@0x7f000001:6379");
        assert_eq!(left((one, "first password"), (other, "second password")), 1);
        assert_eq!(left((one, "first password"), ("redis://:x@127.0.0.1:6380", "second password")), 2);
    }
}
