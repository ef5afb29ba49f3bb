//! Commands on `.env` files.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use reseal_env::{Place, Reader};

use super::ValueArgs;
use crate::units::{Expected, parse_place};

/// `env`: the editor of `.env` files, which needs no vault.
#[derive(Debug, Subcommand)]
pub(crate) enum EnvCommand {
    /// Write the value of a variable to stdout, as every reader of the file reads it
    #[command(after_help = "Examples:\n  reseal env get .env REDIS_PASSWORD\n  \
        reseal env get .env DATABASE_URL --part url.password --reader python-dotenv")]
    Get(EnvGetArgs),
    /// Change the value of a variable, and no other byte of the file
    #[command(
        after_help = "The value comes from a prompt (asked twice), `-` (stdin, one trailing newline is removed), --value-file or\n\
        --value-fd (kept byte for byte). The change is made only if every reader of the file will read exactly this value\n\
        and everything else as before; the file is replaced at once, with the mode, owner and attributes it had.\n\n\
        Examples:\n  reseal env set .env REDIS_PASSWORD\n  \
        reseal get crm/redis/password | reseal env set .env REDIS_URL - --part url.password\n  \
        reseal env set .env FEATURE_KEY --add --value-file key.txt --reader compose --reader node-dotenv"
    )]
    Set(EnvSetArgs),
    /// Say whether all readers of a file read the same, or whether it has this value
    #[command(
        after_help = "Without a VARIABLE: exit code 10 if the readers differ on anything. With a VARIABLE and a value: exit code 14 if it\n\
        is not the one that the readers read.\n\n\
        Examples:\n  reseal env check .env --reader compose --reader python-dotenv\n  \
        reseal env check .env --reader shell --json\n  \
        reseal get crm/redis/password | reseal env check .env REDIS_URL - --part url.password"
    )]
    Check(EnvCheckArgs),
}

/// A file and who reads it.
#[derive(Debug, Args)]
pub(crate) struct EnvFileArgs {
    /// The file
    pub(crate) file: PathBuf,
    /// Who reads the file; may be given more than once. Otherwise the plan's, else a guess from the files beside it
    #[arg(long = "reader", value_name = "READER", value_parser = reader_parser())]
    pub(crate) readers: Vec<Reader>,
    /// Follow symbolic links; refused otherwise
    #[arg(long)]
    pub(crate) follow_links: bool,
}

/// Where in the value.
#[derive(Debug, Default, Args)]
pub(crate) struct PartArgs {
    /// Only a part: url.password, url.user, url.userinfo, url.query.NAME, `list[0]`, json:/pointer, template:TEXT{value}
    #[arg(long, value_name = "PART", value_parser = parse_place)]
    part: Option<Place>,
    /// With `--part list[N]`: what is between the elements, if not a comma
    #[arg(long, value_name = "CHARACTER", requires = "part")]
    sep: Option<char>,
}

impl PartArgs {
    /// The place that is meant.
    pub(crate) fn place(&self) -> Place {
        let place = self.part.clone().unwrap_or(Place::Whole);
        match self.sep {
            Some(separator) => place.separated_by(separator),
            None => place,
        }
    }
}

/// `env get`
#[derive(Debug, Args)]
pub(crate) struct EnvGetArgs {
    #[command(flatten)]
    pub(crate) file: EnvFileArgs,
    /// The variable
    pub(crate) variable: String,
    #[command(flatten)]
    pub(crate) part: PartArgs,
    /// With --json: put the value into the object
    #[arg(long)]
    pub(crate) reveal: bool,
}

/// `env set`
#[derive(Debug, Args)]
pub(crate) struct EnvSetArgs {
    #[command(flatten)]
    pub(crate) file: EnvFileArgs,
    /// The variable
    pub(crate) variable: String,
    #[command(flatten)]
    pub(crate) value: ValueArgs,
    #[command(flatten)]
    pub(crate) part: PartArgs,
    /// If the file has no such variable, add it at the end
    #[arg(long)]
    pub(crate) add: bool,
    /// Only say what would be done
    #[arg(long, short = 'n')]
    pub(crate) dry_run: bool,
}

/// `env check`
#[derive(Debug, Args)]
pub(crate) struct EnvCheckArgs {
    #[command(flatten)]
    pub(crate) file: EnvFileArgs,
    /// The variable
    pub(crate) variable: Option<String>,
    #[command(flatten)]
    pub(crate) value: ValueArgs,
    #[command(flatten)]
    pub(crate) part: PartArgs,
}

/// Takes the name of a reader.
pub(super) fn reader_parser() -> impl clap::builder::TypedValueParser<Value = Reader> {
    use clap::builder::{PossibleValuesParser, TypedValueParser};
    let names = Reader::ALL.map(Reader::name);
    PossibleValuesParser::new(names)
        .try_map(|name| Reader::from_name(&name).ok_or(Expected::new("the name of a reader")))
}
