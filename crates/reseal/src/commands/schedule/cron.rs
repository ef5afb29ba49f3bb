//! Lines in the crontab of this user, between two comments that say whose they are.

use reseal_crypto::SecretBytes;
use reseal_rotate::process::{Call, Runner};
use zeroize::Zeroizing;

use super::jobs::{Job, Schedule, environment};
use crate::exit::Exit;
use crate::failure::{Failure, Outcome};

/// The lines, comments included.
pub(super) fn lines(schedule: &Schedule, key_file: &str) -> String {
    let (begin, end) = marks(schedule);
    let jobs: String = schedule.jobs.iter().map(|job| line(schedule, job, key_file)).collect();
    format!("{begin}\n{jobs}{end}\n")
}

/// Puts the lines into the crontab, in the place of those that were there.
///
/// # Errors
///
/// There is no cron, or it does not take the lines.
pub(super) async fn install(runner: &Runner, schedule: &Schedule, key_file: &str) -> Outcome<()> {
    let (rest, _) = without(&read(runner).await?, schedule);
    let added = lines(schedule, key_file);
    let separator = if rest.is_empty() || rest.ends_with('\n') { "" } else { "\n" };
    write(runner, Zeroizing::new(format!("{}{separator}{added}", *rest))).await
}

/// The lines that are installed; nothing if there are none, or no cron.
pub(super) async fn installed(runner: &Runner, schedule: &Schedule) -> Vec<String> {
    match read(runner).await {
        Ok(crontab) => without(&crontab, schedule).1,
        Err(_) => Vec::new(),
    }
}

/// Takes the lines away; says whether there were any.
///
/// # Errors
///
/// Cron does not take what is left.
pub(super) async fn remove(runner: &Runner, schedule: &Schedule) -> Outcome<bool> {
    let Ok(crontab) = read(runner).await else { return Ok(false) };
    let (rest, own) = without(&crontab, schedule);
    if own.is_empty() {
        return Ok(false);
    }
    write(runner, rest).await?;
    Ok(true)
}

fn marks(schedule: &Schedule) -> (String, String) {
    let name = &schedule.name;
    (format!("# {name}: made by `reseal schedule install`"), format!("# {name}: end"))
}

/// One line of a job. What it writes to stdout goes nowhere where people are told otherwise.
fn line(schedule: &Schedule, job: &Job, key_file: &str) -> String {
    // Cron knows the home of the user itself.
    let environment = environment().filter(|(name, _)| *name != "HOME");
    let environment: String =
        environment.map(|(name, value)| format!("{name}={} ", quoted(&value))).collect();
    let commands: Vec<String> = schedule
        .commands(job, key_file)
        .iter()
        .map(|argv| argv.iter().map(|word| quoted(word)).collect::<Vec<_>>().join(" "))
        .map(|command| format!("{environment}{command}"))
        .collect();
    let silent =
        if job.commands.iter().any(|command| command.contains(&"--notify")) { " >/dev/null" } else { "" };
    let directory = quoted(&schedule.directory.display().to_string());
    let shell = format!("cd {directory} && {{ {}; }}{silent}", commands.join("; "));
    // Cron makes a newline of every bare percent sign.
    let (time, day) = (job.at.at(), job.at.day().map_or("*".to_owned(), |day| day.to_string()));
    format!("{} {} * * {day} {}\n", time.minute(), time.hour(), shell.replace('%', "\\%"))
}

fn quoted(word: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "/._-:=+,@".contains(c);
    if !word.is_empty() && word.chars().all(is_plain) {
        return word.to_owned();
    }
    format!("'{}'", word.replace('\'', r"'\''"))
}

/// A crontab without the lines of this schedule, and these lines without their comments.
fn without(crontab: &str, schedule: &Schedule) -> (Zeroizing<String>, Vec<String>) {
    let (begin, end) = marks(schedule);
    let (mut rest, mut own) = (Zeroizing::new(String::with_capacity(crontab.len())), Vec::new());
    let mut inside = false;
    for line in crontab.split_inclusive('\n') {
        match line.trim_end() {
            mark if mark == begin => inside = true,
            mark if inside && mark == end => inside = false,
            job if inside => own.push(job.to_owned()),
            _ => rest.push_str(line),
        }
    }
    (rest, own)
}

async fn read(runner: &Runner) -> Outcome<Zeroizing<String>> {
    let listed = runner.run(&Call::new(["crontab", "-l"])).await.map_err(|error| {
        Failure::from_error(Exit::Failed, &error).while_doing("the crontab cannot be read")
    })?;
    if !listed.success() {
        // "no crontab for USER" is an answer; whatever else it may be comes back when lines are to be written.
        return Ok(Zeroizing::default());
    }
    // EXPOSE: a crontab may hold passwords of others; every copy of it wipes itself.
    let text =
        listed.stdout.expose_str().ok_or_else(|| Failure::new(Exit::Failed, "the crontab is no text"))?;
    Ok(Zeroizing::new(text.to_owned()))
}

async fn write(runner: &Runner, crontab: Zeroizing<String>) -> Outcome<()> {
    let call = Call::new(["crontab", "-"]).stdin(SecretBytes::copy_from(crontab.as_bytes()));
    let cannot = "the crontab cannot be written";
    let written = runner
        .run(&call)
        .await
        .map_err(|error| Failure::from_error(Exit::Failed, &error).while_doing(cannot))?;
    if written.success() {
        return Ok(());
    }
    // EXPOSE: complaints, scrubbed.
    Err(Failure::new(Exit::Failed, cannot).because(runner.known().last_lines(written.stderr.expose(), 5)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_reach_the_shell_as_they_are() {
        assert_eq!(quoted("/usr/bin/reseal"), "/usr/bin/reseal");
        assert_eq!(quoted("a b's"), r"'a b'\''s'");
        assert_eq!(quoted(""), "''");
    }
}
