//! What every part of a plan allows and the parts together do not: two secrets for one role or place, files that nobody
//! reads, applications that nobody brings over.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::path::Path;

use reseal_env::Reader;
use reseal_vault::ValueFormat;
use toml::Spanned;

use super::error::Finding;
use super::places::{BringOver, Check, Holds, Place};
use super::secrets::{Secret, Strategy};
use super::servers::Kind;
use super::spot::Spot;
use super::{App, Columns, PlainFile, PlanFile};

/// The classes that `generate.require` knows.
const CLASSES: [&str; 4] = ["lower", "upper", "digit", "symbol"];

impl PlanFile {
    /// Checks what concerns several parts of the plan.
    pub(super) fn check_together(&self) -> Result<(), Finding> {
        for (path, file) in &self.files {
            self.check_file(path, file.get_ref(), file.span())?;
        }
        let secrets: Vec<_> =
            self.secrets.iter().map(|(name, secret)| (name, self.whole(secret), secret.span())).collect();
        let (mut roles, mut places) = (BTreeMap::new(), BTreeMap::new());
        for (name, secret, span) in &secrets {
            self.check_strategy(name, secret, span)?;
            check_rule(name, secret, span)?;
            for role in self.roles(secret) {
                if let Some(other) = roles.insert(role.clone(), *name) {
                    let (server, user) = role;
                    return Err(Finding::new(
                        span.clone(),
                        format!("secrets `{other}` and `{name}` both set role `{user}` of server `{server}`"),
                    )
                    .remedy("keep one of them, and give it the places of both"));
                }
            }
            for place in &secret.write {
                self.check_place(name, secret, place, span)?;
                claim(&mut places, name, place, span)?;
            }
            self.check_order(name, secret, span)?;
            self.check_columns_key(name, secret, span)?;
        }
        Ok(())
    }

    fn whole(&self, secret: &Spanned<Secret>) -> Secret {
        let secret = secret.get_ref();
        self.defaults.as_ref().map_or_else(|| secret.clone(), |defaults| secret.over(defaults))
    }

    fn check_file(&self, path: &str, file: &PlainFile, span: Range<usize>) -> Result<(), Finding> {
        if let Some(wrong) = file.readers.iter().find(|name| Reader::from_name(name).is_none()) {
            let known: Vec<_> = Reader::ALL.iter().map(|reader| reader.name()).collect();
            return Err(Finding::new(
                span,
                format!("file `{path}` has a reader `{wrong}`, which is not known"),
            )
            .among(wrong, known.into_iter()));
        }
        let Some(wrong) = file.used_by.iter().find(|app| !self.apps.contains_key(*app)) else {
            return Ok(());
        };
        Err(Finding::new(span, format!("file `{path}` is used by app `{wrong}`, which is not there"))
            .among(wrong, self.apps.keys().map(String::as_str)))
    }

    /// The roles that a secret sets.
    fn roles(&self, secret: &Secret) -> Vec<(String, String)> {
        let Some(name) = &secret.server else { return Vec::new() };
        let Some(server) = self.servers.get(name).map(Spanned::get_ref) else { return Vec::new() };
        let has_roles = matches!(server.kind, Kind::Postgres | Kind::Redis | Kind::Mysql | Kind::Mongodb);
        if !has_roles || secret.strategy == Some(Strategy::Columns) {
            return Vec::new();
        }
        let mut users = secret.users.clone().unwrap_or_default();
        if users.is_empty() {
            let urls = server.url.iter().chain(server.nodes.iter().flat_map(BTreeMap::values));
            users = match &secret.user {
                Some(user) => vec![user.clone()],
                None => urls.map(|url| server.user_of(url)).collect(),
            };
            users.sort();
            users.dedup();
        }
        users.into_iter().map(|user| (name.clone(), user)).collect()
    }

    fn check_strategy(&self, name: &str, secret: &Secret, span: &Range<usize>) -> Result<(), Finding> {
        let server = secret.server.as_ref().and_then(|server| self.servers.get(server));
        let is_postgres = server.is_some_and(|server| server.get_ref().kind == Kind::Postgres);
        if secret.strategy == Some(Strategy::Overlap) && is_postgres {
            return Err(Finding::new(
                span.clone(),
                format!("secret `{name}` is to overlap, and a role of Postgres holds one password"),
            )
            .remedy("write strategy = \"in-place\", or \"alternate\" with two `users`"));
        }
        if secret.strategy == Some(Strategy::Alternate) {
            let has_admin = server.is_some_and(|server| server.get_ref().admin.is_some());
            return check_alternate(name, secret, is_postgres && has_admin, span);
        }
        Ok(())
    }

    fn check_place(
        &self,
        name: &str,
        secret: &Secret,
        place: &Place,
        span: &Range<usize>,
    ) -> Result<(), Finding> {
        let finding = |what: String| Finding::new(span.clone(), format!("secret `{name}` {what}"));
        let is_online = self.columns_under(name).any(|(_, columns)| columns.online);
        if place.holds == Some(Holds::Previous) && secret.strategy != Some(Strategy::Overlap) && !is_online {
            return Err(finding("has a place for its previous value, which only an overlap ends".into())
                .remedy(
                    "write strategy = \"overlap\", or online = true in the columns of which it is the key",
                ));
        }
        if place.holds == Some(Holds::Pending) && place.var.is_none() {
            return Err(finding("has a place for its pending value that is no variable of a file".into())
                .remedy("write file and var"));
        }
        let Some(path) = &place.file else { return Ok(()) };
        let shown = path.display();
        if let Err(why) = place.spot() {
            return Err(finding(format!("writes a place in {shown} that {why}")).remedy(
                "write part = \"url.password\", \"url.user\", \"url.userinfo\", \"list\", \"list[N]\", \"json:/pointer\" or \"template\"",
            ));
        }
        let Some(file) = self.file(path).filter(|file| !file.used_by.is_empty()) else {
            return Err(finding(format!("writes {shown}, which no application reads"))
                .remedy(format!("write [files.\"{shown}\"] with used_by = [\"APP\"]")));
        };
        if place.var.is_some() && file.readers.is_empty() {
            return Err(finding(format!("writes a variable of {shown}, whose readers are not named"))
                .remedy(format!("write readers = [\"python-dotenv\"] or the like in [files.\"{shown}\"]")));
        }
        let blind = file
            .used_by
            .iter()
            .find(|app| self.apps.get(*app).is_some_and(|app| reloads_unseen(app.get_ref(), secret)));
        match blind {
            Some(app) => {
                Err(finding(format!("is read by `{app}`, which reloads without a check that sees the value"))
                    .remedy("give it a check by http, command or signature, or let it restart"))
            }
            None => Ok(()),
        }
    }

    /// Whether applications can read everything at every moment of a change of this key.
    fn check_columns_key(&self, name: &str, secret: &Secret, span: &Range<usize>) -> Result<(), Finding> {
        let finding = |what: String| Finding::new(span.clone(), format!("secret `{name}` {what}"));
        let online = self.columns_under(name).find(|(_, columns)| columns.online);
        let Some((columns, _)) = online.filter(|_| !secret.write.is_empty()) else { return Ok(()) };
        if let Some((other, _)) = self.columns_under(name).find(|(_, columns)| !columns.online) {
            return Err(finding(format!(
                "is the key of `{columns}`, which is online, and of `{other}`, which is not"
            ))
            .remedy("the applications open either key or they do not: write the same `online` in both"));
        }
        let has = |holds| secret.write.iter().any(|place| place.holds == Some(holds));
        if !has(Holds::Previous) {
            return Err(finding(format!(
                "has no place for the key that `{columns}` is under until it is re-encrypted"
            ))
            .remedy("write a place with holds = \"previous\", or online = false"));
        }
        let files = self.files.iter().filter(|(path, _)| {
            secret.write.iter().any(|place| place.file.as_deref() == Some(Path::new(path)))
        });
        let readers: BTreeSet<_> = files.flat_map(|(_, file)| &file.get_ref().used_by).collect();
        if readers.len() > 1 && !has(Holds::Pending) {
            return Err(finding("is read by several applications, and those that change over last could not read what the others write".into())
                .remedy("write a place with holds = \"pending\" in every file"));
        }
        Ok(())
    }

    /// The columns of which a secret is the key.
    fn columns_under(&self, name: &str) -> impl Iterator<Item = (&str, &Columns)> {
        let columns = self.columns.iter().map(|(columns, found)| (columns.as_str(), found.get_ref()));
        columns.filter(move |(_, columns)| columns.key == name)
    }

    fn check_order(&self, name: &str, secret: &Secret, span: &Range<usize>) -> Result<(), Finding> {
        let Some(order) = &secret.order else { return Ok(()) };
        if let Some(wrong) = order.iter().find(|app| !self.apps.contains_key(*app)) {
            let finding = format!("secret `{name}` orders app `{wrong}`, which is not there");
            return Err(
                Finding::new(span.clone(), finding).among(wrong, self.apps.keys().map(String::as_str))
            );
        }
        let files = secret.write.iter().filter_map(|place| place.file.as_ref());
        let readers =
            files.flat_map(|path| self.file(path).map(|file| file.used_by.clone()).unwrap_or_default());
        let mut missing = readers.filter(|app| !order.contains(app));
        match missing.next() {
            Some(app) => Err(Finding::new(
                span.clone(),
                format!("secret `{name}` has an order of applications without `{app}`, which reads it"),
            )
            .remedy("name every application that reads it in `order`")),
            None => Ok(()),
        }
    }
}

/// Whether a graceful reload would be believed without anything that sees the new value.
fn reloads_unseen(app: &App, secret: &Secret) -> bool {
    let sees = |check: &Check| check.http.is_some() || check.command.is_some() || check.signed.is_some();
    app.bring_over == Some(BringOver::Reload) && !app.check.iter().chain(&secret.check).any(sees)
}

/// Notes that a secret stands in a place; two in one place would overwrite each other.
fn claim<'n>(
    places: &mut BTreeMap<(String, String), Vec<(&'n str, Spot)>>,
    name: &'n str,
    place: &Place,
    span: &Range<usize>,
) -> Result<(), Finding> {
    let (Some(file), Ok(spot)) = (&place.file, place.spot()) else { return Ok(()) };
    let key = (file.display().to_string(), place.var.clone().unwrap_or_default());
    let held = places.entry(key.clone()).or_default();
    let is_whole = |spot: &Spot| matches!(spot, Spot::Whole | Spot::Template(_));
    let clash = held.iter().find(|(_, other)| *other == spot || is_whole(other) || is_whole(&spot));
    if let Some((other, _)) = clash {
        let (file, var) = key;
        return Err(Finding::new(
            span.clone(),
            format!("secrets `{other}` and `{name}` both write {var} of {file}").replace("  ", " "),
        )
        .remedy("a place holds one value: take it out of one of them"));
    }
    held.push((name, spot));
    Ok(())
}

/// Two roles that take turns, who prepares them, and in every file the name of the one that is in use.
fn check_alternate(name: &str, secret: &Secret, has_admin: bool, span: &Range<usize>) -> Result<(), Finding> {
    let finding = |what: String| Finding::new(span.clone(), format!("secret `{name}` {what}"));
    if !has_admin {
        return Err(finding(
            "alternates two roles, which an administrator of a Postgres server has to prepare".into(),
        )
        .remedy("name a server of kind \"postgres\" with admin = { user = \"…\", login = \"…\" }"));
    }
    let users = secret.users.as_deref().unwrap_or_default();
    if !matches!(users, [first, second] if first != second) || secret.owner_role.is_none() {
        return Err(finding("alternates, and does not name two roles and their owner".into()).remedy(
            "write users = [\"app_a\", \"app_b\"] and owner_role = \"app_owner\", which owns what both use",
        ));
    }
    let names_user = |place: &Place| place.part.as_deref() == Some("url.userinfo") || place.holds_user();
    let files = || secret.write.iter().filter(|place| place.file.is_some());
    let blind = files().find(|place| !files().any(|other| other.file == place.file && names_user(other)));
    let Some(file) = blind.and_then(|place| place.file.as_ref()) else { return Ok(()) };
    Err(finding(format!("alternates, and {} would not learn which role is in use", file.display())).remedy(
        "write part = \"url.userinfo\" instead of \"url.password\", or one more place with field = \"user\"",
    ))
}

fn check_rule(name: &str, secret: &Secret, span: &Range<usize>) -> Result<(), Finding> {
    let Some(rule) = &secret.generate else { return Ok(()) };
    if rule.format.parse::<ValueFormat>().is_err() {
        return Err(Finding::new(
            span.clone(),
            format!("secret `{name}` is to be generated as `{}`", rule.format),
        )
        .among(&rule.format, ValueFormat::ALL.iter().map(|format| format.name())));
    }
    let Some(wrong) = rule.require.iter().find(|class| !CLASSES.contains(&class.as_str())) else {
        return Ok(());
    };
    Err(Finding::new(
        span.clone(),
        format!("secret `{name}` requires `{wrong}`, which is no class of characters"),
    )
    .among(wrong, CLASSES.into_iter()))
}
