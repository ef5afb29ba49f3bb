//! What a notice looks like: as words, as a message of Slack and its like, as an event of PagerDuty, as an object.

use reseal_crypto::SecretBytes;
use serde_json::{Value, json};

use super::Notice;
use crate::plan::Occasion;

/// The version of the object.
const SCHEMA_VERSION: u32 = 1;

/// The longest summary that PagerDuty takes.
const SUMMARY_MAX: usize = 1024;

/// As a mail and a command get it.
pub(super) fn words(notice: &Notice, contact: Option<&str>) -> String {
    let mut text = format!("{}\n", notice.heading);
    if !notice.lines.is_empty() {
        text.push('\n');
    }
    notice.lines.iter().for_each(|line| text.push_str(&format!("{line}\n")));
    if let Some(contact) = contact {
        text.push_str(&format!("\nContact: {contact}\n"));
    }
    text
}

/// As Slack, Mattermost, Rocket.Chat and Google Chat take it.
pub(super) fn message(notice: &Notice, contact: Option<&str>) -> Value {
    json!({ "text": words(notice, contact).trim_end() })
}

/// Every field.
pub(super) fn object(notice: &Notice, contact: Option<&str>) -> Value {
    json!({
        "schema_version": SCHEMA_VERSION,
        "occasion": notice.occasion.name(),
        "secrets": notice.secrets,
        "heading": notice.heading,
        "lines": notice.lines,
        "contact": contact,
    })
}

/// An event of PagerDuty, version 2: what failed, is due or is over its date opens an alert of its secrets; a rotation
/// that is done resolves it.
pub(super) fn event(notice: &Notice, contact: Option<&str>, routing_key: Option<&SecretBytes>) -> Value {
    let severity = match notice.occasion {
        Occasion::Failed | Occasion::Expired | Occasion::Incident => "critical",
        Occasion::Due | Occasion::Owed => "warning",
        Occasion::Before | Occasion::After => "info",
    };
    let action = if notice.occasion == Occasion::After { "resolve" } else { "trigger" };
    let summary: String = notice.heading.chars().take(SUMMARY_MAX).collect();
    json!({
        // EXPOSE: the event is what the key is for.
        "routing_key": routing_key.and_then(|key| key.expose_str()),
        "event_action": action,
        "dedup_key": format!("reseal {}", notice.secrets.join(" ")),
        "client": "reseal",
        "payload": {
            "summary": summary,
            "source": "reseal",
            "severity": severity,
            "custom_details": { "lines": notice.lines, "contact": contact },
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn notice(occasion: Occasion) -> Notice {
        Notice {
            occasion,
            secrets: vec!["redis/password".into()],
            heading: "redis/password failed".into(),
            lines: vec!["everything is as it was".into()],
        }
    }

    #[test]
    fn words_have_the_contact_last() {
        let text = words(&notice(Occasion::Failed), Some("ops@example.com"));
        assert_eq!(text, "redis/password failed\n\neverything is as it was\n\nContact: ops@example.com\n");
    }

    #[test]
    fn what_succeeds_resolves_what_failed() {
        let key = SecretBytes::copy_from(b"routing");
        let [failed, after] =
            [Occasion::Failed, Occasion::After].map(|occasion| event(&notice(occasion), None, Some(&key)));
        assert_eq!((&failed["event_action"], &after["event_action"]), (&json!("trigger"), &json!("resolve")));
        assert_eq!(failed["dedup_key"], after["dedup_key"]);
        assert_eq!(failed["payload"]["severity"], "critical");
        assert_eq!(failed["routing_key"], "routing");
    }
}
