//! `export`: values in the format that another program reads.

use std::collections::BTreeMap;

use reseal_vault::Secret;
use serde_json::{Value, json};
use zeroize::Zeroizing;

use super::secrets::{pattern, variable};
use crate::app::App;
use crate::args::{ExportArgs, ExportFormat};
use crate::exit::Exit;
use crate::failure::{Failure, Outcome};
use crate::new_file::write_new_file;
use crate::values;

/// `export`: every current value that the pattern covers.
///
/// # Errors
///
/// Two secrets have the same variable, a format cannot hold a value, or the vault does not open.
pub(crate) fn run(app: &App, args: &ExportArgs) -> Outcome {
    let secrets = app.vault()?.get_all(&pattern(args.pattern.as_deref()))?;
    if secrets.is_empty() {
        return Err(
            Failure::new(Exit::NotFound, "no secret matches").hint("`reseal list` shows what there is")
        );
    }
    let by_variable = by_variable(&secrets)?;
    if app.ui.is_json() && args.output.is_none() {
        let object =
            if args.reveal { json!({ "values": texts(&by_variable)? }) } else { names(&by_variable) };
        app.ui.result(object, String::new)?;
        return Ok(Exit::Done);
    }
    let text = render(args, &by_variable)?;
    match &args.output {
        None => app.ui.bytes(text.as_bytes())?,
        Some(path) => {
            write_new_file(path, text.as_bytes())?;
            let words = || format!("{} values written to {}", by_variable.len(), path.display());
            app.ui.result(names(&by_variable), words)?;
        }
    }
    Ok(Exit::Done)
}

fn by_variable(secrets: &[Secret]) -> Outcome<BTreeMap<String, &Secret>> {
    let mut found: BTreeMap<String, &Secret> = BTreeMap::new();
    for secret in secrets {
        if let Some(other) = found.insert(variable(secret), secret) {
            let message = format!("{} and {} would both be {}", other.name, secret.name, variable(secret));
            return Err(
                Failure::new(Exit::Refused, message).hint("give one of them another variable with --env")
            );
        }
    }
    Ok(found)
}

fn names(values: &BTreeMap<String, &Secret>) -> Value {
    let names: BTreeMap<_, _> =
        values.iter().map(|(variable, secret)| (variable, secret.name.as_str())).collect();
    json!({ "variables": names })
}

fn texts<'a>(values: &'a BTreeMap<String, &Secret>) -> Outcome<BTreeMap<&'a str, &'a str>> {
    values.iter().map(|(variable, secret)| Ok((variable.as_str(), text(secret)?))).collect()
}

/// The value as text; only a Kubernetes secret holds other bytes.
fn text(secret: &Secret) -> Outcome<&str> {
    // EXPOSE: an export is what was asked for.
    secret.value.expose_str().filter(|text| !text.contains('\0')).ok_or_else(|| {
        Failure::new(Exit::Refused, format!("the value of {} is no text", secret.name))
            .hint("use --format k8s, or `reseal get NAME --output FILE`")
    })
}

fn render(args: &ExportArgs, values: &BTreeMap<String, &Secret>) -> Outcome<Zeroizing<String>> {
    let mut out = Zeroizing::new(String::new());
    match args.format {
        ExportFormat::Json => {
            let object = serde_json::to_string_pretty(&texts(values)?);
            out = Zeroizing::new(object.map_err(|error| Failure::from_error(Exit::Failed, &error))?);
            out.push('\n');
        }
        ExportFormat::K8s => kubernetes(args, values, &mut out)?,
        ExportFormat::Env | ExportFormat::Shell | ExportFormat::Docker => {
            for (variable, secret) in values {
                let value = text(secret)?;
                let failed = |failure: Failure| failure.while_doing(format!("cannot export {}", secret.name));
                let line = Zeroizing::new(match args.format {
                    ExportFormat::Shell => format!("export {variable}={}\n", *values::shell(value)),
                    ExportFormat::Docker => {
                        format!("{variable}={}\n", values::docker(value).map_err(failed)?)
                    }
                    _ => format!("{variable}={}\n", *values::dotenv(value).map_err(failed)?),
                });
                out.push_str(&line);
            }
        }
    }
    Ok(out)
}

fn kubernetes(args: &ExportArgs, values: &BTreeMap<String, &Secret>, out: &mut String) -> Outcome<()> {
    let fits = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-' || c == '.';
    let name = &args.secret_name;
    if name.is_empty() || !name.chars().all(fits) || !name.starts_with(|c: char| c.is_ascii_alphanumeric()) {
        return Err(Failure::new(Exit::Usage, format!("`{name}` is no name of a Kubernetes secret"))
            .hint("use lower-case letters, digits, - and ."));
    }
    out.push_str("apiVersion: v1\nkind: Secret\ntype: Opaque\nmetadata:\n  name: ");
    out.push_str(name);
    out.push_str("\ndata:\n");
    for (variable, secret) in values {
        // EXPOSE: an export is what was asked for.
        let encoded = Zeroizing::new(values::base64(secret.value.expose()));
        out.push_str("  ");
        out.push_str(variable);
        out.push_str(": ");
        out.push_str(&encoded);
        out.push('\n');
    }
    Ok(())
}
