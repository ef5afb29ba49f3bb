//! The secrets of a project: one for each value and what it is for, with every place where it stands.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use reseal_crypto::SecretBytes;

use super::names::{Sort, slug};
use super::servers::{Found, Login};
use super::texts::{Candidate, Text};
use crate::plan::{Holds, Spot, Strategy};

/// The length from which two equal values are taken for one.
const LONG: usize = 16;

/// A secret that was found.
#[derive(Debug)]
pub struct Adopted {
    /// What the plan calls it.
    pub name: String,
    /// How it changes.
    pub strategy: Strategy,
    /// The server that it lets in at, by its name in the plan.
    pub server: Option<String>,
    /// What a login with it came to.
    pub login: Option<Login>,
    /// Where it stands.
    pub places: Vec<Placed>,
    /// The value.
    pub value: SecretBytes,
    /// Why the plan has it as a comment only.
    pub withheld: Option<String>,
    /// Whether it is known to be the value in use, and belongs in the vault.
    pub is_stored: bool,
    /// The order in which applications get it, where that matters.
    pub(super) order: Vec<String>,
    /// What a person should know.
    pub(super) remarks: Vec<String>,
}

/// Where a value stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Placed {
    /// The file, relative to the plan.
    pub file: PathBuf,
    /// The variable.
    pub var: String,
    /// Where in it.
    pub spot: Spot,
    /// Which version is kept there.
    pub holds: Holds,
}

/// Everything that a project was found to have.
pub(super) fn all(
    candidates: &[Candidate],
    texts: &[Text],
    found: &[Found],
    rest: &[usize],
    doubts: &mut Vec<String>,
) -> Vec<Adopted> {
    let mut secrets = Vec::new();
    for one in found {
        secrets.push(of_server(one, found, candidates, texts, doubts));
    }
    for group in alike(candidates, rest) {
        let like = secrets
            .iter()
            .find(|secret| secret.server.is_some() && secret.value == candidates[group[0]].value);
        let shared = like.map(|secret| format!("has the same value as `{}`", secret.name));
        let mut secret = of_its_own(&group, candidates, texts);
        secret.remarks.extend(shared);
        secrets.push(secret);
    }
    tell_apart(&mut secrets);
    for secret in &mut secrets {
        secret.places.sort_by(|one, other| one.file.cmp(&other.file));
        withhold(secret, texts);
    }
    secrets.sort_by(|one, other| one.name.cmp(&other.name));
    secrets
}

fn of_server(
    one: &Found,
    all: &[Found],
    candidates: &[Candidate],
    texts: &[Text],
    doubts: &mut Vec<String>,
) -> Adopted {
    let kind = one.address().kind;
    let is_only = all.iter().filter(|other| other.address().kind == kind).count() == 1;
    let usual = if kind == crate::plan::Kind::Redis { "redis" } else { "postgres" };
    let current = one.current();
    let held = current.or(one.held.first()).expect("a server is found by a value");
    let mut secret = Adopted {
        name: format!("{}/password", if is_only { usual.to_owned() } else { slug(&one.name) }),
        strategy: if kind == crate::plan::Kind::Redis { Strategy::Overlap } else { Strategy::InPlace },
        server: Some(one.name.clone()),
        login: Some(held.login.clone()),
        places: held.places.iter().map(|&index| placed(&candidates[index], texts)).collect(),
        value: held.value.clone(),
        withheld: None,
        is_stored: current.is_some(),
        order: Vec::new(),
        remarks: Vec::new(),
    };
    match &held.login {
        Login::Verified(strategy, notes) => {
            secret.strategy = *strategy;
            secret.remarks.extend(notes.iter().cloned());
        }
        Login::Unchangeable(why) => secret.remarks.push(format!("it cannot be changed yet: {why}")),
        Login::Unreachable(why) => secret.remarks.push(format!("its login is not verified: {why}")),
        Login::Refused => {}
    }
    match (&held.login, current) {
        (_, Some(_)) => {}
        (Login::Refused, None) => {
            secret.withheld = Some(format!("`{}` refuses its login: it is not the value in use", one.name));
        }
        (_, None) => {
            secret.withheld = Some(format!(
                "its files hold different values, and `{}` does not say which is in use",
                one.name
            ));
        }
    }
    for other in one.held.iter().filter(|other| other.value != held.value) {
        for &index in &other.places {
            let place = placed(&candidates[index], texts);
            let how = match &other.login {
                Login::Refused => "which is refused",
                Login::Unreachable(_) => "which was not tried",
                Login::Verified(..) | Login::Unchangeable(_) => "which lets in too",
            };
            doubts.push(format!(
                "{} of {} is left out: it holds another value for `{}`, {how}",
                place.var,
                place.file.display(),
                one.name
            ));
        }
    }
    secret
}

fn of_its_own(group: &[usize], candidates: &[Candidate], texts: &[Text]) -> Adopted {
    let first = &candidates[group[0]];
    let mut places = Vec::new();
    for &index in group {
        let candidate = &candidates[index];
        let place = placed(candidate, texts);
        let previous = candidate.previous.as_ref().map(|var| Placed {
            var: var.clone(),
            holds: Holds::Previous,
            spot: Spot::Whole,
            ..place.clone()
        });
        places.extend(std::iter::once(place).chain(previous));
    }
    let has_previous = places.iter().any(|place| place.holds == Holds::Previous);
    let (strategy, withheld) = match first.sort {
        Sort::Own if has_previous => (Strategy::Overlap, None),
        Sort::Own => (Strategy::InPlace, None),
        Sort::Brought | Sort::Password(_) => (Strategy::Paste, None),
        Sort::DataKey => (
            Strategy::Columns,
            Some(
                "what is stored under it has to change with it: describe that in [columns] first".to_owned(),
            ),
        ),
    };
    let mut remarks = Vec::new();
    match first.sort {
        Sort::Own if !has_previous => remarks.push(
            "what it signed ends with it, such as sessions; with a second variable for the old value \
             (strategy = \"overlap\", holds = \"previous\") it does not"
                .to_owned(),
        ),
        Sort::Password(_) => {
            remarks.push("which server it is for is not known: a person brings new values".to_owned())
        }
        _ => {}
    }
    for place in places.iter().filter(|place| place.holds == Holds::Previous) {
        let held = texts.iter().find(|text| text.path == place.file).and_then(|text| text.get(&place.var));
        if held.is_some_and(|value| !value.is_empty()) {
            remarks.push(format!("{} holds a former value, which the first rotation overwrites", place.var));
        }
    }
    Adopted {
        name: slug(&first.var),
        strategy,
        server: None,
        login: None,
        order: if has_previous { order(&places, texts) } else { Vec::new() },
        places,
        value: first.value.clone(),
        withheld,
        is_stored: true,
        remarks,
    }
}

/// First who takes both values, then who uses the new one.
fn order(places: &[Placed], texts: &[Text]) -> Vec<String> {
    let users = |is_meant: &dyn Fn(&Path) -> bool| -> BTreeSet<String> {
        let meant = texts.iter().filter(|text| is_meant(&text.path));
        meant.flat_map(|text| text.used_by.iter().cloned()).collect()
    };
    let has_previous =
        |path: &Path| places.iter().any(|place| place.file == path && place.holds == Holds::Previous);
    let both = users(&has_previous);
    let others = users(&|path| places.iter().any(|place| place.file == path) && !has_previous(path));
    let later: Vec<_> = others.difference(&both).cloned().collect();
    if later.is_empty() { Vec::new() } else { both.into_iter().chain(later).collect() }
}

fn placed(candidate: &Candidate, texts: &[Text]) -> Placed {
    Placed {
        file: texts[candidate.text].path.clone(),
        var: candidate.var.clone(),
        spot: candidate.spot.clone(),
        holds: Holds::Current,
    }
}

/// Candidates of one value: of one variable in several files, or long enough that this is no chance.
fn alike(candidates: &[Candidate], rest: &[usize]) -> Vec<Vec<usize>> {
    let mut groups: Vec<Vec<usize>> = Vec::new();
    for &index in rest {
        let candidate = &candidates[index];
        let is_one = |group: &&mut Vec<usize>| {
            let first = &candidates[group[0]];
            first.value == candidate.value
                && first.sort == candidate.sort
                && (first.var == candidate.var || candidate.value.len() >= LONG)
        };
        match groups.iter_mut().find(is_one) {
            Some(group) => group.push(index),
            None => groups.push(vec![index]),
        }
    }
    groups
}

/// Where one variable has several values, the file is part of the name.
fn tell_apart(secrets: &mut [Adopted]) {
    let names: Vec<String> = secrets.iter().map(|secret| secret.name.clone()).collect();
    for secret in secrets.iter_mut() {
        let is_taken = names.iter().filter(|name| **name == secret.name).count() > 1;
        if is_taken {
            secret.name = format!("{}/{}", slug(&secret.places[0].file.to_string_lossy()), secret.name);
        }
    }
    let mut taken = BTreeSet::new();
    for secret in secrets.iter_mut() {
        let plain = secret.name.clone();
        let mut count = 1;
        while !taken.insert(secret.name.clone()) {
            count += 1;
            secret.name = format!("{plain}-{count}");
        }
    }
}

/// What cannot be brought to every place must not change at all.
fn withhold(secret: &mut Adopted, texts: &[Text]) {
    if secret.withheld.is_some() {
        return;
    }
    for place in &secret.places {
        let Some(text) = texts.iter().find(|text| text.path == place.file) else { continue };
        let shown = text.path.display();
        if text.used_by.is_empty() {
            secret.withheld = Some(format!("which application reads {shown} is not known"));
        } else if let Some(why) = text.refusal(&place.var, &place.spot) {
            secret.withheld = Some(format!("no new value can be written to {shown}: {why}"));
        }
    }
}
