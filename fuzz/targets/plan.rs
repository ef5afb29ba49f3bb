//! Any text as a plan file: a plan, or an error that says something on one screen.
#![no_main]

use std::path::Path;

use libfuzzer_sys::fuzz_target;
use reseal_rotate::plan::Plan;

fuzz_target!(|bytes: &[u8]| {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    if let Err(error) = Plan::parse(Path::new("reseal.toml"), text) {
        assert!(!error.to_string().is_empty());
    }
});
