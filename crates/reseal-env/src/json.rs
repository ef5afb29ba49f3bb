//! One string in a JSON document, found by a JSON pointer (RFC 6901) without touching the rest.

use std::ops::Range;

use crate::Secret;

const INVALID: &str = "is not JSON";
const MISSING: &str = "has no string at that JSON pointer";

/// Where the string is, quotes included.
pub(crate) fn find(json: &[u8], pointer: &str) -> Result<Range<usize>, &'static str> {
    let document: serde_json::Value = serde_json::from_slice(json).map_err(|_| INVALID)?;
    if !document.pointer(pointer).is_some_and(serde_json::Value::is_string) {
        return Err(MISSING);
    }
    // Valid JSON from here on, so the walk needs no checks of its own beyond the end of the text.
    let mut walk = Walk { json, at: 0 };
    for step in pointer.split('/').skip(1) {
        walk.enter(&step.replace("~1", "/").replace("~0", "~")).ok_or(MISSING)?;
    }
    walk.skip_space();
    let start = walk.at;
    walk.skip_value().ok_or(INVALID)?;
    Ok(start..walk.at)
}

/// A string as JSON, quotes included.
pub(crate) fn encode(value: &[u8]) -> Result<Secret, &'static str> {
    let text = std::str::from_utf8(value).map_err(|_| "would have a string in JSON that is not UTF-8")?;
    serde_json::to_vec(text).map(Secret::new).map_err(|_| INVALID)
}

/// What a string in JSON says.
pub(crate) fn decode(quoted: &[u8]) -> Result<Secret, &'static str> {
    let text: String = serde_json::from_slice(quoted).map_err(|_| INVALID)?;
    Ok(Secret::new(text.into_bytes()))
}

struct Walk<'a> {
    json: &'a [u8],
    at: usize,
}

impl Walk<'_> {
    fn peek(&self) -> Option<u8> {
        self.json.get(self.at).copied()
    }

    fn skip_space(&mut self) {
        while self.peek().is_some_and(|byte| byte.is_ascii_whitespace()) {
            self.at += 1;
        }
    }

    /// Goes to the member or element of that name; the last one, where a name is there twice, as parsers have it.
    fn enter(&mut self, step: &str) -> Option<()> {
        self.skip_space();
        let is_object = self.peek()? == b'{';
        self.at += 1;
        let mut found = None;
        for index in 0_usize.. {
            self.skip_space();
            if matches!(self.peek()?, b'}' | b']') {
                break;
            }
            let is_wanted = if is_object {
                let start = self.at;
                self.skip_value()?;
                let name: String = serde_json::from_slice(&self.json[start..self.at]).ok()?;
                self.skip_space();
                self.at += 1;
                name == step
            } else {
                index.to_string() == step
            };
            if is_wanted {
                found = Some(self.at);
            }
            self.skip_value()?;
            self.skip_space();
            if self.peek()? == b',' {
                self.at += 1;
            }
        }
        self.at = found?;
        Some(())
    }

    fn skip_value(&mut self) -> Option<()> {
        self.skip_space();
        let mut depth = 0_usize;
        loop {
            match self.peek()? {
                b'"' => self.skip_string()?,
                b'{' | b'[' => {
                    depth += 1;
                    self.at += 1;
                }
                b'}' | b']' => {
                    depth = depth.checked_sub(1)?;
                    self.at += 1;
                }
                b',' | b':' | b' ' | b'\t' | b'\n' | b'\r' => self.at += 1,
                _ => {
                    let is_end = |byte: &u8| b",:]} \t\r\n".contains(byte);
                    let length = self.json[self.at..].iter().position(is_end);
                    self.at = length.map_or(self.json.len(), |length| self.at + length);
                }
            }
            if depth == 0 {
                return Some(());
            }
        }
    }

    fn skip_string(&mut self) -> Option<()> {
        self.at += 1;
        while self.peek()? != b'"' {
            self.at += if self.peek()? == b'\\' { 2 } else { 1 };
        }
        self.at += 1;
        Some(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(json: &str, pointer: &str, expected: Result<&str, &'static str>) {
        assert_eq!(find(json.as_bytes(), pointer).map(|span| &json[span]), expected, "{json} {pointer}");
    }

    #[test]
    fn strings_are_found() {
        let json = r#" {"a": {"b/c" : [1, "x", {"~": "\"y\\"}]}, "d":"e" , "d": "f"} "#;
        check(json, "/a/b~1c/1", Ok("\"x\""));
        check(json, "/a/b~1c/2/~0", Ok(r#""\"y\\""#));
        check(json, "/d", Ok("\"f\""));
        check("\"s\"", "", Ok("\"s\""));
        check(json, "/a", Err(MISSING));
        check(json, "/a/b~1c/0", Err(MISSING));
        check("{", "/a", Err(INVALID));
    }
}
