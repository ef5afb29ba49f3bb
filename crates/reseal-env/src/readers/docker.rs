//! `docker run --env-file`: one line, one variable; everything after the first `=` is the value.
//!
//! After docker/cli `pkg/kvfile`; holds for the released versions, none of which removes quotes.

use crate::error::ReadError;
use crate::readers::BOM;
use crate::reading::{Parts, Variables};

/// The longest line that Go's scanner takes.
const LINE_BYTES_MAX: usize = 64 * 1024;

pub(crate) fn read(file: &str) -> Result<Variables, ReadError> {
    let mut variables = Variables::last_wins();
    for (number, line) in file.strip_prefix(BOM).unwrap_or(file).split('\n').enumerate() {
        let fail = |reason| ReadError { line: number + 1, reason };
        if line.len() >= LINE_BYTES_MAX {
            return Err(fail("is too long"));
        }
        let line = line.strip_suffix('\r').unwrap_or(line).trim_start();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let (name, value) = line.split_once('=').map_or((line, None), |(name, value)| (name, Some(value)));
        if name.is_empty() {
            return Err(fail("has no variable name"));
        }
        if name.contains([' ', '\t']) {
            return Err(fail("has a variable name with whitespace"));
        }
        let mut parts = Parts::default();
        match value {
            Some(value) => parts.push(value.as_bytes()),
            None => parts.push_outside(line.as_bytes()),
        }
        variables.insert(name.as_bytes(), parts);
    }
    Ok(variables)
}
