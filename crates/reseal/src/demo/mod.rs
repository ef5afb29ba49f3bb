//! `demo`: the whole job on a database of its own, with an application that writes and an engine that is killed.
//!
//! ```text
//! Home: vault, key file, plan, backups in a temporary directory      Stage: the database and its application
//! Engine: this binary again, `reencrypt run`, killed half way        Figures: what was counted
//! ```
//!
//! Everything that is reported is counted: by the application's ledger, by a trigger of the database, by opening every
//! value.

mod engine;
mod figures;
mod home;
mod steps;

use reseal_sandbox::SandboxError;
use reseal_sandbox::stage::{PostgresStage, SqliteStage, Stage};

use crate::app::App;
use crate::args::DemoArgs;
use crate::exit::Exit;
use crate::failure::{Failure, Outcome};
use figures::Figures;
use home::Home;
use steps::Steps;

/// `demo`: runs it, and leaves nothing behind.
///
/// # Errors
///
/// A step failed, or one of its counts is not what it should be.
pub(crate) fn run(app: &App, args: &DemoArgs) -> Outcome {
    app.signals.take_over();
    app.runtime()?.block_on(play(app, args))
}

async fn play(app: &App, args: &DemoArgs) -> Outcome {
    let home = Home::new()?;
    let figures = match (&args.postgres, args.sqlite) {
        (Some(url), _) => on_stage(app, args, &home, PostgresStage::within(url).await?).await?,
        (None, true) => on_sqlite(app, args, &home, "as asked").await?,
        (None, false) => match starting(app, PostgresStage::private()).await {
            Ok(stage) => on_stage(app, args, &home, stage).await?,
            Err(
                why @ (SandboxError::MissingProgram { .. }
                | SandboxError::MissingExtension { .. }
                | SandboxError::NoUnprivilegedUser),
            ) => on_sqlite(app, args, &home, &why.to_string()).await?,
            Err(error) => return Err(error.into()),
        },
    };
    end(app, &figures)
}

/// Moves while the server starts; says nothing, because the first line says which database it is.
async fn starting<T>(app: &App, start: impl Future<Output = T>) -> T {
    let spinner = app.ui.spinner("starts a private PostgreSQL");
    let started = start.await;
    spinner.finish_and_clear();
    started
}

async fn on_sqlite(app: &App, args: &DemoArgs, home: &Home, why: &str) -> Outcome<Figures> {
    app.ui.note(format!("on SQLite instead of Postgres: {why}"));
    on_stage(app, args, home, SqliteStage::private()?).await
}

async fn on_stage<S: Stage>(app: &App, args: &DemoArgs, home: &Home, mut stage: S) -> Outcome<Figures> {
    let steps = Steps { app, home, rows: args.rows };
    let ended = tokio::select! {
        ended = steps.play(&mut stage) => ended,
        // Dropping the steps ends the engine; leaving the stage ends the application and the server.
        () = app.signals.stopped() => {
            let exit = app.signals.exit().unwrap_or(Exit::Interrupted);
            Err(Failure::new(exit, "the demo was stopped; nothing is left behind"))
        }
    };
    let left = stage.leave().await;
    let figures = ended?;
    left?;
    Ok(figures)
}

fn end(app: &App, figures: &Figures) -> Outcome {
    app.ui.result(figures.object(), || figures.words())?;
    match figures.fault() {
        None => Ok(Exit::Done),
        Some(fault) => Err(Failure::new(Exit::Failed, format!("the demo found a fault: {fault}"))),
    }
}

impl From<SandboxError> for Failure {
    fn from(error: SandboxError) -> Self {
        Self::from_error(Exit::Failed, &error)
    }
}
