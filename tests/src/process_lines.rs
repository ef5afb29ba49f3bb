//! Programs that answer JSON lines with JSON lines, one each.

use std::io::Write;
use std::process::{Command, Stdio};

use serde_json::Value;

/// Asks a program everything at once.
///
/// # Panics
///
/// If it does not run, fails, or gives another number of answers.
pub fn ask(mut command: Command, questions: &[Value]) -> Vec<Value> {
    let program = format!("{command:?}");
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| panic!("{program} does not start: {error}"));
    let mut stdin = child.stdin.take().expect("it is piped");
    let lines: String = questions.iter().map(|question| format!("{question}\n")).collect();
    // On a thread of its own: both pipes are smaller than what goes through them.
    let writer = std::thread::spawn(move || stdin.write_all(lines.as_bytes()));
    let output = child.wait_with_output().expect("the program ends");
    let written = writer.join().expect("the writer does not panic");
    assert!(output.status.success(), "{program} failed: {}", output.status);
    written.expect("the program reads all questions");
    let text = String::from_utf8(output.stdout).expect("JSON is UTF-8");
    let answers: Vec<Value> =
        text.lines().map(|line| serde_json::from_str(line).expect("every line is JSON")).collect();
    assert_eq!(answers.len(), questions.len(), "{program} answers every question once");
    answers
}
