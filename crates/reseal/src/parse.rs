//! From the argument vector to a command, without ever repeating what may be a secret.

use std::error::Error;
use std::ffi::OsString;
use std::io::Write;
use std::num::ParseIntError;

use clap::Parser;
use clap::error::{ContextKind, ContextValue, ErrorKind};
use reseal_rotate::plan::holds_password;
use serde_json::Value;

use crate::args::Cli;
use crate::exit::Exit;
use crate::failure::{Failure, Outcome};
use crate::ui::Ui;
use crate::units::Expected;

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
    // A template says where a password goes, and has none.
    let holds_one = |argument: &OsString| holds_password(&argument.to_string_lossy().replace("{value}", ""));
    if arguments.iter().skip(1).any(holds_one) {
        return Err(Failure::new(Exit::Usage, "an address with a password does not belong on the command line")
            .hint("every process can read it there: put the password into the vault and name it with `login = \"secret:…\"`"));
    }
    match Cli::try_parse_from(&arguments) {
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
        Err(error) => Err(usage(&error, &arguments)),
    }
}

/// Says what clap says, except that unknown words and rejected values are not repeated, only where they stand: a value
/// that was typed in the wrong place would end up in a log.
fn usage(error: &clap::Error, arguments: &[OsString]) -> Failure {
    let text = |kind| match error.get(kind) {
        Some(ContextValue::String(text)) => Some(text.clone()),
        Some(ContextValue::Strings(texts)) => Some(texts.join(", ")),
        _ => None,
    };
    let argument = text(ContextKind::InvalidArg).unwrap_or_default();
    let message = match error.kind() {
        ErrorKind::UnknownArgument if argument.starts_with('-') => {
            format!("there is no such option{}", place(arguments, &argument))
        }
        ErrorKind::UnknownArgument => {
            let place = place(arguments, &argument);
            format!("one argument too many{place}; it is not repeated here, in case it is a value")
        }
        ErrorKind::InvalidSubcommand => {
            let place = text(ContextKind::InvalidSubcommand).map(|name| place(arguments, &name));
            format!("there is no such command{}", place.unwrap_or_default())
        }
        ErrorKind::InvalidValue | ErrorKind::ValueValidation => match text(ContextKind::ValidValue) {
            Some(valid) => format!("not a value of `{argument}`, which takes one of {valid}"),
            None => format!("not a value of `{argument}`{}", expected(error)),
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

/// Where an argument stands: ` (argument 3)`. Of options it may be a part only, without their value.
fn place(arguments: &[OsString], wrong: &str) -> String {
    let is_it = |argument: &OsString| {
        let argument = argument.to_string_lossy();
        argument == wrong || (wrong.starts_with('-') && argument.starts_with(wrong))
    };
    let found = arguments.iter().skip(1).position(is_it);
    found.map(|index| format!(" (argument {})", index + 1)).unwrap_or_default()
}

/// What a rejected value had to be, in the words of whoever rejected it; those of others may repeat the value.
fn expected(error: &clap::Error) -> String {
    let Some(source) = error.source() else { return String::new() };
    if let Some(expected) = source.downcast_ref::<Expected>() {
        return format!(", which takes {expected}");
    }
    if source.is::<ParseIntError>() {
        return ", which takes a number".to_owned();
    }
    let range = source.to_string().rsplit_once(" is not in ").map(|(_, range)| range.to_owned());
    range.map(|range| format!(", which takes a number in {range}")).unwrap_or_default()
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
            "reseal canaries",
            "reseal --canary7 list",
            "reseal put a --canary7",
            "reseal unlock --for 7canaryd",
            "reseal reencrypt canaries",
        ] {
            let words = refused(line).to_lowercase();
            assert!(!words.contains("canar"), "{line}: {words}");
        }
        assert!(!refused("reseal init --kdf-memory 31337").contains("31337"));
    }

    #[test]
    fn what_is_wrong_is_told_by_its_place_and_by_what_it_should_be() {
        assert!(refused("reseal --json put a --pendng").contains("no such option (argument 4)"));
        assert!(refused("reseal put a --pendng").contains("did you mean `--pending`?"));
        assert!(refused("reseal -q lsit").contains("no such command (argument 2)"));
        assert!(refused("reseal unlock --for 15").contains("such as 15m"));
        assert!(refused("reseal init --kdf-memory 5").contains("64..=2048"));
        assert!(refused("reseal put a --value-fd x").contains("takes a number"));
        assert!(refused("reseal delete a --reason=").contains("a reason in words"));
        assert!(refused("reseal reencrypt run --no-backup=").contains("a reason in words"));
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
