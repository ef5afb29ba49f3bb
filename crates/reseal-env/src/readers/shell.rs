//! `source` in bash: assignments only. Anything that would run a command or end the assignment is an error.

use crate::error::ReadError;
use crate::readers::name_length;
use crate::reading::{Parts, Variables};

pub(crate) fn read(file: &[u8]) -> Result<Variables, ReadError> {
    let mut script = Script { file, at: 0 };
    let mut variables = Variables::last_wins();
    loop {
        script.skip_blanks();
        match script.peek() {
            None => return Ok(variables),
            Some(b'\n') => script.at += 1,
            Some(b'#') => script.skip_comment(),
            Some(_) => script.command(&mut variables)?,
        }
    }
}

struct Script<'a> {
    file: &'a [u8],
    at: usize,
}

impl Script<'_> {
    fn peek(&self) -> Option<u8> {
        self.file.get(self.at).copied()
    }

    fn rest(&self) -> &[u8] {
        &self.file[self.at..]
    }

    fn fail(&self, reason: &'static str) -> ReadError {
        ReadError::at(self.file, self.at, reason)
    }

    fn skip_blanks(&mut self) {
        loop {
            match self.rest() {
                [b' ' | b'\t', ..] => self.at += 1,
                [b'\\', b'\n', ..] => self.at += 2,
                _ => return,
            }
        }
    }

    fn skip_comment(&mut self) {
        while self.peek().is_some_and(|byte| byte != b'\n') {
            self.at += 1;
        }
    }

    /// `export`, or not, and assignments up to the end of the line.
    fn command(&mut self, variables: &mut Variables) -> Result<(), ReadError> {
        let is_export =
            self.rest().starts_with(b"export") && matches!(self.rest().get(6), Some(b' ' | b'\t'));
        if is_export {
            self.at += 6;
        }
        let mut found = Vec::new();
        loop {
            self.skip_blanks();
            match self.peek() {
                None | Some(b'\n') => break,
                Some(b'#') => {
                    self.skip_comment();
                    break;
                }
                Some(_) => found.extend(self.assignment(is_export)?),
            }
        }
        for (name, parts) in found {
            variables.insert(&name, parts);
        }
        Ok(())
    }

    fn assignment(&mut self, is_export: bool) -> Result<Option<(Vec<u8>, Parts)>, ReadError> {
        let length = name_length(self.rest());
        let name = self.rest()[..length].to_vec();
        match self.rest().get(length) {
            Some(b'=') if length > 0 => self.at += length + 1,
            None | Some(b' ' | b'\t' | b'\n') if length > 0 && is_export => {
                self.at += length;
                return Ok(None);
            }
            _ => return Err(self.fail("would run a command")),
        }
        let parts = self.word(is_export)?;
        Ok(Some((name, parts)))
    }

    fn word(&mut self, is_export: bool) -> Result<Parts, ReadError> {
        let mut parts = Parts::default();
        let start = self.at;
        while let Some(byte) = self.peek() {
            match byte {
                b' ' | b'\t' | b'\n' => break,
                b';' | b'&' | b'|' | b'<' | b'>' | b'(' | b')' => {
                    return Err(self.fail("has a shell operator outside quotes"));
                }
                b'\'' => self.single_quoted(&mut parts)?,
                b'"' => self.double_quoted(&mut parts)?,
                b'\\' => match self.file.get(self.at + 1) {
                    Some(b'\n') => self.at += 2,
                    Some(&escaped) => {
                        parts.push(&[escaped]);
                        self.at += 2;
                    }
                    None => return Err(self.fail("ends in a backslash")),
                },
                b'$' if matches!(self.file.get(self.at + 1), Some(b'\'' | b'"')) => {
                    return Err(self.fail("has a `$'` string, which is not modelled"));
                }
                b'$' | b'`' => self.expansion(&mut parts)?,
                b'~' if self.at == start || self.file[self.at - 1] == b':' => self.outside(&mut parts),
                // An argument of `export` undergoes brace expansion, an assignment does not.
                b'{' if is_export => self.outside(&mut parts),
                _ => {
                    parts.push(&[byte]);
                    self.at += 1;
                }
            }
        }
        Ok(parts)
    }

    fn outside(&mut self, parts: &mut Parts) {
        parts.push_outside(&self.file[self.at..=self.at]);
        self.at += 1;
    }

    fn single_quoted(&mut self, parts: &mut Parts) -> Result<(), ReadError> {
        let body = &self.rest()[1..];
        let Some(end) = body.iter().position(|&byte| byte == b'\'') else {
            return Err(self.fail("has a quote that is not closed"));
        };
        parts.push(&body[..end]);
        self.at += end + 2;
        Ok(())
    }

    fn double_quoted(&mut self, parts: &mut Parts) -> Result<(), ReadError> {
        let open = self.at;
        self.at += 1;
        loop {
            match self.rest() {
                [] => {
                    self.at = open;
                    return Err(self.fail("has a quote that is not closed"));
                }
                [b'"', ..] => {
                    self.at += 1;
                    return Ok(());
                }
                [b'\\', b'\n', ..] => self.at += 2,
                [b'\\', escaped @ (b'$' | b'`' | b'"' | b'\\'), ..] => {
                    parts.push(&[*escaped]);
                    self.at += 2;
                }
                [b'$' | b'`', ..] => self.expansion(parts)?,
                [byte, ..] => {
                    parts.push(&[*byte]);
                    self.at += 1;
                }
            }
        }
    }

    /// `$NAME`, `${...}`, `$?` and its like, or a `$` that stands for itself. Commands are not run.
    fn expansion(&mut self, parts: &mut Parts) -> Result<(), ReadError> {
        let rest = self.rest();
        let length = match rest {
            [b'`', ..] | [b'$', b'(' | b'[', ..] => return Err(self.fail("would run a command")),
            [b'$', b'{', braced @ ..] => {
                let Some(end) = braced.iter().position(|&byte| byte == b'}') else {
                    return Err(self.fail("has a reference that is not closed"));
                };
                let name = &braced[..name_length(braced)];
                let text = &rest[..end + 3];
                match name.len() {
                    0 => parts.push_outside(text),
                    length if length == end => parts.push_variable(name, text),
                    _ if braced[..end].iter().any(|byte| b"$`'\"\\{".contains(byte)) => {
                        return Err(self.fail("has a nested reference, which is not modelled"));
                    }
                    _ => parts.push_expression(name, text),
                }
                end + 3
            }
            // The line end disappears before the shell looks at what follows the `$`.
            [b'$', b'\\', b'\n', ..] => {
                return Err(self.fail("has a `$` at a continued line, which is not modelled"));
            }
            [b'$', special, ..] if b"0123456789?$!#*@-".contains(special) => {
                parts.push_outside(&rest[..2]);
                2
            }
            [b'$', after @ ..] if name_length(after) > 0 => {
                let length = name_length(after);
                parts.push_variable(&after[..length], &rest[..=length]);
                length + 1
            }
            _ => {
                parts.push(b"$");
                1
            }
        };
        self.at += length;
        Ok(())
    }
}
