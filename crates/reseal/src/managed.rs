//! What the plan file says about a secret that is about to change in the vault alone.
//!
//! The vault says which value is current; the plan says where it stands outside. A command that changes the vault only
//! would make the two differ without a trace, so it is refused where the plan manages the secret.

use std::fs;
use std::path::{Path, PathBuf};

use reseal_formats::FormatSpec;
use reseal_rotate::columns::records;
use reseal_rotate::plan::Plan;
use reseal_rotate::rotation::{Rotation, State, latest, left_versions};
use reseal_vault::{ErrorKind, SecretName, Vault};

use crate::app::App;
use crate::exit::Exit;
use crate::failure::{Failure, Outcome};

/// A secret of the plan.
#[derive(Debug)]
pub(crate) struct Managed {
    plan: PathBuf,
    /// The columns whose key it is, by their names in the plan.
    columns: Vec<String>,
    seals_envelopes: bool,
}

impl Managed {
    /// Whether values of columns are under it.
    pub(crate) fn is_column_key(&self) -> bool {
        !self.columns.is_empty()
    }

    /// Whether its next version has to be a column key, because the columns change to reseal's own format.
    pub(crate) fn seals_envelopes(&self) -> bool {
        self.seals_envelopes
    }

    fn of(plan: &Plan, name: &SecretName) -> Option<Self> {
        let is_this = |short: &str| plan.secret_name(short) == name.as_str();
        plan.file.secrets.keys().find(|short| is_this(short))?;
        let columns: Vec<_> = plan
            .column_names()
            .filter(|columns| plan.columns(columns).is_some_and(|columns| is_this(&columns.key)))
            .collect();
        let seals_envelopes = columns.iter().any(|columns| {
            plan.columns(columns).is_some_and(|columns| matches!(columns.target(), FormatSpec::Reseal(_)))
        });
        let columns = columns.into_iter().map(str::to_owned).collect();
        Some(Self { plan: plan.path.clone(), columns, seals_envelopes })
    }

    fn refusal(&self, name: &SecretName) -> Failure {
        let refusal =
            Failure::new(Exit::Refused, format!("`{name}` is managed by the plan {}", self.plan.display()));
        if !self.is_column_key() {
            return refusal.hint(
                "services and files would keep the other value; --vault-only changes the vault all the same",
            );
        }
        let columns = self.columns.join("`, `");
        refusal.because([format!("values of the columns `{columns}` are under its current version")]).hint(format!(
            "bring a new key with --pending and `reseal reencrypt run {}`; if the current version is not the key the values are under, `reseal put {name} --vault-only` corrects the vault",
            self.columns[0]
        ))
    }

    /// Refuses to draw the key that values are under already.
    fn refusal_to_draw(&self, name: &SecretName) -> Failure {
        let columns = self.columns.join("`, `");
        Failure::new(Exit::Refused, format!("`{name}` is the key of the columns `{columns}`, and a random one opens nothing"))
            .because([format!("the vault holds no current version of it, and the plan {} manages it", self.plan.display())])
            .hint(format!(
                "store the key that the values are under now: `reseal put {name}`; then draw the next one with --pending. If the columns are empty, --vault-only draws a first one"
            ))
    }
}

impl App {
    /// What the plan says about a secret of this vault; `None` without a plan, and for a secret that is not in it.
    ///
    /// # Errors
    ///
    /// The plan is wrong.
    pub(crate) fn managed(&self, vault: &Vault, name: &SecretName) -> Outcome<Option<Managed>> {
        let Some(plan) = self.plan()? else { return Ok(None) };
        // `--vault` may name another vault than the one that the plan is about.
        if plan.vault().is_some_and(|meant| !is_same_file(&meant, vault.path())) {
            return Ok(None);
        }
        Ok(Managed::of(&plan, name))
    }

    /// Refuses to change what is current of a secret that the plan manages; a first value is no change.
    ///
    /// # Errors
    ///
    /// A rotation is between two of its values; or the plan manages it, and `vault_only` does not say that this is meant.
    pub(crate) fn guard_managed(
        &self,
        vault: &mut Vault,
        name: &SecretName,
        vault_only: bool,
    ) -> Outcome<()> {
        guard_unfinished(vault, name)?;
        if vault_only {
            return Ok(());
        }
        let managed = self.managed(vault, name).map_err(|failure| {
            failure.while_doing(format!(
                "it cannot be told whether `{name}` is managed by the plan; --vault-only changes the vault all the same"
            ))
        });
        match managed? {
            Some(managed) if has_current(vault, name)? => Err(managed.refusal(name)),
            _ => Ok(()),
        }
    }

    /// Refuses a drawn value in the place of the key that values of columns are under already.
    ///
    /// # Errors
    ///
    /// The plan manages it as the key of columns, the vault does not hold it, and `vault_only` does not say that this is
    /// meant.
    pub(crate) fn guard_drawn(&self, vault: &mut Vault, name: &SecretName, vault_only: bool) -> Outcome<()> {
        if vault_only {
            return Ok(());
        }
        match self.managed(vault, name)? {
            Some(managed) if managed.is_column_key() && !has_current(vault, name)? => {
                Err(managed.refusal_to_draw(name))
            }
            _ => Ok(()),
        }
    }
}

fn has_current(vault: &mut Vault, name: &SecretName) -> Outcome<bool> {
    match vault.show(name) {
        Ok(info) => Ok(info.labels.current.is_some()),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// Refuses to touch a version that an unfinished run reads or writes under, or that a rotation is between.
///
/// # Errors
///
/// There is such a run or rotation.
pub(crate) fn guard_run(vault: &mut Vault, name: &SecretName, version: u64) -> Outcome<()> {
    let runs = records(vault)?;
    let under = runs.iter().find(|run| {
        run.is_unfinished()
            && run
                .keys()
                .is_some_and(|(secret, old, new)| secret == name.as_str() && [old, new].contains(&version))
    });
    let Some(run) = under else { return guard_rotation(vault, name, version) };
    let refusal = format!("a {} of columns `{}` needs `{name}` version {version}", run.kind(), run.columns);
    Err(Failure::new(Exit::Refused, refusal).because(["it is not finished".to_owned()]).hint(format!(
        "finish it with `reseal reencrypt resume {0}`, or take it back with `reseal reencrypt rollback {0}`",
        run.columns
    )))
}

fn guard_rotation(vault: &mut Vault, name: &SecretName, version: u64) -> Outcome<()> {
    let last = latest(vault, name.as_str())?;
    let Some(open) = last.filter(|last| last.is_open() && [last.from, last.to].contains(&version)) else {
        return Ok(());
    };
    let refusal = format!("a rotation of `{name}` needs its version {version}");
    let next = match open.state {
        State::Overlap => format!("end the old value first with `reseal rotate retire {}`", open.name),
        _ => way_out(&open),
    };
    Err(Failure::new(Exit::Refused, refusal).because(["it is not over".to_owned()]).hint(next))
}

/// Refuses to destroy a version that a rotation needs to end it where it is still let in.
///
/// # Errors
///
/// An abandoned rotation left it, and the plan manages the secret.
pub(crate) fn guard_left(app: &App, vault: &mut Vault, name: &SecretName, version: u64) -> Outcome<()> {
    if !left_versions(vault, name)?.contains(&version) || app.managed(vault, name)?.is_none() {
        return Ok(());
    }
    let refusal = format!("version {version} of `{name}` is needed to end it where it is still let in");
    let why = "an abandoned rotation left it".to_owned();
    Err(Failure::new(Exit::Refused, refusal)
        .because([why])
        .hint("rotate it first: that ends what is left as well. Where nothing can let it in any more, take the secret out of the plan"))
}

/// A third value would be current in the vault and stand nowhere else, and neither direction would bring it out.
fn guard_unfinished(vault: &mut Vault, name: &SecretName) -> Outcome<()> {
    match latest(vault, name.as_str())? {
        Some(open) if open.is_unfinished() => {
            let refusal = format!("a rotation of `{name}` is between two of its values");
            Err(Failure::new(Exit::Refused, refusal).hint(way_out(&open)))
        }
        _ => Ok(()),
    }
}

fn way_out(open: &Rotation) -> String {
    let name = &open.name;
    let resume = if open.is_sync { "sync" } else { "rotate resume" };
    let way = format!(
        "finish it with `reseal {resume} {name}`, or take it back with `reseal rotate rollback {name}`"
    );
    match open.attention {
        Some(_) => format!("{way}; if neither can work, `reseal rotate abandon {name} --reason WHY`"),
        None => way,
    }
}

fn is_same_file(one: &Path, other: &Path) -> bool {
    match (fs::canonicalize(one), fs::canonicalize(other)) {
        (Ok(one), Ok(other)) => one == other,
        _ => false,
    }
}
