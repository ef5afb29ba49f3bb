//! What Linux tells about a process: when it started, and the environment it was started with.

use std::time::{Duration, Instant, SystemTime};

use reseal_crypto::secret::SecretBytes;
use rustix::param::clock_ticks_per_second;
use rustix::time::{ClockId, clock_gettime};
use tokio::time::sleep;
use zeroize::Zeroizing;

/// When a process started, to a hundredth of a second; `None` if it is gone or cannot be seen.
pub(super) fn started(pid: u32) -> Option<SystemTime> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name, in brackets, may hold anything; proc(5) counts its start time as the 22nd field, the 20th after it.
    let ticks: u64 = stat.rsplit_once(") ")?.1.split(' ').nth(19)?.parse().ok()?;
    let after_boot = Duration::from_millis(ticks.saturating_mul(1000) / clock_ticks_per_second().max(1));
    Some(booted()? + after_boot)
}

/// When the system was started, by the wall clock of now.
fn booted() -> Option<SystemTime> {
    let mut best = None;
    // The two clocks are not read at one instant: of some tries the quickest. Read in this order, what it is off by
    // makes a process look older than it is, never newer.
    for _ in 0..8 {
        let begin = Instant::now();
        let now = SystemTime::now();
        let up = clock_gettime(ClockId::Boottime);
        let took = begin.elapsed();
        let up = Duration::new(u64::try_from(up.tv_sec).ok()?, u32::try_from(up.tv_nsec).ok()?);
        let booted = now.checked_sub(up)?;
        if best.is_none_or(|(least, _)| took < least) {
            best = Some((took, booted));
        }
    }
    best.map(|(_, booted)| booted)
}

/// A variable of the environment that a process was started with.
///
/// # Errors
///
/// If the process is gone or belongs to someone else.
pub(super) async fn variable(pid: u32, name: &str) -> std::io::Result<Option<SecretBytes>> {
    let environment = environment(pid).await?;
    let mut variables = environment.split(|byte| *byte == 0);
    let value = variables.find_map(|variable| variable.strip_prefix(name.as_bytes())?.strip_prefix(b"="));
    Ok(value.map(SecretBytes::copy_from))
}

async fn environment(pid: u32) -> std::io::Result<Zeroizing<Vec<u8>>> {
    let mut environment = Zeroizing::new(Vec::new());
    // For a moment after it was started, a process shows no environment at all.
    for _ in 0..20 {
        environment = Zeroizing::new(std::fs::read(format!("/proc/{pid}/environ"))?);
        if !environment.is_empty() {
            break;
        }
        sleep(Duration::from_millis(5)).await;
    }
    Ok(environment)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_child_is_seen_as_it_was_started() {
        let before = SystemTime::now();
        let mut child = std::process::Command::new("sleep").arg("60").env("PLANTED", "a=b").spawn().unwrap();
        let pid = child.id();
        let (when, value) = (started(pid).unwrap(), variable(pid, "PLANTED").await.unwrap());
        let absent = variable(pid, "PLANT").await.unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(
            when + Duration::from_millis(50) > before && when < SystemTime::now() + Duration::from_millis(50)
        );
        assert_eq!(value, Some(SecretBytes::copy_from(b"a=b")));
        assert_eq!(absent, None);
        assert!(started(pid).is_none() && variable(pid, "PLANTED").await.is_err());
    }
}
