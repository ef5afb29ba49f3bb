//! From the plan to the steps of one rotation, resolved once: what exists, in which order, which files and servers.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::action::{Action, EnvEdit, LoginAt, Which};
use super::record::{Act, Phase, Step};
use crate::error::RotateError;
use crate::plan::{Holds, Kind, Place, Plan, Secret, Spot, Strategy};

/// The steps of a rotation of `name`, in order.
pub(super) fn steps(
    plan: &Plan,
    name: &str,
    secret: &Secret,
    strategy: Strategy,
) -> Result<Vec<Step>, RotateError> {
    let not_done = |what| Err(RotateError::NotRotated { secret: name.to_owned(), what });
    match strategy {
        Strategy::InPlace | Strategy::Overlap | Strategy::Paste => {}
        Strategy::Columns => return not_done("a key of columns; `reseal reencrypt` brings a new one out"),
        Strategy::Alternate => return not_done("`strategy = \"alternate\"`"),
        Strategy::NewUser => return not_done("`strategy = \"new-user\"`"),
        Strategy::Issue => return not_done("`strategy = \"issue\"`"),
    }
    if secret.per.is_some() {
        return not_done("`per = \"node\"`");
    }
    let base = plan
        .directory()
        .canonicalize()
        .map_err(|source| RotateError::Directory { path: plan.directory().to_owned(), source })?;
    let mut draft = Draft { plan, name, secret, base, steps: Vec::new() };
    draft.change(strategy)?;
    draft.retire(strategy)?;
    Ok(draft.steps)
}

/// How long the old value stays valid, in seconds, where two are valid at a time.
pub(super) fn overlap(secret: &Secret, steps: &[Step]) -> u64 {
    const DAY: u64 = 86_400;
    let retires = steps.iter().any(|step| step.act == Act::Retire);
    if retires { secret.overlap.map_or(DAY, |span| span.0.as_secs()) } else { 0 }
}

struct Draft<'a> {
    plan: &'a Plan,
    name: &'a str,
    secret: &'a Secret,
    base: PathBuf,
    steps: Vec<Step>,
}

/// What is written in one turn, and who reads it.
#[derive(Default)]
struct Turn {
    writes: Vec<Action>,
    apps: Vec<String>,
}

impl Draft<'_> {
    fn push(&mut self, act: Act, phase: Phase, turn: usize, action: Action) {
        self.steps.push(Step::new(act, phase, turn, action));
    }

    fn change(&mut self, strategy: Strategy) -> Result<(), RotateError> {
        for command in &self.secret.before {
            self.push(Act::Change, Phase::Before, 0, run(command));
        }
        let logins = self.logins()?;
        let is_overlap = strategy == Strategy::Overlap;
        for at in &logins {
            let action = if is_overlap { Action::AddLogin(at.clone()) } else { Action::SetLogin(at.clone()) };
            self.push(Act::Change, Phase::Set, 0, action);
        }
        for at in &logins {
            let test = |value, accepted| Action::TestLogin { at: at.clone(), value, accepted };
            self.push(Act::Change, Phase::Test, 0, test(Which::New, true));
            self.push(Act::Change, Phase::Test, 0, test(Which::Old, is_overlap));
        }
        let last = self.turns(Act::Change)?;
        if !self.secret.check.is_empty() {
            let old_works = is_overlap;
            self.push(Act::Change, Phase::Check, last, Action::CheckSecret { old_works });
        }
        for command in &self.secret.after {
            self.push(Act::Change, Phase::After, last, run(command));
        }
        Ok(())
    }

    fn retire(&mut self, strategy: Strategy) -> Result<(), RotateError> {
        if strategy != Strategy::Overlap {
            return Ok(());
        }
        let last = self.turns(Act::Retire)?;
        let logins = self.logins()?;
        for at in &logins {
            self.push(Act::Retire, Phase::Retire, last, Action::RemoveLogin(at.clone()));
        }
        for at in &logins {
            let test = |value, accepted| Action::TestLogin { at: at.clone(), value, accepted };
            self.push(Act::Retire, Phase::Test, last, test(Which::New, true));
            self.push(Act::Retire, Phase::Test, last, test(Which::Old, false));
        }
        if !self.secret.check.is_empty() {
            self.push(Act::Retire, Phase::Check, last, Action::CheckSecret { old_works: false });
        }
        Ok(())
    }

    /// Writes, bringing over and checks, turn by turn; returns the last turn.
    fn turns(&mut self, act: Act) -> Result<usize, RotateError> {
        let turns = self.written(act)?;
        let last = turns.keys().next_back().copied().unwrap_or(0);
        for (turn, Turn { writes, apps }) in turns {
            for action in writes {
                self.push(act, Phase::Write, turn, action);
            }
            for app in &apps {
                self.push(act, Phase::BringOver, turn, Action::BringOver { app: app.clone() });
            }
            for app in apps {
                self.push(act, Phase::Check, turn, Action::CheckApp { app });
            }
        }
        Ok(last)
    }

    fn written(&self, act: Act) -> Result<BTreeMap<usize, Turn>, RotateError> {
        let mut turns: BTreeMap<usize, Turn> = BTreeMap::new();
        let mut edited: BTreeMap<PathBuf, usize> = BTreeMap::new();
        let mut places = Vec::new();
        for place in &self.secret.write {
            places.extend(self.puts(place, act)?.map(|value| (place, value)));
        }
        // Commands first: what is remote fails more often than a file.
        let (commands, files): (Vec<_>, Vec<_>) =
            places.into_iter().partition(|(place, _)| place.command.is_some());
        for (place, value) in commands {
            let command = place.command.clone().unwrap_or_default();
            turns.entry(0).or_default().writes.push(Action::FeedCommand { command, value });
        }
        for (place, value) in files {
            let Some(path) = &place.file else { return Err(self.not_done("such a place in `write`")) };
            let file = self.base.join(path);
            let apps = self.readers_of(path);
            let turn = apps.iter().map(|app| self.turn_of(app)).min().unwrap_or(0);
            let entry = turns.entry(turn).or_default();
            match (&place.var, edited.get(&file)) {
                (None, _) => entry.writes.push(Action::FillFile { file, value }),
                (Some(var), Some(&at)) => {
                    let edit = self.edit(place, var, value)?;
                    if let Some(Action::EditFile { edits, .. }) = entry.writes.get_mut(at) {
                        edits.push(edit);
                    }
                }
                (Some(var), None) => {
                    let edits = vec![self.edit(place, var, value)?];
                    edited.insert(file.clone(), entry.writes.len());
                    entry.writes.push(Action::EditFile { file, readers: self.dialects(path), edits });
                }
            }
            for app in apps {
                let of_app = turns.entry(self.turn_of(&app)).or_default();
                if !of_app.apps.contains(&app) {
                    of_app.apps.push(app);
                }
            }
        }
        Ok(turns)
    }

    /// What a place gets in this half of the rotation; `None` if it stays.
    fn puts(&self, place: &Place, act: Act) -> Result<Option<Which>, RotateError> {
        match (act, place.holds) {
            (_, Some(Holds::Pending)) => Err(self.not_done("`holds = \"pending\"`")),
            (Act::Change, None | Some(Holds::Current)) => Ok(Some(Which::New)),
            (Act::Change, Some(Holds::Previous)) => Ok(Some(Which::Old)),
            (Act::Retire, Some(Holds::Previous)) => Ok(Some(Which::Nothing)),
            (Act::Retire, None | Some(Holds::Current)) => Ok(None),
        }
    }

    fn edit(&self, place: &Place, var: &str, value: Which) -> Result<EnvEdit, RotateError> {
        // The plan was checked when it was read.
        let spot = place.spot().map_err(|_| self.not_done("such a `part`"))?;
        match spot {
            Spot::UrlUserinfo | Spot::List { .. } => Err(self.not_done("such a `part`")),
            spot => Ok(EnvEdit { var: var.to_owned(), spot, value }),
        }
    }

    fn logins(&self) -> Result<Vec<LoginAt>, RotateError> {
        let Some(server_name) = &self.secret.server else { return Ok(Vec::new()) };
        let Some(server) = self.plan.server(server_name) else { return Ok(Vec::new()) };
        if !matches!(server.kind, Kind::Postgres | Kind::Redis) {
            return Err(self.not_done("a secret of such a server"));
        }
        let at = |node: Option<&String>, url: &str| LoginAt {
            server: server_name.clone(),
            node: node.cloned(),
            user: self.secret.user.clone().unwrap_or_else(|| server.user_of(url)),
        };
        let nodes = server.nodes.iter().flatten();
        let single = server.url.iter().map(|url| at(None, url));
        Ok(single.chain(nodes.map(|(node, url)| at(Some(node), url))).collect())
    }

    fn readers_of(&self, path: &Path) -> Vec<String> {
        self.file(path).map(|file| file.used_by.clone()).unwrap_or_default()
    }

    fn dialects(&self, path: &Path) -> Vec<String> {
        self.file(path).map(|file| file.readers.clone()).unwrap_or_default()
    }

    fn file(&self, path: &Path) -> Option<&crate::plan::PlainFile> {
        let files = &self.plan.file.files;
        files.iter().find(|(name, _)| Path::new(name) == path).map(|(_, file)| file.get_ref())
    }

    fn turn_of(&self, app: &str) -> usize {
        let order = self.secret.order.as_deref().unwrap_or_default();
        order.iter().position(|ordered| ordered == app).unwrap_or(0)
    }

    fn not_done(&self, what: &'static str) -> RotateError {
        RotateError::NotRotated { secret: self.name.to_owned(), what }
    }
}

fn run(command: &crate::plan::Command) -> Action {
    let (inside, command, save) = (command.inside.clone(), command.command.clone(), command.save.clone());
    match save {
        Some(name) => Action::SaveOutput { command, inside, name },
        None => Action::RunCommand { command, inside },
    }
}
