//! Checks over time: what holds before a change, and what goes on holding after it.

use std::time::{Duration, SystemTime};

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use serde::{Deserialize, Serialize};
use tokio::time::{Instant, sleep, timeout};

use super::log::{Follow, Found, LIVE, Usual, usual_of_file};
use super::{Check, Checker, Kind, LogCheck, Seen};
use crate::apps::{App, AppError, Standing};
use crate::plan::BringOver;

/// How often a log that has to be asked for is asked for.
const ASK_EVERY: Duration = Duration::from_secs(1);

/// How many of an application's last lines a failure shows.
const LAST_LINES: usize = 20;

/// How long checks are made for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Window {
    /// How long to wait for a check to pass the first time.
    pub wait: Duration,
    /// How long it must go on passing.
    pub hold: Duration,
    /// How often it is tried.
    pub every: Duration,
}

impl Window {
    /// As long as the plan says for this application, twice a second.
    pub fn of(app: &App) -> Self {
        Self { wait: app.wait(), hold: app.hold(), every: Duration::from_millis(500) }
    }
}

/// What checks saw before a change; can be written down, for a rotation that goes on after a crash.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Baseline {
    /// One for each check.
    pub seen: Vec<Seen>,
    /// How often the pattern of a log check occurs, in the order of the checks; `None` for other checks.
    usual: Vec<Option<Usual>>,
}

impl Baseline {
    /// Whether everything held: only then is it worth changing anything.
    pub fn passed(&self) -> bool {
        self.seen.iter().all(|seen| seen.passed)
    }
}

/// What checks saw after a change.
#[derive(Debug, Clone, Default)]
pub struct Report {
    /// What was seen; after a failure, checks that were not finished are left out.
    pub seen: Vec<Seen>,
    /// After a failure, the last lines of the application, scrubbed.
    pub last: Vec<String>,
}

impl Report {
    /// Whether everything held to the end.
    pub fn passed(&self) -> bool {
        self.seen.iter().all(|seen| seen.passed)
    }

    /// What did not hold.
    pub fn failed(&self) -> impl Iterator<Item = &Seen> {
        self.seen.iter().filter(|seen| !seen.passed)
    }
}

impl Checker {
    /// Makes every check once; changes nothing. A log check passes if its log can be read, and learns what is usual.
    pub async fn baseline(&self, app: Option<&App>, checks: &[Check]) -> Baseline {
        let mut baseline = Baseline::default();
        if let Some(app) = app {
            baseline.seen.extend(running(app).await.err());
        }
        for check in checks {
            let (seen, usual) = match &check.0 {
                Kind::Log(log) => self.usual(app, log).await,
                _ => (self.attempt(check).await, None),
            };
            baseline.seen.push(seen);
            baseline.usual.push(usual);
        }
        baseline
    }

    /// Makes every check until it passes, then goes on for the time of the window; patterns in logs for their own.
    ///
    /// Call it when the application was brought over. It fails as soon as one check fails for good: one that does not
    /// come to pass within `window.wait`, one that passed and then does not, a pattern that should be absent, an
    /// application that is not up within `window.wait`, goes down, or starts anew by itself.
    pub async fn window(
        &self,
        app: Option<&App>,
        checks: &[Check],
        before: &Baseline,
        window: Window,
    ) -> Report {
        let began = SystemTime::now();
        let mut report = Report::default();
        // Logs are followed from here on, also while the application comes up.
        let follows: Vec<_> = checks.iter().map(|check| self.follow(check)).collect();
        let ids = match app {
            Some(app) => match up(app, window).await {
                Ok(ids) => ids,
                Err(seen) => return self.failed(app.into(), seen, report).await,
            },
            None => None,
        };
        let longest = checks.iter().filter_map(|check| match &check.0 {
            Kind::Log(log) => Some(log.during),
            _ => None,
        });
        let watched = longest.max().unwrap_or_default().max(window.hold);

        let mut running = FuturesUnordered::new();
        for (at, (check, follow)) in checks.iter().zip(follows).enumerate() {
            let usual = before.usual.get(at).copied().flatten();
            running.push(futures_util::future::Either::Left(async move {
                match (&check.0, follow) {
                    (Kind::Log(log), Some(follow)) => (at, self.watch_file(log, follow, usual, window).await),
                    (Kind::Log(log), None) => (at, self.watch_app(log, app, began, usual).await),
                    _ => (at, self.steady(check, window).await),
                }
            }));
        }
        if let (Some(app), Some(ids)) = (app, ids) {
            running.push(futures_util::future::Either::Right(async move {
                (checks.len(), stays(app, &ids, watched, window.every).await)
            }));
        }
        let mut seen = Vec::new();
        while let Some((at, one)) = running.next().await {
            if !one.passed {
                drop(running);
                report.seen = seen.into_iter().map(|(_, seen)| seen).collect();
                return self.failed(app, one, report).await;
            }
            seen.push((at, one));
        }
        seen.sort_by_key(|(at, _)| *at);
        report.seen = seen.into_iter().map(|(_, seen)| seen).collect();
        report
    }

    async fn failed(&self, app: Option<&App>, seen: Seen, mut report: Report) -> Report {
        report.seen.push(seen);
        if let Some(app) = app {
            report.last = app.last_lines(LAST_LINES).await;
        }
        report
    }

    /// Tries until it passes, then for as long as it must hold.
    async fn steady(&self, check: &Check, window: Window) -> Seen {
        let begin = Instant::now();
        loop {
            let seen = self.attempt(check).await;
            if seen.passed {
                break;
            }
            if begin.elapsed() >= window.wait {
                return seen;
            }
            sleep(window.every).await;
        }
        let begin = Instant::now();
        loop {
            sleep(window.every).await;
            let seen = self.attempt(check).await;
            if !seen.passed {
                let saw = format!("it passed, and {} s later {}", begin.elapsed().as_secs(), seen.saw);
                return Seen { saw, ..seen };
            }
            if begin.elapsed() >= window.hold {
                return seen;
            }
        }
    }

    /// The file that a log check watches, from its end on.
    fn follow(&self, check: &Check) -> Option<std::io::Result<Follow>> {
        match &check.0 {
            Kind::Log(LogCheck { from: Some(from), .. }) => {
                Some(Follow::from_end(&self.runner.directory().join(from)))
            }
            _ => None,
        }
    }

    async fn watch_file(
        &self,
        log: &LogCheck,
        follow: std::io::Result<Follow>,
        usual: Option<Usual>,
        window: Window,
    ) -> Seen {
        let allowed = usual.map_or(0, |usual| usual.allowed(log.during));
        let mut found = Found::default();
        let mut follow = match follow {
            Ok(follow) => follow,
            Err(error) => return unreadable(log, &error.to_string()),
        };
        let begin = Instant::now();
        loop {
            let is_over = begin.elapsed() >= log.during;
            match follow.lines() {
                Ok(lines) => found.add(log, &lines),
                Err(error) => return unreadable(log, &error.to_string()),
            }
            if let Some(seen) = log.early(&found, allowed, self.runner.known()) {
                return seen;
            }
            if is_over {
                return log.late(&found, allowed, self.runner.known());
            }
            sleep(window.every.min(log.during)).await;
        }
    }

    /// Watches the log of the application, since its processes were started.
    async fn watch_app(
        &self,
        log: &LogCheck,
        app: Option<&App>,
        began: SystemTime,
        usual: Option<Usual>,
    ) -> Seen {
        let Some(app) = app else { return unreadable(log, NO_LOG) };
        let since = match since(app, began).await {
            Ok(since) => since,
            Err(error) => return unreadable(log, &error.to_string()),
        };
        let allowed = usual.map_or(0, |usual| usual.allowed(log.during));
        let begin = Instant::now();
        loop {
            let is_over = begin.elapsed() >= log.during;
            let mut found = Found::default();
            match app.logs(since).await {
                Ok(Some(lines)) => found.add(log, lines.expose()),
                Ok(None) => return unreadable(log, NO_LOG),
                Err(error) => return unreadable(log, &error.to_string()),
            }
            if let Some(seen) = log.early(&found, allowed, self.runner.known()) {
                return seen;
            }
            if is_over {
                return log.late(&found, allowed, self.runner.known());
            }
            sleep(ASK_EVERY.min(log.during)).await;
        }
    }

    /// What is usual in a log now.
    async fn usual(&self, app: Option<&App>, log: &LogCheck) -> (Seen, Option<Usual>) {
        let found = match (&log.from, app) {
            (Some(from), _) => self.usual_of_file(log, from).await.map_err(|error| error.to_string()),
            (None, Some(app)) => self.usual_of_app(log, app).await,
            (None, None) => Err(NO_LOG.to_owned()),
        };
        match found {
            Ok(usual) => {
                let saw = format!("{} matching lines within {} s", usual.lines, usual.within.as_secs());
                (Seen { check: log.title(), passed: true, saw }, Some(usual))
            }
            Err(why) => (unreadable(log, &why), None),
        }
    }

    async fn usual_of_file(&self, log: &LogCheck, from: &std::path::Path) -> std::io::Result<Usual> {
        let path = self.runner.directory().join(from);
        if let Some(usual) = usual_of_file(log, &path)? {
            return Ok(usual);
        }
        let mut follow = Follow::from_end(&path)?;
        let within = log.during.min(LIVE);
        sleep(within).await;
        let mut found = Found::default();
        found.add(log, &follow.lines()?);
        Ok(Usual { lines: found.lines, within })
    }

    async fn usual_of_app(&self, log: &LogCheck, app: &App) -> Result<Usual, String> {
        let now = SystemTime::now();
        let oldest = now - log.during;
        let since = since(app, now).await.map_err(|error| error.to_string())?;
        // A reload leaves the log as it is; otherwise it begins with the process.
        let from = if app.way() == BringOver::Reload { oldest } else { since.max(oldest) };
        let lines = app.logs(from).await.map_err(|error| error.to_string())?.ok_or(NO_LOG)?;
        let mut found = Found::default();
        found.add(log, lines.expose());
        let within = now.duration_since(from).unwrap_or_default().max(Duration::from_secs(1));
        Ok(Usual { lines: found.lines, within })
    }
}

const NO_LOG: &str = "the plan does not say where its log is: name the file with `from`";

fn unreadable(log: &LogCheck, why: &str) -> Seen {
    Seen { check: log.title(), passed: false, saw: why.to_owned() }
}

/// Since when the log of an application counts: since its processes started, but for a reload since `began`.
async fn since(app: &App, began: SystemTime) -> Result<SystemTime, AppError> {
    if app.way() == BringOver::Reload {
        return Ok(began);
    }
    Ok(match app.standing().await? {
        Standing::Up(instances) => {
            instances.iter().filter_map(|instance| instance.started).min().unwrap_or(began)
        }
        Standing::Down(_) | Standing::Unseen => began,
    })
}

fn runs(app: &App) -> String {
    format!("{} runs", app.name())
}

/// What identifies its processes; `None` if nobody can tell.
async fn running(app: &App) -> Result<Option<Vec<String>>, Seen> {
    let saw = match app.standing().await {
        Ok(Standing::Up(instances)) => {
            return Ok(Some(instances.into_iter().map(|instance| instance.id).collect()));
        }
        Ok(Standing::Unseen) => return Ok(None),
        Ok(Standing::Down(why)) => why,
        Err(error) => error.to_string(),
    };
    Err(Seen { check: runs(app), passed: false, saw })
}

async fn up(app: &App, window: Window) -> Result<Option<Vec<String>>, Seen> {
    let begin = Instant::now();
    loop {
        let seen = match timeout(window.wait.max(ASK_EVERY), running(app)).await {
            Ok(Ok(ids)) => return Ok(ids),
            Ok(Err(seen)) => seen,
            Err(_) => Seen { check: runs(app), passed: false, saw: "nobody can tell in time".into() },
        };
        if begin.elapsed() >= window.wait {
            return Err(seen);
        }
        sleep(window.every).await;
    }
}

/// Watches that the same processes go on running.
async fn stays(app: &App, ids: &[String], watched: Duration, every: Duration) -> Seen {
    let begin = Instant::now();
    let seen = |passed, saw: &str| Seen { check: runs(app), passed, saw: saw.to_owned() };
    loop {
        match running(app).await {
            Ok(Some(now)) if now == ids => {}
            Ok(_) => return seen(false, "it was started anew, and not by this rotation"),
            Err(down) => return down,
        }
        if begin.elapsed() >= watched {
            return seen(true, &format!("it ran on for {} s", watched.as_secs()));
        }
        sleep(every).await;
    }
}
