//! Any bytes as a `.env` file: its tokens are the file, no reader's model fails otherwise than by its error, and an edit that is
//! accepted reads back as the value at the place, with everything else as before.
//!
//! Input: one byte for the reader, one for the place, the value up to a NUL byte, the file.
#![no_main]

use libfuzzer_sys::fuzz_target;
use reseal_env::{Document, Edit, EditError, Outcome, Place, Reader, add, check, edit, get};

const PLACES: [&str; 7] =
    ["", "template:<{value}>", "url.password", "url.userinfo", "url.query.k", "list[1]", "json:/k/0"];

fuzz_target!(|bytes: &[u8]| {
    let [reader, place, rest @ ..] = bytes else { return };
    let mut parts = rest.splitn(2, |&byte| byte == 0);
    let (value, file) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
    assert_eq!(Document::parse(file).to_bytes().expose(), file);
    check(file, &Reader::ALL);
    let reader = Reader::ALL[usize::from(*reader) % Reader::ALL.len()];
    let place = PLACES[usize::from(*place) % PLACES.len()].parse().unwrap_or(Place::Whole);
    let asked = Edit { name: "A".to_owned(), place, readers: vec![reader] };
    for changed in [edit(file, &asked, value), add(file, &asked, value)] {
        let Ok(Outcome::Changed(new)) = changed else { continue };
        match get(new.expose(), &asked) {
            Ok(read) => assert_eq!(read.expose(), value, "{reader} at {}", asked.place),
            // The rest of the value may refer to what is not in the file.
            Err(error) => assert!(matches!(error, EditError::Shape { .. }) && asked.place != Place::Whole, "{error}"),
        }
        let (before, after) = (reader.read(file), reader.read(new.expose()));
        let (before, after) = (before.expect("it was edited"), after.expect("it was proved"));
        for name in before.names().into_iter().filter_map(|name| std::str::from_utf8(name).ok()) {
            assert!(name == "A" || before.get(name).is_none() || after.contains(name), "{name} is gone");
        }
    }
});
