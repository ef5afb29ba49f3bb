//! How one secret stands against its plan at a moment.

use reseal_vault::{Labels, SecretInfo, SecretName, Timestamp, VersionInfo};

use super::calendar;
use crate::plan::{Environment, Interval, Secret};
use crate::rotation::{Owed, Rotation};

const DAY: i64 = 86_400;

/// What is most urgent about a secret, the most urgent first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Condition {
    /// A rotation came neither forward nor back, and waits for a person.
    NeedsAttention,
    /// A rotation was interrupted.
    Interrupted,
    /// Its value was seen where it should not be.
    Owed,
    /// Its date is over.
    Expired,
    /// It has an interval, and nobody knows how old its value is.
    UnknownAge,
    /// Its date is near.
    Warning,
    /// Both values work, and the old one should have ended.
    RetireDue,
    /// Both values work.
    PendingRetire,
    /// A new version waits in the vault.
    PendingVersion,
    /// The plan has it, and the vault has no value of it.
    NoValue,
    /// Nothing is to be done.
    Good,
}

impl Condition {
    /// The word in reports.
    pub const fn name(self) -> &'static str {
        match self {
            Self::NeedsAttention => "needs attention",
            Self::Interrupted => "interrupted",
            Self::Owed => "owed",
            Self::Expired => "expired",
            Self::UnknownAge => "due",
            Self::Warning => "warning",
            Self::RetireDue => "retire due",
            Self::PendingRetire => "pending retire",
            Self::PendingVersion => "pending version",
            Self::NoValue => "no value",
            Self::Good => "ok",
        }
    }
}

/// How a secret stands. Holds no value.
#[derive(Debug)]
pub struct Stands {
    /// Its name in the vault.
    pub secret: SecretName,
    /// Its name in the plan, if that has it.
    pub name: Option<String>,
    /// What the plan says about it; nothing if that does not have it.
    pub settings: Secret,
    /// Who answers for it, by the plan, else by the vault.
    pub owner: Option<String>,
    /// Where the labels stand; nowhere if the vault does not have it.
    pub labels: Labels,
    /// When its current value came into being; `None` is unknown.
    pub changed_at: Option<Timestamp>,
    /// How often it is to change.
    pub every: Option<Interval>,
    /// When it is to change by that.
    pub due_at: Option<Timestamp>,
    /// That it has to change at once.
    pub owed: Option<Owed>,
    /// Its last rotation.
    pub last: Option<Rotation>,
    /// When this was found.
    pub now: Timestamp,
}

/// What is known of a secret, before it is looked at against the clock.
pub(super) struct Known {
    pub(super) secret: SecretName,
    pub(super) name: Option<String>,
    pub(super) settings: Secret,
    pub(super) environment: Option<Environment>,
    pub(super) held: Option<(SecretInfo, Option<VersionInfo>)>,
    pub(super) owed: Option<Owed>,
    pub(super) last: Option<Rotation>,
}

impl Stands {
    pub(super) fn new(known: Known, now: Timestamp) -> Self {
        let Known { secret, name, settings, environment, held, owed, last } = known;
        let (info, current) = held.unzip();
        let changed_at = current.flatten().and_then(|current| current.changed_at);
        let preset = name.as_ref().and(environment).map(Environment::every);
        let every = settings.every.or(preset);
        let offset = settings.offset.map_or(0, |offset| offset.0.as_secs());
        let due_at = every.zip(changed_at).and_then(|(every, at)| calendar::after(every, offset, at));
        let owner = settings.owner.clone();
        Self {
            owner: owner.or_else(|| info.as_ref().and_then(|info| info.attributes.owner.clone())),
            labels: info.map(|info| info.labels).unwrap_or_default(),
            secret,
            name,
            settings,
            changed_at,
            every,
            due_at,
            owed,
            last,
            now,
        }
    }

    /// Its name as the plan calls it, else as the vault does.
    pub fn called(&self) -> &str {
        self.name.as_deref().unwrap_or(self.secret.as_str())
    }

    /// Days until it is to change, rounded up: 90 right after a change, 0 on the day after its moment, then negative.
    pub fn days_until_rotation(&self) -> Option<i64> {
        self.due_at.map(|due| -self.now.0.saturating_sub(due.0).div_euclid(DAY))
    }

    /// Whether it is time to change it: within the warning before its date or after it, owed, or of unknown age.
    pub fn is_rotation_due(&self) -> bool {
        let warn = self.settings.warn.map_or(0, |warn| warn.0.as_secs());
        let warned = |due: Timestamp| due.0.saturating_sub_unsigned(warn) <= self.now.0;
        self.owed.is_some() || self.has_unknown_age() || self.due_at.is_some_and(warned)
    }

    /// Whether its date is over.
    pub fn is_expired(&self) -> bool {
        self.due_at.is_some_and(|due| due <= self.now)
    }

    /// When its old value is to end, while both work.
    pub fn overlap_ends_at(&self) -> Option<Timestamp> {
        self.last.as_ref().and_then(Rotation::retire_due)
    }

    /// What is most urgent about it.
    pub fn condition(&self) -> Condition {
        let last = self.last.as_ref();
        if last.is_some_and(|last| last.attention.is_some()) {
            return Condition::NeedsAttention;
        }
        if last.is_some_and(Rotation::is_unfinished) {
            return Condition::Interrupted;
        }
        if self.owed.is_some() {
            return Condition::Owed;
        }
        match (self.is_expired(), self.has_unknown_age(), self.is_rotation_due()) {
            (true, ..) => return Condition::Expired,
            (_, true, _) => return Condition::UnknownAge,
            (_, _, true) => return Condition::Warning,
            _ => {}
        }
        match (self.overlap_ends_at(), self.labels.current, self.labels.pending) {
            (Some(end), ..) if end <= self.now => Condition::RetireDue,
            (Some(_), ..) => Condition::PendingRetire,
            (None, None, _) => Condition::NoValue,
            (None, _, Some(_)) => Condition::PendingVersion,
            _ => Condition::Good,
        }
    }

    /// The command that is safe to give next, if there is one.
    pub fn next_command(&self) -> Option<String> {
        let name = self.name.as_ref()?;
        match self.condition() {
            Condition::NeedsAttention | Condition::Interrupted => {
                Some(format!("reseal rotate resume {name}, or reseal rotate rollback {name}"))
            }
            Condition::Owed | Condition::Expired | Condition::UnknownAge | Condition::Warning
                if self.overlap_ends_at().is_none() =>
            {
                Some(format!("reseal rotate {name}"))
            }
            _ if self.overlap_ends_at().is_some() => Some(format!("reseal rotate retire {name}")),
            Condition::NoValue => Some(format!("reseal put {}", self.secret)),
            _ => None,
        }
    }

    /// The files, commands and servers that know it, each once.
    pub fn places(&self) -> Vec<String> {
        let mut places = Vec::new();
        for place in &self.settings.write {
            let told = match (&place.file, &place.command) {
                (Some(file), _) => file.display().to_string(),
                (None, Some(command)) => command.first().cloned().unwrap_or_default(),
                (None, None) => continue,
            };
            if !places.contains(&told) {
                places.push(told);
            }
        }
        places.extend(self.settings.server.iter().map(|server| format!("server {server}")));
        places
    }

    /// Whether it has an interval and nobody knows how old it is.
    fn has_unknown_age(&self) -> bool {
        let has_interval = self.every.is_some_and(|every| every != Interval::Never);
        has_interval && self.labels.current.is_some() && self.changed_at.is_none()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::plan::Span;

    fn stands(changed: Option<i64>, now: i64) -> Stands {
        Stands {
            secret: "crm/a".parse().unwrap(),
            name: Some("a".into()),
            settings: Secret { warn: Some(Span(Duration::from_secs(7 * 86_400))), ..Secret::default() },
            owner: None,
            labels: Labels { current: Some(1), ..Labels::default() },
            changed_at: changed.map(|day| Timestamp(day * DAY)),
            every: Some(Interval::Days(90)),
            due_at: changed.map(|day| Timestamp((day + 90) * DAY)),
            owed: None,
            last: None,
            now: Timestamp(now),
        }
    }

    #[test]
    fn it_is_due_from_the_warning_on_and_expired_from_its_date_on() {
        for (now, days, is_due, is_expired, condition) in [
            (83 * DAY - 1, 8, false, false, Condition::Good),
            (83 * DAY, 7, true, false, Condition::Warning),
            (90 * DAY - 1, 1, true, false, Condition::Warning),
            (90 * DAY, 0, true, true, Condition::Expired),
            (91 * DAY - 1, 0, true, true, Condition::Expired),
            (92 * DAY, -2, true, true, Condition::Expired),
        ] {
            let stands = stands(Some(0), now);
            assert_eq!(stands.days_until_rotation(), Some(days), "{now}");
            assert_eq!((stands.is_rotation_due(), stands.is_expired()), (is_due, is_expired), "{now}");
            assert_eq!(stands.condition(), condition, "{now}");
        }
    }

    #[test]
    fn unknown_age_counts_as_due_unless_it_never_is() {
        let mut unknown = stands(None, 0);
        assert_eq!(unknown.condition(), Condition::UnknownAge);
        assert!(unknown.is_rotation_due() && !unknown.is_expired());
        unknown.every = Some(Interval::Never);
        assert_eq!(unknown.condition(), Condition::Good);
    }

    #[test]
    fn what_is_owed_is_due_at_once() {
        let mut owed = stands(Some(0), 0);
        owed.owed = Some(Owed { secret: "crm/a".into(), reason: "leaked".into(), since: Timestamp(0) });
        assert!(owed.is_rotation_due() && !owed.is_expired());
        assert_eq!(owed.condition(), Condition::Owed);
        assert_eq!(owed.next_command().as_deref(), Some("reseal rotate a"));
    }
}
