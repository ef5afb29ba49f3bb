//! Commands about the command itself.

use clap::CommandFactory;
use clap_complete::Shell;
use serde_json::json;

use crate::app::App;
use crate::args::Cli;
use crate::exit::Exit;
use crate::failure::Outcome;
use crate::ui::Table;

/// `completions`: the script that a shell sources.
///
/// # Errors
///
/// The output cannot be written.
pub(crate) fn completions(app: &App, shell: Shell) -> Outcome {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "reseal", &mut script);
    app.ui.bytes(&script)?;
    Ok(Exit::Done)
}

/// `exit-codes`: the table that scripts rely on.
///
/// # Errors
///
/// The output cannot be written.
pub(crate) fn exit_codes(app: &App) -> Outcome {
    let codes = Exit::ALL
        .map(|exit| json!({ "code": exit.number(), "kind": exit.name(), "meaning": exit.meaning() }));
    app.ui.result(json!({ "exit_codes": codes }), || {
        let mut table = Table::new(&["code", "meaning"]);
        for exit in Exit::ALL {
            table.row([exit.number().to_string(), exit.meaning().to_owned()]);
        }
        table.to_string()
    })?;
    Ok(Exit::Done)
}
