//! What a survey of the target finds: reasons to refuse a run, and things to know before it.

use std::fmt;

use crate::ledger::RunId;

/// A reason not to start. Each says what is wrong; [`Refusal::hint`] says what to do.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Refusal {
    /// There is no such table, or no right to see it.
    NoTable(String),
    /// There is no such column.
    NoColumn(String),
    /// The column's type cannot hold ciphertext safely.
    ColumnType {
        /// The column.
        column: String,
        /// Its type.
        found: String,
    },
    /// The plan names other key columns than the table has, or they may be NULL or repeat.
    Key(String),
    /// Row binding needs a row key of integers, text, bytes or UUIDs.
    RowBindingWithoutKey,
    /// The target format would not notice a wrong key or a changed value.
    TargetNotAuthenticated(String),
    /// The source format would not notice a wrong key or a changed value.
    SourceNotAuthenticated(String),
    /// Hardly any sampled value opens under the keys of the plan.
    WrongKey {
        /// The column.
        column: String,
        /// The old key, by the name of its secret.
        secret: String,
        /// Sampled values that are not NULL.
        sampled: u64,
        /// How many of them opened.
        opened: u64,
    },
    /// What the plan says of the formats of a column does not go together.
    Format {
        /// The column.
        column: String,
        /// Why not.
        why: String,
    },
    /// Values open once they are read in an encoding that the plan has to name, because others look like it.
    Encoding {
        /// The column.
        column: String,
    },
    /// Values would not fit after re-encryption.
    TooNarrow {
        /// The column.
        column: String,
        /// Characters it takes.
        limit: u64,
        /// Characters the longest value would need.
        needed: u64,
    },
    /// A CHECK constraint would refuse the new values.
    Check {
        /// The constraint.
        constraint: String,
        /// The column.
        column: String,
    },
    /// Row security hides rows, or may hide them, from this role.
    RowSecurity(String),
    /// The server is a standby.
    Recovery,
    /// Someone set the database or the role to read only, and meant it.
    ReadOnly {
        /// The role, as ALTER ROLE names it.
        role: String,
        /// The database, likewise.
        database: String,
    },
    /// A foreign key that new values would break.
    ForeignKey {
        /// The constraint.
        constraint: String,
        /// The column of the plan.
        column: String,
        /// The table at its other end.
        other: String,
        /// Whether the column is the one referred to.
        is_referenced: bool,
        /// Whether the referring column follows an update of the one referred to.
        cascades: bool,
        /// Whether another plan or another key would do: not within one table, and not from a computed column.
        can_follow: bool,
    },
    /// The server is older than Postgres 14.
    ServerTooOld(String),
    /// A published table without replica identity: its rows cannot be updated.
    ReplicaIdentity(String),
    /// A user rule rewrites updates of the table.
    Rule {
        /// The table.
        relation: String,
        /// The rule.
        rule: String,
    },
    /// The table is of a kind that is not read by blocks: foreign, a view, another access method.
    Kind {
        /// The table.
        relation: String,
        /// What it is.
        found: String,
    },
    /// Missing rights on a leaf table.
    Privilege {
        /// The table.
        relation: String,
        /// The missing right.
        privilege: &'static str,
        /// The role that has not got it, as GRANT names it.
        role: String,
    },
    /// Blocks of the table cannot be read by range on this server.
    NoBlockRange(String),
    /// The table still carries the fence of another run.
    Fence(String),
    /// What the record of runs stands in belongs to a stranger, who could make anything run with our rights.
    SchemaOwner {
        /// The schema or a table of it.
        what: String,
        /// Its owner.
        owner: String,
        /// The role that is connected, as GRANT names it.
        role: String,
    },
    /// Another version of reseal made the record of runs.
    SchemaVersion(String),
    /// A right is missing without which runs cannot be recorded.
    Grant {
        /// The right, as GRANT names it.
        grant: String,
        /// The role that has not got it, likewise.
        role: String,
    },
    /// Another run is active on the table.
    OtherRun {
        /// The table.
        relation: String,
        /// The run.
        run: RunId,
    },
    /// A generated column, which cannot be set.
    Generated(String),
    /// An update that was tried and rolled back failed.
    UpdateFails {
        /// The table.
        relation: String,
        /// What the database says; never a value.
        reason: String,
    },
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoTable(table) => write!(f, "there is no table {table}"),
            Self::NoColumn(column) => write!(f, "there is no column `{column}`"),
            Self::ColumnType { column, found } => write!(f, "column `{column}` has type {found}"),
            Self::Key(why) => write!(f, "the row key does not fit: {why}"),
            Self::RowBindingWithoutKey => {
                write!(f, "binding to the row needs a primary key of integers, text, bytes or uuid")
            }
            Self::TargetNotAuthenticated(format) => {
                write!(f, "{format} does not notice a wrong key, so it is not written")
            }
            Self::SourceNotAuthenticated(format) => {
                write!(f, "{format} does not notice a wrong key, so values could be damaged unseen")
            }
            Self::WrongKey { column, sampled, opened, .. } => write!(
                f,
                "{opened} of {sampled} sampled values of column `{column}` open under the keys of the plan"
            ),
            Self::Format { column, why } => write!(f, "column `{column}`: {why}"),
            Self::Encoding { column } => {
                write!(f, "values of column `{column}` are base64url, which the plan does not say")
            }
            Self::TooNarrow { column, limit, needed } => {
                write!(f, "column `{column}` takes {limit} characters, the new values need {needed}")
            }
            Self::Check { constraint, column } => {
                write!(f, "constraint `{constraint}` would refuse the new values of column `{column}`")
            }
            Self::RowSecurity(relation) => {
                write!(f, "row security may hide rows of {relation} from this role")
            }
            Self::Recovery => write!(f, "the server is in recovery and cannot be written"),
            Self::ReadOnly { .. } => {
                write!(f, "the database or the role is set to read only: default_transaction_read_only is on")
            }
            Self::ForeignKey { constraint, column, other, is_referenced: false, .. } => write!(
                f,
                "column `{column}` refers to {other} by foreign key `{constraint}`, and a value under the new key would equal none there"
            ),
            Self::ForeignKey { constraint, column, other, .. } => write!(
                f,
                "foreign key `{constraint}` of {other} refers to column `{column}`, whose values would change under it"
            ),
            Self::ServerTooOld(version) => write!(f, "Postgres {version} is too old; 14 or later is needed"),
            Self::ReplicaIdentity(relation) => {
                write!(f, "{relation} is published without a replica identity, so it cannot be updated")
            }
            Self::Rule { relation, rule } => write!(f, "rule `{rule}` of {relation} rewrites updates"),
            Self::Kind { relation, found } => write!(f, "{relation} is {found}, which is not re-encrypted"),
            Self::Privilege { relation, privilege, .. } => write!(f, "no {privilege} right on {relation}"),
            Self::NoBlockRange(relation) => write!(f, "{relation} cannot be read by block range here"),
            Self::Fence(constraint) => write!(f, "the fence `{constraint}` of another run is still in place"),
            Self::SchemaOwner { what, owner, .. } => {
                write!(
                    f,
                    "{what} belongs to {owner}, who could make anything run with the rights of this role"
                )
            }
            Self::SchemaVersion(found) => {
                write!(f, "schema reseal has version {found}, which this reseal does not know")
            }
            Self::Grant { grant, .. } => {
                write!(f, "the role has no right to {grant}, so runs cannot be recorded")
            }
            Self::OtherRun { relation, run } => write!(f, "run {run} is active on {relation}"),
            Self::Generated(column) => write!(f, "column `{column}` is generated and cannot be set"),
            Self::UpdateFails { relation, reason } => write!(f, "an update of {relation} fails: {reason}"),
        }
    }
}

impl Refusal {
    /// Whether someone else's run is in the way, rather than something about the table or the plan.
    pub fn is_conflict(&self) -> bool {
        matches!(self, Self::OtherRun { .. })
    }

    /// What to do about it, as a sentence.
    pub fn hint(&self) -> Option<String> {
        let hint = match self {
            Self::NoTable(_) | Self::NoColumn(_) => {
                "check the name, its schema, and the rights of the role; names stand in the plan without the quotes of SQL".into()
            }
            Self::ColumnType { .. } => "use a column of type text, varchar or bytea".into(),
            Self::RowBindingWithoutKey => "use binding `column`, or add a primary key".into(),
            Self::WrongKey { secret, .. } => format!(
                "if the current version is not the key that the values are under (`reseal history {secret}`), store that one with `reseal put {secret} --vault-only`; if it is, look at `from`"
            ),
            Self::Encoding { .. } => {
                "name it: `encoding = \"base64url\"`, or `\"base64url-unpadded\"` where values do not end in `=`".into()
            }
            Self::TooNarrow { column, needed, .. } => {
                format!(
                    "widen the column first: ALTER TABLE … ALTER COLUMN \"{column}\" TYPE varchar({needed})"
                )
            }
            Self::RowSecurity(_) => "connect as a role with BYPASSRLS, or as the owner of the table if its row security is not forced".into(),
            Self::Recovery => "connect to the primary server".into(),
            Self::ReplicaIdentity(relation) => {
                format!("ALTER TABLE {relation} REPLICA IDENTITY FULL, or add a primary key")
            }
            Self::ReadOnly { role, database } => format!(
                "if this run may write all the same: ALTER ROLE {role} IN DATABASE {database} SET default_transaction_read_only = off"
            ),
            Self::ForeignKey { constraint, can_follow: false, .. } => {
                format!("drop `{constraint}` for the run, and make it again afterwards")
            }
            Self::ForeignKey { column, other, is_referenced: false, cascades, .. } => {
                let first = if *cascades { "" } else { ", and make the foreign key ON UPDATE CASCADE first" };
                format!("leave `{column}` out of the plan and re-encrypt {other}, which it follows{first}")
            }
            Self::ForeignKey { other, .. } => {
                format!("make the foreign key ON UPDATE CASCADE, so that {other} follows, or drop it")
            }
            Self::Privilege { relation, privilege, role } => {
                format!("GRANT {privilege} ON {relation} TO {role}")
            }
            Self::Fence(_) => "retire or undo the other run first".into(),
            Self::UpdateFails { .. } => {
                "if a trigger, CHECK or index calls a function of the application, drop it for the run".into()
            }
            Self::SchemaOwner { what, owner, role } => {
                let kind = if what.contains('.') { "TABLE" } else { "SCHEMA" };
                let name = what.strip_prefix("schema ").unwrap_or(what);
                format!("connect as {owner}, GRANT {owner} TO {role}, or ALTER {kind} {name} OWNER TO {role}")
            }
            Self::SchemaVersion(_) => "use the version of reseal that made it".into(),
            Self::Grant { grant, role } => format!("GRANT {grant} TO {role}"),
            Self::OtherRun { run, .. } => {
                format!(
                    "end it with the vault that began it; if that vault is lost, begin a new run with --supersede {run}"
                )
            }
            Self::NoBlockRange(_) => "set enable_tidscan = on for the role".into(),
            _ => return None,
        };
        Some(hint)
    }
}

/// Something to know before a run; it does not stop one.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Warning {
    /// The rights of the role exceed what the run needs: triggers of the owner run with them.
    Superuser {
        /// The table.
        relation: String,
        /// Its owner.
        owner: String,
    },
    /// A trigger fires for every rewritten row.
    Trigger {
        /// The table.
        relation: String,
        /// The trigger.
        name: String,
        /// When it fires, for example `BEFORE ROW`.
        kind: String,
    },
    /// An index over an encrypted column is rewritten too, and rules out HOT updates.
    Index {
        /// The index.
        index: String,
        /// The column.
        column: String,
        /// Whether it is unique.
        unique: bool,
    },
    /// A foreign key carries every new value to another table.
    Cascade {
        /// The constraint.
        constraint: String,
        /// The column of the plan.
        column: String,
        /// The table that follows.
        other: String,
    },
    /// The table is published: every rewritten row goes to the subscribers.
    Published(String),
    /// A generated column or a domain is computed again with every rewritten row.
    Derived(String),
    /// A transaction older than a minute holds back the proof and the clean-up of old row versions.
    LongTransaction(String),
    /// A prepared transaction does the same until someone ends it.
    PreparedTransaction(String),
    /// No usable row key: values cannot be bound to their row.
    NoKey(String),
    /// Some sampled values do not open under any key of the plan.
    Unopened {
        /// The column.
        column: String,
        /// How many.
        count: u64,
    },
    /// The table is not logged, or the role may not see something that was to be checked.
    Other(String),
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Superuser { relation, owner } => {
                write!(
                    f,
                    "connected as superuser: triggers of {relation}, owned by {owner}, run with these rights"
                )
            }
            Self::Trigger { relation, name, kind } => {
                write!(f, "trigger `{name}` ({kind}) of {relation} fires for every rewritten row")
            }
            Self::Index { index, column, unique } => {
                let kind = if *unique { "unique index" } else { "index" };
                write!(f, "{kind} `{index}` covers column `{column}` and is rewritten too")
            }
            Self::Cascade { constraint, column, other } => write!(
                f,
                "foreign key `{constraint}` of {other} follows column `{column}` (ON UPDATE CASCADE): its rows are rewritten too, and counted nowhere"
            ),
            Self::Published(relation) => {
                write!(f, "{relation} is published: subscribers receive every new value")
            }
            Self::Derived(column) => write!(
                f,
                "`{column}`, or what is computed from it, is computed again for every rewritten row"
            ),
            Self::LongTransaction(session) => write!(f, "long transaction: {session}"),
            Self::PreparedTransaction(name) => {
                write!(f, "prepared transaction `{name}` holds back the proof")
            }
            Self::NoKey(relation) => {
                write!(f, "{relation} has no primary or unique NOT NULL key apart from columns of the plan")
            }
            Self::Unopened { column, count } => {
                write!(f, "{count} sampled values of column `{column}` open under no key of the plan")
            }
            Self::Other(text) => write!(f, "{text}"),
        }
    }
}
