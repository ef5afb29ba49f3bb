//! What comes in: values, passphrases and answers. Never from the command line, never echoed.

use std::fs::File;
use std::io::{self, BufRead, IsTerminal, Read};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use reseal_crypto::{Passphrase, SecretBytes};
use rpassword::ConfigBuilder;
use zeroize::Zeroizing;

use crate::args::{Opener, ValueArgs};
use crate::exit::Exit;
use crate::failure::{Failure, Outcome};

/// The longest value, and the most that is read of anything secret.
const VALUE_MAX: u64 = 16 << 20;

/// Whether a person can be asked.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Asker {
    allowed: bool,
    assume_yes: bool,
}

impl Asker {
    /// Asks where `allowed` and a terminal is there; `assume_yes` answers confirmations.
    pub(crate) fn new(allowed: bool, assume_yes: bool) -> Self {
        Self { allowed, assume_yes }
    }

    /// Whether a hidden prompt would reach a person.
    pub(crate) fn can_ask(self) -> bool {
        self.allowed && File::open("/dev/tty").is_ok_and(|tty| tty.is_terminal())
    }

    /// Asks for a secret on the terminal, without echo.
    ///
    /// # Errors
    ///
    /// Nobody can be asked.
    pub(crate) fn secret(self, prompt: &str) -> Outcome<SecretBytes> {
        if !self.can_ask() {
            return Err(Failure::new(Exit::Usage, format!("no terminal to ask for: {prompt}")));
        }
        let config = ConfigBuilder::new().build();
        let typed =
            rpassword::prompt_password_with_config(format!("{prompt}: "), config).map_err(|error| {
                match error.kind() {
                    // Ctrl-C: the signal is on its way as well, and whichever comes first ends the command alike.
                    io::ErrorKind::Interrupted => Failure::interrupted(),
                    _ => Failure::from(error),
                }
            })?;
        Ok(SecretBytes::new(typed.into_bytes()))
    }

    /// Asks for a secret twice.
    ///
    /// # Errors
    ///
    /// Nobody can be asked, or the two differ.
    pub(crate) fn secret_twice(self, prompt: &str) -> Outcome<SecretBytes> {
        let first = self.secret(prompt)?;
        let second = self.secret(&format!("{prompt}, again"))?;
        if first != second {
            return Err(Failure::new(Exit::Usage, "the two entries differ"));
        }
        Ok(first)
    }

    /// Asks for a yes before something that changes the outside.
    ///
    /// # Errors
    ///
    /// The answer is no, or nobody can be asked and `--yes` is not given.
    pub(crate) fn confirm(self, question: &str) -> Outcome<()> {
        if self.assume_yes {
            return Ok(());
        }
        if !self.allowed || !io::stdin().is_terminal() {
            return Err(Failure::new(Exit::Refused, format!("not confirmed: {question}"))
                .hint("give -y to confirm where nobody can be asked"));
        }
        eprint_prompt(&format!("{question} [y/N] "));
        let mut answer = String::new();
        io::stdin().lock().read_line(&mut answer)?;
        if matches!(answer.trim(), "y" | "Y" | "yes") {
            return Ok(());
        }
        Err(Failure::new(Exit::Refused, "not confirmed; nothing was changed"))
    }
}

/// Checks that no value stands on the command line, and that value and passphrase come from different places.
///
/// # Errors
///
/// One does, or they do not.
pub(crate) fn check_value_args(args: &ValueArgs, opener: Option<&Opener>) -> Outcome<()> {
    // The text itself stays unsaid: it may be the value.
    if args.stdin.as_deref().is_some_and(|text| text != "-") {
        return Err(Failure::new(Exit::Usage, "a value does not belong on the command line").hint(
            "it is in the shell's history now: change it, and give the new one by prompt, `-`, --value-file or --value-fd",
        ));
    }
    let value = match (&args.stdin, &args.value_file, args.value_fd) {
        (Some(_), _, _) => Some(0),
        (None, Some(path), _) => descriptor_of(path),
        (None, None, number) => number,
    };
    value.map_or(Ok(()), |number| check_free(number, opener))
}

/// Checks that the passphrase does not come on stdin, which is to be read for something else.
///
/// # Errors
///
/// It does.
pub(crate) fn check_stdin_free(opener: Option<&Opener>) -> Outcome<()> {
    check_free(0, opener)
}

fn check_free(value: u32, opener: Option<&Opener>) -> Outcome<()> {
    let passphrase = match opener {
        Some(Opener::PassphraseFd(number)) => Some(*number),
        Some(Opener::PassphraseFile(path) | Opener::KeyFile(path)) => descriptor_of(path),
        Some(Opener::PassphraseCommand(_)) | None => None,
    };
    if passphrase != Some(value) {
        return Ok(());
    }
    Err(Failure::new(
        Exit::Usage,
        format!("value and passphrase are both to be read from descriptor {value}"),
    )
    .hint("give one of them another way, for example --passphrase-fd 3 3< FILE"))
}

/// The descriptor that a name such as /dev/stdin or /dev/fd/3 stands for.
fn descriptor_of(path: &Path) -> Option<u32> {
    let path = path.to_str()?;
    if path == "/dev/stdin" {
        return Some(0);
    }
    ["/dev/fd/", "/proc/self/fd/"].into_iter().find_map(|prefix| path.strip_prefix(prefix)?.parse().ok())
}

/// Reads the value of `put`.
///
/// # Errors
///
/// The source cannot be read, is too long, or nobody can be asked.
pub(crate) fn read_value(args: &ValueArgs, asker: Asker, name: &str) -> Outcome<SecretBytes> {
    if args.stdin.is_some() {
        return Ok(without_newline(read_limited(io::stdin().lock(), "stdin")?));
    }
    if let Some(path) = &args.value_file {
        return read_file(path);
    }
    if let Some(number) = args.value_fd {
        return read_file(&descriptor(number));
    }
    if !asker.can_ask() {
        return Err(Failure::new(Exit::Usage, format!("no value for `{name}`, and no terminal to ask on"))
            .hint("give it by `-` (stdin), --value-file or --value-fd"));
    }
    asker.secret_twice(&format!("Value of {name}"))
}

/// Reads the passphrase that an opener names; `None` for a key file.
///
/// # Errors
///
/// The source cannot be read, or is empty.
pub(crate) fn read_passphrase(opener: &Opener) -> Outcome<Option<Passphrase>> {
    let bytes = match opener {
        Opener::KeyFile(_) => return Ok(None),
        Opener::PassphraseFile(path) => read_file(path)?,
        Opener::PassphraseFd(number) => read_file(&descriptor(*number))?,
        Opener::PassphraseCommand(command) => run_for_output(command)?,
    };
    passphrase(without_newline(bytes)).map(Some)
}

/// Reads a passphrase from a file.
///
/// # Errors
///
/// The file cannot be read, or is empty.
pub(crate) fn passphrase_from_file(path: &Path) -> Outcome<Passphrase> {
    passphrase(without_newline(read_file(path)?))
}

/// A passphrase of what was typed or read.
///
/// # Errors
///
/// It is empty.
pub(crate) fn passphrase(bytes: SecretBytes) -> Outcome<Passphrase> {
    Passphrase::new(bytes).ok_or_else(|| Failure::new(Exit::Usage, "the passphrase is empty"))
}

/// Reads a file that holds something secret.
///
/// # Errors
///
/// The file cannot be read, or is longer than a value may be.
pub(crate) fn read_file(path: &Path) -> Outcome<SecretBytes> {
    let open = || read_limited(File::open(path)?, &path.display().to_string());
    open().map_err(|failure| failure.while_doing(format!("cannot read {}", path.display())))
}

/// Reads something secret to its end.
///
/// # Errors
///
/// It cannot be read, or is longer than a value may be.
pub(crate) fn read_all(source: impl Read, what: &str) -> Outcome<SecretBytes> {
    read_limited(source, what)
}

fn descriptor(number: u32) -> PathBuf {
    PathBuf::from(format!("/dev/fd/{number}"))
}

fn read_limited(source: impl Read, what: &str) -> Outcome<SecretBytes> {
    // One allocation, so that growing leaves no copies behind.
    let mut bytes = Zeroizing::new(Vec::with_capacity(64 << 10));
    let mut source = source.take(VALUE_MAX + 1);
    loop {
        if bytes.len() == bytes.capacity() {
            let mut larger = Zeroizing::new(Vec::with_capacity(bytes.capacity() * 4));
            larger.extend_from_slice(&bytes);
            bytes = larger;
        }
        let room = bytes.capacity() - bytes.len();
        if source.by_ref().take(room as u64).read_to_end(&mut bytes)? == 0 {
            break;
        }
    }
    if bytes.len() as u64 > VALUE_MAX {
        return Err(Failure::new(Exit::Refused, format!("{what} is longer than 16 MiB")));
    }
    Ok(SecretBytes::new(std::mem::take(&mut *bytes)))
}

fn without_newline(bytes: SecretBytes) -> SecretBytes {
    // EXPOSE: copied into a type that wipes itself.
    let exposed = bytes.expose();
    let Some(rest) = exposed.strip_suffix(b"\n") else { return bytes };
    SecretBytes::copy_from(rest.strip_suffix(b"\r").unwrap_or(rest))
}

fn run_for_output(command: &str) -> Outcome<SecretBytes> {
    let failed = |why: String| Failure::new(Exit::Locked, format!("the passphrase command failed: {why}"));
    // A person may answer the command; a pipe holds the value that comes after, and `ssh` would drink it up.
    let stdin = if io::stdin().is_terminal() { Stdio::inherit() } else { Stdio::null() };
    let mut child = Command::new("sh")
        .args(["-c", command])
        .stdin(stdin)
        .stdout(Stdio::piped())
        .spawn()
        .map_err(|error| failed(error.to_string()))?;
    let stdout = child.stdout.take().ok_or_else(|| failed("no output".into()))?;
    let output = read_limited(stdout, "the output of the passphrase command");
    let status = child.wait()?;
    if !status.success() {
        return Err(failed(status.to_string()));
    }
    output
}

fn eprint_prompt(words: &str) {
    use std::io::Write;
    let mut err = anstream::stderr().lock();
    // Without a terminal there is nobody to read it, and the answer is no.
    let _ = write!(err, "{words}").and_then(|()| err.flush());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_trailing_newline_goes() {
        for (given, kept) in
            [("a\n", "a"), ("a\r\n", "a"), ("a\n\n", "a\n"), ("a", "a"), ("\n", ""), ("a\r", "a\r")]
        {
            assert_eq!(without_newline(SecretBytes::copy_from(given.as_bytes())).expose(), kept.as_bytes());
        }
    }

    #[test]
    fn reading_stops_at_the_limit() {
        let long = io::repeat(b'x');
        assert_eq!(read_limited(long, "it").unwrap_err().exit(), Exit::Refused);
        let full = io::repeat(b'x').take(VALUE_MAX);
        assert_eq!(read_limited(full, "it").unwrap().len() as u64, VALUE_MAX);
    }

    #[test]
    fn passphrase_command_must_succeed() {
        let read = |command: &str| read_passphrase(&Opener::PassphraseCommand(command.into()));
        assert_eq!(read("echo hello").unwrap().unwrap().expose(), b"hello");
        assert_eq!(read("echo hello; exit 3").unwrap_err().exit(), Exit::Locked);
        assert_eq!(read("true").unwrap_err().exit(), Exit::Usage);
    }
}
