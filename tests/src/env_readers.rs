//! The programs that read `.env` files, asked themselves: many files at a time, each answered with what it reads.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use reseal_env::Reader;
use serde_json::Value;

use crate::process_lines::ask;
use crate::python::{Package, answers};

/// The readers that can be asked here.
pub const REAL: [Reader; 5] =
    [Reader::PythonDotenv, Reader::NodeDotenv, Reader::Shell, Reader::Dotenvy, Reader::Systemd];

/// The variables that the files of these tests may have.
pub const NAMES: [&str; 3] = ["A", "B", "C"];

/// What a reader reads from one file; `None` where it refuses the file.
pub type Read = Option<BTreeMap<String, String>>;

/// What the real reader reads from each of these files.
///
/// # Panics
///
/// If the reader is not installed, saying what to install, or fails: tests do not skip.
pub fn read(reader: Reader, files: &[String]) -> Vec<Read> {
    let questions = || files.iter().map(|file| Value::from(file.as_str())).collect::<Vec<_>>();
    match reader {
        Reader::PythonDotenv => parsed(answers("read_dotenv.py", &[Package::DOTENV], &questions())),
        Reader::Systemd => parsed(answers("read_systemd.py", &[], &questions())),
        Reader::NodeDotenv => parsed(ask(node(), &questions())),
        Reader::Dotenvy => files.iter().map(|file| read_by_dotenvy(file)).collect(),
        Reader::Shell => read_by_bash(files),
        other => panic!("{other} cannot be asked here"),
    }
}

fn parsed(answers: Vec<Value>) -> Vec<Read> {
    answers.into_iter().map(|answer| serde_json::from_value(answer).expect("names and texts")).collect()
}

/// Where the packages of node are.
///
/// # Panics
///
/// If they are not installed.
pub fn node_modules() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let named = std::env::var_os("RESEAL_TEST_NODE_MODULES").map(PathBuf::from);
    let modules = named.unwrap_or_else(|| here.join("../target/node/node_modules"));
    assert!(
        modules.join("dotenv").is_dir(),
        "node's dotenv is not in {}: run `./test --install`, or `npm install dotenv` (Debian packages nodejs, npm)",
        modules.display()
    );
    modules
}

fn node() -> Command {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut command = Command::new("node");
    command.arg(here.join("node/read_dotenv.js")).env("NODE_PATH", node_modules());
    command
}

fn read_by_dotenvy(file: &str) -> Read {
    let mut values = BTreeMap::new();
    for pair in dotenvy::from_read_iter(file.as_bytes()) {
        let (name, value) = pair.ok()?;
        // What is set first stays, as `dotenv()` has it.
        values.entry(name).or_insert(value);
    }
    Some(values)
}

/// Sources every file in one shell and prints the variables that are set then, or `!` where it complains.
fn read_by_bash(files: &[String]) -> Vec<Read> {
    let folder = tempfile::tempdir().expect("a folder");
    for (number, file) in files.iter().enumerate() {
        fs::write(folder.path().join(number.to_string()), file).expect("written");
    }
    let script = r#"
        exec 2>>"$2"
        for ((i = 0; i < $1; i++)); do
            unset A B C
            if . ./$i && [ ! -s "$2" ]; then
                for name in A B C; do [ -n "${!name+x}" ] && printf '%s=%s\0' "$name" "${!name}"; done
            else
                printf '!\0'; : >"$2"
            fi
            printf '\0'
        done"#;
    let complaints = tempfile::NamedTempFile::new().expect("a file");
    let output = Command::new("bash")
        .args(["--norc", "-c", script, "bash", &files.len().to_string()])
        .arg(complaints.path())
        .current_dir(&folder)
        .env_clear()
        .env("LC_ALL", "C.UTF-8")
        .output()
        .expect("bash runs; it is the Debian package `bash`");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).expect("values are UTF-8");
    let mut fields = text.split('\0');
    (0..files.len())
        .map(|_| {
            let own: Vec<&str> = fields.by_ref().take_while(|field| !field.is_empty()).collect();
            let pair = |field: &&str| {
                let (name, value) = field.split_once('=')?;
                Some((name.to_owned(), value.to_owned()))
            };
            own.iter().map(pair).collect()
        })
        .collect()
}
