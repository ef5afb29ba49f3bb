//! Addresses of servers, taken out of URLs with passwords and out of variables such as `DB_HOST`.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::net::lookup_host;
use tokio::time::timeout;

use crate::plan::Kind;

/// How long a name may take to be resolved.
const LOOKUP: Duration = Duration::from_secs(3);

/// Where a server is and who logs in, without a password.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Address {
    pub(super) kind: Kind,
    scheme: &'static str,
    pub(super) user: Option<String>,
    pub(super) host: String,
    pub(super) port: Option<String>,
    /// The database, with what else is asked for at it.
    pub(super) tail: String,
}

impl Address {
    /// The address in a URL of a kind that reseal logs in to.
    pub(super) fn parse(url: &str) -> Option<Self> {
        let (scheme, rest) = url.split_once("://")?;
        let (kind, scheme) = known(scheme)?;
        let (authority, path) = rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
        let (userinfo, host) = authority.rsplit_once('@').unwrap_or(("", authority));
        let user = userinfo.split(':').next().filter(|user| !user.is_empty()).map(str::to_owned);
        let (host, port) = match host.rsplit_once(':') {
            Some((host, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => {
                (host, Some(port.to_owned()))
            }
            _ => (host, None),
        };
        let path = path.split('#').next().unwrap_or_default();
        let (database, query) = path.split_once('?').unwrap_or((path, ""));
        // Other parameters are for the driver of the application.
        let kept = |parameter: &&str| {
            kind == Kind::Postgres && ["sslmode=", "host="].iter().any(|name| parameter.starts_with(name))
        };
        let query: Vec<&str> = query.split('&').filter(kept).collect();
        let query = if query.is_empty() { String::new() } else { format!("?{}", query.join("&")) };
        Some(Self { kind, scheme, user, host: host.to_owned(), port, tail: format!("{database}{query}") })
    }

    /// The address that variables name.
    pub(super) fn of(
        kind: Kind,
        host: &str,
        port: Option<&str>,
        user: Option<&str>,
        database: Option<&str>,
    ) -> Self {
        let own = |text: &str| text.to_owned();
        Self {
            kind,
            scheme: if kind == Kind::Redis { "redis" } else { "postgresql" },
            user: user.map(own),
            host: host.to_owned(),
            port: port.map(own),
            tail: database.map(|database| format!("/{database}")).unwrap_or_default(),
        }
    }

    /// The URL for the plan.
    pub(super) fn url(&self) -> String {
        let user = format!("{}@", self.user());
        let port = self.port.as_ref().map(|port| format!(":{port}")).unwrap_or_default();
        format!("{}://{user}{}{port}{}", self.scheme, self.host, self.tail)
    }

    /// Who logs in.
    pub(super) fn user(&self) -> &str {
        let usual = if self.kind == Kind::Redis { "default" } else { "postgres" };
        self.user.as_deref().unwrap_or(usual)
    }

    /// Whether both are one user of one server.
    pub(super) fn is_same(&self, other: &Self) -> bool {
        self.kind == other.kind
            && self.host == other.host
            && self.port() == other.port()
            && self.user() == other.user()
    }

    fn port(&self) -> &str {
        let usual = if self.kind == Kind::Redis { "6379" } else { "5432" };
        self.port.as_deref().unwrap_or(usual)
    }

    /// Where that is on the network; nothing if nobody says in time.
    pub(super) async fn resolved(&self) -> Vec<SocketAddr> {
        let asked = lookup_host(format!("{}:{}", self.host, self.port()));
        let told = timeout(LOOKUP, asked).await;
        told.ok().and_then(Result::ok).map(Iterator::collect).unwrap_or_default()
    }
}

/// What a scheme is of, and how the plan writes it: drivers are named in it by some.
fn known(scheme: &str) -> Option<(Kind, &'static str)> {
    let plain = scheme.split('+').next().unwrap_or_default().to_ascii_lowercase();
    match plain.as_str() {
        "postgres" | "postgresql" | "pgsql" | "postgis" => Some((Kind::Postgres, "postgresql")),
        "redis" | "valkey" => Some((Kind::Redis, "redis")),
        "rediss" | "valkeys" => Some((Kind::Redis, "rediss")),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(url: &str, expected: &str) {
        assert_eq!(Address::parse(url).unwrap().url(), expected);
    }

    #[test]
    fn passwords_are_left_out() {
        check("redis://:p%40w@redis:6379/0", "redis://default@redis:6379/0");
        check("rediss://app:pw@cache", "rediss://app@cache");
        check(
            "postgresql+psycopg2://crm:p:w@db:5432/crm?sslmode=require&password=pw#x",
            "postgresql://crm@db:5432/crm?sslmode=require",
        );
        check("postgres://u:p@[::1]:5433/d", "postgresql://u@[::1]:5433/d");
        assert_eq!(Address::parse("amqp://u:p@h"), None);
        assert_eq!(Address::parse("no url"), None);
    }

    #[test]
    fn the_same_user_of_the_same_server() {
        let one = Address::parse("redis://:a@redis/0").unwrap();
        assert!(one.is_same(&Address::of(Kind::Redis, "redis", Some("6379"), None, None)));
        assert!(!one.is_same(&Address::of(Kind::Redis, "redis", None, Some("app"), None)));
    }
}
