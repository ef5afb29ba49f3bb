//! The text of the plan.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::path::Path;

use super::secrets::{Adopted, Placed};
use super::servers::Found;
use super::texts::Text;
use crate::apps::Service;
use crate::plan::{Holds, Spot, Strategy};

/// What a plan is written from.
pub(super) struct Parts<'a> {
    pub(super) vault: Option<&'a str>,
    pub(super) prefix: &'a str,
    pub(super) leftovers: &'a [String],
    pub(super) texts: &'a [Text],
    pub(super) found: &'a [Found],
    pub(super) secrets: &'a [Adopted],
    pub(super) services: &'a BTreeMap<String, Service>,
    pub(super) doubts: &'a [String],
}

/// Writes the plan.
pub(super) fn text(parts: &Parts<'_>) -> String {
    let mut out = String::from(
        "# Written by `reseal adopt`. No value stands here: those are in the vault.\n\
         # `reseal rotate plan` shows that all of it works, and changes nothing.\n",
    );
    line(&mut out, "schema = 1");
    if let Some(vault) = parts.vault {
        line(&mut out, &format!("vault = {}", quoted(vault)));
    }
    line(&mut out, &format!("prefix = {}", quoted(parts.prefix)));
    line(
        &mut out,
        "environment = \"production\"     # values change every 90 days; staging: 180, development: 365",
    );
    if !parts.leftovers.is_empty() {
        line(
            &mut out,
            "# Copies with values in clear: `reseal snapshot add --leftovers --delete-source` puts them away.",
        );
        line(&mut out, &format!("leftovers = {}", list(parts.leftovers.iter().map(String::as_str))));
    }
    let in_use = |text: &&Text| {
        parts.secrets.iter().any(|secret| secret.places.iter().any(|place| place.file == text.path))
    };
    let texts: Vec<_> = parts.texts.iter().filter(in_use).collect();
    servers(&mut out, parts);
    apps(&mut out, parts, &texts);
    files(&mut out, &texts);
    for secret in parts.secrets {
        out.push('\n');
        out.push_str(&written(secret, parts));
    }
    if !parts.doubts.is_empty() {
        out.push_str("\n# Not sure of:\n");
        parts.doubts.iter().for_each(|doubt| line(&mut out, &comment(&format!("- {doubt}"))));
    }
    out
}

fn servers(out: &mut String, parts: &Parts<'_>) {
    for one in parts.found {
        let address = one.address();
        let kind = if address.kind == crate::plan::Kind::Redis { "redis" } else { "postgres" };
        line(out, &format!("\n[servers.{}]", key(&one.name)));
        line(out, &format!("kind = {}", quoted(kind)));
        line(out, &format!("url = {}", quoted(&address.url())));
        if let Some(service) = one.service(parts.services) {
            line(out, &format!("via = {{ compose = {} }}", quoted(service)));
        }
    }
}

fn apps(out: &mut String, parts: &Parts<'_>, texts: &[&Text]) {
    let users: BTreeSet<&String> = texts.iter().flat_map(|text| &text.used_by).collect();
    for user in &users {
        let way = if parts.services.contains_key(*user) { "compose" } else { "systemd" };
        line(out, &format!("\n[apps.{}]", key(user)));
        line(out, &format!("{way} = {}", quoted(user)));
        line(
            out,
            "# check = [{ http = \"http://localhost:8000/health\", expect = 200 }]     # what has to hold afterwards",
        );
    }
    if users.is_empty() {
        line(out, "\n# [apps.NAME]     # what reads the files, and how it gets new values: one of");
        line(
            out,
            "# systemd = \"UNIT\"     # compose = \"SERVICE\"     # restart = [\"PROGRAM\", \"ARGUMENT\"]",
        );
    }
}

fn files(out: &mut String, texts: &[&Text]) {
    for text in texts {
        out.push('\n');
        let mut block = String::new();
        text.guessed.iter().for_each(|said| line(&mut block, &comment(&format!("Not sure: {said}."))));
        line(&mut block, &format!("[files.{}]", quoted(&text.path.to_string_lossy())));
        line(&mut block, &format!("readers = {}", list(text.readers.iter().map(|reader| reader.name()))));
        let users = list(text.used_by.iter().map(String::as_str));
        line(&mut block, &format!("used_by = {users}"));
        out.push_str(&if text.used_by.is_empty() { commented(&block) } else { block });
    }
}

fn written(secret: &Adopted, parts: &Parts<'_>) -> String {
    let mut block = String::new();
    secret.remarks.iter().for_each(|remark| line(&mut block, &comment(&format!("{}.", first_upper(remark)))));
    line(&mut block, &format!("[secrets.{}]", quoted(&secret.name)));
    if let Some(server) = &secret.server {
        line(&mut block, &format!("server = {}", quoted(server)));
        let address = parts.found.iter().find(|one| one.name == *server).map(Found::address);
        if let Some(address) = address {
            line(&mut block, &format!("user = {}", quoted(address.user())));
        }
    }
    let strategy = match secret.strategy {
        Strategy::Overlap => "overlap",
        Strategy::Paste => "paste",
        Strategy::Columns => "columns",
        _ => "in-place",
    };
    line(&mut block, &format!("strategy = {}", quoted(strategy)));
    if !secret.order.is_empty() {
        line(&mut block, &format!("order = {}", list(secret.order.iter().map(String::as_str))));
    }
    line(&mut block, "write = [");
    secret.places.iter().for_each(|place| line(&mut block, &format!("  {{ {} }},", entry(place))));
    line(&mut block, "]");
    match &secret.withheld {
        None => block,
        Some(why) => format!("{}\n{}", comment(&format!("Left out: {why}.")), commented(&block)),
    }
}

fn entry(place: &Placed) -> String {
    let mut entry = format!("file = {}, var = {}", quoted(&place.file.to_string_lossy()), quoted(&place.var));
    if place.spot == Spot::UrlPassword {
        entry.push_str(", part = \"url.password\"");
    }
    if place.holds == Holds::Previous {
        entry.push_str(", holds = \"previous\"");
    }
    entry
}

fn line(out: &mut String, text: &str) {
    // Writing to a text cannot fail.
    let _ = writeln!(out, "{text}");
}

/// Words as a comment. Names of files and what servers say may hold an end of line, and what follows would be the plan's.
fn comment(words: &str) -> String {
    let words: String = words.chars().map(|one| if one.is_control() { ' ' } else { one }).collect();
    format!("# {words}")
}

fn commented(block: &str) -> String {
    let comment =
        |line: &str| if line.starts_with('#') { format!("{line}\n") } else { format!("# {line}\n") };
    block.lines().map(comment).collect()
}

fn first_upper(text: &str) -> String {
    let mut characters = text.chars();
    characters.next().map(|first| first.to_uppercase().chain(characters).collect()).unwrap_or_default()
}

fn quoted(text: &str) -> String {
    toml::Value::String(text.to_owned()).to_string()
}

/// A key, bare where TOML lets it be.
fn key(text: &str) -> String {
    let is_bare =
        !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_-".contains(&byte));
    if is_bare { text.to_owned() } else { quoted(text) }
}

fn list<'a>(texts: impl Iterator<Item = &'a str>) -> String {
    format!("[{}]", texts.map(quoted).collect::<Vec<_>>().join(", "))
}

/// Whether a path can stand among the patterns of `leftovers` as it is.
pub(super) fn is_plain(path: &Path) -> bool {
    path.to_str().is_some_and(|path| !path.contains(['*', '?', '[', ']', '{', '}', '\\']))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_words_end_a_comment() {
        assert_eq!(comment("x\n[notify]\rto = 1\u{85}"), "# x [notify] to = 1 ");
    }
}
