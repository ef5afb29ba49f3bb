//! Telling people: notices go out beside the work, and what became of them is said at its end.
//!
//! A notice that fails or hangs is named on stderr and in the audit log, and changes nothing else.

use std::cell::{Cell, RefCell};
use std::time::Duration;

use reseal_rotate::RotateError;
use reseal_rotate::notices::{Delivery, Notice, Notifier};
use reseal_rotate::plan::{Occasion, Plan};
use reseal_rotate::process::Runner;
use reseal_rotate::rotation::Values;
use reseal_rotate::schedule::{Condition, Overview, Stands};
use reseal_rotate::scrub::Known;
use reseal_vault::{Event, Outcome, Vault};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::task::JoinHandle;
use tokio::time::timeout;

use crate::ui::Ui;
use crate::when;

/// How long the end of a command waits for notices that are still on their way.
const PATIENCE: Duration = Duration::from_secs(15);

/// Sends the notices of one command, in order.
pub(crate) struct Herald {
    ui: Ui,
    known: RefCell<Known>,
    work: Option<Work>,
}

/// The task that sends, and the ways in and out of it.
struct Work {
    notices: UnboundedSender<Notice>,
    deliveries: UnboundedReceiver<Vec<Delivery>>,
    task: JoinHandle<()>,
    sent: Cell<usize>,
}

impl Herald {
    /// For the recipients of this plan, if it has any.
    ///
    /// # Errors
    ///
    /// The vault fails.
    pub(crate) fn of(ui: Ui, plan: &Plan, vault: &mut Vault) -> Result<Self, RotateError> {
        if plan.file.notify.as_ref().is_none_or(|notify| notify.to.is_empty()) {
            return Ok(Self { ui, known: RefCell::default(), work: None });
        }
        let runner = Runner::new(plan.directory(), std::env::vars_os(), Known::default());
        let mut notifier = Notifier::of(plan, vault, &runner)?;
        let (notices, mut to_send) = unbounded_channel::<Notice>();
        let (told, deliveries) = unbounded_channel();
        let task = tokio::spawn(async move {
            while let Some(notice) = to_send.recv().await {
                // Nobody listens any more: the command is over.
                let _ = told.send(notifier.deliver(&notice).await);
            }
        });
        let work = Work { notices, deliveries, task, sent: Cell::new(0) };
        Ok(Self { ui, known: RefCell::default(), work: Some(work) })
    }

    /// These values must not stand in a notice, wherever they may come from.
    pub(crate) fn know(&self, values: &Values) {
        let mut known = self.known.borrow_mut();
        values.known().for_each(|value| known.add(value));
    }

    /// Sends a notice beside whatever else happens.
    pub(crate) fn send(&self, notice: Notice) {
        if let Some(work) = &self.work {
            work.sent.update(|sent| sent + 1);
            // The task ends after this end of the channel.
            let _ = work.notices.send(notice.without(&self.known.borrow()));
        }
    }

    /// Waits for what is on its way, for 15 s at most, and says what became of it, in the audit log too. Returns
    /// whether everybody was told.
    pub(crate) async fn end(self, vault: &mut Vault) -> bool {
        let Some(Work { notices, mut deliveries, mut task, sent }) = self.work else { return true };
        drop(notices);
        let is_over = timeout(PATIENCE, &mut task).await.is_ok();
        task.abort();
        let (mut events, mut answered) = (Vec::new(), 0);
        let mut is_told = is_over;
        while let Ok(delivered) = deliveries.try_recv() {
            answered += 1;
            for Delivery { to, occasion, secrets, outcome } in delivered {
                let about = format!("{} {}", occasion.name(), secrets.join(" "));
                let event = Event::done("notify").of(&to);
                events.push(match outcome {
                    Ok(()) => event.detail(about),
                    Err(why) => {
                        is_told = false;
                        self.ui.warn(format!("{to} was not told ({about}): {why}"));
                        Event { outcome: Outcome::Failed, ..event }.detail(format!("{about}: {why}"))
                    }
                });
            }
        }
        if !is_over {
            self.ui.warn(format!("{} notices were given up", sent.get().saturating_sub(answered)));
        }
        if let Err(error) = record(vault, events) {
            self.ui.warn(format!("the audit log does not say who was told: {error}"));
        }
        is_told
    }
}

fn record(vault: &mut Vault, mut events: Vec<Event>) -> Result<(), RotateError> {
    let Some(last) = events.pop() else { return Ok(()) };
    vault.batch(|batch| {
        events.into_iter().try_for_each(|event| batch.audit(event))?;
        Ok(((), last))
    })
}

/// What people are told of how things stand: one notice for each occasion that there is.
pub(crate) fn standing_notices(overview: &Overview) -> Vec<Notice> {
    let of = |is_meant: fn(&Stands) -> bool| overview.secrets.iter().filter(move |one| is_meant(one));
    let stuck = of(|one| one.condition() <= Condition::Interrupted);
    let owed = of(|one| one.owed.is_some());
    let expired = of(|one| one.owed.is_none() && one.is_expired());
    let due = of(|one| one.owed.is_none() && one.is_rotation_due() && !one.is_expired());
    [
        standing(Occasion::Failed, "a rotation that is not over", "rotations that are not over", stuck),
        standing(Occasion::Owed, "a secret has to change at once", "secrets have to change at once", owed),
        standing(Occasion::Expired, "CRITICAL: a secret has EXPIRED", "secrets have EXPIRED", expired),
        standing(Occasion::Due, "WARNING: a secret is due", "secrets are due", due),
    ]
    .into_iter()
    .flatten()
    .collect()
}

fn standing<'a>(
    occasion: Occasion,
    one: &str,
    many: &str,
    concerned: impl Iterator<Item = &'a Stands>,
) -> Option<Notice> {
    let concerned: Vec<_> = concerned.collect();
    let heading = match concerned.len() {
        0 => return None,
        1 => format!("{one}: {}", concerned[0].called()),
        count if occasion == Occasion::Expired => format!("CRITICAL: {count} {many}"),
        count if occasion == Occasion::Due => format!("WARNING: {count} {many}"),
        count => format!("{count} {many}"),
    };
    let secrets = concerned.iter().map(|stands| stands.called().to_owned()).collect();
    Some(Notice { occasion, secrets, heading, lines: concerned.into_iter().map(line_about).collect() })
}

fn line_about(stands: &Stands) -> String {
    let mut line = format!("{}: {}", stands.called(), why(stands));
    let named =
        [("owner", &stands.owner), ("risk", &stands.settings.risk), ("impact", &stands.settings.impact)];
    for (what, word) in named {
        if let Some(word) = word {
            line.push_str(&format!("; {what}: {word}"));
        }
    }
    if let Some(next) = stands.next_command() {
        line.push_str(&format!("; next: {next}"));
    }
    line
}

fn days_of(days: i64) -> String {
    if days == 1 { "1 day".to_owned() } else { format!("{days} days") }
}

fn why(stands: &Stands) -> String {
    // What stands in the way may quote programs, and is told where the vault is.
    if stands.condition() == Condition::NeedsAttention {
        return "its rotation needs attention: `reseal status` says why".into();
    }
    if stands.condition() == Condition::Interrupted {
        return "its rotation was interrupted".into();
    }
    if let Some(owed) = &stands.owed {
        return format!("owed: {}", owed.reason);
    }
    match (stands.due_at, stands.days_until_rotation()) {
        (Some(due), Some(0)) => format!("expired within the last day, {}", when::show(due)),
        (Some(due), Some(days @ ..0)) => format!("expired {} ago, {}", days_of(-days), when::show(due)),
        (Some(due), Some(days)) => format!("rotation due in {}, {}", days_of(days), when::show(due)),
        _ => "due: nobody knows how old its value is".into(),
    }
}
