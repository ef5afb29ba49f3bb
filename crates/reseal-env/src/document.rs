//! The tokens of a `.env` file: every byte belongs to one of them.

use std::fmt;
use std::ops::Range;

use crate::Secret;
use crate::readers::is_name;

/// What a token is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Kind {
    /// The byte order mark that some editors put at the start.
    Bom,
    /// Blanks within a line.
    Blank,
    /// `\n` or `\r\n`.
    LineEnd,
    /// `#` and what follows on the line.
    Comment,
    /// The word `export`.
    Export,
    /// The name of a variable.
    Name,
    /// `=`.
    Equals,
    /// The value as it is written, quotes included; may be empty, may span lines within quotes.
    Value,
    /// A line, or the rest of one, that is none of this.
    Other,
}

/// A piece of the file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Token {
    /// What it is.
    pub kind: Kind,
    /// Where it is, in bytes.
    pub span: Range<usize>,
}

/// A file as tokens; concatenated they are the file.
pub struct Document {
    bytes: Secret,
    tokens: Vec<Token>,
}

impl Document {
    /// Takes a file apart; there is no file that it refuses.
    pub fn parse(bytes: &[u8]) -> Self {
        let mut lexer = Lexer { bytes, at: 0, tokens: Vec::new() };
        lexer.run();
        Self { tokens: lexer.tokens, bytes: Secret::copy_from(bytes) }
    }

    /// The tokens in the order of the file.
    pub fn tokens(&self) -> &[Token] {
        &self.tokens
    }

    /// The file, put together from its tokens.
    pub fn to_bytes(&self) -> Secret {
        let mut whole = Secret::default();
        self.tokens.iter().for_each(|token| whole.push(&self.bytes.expose()[token.span.clone()]));
        whole
    }

    /// Where the values of `name` are written, once for each of its lines.
    pub fn values(&self, name: &str) -> Vec<Range<usize>> {
        let mut spans = Vec::new();
        let mut is_named = false;
        for token in &self.tokens {
            match token.kind {
                Kind::Name => is_named = self.bytes.expose()[token.span.clone()] == *name.as_bytes(),
                Kind::Value if is_named => spans.push(token.span.clone()),
                _ => {}
            }
        }
        spans
    }

    /// How a value is written.
    pub(crate) fn text(&self, span: &Range<usize>) -> &[u8] {
        &self.bytes.expose()[span.clone()]
    }

    /// The file with every one of these spans replaced by what it is paired with.
    pub(crate) fn replace(&self, replacements: &[(Range<usize>, Secret)]) -> Secret {
        let bytes = self.bytes.expose();
        let (mut new, mut at) = (Secret::default(), 0);
        for (span, text) in replacements {
            new.push(&bytes[at..span.start]);
            new.push(text.expose());
            at = span.end;
        }
        new.push(&bytes[at..]);
        new
    }
}

impl fmt::Debug for Document {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Document").field("tokens", &self.tokens.len()).finish_non_exhaustive()
    }
}

struct Lexer<'a> {
    bytes: &'a [u8],
    at: usize,
    tokens: Vec<Token>,
}

impl Lexer<'_> {
    fn run(&mut self) {
        if self.bytes.starts_with(b"\xef\xbb\xbf") {
            self.take(Kind::Bom, 3);
        }
        while self.at < self.bytes.len() {
            self.line();
        }
    }

    fn rest(&self) -> &[u8] {
        &self.bytes[self.at..]
    }

    /// Makes a token of the next bytes; of none only where it is an empty value.
    fn take(&mut self, kind: Kind, length: usize) {
        if length > 0 || kind == Kind::Value {
            self.tokens.push(Token { kind, span: self.at..self.at + length });
            self.at += length;
        }
    }

    fn count(&self, matches: impl Fn(u8) -> bool) -> usize {
        self.rest().iter().position(|&byte| !matches(byte)).unwrap_or(self.rest().len())
    }

    fn blanks(&mut self) {
        let length = self.count(|byte| byte == b' ' || byte == b'\t');
        self.take(Kind::Blank, length);
    }

    /// Length of what is left of the line, without its end.
    fn line_length(&self) -> usize {
        let length = self.count(|byte| byte != b'\n');
        let is_crlf = self.rest().get(length).is_some() && self.rest()[..length].ends_with(b"\r");
        length - usize::from(is_crlf)
    }

    fn line(&mut self) {
        self.blanks();
        if self.rest().starts_with(b"export") && matches!(self.rest().get(6), Some(b' ' | b'\t')) {
            self.take(Kind::Export, 6);
            self.blanks();
        }
        let name = self.count(|byte| !b"= \t\r\n#'\"".contains(&byte));
        let blanks = self.rest()[name..].iter().take_while(|&&byte| byte == b' ' || byte == b'\t').count();
        let is_assignment = self.rest().get(name + blanks) == Some(&b'=') && name > 0;
        if is_assignment && self.rest()[..name].split(|&byte| byte == b'.' || byte == b'-').all(is_name_part)
        {
            self.take(Kind::Name, name);
            self.take(Kind::Blank, blanks);
            self.take(Kind::Equals, 1);
            self.blanks();
            let length = self.value_length();
            self.take(Kind::Value, length);
            self.blanks();
        }
        let kind = if self.rest().starts_with(b"#") { Kind::Comment } else { Kind::Other };
        let length = self.line_length();
        self.take(kind, length);
        let end = self.rest().len().min(if self.rest().starts_with(b"\r") { 2 } else { 1 });
        self.take(Kind::LineEnd, end);
    }

    /// Quoted and bare pieces without blanks between them, as a shell word; else, and where a quote is never closed, the line
    /// up to a comment.
    fn value_length(&self) -> usize {
        let line = &self.rest()[..self.line_length()];
        if line.first().is_some_and(|byte| b"'\"`".contains(byte))
            && let Some(length) = word_length(self.rest())
        {
            return length;
        }
        let is_comment = |at: usize| line[at] == b'#' && (at == 0 || matches!(line[at - 1], b' ' | b'\t'));
        let end = (0..line.len()).find(|&at| is_comment(at)).unwrap_or(line.len());
        line[..end].trim_ascii_end().len()
    }
}

fn is_name_part(part: &[u8]) -> bool {
    is_name(part) || (!part.is_empty() && part.iter().all(u8::is_ascii_alphanumeric))
}

/// Length of the word at the start of `bytes`; `None` if a quote in it is not closed.
fn word_length(bytes: &[u8]) -> Option<usize> {
    let mut at = 0;
    while let Some(&byte) = bytes.get(at) {
        match byte {
            b' ' | b'\t' | b'\n' => break,
            b'\r' if matches!(bytes.get(at + 1), None | Some(b'\n')) => break,
            b'\\' => at += 2,
            b'\'' | b'"' | b'`' => at = quoted_end(bytes, at)?,
            _ => at += 1,
        }
    }
    Some(at.min(bytes.len()))
}

/// The end of the quotes that open at `open`. In single quotes a backslash escapes for some readers only: it does where the
/// quote that follows is not the last thing of the word.
fn quoted_end(bytes: &[u8], open: usize) -> Option<usize> {
    let quote = bytes[open];
    let mut at = open + 1;
    loop {
        match *bytes.get(at)? {
            b'\\' if quote == b'"' => at += 2,
            b'\\' if bytes.get(at + 1) == Some(&quote) && !ends_word(bytes, at + 2) => at += 2,
            byte if byte == quote => return Some(at + 1),
            _ => at += 1,
        }
    }
}

fn ends_word(bytes: &[u8], at: usize) -> bool {
    matches!(bytes.get(at), None | Some(b' ' | b'\t' | b'\r' | b'\n'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(file: &str, expected: &[&str]) {
        let document = Document::parse(file.as_bytes());
        assert_eq!(document.to_bytes().expose(), file.as_bytes());
        let values = document.values("A");
        let texts: Vec<_> = values.iter().map(|span| &file[span.clone()]).collect();
        assert_eq!(texts, expected, "{file:?}");
    }

    #[test]
    fn values_are_found() {
        check("A=1", &["1"]);
        check("A=", &[""]);
        check("A=1\r\nA=2\r\n", &["1", "2"]);
        check("\u{feff}export A = 'x y' # why\n", &["'x y'"]);
        check("A=x y # why\n", &["x y"]);
        check("A=x#y\n", &["x#y"]);
        check("A=\"1\n2\" # c\nB=3", &["\"1\n2\""]);
        check("A='it'\\''s'\n", &["'it'\\''s'"]);
        check("A='it\\'s' \n", &["'it\\'s'"]);
        check("A='not closed\nB=1\n", &["'not closed"]);
        check("AB=1\n# A=2\n A B=3\nA\n", &[]);
        check("A=  # only a comment\n", &[""]);
        check("", &[]);
    }
}
