//! `check`: one line for each thing that the plan says something about.

use std::collections::BTreeMap;

use reseal_rotate::RotateError;
use reseal_rotate::plan::Plan;
use reseal_rotate::rotation::{Claim, Finding, Outside, Subject, Truth};
use reseal_vault::{Clock, SystemClock, Vault};
use serde_json::{Value, json};

use super::{Ends, Work};
use crate::exit::Exit;
use crate::failure::{Failure, Outcome};
use crate::ui::Table;

/// What was found about a secret, or about an application, which has no secret of its own.
struct Line {
    name: Option<String>,
    finding: Finding,
}

/// What is known of everything that was asked for.
#[derive(Default)]
struct Looked {
    lines: Vec<Line>,
    /// By name, the applications whose checks are still to be made, and a secret that they read.
    apps: BTreeMap<String, usize>,
}

impl Work<'_> {
    /// Looks at everything that the plan says of these secrets; writes nothing but what the audit log says about released
    /// values.
    pub(super) async fn check(&self, names: &[String]) -> Outcome {
        let mut vault = self.app.vault()?;
        let mut ends = Ends::new(self.app.ui, "targets");
        let spinner = self.app.ui.spinner("looking");
        let looked = self.look(&mut vault, names, &mut ends).await?;
        spinner.finish_and_clear();
        for line in &looked.lines {
            ends.told(exit_of(line.finding.truth), object(self.plan.file.prefix.as_str(), line), String::new);
        }
        if !self.app.ui.is_json() {
            for row in rows(self.plan, &looked.lines) {
                self.app.ui.line(row)?;
            }
        }
        ends.end()
    }

    async fn look(&self, vault: &mut Vault, names: &[String], ends: &mut Ends) -> Outcome<Looked> {
        let mut claims = Vec::new();
        let mut looked = Looked::default();
        for name in self.names_or_all(names)? {
            match Claim::of(self.plan, vault, &name, Some(SystemClock.now())) {
                Ok(claim) => claims.push((name, claim)),
                Err(error) => match instead(&error) {
                    Some(finding) => looked.lines.push(Line { name: Some(name), finding }),
                    None => ends.failed(&name, &not_looked(&name, error)),
                },
            }
        }
        let mut worlds = Vec::new();
        for (name, mut claim) in claims {
            match self.look_at(vault, &name, &mut claim).await {
                Ok((found, outside)) => {
                    looked
                        .lines
                        .extend(found.into_iter().map(|finding| Line { name: Some(name.clone()), finding }));
                    claim.apps().for_each(|app| {
                        looked.apps.entry(app.to_owned()).or_insert(worlds.len());
                    });
                    worlds.push((claim, outside));
                }
                Err(error) => ends.failed(&name, &not_looked(&name, error)),
            }
        }
        for (app, at) in &looked.apps {
            let (claim, outside) = &mut worlds[*at];
            let found = outside.look_at_checks(app, claim.values()).await;
            looked.lines.extend(found.into_iter().map(|finding| Line { name: None, finding }));
        }
        Ok(looked)
    }

    async fn look_at(
        &self,
        vault: &mut Vault,
        name: &str,
        claim: &mut Claim,
    ) -> Result<(Vec<Finding>, Outside<'_>), RotateError> {
        let mut outside = self.outside(vault, name, claim.steps())?;
        let mut found = claim.look(&mut outside).await;
        if found.is_empty() {
            let saw = "the plan names no server, place or check for it";
            found.push(Finding::new(Subject::Nothing, "-", Truth::Unseen, saw));
        }
        Ok((found, outside))
    }
}

/// What is told of a secret that there is no claim about.
fn instead(error: &RotateError) -> Option<Finding> {
    let (subject, truth) = match error {
        RotateError::Open { .. } => (Subject::Rotation, Truth::Between),
        RotateError::NotRotated { .. } => (Subject::Nothing, Truth::Unseen),
        _ => return None,
    };
    let hint = error.hint().map(|hint| format!("; {hint}")).unwrap_or_default();
    Some(Finding::new(subject, "-", truth, format!("{error}{hint}")))
}

fn not_looked(name: &str, error: RotateError) -> Failure {
    Failure::from(error).while_doing(format!("cannot look at `{name}`"))
}

fn exit_of(truth: Truth) -> Exit {
    match truth {
        Truth::Holds | Truth::Unseen => Exit::Done,
        Truth::Differs => Exit::NotHeld,
        Truth::Unknown => Exit::Failed,
        Truth::Between => Exit::NeedsAttention,
    }
}

fn object(prefix: &str, Line { name, finding }: &Line) -> Value {
    json!({
        "name": name,
        "secret": name.as_ref().map(|name| format!("{prefix}{name}")),
        "what": finding.subject.name(),
        "target": finding.target,
        "state": finding.truth.name(),
        "saw": finding.saw,
    })
}

/// The table, how much of it holds, and what to do next.
fn rows(plan: &Plan, lines: &[Line]) -> Vec<String> {
    let mut table = Table::new(&["secret", "what", "target", "state", ""]);
    for Line { name, finding } in lines {
        let Finding { subject, target, truth, saw, .. } = finding;
        table.row([name.as_deref().unwrap_or("-"), subject.name(), target, truth.name(), saw]);
    }
    if table.is_empty() {
        return vec!["nothing to look at".to_owned()];
    }
    let table = table.to_string();
    let mut shown = table.lines();
    let mut rows = vec![format!("\x1b[1m{}\x1b[0m", shown.next().unwrap_or_default())];
    rows.extend(shown.zip(lines).map(|(row, line)| coloured(row, line.finding.truth)));
    rows.push(String::new());
    rows.push(summary(lines));
    rows.extend(next_steps(plan, lines));
    rows
}

fn coloured(row: &str, truth: Truth) -> String {
    match truth {
        Truth::Holds => row.to_owned(),
        Truth::Unseen => format!("\x1b[2m{row}\x1b[0m"),
        Truth::Differs | Truth::Between => format!("\x1b[1;31m{row}\x1b[0m"),
        Truth::Unknown => format!("\x1b[33m{row}\x1b[0m"),
    }
}

fn summary(lines: &[Line]) -> String {
    let mut counts: BTreeMap<Truth, usize> = BTreeMap::new();
    for line in lines {
        *counts.entry(line.finding.truth).or_default() += 1;
    }
    let told: Vec<_> =
        counts.iter().map(|(truth, count)| format!("{count} {}", told(*truth, *count))).collect();
    told.join(", ")
}

fn told(truth: Truth, count: usize) -> &'static str {
    match (truth, count) {
        (Truth::Holds, 1) => "holds",
        (Truth::Holds, _) => "hold",
        (Truth::Differs, 1) => "differs",
        (Truth::Differs, _) => "differ",
        (other, _) => other.name(),
    }
}

/// What mends it, secret by secret.
fn next_steps(plan: &Plan, lines: &[Line]) -> Vec<String> {
    let mut steps: Vec<String> = Vec::new();
    for Line { name, finding } in lines {
        let Some(name) = name else { continue };
        let step = match (finding.subject, finding.truth) {
            (Subject::Login, Truth::Differs) => {
                let secret = plan.secret_name(name);
                format!(
                    "{name}: store the value that its server has, `reseal put {secret} --vault-only`, then `reseal sync {name}`"
                )
            }
            (Subject::File | Subject::Process, Truth::Differs) => format!("{name}: `reseal sync {name}`"),
            _ => continue,
        };
        let about = format!("{name}: ");
        if !steps.iter().any(|known| known.starts_with(&about)) {
            steps.push(step);
        }
    }
    steps
}
