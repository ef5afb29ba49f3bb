//! When a value is to change, by the interval of its plan.

use jiff::Span;
use jiff::tz::TimeZone;
use reseal_vault::{Label, SecretName, Timestamp, Vault, VaultError};

use crate::error::RotateError;
use crate::plan::{Environment, Interval, Plan};

/// When the current value of a secret is to change; `None` without an interval or a value, or if nobody knows how old
/// the value is.
///
/// # Errors
///
/// [`RotateError::UnknownSecret`], [`RotateError::Vault`].
pub fn due(plan: &Plan, vault: &mut Vault, name: &str) -> Result<Option<Timestamp>, RotateError> {
    let full_name: SecretName = plan.secret_name(name).parse()?;
    let versions = match vault.history(&full_name) {
        Err(VaultError::NotFound { .. }) => return Ok(None),
        other => other?,
    };
    let current = versions.iter().find(|version| version.labels.contains(&Label::Current));
    let changed = current.and_then(|current| current.changed_at);
    Ok(changed.map(|changed| next(plan, name, changed)).transpose()?.flatten())
}

/// When a value that came into being then is to change; `None` without an interval.
///
/// # Errors
///
/// [`RotateError::UnknownSecret`].
pub(crate) fn next(plan: &Plan, name: &str, changed: Timestamp) -> Result<Option<Timestamp>, RotateError> {
    let Some(every) = interval(plan, name)? else { return Ok(None) };
    let offset = plan.secret(name)?.offset.map_or(0, |offset| offset.0.as_secs());
    Ok(after(every, offset, changed))
}

/// How often a secret is to change: as it says itself, else as its kind of installation does.
///
/// # Errors
///
/// [`RotateError::UnknownSecret`].
pub fn interval(plan: &Plan, name: &str) -> Result<Option<Interval>, RotateError> {
    Ok(plan.secret(name)?.every.or(plan.file.environment.map(Environment::every)))
}

/// When a value that came into being then is to change; `offset` in seconds. `None` beyond the end of the calendar.
pub(super) fn after(every: Interval, offset: u64, changed: Timestamp) -> Option<Timestamp> {
    let span = match every {
        Interval::Days(days) => Span::new().try_days(days).ok()?,
        Interval::Months(months) => Span::new().try_months(months).ok()?,
        Interval::Never => return None,
    };
    let changed = jiff::Timestamp::from_second(changed.0).ok()?.to_zoned(TimeZone::UTC);
    let due = changed.checked_add(span).ok()?.timestamp().as_second();
    due.checked_add_unsigned(offset).map(Timestamp)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn months_are_calendar_months_and_days_are_days() {
        let moment = |text: &str| Timestamp(text.parse::<jiff::Timestamp>().unwrap().as_second());
        for (every, offset, expected) in [
            ("90d", 0, Some("2026-05-01T03:00:00Z")),
            ("1mo", 0, Some("2026-02-28T03:00:00Z")),
            ("1y", 2 * 86_400, Some("2027-02-02T03:00:00Z")),
            ("never", 0, None),
            ("20000y", 0, None),
            ("100000w", 0, Some("3942-08-15T03:00:00Z")),
        ] {
            let due = after(every.parse().unwrap(), offset, moment("2026-01-31T03:00:00Z"));
            assert_eq!(due, expected.map(moment), "{every}");
        }
    }
}
