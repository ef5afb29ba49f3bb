//! Random values through every kind of edit, and what the real readers read then: the value, or the edit was refused.
//!
//! What is expected is put together here, not by the editor.

use std::collections::BTreeMap;
use std::thread;

use rayon::prelude::*;
use reseal_env::{Edit, EditError, Outcome, Place, Reader, UrlPart, add, edit};
use reseal_tests::env_readers::{REAL, read};
use reseal_tests::random::{Random, seed};

/// How many values each reader gets through each kind of edit.
const VALUES: usize = 10_000;

/// What makes values awkward: the shells' and the readers' own characters, blanks, line ends, and more than ASCII.
const AWKWARD: &str = "abcXYZ019$#'\"\\ \näß€😀$#'\"\\ \n";
/// Everything else that somebody gives a meaning to.
const HOSTILE: &str = "ab1$#'\"\\ \n`{}()[]<>;:&|!?*~%@^=,./+-_\tä€\r";
/// What values are generated from.
const DEFAULT: &str = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

fn values(random: &mut Random, alphabet: &str, length: usize, count: usize) -> Vec<String> {
    let alphabet: Vec<char> = alphabet.chars().collect();
    let mut below = |bound: usize| usize::try_from(random.below(bound as u64)).expect("it is small");
    (0..count).map(|_| (0..=below(length)).map(|_| alphabet[below(alphabet.len())]).collect()).collect()
}

/// A kind of edit: the value of `A` as it is written before, and as it must be read afterwards.
struct Kind {
    name: &'static str,
    before: &'static str,
    place: Option<Place>,
    expected: fn(&str) -> String,
}

fn percent(value: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
    let encode = |byte: u8| {
        if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") }
    };
    value.bytes().map(encode).collect()
}

fn kinds() -> Vec<Kind> {
    let kind = |name, before, place: &str, expected| Kind {
        name,
        before,
        place: Some(place.parse().expect("a place")),
        expected,
    };
    vec![
        Kind { name: "whole", before: "old", place: Some(Place::Whole), expected: str::to_owned },
        Kind { name: "added", before: "", place: None, expected: str::to_owned },
        kind("template", "old", "template:pre-{value}.post", |value| format!("pre-{value}.post")),
        kind("url password", "db://u:old@h/x?k=v", "url.password", |value| {
            format!("db://u:{}@h/x?k=v", percent(value))
        }),
        kind("url user", "db://old:p@h/x", "url.user", |value| format!("db://{}:p@h/x", percent(value))),
        kind("url parameter", "db://h/x?k=old", "url.query.k", |value| {
            format!("db://h/x?k={}", percent(value))
        }),
        kind("list", "a:old:c", "list[1]", |value| format!("a:{value}:c")),
        kind("json", "'{\"k\":[1,\"old\"]}'", "json:/k/1", |value| {
            format!("{{\"k\":[1,{}]}}", serde_json::to_string(value).expect("a string"))
        }),
    ]
}

impl Kind {
    /// A file with the value before, in one of the ways in which people write such.
    fn file(&self, number: usize) -> String {
        let quote = if self.before.starts_with('\'') { "" } else { ["", "'", "\""][number % 3] };
        let line =
            if self.place.is_some() { format!("A={quote}{}{quote}\n", self.before) } else { String::new() };
        ["B=1\n{}C='x y'\n", "# it's a comment\n\nB=1\nC='x y'\n{}", "{}B=1\nC='x y'"][number / 3 % 3]
            .replace("{}", &line)
    }

    fn change(&self, file: &str, readers: &[Reader], value: &str) -> Result<String, EditError> {
        let place = match self.place.clone() {
            Some(place) => place.separated_by(':'),
            None => Place::Whole,
        };
        let asked = Edit { name: "A".to_owned(), place, readers: readers.to_vec() };
        let changed = match self.place {
            Some(_) => edit(file.as_bytes(), &asked, value.as_bytes()),
            None => add(file.as_bytes(), &asked, value.as_bytes()),
        };
        match changed? {
            Outcome::Changed(new) => Ok(String::from_utf8(new.expose().to_vec()).expect("UTF-8")),
            Outcome::Unchanged => Ok(file.to_owned()),
            other => panic!("{other:?}"),
        }
    }
}

/// Puts every value through a kind of edit and asks the readers themselves; says how many edits were made.
fn check(kind: &Kind, readers: &[Reader], values: &[String]) -> usize {
    let written: Vec<(usize, Result<String, EditError>)> = (0..values.len())
        .into_par_iter()
        .map(|number| (number, kind.change(&kind.file(number), readers, &values[number])))
        .collect();
    let (mut files, mut made) = (Vec::new(), Vec::new());
    for (number, written) in written {
        match written {
            Ok(file) => {
                files.push(file);
                made.push(number);
            }
            Err(EditError::Character { .. } | EditError::NoCommonStyle { .. } | EditError::Shape { .. }) => {}
            Err(other) => panic!("{}: {other} for {:?}", kind.name, values[number]),
        }
    }
    let mut others = BTreeMap::from([("B".to_owned(), "1".to_owned()), ("C".to_owned(), "x y".to_owned())]);
    for &reader in readers {
        for (number, (found, file)) in made.iter().zip(read(reader, &files).into_iter().zip(&files)) {
            others.insert("A".to_owned(), (kind.expected)(&values[*number]));
            assert_eq!(found.as_ref(), Some(&others), "{reader}, {}: {file:?}", kind.name);
        }
    }
    made.len()
}

/// Ten thousand values for each reader and each kind; who is said to take 95 % of them does.
fn check_reader(reader: Reader) {
    let seed = seed();
    println!("RESEAL_TEST_SEED={seed}");
    let values = values(&mut Random::new(seed), AWKWARD, 24, VALUES);
    for kind in kinds() {
        let made = check(&kind, &[reader], &values);
        println!("{reader}, {}: {made} of {VALUES} made and read back", kind.name);
        let takes_most = matches!(reader, Reader::PythonDotenv | Reader::NodeDotenv | Reader::Shell);
        // A list takes no blanks around an element, since nobody knows whether its reader does.
        if takes_most && kind.name != "list" {
            assert!(made * 100 >= VALUES * 95, "{reader}, {}: {made} of {VALUES}", kind.name);
        }
        if matches!(kind.place, Some(Place::Url(UrlPart::User | UrlPart::Password | UrlPart::Query(_)))) {
            assert_eq!(made, VALUES, "{reader}: what is percent-encoded can always be written");
        }
    }
}

#[test]
fn env_corpus_ten_thousand_values_python_dotenv() {
    check_reader(Reader::PythonDotenv);
}

#[test]
fn env_corpus_ten_thousand_values_node_dotenv() {
    check_reader(Reader::NodeDotenv);
}

#[test]
fn env_corpus_ten_thousand_values_bash() {
    check_reader(Reader::Shell);
}

#[test]
fn env_corpus_ten_thousand_values_dotenvy() {
    check_reader(Reader::Dotenvy);
}

#[test]
fn env_corpus_ten_thousand_values_systemd() {
    check_reader(Reader::Systemd);
}

#[test]
fn env_corpus_values_for_several_readers_at_once() {
    let seed = seed();
    println!("RESEAL_TEST_SEED={seed}");
    let values = values(&mut Random::new(seed), HOSTILE, 12, 2_000);
    let whole = &kinds()[0];
    let made = check(whole, &REAL, &values);
    println!("for all at once: {made} of {} made and read back", values.len());
    assert!(made > 0);
    thread::scope(|scope| {
        for reader in REAL {
            let values = &values;
            scope.spawn(move || {
                let made = check(whole, &[reader], values);
                println!("{reader} alone: {made} of {} made and read back", values.len());
                assert!(made * 2 > values.len(), "{reader}: {made} of {}", values.len());
            });
        }
    });
}

#[test]
fn env_corpus_values_of_the_default_alphabet_are_never_refused() {
    let seed = seed();
    println!("RESEAL_TEST_SEED={seed}");
    let values = values(&mut Random::new(seed), DEFAULT, 43, 2_000);
    for kind in kinds() {
        assert_eq!(check(&kind, &REAL, &values), values.len(), "{}", kind.name);
        // Also for those that are modelled only, in files that they read as everybody does.
        for (number, value) in values.iter().enumerate().filter(|_| !kind.before.starts_with('\'')) {
            let file = kind.file(number * 3).replace("'x y'", "xy");
            let changed = kind.change(&file, &Reader::ALL, value);
            let line = format!("A={}\n", (kind.expected)(value));
            assert!(changed.as_ref().is_ok_and(|new| new.contains(&line)), "{}: {changed:?}", kind.name);
        }
    }
}
