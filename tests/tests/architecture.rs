//! The arrows and boundaries of ARCHITECTURE.md, read from the manifests and sources.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// What each crate may depend on within the workspace; its own tests may use more.
const ARROWS: [(&str, &[&str]); 8] = [
    ("reseal-crypto", &[]),
    ("reseal-env", &[]),
    ("reseal-formats", &["reseal-crypto"]),
    ("reseal-vault", &["reseal-crypto"]),
    ("reseal-engine", &["reseal-crypto", "reseal-formats"]),
    ("reseal-rotate", &["reseal-crypto", "reseal-env", "reseal-formats", "reseal-vault", "reseal-engine"]),
    ("reseal-sandbox", &["reseal-crypto", "reseal-formats"]),
    (
        "reseal",
        &[
            "reseal-crypto",
            "reseal-env",
            "reseal-formats",
            "reseal-vault",
            "reseal-engine",
            "reseal-rotate",
            "reseal-sandbox",
        ],
    ),
];

/// Where a dependency may be named. The sandbox is an application that writes.
const PLACES: [(&str, &[&str]); 4] = [
    ("rusqlite", &["reseal-vault/src/", "reseal-engine/src/sqlite", "reseal-sandbox/src/"]),
    (
        "tokio_postgres",
        &["reseal-engine/src/postgres", "reseal-rotate/src/services/postgres", "reseal-sandbox/src/"],
    ),
    (" ::redis::", &["reseal-rotate/src/services/redis"]),
    ("clap", &["reseal/src/"]),
];

fn crates() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../crates")
}

/// Every source file, as a path from `crates/`, without its unit tests.
fn sources() -> Vec<(String, String)> {
    let (mut folders, mut sources) = (vec![crates()], Vec::new());
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).expect("a folder of the checkout") {
            let path = entry.expect("readable").path();
            let name = path.strip_prefix(crates()).expect("below it").to_string_lossy().replace('\\', "/");
            if path.is_dir() {
                folders.push(path);
            } else if name.contains("/src/") && name.ends_with(".rs") && !name.ends_with("/tests.rs") {
                let text = std::fs::read_to_string(&path).expect("source is UTF-8");
                let code = text.split("#[cfg(test)]\nmod ").next().unwrap_or_default();
                sources.push((name, code.to_owned()));
            }
        }
    }
    sources
}

#[test]
fn dependencies_point_one_way() {
    for (name, allowed) in ARROWS {
        let manifest = std::fs::read_to_string(crates().join(name).join("Cargo.toml")).expect("a manifest");
        let section = manifest.split("\n[dependencies]").nth(1).unwrap_or_default();
        let section = section.split("\n[").next().unwrap_or_default();
        let named = section.lines().filter_map(|line| line.split(['.', ' ', '=']).next());
        let ours: BTreeSet<_> = named.filter(|dependency| dependency.starts_with("reseal-")).collect();
        let refused: Vec<_> = ours.iter().filter(|dependency| !allowed.contains(dependency)).collect();
        assert!(refused.is_empty(), "{name} must not depend on {refused:?}");
    }
    let folders = std::fs::read_dir(crates()).expect("the folder of crates");
    assert_eq!(folders.count(), ARROWS.len(), "a crate without a line in this test");
}

#[test]
fn databases_and_arguments_are_named_in_their_places_only() {
    for (file, code) in sources() {
        for (dependency, places) in PLACES {
            let named =
                code.lines().any(|line| !line.trim_start().starts_with("//") && line.contains(dependency));
            let allowed = places.iter().any(|place| file.starts_with(place));
            assert!(!named || allowed, "{file} names {dependency}");
        }
    }
}

#[test]
fn libraries_do_not_print_or_read_the_environment() {
    let mut count = 0;
    // The command may do both; the sandbox looks for servers on the PATH.
    let libraries = [
        "reseal-crypto/",
        "reseal-env/",
        "reseal-formats/",
        "reseal-vault/",
        "reseal-engine/",
        "reseal-rotate/",
    ];
    for (file, code) in
        sources().into_iter().filter(|(file, _)| libraries.iter().any(|l| file.starts_with(l)))
    {
        for word in ["println!", "eprintln!", "print!(", "dbg!", "std::env", "env::var", "home_dir"] {
            assert!(!code.contains(word), "{file} has {word}");
        }
        count += 1;
    }
    assert!(count > 30, "only {count} files were found");
}

#[test]
fn every_look_at_a_secret_in_the_command_says_why() {
    let mut count = 0;
    for (file, code) in sources().into_iter().filter(|(file, _)| file.starts_with("reseal/src/")) {
        let lines: Vec<&str> = code.lines().collect();
        for (number, line) in lines.iter().enumerate() {
            let is_look = [".expose()", ".expose_str()"].iter().any(|call| line.contains(call));
            if !is_look {
                continue;
            }
            let above = &lines[number.saturating_sub(6)..=number];
            let says = above.iter().any(|line| line.contains("EXPOSE:"));
            assert!(says, "{file}, line {}: no `EXPOSE:` above it says why", number + 1);
            count += 1;
        }
    }
    assert!(count >= 8, "only {count} looks were found");
}
