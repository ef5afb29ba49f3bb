//! What Linux tells about a process: when it started, and the environment it was started with.

use std::time::{Duration, SystemTime};

use reseal_crypto::secret::SecretBytes;
use rustix::param::clock_ticks_per_second;
use rustix::time::{ClockId, clock_gettime};
use zeroize::Zeroizing;

/// When a process started, to a hundredth of a second; `None` if it is gone or cannot be seen.
pub(super) fn started(pid: u32) -> Option<SystemTime> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name, in brackets, may hold anything; proc(5) counts its start time as the 22nd field, the 20th after it.
    let ticks: u64 = stat.rsplit_once(") ")?.1.split(' ').nth(19)?.parse().ok()?;
    let after_boot = Duration::from_millis(ticks.saturating_mul(1000) / clock_ticks_per_second().max(1));
    let since_boot = clock_gettime(ClockId::Boottime);
    let since_boot =
        Duration::new(u64::try_from(since_boot.tv_sec).ok()?, u32::try_from(since_boot.tv_nsec).ok()?);
    SystemTime::now().checked_sub(since_boot.checked_sub(after_boot)?)
}

/// A variable of the environment that a process was started with.
///
/// # Errors
///
/// If the process is gone or belongs to someone else.
pub(super) fn variable(pid: u32, name: &str) -> std::io::Result<Option<SecretBytes>> {
    let environment = Zeroizing::new(std::fs::read(format!("/proc/{pid}/environ"))?);
    let mut variables = environment.split(|byte| *byte == 0);
    let value = variables.find_map(|variable| variable.strip_prefix(name.as_bytes())?.strip_prefix(b"="));
    Ok(value.map(SecretBytes::copy_from))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_child_is_seen_as_it_was_started() {
        let before = SystemTime::now();
        let mut child = std::process::Command::new("sleep").arg("60").env("PLANTED", "a=b").spawn().unwrap();
        let pid = child.id();
        let (when, value) = (started(pid).unwrap(), variable(pid, "PLANTED").unwrap());
        let absent = variable(pid, "PLANT").unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(
            when + Duration::from_millis(50) > before && when < SystemTime::now() + Duration::from_millis(50)
        );
        assert_eq!(value, Some(SecretBytes::copy_from(b"a=b")));
        assert_eq!(absent, None);
        assert!(started(pid).is_none() && variable(pid, "PLANTED").is_err());
    }
}
