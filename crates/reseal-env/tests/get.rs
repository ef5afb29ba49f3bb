//! Reading a place, and whether readers agree.

use reseal_env::{Agreement, Edit, Outcome, Place, Reader, UrlPart, check, edit, get};

fn read(file: &str, place: &str, readers: &[Reader]) -> String {
    let place = if place.is_empty() { Place::Whole } else { place.parse().expect("a place") };
    let at = Edit { name: "A".to_owned(), place, readers: readers.to_vec() };
    match get(file.as_bytes(), &at) {
        Ok(value) => String::from_utf8(value.expose().to_vec()).expect("UTF-8"),
        Err(error) => format!("refused: {error}"),
    }
}

const PYTHON: &[Reader] = &[Reader::PythonDotenv];

#[test]
fn every_place_is_read_decoded() {
    assert_eq!(read("A=x\n", "", &Reader::ALL), "x");
    assert_eq!(read("A='x y' # c\n", "", PYTHON), "x y");
    assert_eq!(read("A=db://u:a%40%2Fb@h/d?password=c%20d#f\n", "url.password", PYTHON), "a@/b");
    assert_eq!(read("A=db://u%3a:p@h\n", "url.user", PYTHON), "u:");
    assert_eq!(read("A=db://u:p%25@h\n", "url.userinfo", PYTHON), "u:p%");
    assert_eq!(read("A='db://h/d?x=1&password=c%20d#f'\n", "url.query.password", PYTHON), "c d");
    assert_eq!(read("A='a, b ,c'\n", "list[1]", PYTHON), "b");
    assert_eq!(read("A='{\"k\":[\"a\\u00e4\"]}'\n", "json:/k/0", &[Reader::NodeDotenv]), "aä");
    assert_eq!(read("A=Bearer x\n", "template:Bearer {value}", PYTHON), "x");
    assert_eq!(read("A=x-x\n", "template:{value}-{value}", PYTHON), "x");
    assert_eq!(read("P=s\nA=redis://:${P}@h\n", "url.password", PYTHON), "s");
}

#[test]
fn what_is_not_there_or_not_clear_is_refused() {
    let refusals = [
        ("B=1\n", "", "there is no variable A"),
        ("A=db://h\n", "url.password", "the value of A has no user part in its URL"),
        (
            "A=db://u:%zz@h\n",
            "url.password",
            "the value of A has a `%` in its URL that begins no encoded byte",
        ),
        ("A=a,b\n", "list[2]", "the value of A has fewer elements"),
        ("A=x-y\n", "template:{value}-{value}", "the value of A is not made of the template"),
        ("A=${B}\n", "", "the value of A depends on what is not in the file"),
    ];
    for (file, place, expected) in refusals {
        assert_eq!(read(file, place, PYTHON), format!("refused: {expected}"), "{file:?}");
    }
    let differ = "refused: docker and python-dotenv read different values of A";
    assert_eq!(read("A='x'\n", "", &[Reader::Docker, Reader::PythonDotenv]), differ);
    assert_eq!(read("A=x\n", "", &[]), "refused: no reader is declared for the file");
}

#[test]
fn what_was_put_somewhere_is_read_there() {
    let files = [
        ("A=old\n", "", "n w"),
        ("A=old\n", "template:<{value}>", "n w"),
        ("A=db://u:o@h/?k=o\n", "url.password", "n/w@"),
        ("A=db://u:o@h/?k=o\n", "url.userinfo", "n:w:@"),
        ("A=db://u:o@h/?k=o\n", "url.query.k", "n&w="),
        ("A=a,b,c\n", "list[2]", "n w"),
        ("A='{\"a\": {\"b\": \"o\"}}'\n", "json:/a/b", "n\"w\\"),
    ];
    for (file, place, value) in files {
        let parsed = if place.is_empty() { Place::Whole } else { place.parse().expect("a place") };
        let asked = Edit { name: "A".to_owned(), place: parsed, readers: PYTHON.to_vec() };
        let Ok(Outcome::Changed(new)) = edit(file.as_bytes(), &asked, value.as_bytes()) else {
            panic!("{file:?} {place}: not changed");
        };
        let new = String::from_utf8(new.expose().to_vec()).expect("UTF-8");
        assert_eq!(read(&new, place, PYTHON), value, "{new:?}");
    }
}

#[test]
fn places_are_read_as_they_are_written() {
    for text in [
        "url.password",
        "url.user",
        "url.userinfo",
        "url.query.pass",
        "list[3]",
        "json:/a~1b/0",
        "json:",
        "template:a{value}",
    ] {
        assert_eq!(text.parse::<Place>().expect("a place").to_string(), text);
    }
    let semicolons = "list[1]".parse::<Place>().expect("a place").separated_by(';');
    assert_eq!(semicolons, Place::ListItem { separator: ';', index: 1 });
    for text in
        ["", "url", "url.", "url.host", "url.query.", "list", "list[x]", "list[1", "json:a", "template:x"]
    {
        assert!(text.parse::<Place>().is_err(), "{text}");
    }
    assert_eq!("url.user".parse(), Ok(Place::Url(UrlPart::User)));
}

#[test]
fn disagreement_is_named() {
    let found = check(b"A='x'\nB=y\nB=z\nC=${OUT}\n", &[Reader::Docker, Reader::PythonDotenv]);
    let by_name: Vec<_> =
        found.variables.iter().map(|one| (one.name.as_str(), one.lines, one.agreement)).collect();
    let differs = Agreement::Differs(Reader::Docker, Reader::PythonDotenv);
    let outside = Agreement::Outside(Reader::PythonDotenv);
    assert_eq!(by_name, [("A", 1, differs), ("B", 2, Agreement::Agreed), ("C", 1, outside)]);
    assert!(!found.is_agreed());
    assert!(check(b"A=x\n", &Reader::ALL).is_agreed());
    let found = check(b"A=x y\n", &[Reader::Shell, Reader::PythonDotenv]);
    assert_eq!(found.unreadable.len(), 1, "{found:?}");
    let unseen = check(b"export A=x\n", &[Reader::PythonDotenv, Reader::Systemd]);
    assert_eq!(unseen.variables[0].agreement, Agreement::NotSeen(Reader::Systemd));
}
