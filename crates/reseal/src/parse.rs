//! From the argument vector to a command, without ever repeating what may be a secret.

use std::ffi::OsString;
use std::io::Write;

use clap::Parser;
use clap::error::{ContextKind, ContextValue, ErrorKind};
use reseal_rotate::plan::holds_password;
use serde_json::Value;

use crate::args::Cli;
use crate::exit::Exit;
use crate::failure::{Failure, Outcome};
use crate::ui::Ui;

/// Whether errors are wanted as JSON, also when the command line does not parse.
pub(crate) fn wants_json(arguments: &[OsString]) -> bool {
    arguments.iter().take_while(|argument| *argument != "--").any(|argument| argument == "--json")
}

/// Parses the command line; `None` if it asked for help or the version, which is printed then.
///
/// # Errors
///
/// The command line is wrong, or holds a URL with a password.
pub(crate) fn command_line(arguments: Vec<OsString>) -> Outcome<Option<Cli>> {
    if arguments.iter().skip(1).any(|argument| holds_password(&argument.to_string_lossy())) {
        return Err(Failure::new(Exit::Usage, "an address with a password does not belong on the command line")
            .hint("every process can read it there: put the password into the vault and name it with `login = \"secret:…\"`"));
    }
    match Cli::try_parse_from(arguments) {
        Ok(cli) => Ok(Some(cli)),
        Err(error) if !error.use_stderr() => {
            Ui::new(false, false).result(Value::Null, || error.render().ansi().to_string())?;
            Ok(None)
        }
        Err(error) if error.kind() == ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => {
            let mut err = anstream::stderr().lock();
            write!(err, "{}", error.render().ansi())?;
            Err(Failure::new(Exit::Usage, "no command given").hint("`reseal --help` lists the commands"))
        }
        Err(error) => Err(usage(&error)),
    }
}

/// Says what clap says, except that unknown words and rejected values are not repeated: a value that was typed in
/// the wrong place would end up in a log.
fn usage(error: &clap::Error) -> Failure {
    let text = |kind| match error.get(kind) {
        Some(ContextValue::String(text)) => Some(text.clone()),
        Some(ContextValue::Strings(texts)) => Some(texts.join(", ")),
        _ => None,
    };
    let argument = text(ContextKind::InvalidArg).unwrap_or_default();
    let message = match error.kind() {
        ErrorKind::UnknownArgument if argument.starts_with('-') => {
            format!("there is no option `{}`", flag_name(&argument))
        }
        ErrorKind::UnknownArgument => {
            "one argument too many; it is not repeated here, in case it is a value".to_owned()
        }
        ErrorKind::InvalidSubcommand => match text(ContextKind::InvalidSubcommand) {
            Some(name) if is_plain_word(&name) => format!("there is no command `{name}`"),
            _ => "there is no such command".to_owned(),
        },
        ErrorKind::InvalidValue | ErrorKind::ValueValidation => match text(ContextKind::ValidValue) {
            Some(valid) => format!("not a value of `{argument}`, which takes one of {valid}"),
            None => format!("not a value of `{argument}`"),
        },
        ErrorKind::MissingRequiredArgument => format!("missing: {argument}"),
        ErrorKind::MissingSubcommand => "which subcommand?".to_owned(),
        ErrorKind::ArgumentConflict => match text(ContextKind::PriorArg) {
            Some(prior) if prior != argument => format!("`{argument}` cannot be used with `{prior}`"),
            _ => format!("`{argument}` is given twice, or with what excludes it"),
        },
        ErrorKind::NoEquals
        | ErrorKind::TooFewValues
        | ErrorKind::TooManyValues
        | ErrorKind::WrongNumberOfValues => {
            format!("`{argument}` takes another number of values")
        }
        ErrorKind::InvalidUtf8 => "an argument is not valid UTF-8".to_owned(),
        _ => "the command line does not parse".to_owned(),
    };
    let suggestion =
        [ContextKind::SuggestedArg, ContextKind::SuggestedSubcommand, ContextKind::SuggestedValue]
            .into_iter()
            .find_map(text);
    let hint = match suggestion {
        Some(suggestion) => format!("did you mean `{suggestion}`?"),
        None => "`reseal --help` lists the commands, `reseal COMMAND --help` their options".to_owned(),
    };
    Failure::new(Exit::Usage, message).hint(hint)
}

fn flag_name(argument: &str) -> &str {
    let name = argument.split('=').next().unwrap_or_default();
    // `-pSECRET` is a short option with its value.
    if name.starts_with("--") { name } else { name.get(..2).unwrap_or("-") }
}

fn is_plain_word(word: &str) -> bool {
    word.len() <= 16 && word.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'-')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Outcome<Option<Cli>> {
        command_line(line.split(' ').map(OsString::from).collect())
    }

    #[track_caller]
    fn refused(line: &str) -> String {
        let failure = parse(line).expect_err("the line is wrong");
        assert_eq!(failure.exit(), Exit::Usage);
        format!("{failure:?}")
    }

    #[test]
    fn nothing_that_may_be_a_value_is_repeated() {
        for line in [
            "reseal --json=canary exit-codes",
            "reseal exit-codes canary",
            "reseal -xcanary exit-codes",
            "reseal --kanarie=canary exit-codes",
            "reseal completions canary",
            "reseal Canary7",
        ] {
            let words = refused(line).to_lowercase();
            assert!(!words.contains("canary"), "{line}: {words}");
        }
    }

    #[test]
    fn addresses_with_a_password_are_refused() {
        for address in ["postgres://u:canary@h/d", "host=h user=u password=canary"] {
            let arguments = ["reseal", "demo", "--postgres", address].map(OsString::from);
            let failure = command_line(arguments.into()).expect_err("it is refused");
            assert_eq!(failure.exit(), Exit::Usage);
            assert!(!format!("{failure:?}").contains("canary"));
        }
    }

    #[test]
    fn suggestions_come_as_hints() {
        assert!(refused("reseal exit-code").contains("exit-codes"));
    }
}
