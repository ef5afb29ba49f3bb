//! What the steps of a rotation do, as they are frozen: names and paths, never values.

use std::fmt;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::plan::{Holds, Spot};

/// Which value of a rotation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Which {
    /// The one that was current when the rotation began.
    Old,
    /// The one that it brings out.
    New,
    /// None: the place is emptied.
    Nothing,
}

/// A variable that gets a value.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EnvEdit {
    /// The variable.
    pub var: String,
    /// Where in it.
    pub spot: Spot,
    /// What it gets.
    pub value: Which,
    /// The value itself, or with it or instead of it the role that it lets in.
    #[serde(default)]
    pub field: Field,
    /// Which version is its own: one that holds the value in use has to hold the old one before the change.
    #[serde(default)]
    pub holds: Holds,
}

/// What of a login stands in a place.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Field {
    /// The value.
    #[default]
    Value,
    /// The role that it lets in.
    User,
    /// Both, with a colon between them.
    Userinfo,
}

/// A login that a value lets in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LoginAt {
    /// The server, by its name in the plan.
    pub server: String,
    /// The node, where it has several.
    pub node: Option<String>,
    /// The role.
    pub user: String,
    /// The roles, where two take turns; `user` is one of them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub turn: Option<TakesTurns>,
}

/// Two login roles, of which each rotation brings the other one into use.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TakesTurns {
    /// The role that the old value lets in.
    pub active: String,
    /// The role that the new value lets in.
    pub idle: String,
    /// The role that owns what both use.
    pub owner: String,
}

impl LoginAt {
    /// The same login, as the role that this value lets in.
    #[must_use]
    pub fn of(&self, value: Which) -> Self {
        let user = match &self.turn {
            None => &self.user,
            Some(turn) if value == Which::Old => &turn.active,
            Some(turn) => &turn.idle,
        };
        Self { user: user.clone(), ..self.clone() }
    }

    /// The same login as every role that a value may let in.
    pub(super) fn everyone(&self) -> Vec<Self> {
        match self.turn {
            None => vec![self.clone()],
            Some(_) => [Which::Old, Which::New].map(|value| self.of(value)).into(),
        }
    }

    /// The turn goes the other way.
    fn swap(&mut self) {
        let Some(turn) = &mut self.turn else { return };
        let user = if self.user == turn.active { &turn.idle } else { &turn.active };
        self.user.clone_from(user);
        std::mem::swap(&mut turn.active, &mut turn.idle);
    }
}

/// A table that gets a row about a rotation, and what that row says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RecordIn {
    /// The server, by its name in the plan.
    pub server: String,
    /// The table.
    pub table: String,
    /// What is rotated.
    pub credential: String,
    /// Who does it.
    pub by: String,
    /// Why.
    pub reason: String,
}

/// What a step does.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "do")]
#[non_exhaustive]
pub enum Action {
    /// Gives a role the new value in the place of the old.
    SetLogin(LoginAt),
    /// Lets the new value in beside the old.
    AddLogin(LoginAt),
    /// Ends the old value, so that only the new one lets in.
    RemoveLogin(LoginAt),
    /// Ends what a role has open: a value that is refused ends nothing that it opened before.
    EndSessions(LoginAt),
    /// Logs in anew with a value, and with a wrong one.
    TestLogin {
        /// Where.
        at: LoginAt,
        /// With which value.
        value: Which,
        /// Whether that lets in.
        accepted: bool,
    },
    /// Puts values into a `.env` file, all by one replacement of it.
    EditFile {
        /// The file, absolute.
        file: PathBuf,
        /// The programs that read it.
        readers: Vec<String>,
        /// What goes where.
        edits: Vec<EnvEdit>,
    },
    /// Puts a value into a file that holds nothing else.
    FillFile {
        /// The file, absolute.
        file: PathBuf,
        /// What goes in.
        value: Which,
    },
    /// Hands a value to a command on its standard input.
    FeedCommand {
        /// Program and arguments.
        command: Vec<String>,
        /// What it is handed.
        value: Which,
    },
    /// Runs a command of the plan, once.
    RunCommand {
        /// Program and arguments.
        command: Vec<String>,
        /// The compose service in which it runs.
        inside: Option<String>,
    },
    /// Runs a command of the plan and keeps what it writes as a snapshot in the vault.
    SaveOutput {
        /// Program and arguments.
        command: Vec<String>,
        /// The compose service in which it runs.
        inside: Option<String>,
        /// The name of the snapshot.
        name: String,
    },
    /// Copies the vault, so that a new key exists twice before anything is sealed under it.
    BackUp {
        /// The copy, absolute; beside it where the name is taken by a copy that was broken off.
        file: PathBuf,
    },
    /// Lets applications write under the new key: from here on, taking it back is for the engine.
    AdmitKey {
        /// The columns, by their name in the plan.
        columns: String,
    },
    /// Puts every value of encrypted columns under the new key.
    Reencrypt {
        /// The columns, by their name in the plan.
        columns: String,
        /// The applications that do not run meanwhile.
        stopped: Vec<String>,
    },
    /// Shows that no value of encrypted columns is under the old key any more.
    ProveColumns {
        /// The columns, by their name in the plan.
        columns: String,
    },
    /// Writes a row about the rotation into a table.
    Record(RecordIn),
    /// Stops an application.
    StopApp {
        /// By its name in the plan.
        app: String,
    },
    /// Starts an application that was stopped.
    StartApp {
        /// By its name in the plan.
        app: String,
    },
    /// Makes an application take what its files hold now.
    BringOver {
        /// By its name in the plan.
        app: String,
    },
    /// Checks an application.
    CheckApp {
        /// By its name in the plan.
        app: String,
    },
    /// Does the checks of the secret itself.
    CheckSecret {
        /// Whether the old value has to pass them too; otherwise it must fail where a check tells values apart.
        old_works: bool,
    },
}

impl Action {
    /// Whether it only looks: it can be repeated, needs no undo and may be broken off.
    pub fn is_proof(&self) -> bool {
        matches!(
            self,
            Self::TestLogin { .. }
                | Self::CheckApp { .. }
                | Self::CheckSecret { .. }
                | Self::ProveColumns { .. }
        )
    }

    /// The columns that it puts under a key.
    pub fn columns(&self) -> Option<&str> {
        match self {
            Self::AdmitKey { columns } | Self::Reencrypt { columns, .. } => Some(columns),
            _ => None,
        }
    }

    /// The login that it concerns.
    pub fn login(&self) -> Option<&LoginAt> {
        match self {
            Self::SetLogin(at)
            | Self::AddLogin(at)
            | Self::RemoveLogin(at)
            | Self::EndSessions(at)
            | Self::TestLogin { at, .. } => Some(at),
            _ => None,
        }
    }

    /// Where it concerns two roles that take turns, the turn goes the other way.
    pub(super) fn swap_turn(&mut self) {
        if let Self::SetLogin(at) | Self::AddLogin(at) | Self::RemoveLogin(at) | Self::TestLogin { at, .. } =
            self
        {
            at.swap();
        }
    }

    /// Whether it is not undone but done again once what it reads is back.
    pub fn follows_files(&self) -> bool {
        matches!(self, Self::BringOver { .. })
    }

    /// Whether it writes a place that applications read.
    pub fn is_write(&self) -> bool {
        matches!(self, Self::EditFile { .. } | Self::FillFile { .. } | Self::FeedCommand { .. })
    }
}

impl fmt::Display for LoginAt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} at {}", self.user, self.server)?;
        self.node.as_ref().map_or(Ok(()), |node| write!(f, " ({node})"))
    }
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::SetLogin(at) => write!(f, "set the value of {at}"),
            Self::AddLogin(at) => write!(f, "let the new value in as {at}"),
            Self::RemoveLogin(at) => write!(f, "end the old value of {at}"),
            Self::EndSessions(at) => write!(f, "end the sessions of {at}"),
            Self::TestLogin { at, value, accepted } => {
                let value = if *value == Which::Old { "old" } else { "new" };
                let wanted = if *accepted { "accepted" } else { "refused" };
                write!(f, "log in as {at}: {value} value {wanted}")
            }
            Self::EditFile { file, edits, .. } => {
                let names: Vec<_> = edits.iter().map(|edit| edit.var.as_str()).collect();
                write!(f, "write {} in {}", names.join(", "), file.display())
            }
            Self::FillFile { file, .. } => write!(f, "write {}", file.display()),
            Self::FeedCommand { command, .. } => write!(f, "hand it to `{}`", program(command)),
            Self::RunCommand { command, .. } => write!(f, "run `{}`", program(command)),
            Self::SaveOutput { command, name, .. } => {
                write!(f, "keep what `{}` writes as {name}", program(command))
            }
            Self::BackUp { file } => write!(f, "copy the vault to {}", file.display()),
            Self::AdmitKey { columns } => write!(f, "let {columns} be written under the new key"),
            Self::Reencrypt { columns, .. } => write!(f, "re-encrypt {columns}"),
            Self::ProveColumns { columns } => write!(f, "find nothing of {columns} under the old key"),
            Self::Record(at) => write!(f, "write a row into {}", at.table),
            Self::StopApp { app } => write!(f, "stop {app}"),
            Self::StartApp { app } => write!(f, "start {app}"),
            Self::BringOver { app } => write!(f, "bring over {app}"),
            Self::CheckApp { app } => write!(f, "check {app}"),
            Self::CheckSecret { .. } => f.write_str("check with the value"),
        }
    }
}

fn program(command: &[String]) -> &str {
    command.first().map_or("", String::as_str)
}
