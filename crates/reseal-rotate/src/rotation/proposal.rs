//! A rotation before it begins: what it would do, rehearsed, and then frozen together with the new value.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use futures_util::future::LocalBoxFuture;
use reseal_crypto::hash::sha256;
use reseal_crypto::{KeyRef, OsRandom, Random, SecretBytes};
use reseal_engine::EngineError;
use reseal_vault::{
    Event, Expect, Label, NewVersion, Secret as VaultSecret, SecretKind, SecretName, ValueFormat, ValueSize,
    Vault, VaultError, VersionSelector, generate,
};

use super::action::{Action, Which};
use super::connector::{StepError, Values};
use super::freeze::{self, Asked};
use super::left::left_over;
use super::outside::Outside;
use super::record::{Act, Phase, Rotation, Start, Step, rotations_of, turn};
use crate::columns::{ColumnRun, find_second_copy, needed_kind, waiver};
use crate::error::RotateError;
use crate::plan::{Generate, Plan, Secret, Strategy};
use crate::services::wrong_value;
use crate::vault_cell::VaultCell;

/// How often a value is drawn until it has every class of characters that the plan requires.
const DRAWS_MAX: usize = 1_000;

/// Where the new value comes from.
#[derive(Debug)]
pub enum NewValue {
    /// The pending version if there is one, else drawn by the plan's rule.
    Drawn,
    /// From outside.
    Imposed(SecretBytes),
}

/// Where the second copy of a new key is to be, where there is none yet.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum KeyCopy {
    /// It has to be there already.
    #[default]
    Needed,
    /// In a backup of the vault, made before anything is sealed under the key.
    BackUp(PathBuf),
    /// Nowhere, for this reason.
    Waived(String),
}

/// What a rotation would do.
#[derive(Debug)]
pub struct Proposal {
    start: Start,
    secret: SecretName,
    kind: SecretKind,
    from: u64,
    /// The version that is pending already, if it is that.
    pending: Option<u64>,
    is_drawn: bool,
    number: u64,
    values: Values,
    superseded: Option<Rotation>,
    /// Where the secret is a key of columns.
    runs: Vec<ColumnRun>,
    /// The version of a new key of columns that exists once only.
    at_risk: Option<u64>,
    waived: Option<String>,
}

impl Proposal {
    /// What a rotation of `name` would do: in an emergency the old value ends at once, with all that it opened. Releases
    /// the current value; changes nothing.
    ///
    /// # Errors
    ///
    /// [`RotateError::UnknownSecret`], [`RotateError::NoCurrentValue`], [`RotateError::Open`] for a secret whose last
    /// rotation is not over, [`RotateError::NotRotated`], [`RotateError::NoValue`], [`RotateError::BadValue`]; for a key of
    /// columns those of [`ColumnRun::prepare`].
    pub async fn draft(
        plan: &Plan,
        vault: &VaultCell<'_>,
        name: &str,
        new: NewValue,
        emergency: bool,
        random: &dyn Random,
    ) -> Result<Self, RotateError> {
        let settings = plan.secret(name)?;
        let full_name = plan.secret_name(name);
        let mut rotations = vault.with(|vault| rotations_of(vault, &full_name))?;
        if let Some(open) = rotations.last().filter(|last| last.is_open()) {
            return Err(match RotateError::open(open) {
                RotateError::Open { secret, state, next, is_parked, .. } => {
                    RotateError::Open { secret, state, next, is_parked, in_emergency: emergency }
                }
                other => other,
            });
        }
        let secret: SecretName = full_name.parse()?;
        let strategy = settings.strategy.ok_or_else(|| RotateError::NotRotated {
            secret: name.to_owned(),
            what: "a secret without `strategy`",
        })?;
        let by = vault.with(|vault| vault.operator().to_owned());
        let steps = freeze::steps(plan, name, &settings, strategy, Asked { by: &by, emergency })?;
        let missing = || RotateError::NoCurrentValue { secret: secret.to_string() };
        let info = match vault.with(|vault| vault.show(&secret)) {
            Err(VaultError::NotFound { .. }) => return Err(missing()),
            other => other?,
        };
        let from = info.labels.get(Label::Current).ok_or_else(missing)?;
        let released = |version| vault.with(|vault| vault.get(&secret, VersionSelector::Number(version)));
        let old = released(from)?;
        let (new, pending, is_drawn) = match new {
            NewValue::Imposed(value) => (value, None, false),
            NewValue::Drawn => match info.labels.get(Label::Pending) {
                Some(number) => (released(number)?.value, Some(number), false),
                None if strategy == Strategy::Paste => {
                    return Err(RotateError::NoValue { secret: name.to_owned(), how: settings.how.clone() });
                }
                None => (draw(name, settings.generate.as_ref(), random)?, None, true),
            },
        };
        check_value(name, &settings, &old.value, &new)?;
        let Drafted { kind, runs, at_risk } = if strategy == Strategy::Columns {
            let to = pending.unwrap_or(info.latest + 1);
            let key = VaultSecret { version: to, value: new.clone(), ..old.clone() };
            draft_runs(plan, vault, name, (&old, key), pending.is_some()).await?
        } else {
            Drafted { kind: old.kind, runs: Vec::new(), at_risk: None }
        };
        let left = vault.with(|vault| left_over(vault, &secret, &rotations, &[&old.value, &new]))?;
        let values = Values::new(old.value, new).with_left(left).of_turn(turn(&steps));
        let last = rotations.pop();
        Ok(Self {
            start: Start {
                secret: secret.to_string(),
                name: name.to_owned(),
                strategy,
                reason: None,
                is_sync: false,
                stands: Vec::new(),
                emergency,
                overlap: freeze::overlap(&settings, &steps, emergency),
                plan_digest: digest(plan)?,
                steps,
                baselines: BTreeMap::new(),
            },
            kind,
            secret,
            from,
            pending,
            is_drawn,
            number: last.as_ref().map_or(0, |last| last.number) + 1,
            values,
            superseded: last,
            runs,
            at_risk,
            waived: None,
        })
    }

    /// Says where the second copy of a new key comes from, where there is none yet; nothing else needs one.
    ///
    /// # Errors
    ///
    /// [`RotateError::NoSecondCopy`], [`RotateError::Directory`].
    pub fn set_key_copy(&mut self, copy: &KeyCopy) -> Result<(), RotateError> {
        let Some(version) = self.at_risk else { return Ok(()) };
        match copy {
            KeyCopy::Needed => {
                return Err(RotateError::NoSecondCopy { secret: self.secret.to_string(), version });
            }
            KeyCopy::BackUp(file) => {
                let action = Action::BackUp { file: absolute(file)? };
                self.start.steps.insert(0, Step::new(Act::Change, Phase::Before, 0, action));
            }
            KeyCopy::Waived(reason) => self.waived = Some(reason.clone()),
        }
        Ok(())
    }

    /// Shows that every step would work, and changes nothing.
    ///
    /// # Errors
    ///
    /// [`RotateError::Rehearsal`] with the first step that something stands in the way of.
    pub fn rehearse<'a>(
        &'a mut self,
        outside: &'a mut Outside<'_>,
    ) -> LocalBoxFuture<'a, Result<(), RotateError>> {
        Box::pin(async move {
            self.find_turn(outside).await?;
            for run in &self.runs {
                let name = &run.record().columns;
                let refused = |why: String| RotateError::Rehearsal {
                    secret: self.start.name.clone(),
                    step: format!("re-encrypt {name}"),
                    why,
                    hint: None,
                };
                let survey = run.survey().await?;
                if !survey.refusals().is_empty() {
                    return Err(refused(EngineError::Refused(survey.refusals().to_vec()).to_string()));
                }
                let warnings = survey.facts.warnings.iter();
                outside.note(warnings.map(|warning| format!("{name}: {warning}")));
            }
            for step in &self.start.steps {
                let rehearsed = outside.rehearse(&step.action, &self.values).await;
                rehearsed.map_err(|why| self.start.not_rehearsed(&step.action, why))?;
            }
            self.start.baselines.clone_from(outside.baselines());
            Ok(())
        })
    }

    /// Which of two roles that take turns is in use, only the server knows: the one that the current value lets in.
    async fn find_turn(&mut self, outside: &mut Outside<'_>) -> Result<(), RotateError> {
        let found = self.start.steps.iter().find(|step| matches!(step.action, Action::AddLogin(_)));
        let Some((action, at)) = found.and_then(|step| Some((&step.action, step.action.login()?))) else {
            return Ok(());
        };
        if at.turn.is_none() {
            return Ok(());
        }
        let is_turned = outside.is_turned(at, Which::Old, &self.values.old).await;
        // Where neither is let in, the rehearsal of the step says so.
        if is_turned.map_err(|why| self.start.not_rehearsed(action, why))? == Some(true) {
            self.start.steps.iter_mut().for_each(|step| step.action.swap_turn());
            self.values = self.values.clone().of_turn(turn(&self.start.steps));
        }
        Ok(())
    }

    /// The steps that it would take.
    pub fn steps(&self) -> &[Step] {
        &self.start.steps
    }

    /// The secret, by its name in the vault.
    pub fn secret(&self) -> &SecretName {
        &self.secret
    }

    /// The secret, by its name in the plan.
    pub fn name(&self) -> &str {
        &self.start.name
    }

    /// How it changes.
    pub fn strategy(&self) -> Strategy {
        self.start.strategy
    }

    /// How long the old value would stay valid, in seconds.
    pub fn overlap(&self) -> u64 {
        self.start.overlap
    }

    /// Whether a new key of columns exists once only, so that [`set_key_copy`](Self::set_key_copy) has to be told about it.
    pub fn needs_key_copy(&self) -> bool {
        self.at_risk.is_some()
    }

    /// The version that is current.
    pub fn from(&self) -> u64 {
        self.from
    }

    /// Whether the value was drawn for it, so that another could be.
    pub fn is_drawn(&self) -> bool {
        self.is_drawn
    }

    /// Old and new.
    pub fn values(&self) -> &Values {
        &self.values
    }

    /// Freezes it: the pending version and the record of what it is for become durable together, and nothing outside has
    /// changed yet.
    ///
    /// # Errors
    ///
    /// [`RotateError::Overtaken`] if another process began one, [`RotateError::Vault`] with a conflict if the secret
    /// changed meanwhile.
    pub fn begin(self, vault: &mut Vault, reason: Option<String>) -> Result<(Rotation, Values), RotateError> {
        let Self { mut start, secret, kind, from, pending, number, values, superseded, .. } = self;
        let (runs, at_risk, waived) = (self.runs, self.at_risk, self.waived);
        for step in &mut start.steps {
            if let (Action::Record(at), Some(reason)) = (&mut step.action, &reason) {
                at.reason.clone_from(reason);
            }
        }
        start.reason = reason;
        let rotation = vault.batch(|batch| {
            let to = match pending {
                Some(pending) => {
                    let labels = batch.labels(&secret)?;
                    if (labels.current, labels.pending) != (Some(from), Some(pending)) {
                        return Err(RotateError::Overtaken { secret: secret.to_string() });
                    }
                    pending
                }
                None => batch.put(
                    &secret,
                    NewVersion {
                        pending: true,
                        expect: Expect::IfVersion(from),
                        changed_at: Some(batch.now()),
                        ..NewVersion::new(kind, values.new.clone())
                    },
                )?,
            };
            // What an earlier rotation kept for its rollback is not needed once there is a newer one.
            if let Some(mut superseded) = superseded {
                superseded.forget_kept();
                superseded.store(batch)?;
            }
            let mut rotation = Rotation::begin(start, number, (from, to), batch.now());
            rotation.store(batch)?;
            if let (Some(_), Some(reason)) = (at_risk, waived) {
                batch.audit(waiver(secret.as_str(), to, &reason))?;
            }
            for run in runs {
                if run.record().keys().is_none_or(|(_, _, planned)| planned != to) {
                    return Err(RotateError::Overtaken { secret: secret.to_string() });
                }
                run.begin_with(batch, &rotation.id())?;
            }
            let event = rotation.event(Event::intent("rotate"));
            Ok((rotation, event))
        })?;
        Ok((rotation, values))
    }
}

impl Rotation {
    /// The values of a rotation that was begun before, with what abandoned ones left.
    ///
    /// # Errors
    ///
    /// [`RotateError::Vault`].
    pub fn values(&self, vault: &mut Vault) -> Result<Values, RotateError> {
        let secret: SecretName = self.secret.parse()?;
        let old = vault.get(&secret, VersionSelector::Number(self.from))?.value;
        let new = vault.get(&secret, VersionSelector::Number(self.to))?.value;
        let old = if self.is_sync && self.from == self.to { wrong_value(&OsRandom)? } else { old };
        let mut left = Vec::new();
        if !self.is_sync {
            let rotations = rotations_of(vault, &self.secret)?;
            left = left_over(vault, &secret, &rotations, &[&old, &new])?;
        }
        Ok(Values::new(old, new).with_left(left).of_turn(turn(&self.steps)))
    }

    /// The current version, which has the value that the rotation brought out: what a person put in its place may be the one
    /// that is to end, or one that was left beside it.
    ///
    /// # Errors
    ///
    /// [`RotateError::NotCurrent`] if another value is current; [`RotateError::Vault`].
    pub fn check_current(&self, vault: &mut Vault, values: &Values) -> Result<u64, RotateError> {
        let Self { name, secret, to, .. } = self;
        let current = self.promoted(vault, values)?;
        current.ok_or_else(|| RotateError::NotCurrent { name: name.clone(), secret: secret.clone(), to: *to })
    }

    /// The current version if it has the value that the rotation brings out: its own, or a copy of that.
    pub(super) fn promoted(&self, vault: &mut Vault, values: &Values) -> Result<Option<u64>, RotateError> {
        let secret: SecretName = self.secret.parse()?;
        let labels = vault.show(&secret)?.labels;
        let Some(current) = labels.current.filter(|_| labels.pending != Some(self.to)) else {
            return Ok(None);
        };
        let is_new =
            current == self.to || vault.get(&secret, VersionSelector::Number(current))?.value == values.new;
        Ok(is_new.then_some(current))
    }

    /// Shows that the end of the old value would work, and changes nothing outside. What the checks of applications
    /// see now is what they are held to afterwards.
    ///
    /// # Errors
    ///
    /// [`RotateError::Rehearsal`] with the first step that something stands in the way of.
    pub async fn rehearse_end(
        &mut self,
        outside: &mut Outside<'_>,
        values: &Values,
    ) -> Result<(), RotateError> {
        outside.forget_baselines();
        for step in self.steps.iter().filter(|step| step.act == Act::Retire) {
            let rehearsed = outside.rehearse(&step.action, values).await;
            rehearsed.map_err(|why| not_rehearsed((&self.name, &self.secret), &step.action, why))?;
        }
        self.set_baselines(outside.baselines());
        Ok(())
    }

    /// Whether the plan file is another than the one that this was frozen from.
    ///
    /// # Errors
    ///
    /// [`RotateError::Directory`] if the plan file cannot be read.
    pub fn plan_changed(&self, plan: &Plan) -> Result<bool, RotateError> {
        Ok(digest(plan)? != self.plan_digest)
    }
}

impl Start {
    pub(super) fn not_rehearsed(&self, action: &Action, why: StepError) -> RotateError {
        not_rehearsed((&self.name, &self.secret), action, why)
    }
}

/// A step of a secret, by its names in the plan and in the vault, that would not work.
fn not_rehearsed((name, secret): (&str, &str), action: &Action, why: StepError) -> RotateError {
    let hint = why.hint(name, secret);
    RotateError::Rehearsal { secret: name.to_owned(), step: action.to_string(), why: why.to_string(), hint }
}

/// The runs that a new key of columns asks for.
struct Drafted {
    kind: SecretKind,
    runs: Vec<ColumnRun>,
    at_risk: Option<u64>,
}

async fn draft_runs(
    plan: &Plan,
    vault: &VaultCell<'_>,
    name: &str,
    (old, mut new): (&VaultSecret, VaultSecret),
    is_stored: bool,
) -> Result<Drafted, RotateError> {
    let columns = freeze::columns_under(plan, name);
    let mut targets = columns.iter().filter_map(|name| plan.columns(name));
    let needed = targets.find_map(|columns| needed_kind(&columns.target()));
    if is_stored {
        let version = VersionSelector::Number(new.version);
        new.kind = vault.with(|vault| vault.version(&new.name, version))?.kind;
        if let Some(kind) = needed.filter(|needed| *needed != new.kind) {
            let (secret, version) = (new.name.to_string(), new.version);
            return Err(RotateError::WrongKind { secret, version, found: new.kind, kind });
        }
    } else {
        new.kind = needed.unwrap_or(old.kind);
    }
    let key = |of: &VaultSecret| KeyRef { secret: of.name.to_string(), version: of.version };
    let mut runs = Vec::new();
    for name in &columns {
        let pair = (key(&new), new.key_material());
        runs.push(ColumnRun::draft_rotation(plan, vault, name, key(old), pair).await?);
    }
    let mut copy = None;
    if is_stored {
        copy = vault.with(|vault| find_second_copy(vault, new.name.as_str(), new.version))?;
    }
    Ok(Drafted { kind: new.kind, runs, at_risk: copy.is_none().then_some(new.version) })
}

fn absolute(file: &Path) -> Result<PathBuf, RotateError> {
    let failed = |source| RotateError::Directory { path: file.to_owned(), source };
    std::path::absolute(file).map_err(failed)
}

pub(super) fn digest(plan: &Plan) -> Result<String, RotateError> {
    let bytes =
        fs::read(&plan.path).map_err(|source| RotateError::Directory { path: plan.path.clone(), source })?;
    Ok(sha256(&bytes).iter().map(|byte| format!("{byte:02x}")).collect())
}

fn draw(name: &str, rule: Option<&Generate>, random: &dyn Random) -> Result<SecretBytes, RotateError> {
    let Some(rule) = rule else {
        return Ok(generate(ValueFormat::default(), ValueSize::default(), random)?);
    };
    let bad = |why| RotateError::BadValue { secret: name.to_owned(), why };
    let format = rule.format.parse().map_err(|_| bad("`generate` names no format"))?;
    let size = match (rule.bytes, rule.length) {
        (Some(bytes), _) => ValueSize::Bytes(bytes.into()),
        (None, Some(length)) => ValueSize::Length(length.into()),
        (None, None) => ValueSize::Default,
    };
    for _ in 0..DRAWS_MAX {
        let value = generate(format, size, random)?;
        if rule.require.iter().all(|class| has_class(&value, class)) {
            return Ok(value);
        }
    }
    Err(bad("`generate` requires classes of characters that its format does not have"))
}

fn has_class(value: &SecretBytes, class: &str) -> bool {
    // EXPOSE: looked at, not kept.
    let mut bytes = value.expose().iter();
    match class {
        "lower" => bytes.any(u8::is_ascii_lowercase),
        "upper" => bytes.any(u8::is_ascii_uppercase),
        "digit" => bytes.any(u8::is_ascii_digit),
        "symbol" => bytes.any(u8::is_ascii_punctuation),
        _ => false,
    }
}

/// What no new value may be, wherever it comes from.
fn check_value(
    name: &str,
    settings: &Secret,
    old: &SecretBytes,
    new: &SecretBytes,
) -> Result<(), RotateError> {
    let bad = |why| Err(RotateError::BadValue { secret: name.to_owned(), why });
    if new == old {
        return bad("the new value is the old one");
    }
    // EXPOSE: counted.
    let characters = new.expose_str().map_or(new.len(), |text| text.chars().count());
    if settings.min.is_some_and(|min| characters < min as usize) {
        return bad("the new value is shorter than `min`");
    }
    if new.is_empty() {
        return bad("the new value is empty");
    }
    Ok(())
}
