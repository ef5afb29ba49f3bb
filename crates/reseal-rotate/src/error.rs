//! What can stop a rotation.

use std::path::PathBuf;

use reseal_crypto::ColumnId;
use reseal_crypto::keyring::HandleClash;
use reseal_crypto::random::RandomError;
use reseal_engine::{EngineError, RunId};
use reseal_vault::{NameError, SecretKind, VaultError};

use crate::apps::AppError;
use crate::checks::CheckError;
use crate::http::HttpError;
use crate::plan::PlanError;
use crate::process::ProcessError;
use crate::rotation::{Rotation, State, StepError};
use crate::services::ServiceError;

/// What columns lack whose last run was a rollback.
pub(crate) const UNDONE: &str = "run that is not taken back";

/// What kind of failure this is: what an exit code is made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// It did not work; the state is kept and the same call goes on.
    Failed,
    /// The plan is wrong.
    Usage,
    /// Something that was named does not exist.
    NotFound,
    /// Refused before any change.
    Refused,
    /// Something else stands in the way.
    Conflict,
    /// What was stored is not what was written.
    Damaged,
    /// Neither forward nor back without a person.
    NeedsAttention,
    /// Another process is at it.
    Busy,
    /// A signal stopped it; the state is kept.
    Interrupted,
}

/// What can stop a rotation. Messages name secrets, columns and files, never values.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RotateError {
    /// The plan file cannot be used.
    #[error(transparent)]
    Plan(#[from] PlanError),
    /// The vault failed.
    #[error(transparent)]
    Vault(#[from] VaultError),
    /// The engine stopped.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// A service stands against it.
    #[error(transparent)]
    Service(#[from] ServiceError),
    /// A name of the plan cannot stand in the vault.
    #[error(transparent)]
    Name(#[from] NameError),
    /// A child process could not be run.
    #[error(transparent)]
    Process(#[from] ProcessError),
    /// An application could not be brought over or asked about.
    #[error(transparent)]
    App(#[from] AppError),
    /// A check of the plan makes no sense.
    #[error(transparent)]
    Check(#[from] CheckError),
    /// The world of a rotation cannot be reached at all.
    #[error(transparent)]
    Step(#[from] StepError),
    /// There was no answer to a request.
    #[error(transparent)]
    Http(#[from] HttpError),
    /// The system's generator failed.
    #[error(transparent)]
    Random(#[from] RandomError),
    /// Two keys that values cannot tell apart.
    #[error(transparent)]
    Keys(#[from] HandleClash),
    /// The plan has no columns of this name.
    #[error("the plan has no columns `{name}`")]
    UnknownColumns {
        /// The name.
        name: String,
        /// The names there are.
        known: Vec<String>,
    },
    /// The vault does not hold the key that values are under.
    #[error("the vault holds no current version of key `{secret}`")]
    NoCurrentKey {
        /// The secret.
        secret: String,
    },
    /// There is no new key.
    #[error("key `{secret}` has no pending version to re-encrypt to")]
    NoPendingKey {
        /// The secret.
        secret: String,
        /// What the new key has to be; any kind will do without it.
        kind: Option<SecretKind>,
    },
    /// The new key is the old one.
    #[error("versions {old} and {new} of key `{secret}` are the same key: values would not change hands")]
    SameKey {
        /// The secret.
        secret: String,
        /// Its current version.
        old: u64,
        /// Its pending version.
        new: u64,
    },
    /// The new key is not what the new format takes.
    #[error(
        "version {version} of key `{secret}` is of kind {found}; the new format takes one of kind {kind}"
    )]
    WrongKind {
        /// The secret.
        secret: String,
        /// Its version.
        version: u64,
        /// What it is.
        found: SecretKind,
        /// What it has to be.
        kind: SecretKind,
    },
    /// The new key exists once only.
    #[error("version {version} of key `{secret}` is in no backup")]
    NoSecondCopy {
        /// The secret.
        secret: String,
        /// Its version.
        version: u64,
    },
    /// Values are under the old key.
    #[error("{count} values are under the old key, one of them in {at}")]
    OldValues {
        /// How many.
        count: u64,
        /// The columns and the row of one of them.
        at: String,
    },
    /// The run is part of a rotation.
    #[error("columns `{columns}` belong to a rotation of their key")]
    Rotated {
        /// The columns.
        columns: String,
        /// The secret, by its name in the plan.
        secret: String,
    },
    /// There is no run to do this with.
    #[error("columns `{columns}` have no {what}")]
    NoRun {
        /// The columns.
        columns: String,
        /// What was looked for.
        what: &'static str,
    },
    /// A run in the other direction is not finished.
    #[error("a {unfinished} of columns `{columns}` is not finished")]
    Unfinished {
        /// The columns.
        columns: String,
        /// `run` or `rollback`.
        unfinished: &'static str,
    },
    /// Another run is active on the table.
    #[error("run {run} is active on {table}, and {}", whose(.known_as.as_deref()))]
    OtherRun {
        /// The run.
        run: RunId,
        /// The table.
        table: String,
        /// The columns whose run it is, if the vault knows it.
        known_as: Option<String>,
        /// The columns that were to be re-encrypted.
        columns: String,
    },
    /// A run that the vault knows is gone on with, not superseded.
    #[error("this vault knows run {run}: it belongs to columns `{columns}`")]
    KnownRun {
        /// The run.
        run: RunId,
        /// Its columns.
        columns: String,
    },
    /// The database knows a column by an id that no value opens under.
    #[error(
        "the database knows column {column} by id {id}, which this vault does not know, and no value opens under it"
    )]
    ColumnId {
        /// The column, with its table.
        column: String,
        /// The id.
        id: ColumnId,
    },
    /// A run by this name that is not over is about other columns than the plan means.
    #[error(
        "the last run of `{columns}` is not over, and is about {table} under key `{key}`, which the plan does not mean by this name"
    )]
    OtherColumns {
        /// The columns, by their name in the plan.
        columns: String,
        /// The table of the run.
        table: String,
        /// The key of the run.
        key: String,
    },
    /// The plan asks for something that this version does not do, and that may not be left out silently.
    #[error("columns `{columns}` ask for `{field}`, which this version does not do")]
    NotDone {
        /// The columns.
        columns: String,
        /// The field of the plan.
        field: &'static str,
    },
    /// A server of the plan cannot be used for columns.
    #[error("server `{server}`: {reason}")]
    Server {
        /// The server.
        server: String,
        /// Why not.
        reason: &'static str,
    },
    /// The plan has no secret of this name.
    #[error("the plan has no secret `{name}`")]
    UnknownSecret {
        /// The name.
        name: String,
        /// The names there are.
        known: Vec<String>,
    },
    /// There is no value to rotate away from.
    #[error("the vault holds no current version of `{secret}`")]
    NoCurrentValue {
        /// The secret.
        secret: String,
    },
    /// The value comes from a person, and none came.
    #[error("a new value of `{secret}` has to be brought")]
    NoValue {
        /// The secret.
        secret: String,
        /// How a person gets one.
        how: Option<String>,
    },
    /// The new value is none that may be used.
    #[error("`{secret}`: {why}")]
    BadValue {
        /// The secret.
        secret: String,
        /// Why not.
        why: &'static str,
    },
    /// The plan asks for something that this version does not rotate, and that may not be left out silently.
    #[error("`{secret}` asks for {what}, which this version does not rotate")]
    NotRotated {
        /// The secret.
        secret: String,
        /// What it asks for.
        what: &'static str,
    },
    /// The last rotation of the secret is not over.
    #[error("the last rotation of `{secret}` is not over: {state}")]
    Open {
        /// The secret, by its name in the plan.
        secret: String,
        /// Where it stands.
        state: String,
        /// What to do about it.
        next: &'static str,
        /// Whether a person is needed.
        is_parked: bool,
        /// Whether the old value was to end at once.
        in_emergency: bool,
    },
    /// A rehearsal found what would stand in the way; nothing was changed.
    #[error("`{secret}`: {step}: {why}")]
    Rehearsal {
        /// The secret.
        secret: String,
        /// The step.
        step: String,
        /// What stands in its way.
        why: String,
        /// What is safe to do next.
        hint: Option<String>,
    },
    /// There is no rotation to do this with.
    #[error("`{secret}` has no rotation to {what}")]
    NoRotation {
        /// The secret.
        secret: String,
        /// What was to be done.
        what: &'static str,
    },
    /// The old value has ended, or came back already.
    #[error("the last rotation of `{secret}` cannot be rolled back any more")]
    NothingToRollBack {
        /// The secret.
        secret: String,
    },
    /// A person took the place of the state machine.
    #[error("the last rotation of `{secret}` was abandoned: nothing is left to go on with")]
    Abandoned {
        /// The secret.
        secret: String,
    },
    /// The rotation is not to be given up.
    #[error("the rotation of `{secret}` is not to be abandoned: {why}")]
    NotAbandoned {
        /// The secret, by its name in the plan.
        secret: String,
        /// Why.
        why: &'static str,
    },
    /// The rotation is over.
    #[error("the last rotation of `{secret}` is over: there is nothing to give up")]
    NothingToAbandon {
        /// The secret, by its name in the plan.
        secret: String,
    },
    /// There are not two values.
    #[error("no rotation of `{secret}` waits for the end of its old value")]
    NothingToRetire {
        /// The secret.
        secret: String,
    },
    /// Something else became current while two values worked: it may be the one that would end.
    #[error("version {to}, which the rotation of `{name}` brought out, is not the current one any more")]
    NotCurrent {
        /// The secret, by its name in the plan.
        name: String,
        /// The secret, by its name in the vault.
        secret: String,
        /// The version.
        to: u64,
    },
    /// Another process went on with the rotation.
    #[error("another process changed the rotation of `{secret}` meanwhile")]
    Overtaken {
        /// The secret.
        secret: String,
    },
    /// Something else became current while a sync was not over.
    #[error("version {version}, which the sync of `{name}` brings out, is not the current one any more")]
    SyncOvertaken {
        /// The secret, by its name in the plan.
        name: String,
        /// The version.
        version: u64,
    },
    /// Another process drives rotations of this vault.
    #[error("another process rotates secrets of this vault")]
    Driven,
    /// A signal stopped it between two steps.
    #[error("the rotation of `{secret}` was interrupted; its state is kept")]
    Interrupted {
        /// The secret.
        secret: String,
        /// Its name in the plan.
        name: String,
        /// What goes on with it.
        next: &'static str,
    },
    /// A file or directory beside the plan or the vault cannot be used.
    #[error("cannot use {}", path.display())]
    Directory {
        /// Which.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The vault's record of a run cannot be read by this version.
    #[error("the vault's record of run {run} cannot be read")]
    Record {
        /// The run.
        run: String,
    },
}

impl RotateError {
    /// That the last rotation of a secret is not over.
    pub(crate) fn open(rotation: &Rotation) -> Self {
        let (state, next) = match (&rotation.attention, rotation.state) {
            (Some(why), _) => (format!("it needs attention: {why}"), "rotate resume"),
            (None, State::Overlap) => ("the old value still works".to_owned(), "rotate retire"),
            (None, state) => (state.name().to_owned(), "rotate resume"),
        };
        let is_parked = rotation.attention.is_some();
        Self::Open { secret: rotation.name.clone(), state, next, is_parked, in_emergency: false }
    }

    /// What kind of failure this is; `None` where the vault's or the engine's own error says it.
    pub fn kind(&self) -> Option<ErrorKind> {
        let kind = match self {
            Self::Vault(_) | Self::Engine(_) => return None,
            Self::Service(error) => error.kind(),
            Self::Plan(_) | Self::Name(_) | Self::Check(_) | Self::Server { .. } => ErrorKind::Usage,
            Self::UnknownColumns { .. } | Self::NoRun { .. } | Self::NoCurrentKey { .. } => {
                ErrorKind::NotFound
            }
            Self::NoPendingKey { .. }
            | Self::WrongKind { .. }
            | Self::SameKey { .. }
            | Self::NoSecondCopy { .. }
            | Self::NotDone { .. }
            | Self::ColumnId { .. }
            | Self::Rotated { .. }
            | Self::Keys(_) => ErrorKind::Refused,
            Self::Unfinished { .. }
            | Self::OtherColumns { .. }
            | Self::Overtaken { .. }
            | Self::SyncOvertaken { .. }
            | Self::OtherRun { .. }
            | Self::KnownRun { .. } => ErrorKind::Conflict,
            Self::UnknownSecret { .. } | Self::NoCurrentValue { .. } | Self::NoRotation { .. } => {
                ErrorKind::NotFound
            }
            Self::Open { is_parked: true, .. } | Self::OldValues { .. } => ErrorKind::NeedsAttention,
            Self::NoValue { .. }
            | Self::BadValue { .. }
            | Self::NotRotated { .. }
            | Self::Open { .. }
            | Self::Rehearsal { .. }
            | Self::NothingToRollBack { .. }
            | Self::Abandoned { .. }
            | Self::NotAbandoned { .. }
            | Self::NothingToAbandon { .. }
            | Self::NothingToRetire { .. }
            | Self::NotCurrent { .. } => ErrorKind::Refused,
            Self::Driven => ErrorKind::Busy,
            Self::Interrupted { .. } => ErrorKind::Interrupted,
            Self::Directory { .. } => ErrorKind::Failed,
            Self::Record { .. } => ErrorKind::Damaged,
            Self::Random(_) | Self::Process(_) | Self::App(_) | Self::Step(_) | Self::Http(_) => {
                ErrorKind::Failed
            }
        };
        Some(kind)
    }

    /// What is safe to do next, as a sentence.
    pub fn hint(&self) -> Option<String> {
        let hint = match self {
            Self::Plan(error) => return error.remedy().map(str::to_owned),
            Self::App(error) => return error.hint(),
            Self::Service(error) => return error.hint(),
            Self::UnknownColumns { known, .. } if known.is_empty() => "the plan has no [columns.NAME] yet".into(),
            Self::UnknownColumns { known, .. } => format!("the plan has: {}", known.join(", ")),
            Self::NoCurrentKey { secret } => {
                format!("store the key that the values are under now: `reseal put {secret}`")
            }
            Self::NoPendingKey { secret, kind } => {
                let kind = kind.map(|kind| format!(" --kind {kind}")).unwrap_or_default();
                format!(
                    "make one with `reseal generate {secret}{kind} --pending`, or bring one with `reseal put {secret}{kind} --pending`"
                )
            }
            Self::SameKey { secret, .. } => format!(
                "drop it with `reseal discard {secret}`, then make another with `reseal generate {secret} --pending`"
            ),
            Self::WrongKind { secret, kind, .. } => format!(
                "drop it with `reseal discard {secret}`, then make one with `reseal generate {secret} --kind {kind} --pending`"
            ),
            Self::NoSecondCopy { .. } => {
                "make a backup on another disk with `reseal backup create FILE`, or let `reseal rotate` make it with --backup FILE, or waive it with --no-backup REASON"
                    .into()
            }
            Self::UnknownSecret { known, .. } if known.is_empty() => {
                "the plan has no [secrets.\"NAME\"] yet".into()
            }
            Self::UnknownSecret { known, .. } => format!("the plan has: {}", known.join(", ")),
            Self::NoCurrentValue { secret } => {
                format!("store the value that is in use now: `reseal put {secret}`")
            }
            Self::NoValue { how: Some(how), .. } => how.clone(),
            Self::NoValue { .. } => "give it by prompt, by standard input (`-` behind the name), --value-file or --value-fd".into(),
            Self::Open { secret, next: next @ "rotate retire", in_emergency: true, .. } => format!(
                "fastest: `reseal {next} {secret} -y` ends the old value; where the new one leaked too, `reseal rotate {secret} --emergency` after it"
            ),
            Self::Open { secret, in_emergency: true, .. } => format!(
                "fastest: `reseal rotate rollback {secret} -y`, then `reseal rotate {secret} --emergency`"
            ),
            Self::Open { secret, next: next @ "rotate retire", .. } => {
                format!("end the old value first: `reseal {next} {secret}`")
            }
            Self::Open { secret, next, .. } => {
                format!("finish it with `reseal {next} {secret}`, or take it back with `reseal rotate rollback {secret}`")
            }
            Self::Interrupted { name, next, .. } => {
                format!("go on with `reseal {next} {name}`, or take it back with `reseal rotate rollback {name}`")
            }
            Self::Rehearsal { hint, .. } => return hint.clone(),
            Self::NotAbandoned { secret, .. } => {
                format!("mend what stands in the way, then `reseal rotate resume {secret}`, or `reseal rotate rollback {secret}`")
            }
            Self::OtherColumns { .. } => {
                "if they are the same columns, let the plan name table and key as the run does; if another plan with the same vault means others by the name, give these another one".into()
            }
            Self::NotCurrent { name, secret, to } => format!(
                "make it current again with `reseal revert {secret} --to {to} --vault-only` and `reseal sync {name}`, then end the old value; or take the rotation back with `reseal rotate rollback {name}`"
            ),
            Self::SyncOvertaken { name, .. } => format!(
                "take it back with `reseal rotate rollback {name}`; then `reseal sync {name}` brings out what is current"
            ),
            Self::OldValues { .. } => {
                "whoever wrote them has to be brought over; then `reseal reencrypt resume COLUMNS` puts them under the new key"
                    .into()
            }
            Self::Rotated { secret, .. } => format!(
                "`reseal rotate resume {secret}` goes on with it, `reseal rotate rollback {secret}` takes it back"
            ),
            Self::NoRun { columns, what } if *what == UNDONE => {
                format!("it is taken back already: `reseal reencrypt status {columns}`")
            }
            Self::NoRun { columns, .. } => format!("start one with `reseal reencrypt run {columns}`"),
            Self::Unfinished { columns, .. } => format!("finish it first with `reseal reencrypt resume {columns}`"),
            Self::OtherRun { known_as: Some(columns), .. } | Self::KnownRun { columns, .. } => {
                format!("finish it first with `reseal reencrypt resume {columns}`")
            }
            Self::OtherRun { run, columns, .. } => format!(
                "if no other vault goes on with it, `reseal reencrypt run {columns} --supersede {run}` ends it and keeps what it did"
            ),
            Self::ColumnId { .. } => {
                "restore a newer backup of the vault; if this one is the newest, someone changed that id in the database".into()
            }
            Self::Engine(EngineError::Refused(refusals)) => return refusals.iter().find_map(|refusal| refusal.hint()),
            Self::Engine(EngineError::Quarantine { .. }) => {
                "`reseal reencrypt status` counts them by reason; if they may stay as they are, go on with --max-quarantine N"
                    .into()
            }
            Self::Engine(EngineError::Interrupted) => "the same command goes on where this one stopped".into(),
            _ => return None,
        };
        Some(hint)
    }
}

/// Whose a run is.
fn whose(columns: Option<&str>) -> String {
    match columns {
        Some(columns) => format!("belongs to columns `{columns}`"),
        None => "this vault does not know it: it was restored from an older backup, or another vault began the run".into(),
    }
}
