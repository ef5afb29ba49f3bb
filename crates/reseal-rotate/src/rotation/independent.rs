//! Which rotations may go side by side: those that touch nothing in common.
//!
//! ```text
//! plan + steps --Footprint::of--> servers, logins, files, applications and what they are checked by
//! A B C D, of which A and C share a file --Queue--> A, B and D at once, C after A
//! ```
//!
//! In doubt two rotations share: one after another they do as well, only later.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use super::action::Action;
use super::record::Step;
use crate::http::Url;
use crate::plan::{App, Check, Kind, Login, Plan, Server};

/// How many rotations go at once: each may hold connections to a server, and run programs.
const AT_ONCE: usize = 8;

/// Something that one rotation at a time may touch.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Thing {
    /// A secret that rotates, or that a server is logged in to with.
    Secret(String),
    /// A server of the plan.
    Server(String),
    /// A file.
    File(PathBuf),
    /// The compose project, with everything in it.
    Compose,
    /// An application of the plan.
    App(String),
    /// A systemd unit.
    Unit(String),
    /// What an application is restarted or checked by.
    Call(Vec<String>),
}

/// Where a server is reached.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Address {
    kind: Kind,
    /// Host and port; `None` where the URL alone does not tell.
    at: Option<(Host, u16)>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Host {
    /// This machine.
    Here,
    Ip(IpAddr),
    Name(String),
}

/// What a rotation touches outside the vault.
#[derive(Debug, Clone, Default)]
pub struct Footprint {
    things: BTreeSet<Thing>,
    addresses: Vec<Address>,
    /// What checks ask: host and port.
    asked: Vec<(Host, String)>,
    /// Whether nothing goes beside it: nobody knows what its commands touch, or it keeps the process busy, so that the checks of
    /// others would come too late.
    is_alone: bool,
}

impl Footprint {
    /// Of a rotation of `name`, by its name in the plan, that takes these steps.
    pub fn of(plan: &Plan, name: &str, steps: &[Step]) -> Self {
        let mut print = Self::default();
        print.things.insert(Thing::Secret(name.to_owned()));
        for step in steps {
            print.add_action(plan, name, &step.action);
        }
        print
    }

    /// Whether both touch the same thing, or may.
    pub fn shares_with(&self, other: &Self) -> bool {
        let may_be_one = |address: &Address| other.addresses.iter().any(|it| it.may_be(address));
        self.is_alone
            || other.is_alone
            || !self.things.is_disjoint(&other.things)
            || self.addresses.iter().any(may_be_one)
            || self
                .asked
                .iter()
                .any(|(host, port)| other.asked.iter().any(|(it, at)| at == port && it.may_be(host)))
    }

    fn add_action(&mut self, plan: &Plan, name: &str, action: &Action) {
        match action {
            Action::SetLogin(at)
            | Action::AddLogin(at)
            | Action::RemoveLogin(at)
            | Action::EndSessions(at)
            | Action::TestLogin { at, .. } => self.add_server(plan, &at.server),
            Action::Record(at) => self.add_server(plan, &at.server),
            Action::EditFile { file, .. } | Action::FillFile { file, .. } => self.add_file(file),
            // The vault takes what a command saves while it writes it.
            Action::FeedCommand { .. }
            | Action::RunCommand { .. }
            | Action::SaveOutput { .. }
            | Action::BackUp { .. } => self.is_alone = true,
            Action::AdmitKey { columns }
            | Action::Reencrypt { columns, .. }
            | Action::ProveColumns { columns } => {
                self.is_alone = true;
                if let Some(columns) = plan.columns(columns) {
                    self.add_server(plan, &columns.server);
                }
            }
            Action::StopApp { app }
            | Action::StartApp { app }
            | Action::BringOver { app }
            | Action::CheckApp { app } => self.add_app(plan, app),
            Action::CheckSecret { .. } => {
                for check in plan.secret(name).map(|secret| secret.check).unwrap_or_default() {
                    self.is_alone |= check.command.is_some();
                    self.add_check(plan, &check);
                }
            }
        }
    }

    fn add(&mut self, thing: Thing) {
        self.things.insert(thing);
    }

    /// A file by where its path leads: there may be several paths to it.
    fn add_file(&mut self, file: &Path) {
        self.add(Thing::File(file.canonicalize().unwrap_or_else(|_| file.to_owned())));
    }

    /// A server with all its nodes, and the secrets that it is logged in to with.
    fn add_server(&mut self, plan: &Plan, name: &str) {
        if !self.things.insert(Thing::Server(name.to_owned())) {
            return;
        }
        let Some(server) = plan.server(name) else { return };
        for login in server.logins() {
            if let Login::Secret(secret) = login {
                self.add(Thing::Secret(secret.clone()));
            }
        }
        if server.via.as_ref().is_some_and(|via| via.compose.is_some()) {
            self.add(Thing::Compose);
        }
        if let Some(path) = &server.path {
            self.add_file(&plan.directory().join(path));
        }
        let urls = server.url.iter().chain(server.nodes.iter().flat_map(BTreeMap::values));
        self.addresses.extend(urls.map(|url| Address::of(server, url)));
    }

    fn add_app(&mut self, plan: &Plan, name: &str) {
        if !self.things.insert(Thing::App(name.to_owned())) {
            return;
        }
        let Some(app) = plan.file.apps.get(name).map(toml::Spanned::get_ref) else { return };
        let App { compose, systemd, restart, stop, start, baseline, check, .. } = app;
        if compose.is_some() {
            self.add(Thing::Compose);
        }
        if let Some(unit) = systemd {
            self.add(Thing::Unit(unit.strip_suffix(".service").unwrap_or(unit).to_owned()));
        }
        for call in [restart, stop, start].into_iter().flatten() {
            self.add(Thing::Call(call.clone()));
        }
        for check in baseline.iter().chain(check) {
            self.add_check(plan, check);
        }
    }

    /// What a check looks at: while one rotation restarts that, the check of another would fail.
    fn add_check(&mut self, plan: &Plan, check: &Check) {
        for url in [&check.http, &check.signed].into_iter().flatten() {
            // One that makes no sense is refused before anything begins.
            self.asked.extend(Url::parse(url).ok().map(|url| asked(&url.host())));
        }
        self.asked.extend(check.tcp.as_deref().map(asked));
        self.things.extend(check.command.clone().map(Thing::Call));
        if let Some(file) = &check.from {
            self.add_file(&plan.directory().join(file));
        }
        if check.inside.is_some() {
            self.add(Thing::Compose);
        }
    }
}

fn asked(address: &str) -> (Host, String) {
    let (host, port) = address.rsplit_once(':').unwrap_or((address, ""));
    (Host::of(host), port.to_owned())
}

impl Address {
    fn of(server: &Server, url: &str) -> Self {
        // Inside of compose its names and ports are others than outside.
        let at = if server.via.is_some() { None } else { host_and_port(server.kind, url) };
        Self { kind: server.kind, at }
    }

    /// Whether both may be one server.
    fn may_be(&self, other: &Self) -> bool {
        if self.kind != other.kind {
            return false;
        }
        let (Some((host, port)), Some((other_host, other_port))) = (&self.at, &other.at) else { return true };
        port == other_port && host.may_be(other_host)
    }
}

impl Host {
    fn of(text: &str) -> Self {
        let text = text.trim_matches(['[', ']']).to_ascii_lowercase();
        match text.parse::<IpAddr>() {
            Ok(ip) if ip.is_loopback() || ip.is_unspecified() => Self::Here,
            Ok(ip) => Self::Ip(ip),
            Err(_) if text == "localhost" => Self::Here,
            Err(_) => Self::Name(text),
        }
    }

    /// Two names are held to be two machines, as are two addresses; a name may stand for an address, and for this machine.
    fn may_be(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Ip(ip), Self::Ip(other)) => ip == other,
            (Self::Name(name), Self::Name(other)) => name == other,
            _ => true,
        }
    }
}

fn host_and_port(kind: Kind, url: &str) -> Option<(Host, u16)> {
    let (_, rest) = url.split_once("://")?;
    let (authority, tail) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
    let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
    // A socket, several hosts, or one that a parameter names.
    if host.is_empty() || host.contains([',', '%']) || tail.contains("host") || tail.contains("port=") {
        return None;
    }
    let usual = match kind {
        Kind::Postgres => 5432,
        Kind::Redis => 6379,
        _ => return None,
    };
    match host.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => Some((Host::of(host), port.parse().ok()?)),
        _ => Some((Host::of(host), usual)),
    }
}

/// Rotations in the order in which they were asked for: those that share something go in that order.
#[derive(Debug)]
pub struct Queue {
    /// Those that have not begun, and the earlier ones that each shares something with.
    waiting: BTreeMap<usize, BTreeSet<usize>>,
    running: BTreeSet<usize>,
}

impl Queue {
    /// Of rotations that touch this, numbered from 0.
    pub fn new(prints: &[Footprint]) -> Self {
        let earlier = |at: usize| {
            let shares = move |before: &usize| prints[*before].shares_with(&prints[at]);
            (0..at).filter(shares).collect()
        };
        Self { waiting: (0..prints.len()).map(|at| (at, earlier(at))).collect(), running: BTreeSet::new() }
    }

    /// The next one that may begin now, if any may.
    pub fn begin_next(&mut self) -> Option<usize> {
        if self.running.len() >= AT_ONCE {
            return None;
        }
        let next = self.waiting.iter().find(|(_, earlier)| earlier.is_empty()).map(|(at, _)| *at)?;
        self.waiting.remove(&next);
        self.running.insert(next);
        Some(next)
    }

    /// One that began has come to an end, whatever that is.
    pub fn end(&mut self, which: usize) {
        self.running.remove(&which);
        for earlier in self.waiting.values_mut() {
            earlier.remove(&which);
        }
    }

    /// Whether some have not begun.
    pub fn is_waiting(&self) -> bool {
        !self.waiting.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::super::freeze::{self, Asked};
    use super::*;
    use crate::error::RotateError;

    /// What a rotation of each secret of a plan touches; nothing of those that this version does not rotate.
    fn prints(text: &str) -> Vec<(String, Footprint)> {
        let directory = tempfile::tempdir().unwrap();
        let plan = Plan::parse(&directory.path().join("reseal.toml"), text);
        let plan = plan.unwrap_or_else(|error| panic!("{error}"));
        let mut prints = Vec::new();
        for name in plan.file.secrets.keys() {
            let secret = plan.secret(name).unwrap();
            let asked = Asked { by: "somebody", emergency: false };
            match freeze::steps(&plan, name, &secret, secret.strategy.unwrap(), asked) {
                Ok(steps) => prints.push((name.clone(), Footprint::of(&plan, name, &steps))),
                Err(RotateError::NotRotated { .. }) => {}
                Err(error) => panic!("{error}"),
            }
        }
        prints
    }

    /// Whether the secrets `one` and `two` of this plan share something.
    #[track_caller]
    fn share(plan: &str) -> bool {
        let text = format!("schema = 1\n{FILES}\n{plan}");
        let prints: BTreeMap<_, _> = prints(&text).into_iter().collect();
        let (one, two) = (&prints["one"], &prints["two"]);
        assert_eq!(one.shares_with(two), two.shares_with(one), "{plan}");
        one.shares_with(two)
    }

    const FILES: &str = r#"
[files."a.env"]
readers = ["shell"]
used_by = ["a"]
[files."b.env"]
readers = ["shell"]
used_by = ["b"]
"#;

    const UNITS: &str = r#"
[apps.a]
systemd = "a"
[apps.b]
systemd = "b"
"#;

    const SECRETS: &str = r#"
[secrets.one]
strategy = "in-place"
write = [{ file = "a.env", var = "KEY" }]
[secrets.two]
strategy = "in-place"
write = [{ file = "b.env", var = "KEY" }]
"#;

    /// Two secrets at servers with these URLs.
    fn at_servers(one: &str, two: &str) -> String {
        format!(
            r#"{UNITS}
[servers.x]
{one}
[servers.y]
{two}
[secrets.one]
server = "x"
user = "app"
strategy = "in-place"
write = [{{ file = "a.env", var = "KEY" }}]
[secrets.two]
server = "y"
user = "app"
strategy = "in-place"
write = [{{ file = "b.env", var = "KEY" }}]
"#
        )
    }

    #[test]
    fn what_has_nothing_in_common_is_independent() {
        assert!(!share(&format!("{UNITS}{SECRETS}")));
        let restarted = "[apps.a]\nrestart = ['./restart', 'a']\n[apps.b]\nrestart = ['./restart', 'b']\n";
        assert!(!share(&format!("{restarted}{SECRETS}")));
    }

    #[test]
    fn applications_are_shared() {
        for apps in [
            "[apps.a]\ncompose = 'a'\n[apps.b]\ncompose = 'b'\n",
            "[apps.a]\nsystemd = 'web'\n[apps.b]\nsystemd = 'web.service'\n",
            "[apps.a]\nrestart = ['make', 'restart']\n[apps.b]\nrestart = ['make', 'restart']\n",
            "[apps.a]\nsystemd = 'a'\ncheck = [{ http = 'http://localhost:8000/a' }]\n\
             [apps.b]\nsystemd = 'b'\ncheck = [{ tcp = '127.0.0.1:8000' }]\n",
            "[apps.a]\nsystemd = 'a'\ncheck = [{ command = ['./healthy'] }]\n\
             [apps.b]\nsystemd = 'b'\ncheck = [{ command = ['./healthy'] }]\n",
            "[apps.a]\nsystemd = 'a'\ncheck = [{ log = 'x', from = 'app.log' }]\n\
             [apps.b]\nsystemd = 'b'\nbaseline = [{ log = 'y', from = 'app.log' }]\n",
            "[apps.a]\nsystemd = 'a'\ncheck = [{ command = ['./a'], in = 'db' }]\n\
             [apps.b]\nsystemd = 'b'\ncheck = [{ command = ['./b'], in = 'web' }]\n",
        ] {
            assert!(share(&format!("{apps}{SECRETS}")), "{apps}");
        }
        let apart = "[apps.a]\nsystemd = 'a'\ncheck = [{ http = 'http://localhost:8000/' }]\n\
                     [apps.b]\nsystemd = 'b'\ncheck = [{ http = 'http://localhost:8001/' }]\n";
        assert!(!share(&format!("{apart}{SECRETS}")));
    }

    #[test]
    fn files_are_shared() {
        let one_file = SECRETS.replace("b.env\", var = \"KEY\"", "a.env\", var = \"OTHER\"");
        assert!(share(&format!("{UNITS}{one_file}")));
    }

    #[test]
    fn servers_are_shared_by_name_by_address_and_by_login() {
        let same = at_servers(
            "kind = 'postgres'\nurl = 'postgres://app@db/app'",
            "kind = 'redis'\nurl = 'redis://r/0'",
        );
        assert!(!share(&same));
        let by_name = same.replace("server = \"y\"\nuser = \"app\"", "server = \"x\"\nuser = \"other\"");
        assert!(share(&by_name), "{by_name}");
        for (one, two, expected) in [
            ("postgres://app@db/app", "postgresql://other@DB:5432/other?sslmode=disable", true),
            ("postgres://app@localhost:5433/app", "postgres://app@127.0.0.1:5433/other", true),
            ("postgres://app@[::1]/app", "postgres://app@localhost/app", true),
            ("postgres://app@10.0.0.1/app", "postgres://app@db/app", true),
            ("postgres:///app?host=/run/postgresql", "postgres://app@db/app", true),
            ("postgres://app@db,db2/app", "postgres://app@db3/app", true),
            ("postgres://app@db/app", "postgres://app@db:5433/app", false),
            ("postgres://app@db/app", "postgres://app@other/app", false),
            ("postgres://app@10.0.0.1/app", "postgres://app@10.0.0.2/app", false),
        ] {
            let postgres = |url: &str| format!("kind = 'postgres'\nurl = '{url}'");
            assert_eq!(share(&at_servers(&postgres(one), &postgres(two))), expected, "{one} {two}");
        }
        let admin = "admin = { user = 'root', login = 'secret:root' }";
        let with_admin = at_servers(
            &format!("kind = 'postgres'\nurl = 'postgres://app@db/app'\n{admin}"),
            &format!("kind = 'postgres'\nurl = 'postgres://app@other/app'\n{admin}"),
        );
        assert!(share(&with_admin), "both are changed by a role with one password");
    }

    #[test]
    fn commands_outside_of_applications_go_alone() {
        for (place, command) in [
            ("strategy", "before = [{ command = ['./mine'] }]\nstrategy"),
            ("strategy", "before = [{ save = 'dumps/one', command = ['./dump'] }]\nstrategy"),
            ("write = [", "write = [{ command = ['./store'] }, "),
            ("strategy", "check = [{ command = ['./works'] }]\nstrategy"),
            ("strategy", "after = [{ command = ['./mine'] }]\nstrategy"),
        ] {
            assert!(share(&format!("{UNITS}{}", SECRETS.replacen(place, command, 1))), "{command}");
        }
    }

    /// Each of these projects has one `.env`, one application or one compose project.
    #[test]
    fn in_the_plans_of_the_runbooks_all_go_one_after_another() {
        let mut pairs = 0;
        for text in [
            include_str!("../../tests/plans/R1.toml"),
            include_str!("../../tests/plans/R2.toml"),
            include_str!("../../tests/plans/R3.toml"),
            include_str!("../../tests/plans/R4.toml"),
            include_str!("../../tests/plans/R5.toml"),
        ] {
            let mut prints = prints(text);
            // What is written nowhere touches nothing but itself.
            prints.retain(|(_, print)| print.things.len() > 1);
            for (at, (name, one)) in prints.iter().enumerate() {
                for (other, two) in &prints[at + 1..] {
                    assert!(one.shares_with(two), "{name} and {other}");
                    pairs += 1;
                }
            }
        }
        assert!(pairs >= 10, "{pairs} pairs");
    }

    fn print_of(things: &[&str]) -> Footprint {
        let things = things.iter().map(|name| Thing::App((*name).to_owned())).collect();
        Footprint { things, ..Footprint::default() }
    }

    #[test]
    fn who_shares_waits_for_those_before() {
        let mut queue =
            Queue::new(&[print_of(&["a"]), print_of(&["a", "b"]), print_of(&["b"]), print_of(&["c"])]);
        let began: Vec<_> = std::iter::from_fn(|| queue.begin_next()).collect();
        assert_eq!(began, [0, 3], "the third was asked for after the second, which waits");
        queue.end(3);
        assert_eq!(queue.begin_next(), None);
        queue.end(0);
        assert_eq!((queue.begin_next(), queue.begin_next()), (Some(1), None));
        assert!(queue.is_waiting());
        queue.end(1);
        assert_eq!((queue.begin_next(), queue.is_waiting()), (Some(2), false));
    }

    #[test]
    fn who_goes_alone_has_nobody_beside() {
        let alone = Footprint { is_alone: true, ..print_of(&["x"]) };
        let mut queue = Queue::new(&[print_of(&["a"]), alone, print_of(&["b"])]);
        assert_eq!((queue.begin_next(), queue.begin_next()), (Some(0), None));
        queue.end(0);
        assert_eq!((queue.begin_next(), queue.begin_next()), (Some(1), None));
        queue.end(1);
        assert_eq!(queue.begin_next(), Some(2));
    }

    #[test]
    fn only_so_many_go_at_once() {
        let names: Vec<_> = (0..20).map(|number| number.to_string()).collect();
        let prints: Vec<_> = names.iter().map(|name| print_of(&[name])).collect();
        let mut queue = Queue::new(&prints);
        assert_eq!(std::iter::from_fn(|| queue.begin_next()).count(), AT_ONCE);
        queue.end(3);
        assert_eq!((queue.begin_next(), queue.begin_next()), (Some(AT_ONCE), None));
    }
}
