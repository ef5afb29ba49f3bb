//! Patterns in logs: absent, present, or no more of them than before.

use std::fs::File;
use std::io::{ErrorKind, Read, Seek, SeekFrom};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use jiff::civil::DateTime;
use reseal_crypto::secret::{SecretBytes, reserve_wiping};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::{LogCheck, Seen};
use crate::plan::LogExpect;
use crate::scrub::Known;

/// How much of the end of a file is read to see what is usual.
const TAIL_MAX: u64 = 8 << 20;

/// How long a file without times is watched to see what is usual.
pub(super) const LIVE: Duration = Duration::from_secs(10);

/// The longest line; the rest of a longer one counts as another line.
const LINE_MAX: usize = 64 << 10;

/// How often a pattern occurs when nothing is changed.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub(super) struct Usual {
    /// Lines that match.
    pub(super) lines: u64,
    /// Within this time.
    pub(super) within: Duration,
}

impl Usual {
    /// How many matching lines are no more than before, in a time of this length.
    ///
    /// Where there were none, none. Else as many as before and three standard deviations of a count, since a steady
    /// stream of lines never gives the same count twice.
    pub(super) fn allowed(&self, during: Duration) -> u64 {
        if self.lines == 0 {
            return 0;
        }
        let within = self.within.as_secs_f64().max(0.001);
        let expected = self.lines as f64 * during.as_secs_f64() / within;
        (expected + 3.0 * expected.sqrt()).ceil() as u64
    }
}

impl LogCheck {
    pub(super) fn title(&self) -> String {
        let what = match self.expect {
            LogExpect::Absent => "is absent from",
            LogExpect::Present => "is present in",
            LogExpect::NoMoreThanBefore => "is no more frequent in",
        };
        let whose = self.from.as_ref().map_or("its log".into(), |from| from.display().to_string());
        format!("`{}` {what} {whose} for {} s", self.pattern, self.during.as_secs())
    }

    /// The verdict, if more lines cannot change it.
    pub(super) fn early(&self, found: &Found, allowed: u64, known: &Known) -> Option<Seen> {
        match self.expect {
            LogExpect::Absent if found.lines > 0 => Some(self.seen(false, found, allowed, known)),
            LogExpect::Present if found.lines > 0 => Some(self.seen(true, found, allowed, known)),
            LogExpect::NoMoreThanBefore if found.lines > allowed => {
                Some(self.seen(false, found, allowed, known))
            }
            _ => None,
        }
    }

    /// The verdict when the time is over.
    pub(super) fn late(&self, found: &Found, allowed: u64, known: &Known) -> Seen {
        let passed = self.expect != LogExpect::Present;
        self.early(found, allowed, known).unwrap_or_else(|| self.seen(passed, found, allowed, known))
    }

    fn seen(&self, passed: bool, found: &Found, allowed: u64, known: &Known) -> Seen {
        let bound = match self.expect {
            LogExpect::NoMoreThanBefore => format!(" (up to {allowed} are no more than before)"),
            _ => String::new(),
        };
        let last = found.last.as_ref().and_then(|line| known.last_lines(line.expose(), 1).pop());
        let last = last.map(|line| format!(": {line}")).unwrap_or_default();
        Seen { check: self.title(), passed, saw: format!("{} matching lines{bound}{last}", found.lines) }
    }
}

/// What was found of a pattern.
#[derive(Debug, Default)]
pub(super) struct Found {
    pub(super) lines: u64,
    /// The last line that matched.
    last: Option<SecretBytes>,
}

impl Found {
    pub(super) fn add(&mut self, check: &LogCheck, lines: &[u8]) {
        let matching = || lines.split(|byte| *byte == b'\n').filter(|line| check.pattern.is_match(line));
        self.lines += matching().count() as u64;
        self.last = matching().next_back().map(SecretBytes::copy_from).or(self.last.take());
    }
}

/// A file that grows, from where it was at the beginning; also when it is rotated or truncated.
#[derive(Debug)]
pub(super) struct Follow {
    path: PathBuf,
    file: Option<File>,
    /// The beginning of a line whose end is not written yet.
    rest: Zeroizing<Vec<u8>>,
}

impl Follow {
    /// Begins at the end of the file; at the beginning, if there is none yet.
    pub(super) fn from_end(path: &Path) -> std::io::Result<Self> {
        let mut file = open(path)?;
        if let Some(file) = &mut file {
            file.seek(SeekFrom::End(0))?;
        }
        Ok(Self { path: path.to_owned(), file, rest: Zeroizing::default() })
    }

    /// The whole lines that were written since the last time.
    pub(super) fn lines(&mut self) -> std::io::Result<Zeroizing<Vec<u8>>> {
        let mut new = std::mem::take(&mut self.rest);
        if let Some(file) = &mut self.file {
            if file.metadata()?.len() < file.stream_position()? {
                file.rewind()?;
            }
            read_to_end(file, &mut new)?;
        }
        // What was still written to the old file has been read: on to the one that took its name.
        if let Some(mut next) = open(&self.path)? {
            let is_same = self.file.as_ref().map(|file| same(file, &next)).transpose()?.unwrap_or(false);
            if !is_same {
                read_to_end(&mut next, &mut new)?;
                self.file = Some(next);
            }
        }
        let end = new.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
        if new.len() - end <= LINE_MAX {
            self.rest = Zeroizing::new(new[end..].to_vec());
            new.truncate(end);
        }
        Ok(new)
    }
}

fn open(path: &Path) -> std::io::Result<Option<File>> {
    match File::open(path) {
        Ok(file) => Ok(Some(file)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

fn same(one: &File, other: &File) -> std::io::Result<bool> {
    let (one, other) = (one.metadata()?, other.metadata()?);
    Ok((one.dev(), one.ino()) == (other.dev(), other.ino()))
}

fn read_to_end(file: &mut File, into: &mut Vec<u8>) -> std::io::Result<()> {
    let mut chunk = Zeroizing::new(vec![0; 64 << 10]);
    loop {
        let length = file.read(&mut chunk)?;
        if length == 0 {
            return Ok(());
        }
        reserve_wiping(into, length);
        into.extend_from_slice(&chunk[..length]);
    }
}

/// What is usual in a file, by the times at the beginnings of its lines; `None` if they have none.
///
/// Whatever time zone they are in: the last line was written when the file was last changed.
///
/// # Errors
///
/// If there is no such file, or it cannot be read.
pub(super) fn usual_of_file(check: &LogCheck, path: &Path) -> std::io::Result<Option<Usual>> {
    let mut file = File::open(path)?;
    let metadata = file.metadata()?;
    file.seek(SeekFrom::Start(metadata.len().saturating_sub(TAIL_MAX)))?;
    let mut tail = Zeroizing::new(Vec::new());
    read_to_end(&mut file, &mut tail)?;
    let quiet = SystemTime::now().duration_since(metadata.modified()?).unwrap_or_default();
    let lines = || tail.split(|byte| *byte == b'\n');
    let Some(last) = lines().rev().find_map(time_of) else { return Ok(None) };
    let age = |time: DateTime| {
        let seconds = last.duration_since(time).as_secs_f64().max(0.0);
        quiet + Duration::from_secs_f64(seconds)
    };
    let (mut found, mut oldest, mut now) = (0, None, None);
    for line in lines() {
        now = time_of(line).or(now);
        let Some(age) = now.map(age) else { continue };
        oldest = oldest.or(Some(age));
        found += u64::from(age <= check.during && check.pattern.is_match(line));
    }
    let within =
        oldest.unwrap_or_default().clamp(Duration::from_secs(1), check.during.max(Duration::from_secs(1)));
    Ok(Some(Usual { lines: found, within }))
}

/// The first `2024-01-01 12:00:00` or `2024-01-01T12:00:00` in the first 48 bytes of a line.
fn time_of(line: &[u8]) -> Option<DateTime> {
    let head = &line[..line.len().min(48)];
    head.windows(19).find_map(|window| {
        let is_shaped = window.iter().enumerate().all(|(at, byte)| match at {
            4 | 7 => *byte == b'-',
            10 => matches!(byte, b' ' | b'T'),
            13 | 16 => *byte == b':',
            _ => byte.is_ascii_digit(),
        });
        std::str::from_utf8(window).ok().filter(|_| is_shaped)?.parse().ok()
    })
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use regex::bytes::Regex;

    use super::*;

    fn check(pattern: &str, expect: LogExpect, during: u64) -> LogCheck {
        let during = Duration::from_secs(during);
        LogCheck { pattern: Regex::new(pattern).unwrap(), from: None, expect, during }
    }

    #[test]
    fn no_more_than_before_allows_for_noise_but_not_for_the_first() {
        let usual = |lines| Usual { lines, within: Duration::from_secs(10) };
        assert_eq!(usual(0).allowed(Duration::from_secs(300)), 0);
        assert_eq!(usual(100).allowed(Duration::from_secs(10)), 130);
        assert_eq!(usual(100).allowed(Duration::from_secs(40)), 460);
    }

    #[test]
    fn a_file_is_followed_through_rotation_and_truncation() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("app.log");
        std::fs::write(&path, "old\n").unwrap();
        let mut follow = Follow::from_end(&path).unwrap();
        let mut log = File::options().append(true).open(&path).unwrap();
        let mut lines = || String::from_utf8(follow.lines().unwrap().to_vec()).unwrap();
        assert_eq!(lines(), "");
        write!(log, "one\ntw").unwrap();
        assert_eq!(lines(), "one\n", "a line counts when it is whole");
        writeln!(log, "o").unwrap();
        assert_eq!(lines(), "two\n");
        writeln!(log, "last words").unwrap();
        std::fs::rename(&path, folder.path().join("app.log.1")).unwrap();
        std::fs::write(&path, "new file\n").unwrap();
        assert_eq!(lines(), "last words\nnew file\n");
        std::fs::write(&path, "cut\n").unwrap();
        assert_eq!(lines(), "cut\n", "the same file, made shorter");
        std::fs::remove_file(&path).unwrap();
        assert_eq!(lines(), "");
        std::fs::write(&path, "again\n").unwrap();
        assert_eq!(lines(), "again\n");
    }

    #[test]
    fn what_is_usual_is_read_off_the_times_of_lines_in_any_zone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("app.log");
        // Written now, as some other zone's noon.
        let mut text = String::from("2024-01-01 11:00:00 GET 403\n");
        for second in 0..60 {
            text += &format!(
                "[2024-01-01T12:00:{second:02}] POST 403\n  trace 403\n[2024-01-01T12:00:{second:02}] ok\n"
            );
        }
        std::fs::write(&path, text).unwrap();
        let usual = usual_of_file(&check("403", LogExpect::NoMoreThanBefore, 30), &path).unwrap().unwrap();
        assert_eq!(usual.within, Duration::from_secs(30));
        assert!((58..=62).contains(&usual.lines), "30 s of two lines each: {usual:?}");

        std::fs::write(&path, "no times here 403\n").unwrap();
        assert_eq!(usual_of_file(&check("403", LogExpect::NoMoreThanBefore, 30), &path).unwrap(), None);
        assert!(usual_of_file(&check("403", LogExpect::Absent, 30), &folder.path().join("none")).is_err());
    }

    #[test]
    fn verdicts() {
        let known = Known::default();
        for (expect, text, early, late) in [
            (LogExpect::Absent, "fine\n", None, true),
            (LogExpect::Absent, "fine\nbad\n", Some(false), false),
            (LogExpect::Present, "fine\n", None, false),
            (LogExpect::Present, "bad\n", Some(true), true),
            (LogExpect::NoMoreThanBefore, "bad\nbad\n", None, true),
            (LogExpect::NoMoreThanBefore, "bad\nbad\nbad\n", Some(false), false),
        ] {
            let (check, mut found) = (check("bad", expect, 1), Found::default());
            found.add(&check, text.as_bytes());
            assert_eq!(check.early(&found, 2, &known).map(|seen| seen.passed), early, "{expect:?} {text:?}");
            assert_eq!(check.late(&found, 2, &known).passed, late, "{expect:?} {text:?}");
        }
    }
}
