//! The status for people: the most urgent first.

use jiff::tz::TimeZone;
use reseal_rotate::schedule::{Condition, KeptOutput, Overview, Stands};
use reseal_vault::Timestamp;

use crate::units::size;

const HEAD: [&str; 9] =
    ["secret", "last changed", "every", "due", "days", "state", "owner", "risk", "goes to"];

/// The column of [`HEAD`] that is coloured.
const STATE: usize = 5;

/// How many places a line of a terminal has room for.
const PLACES: usize = 3;

/// Columns, a summary, and what to do next.
pub(super) fn terminal(overview: &Overview, zone: &TimeZone) -> String {
    let shown = by_urgency(overview);
    let rows: Vec<_> = shown.iter().map(|stands| row(stands, zone, PLACES)).collect();
    let width = |column: usize| {
        let cells = rows.iter().map(|row| &row[column]).map(|cell| cell.chars().count());
        cells.chain([HEAD[column].len()]).max().unwrap_or(0)
    };
    let widths: [usize; HEAD.len()] = std::array::from_fn(width);
    let mut text = String::new();
    if !rows.is_empty() {
        push_line(&mut text, &HEAD.map(str::to_owned), &widths, "\x1b[1m");
    }
    for (row, stands) in rows.iter().zip(&shown) {
        push_line(&mut text, row, &widths, colour(stands));
    }
    text.push_str(&format!("\n{}\n", summary(overview)));
    for stands in &shown {
        let why = stands.last.as_ref().and_then(|last| last.attention.as_ref());
        let why = why.or(stands.owed.as_ref().map(|owed| &owed.reason));
        let why = why.map(|why| format!(" ({why})")).unwrap_or_default();
        if stands.condition() < Condition::PendingRetire
            && let Some(next) = stands.next_command()
        {
            text.push_str(&format!("{}{why}: {next}\n", stands.called()));
        }
    }
    overview.kept.iter().for_each(|kept| text.push_str(&format!("{}\n", kept_words(kept))));
    text
}

/// A table of Markdown with every place, and the summary.
pub(super) fn markdown(overview: &Overview, zone: &TimeZone) -> String {
    let mut text = format!("| {} |\n|{}\n", HEAD.join(" | "), "---|".repeat(HEAD.len()));
    for stands in by_urgency(overview) {
        let cells = row(stands, zone, usize::MAX).map(|cell| cell.replace('|', "\\|"));
        text.push_str(&format!("| {} |\n", cells.join(" | ")));
    }
    text.push_str(&format!("\n{}\n", summary(overview)));
    overview.kept.iter().for_each(|kept| text.push_str(&format!("\n- {}", kept_words(kept))));
    text
}

/// How old something kept is, for people: with what to know before a rotation.
pub(crate) fn kept_words(kept: &KeptOutput) -> String {
    match kept.taken_at {
        None => format!("{}: never saved yet", kept.name),
        Some(Timestamp(taken)) => {
            let age = jiff::Timestamp::now().as_second().saturating_sub(taken);
            format!("{}: saved {}, {}", kept.name, ago(age), size(kept.len))
        }
    }
}

fn ago(seconds: i64) -> String {
    match seconds {
        ..120 => "just now".to_owned(),
        120..7_200 => format!("{} minutes ago", seconds / 60),
        7_200..172_800 => format!("{} hours ago", seconds / 3_600),
        _ => format!("{} days ago", seconds / 86_400),
    }
}

fn by_urgency(overview: &Overview) -> Vec<&Stands> {
    let mut shown: Vec<_> = overview.secrets.iter().collect();
    let far = Timestamp(i64::MAX);
    shown.sort_by_cached_key(|one| (one.condition(), one.due_at.unwrap_or(far), one.called().to_owned()));
    shown
}

fn row(stands: &Stands, zone: &TimeZone, places: usize) -> [String; HEAD.len()] {
    let day = |moment: Option<Timestamp>| moment.map_or_else(none, |moment| day(moment, zone));
    let changed = match (stands.changed_at, stands.labels.current) {
        (None, Some(_)) => "unknown".to_owned(),
        (changed, _) => day(changed),
    };
    [
        stands.called().to_owned(),
        changed,
        stands.every.map_or_else(none, |every| every.to_string()),
        day(stands.due_at),
        stands.days_until_rotation().map_or_else(none, |days| days.to_string()),
        stands.condition().name().to_owned(),
        stands.owner.clone().unwrap_or_else(none),
        stands.settings.risk.clone().unwrap_or_else(none),
        joined(&stands.places(), places),
    ]
}

fn joined(places: &[String], most: usize) -> String {
    match places.len() {
        0 => none(),
        count if count <= most => places.join(", "),
        count => format!("{}, and {} more", places[..most].join(", "), count - most),
    }
}

fn none() -> String {
    "-".to_owned()
}

fn day(moment: Timestamp, zone: &TimeZone) -> String {
    let moment = jiff::Timestamp::from_second(moment.0);
    moment.map_or_else(|_| "?".to_owned(), |moment| moment.to_zoned(zone.clone()).date().to_string())
}

fn summary(overview: &Overview) -> String {
    let mut counts: Vec<(Condition, usize)> = Vec::new();
    for stands in by_urgency(overview) {
        match counts.last_mut() {
            Some((condition, count)) if *condition == stands.condition() => *count += 1,
            _ => counts.push((stands.condition(), 1)),
        }
    }
    let told: Vec<_> =
        counts.iter().map(|(condition, count)| format!("{count} {}", condition.name())).collect();
    let all = overview.secrets.len();
    let noun = if all == 1 { "secret" } else { "secrets" };
    if told.is_empty() { format!("no {noun}") } else { format!("{all} {noun}: {}", told.join(", ")) }
}

fn colour(stands: &Stands) -> &'static str {
    match stands.condition() {
        Condition::NeedsAttention | Condition::Owed | Condition::Expired => "\x1b[1;31m",
        Condition::Good => "\x1b[32m",
        Condition::PendingRetire | Condition::PendingVersion | Condition::NoValue => "\x1b[36m",
        Condition::Interrupted | Condition::UnknownAge | Condition::Warning | Condition::RetireDue => {
            "\x1b[33m"
        }
    }
}

/// Colours do not count as width: they are put around what is padded already.
fn push_line(text: &mut String, row: &[String], widths: &[usize], style: &str) {
    let is_head = row[0] == HEAD[0] && row[STATE] == HEAD[STATE];
    let last = row.len() - 1;
    for (column, (cell, &width)) in row.iter().zip(widths).enumerate() {
        let padded = if column == last { cell.clone() } else { format!("{cell:<width$}  ") };
        if is_head || column == STATE {
            text.push_str(&format!("{style}{padded}\x1b[0m"));
        } else {
            text.push_str(&padded);
        }
    }
    text.push('\n');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ages_are_told_in_fitting_units() {
        let told = [0, 180, 10_000, 200_000].map(ago);
        assert_eq!(told, ["just now", "3 minutes ago", "2 hours ago", "2 days ago"]);
    }

    #[test]
    fn a_line_has_room_for_some_places() {
        let places: Vec<_> = ["a", "b", "c", "d"].map(str::to_owned).into();
        assert_eq!(joined(&places, 3), "a, b, c, and 1 more");
        assert_eq!(joined(&places, usize::MAX), "a, b, c, d");
        assert_eq!(joined(&[], 3), "-");
    }
}
