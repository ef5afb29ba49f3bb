//! Edits: what is changed, what is refused, and that nothing else moves.

use std::process::Command;

use proptest::prelude::*;
use reseal_env::{Document, Edit, EditError, Outcome, Place, Reader, UrlPart, add, edit};

fn change(file: &str, place: Place, readers: &[Reader], value: &str) -> Result<Outcome, EditError> {
    let asked = Edit { name: "A".to_owned(), place, readers: readers.to_vec() };
    edit(file.as_bytes(), &asked, value.as_bytes())
}

#[track_caller]
fn check(file: &str, place: Place, readers: &[Reader], value: &str, expected: &str) {
    match change(file, place, readers, value) {
        Ok(Outcome::Changed(new)) => assert_eq!(String::from_utf8_lossy(new.expose()), expected),
        other => panic!("{file:?}: {other:?}"),
    }
}

#[track_caller]
fn check_refused(file: &str, place: Place, readers: &[Reader], value: &str, expected: &str) {
    let error = change(file, place, readers, value).expect_err("it is refused");
    assert_eq!(error.to_string(), expected);
}

/// All but docker, which reads no quotes, and compose, which takes `:` for `=`.
const QUOTING: [Reader; 5] =
    [Reader::PythonDotenv, Reader::NodeDotenv, Reader::Dotenvy, Reader::Shell, Reader::Systemd];

#[test]
fn only_the_value_changes() {
    let all = Reader::ALL;
    check("# c\nB=1\nA=old\n\nC='x'", Place::Whole, &all[..2], "new", "# c\nB=1\nA=new\n\nC='x'");
    check("A=old", Place::Whole, &all, "new-Value_1", "A=new-Value_1");
    check("\u{feff}A=1\r\nB=2\r\n", Place::Whole, &[Reader::PythonDotenv], "x", "\u{feff}A=x\r\nB=2\r\n");
    check("export A = 'old' # c\n", Place::Whole, &[Reader::PythonDotenv], "n", "export A = 'n' # c\n");
    check("A=1\nB=2\nA=3\n", Place::Whole, &QUOTING, "x", "A=x\nB=2\nA=x\n");
    check("A=\"1\n2\"\nB=3\n", Place::Whole, &[Reader::Shell], "x", "A=\"x\"\nB=3\n");
}

#[test]
fn the_least_different_way_of_writing_is_taken() {
    check("A=old\n", Place::Whole, &QUOTING, "x y", "A='x y'\n");
    check("A=\"old\"\n", Place::Whole, &QUOTING, "x y", "A=\"x y\"\n");
    check("A=\"old\"\n", Place::Whole, &QUOTING, "x$y", "A='x$y'\n");
    check("A=old\n", Place::Whole, &[Reader::Shell], "it's", "A=\"it's\"\n");
    check("A='old'\n", Place::Whole, &[Reader::Shell], "it's", "A='it'\\''s'\n");
    check("A='old'\n", Place::Whole, &[Reader::PythonDotenv], "it's", "A='it\\'s'\n");
    check("A=old\n", Place::Whole, &[Reader::Docker], "it's $x #", "A=it's $x #\n");
    check("A=old\n", Place::Whole, &[Reader::Compose], "a$b\"'", "A=a$$b\"'\n");
    check("A=old\n", Place::Whole, &[Reader::Compose], "a$b #'", "A=\"a\\$b #'\"\n");
    check("A=old\n", Place::Whole, &[Reader::NodeDotenv], "a'b\"c`d", "A=a'b\"c`d\n");
    let refused = "node-dotenv cannot read '#' in the value of A";
    check_refused("A=old\n", Place::Whole, &[Reader::NodeDotenv], "a'b\"c`d #", refused);
}

#[test]
fn a_part_of_the_value_changes() {
    let password = || Place::Url(UrlPart::Password);
    let all = Reader::ALL;
    check("A=redis://:old@h:1/0\n", password(), &all, "n", "A=redis://:n@h:1/0\n");
    check("A=db://u:old@h\n", password(), &QUOTING, "a@/ä%", "A=db://u:a%40%2F%C3%A4%25@h\n");
    check("B=h\nA=db://u:old@${B}\n", password(), &[Reader::Compose], "x", "B=h\nA=db://u:x@${B}\n");
    let item = |index| Place::ListItem { separator: ',', index };
    check("A=a,old,c\n", item(1), &all, "n", "A=a,n,c\n");
    check("A='a, old , c'\n", item(1), &QUOTING, "n", "A='a, n , c'\n");
    check_refused("A=a,b\n", item(2), &all, "n", "the value of A has fewer elements");
    check_refused(
        "A=a,b\n",
        item(1),
        &all,
        "n,m",
        "the value of A is a list whose separator is in the new element",
    );
    check_refused(
        "A=a,b\n",
        item(1),
        &all,
        " n",
        "the value of A is a list, in which blanks around an element do not belong to it",
    );
    let json = || Place::JsonPointer("/k/0".to_owned());
    check("A='{\"k\": [\"old\"]}'\n", json(), &QUOTING, "n\"", "A='{\"k\": [\"n\\\"\"]}'\n");
    check("A=x\n", Place::Template("Bearer {value}".to_owned()), &QUOTING, "n", "A='Bearer n'\n");
}

#[test]
fn interpolation_is_understood() {
    let file = "A=old\nURL=redis://:${A}@redis:6379/0\n";
    let readers = [Reader::Compose, Reader::PythonDotenv];
    check(file, Place::Whole, &readers, "new", "A=new\nURL=redis://:${A}@redis:6379/0\n");
    let unsafe_there = "URL puts A into a URL, where '/' has a meaning of its own";
    check_refused(file, Place::Whole, &readers, "n/w", unsafe_there);
    // Docker reads `${A}` as it stands, so for docker it is no reference.
    check(file, Place::Whole, &[Reader::Docker], "n/w", "A=n/w\nURL=redis://:${A}@redis:6379/0\n");
    let url =
        Edit { name: "URL".to_owned(), place: Place::Url(UrlPart::Password), readers: vec![Reader::Compose] };
    assert_eq!(edit(file.as_bytes(), &url, b"new"), Ok(Outcome::Interpolated("A".to_owned())));
    let refused = edit(file.as_bytes(), &url, b"n@w").expect_err("it is refused");
    assert_eq!(refused.to_string(), "URL puts A into a URL, where '@' has a meaning of its own");
}

#[test]
fn a_url_made_of_a_variable_made_of_this_one_is_a_url_too() {
    let file = "A=old\nB=x${A}\nURL=redis://:${B}@redis:6379/0\n";
    let readers = [Reader::Compose, Reader::PythonDotenv, Reader::Shell];
    check(file, Place::Whole, &readers, "n", "A=n\nB=x${A}\nURL=redis://:${B}@redis:6379/0\n");
    let refused = "URL puts A into a URL, where '@' has a meaning of its own";
    check_refused(file, Place::Whole, &readers, "n@w", refused);
    check("A=old\nB=${A}\n", Place::Whole, &readers, "n@w", "A=n@w\nB=${A}\n");
}

/// Adds A to a file, or says why not.
fn added(file: &str, place: Place, readers: &[Reader], value: &str) -> String {
    let asked = Edit { name: "A".to_owned(), place, readers: readers.to_vec() };
    match add(file.as_bytes(), &asked, value.as_bytes()) {
        Ok(Outcome::Changed(new)) => String::from_utf8(new.expose().to_vec()).expect("UTF-8"),
        Ok(other) => panic!("{other:?}"),
        Err(error) => error.to_string(),
    }
}

#[test]
fn a_missing_variable_is_added_as_the_others_are_written() {
    let all = Reader::ALL;
    let whole = |file, value| added(file, Place::Whole, &QUOTING, value);
    assert_eq!(added("", Place::Whole, &all, "n"), "A=n\n");
    assert_eq!(whole("B=1\n", "x y"), "B=1\nA='x y'\n");
    assert_eq!(whole("B=1", "n"), "B=1\nA=n\n");
    assert_eq!(added("B=1\r\n", Place::Whole, &[Reader::PythonDotenv], "n"), "B=1\r\nA=n\r\n");
    assert_eq!(added("export B=1\n", Place::Whole, &[Reader::Shell], "n"), "export B=1\nexport A=n\n");
    let template = || Place::Template("redis://:{value}@h".to_owned());
    assert_eq!(added("B=1\n", template(), &all, "n"), "B=1\nA=redis://:n@h\n");
    assert_eq!(whole("A=1\n", "n"), "there is a variable A already");
    let refused = "the value of A is not a URL";
    assert_eq!(added("B=1\n", Place::Url(UrlPart::Password), &all, "n"), refused);
    let refused = "URL puts A into a URL, where '@' has a meaning of its own";
    assert_eq!(added("URL=a://${A}\n", Place::Whole, &[Reader::Compose], "n@"), refused);
    // A quote that is open at the end would swallow the new line.
    let refused = "shell does not read the file: line 1 has a quote that is not closed";
    assert_eq!(added("B='1\n", Place::Whole, &[Reader::Shell], "n"), refused);
}

#[test]
fn what_a_reader_would_not_read_is_refused_by_name() {
    let whole = || Place::Whole;
    check_refused("A=1\n", whole(), &[Reader::Docker], "a\nb", "docker cannot read '\\n' in the value of A");
    let refused = "python-dotenv cannot read '}' in the value of A";
    check_refused("A=1\n", whole(), &[Reader::PythonDotenv], "a${b}c", refused);
    let refused = "no way of writing the value of A is read alike by docker, shell; ' ' is in the way";
    check_refused("A=1\n", whole(), &[Reader::Docker, Reader::Shell], "a b", refused);
    let refused =
        "systemd reads more than the value on the line of A, such as a comment or a carriage return";
    check_refused("A=1 # c\n", whole(), &[Reader::Systemd], "x", refused);
    let refused = "shell does not read the file: line 2 would run a command";
    check_refused("A=1\nB=x $(date)\n", whole(), &[Reader::Shell], "x", refused);
    check_refused("B=1\n", whole(), &[Reader::Shell], "x", "there is no variable A");
    check_refused("A=1\n", whole(), &[], "x", "no reader is declared for the file");
    check_refused("A=1\n", whole(), &[Reader::Shell], "a\0", "the value has a NUL byte");
    let refused = "docker and shell read different values of A";
    let password = Place::Url(UrlPart::Password);
    check_refused("A='db://u:p@h'\n", password, &[Reader::Docker, Reader::Shell], "x", refused);
}

#[test]
fn a_value_that_is_there_already_changes_nothing() {
    assert_eq!(change("A='x y'\n", Place::Whole, &QUOTING, "x y"), Ok(Outcome::Unchanged));
}

/// Text around the line that is edited, in every reader's reach.
fn surroundings() -> impl Strategy<Value = (String, String)> {
    let lines = ["", "# it's \"c\"\n", "B='x y'\n", "C=1\n\n", "D=\"a b\"\n"];
    let line = || prop::sample::select(lines.to_vec());
    (prop::collection::vec(line(), 0..4), prop::collection::vec(line(), 0..4))
        .prop_map(|(before, after)| (before.concat(), after.concat()))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, ..ProptestConfig::default() })]

    #[test]
    fn all_other_bytes_stay((before, after) in surroundings(), value in "[a-z$#'\"\\\\ \n`{}ä!=;]{0,12}", reader in 0..7_usize) {
        let file = format!("{before}A='old'\n{after}");
        // Docker reads a quoted old value with its quotes and takes no other lines amiss.
        if let Ok(Outcome::Changed(new)) = change(&file, Place::Whole, &[Reader::ALL[reader]], &value) {
            let (start, end) = (format!("{before}A="), format!("\n{after}"));
            prop_assert!(new.expose().starts_with(start.as_bytes()) && new.expose().ends_with(end.as_bytes()));
            let read = Reader::ALL[reader].read(new.expose()).expect("it was read to prove the edit");
            prop_assert_eq!(read.get("A").map(|value| value.expose()), Some(value.as_bytes()));
        }
    }

    #[test]
    fn the_default_alphabet_is_never_refused(value in "[A-Za-z0-9_-]{1,43}", quote in "['\"]?") {
        let readers = if quote.is_empty() { &Reader::ALL[..] } else { &QUOTING[..] };
        let expected = format!("A={quote}{value}{quote}\n");
        let changed = change(&format!("A={quote}o{quote}\n"), Place::Whole, readers, &value);
        match changed {
            Ok(Outcome::Changed(new)) => prop_assert_eq!(new.expose(), expected.as_bytes()),
            other => prop_assert_eq!(other, Ok(Outcome::Unchanged)),
        }
    }

    #[test]
    fn dotenvy_itself_reads_what_was_written(value in "[a-z$#'\"\\\\ \n`{}ä!=;]{0,12}") {
        if let Ok(Outcome::Changed(new)) = change("B=1\nA=o\nC=2\n", Place::Whole, &[Reader::Dotenvy], &value) {
            let read: Result<Vec<_>, _> = dotenvy::from_read_iter(new.expose()).collect();
            let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
            prop_assert_eq!(read.expect("it reads"), [pair("B", "1"), pair("A", &value), pair("C", "2")]);
        }
    }

    #[test]
    fn tokens_are_the_file(file in "(A|B|export|=|'|\"|`|\\\\|#| |\n|\r\n|x|ä|\\$|\u{feff}){0,30}") {
        let document = Document::parse(file.as_bytes()).to_bytes();
        prop_assert_eq!(document.expose(), file.as_bytes());
        // No model fails otherwise than by its error.
        for reader in Reader::ALL {
            let _ = reader.read(file.as_bytes());
        }
    }
}

#[test]
fn bytes_that_are_no_text_are_put_into_a_part_as_they_are_or_refused() {
    let file = b"B=b\nA=one,two,$B\n";
    for reader in Reader::ALL {
        for value in [&b"\xff"[..], b"\xff\xff\xff", b"\xff\x00\xff", b"x\xfe"] {
            let asked =
                Edit { name: "A".into(), place: "list[1]".parse().expect("a place"), readers: vec![reader] };
            if let Ok(Outcome::Changed(new)) = edit(file, &asked, value) {
                let read = reader.read(new.expose()).expect("it was proved");
                let whole = read.get("A").expect("it is there");
                let found = whole.expose().windows(value.len()).any(|window| window == value);
                assert!(found, "{reader}: {value:?}");
            }
        }
    }
}

/// Values of awkward characters, always the same.
fn awkward_values(count: usize) -> Vec<String> {
    let alphabet: Vec<char> = "abcXYZ019$#'\"\\ \n`{}ä€!=;:&|~*%@/,.-_".chars().collect();
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    let mut next = move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        usize::try_from(state >> 33).expect("31 bits fit")
    };
    (0..count).map(|_| (0..=next() % 24).map(|_| alphabet[next() % alphabet.len()]).collect()).collect()
}

#[test]
fn env_corpus_bash_itself_reads_what_was_written() {
    let folder = tempfile::tempdir().expect("a folder");
    let values = awkward_values(2000);
    for (number, value) in values.iter().enumerate() {
        let file = ["A=o\n", "export A='o' # c\n", "A=\"o\""][number % 3];
        match change(file, Place::Whole, &[Reader::Shell], value) {
            Ok(Outcome::Changed(new)) => {
                std::fs::write(folder.path().join(format!("{number:05}")), new.expose()).expect("written");
            }
            other => panic!("bash can read any value: {other:?} for {value:?}"),
        }
    }
    let script = "for file in *; do unset A; . ./$file; printf '%s\\0' \"$A\"; done";
    let output =
        Command::new("bash").args(["--norc", "-c", script]).current_dir(&folder).env_clear().output();
    let output = output.expect("bash runs: apt-get install bash");
    let read: Vec<&[u8]> = output.stdout.split(|&byte| byte == 0).collect();
    assert_eq!(read.len(), values.len() + 1);
    for (read, value) in read.iter().zip(&values) {
        assert_eq!(*read, value.as_bytes(), "{}", String::from_utf8_lossy(&output.stderr));
    }
}
