//! What the README tells people to type exists: every command with its flags, and the plan file.

use std::path::Path;
use std::process::Command;

use reseal_rotate::plan::Plan;

const README: &str = include_str!("../../../README.md");

/// The lines of every fenced block in this language.
fn blocks(language: &str) -> impl Iterator<Item = &'static str> {
    let fence = format!("```{language}");
    let mut inside = false;
    README.lines().filter(move |line| {
        let edge = line.starts_with("```");
        inside = if edge { *line == fence } else { inside };
        inside && !edge
    })
}

/// The words of each call of `reseal` in a line of shell, which here has simple quotes, pipes and comments only.
fn calls(line: &str) -> impl Iterator<Item = Vec<String>> {
    let code = line.split(" #").next().unwrap_or_default();
    let pipeline = code.split('|').map(|part| part.split_whitespace().map(|word| word.replace('\'', "")));
    pipeline
        .map(Iterator::collect::<Vec<_>>)
        .filter(|words| words.first().is_some_and(|word| word == "reseal"))
}

#[test]
fn every_command_of_the_readme_exists() {
    let mut count = 0;
    for words in blocks("sh").flat_map(calls) {
        // `--help` at the end checks every word before it and does nothing.
        let output = Command::new(env!("CARGO_BIN_EXE_reseal")).args(&words[1..]).arg("--help").output();
        let output = output.expect("the command starts");
        assert!(output.status.success(), "{words:?}: {}", String::from_utf8_lossy(&output.stderr));
        count += 1;
    }
    assert!(count >= 12, "the README shows {count} commands");
}

#[test]
fn the_plan_of_the_readme_is_a_plan() {
    let text: String = blocks("toml").map(|line| format!("{line}\n")).collect();
    let plan = Plan::parse(Path::new("reseal.toml"), &text).expect("the README's plan");
    assert_eq!(plan.column_names().collect::<Vec<_>>(), ["client-preferences"]);
}
