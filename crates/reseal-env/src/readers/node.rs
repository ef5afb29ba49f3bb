//! Node's `dotenv`: its grammar is one regular expression, so the model is that expression too.

use std::sync::LazyLock;

use regex::Regex;

use crate::error::ReadError;
use crate::readers::BOM;
use crate::reading::{Parts, Variables};

static LINE: LazyLock<Regex> = LazyLock::new(|| {
    let quoted = |quote: &str| format!(r"\s*{quote}(?:\\{quote}|[^{quote}])*{quote}");
    let value = format!(r#"{}|{}|{}|[^#\r\n]+"#, quoted("'"), quoted("\""), quoted("`"));
    let name = r"([A-Za-z0-9_.-]+)";
    let line = format!(r"(?m)^\s*(?:export\s+)?{name}(?:\s*=\s*?|:\s+?)({value})?\s*(?:#.*)?$");
    Regex::new(&line).expect("the expression is constant and tested")
});

pub(crate) fn read(file: &str) -> Result<Variables, ReadError> {
    let text = file.strip_prefix(BOM).unwrap_or(file);
    // JavaScript and Rust do not agree on whether these are whitespace or end a line.
    if let Some(at) = text.find(['\u{85}', '\u{2028}', '\u{2029}', BOM]) {
        return Err(ReadError::at(text.as_bytes(), at, "has a line separator that is not modelled"));
    }
    let text = zeroize::Zeroizing::new(text.replace("\r\n", "\n").replace('\r', "\n"));
    let mut variables = Variables::last_wins();
    for found in LINE.captures_iter(&text) {
        let name = found.get(1).map_or("", |name| name.as_str());
        let raw = found.get(2).map_or("", |value| value.as_str()).trim();
        let mut parts = Parts::default();
        let value = strip_quotes(raw);
        if raw.starts_with('"') {
            let value = zeroize::Zeroizing::new(value.replace("\\n", "\n"));
            parts.push(zeroize::Zeroizing::new(value.replace("\\r", "\r")).as_bytes());
        } else {
            parts.push(value.as_bytes());
        }
        variables.insert(name.as_bytes(), parts);
    }
    Ok(variables)
}

/// Removes a quote at the start of any line with the last same quote at the end of that or a later line, as its `m` and `g`
/// flags have it.
fn strip_quotes(value: &str) -> zeroize::Zeroizing<String> {
    let mut out = zeroize::Zeroizing::new(String::with_capacity(value.len()));
    let mut at = 0;
    while at < value.len() {
        let first = value[at..].chars().next().unwrap_or_default();
        let opens = matches!(first, '\'' | '"' | '`') && (at == 0 || value.as_bytes()[at - 1] == b'\n');
        let close = opens.then(|| closing(value, at, first)).flatten();
        match close {
            Some(close) => {
                out.push_str(&value[at + 1..close]);
                at = close + 1;
            }
            None => {
                out.push(first);
                at += first.len_utf8();
            }
        }
    }
    out
}

fn closing(value: &str, open: usize, quote: char) -> Option<usize> {
    let ends_line = |at: usize| matches!(value.as_bytes().get(at + 1), None | Some(b'\n'));
    value.match_indices(quote).map(|(at, _)| at).rfind(|&at| at > open && ends_line(at))
}
