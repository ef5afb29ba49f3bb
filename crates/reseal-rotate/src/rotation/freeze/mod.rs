//! From the plan to the steps of one rotation, resolved once: what exists, in which order, which files and servers.

mod columns;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::action::{Action, EnvEdit, Field, LoginAt, TakesTurns, Which};
use super::record::{Act, Phase, Step};
use super::records;
use crate::error::RotateError;
use crate::plan::{Holds, Kind, Place, Plan, Secret, Spot, Strategy};

/// What is asked for beside the plan.
#[derive(Debug, Clone, Copy)]
pub(super) struct Asked<'a> {
    /// Who asks.
    pub(super) by: &'a str,
    /// Whether the old value is to end at once, with all that it opened.
    pub(super) emergency: bool,
}

/// The steps of a rotation of `name`, in order.
pub(super) fn steps(
    plan: &Plan,
    name: &str,
    secret: &Secret,
    strategy: Strategy,
    asked: Asked<'_>,
) -> Result<Vec<Step>, RotateError> {
    let mut draft = Draft::new(plan, name, secret, strategy, asked.emergency)?;
    if strategy == Strategy::Columns {
        draft.columns()?;
    } else {
        draft.change()?;
        draft.retire()?;
    }
    draft.record(asked.by);
    Ok(draft.steps)
}

/// What holds the value before the current one, between rotations.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Former {
    /// Whether the service still lets it in.
    pub(super) works: bool,
    /// What stands where the plan wants the previous value; `None` where nobody knows.
    pub(super) place: Option<Which>,
}

/// What is true of `name` between rotations, as the steps that would make it so: the current value is the new one, and the
/// one before it the old one.
pub(super) fn standing(
    plan: &Plan,
    name: &str,
    secret: &Secret,
    former: Former,
) -> Result<Vec<Step>, RotateError> {
    let strategy = secret.strategy.unwrap_or(Strategy::InPlace);
    let mut draft = Draft::new(plan, name, secret, strategy, false)?;
    draft.stands(former)?;
    Ok(draft.steps)
}

/// The columns of which a secret is the key, by their names in the plan.
pub(super) fn columns_under(plan: &Plan, name: &str) -> Vec<String> {
    let is_under = |columns: &&str| plan.columns(columns).is_some_and(|columns| columns.key == name);
    plan.column_names().filter(is_under).map(str::to_owned).collect()
}

/// How long the old value stays valid, in seconds, where two are valid at a time.
pub(super) fn overlap(secret: &Secret, steps: &[Step], emergency: bool) -> u64 {
    const DAY: u64 = 86_400;
    if emergency {
        return 0;
    }
    let retires = steps.iter().any(|step| step.act == Act::Retire);
    if retires { secret.overlap.map_or(DAY, |span| span.0.as_secs()) } else { 0 }
}

struct Draft<'a> {
    plan: &'a Plan,
    name: &'a str,
    secret: &'a Secret,
    strategy: Strategy,
    base: PathBuf,
    emergency: bool,
    steps: Vec<Step>,
}

/// One time that places are written and applications brought over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Wave {
    /// Applications learn the new value beside the one in use.
    Announce,
    /// The new value comes into use.
    Change,
    /// The old value is taken away.
    Retire,
    /// Nothing comes and goes: what stands between rotations.
    Stand(Former),
}

impl Wave {
    fn act(self) -> Act {
        if self == Self::Retire { Act::Retire } else { Act::Change }
    }
}

/// What is written in one turn, and who reads it.
#[derive(Default)]
struct Turn {
    writes: Vec<Action>,
    apps: Vec<String>,
}

impl<'a> Draft<'a> {
    fn new(
        plan: &'a Plan,
        name: &'a str,
        secret: &'a Secret,
        strategy: Strategy,
        emergency: bool,
    ) -> Result<Self, RotateError> {
        let not_done = |what| Err(RotateError::NotRotated { secret: name.to_owned(), what });
        match strategy {
            Strategy::InPlace
            | Strategy::Overlap
            | Strategy::Alternate
            | Strategy::Paste
            | Strategy::Columns => {}
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
        Ok(Self { plan, name, secret, strategy, base, emergency, steps: Vec::new() })
    }

    fn push(&mut self, act: Act, phase: Phase, turn: usize, action: Action) {
        self.steps.push(Step::new(act, phase, turn, action));
    }

    /// Whether the old value goes on letting in beside the new one.
    fn has_two(&self) -> bool {
        matches!(self.strategy, Strategy::Overlap | Strategy::Alternate)
    }

    fn change(&mut self) -> Result<(), RotateError> {
        self.before();
        let logins = self.logins()?;
        let has_two = self.has_two();
        for at in &logins {
            let at = at.of(Which::New);
            let action = if has_two { Action::AddLogin(at) } else { Action::SetLogin(at) };
            self.push(Act::Change, Phase::Set, 0, action);
        }
        for at in &logins {
            self.push(Act::Change, Phase::Test, 0, test(at, Which::New, true));
            self.push(Act::Change, Phase::Test, 0, test(at, Which::Old, has_two));
        }
        if !has_two {
            // Nobody gets in with the old value any more; applications are about to be brought over.
            self.end_sessions(Act::Change, 0, &logins);
        }
        let last = self.turns(Wave::Change, 0)?;
        self.after(last, has_two);
        Ok(())
    }

    fn stands(&mut self, former: Former) -> Result<(), RotateError> {
        let logins = self.logins()?;
        for at in &logins {
            self.push(Act::Change, Phase::Test, 0, test(at, Which::New, true));
            self.push(Act::Change, Phase::Test, 0, test(at, Which::Old, former.works));
        }
        for at in logins.iter().filter(|_| self.secret.strategy.is_some()) {
            let at = at.of(Which::New);
            let action = if self.has_two() { Action::AddLogin(at) } else { Action::SetLogin(at) };
            self.steps.push(Step::new(Act::Change, Phase::Set, 0, action));
        }
        let last = self.turns(Wave::Stand(former), 0)?;
        if !self.secret.check.is_empty() {
            self.push(Act::Change, Phase::Check, last, Action::CheckSecret { old_works: former.works });
        }
        Ok(())
    }

    fn before(&mut self) {
        for command in &self.secret.before {
            self.push(Act::Change, Phase::Before, 0, run(command));
        }
    }

    /// The row about it comes last: nothing that follows can fail.
    fn record(&mut self, by: &str) {
        let Some(action) = records::step(self.plan, self.secret, by) else { return };
        let of_change = |step: &Step| step.act == Act::Change;
        let at = self.steps.iter().rposition(of_change).map_or(0, |last| last + 1);
        let turn = self.steps.iter().filter(|step| of_change(step)).map(|step| step.turn).max().unwrap_or(0);
        self.steps.insert(at, Step::new(Act::Change, Phase::After, turn, action));
    }

    /// What follows once every application has the new value.
    fn after(&mut self, turn: usize, old_works: bool) {
        if !self.secret.check.is_empty() {
            self.push(Act::Change, Phase::Check, turn, Action::CheckSecret { old_works });
        }
        for command in &self.secret.after {
            self.push(Act::Change, Phase::After, turn, run(command));
        }
    }

    fn retire(&mut self) -> Result<(), RotateError> {
        if !self.has_two() {
            return Ok(());
        }
        let last = self.turns(Wave::Retire, 0)?;
        let logins = self.logins()?;
        for at in &logins {
            self.push(Act::Retire, Phase::Retire, last, Action::RemoveLogin(at.of(Which::Old)));
        }
        self.end_sessions(Act::Retire, last, &logins);
        for at in &logins {
            self.push(Act::Retire, Phase::Test, last, test(at, Which::New, true));
            self.push(Act::Retire, Phase::Test, last, test(at, Which::Old, false));
        }
        if !self.secret.check.is_empty() {
            self.push(Act::Retire, Phase::Check, last, Action::CheckSecret { old_works: false });
        }
        if self.strategy == Strategy::Alternate || (self.emergency && !logins.is_empty()) {
            // Whoever was not brought over has lost its sessions by now, in an emergency everyone has.
            for app in self.written(Wave::Change)?.into_values().flat_map(|turn| turn.apps) {
                self.push(Act::Retire, Phase::Check, last, Action::CheckApp { app });
            }
        }
        Ok(())
    }

    fn end_sessions(&mut self, act: Act, turn: usize, logins: &[LoginAt]) {
        // Where two roles take turns, the end of the old one ends its sessions anyway.
        for at in logins.iter().filter(|at| self.emergency && at.turn.is_none()) {
            self.steps.push(Step::new(act, Phase::Retire, turn, Action::EndSessions(at.clone())));
        }
    }

    /// Writes, bringing over and checks, turn by turn from this one on; returns the last turn.
    fn turns(&mut self, wave: Wave, first: usize) -> Result<usize, RotateError> {
        let (turns, act) = (self.written(wave)?, wave.act());
        let last = first + turns.keys().next_back().copied().unwrap_or(0);
        for (turn, Turn { writes, apps }) in turns {
            let turn = first + turn;
            for action in writes {
                self.push(act, Phase::Write, turn, action);
            }
            for app in &apps {
                self.push(act, Phase::BringOver, turn, Action::BringOver { app: app.clone() });
            }
            for app in apps {
                self.push(act, Phase::Check, turn, Action::CheckApp { app });
            }
            // Who is first accepts both from here on, or the next one must not be touched.
            if wave == Wave::Change && turn != last && self.has_two() && !self.secret.check.is_empty() {
                self.push(act, Phase::Check, turn, Action::CheckSecret { old_works: true });
            }
        }
        Ok(last)
    }

    fn written(&self, wave: Wave) -> Result<BTreeMap<usize, Turn>, RotateError> {
        let mut turns: BTreeMap<usize, Turn> = BTreeMap::new();
        let mut edited: BTreeMap<PathBuf, usize> = BTreeMap::new();
        let mut places = Vec::new();
        for place in &self.secret.write {
            places.extend(self.puts(place, wave)?.map(|value| (place, value)));
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

    /// What a place gets this time; `None` if it stays.
    fn puts(&self, place: &Place, wave: Wave) -> Result<Option<Which>, RotateError> {
        let holds = place.holds.unwrap_or_default();
        if holds == Holds::Pending && self.secret.strategy != Some(Strategy::Columns) {
            return Err(self.not_done("`holds = \"pending\"`"));
        }
        Ok(match (wave, holds) {
            (Wave::Announce, Holds::Pending) | (Wave::Change | Wave::Stand(_), Holds::Current) => {
                Some(Which::New)
            }
            (Wave::Stand(former), Holds::Previous) => former.place,
            (Wave::Stand(former), Holds::Pending) => former.place.map(|_| Which::Nothing),
            (Wave::Change, Holds::Previous) => Some(Which::Old),
            (Wave::Change, Holds::Pending) | (Wave::Retire, Holds::Previous) => Some(Which::Nothing),
            (Wave::Announce, Holds::Current | Holds::Previous)
            | (Wave::Retire, Holds::Current | Holds::Pending) => None,
        })
    }

    fn edit(&self, place: &Place, var: &str, value: Which) -> Result<EnvEdit, RotateError> {
        // The plan was checked when it was read.
        let spot = place.spot().map_err(|_| self.not_done("such a `part`"))?;
        let takes_turns = self.strategy == Strategy::Alternate;
        if place.field.is_some() && !(takes_turns && place.holds_user()) {
            return Err(self.not_done("such a `field`"));
        }
        let (spot, field) = match spot {
            Spot::List { .. } => return Err(self.not_done("such a `part`")),
            Spot::UrlUserinfo if takes_turns => (Spot::UrlUserinfo, Field::Userinfo),
            // The user stays who it is.
            Spot::UrlUserinfo => (Spot::UrlPassword, Field::Value),
            spot if takes_turns && place.holds_user() => (spot, Field::User),
            spot => (spot, Field::Value),
        };
        Ok(EnvEdit { var: var.to_owned(), spot, value, field, holds: place.holds.unwrap_or_default() })
    }

    fn logins(&self) -> Result<Vec<LoginAt>, RotateError> {
        let Some(server_name) = &self.secret.server else { return Ok(Vec::new()) };
        let Some(server) = self.plan.server(server_name) else { return Ok(Vec::new()) };
        if !matches!(server.kind, Kind::Postgres | Kind::Redis) {
            return Err(self.not_done("a secret of such a server"));
        }
        let turn = self.takes_turns();
        let at = |node: Option<&String>, url: &str| LoginAt {
            server: server_name.clone(),
            node: node.cloned(),
            user: match &turn {
                Some(turn) => turn.active.clone(),
                None => self.secret.user.clone().unwrap_or_else(|| server.user_of(url)),
            },
            turn: turn.clone(),
        };
        let nodes = server.nodes.iter().flatten();
        let single = server.url.iter().map(|url| at(None, url));
        Ok(single.chain(nodes.map(|(node, url)| at(Some(node), url))).collect())
    }

    /// The roles that take turns, as the plan names them: the server says which is in use.
    fn takes_turns(&self) -> Option<TakesTurns> {
        let (Some([active, idle]), Some(owner)) = (self.secret.users.as_deref(), &self.secret.owner_role)
        else {
            return None;
        };
        let [active, idle, owner] = [active, idle, owner].map(String::clone);
        Some(TakesTurns { active, idle, owner }).filter(|_| self.strategy == Strategy::Alternate)
    }

    fn readers_of(&self, path: &Path) -> Vec<String> {
        self.file(path).map(|file| file.used_by.clone()).unwrap_or_default()
    }

    fn dialects(&self, path: &Path) -> Vec<String> {
        self.file(path).map(|file| file.readers.clone()).unwrap_or_default()
    }

    fn file(&self, path: &Path) -> Option<&crate::plan::PlainFile> {
        self.plan.file.file(path)
    }

    fn turn_of(&self, app: &str) -> usize {
        let order = self.secret.order.as_deref().unwrap_or_default();
        order.iter().position(|ordered| ordered == app).unwrap_or(0)
    }

    fn not_done(&self, what: &'static str) -> RotateError {
        RotateError::NotRotated { secret: self.name.to_owned(), what }
    }
}

fn test(at: &LoginAt, value: Which, accepted: bool) -> Action {
    Action::TestLogin { at: at.of(value), value, accepted }
}

fn run(command: &crate::plan::Command) -> Action {
    let (inside, command, save) = (command.inside.clone(), command.command.clone(), command.save.clone());
    match save {
        Some(name) => Action::SaveOutput { command, inside, name },
        None => Action::RunCommand { command, inside },
    }
}
