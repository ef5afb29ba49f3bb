//! The models against what the real readers read: `corpus/readers.jsonl`, written by `corpus/generate.py`.

use std::collections::{BTreeMap, BTreeSet};

use reseal_env::{Document, Reader};

#[derive(serde::Deserialize)]
struct Row {
    reader: String,
    version: String,
    file: String,
    /// What the real reader reads, or nothing where it fails.
    values: Option<BTreeMap<String, String>>,
}

fn rows() -> Vec<Row> {
    let text = include_str!("corpus/readers.jsonl");
    text.lines().map(|line| serde_json::from_str(line).expect("every line is a row")).collect()
}

/// Whether the model agrees; `None` where it makes no claim.
fn agrees(row: &Row) -> Option<bool> {
    let reader = Reader::from_name(&row.reader).expect("a known reader");
    let Ok(read) = reader.read(row.file.as_bytes()) else {
        return row.values.is_none().then_some(true);
    };
    let Some(values) = &row.values else { return Some(false) };
    let names: BTreeSet<&[u8]> = read.names().into_iter().collect();
    // What bash sets is only asked for by some names.
    let has_all = values.keys().all(|name| names.contains(name.as_bytes()));
    let mut is_claimed = true;
    for name in names {
        let name = std::str::from_utf8(name).expect("the corpus is UTF-8");
        match (read.get(name), values.get(name)) {
            (None, _) => is_claimed = false,
            (Some(model), Some(real)) if model.expose() == real.as_bytes() => {}
            _ => return Some(false),
        }
    }
    if !has_all { Some(false) } else { is_claimed.then_some(true) }
}

#[test]
fn env_corpus_models_read_what_the_real_readers_read() {
    let rows = rows();
    assert!(rows.len() >= 250, "{} rows", rows.len());
    let (mut wrong, mut unclaimed) = (Vec::new(), 0);
    for row in &rows {
        match agrees(row) {
            Some(true) => {}
            Some(false) => {
                wrong.push(format!("{} {}: {:?} is {:?}", row.reader, row.version, row.file, row.values))
            }
            None => unclaimed += 1,
        }
    }
    assert!(wrong.is_empty(), "{} of {} rows:\n{}", wrong.len(), rows.len(), wrong.join("\n"));
    assert!(unclaimed * 10 < rows.len(), "the models make no claim for {unclaimed} of {} rows", rows.len());
}

#[test]
fn env_corpus_tokens_are_the_file() {
    for row in rows() {
        let document = Document::parse(row.file.as_bytes());
        assert_eq!(document.to_bytes().expose(), row.file.as_bytes());
        let mut at = 0;
        for token in document.tokens() {
            assert_eq!(token.span.start, at, "{:?}: every byte belongs to one token", row.file);
            at = token.span.end;
        }
        assert_eq!(at, row.file.len());
    }
}
