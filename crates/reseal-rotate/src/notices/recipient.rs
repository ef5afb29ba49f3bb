//! Who is told, and how each is reached.

use reseal_crypto::SecretBytes;
use reseal_vault::{Vault, VaultError, VersionSelector};
use serde_json::Value;

use super::mail::Mailer;
use super::{LIMIT, Notice, NoticeError, body};
use crate::error::RotateError;
use crate::http::{Http, Request, Url};
use crate::plan::{self, Format, Login, Notify, Occasion, Plan};
use crate::process::{Call, Runner};

/// A recipient of the plan.
#[derive(Debug)]
pub(super) struct Recipient {
    label: String,
    on: Vec<Occasion>,
    format: Format,
    way: Way,
}

/// How it is told.
#[derive(Debug)]
enum Way {
    Mail {
        mailer: Mailer,
        to: lettre::message::Mailbox,
    },
    Hook {
        http: Http,
        url: Url,
        routing_key: Option<SecretBytes>,
    },
    Command {
        runner: Runner,
        argv: Vec<String>,
    },
    /// Why it cannot be.
    Unusable(String),
}

/// Every recipient of the plan.
pub(super) fn all(
    plan: &Plan,
    notify: &Notify,
    vault: &mut Vault,
    runner: &Runner,
) -> Result<Vec<Recipient>, RotateError> {
    let http = Http::new()?.limit(LIMIT);
    let mailer = match &notify.smtp {
        Some(server) if notify.to.iter().any(|to| to.get_ref().email.is_some()) => {
            Some(mailer(plan, notify, server.get_ref(), vault)?)
        }
        _ => None,
    };
    let mut recipients = Vec::new();
    for to in notify.to.iter().map(toml::Spanned::get_ref) {
        let (label, way) = match to {
            plan::Recipient { email: Some(email), .. } => (email.clone(), by_mail(mailer.as_ref(), email)),
            plan::Recipient { webhook: Some(Login::Secret(name)), .. } => {
                (format!("web hook {name}"), by_hook(plan, name, vault, &http)?)
            }
            plan::Recipient { command: Some(argv), .. } => {
                let program = argv.first().cloned().unwrap_or_default();
                (format!("command {program}"), Way::Command { runner: runner.clone(), argv: argv.clone() })
            }
            // The plan was checked when it was read.
            _ => continue,
        };
        recipients.push(Recipient { label, on: to.on.clone(), format: to.format, way });
    }
    Ok(recipients)
}

fn mailer(
    plan: &Plan,
    notify: &Notify,
    server: &plan::MailServer,
    vault: &mut Vault,
) -> Result<Result<Mailer, String>, RotateError> {
    let password = match &server.password {
        Some(Login::Secret(name)) => match released(plan, name, vault)? {
            Ok(password) => Some(password),
            Err(why) => return Ok(Err(why)),
        },
        _ => None,
    };
    let words = (notify.from.as_deref(), notify.subject.as_deref());
    Ok(Mailer::new(server, password, words, plan.directory()).map_err(|error| error.to_string()))
}

fn by_mail(mailer: Option<&Result<Mailer, String>>, email: &str) -> Way {
    let Ok(to) = email.parse() else { return Way::Unusable("this is no mail address".into()) };
    match mailer {
        Some(Ok(mailer)) => Way::Mail { mailer: mailer.clone(), to },
        Some(Err(why)) => Way::Unusable(why.clone()),
        None => Way::Unusable("the plan has no mail server".into()),
    }
}

/// The address may carry the routing key of PagerDuty behind a `#`, which is never sent as part of an address.
fn by_hook(plan: &Plan, name: &str, vault: &mut Vault, http: &Http) -> Result<Way, RotateError> {
    let address = match released(plan, name, vault)? {
        Ok(address) => address,
        Err(why) => return Ok(Way::Unusable(why)),
    };
    // EXPOSE: parsed into a type that shows its host only.
    let Some(text) = address.expose_str().map(str::trim) else {
        return Ok(Way::Unusable(format!("the value of `{name}` is no address")));
    };
    let (text, key) = text.split_once('#').map_or((text, None), |(text, key)| (text, Some(key)));
    let url = match Url::parse(text) {
        Ok(url) if url.is_private() => url,
        Ok(_) => return Ok(Way::Unusable(format!("the address in `{name}` would be sent without TLS"))),
        Err(error) => return Ok(Way::Unusable(format!("the value of `{name}`: {error}"))),
    };
    let routing_key = key.map(|key| SecretBytes::copy_from(key.as_bytes()));
    Ok(Way::Hook { http: http.clone(), url, routing_key })
}

/// The current value of a secret of the plan, or why there is none.
fn released(plan: &Plan, name: &str, vault: &mut Vault) -> Result<Result<SecretBytes, String>, RotateError> {
    match vault.get(&plan.secret_name(name).parse()?, VersionSelector::Current) {
        Ok(secret) => Ok(Ok(secret.value)),
        Err(VaultError::NotFound { .. } | VaultError::Deleted(_)) => {
            Ok(Err(format!("the vault has no value of `{}`", plan.secret_name(name))))
        }
        Err(error) => Err(error.into()),
    }
}

impl Recipient {
    /// The recipient, as people may read it.
    pub(super) fn label(&self) -> &str {
        &self.label
    }

    /// Whether it is told on this occasion.
    pub(super) fn wants(&self, occasion: Occasion) -> bool {
        self.on.contains(&occasion) || (occasion == Occasion::Owed && self.on.contains(&Occasion::Due))
    }

    /// Tells it.
    pub(super) async fn tell(&self, notice: &Notice, contact: Option<&str>) -> Result<(), NoticeError> {
        match &self.way {
            Way::Mail { mailer, to } => mailer.send(to, &notice.heading, body::words(notice, contact)).await,
            Way::Hook { http, url, routing_key } => {
                let object = match self.format {
                    Format::Text => body::message(notice, contact),
                    Format::Pagerduty => body::event(notice, contact, routing_key.as_ref()),
                    Format::Json => body::object(notice, contact),
                };
                let json = SecretBytes::copy_from(b"application/json");
                let request = Request::post(url.clone(), bytes_of(&object)).header("content-type", json);
                match http.send(&request).await?.status {
                    200..300 => Ok(()),
                    status => Err(NoticeError::Status { host: url.host(), status }),
                }
            }
            Way::Command { runner, argv } => {
                let text = match self.format {
                    Format::Text => SecretBytes::copy_from(body::words(notice, contact).as_bytes()),
                    Format::Pagerduty => bytes_of(&body::event(notice, contact, None)),
                    Format::Json => bytes_of(&body::object(notice, contact)),
                };
                let finished = runner.run(&Call::new(argv).stdin(text).limit(LIMIT)).await?;
                let program = argv.first().cloned().unwrap_or_default();
                let status = finished.status;
                if status.success() { Ok(()) } else { Err(NoticeError::Failed { program, status }) }
            }
            Way::Unusable(why) => Err(NoticeError::Unusable(why.clone())),
        }
    }
}

fn bytes_of(object: &Value) -> SecretBytes {
    SecretBytes::new(object.to_string().into_bytes())
}
