//! What looking at one thing of which the plan says something comes to.

/// What was looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Subject {
    /// A rotation or a sync that is not over.
    Rotation,
    /// The current value at its service, and a wrong one.
    Login,
    /// The value before, at its service.
    OldValue,
    /// The right to change the value there.
    Rights,
    /// A variable, or a file that holds nothing but a value.
    File,
    /// A command that stores values elsewhere.
    Command,
    /// What a running application has.
    Process,
    /// A check of the plan.
    Check,
    /// The plan says nothing that could be looked at.
    Nothing,
}

impl Subject {
    /// The word in reports.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Rotation => "rotation",
            Self::Login => "login",
            Self::OldValue => "old value",
            Self::Rights => "rights",
            Self::File => "file",
            Self::Command => "command",
            Self::Process => "process",
            Self::Check => "check",
            Self::Nothing => "-",
        }
    }
}

/// Whether it is as the plan and the vault say.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Truth {
    /// It is.
    Holds,
    /// It cannot be seen from here.
    Unseen,
    /// It is not.
    Differs,
    /// Nothing is known: what could tell is not reached.
    Unknown,
    /// Between two values, until somebody goes on or back.
    Between,
}

impl Truth {
    /// The word in reports.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Holds => "holds",
            Self::Unseen => "unseen",
            Self::Differs => "differs",
            Self::Unknown => "unknown",
            Self::Between => "in between",
        }
    }
}

/// One line of a look at everything.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// What was looked at.
    pub subject: Subject,
    /// Which, as the plan names it.
    pub target: String,
    /// Whether it is as it should be.
    pub truth: Truth,
    /// What was seen, scrubbed of values.
    pub saw: String,
    /// Whether it is an old value that should have ended.
    pub(super) lingers: bool,
}

impl Finding {
    /// A line.
    pub fn new(subject: Subject, target: impl Into<String>, truth: Truth, saw: impl Into<String>) -> Self {
        Self { subject, target: target.into(), truth, saw: saw.into(), lingers: false }
    }

    /// The same, of an old value that should have ended.
    pub(super) fn lingering(self) -> Self {
        Self { lingers: true, ..self }
    }
}
