//! Which triggers of a table fire on UPDATE: SQLite keeps only their text.

use rusqlite::Connection;

/// A trigger of the table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Trigger {
    pub(super) name: String,
    /// `BEFORE` or `AFTER`.
    pub(super) timing: &'static str,
}

/// The triggers of a table that fire on UPDATE.
pub(super) fn on_update(connection: &Connection, table: &str) -> rusqlite::Result<Vec<Trigger>> {
    let sql = "SELECT name, sql FROM sqlite_schema WHERE type = 'trigger' AND tbl_name = ?1 COLLATE NOCASE";
    let mut statement = connection.prepare(sql)?;
    let triggers = statement.query_map([table], |row| Ok((row.get(0)?, row.get::<_, String>(1)?)))?;
    let fires = |trigger: rusqlite::Result<(String, String)>| {
        trigger.map(|(name, sql)| timing(&sql).map(|timing| Trigger { name, timing })).transpose()
    };
    triggers.filter_map(fires).collect()
}

/// When a trigger fires, if it fires on UPDATE.
///
/// `INSERT`, `UPDATE` and `DELETE` are no names without quotes, so the first of them is the trigger's event.
fn timing(sql: &str) -> Option<&'static str> {
    let mut timing = "BEFORE";
    for word in bare_words(sql) {
        match word.to_ascii_uppercase().as_str() {
            "AFTER" => timing = "AFTER",
            "BEFORE" => timing = "BEFORE",
            "UPDATE" => return Some(timing),
            "INSERT" | "DELETE" => return None,
            _ => {}
        }
    }
    // Not understood: better one look at the row too many.
    Some(timing)
}

/// The words of a statement without quoted names, strings and comments.
fn bare_words(sql: &str) -> impl Iterator<Item = &str> {
    let mut rest = sql;
    std::iter::from_fn(move || {
        loop {
            rest = rest.trim_start_matches(|c: char| !(c.is_alphanumeric() || "_\"'`[-/".contains(c)));
            let after = |from: usize, closing: &str| {
                rest[from..].find(closing).map_or(rest.len(), |at| from + at + closing.len())
            };
            let end = |closing: &str| after(1, closing);
            let skipped = match rest.as_bytes() {
                [] => return None,
                [quote @ (b'"' | b'\'' | b'`'), ..] => end(char::from(*quote).encode_utf8(&mut [0; 4])),
                [b'[', ..] => end("]"),
                [b'-', b'-', ..] => end("\n"),
                [b'/', b'*', ..] => after(2, "*/"),
                [b'-' | b'/', ..] => 1,
                _ => {
                    let length =
                        rest.find(|c: char| !(c.is_alphanumeric() || c == '_')).unwrap_or(rest.len());
                    let (word, tail) = rest.split_at(length);
                    rest = tail;
                    return Some(word);
                }
            };
            rest = &rest[skipped..];
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn triggers_are_told_apart_by_their_event() {
        let cases = [
            ("CREATE TRIGGER t AFTER UPDATE ON x BEGIN SELECT 1; END", Some("AFTER")),
            ("create trigger if not exists t update of a, b on x begin delete from y; end", Some("BEFORE")),
            ("CREATE TRIGGER \"UPDATE\" AFTER INSERT ON x BEGIN UPDATE x SET a = 1; END", None),
            ("CREATE TRIGGER [update] /* UPDATE */ -- UPDATE\n BEFORE DELETE ON x BEGIN SELECT 1; END", None),
            ("CREATE TRIGGER t /*/ INSERT */ AFTER UPDATE ON x BEGIN SELECT 1; END", Some("AFTER")),
            ("CREATE TRIGGER after BEFORE UPDATE ON x BEGIN SELECT 1; END", Some("BEFORE")),
        ];
        for (sql, expected) in cases {
            assert_eq!(timing(sql), expected, "{sql}");
        }
    }
}
