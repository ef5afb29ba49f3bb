//! `status`: every secret of the vault and of the plan, and what is to be done about it.

mod object;
mod table;

pub(crate) use object::kept as kept_object;
pub(crate) use table::kept_words;

use jiff::tz::TimeZone;
use reseal_rotate::plan::Plan;
use reseal_rotate::schedule::{Condition, KeptOutput, Overview, Stands};
use reseal_vault::{Clock, SystemClock};

use super::notices::{Herald, standing_notices};
use crate::app::App;
use crate::args::{StatusArgs, StatusFormat};
use crate::exit::Exit;
use crate::failure::{Failure, Outcome};
use crate::ui::Ui;

/// `status`.
///
/// # Errors
///
/// The vault does not open, the plan is wrong, or a name leads nowhere.
pub(crate) fn run(app: &App, args: &StatusArgs) -> Outcome {
    let plan = app.plan()?;
    let mut vault = app.vault()?;
    let mut overview = Overview::of(plan.as_ref(), &mut vault, SystemClock.now())?;
    if !args.names.is_empty() {
        keep_named(&mut overview, plan.as_ref(), &args.names)?;
    }
    let told = if args.notify { tell(app, plan.as_ref(), &mut vault, &overview) } else { Ok(Exit::Done) };
    show(app.ui, args, plan.as_ref(), &overview)?;
    let told = told?;
    Ok(if args.exit_code { exit(&overview).worst(told) } else { told })
}

/// What scripts act on.
fn exit(overview: &Overview) -> Exit {
    let exit = |stands: &Stands| match stands.condition() {
        Condition::NeedsAttention | Condition::Interrupted => Exit::NeedsAttention,
        Condition::RetireDue => Exit::Due,
        _ if stands.is_rotation_due() => Exit::Due,
        _ => Exit::Done,
    };
    overview.secrets.iter().map(exit).fold(Exit::Done, Exit::worst)
}

fn keep_named(overview: &mut Overview, plan: Option<&Plan>, names: &[String]) -> Outcome<()> {
    let is =
        |stands: &Stands, name: &str| stands.name.as_deref() == Some(name) || stands.secret.as_str() == name;
    if let Some(missing) = names.iter().find(|name| !overview.secrets.iter().any(|one| is(one, name))) {
        let there = if plan.is_some() { "neither plan nor vault has" } else { "the vault does not have" };
        return Err(Failure::new(Exit::NotFound, format!("{there} a secret `{missing}`"))
            .hint("`reseal status` shows what there is"));
    }
    overview.secrets.retain(|stands| names.iter().any(|name| is(stands, name)));
    let concerns = |kept: &KeptOutput| {
        let shown = overview.secrets.iter().filter_map(|stands| stands.name.as_ref());
        shown.into_iter().any(|name| kept.secrets.contains(name))
    };
    overview.kept.retain(concerns);
    Ok(())
}

fn show(ui: Ui, args: &StatusArgs, plan: Option<&Plan>, overview: &Overview) -> Outcome<()> {
    if ui.is_json() || args.format == StatusFormat::Json {
        return Ui::new(true, ui.is_quiet()).result(object::of(plan, overview), String::new);
    }
    let zone = zone_of(plan);
    if args.markdown || args.format == StatusFormat::Markdown {
        return ui.line(table::markdown(overview, &zone).trim_end());
    }
    ui.line(table::terminal(overview, &zone).trim_end())
}

/// The zone in which days are told and windows are meant: the plan's, else the system's.
pub(crate) fn zone_of(plan: Option<&Plan>) -> TimeZone {
    let zone = plan.and_then(|plan| plan.file.timezone.as_ref());
    zone.map_or_else(TimeZone::system, |zone| zone.get().clone())
}

fn tell(app: &App, plan: Option<&Plan>, vault: &mut reseal_vault::Vault, overview: &Overview) -> Outcome {
    let Some(plan) = plan else {
        return Err(Failure::new(Exit::NotFound, "nobody is to be told: there is no plan file")
            .hint("write [notify] into reseal.toml"));
    };
    if plan.file.notify.is_none() {
        return Err(Failure::new(Exit::NotFound, "nobody is to be told: the plan has no [notify]"));
    }
    app.runtime()?.block_on(async {
        let herald = Herald::of(app.ui, plan, vault)?;
        standing_notices(overview).into_iter().for_each(|notice| herald.send(notice));
        // Telling people is all that was asked for here: one who was not told is a failure.
        Ok(if herald.end(vault).await { Exit::Done } else { Exit::Failed })
    })
}
